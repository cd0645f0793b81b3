"""Random numbers for the weights that need them alone, not for those that a checkpoint is about to fill."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from tfft.backend import tf


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Variables made in the body start as NaN; those still NaN at its end get their initial values then.

    Drawing them is most of the time that it takes to build an encoder. The values are the same as without this: Keras
    draws from a generator for each initializer, not from one for all.

    Example:
        >>> from tfft.backend import keras
        >>> layer = keras.layers.Dense(2, bias_initializer="ones")
        >>> with postponed():
        ...     layer.build((None, 3))
        ...     _ = layer.kernel.assign(tf.zeros([3, 2]))  # as loading does
        ...     print(layer.bias.numpy())
        [nan nan]
        >>> layer.bias.numpy().tolist()
        [1.0, 1.0]
    """
    waiting: list[tuple[tf.Variable, Callable[[], tf.Tensor]]] = []

    def create(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        initial, shape, dtype = kwargs.get("initial_value"), kwargs.get("shape"), kwargs.get("dtype")
        known = shape is not None and tf.TensorShape(shape).is_fully_defined() and dtype is not None
        if not (callable(initial) and known and tf.as_dtype(dtype).is_floating):
            return next_creator(**kwargs)
        kwargs["initial_value"] = lambda: tf.fill(shape, tf.constant(math.nan, dtype))
        variable = next_creator(**kwargs)
        waiting.append((variable, initial))
        return variable

    with tf.variable_creator_scope(create):
        yield
    for variable, initial in waiting:
        if bool(tf.reduce_all(tf.math.is_nan(variable))):
            variable.assign(initial())
