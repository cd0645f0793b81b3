"""Which rows a run had right, by the `predictions.csv` that it left."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfft import tasks

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Judged:
    """The validation rows of a run.

    Attributes:
        unit: what is right or wrong: `rows`, or `sentences` where words have tags.
        right: (rows,) bool: its class is right; all its labels are; all tags of the sentence are, since the words of
            one sentence are not answered independently of each other.
        fingerprint: of texts and true labels: where it is equal, they are the same rows in the same order.
    """

    unit: str
    right: np.ndarray
    fingerprint: str


def read(file: Path, problem_type: str) -> Judged | None:
    """What a run's `predictions.csv` says; None of numbers, which are not right or wrong, and where there is no file.

    Args:
        problem_type: one of `tasks`.
    """
    if problem_type == tasks.REGRESSION or not file.is_file():
        return None
    # Imported here: half a second.
    import pandas

    table = pandas.read_csv(file, dtype=str, keep_default_na=False)
    label, prediction = ("labels", "predictions") if problem_type == tasks.MULTI_LABEL else ("label", "prediction")
    right = table[label] == table[prediction]
    given = [name for name in ("row", "word_number", "text", "text_pair", "word", label) if name in table]
    unit = "rows"
    if problem_type == tasks.TOKENS:
        unit, right = "sentences", right.groupby(table["row"], sort=False).all()
    return Judged(unit, right.to_numpy(bool), _fingerprint(table[given]))


def _fingerprint(table: DataFrame) -> str:
    return hashlib.sha256(table.to_json(orient="split", index=False).encode()).hexdigest()
