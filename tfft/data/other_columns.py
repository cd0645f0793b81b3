"""Columns beside texts and labels, for the rows that were read of a source: to look at a model's scores by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfft.data import conll, files, memory
from tfft.data.rows import Rows
from tfft.data.tables import Targets, Wanted, plain_value
from tfft.errors import DataError


class _Asked(Wanted):
    """What a command was asked for by an option, so that messages name that."""

    def error(self, message: str) -> DataError:
        return super().error(message.replace("Set data.label_columns to columns that are there", "Give --slice one"))


def of_file(path: Path, encoding: str, names: Sequence[str], rows: Rows, key: str = "--slice") -> dict[str, list[Any]]:
    """The columns of a file, for rows that were read of it: (rows,) each, as the file has them.

    Raises:
        DataError: there is no such column.
    """
    if path.suffix.lower() in conll.ENDINGS:
        raise DataError(f"{key}: {path.name} is in CoNLL's format, whose columns are of words; expected one of rows")
    wanted = _wanted(f"{key}: {path}", path.name, names)
    return _values(files.read_columns(path, encoding, wanted), names, rows)


def of_python(data: Any, names: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
    """The same of rows that are Python objects, or of a split of a hub's data set."""
    return _values(memory.python_table(data, _wanted("slices", "rows given", names)).columns, names, rows)


def _wanted(prefix: str, source: str, names: Sequence[str]) -> Wanted:
    # As columns of labels they are read as they are, whatever is in them.
    return _Asked(prefix, source, (), None, True, False, Targets(label_columns=tuple(names)))


def _values(columns: Mapping[str, Sequence[Any]], names: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
    return {name: [plain_value(columns[name][number - 1]) for number in rows.numbers] for name in names}
