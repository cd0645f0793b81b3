"""Raw columns, from whatever source, to checked rows.

The same rules hold for all of them: texts are strings, labels are what the problem type says, a value that is missing
is an error unless such rows are to be left out, and every row remembers its number in its source.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfft import tasks
from tfft.data.columns import TextsOnDisk, TextWriter, finished, missing_in, row_numbers
from tfft.data.rows import Rows, counted, kind_of, listed, row_name
from tfft.errors import DataError, nearest

_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Targets:
    """What is learned from the rows, beside the column of labels.

    Attributes:
        problem_type: what a label is: one of `tasks.Task.problem_types`.
        label_columns: columns of 0 and 1, one a label, in place of one column with lists.
        label_separator: what stands between the labels of a field; None where the source has lists.
        weight_column: what each row counts in the training loss.
    """

    problem_type: str = tasks.SINGLE_LABEL
    label_columns: tuple[str, ...] = ()
    label_separator: str | None = None
    weight_column: str | None = None


# Classes, one a row.
CLASSES = Targets()


@dataclass(frozen=True)
class Wanted:
    """What is to be read from one source, and how messages about it begin."""

    prefix: str
    source: str
    text_columns: tuple[str, ...]
    label_column: str | None
    needs_labels: bool
    drop_invalid: bool
    targets: Targets = CLASSES

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Those that labels are read from."""
        return self.targets.label_columns or (() if self.label_column is None else (self.label_column,))

    @property
    def weight_columns(self) -> tuple[str, ...]:
        """That of the weights, where there is one."""
        return () if self.targets.weight_column is None else (self.targets.weight_column,)

    @property
    def columns(self) -> list[str]:
        return [*self.text_columns, *self.label_columns, *self.weight_columns]

    def error(self, message: str) -> DataError:
        return DataError(f"{self.prefix}: {message}")

    def row_error(self, row: str, message: str) -> DataError:
        return DataError(f"{self.prefix} {row}: {message}")

    def check_columns(self, present: Sequence[str]) -> None:
        """Raises a DataError where a needed column is missing; says which are there and the nearest of them."""
        if self.needs_labels and not self.label_columns:
            raise self.error("labels are needed, but no label column is named; set data.label_column")
        by_key = {
            "data.text_columns": self.text_columns,
            "data.label_columns" if self.targets.label_columns else "data.label_column": (
                self.label_columns if self.needs_labels else ()
            ),
            "data.sample_weight_column": self.weight_columns,
        }
        missing = [name for names in by_key.values() for name in names if name not in present]
        if not missing:
            return
        near = [f"did you mean {near!r}?" for name in missing if (near := nearest(name, present))]
        keys = [key for key, names in by_key.items() if any(name in missing for name in names)]
        columns = "column" if len(missing) == 1 else "columns"
        raise self.error(
            f"no {columns} {listed(map(repr, missing))}; the columns present are {listed(map(repr, present))}. "
            + " ".join([*near, f"Set {' and '.join(keys)} to columns that are there"])
            + _separator_hint(present)
        )


@dataclass(frozen=True)
class Table:
    """Raw columns as a source gave them, before texts and labels are checked."""

    columns: Mapping[str, Sequence[Any]]
    numbers: Sequence[int]
    lines: Sequence[int] | None = None
    class_names: tuple[str, ...] | None = None
    is_plain_text: bool = False  # CSV and TSV: numbers and booleans are still written out
    notes: tuple[str, ...] = ()


def object_table(
    objects: Iterable[Any],
    lines: Sequence[int] | None,
    wanted: Wanted,
    make_column: Callable[[str], list[Any] | TextWriter] = lambda name: [],
) -> Table:
    """The wanted columns of dicts, one a row; a key that one of them lacks is a missing value.

    Args:
        lines: of the rows in their file; it may grow as `objects` are read.
        make_column: what takes a column's values.
    """
    found = {name: make_column(name) for name in wanted.columns}
    present: dict[str, None] = {}
    count = 0
    for index, item in enumerate(objects):
        if not isinstance(item, dict):
            row = row_name(index + 1, lines[index] if lines else None)
            raise wanted.row_error(row, f"{kind_of(item)}, expected an object with a value for each column")
        present |= dict.fromkeys(map(str, item))
        for name, column in found.items():
            column.append(item.get(name))
        count += 1
    if not count:
        raise wanted.error("there are no rows; expected at least one")
    wanted.check_columns(list(present))
    columns = {name: finished(column) for name, column in found.items() if name in present}
    is_large = any(isinstance(column, TextsOnDisk) for column in columns.values())
    return Table(columns, row_numbers(count, is_large), lines)


def make_rows(table: Table, wanted: Wanted) -> tuple[Rows, list[str]]:
    """Checked rows of raw columns: texts are strings, labels are classes, missing values dropped or refused."""

    def name_row(index: int) -> str:
        return row_name(table.numbers[index], table.lines[index] if table.lines else None)

    if not table.numbers:
        raise wanted.error("there are no rows; expected at least one")
    notes = list(table.notes)
    columns, words = table.columns, None
    if wanted.targets.problem_type == tasks.TOKENS:
        name = wanted.text_columns[0]
        words = _lists_of_texts(columns[name], name, name_row, wanted)
        columns = {**columns, name: [None if row is None else " ".join(row) for row in words]}
    needed = {name: _checked_texts(columns[name], name, name_row, wanted) for name in wanted.text_columns}
    texts = tuple(needed[name] for name in wanted.text_columns)
    labels, class_names = _labels(table, name_row, wanted)
    if labels is not None:
        if table.class_names is not None:
            labels = [None if label == -1 else label for label in labels]  # the datasets library's "no label"
        if wanted.targets.problem_type == tasks.REGRESSION and not wanted.needs_labels and set(labels) == {-1.0}:
            labels = [None] * len(labels)  # what GLUE's STS-B has in its test split
        if not wanted.needs_labels and None in labels:
            lacking = labels.count(None)
            whose = (
                "its rows have no labels" if lacking == len(labels) else f"{counted(lacking, 'row')} without a label"
            )
            notes.append(f"{wanted.source}: {whose}, so it cannot be scored.")
            labels = None
    if labels is not None:
        needed[", ".join(wanted.label_columns)] = labels
    weights = None
    for name in wanted.weight_columns:
        weights = needed[name] = _weights(table.columns[name], name, name_row, wanted)
    rows = Rows(
        texts=texts,
        labels=labels,
        numbers=table.numbers,
        source=wanted.source,
        class_names=class_names if labels is not None else None,
        lines=table.lines,
        weights=weights,
        words=words,
    )
    return _without_nulls(rows, needed, name_row, wanted, notes)


def _without_nulls(
    rows: Rows, needed: Mapping[str, Sequence[Any]], name_row: Callable[[int], str], wanted: Wanted, notes: list[str]
) -> tuple[Rows, list[str]]:
    lacking = {name: missing_in(column) for name, column in needed.items()}
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


def _checked_texts(column: Sequence[Any], name: str, name_row: Callable[[int], str], wanted: Wanted) -> Sequence[Any]:
    """The column with None for missing values; raises a DataError for anything that is neither text nor missing."""
    if isinstance(column, TextsOnDisk):
        if column.first_wrong is not None:
            index, value = column.first_wrong
            raise no_text_error(value, name, name_row(index), wanted)
        if column.first_surrogate is not None:
            raise surrogate_error(name, name_row(column.first_surrogate), wanted)
        return column
    texts = [value if type(value) is str else plain_value(value) for value in column]
    for index, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise no_text_error(text, name, name_row(index), wanted)
    try:
        "".join(text for text in texts if text is not None).encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON escapes can spell but no tokenizer accepts.
        index = next(at for at, text in enumerate(texts) if text and any("\ud800" <= sign <= "\udfff" for sign in text))
        raise surrogate_error(name, name_row(index), wanted) from None
    return texts


def no_text_error(value: Any, name: str, row: str, wanted: Wanted) -> DataError:
    """Of a value in a text column, and the row that it stands in."""
    said = f"column {name!r} holds {kind_of(value)}, expected a text (a string); correct it or set data.text_columns"
    return wanted.row_error(row, said)


def surrogate_error(name: str, row: str, wanted: Wanted) -> DataError:
    """Of a text with half a character."""
    return wanted.row_error(row, f"column {name!r} holds half a surrogate pair, which is no character; remove it")


def _labels(
    table: Table, name_row: Callable[[int], str], wanted: Wanted
) -> tuple[list[Any] | None, tuple[str, ...] | None]:
    """One label a row, None where it is missing, and the classes' names where labels are their ids."""
    columns = [table.columns[name] for name in wanted.label_columns if name in table.columns]
    if not columns or len(columns) < len(wanted.label_columns):
        return None, None
    if wanted.targets.problem_type == tasks.REGRESSION:
        return _numbers(columns[0], wanted.label_columns[0], name_row, wanted), wanted.label_columns
    if wanted.targets.problem_type == tasks.MULTI_LABEL:
        if wanted.targets.label_columns:
            return _sets_of_columns(columns, name_row, wanted), wanted.label_columns
        return _sets_of_lists(columns[0], name_row, wanted), table.class_names
    if wanted.targets.problem_type == tasks.TOKENS:
        return _tags(table, name_row, wanted), table.class_names
    read_labels = _labels_of_plain_text if table.is_plain_text else _labels_of_values
    return read_labels(columns[0], name_row, wanted), table.class_names


def _lists_of_texts(column: Sequence[Any], name: str, name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """One tuple of texts a row, None where it is missing."""
    found: list[Any] = []
    for index, given in enumerate(column):
        value = given.tolist() if hasattr(given, "tolist") else plain_value(given)
        if value is not None and not (
            isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value)
        ):
            shown = "an empty list" if value == [] else kind_of(value)
            raise wanted.row_error(
                name_row(index),
                f"column {name!r} has {shown}, expected a list of texts, one a word; give lists (JSON lines, Parquet) "
                "or a CoNLL file",
            )
        found.append(None if value is None else tuple(value))
    return found


def _tags(table: Table, name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """One tuple of tags a row, as many as it has words; ids of a `datasets.ClassLabel` as their names."""
    (label_column,), (text_column, *_) = wanted.label_columns, wanted.text_columns
    column = [given.tolist() if hasattr(given, "tolist") else given for given in table.columns[label_column]]
    names = table.class_names
    if names is not None:
        # -1 is the datasets library's "no label".
        column = [row and (None if -1 in row else [names[id_] for id_ in row]) for row in column]
    tags = _lists_of_texts(column, label_column, name_row, wanted)
    for index, (words, row) in enumerate(zip(table.columns[text_column], tags, strict=True)):
        if row is not None and words is not None and len(words) != len(row):
            raise wanted.row_error(
                name_row(index),
                f"column {label_column!r} has {counted(len(row), 'tag')} for {counted(len(words), 'word')} in column "
                f"{text_column!r}; expected one a word, correct it",
            )
    return tags


def _numbers(column: Sequence[Any], name: str, name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """Finite numbers, also where they are written out; None where one is missing."""
    numbers: list[float | None] = []
    for index, given in enumerate(column):
        value = plain_value(given)
        if isinstance(value, str):
            text = value.strip()
            value = None if not text else float(text) if _NUMBER.fullmatch(text) else text
        is_number = not isinstance(value, bool | str) and hasattr(value, "__float__")
        if value is not None and not (is_number and math.isfinite(value)):
            raise wanted.row_error(
                name_row(index), f"column {name!r} has {value!r}, expected a finite number; correct it"
            )
        numbers.append(None if value is None else float(value))
    return numbers


def _weights(column: Sequence[Any], name: str, name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    weights = _numbers(column, name, name_row, wanted)
    for index, weight in enumerate(weights):
        if weight is not None and weight < 0:
            raise wanted.row_error(name_row(index), f"column {name!r} has the weight {weight}; expected 0 or more")
    return weights


_TRUTH = {"0": False, "1": True, "false": False, "true": True}


def _sets_of_columns(columns: list[Sequence[Any]], name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """The numbers of the columns that say 1, one tuple a row; None where one of them says nothing."""
    found: list[Any] = []
    for index, given in enumerate(zip(*columns, strict=True)):
        values = [plain_value(value) for value in given]
        words = [str(int(value)) if value in (0, 1) else str(value).strip().lower() for value in values]
        lacks = [value is None or word == "" for value, word in zip(values, words, strict=True)]
        for name, value, word, is_missing in zip(wanted.label_columns, values, words, lacks, strict=True):
            if not is_missing and word not in _TRUTH:
                raise wanted.row_error(
                    name_row(index), f"column {name!r} has {value!r}, expected 0 or 1 (or false or true); correct it"
                )
        found.append(None if any(lacks) else tuple(at for at, word in enumerate(words) if _TRUTH[word]))
    return found


def _sets_of_lists(column: Sequence[Any], name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
    """The labels of each row's list, as one tuple; None where there is no list."""
    separator = wanted.targets.label_separator
    found: list[Any] = []
    for index, given in enumerate(column):
        value = given.tolist() if hasattr(given, "tolist") else plain_value(given)
        if isinstance(value, str) and separator is not None:
            value = [part.strip() for part in value.split(separator) if part.strip()]
        if value is not None and not isinstance(value, list | tuple):
            raise wanted.row_error(
                name_row(index),
                f"the label is {kind_of(value)} ({value!r}), expected a list of labels; give columns of 0 and 1 "
                "(data.label_columns), or say what stands between the labels of a field (data.label_separator)",
            )
        if value is None:
            found.append(None)
            continue
        labels = _labels_of_values(list(value), functools.partial(_same_row, name_row(index)), wanted)
        if None in labels:
            raise wanted.row_error(name_row(index), f"the list {value!r} has an empty label in it; correct it")
        found.append(tuple(labels))
    return found


def _same_row(name: str, index: int) -> str:
    return name


def _labels_of_plain_text(column: Sequence[str], name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
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


def _labels_of_values(column: Sequence[Any], name_row: Callable[[int], str], wanted: Wanted) -> list[Any]:
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
        "set data.label_column to a column of classes, or problem_type=regression to learn numbers",
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
