"""Rows in slices, to see where a model is worse: by the values of a column, by quartiles of a number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# A column of numbers with more different ones than this is cut at its quartiles.
MOST_NUMBERS = 10
# Of a column with more values the most frequent are shown.
MOST_VALUES = 20
_MISSING = "(no value)"


class Slice(NamedTuple):
    """Rows with something in common: what, and (rows,) bool, which they are."""

    name: str
    chosen: np.ndarray


def by_values(values: Sequence[Any], min_rows: int) -> list[Slice]:
    """The slices of a column: a value each, the most frequent first, or a quarter each where it has many numbers.

    Args:
        values: one a row, as a file has them; numbers may be written out.
        min_rows: values of fewer rows are together in the last slice.
    """
    numbers = _numbers(values)
    if numbers is not None and len(set(numbers.tolist())) > MOST_NUMBERS:
        return by_quartiles(numbers)
    names = [_MISSING if _is_missing(value) else str(value) for value in values]
    counted = Counter(names).most_common()
    shown = [name for name, count in counted if count >= min_rows][:MOST_VALUES]
    column = np.asarray(names, object)
    found = [Slice(name, column == name) for name in shown]
    if others := len(counted) - len(shown):
        of_others = ~np.isin(column, shown) if shown else np.ones(len(names), bool)
        found.append(Slice(f"{others} other value{'s' if others > 1 else ''}", of_others))
    return found


def by_quartiles(numbers: np.ndarray) -> list[Slice]:
    """Four slices with as many rows each, but that equal numbers stay together; fewer where there are few numbers.

    Example:
        >>> [(one.name, int(one.chosen.sum())) for one in by_quartiles(np.array([3, 1, 2, 5, 4, 9, 8, 7]))]
        [('1 to 2', 2), ('3 to 4', 2), ('5 to 7', 2), ('8 to 9', 2)]
    """
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75], method="inverted_cdf"))
    places = np.searchsorted(edges, numbers)
    found = []
    for place in np.unique(places):
        chosen = places == place
        low, high = numbers[chosen].min(), numbers[chosen].max()
        found.append(Slice(_shown(low) if low == high else f"{_shown(low)} to {_shown(high)}", chosen))
    return found


def _shown(number: float) -> str:
    return f"{number:.6g}"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip() == ""


def _numbers(values: Sequence[Any]) -> np.ndarray | None:
    """(rows,) the values as finite numbers; None where one is something else."""
    try:
        numbers = np.asarray([math.nan if isinstance(value, bool) else float(value) for value in values])
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
