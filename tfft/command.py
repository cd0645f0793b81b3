"""What commands share: exit statuses, arguments, and a module that can be called like its main function."""

from __future__ import annotations

import argparse
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tfft.errors import RunError, Terminated, UserError

USER_ERROR_STATUS = 2
# Of a probability that is written as text; a row's batch has its say in the seventh.
DECIMALS = 6
# 128 + SIGINT and 128 + SIGTERM, as shells report them.
INTERRUPTED_STATUS = 130
TERMINATED_STATUS = 143


def run(main: Callable[[Sequence[str] | None], int | None]) -> NoReturn:
    """Runs a command's main function on `sys.argv` and ends the process with its status.

    A `UserError` becomes its message on standard error and status 2; Ctrl-C becomes status 130 and SIGTERM,
    where a command waits for it, 143. Everything else is a bug and keeps its traceback.
    """
    try:
        status = main(None)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR_STATUS)
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(TERMINATED_STATUS if isinstance(interrupt, Terminated) else INTERRUPTED_STATUS)
    except BrokenPipeError:
        # The reader of our output went away (`| head`). Nothing is wrong and nobody is left to tell; what is still
        # buffered goes nowhere, or Python's own flush at the end would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status or 0)


def positive(text: str) -> int:
    """The whole number of at least 1 that an argument of a command line is: the `type` of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected a whole number of at least 1")
    return int(text)


def check_can_be_written(path: Path) -> None:
    """Raises a RunError where `--output` is a folder, or lies in none."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise RunError(f"--output: {path} cannot be written; give a file in a folder that exists")


def check_new_folder(path: Path, overwrite: bool, mark: str, otherwise: str) -> None:
    """Raises a RunError where `--output` cannot be made, or is in the way.

    Args:
        overwrite: whether one that the same command has made may be replaced.
        mark: the file by which such a one is known.
        otherwise: what is said of a folder without it.
    """
    if not path.absolute().parent.is_dir():
        raise RunError(f"--output: {path} cannot be made; give a folder in one that exists")
    if path.exists() and not overwrite:
        raise RunError(f"--output: {path} is there already; give another folder, or --overwrite to replace it")
    if path.exists() and not (path / mark).is_file():
        raise RunError(f"--output: {path} {otherwise} (it has no {mark}), so it is not replaced")


def make_callable(module_name: str, function_name: str) -> None:
    """Lets `tfft.fit(...)` work although `tfft.fit` is also the module behind `python -m tfft.fit`.

    The import system binds the submodule to the package whenever it is first loaded, so a function of the same name in
    the package would be there or not depending on who imported what first. A module that can be called always works.
    """

    class CallableModule(types.ModuleType):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(self, function_name)(*args, **kwargs)

    sys.modules[module_name].__class__ = CallableModule
