"""Answers on their way to a file: kept beside it as they come, so that a job that was broken off goes on.

A line of what they are answers of, then a line an answer. Whole pieces are appended and put on the disk; a line that a
kill or a full disk has torn is taken off again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfft.differences import differences
from tfft.errors import RunError


class Unfinished:
    """The answers that there are for `output`.

    Args:
        output: the file that they are for; they are kept in `NAME.unfinished` beside it.
        about: what they depend on, as plain values.
    """

    def __init__(self, output: Path, about: Mapping[str, Any]) -> None:
        self.path = output.with_name(f"{output.name}.unfinished")
        self.about = about

    def begin(self, overwrite: bool) -> int:
        """How many answers there are; begins where there are none, or with `overwrite`.

        Raises:
            RunError: those that are there are of other rows, another model or other settings.
        """
        if overwrite or not self.path.is_file() or not (lines := self._whole_lines()):
            with self.path.open("wb") as file:
                _put(file, [self.about])
            return 0
        first, end, count = lines
        if changes := differences(
            first if isinstance(first, dict) else {}, json.loads(json.dumps(self.about)), ("there", "now")
        ):
            listed = "\n".join(f"  {one}" for one in changes)
            raise RunError(
                f"--output: {self.path} holds answers of another job; run that as it was, or give --overwrite to "
                f"begin anew:\n{listed}"
            )
        os.truncate(self.path, end)
        return count

    def append(self, answers: Sequence[Any]) -> None:
        """Puts a piece on the disk."""
        with self.path.open("ab") as file:
            _put(file, answers)

    def __iter__(self) -> Iterator[Any]:
        """The answers, one by one."""
        with self.path.open("rb") as file:
            next(file)
            yield from map(json.loads, file)

    def remove(self) -> None:
        """The answers go."""
        self.path.unlink()

    def _whole_lines(self) -> tuple[Any, int, int] | None:
        """What they are of, where the last whole line ends, and how many answers there are up to there."""
        about, end, count = None, 0, -1
        with self.path.open("rb") as file:
            for line in file:
                try:
                    value = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                about = value if count < 0 else about
                end, count = end + len(line), count + 1
        return None if count < 0 else (about, end, count)


def _put(file: Any, values: Sequence[Any]) -> None:
    for value in values:
        file.write(json.dumps(value).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())
