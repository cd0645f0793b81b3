"""Adversarial training (Miyato, Dai & Goodfellow 2017): every batch counts again where it is worse.

    g = d loss / d embeddings,   r = epsilon * g / ||g||,   trained on: loss(embeddings) + loss(embeddings + r)

The norm is over all of a row's words, so epsilon is the distance that a row is moved, whatever its length. The paper
scales the embeddings to unit variance first; those of a pretrained model stay as they are here, and epsilon is in their
units.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

from tfft.backend import keras, tf
from tfft.errors import ModelError


def attack(model: keras.Model, epsilon: float) -> None:
    """From now on `fit` trains `model` adversarially; `compile`, `fit` and everything else stay Keras's.

    A step takes two passes forward and two backward, so about twice the time, and hardly more memory than a plain one.
    The `loss` that Keras reports, and its metrics, are those of the batch as it is. The model is compiled with a loss
    that takes labels and logits; weights of rows count in both passes. It may be compiled before or after this.

    Args:
        model: of Transformers, with `logits` among its outputs. A second call replaces the first one's epsilon.
        epsilon: how far each row is moved, the L2 norm over its words together, in units of the word embeddings, whose
            own norm is about 1 a word in models like BERT. 0.1 to begin with: 1 is more than short sentences bear.

    Raises:
        ValueError: epsilon is not above 0.
        ModelError: the model cannot be given embeddings in place of token ids.

    Example:
        >>> from tfft.models import heads
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> attack(model, epsilon=1.0)
        >>> model.compile("adam", loss=heads.CrossEntropyFromLogits(), run_eagerly=True)  # for one batch, no trace
        >>> ids, labels = tf.constant([[2, 90, 3], [2, 91, 3]]), tf.constant([0, 1])
        >>> trained = model.fit({"input_ids": ids}, labels, verbose=0)
        >>> list(trained.history)
        ['loss']
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}; expected a number above 0, such as 0.1")
    layer = _word_embeddings(model)
    model.train_step = functools.partial(_train_step, model, layer, float(epsilon))
    # What Keras has built already takes plain steps.
    model.train_function = None


def perturbation(gradient: tf.Tensor, is_real: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Where to move each row so that the loss grows fastest (Miyato, Dai & Goodfellow 2017, equation 5).

    Args:
        gradient: of the loss with respect to the embeddings, (batch, length, width), in any unit: only its direction
            counts, so a scaled loss gives the same.
        is_real: (batch, length) bool, False at padding.
        epsilon: norm of the move.

    Returns:
        (batch, length, width) float32; each row has norm epsilon, and 0 at padding. A row whose gradient is 0, or
        overflowed, stays where it is.

    Example:
        A gradient of norm 5 at the first place and padding at the second: the move has norm 1.

        >>> gradient = tf.constant([[[3.0, 4.0], [9.0, 9.0]]])
        >>> move = perturbation(gradient, tf.constant([[True, False]]), epsilon=1.0)
        >>> [round(float(part), 4) for part in tf.reshape(move, [-1])]
        [0.6, 0.8, 0.0, 0.0]
    """
    gradient = tf.where(is_real[..., tf.newaxis], tf.cast(gradient, tf.float32), 0.0)
    # By its largest part first: the squares of very small or large ones are no float32 any more.
    largest = tf.reduce_max(tf.abs(gradient), axis=[1, 2], keepdims=True)
    gradient = tf.math.divide_no_nan(gradient, largest)
    norm = tf.norm(gradient, axis=[1, 2], keepdims=True)
    return tf.where(tf.math.is_finite(norm), epsilon * tf.math.divide_no_nan(gradient, norm), 0.0)


def with_embeddings(layer: Any, inputs: Any, embeddings: tf.Tensor) -> dict[str, tf.Tensor]:
    """The same inputs with `embeddings` in place of the token ids; the model then gives the same logits.

    Args:
        layer: the model's word embeddings, its `get_input_embeddings()`.
        inputs: what the model takes, with `input_ids`, or those alone: (batch, length) whole numbers.
        embeddings: (batch, length, width).
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else {"input_ids": inputs}
    ids = given.pop("input_ids")
    # RoBERTa, XLM-RoBERTa and MPNet count positions from the first word and pass by padding, which embeddings do not
    # show. Their own function for it belongs to the layer.
    if hasattr(layer, "create_position_ids_from_input_ids"):
        given.setdefault("position_ids", layer.create_position_ids_from_input_ids(ids))
    return {**given, "inputs_embeds": embeddings}


def _word_embeddings(model: keras.Model) -> Any:
    """The layer whose `weight` is the matrix of word embeddings, (words, width).

    Raises:
        ModelError: the model has none, or takes no embeddings.
    """
    name = type(model).__name__
    if "inputs_embeds" not in inspect.signature(model.call).parameters:
        raise ModelError(
            f"{name} takes no inputs_embeds, which adversarial training moves; expected a Transformers model that does"
        )
    try:
        layer = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        layer = None
    if not hasattr(layer, "weight"):
        raise ModelError(
            f"{name} does not say which matrix its word embeddings are, or it is not built; expected a built model "
            "whose get_input_embeddings() is a layer with a weight. Train it without the attack"
        )
    return layer


def _train_step(model: keras.Model, layer: Any, epsilon: float, data: Any) -> dict[str, tf.Tensor]:
    """In place of `keras.Model.train_step`."""
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None or getattr(model, "_using_dummy_loss", False):
        raise ModelError(
            "adversarial training needs labels beside the inputs, and compile(loss=…) with a loss of labels and "
            "logits, such as tfft.models.heads.CrossEntropyFromLogits(); the model's own loss is not supported"
        )
    ids = inputs["input_ids"] if isinstance(inputs, Mapping) else inputs
    words = tf.cast(tf.shape(layer.weight)[0], ids.dtype)
    # The model itself would say so; a GPU's gather gives zeros instead.
    tf.debugging.assert_less(ids, words, "a token id is beyond the model's word embeddings")
    variables = model.trainable_variables

    def loss_of(embeddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = model(with_embeddings(layer, inputs, embeddings), training=True).logits
        return model.compiled_loss(labels, logits, weights, regularization_losses=model.losses), logits

    # A tape for each pass: the first one's activations are gone before the second begins.
    with tf.GradientTape() as tape:
        embeddings = tf.gather(layer.weight, ids)  # (batch, length, width)
        tape.watch(embeddings)
        loss, logits = loss_of(embeddings)
        loss = _scaled(loss, model.optimizer)
    slope, *clean = tape.gradient(loss, [embeddings, *variables])

    move = tf.stop_gradient(perturbation(slope, _is_real(inputs, ids), epsilon))
    with tf.GradientTape() as tape, _uncounted(model.compiled_loss.metrics):
        loss, _ = loss_of(tf.gather(layer.weight, ids) + tf.cast(move, embeddings.dtype))
        loss = _scaled(loss, model.optimizer)
    adversarial = tape.gradient(loss, variables)

    gradients = [_sum(one, other) for one, other in zip(clean, adversarial, strict=True)]
    if _scales(model.optimizer):
        gradients = model.optimizer.get_unscaled_gradients(gradients)
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return model.compute_metrics(inputs, labels, logits, weights)


def _is_real(inputs: Any, ids: tf.Tensor) -> tf.Tensor:
    """(batch, length) bool, False at padding; without a mask nothing is padding, and so the model takes it."""
    if isinstance(inputs, Mapping) and "attention_mask" in inputs:
        return tf.not_equal(inputs["attention_mask"], 0)
    return tf.ones_like(ids, tf.bool)


def _scales(optimizer: keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def _scaled(loss: tf.Tensor, optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """The loss whose gradients float16 can hold, where the optimizer is for float16."""
    return optimizer.get_scaled_loss(loss) if _scales(optimizer) else loss


def _sum(one: Any, other: Any) -> Any:
    """The sum of two gradients of one variable, both of the same kind: dense, sparse, or None."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        values, rows = (tf.concat(parts, 0) for parts in ((one.values, other.values), (one.indices, other.indices)))
        return tf.IndexedSlices(values, rows, one.dense_shape)
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(other)


@contextlib.contextmanager
def _uncounted(metrics: list[keras.metrics.Metric]) -> Iterator[None]:
    """Metrics that the body updates are as they were, for `compiled_loss` reports every loss that it computes."""
    counts = [(variable, variable.read_value()) for metric in metrics for variable in metric.variables]
    yield
    for variable, count in counts:
        variable.assign(count)
