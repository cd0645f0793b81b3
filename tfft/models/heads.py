"""What goes behind a model's logits: the losses, in float32 whatever the model computes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfft.backend import keras, tf

_LEAST_DOUBT = 1e-7


class CrossEntropyFromLogits(keras.losses.Loss):
    """Cross-entropy of integer labels (batch,) and logits (batch, classes), in float32, by the mean over the batch.

    It takes logits and nothing else: there is no switch that would make it read probabilities.

    Args:
        label_smoothing: share of each label that is spread evenly over all classes (Szegedy et al. 2016, section 7).
        focal_gamma: rows count by (1 - p) ** gamma, where p is the probability of their class: the sure ones hardly
            (Lin et al. 2017, Focal Loss, equation 4). 0 counts all alike.
        class_weights: (classes,) what the rows of each class count; the mean is still over the number of rows, as in
            Keras's `class_weight`. None counts all alike.
        r_drop_alpha: the batch holds every row twice, its second half the same as its first, and dropout tells the two
            apart: their divergence, KL both ways and halved, counts this much besides (Liang et al. 2021, R-Drop,
            equation 4). 0 takes a batch as it is. See `data.batches.twice`.

    Example:
        Logits that know nothing cost log 2 a row; with a weight of 3, the second row costs three times as much.

        >>> labels, logits = tf.constant([0, 1]), tf.zeros([2, 2])
        >>> round(float(CrossEntropyFromLogits()(labels, logits)), 4)
        0.6931
        >>> round(float(CrossEntropyFromLogits(class_weights=[1, 3])(labels, logits)), 4)
        1.3863
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        class_weights: Sequence[float] | None = None,
        r_drop_alpha: float = 0.0,
    ) -> None:
        super().__init__(name="loss")
        self.r_drop_alpha = r_drop_alpha
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma
        self.class_weights = None if class_weights is None else tuple(map(float, class_weights))

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each row, (batch,) float32."""
        labels = tf.reshape(tf.cast(y_true, tf.int32), [-1])
        logits = tf.cast(y_pred, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if self.focal_gamma:
            # 1 - exp(-loss) without cancellation. Away from 0, where a power below 1 has no finite slope.
            losses *= tf.maximum(-tf.math.expm1(-losses), _LEAST_DOUBT) ** self.focal_gamma
        if self.label_smoothing:
            over_all = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * over_all
        if self.class_weights is not None:
            losses *= tf.gather(tf.constant(self.class_weights), labels)
        if self.r_drop_alpha:
            losses += self.r_drop_alpha * tf.tile(_divergence(*tf.split(logits, 2)), [2])
        return losses

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
            "class_weights": self.class_weights,
            "r_drop_alpha": self.r_drop_alpha,
        }


def _divergence(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """The mean of KL(p || q) and KL(q || p) of each row: (batch, classes) logits twice to (batch,)."""
    log_p, log_q = tf.nn.log_softmax(one), tf.nn.log_softmax(other)
    return 0.5 * tf.reduce_sum((tf.exp(log_p) - tf.exp(log_q)) * (log_p - log_q), axis=-1)


class BinaryCrossEntropyFromLogits(keras.losses.Loss):
    """Binary cross-entropy of labels (batch, classes), 0 or 1 each, and logits of the same shape, in float32.

    A row's loss is the mean over its classes, the batch's the mean over its rows.

    Args:
        label_smoothing: how far each label is moved to one half: 1 becomes 1 - label_smoothing / 2.
        focal_gamma: each decision counts by (1 - p) ** gamma, where p is the probability of what is right.
        class_weights: (classes,) what the rows that have each class count for it. None counts all alike.
        r_drop_alpha: as in `CrossEntropyFromLogits`; the divergence is that of the classes' Bernoulli distributions.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        class_weights: Sequence[float] | None = None,
        r_drop_alpha: float = 0.0,
    ) -> None:
        super().__init__(name="loss")
        self.label_smoothing, self.focal_gamma, self.r_drop_alpha = label_smoothing, focal_gamma, r_drop_alpha
        self.class_weights = None if class_weights is None else tuple(map(float, class_weights))

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each row, (batch,) float32."""
        labels, logits = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
        if self.focal_gamma:
            losses *= tf.maximum(-tf.math.expm1(-losses), _LEAST_DOUBT) ** self.focal_gamma
        if self.class_weights is not None:
            losses *= 1.0 + labels * (tf.constant(self.class_weights) - 1.0)
        if self.r_drop_alpha:
            one, other = tf.split(logits, 2)
            # KL both ways of two Bernoulli distributions is the difference of their means times that of their logits.
            divergence = 0.5 * (tf.sigmoid(one) - tf.sigmoid(other)) * (one - other)
            losses += self.r_drop_alpha * tf.tile(divergence, [2, 1])
        return tf.reduce_mean(losses, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
            "class_weights": self.class_weights,
            "r_drop_alpha": self.r_drop_alpha,
        }


class SquaredError(keras.losses.Loss):
    """The squared difference of numbers (batch,) and predictions (batch, 1), in float32, by the mean over the batch.

    Args:
        r_drop_alpha: as in `CrossEntropyFromLogits`; what diverges is the two predictions' squared difference.
    """

    def __init__(self, r_drop_alpha: float = 0.0) -> None:
        super().__init__(name="loss")
        self.r_drop_alpha = r_drop_alpha

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each row, (batch,) float32."""
        numbers = tf.reshape(tf.cast(y_pred, tf.float32), [-1])
        losses = tf.math.squared_difference(tf.reshape(tf.cast(y_true, tf.float32), [-1]), numbers)
        if self.r_drop_alpha:
            losses += self.r_drop_alpha * tf.tile(tf.math.squared_difference(*tf.split(numbers, 2)), [2])
        return losses

    def get_config(self) -> dict[str, Any]:
        return {"r_drop_alpha": self.r_drop_alpha}


def balanced_weights(labels: np.ndarray, classes: int) -> list[float]:
    """Class weights that give every class of these rows the same sum: rows / (classes that occur * rows of the class).

    That is what scikit-learn calls `balanced` (King & Zeng 2001). A class without rows has 1.
    """
    counts = np.bincount(labels, minlength=classes)
    return [float(len(labels) / ((counts > 0).sum() * count)) if count else 1.0 for count in counts]


def balanced_label_weights(labels: np.ndarray) -> list[float]:
    """For rows with several labels (rows, classes): rows without each label for one with it; 1 where none has it."""
    counts = labels.sum(axis=0)
    return [float((len(labels) - count) / count) if count else 1.0 for count in counts]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis, in float64 so that no class underflows that float32 can tell apart."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoids(logits: np.ndarray) -> np.ndarray:
    """The logistic function of each logit, in float64."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))


def mean_binary_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The loss of `BinaryCrossEntropyFromLogits` over all rows at once: logits and labels (rows, classes)."""
    wide = logits.astype(np.float64)
    return float((np.logaddexp(0.0, wide) - wide * labels).mean())


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
