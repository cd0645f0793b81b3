"""What a person sees of a sweep: a table that lives on a terminal, a line a trial elsewhere."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfft.console import Voice, printable
from tfft.search.trials import PROGRESS, Search, best_of
from tfft.whole import read_json

# Wide enough for a value, and for the first words of a failure.
_VALUE_LIMIT, _REASON_LIMIT = 24, 60
# Rows of trials that have ended on a terminal; the others are in the report.
_ROWS = 25


def value(one: Any) -> str:
    """A parameter's value, short.

    Example:
        >>> value(3.1416e-05), value(True), value(None), value(16)
        ('3.1416e-05', 'true', 'null', '16')
    """
    if isinstance(one, float):
        return f"{one:.5g}"
    return printable(one if isinstance(one, str) else json.dumps(one), _VALUE_LIMIT)


def values(chosen: Mapping[str, Any]) -> str:
    """Parameters and their values on one line."""
    return " ".join(f"{key.rpartition('.')[2]}={value(one)}" for key, one in chosen.items())


def score(record: Mapping[str, Any]) -> str:
    """A trial's score, with its spread where there is one."""
    if record["score"] is None:
        return ""
    spread = "" if record["spread"] is None else f" ± {record['spread']:.4f}"
    return f"{record['score']:.4f}{spread}"


def ended(search: Search, record: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    """A line on a trial that has ended."""
    what = f"{record['status']}: {printable(record['reason'], _REASON_LIMIT)}"
    if record["score"] is not None:
        so_far = "" if best is None else f", best so far {score(best)} (trial {best['number']})"
        what = f"{search.objective} {score(record)}{'' if record['status'] == 'completed' else ', pruned'}{so_far}"
    return f"trial {record['number']}: {values(record['values'])}: {what} ({record['seconds']:,.0f} s)"


def time_left(records: Sequence[Mapping[str, Any]], total: int | None, slots: int) -> float | None:
    """Seconds until the last trial, if they go on like those that have ended; None where that cannot be told."""
    if not records or total is None or total <= len(records):
        return None
    mean = sum(one["seconds"] for one in records) / len(records)
    return (total - len(records)) * mean / max(slots, 1)


class LiveTable:
    """The state of a sweep, drawn again and again.

    Args:
        running: gives number and values of the trials that run.
        total: trials in all, where that is known.
    """

    def __init__(
        self,
        search: Search,
        voice: Voice,
        records: Callable[[], Sequence[Mapping[str, Any]]],
        running: Callable[[], Sequence[tuple[int, Mapping[str, Any]]]],
        total: int | None,
        slots: int,
    ) -> None:
        self.search, self.voice, self.records, self.running = search, voice, records, running
        self.total, self.slots = total, slots

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """On a terminal the table is there while the body runs."""
        if not self.voice.is_terminal:
            yield
            return
        with Live(get_renderable=self.drawn, console=self.voice.console, refresh_per_second=2, redirect_stdout=False):
            yield

    def drawn(self) -> RenderableType:
        """The table as it is now."""
        search, records = self.search, self.records()
        best = best_of(search, records)
        names = [*search.sweep.parameters]
        table = Table(title=f"Sweep of {search.recipe.name}", title_justify="left")
        for name in ("trial", *(one.rpartition(".")[2] for one in names), "epoch", search.objective, "state"):
            table.add_column(Text(name))
        for one in records[-_ROWS:]:
            mark = "best" if best is not None and one["number"] == best["number"] else one["status"]
            cells = [value(one["values"][name]) if name in one["values"] else "" for name in names]
            last = one["executions"][0]["curve"][-1:] if one["executions"] else []
            epoch = f"{last[0]['epoch']:g}" if last else ""
            table.add_row(*map(Text, (str(one["number"]), *cells, epoch, score(one), mark)))
        for number, chosen in self.running():
            cells = [value(chosen[name]) if name in chosen else "" for name in names]
            table.add_row(*map(Text, (str(number), *cells, *self._progress(number), "running")))
        return Group(table, Text(self._summary(records, best)))

    def _progress(self, number: int) -> tuple[str, str]:
        """Epochs and the last score of a trial that runs."""
        told = read_json(self.search.file(PROGRESS, number, ".json"))
        if not told:
            return "", ""
        of = "" if told["of"] is None else f" of {told['of']:g}"
        return f"{told['epoch']:.1f}{of}", f"{told['scores'][-1]:.4f}" if told["scores"] else ""

    def _summary(self, records: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> str:
        of = "" if self.total is None else f" of {self.total}"
        said = [f"{len(records)}{of} trials"]
        if best is not None:
            said.append(f"best {score(best)} (trial {best['number']})")
        left = time_left(records, self.total, self.slots)
        if left is not None:
            said.append(f"about {left / 60:,.0f} min left")
        return ", ".join(said)
