"""Rows of text and labels out of files, the hub and Python objects.

Whatever the source, the same rules hold: texts are strings, labels are integers, strings or booleans, a value that is
missing is an error unless such rows are to be left out, and every row remembers its number in its source.

Reading tab-separated files: quotes are plain characters unless the file uses them for quoting. It does where fields
begin with a quote, all of them close properly, every row then has as many fields as the header, and reading the quotes
as plain characters would not give an equally even table with another number of rows.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tfft.errors import DataError, HubError, nearest

if TYPE_CHECKING:
    import numpy

NAMES_SHOWN = 20
FREE_TEXT_LABELS = 1000  # more distinct string labels than this, nearly one a row, are not classes
FREE_TEXT_SHARE = 0.9
REPLACE_SUFFIX = ":replace"

_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FIELD_BEGINS_WITH_QUOTE = re.compile(r'(?:^|[\t\r\n])"')


@dataclass(frozen=True)
class Rows:
    """Texts and labels of one split.

    Attributes:
        texts: one list a text column (one or two of them), all of the same length.
        labels: one int, str or bool a row; None where the split has no labels.
        numbers: each row's number in its source, from 1, a header not counted. Sampling keeps it.
        source: where the rows come from, as shown to the user: `train.tsv`, `nyu-mll/glue mrpc [train]`.
        class_names: the names of a `datasets.ClassLabel` in id order, where the labels are its ids.
        lines: the line of the file each row starts on, where the source has lines.
    """

    texts: tuple[list[str], ...]
    labels: list[Any] | None
    numbers: list[int]
    source: str
    class_names: tuple[str, ...] | None = None
    lines: list[int] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, indices: Iterable[int]) -> Rows:
        """The rows at these positions, in this order."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            texts=tuple([column[index] for index in chosen] for column in self.texts),
            labels=None if self.labels is None else [self.labels[index] for index in chosen],
            numbers=[self.numbers[index] for index in chosen],
            lines=None if self.lines is None else [self.lines[index] for index in chosen],
        )

    def name_row(self, index: int) -> str:
        """How messages call the row at this position: `train.tsv row 17 (line 18)`."""
        return f"{self.source} {_row_name(self.numbers[index], self.lines[index] if self.lines else None)}"


@dataclass(frozen=True)
class Splits:
    """The splits of one data set, and plain sentences about what was left out while reading."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelMap:
    """Class ids: position `i` holds the name shown for class `i`, and the raw value that stands for it in the rows."""

    names: tuple[str, ...]
    values: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class _Wanted:
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
            f"no {columns} {_listed(map(repr, missing))}; the columns present are {_listed(map(repr, present))}. "
            + " ".join([*near, f"Set {' and '.join(keys)} to columns that are there"])
            + _separator_hint(present)
        )


@dataclass(frozen=True)
class _Table:
    """Raw columns as a source gave them, before texts and labels are checked."""

    columns: dict[str, list[Any]]
    numbers: list[int]
    lines: list[int] | None = None
    class_names: tuple[str, ...] | None = None
    is_plain_text: bool = False  # CSV and TSV: numbers and booleans are still written out
    notes: tuple[str, ...] = ()


# --- files ------------------------------------------------------------------------------------------------------------


def read_file(
    path: pathlib.Path,
    *,
    text_columns: Sequence[str],
    label_column: str | None,
    encoding: str = "utf-8",
    needs_labels: bool = True,
    drop_invalid: bool = False,
    key: str = "data.train_file",
) -> tuple[Rows, list[str]]:
    """Rows of a CSV, TSV, JSON, JSON lines or Parquet file, chosen by its ending, with sentences about them.

    Args:
        path: a file that ends in .csv, .tsv, .json, .jsonl, .ndjson or .parquet.
        text_columns: one or two columns that hold text.
        label_column: the column of labels; None reads none.
        encoding: a Python codec's name. Text is decoded strictly; `NAME:replace` puts U+FFFD for what cannot be read.
        needs_labels: False reads labels where the column is there and complete, and none otherwise.
        drop_invalid: leave out rows with a missing value instead of raising an error.
        key: the recipe key that named the file, for messages.

    Raises:
        DataError: the file cannot be read, a column is missing, a row is malformed or a value cannot be used.
    """
    path = pathlib.Path(path)
    wanted = _Wanted(f"{key}: {path}", path.name, tuple(text_columns), label_column, needs_labels, drop_invalid)
    _check_is_file(path, wanted)
    read_table = _READERS.get(path.suffix.lower())
    if read_table is None:
        raise wanted.error(
            f"a file ending in {path.suffix!r} cannot be read; give one that ends in {_listed(_READERS)}"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise wanted.error(f"cannot be read ({error.strerror or error}); check its permissions and its disk") from None
    if not content:
        raise wanted.error("the file is empty; expected rows of text and labels")
    return _make_rows(read_table(content, encoding, wanted), wanted)


def _check_is_file(path: pathlib.Path, wanted: _Wanted) -> None:
    """Raises a DataError where there is no such file, or a folder in its place."""
    try:
        if path.is_file():
            return
        if path.is_dir():
            files = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in _READERS)
            inside = f"; it holds {_listed(files)}" if files else ""
            raise wanted.error(f"this is a directory, expected a file{inside}. Name one file")
        if path.exists():
            raise wanted.error("this is not an ordinary file; copy its content into one and name that")
        if not path.parent.is_dir():
            raise wanted.error(f"no such file: the folder {path.parent} does not exist. Correct the path")
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError as error:
        raise wanted.error(f"cannot be read ({error.strerror or error}); check the path and its permissions") from None
    raise wanted.error(f"no such file{f'; did you mean {path.parent / near}?' if near else ''}. Correct the path")


def _decode(content: bytes, encoding: str, wanted: _Wanted) -> str:
    """The text of a file without its byte-order mark."""
    codec = encoding.removesuffix(REPLACE_SUFFIX)
    try:
        text = content.decode(codec, "replace" if encoding.endswith(REPLACE_SUFFIX) else "strict")
    except UnicodeDecodeError as error:
        raise wanted.error(_undecodable(content, codec, error)) from None
    except UnicodeError as error:  # UTF-16 without the byte-order mark it needs
        raise wanted.error(f"is not {_shown_codec(codec)} ({error}); set data.encoding to what it is") from None
    except (LookupError, ValueError):
        raise wanted.error(
            f"data.encoding={encoding} is not an encoding that Python knows; use for example utf-8, utf-16, cp1252 or "
            f"latin-1, or utf-8{REPLACE_SUFFIX} to put U+FFFD for bytes that cannot be read"
        ) from None
    return text.removeprefix("\ufeff")


def _shown_codec(codec: str) -> str:
    return codec.upper() if codec.lower() in ("utf-8", "utf-16") else codec


def _undecodable(content: bytes, codec: str, error: UnicodeDecodeError) -> str:
    """What to say where a file is not in its encoding: the byte, where it is, and which encodings might do."""
    offset = error.start
    where = f"byte 0x{content[offset]:02x} at offset {offset} (line {content.count(bytes([10]), 0, offset) + 1})"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"is not {_shown_codec(codec)}: {where}; it begins like UTF-16, set data.encoding=utf-16"
    try:
        content.decode("cp1252")
        other = "cp1252"
    except UnicodeDecodeError:
        other = "latin-1"
    unreadable = content.decode(codec, "replace").count("\ufffd") - content.decode(codec, "ignore").count("\ufffd")
    return (
        f"is not {_shown_codec(codec)}: {where}; {_count(unreadable, 'character')} cannot be read. Set data.encoding "
        f"to what the file is (data.encoding={other}?), or put U+FFFD for what cannot be read "
        f"(data.encoding={codec}{REPLACE_SUFFIX})"
    )


@dataclass(frozen=True)
class _Grid:
    """A delimited file as rows of fields, the header first, and the line each row starts on."""

    rows: list[list[str]]
    lines: list[int]

    def is_even(self) -> bool:
        return len(set(map(len, self.rows))) == 1


class _QuoteError(Exception):
    """Quotes that do not match, in the row that starts on `line`."""

    def __init__(self, line: int, is_unclosed: bool):
        super().__init__(line)
        self.line = line
        self.is_unclosed = is_unclosed


@contextlib.contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters a field (long documents exceed it), then puts it back."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parse_grid(text: str, delimiter: str, quoting: Literal[0, 3]) -> _Grid:
    """Fields by the csv module, lines without any field left out. Raises _QuoteError where quotes do not match."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        with _fields_of_any_length():
            for row in reader:
                # A line of blanks is no row of a table with several columns.
                if row and not (len(row) == 1 and rows and len(rows[0]) > 1 and not row[0].strip()):
                    rows.append(row)
                    lines.append(line)
                line = reader.line_num + 1
    except csv.Error as error:
        raise _QuoteError(line, is_unclosed="unexpected end of data" in str(error)) from None
    return _Grid(rows, lines)


def _parse_tsv(text: str) -> tuple[_Grid, bool]:
    """A tab-separated file's fields, and whether quotes that begin fields were read as plain characters."""
    plain = _parse_grid(text, "\t", csv.QUOTE_NONE)
    if not _FIELD_BEGINS_WITH_QUOTE.search(text):
        return plain, False
    try:
        quoted = _parse_grid(text, "\t", csv.QUOTE_MINIMAL)
    except _QuoteError:
        return plain, True
    if plain.is_even() and not (quoted.is_even() and len(quoted.rows) == len(plain.rows)):
        return plain, True
    return quoted, False


def _read_csv(content: bytes, encoding: str, wanted: _Wanted) -> _Table:
    text = _delimited_text(content, encoding, wanted)
    try:
        grid = _parse_grid(text, ",", csv.QUOTE_MINIMAL)
    except _QuoteError as error:
        if error.is_unclosed:
            raise wanted.error(f"a quote opened in the row on line {error.line} is never closed; close it") from None
        raise wanted.error(
            f"text follows a closing quote in the row on line {error.line}; a quoted field ends at the comma, "
            "and a quote inside it is written twice"
        ) from None
    return _grid_table(grid, "comma", wanted)


def _read_tsv(content: bytes, encoding: str, wanted: _Wanted) -> _Table:
    grid, has_plain_quotes = _parse_tsv(_delimited_text(content, encoding, wanted))
    table = _grid_table(grid, "tab", wanted)
    if not has_plain_quotes:
        return table
    return replace(
        table, notes=(f"{wanted.source}: quotes are read as plain characters, it does not quote with them.",)
    )


def _delimited_text(content: bytes, encoding: str, wanted: _Wanted) -> str:
    text = _decode(content, encoding, wanted)
    if (at := text.find("\0")) >= 0:
        raise wanted.error(
            f"holds a NUL character (line {text.count(chr(10), 0, at) + 1}), so it is not text in this encoding; "
            "if it is UTF-16, set data.encoding=utf-16-le or data.encoding=utf-16-be"
        )
    if not text.strip():
        raise wanted.error("the file is empty; expected a header line and rows")
    return text


def _grid_table(grid: _Grid, separator: str, wanted: _Wanted) -> _Table:
    """The columns of a delimited file; checks its header and that every row has as many fields."""
    header, *rows = grid.rows
    lines = grid.lines[1:]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise wanted.error(f"the header names {_listed(map(repr, repeated))} more than once; rename the columns")
    wanted.check_columns(header)
    if not rows:
        raise wanted.error("there is a header but no rows; expected at least one row")
    for number, (row, line) in enumerate(zip(rows, lines, strict=True), 1):
        if len(row) != len(header):
            inside = (
                "put quotes around a field with a comma in it" if separator == "comma" else "take it out of the text"
            )
            raise wanted.row_error(
                _row_name(number, line),
                f"{_count(len(row), 'field')}, expected {len(header)} as in the header; "
                f"if a {separator} is part of a text, {inside}",
            )
    columns = {name: [row[at] for row in rows] for at, name in enumerate(header) if name in wanted.columns}
    return _Table(columns, list(range(1, len(rows) + 1)), lines, is_plain_text=True)


def _read_json(content: bytes, encoding: str, wanted: _Wanted) -> _Table:
    text = _decode(content, encoding, wanted)
    if not text.strip():
        raise wanted.error("the file is empty; expected a list of objects")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; if each line is an object of its own, name the file .jsonl" if _is_json_lines(text) else ""
        raise wanted.error(f"not valid JSON: {_json_problem(error, text)}{hint}") from None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        raise wanted.error(
            f'the file holds {_kind(value)}, expected a list of objects, or an object with such a list under "data"'
        )
    return _object_table(value, None, wanted)


def _json_problem(error: ValueError | RecursionError, text: str, first_line: int = 1) -> str:
    if isinstance(error, json.JSONDecodeError):
        line = first_line + error.lineno - 1
        at_end = " (the file may be cut short)" if error.pos >= len(text.rstrip()) else ""
        return f"line {line}, column {error.colno}: {error.msg}{at_end}; mend it there"
    return f"line {first_line}: {'too deeply nested' if isinstance(error, RecursionError) else error}"


def _is_json_lines(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _read_json_lines(content: bytes, encoding: str, wanted: _Wanted) -> _Table:
    text = _decode(content, encoding, wanted)
    objects: list[Any] = []
    lines: list[int] = []
    # Not splitlines(): characters such as U+2028 may stand inside a JSON string.
    for line_number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            objects.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise wanted.error(f"not valid JSON: {_json_problem(error, line, line_number)}") from None
        lines.append(line_number)
    if not objects:
        raise wanted.error("the file is empty; expected one JSON object a line")
    return _object_table(objects, lines, wanted)


def _object_table(objects: Sequence[Any], lines: list[int] | None, wanted: _Wanted) -> _Table:
    """The wanted columns of a list of dicts; a key that one of them lacks is a missing value."""
    for index, item in enumerate(objects):
        if not isinstance(item, dict):
            row = _row_name(index + 1, lines[index] if lines else None)
            raise wanted.row_error(row, f"{_kind(item)}, expected an object with a value for each column")
    if not objects:
        raise wanted.error("there are no rows; expected at least one")
    present = list(dict.fromkeys(str(name) for item in objects for name in item))
    wanted.check_columns(present)
    columns = {name: [item.get(name) for item in objects] for name in wanted.columns if name in present}
    return _Table(columns, list(range(1, len(objects) + 1)), lines)


def _read_parquet(content: bytes, encoding: str, wanted: _Wanted) -> _Table:
    import pyarrow
    import pyarrow.parquet

    if not (content.startswith(b"PAR1") and content.endswith(b"PAR1")):
        state = "is cut short" if content.startswith(b"PAR1") else "is not a Parquet file"
        raise wanted.error(f"{state} (a Parquet file begins and ends with PAR1); fetch or write it again")
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        present = list(file.schema_arrow.names)
        wanted.check_columns(present)
        table = file.read(columns=[name for name in wanted.columns if name in present])
    except (pyarrow.ArrowException, OSError) as error:
        raise wanted.error(f"damaged Parquet file ({_first_line(error)}); fetch or write it again") from None
    if not table.num_rows:
        raise wanted.error("the file has columns but no rows; expected at least one row")
    columns = {name: table.column(name).to_pylist() for name in dict.fromkeys(table.column_names)}
    class_names = _parquet_class_names(file.schema_arrow.metadata, wanted.label_column)
    return _Table(columns, list(range(1, table.num_rows + 1)), class_names=class_names)


def _parquet_class_names(metadata: dict[bytes, bytes] | None, label_column: str | None) -> tuple[str, ...] | None:
    """Class names that the datasets library left in a Parquet file's metadata, as the hub's files have them."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label_column]
        return tuple(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None


_READERS: dict[str, Callable[[bytes, str, _Wanted], _Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}


# --- Python objects ---------------------------------------------------------------------------------------------------


def from_python(
    data: Any,
    *,
    text_columns: Sequence[str],
    label_column: str | None,
    needs_labels: bool = True,
    drop_invalid: bool = False,
    source: str = "rows given",
) -> tuple[Rows, list[str]]:
    """Rows of a `datasets.Dataset`, a pandas DataFrame, a list of dicts or a dict of lists, with sentences about them.

    Args:
        data: the rows.
        text_columns: one or two columns that hold text.
        label_column: the column of labels; None reads none.
        needs_labels: False reads labels where the column is there and complete, and none otherwise.
        drop_invalid: leave out rows with a missing value instead of raising an error.
        source: how messages call these rows.

    Raises:
        DataError: `data` is something else, a column is missing or a value cannot be used.
    """
    wanted = _Wanted(source, source, tuple(text_columns), label_column, needs_labels, drop_invalid)
    return _make_rows(_python_table(data, wanted), wanted)


def _python_table(data: Any, wanted: _Wanted) -> _Table:
    if isinstance(data, dict) and not any(_is_from(value, "datasets") for value in data.values()):
        return _columns_table(data, wanted)
    if isinstance(data, (list, tuple)):
        return _object_table(data, None, wanted)
    # By name, so that neither library is loaded for rows that do not come from it.
    if _is_from(data, "pandas") and hasattr(data, "columns"):
        return _pandas_table(data, wanted)
    if _is_from(data, "datasets") and hasattr(data, "select_columns") and hasattr(data, "select"):
        return _dataset_table(data, wanted)
    hint = "; give one of its splits" if isinstance(data, dict) else ""
    raise wanted.error(
        f"got {type(data).__module__}.{type(data).__qualname__}, expected a datasets.Dataset, a pandas DataFrame, "
        f"a list of dicts or a dict of lists{hint}"
    )


def _is_from(value: Any, package: str) -> bool:
    return type(value).__module__.partition(".")[0] == package


def _columns_table(data: dict[Any, Any], wanted: _Wanted) -> _Table:
    wanted.check_columns([str(name) for name in data])
    columns: dict[str, list[Any]] = {}
    for name in wanted.columns:
        if name not in data:
            continue
        column = data[name].tolist() if hasattr(data[name], "tolist") else data[name]
        if not isinstance(column, (list, tuple)):
            raise wanted.error(f"column {name!r} is {_kind(column)}, expected a list with one value a row")
        columns[name] = list(column)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = _listed(f"{name!r} has {length}" for name, length in lengths.items())
        raise wanted.error(f"the columns differ in length ({shown}); expected one value a row in each")
    return _Table(columns, list(range(1, next(iter(lengths.values())) + 1)))


def _pandas_table(frame: Any, wanted: _Wanted) -> _Table:
    names = [str(name) for name in frame.columns]
    wanted.check_columns(names)
    columns = {}
    for name in wanted.columns:
        if name not in names:
            continue
        if names.count(name) > 1:
            raise wanted.error(f"there is more than one column {name!r}; rename the columns")
        series = frame.iloc[:, names.index(name)]
        missing = series.isna().tolist()
        values = series.astype(object).tolist()
        columns[name] = [None if is_missing else value for value, is_missing in zip(values, missing, strict=True)]
    return _Table(columns, list(range(1, len(frame) + 1)))


def _dataset_table(dataset: Any, wanted: _Wanted) -> _Table:
    present = list(dataset.column_names)
    wanted.check_columns(present)
    chosen = [name for name in wanted.columns if name in present]
    columns = dict(dataset.select_columns(chosen).with_format(None)[:])
    feature = dataset.features.get(wanted.label_column) if wanted.label_column else None
    class_names = tuple(getattr(feature, "names", ())) if type(feature).__name__ == "ClassLabel" else None
    return _Table(columns, list(range(1, len(dataset) + 1)), class_names=class_names)


# --- the hub ----------------------------------------------------------------------------------------------------------


def read_hub(
    dataset_name: str,
    config_name: str | None,
    *,
    train_split_name: str = "train",
    validation_split_name: str | None = None,
    test_split_name: str | None = None,
    text_columns: Sequence[str],
    label_column: str,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 0,
    drop_invalid: bool = False,
) -> Splits:
    """The splits of a data set on the hub. Code that comes with a data set is never run.

    Args:
        dataset_name: hub id.
        config_name: one of its configurations, where it has several.
        train_split_name: the split to train on.
        validation_split_name: None takes `validation`, else `validation_matched`, else none.
        test_split_name: None takes `test` where there is one that is not the validation split.
        text_columns: one or two columns that hold text.
        label_column: the column of labels. The test split may lack it, or have -1 throughout as GLUE's do.
        max_train_samples: as many rows of the training split, chosen at random.
        max_eval_samples: as many rows of the validation split, and of the test split, chosen at random.
        seed: of the choice.
        drop_invalid: leave out rows with a missing value instead of raising an error.

    Raises:
        HubError: the hub cannot be reached, or has no such data set or configuration.
        DataError: a split or column is missing, or a value cannot be used.
    """
    loaded = _load_dataset(dataset_name, config_name)
    shown = " ".join([dataset_name, *([config_name] if config_name else [])])
    present = list(loaded)
    if validation_split_name is None:
        usual = ("validation", "validation_matched")
        validation_split_name = next((name for name in usual if name in present and name != train_split_name), None)
    if test_split_name is None and "test" in present and "test" not in (validation_split_name, train_split_name):
        test_split_name = "test"
    notes: list[str] = []

    def read_split(name: str | None, key: str, count: int | None, needs_labels: bool) -> Rows | None:
        if name is None:
            return None
        if name not in present:
            near = nearest(name, present)
            raise DataError(
                f"data.{key}: {shown} has no split {name!r}; its splits are {_listed(map(repr, present))}"
                + (f". Did you mean {near!r}?" if near else "")
            )
        source = f"{shown} [{name}]"
        prefix = f"data.dataset_name: {source}"
        wanted = _Wanted(prefix, source, tuple(text_columns), label_column, needs_labels, drop_invalid)
        rows, found = _sampled_hub_rows(loaded[name], count, seed, wanted)
        notes.extend(found)
        return rows

    train = read_split(train_split_name, "train_split_name", max_train_samples, True)
    assert train is not None
    return Splits(
        train=train,
        validation=read_split(validation_split_name, "validation_split_name", max_eval_samples, True),
        test=read_split(test_split_name, "test_split_name", max_eval_samples, False),
        notes=tuple(notes),
    )


def _sampled_hub_rows(dataset: Any, count: int | None, seed: int, wanted: _Wanted) -> tuple[Rows, list[str]]:
    if count is None or count >= len(dataset) or wanted.drop_invalid:
        # Rows to be dropped must not take the place of good ones, so there the sample is taken afterwards.
        rows, notes = _make_rows(_dataset_table(dataset, wanted), wanted)
        return (rows if count is None else sample(rows, count, seed)), notes
    chosen = _shuffled(len(dataset), seed)[:count]
    table = _dataset_table(dataset.select(chosen), wanted)
    return _make_rows(replace(table, numbers=[index + 1 for index in chosen]), wanted)


def _load_dataset(dataset_name: str, config_name: str | None) -> Any:
    """`datasets.load_dataset` with its many exceptions as one HubError that says what to do."""
    import datasets
    import datasets.exceptions

    shown = f"data.dataset_name: {dataset_name}" + (f" ({config_name})" if config_name else "")
    ways_out = (
        "train on local files (data.train_file=... with data.text_columns and data.label_column), "
        "or try --recipe quickstart, which needs no hub"
    )
    try:
        return datasets.load_dataset(dataset_name, config_name)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise HubError(
            f"{shown}: no such data set on the hub, or no access to it ({_first_line(error)}); correct the name, "
            f"log in if it is private, or {ways_out}"
        ) from error
    except datasets.exceptions.DatasetsError as error:
        raise HubError(
            f"{shown}: the data set cannot be used ({_first_line(error)}); choose another, or {ways_out}"
        ) from error
    except OSError as error:  # connection errors and timeouts, those of requests and huggingface_hub among them
        raise HubError(f"{shown}: cannot be fetched from the hub ({_first_line(error)}); {ways_out}") from error
    except ValueError as error:
        if type(error).__name__ == "HFValidationError":
            raise HubError(
                f"{shown}: not a hub id ({_first_line(error)}); expected OWNER/NAME, or {ways_out}"
            ) from error
        if not re.search(r"BuilderConfig .* not found|Config name is missing", str(error)):
            raise
        raise HubError(
            f"data.dataset_config_name: {dataset_name} has no configuration {config_name!r} "
            f"({' '.join(str(error).split())}); name one of those"
        ) from error
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise HubError(
            f"{shown}: this data set needs code of its own to be run, which is never done; "
            f"choose one that is stored as plain files, or {ways_out}"
        ) from error


# --- texts and labels -------------------------------------------------------------------------------------------------


def _make_rows(table: _Table, wanted: _Wanted) -> tuple[Rows, list[str]]:
    """Checked rows of raw columns: texts are strings, labels are classes, missing values dropped or refused."""

    def name_row(index: int) -> str:
        return _row_name(table.numbers[index], table.lines[index] if table.lines else None)

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
            whose = "its rows have no labels" if lacking == len(labels) else f"{_count(lacking, 'row')} without a label"
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
    rows: Rows, needed: dict[str, list[Any]], name_row: Callable[[int], str], wanted: _Wanted, notes: list[str]
) -> tuple[Rows, list[str]]:
    lacking = {name: {at for at, value in enumerate(column) if value is None} for name, column in needed.items()}
    invalid: set[int] = set().union(*lacking.values())
    if not invalid:
        return rows, notes
    shown = _listed(f"{len(found)} in {name!r}" for name, found in lacking.items() if found)
    if not wanted.drop_invalid:
        first = min(invalid)
        columns = _listed(repr(name) for name, found in lacking.items() if first in found)
        raise wanted.row_error(
            name_row(first),
            f"no value in column {columns}; {_count(len(invalid), 'row')} of {len(rows)} lack a value ({shown}). "
            "Fill them in, or leave such rows out with data.drop_invalid=true",
        )
    if len(invalid) == len(rows):
        raise wanted.error(
            f"no rows are left: every one of {len(rows)} has a missing value ({shown}) and data.drop_invalid is true; "
            "check data.text_columns and data.label_column"
        )
    notes.append(
        f"{wanted.source}: {_count(len(invalid), 'row')} of {len(rows)} left out for missing values ({shown})."
    )
    return rows.take(at for at in range(len(rows)) if at not in invalid), notes


def _checked_texts(column: list[Any], name: str, name_row: Callable[[int], str], wanted: _Wanted) -> list[Any]:
    """The column with None for missing values; raises a DataError for anything that is neither text nor missing."""
    texts = [value if type(value) is str else _plain(value) for value in column]
    for index, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise wanted.row_error(
                name_row(index),
                f"column {name!r} holds {_kind(text)}, expected a text (a string); correct it or set data.text_columns",
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


def _labels_of_plain_text(column: list[str], name_row: Callable[[int], str], wanted: _Wanted) -> list[Any]:
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


def _labels_of_values(column: list[Any], name_row: Callable[[int], str], wanted: _Wanted) -> list[Any]:
    """Labels of typed values: integers (whole floats too), strings without outer blanks, booleans; None if missing."""
    labels: list[Any] = []
    for index, given in enumerate(column):
        value = _plain(given)
        if isinstance(value, str):
            value = value.strip() or None
        elif isinstance(value, float) or type(value).__name__ == "Decimal":
            if not math.isfinite(value) or value != int(value):
                raise _fraction_error(value, name_row(index), wanted)
            value = int(value)
        elif value is not None and not isinstance(value, (bool, int)):
            raise wanted.row_error(
                name_row(index),
                f"the label is {_kind(value)}, expected a class (an integer, a string or a boolean): this task needs "
                "classes; correct it or set data.label_column",
            )
        labels.append(value)
    return labels


def _fraction_error(value: Any, row: str, wanted: _Wanted) -> DataError:
    return wanted.row_error(
        row,
        f"the label {value} is a number with a fraction: this task needs classes (integers, strings or booleans); "
        "set data.label_column to a column of classes",
    )


def _plain(value: Any) -> Any:
    """A value without its library's wrapping: numpy scalars as Python's, every kind of missing value as None."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def settle_labels(train: Rows) -> LabelMap:
    """The classes of the training split: integers in numeric order, strings in alphabetic order, False before True.

    The names of a `datasets.ClassLabel` keep their ids, those absent from these rows included.

    Raises:
        DataError: no labels, labels of several types, one class only, or free text in the place of classes.
    """
    if train.labels is None:
        raise DataError(f"{train.source}: there are no labels to train on; set data.label_column")
    kinds: dict[type, int] = {}
    for index, label in enumerate(train.labels):
        kinds.setdefault(type(label), index)
    if len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        raise DataError(
            f"{train.name_row(first)} has the label {train.labels[first]!r} ({_kind(train.labels[first])}) but "
            f"{train.name_row(second)} has {train.labels[second]!r} ({_kind(train.labels[second])}); "
            "expected labels of one type, make them alike"
        )
    values = sorted(set(train.labels))
    if len(values) == 1:
        only = _shown_label(values[0], train.class_names)
        raise DataError(
            f"{train.source}: the only label in {_count(len(train), 'row')} is {only}; "
            "expected at least two classes, check data.label_column or take more rows"
        )
    if isinstance(values[0], str) and len(values) > FREE_TEXT_LABELS and len(values) >= FREE_TEXT_SHARE * len(train):
        raise DataError(
            f"{train.source}: {len(values)} different labels in {len(train)} rows look like free text, not classes "
            f"(the first is {train.labels[0][:60]!r}); set data.label_column to a column of classes"
        )
    if train.class_names is not None:
        if beyond := [value for value in values if not (type(value) is int and 0 <= value < len(train.class_names))]:
            index = train.labels.index(beyond[0])
            raise DataError(
                f"{train.name_row(index)}: the label {beyond[0]!r} is not one of the {len(train.class_names)} class ids"
            )
        return LabelMap(train.class_names, tuple(range(len(train.class_names))))
    return LabelMap(tuple(map(str, values)), tuple(values))


def encode_labels(rows: Rows, label_map: LabelMap) -> numpy.ndarray:
    """Class ids of the rows' labels, an int32 array of shape (rows,).

    Rows whose class names differ from the map's (another `datasets.ClassLabel`) are matched by name.

    Raises:
        DataError: the rows have no labels, or one that is not in the map; the first such row is named.
    """
    import numpy

    if rows.labels is None:
        raise DataError(f"{rows.source}: there are no labels; set data.label_column")
    # The type belongs to the key, for 1 == True.
    ids = {(type(value), value): index for index, value in enumerate(label_map.values)}
    is_named = label_map.names != tuple(map(str, label_map.values)) or isinstance(label_map.values[0], str)
    if rows.class_names is not None and is_named and rows.class_names != label_map.names:
        by_name = {name: index for index, name in enumerate(label_map.names)}
        ids = {(int, id_): by_name[name] for id_, name in enumerate(rows.class_names) if name in by_name}
    try:
        return numpy.fromiter((ids[type(label), label] for label in rows.labels), "int32", len(rows))
    except KeyError:
        index = next(at for at, label in enumerate(rows.labels) if (type(label), label) not in ids)
    known = [
        f"{value!r} ({name})" if str(value) != name else repr(value)
        for name, value in zip(label_map.names, label_map.values, strict=True)
    ]
    raise DataError(
        f"{rows.name_row(index)}: the label {_shown_label(rows.labels[index], rows.class_names)} does not occur in the "
        f"training split, whose labels are {_listed(known)}; correct the row, or add such rows to the training split"
    )


def _shown_label(label: Any, class_names: tuple[str, ...] | None) -> str:
    if class_names is not None and type(label) is int and 0 <= label < len(class_names):
        return f"{label} ({class_names[label]})"
    return repr(label)


# --- choosing rows ----------------------------------------------------------------------------------------------------


def _shuffled(count: int, seed: int) -> list[int]:
    import numpy

    return numpy.random.default_rng(seed).permutation(count).tolist()


def sample(rows: Rows, count: int, seed: int) -> Rows:
    """The first `count` rows after a seeded shuffle; all of them, shuffled, where there are fewer."""
    return rows.take(_shuffled(len(rows), seed)[:count])


def split_stratified(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Training and validation rows, each label in both by its share; order within each part is by row number.

    A label with one row stays in training; one with more lands in both. The validation part has `fraction` of all rows,
    rounded down, but for what that rule demands.

    Raises:
        DataError: `fraction` is not between 0 and 1, or leaves one part without a row.
    """
    if not 0 < fraction < 1:
        raise DataError(f"data.validation_split={fraction}: expected a fraction between 0 and 1, for example 0.1")
    groups: dict[Any, list[int]] = {}
    for index in _shuffled(len(rows), seed):
        groups.setdefault(None if rows.labels is None else rows.labels[index], []).append(index)
    counts = _stratified_counts([len(group) for group in groups.values()], fraction)
    validation = {index for group, count in zip(groups.values(), counts, strict=True) for index in group[:count]}
    if not validation:
        raise DataError(
            f"data.validation_split={fraction} leaves no row of {rows.source} for validation: no label has two rows; "
            "take more rows or name a file in data.validation_file"
        )
    order = sorted(range(len(rows)), key=rows.numbers.__getitem__)
    return rows.take(at for at in order if at not in validation), rows.take(at for at in order if at in validation)


def _stratified_counts(sizes: list[int], fraction: float) -> list[int]:
    """How many of each group to take: by share, largest remainders first, at least 1 and at most all but 1."""
    quotas = [size * fraction for size in sizes]
    counts = [math.floor(quota + 1e-9) for quota in quotas]  # 100 * 0.29 is 28.999999999999996
    rest = math.floor(sum(sizes) * fraction + 1e-9) - sum(counts)
    by_remainder = sorted(range(len(sizes)), key=lambda at: (counts[at] - quotas[at], at))
    for at in by_remainder[:rest]:
        counts[at] += 1
    return [min(max(count, 1), size - 1) for count, size in zip(counts, sizes, strict=True)]


# --- words ------------------------------------------------------------------------------------------------------------


def _row_name(number: int, line: int | None) -> str:
    return f"row {number}" if line is None else f"row {number} (line {line})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - NAMES_SHOWN} more" if len(shown) > NAMES_SHOWN else ""
    return ", ".join(shown[:NAMES_SHOWN]) + more


def _separator_hint(present: Sequence[str]) -> str:
    """What to add where a file's whole header came out as one column."""
    if len(present) != 1:
        return ""
    if "\t" in present[0]:
        return ". The header has tabs in it: name a tab-separated file .tsv"
    if "," in present[0]:
        return ". The header has commas in it: name a comma-separated file .csv"
    return ". The header has semicolons in it: separate the fields by commas" if ";" in present[0] else ""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _kind(value: Any) -> str:
    """A value's type in plain words."""
    kinds = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return kinds.get(type(value), f"a value of type {type(value).__name__}")
