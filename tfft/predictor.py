"""Texts to answers, by a model that is in memory: what a training leaves, and what is loaded from a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft.data import batches
from tfft.data.encode import Encoded, encode
from tfft.data.rows import kind_of
from tfft.data.windows import LongText
from tfft.data.words import encode_words
from tfft.errors import DataError
from tfft.models import heads
from tfft.problems import Entity, MultiLabel, Problem, SingleLabel, Tokens, WordTag

BATCH_SIZE = 32

# As str.split parts a text, but with the places.
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Predictor:
    """A model and all that its answers depend on.

    Attributes:
        model: the Keras model.
        tokenizer: its own.
        problem: what the labels are, and how logits become answers.
        max_length: tokens a text may have.
        long_text, window_pooling: what becomes of longer ones, and of the logits of their windows.
        text_columns: the columns that it was trained on, two of them where texts are pairs; None where nothing says so.
        batch_size: texts in a batch; of short ones it takes more, see `batches.for_prediction`.
        temperature: what logits are divided by before they become probabilities; see `calibration`.
    """

    model: Any
    tokenizer: Any
    problem: Problem
    max_length: int
    long_text: LongText
    window_pooling: str
    text_columns: tuple[str, ...] | None = None
    batch_size: int = BATCH_SIZE
    temperature: float = 1.0

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes in id order."""
        return self.problem.names

    @property
    def has_tags(self) -> bool:
        """Whether it gives a tag to each word."""
        return isinstance(self.problem, Tokens)

    def predict(self, texts: Sequence[str] | Sequence[Sequence[str]], top_k: int | None = None) -> list[Any]:
        """An answer for each text, or for each pair of texts where the model was trained on pairs.

        Args:
            texts: a list of texts, or of pairs of them. Where words have tags: of texts, which are parted at white
                space, or of lists of words.
            top_k: give so many of the likeliest classes for each text.

        Returns:
            For each, `problems.Prediction` (label, probability), or with `top_k` a list of them, best first;
            `problems.Labels` (labels, probabilities) where a text has any number of classes; a number for regression.
            Where words have tags, a list of `problems.WordTag` (word, tag, probability); see `entities`.

        Raises:
            DataError: something in `texts` is no text, or no pair; or there are not as many classes as `top_k`.
        """
        self.check_top_k(top_k)
        if isinstance(texts, str):
            raise DataError("texts: got one text; expected a list of texts, so put it into brackets")
        if not len(texts):
            return []
        if isinstance(self.problem, Tokens):
            return self._tags([[text[a:b] for a, b in places] for text, places in map(_with_places, texts)])
        logits = self._logits(self._columns(texts))
        return self.problem.answers(logits) if top_k is None else self.problem.ranked(logits, top_k)

    def entities(self, texts: Sequence[str] | Sequence[Sequence[str]]) -> list[list[Entity]]:
        """The entities of each text, where words have tags.

        A text is parted at white space; of a list of words, the text is these with blanks between them. Words that the
        model was not given, since the text was too long, are in no entity.

        Raises:
            DataError: words have no tags here, or something in `texts` is no text.
        """
        if not isinstance(self.problem, Tokens):
            raise DataError("entities are of models that give tags to words; this one does not, so call predict(texts)")
        parted = [_with_places(text) for text in texts]
        if not parted:
            return []
        answers = self._tags([[text[a:b] for a, b in places] for text, places in parted])
        return self.problem.entities(answers, [text for text, _ in parted], [places for _, places in parted])

    def check_top_k(self, top_k: int | None) -> None:
        """Raises a DataError unless there are so many classes to give for a text."""
        if top_k is None:
            return
        if not isinstance(self.problem, SingleLabel | MultiLabel):
            raise DataError("top_k: expected none, since this model gives no classes of texts that could be ranked")
        if not 1 <= top_k <= len(self.label_names):
            raise DataError(f"top_k: got {top_k}; expected 1 to {len(self.label_names)}, as many classes as there are")

    def _columns(self, texts: Sequence[Any]) -> list[list[str]]:
        """One list of strings for texts, two for pairs."""
        rows = [(text,) if isinstance(text, str) else text for text in texts]
        first = rows[0]
        wanted = len(self.text_columns or (first if isinstance(first, list | tuple) else [""]))
        for number, row in enumerate(rows, 1):
            if not isinstance(row, list | tuple) or not all(isinstance(one, str) for one in row):
                raise DataError(f"texts: number {number} is or holds {_wrong(row)}; expected texts")
            if len(row) != wanted:
                what = "a single text" if wanted == 1 else "a pair, since the model was trained on pairs"
                whole = "a single text" if len(row) == 1 else f"{len(row)} texts"
                raise DataError(f"texts: number {number} is {whole}; expected {what if self.text_columns else wanted}")
        return [list(column) for column in zip(*rows, strict=True)]

    def logits(self, encoded: Encoded) -> np.ndarray:
        """The model's own, at no temperature: (texts, outputs) float32, or (tokens, outputs) where words have tags.

        Args:
            encoded: rows as this tokenizer makes them.
        """
        dataset, order = batches.for_prediction(
            encoded, batch_size=self.batch_size, tokenizer=self.tokenizer, max_length=self.max_length
        )
        if self.has_tags:
            return heads.token_logits_of(self.model, dataset, order, encoded.offsets)
        of_rows = heads.logits_of(self.model, dataset, order)
        return heads.pool_windows(of_rows, encoded.window_starts, self.window_pooling)

    def _logits(self, columns: list[list[str]]) -> np.ndarray:
        encoded = encode(columns, self.tokenizer, self.max_length, long_text=self.long_text)
        return self.logits(encoded) / self.temperature

    def _tags(self, sentences: list[list[str]]) -> list[list[WordTag]]:
        assert isinstance(self.problem, Tokens)
        words = encode_words(sentences, self.tokenizer, self.max_length)
        return self.problem.tags(self.logits(words.encoded) / self.temperature, words, sentences)


def _with_places(text: Any) -> tuple[str, list[tuple[int, int]]]:
    """A text, and where its words begin and end; of a list of words, these with blanks between them."""
    if isinstance(text, str):
        return text, [found.span() for found in _WORD.finditer(text)]
    if not isinstance(text, list | tuple) or not all(isinstance(word, str) for word in text):
        raise DataError(f"texts: one is or holds {_wrong(text)}; expected texts, or lists of words")
    places, start = [], 0
    for word in text:
        places.append((start, start + len(word)))
        start += len(word) + 1
    return " ".join(text), places


def _wrong(value: Any) -> str:
    """What is not a text, in plain words."""
    if isinstance(value, list | tuple):
        value = next(one for one in value if not isinstance(one, str))
    return kind_of(value)
