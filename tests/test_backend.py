"""What is done with TensorFlow's insides, and that they are as that expects."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from tfft.backend import forgetting_gradients, tf


def trained() -> weakref.ref[Any]:
    """A variable that a graph with a gradient of its own has used, and nobody keeps."""
    variable = tf.Variable([1.0, 2.0])

    @tf.custom_gradient
    def doubled(values: tf.Tensor) -> Any:
        return 2 * values, lambda upstream: 2 * upstream

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(doubled(variable))
        return tape.gradient(loss, variable)

    assert step().numpy().tolist() == [2.0, 2.0]
    return weakref.ref(step.get_concrete_function().graph)


def test_a_graph_is_freed_only_without_its_gradients() -> None:
    kept = trained()
    gc.collect()
    assert kept() is not None, "TensorFlow frees it by itself now: forgetting_gradients can go"
    with forgetting_gradients():
        freed = trained()
    gc.collect()
    assert freed() is None
    assert kept() is not None, "what was there before stays as it was"
