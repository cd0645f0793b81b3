"""A file that says which process works in a folder, on this machine or on another that shares the folder."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# The holder touches its file so often; where it was not touched for so long, and no process can be asked, it is gone.
TOUCHED_EVERY_SECONDS = 10.0
GONE_AFTER_SECONDS = 60.0


class Held(Exception):
    """Somebody else holds the lock; the message says who, and for how long."""


def holder(path: Path) -> str | None:
    """Who holds the lock, and for how long: `process 71 for 5 minutes`; None where nobody does, or a process that died.

    A process of this machine is looked for; one of another machine lives as long as it touches its file.
    """
    try:
        process, machine, since = path.read_text(encoding="utf-8").split("\n")
        pid, touched = int(process), path.stat().st_mtime
        age = _age(time.time() - float(since))
    except (OSError, ValueError, OverflowError):
        return None
    if machine != platform.node():
        return f"process {pid} on {machine} for {age}" if time.time() - touched < GONE_AFTER_SECONDS else None
    return f"process {pid} for {age}" if pid != os.getpid() and _lives(pid) else None


def clear(path: Path) -> None:
    """Takes away the lock of a process that died; one that is held stays."""
    if holder(path) is None:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock in the body.

    Raises:
        Held: somebody else does.
        OSError: the file cannot be written.
    """
    clear(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n{platform.node()}\n{time.time():.0f}")
    except FileExistsError:
        raise Held(holder(path) or "another process") from None
    over = threading.Event()

    def touch() -> None:
        while not over.wait(TOUCHED_EVERY_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=touch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            path.unlink()


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # it lives, and is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def _age(seconds: float) -> str:
    """In the largest unit of which there are two.

    Example:
        >>> _age(5), _age(119), _age(7300)
        ('5 seconds', '119 seconds', '2 hours')
    """
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} seconds"
