"""Rows from every kind of source, and one clear message for everything that can be wrong with them."""

from __future__ import annotations

import csv
import json
import pathlib
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy
import pytest

from tfft import tasks
from tfft.data import checks, columns, files, hub_sets, memory, tables
from tfft.data.labels import LabelMap, encode_labels, settle_labels
from tfft.data.rows import Rows, Splits, sample, split_stratified
from tfft.errors import DataError, HubError

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")


@pytest.fixture(autouse=True, params=[columns.LARGE_BYTES, -1], ids=["small", "large"])
def large_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> int:
    """Every test here holds for files that are read whole, and for those whose texts go to disk."""
    monkeypatch.setenv("TFFT_CACHE", str(tmp_path / "cache of texts"))
    monkeypatch.setattr(columns, "LARGE_BYTES", request.param)
    return int(request.param)


def read(path: pathlib.Path, **changes: Any) -> tuple[Rows, list[str]]:
    wanted: dict[str, Any] = {"text_columns": ["text"], "label_column": "label"}
    rows, notes = files.read_file(path, **{**wanted, **changes})
    is_on_disk = columns.LARGE_BYTES < 0 and path.suffix != ".json" and rows.words is None
    assert all(isinstance(column, columns.TextsOnDisk) == is_on_disk for column in rows.texts)
    return as_lists(rows), notes


def as_lists(rows: Rows) -> Rows:
    """The same rows with all of them in lists."""
    more = {name: None if (some := getattr(rows, name)) is None else list(some) for name in ("numbers", "lines")}
    return replace(rows, texts=tuple(list(column) for column in rows.texts), **more)


def rows_of(labels: list[Any] | None, texts: list[str] | None = None, **changes: Any) -> Rows:
    count = len(labels or texts or [])
    texts = texts or [f"text {number}" for number in range(count)]
    return Rows(**{"texts": (texts,), "labels": labels, "numbers": list(range(1, count + 1)), "source": "x", **changes})


def write(path: pathlib.Path, columns: dict[str, list[Any]]) -> pathlib.Path:
    """The columns as a file of the kind that the path's ending names, as an ordinary program writes it."""
    objects = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(columns), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(objects)
    elif path.suffix == ".json":
        path.write_text(json.dumps(objects), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        path.write_text("".join(json.dumps(item) + "\n" for item in objects), encoding="utf-8")
    return path


# --- every format gives the same rows ---------------------------------------------------------------------------------


def random_text(generator: random.Random) -> str:
    return "".join(generator.choices("ab ,;\"'\t\néß\u2028\x85日😀\\", k=generator.randint(0, 12)))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "labels", [(0, 1, -7), ("yes", "no", 'perhaps, "so"'), (True, False)], ids=["int", "str", "bool"]
)
def test_what_is_written_is_read(tmp_path: pathlib.Path, ending: str, labels: tuple[Any, ...]) -> None:
    generator = random.Random(5)
    for trial in range(20):
        count = generator.randint(1, 8)
        table = {
            "first": [random_text(generator) for _ in range(count)],
            "unused": ["x"] * count,
            "second": [random_text(generator) for _ in range(count)],
            "label": generator.choices(labels, k=count),
        }
        path = write(tmp_path / f"{trial}{ending}", table)
        rows, _ = read(path, text_columns=["second", "first"])
        assert rows.texts == (table["second"], table["first"])
        assert rows.labels == table["label"]
        assert [type(label) for label in rows.labels] == [type(label) for label in table["label"]]
        assert rows.numbers == list(range(1, count + 1))
        assert rows.source == path.name


def test_a_single_column_of_text_keeps_its_empty_rows(tmp_path: pathlib.Path) -> None:
    for ending in ENDINGS:
        rows, _ = read(write(tmp_path / f"a{ending}", {"text": ["a", "", "b"]}), label_column=None, needs_labels=False)
        assert rows.texts == (["a", "", "b"],)
        assert rows.labels is None


@pytest.mark.parametrize(
    ("name", "content", "texts", "labels"),
    [
        ("bom.csv", b"\xef\xbb\xbftext,label\na,1\n", ["a"], [1]),
        ("crlf.csv", b"text,label\r\na,1\r\n\r\nb,0\r\n", ["a", "b"], [1, 0]),
        ("no_last_line_end.tsv", b"text\tlabel\na\t1", ["a"], [1]),
        ("quoted.csv", b'text,label\n"a, ""b""\n<br />c",x\nd "e" f,y\n', ['a, "b"\n<br />c', 'd "e" f'], ["x", "y"]),
        ("whole_floats.csv", b"text,label\na,1.0\nb,+2\nc,3e0\n", ["a", "b", "c"], [1, 2, 3]),
        ("booleans.csv", b"text,label\na,TRUE\nb,false\n", ["a", "b"], [True, False]),
        ("not_all_integers.csv", b"text,label\na,1\nb,two\n", ["a", "b"], ["1", "two"]),
        ("blanks_around.csv", b"text,label\n a , x \nb, y\n", [" a ", "b"], ["x", "y"]),
        ("UPPER.TSV", b"text\tlabel\na\t1\n", ["a"], [1]),
        ("data_object.json", b'{"version": 1, "data": [{"text": "a", "label": 2.0}]}', ["a"], [2]),
        ("blank_lines.jsonl", b'\n{"text": "a", "label": 1}\r\n\r\n{"text": "b", "label": 0}\n', ["a", "b"], [1, 0]),
    ],
)
def test_ways_of_writing(
    tmp_path: pathlib.Path, name: str, content: bytes, texts: list[str], labels: list[Any]
) -> None:
    (tmp_path / name).write_bytes(content)
    rows, _ = read(tmp_path / name)
    assert rows.texts == (texts,)
    assert rows.labels == labels


@pytest.mark.parametrize(
    ("body", "texts", "is_plain"),
    [
        ('" open and bare\t1\nplain\t0\n', ['" open and bare', "plain"], True),
        ('" he said , " I go "\t1\nplain\t0\n', ['" he said , " I go "', "plain"], True),
        ('"even\tthis"\t1\nplain\t0\n', ["even\tthis", "plain"], False),
        ('"two\nlines"\t1\nplain\t0\n', ["two\nlines", "plain"], False),
        ('"a ""word"""\t1\nplain\t0\n', ['a "word"', "plain"], False),
        # Quoted, this would be one row whose first field runs over a line end; plain, it is two good rows.
        ('"a\t1\nb"\t0\n', ['"a', 'b"'], True),
        ('say "so"\t1\nplain\t0\n', ['say "so"', "plain"], False),
    ],
)
def test_quotes_in_a_tab_separated_file(tmp_path: pathlib.Path, body: str, texts: list[str], is_plain: bool) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + body)
    rows, notes = read(path)
    assert rows.texts == (texts,)
    assert rows.labels == [1, 0]
    assert any("plain characters" in note for note in notes) == is_plain


def test_a_row_is_named_by_its_number_and_its_first_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text('\ntext,label\n"two\nlines",0\n\nb,1\nc,0\n')
    rows, _ = read(path)
    assert [rows.name_row(at) for at in range(3)] == [
        "train.csv row 1 (line 3)",
        "train.csv row 2 (line 6)",
        "train.csv row 3 (line 7)",
    ]
    assert rows.take([2]).name_row(0) == "train.csv row 3 (line 7)"
    assert read(write(tmp_path / "a.json", {"text": ["a"], "label": [1]}))[0].name_row(0) == "a.json row 1"


def test_utf16_without_a_mark_is_the_machines_own(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\nä,1\n".encode("utf-16-le" if sys.byteorder == "little" else "utf-16-be"))
    rows, _ = read(path, encoding="utf-16")
    assert (rows.texts, rows.labels) == ((["ä"],), [1])


def test_other_encodings_are_read_when_they_are_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    for encoding in ("latin-1", "utf-16", "utf-8-sig"):
        path.write_bytes("text,label\ncafé,1\n".encode(encoding))
        assert read(path, encoding=encoding)[0].texts == (["café"],)
    path.write_bytes(b"text,label\ncaf\xe9 au lait,1\n")
    assert read(path, encoding="utf-8:replace")[0].texts == (["caf\ufffd au lait"],)


def test_a_text_longer_than_the_csv_modules_limit(tmp_path: pathlib.Path) -> None:
    limit = csv.field_size_limit()
    text = "word " * 40_000
    for ending in (".csv", ".tsv"):
        assert read(write(tmp_path / f"a{ending}", {"text": [text], "label": [1]}))[0].texts == ([text],)
    assert csv.field_size_limit() == limit


def test_a_parquet_file_of_the_datasets_library_keeps_its_class_names(tmp_path: pathlib.Path) -> None:
    make_dataset(["a", "b"], [1, 0]).to_parquet(str(tmp_path / "a.parquet"))
    rows, _ = read(tmp_path / "a.parquet")
    assert rows.labels == [1, 0]
    assert rows.class_names == ("bad", "good")


def test_large_files_are_read_quickly(tmp_path: pathlib.Path) -> None:
    labels = [number % 2 for number in range(67_000)]
    path = write(tmp_path / "a.tsv", {"text": [f"some words and number {at}" for at in range(67_000)], "label": labels})
    began = time.process_time()
    rows, _ = read(path)
    encode_labels(rows, settle_labels(rows))
    assert time.process_time() - began < 2


# --- files that cannot be used ----------------------------------------------------------------------------------------

HEAD = b"text,label\n"
BAD_FILES = [
    ("empty.csv", b"", {}, ["the file is empty"]),
    ("blank.csv", b" \n\n", {}, ["the file is empty"]),
    ("blank.json", b" \n\n", {}, ["the file is empty"]),
    ("blank.jsonl", b" \n\n", {}, ["the file is empty"]),
    ("header_only.csv", HEAD, {}, ["a header but no rows"]),
    ("header_only.tsv", b"text\tlabel\n", {}, ["a header but no rows"]),
    ("no_objects.json", b"[]", {}, ["no rows"]),
    ("notes.txt", b"a,1\n", {}, ["'.txt'", ".csv, .tsv, .json"]),
    (
        "latin.csv",
        HEAD + b"ok,1\ncaf\xe9,0\n",
        {},
        ["not UTF-8", "0xe9", "offset 19", "line 3", "data.encoding=cp1252"],
    ),
    ("latin.jsonl", b'{"text": "caf\xe9"}\n', {}, ["not UTF-8", "0xe9", "line 1", "utf-8:replace"]),
    ("utf16.csv", "text,label\na,1\n".encode("utf-16"), {}, ["not UTF-8", "offset 0", "data.encoding=utf-16"]),
    ("nul.csv", "text,label\na,1\n".encode("utf-16-le"), {}, ["NUL", "line 1", "utf-16-le"]),
    ("no_bom.csv", b"\x00t", {"encoding": "utf-16-x"}, ["data.encoding=utf-16-x", "not an encoding"]),
    ("known.csv", HEAD + b"a,1\n", {"encoding": "utf-9"}, ["data.encoding=utf-9", "latin-1"]),
    ("known.csv", HEAD + b"a,1\n", {"encoding": "hex"}, ["data.encoding=hex", "not an encoding"]),
    ("known.csv", HEAD + b"a,1\n", {"text_columns": ["txet"]}, ["'txet'", "'text', 'label'", "did you mean 'text'?"]),
    ("known.csv", HEAD + b"a,1\n", {"label_column": "stars"}, ["'stars'", "data.label_column"]),
    ("known.csv", HEAD + b"a,1\n", {"label_column": None}, ["labels are needed", "data.label_column"]),
    ("semicolons.csv", b"text;label\na;1\n", {}, ["'text;label'", "semicolons"]),
    ("tabs.csv", b"text\tlabel\na\t1\n", {}, ["name a tab-separated file .tsv"]),
    ("keys.json", b'[{"words": "a", "label": 1}]', {}, ["no column 'text'", "'words', 'label'"]),
    ("twice.csv", b"text,label,text\na,1,b\n", {}, ["'text'", "more than once"]),
    ("ragged.csv", HEAD + b'"a\nb",1\nc,d,0\n', {}, ["row 2 (line 4)", "3 fields", "expected 2", "quotes"]),
    ("short.tsv", b"text\tlabel\na\n", {}, ["row 1 (line 2)", "1 field,", "expected 2"]),
    ("ragged_quoted.tsv", b'text\tlabel\n"a\nb"\t1\nc\td\t0\n', {}, ["row 2 (line 4)", "3 fields"]),
    ("unclosed.csv", HEAD + b'a,1\n"b,0\nc,1\n', {}, ["line 3", "never closed"]),
    ("after_quote.csv", HEAD + b'a,1\n"b" c,0\n', {}, ["line 3", "written twice"]),
    ("cut.json", b'[{"text": "a",\n"label": 1},\n{"text"', {}, ["not valid JSON", "line 3", "cut short"]),
    (
        "lines.json",
        b'{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n',
        {},
        ["not valid JSON", "line 2", ".jsonl"],
    ),
    ("bad.jsonl", b'{"text": "a", "label": 1}\n{"text": b}\n', {}, ["not valid JSON", "line 2, column 10"]),
    ("open.jsonl", b'{"text": "a", "label": 1}\n{"text":"b"\n', {}, ["not valid JSON", "line 2, column 12"]),
    ("cut.jsonl", b'{"text": "a", "label": 1}\n{"text":"b\n', {}, ["line 2", "Unterminated string"]),
    ("blank_first.csv", b"  \ntext,label\na,1\n", {}, ["no columns 'text', 'label'"]),
    ("commas_first.csv", b",,\na,b,c\n", {}, ["the header names '' more than once"]),
    ("deep.json", b"[" * 100_000, {}, ["not valid JSON", "deeply nested"]),
    ("object.json", b'{"rows": []}', {}, ["an object, expected a list of objects"]),
    ("scalars.json", b"[1, 2]", {}, ["row 1", "an integer, expected an object"]),
    ("list.jsonl", b'{"text": "a", "label": 1}\n["b", 0]\n', {}, ["row 2 (line 2)", "a list, expected an object"]),
    ("number.jsonl", b'{"text": 12, "label": 1}\n', {}, ["row 1 (line 1)", "'text' holds an integer", "a string"]),
    ("half.jsonl", b'{"text": "a\\ud83d", "label": 1}\n', {}, ["row 1 (line 1)", "surrogate"]),
    (
        "null.jsonl",
        b'{"text": null, "label": 1}\n',
        {},
        ["row 1 (line 1)", "no value in column 'text'", "drop_invalid"],
    ),
    (
        "nan.jsonl",
        b'{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n',
        {},
        ["row 2 (line 2)", "column 'label'"],
    ),
    ("no_label.csv", HEAD + b"a,1\nb,\nc, \n", {}, ["row 2 (line 3)", "2 rows of 3", "data.drop_invalid=true"]),
    ("no_key.json", b'[{"text": "a"}, {"text": "b", "label": 1}]', {}, ["row 1", "1 row of 2", "drop_invalid"]),
    ("nothing.csv", HEAD + b"a,\nb,\n", {"drop_invalid": True}, ["no rows are left", "2 in 'label'"]),
    ("scores.csv", HEAD + b"a,1\nb,3.5\n", {}, ["row 2 (line 3)", "3.5", "needs classes"]),
    ("scores.jsonl", b'{"text": "a", "label": 0.5}\n', {}, ["row 1", "0.5", "needs classes"]),
    ("infinite.jsonl", b'{"text": "a", "label": Infinity}\n', {}, ["row 1", "needs classes"]),
    ("lists.jsonl", b'{"text": "a", "label": [1, 2]}\n', {}, ["row 1", "a list", "needs classes"]),
    ("text.parquet", b"text,label\n", {}, ["not a Parquet file"]),
    ("damaged.parquet", b"PAR1" + b"\0" * 50 + b"PAR1", {}, ["damaged Parquet file"]),
]


@pytest.mark.parametrize(("name", "content", "changes", "expected"), BAD_FILES)
def test_bad_files(
    tmp_path: pathlib.Path, name: str, content: bytes, changes: dict[str, Any], expected: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, key="data.validation_file", **changes)
    message = str(caught.value)
    assert message.startswith(f"data.validation_file: {path}")
    assert "\n" not in message
    for words in expected:
        assert words in message


def test_a_parquet_file_that_is_cut_short(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["a"] * 100, "label": [1] * 100})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is cut short"):
        read(path)


def test_a_parquet_file_without_the_column(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["a"], "labels": [1]})
    with pytest.raises(DataError, match=r"no column 'label'.*did you mean 'labels'"):
        read(path)


def test_files_that_are_not_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,1\n")
    with pytest.raises(DataError, match=r"data\.train_file: .*no such file; did you mean .*train\.csv"):
        read(tmp_path / "trian.csv")
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist"):
        read(tmp_path / "nowhere" / "train.csv")
    with pytest.raises(DataError, match=r"a directory, expected a file; it holds train\.csv"):
        read(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.csv", {"text": ["a"], "label": [1]})

    def refuse(*_: Any, **__: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(DataError, match="cannot be read \\(Permission denied\\); check its permissions"):
        read(path)


def test_rows_with_missing_values_are_left_out_on_request(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": null, "label": 1}\n{"text": "c"}\n{"text": "d", "label": 0}\n')
    rows, notes = read(path, drop_invalid=True)
    assert rows.texts == (["a", "d"],)
    assert rows.numbers == [1, 4]
    assert rows.lines == [1, 4]
    assert notes == ["a.jsonl: 2 rows of 4 left out for missing values (1 in 'text', 1 in 'label')."]


def test_labels_that_are_not_needed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\na\n")
    assert read(path, needs_labels=False)[0].labels is None
    path.write_text("text,label\na,1\nb,0\n")
    assert read(path, needs_labels=False)[0].labels == [1, 0]
    path.write_text("text,label\na,1\nb,\n")
    rows, notes = read(path, needs_labels=False)
    assert len(rows) == 2
    assert rows.labels is None
    assert notes == ["a.csv: 1 row without a label, so it cannot be scored."]


# --- Python objects ---------------------------------------------------------------------------------------------------


def make_dataset(texts: list[Any], labels: list[int], names: tuple[str, ...] = ("bad", "good")) -> Any:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)


def make_frame(columns: dict[str, list[Any]]) -> Any:
    import pandas

    return pandas.DataFrame(columns)


COLUMNS: dict[str, list[Any]] = {"text": ["a", "b", "c"], "label": [1, 0, 1]}
PYTHON_FORMS: dict[str, Callable[[], Any]] = {
    "dict of lists": lambda: COLUMNS,
    "dict of arrays": lambda: {name: numpy.array(column) for name, column in COLUMNS.items()},
    "list of dicts": lambda: [
        {"text": text, "label": numpy.int64(label)} for text, label in zip(*COLUMNS.values(), strict=True)
    ],
    "pandas": lambda: make_frame(COLUMNS),
    "pandas nullable": lambda: make_frame(COLUMNS).convert_dtypes(),
    "pandas category": lambda: make_frame(COLUMNS).astype({"label": "category"}),
    "dataset": lambda: make_dataset(COLUMNS["text"], COLUMNS["label"]),
    "dataset as numpy": lambda: make_dataset(COLUMNS["text"], COLUMNS["label"]).with_format("numpy"),
}


@pytest.mark.parametrize("form", PYTHON_FORMS)
def test_python_objects(form: str) -> None:
    rows, notes = memory.from_python(
        PYTHON_FORMS[form](), text_columns=["text"], label_column="label", source="train rows given"
    )
    is_on_disk = columns.LARGE_BYTES < 0 and form.startswith("dataset")
    assert isinstance(rows.texts[0], columns.TextsOnDisk) == is_on_disk
    rows = as_lists(rows)
    assert rows.texts == (["a", "b", "c"],)
    assert rows.labels == [1, 0, 1]
    assert {type(label) for label in rows.labels} == {int}
    assert rows.class_names == (("bad", "good") if form.startswith("dataset") else None)
    assert rows.name_row(2) == "train rows given row 3"
    assert notes == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: "train.csv", "got builtins.str, expected a datasets.Dataset"),
        (lambda: 3, "got builtins.int"),
        (lambda: [], "no rows"),
        (lambda: {"text": [], "label": []}, "no rows"),
        (lambda: ["a", "b"], "row 1: a string, expected an object"),
        (lambda: {"text": ["a"], "label": [1, 0]}, "differ in length ('text' has 1, 'label' has 2)"),
        (lambda: {"text": "abc", "label": [1, 0, 1]}, "column 'text' is a string, expected a list"),
        (lambda: {"words": ["a"], "label": [1]}, "no column 'text'"),
        (lambda: make_frame({"text": ["a", None], "label": [1, 0]}), "row 2: no value in column 'text'"),
        (lambda: make_frame({"text": ["a", "b"], "label": [1, None]}), "row 2: no value in column 'label'"),
        (lambda: make_dataset(["a", "b"], [1, -1]), "row 2: no value in column 'label'"),
        (lambda: {"train": make_dataset(["a"], [1])}, "give one of its splits"),
    ],
)
def test_python_objects_that_cannot_be_used(make: Callable[[], Any], expected: str) -> None:
    with pytest.raises(DataError, match=re.escape(expected)):
        memory.from_python(make(), text_columns=["text"], label_column="label", source="train rows given")


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts splits, or an exception, in the place of what `datasets.load_dataset` would bring."""
    import datasets

    def answer(outcome: Any) -> None:
        def load_dataset(name: str, config_name: str | None = None) -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return datasets.DatasetDict(outcome)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return answer


def read_hub(**changes: Any) -> Splits:
    wanted: dict[str, Any] = {"text_columns": ["text"], "label_column": "label"}
    return hub_sets.read_hub("nyu-mll/glue", "mrpc", **{**wanted, **changes})


def hub_split(count: int, label: int | None = None) -> Any:
    return make_dataset(
        [f"text {at + 1}" for at in range(count)], [at % 2 if label is None else label for at in range(count)]
    )


def test_the_hubs_usual_splits(hub: Callable[..., None]) -> None:
    hub({"train": hub_split(6), "validation": hub_split(4), "test": hub_split(3, label=-1)})
    splits = read_hub()
    assert splits.train.labels == [0, 1, 0, 1, 0, 1]
    assert splits.train.class_names == ("bad", "good")
    assert splits.train.name_row(1) == "nyu-mll/glue mrpc [train] row 2"
    assert splits.validation is not None
    assert len(splits.validation) == 4
    assert splits.test is not None
    assert splits.test.labels is None
    assert splits.notes == ("nyu-mll/glue mrpc [test]: its rows have no labels, so it cannot be scored.",)


def test_which_splits_are_taken(hub: Callable[..., None]) -> None:
    hub({"train": hub_split(6), "validation_matched": hub_split(4), "validation_mismatched": hub_split(5)})
    splits = read_hub()
    assert splits.validation is not None
    assert len(splits.validation) == 4
    assert splits.test is None
    hub({"train": hub_split(6), "test": hub_split(3)})
    splits = read_hub()
    assert splits.validation is None
    assert splits.test is not None
    splits = read_hub(validation_split_name="test")
    assert splits.validation is not None
    assert splits.test is None


def test_a_sample_of_the_hubs_rows_is_that_of_the_same_rows_from_elsewhere(hub: Callable[..., None]) -> None:
    hub({"train": hub_split(50), "validation": hub_split(40), "test": hub_split(30)})
    whole = read_hub().train
    splits = read_hub(max_train_samples=7, max_eval_samples=5, seed=3)
    assert as_lists(splits.train) == as_lists(sample(whole, 7, 3))
    assert list(splits.train.texts[0]) == [f"text {number}" for number in splits.train.numbers]
    assert (len(splits.validation or ()), len(splits.test or ())) == (5, 5)


def test_rows_left_out_do_not_shrink_the_sample(hub: Callable[..., None]) -> None:
    hub({"train": make_dataset([None, "a", None, "b", None, "c"], [0, 1, 0, 1, 0, 1])})
    splits = read_hub(max_train_samples=3, drop_invalid=True)
    assert sorted(splits.train.numbers) == [2, 4, 6]
    assert "3 rows of 6 left out" in splits.notes[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_split_name": "trian"}, "data.train_split_name: .* no split 'trian'; .*'train', 'validation'.*'train'"),
        ({"validation_split_name": "dev"}, "data.validation_split_name: .* no split 'dev'"),
        ({"test_split_name": "eval"}, "data.test_split_name: .* no split 'eval'"),
        ({"text_columns": ["sentence1"]}, r"glue mrpc \[train\]: no column 'sentence1'; .*'text', 'label'"),
        ({"label_column": "labels"}, "no column 'labels'.*did you mean 'label'"),
    ],
)
def test_what_the_hubs_data_set_lacks(hub: Callable[..., None], changes: dict[str, Any], expected: str) -> None:
    hub({"train": hub_split(6), "validation": hub_split(4)})
    with pytest.raises(DataError, match=expected):
        read_hub(**changes)


def hub_failures() -> list[tuple[Exception, str]]:
    import datasets.exceptions
    import huggingface_hub.errors
    import requests

    return [
        (datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist"), "no such data set.*data.train_file"),
        (datasets.exceptions.DataFilesNotFoundError("no files"), "cannot be used.*no files"),
        (ConnectionError("Couldn't reach 'x' on the Hub"), "cannot be fetched.*data.train_file.*--recipe quickstart"),
        (requests.exceptions.ReadTimeout("timed out"), "cannot be fetched.*--recipe quickstart"),
        (huggingface_hub.errors.OfflineModeIsEnabled("offline mode"), "cannot be fetched.*offline"),
        (huggingface_hub.errors.HFValidationError("Repo id must be in the form"), "not a hub id"),
        (
            ValueError("BuilderConfig 'mprc' not found. Available: ['mrpc', 'sst2']"),
            "dataset_config_name.*'mrpc', 'sst2'",
        ),
        (ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']"), "dataset_config_name.*'a', 'b'"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "code of its own"),
    ]


def test_failures_of_the_hub_say_what_to_do(hub: Callable[..., None]) -> None:
    for failure, expected in hub_failures():
        hub(failure)
        with pytest.raises(HubError, match=expected) as caught:
            read_hub()
        assert "\n" not in str(caught.value)


def test_other_failures_keep_their_traceback(hub: Callable[..., None]) -> None:
    for failure in (ValueError("something else"), RuntimeError("something else")):
        hub(failure)
        with pytest.raises(type(failure), match="something else"):
            read_hub()


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ([10, 9, 10, -1], None, LabelMap(("-1", "9", "10"), (-1, 9, 10))),
        (["b", "a", "10", "9"], None, LabelMap(("10", "9", "a", "b"), ("10", "9", "a", "b"))),
        ([True, False], None, LabelMap(("False", "True"), (False, True))),
        ([2, 0], ("low", "middle", "high"), LabelMap(("low", "middle", "high"), (0, 1, 2))),
    ],
)
def test_the_label_map(labels: list[Any], class_names: tuple[str, ...] | None, expected: LabelMap) -> None:
    rows = rows_of(labels, class_names=class_names)
    label_map = settle_labels(rows)
    assert label_map == expected
    assert [type(value) for value in label_map.values] == [type(value) for value in expected.values]
    ids = encode_labels(rows, label_map)
    assert ids.dtype == numpy.int32
    assert [label_map.values[id_] for id_ in ids] == labels


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (rows_of(None, ["a"]), "no labels to train on"),
        (rows_of([1, 1, 1]), "the only label in 3 rows is 1; expected at least two classes"),
        (rows_of([1, 1], class_names=("bad", "good")), r"the only label in 2 rows is 1 \(good\)"),
        (rows_of([1, "a"]), r"x row 1 has the label 1 \(an integer\) but x row 2 has 'a' \(a string\)"),
        (rows_of([1, True]), r"row 2 has True \(a boolean\)"),
        (rows_of([f"sentence {number}" for number in range(1001)]), "1001 different labels.*look like free text"),
        (rows_of([0, 5], class_names=("bad", "good")), "x row 2: the label 5 is not one of the 2 class ids"),
    ],
)
def test_labels_that_are_no_classes(rows: Rows, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        settle_labels(rows)


def test_many_classes_with_several_rows_each_are_not_free_text() -> None:
    rows = rows_of([f"class {number % 1100}" for number in range(3300)])
    assert len(settle_labels(rows)) == 1100


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        ([1, 0, 7, 8], (0, 1), "x row 3: .*7 does not occur in the training split, whose labels are 0, 1;"),
        (["a", "A"], ("a", "b"), "x row 2: .*'A' does not occur .* 'a', 'b';"),
        ([True], (0, 1), "x row 1: .*True does not occur"),
        (["1"], (0, 1), "x row 1: .*'1' does not occur"),
        (None, (0, 1), "no labels"),
    ],
)
def test_a_label_that_training_never_saw(labels: list[Any] | None, values: tuple[Any, ...], expected: str) -> None:
    rows = rows_of(labels, None if labels else ["a"])
    with pytest.raises(DataError, match=expected):
        encode_labels(rows, LabelMap(tuple(map(str, values)), values))


def test_rows_whose_class_names_are_in_another_order_are_matched_by_name() -> None:
    label_map = LabelMap(("bad", "good"), (0, 1))
    same = rows_of([0, 1], class_names=("bad", "good"))
    turned = rows_of([0, 1], class_names=("good", "bad"))
    other = rows_of([0, 2], class_names=("good", "bad", "unsure"))
    assert encode_labels(same, label_map).tolist() == [0, 1]
    assert encode_labels(turned, label_map).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"row 2: the label 2 \(unsure\) .* 0 \(bad\), 1 \(good\)"):
        encode_labels(other, label_map)
    unnamed = LabelMap(("0", "1"), (0, 1))
    assert encode_labels(turned, unnamed).tolist() == [0, 1]


# --- choosing rows ----------------------------------------------------------------------------------------------------


def test_a_sample_is_repeatable_and_keeps_row_numbers() -> None:
    rows = rows_of(list(range(100)))
    chosen = sample(rows, 10, seed=4)
    assert chosen == sample(rows, 10, seed=4)
    assert chosen.numbers != sample(rows, 10, seed=5).numbers
    assert len(set(chosen.numbers)) == 10
    assert chosen.labels == [number - 1 for number in chosen.numbers]
    assert sample(rows, 5, seed=4).numbers == chosen.numbers[:5]
    assert sorted(sample(rows, 1000, seed=4).numbers) == rows.numbers


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.99])
def test_a_stratified_split(fraction: float) -> None:
    rows = rows_of([0] * 60 + ["many"] * 37 + ["two"] * 2 + ["single"])
    train, validation = split_stratified(rows, fraction, seed=1)
    assert sorted(train.numbers + validation.numbers) == rows.numbers
    assert train.numbers == sorted(train.numbers)
    assert validation.numbers == sorted(validation.numbers)
    assert set(train.labels or ()) == {0, "many", "two", "single"}
    assert set(validation.labels or ()) == {0, "many", "two"}
    assert abs((validation.labels or []).count(0) - 60 * fraction) <= 1
    assert (train, validation) == split_stratified(rows, fraction, seed=1)


def test_the_size_of_a_split_is_the_fraction_rounded_down() -> None:
    assert len(split_stratified(rows_of([0, 1] * 50), 0.29, seed=0)[1]) == 29
    assert len(split_stratified(rows_of([0] * 994 + [1] * 1005), 0.25, seed=0)[1]) == 499
    assert len(split_stratified(rows_of(None, ["a"] * 10), 0.2, seed=0)[1]) == 2


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2.0, float("nan")])
def test_a_fraction_that_is_none(fraction: float) -> None:
    with pytest.raises(DataError, match=r"data\.validation_split=.*between 0 and 1"):
        split_stratified(rows_of([0, 1] * 5), fraction, seed=0)


def test_a_split_that_would_leave_nothing() -> None:
    with pytest.raises(DataError, match="leaves no row of x for validation"):
        split_stratified(rows_of([0, 1, 2]), 0.5, seed=0)


# --- reports ----------------------------------------------------------------------------------------------------------


def test_the_report_counts_what_deserves_attention() -> None:
    train = rows_of(["b", "a", "b", "b"], ["x", " x ", "", "y"])
    validation = rows_of([0, 0], ["y ", "z"], class_names=("none", "some"))
    report = checks.examine(Splits(train, validation, rows_of(None, ["new"])))
    assert [split.name for split in report.splits] == ["train", "validation", "test"]
    assert report.sentences() == [
        "train: 1 row has an empty text.",
        "train: 1 row has the same text as an earlier row.",
        "validation: 1 row has the same text as a row of train; scores on them say little about new text.",
    ]


def test_pairs_are_repeated_only_where_both_texts_are() -> None:
    pairs = Rows(texts=(["a", "a", "a"], ["b", "c", "b"]), labels=[0, 1, 0], numbers=[1, 2, 3], source="x")
    assert checks.examine(Splits(pairs, None, None)).splits[0].duplicated_rows == 1


# --- lists of class ids -----------------------------------------------------------------------------------------------


def dataset_with_lists(column: str, texts: list[Any], ids: list[list[int]]) -> Any:
    """As the hub has GoEmotions and CoNLL-2003: a list of class ids a row, and the classes' names beside them."""
    import datasets

    label = datasets.ClassLabel(names=["O", "joy", "fear"])
    text = datasets.Value("string")
    features = datasets.Features(
        {column: datasets.List(text) if isinstance(texts[0], list) else text, "labels": datasets.List(label)}
    )
    return datasets.Dataset.from_dict({column: texts, "labels": ids}, features=features)


def test_several_class_ids_a_row_keep_their_names() -> None:
    given = dataset_with_lists("text", ["a", "b", "c"], [[1, 2], [], [2]])
    targets = tables.Targets(tasks.MULTI_LABEL)
    rows, _ = memory.from_python(given, text_columns=["text"], label_column="labels", targets=targets)
    label_map = settle_labels(rows, tasks.MULTI_LABEL)
    assert label_map.names == ("O", "joy", "fear")
    assert encode_labels(rows, label_map).tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1]]


def test_a_class_id_a_word_becomes_its_name() -> None:
    given = dataset_with_lists("tokens", [["a", "b"], ["c"]], [[0, 2], [1]])
    targets = tables.Targets(tasks.TOKENS)
    rows, _ = memory.from_python(given, text_columns=["tokens"], label_column="labels", targets=targets)
    assert rows.labels == [("O", "fear"), ("joy",)]
    assert rows.words == [("a", "b"), ("c",)] and rows.texts == (["a b", "c"],)
    label_map = settle_labels(rows, tasks.TOKENS)
    assert label_map.names == ("O", "joy", "fear")
    assert encode_labels(rows, label_map).tolist() == [0, 2, 1]


def test_words_whose_class_ids_are_hidden_cannot_be_scored() -> None:
    given = dataset_with_lists("tokens", [["a", "b"], ["c"]], [[-1, -1], [-1]])
    targets = tables.Targets(tasks.TOKENS)
    rows, notes = memory.from_python(
        given, text_columns=["tokens"], label_column="labels", targets=targets, needs_labels=False
    )
    assert rows.labels is None
    assert any("its rows have no labels" in note for note in notes)


@pytest.mark.parametrize(("values", "are_there"), [([-1.0, -1.0], False), ([-1.0, 2.5], True)])
def test_hidden_numbers_are_none(values: list[float], are_there: bool) -> None:
    """As GLUE's STS-B has them in its test split: -1 throughout."""
    rows, notes = memory.from_python(
        {"text": ["a", "b"], "label": values},
        text_columns=["text"],
        label_column="label",
        needs_labels=False,
        targets=tables.Targets(tasks.REGRESSION),
    )
    assert rows.labels == (values if are_there else None)
    assert any("its rows have no labels" in note for note in notes) != are_there
