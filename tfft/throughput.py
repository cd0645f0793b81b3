"""How fast a training is: steps timed in rounds, real tokens counted, the share of what the machine can multiply."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.hardware import product_peak
from tfft.models.parts import part_of


@dataclass(frozen=True)
class Sizes:
    """What decides how many operations a model needs for a token.

    Attributes:
        matrices: parameters of the layers' matrices, counted as often as a token passes them.
        trained_matrices: those of them that are trained.
        layers: that a token passes.
        hidden: width of a token's state.
    """

    matrices: int
    trained_matrices: int
    layers: int
    hidden: int

    def training_flops(self, lengths: np.ndarray) -> float:
        """Operations of the matrix products of one training step on rows of these `lengths` in tokens.

        For a token 2 per parameter forward, 2 for the gradient of its input and 2 for that of the matrix, where that is
        trained; and for attention 12 * layers * hidden * length (Kaplan et al. 2020, table 1; Chowdhery et al. 2022,
        PaLM, appendix B). Embeddings, head and elementwise operations count nothing, nor does padding.
        """
        tokens, squares = float(lengths.sum()), float(np.square(lengths.astype(np.float64)).sum())
        return (4 * self.matrices + 2 * self.trained_matrices) * tokens + 12 * self.layers * self.hidden * squares


def sizes_of(model: keras.Model) -> Sizes | None:
    """The sizes of a Transformers encoder; None where its weights or its configuration are not as others' are."""
    config = model.config
    layers, hidden = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    try:
        matrices = [one for one in model.weights if one.shape.rank >= 2 and part_of(one.name).startswith("layer.")]
        distinct = {part_of(one.name) for one in matrices}
    except ModelError:
        return None
    if not matrices or layers is None or hidden is None:
        return None
    trained = {one.ref() for one in model.trainable_weights}
    passes = layers // len(distinct)  # ALBERT has one layer for all
    return Sizes(
        matrices=passes * sum(_size(one) for one in matrices),
        trained_matrices=passes * sum(_size(one) for one in matrices if one.ref() in trained),
        layers=layers,
        hidden=hidden,
    )


def _size(weight: tf.Variable) -> int:
    return int(np.prod(weight.shape))


@dataclass(frozen=True)
class Batch:
    """What is in one training batch.

    Attributes:
        shape: rows and tokens, padding included.
        samples: rows that count.
        lengths: (rows,) real tokens of each row.
    """

    shape: tuple[int, ...]
    samples: int
    lengths: np.ndarray


def watched(dataset: tf.data.Dataset) -> tuple[tf.data.Dataset, list[Batch]]:
    """A training data set of (inputs, labels) or (inputs, labels, weights), and a list of what it has given.

    The list grows while the data set is read, in its order, and ahead of the reader where something prefetches.
    """
    seen: list[Batch] = []

    def remember(*arrays: np.ndarray) -> None:
        seen.append(_batch(*arrays))

    @tf.autograph.experimental.do_not_convert
    def look(*element: Any) -> Any:
        inputs, labels, *weights = element
        mask = inputs.get("attention_mask", tf.ones_like(inputs["input_ids"]))
        with tf.control_dependencies([tf.numpy_function(remember, [mask, labels, *weights], [])]):
            return tf.nest.map_structure(tf.identity, element)

    return dataset.map(look, num_parallel_calls=1, deterministic=True), seen


def _batch(mask: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Batch:
    lengths = mask.sum(axis=1)
    samples = len(labels)
    if weights is not None:
        counted = weights != 0
        samples = int(counted.sum())
        if len(counted) == len(lengths):  # windows of a text are several rows for one weight
            lengths = lengths[counted]
    return Batch(mask.shape, samples, lengths)


class RoundTimer(keras.callbacks.Callback):
    """Times the epochs of a `fit`, which are the rounds; right before each it measures `product_peak`.

    Attributes:
        seconds: of each round.
        peaks: operations a second, before each round.
    """

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.seconds: list[float] = []
        self.peaks: list[float] = []
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures the product, then starts the clock."""
        self.peaks.append(product_peak(self.precision))
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops the clock. Keras has read the epoch's loss by now, so the last step is through."""
        self.seconds.append(time.perf_counter() - self._began)


@dataclass(frozen=True)
class Round:
    """One round of steps.

    Attributes:
        step_seconds: mean of the round.
        samples_per_second, tokens_per_second: of real rows and tokens.
        padding_share: of all tokens.
        peak_flops: operations a second of the matrix product measured before the round.
        peak_share: of `peak_flops`, what the model's own products came to; None where its sizes are not known.
    """

    step_seconds: float
    samples_per_second: float
    tokens_per_second: float
    padding_share: float
    peak_flops: float
    peak_share: float | None


def make_round(
    batches: Sequence[Batch], seconds: float, peak_flops: float, sizes: Sizes | None, replicas: int = 1
) -> Round:
    """The figures of a round that trained `batches` in `seconds`.

    Args:
        peak_flops: of one device.
        replicas: devices that trained as many of the batches at once.
    """
    tokens = sum(int(batch.lengths.sum()) for batch in batches)
    places = sum(int(np.prod(batch.shape)) for batch in batches)
    flops = None if sizes is None else sum(sizes.training_flops(batch.lengths) for batch in batches)
    return Round(
        step_seconds=seconds / len(batches) * replicas,
        samples_per_second=sum(batch.samples for batch in batches) / seconds,
        tokens_per_second=tokens / seconds,
        padding_share=1 - tokens / places,
        peak_flops=peak_flops,
        peak_share=None if flops is None else flops / seconds / (peak_flops * replicas),
    )


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some rounds."""

    median: float
    least: float
    greatest: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def warm_up_batches(batches: Sequence[Batch], least: int) -> int:
    """How many batches to train first so that every shape among `batches` was there once, `least` at least."""
    first_seen: dict[tuple[int, ...], int] = {}
    for index, batch in enumerate(batches):
        first_seen.setdefault(batch.shape, index)
    return max(least, 1 + max(first_seen.values()))
