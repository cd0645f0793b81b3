"""What goes behind a model's logits: the loss, in float32 whatever the model computes in."""

from __future__ import annotations

import numpy as np

from tfft.backend import keras, tf


class CrossEntropyFromLogits(keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of integer labels (batch,) and logits (batch, classes), in float32, by the mean over the batch.

    It takes logits and nothing else: there is no switch that would make it read probabilities.
    """

    def __init__(self) -> None:
        super().__init__(from_logits=True, name="loss")

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return super().call(y_true, tf.cast(y_pred, tf.float32))

    def get_config(self) -> dict[str, str]:
        return {}


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis, in float64 so that no class underflows that float32 can tell apart."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The loss of `CrossEntropyFromLogits` over all rows at once: (rows, classes) logits, (rows,) labels."""
    chosen = probabilities(logits)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)).mean())


def logits_of(model: keras.Model, dataset: tf.data.Dataset, order: np.ndarray) -> np.ndarray:
    """The logits (rows, classes) float32 of all rows in their own order, from `data.batches.for_prediction`."""
    logits = np.asarray(model.predict(dataset, verbose=0)["logits"], np.float32)
    in_place = np.empty_like(logits)
    in_place[order] = logits
    return in_place
