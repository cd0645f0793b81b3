"""How well a masked-LM model predicts hidden tokens of text that it was not trained on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.data import Split
from tfft.data.masking import Masking, for_scoring
from tfft.data.words import IGNORED_LABEL
from tfft.models.load import PLAIN_PYTHON

# Beyond this, exp has no number.
_LARGEST_LOSS = 700.0


class MaskedScorer:
    """Scores a masked-LM model on the blocks of one split, as often as it is called, with the same tokens hidden.

    Args:
        model: takes the tokenizer's inputs and `masking.POSITIONS`, see `models.masked.predict_only_masked`.
        tokenizer: the checkpoint's.
        split: blocks.
        masking: how tokens are hidden.
        batch_size: blocks at once.
        max_length: tokens a block may have.
        pad_to_max_length: pad every batch to `max_length`.

    Attributes:
        split: those blocks.
        logits: None, since those of all hidden tokens would be more than memory holds.
    """

    logits = None

    def __init__(
        self,
        model: keras.Model,
        tokenizer: Any,
        split: Split,
        masking: Masking,
        *,
        batch_size: int,
        max_length: int,
        pad_to_max_length: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.split = model, tokenizer, split
        self._dataset = for_scoring(
            split.encoded,
            masking,
            batch_size=batch_size,
            tokenizer=tokenizer,
            max_length=max_length,
            pad_to_max_length=pad_to_max_length,
        )
        # AutoGraph reads what some models branch on.
        self._sums = tf.function(self._sums_of, autograph=model.config.model_type not in PLAIN_PYTHON)

    def __call__(self) -> dict[str, float]:
        """`loss`, the mean cross-entropy of a hidden token in nats; `perplexity`, its exponential; `accuracy`."""
        # Summed here: the float32 of one sum over all batches would lose digits.
        sums = np.zeros(3, np.float64)
        for inputs, labels, _ in self._dataset:
            sums += self._sums(inputs, labels).numpy()
        loss, right, count = sums
        mean = float(loss / count)
        return {"loss": mean, "perplexity": math.exp(min(mean, _LARGEST_LOSS)), "accuracy": float(right / count)}

    def samples(self, most: int = 10) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The first hidden tokens, and what is predicted in their places: the table's columns, and its rows."""
        rows: list[tuple[Any, ...]] = []
        for inputs, labels, _ in self._dataset.take(1):
            shares = tf.nn.softmax(tf.cast(self.model(inputs, training=False)["logits"], tf.float32))
            of_labels = labels.numpy()
            for row, place in list(zip(*np.nonzero(of_labels != IGNORED_LABEL), strict=True))[:most]:
                best = int(tf.argmax(shares[row, place]))
                names = self.tokenizer.convert_ids_to_tokens([int(of_labels[row, place]), best])
                rows.append((*names, f"{float(shares[row, place, best]):.6f}"))
        return ["token", "prediction", "probability"], rows

    def confusion(self) -> None:
        """Tokens are too many for a table of which is taken for which."""

    def _sums_of(self, inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        """(3,) float64: the losses' sum, how many are predicted rightly, how many there are."""
        counts = tf.not_equal(labels, IGNORED_LABEL)
        of_counted = tf.boolean_mask(labels, counts)
        logits = tf.cast(tf.boolean_mask(self.model(inputs, training=False)["logits"], counts), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(of_counted, logits)
        right = tf.equal(tf.argmax(logits, -1, tf.int32), of_counted)
        found = (losses, tf.cast(right, tf.float32), tf.ones_like(losses))
        return tf.stack([tf.reduce_sum(tf.cast(one, tf.float64)) for one in found])
