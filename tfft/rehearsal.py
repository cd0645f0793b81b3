"""A training of which nothing is left: what it changed is put back, and what cannot be put back it never had."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfft.backend import generators, keras, tf
from tfft.errors import ModelError
from tfft.models import dropout

# Seeds of layers that count them up as they draw are so far from their own here.
_OTHER_SEEDS = 2**30


@contextlib.contextmanager
def rehearsed(model: keras.Model, learning_rate: float) -> Iterator[None]:
    """In the body `fit` trains `model` with another optimizer; afterwards it and all random states are as before.

    The optimizer of the body has the settings of the model's own, has learned nothing, and has a rate that can be set
    (`model.optimizer.learning_rate = …`). There the model reports its loss and no other metric that it was compiled
    with, and has one batch an execution. All of this is undone where the body raises, too.

    It takes one copy of the weights in the processor's memory, and the other optimizer's slots while it lasts.

    Args:
        model: built and compiled.
        learning_rate: to begin with.

    Raises:
        ModelError: it is not built or not compiled, or its optimizer cannot be made once more.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="ones", input_shape=(1,))])
        >>> model.compile(keras.optimizers.Adam(0.5), "mse")
        >>> with rehearsed(model, learning_rate=0.25):
        ...     trained = model.fit([[1.0]], [[9.0]], verbose=0)
        ...     print(model.layers[0].kernel.numpy().round(2), model.optimizer.iterations.numpy())
        [[1.25]] 1
        >>> print(model.layers[0].kernel.numpy(), model.optimizer.iterations.numpy())
        [[1.]] 0
    """
    _check(model)
    with contextlib.ExitStack() as put_back:
        # What is put on last comes back first; the attributes, which say which variables those are, come back last.
        for owner in (model, *_random_layers(model)):
            put_back.enter_context(_attributes(owner))
        put_back.enter_context(_random_states())
        put_back.enter_context(_values(_variables(model)))
        for layer in _random_layers(model):
            if layer._seed is not None:
                layer._seed += _OTHER_SEEDS
        with model.distribute_strategy.scope():
            vars(model).update(
                # Keras would keep track of what is set on the model from here on, and so hold it for good.
                _self_setattr_tracking=False,
                optimizer=_another(model.optimizer, learning_rate),
                # Those of before make variables with the first batch, as they are to do later.
                compiled_loss=_empty(model.compiled_loss),
                compiled_metrics=type(model.compiled_metrics)(),
                train_function=None,
                _steps_per_execution=tf.Variable(1, dtype=tf.int64),
            )
        yield


def _check(model: Any) -> None:
    if getattr(model, "optimizer", None) is None:
        raise ModelError("the model is not compiled; call model.compile(optimizer, loss) first, as before fit")
    if not model.built:
        raise ModelError("the model has no weights before its first batch; call model.build(input_shape) first")


# --- What stands in ---------------------------------------------------------------------------------------------------


def _another(optimizer: Any, learning_rate: float) -> Any:
    """An optimizer of the same settings with a rate of its own, whatever schedule the first has."""
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        return keras.mixed_precision.LossScaleOptimizer(
            _another(optimizer.inner_optimizer, learning_rate),
            dynamic=optimizer.dynamic,
            initial_scale=float(optimizer.loss_scale),
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
        )
    name = type(optimizer).__name__
    try:
        config = optimizer.get_config()
        if "learning_rate" not in config:
            raise ModelError(f"{name} has no learning_rate in its get_config(); expected an optimizer with one rate")
        made = type(optimizer).from_config({**config, "learning_rate": learning_rate})
    except (NotImplementedError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{name} cannot be made once more by its get_config() and from_config(), as is needed here: {error}"
        ) from error
    # Neither Keras nor Transformers has in the configuration which weights do not decay.
    vars(made).update({name: value for name, value in vars(optimizer).items() if name.endswith(_NOT_IN_CONFIG)})
    return made


_NOT_IN_CONFIG = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_names", "_include_in_weight_decay")


def _empty(loss: Any) -> Any:
    """A container of the same losses that has seen no batch."""
    return type(loss)(loss._user_losses, loss._user_loss_weights, output_names=loss._output_names)


# --- What is put back -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _attributes(owner: Any) -> Iterator[None]:
    before = dict(vars(owner))
    try:
        yield
    finally:
        vars(owner).clear()
        vars(owner).update(before)


@contextlib.contextmanager
def _values(variables: list[tf.Variable]) -> Iterator[None]:
    before = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    """Those of Python, NumPy, TensorFlow and Keras; these two draw other seeds in the body than after it.

    TensorFlow keeps an operation that was computed outside of graphs, with its state, for the next one of that seed.
    """
    of_seeds, _ = generators()
    python, of_numpy, drawn = random.getstate(), np.random.get_state(), [one.getstate() for one in of_seeds]
    for one in of_seeds:
        one.seed(one.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        for one, state in zip(of_seeds, drawn, strict=True):
            one.setstate(state)


def _random_layers(model: keras.Model) -> list[Any]:
    """What Keras's layers that draw, such as Dropout, draw from."""
    found = (getattr(layer, "_random_generator", None) for layer in model.submodules)
    return [one for one in found if hasattr(one, "_rng_type")]


def _variables(model: keras.Model) -> list[tf.Variable]:
    """All that a training changes, but for what is of the optimizer."""
    drawn = [dropout.state_of(model), generators()[1]]
    drawn += [one._generator for one in _random_layers(model) if getattr(one, "_generator", None) is not None]
    drawn += [value for layer in model.submodules for value in vars(layer).values() if _is_generator(value)]
    variables = [
        *model.variables,
        *(variable for metric in model.metrics for variable in metric.variables),
        *(one.state if _is_generator(one) else one.variable for one in drawn if one is not None),
        model._train_counter,
    ]
    return list({id(variable): variable for variable in variables}.values())


def _is_generator(value: Any) -> bool:
    return isinstance(value, tf.random.Generator)
