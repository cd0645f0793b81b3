"""All that is said of a model's answers on one split: scores with intervals, classes, calibration, slices."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tfft import calibration, metrics, slices, tallies, thresholds
from tfft.calibration import Bin
from tfft.data import Split, tags, words
from tfft.problems import MultiLabel, Problem, Regression, SingleLabel, Tokens
from tfft.slices import Slice
from tfft.tallies import ClassTally, MeanTally, NumberTally, Score, Tallies, Tally
from tfft.thresholds import ThresholdCurve

# Of the intervals; and the fewest rows of a column's value that has a slice of its own.
RESAMPLES, MIN_ROWS = 1000, 10
# Points of a threshold curve that are kept.
_POINTS = 201


@dataclass(frozen=True)
class ClassScores:
    """One class, or one type of entities: how often it is wanted, predicted and right, and its scores."""

    name: str
    wanted: int
    predicted: int
    right: int
    precision: Score
    recall: Score
    f1: Score


@dataclass(frozen=True)
class Confusion:
    """How many rows (of words that have tags, words) of which class were taken for which.

    Attributes:
        names: of the classes.
        counts: (classes, classes), a row for each true class.
    """

    names: tuple[str, ...]
    counts: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities are what they say, at one temperature; see `tfft.calibration`.

    Attributes:
        temperature: what logits were divided by.
        ece: the expected calibration error.
        nll: the negative log-likelihood, which is the loss.
        bins: the reliability curve.
    """

    temperature: float
    ece: float
    nll: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Thresholds:
    """Precision, recall and F1 from which probability on.

    Attributes:
        of: the class that it is about; all of them together where rows have several labels.
        threshold: that the model decides by.
        best, best_f1: the threshold with the largest F1 on these rows, and that F1.
        curve: at every probability that occurs, or evenly spread ones of them.
        best_of_label: where rows have several labels, the best threshold of each.
    """

    of: str
    threshold: float
    best: float
    best_f1: float
    curve: ThresholdCurve
    best_of_label: dict[str, float]


@dataclass(frozen=True)
class Residuals:
    """What is predicted less what is right, where that is a number.

    Attributes:
        mean, standard_deviation, mean_absolute: of the residuals.
        quantiles: at 0 (the least), 0.05, 0.25, 0.5, 0.75, 0.95, 1 (the greatest).
        r_squared: the share of the labels' variance that is explained; None where all are equal.
    """

    mean: float
    standard_deviation: float
    mean_absolute: float
    quantiles: dict[str, float]
    r_squared: float | None


@dataclass(frozen=True)
class SliceScores:
    """The scores of some of the rows.

    Attributes:
        by: what they are chosen by: `tokens`, `length`, `label`, `column NAME`.
        name: which of them.
    """

    by: str
    name: str
    rows: int
    scores: dict[str, Score]


@dataclass(frozen=True)
class Evaluation:
    """All that was found.

    Attributes:
        source: where the rows come from.
        rows: how many.
        unit: what is drawn for the intervals: `rows`, or `sentences` where words have tags.
        fingerprint: of the rows' tokens and labels.
        scores: by name, `loss` first.
        classes: one each; of tags one for each type of entities; empty where numbers are learned.
        confusion: None where a row has not one class.
        calibration: as the model is; None where numbers are learned.
        calibrated: at the run's temperature, where it has one.
        thresholds: where there are two classes, or several labels a row; None else, or where no row has one.
        residuals: where numbers are learned.
        slices: of the text's length, of the label, of columns.
        resamples, seed: of the intervals.
    """

    source: str
    rows: int
    unit: str
    fingerprint: str
    scores: dict[str, Score]
    classes: tuple[ClassScores, ...]
    confusion: Confusion | None
    calibration: Calibration | None
    calibrated: Calibration | None
    thresholds: Thresholds | None
    residuals: Residuals | None
    slices: tuple[SliceScores, ...]
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; what is not defined is null."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make(
    problem: Problem,
    logits: np.ndarray,
    split: Split,
    names: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    min_rows: int = MIN_ROWS,
    columns: Mapping[str, Sequence[Any]] | None = None,
    temperature: float | None = None,
) -> Evaluation:
    """All that can be said of a model's logits on a split with labels.

    Args:
        logits: (rows, outputs), or (tokens, outputs) where words have tags.
        names: of the metrics.
        resamples, seed: of the intervals.
        min_rows: slices of fewer rows are put together.
        columns: others of the same rows, to slice by.
        temperature: the run's, where it has one.
    """
    assert split.labels is not None
    labels, compared = split.labels, problem.compared(logits, split)
    values = {"loss": problem.mean_loss(logits, labels), **metrics.compute(names, *compared)}
    tally = _tally(problem, logits, split, compared, names)
    found = tallies.intervals(tally, resamples, seed)
    scores = {name: dataclasses.replace(found[name], value=_plain(value)) for name, value in values.items()}
    sure = None if isinstance(problem, Regression) else _counted(problem, logits, labels)
    return Evaluation(
        source=split.rows.source,
        rows=len(split),
        unit="sentences" if isinstance(problem, Tokens) else "rows",
        fingerprint=split.fingerprint(),
        scores=scores,
        classes=_classes(tally, found),
        confusion=_confusion(problem, compared),
        calibration=sure and _calibration(*sure, 1.0),
        calibrated=_calibration(*sure, temperature) if sure and temperature else None,
        thresholds=_thresholds(problem, logits, labels),
        residuals=_residuals(*compared) if isinstance(problem, Regression) else None,
        slices=tuple(
            SliceScores(by, one.name, int(one.chosen.sum()), _slice_scores(by, tally, one, values, resamples, seed))
            for by, some in _slices(problem, split, columns or {}, min_rows)
            for one in some
        ),
        resamples=resamples,
        seed=seed,
    )


# --- Scores of rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MetricTally:
    """Scores that do not follow from counts that are known here: the metric itself, once for every resample."""

    names: tuple[str, ...]
    predictions: Any
    references: Any

    def __len__(self) -> int:
        return len(self.references)

    def take(self, chosen: np.ndarray) -> _MetricTally:
        """Of these rows alone."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return _MetricTally(self.names, *(_at(side, places) for side in (self.predictions, self.references)))

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """What the metrics say of each resample."""
        draws = [np.repeat(np.arange(len(self)), one.astype(int)) for one in weights]
        found = [metrics.compute(self.names, _at(self.predictions, at), _at(self.references, at)) for at in draws]
        return {name: np.asarray([one.get(name, math.nan) for one in found]) for name in found[0]}


def _at(side: Any, places: np.ndarray) -> Any:
    return [side[place] for place in places] if isinstance(side, list) else side[places]


def _tally(
    problem: Problem, logits: np.ndarray, split: Split, compared: tuple[Any, Any], names: Sequence[str]
) -> Tally:
    labels = split.labels
    assert labels is not None
    parts: list[Tally] = []
    if isinstance(problem, Tokens):
        parts.append(_entities(*compared))
        parts.append(_loss_of_words(problem, logits, split))
    elif isinstance(problem, Regression):
        predictions, references = (np.asarray(one, np.float64) for one in compared)
        parts.append(NumberTally(predictions, references))
        parts.append(MeanTally("loss", (predictions - references) ** 2, np.ones(len(labels))))
    else:
        made = tallies.of_labels if isinstance(problem, MultiLabel) else tallies.of_classes
        parts.append(made(*compared, problem.names))
        parts.append(MeanTally("loss", calibration.negative_log_likelihoods(logits, labels), np.ones(len(labels))))
    if others := tuple(name for name in names if name not in metrics.NAMES):
        parts.append(_MetricTally(others, *compared))
    return Tallies(tuple(parts))


def _entities(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> ClassTally:
    wanted, predicted = ([set(tags.spans(one)) for one in side] for side in (references, predictions))
    both = [one & other for one, other in zip(wanted, predicted, strict=True)]
    of_wanted, of_predicted, of_both = (
        [Counter(kind for kind, _, _ in one) for one in side] for side in (wanted, predicted, both)
    )
    right = (sum(map(str.__eq__, one, other)) for one, other in zip(predictions, references, strict=True))
    return tallies.of_entities(of_wanted, of_predicted, of_both, list(zip(map(len, references), right, strict=True)))


def _loss_of_words(problem: Problem, logits: np.ndarray, split: Split) -> MeanTally:
    """Of the pieces that count, summed for each sentence."""
    assert split.words is not None and split.labels is not None
    counts = split.labels != words.IGNORED_LABEL
    losses = calibration.negative_log_likelihoods(*_counted(problem, logits, split.labels))
    sentences = split.words.rows[counts]
    return MeanTally(
        "loss",
        np.bincount(sentences, weights=losses, minlength=len(split)),
        np.bincount(sentences, minlength=len(split)).astype(float),
    )


def _counted(problem: Problem, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of what probabilities are given for: rows, or pieces of words that have tags."""
    if not isinstance(problem, Tokens):
        return logits, labels
    counts = labels != words.IGNORED_LABEL
    return logits[counts], labels[counts]


def fit_temperature(problem: Problem, logits: np.ndarray, split: Split) -> float:
    """The temperature of a model that gives probabilities, on a labelled split; see `calibration.fit_temperature`."""
    assert split.labels is not None
    return calibration.fit_temperature(*_counted(problem, logits, split.labels))


def _classes(tally: Tally, found: Mapping[str, Score]) -> tuple[ClassScores, ...]:
    first = tally.parts[0] if isinstance(tally, Tallies) else tally
    if not isinstance(first, ClassTally):
        return ()
    sums = [one[0].astype(int).tolist() for one in first.counts(np.ones((1, len(first))))[:3]]
    return tuple(
        ClassScores(name, *counts, *(found[f"{what} of {name}"] for what in ("precision", "recall", "f1")))
        for name, *counts in zip(first.names, *sums, strict=True)
    )


# --- Tables and curves ------------------------------------------------------------------------------------------------


def _confusion(problem: Problem, compared: tuple[Any, Any]) -> Confusion | None:
    predictions, references = compared
    names = problem.names
    if isinstance(problem, Tokens):
        predictions, references = ([tag for one in side for tag in one] for side in compared)
        # Words that were cut off are taken for O, which no word may have for its label.
        names = tuple(dict.fromkeys([*names, *predictions, *references]))
        places = {name: at for at, name in enumerate(names)}
        predictions, references = ([places[tag] for tag in side] for side in (predictions, references))
    elif not isinstance(problem, SingleLabel):
        return None
    counts = np.zeros([len(names)] * 2, np.int64)
    np.add.at(counts, (references, predictions), 1)
    return Confusion(names, counts)


def _calibration(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Calibration:
    bins = calibration.reliability(*calibration.answers(logits, labels, temperature))
    nll = calibration.negative_log_likelihoods(logits, labels, temperature).mean()
    return Calibration(temperature, calibration.expected_error(bins), float(nll), tuple(bins))


def _thresholds(problem: Problem, logits: np.ndarray, labels: np.ndarray) -> Thresholds | None:
    of_label: dict[str, float] = {}
    if isinstance(problem, MultiLabel):
        of, threshold = "all labels together", problem.threshold
        shares = special.expit(logits.astype(np.float64))
        for at, name in enumerate(problem.names):
            of_label[name] = thresholds.best_threshold(shares[:, at : at + 1], labels[:, at : at + 1])
    elif isinstance(problem, SingleLabel) and len(problem.names) == 2:
        of, threshold = problem.names[1], 0.5
        shares, labels = special.softmax(logits.astype(np.float64), axis=-1)[:, 1:], labels[:, np.newaxis]
    else:
        return None
    curve = thresholds.curve(shares, labels)
    if curve is None:
        return None
    best = thresholds.best_threshold(shares, labels)
    return Thresholds(of, threshold, best, float(curve.f1.max()), curve.thinned(_POINTS), of_label)


def _residuals(predictions: np.ndarray, references: np.ndarray) -> Residuals:
    residuals = np.asarray(predictions, np.float64) - references
    variance = float(np.var(np.asarray(references, np.float64)))
    return Residuals(
        float(residuals.mean()),
        float(residuals.std()),
        float(np.abs(residuals).mean()),
        {f"{at:g}": float(np.quantile(residuals, at)) for at in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)},
        1 - float((residuals**2).mean()) / variance if variance else None,
    )


# --- Slices -----------------------------------------------------------------------------------------------------------


def _slices(
    problem: Problem, split: Split, columns: Mapping[str, Sequence[Any]], min_rows: int
) -> Iterable[tuple[str, list[Slice]]]:
    encoded, rows = split.encoded, len(split)
    assert split.labels is not None
    starts = np.arange(rows + 1) if encoded.window_starts is None else encoded.window_starts
    yield "tokens", slices.by_quartiles(np.add.reduceat(encoded.lengths, starts[:-1]))
    is_long = encoded.lost_tokens > 0 if encoded.window_starts is None else np.diff(starts) > 1
    if is_long.any() and not is_long.all():
        what = "cut off" if encoded.window_starts is None else "in several windows"
        yield "length", [Slice("whole", ~is_long), Slice(what, is_long)]
    if isinstance(problem, SingleLabel):
        yield "label", slices.by_values([problem.names[at] for at in split.labels], min_rows)
    elif isinstance(problem, MultiLabel):
        by_label = [Slice(name, split.labels[:, at] > 0) for at, name in enumerate(problem.names)]
        frequent = sorted(by_label, key=lambda one: -int(one.chosen.sum()))[: slices.MOST_VALUES]
        yield "label", [one for one in frequent if one.chosen.sum() >= min_rows]
    elif isinstance(problem, Regression):
        yield "label", slices.by_quartiles(split.labels.astype(np.float64))
    for name, values in columns.items():
        yield f"column {name}", slices.by_values(values, min_rows)


def _slice_scores(
    by: str, tally: Tally, one: Slice, shown: Iterable[str], resamples: int, seed: int
) -> dict[str, Score]:
    """Those of all rows; of rows of one class alone, those that say something there."""
    part = tally.take(one.chosen)
    found = tallies.intervals(part, resamples, seed)
    if by == "label" and isinstance(part, Tallies) and getattr(part.parts[0], "kind", "") == "classes":
        shown = ("loss", "accuracy")
    return {name: found[name] for name in shown if name in found}
