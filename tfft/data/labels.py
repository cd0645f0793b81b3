"""The classes: settled on the training split, then the same for every split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfft.data.rows import Rows, counted, kind_of, listed
from tfft.errors import DataError

if TYPE_CHECKING:
    import numpy

FREE_TEXT_LABELS = 1000  # more distinct string labels than this, nearly one a row, are not classes
FREE_TEXT_SHARE = 0.9


@dataclass(frozen=True)
class LabelMap:
    """Class ids: position `i` holds the name shown for class `i`, and the raw value that stands for it in the rows."""

    names: tuple[str, ...]
    values: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.names)


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
            f"{train.name_row(first)} has the label {train.labels[first]!r} ({kind_of(train.labels[first])}) but "
            f"{train.name_row(second)} has {train.labels[second]!r} ({kind_of(train.labels[second])}); "
            "expected labels of one type, make them alike"
        )
    values = sorted(set(train.labels))
    if len(values) == 1:
        only = _shown_label(values[0], train.class_names)
        raise DataError(
            f"{train.source}: the only label in {counted(len(train), 'row')} is {only}; "
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
        f"training split, whose labels are {listed(known)}; correct the row, or add such rows to the training split"
    )


def _shown_label(label: Any, class_names: tuple[str, ...] | None) -> str:
    if class_names is not None and type(label) is int and 0 <= label < len(class_names):
        return f"{label} ({class_names[label]})"
    return repr(label)
