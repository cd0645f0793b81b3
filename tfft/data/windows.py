"""Texts longer than a model takes: their head and tail, or windows that hold all of them.

Both are of Sun et al. 2019, How to Fine-Tune BERT for Text Classification, section 5.3.1. Pieces are what a text's
tokens are called before special tokens go around them; the room is how many pieces fit beside those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from tfft.errors import DataError

# The paper's split of the 510 pieces that BERT has room for.
HEAD_SHARE = 128 / 510


@dataclass(frozen=True)
class LongText:
    """What becomes of a text that has more tokens than a model takes.

    Attributes:
        mode: `truncate` cuts it where the tokenizer would; `head_tail` keeps its beginning and its end;
            `sliding_window` keeps all of it, in several windows that each go through the model.
        stride: pieces by which each window overlaps the one before, as in `stride` of the tokenizers' own
            `return_overflowing_tokens`: windows begin `room - stride` pieces apart. For `sliding_window`.
        head_share: the share of the room that goes to the beginning, rounded to whole pieces. For `head_tail`.
    """

    mode: Literal["truncate", "head_tail", "sliding_window"] = "truncate"
    stride: int = 0
    head_share: float = HEAD_SHARE


TRUNCATE = LongText()


class Cut(NamedTuple):
    """Texts as rows of token ids, end to end; a text has one row or several, one after another.

    Attributes:
        input_ids: (tokens,) int32, special tokens included.
        token_type_ids: (tokens,) int32, or None where the tokenizer makes none.
        lengths: (rows,) tokens in each row.
        lost: (rows,) tokens of the text that are in no row.
        rows: (texts,) rows of each text, at least one.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray | None
    lengths: np.ndarray
    lost: np.ndarray
    rows: np.ndarray


class Around(NamedTuple):
    """What a tokenizer puts around the pieces of a single text: token ids, and their types where it makes any."""

    before: list[int]
    after: list[int]
    types_before: list[int] | None
    types_after: list[int] | None
    type_of_pieces: int


def check(long_text: LongText, columns: int, tokenizer: Any, max_length: int) -> None:
    """Raises a DataError unless texts in so many columns can be cut as `long_text` says."""
    if long_text.mode == "truncate":
        return
    if columns != 1:
        raise DataError(
            f"data.long_text: got {long_text.mode} with {columns} text columns; expected one column, since a pair has "
            "no order in which to cut both texts; give one column in data.text_columns, or data.long_text=truncate"
        )
    added = tokenizer.num_special_tokens_to_add(pair=False)
    room = max_length - added
    if room < 1:
        raise DataError(
            f"data.max_length: got {max_length}; expected at least {added + 1}, since the tokenizer adds {added} "
            f"special tokens to each row; give data.max_length={added + 1} or more"
        )
    if long_text.mode == "sliding_window" and not 0 <= long_text.stride < room:
        raise DataError(
            f"data.stride: got {long_text.stride}; expected 0 to {room - 1}, since windows overlap by it and "
            f"data.max_length={max_length} has room for {room} pieces of a text beside {added} special tokens; "
            f"give a smaller one, such as data.stride={room // 4}"
        )
    if long_text.mode == "head_tail" and not 0 <= long_text.head_share <= 1:
        raise DataError(
            f"head_share: got {long_text.head_share}; expected the share of a row that is the text's head, from 0 to "
            "1; give one between them, such as 0.25"
        )


def cut(texts: Sequence[str], tokenizer: Any, max_length: int, long_text: LongText) -> Cut:
    """Single texts as rows of at most `max_length` tokens, none of which the tokenizer has truncated.

    The special tokens are those that the tokenizer puts around one text; a text that fits is exactly what the tokenizer
    makes of it. Fast and slow tokenizers alike: they only split texts into pieces, whatever their truncation side.

    Args:
        long_text: `head_tail` or `sliding_window`, as `check` lets it pass.

    Raises:
        DataError: the tokenizer changes a text's pieces where it adds special tokens, so that they cannot be cut.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=False)
    batch = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    counts = np.array([len(row) for row in batch["input_ids"]], np.int64)
    pieces = np.fromiter((piece for row in batch["input_ids"] for piece in row), np.int32, count=counts.sum())
    around = _around(tokenizer, texts, pieces, counts)
    if long_text.mode == "head_tail":
        chosen, lengths = head_tail(counts, room, round(room * long_text.head_share))
        rows = np.ones(len(counts), np.int64)
        lost = counts - lengths
    else:
        chosen, lengths, rows = sliding(counts, room, long_text.stride)
        lost = np.zeros(len(lengths), np.int64)
    input_ids = _surrounded(pieces[chosen], lengths, around.before, around.after)
    types = None
    if around.types_before is not None and around.types_after is not None:
        of_pieces = np.full(len(chosen), around.type_of_pieces, np.int32)
        types = _surrounded(of_pieces, lengths, around.types_before, around.types_after)
    return Cut(input_ids, types, lengths + len(around.before) + len(around.after), lost, rows)


def head_tail(counts: np.ndarray, room: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces to keep of texts that lie end to end: of one longer than `room`, the first `head` and the last ones.

    Args:
        counts: (texts,) pieces of each.

    Returns:
        Positions of the pieces kept, and how many each text keeps, (texts,).

    Example:
        >>> positions, lengths = head_tail(np.array([2, 6]), room=4, head=1)
        >>> positions.tolist(), lengths.tolist()
        ([0, 1, 2, 5, 6, 7], [2, 4])
    """
    place = _counted_up(counts)  # of each piece in its text
    left = np.repeat(counts, counts) - place  # pieces from this one to the text's end
    is_long = np.repeat(counts > room, counts)
    return np.flatnonzero(~is_long | (place < head) | (left <= room - head)), np.minimum(counts, room)


def sliding(counts: np.ndarray, room: int, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pieces each window holds, of texts that lie end to end. The last window of a text has what is left.

    Args:
        counts: (texts,) pieces of each.
        room: pieces of a window.
        stride: pieces that a window shares with the one before, below `room`.

    Returns:
        Positions of the windows' pieces, window by window; pieces of each window, (windows,); windows of each text,
        (texts,).

    Example:
        >>> [found.tolist() for found in sliding(np.array([2, 6]), room=4, stride=1)]
        [[0, 1, 2, 3, 4, 5, 5, 6, 7], [2, 4, 3], [1, 2]]
    """
    step = room - stride
    windows = 1 + -(-np.maximum(counts - room, 0) // step)
    begins = _counted_up(windows) * step  # in the window's text
    lengths = np.minimum(room, np.repeat(counts, windows) - begins)
    first_pieces = np.repeat(np.cumsum(counts) - counts, windows) + begins
    return np.repeat(first_pieces, lengths) + _counted_up(lengths), lengths, windows


def _counted_up(counts: np.ndarray) -> np.ndarray:
    """0 to count - 1 for each of `counts`, end to end."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _around(tokenizer: Any, texts: Sequence[str], pieces: np.ndarray, counts: np.ndarray) -> Around:
    """Where the tokenizer puts special tokens, seen from what it makes of one of these texts.

    Asked this way because nothing else is true of every tokenizer: `build_inputs_with_special_tokens` of a
    `PreTrainedTokenizerFast` without a class of its own adds none.
    """
    # The text with the most pieces that are no special tokens: among those, a special token's place could be mistaken.
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    plain = np.bincount(
        np.repeat(np.arange(len(counts)), counts), ~np.isin(pieces, list(special)), minlength=len(counts)
    )
    probe = int(np.argmax(plain))
    alone = pieces[counts[:probe].sum() :][: counts[probe]].tolist()
    batch = tokenizer([texts[probe]], truncation=False, return_attention_mask=False, verbose=False)
    whole = list(batch["input_ids"][0])
    added = len(whole) - len(alone)
    before = next((at for at in range(added + 1) if whole[at : at + len(alone)] == alone), None)
    if before is None or added != tokenizer.num_special_tokens_to_add(pair=False):
        raise DataError(
            f"data.long_text: {type(tokenizer).__name__} makes other tokens of a text with special tokens than "
            "without; expected the same ones and special tokens around them; give data.long_text=truncate"
        )
    after = before + len(alone)
    types = list(batch["token_type_ids"][0]) if "token_type_ids" in batch else None
    return Around(
        whole[:before],
        whole[after:],
        None if types is None else types[:before],
        None if types is None else types[after:],
        types[before] if types and alone else 0,
    )


def _surrounded(values: np.ndarray, lengths: np.ndarray, before: list[int], after: list[int]) -> np.ndarray:
    """Rows of `values`, end to end and `lengths` long, each with `before` in front of it and `after` behind it."""
    ends = np.cumsum(lengths + len(before) + len(after))
    starts = ends - lengths - len(before) - len(after)
    added = np.concatenate(
        [starts[:, np.newaxis] + np.arange(len(before)), ends[:, np.newaxis] - np.arange(len(after), 0, -1)], axis=1
    )
    out = np.empty(len(values) + added.size, np.int32)
    out[added] = np.array([*before, *after], np.int32)
    is_value = np.ones(len(out), bool)
    is_value[added] = False
    out[is_value] = values
    return out
