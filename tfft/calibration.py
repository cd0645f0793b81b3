"""Whether probabilities are what they say: reliability, expected calibration error, and a temperature that mends it.

A model is calibrated where, of all answers that it gives with probability p, the share p is right. Of classes the
answer is the likeliest one and its probability; where rows have several labels, every label of every row is one.

Example:
    Four answers at 0.9 of which two are right: the model is too sure by 0.4.

    >>> bins = reliability(np.full(4, 0.9), np.array([True, False, True, False]))
    >>> round(expected_error(bins), 12)
    0.4
    >>> logits = np.log([[0.9, 0.1]] * 4)
    >>> temperature = fit_temperature(logits, np.array([0, 1, 0, 0]))  # three of four: odds of 3 to 1, not 9 to 1
    >>> round(temperature, 4)  # log 9 / log 3
    2.0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from tfft.errors import DataError

BINS = 15
# A temperature beyond these is none: the likelihood has no maximum there.
_COLDEST, _HOTTEST = 0.01, 100.0


@dataclass(frozen=True)
class Bin:
    """Answers of like probability, above `low` and up to `high`.

    Attributes:
        answers: how many there are.
        probability: their mean one; None where there are no answers.
        right: the share of them that is right; None where there are none.
    """

    low: float
    high: float
    answers: int
    probability: float | None
    right: float | None


def answers(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities that are claimed, and whether each claim is right.

    Args:
        logits: (rows, classes).
        labels: (rows,) class ids: the claim is the likeliest class. Or (rows, classes) of 0 and 1: every label is
            claimed of every row, by the probability that it has.
        temperature: what logits are divided by.

    Returns:
        (answers,) float64 and (answers,) bool.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    if labels.ndim == 2:
        return special.expit(scaled).ravel(), labels.ravel() > 0
    return special.softmax(scaled, axis=-1).max(axis=-1), scaled.argmax(axis=-1) == labels


def reliability(probabilities: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Answers in bins of equal width, as a reliability curve has them (Niculescu-Mizil & Caruana 2005).

    Args:
        probabilities: (answers,) from 0 to 1.
        right: (answers,) bool.
        bins: how many; what lies on a border belongs to the bin below it, as in Guo et al. 2017, section 2.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    places = np.searchsorted(edges[1:-1], probabilities)
    counts = np.bincount(places, minlength=bins)
    sums, rights = (np.bincount(places, weights=one, minlength=bins) for one in (probabilities, right))
    return [
        Bin(
            float(edges[at]),
            float(edges[at + 1]),
            int(count),
            float(sums[at] / count) if count else None,
            float(rights[at] / count) if count else None,
        )
        for at, count in enumerate(counts)
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error (Naeini et al. 2015): the mean of what bins claim too much or too little.

    Every bin counts by its answers.
    """
    total = sum(one.answers for one in bins)
    gaps = 0.0
    for one in bins:
        if one.probability is not None and one.right is not None:
            gaps += one.answers * abs(one.right - one.probability)
    return gaps / total


def negative_log_likelihoods(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(rows,) the cross-entropy of each row; of several labels the mean of theirs. Arguments as of `answers`."""
    scaled = np.asarray(logits, np.float64) / temperature
    if labels.ndim == 2:
        return (np.logaddexp(0.0, scaled) - scaled * labels).mean(axis=-1)
    return -special.log_softmax(scaled, axis=-1)[np.arange(len(labels)), labels]


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which these rows are likeliest (Guo et al. 2017, section 4.2); of labels, by their sigmoids.

    Dividing all logits by one number changes no order among the classes of a row, so no decision.

    Args:
        logits, labels: as of `answers`.

    Raises:
        DataError: there is none, as where all rows are right: any colder one would make them likelier still.
    """

    def cost(log: float) -> float:
        return float(negative_log_likelihoods(logits, labels, float(np.exp(log))).mean())

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    found = optimize.minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    at_coldest, at_hottest = map(cost, bounds)
    if min(at_coldest, at_hottest) > found.fun:
        return float(np.exp(found.x))
    if at_coldest < at_hottest:
        raise DataError(
            f"no temperature can be fitted on {len(labels)} rows that the model answers without a mistake: the surer "
            "it were, the better; give more rows, or rows that it was not trained on"
        )
    raise DataError(
        f"no temperature can be fitted on {len(labels)} rows: the model's answers on them are no better than chance, "
        "and the less sure it were, the better; look whether their labels are those that it was trained on"
    )
