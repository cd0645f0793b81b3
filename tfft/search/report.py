"""The page of a sweep: one HTML file that fetches nothing. `sweep.json` in, text out.

`charts` settles where everything lies, `report.html.jinja` and `report.css` how it looks; `report.js` sorts, copies and
highlights. Without scripts all is there, unsorted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfft import pages
from tfft.pages.numbers import number, short
from tfft.search import charts, facts, importance
from tfft.search.axes import Axis
from tfft.search.cost import cost_of
from tfft.search.facts import Sweep, Trial, short_names

# Of a mark, around its place: a dot, a triangle, a cross, a ring, a star.
SHAPES: Mapping[str, str] = {
    "completed": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "pruned": "M0,-5L5,4L-5,4z",
    "failed": "M-4,-4L4,4M-4,4L4,-4",
    "running": "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",
    "best": "M0,-9L2.6,-3.2L8.6,-2.8L4,1.2L5.5,7.4L0,4L-5.5,7.4L-4,1.2L-8.6,-2.8L-2.6,-3.2z",
}
ALGORITHMS: Mapping[str, str] = {
    "random": "Random search",
    "grid": "Grid search",
    "bayesian": "Bayesian optimisation",
    "hyperband": "Hyperband",
}


@dataclass(frozen=True)
class Cell:
    """What a table shows, and what it is sorted by: `sort` is empty where there is nothing, and goes last."""

    text: str
    sort: str


@dataclass(frozen=True)
class Column:
    """A column of the table of trials, a cell for every trial, the best first."""

    name: str
    title: str
    is_number: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Searched:
    """A parameter in words: `where` it was looked for, `when` it is active."""

    key: str
    where: str
    when: str


def page(told: Mapping[str, Any]) -> str:
    """The report of a sweep as one HTML document, which needs no network and no other file.

    Args:
        told: what the sweep writes as `sweep.json`; see `tfft.search.facts`.
    """
    sweep = facts.read(told)
    names, by_key = short_names(sweep.parameters), charts.parameter_axes(sweep)
    ranked = sweep.ranked()
    return pages.template(__package__, "report", exact=exact).render(
        sweep=sweep,
        algorithm=ALGORITHMS.get(sweep.algorithm, sweep.algorithm),
        names=names,
        space=[Searched(key, *_described(one, names)) for key, one in sweep.parameters.items()],
        ranked=ranked,
        columns=table(sweep, ranked, names),
        scatters=[charts.scatter(sweep, key, names[key], axis) for key, axis in by_key.items()],
        parallel=charts.parallel(sweep, names, by_key),
        curves=charts.curves(sweep),
        kinds=list(dict.fromkeys(charts.kind_of(one, sweep) for one in ranked)),
        shapes=SHAPES,
        importance=_importance(sweep, by_key),
        method=importance.METHOD,
        cost=cost_of(sweep),
    )


# --- What the tables show ---------------------------------------------------------------------------------------------


def table(sweep: Sweep, ranked: Sequence[Trial], names: Mapping[str, str]) -> list[Column]:
    """The columns of the trials' table, without the last, which holds commands.

    A column is sorted as numbers where all that it holds are numbers.
    """
    better = "larger" if sweep.direction == "max" else "smaller"
    columns = [
        _column("trial", "number of the trial", [one.number for one in ranked]),
        _column("status", "how it ended", [one.status for one in ranked]),
        _column(sweep.objective, f"the objective; {better} is better", [one.score for one in ranked]),
        *(_column(names[key], key, [_tried(one, key) for one in ranked]) for key in sweep.parameters),
        _column("epochs", "trained in this trial", [one.epochs for one in ranked]),
        _column("seconds", "of all its executions", [one.seconds for one in ranked]),
    ]
    if any(one.continues is not None for one in ranked):
        columns.append(_column("went on from", "trial whose checkpoint it took up", [one.continues for one in ranked]))
    return columns


def _column(name: str, title: str, values: Sequence[Any]) -> Column:
    given = [one for one in values if one is not None]
    is_number = bool(given) and all(number(one) is not None for one in given)
    return Column(name, title, is_number, tuple(_cell(one) for one in values))


def _tried(trial: Trial, key: str) -> Any:
    """The value; None where the parameter is not active, and a word where nothing is its value."""
    return "null" if trial.values.get(key, "") is None else trial.values.get(key)


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("", "")
    as_number = number(value)
    return Cell(short(value), short(value) if as_number is None else repr(as_number))


def _described(declared: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, str]:
    """What a parameter was looked for in, and when it is active: words."""
    if "values" in declared:
        where = ", ".join(short(one) for one in declared["values"])
    elif "min" in declared and "max" in declared:
        where = f"{short(declared['min'])} to {short(declared['max'])}"
        where += ", logarithmic" if declared.get("scale") == "log" else ""
    else:
        where = "not said"
    when = [
        f"{names.get(key, key)} is {' or '.join(short(one) for one in wanted)}"
        for key, wanted in (declared.get("when") or {}).items()
    ]
    return where, " and ".join(when)


def exact(value: Any) -> str:
    """A value as it was used, with all its digits."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


# --- Parts ------------------------------------------------------------------------------------------------------------


def _importance(sweep: Sweep, by_key: Mapping[str, Axis]) -> importance.Importance:
    scored = sweep.scored
    scores = [one.score for one in scored if one.score is not None]
    seed = (sweep.seed or 0) % 2**32  # as scikit-learn takes them
    return importance.measure(by_key, [one.values for one in scored], scores, seed)
