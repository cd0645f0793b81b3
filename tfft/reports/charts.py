"""The pictures of a run's report: where every line lies, in an SVG's units. `report.html.jinja` draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfft.evaluation import Calibration, Confusion, Thresholds
from tfft.pages import plots
from tfft.pages.numbers import shortened
from tfft.pages.plots import Frame, Label, NumberAxis

Points = Sequence[tuple[float, float]]

# Classes of a confusion matrix that can be read; and the shades of its cells.
_MOST_CLASSES = 30
_SHADES = 9
_BARS = 40
_LONGEST_NAME = 24


@dataclass(frozen=True)
class Line:
    """A line: its name, the style that it has (1 to 4), and its path."""

    name: str
    style: int
    path: str


@dataclass(frozen=True)
class Chart:
    """Some lines with the axes that they share."""

    title: str
    across: str
    frame: Frame
    x_labels: tuple[Label, ...]
    y_labels: tuple[Label, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Cell:
    """How many rows of a true class were taken for another, and how dark that is, 0 to 9, within its class."""

    count: int
    shade: int


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix as a table: the names of the classes, and a line of cells for each true one."""

    names: tuple[str, ...]
    lines: tuple[tuple[Cell, ...], ...]


def chart(
    title: str,
    across: str,
    series: Mapping[str, Points],
    x_axis: NumberAxis | None = None,
    y_axis: NumberAxis | None = None,
) -> Chart:
    """A line for each series, in the styles 1, 2, 3, 4, and 1 again.

    Args:
        across: what the horizontal axis is.
        series: name to points, by x.
        x_axis, y_axis: None makes room for all points.
    """
    frame = Frame(width=420, height=260, left=50, right=408, top=12, bottom=224)
    points = [point for one in series.values() for point in one]
    x_axis = x_axis or plots.of_numbers((x for x, _ in points), margin=0.03)
    y_axis = y_axis or plots.of_numbers((y for _, y in points), margin=0.05)
    lines = tuple(
        Line(name, place % 4 + 1, plots.path(_places(one, frame, x_axis, y_axis)))
        for place, (name, one) in enumerate(series.items())
        if one
    )
    marks = tuple(Label(frame.x(tick.share), tick.text) for tick in x_axis.ticks(8))
    return Chart(title, across, frame, marks, plots.heights(y_axis.ticks(), frame), lines)


def _places(points: Points, frame: Frame, x_axis: NumberAxis, y_axis: NumberAxis) -> list[tuple[float, float]]:
    return [(frame.x(x_axis.share(x) or 0.0), frame.y(y_axis.share(y) or 0.0)) for x, y in points]


def learning_curves(history: Sequence[Mapping[str, float]]) -> list[Chart]:
    """The loss, every score and the learning rate by epoch, in training and in validation where it is known of both."""
    columns = dict.fromkeys(name for row in history for name in row if name != "epoch")
    charts = []
    for name in dict.fromkeys(column.removeprefix("val_") for column in columns):
        sides = {"training": name, "validation": f"val_{name}"}
        series = {
            side: [(row["epoch"], row[column]) for row in history if column in row]
            for side, column in sides.items()
            if column in columns
        }
        title = f"{name} in validation" if list(series) == ["validation"] else name
        made = chart(title, "epoch", series)
        whole_epochs = tuple(one for one in made.x_labels if "." not in one.text)
        charts.append(replace(made, x_labels=whole_epochs))
    return charts


def reliability(found: Calibration) -> Chart:
    """The share that is right by the probability that was given."""
    points = [(one.probability, one.right) for one in found.bins if one.answers]
    unit = NumberAxis(0.0, 1.0)
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return chart(
        "Are probabilities what they say?",
        "probability said; upwards the share that is right",
        {"this model": known, "if they were": [(0.0, 0.0), (1.0, 1.0)]},
        unit,
        unit,
    )


def thresholds(found: Thresholds) -> Chart:
    """Precision, recall and F1 by the probability from which on the answer is yes."""
    curve, unit = found.curve, NumberAxis(0.0, 1.0)
    series = {
        name: list(zip(curve.thresholds.tolist(), values.tolist(), strict=True))
        for name, values in (("F1", curve.f1), ("precision", curve.precision), ("recall", curve.recall))
    }
    return chart("Yes from which probability on?", "threshold", series, unit, unit)


def lengths(counts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Chart:
    """The share of each split's rows by their number of tokens.

    Args:
        counts: split to the lengths that occur and how many rows have each.
    """
    longest = max(int(lengths.max()) for lengths, _ in counts.values())
    width = -(-(longest + 1) // _BARS)
    edges = np.arange(0, longest + width + 1, width)
    series = {}
    for name, (of_rows, rows) in counts.items():
        shares, _ = np.histogram(of_rows, edges, weights=rows)
        series[name] = _steps(edges, shares / rows.sum())
    highest = max(y for points in series.values() for _, y in points)
    return chart("Length", "tokens; upwards the share of the rows", series, y_axis=NumberAxis(0.0, highest * 1.05))


def _steps(edges: np.ndarray, shares: Iterable[float]) -> list[tuple[float, float]]:
    """The outline of bars."""
    points = []
    for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True):
        points += [(float(left), float(share)), (float(right), float(share))]
    return points


def matrix(found: Confusion) -> Matrix | None:
    """The confusion matrix, a cell the darker the more of its true class are in it; None of too many classes."""
    if len(found.names) > _MOST_CLASSES:
        return None
    sums = np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    shades = np.ceil(found.counts / sums * _SHADES).astype(int)
    return Matrix(
        tuple(shortened(name, _LONGEST_NAME) for name in found.names),
        tuple(
            tuple(Cell(int(count), int(shade)) for count, shade in zip(of_class, dark, strict=True))
            for of_class, dark in zip(found.counts, shades, strict=True)
        ),
    )


def frequent_mistakes(found: Confusion, most: int) -> list[tuple[str, str, int]]:
    """True class, the class that it was taken for, and how often; the most frequent first."""
    wrong = found.counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [tuple(int(one) for one in np.unravel_index(at, wrong.shape)) for at in order]
    return [(found.names[one], found.names[other], int(wrong[one, other])) for one, other in pairs if wrong[one, other]]
