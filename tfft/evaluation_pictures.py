"""An evaluation as pictures: confusion matrix, reliability, thresholds, predicted against true numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfft import drawing
from tfft.evaluation import Calibration, Confusion, Evaluation, Thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More classes than this make no picture that can be read.
_MOST_CLASSES = 100


def draw(found: Evaluation, folder: Path, numbers: tuple[np.ndarray, np.ndarray] | None = None) -> list[Path]:
    """Draws what there is to draw, as PNG.

    Args:
        folder: where the pictures go; it has to be there.
        numbers: predicted and true ones, where those are learned.

    Returns:
        The files.
    """
    made = []
    if found.confusion is not None and len(found.confusion.names) <= _MOST_CLASSES:
        made.append(folder / "confusion.png")
        _draw_confusion(found.confusion, made[-1])
    if found.calibration is not None:
        made.append(folder / "reliability.png")
        _draw_reliability([found.calibration, *([found.calibrated] if found.calibrated else [])], made[-1])
    if found.thresholds is not None:
        made.append(folder / "thresholds.png")
        _draw_thresholds(found.thresholds, made[-1])
    if numbers is not None:
        made.append(folder / "numbers.png")
        _draw_numbers(*numbers, made[-1])
    return made


def _draw_confusion(confusion: Confusion, path: Path) -> None:
    title = "true class: lines; predicted: columns"
    drawing.heat_map(confusion.counts, confusion.names, confusion.names, title, numbers=True).save(path, "PNG")


def _axes(title: str, across: str, up: str) -> Axes:
    from matplotlib.figure import Figure

    # No text of the data goes into these: it could be a formula, or in letters that the font lacks.
    axes = Figure(figsize=(6, 5), dpi=120, layout="constrained").add_subplot()
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return axes


def _save(axes: Axes, path: Path) -> None:
    axes.legend(loc="best")
    figure = axes.get_figure(root=True)
    assert figure is not None, "the axes were made in one"
    figure.savefig(path, format="png")


def _draw_reliability(curves: list[Calibration], path: Path) -> None:
    axes = _axes("Are probabilities what they say?", "probability said", "share that is right")
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="calibrated")
    for curve, colour in zip(curves, ("tab:blue", "tab:green"), strict=False):
        filled = [one for one in curve.bins if one.answers]
        across, up = [one.probability for one in filled], [one.right for one in filled]
        of = "as the model is" if curve.temperature == 1 else f"at temperature {curve.temperature:.3g}"
        axes.plot(across, up, color=colour, label=f"{of}: ECE {curve.ece:.3f}")  # type: ignore[arg-type]
        # The larger a point, the more answers are in it.
        sizes = 20 + 180 * np.asarray([one.answers for one in filled]) / max(one.answers for one in filled)
        axes.scatter(across, up, s=sizes, color=colour, alpha=0.5)  # type: ignore[arg-type]
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _save(axes, path)


def _draw_thresholds(found: Thresholds, path: Path) -> None:
    axes = _axes("Yes from which probability on?", "threshold", "score")
    curve = found.curve
    for name, values, colour in (
        ("precision", curve.precision, "tab:blue"),
        ("recall", curve.recall, "tab:orange"),
        ("F1", curve.f1, "tab:green"),
    ):
        axes.plot(curve.thresholds, values, color=colour, drawstyle="steps-pre", label=name)
    axes.axvline(found.threshold, color="0.4", linestyle="--", label=f"the model's: {found.threshold:.3g}")
    axes.axvline(found.best, color="tab:red", linestyle=":", label=f"largest F1 here: {found.best:.3g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _save(axes, path)


def _draw_numbers(predictions: np.ndarray, references: np.ndarray, path: Path) -> None:
    axes = _axes("Predicted and true", "true", "predicted")
    low, high = (float(side([predictions, references])) for side in (np.min, np.max))
    axes.plot([low, high], [low, high], color="0.6", linestyle="--", label="the same")
    axes.scatter(references, predictions, s=8, color="tab:blue", alpha=0.5, label="rows")
    _save(axes, path)
