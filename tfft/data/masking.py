"""Masked language modelling: which tokens of a batch are hidden, what stands in their places, what is to be predicted.

Devlin et al. 2019 (BERT), section 3.1: of each block a share of the tokens is chosen; of those, 80 % become the mask
token, 10 % a random one, 10 % stay. The choice is drawn anew for every batch of every epoch, from the seed and the
batch's number (dynamic masking: Liu et al. 2019, RoBERTa, section 4.1). It is made by TensorFlow's operations, in the
data set: no Python takes part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft.backend import tf
from tfft.data.batches import MAP_THREADS, PREFETCH_BATCHES, for_prediction, without_autotune
from tfft.data.blocks import special_tokens_around
from tfft.data.encode import Encoded
from tfft.data.words import IGNORED_LABEL
from tfft.errors import ModelError

# The input that says which places of each block are to be predicted: (batch, places) int32.
POSITIONS = "masked_positions"
# Of what is hidden where a model is scored, whatever the seed of its training.
SCORING_SEED = 0
# Keeps what is drawn here apart from what orders the batches, whose key is the seed as well.
_KEY = 1 << 40


@dataclass(frozen=True)
class Masking:
    """How the tokens of blocks are hidden. Make one with `make`.

    Attributes:
        mask_id: the mask token's.
        tokens: how many there are to draw random ones from.
        is_special: (tokens,) bool, which are never hidden.
        continues: (tokens,) bool, which are pieces of the word before them; None hides pieces, not whole words.
        around: special tokens of each block, which do not count for the share.
        probability: the share of a block's tokens that are to be predicted.
        mask_share, random_share: of those, how many become the mask token, and a random one.
    """

    mask_id: int
    tokens: int
    is_special: np.ndarray
    continues: np.ndarray | None
    around: int
    probability: float
    mask_share: float
    random_share: float

    def places(self, lengths: np.ndarray) -> np.ndarray:
        """How many tokens are predicted of blocks of these lengths: their share, rounded, and at least one.

        Of whole words, as many as fit into that.
        """
        return np.maximum(1, np.round((np.asarray(lengths) - self.around) * self.probability)).astype(np.int32)


def make(
    tokenizer: Any, *, probability: float, mask_share: float, random_share: float, whole_words: bool = False
) -> Masking:
    """The masking for a tokenizer that has a mask token.

    Raises:
        ModelError: the tokenizer does not tell where words begin.
    """
    is_special = np.zeros(len(tokenizer), bool)
    is_special[tokenizer.all_special_ids] = True
    return Masking(
        mask_id=tokenizer.mask_token_id,
        tokens=len(tokenizer),
        is_special=is_special,
        continues=continuations(tokenizer) if whole_words else None,
        around=sum(map(len, special_tokens_around(tokenizer))),
        probability=probability,
        mask_share=mask_share,
        random_share=random_share,
    )


def check(tokenizer: Any, name: str) -> None:
    """Raises a ModelError where the tokenizer of the checkpoint `name` has no mask token."""
    if tokenizer.mask_token_id is None:
        raise ModelError(
            f"model.name_or_path: {name} has no mask token ({type(tokenizer).__name__}), so nothing of a text can be "
            "hidden; expected a model of a family that was trained so, such as BERT, RoBERTa, DistilBERT or MPNet"
        )


def continuations(tokenizer: Any, key: str = "data.whole_word_mask") -> np.ndarray:
    """Which tokens are pieces of the word before them, by how the vocabulary writes them: (tokens,) bool.

    WordPiece marks those that go on (`##ing`); byte-level BPE (`Ġ`) and SentencePiece (`▁`) those that begin a word,
    and of their others, those go on that begin with a letter or a digit.

    Args:
        key: the recipe key that asks, for messages.

    Raises:
        ModelError: the vocabulary marks neither.
    """
    vocabulary = tokenizer.get_vocab()
    added = set(tokenizer.get_added_vocab())
    state = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    prefix = (state.get("model") or {}).get("continuing_subword_prefix") or None
    begins = next((sign for sign in ("Ġ", "▁") if any(token.startswith(sign) for token in vocabulary)), None)
    if prefix is None and begins is None:
        raise ModelError(
            f"{key}: leave it out, since {tokenizer.name_or_path} does not mark in its vocabulary where words begin"
        )
    found = np.zeros(len(tokenizer), bool)
    for token, number in vocabulary.items():
        if prefix is not None:
            goes_on = token.startswith(prefix)
        else:
            goes_on = not token.startswith(str(begins)) and token[:1].isalnum()
        found[number] = goes_on and token not in added
    return found


def masked(dataset: tf.data.Dataset, masking: Masking, seed: int, first_batch: int = 0) -> tf.data.Dataset:
    """Batches of blocks with some of their tokens hidden.

    Args:
        dataset: of (inputs, rows, weights), as `batches.of_blocks` makes them.
        masking: how.
        seed: what is drawn depends on it, and on each batch's number.
        first_batch: the number of the first batch.

    Returns:
        A dataset of (inputs, labels, weights): tokens hidden in `input_ids`, one more input `POSITIONS` (batch, places)
        int32, and labels (batch, places) int32, the tokens that stood there; -100 where a block has fewer to predict.
    """

    @tf.autograph.experimental.do_not_convert
    def one(number: tf.Tensor, batch: tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]) -> Any:
        inputs, rows, weights = batch
        key = tf.stack([tf.constant(seed + _KEY, tf.int64), number])
        tokens, positions, labels = hidden(inputs["input_ids"], inputs["attention_mask"], masking, key)
        labels = tf.where(rows != IGNORED_LABEL, labels, IGNORED_LABEL)
        return {**inputs, "input_ids": tokens, POSITIONS: positions}, labels, weights

    numbered = dataset.enumerate(first_batch).map(one, num_parallel_calls=MAP_THREADS)
    return without_autotune(numbered.prefetch(PREFETCH_BATCHES))


def for_scoring(
    encoded: Encoded,
    masking: Masking,
    *,
    batch_size: int,
    tokenizer: Any,
    max_length: int,
    pad_to_max_length: bool = False,
) -> tf.data.Dataset:
    """Batches of all blocks, sorted by length, with the same tokens hidden every time and for every run.

    Returns:
        As `masked`, of batches of `batch_size`, with which what is hidden changes.
    """
    dataset, _ = for_prediction(
        encoded,
        batch_size=batch_size,
        tokenizer=tokenizer,
        max_length=max_length,
        pad_to_max_length=pad_to_max_length,
        more_of_short=False,
    )

    def with_rows(inputs: dict[str, tf.Tensor]) -> Any:
        rows = tf.shape(inputs["input_ids"])[0]
        return inputs, tf.zeros([rows, 1], tf.int32), tf.ones([rows])

    return masked(dataset.map(with_rows, num_parallel_calls=MAP_THREADS), masking, SCORING_SEED)


def hidden(
    tokens: tf.Tensor, attention_mask: tf.Tensor, masking: Masking, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Chooses what is to be predicted, and hides it.

    Args:
        tokens: (batch, width) int32.
        attention_mask: (batch, width), 0 at padding.
        key: (2,) int64, the key of what is drawn.

    Returns:
        The tokens with some hidden (batch, width); the places of those (batch, places), ascending, and 0 behind where a
        block has fewer; the tokens that stood there (batch, places), -100 behind.
    """
    most = _places(tf.shape(tokens)[1], masking)
    order_key, kind_key, token_key = tf.unstack(tf.random.experimental.stateless_split(key, 3))
    positions, is_chosen = _chosen(tokens, attention_mask, masking, most, order_key)
    real = tf.gather(tokens, positions, batch_dims=1)
    shape = tf.shape(positions)
    kind = tf.random.stateless_uniform(shape, kind_key)
    random = tf.random.stateless_uniform(shape, token_key, 0, masking.tokens, tf.int32)
    put = tf.where(kind < masking.mask_share, masking.mask_id, real)
    put = tf.where((kind >= masking.mask_share) & (kind < masking.mask_share + masking.random_share), random, put)
    rows = tf.repeat(tf.range(shape[0]), tf.reduce_sum(tf.cast(is_chosen, tf.int32), 1))
    places = tf.stack([rows, tf.boolean_mask(positions, is_chosen)], 1)
    changed = tf.tensor_scatter_nd_update(tokens, places, tf.boolean_mask(put, is_chosen))
    return changed, tf.where(is_chosen, positions, 0), tf.where(is_chosen, real, IGNORED_LABEL)


def _places(length: tf.Tensor, masking: Masking) -> tf.Tensor:
    """As `Masking.places`."""
    share = tf.round(tf.cast(length - masking.around, tf.float64) * masking.probability)
    return tf.maximum(1, tf.cast(share, tf.int32))


def _chosen(
    tokens: tf.Tensor, attention_mask: tf.Tensor, masking: Masking, most: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Places (batch, most), and whether each is one to predict."""
    can_be = tf.logical_and(attention_mask > 0, tf.logical_not(tf.gather(tf.constant(masking.is_special), tokens)))
    drawn = tf.random.stateless_uniform(tf.shape(tokens), key)
    words = tf.broadcast_to(tf.range(tf.shape(tokens)[1])[tf.newaxis], tf.shape(tokens))
    if masking.continues is not None:
        # A piece belongs to the word before it, wherever that is a word.
        begins = tf.logical_not(tf.gather(tf.constant(masking.continues), tokens) & can_be & _shifted(can_be))
        words = tf.math.cumsum(tf.cast(begins, tf.int32), axis=1) - 1
        drawn = tf.gather(drawn, words, batch_dims=1)
    # Stable, so that the pieces of a word, which drew the same, stay together.
    order = tf.argsort(tf.where(can_be, drawn, 2.0), axis=1, stable=True)
    lengths = tf.reduce_sum(tf.cast(attention_mask > 0, tf.int32), 1)
    wanted = tf.minimum(_places(lengths, masking), tf.reduce_sum(tf.cast(can_be, tf.int32), 1))[:, tf.newaxis]
    first = order[:, :most]
    is_chosen = tf.range(tf.shape(first)[1])[tf.newaxis] < wanted
    if masking.continues is not None:
        # Of a word that does not fit as a whole, nothing.
        ordered = tf.gather(words, order, batch_dims=1)
        is_last = wanted >= tf.shape(tokens)[1]
        next_word = tf.gather(ordered, tf.minimum(wanted, tf.shape(tokens)[1] - 1), batch_dims=1)
        is_cut = tf.logical_and(tf.logical_not(is_last), ordered[:, :most] == next_word)
        is_chosen = tf.logical_and(is_chosen, tf.logical_not(is_cut))
    # Ascending, those that are not chosen behind.
    width = tf.shape(tokens)[1]
    ascending = tf.sort(tf.where(is_chosen, first, width), axis=1)
    return tf.minimum(ascending, width - 1), ascending < width


def _shifted(values: tf.Tensor) -> tf.Tensor:
    """(batch, width) bool, of each place what the one before has; False at the first."""
    return tf.pad(values[:, :-1], [[0, 0], [1, 0]])
