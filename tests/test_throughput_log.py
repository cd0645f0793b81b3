"""Rows, real tokens and seconds of plain fits, with a clock that the test moves."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from tfft import callbacks
from tfft.backend import keras, tf
from tfft.callbacks import throughput_log
from tfft.callbacks.throughput_log import rows_and_tokens

MASK = tf.constant([[1, 1, 1], [1, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("weights", "counted"),
    [(None, (3, 6)), ([1.0, 2.0, 0.5], (3, 6)), ([1.0, 0.0, 0.0], (1, 3)), ([[0, 1, 1], [0, 0, 0], [1, 0, 0]], (2, 4))],
)
def test_rows_that_weigh_nothing_and_padding_are_not_counted(weights: Any, counted: tuple[int, int]) -> None:
    data = ({"attention_mask": MASK}, tf.zeros([3]), None if weights is None else tf.constant(weights, tf.float32))
    for count in (rows_and_tokens, tf.function(rows_and_tokens)):
        assert tuple(map(int, count(data))) == counted


def test_windows_of_texts_count_their_tokens_and_the_texts() -> None:
    data = ({"attention_mask": MASK}, tf.zeros([2, 2]), tf.ones([2]))
    signature = [
        ({"attention_mask": tf.TensorSpec([None, None], tf.int32)}, tf.TensorSpec([None, 2]), tf.TensorSpec([None]))
    ]
    assert tuple(map(int, tf.function(rows_and_tokens, input_signature=signature)(data))) == (2, 6)


class Clock:
    """Time that a batch takes 2 seconds of, the first one 50, and all that lies between batches 100."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def perf_counter(self) -> float:
        self.looks += 1
        self.now += (50 if self.looks == 2 else 2) if self.looks % 2 == 0 else 100
        return self.now


def fit(monkeypatch: pytest.MonkeyPatch, *given: keras.callbacks.Callback, **settings: Any) -> dict[str, list[float]]:
    monkeypatch.setattr(throughput_log, "time", types.SimpleNamespace(perf_counter=Clock().perf_counter))
    ids = keras.Input([3], dtype="int32", name="attention_mask")
    model = keras.Model(ids, keras.layers.Dense(1)(tf.cast(ids, tf.float32)))
    model.compile("sgd", "mse", **settings)
    dataset = tf.data.Dataset.from_tensor_slices(({"attention_mask": tf.tile(MASK, [4, 1])}, tf.zeros([12, 1]))).batch(
        3
    )
    step = model.train_step
    history = model.fit(dataset, epochs=2, verbose=0, callbacks=[*given], validation_data=dataset).history
    assert model.train_step == step and model.train_function is None
    return history


def test_a_fit_tells_its_speed_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    waits = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["peak_rss_mb"]))
    history = fit(monkeypatch, callbacks.ThroughputLog(), waits)
    # Four batches of three rows, 2 seconds each; the first of all is left out.
    assert history["samples_per_second"] == [9 / 6, 12 / 8]
    assert history["tokens_per_second"] == [18 / 6, 24 / 8]
    assert seen == history["peak_rss_mb"] and 100 < seen[0] <= seen[1] < 1e6
    assert "peak_gpu_mb" not in history


def test_several_batches_of_an_execution_and_copies_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    history = fit(monkeypatch, callbacks.ThroughputLog(copies=2), steps_per_execution=2)
    assert history["samples_per_second"] == [3 / 2, 6 / 4]


def test_an_epoch_of_one_batch_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    history = fit(monkeypatch, callbacks.ThroughputLog(), steps_per_execution=4)
    assert history["samples_per_second"] == [12 / 50, 12 / 2]


def test_counting_leaves_training_as_it_is() -> None:
    def train(*given: keras.callbacks.Callback) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
        model.compile("adam", "mse")
        model.fit(tf.ones([8, 2]), tf.ones([8, 1]), batch_size=2, epochs=2, verbose=0, callbacks=list(given))
        weights: list[np.ndarray] = model.get_weights()
        return weights

    for one, other in zip(train(), train(callbacks.ThroughputLog()), strict=True):
        np.testing.assert_array_equal(one, other)
