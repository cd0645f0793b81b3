"""An evaluation on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from tfft.console import Voice, printable
from tfft.evaluation import Calibration, Confusion, Evaluation
from tfft.tallies import Score

# More classes than this have no table of all that was taken for what, but the most frequent mistakes.
_MOST_COLUMNS = 10
_MOST_MISTAKES = 15
# Classes and slices that are shown; the file has all.
_MOST_ROWS = 30
_LONGEST = 32


def show(voice: Voice, found: Evaluation, title: str) -> None:
    """Says all of it, in tables."""
    rows = [[name, _value(score.value), _interval(score)] for name, score in found.scores.items()]
    voice.table(f"{title} ({found.rows:,} {found.unit})", ["", "score", "95 % interval"], rows)
    if found.classes:
        _show_classes(voice, found)
    if found.confusion is not None:
        _show_confusion(voice, found.confusion, "words" if found.unit == "sentences" else "rows")
    if found.residuals is not None:
        of = found.residuals
        quantiles = ", ".join(f"{name}: {value:.4g}" for name, value in of.quantiles.items())
        voice.say(
            f"residuals: mean {of.mean:.4g}, standard deviation {of.standard_deviation:.4g}, mean size "
            f"{of.mean_absolute:.4g}, R² {_value(of.r_squared)}; quantiles {quantiles}"
        )
    if found.calibration is not None:
        _show_calibration(voice, found.calibration, found.calibrated)
    if found.thresholds is not None:
        of_best = found.thresholds
        voice.say(
            f"threshold of {printable(of_best.of, _LONGEST)}: the model decides by {of_best.threshold:.4g}; on these "
            f"rows {of_best.best:.4g} has the largest F1, {of_best.best_f1:.4f}"
        )
    _show_slices(voice, found)
    undefined = {name: score.undefined for name, score in found.scores.items() if score.undefined}
    for name, count in undefined.items():
        voice.say(
            f"{name} is not defined in {count:,} of the {found.resamples:,} resamples (such as those that lack a "
            "class), which its interval leaves out"
        )


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(score: Score) -> str:
    return "-" if score.low is None or score.high is None else f"{score.low:.4f} to {score.high:.4f}"


def _show_classes(voice: Voice, found: Evaluation) -> None:
    shown = found.classes[:_MOST_ROWS]
    what = "type of entity" if found.unit == "sentences" else "class"
    title = f"By {what}" + (
        f" (the first {len(shown)} of {len(found.classes)})" if len(found.classes) > len(shown) else ""
    )
    rows = [
        [
            printable(one.name, _LONGEST),
            f"{one.wanted:,}",
            f"{one.predicted:,}",
            *(f"{_value(score.value)} ({_interval(score)})" for score in (one.precision, one.recall, one.f1)),
        ]
        for one in shown
    ]
    voice.table(title, ["", "there", "predicted", "precision", "recall", "F1"], rows)


def _show_confusion(voice: Voice, confusion: Confusion, unit: str) -> None:
    names = [printable(name, _LONGEST) for name in confusion.names]
    if len(names) <= _MOST_COLUMNS:
        rows = [[name, *(f"{count:,}" for count in line)] for name, line in zip(names, confusion.counts, strict=True)]
        voice.table(f"True class (lines), predicted class (columns), {unit}", ["", *names], rows)
        return
    wrong = confusion.counts.copy()
    np.fill_diagonal(wrong, 0)
    mistakes = [divmod(int(at), len(names)) for at in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_MISTAKES]]
    rows = [[names[true], names[taken], f"{wrong[true, taken]:,}"] for true, taken in mistakes if wrong[true, taken]]
    if rows:
        voice.table(f"What is taken for what most often, {unit}", ["true class", "predicted", unit], rows)


def _show_calibration(voice: Voice, plain: Calibration, calibrated: Calibration | None) -> None:
    voice.say(_calibration_line("as the model is", plain))
    if calibrated is not None:
        voice.say(_calibration_line(f"at temperature {calibrated.temperature:.4f}", calibrated))


def _calibration_line(of: str, found: Calibration) -> str:
    filled = [
        f"{one.probability:.2f}→{one.right:.2f} ({one.answers:,})"
        for one in found.bins
        if one.probability is not None and one.right is not None
    ]
    return f"calibration {of}: ECE {found.ece:.4f}, NLL {found.nll:.4f}; said→right: {', '.join(filled)}"


def _show_slices(voice: Voice, found: Evaluation) -> None:
    for by, grouped in groupby(found.slices, key=lambda one: one.by):
        some = list(grouped)
        names: Sequence[str] = list(dict.fromkeys(name for one in some for name in one.scores))
        rows = [
            [
                printable(one.name, _LONGEST),
                f"{one.rows:,}",
                *(f"{_value(one.scores[name].value)} ({_interval(one.scores[name])})" for name in names),
            ]
            for one in some[:_MOST_ROWS]
        ]
        voice.table(f"By {printable(by, _LONGEST)}", ["", found.unit, *names], rows)
