"""BERT's tokenizer as operations of TensorFlow alone, so that a SavedModel takes plain strings wherever it is loaded.

What the tokenizer does to a text is taken from itself, character by character: its normalizer and its splitting look at
one character at a time, so a table of all characters says all about them. Pieces are then found as WordPiece finds
them, the longest first (Wu et al. 2016; Devlin et al. 2019).
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import numpy as np

from tfft.backend import tf

_CODEPOINTS, _SURROGATES = 0x110000, range(0xD800, 0xE000)
# Beyond, no character is one at which BERT splits; it would only take time to ask.
_SPLIT_BELOW = 0x30000
# Characters that no text has, in place of special tokens that are written out in a text.
_NONCHARACTERS = range(0xFDD0, 0xFDF0)
# Where a text has them all the same, another such, which is as unknown to every tokenizer.
_MARKS, _NO_MARK = f"[{chr(_NONCHARACTERS[0])}-{chr(_NONCHARACTERS[-1])}]", chr(0x1FFFE)
_BLANK_SIGN = ord(" ")
# What becomes of a character: nothing, a blank, itself, itself between blanks, or what is listed for it.
_GONE, _BLANK, _SAME, _ALONE, _LISTED = range(5)
_LENGTHS = (0, 1, 1, 3)


def hindrance(tokenizer: Any) -> str | None:
    """Why a tokenizer cannot be had so; None where it can."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "it is none of the tokenizers library"
    parts = json.loads(backend.to_str())
    kinds = {name: (parts[name] or {}).get("type") for name in ("normalizer", "pre_tokenizer", "model")}
    wanted = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}
    if kinds != wanted:
        return f"it is not BERT's WordPiece ({', '.join(str(kind) for kind in kinds.values())})"
    added = [one for one in parts["added_tokens"] if one["normalized"] or one["single_word"] or one["lstrip"]]
    if added or len(parts["added_tokens"]) > len(_NONCHARACTERS):
        return "it has words of its own beside its special tokens"
    if (tokenizer.truncation_side, tokenizer.padding_side) != ("right", "right"):
        return "it cuts or fills up texts on their left side"
    return None


class WordPiece(tf.Module):
    """Texts, or pairs of them, to token ids, as `tokenizer` gives them.

    Args:
        tokenizer: a fast one of Transformers without a `hindrance`.
        max_length: tokens a row may have, special ones included; what is longer is cut, of a pair its longer text.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        super().__init__()
        backend = tokenizer.backend_tokenizer
        parts = json.loads(backend.to_str())
        model, vocabulary = parts["model"], tokenizer.get_vocab()
        self._max_length = max_length
        self._prefix = model["continuing_subword_prefix"]
        self._longest_word = model["max_input_chars_per_word"]
        self._longest_piece = max(map(len, vocabulary))
        self._unknown = vocabulary[model["unk_token"]]
        self._special = {one["content"]: one["id"] for one in parts["added_tokens"]}
        self._begin, self._end = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._padding = tokenizer.pad_token_id
        self._pair_types = tokenizer.create_token_type_ids_from_sequences([0], [0])[-1]
        self._characters = _Characters(backend)
        # A special token that stands in a text is found before anything else is done to it.
        pieces = {word: number for word, number in vocabulary.items() if word not in self._special}
        for mark, number in zip(_NONCHARACTERS, self._special.values(), strict=False):
            pieces[chr(mark)] = number
        initializer = tf.lookup.KeyValueTensorInitializer(list(pieces), list(pieces.values()), tf.string, tf.int32)
        self._pieces = tf.lookup.StaticHashTable(initializer, default_value=-1)

    def inputs(self, texts: tf.Tensor, pairs: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """`input_ids`, `attention_mask` and `token_type_ids`, each (texts, longest) int32, of strings (texts,)."""
        first = self.pieces(texts)
        if pairs is None:
            first = first[:, : self._max_length - 2]
            rows = tf.concat([self._column(first, self._begin), first, self._column(first, self._end)], axis=1)
            types = tf.zeros_like(rows)
        else:
            first, second = self._cut(first, self.pieces(pairs))
            begin, end = self._column(first, self._begin), self._column(first, self._end)
            ahead, behind = tf.concat([begin, first, end], axis=1), tf.concat([second, end], axis=1)
            rows = tf.concat([ahead, behind], axis=1)
            types = tf.concat([tf.zeros_like(ahead), tf.zeros_like(behind) + self._pair_types], axis=1)
        return {
            "input_ids": rows.to_tensor(self._padding),
            "attention_mask": tf.ones_like(rows).to_tensor(0),
            "token_type_ids": types.to_tensor(0),
        }

    def _column(self, rows: tf.RaggedTensor, number: int) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(tf.fill([rows.nrows()], number), tf.ones([rows.nrows()], tf.int64))

    def _cut(self, first: tf.RaggedTensor, second: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Both as long as `longest_first` of the tokenizers library leaves them."""
        room = tf.cast(self._max_length - 3, tf.int64)
        lengths = tf.stack([first.row_lengths(), second.row_lengths()])
        shorter, longer = tf.reduce_min(lengths, axis=0), tf.reduce_max(lengths, axis=0)
        # The shorter one stays whole where it has at most its half; else both get a half, and the longer an odd one.
        kept_long = tf.where(shorter > room, shorter, tf.maximum(shorter, room - shorter))
        halved = shorter + kept_long > room
        kept_short = tf.where(halved, room // 2, shorter)
        kept_long = tf.minimum(longer, tf.where(halved, room // 2 + room % 2, kept_long))
        first_is_longer = lengths[0] > lengths[1]
        return (
            _shortened(first, tf.where(first_is_longer, kept_long, kept_short)),
            _shortened(second, tf.where(first_is_longer, kept_short, kept_long)),
        )

    def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """The ids of each text's pieces, (texts, (pieces)) int32, without special tokens around them."""
        words = tf.strings.split(self._normalized(texts))
        numbers, counts = self._pieces_of(words.flat_values)
        of_words = tf.RaggedTensor.from_row_lengths(numbers, tf.cast(counts, tf.int64))
        return words.with_flat_values(of_words).merge_dims(1, 2)

    def _normalized(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts with a blank between words and around whatever stands alone."""
        texts = tf.strings.regex_replace(texts, _MARKS, _NO_MARK)
        for mark, token in zip(_NONCHARACTERS, self._special, strict=False):
            texts = tf.strings.regex_replace(texts, _literally(token), f" {chr(mark)} ")
        characters = tf.strings.unicode_decode(texts, "UTF-8")
        return tf.strings.unicode_encode(self._characters(characters), "UTF-8")

    def _pieces_of(self, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The ids of all words' pieces, end to end, and how many each word has."""
        lengths = tf.strings.length(words, "UTF8_CHAR")
        count = tf.size(words)
        fits = lengths <= self._longest_word
        done = tf.zeros_like(lengths)
        found = tf.zeros([0], tf.int32)
        owners = tf.zeros([0], tf.int32)

        def is_left(done: tf.Tensor, fits: tf.Tensor, found: tf.Tensor, owners: tf.Tensor) -> tf.Tensor:
            return tf.reduce_any(fits & (done < lengths))

        def next_pieces(done: tf.Tensor, fits: tf.Tensor, found: tf.Tensor, owners: tf.Tensor) -> tuple[tf.Tensor, ...]:
            active = tf.cast(tf.where(fits & (done < lengths))[:, 0], tf.int32)
            taken, numbers = self._longest(
                tf.gather(words, active), tf.gather(done, active), tf.gather(lengths, active)
            )
            where = active[:, tf.newaxis]
            return (
                tf.tensor_scatter_nd_add(done, where, taken),
                tf.tensor_scatter_nd_update(fits, where, numbers >= 0),
                tf.concat([found, numbers], axis=0),
                tf.concat([owners, active], axis=0),
            )

        any_number = tf.TensorShape([None])
        _, fits, found, owners = tf.while_loop(
            is_left,
            next_pieces,
            (done, fits, found, owners),
            shape_invariants=(lengths.shape, lengths.shape, any_number, any_number),
        )
        # A word of which something is no piece is unknown as a whole.
        whole = tf.gather(fits, owners)
        unknown = tf.cast(tf.where(~fits)[:, 0], tf.int32)
        owners = tf.concat([tf.boolean_mask(owners, whole), unknown], axis=0)
        found = tf.concat([tf.boolean_mask(found, whole), tf.fill(tf.shape(unknown), self._unknown)], axis=0)
        order = tf.argsort(owners, stable=True)
        return tf.gather(found, order), tf.math.bincount(owners, minlength=count, maxlength=count)

    def _longest(self, words: tf.Tensor, done: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How many characters the longest piece has at `done` of each word, and its id; -1 where there is none."""
        sizes = tf.range(1, self._longest_piece + 1)
        size = tf.minimum(sizes[tf.newaxis], (lengths - done)[:, tf.newaxis])
        shape = tf.shape(size)
        begin = tf.broadcast_to(done[:, tf.newaxis], shape)
        parts = tf.strings.substr(tf.broadcast_to(words[:, tf.newaxis], shape), begin, size, "UTF8_CHAR")
        numbers = self._pieces.lookup(tf.where(begin > 0, tf.strings.join([self._prefix, parts]), parts))
        best = tf.reduce_max(tf.where(numbers >= 0, size, 0), axis=1)
        at = tf.maximum(best - 1, 0)
        return best, tf.where(best > 0, tf.gather(numbers, at, axis=1, batch_dims=1), -1)


def _shortened(rows: tf.RaggedTensor, most: tf.Tensor) -> tf.RaggedTensor:
    """Each row's first values, as many as `most` (rows,) says."""
    place = tf.ragged.range(rows.row_lengths())
    return tf.ragged.boolean_mask(rows, place < tf.expand_dims(most, 1))


def _literally(token: str) -> str:
    """A text as a regular expression of RE2."""
    return "".join(sign if sign.isalnum() or ord(sign) > 127 else f"\\{sign}" for sign in token)


class _Characters:
    """What a tokenizer makes of each character of a text before it looks for pieces.

    Args:
        backend: of the tokenizers library, with BERT's normalizer and splitting.
    """

    def __init__(self, backend: Any) -> None:
        fates, listed = _fates(backend)
        starts = np.flatnonzero(np.diff(fates, prepend=-1))
        # Characters of one fate lie in runs, a few thousand of them.
        self._starts, self._kinds = starts.astype(np.int32), fates[starts].astype(np.int32)
        listed = listed or {_CODEPOINTS: ""}  # one at least, for tables that are not empty
        self._keys = np.array(list(listed), np.int32)
        lengths = np.array([len(one) for one in listed.values()], np.int32)
        self._values = np.array([ord(sign) for one in listed.values() for sign in one] or [0], np.int32)
        self._begins, self._listed_lengths = (np.cumsum(lengths) - lengths).astype(np.int32), lengths

    def __call__(self, given: tf.RaggedTensor) -> tf.RaggedTensor:
        """Characters (texts, (characters)) int32 to what stands for them, likewise."""
        signs = given.flat_values
        kinds = tf.gather(self._kinds, tf.searchsorted(self._starts, signs, side="right") - 1)
        entries = tf.minimum(tf.searchsorted(self._keys, signs), len(self._keys) - 1)
        is_listed = kinds == _LISTED
        lengths = tf.where(
            is_listed,
            tf.gather(self._listed_lengths, entries),
            tf.gather(_LENGTHS, tf.minimum(kinds, len(_LENGTHS) - 1)),
        )
        # For each character that comes out: of which it comes, and the how many of those it is.
        origin = tf.repeat(tf.range(tf.size(signs)), lengths)
        place = tf.range(tf.size(origin)) - tf.repeat(tf.cumsum(lengths, exclusive=True), lengths)
        kinds, signs, entries = (tf.gather(one, origin) for one in (kinds, signs, entries))
        is_blank = (kinds == _BLANK) | ((kinds == _ALONE) & (place != 1))
        at = tf.minimum(tf.gather(self._begins, entries) + place, len(self._values) - 1)
        made = tf.where(kinds == _LISTED, tf.gather(self._values, at), tf.where(is_blank, _BLANK_SIGN, signs))
        of_signs = tf.RaggedTensor.from_row_lengths(made, tf.cast(lengths, tf.int64))
        return given.with_flat_values(of_signs).merge_dims(1, 2)


def _fates(backend: Any) -> tuple[np.ndarray, dict[int, str]]:
    """What becomes of each character, (characters,) uint8, and for those listed what stands for them."""
    normalize, split = backend.normalizer.normalize_str, backend.pre_tokenizer.pre_tokenize_str

    @functools.cache
    def spaced(sign: str) -> str:
        parts = [part for part, _ in split(f"a{sign}a")] if ord(sign) < _SPLIT_BELOW else [""]
        return sign if len(parts) == 1 else " " if len(parts) == 2 else f" {sign} "

    fates, listed = np.full(_CODEPOINTS, _SAME, np.uint8), {}
    kinds = {"": _GONE, " ": _BLANK}
    for number in range(_CODEPOINTS):
        if number in _SURROGATES or number in _NONCHARACTERS:
            continue
        sign = chr(number)
        becomes = "".join(map(spaced, normalize(sign)))
        # Of blanks beside each other one is as good as several.
        becomes = re.sub(" +", " ", becomes)
        if becomes == sign:
            continue
        fates[number] = kinds.get(becomes, _ALONE if becomes == f" {sign} " else _LISTED)
        if fates[number] == _LISTED:
            listed[number] = becomes
    return fates, listed
