"""A model with the averages of its weights over the steps of training, in place of the last step's.

The averages are the optimizer's: `tfft.optimizers.make(…, ema_momentum=0.999)`, or any Keras optimizer with
`use_ema=True`. After every optimizer step it does

    average = ema_momentum * average + (1 - ema_momentum) * weight

beginning with the weights that it was built with (Polyak & Juditsky 1992; with decay as in Tarvainen & Valpola 2017,
Mean teachers). Accumulated batches, and steps that float16 leaves out, are no optimizer steps. At the end of `fit`
Keras puts the averages into the model by itself; before that, in callbacks too, the model has the raw weights.

Example:
    Adam's first step goes from 4 to 3, by the learning rate; the average is 0.75 * 4 + 0.25 * 3.

    >>> from tfft import optimizers
    >>> model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer=lambda *_, **__: [[4.0]])])
    >>> model.build([None, 1])
    >>> model.compile(optimizers.make("adam", 1.0, ema_momentum=0.75), loss="mse")
    >>> _ = model.optimizer.apply_gradients([(tf.constant([[1.0]]), model.trainable_variables[0])])
    >>> with averaged(model):
    ...     model(tf.ones([1, 1])).numpy().round(4).tolist()
    [[3.75]]
    >>> model(tf.ones([1, 1])).numpy().round(4).tolist()
    [[3.0]]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfft.backend import inner_optimizer, keras, tf


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """In the body the trained weights are their averages; afterwards exactly what they were, and training goes on.

    Where the model has no optimizer, or one that keeps no averages, nothing changes. So it is with weights that the
    optimizer never knew, and with those frozen since it was built. Whatever the body does to the trained weights is
    undone with them.

    Nothing is compiled anew. It takes one more copy of the trained weights while it lasts.
    """
    pairs = _pairs(model)
    raw = [variable.read_value() for variable, _ in pairs]
    try:
        _put_averages(pairs)
        yield
    finally:
        for (variable, _), value in zip(pairs, raw, strict=True):
            variable.assign(value)


def take_averages(model: keras.Model) -> None:
    """Leaves the averages in the trained weights for good; changes nothing where there are none."""
    _put_averages(_pairs(model))


def _put_averages(pairs: list[tuple[tf.Variable, tf.Variable]]) -> None:
    for variable, average in pairs:
        variable.assign(average.read_value())


def _pairs(model: keras.Model) -> list[tuple[tf.Variable, tf.Variable]]:
    """Each trained weight that has an average, and the average."""
    optimizer = inner_optimizer(getattr(model, "optimizer", None))
    # Before it is built it has none; the legacy optimizers never have any.
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if optimizer is None or averages is None:
        return []
    places = optimizer._index_dict
    keyed = [(variable, optimizer._var_key(variable)) for variable in model.trainable_variables]
    return [(variable, averages[places[key]]) for variable, key in keyed if key in places]
