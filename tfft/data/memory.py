"""Rows out of Python objects: `datasets.Dataset`, pandas, lists of dicts, dicts of lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfft import tasks
from tfft.data import columns
from tfft.data.columns import TextWriter, finished, row_numbers
from tfft.data.rows import Rows, kind_of, listed
from tfft.data.tables import CLASSES, Table, Targets, Wanted, make_rows, object_table


def from_python(
    data: Any,
    *,
    text_columns: Sequence[str],
    label_column: str | None,
    needs_labels: bool = True,
    drop_invalid: bool = False,
    targets: Targets = CLASSES,
    source: str = "rows given",
) -> tuple[Rows, list[str]]:
    """Rows of a `datasets.Dataset`, a pandas DataFrame, a list of dicts or a dict of lists, with sentences about them.

    Args:
        data: the rows.
        text_columns: one or two columns that hold text.
        label_column: the column of labels; None reads none.
        needs_labels: False reads labels where the column is there and complete, and none otherwise.
        drop_invalid: leave out rows with a missing value instead of raising an error.
        targets: what labels are, where they are not classes, and the weights.
        source: how messages call these rows.

    Raises:
        DataError: `data` is something else, a column is missing or a value cannot be used.
    """
    wanted = Wanted(source, source, tuple(text_columns), label_column, needs_labels, drop_invalid, targets)
    return make_rows(python_table(data, wanted), wanted)


def python_table(data: Any, wanted: Wanted) -> Table:
    """The wanted columns of such rows, as they are."""
    if isinstance(data, dict) and not any(_is_from(value, "datasets") for value in data.values()):
        return _columns_table(data, wanted)
    if isinstance(data, (list, tuple)):
        return object_table(data, None, wanted)
    # By name, so that neither library is loaded for rows that do not come from it.
    if _is_from(data, "pandas") and hasattr(data, "columns"):
        return _pandas_table(data, wanted)
    if _is_from(data, "datasets") and hasattr(data, "select_columns") and hasattr(data, "select"):
        return dataset_table(data, wanted)
    hint = "; give one of its splits" if isinstance(data, dict) else ""
    raise wanted.error(
        f"got {type(data).__module__}.{type(data).__qualname__}, expected a datasets.Dataset, a pandas DataFrame, "
        f"a list of dicts or a dict of lists{hint}"
    )


def _is_from(value: Any, package: str) -> bool:
    return type(value).__module__.partition(".")[0] == package


def _columns_table(data: dict[Any, Any], wanted: Wanted) -> Table:
    wanted.check_columns([str(name) for name in data])
    columns: dict[str, list[Any]] = {}
    for name in wanted.columns:
        if name not in data:
            continue
        column = data[name].tolist() if hasattr(data[name], "tolist") else data[name]
        if not isinstance(column, (list, tuple)):
            raise wanted.error(f"column {name!r} is {kind_of(column)}, expected a list with one value a row")
        columns[name] = list(column)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = listed(f"{name!r} has {length}" for name, length in lengths.items())
        raise wanted.error(f"the columns differ in length ({shown}); expected one value a row in each")
    return Table(columns, list(range(1, next(iter(lengths.values())) + 1)))


def _pandas_table(frame: Any, wanted: Wanted) -> Table:
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
    return Table(columns, list(range(1, len(frame) + 1)))


def dataset_table(dataset: Any, wanted: Wanted) -> Table:
    present = list(dataset.column_names)
    wanted.check_columns(present)
    chosen = [name for name in wanted.columns if name in present]
    plain = dataset.select_columns(chosen).with_format(None)
    # A selection of a large table refers to the whole of it.
    size = plain.data.nbytes * len(plain) / max(1, plain.data.num_rows)
    is_large = size > columns.LARGE_BYTES and wanted.targets.problem_type != tasks.TOKENS
    found: Mapping[str, Sequence[Any]] = _spooled(plain, wanted) if is_large else dict(plain[:])
    feature = dataset.features.get(wanted.label_column) if wanted.label_column else None
    feature = getattr(feature, "feature", feature)  # of a list, what it is made of
    class_names = tuple(getattr(feature, "names", ())) if type(feature).__name__ == "ClassLabel" else None
    return Table(found, row_numbers(len(dataset), is_large), class_names=class_names)


def _spooled(dataset: Any, wanted: Wanted) -> dict[str, Sequence[Any]]:
    """The columns of a `datasets.Dataset`, read a thousand rows at a time, with the texts on disk."""
    takers: dict[str, list[Any] | TextWriter] = {
        name: TextWriter() if name in wanted.text_columns else [] for name in dataset.column_names
    }
    for part in dataset.iter(batch_size=1000):
        for name, taker in takers.items():
            taker.extend(part[name])
    return {name: finished(taker) for name, taker in takers.items()}
