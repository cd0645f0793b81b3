"""Sentences that are words already, to token ids: which pieces are of which word, and back from pieces to words.

The same ragged layout, and the same cache, as `encode` has for texts. What a word's pieces are must not depend on
whether the tokenizer gets it in a text or alone. Byte-level BPE as RoBERTa and GPT-2 have it breaks this: it writes the
blank before a word into the word's first piece, so a word alone looks like the rest of a longer one, unless the
tokenizer was made with `add_prefix_space`. Such a tokenizer gets every word with a blank before it, which gives the
pieces that `add_prefix_space` gives. Which one needs this is found out by trying (`word_mark`), not by its name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfft.data.encode import (
    ARRAYS,
    ROWS_AT_ONCE,
    Encoded,
    fingerprint,
    flat,
    from_arrays,
    read_cached,
    to_arrays,
    write_cached,
)
from tfft.errors import DataError

NO_WORD = -1
IGNORED_LABEL = -100  # what the losses of Transformers leave out

_WORD_ARRAYS = ("word_ids", "lost_words", "pieceless_words")
# Lower case and common, so that few tokenizers know them only as unknown.
_PROBES = (("one", "two", "two"), ("a", "house", "of", "2", "."))


@dataclass(frozen=True)
class EncodedWords:
    """Token ids of many sentences, and the word that each piece is of.

    Attributes:
        encoded: the token ids; its `lost_tokens` are the pieces that were cut off.
        word_ids: (tokens,) int32, the number of the piece's word in its sentence, from 0; -1 for special tokens.
        lost_words: (rows,) int32, words of each sentence with every piece cut off.
        pieceless_words: (rows,) int32, words of each sentence that the tokenizer makes no piece of, such as an empty
            one or one of control characters only. They have no position that could predict something.
        first: (tokens,) bool, whether this is the first piece kept of its word: the first of all, unless the tokenizer
            cuts on the left and cut through this word.
    """

    encoded: Encoded
    word_ids: np.ndarray
    lost_words: np.ndarray
    pieceless_words: np.ndarray
    first: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", _first_pieces(self.word_ids, self.encoded.offsets))

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def rows(self) -> np.ndarray:
        """(tokens,) the sentence of each token."""
        return np.repeat(np.arange(len(self)), self.encoded.lengths)

    @property
    def kept_words(self) -> np.ndarray:
        """(rows,) words of each sentence with at least one piece."""
        return np.bincount(self.rows[self.first], minlength=len(self))

    @property
    def word_counts(self) -> np.ndarray:
        """(rows,) words of each sentence, as they were given."""
        return self.kept_words + self.lost_words + self.pieceless_words


def _first_pieces(word_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(tokens,) whether each token is of another word than the one before it."""
    before = np.concatenate([[NO_WORD], word_ids[:-1]])[: len(word_ids)]
    before[offsets[:-1][np.diff(offsets) > 0]] = NO_WORD  # without special tokens, a row starts where another ends
    return (word_ids != NO_WORD) & (word_ids != before)


# --- encoding ---------------------------------------------------------------------------------------------------------


def encode_words(
    sentences: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> EncodedWords:
    """Encodes sentences given as words, cut at `max_length` tokens (special tokens included).

    Args:
        sentences: the words of each.
        tokenizer: a fast tokenizer of Transformers.
        max_length: tokens a sentence may have; longer ones lose their end, or what the tokenizer's side says.
        cache: a folder for results, as for `encode.encode`.
        advance: called with the number of sentences done, as they are done.

    Raises:
        DataError: the tokenizer does not say which word a piece is of, or makes other pieces of words than of the text
            that they form.

    Example:
        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> words = encode_words([["good", "tea", "\\u200b"]], tokenizer, max_length=8)
        >>> words.word_ids.tolist(), words.pieceless_words.tolist()
        ([-1, 0, 1, 1, 1, -1], [1])
        >>> words.first.tolist()
        [False, True, True, False, False, False]
    """
    mark = word_mark(tokenizer)
    path = None if cache is None else cache / f"{_words_fingerprint(sentences, tokenizer, max_length)}.safetensors"
    if path is not None and (found := _read(path, len(sentences))) is not None:
        advance(len(sentences))
        return found

    parts = []
    for start in range(0, len(sentences), ROWS_AT_ONCE):
        part = sentences[start : start + ROWS_AT_ONCE]
        parts.append(_encode_part(part, tokenizer, max_length, mark))
        advance(len(part))
    result = _joined(parts or [_encode_part([], tokenizer, max_length, mark)])
    if path is not None:
        write_cached(path, to_arrays(result.encoded) | {name: getattr(result, name) for name in _WORD_ARRAYS})
    return result


def word_mark(tokenizer: Any) -> str:
    """What to put before every word: nothing, or a blank for byte-level BPE made without `add_prefix_space`.

    Raises:
        DataError: the tokenizer is a slow one, or neither way gives the pieces that the words have in a text.
    """
    name = type(tokenizer).__name__
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"the tokenizer is a {name}, a slow one, which does not say which word a piece is of, and tags of words "
            "need that; use a checkpoint with a fast tokenizer (one with a tokenizer.json)"
        )
    backend = _without_limits(tokenizer)
    for mark in ("", " "):
        if all(_is_like_text(words, mark, backend) for words in _PROBES):
            return mark
    raise DataError(
        f"the tokenizer, a {name}, makes other pieces of words given one by one than of the text they form, also with "
        "a blank before each, so the model would not know them; use a checkpoint whose tokenizer marks where words "
        "begin (for byte-level BPE: add_prefix_space=True)"
    )


def _is_like_text(words: Sequence[str], mark: str, backend: Any) -> bool:
    alone = backend.encode([mark + word for word in words], is_pretokenized=True, add_special_tokens=False)
    return alone.ids == backend.encode(mark + " ".join(words), add_special_tokens=False).ids


def _without_limits(tokenizer: Any) -> Any:
    """The tokenizer of the tokenizers library, as it encodes whole rows.

    It is called directly, since the classes of RoBERTa and GPT-2 refuse words, even those with a blank before them. Its
    truncation and padding are left behind by the last call, whatever that was; Transformers sets both at every call.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def _encode_part(sentences: Sequence[Sequence[str]], tokenizer: Any, max_length: int, mark: str) -> EncodedWords:
    """Some sentences at once."""
    backend = _without_limits(tokenizer)
    # An empty word stays one: a mark alone would be a piece.
    marked = [[mark + word if word and not word.startswith(" ") else word for word in words] for words in sentences]
    whole = backend.encode_batch(marked, is_pretokenized=True)
    long = [index for index, row in enumerate(whole) if len(row) > max_length]
    kept = list(whole)
    if long:
        # Only the tokenizer knows where special tokens go, so it does the cutting.
        backend.enable_truncation(max_length, direction=tokenizer.truncation_side)
        for index, row in zip(
            long, backend.encode_batch([marked[at] for at in long], is_pretokenized=True), strict=True
        ):
            kept[index] = row
        backend.no_truncation()
    found = _word_numbers(whole)
    has_types = "token_type_ids" in tokenizer.model_input_names
    lengths = [len(row) for row in kept]
    return EncodedWords(
        Encoded(
            input_ids=flat([row.ids for row in kept]),
            token_type_ids=flat([row.type_ids for row in kept]) if has_types else None,
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            lost_tokens=np.asarray([len(one) - length for one, length in zip(whole, lengths, strict=True)], np.int32),
        ),
        word_ids=flat([[NO_WORD if word is None else word for word in row.word_ids] for row in kept]),
        lost_words=np.asarray([len(a) - len(b) for a, b in zip(found, _word_numbers(kept), strict=True)], np.int32),
        pieceless_words=np.asarray([len(a) - len(b) for a, b in zip(sentences, found, strict=True)], np.int32),
    )


def _word_numbers(rows: Sequence[Any]) -> list[set[int]]:
    """The words of each row that have a piece."""
    return [{word for word in row.word_ids if word is not None} for row in rows]


def _joined(parts: Sequence[EncodedWords]) -> EncodedWords:
    encoded = [part.encoded for part in parts]
    types = [part.token_type_ids for part in encoded if part.token_type_ids is not None]
    return EncodedWords(
        Encoded(
            input_ids=np.concatenate([part.input_ids for part in encoded]),
            token_type_ids=np.concatenate(types) if types else None,
            offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in encoded]))]).astype(
                np.int64
            ),
            lost_tokens=np.concatenate([part.lost_tokens for part in encoded]),
        ),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _WORD_ARRAYS},
    )


def _words_fingerprint(sentences: Sequence[Sequence[str]], tokenizer: Any, max_length: int) -> str:
    """As `encode.fingerprint`, and over where each sentence ends; never the same as that of texts."""
    words = [word for sentence in sentences for word in sentence]
    counts = " ".join(str(len(sentence)) for sentence in sentences)
    return f"words-{fingerprint([words, [counts]], tokenizer, max_length)}"


def _read(path: Path, rows: int) -> EncodedWords | None:
    """What is cached at `path`, or None where there is nothing whole for this number of sentences."""
    arrays = read_cached(path, rows, (*ARRAYS, *_WORD_ARRAYS))
    if arrays is None:
        return None
    sizes = [len(arrays[name]) for name in _WORD_ARRAYS]
    if sizes != [len(arrays["input_ids"]), rows, rows]:
        return None
    return EncodedWords(from_arrays(arrays), **{name: arrays[name] for name in _WORD_ARRAYS})


# --- words to pieces and back -----------------------------------------------------------------------------------------


def align_labels(words: EncodedWords, label_ids: Sequence[Sequence[int]], label_all_pieces: bool) -> np.ndarray:
    """(tokens,) int32, the label of each piece; -100, which no loss counts, at special tokens and unlabelled pieces.

    Args:
        label_ids: one a word, for each sentence.
        label_all_pieces: give a word's label to all its pieces, not to the first alone.

    Raises:
        ValueError: there are not as many labels as words.
    """
    starts = _word_starts(words, [len(row) for row in label_ids])
    labels = flat(label_ids)
    aligned = np.full(len(words.word_ids), IGNORED_LABEL, np.int32)
    chosen = words.word_ids != NO_WORD if label_all_pieces else words.first
    aligned[chosen] = labels[starts[words.rows[chosen]] + words.word_ids[chosen]]
    return aligned


def by_word(words: EncodedWords, values: np.ndarray, counts: Sequence[int], fill: Any) -> list[np.ndarray]:
    """(words, …) for each sentence: the value at each word's first piece.

    Args:
        values: (tokens, …) for all sentences end to end, as `words.encoded` has them; no padding.
        counts: words of each sentence.
        fill: for words that were cut off or have no piece; a value, or an array that fits one word's values. It becomes
            of the type of `values`.

    Raises:
        ValueError: `values` or `counts` do not fit these sentences.
    """
    if len(values) != len(words.word_ids):
        raise ValueError(f"{len(values)} values, expected one for each of {len(words.word_ids)} tokens")
    starts = _word_starts(words, counts)
    found = np.full((starts[-1], *values.shape[1:]), fill, values.dtype)
    found[starts[words.rows[words.first]] + words.word_ids[words.first]] = values[words.first]
    return [found[start:end] for start, end in itertools.pairwise(starts)]


def _word_starts(words: EncodedWords, counts: Sequence[int]) -> np.ndarray:
    """(rows + 1,) where each sentence's words begin when all words are put end to end."""
    given, expected = np.asarray(counts, np.int64), words.word_counts
    if given.shape != expected.shape:
        raise ValueError(f"{len(given)} sentences, expected {len(expected)}")
    if (wrong := np.flatnonzero(given != expected)).size:
        row = wrong[0]
        raise ValueError(f"sentence {row} has {given[row]} values, expected one for each of {expected[row]} words")
    return np.concatenate([[0], np.cumsum(given)])
