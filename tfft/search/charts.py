"""The pictures of the report: where every mark and line lies, in an SVG's units. `report.html.jinja` draws them.

A mark's `kind` is its trial's status, or `best`; the page has a shape, a stroke and a colour for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tfft.pages import plots
from tfft.pages.numbers import short, shortened
from tfft.pages.plots import Frame, Label, NumberAxis, Tick, heights, path
from tfft.search import axes
from tfft.search.axes import Axis
from tfft.search.facts import Sweep, Trial

# What share of a choice's column the marks of its trials are spread over.
_JITTER = 0.6
# A loss that is so many times the least one needs a logarithmic axis for the others to be told apart.
_FAR = 30.0


@dataclass(frozen=True)
class Mark:
    """A point of a trial."""

    trial: int
    kind: str
    x: float
    y: float
    told: str


@dataclass(frozen=True)
class Line:
    """A line of a trial, `path` as an SVG has it."""

    trial: int
    kind: str
    path: str
    told: str


@dataclass(frozen=True)
class Scatter:
    """Scores against one parameter.

    Attributes:
        without_score: the height at which trials lie that have none; None where all have one.
        inactive: how many trials do not have the parameter.
    """

    key: str
    name: str
    frame: Frame
    is_log: bool
    x_labels: tuple[Label, ...]
    y_labels: tuple[Label, ...]
    marks: tuple[Mark, ...]
    without_score: float | None
    inactive: int


@dataclass(frozen=True)
class Post:
    """An axis of the parallel coordinates; `name` in lines, `labels` along it."""

    x: float
    name: tuple[str, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Parallel:
    """All parameters and the score, one post each. `absent` is the height of what has no value; None where all have."""

    frame: Frame
    posts: tuple[Post, ...]
    lines: tuple[Line, ...]
    absent: float | None


@dataclass(frozen=True)
class Curves:
    """A number by epoch, a line for every execution."""

    key: str
    frame: Frame
    is_log: bool
    x_labels: tuple[Label, ...]
    y_labels: tuple[Label, ...]
    lines: tuple[Line, ...]


def parameter_axes(sweep: Sweep) -> dict[str, Axis]:
    """The axis of every parameter that was declared or tried."""
    return {
        key: axes.of_parameter(declared, [one.values[key] for one in sweep.trials if key in one.values])
        for key, declared in sweep.parameters.items()
    }


def score_axis(sweep: Sweep) -> NumberAxis:
    """Of all scores, with a little room."""
    return plots.of_numbers((one.score for one in sweep.trials if one.score is not None), margin=0.06)


def kind_of(trial: Trial, sweep: Sweep) -> str:
    """How the trial is drawn."""
    return "best" if trial is sweep.best else trial.status


def scatter(sweep: Sweep, key: str, name: str, axis: Axis) -> Scatter:
    """The scores of all trials against the parameter `key`, which is called `name`.

    In a choice's column marks lie side by side, by the trials' numbers. Trials without a score lie beneath the axis.
    """
    shown = [one for one in _best_last(sweep) if key in one.values]
    has_strip = any(one.score is None for one in shown)
    frame = Frame(width=340, height=250, left=46, right=328, top=12, bottom=186 if has_strip else 214)
    strip = frame.bottom + 18.0
    vertical = score_axis(sweep)
    marks = []
    for trial in shown:
        share, height = _spread_share(axis, trial, key), vertical.share(trial.score)
        if share is None:
            continue
        y = strip if height is None else frame.y(height)
        told = f"trial {trial.number}: {name} {short(trial.values[key])}, {sweep.objective} {_score(trial)}"
        marks.append(Mark(trial.number, kind_of(trial, sweep), frame.x(share), y, told))
    return Scatter(
        key,
        name,
        frame,
        _is_log(axis),
        tuple(Label(frame.x(one.share), one.text) for one in _uncrowded(axis.ticks(), letters=46)),
        heights(vertical.ticks(), frame),
        tuple(marks),
        strip if has_strip else None,
        len(sweep.trials) - len(shown),
    )


def parallel(sweep: Sweep, names: Mapping[str, str], by_key: Mapping[str, Axis]) -> Parallel:
    """A line for every trial through its values of all parameters to its score; what it lacks lies beneath."""
    every: list[tuple[str, Axis]] = [(names[key], axis) for key, axis in by_key.items()]
    every.append((sweep.objective, score_axis(sweep)))
    between = min(220, max(118, 960 // max(1, len(every) - 1)))
    left, right = 64, 64 + between * (len(every) - 1)
    frame = Frame(width=right + 76, height=332, left=left, right=right, top=76, bottom=292)
    beneath = frame.bottom + 26.0
    lines, lacking = [], False
    for trial in _best_last(sweep):
        shares = [_spread_share(axis, trial, key) for key, axis in by_key.items()]
        shares.append(every[-1][1].share(trial.score))
        lacking = lacking or None in shares
        points = [
            (frame.left + between * place, beneath if share is None else frame.y(share))
            for place, share in enumerate(shares)
        ]
        told = f"trial {trial.number} ({trial.status}): {sweep.objective} {_score(trial)}"
        lines.append(Line(trial.number, kind_of(trial, sweep), path(points), told))
    posts = tuple(
        Post(frame.left + between * place, _title(name, axis), heights(axis.ticks(6), frame))
        for place, (name, axis) in enumerate(every)
    )
    return Parallel(frame, posts, tuple(lines), beneath if lacking else None)


def curves(sweep: Sweep) -> list[Curves]:
    """A picture of everything that was written down by epoch: the objective first, then losses, then the rest."""
    keys = {key for trial in sweep.trials for run in trial.executions for row in run.curve for key in row} - {"epoch"}
    first = [f"val_{sweep.objective}", sweep.objective, "val_loss", "loss"]
    order = sorted(keys, key=lambda key: (first.index(key) if key in first else len(first), key))
    return [_curves_of(sweep, key) for key in order]


def _curves_of(sweep: Sweep, key: str) -> Curves:
    frame = Frame(width=400, height=260, left=46, right=388, top=12, bottom=224)
    runs = [
        (trial, [(row["epoch"], row[key]) for row in execution.curve if "epoch" in row and key in row])
        for trial in _best_last(sweep)
        for execution in trial.executions
    ]
    values = [value for _, points in runs for _, value in points]
    is_far = key.endswith("loss") and bool(values) and min(values) > 0 and max(values) > _FAR * min(values)
    horizontal = plots.of_numbers((epoch for _, points in runs for epoch, _ in points), margin=0.03)
    vertical = plots.of_numbers(values, is_far, margin=0.05)
    lines = []
    for trial, points in runs:
        if not points:
            continue
        places = [(frame.x(horizontal.share(x) or 0.0), frame.y(vertical.share(y) or 0.0)) for x, y in points]
        told = f"trial {trial.number}: {key} {short(points[-1][1])} after epoch {short(points[-1][0])}"
        lines.append(Line(trial.number, kind_of(trial, sweep), path(places), told))
    whole = [one for one in horizontal.ticks(8) if "." not in one.text]
    return Curves(
        key,
        frame,
        vertical.is_log,
        tuple(Label(frame.x(one.share), one.text) for one in whole),
        heights(vertical.ticks(), frame),
        tuple(lines),
    )


# --- Small things -----------------------------------------------------------------------------------------------------


def wrapped(name: str, letters: int = 17) -> tuple[str, ...]:
    """A name in lines, broken after `_` and `.`; at most three, of which the last is cut off where it is too long.

    Example:
        >>> wrapped("per_device_train_batch_size")
        ('per_device_train_', 'batch_size')
    """
    lines = [""]
    for part in name.replace("_", "_\0").replace(".", ".\0").split("\0"):
        if lines[-1] and len(lines[-1] + part) > letters:
            lines.append("")
        lines[-1] += part
    if len(lines) > 3:
        lines[2:] = ["".join(lines[2:])]
    return tuple(shortened(line, letters + 3) for line in lines)


def _best_last(sweep: Sweep) -> list[Trial]:
    """What is drawn last lies on top."""
    return sorted(sweep.trials, key=lambda one: (one is sweep.best, one.number))


def _spread_share(axis: Axis, trial: Trial, key: str) -> float | None:
    """The place of a trial's value; in a choice's column, one beside the other by the trials' numbers."""
    share = axis.share(trial.values[key]) if key in trial.values else None
    if share is None or isinstance(axis, NumberAxis):
        return share
    # Multiples of the golden ratio are far apart for numbers that follow each other.
    return share + (trial.number * 0.6180339887 % 1 - 0.5) * _JITTER / len(axis.choices)


def _title(name: str, axis: Axis) -> tuple[str, ...]:
    return (*wrapped(name), "logarithmic") if _is_log(axis) else wrapped(name)


def _score(trial: Trial) -> str:
    return trial.status if trial.score is None else short(trial.score)


def _is_log(axis: Axis) -> bool:
    return isinstance(axis, NumberAxis) and axis.is_log


def _uncrowded(ticks: Iterable[Tick], letters: int) -> list[Tick]:
    """With texts cut so that they fit side by side where there is room for so many letters."""
    ticks = list(ticks)
    room = max(3, letters // max(1, len(ticks)))
    return [Tick(one.share, shortened(one.text, room)) for one in ticks]
