"""Token ids are the tokenizer's own, row by row, and are made once for the same content."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import files_no_larger_than
from tfft import data
from tfft.data import hub_sets
from tfft.data.encode import Encoded, encode, fingerprint
from tfft.data.rows import Rows, Splits
from tfft.errors import DataError
from tfft.models import checkpoint
from tfft.recipe import DataSection

room = importlib.import_module("tfft.data.encode")  # `tfft.data.encode` is its function

WORDS = ("the", "movie", "was", "good", "bad", "not", "and", "a", "yes", "unheard-of", "日", "😀", "")


@pytest.fixture
def tokenizer(tiny_checkpoint: Path) -> Any:
    """A new one each time: tokenizers change as they are used."""
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


def random_texts(count: int, longest: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(0, longest))) for _ in range(count)]


def row_of(encoded: Encoded, row: int, name: str = "input_ids") -> list[int]:
    return getattr(encoded, name)[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()


def assert_same(one: Encoded, other: Encoded) -> None:
    for name in ("input_ids", "token_type_ids", "offsets", "lost_tokens"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


# --- the tokenizer's own output ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [8, 9, 17, 64])
@pytest.mark.parametrize("columns", [1, 2], ids=["single", "pair"])
@pytest.mark.parametrize("truncation_side", ["right", "left"])
def test_each_row_is_what_the_tokenizer_makes_of_it_alone(
    tokenizer: Any, columns: int, max_length: int, truncation_side: str
) -> None:
    tokenizer.truncation_side = truncation_side
    texts = [random_texts(40, 30, seed=column) for column in range(columns)]
    encoded = encode(texts, tokenizer, max_length)
    assert len(encoded) == 40
    lost = []
    for row, one in enumerate(zip(*texts, strict=True)):
        # Lists of one text: given bare strings, Transformers takes a pair whose second text is empty for a single text.
        alone = [[text] for text in one]
        cut = tokenizer(*alone, truncation=True, max_length=max_length)
        whole = tokenizer(*alone, truncation=False, verbose=False)
        assert row_of(encoded, row) == cut["input_ids"][0]
        assert row_of(encoded, row, "token_type_ids") == cut["token_type_ids"][0]
        assert encoded.lengths[row] == len(cut["input_ids"][0]) <= max_length
        lost.append(len(whole["input_ids"][0]) - len(cut["input_ids"][0]))
    assert encoded.lost_tokens.tolist() == lost
    assert encoded.truncated_rows == sum(count > 0 for count in lost)
    assert encoded.offsets[0] == 0
    assert encoded.offsets[-1] == len(encoded.input_ids) == len(encoded.token_type_ids)
    assert not encoded.from_cache


def test_offsets_and_lost_tokens_by_hand(tokenizer: Any) -> None:
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    good, bad = tokenizer.convert_tokens_to_ids(["good", "bad"])
    encoded = encode([["good", "", "bad good bad"]], tokenizer, max_length=4)
    assert encoded.input_ids.tolist() == [start, good, end, start, end, start, bad, good, end]
    assert encoded.offsets.tolist() == [0, 3, 5, 9]
    assert encoded.lengths.tolist() == [3, 2, 4]
    assert encoded.lost_tokens.tolist() == [0, 0, 1]
    pair = encode([["good good good", "bad"], ["bad", "good good good"]], tokenizer, max_length=6)
    assert row_of(pair, 0) == [start, good, good, end, bad, end]
    assert row_of(pair, 0, "token_type_ids") == [0, 0, 0, 0, 1, 1]
    assert row_of(pair, 1) == [start, bad, end, good, good, end]
    assert pair.lost_tokens.tolist() == [1, 1]


def test_a_tokenizer_without_token_types(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    def load() -> Any:
        return AutoTokenizer.from_pretrained(tiny_checkpoint, model_input_names=["input_ids", "attention_mask"])

    encoded = encode([["good", "bad"]], load(), 8, tmp_path)
    assert encoded.token_type_ids is None
    again = encode([["good", "bad"]], load(), 8, tmp_path)
    assert again.from_cache
    assert again.token_type_ids is None


def test_batches_of_rows_do_not_show(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [random_texts(11, 30, seed=7)]
    at_once, done = encode(texts, tokenizer, 12), []
    monkeypatch.setattr(room, "ROWS_AT_ONCE", 4)
    assert_same(encode(texts, tokenizer, 12, advance=done.append), at_once)
    assert done == [4, 4, 3]


def test_no_rows(tokenizer: Any, tmp_path: Path) -> None:
    for from_cache in (False, True):
        encoded = encode([[]], tokenizer, 8, tmp_path)
        assert (len(encoded), encoded.truncated_rows, encoded.from_cache) == (0, 0, from_cache)


def test_a_tokenizer_that_was_saved_with_padding_and_truncation_of_its_own(tokenizer: Any, tmp_path: Path) -> None:
    texts = [random_texts(10, 30, seed=3)]
    plain = encode(texts, tokenizer, 40)
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    assert_same(encode(texts, tokenizer, 40, tmp_path), plain)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_same_content_is_encoded_once(tokenizer: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    texts = [random_texts(9, 30, seed=1), random_texts(9, 30, seed=2)]
    first = encode(texts, tokenizer, 12, tmp_path / "not" / "there yet")
    other = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    done: list[int] = []
    again = encode([list(column) for column in texts], other, 12, tmp_path / "not" / "there yet", done.append)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert_same(again, first)
    assert sum(done) == 9
    assert len(list(tmp_path.rglob("*.*"))) == 1


def with_token(tokenizer: Any) -> None:
    tokenizer.add_tokens(["unheard"])


def with_left_side(tokenizer: Any) -> None:
    tokenizer.truncation_side = "left"


def with_other_end(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"sep_token": "[MASK]"})


def with_capitals(tokenizer: Any) -> None:
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)


@pytest.mark.parametrize(
    ("texts", "max_length", "change"),
    [
        ([["good", "bad "]], 8, None),
        ([["bad", "good"]], 8, None),
        ([["good bad", ""]], 8, None),
        ([["good", "bad", ""]], 8, None),
        ([["good", "bad"], ["good", "bad"]], 8, None),
        ([["good"], ["bad"]], 8, None),
        ([["good", "bad"]], 9, None),
        ([["good", "bad"]], 8, with_token),
        ([["good", "bad"]], 8, with_left_side),
        ([["good", "bad"]], 8, with_other_end),
        ([["good", "bad"]], 8, with_capitals),
    ],
)
def test_other_content_is_encoded_anew(
    tokenizer: Any,
    tmp_path: Path,
    texts: list[list[str]],
    max_length: int,
    change: Callable[[Any], None] | None,
) -> None:
    encode([["good", "bad"]], tokenizer, 8, tmp_path)
    assert encode([["good", "bad"]], tokenizer, 8, tmp_path).from_cache
    if change is not None:
        change(tokenizer)
    assert not encode(texts, tokenizer, max_length, tmp_path).from_cache
    assert encode(texts, tokenizer, max_length, tmp_path).from_cache


def test_the_fingerprint_knows_where_a_text_ends(tokenizer: Any) -> None:
    alike = [
        [["ab", "c"]],
        [["a", "bc"]],
        [["abc"]],
        [["abc", ""]],
        [["", "abc"]],
        [["ab"], ["c"]],
        [["a"], ["bc"]],
        [["c", "ab"]],
        [["ab", "c\0"]],
        [["ab", "ç"]],
        [["ab", "c\u0327"]],
    ]
    assert len({fingerprint(texts, tokenizer, 8) for texts in alike}) == len(alike)
    assert fingerprint(alike[0], tokenizer, 8) == fingerprint([("ab", "c")], tokenizer, 8)


def test_the_fingerprint_does_not_depend_on_what_was_encoded_before(tokenizer: Any) -> None:
    before = fingerprint([["good"]], tokenizer, 8)
    encode([["good " * 30]], tokenizer, 8)
    assert fingerprint([["good"]], tokenizer, 8) == before
    tokenizer(["good", "good bad"], padding="max_length", max_length=16, truncation=True)
    assert fingerprint([["good"]], tokenizer, 8) == before


# --- a cache that cannot be used --------------------------------------------------------------------------------------


def test_a_full_disk_stops_nothing_and_leaves_nothing(tokenizer: Any, tmp_path: Path) -> None:
    texts = [random_texts(100, 30, seed=1)]
    with files_no_larger_than(1000):
        encoded = encode(texts, tokenizer, 12, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert_same(encoded, encode(texts, tokenizer, 12))


@pytest.mark.parametrize("place", ["file", "file/below", "link"])
def test_a_folder_that_cannot_be_made_stops_nothing(tokenizer: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    (tmp_path / "nowhere").write_text("")
    for _ in range(2):
        encoded = encode([["good", "bad"]], tokenizer, 8, tmp_path / place)
        assert not encoded.from_cache
        assert encoded.lengths.tolist() == [3, 3]
    assert (tmp_path / "file").read_text() == ""


def test_a_disk_that_refuses_stops_nothing(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(room.os, "replace", refuse)
    assert len(encode([["good", "bad"]], tokenizer, 8, tmp_path)) == 2
    assert list(tmp_path.iterdir()) == []


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def overwritten(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def of_something_else(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weights": np.zeros(3)}, path)


def of_fewer_rows(path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(path)
    save_file({**arrays, "offsets": arrays["offsets"][:-1].copy()}, path)


def of_fewer_tokens(path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(path)
    save_file({**arrays, "input_ids": arrays["input_ids"][:-1].copy()}, path)


DAMAGES = [emptied, cut_short, overwritten, of_something_else, of_fewer_rows, of_fewer_tokens]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_encoded_anew(tokenizer: Any, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    texts = [random_texts(9, 30, seed=1)]
    good = encode(texts, tokenizer, 12, tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    mended = encode(texts, tokenizer, 12, tmp_path)
    assert not mended.from_cache
    assert_same(mended, good)
    assert encode(texts, tokenizer, 12, tmp_path).from_cache


def test_a_folder_in_place_of_the_file(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / f"{fingerprint([['good']], tokenizer, 8)}.safetensors").mkdir()
    assert encode([["good"]], tokenizer, 8, tmp_path).lengths.tolist() == [3]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_cache_lies_where_the_user_says(own_cache: Path) -> None:
    assert room.cache_folder() == own_cache / "encoded"


# --- all splits of a job ----------------------------------------------------------------------------------------------


def rows_of(texts: list[str], labels: list[Any] | None) -> Rows:
    return Rows(texts=(texts,), labels=labels, numbers=list(range(1, len(texts) + 1)), source="x")


def three_splits() -> Splits:
    long = "good " * 20
    return Splits(
        train=rows_of(["good", long, "bad"], ["yes", "no", "yes"]),
        validation=rows_of([long, "not bad"], ["no", "yes"]),
        test=rows_of(["a movie"], None),
    )


def test_splits_get_the_classes_of_the_training_split(tokenizer: Any) -> None:
    done: list[int] = []
    prepared = data.encode_splits(three_splits(), tokenizer, 8, advance=done.append)
    assert prepared.label_map.names == ("no", "yes")
    assert [split.name for split in prepared.splits] == ["train", "validation", "test"]
    assert [None if split.labels is None else split.labels.tolist() for split in prepared.splits] == [
        [1, 0, 1],
        [0, 1],
        None,
    ]
    assert [split.encoded.lengths.tolist() for split in prepared.splits] == [[3, 8, 3], [8, 4], [4]]
    assert sum(done) == 6
    # 20 words and 2 special tokens, 8 of them kept: 14 lost of 28 (train) and of 26 (validation).
    cut = [note for note in prepared.notes if "longer than" in note]
    assert cut == [
        "train: 1 of 3 rows were longer than 8 tokens and lost 14 tokens (50.0% of all)",
        "validation: 1 of 2 rows were longer than 8 tokens and lost 14 tokens (53.8% of all)",
    ]


def test_the_second_run_encodes_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for run in range(3):
        tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
        prepared = data.encode_splits(three_splits(), tokenizer, 8, tmp_path)
        assert [split.encoded.from_cache for split in prepared.splits] == [run > 0] * 3
    assert len(list(tmp_path.iterdir())) == 3


def test_labels_are_checked_before_anything_is_encoded(tokenizer: Any) -> None:
    splits = three_splits()
    strange = Splits(splits.train, splits.validation, rows_of(["a"], ["perhaps"]))
    done: list[int] = []
    with pytest.raises(DataError, match="'perhaps' does not occur in the training split"):
        data.encode_splits(strange, tokenizer, 8, advance=done.append)
    assert done == []


def test_a_share_to_validate_on_is_taken_before_the_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    texts, labels = [f"text {number}" for number in range(50)], [0, 1] * 25
    datasets.Dataset.from_dict({"text": texts, "label": labels}).to_csv(str(tmp_path / "train.csv"))
    hub_data = datasets.DatasetDict(train=datasets.Dataset.from_dict({"text": texts, "label": labels}))
    monkeypatch.setattr(data.hub, "check_reachable", lambda *_: None)
    monkeypatch.setattr(hub_sets, "_load_dataset", lambda *_: hub_data)
    wanted: dict[str, Any] = {
        "text_columns": ["text"],
        "label_column": "label",
        "validation_split": 0.2,
        "max_train_samples": 30,
        "max_eval_samples": 6,
    }
    from_file = data.read(DataSection(train_file=str(tmp_path / "train.csv"), **wanted), seed=1)
    from_hub = data.read(DataSection(dataset_name="owner/name", **wanted), seed=1)
    for splits in (from_file, from_hub):
        assert splits.validation is not None
        assert (len(splits.train), len(splits.validation)) == (30, 6)
        assert not set(splits.train.numbers) & set(splits.validation.numbers)
    assert from_hub.train.texts == from_file.train.texts
