"""Rows in shards are the rows that were written: once an epoch, in another order each, and refused when changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft import problems, tasks
from tfft.backend import tf
from tfft.data import (
    Given,
    Prepared,
    ShardedSplit,
    Split,
    batches,
    encode_splits,
    manifest,
    read,
    records,
    shards,
    stream,
)
from tfft.errors import DataError, RecipeError
from tfft.models import checkpoint
from tfft.recipe import DataSection

ROWS = 53
WIDTHS = (8, 16, 24)
WORDS = ("the", "movie", "was", "good", "bad", "not", "and", "a", "yes")
# Problem type to the columns of the rows, and what the section `data` says of them.
KINDS: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
    tasks.SINGLE_LABEL: (lambda index: ("no", "yes", "maybe")[index % 3], {}),
    tasks.MULTI_LABEL: (lambda index: ["joy", "anger"][: index % 3], {}),
    tasks.REGRESSION: (lambda index: index / 7, {}),
}


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


def rows_of(count: int, problem_type: str, pairs: bool, weighted: bool, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    label_of, _ = KINDS[problem_type]
    rows = []
    for index in range(count):
        row = {"text": " ".join(generator.choice(WORDS, generator.integers(0, 30))), "label": label_of(index)}
        row |= {"other": " ".join(generator.choice(WORDS, generator.integers(0, 6)))} if pairs else {}
        rows.append(row | ({"counts": 0.5 + index} if weighted else {}))
    return rows


def made(
    tokenizer: Any,
    problem_type: str = tasks.SINGLE_LABEL,
    pairs: bool = False,
    weighted: bool = False,
    count: int = ROWS,
) -> tuple[Prepared, manifest.Encoding]:
    columns = ("text", "other") if pairs else ("text",)
    section = DataSection(text_columns=columns, max_length=24, sample_weight_column="counts" if weighted else None)
    given = Given(rows_of(count, problem_type, pairs, weighted), rows_of(7, problem_type, pairs, False, seed=1))
    splits = read(section, seed=1, given=given, problem_type=problem_type)
    prepared = encode_splits(splits, tokenizer, 24, problem_type=problem_type)
    return prepared, shards.encoding(section, "text-classification", prepared, tokenizer, "tiny")


def written(folder: Path | str, tokenizer: Any, rows_per_shard: int = 10, **more: Any) -> tuple[Prepared, Prepared]:
    """The splits as they were, and as they come from shards."""
    prepared, about = made(tokenizer, **more)
    shards.write(prepared, str(folder), about, rows_per_shard=rows_per_shard, seed=1)
    found = shards.find(str(folder), about)
    shards.verify(found, str(folder))
    return prepared, shards.prepare(found, str(folder))


def streamed(split: Any, tokenizer: Any, **more: Any) -> tf.data.Dataset:
    settings = {"batch_size": 4, "widths": WIDTHS, "seed": 3, "tokenizer": tokenizer, **more}
    return stream.bucketed(split, **settings)


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 batches of 4 rows, so that 53 rows are 4 buffers, the last of 5 rows."""
    monkeypatch.setattr(stream, "BUFFER_ROWS", 16)
    monkeypatch.setattr(stream, "ROWS_IN_TURN", 2)


def steps_of(count: int = ROWS) -> int:
    return batches.batches_per_epoch(count, 4)


def rows_in(dataset: Any, count: int) -> list[tuple[Any, ...]]:
    """Every row that counts in so many batches: its tokens and their types, its label, its weight."""
    found = []
    for inputs, labels, weights in dataset.take(count):
        arrays = {name: values.numpy() for name, values in inputs.items()}
        for index, weight in enumerate(weights.numpy()):
            if weight:
                real = arrays["attention_mask"][index] == 1
                tokens = [tuple(arrays[name][index][real].tolist()) for name in ("input_ids", "token_type_ids")]
                found.append((*tokens, str(labels.numpy()[index].tolist()), round(float(weight), 4)))
    return found


@pytest.mark.parametrize(
    ("problem_type", "pairs", "weighted"),
    [
        (tasks.SINGLE_LABEL, True, True),
        (tasks.MULTI_LABEL, False, True),
        pytest.param(tasks.REGRESSION, True, False, marks=pytest.mark.slow),
    ],
)
def test_an_epoch_has_every_row_once(
    tmp_path: Path, tokenizer: Any, problem_type: str, pairs: bool, weighted: bool
) -> None:
    whole, sharded = written(tmp_path, tokenizer, problem_type=problem_type, pairs=pairs, weighted=weighted)
    assert isinstance(whole.train, Split) and isinstance(sharded.train, ShardedSplit)
    assert whole.train.labels is not None
    # Of 53 rows, in turn: no, yes, maybe; none, joy, joy and anger; a number.
    counts = {
        tasks.SINGLE_LABEL: {"maybe": 17, "no": 18, "yes": 18},
        tasks.MULTI_LABEL: {"anger": 17, "joy": 35},
        tasks.REGRESSION: {},
    }
    assert whole.train_classes == sharded.train_classes == counts[problem_type]
    settings: dict[str, Any] = {"batch_size": 4, "widths": WIDTHS, "seed": 3, "tokenizer": tokenizer}
    ordinary = batches.bucketed(whole.train.encoded, whole.train.labels, row_weights=whole.train.weights, **settings)
    expected = Counter(rows_in(ordinary, steps_of()))
    assert sum(expected.values()) == ROWS
    epochs = [rows_in(streamed(sharded.train, tokenizer, first_epoch=epoch), steps_of()) for epoch in range(2)]
    assert [Counter(one) for one in epochs] == [expected, expected]
    assert epochs[0] != epochs[1]
    kinds = [tf.nest.map_structure(lambda spec: spec.dtype, one.element_spec) for one in (ordinary,)]
    assert kinds == [tf.nest.map_structure(lambda spec: spec.dtype, streamed(sharded.train, tokenizer).element_spec)]


def test_batches_are_full_and_of_few_widths(tmp_path: Path, tokenizer: Any) -> None:
    _, sharded = written(tmp_path, tokenizer)
    sizes, padded, tokens = [], 0, 0
    for inputs, _, _ in streamed(sharded.train, tokenizer).take(steps_of()):
        rows, width = inputs["input_ids"].shape
        sizes.append(rows)
        assert width in WIDTHS
        padded, tokens = padded + rows * width, tokens + int(tf.reduce_sum(inputs["attention_mask"]))
    assert sizes == [4] * 13 + [1]
    # Rows in the order they come would be padded to their longest: about half as much again.
    lengths, counts = sharded.train.encoded.length_counts
    assert int((lengths * counts).sum()) == tokens
    assert padded < 1.5 * tokens


def test_static_batches_are_filled_up(tmp_path: Path, tokenizer: Any) -> None:
    _, sharded = written(tmp_path, tokenizer)
    dataset = streamed(sharded.train, tokenizer, static_shapes=True, widths=(24,))
    *_, (inputs, labels, weights) = dataset.take(steps_of())
    assert weights.numpy().tolist() == [4.0, 0.0, 0.0, 0.0]
    assert len(set(labels.numpy().tolist())) == 1
    assert inputs["input_ids"].shape == (4, 24)
    assert weights.shape == dataset.element_spec[2].shape == (4,)


def test_the_order_follows_from_seed_and_epoch(tmp_path: Path, tokenizer: Any) -> None:
    _, sharded = written(tmp_path, tokenizer)
    first, again, other = (rows_in(streamed(sharded.train, tokenizer, seed=seed), steps_of()) for seed in (3, 3, 4))
    assert first == again != other


def test_a_training_goes_on_at_a_batch(tmp_path: Path, tokenizer: Any) -> None:
    """Inside a buffer, at its end, at the last batch of an epoch, in later epochs."""
    _, sharded = written(tmp_path, tokenizer)
    whole = list(streamed(sharded.train, tokenizer).take(4 * steps_of()))
    for epoch, first_batch in ((0, 5), (0, 13), (1, 17)):
        part = streamed(sharded.train, tokenizer, first_epoch=epoch, first_batch=first_batch).take(6)
        begin = epoch * steps_of() + first_batch
        for one, other in zip(whole[begin : begin + 6], part, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(("count", "accumulated"), [(53, 5), (3, 2)])
def test_what_batches_of_a_step_weigh(tmp_path: Path, tokenizer: Any, count: int, accumulated: int) -> None:
    _, sharded = written(tmp_path, tokenizer, count=count)
    steps = batches.batches_per_epoch(count, 4)
    found = streamed(sharded.train, tokenizer, gradient_accumulation_steps=accumulated).take(steps)
    weights = [weights.numpy() for _, _, weights in found]
    expected = batches.window_weights(tf.constant([len(one) for one in weights]), accumulated)
    np.testing.assert_allclose([one[0] for one in weights], expected, rtol=1e-6)


def test_buffers_are_bounded_by_their_tokens() -> None:
    for batch_size, widest in ((1, 16), (32, 512), (8, 100_000), (100_000, 8)):
        held = stream.buffer_batches(batch_size, widest)
        assert held == 1 or held * batch_size <= stream.BUFFER_ROWS
        assert held == 1 or held * batch_size * widest <= stream.BUFFER_TOKENS


@pytest.mark.parametrize("pairs", [False, True])
def test_what_is_validated_on_comes_back(tmp_path: Path, tokenizer: Any, pairs: bool) -> None:
    whole, sharded = written(tmp_path, tokenizer, rows_per_shard=3, pairs=pairs)
    assert whole.validation is not None and sharded.validation is not None and sharded.test is None
    before, after = whole.validation, sharded.validation
    assert (after.rows.texts, list(after.rows.numbers)) == (before.rows.texts, list(before.rows.numbers))
    for name in ("input_ids", "token_type_ids", "offsets", "lost_tokens"):
        one, other = getattr(before.encoded, name), getattr(after.encoded, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    np.testing.assert_array_equal(before.labels, after.labels)
    assert sharded.label_map == whole.label_map
    assert sharded.notes == whole.notes


@pytest.mark.parametrize("problem_type", KINDS)
def test_what_is_known_without_reading(tmp_path: Path, tokenizer: Any, problem_type: str) -> None:
    whole, sharded = written(tmp_path, tokenizer, problem_type=problem_type)
    before, after = whole.train, sharded.train
    assert len(after) == len(before) == after.encoded.texts == ROWS
    assert after.encoded.total_tokens == before.encoded.total_tokens
    assert after.encoded.truncated_rows == before.encoded.truncated_rows > 0
    for one, other in zip(before.encoded.length_counts, after.encoded.length_counts, strict=True):
        np.testing.assert_array_equal(one, other)
    if problem_type == tasks.REGRESSION:
        assert after.label_range() == pytest.approx(before.label_range())
        return
    assert isinstance(before, Split) and before.labels is not None
    problem = problems.make(whole.label_map)
    counts = after.label_counts(len(problem.names))
    assert problem.balanced_weights(counts) == problem.balanced_weights(before.labels)


def test_any_file_system_of_tensorflow_will_do(tokenizer: Any) -> None:
    """One that is in memory, and that Python itself knows nothing of."""
    _, sharded = written("ram://shards", tokenizer)
    assert len(rows_in(streamed(sharded.train, tokenizer), steps_of())) == ROWS


# --- What changed -----------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: flip(folder / "train-00002-of-00006.tfrecord"), "train-00002-of-00006.tfrecord has another"),
        (
            lambda folder: (folder / "validation-00000-of-00001.tfrecord").write_bytes(b""),
            "validation-00000-of-00001.tfrecord has 0 bytes and not ",
        ),
        (
            lambda folder: (folder / "train-00005-of-00006.tfrecord").unlink(),
            "train-00005-of-00006.tfrecord is missing",
        ),
        (lambda folder: (folder / "more.tfrecord").write_bytes(b"x"), "more.tfrecord is not in the manifest"),
    ],
)
def test_a_shard_that_changed_is_named(
    tmp_path: Path, tokenizer: Any, spoil: Callable[[Path], object], said: str
) -> None:
    written(tmp_path, tokenizer)
    found = manifest.parse((tmp_path / shards.MANIFEST).read_text(), "there")
    spoil(tmp_path)
    with pytest.raises(DataError, match=rf"have changed since manifest\.json was written: {said}.*--overwrite"):
        shards.verify(found, str(tmp_path))


def test_a_shard_that_changes_while_it_is_read_is_named(tmp_path: Path, tokenizer: Any) -> None:
    _, sharded = written(tmp_path, tokenizer)
    flip(tmp_path / "train-00003-of-00006.tfrecord")
    changed = r"train-00003-of-00006\.tfrecord has another content"
    with pytest.raises(DataError, match=changed), shards.watched(sharded.train):
        rows_in(streamed(sharded.train, tokenizer), steps_of())
    # Whole records, but fewer of them.
    whole = tf.data.TFRecordDataset(str(tmp_path / "train-00004-of-00006.tfrecord")).take(3)
    with tf.io.TFRecordWriter(str(tmp_path / "train-00003-of-00006.tfrecord.new")) as file:
        for one in whole:
            file.write(one.numpy())
    (tmp_path / "train-00003-of-00006.tfrecord.new").rename(tmp_path / "train-00003-of-00006.tfrecord")
    with pytest.raises(DataError, match=r"train-00003-of-00006\.tfrecord has "), shards.watched(sharded.train):
        rows_in(streamed(sharded.train, tokenizer), steps_of())


def test_errors_that_are_not_of_shards_stay(tmp_path: Path, tokenizer: Any) -> None:
    whole, sharded = written(tmp_path, tokenizer)
    for train in (whole.train, sharded.train):
        with pytest.raises(OSError, match="the disk is full"), shards.watched(train):
            raise OSError("the disk is full")


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def of(text: str) -> str:
        values = json.loads(text)
        change(values)
        return json.dumps(values)

    return of


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is no manifest of shards that this version of tfft knows"),
        (lambda text: "[]", "is no manifest of shards"),
        (changed(lambda values: values.update(format=9)), "is of format 9, and this version of tfft reads 1"),
        (changed(lambda values: values["splits"][0].update(rows=52)), "contradicts itself about the rows of train"),
        (changed(lambda values: values["splits"].pop(0)), "has no training split"),
    ],
)
def test_a_manifest_that_cannot_be_used(
    tmp_path: Path, tokenizer: Any, change: Callable[[str], str], said: str
) -> None:
    prepared, about = made(tokenizer)
    shards.write(prepared, str(tmp_path), about, seed=1)
    path = tmp_path / shards.MANIFEST
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=said):
        shards.find(str(tmp_path), about)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_length": 32}, r"data\.max_length: got 32; expected 24, with which the shards were written"),
        ({"text_columns": ("text", "b")}, r"data\.text_columns: got \[text, b\]; expected \[text\]"),
        ({"problem_type": tasks.REGRESSION}, r"problem_type: got regression; expected single_label_classification"),
        ({"sample_weight_column": "x"}, r"data\.sample_weight_column: got x; expected null"),
        ({"tokenizer": "other", "checkpoint": "big"}, r"the tokenizer of big is not that of tiny"),
    ],
)
def test_shards_of_another_recipe(tmp_path: Path, tokenizer: Any, changes: dict[str, Any], said: str) -> None:
    prepared, about = made(tokenizer)
    shards.write(prepared, str(tmp_path), about, seed=1)
    # Where the checkpoint is does not matter.
    assert shards.find(str(tmp_path), about.model_copy(update={"checkpoint": "elsewhere"}))
    with pytest.raises(RecipeError, match=said):
        shards.find(str(tmp_path), about.model_copy(update=changes))


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_a_writing_that_is_broken_off_can_be_repeated(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, about = made(tokenizer)
    folder, calls = tmp_path / "out", iter(range(1000))

    def record(split: Split, index: int) -> bytes:
        if next(calls) == 25:
            raise KeyboardInterrupt
        return records.record(split, index)

    monkeypatch.setattr(shards, "record", record)
    with pytest.raises(KeyboardInterrupt):
        shards.write(prepared, str(folder), about, rows_per_shard=10, seed=1)
    assert sorted(one.name for one in folder.iterdir()) == [f"train-0000{n}-of-00006.tfrecord" for n in range(2)]
    with pytest.raises(DataError, match="has no manifest"):
        shards.find(str(folder), about)
    # As a process leaves it that is killed.
    (folder / "train-00002-of-00006.tfrecord.partial").write_bytes(b"half")
    shards.check_output(str(folder), overwrite=False)
    shards.write(prepared, str(folder), about, rows_per_shard=20, seed=1)
    shards.verify(shards.find(str(folder), about), str(folder))
    assert sorted(one.name for one in folder.iterdir()) == [
        shards.MANIFEST,
        *(f"train-0000{n}-of-00003.tfrecord" for n in range(3)),
        "validation-00000-of-00001.tfrecord",
    ]
    with pytest.raises(DataError, match=r"has shards already; give another folder, or --overwrite"):
        shards.check_output(str(folder), overwrite=False)
    shards.check_output(str(folder), overwrite=True)


def test_files_of_others_are_never_touched(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"has files that are no shards, such as thesis\.txt"):
            shards.check_output(str(tmp_path), overwrite)
    with pytest.raises(DataError, match="is a file; expected a folder"):
        shards.check_output(str(tmp_path / "thesis.txt"), True)
    prepared, about = made(tokenizer)
    with pytest.raises(DataError, match="shards cannot be written there"):
        shards.write(prepared, str(tmp_path / "thesis.txt" / "below"), about, seed=1)


def test_the_same_rows_are_written_the_same(tmp_path: Path, tokenizer: Any) -> None:
    prepared, about = made(tokenizer)
    one, other = (
        shards.write(prepared, str(tmp_path / name), about, train_shards=7, rows_per_shard=5, seed=1) for name in "ab"
    )
    assert one == other
    assert [len(split.shards) for split in one.splits] == [7, 2]
    assert {shard.rows for shard in one.splits[0].shards} == {7, 8}


def test_every_shard_is_a_sample_of_all(tmp_path: Path, tokenizer: Any) -> None:
    """Rows that were sorted would otherwise be trained on in that order."""
    _, sharded = written(tmp_path, tokenizer, problem_type=tasks.REGRESSION, rows_per_shard=26)
    paths: Iterator[Path] = (tmp_path / shard.name for shard in sharded.train.facts.shards)  # type: ignore[union-attr]
    means = []
    for path in paths:
        found = [tf.train.Example.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(path))]
        means.append(np.mean([one.features.feature["label"].float_list.value[0] for one in found]))
    assert max(means) - min(means) < 2.5  # of numbers from 0 to 7.4; sorted, the first and the last are 5 apart
