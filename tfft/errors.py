"""Errors that a person can act on.

Every error here ends a command with exit status 2 and its message alone; any other exception is a bug of ours and keeps
its traceback. A message says what was given, what was expected, and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake or a circumstance that the user can mend. The message is all that is shown."""


class RecipeError(UserError):
    """A recipe or an override that cannot be followed."""


class DataError(UserError):
    """A file, a column or a row that cannot be used."""


class ModelError(UserError):
    """A checkpoint or a tokenizer that cannot be used."""


class HardwareError(UserError):
    """A device, a precision or a compiler that this machine does not have."""


class HubError(UserError):
    """The hub cannot be reached, or does not have what was asked for."""


class RunError(UserError):
    """An output directory that cannot be used, or a run that cannot go on."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), as machines are that somebody else needs; it ends as by Ctrl-C."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None where nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
