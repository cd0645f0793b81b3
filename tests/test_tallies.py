"""Scores from counts are those of the metrics, on all rows and on every resample; intervals are the bootstrap's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from tfft import metrics, tallies
from tfft.data.tags import spans

RANDOM = np.random.default_rng(5)


def resamples(rows: int, count: int = 5) -> list[np.ndarray]:
    """Positions of rows, all of them once, then as they are drawn."""
    return [np.arange(rows), *(RANDOM.integers(rows, size=rows) for _ in range(count))]


def weights(draws: list[np.ndarray]) -> np.ndarray:
    return np.asarray([np.bincount(one, minlength=len(one)) for one in draws], float)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (2, ["accuracy", "f1", "f1_macro", "f1_micro", "matthews_correlation", "glue/mrpc", "glue/cola"]),
        (4, ["accuracy", "f1_macro", "f1_micro", "matthews_correlation", "glue/mnli"]),
    ],
)
def test_classes(classes: int, names: list[str]) -> None:
    predictions, references = RANDOM.integers(classes, size=(2, 9))  # few, so that resamples lack classes
    draws = resamples(9, 12)
    tally = tallies.of_classes(predictions, references, [f"c{at}" for at in range(classes)])
    found = tally.scores(weights(draws))
    for at, draw in enumerate(draws):
        expected = metrics.compute(names, predictions[draw], references[draw])
        assert {name: np.nan_to_num(found[name][at]) for name in expected} == pytest.approx(expected)
        theirs = sklearn.metrics.precision_recall_fscore_support(
            references[draw], predictions[draw], labels=range(classes), zero_division=np.nan
        )
        for what, values in zip(("precision", "recall"), theirs, strict=False):
            np.testing.assert_allclose([found[f"{what} of c{one}"][at] for one in range(classes)], values)


def test_labels() -> None:
    predictions, references = RANDOM.integers(2, size=(2, 8, 3))
    draws = resamples(8)
    found = tallies.of_labels(predictions, references.astype(np.float32), ["a", "b", "c"]).scores(weights(draws))
    for at, draw in enumerate(draws):
        expected = metrics.compute(["accuracy", "f1_micro", "f1_macro"], predictions[draw], references[draw])
        assert {name: found[name][at] for name in expected} == pytest.approx(expected)


def test_entities() -> None:
    tags = ["O", "O", "B-X", "I-X", "B-Y"]
    predictions, references = ([RANDOM.choice(tags, 6).tolist() for _ in range(7)] for _ in range(2))
    entities = [[set(spans(one)) for one in side] for side in (references, predictions)]
    both = [one & other for one, other in zip(*entities, strict=True)]
    counted = [[Counter(kind for kind, _, _ in one) for one in side] for side in (*entities, both)]
    words = [
        (len(one), sum(a == b for a, b in zip(one, other, strict=True)))
        for one, other in zip(references, predictions, strict=True)
    ]
    draws = resamples(7)
    found = tallies.of_entities(counted[0], counted[1], counted[2], words).scores(weights(draws))
    for at, draw in enumerate(draws):
        expected = metrics.compute(["seqeval"], *([side[one] for one in draw] for side in (predictions, references)))
        assert {name: np.nan_to_num(found[name][at]) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_numbers(offset: float) -> None:
    references = RANDOM.integers(4, size=30) + offset  # with equal ones among them
    predictions = references + RANDOM.normal(size=30)
    draws = resamples(30)
    found = tallies.NumberTally(predictions, references).scores(weights(draws))
    names = ["mse", "pearsonr", "spearmanr", "glue/stsb"]
    for at, draw in enumerate(draws):
        expected = metrics.compute(names, predictions[draw], references[draw])
        assert {name: found[name][at] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert np.isnan(tallies.NumberTally(np.ones(3), np.arange(3.0)).scores(np.ones((1, 3)))["pearsonr"]).all()


def test_the_interval_is_that_of_scipy() -> None:
    right = np.arange(200) % 4 > 0
    tally = tallies.of_classes(right.astype(int), np.ones(200, int), ["a", "b"])
    mine = tallies.intervals(tally, 4000, seed=1)["accuracy"]
    theirs = stats.bootstrap((right,), np.mean, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    assert mine.value == 0.75
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert tallies.intervals(tally, 100, seed=1) == tallies.intervals(tally, 100, seed=1)
    assert tallies.intervals(tally, 100, seed=1) != tallies.intervals(tally, 100, seed=2)


def test_pieces_of_the_resamples_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = tallies.of_classes(np.arange(9) % 2, np.arange(9) % 3 % 2, ["a", "b"])
    whole = tallies.intervals(tally, 50, seed=3)
    monkeypatch.setattr(tallies, "_WEIGHTS_AT_ONCE", 60)
    assert tallies.intervals(tally, 50, seed=3) == whole


def test_what_is_undefined() -> None:
    # One row of ten has class b, and no resample without it has a recall of b: (9 / 10) ** 10 of them, a third.
    references = np.array([0] * 9 + [1])
    found = tallies.intervals(tallies.of_classes(references, references, ["a", "b"]), 1000, seed=0)
    recall = found["recall of b"]
    assert (recall.value, recall.low) == (1.0, 1.0) and 250 < recall.undefined < 450
    never = tallies.intervals(tallies.of_classes(references, references, ["a", "b", "c"]), 100, seed=0)
    assert never["f1 of c"] == tallies.Score(None, None, None, 100)
    assert never["f1_macro"].value == 1.0, "the mean of the classes that occur, as scikit-learn has it"
    single = tallies.intervals(tallies.of_classes(references[:1], references[:1], ["a", "b"]), 100, seed=0)
    assert single["accuracy"] == tallies.Score(1.0, None, None)


def test_parts_and_several() -> None:
    predictions, references = RANDOM.integers(2, size=(2, 20))
    tally = tallies.Tallies(
        (
            tallies.of_classes(predictions, references, ["a", "b"]),
            tallies.MeanTally("loss", np.arange(20.0), np.ones(20)),
        )
    )
    chosen = np.arange(20) < 5
    once = np.ones((1, 5))
    part = tally.take(chosen).scores(once)
    assert part["loss"].tolist() == [2.0]
    assert part["accuracy"] == (predictions == references)[:5].mean()
