"""Axes of parameters, which may be choices: where on a line from 0 to 1 a value lies, and what is written there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tfft.pages.numbers import number, short
from tfft.pages.plots import NumberAxis, Tick, of_numbers

# Of a parameter that was not declared: so many different numbers are choices, more are a range.
_MOST_CHOICES = 8


@dataclass(frozen=True)
class ChoiceAxis:
    """Every choice has a column of its own, in the order given."""

    choices: tuple[Any, ...]

    def share(self, value: Any) -> float | None:
        """The middle of the choice's column; None where it is no choice."""
        names = [_identity(one) for one in self.choices]
        name = _identity(value)
        return (names.index(name) + 0.5) / len(names) if name in names else None

    def ticks(self, most: int = 8) -> list[Tick]:
        """All choices, or every second, third, … of many."""
        every = -(-len(self.choices) // most)
        return [
            Tick((place + 0.5) / len(self.choices), short(self.choices[place]))
            for place in range(0, len(self.choices), every)
        ]


Axis = NumberAxis | ChoiceAxis


def of_parameter(declared: Mapping[str, Any], tried: Iterable[Any]) -> Axis:
    """The axis of a parameter.

    Args:
        declared: `min` and `max`, with `scale: log` perhaps; or `values`; or nothing, then it follows from `tried`.
        tried: values of it, all of which have a place.
    """
    tried = list(tried)
    numbers = [one for one in map(number, tried) if one is not None]
    bounds = [one for one in (number(declared.get("min")), number(declared.get("max"))) if one is not None]
    are_numbers = len(numbers) == len(tried)
    if are_numbers and (len(bounds) == 2 or ("values" not in declared and len(set(numbers)) > _MOST_CHOICES)):
        return of_numbers([*bounds, *numbers], declared.get("scale") == "log")
    unique: dict[tuple[bool, float, str], Any] = {}
    for one in [*(declared.get("values") or ()), *sorted(tried, key=_identity)]:
        unique.setdefault(_identity(one), one)
    return ChoiceAxis(tuple(unique.values()))


def _identity(value: Any) -> tuple[bool, float, str]:
    """Equal for equal values, 8 and 8.0 alike but not 1 and True; numbers in their order, then all others."""
    as_number = number(value)
    return (as_number is None, as_number or 0.0, "" if as_number is not None else json.dumps(value, default=str))
