"""What goes behind a model's logits: the losses, in float32 whatever the model computes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.data.words import IGNORED_LABEL
from tfft.models.forward import passes

_LEAST_DOUBT = 1e-7

# (rows, outputs) and the rows' segment (rows,), ascending from 0, to (segments, outputs).
_SEGMENTS: Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "mean": tf.math.segment_mean,
    "max": tf.math.segment_max,
}
POOLINGS = tuple(_SEGMENTS)


class _ClassLoss(keras.losses.Loss):
    """The settings that losses of classes share."""

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

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "focal_gamma": self.focal_gamma,
            "class_weights": self.class_weights,
            "r_drop_alpha": self.r_drop_alpha,
        }


class CrossEntropyFromLogits(_ClassLoss):
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


def _divergence(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """The mean of KL(p || q) and KL(q || p) of each row: (batch, classes) logits twice to (batch,)."""
    log_p, log_q = tf.nn.log_softmax(one), tf.nn.log_softmax(other)
    return 0.5 * tf.reduce_sum((tf.exp(log_p) - tf.exp(log_q)) * (log_p - log_q), axis=-1)


class TokenCrossEntropyFromLogits(CrossEntropyFromLogits):
    """`CrossEntropyFromLogits` of the tokens of a batch that have a label, by the mean over those tokens.

    Labels are (batch, width), -100 where none counts; logits (batch, width, classes). Keras takes the mean over the
    batch's rows, so each row's loss is the sum over its tokens times rows / labelled tokens of the batch.
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """What each row adds to the mean, (batch,) float32."""
        counts = tf.not_equal(tf.cast(y_true, tf.int32), IGNORED_LABEL)
        labels = tf.where(counts, tf.cast(y_true, tf.int32), 0)
        losses = super().call(tf.reshape(labels, [-1]), tf.reshape(y_pred, [-1, y_pred.shape[-1]]))
        counted = tf.cast(counts, tf.float32)
        sums = tf.reduce_sum(tf.reshape(losses, tf.shape(counted)) * counted, axis=-1)
        rows = tf.cast(tf.shape(counted)[0], tf.float32)
        return sums * rows / tf.maximum(tf.reduce_sum(counted), 1.0)


class BinaryCrossEntropyFromLogits(_ClassLoss):
    """Binary cross-entropy of labels (batch, classes), 0 or 1 each, and logits of the same shape, in float32.

    A row's loss is the mean over its classes, the batch's the mean over its rows.

    Args:
        label_smoothing: how far each label is moved to one half: 1 becomes 1 - label_smoothing / 2.
        focal_gamma: each decision counts by (1 - p) ** gamma, where p is the probability of what is right.
        class_weights: (classes,) what the rows that have each class count for it. None counts all alike.
        r_drop_alpha: as in `CrossEntropyFromLogits`; the divergence is that of the classes' Bernoulli distributions.
    """

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


class PooledOverWindows(keras.losses.Loss):
    """The loss of texts that went through the model in several windows: that of their pooled logits.

    Sun et al. 2019, section 5.3.1, pool what the model makes of each window before its last layer. That layer is
    linear, so the mean of its logits is, but for dropout, the logits of that mean; of the maxima this is not so.

    Keras takes the mean over what `call` returns, which is one loss for each text. So it is the mean over texts,
    however many windows they have, and sample weights are those of texts. For R-Drop, `data.batches.twice` doubles
    texts and windows alike, so that the halves that `loss` compares are the two passes of the same texts.

    Args:
        loss: of one row a text, by its `call`: any of this module's.
        pooling: `mean` or `max`, over the windows of each text, output by output.

    Raises:
        ValueError: `pooling` is neither.
    """

    def __init__(self, loss: keras.losses.Loss, pooling: str = "mean") -> None:
        super().__init__(name="loss")
        self.loss, self.pooling = loss, _known(pooling)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each text.

        Args:
            y_true: (texts, 1 + labels) int32, as `data.batches.of_documents` makes it: windows of the text, and its
                labels as the bits of float32.
            y_pred: (windows, outputs), the windows in the order of their texts.

        Returns:
            (texts,) float32.
        """
        counts, labels = y_true[:, 0], tf.bitcast(y_true[:, 1:], tf.float32)
        texts = tf.repeat(tf.range(tf.size(counts)), counts)  # (windows,), which text each is of
        return self.loss.call(labels, _SEGMENTS[self.pooling](tf.cast(y_pred, tf.float32), texts))

    def get_config(self) -> dict[str, Any]:
        return {"loss": self.loss, "pooling": self.pooling}


def _known(pooling: str) -> str:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling: got {pooling!r}; expected one of {', '.join(POOLINGS)}")
    return pooling


def pool_windows(logits: np.ndarray, window_starts: np.ndarray | None, pooling: str = "mean") -> np.ndarray:
    """The logits of texts, from those of their windows.

    Args:
        logits: (windows, outputs).
        window_starts: (texts + 1,) integer, text i has the windows from `window_starts[i]` to `window_starts[i + 1]`;
            None where each row is a text, and its logits are what they are.
        pooling: as in `PooledOverWindows`.

    Returns:
        (texts, outputs), of the type of `logits`.

    Raises:
        ValueError: `pooling` is neither `mean` nor `max`.
    """
    is_max = _known(pooling) == "max"
    if window_starts is None:
        return logits
    if is_max:
        return np.maximum.reduceat(logits, window_starts[:-1], axis=0)
    counts = np.diff(window_starts)[:, np.newaxis]
    return (np.add.reduceat(logits, window_starts[:-1], axis=0) / counts).astype(logits.dtype)


def balanced_weights(labels: np.ndarray, classes: int) -> list[float]:
    """Class weights that give every class of these rows the same sum: rows / (classes that occur * rows of the class).

    That is what scikit-learn calls `balanced` (King & Zeng 2001). A class without rows has 1.
    """
    return balanced_by_counts(np.bincount(labels, minlength=classes))


def balanced_by_counts(counts: np.ndarray) -> list[float]:
    """As `balanced_weights`, from how many rows each class has."""
    return [float(counts.sum() / ((counts > 0).sum() * count)) if count else 1.0 for count in counts]


def balanced_labels_by_counts(rows: int, counts: np.ndarray) -> list[float]:
    """For rows with several labels: rows without each label for one with it; 1 where none has it.

    Args:
        counts: (classes,) how many of the rows have each label.
    """
    return [float((rows - count) / count) if count else 1.0 for count in counts]


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


def token_logits_of(model: keras.Model, dataset: tf.data.Dataset, order: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The logits (tokens, classes) float32 of all tokens in the rows' own order, padding left out.

    Args:
        dataset, order: from `data.batches.for_prediction`.
        offsets: (rows + 1,) where each row's tokens begin.
    """
    found: np.ndarray | None = None
    done = 0
    for inputs, given in passes(model, dataset):
        logits = np.asarray(given, np.float32)
        if found is None:
            found = np.empty((offsets[-1], logits.shape[-1]), np.float32)
        for row, real, tokens in zip(order[done : done + len(logits)], inputs["attention_mask"], logits, strict=True):
            found[offsets[row] : offsets[row + 1]] = tokens[np.asarray(real, bool)]
        done += len(logits)
    assert found is not None, "there are rows"
    return found


def logits_of(
    model: keras.Model,
    dataset: tf.data.Dataset,
    order: np.ndarray,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """The logits (rows, classes) float32 of all rows in their own order, from `data.batches.for_prediction`.

    Args:
        advance: called with the number of rows done, as they are done.
    """
    # Converted at the end, so that no batch waits for the copy of the one before.
    given = []
    for _, logits in passes(model, dataset):
        given.append(logits)
        advance(len(logits))
    logits = np.concatenate([np.asarray(one, np.float32) for one in given])
    in_place = np.empty_like(logits)
    in_place[order] = logits
    return in_place
