"""A log of events: lines of JSON, each on the disk before anything follows from it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Events:
    """The log in a file, which need not be there yet. A last line that was not written whole does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All events. What is left of one that was broken off goes, so that the next begins a line."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return [json.loads(line) for line in whole.decode("utf-8").splitlines()]

    def append(self, event: Mapping[str, Any]) -> None:
        """Adds one with its time, and returns when it is on the disk."""
        with self.path.open("ab") as file:
            file.write(json.dumps({**event, "at": time.time()}, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


BEGAN = "began"


class Clock:
    """The time that a sweep has taken, by all processes that went on with it; each counts to its last event.

    Args:
        events: the log, to which the beginning of this process is added.

    Attributes:
        first: when the first process began, in seconds since the epoch.
    """

    def __init__(self, events: Events) -> None:
        before = events.read()
        events.append({"event": BEGAN})
        self._began = time.time()
        self.first = before[0]["at"] if before else self._began
        self._earlier = seconds_of(before)

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._earlier + time.time() - self._began


def seconds_of(events: Sequence[Mapping[str, Any]]) -> float:
    """From every beginning to the last event before the next one.

    Example:
        >>> one, other = [("began", 10.0), ("asked", 11.0), ("ended", 15.0)], [("began", 200.0), ("asked", 203.0)]
        >>> seconds_of([{"event": name, "at": at} for name, at in [*one, ("began", 100.0), *other]])
        8.0
    """
    seconds, last = 0.0, None
    for event in events:
        if event["event"] != BEGAN and last is not None:
            seconds += event["at"] - last
        last = event["at"]
    return seconds
