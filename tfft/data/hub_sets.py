"""Rows out of data sets on the hub, by the `datasets` library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tfft.data.memory import dataset_table
from tfft.data.rows import Rows, Splits, first_line, listed, sample, shuffled
from tfft.data.tables import CLASSES, Targets, Wanted, make_rows
from tfft.errors import DataError, HubError, nearest


def read_hub(
    dataset_name: str,
    config_name: str | None,
    *,
    train_split_name: str = "train",
    validation_split_name: str | None = None,
    test_split_name: str | None = None,
    text_columns: Sequence[str],
    label_column: str | None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    seed: int = 0,
    drop_invalid: bool = False,
    targets: Targets = CLASSES,
    needs_labels: bool = True,
) -> Splits:
    """The splits of a data set on the hub. Code that comes with a data set is never run.

    Args:
        dataset_name: hub id.
        config_name: one of its configurations, where it has several.
        train_split_name: the split to train on.
        validation_split_name: None takes `validation`, else `validation_matched`, else none.
        test_split_name: None takes `test` where there is one that is not the validation split.
        text_columns: one or two columns that hold text.
        label_column: the column of labels; None reads none. The test split may lack it, or have -1 throughout as
            GLUE's do.
        max_train_samples: as many rows of the training split, chosen at random.
        max_eval_samples: as many rows of the validation split, and of the test split, chosen at random.
        seed: of the choice.
        drop_invalid: leave out rows with a missing value instead of raising an error.
        targets: what labels are, where they are not classes, and the weights of training rows.
        needs_labels: whether training rows have to have them.

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
                f"data.{key}: {shown} has no split {name!r}; its splits are {listed(map(repr, present))}"
                + (f". Did you mean {near!r}?" if near else "")
            )
        source = f"{shown} [{name}]"
        prefix = f"data.dataset_name: {source}"
        is_train = key == "train_split_name"
        chosen = targets if is_train else replace(targets, weight_column=None)
        needs_labels = needs_labels and label_column is not None
        wanted = Wanted(prefix, source, tuple(text_columns), label_column, needs_labels, drop_invalid, chosen)
        rows, found = _sampled_hub_rows(loaded[name], count, seed, wanted)
        notes.extend(found)
        return rows

    train = read_split(train_split_name, "train_split_name", max_train_samples, needs_labels)
    assert train is not None
    return Splits(
        train=train,
        validation=read_split(validation_split_name, "validation_split_name", max_eval_samples, True),
        test=read_split(test_split_name, "test_split_name", max_eval_samples, False),
        notes=tuple(notes),
    )


def load_split(dataset_name: str, config_name: str | None, rows: Rows) -> Any:
    """The `datasets.Dataset` that these rows were read of by `read_hub`.

    Raises:
        HubError: it cannot be had.
    """
    return _load_dataset(dataset_name, config_name)[rows.source.rpartition("[")[2].removesuffix("]")]


def _sampled_hub_rows(dataset: Any, count: int | None, seed: int, wanted: Wanted) -> tuple[Rows, list[str]]:
    if count is None or count >= len(dataset) or wanted.drop_invalid:
        # Rows to be dropped must not take the place of good ones, so there the sample is taken afterwards.
        rows, notes = make_rows(dataset_table(dataset, wanted), wanted)
        return (rows if count is None else sample(rows, count, seed)), notes
    chosen = shuffled(len(dataset), seed)[:count]
    table = dataset_table(dataset.select(chosen), wanted)
    return make_rows(replace(table, numbers=(chosen + 1).tolist()), wanted)


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
            f"{shown}: no such data set on the hub, or no access to it ({first_line(error)}); correct the name, "
            f"log in if it is private, or {ways_out}"
        ) from error
    except datasets.exceptions.DatasetsError as error:
        raise HubError(
            f"{shown}: the data set cannot be used ({first_line(error)}); choose another, or {ways_out}"
        ) from error
    except OSError as error:  # connection errors and timeouts, those of requests and huggingface_hub among them
        raise HubError(f"{shown}: cannot be fetched from the hub ({first_line(error)}); {ways_out}") from error
    except ValueError as error:
        if type(error).__name__ == "HFValidationError":
            raise HubError(
                f"{shown}: not a hub id ({first_line(error)}); expected OWNER/NAME, or {ways_out}"
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
