"""A model's answers on labelled rows, one by one: the worst of them, and those whose label is likely wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tfft import calibration
from tfft.data import Split, words
from tfft.pages.numbers import shortened
from tfft.problems import MultiLabel, Problem, Regression, Tokens

# Characters of a text that are shown.
LONGEST_TEXT = 600
# Words before and after the one that is meant.
_WORDS_AROUND = 12


@dataclass(frozen=True)
class Answer:
    """What the model said, and what is written, of a row or a word.

    Attributes:
        number: of the row in its source.
        texts: of the row, or the words around the word.
        word: the word itself; None where it is of the row.
        label, prediction: in words.
        of_label, of_prediction: their probabilities; None where numbers are learned, or a row has any number of labels.
        loss: the negative log-likelihood; of numbers the distance.
    """

    number: int
    texts: tuple[str, ...]
    word: str | None
    label: str
    prediction: str
    of_label: float | None
    of_prediction: float | None
    loss: float


@dataclass(frozen=True)
class Answers:
    """All of a split.

    Attributes:
        labels, decided: (answers,) class ids; (answers, classes) of 0 and 1 where rows have any number of labels;
            numbers where those are learned.
        shares: (answers, classes) probabilities; None where numbers are learned.
        losses: (answers,), see `Answer`.
        places: (answers,) of the row in the split.
        word_places: (answers,) of the word in its row; None where answers are of rows.
    """

    problem: Problem
    split: Split
    labels: np.ndarray
    decided: np.ndarray
    shares: np.ndarray | None
    losses: np.ndarray
    places: np.ndarray
    word_places: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)

    def worst(self, most: int) -> list[Answer]:
        """Those that are wrong, the largest loss first."""
        wrong = self.decided != self.labels
        wrong = wrong.any(axis=-1) if wrong.ndim > 1 else wrong
        order = np.argsort(-self.losses, kind="stable")
        return [self.answer(at) for at in order[wrong[order]][:most]]

    def likely_label_errors(self) -> list[int]:
        """Positions of answers whose label is likely wrong, the likeliest first, by confident learning.

        Northcutt, Jiang and Chuang 2021, section 3, as cleanlab has it: a label is doubted where the model gives
        another class more than it gives that class on average to the rows labelled with it. None of numbers.
        """
        if self.shares is None:
            return []
        # Imported here: a second or two.
        from cleanlab.filter import find_label_issues

        own: dict[int, float] = {}
        for labels, shares in self._each_choice(self.shares):
            # Where every label is the same there is nothing to compare.
            if (labels == labels[:1]).all():
                continue
            with warnings.catch_warnings():
                # Of classes with few rows, in which it may find too little.
                warnings.simplefilter("ignore", UserWarning)
                found = find_label_issues(labels, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
            for at in map(int, found):
                own[at] = min(own.get(at, 1.0), float(shares[at, labels[at]]))
        return sorted(own, key=lambda at: (own[at], at))

    def _each_choice(self, shares: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labels and probabilities of the class; where rows have any number, of no or yes for each."""
        if self.labels.ndim == 1:
            yield self.labels, shares
            return
        for labels, yes in zip(self.labels.T.astype(int), shares.T, strict=True):
            yield labels, np.stack([1 - yes, yes], axis=1)

    def answer(self, at: int) -> Answer:
        """The one at this position."""
        place = int(self.places[at])
        rows = self.split.rows
        word = None
        texts = tuple(shortened(column[place], LONGEST_TEXT) for column in rows.texts)
        if self.word_places is not None:
            assert rows.words is not None
            texts, word = _around(rows.words[place], int(self.word_places[at]))
        of_label = of_prediction = None
        if self.shares is not None and self.labels.ndim == 1:
            of_label = float(self.shares[at, self.labels[at]])
            of_prediction = float(self.shares[at, self.decided[at]])
        return Answer(
            int(rows.numbers[place]),
            texts,
            word,
            self._named(self.labels[at]),
            self._named(self.decided[at]),
            of_label,
            of_prediction,
            float(self.losses[at]),
        )

    def _named(self, value: Any) -> str:
        if self.shares is None:
            return f"{value:.4g}"
        names = self.problem.names
        if self.labels.ndim == 1:
            return names[int(value)]
        return ", ".join(name for name, has in zip(names, value, strict=True) if has) or "none"


def of_split(problem: Problem, logits: np.ndarray, split: Split) -> Answers:
    """What a model's logits on a split with labels say.

    Args:
        logits: (rows, outputs), or (tokens, outputs) where words have tags.
    """
    assert split.labels is not None
    places: np.ndarray = np.arange(len(split))
    if isinstance(problem, Tokens):
        return _of_words(problem, logits, split)
    if isinstance(problem, Regression):
        decided, labels = problem.decide(logits), split.labels.astype(np.float64)
        return Answers(problem, split, labels, decided, None, np.abs(decided - labels), places, None)
    wide = logits.astype(np.float64)
    many = isinstance(problem, MultiLabel)
    shares = special.expit(wide) if many else special.softmax(wide, axis=-1)
    losses = calibration.negative_log_likelihoods(logits, split.labels)
    decided = problem.decide(logits) if isinstance(problem, MultiLabel) else logits.argmax(axis=-1)
    return Answers(problem, split, split.labels, decided, shares, losses, places, None)


def _of_words(problem: Tokens, logits: np.ndarray, split: Split) -> Answers:
    """Of all words that have a piece; their label is that of the first."""
    assert split.words is not None and split.rows.words is not None and split.labels is not None
    counts = [len(sentence) for sentence in split.rows.words]
    by_word = words.by_word(split.words, logits.astype(np.float64), counts, np.nan)
    labels = np.concatenate(words.by_word(split.words, split.labels, counts, words.IGNORED_LABEL))
    of_words = np.concatenate(by_word)
    known = np.isfinite(of_words).all(axis=-1) & (labels != words.IGNORED_LABEL)
    shares, labels = special.softmax(of_words[known], axis=-1), labels[known]
    return Answers(
        problem,
        split,
        labels,
        shares.argmax(axis=-1),
        shares,
        calibration.negative_log_likelihoods(of_words[known], labels),
        np.repeat(np.arange(len(counts)), counts)[known],
        np.concatenate([np.arange(count) for count in counts])[known],
    )


def _around(sentence: Sequence[str], at: int) -> tuple[tuple[str, ...], str]:
    before, after = sentence[max(0, at - _WORDS_AROUND) : at], sentence[at + 1 : at + 1 + _WORDS_AROUND]
    return (shortened(" ".join(before), LONGEST_TEXT), shortened(" ".join(after), LONGEST_TEXT)), shortened(
        sentence[at], LONGEST_TEXT
    )
