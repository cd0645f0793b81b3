"""Text to token ids: the checkpoint's own tokenizer, in batches, cached on disk by content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfft import locations

# Rows handed to the tokenizer at once: enough for its threads, few enough for a progress bar to move.
ROWS_AT_ONCE = 4000
# Part of every cache key: raise it when the layout of what is cached, or how it is computed, changes.
CACHE_FORMAT = 1
# What a cached file must hold; token types only where the tokenizer makes some.
ARRAYS = ("input_ids", "offsets", "lost_tokens")


@dataclass(frozen=True)
class Encoded:
    """Token ids of many rows, without padding, end to end.

    Attributes:
        input_ids: (tokens,) int32, all rows one after another, special tokens included.
        token_type_ids: (tokens,) int32, or None where the tokenizer makes none.
        offsets: (rows + 1,) int64; row i is `input_ids[offsets[i]:offsets[i + 1]]`.
        lost_tokens: (rows,) int32, how many tokens of each row were cut off at `max_length`.
        from_cache: whether this was read from disk instead of being encoded now.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray | None
    offsets: np.ndarray
    lost_tokens: np.ndarray
    from_cache: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) tokens in each row."""
        return np.diff(self.offsets)

    @property
    def truncated_rows(self) -> int:
        """How many rows lost tokens."""
        return int(np.count_nonzero(self.lost_tokens))


def fingerprint(texts: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> str:
    """A SHA-256 over everything that token ids depend on: the texts, the tokenizer, `max_length`."""
    digest = hashlib.sha256()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: Any = sorted(tokenizer.get_vocab().items())
    if backend is not None:
        # Truncation and padding are left behind by the last call, whatever it encoded; every call sets both anew.
        state = {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    about = {
        "format": CACHE_FORMAT,
        "tokenizer": state,
        "class": type(tokenizer).__name__,
        "special_tokens": {key: str(value) for key, value in sorted(tokenizer.special_tokens_map.items())},
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "inputs": sorted(tokenizer.model_input_names),
        "max_length": max_length,
        "columns": len(texts),
    }
    digest.update(json.dumps(about, sort_keys=True).encode())
    for column in texts:
        for text in column:
            raw = text.encode("utf-8", "surrogatepass")
            # The length goes first: without it ["ab", "c"] and ["a", "bc"] would be the same bytes.
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
    return digest.hexdigest()


def _tokenize(texts: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> tuple[dict[str, list], list[int]]:
    """One batch of rows: the tokenizer's lists, and how many tokens each row lost."""
    batch = tokenizer(*texts, add_special_tokens=True, truncation=False, return_attention_mask=False, verbose=False)
    encoded = {key: list(batch[key]) for key in ("input_ids", "token_type_ids") if key in batch}
    whole = [len(ids) for ids in encoded["input_ids"]]
    long = [index for index, length in enumerate(whole) if length > max_length]
    if long:
        # Only the tokenizer knows how a pair shares its room and where special tokens go, so it does the cutting.
        cut = tokenizer(
            *([column[index] for index in long] for column in texts),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            verbose=False,
        )
        for key, rows in encoded.items():
            for index, row in zip(long, cut[key], strict=True):
                rows[index] = row
    return encoded, [before - len(ids) for before, ids in zip(whole, encoded["input_ids"], strict=True)]


def encode(
    texts: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Encoded:
    """Encodes rows of one or two texts with `tokenizer`, cut at `max_length` tokens (special tokens included).

    Args:
        texts: one list of strings for single texts, two of the same length for pairs.
        tokenizer: a tokenizer of Transformers.
        max_length: tokens a row may have; longer rows are cut as the tokenizer cuts (pairs: the longer text first).
        cache: a folder for results, keyed by content (`fingerprint`); None encodes every time. A folder that cannot be
            written is passed over: a cache may speed things up, but never stop them.
        advance: called with the number of rows done, as they are done.

    Example:
        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> encoded = encode([["a b", "a b c d"]], tokenizer, max_length=5)
        >>> encoded.lengths.tolist(), encoded.lost_tokens.tolist()
        ([4, 5], [0, 1])
    """
    path = cache / f"{fingerprint(texts, tokenizer, max_length)}.safetensors" if cache is not None else None
    rows = len(texts[0])
    if path is not None and (found := read_cached(path, rows, ARRAYS)) is not None:
        advance(rows)
        return from_arrays(found)

    ids: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths: list[int] = []
    lost: list[int] = []
    for start in range(0, rows, ROWS_AT_ONCE):
        part = [column[start : start + ROWS_AT_ONCE] for column in texts]
        encoded, cut = _tokenize(part, tokenizer, max_length)
        ids.append(flat(encoded["input_ids"]))
        if "token_type_ids" in encoded:
            types.append(flat(encoded["token_type_ids"]))
        lengths.extend(len(row) for row in encoded["input_ids"])
        lost.extend(cut)
        advance(len(cut))
    result = Encoded(
        input_ids=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        token_type_ids=np.concatenate(types) if types else None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        lost_tokens=np.asarray(lost, np.int32),
    )
    if path is not None:
        write_cached(path, to_arrays(result))
    return result


def flat(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """(tokens,) int32, all rows end to end."""
    return np.fromiter((token for row in rows for token in row), np.int32, count=sum(map(len, rows)))


def to_arrays(encoded: Encoded) -> dict[str, np.ndarray]:
    """The arrays of an `Encoded`, by name, to be cached; `from_arrays` undoes it."""
    arrays = {name: getattr(encoded, name) for name in (*ARRAYS, "token_type_ids")}
    return {name: array for name, array in arrays.items() if array is not None}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Encoded:
    """What was cached as these arrays; others among them are passed over."""
    return Encoded(
        arrays["input_ids"], arrays.get("token_type_ids"), arrays["offsets"], arrays["lost_tokens"], from_cache=True
    )


def read_cached(path: Path, rows: int, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays cached at `path`, or None where there is nothing whole for this number of rows.

    Args:
        names: arrays that must be there.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except (OSError, SafetensorError):
        return None
    if not set(names) <= set(arrays):
        return None
    if len(arrays["offsets"]) != rows + 1 or arrays["offsets"][-1] != len(arrays["input_ids"]):
        return None
    return arrays


def write_cached(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Caches arrays at `path`, whole or not at all; a disk that refuses is passed over."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    partial = path.with_suffix(f".{os.getpid()}.partial")
    # The writer of safetensors turns the system's errors, such as a full disk, into its own.
    with contextlib.suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(dict(arrays), partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where encoded data are cached unless said otherwise."""
    return locations.cache_folder() / "encoded"
