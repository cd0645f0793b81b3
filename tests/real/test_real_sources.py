"""The published files as they are, with their byte-order mark, bare quotes, HTML breaks and damaged characters."""

from __future__ import annotations

import os
import pathlib

import pytest

from tfft.data.files import read_file
from tfft.data.labels import settle_labels
from tfft.errors import DataError


def data_folder() -> pathlib.Path:
    if not (folder := os.environ.get("TFFT_DATA")):
        pytest.skip("TFFT_DATA is not set; it names the folder of real data sets")
    return pathlib.Path(folder)


MRPC = {"text_columns": ["#1 String", "#2 String"], "label_column": "Quality"}
SST2 = {"text_columns": ["sentence"], "label_column": "label"}
IMDB = {"text_columns": ["review"], "label_column": "sentiment", "encoding": "utf-8:replace"}


@pytest.mark.parametrize(
    ("name", "wanted", "count", "names"),
    [
        ("mrpc/train.tsv", MRPC, 3667, ("0", "1")),
        ("mrpc/dev.tsv", MRPC, 408, ("0", "1")),
        ("mrpc/test.tsv", MRPC, 1725, ("0", "1")),
        ("sst2/train.tsv", SST2, 67349, ("0", "1")),
        ("sst2/dev.tsv", SST2, 872, ("0", "1")),
        ("imdb/reviews.csv", IMDB, 1999, ("negative", "positive")),
    ],
)
def test_published_files(name: str, wanted: dict, count: int, names: tuple[str, ...]) -> None:
    rows, _ = read_file(data_folder() / name, **wanted)
    assert len(rows) == count
    assert settle_labels(rows).names == names
    assert all(len(column) == count for column in rows.texts)


def test_bare_quotes_of_mrpc_stay_in_the_text() -> None:
    rows, notes = read_file(data_folder() / "mrpc" / "dev.tsv", **MRPC)
    assert rows.texts[1][0] == '" The foodservice pie business does not fit our long-term growth strategy .'
    assert any("plain characters" in note for note in notes)


def test_damaged_characters_of_imdb_are_named() -> None:
    with pytest.raises(DataError, match=r"byte 0xe2 at offset 466944 \(line 354\).*data\.encoding=utf-8:replace"):
        read_file(data_folder() / "imdb" / "reviews.csv", **{**IMDB, "encoding": "utf-8"})
