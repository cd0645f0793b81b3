"""What a disk refuses, told alike by all writers."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path


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
