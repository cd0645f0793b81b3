"""What went wrong where a loss became no number: the last steps once more from a saved state, and a look inside."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.console import printable
from tfft.models.dropout import draw_from_state
from tfft.models.parts import part_of

ROWS_TOLD, CHARACTERS_TOLD = 8, 200


def replay(model: keras.Model, batches: Iterator[Any], count: int) -> dict[str, Any]:
    """Trains all but the last two of `count` batches, and looks into those two: the one that spoils, or is spoilt.

    A loss can become NaN by weights that the step before has spoilt, although its own loss was a number.

    Args:
        model: compiled, with the state from which `batches` go on; it is trained on.
        batches: (inputs, labels, weights) each.
        count: of them until the loss was seen to be no number.

    Returns:
        What `look_into` found, and `batches_before`: how many of `count` came before the batch that it is of.
    """
    train_step = tf.function(model.train_step)
    for _ in range(count - 2):
        train_step(next(batches))
    for left in range(min(count, 2) - 1, -1, -1):
        batch = next(batches)
        found = look_into(model, batch)
        if not found["is_finite"] or not left:
            return {**found, "batches_before": count - 1 - left, "batch": batch}
        train_step(batch)
    raise AssertionError("the last batch is always told of")


def look_into(model: keras.Model, batch: Any) -> dict[str, Any]:
    """Loss and gradients of a batch as a training step has them, without the step.

    Returns:
        `loss`; `gradient_norms`: part of the model to the norm of its gradients; `spoilt_weights`: parts with weights
        that are no numbers; `first_layer`: the first whose output has a value that is none, or None; `is_finite`:
        whether loss, gradients and weights all are numbers.
    """
    inputs, labels, *weights = batch
    masks = draw_from_state(model).variable
    before = masks.read_value()
    more = {"output_hidden_states": True} if "output_hidden_states" in inspect.signature(model.call).parameters else {}
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True, **more)
        loss = model.compiled_loss(labels, outputs["logits"], *weights)
    gradients = tape.gradient(loss, model.trainable_variables)
    masks.assign(before)
    norms: dict[str, float] = {}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        if gradient is not None:
            squared = float(tf.reduce_sum(tf.square(tf.cast(tf.convert_to_tensor(gradient), tf.float32))))
            norms[part_of(variable.name)] = norms.get(part_of(variable.name), 0.0) + squared
    norms = {part: math.sqrt(squared) if math.isfinite(squared) else math.nan for part, squared in norms.items()}
    spoilt = sorted({part_of(one.name) for one in model.weights if not _is_finite(one)})
    return {
        "loss": float(loss),
        "gradient_norms": norms,
        "spoilt_weights": spoilt,
        "first_layer": _first_layer(outputs.get("hidden_states"), outputs["logits"]),
        "is_finite": math.isfinite(float(loss)) and all(map(math.isfinite, norms.values())) and not spoilt,
    }


def _first_layer(hidden_states: Sequence[tf.Tensor] | None, logits: tf.Tensor) -> str | None:
    names = ["embeddings", *(f"layer.{index}" for index in range(len(hidden_states or ()) - 1))]
    for name, values in zip(names, hidden_states or (), strict=False):
        if not _is_finite(values):
            return name
    return None if _is_finite(logits) else "head"


def _is_finite(values: Any) -> bool:
    return bool(tf.reduce_all(tf.math.is_finite(tf.cast(values, tf.float32))))


def rows_of(batch: Any, tokenizer: Any) -> list[str]:
    """The first rows of a batch as text, as far as its inputs are token ids."""
    inputs = batch[0]
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        return []
    ids = np.asarray(inputs["input_ids"])[:ROWS_TOLD]
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [printable(text, CHARACTERS_TOLD) for text in texts]


def without_nan(value: Any) -> Any:
    """As JSON may have it: numbers that are none go as their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: without_nan(one) for name, one in value.items()}
    return value


def told(report: Mapping[str, Any]) -> list[str]:
    """The report in sentences."""
    lines = [f"step {report['step']:,} of epoch {report['epoch']} had these rows: " + "; ".join(report["rows"][:2])]
    if "gradient_norms" in report:
        norms = {part: float(norm) for part, norm in report["gradient_norms"].items()}
        worst = sorted(norms, key=lambda part: norms[part] if math.isfinite(norms[part]) else math.inf, reverse=True)
        largest = ", ".join(f"{part} {norms[part]:.3g}" for part in worst[:3])
        lines.append(f"its loss was {float(report['loss']):.4g}, its largest gradients {largest}")
    if report.get("spoilt_weights"):
        lines.append(f"weights that were no numbers before it: {', '.join(report['spoilt_weights'])}")
    if report.get("first_layer"):
        lines.append(f"the first output with a value that is no number: {report['first_layer']}")
    if report.get("loss_scale") is not None:
        lines.append(f"the loss scale was {report['loss_scale']:.4g}")
    return lines
