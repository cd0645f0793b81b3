"""What a person sees: progress bars on a terminal, plain lines elsewhere, tables; and libraries kept quiet."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def silence_libraries() -> None:
    """Keeps the habitual chatter of TensorFlow, oneDNN, Transformers and datasets from the user, for this process.

    Called by commands before they load anything; `--verbose` leaves it out.
    """
    os.environ.update(
        TF_CPP_MIN_LOG_LEVEL="3",
        TRANSFORMERS_VERBOSITY="error",
        TRANSFORMERS_NO_ADVISORY_WARNINGS="1",
        # By variables, because these set their own log level when they are imported.
        HF_HUB_VERBOSITY="error",
        DATASETS_VERBOSITY="error",
        EVALUATE_VERBOSITY="error",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_DATASETS_DISABLE_PROGRESS_BARS="1",
        TOKENIZERS_PARALLELISM="true",
        MLFLOW_LOGGING_LEVEL="ERROR",
    )
    warnings.simplefilter("ignore")
    for name in ("tensorflow", "absl", "transformers", "datasets", "huggingface_hub", "evaluate"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what C++ code writes to standard error, and shows it after all if the body fails.

    TensorFlow's start-up lines go straight to the file descriptor, before any log level of its own is read. Nothing is
    held back unless `silence_libraries` was called.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        yield
        return
    with tempfile.TemporaryFile() as held, _stderr_is(held) as kept:
        try:
            yield
        except BaseException:
            held.seek(0)
            if kept is not None:
                os.write(kept, held.read())
            raise


@contextlib.contextmanager
def stderr_into(log: IO[str]) -> Iterator[None]:
    """Puts what anybody writes to standard error into a file, C++ code included, which would tear a table in two."""
    with contextlib.ExitStack() as led:
        has_descriptor = led.enter_context(_stderr_is(log)) is not None
        # By the stream that stays open: libraries keep it in the handlers of their logs.
        stream = sys.__stderr__ if has_descriptor and sys.__stderr__ is not None else log
        led.enter_context(contextlib.redirect_stderr(stream))
        yield


@contextlib.contextmanager
def _stderr_is(file: IO[Any]) -> Iterator[int | None]:
    """Has the descriptor of standard error lead to a file; gives one that leads where it did, None if there is none."""
    try:
        descriptor = sys.__stderr__.fileno() if sys.__stderr__ else 2
        kept = os.dup(descriptor)
    except (OSError, ValueError):
        yield None
        return
    os.dup2(file.fileno(), descriptor)
    try:
        yield kept
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def printable(text: str, limit: int | None = None) -> str:
    """`text` on one line without control characters (a terminal would obey them), cut to `limit` characters."""
    clean = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text)
    return clean if limit is None or len(clean) <= limit else clean[: limit - 1] + "…"


class Voice:
    """Where a command speaks: a rich console on a terminal, plain lines elsewhere, nothing when `silent`."""

    def __init__(self, silent: bool = False, console: Console | None = None, to_stderr: bool = False) -> None:
        self.silent = silent
        # Off a terminal rich would fold long lines at 80 columns, which breaks them for whoever greps.
        stream = sys.stderr if to_stderr else sys.stdout
        self.console = console or Console(soft_wrap=not stream.isatty(), stderr=to_stderr)

    @property
    def is_terminal(self) -> bool:
        """Whether bars can be drawn."""
        return self.console.is_terminal and not self.silent

    def say(self, line: str) -> None:
        """One plain line. Nothing in it is read as markup."""
        if not self.silent:
            self.console.print(Text(line), highlight=False)

    def say_whole(self, line: str) -> None:
        """One plain line that is not folded, so that it can be copied."""
        if not self.silent:
            self.console.print(Text(line), highlight=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on a terminal, tab-free aligned lines elsewhere."""
        if self.silent:
            return
        if not self.console.is_terminal:
            widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
            self.say(title)
            for row in [columns, *rows]:
                self.say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(Text(column), justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    def scores(self, title: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        """A table with a row for each score and a column for each split."""
        names = list(dict.fromkeys(name for column in scores.values() for name in column))
        rows = [
            [name, *(f"{column[name]:.4f}" if name in column else "" for column in scores.values())] for name in names
        ]
        self.table(title, ["", *scores], rows)

    def bar(self) -> Progress:
        """A progress display of rich, to be used as a context; it draws nothing off a terminal.

        Tasks take `total`, `completed` and the field `detail`, a short text behind the bar.
        """
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.console,
            disable=not self.is_terminal,
        )
