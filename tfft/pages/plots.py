"""Plots as SVG has them: axes with round numbers, and where on a picture a value lies. Templates draw them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfft.pages.numbers import number, short, shortened


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


@dataclass(frozen=True)
class Frame:
    """Where a picture's axes lie: `left`, `right`, `top` and `bottom` of what is inside of them."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    def x(self, share: float) -> float:
        """From left to right."""
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, share: float) -> float:
        """From bottom to top."""
        return round(self.bottom - share * (self.bottom - self.top), 1)


@dataclass(frozen=True)
class Label:
    """Text at a place along an axis."""

    at: float
    text: str


def path(points: Sequence[tuple[float, float]]) -> str:
    """An SVG's path through all points; around a single one a ring, so that it is seen.

    Example:
        >>> path([(1, 2), (3.5, 4)]), path([(10, 2)])
        ('M1,2 L3.5,4', 'M8,2 a2,2 0 1,0 4,0 a2,2 0 1,0 -4,0')
    """
    if len(points) == 1:
        x, y = points[0]
        return f"M{x - 2:g},{y:g} a2,2 0 1,0 4,0 a2,2 0 1,0 -4,0"
    return "M" + " L".join(f"{x:g},{y:g}" for x, y in points)


def heights(ticks: Iterable[Tick], frame: Frame) -> tuple[Label, ...]:
    """What is written beside an axis that goes upwards."""
    return tuple(Label(frame.y(one.share), shortened(one.text, 12)) for one in ticks)
