"""What a person sees of a sweep: a table that lives on a terminal, a line a trial elsewhere."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfft.console import Voice, printable
from tfft.search.trials import PROGRESS, Search, best_of
from tfft.whole import read_json

# Wide enough for a value, and for the first words of a failure.
_VALUE_LIMIT, _REASON_LIMIT = 24, 60
# Rows of trials that have ended on a terminal, if it is high enough; the others are in the report. Title, header, lines
# around them and the sentence below take some of its own.
_ROWS, _OTHER_LINES = 25, 6
# A line and a blank on both sides of a cell.
_BETWEEN_COLUMNS = 3
# Below this time is said in seconds.
_SECONDS_SAID = 100


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


def time_left(
    records: Sequence[Mapping[str, Any]], total: int | None, slots: int, under_way: float = 0.0
) -> float | None:
    """Seconds until the last trial, if they go on like those that have ended; None where that cannot be told.

    Args:
        total: trials in all.
        slots: how many run at a time.
        under_way: how much of those that run is done, in whole trials.
    """
    if not records or total is None or total <= len(records):
        return None
    mean = sum(one["seconds"] for one in records) / len(records)
    return max(total - len(records) - under_way, 0.0) * mean / max(slots, 1)


def duration(seconds: float) -> str:
    """About how long that is.

    Example:
        >>> duration(41.7), duration(119.0), duration(3600.0)
        ('42 s', '2 min', '60 min')
    """
    return f"{seconds:,.0f} s" if seconds < _SECONDS_SAID else f"{seconds / 60:,.0f} min"


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
        search, records, running = self.search, self.records(), self.running()
        best = best_of(search, records)
        keys = [*search.sweep.parameters]

        def cells(values: Mapping[str, Any]) -> list[str]:
            return [value(values[key]) if key in values else "" for key in keys]

        # What is too much for the terminal would be cut off below, where the trials that run are.
        room = self.voice.console.height - _OTHER_LINES - len(running)
        rows, under_way = [], 0.0
        for one in records[-min(max(room, 1), _ROWS) :]:
            mark = "best" if best is not None and one["number"] == best["number"] else one["status"]
            last = one["executions"][0]["curve"][-1:] if one["executions"] else []
            epoch = f"{last[0]['epoch']:g}" if last else ""
            rows.append([str(one["number"]), *cells(one["values"]), epoch, score(one), mark])
        for number, chosen in running:
            told = read_json(self.search.file(PROGRESS, number, ".json"))
            under_way += self._done(told)
            rows.append([str(number), *cells(chosen), *_progress(told), "running"])
        # Of a chief's workers nobody says how many there are.
        left = time_left(records, self.total, max(self.slots, len(running)), under_way)
        names = ("trial", *(one.rpartition(".")[2] for one in keys), "epoch", search.objective, "state")
        table = _table(f"Sweep of {search.recipe.name}", names, rows, self.voice.console.width)
        return Group(table, _line(self._summary(records, best, left)))

    def _done(self, told: Mapping[str, Any]) -> float:
        """Which part of a trial that runs is done, by what it tells: its seeds one after the other."""
        if not told or not told["of"] or told["seed"] not in self.search.seeds:
            return 0.0
        seeds = self.search.seeds
        return float((seeds.index(told["seed"]) + min(told["epoch"] / told["of"], 1.0)) / len(seeds))

    def _summary(
        self, records: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None, seconds_left: float | None
    ) -> str:
        of = "" if self.total is None else f" of {self.total}"
        said = [f"{len(records)}{of} trials"]
        if best is not None:
            said.append(f"best {score(best)} (trial {best['number']})")
        if seconds_left is not None:
            said.append(f"about {duration(seconds_left)} left")
        return ", ".join(said)


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """A line a row. Where there is no room, names are cut off before numbers, whose last digits are their powers."""
    table = Table(title=_line(title, "table.title"), title_justify="left")
    widths = [max((cell_len(row[at]) for row in rows), default=1) for at in range(len(names))]
    width -= _BETWEEN_COLUMNS * len(names) + 1

    def fits(limit: int) -> bool:
        return sum(max(cell, min(len(name), limit)) for cell, name in zip(widths, names, strict=True)) <= width

    limit = next(filter(fits, range(max(map(len, names)), 0, -1)), 1)
    for name, cell in zip(names, widths, strict=True):
        table.add_column(_line(printable(name, max(cell, limit))))
    for row in rows:
        table.add_row(*map(_line, row))
    return table


def _line(text: str, style: str = "") -> Text:
    """Text that is cut off, and not folded, where there is no room."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _progress(told: Mapping[str, Any]) -> tuple[str, str]:
    """Epochs and the last score of a trial that runs, by what it tells."""
    if not told:
        return "", ""
    of = "" if told["of"] is None else f" of {told['of']:g}"
    return f"{told['epoch']:.1f}{of}", f"{told['scores'][-1]:.4f}" if told["scores"] else ""
