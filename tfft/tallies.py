"""Scores that follow from counts which rows add up to, and their bootstrap intervals, for a thousand resamples at once.

A resample takes as many rows as there are, each as often as it is drawn. What a score needs of it are sums: how often
a class was wanted, predicted, and right. So a resample is a vector of weights, how often each row is in it, and all of
them are one sparse matrix product instead of a thousand calls of a metric. `tests/test_tallies.py` holds every score to
`metrics.compute` on resamples.

A score whose denominator is zero is nan here, as that of a class of which a resample has no row, where the metrics say
0.0: it says nothing of the model, and is left out of intervals.

Example:
    >>> tally = of_classes(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), ("bad", "good"))
    >>> found = intervals(tally, resamples=1000, seed=0)
    >>> found["accuracy"].value, found["precision of good"].value
    (0.75, 0.6666666666666666)
    >>> 0 <= found["accuracy"].low < 0.75 < found["accuracy"].high <= 1
    True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from scipy import sparse

from tfft.statistics import CONFIDENCE

# Weights that are held at once: 32 MB of them.
_WEIGHTS_AT_ONCE = 4_000_000
# A score that is defined in fewer of the resamples has no interval.
_LEAST_DEFINED = 0.5

Kind = Literal["classes", "labels", "entities"]


@dataclass(frozen=True)
class Score:
    """A score with the 95 % percentile bootstrap interval (Efron 1979) over the rows.

    Attributes:
        value: of all rows; None where it is not defined.
        low, high: the interval; None where there is a single row, or the score is undefined in most resamples.
        undefined: resamples in which the score is not defined, and which the interval leaves out.
    """

    value: float | None
    low: float | None
    high: float | None
    undefined: int = 0


class Tally(Protocol):
    """What resamples can be scored by."""

    def __len__(self) -> int:
        """How many rows there are."""

    def take(self, chosen: np.ndarray) -> Tally:
        """Of these rows alone: (rows,) bool, or positions."""

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(resamples,) of every score, nan where it is undefined, for (resamples, rows) how often each row counts."""


def intervals(tally: Tally, resamples: int, seed: int) -> dict[str, Score]:
    """Every score of all rows, and its interval over resamples of the rows.

    Args:
        resamples: how many; the same seed draws the same.
    """
    values = {name: float(found[0]) for name, found in tally.scores(np.ones((1, len(tally)))).items()}
    drawn = _drawn(tally, resamples, seed) if len(tally) > 1 else {}
    return {name: _score(value, drawn.get(name, np.full(1, np.nan))) for name, value in values.items()}


def _drawn(tally: Tally, resamples: int, seed: int) -> dict[str, np.ndarray]:
    rows, random = len(tally), np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // rows)
    parts: list[dict[str, np.ndarray]] = []
    for begin in range(0, resamples, at_once):
        weights = [
            np.bincount(random.integers(rows, size=rows), minlength=rows)
            for _ in range(min(at_once, resamples - begin))
        ]
        parts.append(tally.scores(np.asarray(weights, np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _score(value: float, drawn: np.ndarray) -> Score:
    defined = drawn[np.isfinite(drawn)]
    undefined = 0 if len(drawn) == 1 else len(drawn) - len(defined)
    plain = value if np.isfinite(value) else None
    if plain is None or len(defined) < _LEAST_DEFINED * len(drawn) or not len(defined):
        return Score(plain, None, None, undefined)
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Score(plain, float(low), float(high), undefined)


# --- Classes, labels, entities ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassTally:
    """Answers that name classes.

    Attributes:
        names: of the classes, or of the types of entities.
        kind: `classes` where a row has one, `labels` where it has any number, `entities` where rows are sentences.
        table: (rows, 3 * classes + 2), sparse: how often a row wants each class, predicts it, has it right; how many
            answers it has, a row's own or those of its words; how many of those are right.
    """

    names: tuple[str, ...]
    kind: Kind
    table: Any

    def __len__(self) -> int:
        return int(self.table.shape[0])

    def take(self, chosen: np.ndarray) -> ClassTally:
        """Of these rows alone."""
        return replace(self, table=self.table[np.flatnonzero(chosen) if chosen.dtype == bool else chosen])

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Wanted, predicted and right, (resamples, classes) each; answers and right answers, (resamples,) each."""
        sums = (self.table.T @ weights.T).T
        classes = len(self.names)
        wanted, predicted, right = (sums[:, classes * at : classes * (at + 1)] for at in range(3))
        return wanted, predicted, right, sums[:, -2], sums[:, -1]

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Those of all classes together, by the names of the metrics, and of each: `f1 of NAME`."""
        wanted, predicted, right, answers, right_answers = self.counts(weights)
        f1 = _ratio(2 * right, wanted + predicted)
        found = {"accuracy": _ratio(right_answers, answers)}
        micro = _precision_recall_f1(right.sum(axis=1), predicted.sum(axis=1), wanted.sum(axis=1))
        if self.kind == "entities":
            found |= micro
        else:
            # As scikit-learn has it: of classes, those that occur; of labels, all.
            occurs = (wanted + predicted > 0).sum(axis=1) if self.kind == "classes" else len(self.names)
            found |= {"f1_micro": micro["f1"], "f1_macro": _ratio(np.nan_to_num(f1).sum(axis=1), occurs)}
        if self.kind == "classes":
            found["matthews_correlation"] = _matthews(wanted, predicted, right)
            if len(self.names) == 2:
                found["f1"] = f1[:, 1]
        by_class = {"precision": _ratio(right, predicted), "recall": _ratio(right, wanted), "f1": f1}
        for at, name in enumerate(self.names):
            found |= {f"{what} of {name}": values[:, at] for what, values in by_class.items()}
        return found


def of_classes(predictions: np.ndarray, references: np.ndarray, names: Sequence[str]) -> ClassTally:
    """Of (rows,) class ids each."""
    rows, classes = len(references), len(names)
    is_right = predictions == references
    return _class_tally(
        names,
        "classes",
        *(
            sparse.csr_array((values, (np.arange(rows), places)), shape=(rows, classes))
            for values, places in (
                (np.ones(rows), references),
                (np.ones(rows), predictions),
                (is_right.astype(float), references),
            )
        ),
        np.column_stack([np.ones(rows), is_right]),
    )


def of_labels(predictions: np.ndarray, references: np.ndarray, names: Sequence[str]) -> ClassTally:
    """Of (rows, classes) of 0 and 1 each; an answer is right where all of its row is."""
    said, wanted = (np.asarray(one) > 0 for one in (predictions, references))
    whole = np.column_stack([np.ones(len(wanted)), (said == wanted).all(axis=1)])
    return _class_tally(
        names, "labels", *(sparse.csr_array(one.astype(float)) for one in (wanted, said, wanted & said)), whole
    )


def of_entities(
    wanted: Sequence[Mapping[str, int]],
    predicted: Sequence[Mapping[str, int]],
    right: Sequence[Mapping[str, int]],
    words: Sequence[tuple[int, int]],
) -> ClassTally:
    """Of sentences: entities of each type that are there, predicted, and right; words, and those with the right tag."""
    names = tuple(sorted({name for side in (wanted, predicted) for one in side for name in one}))
    places = {name: at for at, name in enumerate(names)}

    def table(side: Sequence[Mapping[str, int]]) -> Any:
        cells = [(row, places[name], count) for row, one in enumerate(side) for name, count in one.items()]
        at = np.asarray(cells, np.int64).reshape(-1, 3)
        return sparse.csr_array((at[:, 2].astype(float), (at[:, 0], at[:, 1])), shape=(len(side), len(names)))

    return _class_tally(names, "entities", table(wanted), table(predicted), table(right), np.asarray(words, float))


def _class_tally(names: Sequence[str], kind: Kind, *tables: Any) -> ClassTally:
    return ClassTally(tuple(names), kind, sparse.hstack([sparse.csr_array(one) for one in tables], format="csr"))


def _ratio(part: Any, whole: Any) -> np.ndarray:
    """nan where the whole is zero."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def _precision_recall_f1(right: Any, predicted: Any, wanted: Any) -> dict[str, np.ndarray]:
    return {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, wanted),
        "f1": _ratio(2 * right, predicted + wanted),
    }


def _matthews(wanted: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> np.ndarray:
    """For any number of classes (Gorodkin 2004)."""
    rows = wanted.sum(axis=1)
    covariance = right.sum(axis=1) * rows - (wanted * predicted).sum(axis=1)
    spread = (rows**2 - (predicted**2).sum(axis=1)) * (rows**2 - (wanted**2).sum(axis=1))
    return _ratio(covariance, np.sqrt(spread))


# --- Numbers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberTally:
    """Predicted numbers and true ones, (rows,) each."""

    predictions: np.ndarray
    references: np.ndarray

    def __len__(self) -> int:
        return len(self.references)

    def take(self, chosen: np.ndarray) -> NumberTally:
        """Of these rows alone."""
        return NumberTally(self.predictions[chosen], self.references[chosen])

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """`mse`, `pearson` and `pearsonr`, `spearmanr`, and the mean of the absolute error and of the error."""
        errors = self.predictions - self.references
        rows = weights.sum(axis=1)
        pearson = _correlation(weights, self.predictions, self.references)
        ranks = [_ranks(weights, one) for one in (self.predictions, self.references)]
        return {
            "mse": weights @ errors**2 / rows,
            "pearson": pearson,
            "pearsonr": pearson,
            "spearmanr": _correlation(weights, *ranks),
            "mean_absolute_error": weights @ np.abs(errors) / rows,
            "mean_error": weights @ errors / rows,
        }


def _correlation(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(resamples,) Pearson's correlation of (rows,) numbers, or of (resamples, rows) of them."""
    rows = weights.sum(axis=1, keepdims=True)
    # Less their means, so that nothing is lost where numbers are large and alike.
    one, other = (side - (weights * side).sum(axis=1, keepdims=True) / rows for side in (first, second))
    moments = [(weights * a * b).sum(axis=1) for a, b in ((one, other), (one, one), (other, other))]
    scale = [np.abs(side).max(initial=0.0) for side in (first, second)]
    is_constant = [moment <= (1e-13 * size) ** 2 * rows[:, 0] for moment, size in zip(moments[1:], scale, strict=True)]
    spread = np.where(is_constant[0] | is_constant[1], 0.0, np.sqrt(moments[1] * moments[2]))
    return np.clip(_ratio(moments[0], spread), -1.0, 1.0)


def _ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(resamples, rows) the rank of each row's value in each resample, of equal values their mean rank."""
    distinct, places = np.unique(values, return_inverse=True)
    of_value = sparse.csr_array((np.ones(len(values)), (places, np.arange(len(values)))), (len(distinct), len(values)))
    counts = (of_value @ weights.T).T  # (resamples, distinct)
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    found: np.ndarray = ranks[:, places]
    return found


# --- What is added beside a tally -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanTally:
    """The mean of something, as the loss: (rows,) its sums in each row, and (rows,) of how many."""

    name: str
    sums: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.sums)

    def take(self, chosen: np.ndarray) -> MeanTally:
        """Of these rows alone."""
        return MeanTally(self.name, self.sums[chosen], self.counts[chosen])

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The mean."""
        return {self.name: _ratio(weights @ self.sums, weights @ self.counts)}


@dataclass(frozen=True)
class Tallies:
    """Several of the same rows as one."""

    parts: tuple[Tally, ...]

    def __len__(self) -> int:
        return len(self.parts[0])

    def take(self, chosen: np.ndarray) -> Tallies:
        """Of these rows alone."""
        return Tallies(tuple(part.take(chosen) for part in self.parts))

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Those of all."""
        return {name: values for part in self.parts for name, values in part.scores(weights).items()}
