"""`python -m tfft.launch --workers 2 --recipe NAME`: several workers on this machine, for trying out what several do.

On several machines nothing launches: each runs `python -m tfft.fit`, and is told of the others, see `tfft.workers`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from tfft import command, recipe
from tfft.errors import RecipeError
from tfft.fit import parser as fit_parser

# Seconds that the other workers have to end by themselves once one has failed: they see it, and say where to go on.
GRACE_SECONDS = 60.0
# Where TensorFlow takes the number of its threads from.
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
_MOST = 64


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status of the worker that failed first, or 0."""
    arguments, of_fit = _parser().parse_known_args(argv)
    if not 2 <= arguments.workers <= _MOST:
        raise RecipeError(f"--workers: got {arguments.workers}; expected a number from 2 to {_MOST}")
    # Once, here, what every one of them would say.
    given = fit_parser().parse_intermixed_args(of_fit)
    if given.recipe == "-":
        raise RecipeError("--recipe: got - (standard input), which several workers cannot read; give a name or a file")
    recipe.load(given.recipe, given.overrides)
    return launch(arguments.workers, of_fit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.launch",
        description="Run python -m tfft.fit in several processes of this machine that train together.",
        epilog="All other arguments are those of python -m tfft.fit: --recipe NAME KEY=VALUE …",
        allow_abbrev=False,
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="how many processes (2)")
    return parser


def launch(count: int, of_fit: Sequence[str]) -> int:
    """Starts the workers, waits for all, and returns the exit status of the first that failed, or 0.

    The chief speaks for all; what another worker says is shown where the chief cannot tell why it ended.
    """
    with contextlib.ExitStack() as opened:
        heard = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tfft.fit", *of_fit],
                env=environment,
                stdout=None if index == 0 else heard[index - 1],
                stderr=None if index == 0 else subprocess.STDOUT,
            )
            for index, environment in enumerate(_environments(count))
        ]
        with _handing_on(workers):
            failed = _first_to_fail(workers)
            if failed is None:
                return 0
            _end(workers)
        _tell(failed, workers[failed].returncode, heard)
        return _as_shells_do(workers[failed].returncode)


def _environments(count: int) -> list[dict[str, str]]:
    """Of each worker: who the others are, and its share of the processors where nothing else was said."""
    with contextlib.ExitStack() as held:
        # All at once, or the system would give the same port again.
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    share = str(max(1, len(os.sched_getaffinity(0)) // count)) if hasattr(os, "sched_getaffinity") else "1"
    threads = dict.fromkeys(THREADS, share)
    return [
        {
            **threads,
            **os.environ,
            "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}),
        }
        for index in range(count)
    ]


@contextlib.contextmanager
def _handing_on(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """In the body, SIGTERM goes on to the workers, which save their state; Ctrl-C reaches them by itself."""

    def hand_on(number: int, frame: Any) -> None:
        for one in workers:
            with contextlib.suppress(ProcessLookupError):
                one.send_signal(number)

    handlers = {signal.SIGTERM: hand_on, signal.SIGINT: _wait}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(number: int, frame: Any) -> None:
    """The workers, which heard it too, end first."""


def _first_to_fail(workers: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Waits until all have ended well, or one has not: which."""
    while True:
        statuses = [one.poll() for one in workers]
        # Killed ones first: those that ended by themselves did so because of them.
        for index, status in sorted(enumerate(statuses), key=lambda one: (one[1] or 0) >= 0):
            if status:
                return index
        if None not in statuses:
            return None
        time.sleep(0.1)


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits a while for the others to end by themselves, then ends them."""
    end = time.monotonic() + GRACE_SECONDS
    for one in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(max(0.0, end - time.monotonic()))
    for one in workers:
        if one.poll() is None:
            one.kill()
            one.wait()


def _as_shells_do(status: int) -> int:
    return 128 - status if status < 0 else status


def _tell(failed: int, status: int, heard: Sequence[IO[bytes]]) -> None:
    """What the chief could not tell: why another worker ended, or what others say of a chief that was killed."""
    if failed == 0 and status > 0:
        return
    speaker = heard[max(failed, 1) - 1]
    speaker.seek(0)
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    said = speaker.read().decode(errors="replace").strip()
    print("\n".join([f"worker {failed} {how}", *([said] if said else [])]), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
