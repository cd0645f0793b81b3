"""How far a student is from its teacher, a number for each row: 0 where they agree.

Padding counts nothing, in states, queries and keys alike, so a row costs the same however wide its batch is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from tfft import tasks
from tfft.backend import keras, tf

# Added to the scores of keys that are padding.
_NEVER = -1e9


# --- Logits -----------------------------------------------------------------------------------------------------------


def class_divergence(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """T² KL(softmax(teacher / T) || softmax(student / T)) of each row (Hinton et al. 2015, section 2).

    Their soft targets' cross-entropy without the targets' own entropy, which no student changes. The square makes up
    for gradients that fall with it.

    Args:
        teacher, student: logits (rows, classes).

    Example:
        The teacher says 3 to 1, the student knows nothing: 0.75 log(0.75 / 0.5) + 0.25 log(0.25 / 0.5).

        >>> far = class_divergence(tf.math.log([[3.0, 1.0]]), tf.zeros([1, 2]), temperature=1.0)
        >>> [round(float(value), 4) for value in far]
        [0.1308]
    """
    log_p = tf.nn.log_softmax(tf.cast(teacher, tf.float32) / temperature)
    log_q = tf.nn.log_softmax(tf.cast(student, tf.float32) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


def label_divergence(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """As `class_divergence` where a row has any number of labels: of each label's yes and no, the mean over labels.

    Args:
        teacher, student: logits (rows, labels).
    """
    given, learned = tf.cast(teacher, tf.float32) / temperature, tf.cast(student, tf.float32) / temperature
    share = tf.sigmoid(given)
    of_labels = share * (tf.math.log_sigmoid(given) - tf.math.log_sigmoid(learned))
    of_labels += (1.0 - share) * (tf.math.log_sigmoid(-given) - tf.math.log_sigmoid(-learned))
    return temperature**2 * tf.reduce_mean(of_labels, axis=-1)


def number_distance(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """The squared difference of two predicted numbers, (rows, 1) each; the temperature has no say in it."""
    return tf.reduce_mean(
        tf.math.squared_difference(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32)), axis=-1
    )


# Problem type -> what compares logits (rows, outputs).
OF_LOGITS: Mapping[str, Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor]] = MappingProxyType(
    {
        tasks.SINGLE_LABEL: class_divergence,
        tasks.MULTI_LABEL: label_divergence,
        tasks.REGRESSION: number_distance,
    }
)


class Distilled(keras.losses.Loss):
    """The loss of rows with labels and with a teacher's logits: both, each by its weight.

    Args:
        loss: of labels and logits, by its `call`: any of `models.heads` for texts.
        problem_type: of `tasks`; what compares the logits is in `OF_LOGITS`.
        labels_weight: what `loss` counts; 0 where rows have no labels.
        logits_weight: what the teacher's logits count.
        temperature: above 0; softens the logits of both.
    """

    def __init__(
        self,
        loss: keras.losses.Loss,
        problem_type: str,
        labels_weight: float = 0.5,
        logits_weight: float = 0.5,
        temperature: float = 2.0,
    ) -> None:
        super().__init__(name="loss")
        self.loss, self.problem_type = loss, problem_type
        self.labels_weight, self.logits_weight, self.temperature = labels_weight, logits_weight, temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each row, (rows,) float32.

        Args:
            y_true: (rows, labels + outputs) float32: a row's labels, if it has any, and the teacher's logits.
            y_pred: (rows, outputs), the student's logits.
        """
        outputs = y_pred.shape[-1]
        found = tf.zeros([tf.shape(y_pred)[0]])
        if self.labels_weight:
            found += self.labels_weight * self.loss.call(y_true[:, :-outputs], y_pred)
        if self.logits_weight:
            compare = OF_LOGITS[self.problem_type]
            found += self.logits_weight * compare(y_true[:, -outputs:], y_pred, self.temperature)
        return found

    def get_config(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "problem_type": self.problem_type,
            "labels_weight": self.labels_weight,
            "logits_weight": self.logits_weight,
            "temperature": self.temperature,
        }


class Weighted(keras.losses.Loss):
    """Another loss, of which this much counts: where the rest is what is inside a teacher.

    Args:
        loss: by its `call`: that of masked tokens.
        weight: what it counts.
    """

    def __init__(self, loss: keras.losses.Loss, weight: float) -> None:
        super().__init__(name="loss")
        self.loss, self.weight = loss, weight

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """What the other loss says of each row, times the weight."""
        return self.weight * self.loss.call(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {"loss": self.loss, "weight": self.weight}


# --- What is inside ---------------------------------------------------------------------------------------------------


def layer_learned(layer: int, student_layers: int, teacher_layers: int) -> int:
    """The teacher's layer that one of the student's learns from; 0 is the embeddings, in both.

    The uniform map of TinyBERT (Jiao et al. 2020, section 3.1), rounded down where layers do not divide.

    Example:
        >>> [layer_learned(layer, 3, 12) for layer in range(4)]
        [0, 4, 8, 12]
    """
    return layer * teacher_layers // student_layers


def state_distance(teacher: tf.Tensor, student: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The mean squared difference of a layer's outputs, over each row's real tokens (TinyBERT, equation 8).

    Args:
        teacher, student: (rows, tokens, width).
        real: (rows, tokens) float32, 1 for a token and 0 for padding.

    Returns:
        (rows,) float32.
    """
    squares = tf.math.squared_difference(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32))
    return _mean(tf.reduce_mean(squares, axis=-1), real)


def sentence_distance(teacher: tf.Tensor, student: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The mean squared difference of a student's first token and the mean of its teacher's real tokens.

    That mean is what sentence encoders give for a text (Reimers and Gurevych 2019, Sentence-BERT, section 3); the first
    token is what the heads of most families read.

    Args:
        teacher, student, real: of the last layers, as in `state_distance`.

    Returns:
        (rows,) float32.
    """
    counts = real[:, :, tf.newaxis]
    sums = tf.reduce_sum(tf.cast(teacher, tf.float32) * counts, axis=1)
    meant = sums / tf.maximum(tf.reduce_sum(counts, axis=1), 1.0)
    return tf.reduce_mean(tf.math.squared_difference(meant, tf.cast(student[:, 0], tf.float32)), axis=-1)


def attention_scores(query: tf.Tensor, key: tf.Tensor, heads: int) -> tf.Tensor:
    """What a softmax makes attentions of: the scaled products, (rows, heads, tokens, tokens) float32.

    Args:
        query, key: (rows, tokens, width); the width divides by `heads`.
    """
    queries, keys = _by_head(query, heads), _by_head(key, heads)
    size = query.shape[-1] // heads
    return tf.linalg.matmul(queries, keys, transpose_b=True) / size**0.5


def attention_distance(teacher: tf.Tensor, student: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """The mean squared difference of attention scores, over heads and pairs of real tokens (TinyBERT, equation 7).

    Of the scores, not of what the softmax makes of them: the paper found that to learn faster.

    Args:
        teacher, student: `attention_scores` with as many heads.
        real: as in `state_distance`.

    Returns:
        (rows,) float32.
    """
    squares = tf.reduce_mean(tf.math.squared_difference(teacher, student), axis=1)  # (rows, tokens, tokens)
    return _mean(squares, real[:, :, tf.newaxis] * real[:, tf.newaxis, :])


def relation_divergence(teacher: tf.Tensor, student: tf.Tensor, real: tf.Tensor, heads: int) -> tf.Tensor:
    """KL of the relations of queries, of keys or of values to themselves (MiniLMv2, Wang et al. 2021, equation 5).

    All heads' vectors are put together and cut into `heads` relation heads, which both models have, however many
    attention heads they have and however wide they are. A relation is the softmax of the scaled products, over the
    real tokens; the mean is over relation heads and real tokens.

    Args:
        teacher, student: (rows, tokens, width), the widths may differ; both divide by `heads`.
        real: as in `state_distance`.

    Returns:
        (rows,) float32.
    """
    never = (1.0 - real)[:, tf.newaxis, tf.newaxis, :] * _NEVER
    log_p = tf.nn.log_softmax(attention_scores(teacher, teacher, heads) + never)
    log_q = tf.nn.log_softmax(attention_scores(student, student, heads) + never)
    divergences = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)  # (rows, heads, tokens)
    return _mean(tf.reduce_mean(divergences, axis=1), real)


def _by_head(values: tf.Tensor, heads: int) -> tf.Tensor:
    """(rows, tokens, width) to (rows, heads, tokens, width / heads) float32."""
    shape = tf.shape(values)
    parts = tf.reshape(tf.cast(values, tf.float32), [shape[0], shape[1], heads, values.shape[-1] // heads])
    return tf.transpose(parts, [0, 2, 1, 3])


def _mean(values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """The mean of each row's values where `counts` is 1 and not 0; both (rows, …) to (rows,)."""
    axes = list(range(1, counts.shape.rank))
    return tf.reduce_sum(values * counts, axis=axes) / tf.maximum(tf.reduce_sum(counts, axis=axes), 1.0)
