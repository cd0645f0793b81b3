"""What the model learns to say: settled on the training split, then the same for every split."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tfft import tasks
from tfft.data.rows import Rows, counted, kind_of, listed
from tfft.errors import DataError

if TYPE_CHECKING:
    import numpy

FREE_TEXT_LABELS = 1000  # more distinct string labels than this, nearly one a row, are not classes
FREE_TEXT_SHARE = 0.9


@dataclass(frozen=True)
class LabelMap:
    """Class ids: position `i` holds the name shown for class `i`, and the raw value that stands for it in the rows.

    Where numbers are learned there is one name, the column's.
    """

    names: tuple[str, ...]
    values: tuple[Any, ...]
    problem_type: str = tasks.SINGLE_LABEL

    def __len__(self) -> int:
        return len(self.names)


class LabelCounts(NamedTuple):
    """How often each class occurs, where the labels themselves are too many to be held.

    Attributes:
        rows: how many there are; of words that have tags, those that count.
        of_class: (classes,) integer, those with each class.
    """

    rows: int
    of_class: numpy.ndarray


def count_labels(labels: numpy.ndarray, classes: int) -> LabelCounts:
    """Of labels as `encode_labels` gives them: (rows,) ids, those below 0 left out, or (rows, classes) of 0 and 1."""
    import numpy

    if labels.ndim == 2:
        return LabelCounts(len(labels), labels.sum(axis=0).astype(int))
    counted = labels[labels >= 0]
    return LabelCounts(len(counted), numpy.bincount(counted, minlength=classes))


def settle_labels(train: Rows, problem_type: str = tasks.SINGLE_LABEL) -> LabelMap:
    """The classes of the training split: integers in numeric order, strings in alphabetic order, False before True.

    The names of a `datasets.ClassLabel` keep their ids, those absent from these rows included.

    Args:
        problem_type: see `tasks.Task`. Rows with several labels have tuples; of numbers there is nothing to settle.

    Raises:
        DataError: no labels, labels of several types, one class only, or free text in the place of classes.
    """
    if train.labels is None:
        raise DataError(f"{train.source}: there are no labels to train on; set data.label_column")
    if problem_type == tasks.REGRESSION:
        _check_numbers_differ(train)
        return LabelMap(train.class_names or ("label",), (), problem_type)
    kinds: dict[type, tuple[int, Any]] = {}
    first_row: dict[Any, int] = {}  # of each label
    for index, label in _with_rows(train.labels, problem_type):
        kinds.setdefault(type(label), (index, label))
        first_row.setdefault(label, index)
    if len(kinds) > 1:
        (first, one), (second, other) = list(kinds.values())[:2]
        raise DataError(
            f"{train.name_row(first)} has the label {one!r} ({kind_of(one)}) but {train.name_row(second)} has "
            f"{other!r} ({kind_of(other)}); expected labels of one type, make them alike"
        )
    if not kinds:
        raise DataError(f"{train.source}: no row has a label; check data.label_column")
    values = sorted(first_row)
    if len(values) == 1 and problem_type != tasks.MULTI_LABEL:
        only = _shown_label(values[0], train.class_names)
        raise DataError(
            f"{train.source}: the only label in {counted(len(train), 'row')} is {only}; "
            "expected at least two classes, check data.label_column or take more rows"
        )
    if isinstance(values[0], str) and len(values) > FREE_TEXT_LABELS and len(values) >= FREE_TEXT_SHARE * len(train):
        raise DataError(
            f"{train.source}: {len(values)} different labels in {len(train)} rows look like free text, not classes "
            f"(the first is {next(iter(first_row))[:60]!r}); set data.label_column to a column of classes"
        )
    if problem_type == tasks.TOKENS:
        return LabelMap(train.class_names or tuple(values), train.class_names or tuple(values), problem_type)
    if train.class_names is not None:
        if beyond := [value for value in values if not (type(value) is int and 0 <= value < len(train.class_names))]:
            row = train.name_row(first_row[beyond[0]])
            raise DataError(f"{row}: the label {beyond[0]!r} is not one of the {len(train.class_names)} class ids")
        return LabelMap(train.class_names, tuple(range(len(train.class_names))), problem_type)
    return LabelMap(tuple(map(str, values)), tuple(values), problem_type)


def known_labels(names: tuple[str, ...], rows: Rows, problem_type: str = tasks.SINGLE_LABEL) -> LabelMap:
    """The classes of a model that is trained already, so that the labels of these rows can be told.

    A model knows its classes by name alone. Text stands for the class of that name; whole numbers and booleans do
    where all names are such, and are class ids else, as in a `datasets.ClassLabel`.

    Args:
        names: of the classes in id order.
    """
    if problem_type in (tasks.REGRESSION, tasks.TOKENS):
        return LabelMap(names, () if problem_type == tasks.REGRESSION else names, problem_type)
    kind = next((type(label) for _, label in _with_rows(rows.labels or [], problem_type)), str)
    if kind is str:
        return LabelMap(names, names, problem_type)
    if kind is bool and set(names) <= {"False", "True"}:
        return LabelMap(names, tuple(name == "True" for name in names), problem_type)
    if kind is int and rows.class_names is None and all(name.removeprefix("-").isdecimal() for name in names):
        return LabelMap(names, tuple(map(int, names)), problem_type)
    return LabelMap(names, tuple(range(len(names))), problem_type)


def _with_rows(labels: Sequence[Any], problem_type: str) -> Iterator[tuple[int, Any]]:
    """Every label with the position of its row, which may have several."""
    for index, given in enumerate(labels):
        if problem_type in (tasks.MULTI_LABEL, tasks.TOKENS):
            yield from ((index, label) for label in given)
        else:
            yield index, given


def _check_numbers_differ(train: Rows) -> None:
    assert train.labels is not None
    if len(set(train.labels)) == 1:
        raise DataError(
            f"{train.source}: the label of all {counted(len(train), 'row')} is {train.labels[0]}; expected numbers "
            "that differ, check data.label_column or take more rows"
        )


def encode_labels(rows: Rows, label_map: LabelMap) -> numpy.ndarray:
    """Class ids of the rows' labels: (rows,) int32; (rows, classes) float32 of 0 and 1 where a row has several.

    Where numbers are learned they are the numbers, (rows,) float32; where words have tags, one after the other for all
    rows, (words,) int32. Rows whose class names differ from the map's
    (another `datasets.ClassLabel`) are matched by name.

    Raises:
        DataError: the rows have no labels, or one that is not in the map; the first such row is named.
    """
    import numpy

    if rows.labels is None:
        raise DataError(f"{rows.source}: there are no labels; set data.label_column")
    if label_map.problem_type == tasks.REGRESSION:
        return numpy.asarray(rows.labels, numpy.float32)
    # The type belongs to the key, for 1 == True.
    ids = {(type(value), value): index for index, value in enumerate(label_map.values)}
    is_named = label_map.names != tuple(map(str, label_map.values)) or isinstance(label_map.values[0], str)
    are_ids = label_map.problem_type != tasks.TOKENS
    if rows.class_names is not None and is_named and are_ids and rows.class_names != label_map.names:
        by_name = {name: index for index, name in enumerate(label_map.names)}
        ids = {(int, id_): by_name[name] for id_, name in enumerate(rows.class_names) if name in by_name}
    given = functools.partial(_with_rows, rows.labels, label_map.problem_type)
    try:
        found = numpy.fromiter((ids[type(label), label] for _, label in given()), "int32")
    except KeyError:
        index, unknown = next((at, label) for at, label in given() if (type(label), label) not in ids)
    else:
        if label_map.problem_type != tasks.MULTI_LABEL:
            return found
        has = numpy.zeros((len(rows), len(label_map)), numpy.float32)
        has[[at for at, _ in given()], found] = 1.0
        return has
    known = [
        f"{value!r} ({name})" if str(value) != name else repr(value)
        for name, value in zip(label_map.names, label_map.values, strict=True)
    ]
    raise DataError(
        f"{rows.name_row(index)}: the label {_shown_label(unknown, rows.class_names)} does not occur in the "
        f"training split, whose labels are {listed(known)}; correct the row, or add such rows to the training split"
    )


def _shown_label(label: Any, class_names: tuple[str, ...] | None) -> str:
    if class_names is not None and type(label) is int and 0 <= label < len(class_names):
        return f"{label} ({class_names[label]})"
    return repr(label)
