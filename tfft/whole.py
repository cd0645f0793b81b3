"""Files and folders that appear under their names whole or not at all, and stay through a loss of power."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_CHUNK = 1 << 20


@contextlib.contextmanager
def whole_file(final: Path) -> Iterator[TextIO]:
    """A text file that appears under its name only when the body has ended well."""
    partial = final.with_name(f"{final.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, final)
        _sync(final.parent)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The table in a file of JSON; an empty one where there is no such file, or no table in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def sha256(path: Path) -> str:
    """The checksum of a file, of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A folder that appears under its name, in place of an older one, only when the body has ended well."""
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                _sync(Path(folder) / name)
            _sync(Path(folder))
        if final.exists():
            old = final.with_name(f"{final.name}.old.partial")
            shutil.rmtree(old, ignore_errors=True)  # of a process that was killed here
            os.replace(final, old)
            os.replace(partial, final)
            shutil.rmtree(old)
        else:
            os.replace(partial, final)
        _sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def system_errors(folder: Path) -> Iterator[None]:
    """The errors of the writer of safetensors as the system's own.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        # The writer gives the system's error as text only.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(folder)) from None


def _sync(path: Path) -> None:
    """What was written there is on the disk, not only in memory."""
    # Windows opens no folders, and needs it for none.
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
