"""The rows that a finished run was validated on, as it left them in its `predictions.csv`.

They are there where the data are not: on another machine, or after the file was changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft.data import Split, encode_split
from tfft.data.labels import encode_labels, known_labels
from tfft.data.rows import Rows
from tfft.errors import DataError, RunError
from tfft.predictor import Predictor
from tfft.problems import MultiLabel, Regression, Tokens

if TYPE_CHECKING:
    from pandas import DataFrame

FILE = "predictions.csv"


def split_of(
    run: Path, predictor: Predictor, problem_type: str, most: int | None = None, label_all_tokens: bool = False
) -> Split:
    """The validation rows of a run, or the first of them, as token ids with labels.

    Args:
        run: the folder of a finished run.
        predictor: loaded from it.
        problem_type: one of `tasks`.
        most: rows, or sentences, at most.
        label_all_tokens: as the run's recipe says it.

    Raises:
        RunError: the run was not validated, or its file is not as it was written.
    """
    # Imported here: half a second.
    import pandas

    path = run / FILE
    if not path.is_file():
        raise RunError(
            f"run: {run} has no {FILE}, since it was not validated; train with validation rows "
            "(data.validation_file, or data.validation_split=0.1)"
        )
    try:
        rows = _rows(pandas.read_csv(path, dtype=str, keep_default_na=False), predictor)
        rows = rows.take(range(min(len(rows), most or len(rows))))
        labels = encode_labels(rows, known_labels(predictor.label_names, rows, problem_type))
    except (DataError, KeyError, ValueError) as error:
        raise RunError(f"run: {path} is not as the run has written it ({error}); copy the run again") from None
    return encode_split(
        "validation",
        rows,
        labels,
        predictor.tokenizer,
        predictor.max_length,
        label_all_tokens=label_all_tokens,
        long_text=predictor.long_text,
    )


def _rows(table: DataFrame, predictor: Predictor) -> Rows:
    if isinstance(predictor.problem, Tokens):
        sentences = [of_row for _, of_row in table.groupby("row", sort=False)]
        words = [tuple(one["word"]) for one in sentences]
        tags = [tuple(one["label"]) for one in sentences]
        numbers = [int(one["row"].iloc[0]) for one in sentences]
        return Rows(([" ".join(one) for one in words],), tags, numbers, FILE, words=words)
    texts = tuple(table[name].tolist() for name in ("text", "text_pair") if name in table)
    labels: list[Any]
    if isinstance(predictor.problem, MultiLabel):
        labels = [tuple(filter(None, given.split(";"))) for given in table["labels"]]
    elif isinstance(predictor.problem, Regression):
        labels = [float(given) for given in table["label"]]
    else:
        labels = table["label"].tolist()
    return Rows(texts, labels, [int(number) for number in table["row"]], FILE)
