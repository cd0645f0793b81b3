"""Ctrl-C and SIGTERM that wait until a training has saved where it stands."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from tfft.errors import Terminated

_KINDS: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextlib.contextmanager
def waiting(say: Callable[[str], None]) -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """In the body the first such signal is only remembered; a second one ends it at once.

    Outside the main thread Python takes no signals, and nothing changes.

    Args:
        say: tells the person that the first one was heard.

    Yields:
        What gives the exception to end with, once there was a signal.
    """
    heard: list[KeyboardInterrupt] = []

    def hear(number: int, frame: FrameType | None) -> None:
        kind = _KINDS[number]
        if heard:
            raise kind
        heard.append(kind())
        say("stopping as soon as the state of the training is saved; once more to stop at once")

    def asked() -> KeyboardInterrupt | None:
        return heard[0] if heard else None

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, hear) for number in _KINDS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
