"""A file of safetensors, written one tensor after the other: the format's own library copies all of them twice.

The bytes are those that the library writes, so that a model which is loaded and saved again has the same checksum.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What the format calls the types.
_TYPES = {
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{"bfloat16": "BF16", "bool": "BOOL"},
}


def write(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> str:
    """Writes tensors, and what is said of them.

    Args:
        tensors: name to an array or a variable; one after the other is copied.
        metadata: kept in the file's header.

    Returns:
        The file's SHA-256.

    Raises:
        OSError: the disk is full, or whatever else it says.

    Example:
        >>> import tempfile
        >>> from safetensors.numpy import load_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write(Path(folder) / "it", {"b": np.array([1.5]), "a": np.zeros((2, 0))})
        ...     {name: one.tolist() for name, one in sorted(load_file(Path(folder) / "it").items())}
        {'a': [[], []], 'b': [1.5]}
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # The widest types first, so that each value lies where a processor likes it.
    ordered = sorted(tensors.items(), key=lambda item: (-_type_of(item[1]).itemsize, item[0]))
    end = 0
    for name, one in ordered:
        kind = _type_of(one)
        begin, end = end, end + math.prod(one.shape) * kind.itemsize
        header[name] = {"dtype": _TYPES[kind.name], "shape": [*one.shape], "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        # Chained, not listed: one copy at a time.
        for part in itertools.chain((len(text).to_bytes(8, "little"), text), (_bytes_of(one) for _, one in ordered)):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _type_of(one: Any) -> np.dtype[Any]:
    return np.dtype(getattr(one.dtype, "as_numpy_dtype", one.dtype))


def _bytes_of(one: Any) -> Any:
    """A tensor's values row by row, as a buffer."""
    values = one.numpy() if hasattr(one, "numpy") else one
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
