"""Axes: where on a line from 0 to 1 a value lies, and what is written beside the line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfft.search.facts import number, short

# Of a parameter that was not declared: so many different numbers are choices, more are a range.
_MOST_CHOICES = 8


class Tick(NamedTuple):
    """A place on an axis, 0 to 1, and what is written there."""

    share: float
    text: str


@dataclass(frozen=True)
class NumberAxis:
    """From `low` to `high`, which differ; where it is logarithmic both are above 0."""

    low: float
    high: float
    is_log: bool = False

    def share(self, value: Any) -> float | None:
        """The place of a value; None where it has none."""
        found = number(value)
        if found is None or (self.is_log and found <= 0):
            return None
        low, high, at = (math.log(one) if self.is_log else one for one in (self.low, self.high, found))
        return (at - low) / (high - low)

    def ticks(self, most: int = 5) -> list[Tick]:
        """Round numbers between the ends, about `most` of them."""
        found = (self._log_ticks(most) if self.is_log else []) or _round_numbers(self.low, self.high, most)
        return [Tick(share, short(one)) for one in found if (share := self.share(one)) is not None]

    def _log_ticks(self, most: int) -> list[float]:
        """Powers of ten, with twice and five times those where there are few; none within less than about a decade."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1, 2, 5), (1, 5), (1,)):
            decades = range(first, last + 1)
            found = [float(f"{step}e{decade}") for decade in decades for step in steps]
            inside = [one for one in found if self.low * (1 - 1e-9) <= one <= self.high * (1 + 1e-9)]
            if len(inside) <= most:
                return inside if len(inside) > 1 else []
        return inside[:: -(-len(inside) // most)]


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


def of_numbers(values: Iterable[float], is_log: bool = False, margin: float = 0.0) -> NumberAxis:
    """An axis that has room for all values, and for a share `margin` of its length at both ends.

    It is linear after all where one of the values is not above 0. A single value lies in the middle.
    """
    values = list(values) or [0.0, 1.0]
    low, high = min(values), max(values)
    is_log = is_log and low > 0
    if low == high:
        pad = abs(low) * 0.05 or 0.5
        return NumberAxis(low - pad, high + pad, is_log)
    if is_log:
        factor = (high / low) ** margin
        return NumberAxis(low / factor, high * factor, True)
    room = (high - low) * margin
    return NumberAxis(low - room, high + room)


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


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most so many; both ends where there would be fewer than two."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            break
    digits = 1 - math.floor(math.log10(step))
    found = [round(place * step, digits) for place in range(first, last + 1)]
    return found if len(found) > 1 else [low, high]
