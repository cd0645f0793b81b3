"""Pruning in a plain `fit` of Keras, beside the same steps with the smallest weights set to zero by NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import optimizers
from tfft.backend import inner_optimizer, keras, tf
from tfft.callbacks import ExactCheckpoint, MagnitudePruning
from tfft.callbacks.magnitude_pruning import pruned_weights
from tfft.errors import ModelError, RunError
from tfft.models import averages
from tfft.models.parts import part_of
from tfft.optimizers.pruning import Sparsities, smallest

BATCHES = 4  # of an epoch
DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(8, 5)).astype(np.float32)
NUMBERS = DRAW.normal(size=(8, 1)).astype(np.float32)


def make(optimizer: Any, **more: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(7, "tanh", input_shape=(5,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **more)
    return model


def pruning(sparsity: float = 0.6, end_step: int = 7, frequency: int = 2, **more: Any) -> MagnitudePruning:
    return MagnitudePruning(sparsity, end_step, frequency=frequency, prunes=lambda name: "kernel" in name, **more)


def fit(model: keras.Model, *given: keras.callbacks.Callback, epochs: int = 3, skipped: int = 0, **more: Any) -> Any:
    stream = tf.data.Dataset.from_tensor_slices((ROWS, NUMBERS)).batch(2).repeat().skip(skipped)
    return model.fit(stream, epochs=epochs, steps_per_epoch=BATCHES, verbose=0, callbacks=list(given), **more).history


def kernels(model: keras.Model) -> list[np.ndarray]:
    return [weight.numpy() for weight in model.trainable_weights if "kernel" in weight.name]


class ByHand(keras.callbacks.Callback):
    """The method, one step after the other: equation 1, a stable sort, and zeros where the smallest are."""

    def __init__(self, wanted: Sparsities) -> None:
        super().__init__()
        self.wanted = wanted

    def on_train_begin(self, logs: Any = None) -> None:
        self.left = [np.ones(one.shape, bool) for one in kernels(self.model)]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        wanted, step = self.wanted, int(self.model.optimizer.iterations.numpy())
        variables = [one for one in self.model.trainable_weights if "kernel" in one.name]
        rises = range(wanted.begin, wanted.end + 1, wanted.frequency)
        for place, variable in enumerate(variables):
            value = np.where(self.left[place], variable.numpy(), 0)
            if step in (*rises, wanted.end):
                way = (step - wanted.begin) / (wanted.end - wanted.begin)
                share = wanted.final + (wanted.initial - wanted.final) * (1 - way) ** 3
                order = np.argsort(np.abs(value), axis=None, kind="stable")
                left = np.ones(value.size, bool)
                left[order[: round(share * value.size)]] = False
                self.left[place] = left.reshape(value.shape)
            variable.assign(np.where(self.left[place], value, 0))


def test_equation_1_by_hand() -> None:
    wanted = Sparsities(final=0.5, end=50, initial=0.1, begin=10, frequency=10)
    # 0.5 - 0.4 * (1 - n / 4) ** 3
    expected = {10: 0.1, 20: 0.33125, 30: 0.45, 40: 0.49375, 50: 0.5}
    assert {step: float(wanted.at(step)) for step in expected} == pytest.approx(expected)
    assert [step for step in range(80) if wanted.is_due(step)] == [*expected]
    # A frequency that does not divide the steps misses the end by none.
    uneven = Sparsities(final=0.5, end=5, frequency=3)
    assert [step for step in range(10) if uneven.is_due(step)] == [1, 4, 5]
    assert float(Sparsities(final=0.5, end=1).at(1)) == 0.5


@pytest.mark.parametrize("values", [DRAW.normal(size=(6, 9)), np.zeros([3, 4]), DRAW.integers(-2, 3, [5, 5])])
def test_the_smallest_are_those_of_a_stable_sort(values: np.ndarray) -> None:
    order = np.argsort(np.abs(values), axis=None, kind="stable")
    for count in (0, 1, values.size // 2, values.size - 1, values.size):
        found = smallest(tf.constant(values, tf.float32), count).numpy().ravel()
        assert set(np.flatnonzero(found)) == set(order[:count])


OPTIMIZERS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "tfft's with decay": (lambda: optimizers.make("adamw", 0.05, weight_decay=0.1), {}),
    "Keras's": (lambda: keras.optimizers.RMSprop(0.05, momentum=0.9), {}),
    "with a scaled loss": (
        lambda: keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.05, 0.9), initial_scale=1024),
        {},
    ),
    "accumulating": (
        lambda: optimizers.make("adam", 0.05, gradient_accumulation_steps=3, batches_per_epoch=BATCHES),
        {},
    ),
    "compiled by XLA": (lambda: optimizers.make("adam", 0.05), {"jit_compile": True}),
    "without a graph": (lambda: optimizers.make("adam", 0.05), {"run_eagerly": True}),
}
QUICK = ("tfft's with decay", "accumulating")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in OPTIMIZERS]
)
def test_a_training_is_that_with_zeros_put_in_by_hand(name: str) -> None:
    optimizer, more = OPTIMIZERS[name]
    model, other, callback = make(optimizer(), **more), make(optimizer(), **more), pruning(initial_sparsity=0.2)
    history = fit(model, callback)
    assert history["loss"] == pytest.approx(fit(other, ByHand(callback.sparsities))["loss"], rel=1e-5)
    for one, by_hand in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one == 0, by_hand == 0)
        np.testing.assert_allclose(one, by_hand, rtol=1e-4, atol=1e-6)
    if name == "accumulating":  # six steps of twelve batches: it has not come to the end
        assert not callback.is_done
    else:
        # Of 35 and 7 weights: 0.6 * 35 = 21, 0.6 * 7 = 4.2; and no bias.
        assert [int((one == 0).sum()) for one in model.get_weights()] == [21, 0, 4, 0]
        assert history["sparsity"][-1] == pytest.approx(25 / 42)


def test_what_is_pruned_stays_so() -> None:
    seen: list[list[np.ndarray]] = []
    model = make(optimizers.make("adam", 0.3))  # a step is longer than many weights are
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(kernels(model)))
    fit(model, pruning(end_step=9, frequency=1), look)
    for before, after in itertools.pairwise(seen):
        for one, other in zip(before, after, strict=True):
            assert (other[one == 0] == 0).all()


def test_several_steps_in_one_call_are_pruned_like_single_ones() -> None:
    model, other = make(optimizers.make("adam", 0.05), steps_per_execution=4), make(optimizers.make("adam", 0.05))
    for one in (model, other):
        fit(one, pruning())
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", [lambda **more: optimizers.make("adamw", 0.05, **more)])
def test_averages_are_zero_where_weights_are(optimizer: Callable[..., Any]) -> None:
    model = make(optimizer(ema_momentum=0.9))
    seen = []

    def look(epoch: int, logs: Any) -> None:
        with averages.averaged(model):
            seen.append(kernels(model))

    raw: list[Any] = []
    steps = keras.callbacks.LambdaCallback(
        on_epoch_end=look, on_train_batch_end=lambda batch, logs: raw.append(kernels(model))
    )
    fit(model, pruning(end_step=3), steps)
    for place, of_epoch in enumerate(seen):
        for average, weight in zip(of_epoch, raw[BATCHES * (place + 1) - 1], strict=True):
            np.testing.assert_array_equal(average == 0, weight == 0)
            assert not np.array_equal(average, weight)
    # Keras leaves the averages in the model.
    for one, average in zip(kernels(model), seen[-1], strict=True):
        np.testing.assert_array_equal(one, average)


def test_a_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def train(folder: Path, epochs: int) -> tuple[keras.Model, Any]:
        model, keeper = make(optimizers.make("adam", 0.05, ema_momentum=0.5)), ExactCheckpoint(folder)
        fit(model, pruning(end_step=10, frequency=3), keeper, epochs=epochs, skipped=keeper.batches_done)
        return model, keeper.history

    whole, history = train(tmp_path / "whole", 4)
    train(tmp_path / "run", 2)
    again, its_history = train(tmp_path / "run", 4)
    assert its_history == history
    for one, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_next_fit_prunes_on_with_the_callback_and_not_without(compiled: bool) -> None:
    model, whole = make(keras.optimizers.Adam(0.05)), make(keras.optimizers.Adam(0.05))
    for one in (model, whole):
        one.optimizer.jit_compile = compiled  # as it is on a GPU
    callback = pruning()
    fit(model, callback, epochs=1)
    fit(model, callback, epochs=3, initial_epoch=1)
    fit(whole, pruning())
    for one, two in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    fit(model)
    assert all((one != 0).all() for one in kernels(model))


def test_followers_are_told_of_epochs_once_all_is_pruned() -> None:
    told: list[int] = []
    model, callback = make(optimizers.make("adam", 0.05)), pruning(end_step=2 * BATCHES)
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=1)  # which would end it after two epochs
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: told.append(epoch))
    fit(model, callback, callback.once_done(stop, look), epochs=9)
    assert told == [1, 2]


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=() if one == "bert" else pytest.mark.slow) for one in families.FAMILIES]
)
def test_all_matrices_inside_layers_are_pruned_and_nothing_else(family: str) -> None:
    model = families.make(family)
    found = {one.name for one in pruned_weights(model)}
    layers = {one.name for one in model.weights if part_of(one.name).startswith("layer.") and one.shape.rank == 2}
    assert found == layers
    assert len(found) in (6, 12, 16)  # of ALBERT's one layer; of two; DeBERTa's have two more for places


def test_what_cannot_be_pruned_is_refused() -> None:
    with pytest.raises(RunError, match="the optimizer is Adam of Keras's old kind, which has no place for pruning"):
        fit(make(keras.optimizers.legacy.Adam()), pruning())
    with pytest.raises(ModelError, match="no trained matrix of this model is to be pruned"):
        fit(make("adam"), MagnitudePruning(0.5, 3, prunes=lambda name: "bias" in name))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", "mse")
    with pytest.raises(RunError, match="the model has no weights before its first batch"):
        fit(model, pruning())
    assert "update_step" not in vars(inner_optimizer(model.optimizer))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sparsity": 1.0}, "sparsity is 1.0 and initial_sparsity 0.0; expected a share above 0 and below 1"),
        ({"sparsity": 0.5, "initial_sparsity": 0.6}, "initial_sparsity 0.6; expected"),
        ({"end_step": 3, "begin_step": 4}, "begin_step is 4, end_step 3 and frequency 2; expected numbers from 1"),
        ({"frequency": 0}, "frequency 0; expected numbers from 1"),
    ],
)
def test_settings_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pruning(**given)
