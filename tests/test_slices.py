"""Every row is in one slice of a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfft import slices


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "b", "b", "a", "c", "d"], ["b", "a", "2 other values"]),
        (["1", "0", "1", "0"], ["1", "0"]),
        ([1, 1, None, None, " ", True, True], ["(no value)", "1", "True"]),
        (["a", "b"], ["2 other values"]),
        ([0.5, float("nan"), 0.5, float("nan")], ["0.5", "(no value)"]),
        ([str(at) for at in range(40)], ["0 to 9", "10 to 19", "20 to 29", "30 to 39"]),
        ([*range(12), *[12] * 36], ["0 to 11", "12"]),
        ([*map(str, range(11)), ""], ["12 other values"]),
    ],
    ids=str,
)
def test_columns(values: list[Any], names: list[str]) -> None:
    found = slices.by_values(values, min_rows=2)
    assert [one.name for one in found] == names
    assert (np.sum([one.chosen for one in found], axis=0) == 1).all(), "each row is in one"


def test_the_most_frequent_of_many_values() -> None:
    values = [f"v{at}" for at in range(30) for _ in range(30 - at)]
    found = slices.by_values(values, min_rows=1)
    assert [one.name for one in found[:2]] == ["v0", "v1"] and found[-1].name == "10 other values"
    assert sum(one.chosen.sum() for one in found) == len(values)
