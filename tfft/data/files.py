"""Rows out of CSV, TSV, JSON, JSON lines and Parquet files.

Reading tab-separated files: quotes are plain characters unless the file uses them for quoting. It does where fields
begin with a quote, all of them close properly, every row then has as many fields as the header, and reading the quotes
as plain characters would not give an equally even table with another number of rows.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import pathlib
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from tfft import tasks
from tfft.data import columns
from tfft.data.columns import TextWriter, finished, row_numbers
from tfft.data.rows import Rows, counted, first_line, kind_of, listed, row_name
from tfft.data.tables import CLASSES, Table, Targets, Wanted, make_rows, object_table
from tfft.errors import DataError, nearest

REPLACE_SUFFIX = ":replace"
# Rows of a Parquet file that are made Python's own at once.
PARQUET_ROWS = 4096

_FIELD_BEGINS_WITH_QUOTE = re.compile(r'(?:^|\t)"')


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
    return make_rows(_read_table(path, encoding, wanted), wanted)


def read_columns(path: pathlib.Path, encoding: str, wanted: Wanted) -> Mapping[str, Sequence[Any]]:
    """The wanted columns of such a file, as they are in it."""
    return _read_table(path, encoding, wanted).columns


def _read_table(path: pathlib.Path, encoding: str, wanted: Wanted) -> Table:
    check_is_file(path, wanted.error, _READERS)
    read_table = _READERS.get(path.suffix.lower())
    if read_table is None:
        raise wanted.error(f"a file ending in {path.suffix!r} cannot be read; give one that ends in {listed(_READERS)}")
    content = Content(path, encoding, wanted)
    if not content.size:
        raise wanted.error("the file is empty; expected rows of text and labels")
    return read_table(content, wanted)


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
    with _system_errors(error):
        return path.read_bytes()


@contextlib.contextmanager
def _system_errors(error: Callable[[str], DataError]) -> Iterator[None]:
    try:
        yield
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


class Content:
    """What is in a file: as a whole, or line by line where it is too large for that.

    Attributes:
        size: in bytes.
        is_large: whether texts go to disk as they are read.
    """

    def __init__(self, path: pathlib.Path, encoding: str, wanted: Wanted) -> None:
        self.path, self.encoding, self.wanted = path, encoding, wanted
        self.size = path.stat().st_size
        self.is_large = self.size > columns.LARGE_BYTES

    @functools.cached_property
    def bytes(self) -> bytes:
        """All of it."""
        return read_content(self.path, self.wanted.error)

    @functools.cached_property
    def text(self) -> str:
        """All of it, decoded."""
        return decode(self.bytes, self.encoding, self.wanted.error)

    def lines(self, newline: str) -> Iterator[str]:
        """Its lines with their ends, split as `open` splits them by `newline`, anew at every call."""
        if self.is_large:
            return self._lines_from_disk(newline)
        return iter(io.StringIO(self.text, newline=newline))

    def _lines_from_disk(self, newline: str) -> Iterator[str]:
        codec = self.encoding.removesuffix(REPLACE_SUFFIX)
        errors = "replace" if self.encoding.endswith(REPLACE_SUFFIX) else "strict"
        try:
            with (
                _system_errors(self.wanted.error),
                self.path.open(encoding=codec, errors=errors, newline=newline) as file,
            ):
                for number, line in enumerate(file):
                    yield line.removeprefix("\ufeff") if number == 0 else line
        except (LookupError, ValueError):
            # Says what it is that cannot be decoded, and where; unless it can be as a whole, such as UTF-16 without a
            # mark: nothing was given of it then, since that fails at the first character.
            yield from io.StringIO(self.text, newline=newline)

    def column(self, name: str) -> list[Any] | TextWriter:
        """What takes the values of a column, one by one."""
        is_text = name in self.wanted.text_columns and self.wanted.targets.problem_type != tasks.TOKENS
        return TextWriter() if self.is_large and is_text else []


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


def grid(content: Content, delimiter: str, quoting: Literal[0, 3]) -> Generator[tuple[list[str], int], None, None]:
    """Rows of fields by the csv module, the header first, each with the line it starts on; empty lines left out.

    Raises _QuoteError where quotes do not match.
    """
    reader = csv.reader(_without_nul(content), delimiter=delimiter, quoting=quoting, strict=True)
    width, line = 0, 1
    try:
        with _fields_of_any_length():
            for row in reader:
                # A line of blanks is no row of a table with several columns.
                if row and not (len(row) == 1 and width > 1 and not row[0].strip()):
                    width = width or len(row)
                    yield row, line
                line = reader.line_num + 1
    except csv.Error as error:
        raise _QuoteError(line, is_unclosed="unexpected end of data" in str(error)) from None


def _without_nul(content: Content) -> Iterator[str]:
    for number, line in enumerate(content.lines(newline=""), 1):
        refuse_nul(line, content.wanted.error, number)
        yield line


def _shape(rows: Iterable[tuple[list[str], int]]) -> tuple[int, bool]:
    """How many rows there are, and whether all have as many fields."""
    widths = Counter(len(row) for row, _ in rows)
    return widths.total(), len(widths) == 1


def tsv_quoting(content: Content) -> tuple[Literal[0, 3], bool]:
    """How a tab-separated file's quotes are to be read, and whether it has some that are plain characters."""
    if not any(map(_FIELD_BEGINS_WITH_QUOTE.search, content.lines(newline=""))):
        return csv.QUOTE_NONE, False
    rows, is_even = _shape(grid(content, "\t", csv.QUOTE_NONE))
    try:
        quoted_rows, is_quoted_even = _shape(grid(content, "\t", csv.QUOTE_MINIMAL))
    except _QuoteError:
        return csv.QUOTE_NONE, True
    if is_even and not (is_quoted_even and quoted_rows == rows):
        return csv.QUOTE_NONE, True
    return csv.QUOTE_MINIMAL, False


def _read_csv(content: Content, wanted: Wanted) -> Table:
    with quote_errors(wanted), contextlib.closing(grid(content, ",", csv.QUOTE_MINIMAL)) as rows:
        return _grid_table(rows, "comma", content, wanted)


@contextlib.contextmanager
def quote_errors(wanted: Wanted) -> Iterator[None]:
    """Quotes that do not match become a DataError."""
    try:
        yield
    except _QuoteError as error:
        if error.is_unclosed:
            raise wanted.error(f"a quote opened in the row on line {error.line} is never closed; close it") from None
        raise wanted.error(
            f"text follows a closing quote in the row on line {error.line}; a quoted field ends at the comma, "
            "and a quote inside it is written twice"
        ) from None


def _read_tsv(content: Content, wanted: Wanted) -> Table:
    quoting, has_plain_quotes = tsv_quoting(content)
    with contextlib.closing(grid(content, "\t", quoting)) as rows:
        table = _grid_table(rows, "tab", content, wanted)
    if not has_plain_quotes:
        return table
    return replace(
        table, notes=(f"{wanted.source}: quotes are read as plain characters, it does not quote with them.",)
    )


def refuse_nul(text: str, error: Callable[[str], DataError], first_line: int = 1) -> None:
    """Raises a DataError where a text has NUL characters, as UTF-16 has that was read as something else."""
    if (at := text.find("\0")) >= 0:
        raise error(
            f"holds a NUL character (line {first_line + text.count(chr(10), 0, at)}), so it is not text in this "
            "encoding; if it is UTF-16, set data.encoding=utf-16-le or data.encoding=utf-16-be"
        )


def _grid_table(rows: Iterator[tuple[list[str], int]], separator: str, content: Content, wanted: Wanted) -> Table:
    """The columns of a delimited file; checks its header and that every row has as many fields."""
    header = header_of(rows, wanted)
    found = {name: content.column(name) for name in header if name in wanted.columns}
    # Few different labels stand in many rows: one object for each of them is enough.
    known: dict[str, str] = {}
    takers = [(at, found[name].append, name in wanted.text_columns) for at, name in enumerate(header) if name in found]
    lines = array("q")
    for row, line in rows:
        lines.append(line)
        if len(row) != len(header):
            raise width_error(row, header, separator, row_name(len(lines), line), wanted)
        for at, take, is_text in takers:
            take(row[at] if is_text else known.setdefault(row[at], row[at]))
    if not lines:
        raise wanted.error("there is a header but no rows; expected at least one row")
    return Table(
        {name: finished(column) for name, column in found.items()},
        row_numbers(len(lines), content.is_large),
        lines if content.is_large else lines.tolist(),
        is_plain_text=True,
    )


def header_of(rows: Iterator[tuple[list[str], int]], wanted: Wanted) -> list[str]:
    """The header, which is the first of `grid`'s rows; a DataError where it lacks a column or has one twice."""
    header, _ = next(rows, ([], 0))
    if not any(name.strip() for name in header) and next(rows, None) is None:
        raise wanted.error("the file is empty; expected a header line and rows")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise wanted.error(f"the header names {listed(map(repr, repeated))} more than once; rename the columns")
    wanted.check_columns(header)
    return header


def width_error(row: list[str], header: list[str], separator: str, name: str, wanted: Wanted) -> DataError:
    """Of a row of a delimited file, which messages call `name`, that has more fields than the header, or fewer."""
    inside = "put quotes around a field with a comma in it" if separator == "comma" else "take it out of the text"
    return wanted.row_error(
        name,
        f"{counted(len(row), 'field')}, expected {len(header)} as in the header; "
        f"if a {separator} is part of a text, {inside}",
    )


def _read_json(content: Content, wanted: Wanted) -> Table:
    text = content.text
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


def _read_json_lines(content: Content, wanted: Wanted) -> Table:
    lines = array("q")

    def objects() -> Iterator[Any]:
        for value, line in json_lines(content, wanted):
            lines.append(line)
            yield value

    table = object_table(objects(), lines, wanted, content.column)
    return table if content.is_large else replace(table, lines=lines.tolist())


def json_lines(content: Content, wanted: Wanted) -> Iterator[tuple[Any, int]]:
    """What each line holds that is not empty, and its number."""
    is_empty = True
    # By line feeds alone: characters such as U+2028 may stand inside a JSON string.
    for number, line in enumerate(content.lines(newline="\n"), 1):
        line = line.removesuffix("\n")
        if not line.strip():
            continue
        is_empty = False
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise wanted.error(f"not valid JSON: {_json_problem(error, line, number)}") from None
        yield value, number
    if is_empty:
        raise wanted.error("the file is empty; expected one JSON object a line")


@contextlib.contextmanager
def opened_parquet(content: Content, wanted: Wanted) -> Iterator[Any]:
    """The `pyarrow.parquet.ParquetFile`, looked through; whatever is wrong with it in the body becomes a DataError."""
    import pyarrow
    import pyarrow.parquet

    with _system_errors(wanted.error), content.path.open("rb") as file:
        begin = file.read(4)
        file.seek(max(0, content.size - 4))
        end = file.read()
    if not (begin == end == b"PAR1"):
        state = "is cut short" if begin == b"PAR1" else "is not a Parquet file"
        raise wanted.error(f"{state} (a Parquet file begins and ends with PAR1); fetch or write it again")
    try:
        with pyarrow.parquet.ParquetFile(content.path) as parquet:
            wanted.check_columns(parquet.schema_arrow.names)
            if not parquet.metadata.num_rows:
                raise wanted.error("the file has columns but no rows; expected at least one row")
            yield parquet
    except (pyarrow.ArrowException, OSError) as error:
        raise wanted.error(f"damaged Parquet file ({first_line(error)}); fetch or write it again") from None


def _read_parquet(content: Content, wanted: Wanted) -> Table:
    with opened_parquet(content, wanted) as parquet:
        schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
        names = [name for name in wanted.columns if name in schema.names]
        found = {name: content.column(name) for name in dict.fromkeys(names)}
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=names):
            for name, column in found.items():
                column.extend(batch.column(name).to_pylist())
    class_names = _parquet_class_names(schema.metadata, wanted.label_column)
    return Table(
        {name: finished(column) for name, column in found.items()},
        row_numbers(rows, content.is_large),
        class_names=class_names,
    )


def _parquet_class_names(metadata: dict[bytes, bytes] | None, label_column: str | None) -> tuple[str, ...] | None:
    """Class names that the datasets library left in a Parquet file's metadata, as the hub's files have them."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"][label_column]
        feature = feature.get("feature", feature)  # of a list, what it is made of
        return tuple(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


_READERS: dict[str, Callable[[Content, Wanted], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
