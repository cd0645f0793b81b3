"""Masks that follow from a seed and a counter: their numbers, their layers, and where they go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft.backend import keras, tf
from tfft.models import accelerate, lora
from tfft.models import dropout as room


def key(*numbers: int) -> tf.Tensor:
    return tf.constant(numbers or [7, 0, 0, 0, 0], tf.int64)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_dropout_keeps_the_mean_and_drops_the_rate(rate: float, dtype: tf.DType) -> None:
    count = 100_003  # of no multiple of the values that a random word makes
    found = tf.cast(room.dropout(tf.ones([count], dtype), rate, key()), tf.float32).numpy()
    # Four standard deviations of the share of a binomial.
    assert abs((found == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / count)
    np.testing.assert_allclose(found[found != 0], 1 / (1 - rate), rtol=1e-2 if dtype == tf.bfloat16 else 1e-3)


def test_dropouts_gradient_has_the_same_mask() -> None:
    values = tf.ones([50, 7])
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = room.dropout(values, 0.3, key())
    np.testing.assert_array_equal(tape.gradient(found, values), found)


def test_masks_follow_from_the_key_and_no_two_are_alike() -> None:
    def mask(*numbers: int) -> np.ndarray:
        return room._bits(tf.constant([4096]), key(*numbers)).numpy()

    np.testing.assert_array_equal(mask(7, 1, 0, 2, 1), mask(7, 1, 0, 2, 1))
    keys = [(8, 1, 0, 2, 1), (7, 2, 0, 2, 1), (7, 1, 1, 2, 1), (7, 1, 0, 3, 1), (7, 1, 0, 2, 2)]
    drawn = [mask(7, 1, 0, 2, 1), *(mask(*one) for one in keys)]
    for index, one in enumerate(drawn):
        for other in drawn[:index]:
            # At no shift either: a stretch of one is nowhere in the other.
            assert not (np.lib.stride_tricks.sliding_window_view(other, 8) == one[:8]).all(axis=1).any()
            assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))


def test_bits_are_uniform() -> None:
    bits = room._bits(tf.constant([200_000]), key()).numpy().astype(int) + 2**15
    counts = np.bincount(bits >> 10, minlength=64)
    expected = 200_000 / 64
    # Chi squared of 63 degrees of freedom: above 124 once in 100,000.
    assert ((counts - expected) ** 2 / expected).sum() < 124


# --- Layers -----------------------------------------------------------------------------------------------------------


def dropping(family: str = "bert", **config: Any) -> tuple[keras.Model, Callable[[], tf.Tensor]]:
    """A model whose masks are drawn from a state, and a training pass of it."""
    keras.utils.set_random_seed(3)
    model = families.make(family, hidden_dropout_prob=0.5, **config)
    accelerate(model)
    room.draw_from_state(model)
    return model, tf.function(lambda: model(families.INPUTS, training=True).logits)


def test_every_pass_drops_anew_and_a_seed_repeats_it() -> None:
    first, second = ([once().numpy() for _ in range(3)] for once in (dropping()[1], dropping()[1]))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[1], first[2])


def test_masks_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    model, once = dropping()
    once()
    saved = tf.train.Checkpoint(dropout=room.state_of(model)).write(str(tmp_path / "dropout"))
    expected = once().numpy()
    other, again = dropping()
    again(), again(), again()
    tf.train.Checkpoint(dropout=room.state_of(other)).read(saved).assert_consumed()
    np.testing.assert_array_equal(again(), expected)
    assert room.state_of(families.make("bert")) is None


@pytest.mark.slow
@pytest.mark.parametrize("family", families.FAMILIES)
def test_no_familys_training_draws_from_a_state_that_cannot_be_saved(family: str) -> None:
    model = families.make(family)

    def operations() -> set[str]:
        graph = tf.function(lambda: model(families.INPUTS, training=True).logits).get_concrete_function().graph
        inner = [one for function in graph._functions.values() for one in function.graph.get_operations()]
        return {one.type for one in (*graph.get_operations(), *inner) if "Random" in one.type}

    assert operations() & {"RandomUniform", "RandomUniformInt", "RandomStandardNormal"}
    room.draw_from_state(model)
    assert operations() == {"StatelessRandomUniformFullIntV2"}


def test_adapters_that_come_later_draw_from_the_same_state() -> None:
    model, _ = dropping()
    lora.add(model, rank=2, dropout=0.5)
    before = room.state_of(model)
    assert room.draw_from_state(model) is before
    numbers = [call.number for call in room._drawing(model)]
    assert sorted(numbers) == list(range(len(numbers)))
    adapted = model.bert.encoder.layer[0].attention.self_attention.query
    assert adapted.dropout.call.dropout_state is before


def test_the_mean_stays_and_scoring_drops_nothing() -> None:
    layer = keras.layers.Dropout(0.25)
    model = keras.Sequential([layer])
    room.draw_from_state(model)
    ones = tf.ones([64, 64])
    assert np.unique(model(ones, training=True)).tolist() == [0.0, np.float32(4 / 3)]
    np.testing.assert_array_equal(model(ones, training=False), ones)
    np.testing.assert_array_equal(model(ones), ones)


def test_a_layer_that_drops_whole_rows_stays_as_it_is() -> None:
    model = keras.Sequential([keras.layers.Dropout(0.5, noise_shape=(None, 1))])
    room.draw_from_state(model)
    found = model(tf.ones([64, 4]), training=True).numpy()
    assert room.state_of(model) is None and (found.std(axis=1) == 0).all()
