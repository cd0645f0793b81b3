"""Files of rows to be answered: their texts, piece by piece, and the same rows again with columns added.

Nothing is held but a piece. A file is read more than once: to look through it, for its texts, and to be written again.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tfft.data import files
from tfft.data.files import Content
from tfft.data.rows import listed, row_name
from tfft.data.tables import Wanted, no_text_error, plain_value, surrogate_error
from tfft.errors import DataError
from tfft.run_directory import csv_writer
from tfft.whole import whole_file

# Control characters that JSON leaves as they are, and that a terminal would obey.
_CONTROL = re.compile("[\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What a recipe says by keys, a command takes as arguments.
_ARGUMENTS = {"data.encoding": "--encoding", "data.text_columns": "--columns"}


class Column(NamedTuple):
    """A column to be added: its name, and what its values are."""

    name: str
    kind: Literal["text", "texts", "number", "entities"]


class _Asked(Wanted):
    """What is wanted of a file that a command was given."""

    def error(self, message: str) -> DataError:
        return super().error(_with_arguments(message))

    def row_error(self, row: str, message: str) -> DataError:
        return super().row_error(row, _with_arguments(message))


def _with_arguments(message: str) -> str:
    for key, argument in _ARGUMENTS.items():
        message = message.replace(key, argument)
    return message


class RowsFile:
    """A file of rows; `opened` gives the one of its format.

    Attributes:
        columns: those of the file, once it was looked through.
    """

    def __init__(self, content: Content, wanted: Wanted, takes_words: bool) -> None:
        self.content, self.wanted, self.takes_words = content, wanted, takes_words
        self.columns: tuple[str, ...] = ()

    def values(self) -> Iterator[tuple[tuple[Any, ...], int | None]]:
        """The text columns of each row, and its line where the file has lines."""
        raise NotImplementedError

    def write(self, target: Path, added: Sequence[Column], answers: Iterator[Sequence[Any]]) -> None:
        """Writes all rows again, each with its answer's values, whole or not at all; as UTF-8.

        Raises:
            DataError: the added columns cannot be written in this format.
            OSError: the disk is full, or whatever else it says.
        """
        raise NotImplementedError

    def look_through(self) -> int:
        """The number of rows.

        Raises:
            DataError: the file cannot be read, or a row of it has no text.
        """
        return sum(1 for _ in self._checked())

    def pieces(self, size: int, skipped: int) -> Iterator[list[Any]]:
        """Lists of `size` texts (pairs: tuples of two), those after the first `skipped` rows."""
        rows = itertools.islice(self._checked(), skipped, None)
        while piece := list(itertools.islice(rows, size)):
            yield [texts[0] if len(texts) == 1 else texts for texts in piece]

    def check_added(self, added: Sequence[Column]) -> None:
        """Raises a DataError where a column to be added is there already."""
        if there := [one.name for one in added if one.name in self.columns]:
            raise self.wanted.error(
                f"there {'is a column' if len(there) == 1 else 'are columns'} {listed(map(repr, there))} already, as "
                "those to be added are called; put something before their names with --prefix=predicted_"
            )

    def _checked(self) -> Iterator[tuple[Any, ...]]:
        for number, (values, line) in enumerate(self.values(), 1):
            row = row_name(number, line)
            pairs = zip(values, self.wanted.text_columns, strict=True)
            yield tuple(self._text(value, name, row) for value, name in pairs)

    def _text(self, given: Any, name: str, row: str) -> Any:
        value = plain_value(given)
        if value is None:
            raise self.wanted.row_error(row, f"no value in column {name!r}; fill it in, or take the row out")
        is_words = self.takes_words and isinstance(value, list) and all(isinstance(word, str) for word in value)
        if not isinstance(value, str) and not is_words:
            raise no_text_error(value, name, row, self.wanted)
        if any(map(_SURROGATE.search, [value] if isinstance(value, str) else value)):
            raise surrogate_error(name, row, self.wanted)
        return value


def opened(path: Path, text_columns: Sequence[str], encoding: str, takes_words: bool) -> RowsFile:
    """The file, not read yet.

    Args:
        takes_words: whether a list of words will do for a text.

    Raises:
        DataError: there is no such file, it is empty, or its ending is unknown.
    """
    wanted = _Asked(f"--input: {path}", path.name, tuple(text_columns), None, False, False)
    check_is_known(path)
    content = Content(path, encoding, wanted)
    if not content.size:
        raise wanted.error("the file is empty; expected rows of text")
    return _KINDS[path.suffix.lower()](content, wanted, takes_words)


def check_is_known(path: Path) -> None:
    """Raises a DataError where there is no such file, or it is of no kind that can be answered piece by piece."""

    def error(message: str) -> DataError:
        return DataError(f"--input: {path}: {message}")

    files.check_is_file(path, error, _KINDS)
    if path.suffix.lower() not in _KINDS:
        raise error(f"a file ending in {path.suffix!r} cannot be answered; give one that ends in {listed(_KINDS)}")


class _Delimited(RowsFile):
    """CSV, and TSV with quotes or without."""

    def __init__(self, content: Content, wanted: Wanted, takes_words: bool) -> None:
        super().__init__(content, wanted, takes_words)
        self.is_csv = content.path.suffix.lower() == ".csv"
        self.delimiter, self.separator = (",", "comma") if self.is_csv else ("\t", "tab")
        self._quoting: Literal[0, 3] | None = csv.QUOTE_MINIMAL if self.is_csv else None

    def values(self) -> Iterator[tuple[tuple[Any, ...], int | None]]:
        for row, line in self._rows():
            if line is None:
                self.columns = tuple(row)
                places = [row.index(name) for name in self.wanted.text_columns]
                continue
            yield tuple(row[place] for place in places), line

    def write(self, target: Path, added: Sequence[Column], answers: Iterator[Sequence[Any]]) -> None:
        rows = self._rows()
        with whole_file(target) as file:
            put = self._put_unquoted(file) if self._quoting == csv.QUOTE_NONE else csv_writer(file, self.delimiter)
            header, _ = next(rows)
            put([*header, *(column.name for column in added)])
            for (row, _), answer in zip(rows, answers, strict=True):
                put([*row, *(_cell(value, column) for value, column in zip(answer, added, strict=True))])

    def _rows(self) -> Iterator[tuple[list[str], int | None]]:
        """The header, without a line, and the rows."""
        if self._quoting is None:
            self._quoting, _ = files.tsv_quoting(self.content)
        grid = files.grid(self.content, self.delimiter, self._quoting)
        number = 0
        with files.quote_errors(self.wanted), contextlib.closing(grid):
            header = files.header_of(grid, self.wanted)
            yield header, None
            for number, (row, line) in enumerate(grid, 1):
                if len(row) != len(header):
                    raise files.width_error(row, header, self.separator, row_name(number, line), self.wanted)
                yield row, line
        if not number:
            raise self.wanted.error("there is a header but no rows; expected at least one row")

    def _put_unquoted(self, file: Any) -> Callable[[list[str]], object]:
        """For files in which quotes are plain characters: what is read so has to be written so."""

        def put(row: list[str]) -> None:
            if any(sign in cell for cell in row for sign in "\t\n\r"):
                raise self.wanted.error(
                    "a label has a tab or a line's end in it, and this file does not quote; use CSV"
                )
            file.write("\t".join(row) + "\n")

        return put


def _cell(value: Any, column: Column) -> str:
    """A value as plain text."""
    if column.kind == "texts":
        return ";".join(value)
    return json_line(value) if column.kind == "entities" else str(value)


class _JsonLines(RowsFile):
    """An object a line."""

    def values(self) -> Iterator[tuple[tuple[Any, ...], int | None]]:
        present: dict[str, None] = {}
        for row, line in self._objects():
            present |= dict.fromkeys(row)
            yield tuple(row.get(name) for name in self.wanted.text_columns), line
        self.columns = tuple(present)

    def write(self, target: Path, added: Sequence[Column], answers: Iterator[Sequence[Any]]) -> None:
        names = [column.name for column in added]
        with whole_file(target) as file:
            for (row, _), answer in zip(self._objects(), answers, strict=True):
                file.write(json_line({**row, **dict(zip(names, answer, strict=True))}) + "\n")

    def _objects(self) -> Iterator[tuple[dict[str, Any], int]]:
        for number, (row, line) in enumerate(files.json_lines(self.content, self.wanted), 1):
            if not isinstance(row, dict):
                raise self.wanted.row_error(row_name(number, line), "no object; expected one with the text in it")
            if number == 1:
                self.wanted.check_columns(list(row))
            yield row, line


class _Parquet(RowsFile):
    """Parquet, by its row groups."""

    def values(self) -> Iterator[tuple[tuple[Any, ...], int | None]]:
        names = list(self.wanted.text_columns)
        for batch in self._batches(names):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                yield values, None

    def write(self, target: Path, added: Sequence[Column], answers: Iterator[Sequence[Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        partial = target.with_name(f"{target.name}.partial")
        with contextlib.ExitStack() as stack:
            stack.callback(partial.unlink, missing_ok=True)
            writer = None
            for batch in self._batches(None):
                some = list(itertools.islice(answers, batch.num_rows))
                for place, column in enumerate(added):
                    array = pyarrow.array([answer[place] for answer in some], _arrow_type(column.kind))
                    batch = batch.append_column(column.name, array)
                if writer is None:
                    # The datasets library's note lists all columns, and refuses a file that has others.
                    metadata = {k: v for k, v in (batch.schema.metadata or {}).items() if k != b"huggingface"}
                    schema = batch.schema.with_metadata(metadata)
                    writer = stack.enter_context(pyarrow.parquet.ParquetWriter(partial, schema))
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
            assert writer is not None, "there are rows"
            writer.close()
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)

    def _batches(self, names: list[str] | None) -> Iterator[Any]:
        with files.opened_parquet(self.content, self.wanted) as parquet:
            self.columns = tuple(parquet.schema_arrow.names)
            yield from parquet.iter_batches(batch_size=files.PARQUET_ROWS, columns=names)


def _arrow_type(kind: str) -> Any:
    import pyarrow

    text, number, place = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    entity = {"start": place, "end": place, "text": text, "label": text, "probability": number}
    kinds = {"text": text, "number": number, "texts": pyarrow.list_(text)}
    return kinds.get(kind) or pyarrow.list_(pyarrow.struct(entity))


def json_line(value: Any) -> str:
    """A value as JSON on one line, readable, without characters that a terminal obeys or UTF-8 lacks."""
    line = json.dumps(value, ensure_ascii=False)
    if _SURROGATE.search(line):
        line = json.dumps(value)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


_KINDS: dict[str, type[RowsFile]] = {
    ".csv": _Delimited,
    ".tsv": _Delimited,
    ".jsonl": _JsonLines,
    ".ndjson": _JsonLines,
    ".parquet": _Parquet,
}
