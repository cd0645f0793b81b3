"""Documents to blocks of tokens, all as long as a model takes them: what a language model is trained on.

Each document is encoded without special tokens and cut; each block is then given its special tokens, so that it looks
to the model like a text of its own. Where blocks may not cross the ends of documents, a document's last block is
shorter (DOC-SENTENCES of Liu et al. 2019, RoBERTa, section 4.2); where they may, a separator stands between two
documents, and all blocks but the last are full (FULL-SENTENCES).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfft import tasks
from tfft.data import Prepared, Split, checks
from tfft.data.columns import ArrayWriter, TextsOnDisk
from tfft.data.encode import ROWS_AT_ONCE, Encoded, fingerprint, flat, from_arrays, read_arrays, to_arrays, write_cached
from tfft.data.labels import LabelMap
from tfft.data.rows import Rows, Splits
from tfft.errors import DataError

# Part of every cache key: raise it when the layout of what is cached, or how it is computed, changes.
CACHE_FORMAT = 1


@dataclass(frozen=True)
class Blocks(Split):
    """A split whose rows are documents, and whose `encoded` holds blocks of them: (blocks,) in place of rows."""

    def __len__(self) -> int:
        return len(self.encoded)


def special_tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that a tokenizer puts before a text, and behind it."""
    inside = tokenizer.mask_token_id
    whole = tokenizer.build_inputs_with_special_tokens([inside])
    at = whole.index(inside)
    return whole[:at], whole[at + 1 :]


def encode_blocks(
    documents: Sequence[str],
    tokenizer: Any,
    max_length: int,
    crosses: bool = False,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda documents: None,
) -> Encoded:
    """Encodes documents and packs their tokens into blocks of `max_length` tokens, special tokens included.

    Args:
        documents: texts; those without a token are passed over.
        tokenizer: a tokenizer of Transformers that has a mask token.
        crosses: whether a block may hold tokens of several documents, with a separator between them.
        cache: as in `encode.encode`.
        advance: called with the number of documents done, as they are done.

    Raises:
        DataError: `max_length` leaves no room beside the special tokens.

    Example:
        Documents of five tokens and of two, in blocks of five, two of which are the special tokens:

        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> encode_blocks(["a b c d e", "f g"], tokenizer, max_length=5).lengths.tolist()
        [5, 4, 4]
        >>> encode_blocks(["a b c d e", "f g"], tokenizer, max_length=5, crosses=True).lengths.tolist()
        [5, 5, 4]
    """
    before, behind = special_tokens_around(tokenizer)
    room = max_length - len(before) - len(behind)
    if room < 1:
        raise DataError(
            f"data.max_length: got {max_length}; expected at least {len(before) + len(behind) + 1}, since a block has "
            f"{len(before) + len(behind)} special tokens"
        )
    path = None
    if cache is not None:
        of_texts = fingerprint([documents], tokenizer, max_length)
        path = cache / f"{of_texts}-blocks-{CACHE_FORMAT}{'-crossing' if crosses else ''}.safetensors"
    on_disk = isinstance(documents, TextsOnDisk)
    if path is not None and (found := read_arrays(path, ("input_ids", "token_type_ids") if on_disk else ())):
        advance(len(documents))
        return from_arrays(found)
    writer = ArrayWriter(np.int32, on_disk)
    lengths: list[np.ndarray] = [np.zeros(0, np.int64)]
    packed = _crossing if crosses else _within
    for tokens, sizes in packed(_tokens(documents, tokenizer, advance), room, tokenizer.sep_token_id):
        block_tokens, block_lengths = _with_special_tokens(tokens, sizes, before, behind)
        writer.append(block_tokens)
        lengths.append(block_lengths)
    ends = np.cumsum(np.concatenate(lengths))
    encoded = Encoded(
        input_ids=writer.finish(),
        # One text a block: zeros throughout, which models take for granted.
        token_type_ids=None,
        offsets=np.concatenate([[0], ends]).astype(np.int64),
        lost_tokens=np.zeros(len(ends), np.int32),
    )
    if path is not None and len(encoded):
        write_cached(path, to_arrays(encoded))
    return encoded


# Tokens of documents end to end, and how many each has; afterwards of blocks.
_Pieces = Iterator[tuple[np.ndarray, np.ndarray]]


def _tokens(documents: Sequence[str], tokenizer: Any, advance: Callable[[int], None]) -> _Pieces:
    """Tokens of a few thousand documents at a time, without special ones."""
    for start in range(0, len(documents), ROWS_AT_ONCE):
        part = list(documents[start : start + ROWS_AT_ONCE])
        ids = tokenizer(
            part, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )["input_ids"]
        yield flat(ids), np.array([len(one) for one in ids], np.int64)
        advance(len(part))


def _within(pieces: _Pieces, room: int, separator: int | None) -> _Pieces:
    """Blocks of one document each; nothing is moved, only cut."""
    for tokens, sizes in pieces:
        blocks = -(-sizes // room)  # of each document
        cut = np.full(blocks.sum(), room, np.int64)
        has_any = sizes > 0
        cut[np.cumsum(blocks)[has_any] - 1] = ((sizes - 1) % room + 1)[has_any]
        yield tokens, cut


def _crossing(pieces: _Pieces, room: int, separator: int | None) -> _Pieces:
    """Full blocks, with a separator before each document but the first; what is left goes before the next piece."""
    left = np.zeros(0, np.int32)
    is_first = True
    for tokens, sizes in pieces:
        held = sizes[sizes > 0]
        starts = (np.cumsum(held) - held)[int(is_first) :]
        is_first = is_first and not len(held)
        parted = tokens if separator is None else np.insert(tokens, starts, separator)
        stream = np.concatenate([left, parted.astype(np.int32)])
        full = len(stream) // room
        yield stream[: full * room], np.full(full, room, np.int64)
        left = stream[full * room :]
    if len(left):
        yield left, np.array([len(left)])


def _with_special_tokens(
    tokens: np.ndarray, sizes: np.ndarray, before: list[int], behind: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The blocks' tokens with their special ones, end to end, and the lengths of the blocks."""
    ends = np.cumsum(sizes)
    at = np.concatenate([np.repeat(ends - sizes, len(before)), np.repeat(ends, len(behind))])
    special = np.concatenate([np.tile(before, len(sizes)), np.tile(behind, len(sizes))])
    # Of what goes to one place, what stands behind a block comes before what begins the next.
    order = np.concatenate([np.ones(len(before) * len(sizes)), np.zeros(len(behind) * len(sizes))])
    sorting = np.lexsort((order, at))
    return np.insert(tokens, at[sorting], special[sorting]).astype(np.int32), sizes + len(before) + len(behind)


def encode_splits(
    splits: Splits,
    tokenizer: Any,
    max_length: int,
    crosses: bool = False,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda documents: None,
) -> Prepared:
    """Every split as blocks; arguments as those of `encode_blocks`.

    Raises:
        DataError: the documents of a split have fewer tokens than one block, all together.
    """

    def of(name: str, rows: Rows | None) -> Blocks | None:
        if rows is None:
            return None
        encoded = encode_blocks(rows.texts[0], tokenizer, max_length, crosses, cache, advance)
        if encoded.total_tokens < max_length:
            raise DataError(
                f"{rows.source}: {len(rows):,} documents of {name} have {encoded.total_tokens:,} tokens in all, with "
                f"the special ones of a block, and one block has {max_length:,}; give more text, or a smaller "
                "data.max_length"
            )
        return Blocks(name, rows, encoded, None)

    train = of("train", splits.train)
    assert train is not None
    notes = (*splits.notes, *checks.examine(splits).sentences())
    validation, test = of("validation", splits.validation), of("test", splits.test)
    return Prepared(train, validation, test, LabelMap((), (), tasks.MASKED), max_length, notes)
