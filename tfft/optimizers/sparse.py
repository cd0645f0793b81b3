"""Gradients of embeddings, which come as one part for every token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfft import tpu
from tfft.backend import tf


def summed(gradient: Any) -> Any:
    """A sparse gradient with every row once, the sum of its parts; a dense one as it is."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


class SumsFirst:
    """Mixed into a Keras optimizer, before it: gradients are summed before anything is done with them.

    Keras clips before it sums them, and the norm of the parts is not that of the gradient.
    """

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """As Keras's. Between devices gradients go dense: parts differ in their number from device to device.

        So they do on a TPU, which knows no shapes that follow from values.
        """
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1 or tpu.in_use()
        pairs = [
            (tf.convert_to_tensor(gradient) if several and gradient is not None else summed(gradient), variable)
            for gradient, variable in grads_and_vars
        ]
        return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]
