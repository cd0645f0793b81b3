"""A recipe's parameters as Keras Tuner's hyperparameters, and their values back.

Keras Tuner makes numbers of booleans, takes no lists of mixed types and no null, counts steps in binary fractions (of
0.5 in steps of 0.1 it leaves out the last), and its protocol between machines has numbers of 32 bits. So values that
are not all numbers go as their JSON, ranges with a step as lists of values, and numbers of ranges have five digits.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfft.recipe import ParameterSection
from tfft.recipe.sweep_checks import in_order, is_whole, points_of

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
                encoded = [_encoded(parameters[other].values or (), one) for one in wanted]
                scopes.enter_context(space.conditional_scope(other, encoded))
            _add(space, name, parameter)
    return space


def _add(space: keras_tuner.HyperParameters, name: str, parameter: ParameterSection) -> None:
    choices = _choices(name, parameter)
    if choices is not None:
        space.Choice(name, [_encoded(choices, one) for one in choices])
        return
    kind = space.Int if is_whole(name) else space.Float
    kind(name, parameter.min, parameter.max, sampling=parameter.scale or "linear")


def _choices(name: str, parameter: ParameterSection) -> tuple[Any, ...] | None:
    """The values to choose from; None where any of a range will do."""
    if parameter.values is not None:
        return parameter.values
    if parameter.step is None:
        return None
    whole = is_whole(name)
    return tuple(one if whole else _with_few_digits(parameter, one) for one in points_of(parameter, whole))


def _encoded(values: tuple[Any, ...], value: Any) -> Any:
    """One of these values as Keras Tuner has it."""
    if all(type(one) is int for one in values):
        return value
    if all(type(one) in (int, float) for one in values):
        return float(value)
    return json.dumps(value)


def rounded(parameters: Mapping[str, ParameterSection], values: Mapping[str, Any]) -> dict[str, Any]:
    """Keras Tuner's values, those of ranges with as many digits as its protocol keeps. Its own entries stay."""
    return {
        name: _with_few_digits(parameters[name], value)
        if name in parameters and isinstance(value, float) and _choices(name, parameters[name]) is None
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
    choices = _choices(name, parameter)
    if choices is None:
        return int(value) if is_whole(name) else _with_few_digits(parameter, float(value))
    if isinstance(value, str):
        return next(one for one in choices if _encoded(choices, one) == value)
    return min(choices, key=lambda one: abs(one - value))
