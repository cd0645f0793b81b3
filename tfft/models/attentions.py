"""What each token of a text attends to, and what the answer depends on."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models.checkpoint import positions

# Points of the path from nothing to the text; and how many of them go through the model at once.
STEPS, STEPS_AT_ONCE = 64, 16


@dataclass(frozen=True)
class Attended:
    """A text as a model sees it.

    Attributes:
        tokens: as the tokenizer calls them.
        attentions: (layers, heads, tokens that look, tokens that are looked at) float32; each line adds up to 1.
    """

    tokens: list[str]
    attentions: np.ndarray

    @functools.cached_property
    def rollout(self) -> np.ndarray:
        """(layers, tokens, tokens); see `rollout`."""
        return rollout(self.attentions)


def check(model: keras.Model) -> None:
    """Raises a ModelError unless the model can be asked for attentions."""
    if "output_attentions" not in inspect.signature(model.call).parameters:
        raise ModelError(
            f"{type(model).__name__} cannot be asked for attentions; expected a model of Transformers, whose call "
            "takes output_attentions"
        )


def encoded(model: keras.Model, tokenizer: Any, text: str | tuple[str, str], max_length: int) -> dict[str, tf.Tensor]:
    """A text, or a pair of texts, as the model's inputs (1, tokens); cut where the model has no places for more."""
    given = (text,) if isinstance(text, str) else tuple(text)
    most = min(max_length, positions(model.config) or max_length)
    found = tokenizer(*given, truncation=True, max_length=most)
    return {name: tf.constant([values]) for name, values in found.items()}


def attend(model: keras.Model, tokenizer: Any, text: str | tuple[str, str], max_length: int) -> Attended:
    """The attentions of all layers and heads on a text, or on a pair of texts.

    Raises:
        ModelError: the model gives none.
    """
    inputs = encoded(model, tokenizer, text, max_length)
    found = model(inputs, output_attentions=True, return_dict=True, training=False).attentions
    if not found or any(one is None for one in found):
        raise ModelError(f"{type(model).__name__} gave no attentions, so there is nothing to be seen")
    tokens: list[str] = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].numpy().tolist())
    return Attended(tokens, np.concatenate([np.asarray(tf.cast(one, tf.float32)) for one in found]))


def rollout(attentions: np.ndarray) -> np.ndarray:
    """How much of each input token reaches each place of each layer's output, (layers, tokens, tokens).

    Attention rollout (Abnar & Zuidema 2020, https://arxiv.org/abs/2005.00928, section 3): the mean over the heads, half
    of it the residual connection, multiplied from layer to layer.

    Args:
        attentions: (layers, heads, tokens, tokens).

    Example:
        >>> same = np.full((2, 1, 2, 2), 0.5)
        >>> rollout(same)[-1].tolist()  # of both layers: 3/4 and 1/4 in one, mixed once more in the other
        [[0.625, 0.375], [0.375, 0.625]]
    """
    places = np.eye(attentions.shape[-1])
    mixed = 0.5 * attentions.astype(np.float64).mean(axis=1) + 0.5 * places
    mixed /= mixed.sum(axis=-1, keepdims=True)
    found, so_far = [], places
    for layer in mixed:
        so_far = layer @ so_far
        found.append(so_far)
    return np.stack(found)


@dataclass(frozen=True)
class Importance:
    """What each token adds to an answer.

    Attributes:
        tokens: as the tokenizer calls them.
        values: (tokens,) float32, what each adds to the logit; below zero it speaks against.
        logit: of the text.
        baseline_logit: of the same text with padding in place of all but the special tokens.
    """

    tokens: list[str]
    values: np.ndarray
    logit: float
    baseline_logit: float


def integrated_gradients(
    model: keras.Model, tokenizer: Any, text: str | tuple[str, str], output: int, max_length: int, steps: int = STEPS
) -> Importance:
    """What each token adds to one of the logits, by integrated gradients.

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, equation 1, over the embeddings of the words, from those
    of padding (special tokens stay). The integral is Gauss and Legendre's, which is exact for polynomials up to degree
    2 * steps - 1. By the paper's completeness the values add up to the difference of both logits.

    Args:
        model: gives `logits` (rows, outputs) of `inputs_embeds`.
        output: which logit, by its place.
        steps: points on the path.

    Raises:
        ModelError: the model takes no embeddings, or answers them otherwise than token ids.
    """
    inputs = encoded(model, tokenizer, text, max_length)
    ids = inputs.pop("input_ids")
    table = model.get_input_embeddings().weight
    special = tokenizer.get_special_tokens_mask(ids[0].numpy().tolist(), already_has_special_tokens=True)
    nothing = tf.where(tf.constant([special]) == 1, ids, tokenizer.pad_token_id)
    begin, end = tf.gather(table, nothing), tf.gather(table, ids)
    _check_embeddings(model, {**inputs, "input_ids": ids}, {**inputs, "inputs_embeds": end})
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares, weights = (nodes + 1) / 2, weights / 2
    total = tf.zeros_like(end)
    for start in range(0, steps, STEPS_AT_ONCE):
        at = tf.constant(shares[start : start + STEPS_AT_ONCE], end.dtype)[:, tf.newaxis, tf.newaxis]
        weight = tf.constant(weights[start : start + STEPS_AT_ONCE], end.dtype)[:, tf.newaxis, tf.newaxis]
        gradients = _gradients(model, inputs, begin + at * (end - begin), output)
        total += tf.reduce_sum(weight * gradients, axis=0, keepdims=True)
    values = tf.reduce_sum(total * (end - begin), axis=-1)[0]
    logits = [_logits(model, {**inputs, "inputs_embeds": one})[0, output] for one in (end, begin)]
    tokens: list[str] = tokenizer.convert_ids_to_tokens(ids[0].numpy().tolist())
    return Importance(tokens, values.numpy(), float(logits[0]), float(logits[1]))


def _gradients(model: keras.Model, inputs: dict[str, tf.Tensor], embeddings: tf.Tensor, output: int) -> tf.Tensor:
    """Of the logit, (points, tokens, hidden), at embeddings of the same shape."""
    points = len(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        given = {name: tf.repeat(values, points, axis=0) for name, values in inputs.items()}
        logits = _logits(model, {**given, "inputs_embeds": embeddings})[:, output]
    return tape.gradient(logits, embeddings)


def _logits(model: keras.Model, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.cast(model(inputs, training=False).logits, tf.float32)


def _check_embeddings(model: keras.Model, by_ids: dict[str, tf.Tensor], by_embeddings: dict[str, tf.Tensor]) -> None:
    """Some families look at the ids for more than the words' embeddings."""
    if "inputs_embeds" not in inspect.signature(model.call).parameters:
        raise ModelError(f"{type(model).__name__} takes no inputs_embeds, by which importance is measured")
    given, expected = _logits(model, by_embeddings), _logits(model, by_ids)
    if not np.allclose(given, expected, atol=1e-3):
        raise ModelError(
            f"{type(model).__name__} answers embeddings otherwise than token ids, so importance cannot be measured"
        )
