"""Rows that occur twice: within a split, where they count double, and across splits, where they tell of no new text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfft.data import Split
from tfft.data.checks import keys
from tfft.pages.numbers import shortened

_LONGEST = 200


@dataclass(frozen=True)
class Pair:
    """Two rows with the same texts: their numbers in their sources, and their labels where they have some."""

    texts: tuple[str, ...]
    first: int
    second: int
    labels: tuple[str, str] | None


@dataclass(frozen=True)
class Overlap:
    """Rows of `second` whose texts occur in `first`, or, where both are one split, in an earlier row of it.

    Attributes:
        rows: how many.
        contradicting: of those, how many whose label is not that of the first such row.
        examples: some of them, the contradicting ones first.
    """

    first: str
    second: str
    rows: int
    contradicting: int
    examples: tuple[Pair, ...]


def find(splits: Sequence[Split], examples: int = 10) -> list[Overlap]:
    """The overlaps of every split with itself and with those after it; those without a row are left out.

    Texts are the same if they are so without their outer blanks, as in `data.checks`.
    """
    # Anew, though a fit's rows were looked through before it began: that takes 4 µs a row of 80 words, and what was
    # found then would take 8 bytes a row of memory for as long as the training lasts.
    known = [(split, keys(split.rows)[0]) for split in splits]
    found = []
    for at, (first, of_first) in enumerate(known):
        for second, of_second in known[at:]:
            overlap = _overlap(first, of_first, second, of_second, examples)
            if overlap.rows:
                found.append(overlap)
    return found


def _overlap(first: Split, of_first: np.ndarray, second: Split, of_second: np.ndarray, examples: int) -> Overlap:
    unique, earliest = np.unique(of_first, return_index=True)
    at = np.minimum(np.searchsorted(unique, of_second), len(unique) - 1)
    there = unique[at] == of_second
    if first is second:
        there &= earliest[at] != np.arange(len(of_second))
    places = np.flatnonzero(there)
    pairs = np.stack([earliest[at[places]], places], axis=1)
    contradict = _contradict(first, second, pairs)
    order = np.argsort(~contradict, kind="stable")[:examples]
    return Overlap(
        first.name,
        second.name,
        len(pairs),
        int(contradict.sum()),
        tuple(_pair(first, second, int(one), int(other)) for one, other in pairs[order]),
    )


def _contradict(first: Split, second: Split, pairs: np.ndarray) -> np.ndarray:
    """(pairs,) whether both rows have labels and those differ."""
    ours, theirs = first.rows.labels, second.rows.labels
    if ours is None or theirs is None:
        return np.zeros(len(pairs), bool)
    return np.asarray([ours[one] != theirs[other] for one, other in pairs], bool)


def _pair(first: Split, second: Split, one: int, other: int) -> Pair:
    ours, theirs = first.rows.labels, second.rows.labels
    labels = None
    if ours is not None and theirs is not None:
        labels = (_said(first, ours[one]), _said(second, theirs[other]))
    texts = tuple(shortened(column[other].strip(), _LONGEST) for column in second.rows.texts)
    return Pair(texts, int(first.rows.numbers[one]), int(second.rows.numbers[other]), labels)


def _said(split: Split, label: object) -> str:
    names = split.rows.class_names
    if names is not None and isinstance(label, int) and not isinstance(label, bool):
        return names[label]
    if isinstance(label, tuple):
        return shortened(", ".join(map(str, label)) or "none", _LONGEST)
    return str(label)
