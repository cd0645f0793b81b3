"""A training step in which a student learns from what is inside its teacher, besides what its loss says.

The teacher computes every batch, without dropout and without gradients: its states of all rows would be too large to be
kept. Queries, keys and values are made of the states once more, so layers stay as they are, accelerated ones too, and
dropout of attentions has no say. Where widths differ, the student's states are mapped to the teacher's by a matrix that
is trained with it and is no part of it: whatever is saved is a plain student.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfft.backend import keras, tf
from tfft.distillation.losses import (
    attention_distance,
    attention_scores,
    layer_learned,
    relation_divergence,
    sentence_distance,
    state_distance,
)
from tfft.models.faster import Attending, attending_layers


class Weights(NamedTuple):
    """What each distance counts beside the loss; see `losses`. `relation_heads` is for the relations alone."""

    hidden: float = 0.0
    sentence: float = 0.0
    attention: float = 0.0
    relations: float = 0.0
    relation_heads: int = 1


def match(student: keras.Model, teacher: keras.Model, weights: Weights, directions: np.ndarray | None = None) -> None:
    """From now on `fit` trains `student` to be like `teacher` inside as well; `compile` and `fit` stay Keras's.

    The loss that Keras reports has all of it. Layers of both are matched by `layer_learned`, relations are those of the
    last layers. Call it in the scope of the strategy that trains, before `compile`; the optimizer is then built for
    `trained_variables`.

    Args:
        student: of Transformers, built; it reads the same token ids as the teacher.
        teacher: of Transformers, built.
        weights: at least one of them above 0.
        directions: with which the matrix begins, of `starts`; at random where there are none.
    """
    student.train_step = _Step(student, teacher, weights, directions)
    # What Keras has built already takes plain steps.
    student.train_function = None


def trained_variables(model: keras.Model) -> list[tf.Variable]:
    """All that a step trains: the model's weights, and what maps its states to a teacher's, where something does."""
    step = vars(model).get("train_step")
    return [*model.trainable_variables, *(step.maps if isinstance(step, _Step) else [])]


class _Step:
    """In place of `keras.Model.train_step`.

    Attributes:
        maps: the matrix (student's width, teacher's width), or none where widths are the same.
    """

    def __init__(
        self, student: keras.Model, teacher: keras.Model, weights: Weights, directions: np.ndarray | None
    ) -> None:
        self.student, self.teacher, self.weights = student, teacher, weights
        self.teacher_inputs = frozenset(inspect.signature(teacher.call).parameters)
        self.attending = (attending_layers(teacher), attending_layers(student))
        ours, theirs = student.config.hidden_size, teacher.config.hidden_size
        self.maps: list[tf.Variable] = []
        if (weights.hidden or weights.sentence) and ours != theirs:
            made = keras.initializers.GlorotUniform()([ours, theirs]) if directions is None else directions
            self.maps.append(tf.Variable(made, trainable=True, name="distillation/map"))

    def __call__(self, data: Any) -> dict[str, tf.Tensor]:
        inputs, labels, row_weights = keras.utils.unpack_x_y_sample_weight(data)
        model = self.student
        given = {name: values for name, values in inputs.items() if name in self.teacher_inputs}
        theirs = self.teacher(given, training=False, output_hidden_states=True).hidden_states
        with tf.GradientTape() as tape:
            output = model(inputs, training=True, output_hidden_states=True)
            distances = self.distances(theirs, output.hidden_states, _real(inputs))
            if row_weights is not None:
                distances *= tf.cast(row_weights, tf.float32)
            inside = [*model.losses, tf.reduce_mean(distances)]
            loss = model.compiled_loss(labels, output.logits, row_weights, regularization_losses=inside)
        model.optimizer.minimize(loss, trained_variables(model), tape=tape)
        return model.compute_metrics(inputs, labels, output.logits, row_weights)

    def distances(self, theirs: Sequence[tf.Tensor], ours: Sequence[tf.Tensor], real: tf.Tensor) -> tf.Tensor:
        """How far each row is, by all weights, (rows,) float32.

        Args:
            theirs, ours: outputs of the embeddings and of every layer, (rows, tokens, width) each.
            real: (rows, tokens) float32, 1 for a token and 0 for padding.
        """
        layers = range(len(ours))
        learned = [layer_learned(layer, len(ours) - 1, len(theirs) - 1) for layer in layers]
        found = tf.zeros([tf.shape(real)[0]])
        if self.weights.hidden:
            pairs = [(theirs[learned[layer]], self._mapped(ours[layer])) for layer in layers]
            found += self.weights.hidden * tf.add_n([state_distance(*pair, real) for pair in pairs])
        if self.weights.sentence:
            found += self.weights.sentence * sentence_distance(theirs[-1], self._mapped(ours[-1]), real)
        if self.weights.attention:
            found += self.weights.attention * tf.add_n(
                [self._of_attention(theirs, ours, learned[layer], layer, real) for layer in layers[1:]]
            )
        if self.weights.relations:
            found += self.weights.relations * self._of_relations(theirs, ours, real)
        return found

    def _mapped(self, states: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matmul(tf.cast(states, tf.float32), self.maps[0]) if self.maps else states

    def _of_attention(
        self, theirs: Sequence[tf.Tensor], ours: Sequence[tf.Tensor], their_layer: int, layer: int, real: tf.Tensor
    ) -> tf.Tensor:
        """Of a layer, counted from 1; what it attends by is made of the states below it."""
        given = _scores(self.attending[0][their_layer - 1], theirs[their_layer - 1])
        return attention_distance(given, _scores(self.attending[1][layer - 1], ours[layer - 1]), real)

    def _of_relations(self, theirs: Sequence[tf.Tensor], ours: Sequence[tf.Tensor], real: tf.Tensor) -> tf.Tensor:
        given, learned = (
            _made_by(layers[-1], states[-2]) for layers, states in zip(self.attending, (theirs, ours), strict=True)
        )
        parts = self.weights.relation_heads
        return tf.add_n([relation_divergence(*pair, real, parts) for pair in zip(given, learned, strict=True)])


def _scores(attending: Attending, states: tf.Tensor) -> tf.Tensor:
    """What a layer attends by, of the states below it."""
    return attention_scores(attending.query(states), attending.key(states), attending.heads)


def _made_by(attending: Attending, states: tf.Tensor) -> list[tf.Tensor]:
    """Queries, keys and values of the states below a layer, (rows, tokens, width) each."""
    return [made(states) for made in (attending.query, attending.key, attending.value)]


def _real(inputs: Any) -> tf.Tensor:
    mask = inputs.get("attention_mask")
    return tf.ones_like(inputs["input_ids"], tf.float32) if mask is None else tf.cast(mask, tf.float32)
