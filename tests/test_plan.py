"""Steps, shapes and memory by hand; what is shown of them."""

from __future__ import annotations

import io
import itertools
import types
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tfft import data, hardware, plan
from tfft.backend import keras
from tfft.console import Voice
from tfft.data import Encoded, LabelMap, Prepared, Rows, Split
from tfft.errors import RecipeError
from tfft.hardware import Device, Precision
from tfft.models.load import Loaded
from tfft.recipe import DataSection, TrainingSection

LENGTHS = np.array([3, 5, 8, 9, 12, 17, 20, 24, 24, 30])
NO = Precision("no", "as asked")


def encoded_of(lengths: np.ndarray, lost: np.ndarray | None = None, from_cache: bool = False) -> Encoded:
    """Rows of so many tokens each."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    none = np.zeros(len(lengths), np.int32)
    return Encoded(np.zeros(offsets[-1], np.int32), None, offsets, none if lost is None else lost, from_cache)


def make(data: dict[str, Any] | None = None, has_few_shapes: bool = False, **training: Any) -> plan.Plan:
    """Of 10 rows in batches of 4: 3 steps an epoch."""
    section = DataSection(text_columns=("text",), **(data or {}))
    settings = TrainingSection(**{"per_device_train_batch_size": 4, "num_train_epochs": 1.0, **training})
    return plan.make(section, settings, encoded_of(LENGTHS), 32, has_few_shapes=has_few_shapes)


@pytest.mark.parametrize(
    ("training", "count", "proposed"),
    [
        ({}, 2, None),  # 3 batches an epoch: of two and of one
        ({"num_train_epochs": 2.0}, 50, None),
        ({"max_steps": 5}, 2, None),  # an epoch, and two batches
        ({"max_steps": 5}, 3, 2),
        ({"max_steps": 4}, 8, 1),
        ({"gradient_accumulation_steps": 2, "max_steps": 3}, 4, 2),  # two steps of an epoch, and one of two batches
    ],
)
def test_an_execution_ends_where_the_training_ends(training: dict[str, Any], count: int, proposed: int | None) -> None:
    planned = make(**training)
    if proposed is None:
        plan.check_executions(planned, count)
        return
    with pytest.raises(RecipeError, match=rf"steps_per_execution: got {count}; .* such as {proposed}$"):
        plan.check_executions(planned, count)


@pytest.mark.parametrize(
    ("training", "steps_per_epoch", "total_steps", "epochs"),
    [
        ({}, 3, 3, 1),
        ({"num_train_epochs": 2.0}, 3, 6, 2),
        ({"num_train_epochs": 2.5}, 3, 8, 3),  # 7.5 steps are 8
        ({"num_train_epochs": 0.5}, 3, 2, 1),
        ({"num_train_epochs": 0.001}, 3, 1, 1),
        ({"max_steps": 1}, 3, 1, 1),
        ({"max_steps": 3}, 3, 3, 1),
        ({"max_steps": 4}, 3, 4, 2),
        ({"max_steps": 7, "num_train_epochs": 1.0}, 3, 7, 3),
        ({"per_device_train_batch_size": 5}, 2, 2, 1),
        ({"per_device_train_batch_size": 64}, 1, 1, 1),
        ({"per_device_train_batch_size": 1, "num_train_epochs": 2.5}, 10, 25, 3),
        # Steps of up to 2 of the 3 batches: 2 and 1.
        ({"gradient_accumulation_steps": 2}, 2, 2, 1),
        ({"gradient_accumulation_steps": 2, "num_train_epochs": 2.5}, 2, 5, 3),
        ({"gradient_accumulation_steps": 2, "max_steps": 3}, 2, 3, 2),
        ({"gradient_accumulation_steps": 3, "num_train_epochs": 4.0}, 1, 4, 4),
        ({"gradient_accumulation_steps": 99, "num_train_epochs": 4.0}, 1, 4, 4),
    ],
)
def test_steps_by_hand(training: dict[str, Any], steps_per_epoch: int, total_steps: int, epochs: int) -> None:
    made = make(**training)
    assert (made.steps_per_epoch, made.total_steps, made.epochs) == (steps_per_epoch, total_steps, epochs)
    assert made.batch_size == training.get("per_device_train_batch_size", 4)
    assert (made.epochs - 1) * made.steps_per_epoch < made.total_steps <= made.epochs * made.steps_per_epoch


@pytest.mark.parametrize(
    ("training", "total_batches"),
    [
        ({}, 3),
        ({"max_steps": 7}, 7),
        ({"gradient_accumulation_steps": 2, "max_steps": 1}, 2),
        ({"gradient_accumulation_steps": 2, "max_steps": 2}, 3),
        ({"gradient_accumulation_steps": 2, "max_steps": 3}, 5),
        ({"gradient_accumulation_steps": 5, "max_steps": 2}, 6),
    ],
)
def test_batches_by_hand(training: dict[str, Any], total_batches: int) -> None:
    assert make(**training).total_batches == total_batches


@pytest.mark.parametrize(
    ("training", "warmup_steps"),
    [
        ({}, 0),
        ({"warmup_ratio": 0.1}, 3),
        ({"warmup_ratio": 0.11}, 4),  # 3.3 steps are 4
        ({"warmup_steps": 7}, 7),
        ({"warmup_steps": 0}, 0),
        ({"warmup_steps": 700}, 30),
        ({"warmup_ratio": 0.5, "max_steps": 5}, 3),
    ],
)
def test_warmup_is_a_share_of_all_steps_or_a_number(training: dict[str, Any], warmup_steps: int) -> None:
    assert make(num_train_epochs=10.0, **training).warmup_steps == warmup_steps


@pytest.mark.parametrize(
    ("data", "few", "many"),
    [
        ({"batching": "bucketed"}, (8, 16, 24, 32), (4, 6, 8, 10, 12, 18, 20, 24, 30)),
        ({"batching": "padded"}, (), ()),
        ({"batching": "bucketed", "padding": "max_length"}, (32,), (32,)),
        ({"batching": "padded", "padding": "max_length"}, (32,), (32,)),
    ],
)
def test_widths_by_batching_and_padding(data: dict[str, Any], few: tuple[int, ...], many: tuple[int, ...]) -> None:
    assert make(data, has_few_shapes=True).widths == few
    assert make(data).widths == many


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths",
    [LENGTHS, np.array([5]), np.array([5, 5, 5]), np.array([1, 2]), np.array([3, 512]), np.arange(1, 100)],
    ids=["some", "one", "equal", "two", "far apart", "many"],
)
def test_the_histogram_has_every_row_once(lengths: np.ndarray) -> None:
    bars = plan.histogram(lengths)
    assert sum(count for _, _, count in bars) == len(lengths)
    assert (bars[0][0], bars[-1][1]) == (lengths.min(), lengths.max())
    assert 1 <= len(bars) <= plan.HISTOGRAM_BARS
    for low, high, count in bars:
        assert low <= high
        assert count == ((lengths >= low) & (lengths <= high)).sum()
    for (_, high, _), (low, _, _) in itertools.pairwise(bars):
        assert low == high + 1


def test_a_histogram_by_hand() -> None:
    # From 3 to 31 in 4 ranges of 7 tokens.
    assert plan.histogram(LENGTHS, bars=4) == [(3, 9, 4), (10, 16, 1), (17, 23, 2), (24, 30, 3)]


# --- memory -----------------------------------------------------------------------------------------------------------

CONFIG = types.SimpleNamespace(hidden_size=16, num_hidden_layers=2, num_attention_heads=2)


@pytest.mark.parametrize(
    ("data", "length"), [({"batching": "bucketed"}, 30), ({"batching": "padded"}, 30), ({"padding": "max_length"}, 32)]
)
@pytest.mark.parametrize(("precision", "bytes_each"), [("no", 4), ("bf16", 2), ("fp16", 2)])
def test_memory_is_that_of_the_widest_step(data: dict[str, Any], length: int, precision: str, bytes_each: int) -> None:
    made = make(data)
    found = plan.training_memory(made, encoded_of(LENGTHS), CONFIG, 1000, Precision(precision, "as asked"))
    # Rows, tokens, width; bytes a layer; layers; weights, gradients and two moments.
    by_hand = 4 * length * 16 * (34 + 5 * 2 * length / 16) * bytes_each / 2 * 2 + 16 * 1000
    assert found == by_hand
    assert found == hardware.training_bytes(1000, hardware.activation_bytes(4, length, 16, 2, 2, bytes_each))


def test_a_model_that_does_not_say_its_sizes_has_no_estimate() -> None:
    assert plan.training_memory(make(), encoded_of(LENGTHS), types.SimpleNamespace(d_model=16), 1000, NO) is None


# --- what is shown ----------------------------------------------------------------------------------------------------


def split(name: str, labels: list[int] | None, lengths: np.ndarray, from_cache: bool = False) -> Split:
    texts = [f"text {number}" for number in range(len(lengths))]
    lost = np.where(lengths >= 30, 5, 0).astype(np.int32)
    return Split(
        name,
        Rows((texts,), labels, list(range(len(lengths))), name),
        encoded_of(lengths, lost, from_cache),
        None if labels is None else np.asarray(labels, np.int32),
    )


@pytest.fixture
def prepared() -> Prepared:
    return Prepared(
        split("train", [0, 1] * 4 + [0, 0], LENGTHS),
        split("validation", [0, 0, 0, 1], LENGTHS[:4]),
        split("test", None, LENGTHS[:3]),
        LabelMap(("calm", "[angry]"), ("calm", "[angry]")),
        32,
        ("train: 1 row is empty",),
    )


@pytest.fixture
def voice() -> Voice:
    return Voice(console=Console(file=io.StringIO(), soft_wrap=True))


def said(voice: Voice) -> list[str]:
    assert isinstance(voice.console.file, io.StringIO)
    return voice.console.file.getvalue().splitlines()


def test_data_are_shown(voice: Voice, prepared: Prepared) -> None:
    plan.show_data(voice, prepared)
    assert said(voice) == [
        "rows: 10 train, 4 validation, 3 test; 2 classes: calm, [angry]",
        "note: train: 1 row is empty",
    ]


def test_data_from_the_cache_say_so_and_many_classes_are_cut_short(voice: Voice) -> None:
    names = tuple(f"c{number}" for number in range(20))
    train = split("train", [0] * 10, LENGTHS, from_cache=True)
    plan.show_data(voice, Prepared(train, None, None, LabelMap(names, names), 32, ()))
    (line,) = said(voice)
    assert line == (
        "rows: 10 train (token ids from the cache); 20 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, …"
    )


@pytest.mark.parametrize(
    ("section", "end"),
    [
        ({"batching": "bucketed"}, "bucketed batches, tokens: 4 to 30"),
        ({"batching": "bucketed", "has_few_shapes": True}, "bucketed batches, tokens: 8, 16, 24, 32"),
        ({"batching": "padded"}, "padded batches, tokens: as wide as the longest row of each batch"),
        ({"batching": "padded", "padding": "max_length"}, "padded batches, tokens: 32"),
    ],
)
def test_steps_are_shown(voice: Voice, section: dict[str, Any], end: str) -> None:
    few = section.pop("has_few_shapes", False)
    made = make(section, few, num_train_epochs=2.5, warmup_steps=2)
    plan.show_steps(voice, made, DataSection(text_columns=("text",), **section))
    assert said(voice) == [f"training: 8 steps of 4 rows, 3 an epoch, 2 of warmup; {end}"]


@pytest.fixture
def loaded() -> Loaded:
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2, trainable=False)])
    model.build((None, 4))
    model.config = CONFIG
    return Loaded(model, ("classifier.weight", "classifier.bias"), ())


def test_the_model_is_shown(voice: Voice, loaded: Loaded) -> None:
    plan.show_model(voice, "some/model", loaded, Device("cpu", "a processor", reason="as asked"), NO)
    assert said(voice) == [
        "model: some/model, 15 parameters trained, 8 not; weights loaded; new and untrained: classifier (2 tensors); "
        "nothing of the checkpoint was left out",
        "device: cpu (a processor), as asked; mixed_precision: no, as asked",
    ]


def test_a_dry_run_shows_balance_lengths_and_memory(voice: Voice, prepared: Prepared, loaded: Loaded) -> None:
    section = data.DataSection(text_columns=("text",))
    plan.show(voice, make(), prepared, loaded, section, NO)
    lines = said(voice)
    assert lines[:4] == [
        "Rows by class",
        "  class    train      validation",
        "  calm     6 (60.0%)  3 (75.0%)",
        "  [angry]  4 (40.0%)  1 (25.0%)",
    ]
    assert "  3-5     2     ########" in lines
    assert "longest allowed: 32 tokens; rows cut: 1 of 10 train, 0 of 4 validation, 0 of 3 test" in lines
    # 152 tokens; rows of 3, 5, 9 and 17 are padded by one.
    assert f"padding: {1 - 152 / 156:.1%} of the tokens of an epoch" in lines
    assert "memory of the largest step, estimated: 0 MB, and what the libraries take" in lines
    assert lines[-1] == "dry run: nothing was trained or written"
