"""The arithmetic of speed by hand, and the timer fed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests import families
from tfft import hardware, plan, throughput, training
from tfft.backend import keras, tf
from tfft.data import batches
from tfft.data.encode import Encoded
from tfft.errors import RunError
from tfft.hardware import Device
from tfft.models import freeze
from tfft.recipe import DataSection, TrainingSection
from tfft.throughput import Batch, Sizes

# A toy's layer: query, key, value and output of 16 x 16, and the feed-forward's two of 16 x 32; two layers.
MATRICES = 2 * (4 * 16 * 16 + 2 * 16 * 32)


def test_operations_of_a_step_by_hand() -> None:
    lengths = np.array([3, 5], np.int32)
    whole = Sizes(matrices=100, trained_matrices=100, layers=2, hidden=4)
    frozen = Sizes(matrices=100, trained_matrices=0, layers=2, hidden=4)
    attention = 12 * 2 * 4 * (9 + 25)
    assert whole.training_flops(lengths) == 6 * 100 * 8 + attention
    assert frozen.training_flops(lengths) == 4 * 100 * 8 + attention


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "electra", "albert", "mpnet"])
def test_sizes_of_a_model(family: str) -> None:
    sizes = throughput.sizes_of(families.make(family))
    assert sizes == Sizes(MATRICES, MATRICES, layers=2, hidden=16)


def test_frozen_matrices_are_not_trained() -> None:
    model = families.make("bert")
    freeze.bitfit(model)
    assert throughput.sizes_of(model) == Sizes(MATRICES, 0, layers=2, hidden=16)


def test_a_model_of_unknown_parts_has_no_sizes() -> None:
    model = keras.Sequential([keras.layers.Dense(2)])
    model.build((None, 3))
    model.config = object()
    assert throughput.sizes_of(model) is None


class Tokenizer:
    """What batches ask of a tokenizer."""

    model_input_names = ("input_ids", "attention_mask")
    pad_token_id = pad_token_type_id = 0
    padding_side = "right"


def test_rows_that_fill_a_batch_count_nothing() -> None:
    lengths = [3, 8, 5, 7, 2]
    offsets = np.cumsum([0, *lengths])
    encoded = Encoded(np.ones(sum(lengths), np.int32), None, offsets, np.zeros(5, np.int32))
    dataset = batches.bucketed(
        encoded,
        np.zeros(5, np.int32),
        batch_size=4,
        widths=(8,),
        seed=0,
        tokenizer=Tokenizer(),
        static_shapes=True,
    )
    dataset, found = throughput.watched(dataset.take(2))
    list(dataset)
    assert [batch.shape for batch in found] == [(4, 8), (4, 8)]
    assert sorted(batch.samples for batch in found) == [1, 4]
    assert sum(int(batch.lengths.sum()) for batch in found) == sum(lengths)


def test_what_is_counted_is_what_was_read() -> None:
    """Every reading of these batches is shuffled anew."""
    lengths = np.arange(1, 41)
    shuffled = tf.data.Dataset.from_tensor_slices(lengths).shuffle(40).batch(4)
    inputs = shuffled.map(lambda some: ({"input_ids": tf.sequence_mask(some, 40), "of": some}, some))
    ones = inputs.map(lambda one, labels: ({**one, "attention_mask": tf.cast(one["input_ids"], tf.int32)}, labels))
    dataset, seen = throughput.watched(ones.prefetch(2))
    read = [one["of"].numpy().tolist() for one, _ in dataset]
    assert [batch.lengths.tolist() for batch in seen] == read
    assert read != [labels.numpy().tolist() for _, labels in dataset]
    assert dataset.element_spec == ones.element_spec


def test_a_round_by_hand() -> None:
    trained = [Batch((2, 8), 2, np.array([4, 8])), Batch((1, 8), 1, np.array([4]))]
    sizes = Sizes(matrices=10, trained_matrices=10, layers=1, hidden=1)
    found = throughput.make_round(trained, seconds=2.0, peak_flops=1000.0, sizes=sizes)
    assert (found.step_seconds, found.samples_per_second, found.tokens_per_second) == (1.0, 1.5, 8.0)
    assert found.padding_share == pytest.approx(1 / 3)
    assert found.peak_share == pytest.approx((60 * 16 + 12 * (16 + 64 + 16)) / 2 / 1000)
    assert throughput.make_round(trained, 2.0, 1000.0, None).peak_share is None
    by_two = throughput.make_round(trained, 2.0, 1000.0, sizes, replicas=2)
    assert by_two.step_seconds == 2 * found.step_seconds and found.peak_share is not None
    assert by_two.peak_share == found.peak_share / 2


def test_every_shape_is_there_before_the_first_round() -> None:
    shapes = [(4, 8), (4, 8), (4, 16), (4, 8), (4, 24), (4, 16)]
    seen = [Batch(shape, 4, np.ones(4)) for shape in shapes]
    assert throughput.warm_up_batches(seen, least=3) == 5
    assert throughput.warm_up_batches(seen[:2], least=3) == 3


def test_the_timer_measures_the_peak_outside_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: float(next(now)))

    def peak(precision: str) -> float:
        for _ in range(10):
            next(now)
        return 7.0

    monkeypatch.setattr(throughput, "product_peak", peak)
    timer = throughput.RoundTimer("no")
    for epoch in range(2):
        timer.on_epoch_begin(epoch)
        timer.on_epoch_end(epoch)
    assert timer.seconds == [1.0, 1.0]
    assert timer.peaks == [7.0, 7.0]


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (Device("cpu", "any"), ("no", "bf16")),
        (Device("gpu", "new", (8, 0)), ("no", "bf16", "fp16")),
        (Device("gpu", "older", (7, 5)), ("no", "fp16")),
        (Device("gpu", "old", (6, 1)), ("no",)),
    ],
)
def test_precisions_worth_a_trial(device: Device, expected: tuple[str, ...]) -> None:
    assert hardware.precisions_of(device) == expected


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            16,
            r"16 rows of up to 8 tokens; training.per_device_train_batch_size=8 with .*_steps=6 is the same",
        ),
        (1, r"1 rows of up to 8 tokens; try a smaller data.max_length"),
    ],
)
def test_lack_of_memory_names_the_batch_and_a_way(rows: int, said: str) -> None:
    encoded = Encoded(np.ones(8, np.int32), None, np.array([0, 8]), np.zeros(1, np.int32))
    section = TrainingSection(per_device_train_batch_size=rows, gradient_accumulation_steps=3)
    planned = plan.make(DataSection(train_file="any.csv", text_columns=["t"], batching="bucketed"), section, encoded, 8)
    with pytest.raises(RunError, match=said), training.memory_errors(planned):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
