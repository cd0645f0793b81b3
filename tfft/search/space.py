"""A recipe's parameters as Keras Tuner's hyperparameters, and their values back.

Keras Tuner makes numbers of booleans, takes no lists of mixed types and no null, and its protocol between machines has
numbers of 32 bits. So values that are not all numbers go as their JSON, and those of ranges have five digits.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfft.recipe import ParameterSection
from tfft.recipe.sweep_checks import in_order, is_whole

if TYPE_CHECKING:
    import keras_tuner

DIGITS = 5


def hyperparameters(parameters: Mapping[str, ParameterSection]) -> keras_tuner.HyperParameters:
    """The space that Keras Tuner searches."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    for name in in_order(parameters):
        parameter = parameters[name]
        with contextlib.ExitStack() as scopes:
            for other, wanted in (parameter.when or {}).items():
                encoded = [_encoded(parameters[other], one) for one in wanted]
                scopes.enter_context(space.conditional_scope(other, encoded))
            _add(space, name, parameter)
    return space


def _add(space: keras_tuner.HyperParameters, name: str, parameter: ParameterSection) -> None:
    if parameter.values is not None:
        space.Choice(name, [_encoded(parameter, one) for one in parameter.values])
        return
    kind = space.Int if is_whole(name) else space.Float
    kind(name, parameter.min, parameter.max, step=parameter.step, sampling=parameter.scale or "linear")


def _encoded(parameter: ParameterSection, value: Any) -> Any:
    """A value as Keras Tuner has it."""
    values = parameter.values or ()
    if all(type(one) is int for one in values):
        return value
    if all(type(one) in (int, float) for one in values):
        return float(value)
    return json.dumps(value)


def rounded(parameters: Mapping[str, ParameterSection], values: Mapping[str, Any]) -> dict[str, Any]:
    """Keras Tuner's values, those of ranges with as many digits as its protocol keeps. Its own entries stay."""
    return {
        name: _with_few_digits(parameters[name], value)
        if name in parameters and isinstance(value, float) and parameters[name].values is None
        else value
        for name, value in values.items()
    }


def _with_few_digits(parameter: ParameterSection, value: float) -> float:
    assert parameter.min is not None and parameter.max is not None
    return min(max(float(f"{value:.{DIGITS}g}"), float(parameter.min)), float(parameter.max))


def decoded(parameters: Mapping[str, ParameterSection], values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values of the parameters that are active, in the recipe's order.

    Args:
        values: Keras Tuner's, also as they come from another machine.
    """
    return {name: _decoded(name, one, values[name]) for name, one in parameters.items() if name in values}


def _decoded(name: str, parameter: ParameterSection, value: Any) -> Any:
    if parameter.values is None:
        return int(value) if is_whole(name) else _with_few_digits(parameter, float(value))
    if isinstance(value, str):
        return next(one for one in parameter.values if _encoded(parameter, one) == value)
    numbers: list[Any] = list(parameter.values)
    return min(numbers, key=lambda one: abs(one - value))
