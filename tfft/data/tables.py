"""Raw columns, from whatever source, to checked rows.

The same rules hold for all of them: texts are strings, labels are integers, strings or booleans, a value that is
missing is an error unless such rows are to be left out, and every row remembers its number in its source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tfft.data.rows import Rows, counted, kind_of, listed, row_name
from tfft.errors import DataError, nearest

_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """What is to be read from one source, and how messages about it begin."""

    prefix: str
    source: str
    text_columns: tuple[str, ...]
    label_column: str | None
    needs_labels: bool
    drop_invalid: bool

    @property
    def columns(self) -> list[str]:
        return [*self.text_columns, *([] if self.label_column is None else [self.label_column])]

    def error(self, message: str) -> DataError:
        return DataError(f"{self.prefix}: {message}")

    def row_error(self, row: str, message: str) -> DataError:
        return DataError(f"{self.prefix} {row}: {message}")

    def check_columns(self, present: Sequence[str]) -> None:
        """Raises a DataError where a needed column is missing; says which are there and the nearest of them."""
        if self.needs_labels and self.label_column is None:
            raise self.error("labels are needed, but no label column is named; set data.label_column")
        needed = [*self.text_columns, *([self.label_column] if self.needs_labels and self.label_column else [])]
        missing = [name for name in needed if name not in present]
        if not missing:
            return
        near = [f"did you mean {near!r}?" for name in missing if (near := nearest(name, present))]
        keys = [
            *(["data.text_columns"] if any(name in self.text_columns for name in missing) else []),
            *(["data.label_column"] if self.label_column in missing else []),
        ]
        columns = "column" if len(missing) == 1 else "columns"
        raise self.error(
            f"no {columns} {listed(map(repr, missing))}; the columns present are {listed(map(repr, present))}. "
            + " ".join([*near, f"Set {' and '.join(keys)} to columns that are there"])
            + _separator_hint(present)
        )


@dataclass(frozen=True)
class Table:
    """Raw columns as a source gave them, before texts and labels are checked."""

    columns: dict[str, list[Any]]
    numbers: list[int]
    lines: list[int] | None = None
    class_names: tuple[str, ...] | None = None
    is_plain_text: bool = False  # CSV and TSV: numbers and booleans are still written out
    notes: tuple[str, ...] = ()


def object_table(objects: Sequence[Any], lines: list[int] | None, wanted: Wanted) -> Table:
    """The wanted columns of a list of dicts; a key that one of them lacks is a missing value."""
    for index, item in enumerate(objects):
        if not isinstance(item, dict):
            row = row_name(index + 1, lines[index] if lines else None)
            raise wanted.row_error(row, f"{kind_of(item)}, expected an object with a value for each column")
    if not objects:
        raise wanted.error("there are no rows; expected at least one")
    present = list(dict.fromkeys(str(name) for item in objects for name in item))
    wanted.check_columns(present)
    columns = {name: [item.get(name) for item in objects] for name in wanted.columns if name in present}
    return Table(columns, list(range(1, len(objects) + 1)), lines)


def make_rows(table: Table, wanted: Wanted) -> tuple[Rows, list[str]]:
    """Checked rows of raw columns: texts are strings, labels are classes, missing values dropped or refused."""

    def name_row(index: int) -> str:
        return row_name(table.numbers[index], table.lines[index] if table.lines else None)

    if not table.numbers:
        raise wanted.error("there are no rows; expected at least one")
    notes = list(table.notes)
    needed = {name: _checked_texts(table.columns[name], name, name_row, wanted) for name in wanted.text_columns}
    labels = table.columns.get(wanted.label_column) if wanted.label_column is not None else None
    if labels is not None:
        read_labels = _labels_of_plain_text if table.is_plain_text else _labels_of_values
        labels = read_labels(labels, name_row, wanted)
        if table.class_names is not None:
            labels = [None if label == -1 else label for label in labels]  # the datasets library's "no label"
        if not wanted.needs_labels and None in labels:
            lacking = labels.count(None)
            whose = (
                "its rows have no labels" if lacking == len(labels) else f"{counted(lacking, 'row')} without a label"
            )
            notes.append(f"{wanted.source}: {whose}, so it cannot be scored.")
            labels = None
    if labels is not None and wanted.label_column is not None:
        needed[wanted.label_column] = labels
    rows = Rows(
        texts=tuple(needed[name] for name in wanted.text_columns),
        labels=labels,
        numbers=table.numbers,
        source=wanted.source,
        class_names=table.class_names if labels is not None else None,
        lines=table.lines,
    )
    return _without_nulls(rows, needed, name_row, wanted, notes)


def _without_nulls(
    rows: Rows, needed: dict[str, list[Any]], name_row: Callable[[int], str], wanted: Wanted, notes: list[str]
) -> tuple[Rows, list[str]]:
    lacking = {name: {at for at, value in enumerate(column) if value is None} for name, column in needed.items()}
    invalid: set[int] = set().union(*lacking.values())
    if not invalid:
        return rows, notes
    shown = listed(f"{len(found)} in {name!r}" for name, found in lacking.items() if found)
    if not wanted.drop_invalid:
        first = min(invalid)
        columns = listed(repr(name) for name, found in lacking.items() if first in found)
        raise wanted.row_error(
            name_row(first),
            f"no value in column {columns}; {counted(len(invalid), 'row')} of {len(rows)} lack a value ({shown}). "
            "Fill them in, or leave such rows out with data.drop_invalid=true",
        )
    if len(invalid) == len(rows):
        raise wanted.error(
            f"no rows are left: every one of {len(rows)} has a missing value ({shown}) and data.drop_invalid is true; "
            "check data.text_columns and data.label_column"
        )
    notes.append(
        f"{wanted.source}: {counted(len(invalid), 'row')} of {len(rows)} left out for missing values ({shown})."
    )
    return rows.take(at for at in range(len(rows)) if at not in invalid), notes


def _checked_texts(column: list[Any], name: str, name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """The column with None for missing values; raises a DataError for anything that is neither text nor missing."""
    texts = [value if type(value) is str else plain_value(value) for value in column]
    for index, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise wanted.row_error(
                name_row(index),
                f"column {name!r} holds {kind_of(text)}, expected a text (a string); correct it or set "
                "data.text_columns",
            )
    try:
        "".join(text for text in texts if text is not None).encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON escapes can spell but no tokenizer accepts.
        index = next(at for at, text in enumerate(texts) if text and any("\ud800" <= sign <= "\udfff" for sign in text))
        raise wanted.row_error(
            name_row(index), f"column {name!r} holds half a surrogate pair, which is no character; remove it"
        ) from None
    return texts


def _labels_of_plain_text(column: list[str], name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """Labels of a CSV or TSV column: integers where all are whole numbers, booleans where all are true or false."""
    stripped = [field.strip() for field in column]
    distinct = set(stripped) - {""}
    values: dict[str, Any] = {"": None}
    if distinct and all(map(_NUMBER.fullmatch, distinct)):
        values |= {text: _whole(text) for text in distinct}
        for index, text in enumerate(stripped):
            if text and values[text] is None:
                raise _fraction_error(text, name_row(index), wanted)
    elif {text.lower() for text in distinct} <= {"true", "false"}:
        values |= {text: text.lower() == "true" for text in distinct}
    else:
        values |= {text: text for text in distinct}
    return [values[text] for text in stripped]


def _whole(text: str) -> int | None:
    """The whole number that a text spells; None where it has a fraction."""
    if _INTEGER.fullmatch(text):
        return int(text)
    return int(number) if (number := float(text)).is_integer() else None


def _labels_of_values(column: list[Any], name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """Labels of typed values: integers (whole floats too), strings without outer blanks, booleans; None if missing."""
    labels: list[Any] = []
    for index, given in enumerate(column):
        value = plain_value(given)
        if isinstance(value, str):
            value = value.strip() or None
        elif isinstance(value, float) or type(value).__name__ == "Decimal":
            if not math.isfinite(value) or value != int(value):
                raise _fraction_error(value, name_row(index), wanted)
            value = int(value)
        elif value is not None and not isinstance(value, (bool, int)):
            raise wanted.row_error(
                name_row(index),
                f"the label is {kind_of(value)}, expected a class (an integer, a string or a boolean): this task needs "
                "classes; correct it or set data.label_column",
            )
        labels.append(value)
    return labels


def _fraction_error(value: Any, row: str, wanted: Wanted) -> DataError:
    return wanted.row_error(
        row,
        f"the label {value} is a number with a fraction: this task needs classes (integers, strings or booleans); "
        "set data.label_column to a column of classes",
    )


def plain_value(value: Any) -> Any:
    """A value without its library's wrapping: numpy scalars as Python's, every kind of missing value as None."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def _separator_hint(present: Sequence[str]) -> str:
    """What to add where a file's whole header came out as one column."""
    if len(present) != 1:
        return ""
    if "\t" in present[0]:
        return ". The header has tabs in it: name a tab-separated file .tsv"
    if "," in present[0]:
        return ". The header has commas in it: name a comma-separated file .csv"
    return ". The header has semicolons in it: separate the fields by commas" if ";" in present[0] else ""
