"""Rows for both peers: the same files read the same way, so that only the training differs. Standard library only."""

from __future__ import annotations

import argparse
import csv
import pathlib
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rows:
    """Texts by column (one or two), and the labels as they are written in the file."""

    texts: tuple[list[str], ...]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that both peers take; the defaults are those of MRPC's files."""
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="folder of the pretrained model")
    parser.add_argument("--train-file", type=pathlib.Path, required=True, help=".tsv (no quoting) or .csv, with header")
    parser.add_argument("--validation-file", type=pathlib.Path, required=True)
    parser.add_argument("--text-columns", nargs="+", default=["#1 String", "#2 String"], metavar="COLUMN")
    parser.add_argument("--label-column", default="Quality", metavar="COLUMN")
    parser.add_argument(
        "--encoding", default="utf-8-sig", help="of both files (default: UTF-8, with or without a mark)"
    )
    parser.add_argument("--max-length", type=int, help="tokens a row; the model's own limit unless given")
    parser.add_argument("--max-train-samples", type=int, default=0, help="a seeded selection; 0 takes all rows")
    parser.add_argument("--max-eval-samples", type=int, default=0, help="a seeded selection; 0 takes all rows")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=42)


def read(path: pathlib.Path, text_columns: Sequence[str], label_column: str, encoding: str = "utf-8-sig") -> Rows:
    """All rows of a file. In `.tsv` quotes are plain characters; in `.csv` they enclose fields.

    Raises:
        SystemExit: a column is missing from the header.
    """
    tabs = path.suffix == ".tsv"
    with open(path, encoding=encoding, newline="") as file:
        reader = csv.DictReader(
            file, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        )
        rows = list(reader)
    missing = [name for name in (*text_columns, label_column) if name not in (reader.fieldnames or [])]
    if missing:
        raise SystemExit(f"{path}: no column {', '.join(missing)}; it has {', '.join(reader.fieldnames or [])}")
    return Rows(tuple([row[name] for row in rows] for name in text_columns), [row[label_column] for row in rows])


def select(rows: Rows, count: int, seed: int) -> Rows:
    """`count` rows in an order drawn from the seed, or all of them as they stand where `count` is 0 or too large."""
    if count <= 0 or count >= len(rows):
        return rows
    chosen = random.Random(seed).sample(range(len(rows)), count)
    return Rows(tuple([column[i] for i in chosen] for column in rows.texts), [rows.labels[i] for i in chosen])


def label_names(labels: Sequence[str]) -> list[str]:
    """The distinct labels in order of their ids: integers by value, other labels by spelling."""
    names = set(labels)
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def columns(rows: Rows, names: Sequence[str]) -> dict[str, list]:
    """What `datasets.Dataset.from_dict` takes: `sentence1`, for pairs `sentence2`, and `labels` as ids."""
    ids = {name: i for i, name in enumerate(names)}
    texts = {f"sentence{i}": column for i, column in enumerate(rows.texts, start=1)}
    return {**texts, "labels": [ids[label] for label in rows.labels]}


def load(args: argparse.Namespace) -> tuple[dict[str, list], dict[str, list], list[str]]:
    """Training columns, validation columns and the label names, as the arguments ask for them."""
    train, validation = (
        select(read(path, args.text_columns, args.label_column, args.encoding), count, args.seed)
        for path, count in (
            (args.train_file, args.max_train_samples),
            (args.validation_file, args.max_eval_samples),
        )
    )
    names = label_names(train.labels)
    unseen = sorted(set(validation.labels) - set(names))
    if unseen:
        raise SystemExit(f"{args.validation_file}: labels {', '.join(unseen)} are not in the training rows")
    return columns(train, names), columns(validation, names), names
