"""Averages of the weights in a plain `fit` of Keras, by their recursion written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft import optimizers
from tfft.backend import keras, tf
from tfft.callbacks import ExactCheckpoint, ValidationScores, WeightAverages
from tfft.errors import RunError

BATCHES = 4  # of an epoch
MOMENTUM = 0.75
ROWS, NUMBERS = np.arange(16, dtype=np.float32).reshape(8, 2) / 8, np.ones([8, 1], np.float32)


def make(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(3, "tanh", input_shape=(2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def fit(model: keras.Model, *given: keras.callbacks.Callback, epochs: int = 2, skipped: int = 0, **more: Any) -> Any:
    stream = tf.data.Dataset.from_tensor_slices((ROWS, NUMBERS)).batch(2).repeat().skip(skipped)
    return model.fit(stream, epochs=epochs, steps_per_epoch=BATCHES, verbose=0, callbacks=list(given), **more).history


class ByHand(keras.callbacks.Callback):
    """The recursion."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.averages = self.model.get_weights()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pairs = zip(self.averages, self.model.get_weights(), strict=True)
        self.averages = [MOMENTUM * average + (1 - MOMENTUM) * weight for average, weight in pairs]


OPTIMIZERS: list[Callable[[], Any]] = [
    lambda: keras.optimizers.RMSprop(0.05),
    lambda: optimizers.make("adamw", 0.05),
    lambda: keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.05)),
]


@pytest.mark.parametrize(
    "optimizer",
    [OPTIMIZERS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in OPTIMIZERS[1:])],
    ids=["RMSprop", "tfft", "with a scaled loss"],
)
def test_averages_are_validated_and_left_and_training_does_not_see_them(optimizer: Callable[[], Any]) -> None:
    model, other, by_hand = make(optimizer()), make(optimizer()), ByHand()
    scores = ValidationScores(lambda: {"own": float(tf.reduce_mean((model(ROWS) - NUMBERS) ** 2))})
    history = fit(model, WeightAverages(MOMENTUM), scores, by_hand, validation_data=(ROWS, NUMBERS))
    assert history["loss"] == fit(other)["loss"]
    assert history["val_own"] == pytest.approx(history["val_loss"], rel=1e-5)
    for one, two, raw in zip(model.get_weights(), by_hand.averages, other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
        assert not np.allclose(one, raw)
    assert model.evaluate(ROWS, NUMBERS, verbose=0) == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_followers_keep_averages(tmp_path: Path) -> None:
    model, by_hand = make(keras.optimizers.SGD(0.05)), ByHand()
    kept = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True)
    best = keras.callbacks.EarlyStopping("loss", mode="max", patience=1, restore_best_weights=True)
    seen: list[Any] = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(by_hand.averages))
    # The loss falls, so that the first epoch is the best where the greatest is wanted.
    fit(model, by_hand, WeightAverages(MOMENTUM, [kept, best]), look, epochs=5)
    assert len(seen) == 2
    other = make("sgd")
    other.load_weights(tmp_path / "2.weights.h5")
    for one, two, first, second in zip(model.get_weights(), other.get_weights(), *seen, strict=True):
        np.testing.assert_allclose(one, first, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(two, second, rtol=1e-5, atol=1e-6)


def test_a_training_goes_on_with_its_averages(tmp_path: Path) -> None:
    def train(folder: Path, epochs: int) -> keras.Model:
        model, keeper = make(keras.optimizers.Adam(0.05)), ExactCheckpoint(folder)
        fit(model, WeightAverages(MOMENTUM), keeper, epochs=epochs, skipped=keeper.batches_done)
        return model

    whole = train(tmp_path / "whole", 3)
    train(tmp_path / "run", 2)
    for one, other in zip(train(tmp_path / "run", 3).weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_momentum_is_a_share(momentum: float) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 to 1"):
        WeightAverages(momentum)


def test_optimizers_that_keep_no_averages_are_refused() -> None:
    with pytest.raises(RunError, match="the optimizer is Adam of Keras's old kind, which keeps no averages"):
        fit(make(keras.optimizers.legacy.Adam()), WeightAverages())
    model = make("sgd")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(RunError, match=r"was built without averages; call model\.compile with a new one"):
        fit(model, WeightAverages())
