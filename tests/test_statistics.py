"""Spread, paired differences and McNemar's test, against textbooks, enumeration and independent implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tfft import statistics

# Hours of sleep gained by ten patients with either of two drugs: Student (1908).
DEXTRO = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
LAEVO = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_mean_and_standard_deviation_by_hand() -> None:
    found = statistics.summarize([1, 2, 3, 4])
    assert found.mean == 2.5
    assert found.standard_deviation == pytest.approx(math.sqrt(5 / 3))


def test_the_bootstrap_is_that_of_all_resamples() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    means = [np.mean(one) for one in itertools.product(values, repeat=5)]
    interval = statistics.bootstrap(values)
    assert interval is not None
    for limit, quantile in zip(interval, (0.025, 0.975), strict=True):
        assert np.quantile(means, quantile - 0.005) <= limit <= np.quantile(means, quantile + 0.005)
    assert statistics.bootstrap(values) == interval, "the same numbers give the same interval"


@pytest.mark.parametrize(
    ("values", "interval", "deviation"),
    [
        ([0.5], None, None),
        ([0.5, 0.5], (0.5, 0.5), 0.0),
        ([0.25] * 5, (0.25, 0.25), 0.0),
        ([0.5, 0.75], (0.5, 0.75), math.sqrt(1 / 32)),
    ],
)
def test_few_and_equal_values(
    values: list[float], interval: tuple[float, float] | None, deviation: float | None
) -> None:
    found = statistics.summarize(values)
    assert (found.interval, found.standard_deviation) == (interval, pytest.approx(deviation))


def test_students_sleep() -> None:
    found = statistics.paired(LAEVO, DEXTRO)
    assert found.mean == pytest.approx(1.58)
    assert found.standard_deviation == pytest.approx(1.229995, abs=1e-6)
    assert found.interval == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert found.p_value == pytest.approx(0.00283289, abs=1e-7)
    assert found.is_told
    theirs = stats.ttest_rel(DEXTRO, LAEVO)
    turned = statistics.paired(DEXTRO, LAEVO)
    assert turned.p_value == pytest.approx(theirs.pvalue)
    assert turned.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_a_difference_within_the_noise() -> None:
    found = statistics.paired([0.80, 0.82, 0.81], [0.79, 0.80, 0.82])
    assert not found.is_told
    assert found.interval is not None and found.interval[0] < 0 < found.interval[1]


@pytest.mark.parametrize(
    ("first", "second", "p_value", "interval"),
    [
        ([0.5, 0.6], [0.5, 0.6], 1.0, (0.0, 0.0)),
        ([0.0, 0.0], [0.0, 0.0], 1.0, (0.0, 0.0)),
        # Two rows of twelve more: no spread, and nevertheless little to go by.
        ([0.75, 0.75], [7 / 12, 7 / 12], 0.5, None),
        ([0.3, 0.2, 0.6], [0.1, 0.0, 0.4], 0.25, None),  # 0.2 each, but for rounding
        ([0.7] * 6, [0.6] * 6, 1 / 32, None),
        ([0.7], [0.6], None, None),
    ],
)
def test_differences_without_a_spread(
    first: list[float], second: list[float], p_value: float | None, interval: tuple[float, float] | None
) -> None:
    found = statistics.paired(first, second)
    assert (found.p_value, found.interval) == (p_value, interval)
    assert found.is_told == (len(first) == 6)


def exact_p(one: int, other: int) -> float:
    """Twice the tail of a fair coin."""
    throws = one + other
    return min(1.0, 2 * sum(math.comb(throws, k) for k in range(min(one, other) + 1)) / 2**throws)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 0), (5, 5), (1, 9), (9, 1), (6, 0), (86, 150), (12, 3)])
def test_mcnemars_exact_test(one: int, other: int) -> None:
    found = statistics.mcnemar(one, other)
    assert found.p_value == pytest.approx(exact_p(one, other))
    assert (found.only_first, found.only_second) == (one, other)


def test_mcnemar_of_the_textbook() -> None:
    """Approval of a prime minister asked twice (Agresti, Categorical Data Analysis, 10.1): 150 and 86 changed."""
    assert statistics.mcnemar(150, 86).p_value == pytest.approx(3.716e-05, rel=1e-3)
    assert statistics.mcnemar(150, 86).is_told
    assert statistics.mcnemar(1, 9).p_value == 22 / 1024


def test_over_one_seed_it_is_mcnemars_test() -> None:
    chance = np.random.default_rng(3)
    first, second = chance.random((2, 200)) < 0.7
    assert statistics.over_seeds(first[None], second[None]) == statistics.mcnemar(
        int((first & ~second).sum()), int((second & ~first).sum())
    )


def test_the_same_rows_again_make_nothing_surer() -> None:
    chance = np.random.default_rng(3)
    first, second = chance.random((2, 1, 200)) < [[[0.75]], [[0.65]]]
    once = statistics.over_seeds(first, second)
    assert statistics.over_seeds(np.repeat(first, 5, axis=0), np.repeat(second, 5, axis=0)) == once
    # As five times as many rows they would.
    assert statistics.mcnemar(5 * once.only_first, 5 * once.only_second).p_value < once.p_value / 10


def test_a_row_counts_for_the_side_that_has_it_right_more_often() -> None:
    first = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], bool)
    second = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    assert statistics.over_seeds(first, second) == statistics.mcnemar(1, 1)
