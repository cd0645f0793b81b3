"""Text to token ids: the checkpoint's own tokenizer, in batches, cached on disk by content."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfft import locations
from tfft.data import windows
from tfft.data.columns import ArrayOnDisk, ArrayWriter, File, TextsOnDisk
from tfft.data.windows import TRUNCATE, Cut, LongText

# Rows handed to the tokenizer at once: enough for its threads, few enough for a progress bar to move.
ROWS_AT_ONCE = 4000
# Part of every cache key: raise it when the layout of what is cached, or how it is computed, changes.
CACHE_FORMAT = 1
# What a cached file must hold; token types only where the tokenizer makes some, windows only where texts have several.
ARRAYS = ("input_ids", "offsets", "lost_tokens")
# Those that stay on disk where the texts do.
LONG_ARRAYS = ("input_ids", "token_type_ids")


@dataclass(frozen=True)
class Encoded:
    """Token ids of many rows, without padding, end to end.

    A row is a text or a pair of texts, or one window of a text where `window_starts` says so.

    Attributes:
        input_ids: (tokens,) int32, all rows one after another, special tokens included.
        token_type_ids: (tokens,) int32, or None where the tokenizer makes none.
        offsets: (rows + 1,) int64; row i is `input_ids[offsets[i]:offsets[i + 1]]`.
        lost_tokens: (rows,) int32, how many tokens of each row were left out for `max_length`.
        from_cache: whether this was read from disk instead of being encoded now.
        window_starts: (texts + 1,) int64, text i has the rows from `window_starts[i]` to `window_starts[i + 1]`, one or
            more; None where each text has one row.
    """

    input_ids: np.ndarray | ArrayOnDisk
    token_type_ids: np.ndarray | ArrayOnDisk | None
    offsets: np.ndarray
    lost_tokens: np.ndarray
    from_cache: bool = False
    window_starts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def texts(self) -> int:
        """How many texts, or pairs of texts, the rows are of."""
        return len(self) if self.window_starts is None else len(self.window_starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) tokens in each row."""
        return np.diff(self.offsets)

    @property
    def length_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """The lengths that occur, ascending, and how many rows have each."""
        lengths, rows = np.unique(self.lengths, return_counts=True)
        return lengths, rows

    @property
    def total_tokens(self) -> int:
        """Tokens of all rows."""
        return int(self.offsets[-1])

    @property
    def truncated_rows(self) -> int:
        """How many rows lost tokens."""
        return int(np.count_nonzero(self.lost_tokens))


def fingerprint(texts: Sequence[Sequence[str]], tokenizer: Any, max_length: int, long_text: LongText = TRUNCATE) -> str:
    """A SHA-256 over everything that token ids depend on: the texts, the tokenizer, `max_length`, `long_text`."""
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
        **({} if long_text.mode == "truncate" else {"long_text": dataclasses.asdict(long_text)}),
    }
    digest.update(json.dumps(about, sort_keys=True).encode())
    for column in texts:
        for text in column:
            raw = text.encode("utf-8", "surrogatepass")
            # The length goes first: without it ["ab", "c"] and ["a", "bc"] would be the same bytes.
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
    return digest.hexdigest()


def _truncated(texts: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> Cut:
    """One row for each text or pair of texts, cut by the tokenizer."""
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
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    return Cut(
        flat(encoded["input_ids"]),
        flat(encoded["token_type_ids"]) if "token_type_ids" in encoded else None,
        lengths,
        np.array(whole) - lengths,
        np.ones(len(lengths), np.int64),
    )


def encode(
    texts: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    long_text: LongText = TRUNCATE,
) -> Encoded:
    """Encodes rows of one or two texts with `tokenizer`, each at most `max_length` tokens (special tokens included).

    Args:
        texts: one list of strings for single texts, two of the same length for pairs.
        tokenizer: a tokenizer of Transformers.
        max_length: tokens a row may have.
        long_text: what becomes of longer texts. By default they are cut as the tokenizer cuts (pairs: the longer text
            first).
        cache: a folder for results, keyed by content (`fingerprint`); None encodes every time. A folder that cannot be
            written is passed over: a cache may speed things up, but never stop them.
        advance: called with the number of texts done, as they are done.

    Raises:
        DataError: the texts cannot be cut as `long_text` says: they are pairs, or windows would overlap wholly.

    Example:
        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> encoded = encode([["a b", "a b c d"]], tokenizer, max_length=5)
        >>> encoded.lengths.tolist(), encoded.lost_tokens.tolist()
        ([4, 5], [0, 1])
    """
    windows.check(long_text, len(texts), tokenizer, max_length)
    path = None
    if cache is not None:
        path = cache / f"{fingerprint(texts, tokenizer, max_length, long_text)}.safetensors"
    count, has_windows = len(texts[0]), long_text.mode == "sliding_window"
    wanted = (*ARRAYS, "window_starts") if has_windows else ARRAYS
    on_disk = isinstance(texts[0], TextsOnDisk)
    stay = LONG_ARRAYS if on_disk else ()
    if path is not None and (found := read_cached(path, count, wanted, stay)) is not None:
        advance(count)
        return from_arrays(found)

    ids, types = ArrayWriter(np.int32, on_disk), ArrayWriter(np.int32, on_disk)
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, count, ROWS_AT_ONCE):
        part = [column[start : start + ROWS_AT_ONCE] for column in texts]
        if long_text.mode == "truncate":
            cut = _truncated(part, tokenizer, max_length)
        else:
            cut = windows.cut(part[0], tokenizer, max_length, long_text)
        ids.append(cut.input_ids)
        if cut.token_type_ids is not None:
            types.append(cut.token_type_ids)
        done.append((cut.lengths, cut.lost, cut.rows))
        advance(len(part[0]))
    token_types = types.finish()
    result = Encoded(
        input_ids=ids.finish(),
        token_type_ids=token_types if len(token_types) else None,
        offsets=_starts([lengths for lengths, _, _ in done]),
        lost_tokens=_end_to_end([lost for _, lost, _ in done], np.int32),
        window_starts=_starts([rows for _, _, rows in done]) if has_windows else None,
    )
    if path is not None:
        write_cached(path, to_arrays(result))
    return result


def flat(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """(tokens,) int32, all rows end to end."""
    return np.fromiter((token for row in rows for token in row), np.int32, count=sum(map(len, rows)))


def _end_to_end(arrays: list[np.ndarray], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *arrays]).astype(kind)


def _starts(counts: list[np.ndarray]) -> np.ndarray:
    """Where each of these many begins, and where the last ends, int64."""
    return np.concatenate([[0], np.cumsum(_end_to_end(counts, np.int64))]).astype(np.int64)


def to_arrays(encoded: Encoded) -> dict[str, Any]:
    """The arrays of an `Encoded`, by name, to be cached; `from_arrays` undoes it."""
    arrays = {name: getattr(encoded, name) for name in (*ARRAYS, "token_type_ids", "window_starts")}
    return {name: array for name, array in arrays.items() if array is not None}


def from_arrays(arrays: Mapping[str, Any]) -> Encoded:
    """What was cached as these arrays; others among them are passed over."""
    return Encoded(
        arrays["input_ids"],
        arrays.get("token_type_ids"),
        arrays["offsets"],
        arrays["lost_tokens"],
        from_cache=True,
        window_starts=arrays.get("window_starts"),
    )


def read_cached(path: Path, rows: int, names: Iterable[str], stay: Collection[str] = ()) -> dict[str, Any] | None:
    """The arrays cached at `path`, or None where there is nothing whole for this number of rows.

    Args:
        rows: texts, where they have windows.
        names: arrays that must be there.
        stay: arrays that stay on disk.
    """
    arrays = read_arrays(path, stay)
    if not set(names) <= set(arrays):
        return None
    offsets, starts = arrays["offsets"], arrays.get("window_starts", np.arange(rows + 1))
    if len(starts) != rows + 1 or len(offsets) != starts[-1] + 1 or offsets[-1] != len(arrays["input_ids"]):
        return None
    return arrays


def read_arrays(path: Path, stay: Collection[str] = ()) -> dict[str, Any]:
    """What `write_cached` put at `path`; nothing where there is no file, or a damaged one.

    Args:
        stay: arrays that stay on disk.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return _read_in_place(path, stay) if stay else load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return {}


_KINDS: dict[str, np.dtype[Any]] = {"I32": np.dtype(np.int32), "I64": np.dtype(np.int64)}


def _read_in_place(path: Path, stay: Collection[str]) -> dict[str, Any]:
    """The arrays of a file of safetensors, by its format: eight bytes of length, so much JSON, the values."""
    file, size = File(path), path.stat().st_size
    begin = 8 + int.from_bytes(file.read(0, 8), "little")
    if begin > size:
        raise ValueError("the header is cut short")
    header = json.loads(file.read(8, begin))
    arrays: dict[str, Any] = {}
    for name, about in header.items():
        first, last = about["data_offsets"]
        if begin + last > size:
            raise ValueError("the file is cut short")
        (count,) = about["shape"]
        array = ArrayOnDisk(file, _KINDS[about["dtype"]], begin + first, count)
        arrays[name] = array if name in stay else np.asarray(array)
    return arrays


def _write_in_pieces(path: Path, arrays: Mapping[str, Any]) -> None:
    """As `safetensors.numpy.save_file`, piece by piece; of arrays of one axis."""
    kinds = {kind: name for name, kind in _KINDS.items()}
    ends = np.cumsum([len(array) * array.dtype.itemsize for array in arrays.values()]).tolist()
    header = {
        name: {"dtype": kinds[array.dtype], "shape": [len(array)], "data_offsets": [begin, end]}
        for (name, array), begin, end in zip(arrays.items(), [0, *ends], ends, strict=False)
    }
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for array in arrays.values():
            for part in array.parts() if isinstance(array, ArrayOnDisk) else [array]:
                file.write(part.tobytes())


def write_cached(path: Path, arrays: Mapping[str, Any]) -> None:
    """Caches arrays at `path`, whole or not at all; a disk that refuses is passed over."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    partial = path.with_suffix(f".{os.getpid()}.partial")
    # The writer of safetensors turns the system's errors, such as a full disk, into its own.
    with contextlib.suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if any(isinstance(array, ArrayOnDisk) for array in arrays.values()):
                _write_in_pieces(partial, arrays)
            else:
                save_file(dict(arrays), partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where encoded data are cached unless said otherwise."""
    return locations.cache_folder() / "encoded"
