"""Rows out of CSV, TSV, JSON, JSON lines and Parquet files.

Reading tab-separated files: quotes are plain characters unless the file uses them for quoting. It does where fields
begin with a quote, all of them close properly, every row then has as many fields as the header, and reading the quotes
as plain characters would not give an equally even table with another number of rows.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pathlib
import re
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tfft.data.rows import Rows, counted, first_line, kind_of, listed, row_name
from tfft.data.tables import CLASSES, Table, Targets, Wanted, make_rows, object_table
from tfft.errors import DataError, nearest

REPLACE_SUFFIX = ":replace"

_FIELD_BEGINS_WITH_QUOTE = re.compile(r'(?:^|[\t\r\n])"')


def read_file(
    path: pathlib.Path,
    *,
    text_columns: Sequence[str],
    label_column: str | None,
    encoding: str = "utf-8",
    needs_labels: bool = True,
    drop_invalid: bool = False,
    targets: Targets = CLASSES,
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
        targets: what labels are, where they are not classes, and the weights.
        key: the recipe key that named the file, for messages.

    Raises:
        DataError: the file cannot be read, a column is missing, a row is malformed or a value cannot be used.
    """
    path = pathlib.Path(path)
    wanted = Wanted(f"{key}: {path}", path.name, tuple(text_columns), label_column, needs_labels, drop_invalid, targets)
    check_is_file(path, wanted.error, _READERS)
    read_table = _READERS.get(path.suffix.lower())
    if read_table is None:
        raise wanted.error(f"a file ending in {path.suffix!r} cannot be read; give one that ends in {listed(_READERS)}")
    content = read_content(path, wanted.error)
    if not content:
        raise wanted.error("the file is empty; expected rows of text and labels")
    return make_rows(read_table(content, encoding, wanted), wanted)


def check_is_file(path: pathlib.Path, error: Callable[[str], DataError], endings: Container[str]) -> None:
    """Raises a DataError where there is no such file, or a folder in its place.

    Args:
        error: makes the error of a message.
        endings: those of files that a folder is searched for, to name them in the message.
    """
    try:
        if path.is_file():
            return
        if path.is_dir():
            files = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in endings)
            inside = f"; it holds {listed(files)}" if files else ""
            raise error(f"this is a directory, expected a file{inside}. Name one file")
        if path.exists():
            raise error("this is not an ordinary file; copy its content into one and name that")
        if not path.parent.is_dir():
            raise error(f"no such file: the folder {path.parent} does not exist. Correct the path")
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError as problem:
        raise error(f"cannot be read ({problem.strerror or problem}); check the path and its permissions") from None
    raise error(f"no such file{f'; did you mean {path.parent / near}?' if near else ''}. Correct the path")


def read_content(path: pathlib.Path, error: Callable[[str], DataError]) -> bytes:
    """The bytes of a file; a DataError where the system refuses them."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise error(f"cannot be read ({problem.strerror or problem}); check its permissions and its disk") from None


def decode(content: bytes, encoding: str, error: Callable[[str], DataError]) -> str:
    """The text of a file without its byte-order mark; a DataError where it is not in this encoding."""
    codec = encoding.removesuffix(REPLACE_SUFFIX)
    try:
        text = content.decode(codec, "replace" if encoding.endswith(REPLACE_SUFFIX) else "strict")
    except UnicodeDecodeError as problem:
        raise error(_undecodable(content, codec, problem)) from None
    except UnicodeError as problem:  # UTF-16 without the byte-order mark it needs
        raise error(f"is not {_shown_codec(codec)} ({problem}); set data.encoding to what it is") from None
    except (LookupError, ValueError):
        raise error(
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
        f"is not {_shown_codec(codec)}: {where}; {counted(unreadable, 'character')} cannot be read. Set data.encoding "
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


def _read_csv(content: bytes, encoding: str, wanted: Wanted) -> Table:
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


def _read_tsv(content: bytes, encoding: str, wanted: Wanted) -> Table:
    grid, has_plain_quotes = _parse_tsv(_delimited_text(content, encoding, wanted))
    table = _grid_table(grid, "tab", wanted)
    if not has_plain_quotes:
        return table
    return replace(
        table, notes=(f"{wanted.source}: quotes are read as plain characters, it does not quote with them.",)
    )


def refuse_nul(text: str, error: Callable[[str], DataError]) -> None:
    """Raises a DataError where a text has NUL characters, as UTF-16 has that was read as something else."""
    if (at := text.find("\0")) >= 0:
        raise error(
            f"holds a NUL character (line {text.count(chr(10), 0, at) + 1}), so it is not text in this encoding; "
            "if it is UTF-16, set data.encoding=utf-16-le or data.encoding=utf-16-be"
        )


def _delimited_text(content: bytes, encoding: str, wanted: Wanted) -> str:
    text = decode(content, encoding, wanted.error)
    refuse_nul(text, wanted.error)
    if not text.strip():
        raise wanted.error("the file is empty; expected a header line and rows")
    return text


def _grid_table(grid: _Grid, separator: str, wanted: Wanted) -> Table:
    """The columns of a delimited file; checks its header and that every row has as many fields."""
    header, *rows = grid.rows
    lines = grid.lines[1:]
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise wanted.error(f"the header names {listed(map(repr, repeated))} more than once; rename the columns")
    wanted.check_columns(header)
    if not rows:
        raise wanted.error("there is a header but no rows; expected at least one row")
    for number, (row, line) in enumerate(zip(rows, lines, strict=True), 1):
        if len(row) != len(header):
            inside = (
                "put quotes around a field with a comma in it" if separator == "comma" else "take it out of the text"
            )
            raise wanted.row_error(
                row_name(number, line),
                f"{counted(len(row), 'field')}, expected {len(header)} as in the header; "
                f"if a {separator} is part of a text, {inside}",
            )
    columns = {name: [row[at] for row in rows] for at, name in enumerate(header) if name in wanted.columns}
    return Table(columns, list(range(1, len(rows) + 1)), lines, is_plain_text=True)


def _read_json(content: bytes, encoding: str, wanted: Wanted) -> Table:
    text = decode(content, encoding, wanted.error)
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
            f'the file holds {kind_of(value)}, expected a list of objects, or an object with such a list under "data"'
        )
    return object_table(value, None, wanted)


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


def _read_json_lines(content: bytes, encoding: str, wanted: Wanted) -> Table:
    text = decode(content, encoding, wanted.error)
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
    return object_table(objects, lines, wanted)


def _read_parquet(content: bytes, encoding: str, wanted: Wanted) -> Table:
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
        raise wanted.error(f"damaged Parquet file ({first_line(error)}); fetch or write it again") from None
    if not table.num_rows:
        raise wanted.error("the file has columns but no rows; expected at least one row")
    columns = {name: table.column(name).to_pylist() for name in dict.fromkeys(table.column_names)}
    class_names = _parquet_class_names(file.schema_arrow.metadata, wanted.label_column)
    return Table(columns, list(range(1, table.num_rows + 1)), class_names=class_names)


def _parquet_class_names(metadata: dict[bytes, bytes] | None, label_column: str | None) -> tuple[str, ...] | None:
    """Class names that the datasets library left in a Parquet file's metadata, as the hub's files have them."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label_column]
        feature = feature.get("feature", feature)  # of a list, what it is made of
        return tuple(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


_READERS: dict[str, Callable[[bytes, str, Wanted], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
