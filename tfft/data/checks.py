"""What is worth knowing about the rows before training: empty texts, repeated rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfft.data.rows import Rows, Splits


@dataclass(frozen=True)
class SplitReport:
    """Counts over one split.

    Attributes:
        name: `train`, `validation` or `test`.
        rows: how many there are.
        empty_texts: rows with a text column that holds nothing but blanks.
        duplicated_rows: rows whose texts equal those of an earlier row, outer blanks aside.
        shared_with_train: rows whose texts also occur in the training split; 0 for that split itself.
    """

    name: str
    rows: int
    empty_texts: int
    duplicated_rows: int
    shared_with_train: int

    def sentences(self) -> list[str]:
        """One plain sentence for each count that deserves attention."""
        found = []
        if self.empty_texts:
            found.append(f"{self.name}: {_rows_have(self.empty_texts)} an empty text.")
        if self.duplicated_rows:
            found.append(f"{self.name}: {_rows_have(self.duplicated_rows)} the same text as an earlier row.")
        if self.shared_with_train:
            found.append(
                f"{self.name}: {_rows_have(self.shared_with_train)} the same text as a row of train; "
                "scores on them say little about new text."
            )
        return found


@dataclass(frozen=True)
class DataReport:
    """The reports of all splits there are, the training split first."""

    splits: tuple[SplitReport, ...]

    def sentences(self) -> list[str]:
        """One plain sentence for each count that deserves attention, over all splits."""
        return [sentence for split in self.splits for sentence in split.sentences()]


def examine(splits: Splits) -> DataReport:
    """Counts empty texts, repeated rows within each split and rows shared with the training split."""
    known = np.zeros(0, np.int64)
    reports = []
    for name, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if rows is None:
            continue
        known_here, empty = keys(rows)
        reports.append(
            SplitReport(
                name=name,
                rows=len(rows),
                empty_texts=empty,
                duplicated_rows=len(known_here) - len(np.unique(known_here)),
                shared_with_train=int(np.isin(known_here, known).sum()),
            )
        )
        known = known_here if name == "train" else known
    return DataReport(tuple(reports))


def keys(rows: Rows) -> tuple[np.ndarray, int]:
    """(rows,) int64, equal where rows have equal texts, outer blanks aside; and how many rows have an empty text.

    64 bits of a hash stand for the texts, which may be more than memory holds: of a million different rows, two are
    taken for alike once in thirty million times.
    """
    found, empty = np.empty(len(rows), np.int64), 0
    for index, texts in enumerate(zip(*rows.texts, strict=True)):
        stripped = tuple(text.strip() for text in texts)
        found[index] = hash(stripped)
        empty += not all(stripped)
    return found, empty


def _rows_have(number: int) -> str:
    return f"{number:,} {'row has' if number == 1 else 'rows have'}"
