"""Averages of weights by their recursion written out, and that taking them leaves training as it was."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import hardware, optimizers
from tfft.backend import keras, tf
from tfft.models import averages
from tfft.models.freeze import train_only
from tfft.models.heads import CrossEntropyFromLogits

MOMENTUM = 0.75


def weights(model: Any) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.trainable_variables]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def inside(model: Any) -> list[np.ndarray]:
    with averages.averaged(model):
        return weights(model)


def stand_in(optimizer: Any) -> Any:
    """As much of a model as averages look at."""
    variables = [tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="layer/kernel"), tf.Variable([5.0, 6.0], name="layer/bias")]
    return types.SimpleNamespace(trainable_variables=variables, optimizer=optimizer)


def take_steps(model: Any, steps: int, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        gradients = [tf.constant(generator.normal(size=one.shape), tf.float32) for one in model.trainable_variables]
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def make(ema_momentum: float | None = MOMENTUM, kind: str = "adamw", **settings: Any) -> Any:
    return stand_in(optimizers.make(kind, 0.1, ema_momentum=ema_momentum, **settings))


# --- the recursion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_averages_by_hand(kind: str) -> None:
    model = make(kind=kind)
    expected = weights(model)
    for step in range(4):
        take_steps(model, 1, seed=step)
        pairs = zip(expected, weights(model), strict=True)
        expected = [MOMENTUM * average + (1 - MOMENTUM) * weight for average, weight in pairs]
        assert_close(inside(model), expected)


@pytest.mark.parametrize("ema_momentum", [0.0, 1.0])
def test_the_two_ends(ema_momentum: float) -> None:
    """Without memory it is the last weights, without forgetting the first."""
    model = make(ema_momentum)
    first = weights(model)
    take_steps(model, 3)
    assert_close(inside(model), weights(model) if ema_momentum == 0 else first)


def test_steps_are_counted_and_not_batches() -> None:
    model = make(gradient_accumulation_steps=2, batches_per_epoch=5)
    expected = weights(model)
    seen: list[list[np.ndarray]] = [expected]
    for batch in range(5):  # windows of 2, 2 and 1
        take_steps(model, 1, seed=batch)
        if not np.array_equal(weights(model)[0], seen[-1][0]):
            seen.append(weights(model))
            pairs = zip(expected, seen[-1], strict=True)
            expected = [MOMENTUM * average + (1 - MOMENTUM) * weight for average, weight in pairs]
        assert_close(inside(model), expected)
    assert len(seen) == 4 == int(model.optimizer.iterations) + 1


def test_a_step_that_overflows_is_none() -> None:
    model = make()
    model.optimizer = keras.mixed_precision.LossScaleOptimizer(model.optimizer, initial_scale=8.0)
    take_steps(model, 2)
    before = inside(model)
    gradients = [tf.fill(variable.shape, np.inf) for variable in model.trainable_variables]
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert_same(inside(model), before)
    assert not np.array_equal(before[0], weights(model)[0])


@pytest.mark.parametrize("ema_momentum", [-0.1, 1.1])
def test_momentum_is_a_share(ema_momentum: float) -> None:
    with pytest.raises(ValueError, match=r"ema_momentum` must be in the range \[0, 1\]"):
        make(ema_momentum)


def test_the_momentum_comes_back_from_the_configuration() -> None:
    again = keras.optimizers.deserialize(keras.optimizers.serialize(make().optimizer))
    assert (again.use_ema, again.ema_momentum) == (True, MOMENTUM)
    assert not optimizers.make("adamw", 0.1).use_ema


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda one: one, keras.mixed_precision.LossScaleOptimizer], ids=["plain", "scaled"])
def test_the_weights_come_back_to_the_last_bit(wrap: Any) -> None:
    model = make()
    model.optimizer = wrap(model.optimizer)
    take_steps(model, 3)
    raw = weights(model)
    with averages.averaged(model):
        assert not np.array_equal(weights(model)[0], raw[0])
        model.trainable_variables[0].assign_add(tf.ones([2, 2]))  # does not reach the averages
    assert_same(weights(model), raw)
    before = inside(model)
    with pytest.raises(RuntimeError, match="mine"), averages.averaged(model):
        raise RuntimeError("mine")
    assert_same(weights(model), raw)
    assert_same(inside(model), before)


def test_training_goes_on_as_if_nothing_had_been() -> None:
    looked_at, other = make(), make()
    for step in range(4):
        for model in (looked_at, other):
            take_steps(model, 1, seed=step)
        with averages.averaged(looked_at), averages.averaged(looked_at):
            pass
    assert_same(weights(looked_at), weights(other))
    assert_same(inside(looked_at), inside(other))


def test_taken_averages_stay() -> None:
    model = make()
    take_steps(model, 3)
    expected = inside(model)
    averages.take_averages(model)
    assert_same(weights(model), expected)
    averages.take_averages(model)
    assert_same(weights(model), expected)
    # The averages are not the weights: a step moves these and leaves those behind.
    take_steps(model, 1)
    assert not np.array_equal(inside(model)[0], weights(model)[0])


@pytest.mark.parametrize(
    "optimizer",
    [
        None,
        optimizers.make("adamw", 0.1),
        keras.optimizers.legacy.Adam(0.1),
        keras.mixed_precision.LossScaleOptimizer(optimizers.make("adam", 0.1)),
    ],
    ids=["none", "adamw", "legacy", "scaled"],
)
def test_without_averages_nothing_changes(optimizer: Any) -> None:
    model = stand_in(optimizer)
    if optimizer is not None:
        take_steps(model, 2)
    raw = weights(model)
    assert_same(inside(model), raw)
    averages.take_averages(model)
    assert_same(weights(model), raw)


def test_before_the_first_step_and_before_compile_there_are_none() -> None:
    model = make()
    assert_same(inside(model), weights(model))
    never_compiled = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    assert_same(inside(never_compiled), weights(never_compiled))


def test_weights_frozen_or_new_since_are_left_alone() -> None:
    model = make()
    take_steps(model, 2)
    expected = inside(model)
    kernel, bias = model.trainable_variables
    new = tf.Variable([7.0])
    model.trainable_variables = [new, bias]
    raw = kernel.numpy()
    averages.take_averages(model)
    assert_same([kernel.numpy(), bias.numpy(), new.numpy()], [raw, expected[1], np.array([7.0])])


# --- through Keras ----------------------------------------------------------------------------------------------------


@pytest.fixture
def float16() -> Iterator[None]:
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


class Looks(keras.callbacks.Callback):
    """Predicts with averages after every epoch, and remembers what the weights were."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[list[np.ndarray]] = []
        self.averaged: list[list[np.ndarray]] = []
        self.logits: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.raw.append(weights(self.model))
        with averages.averaged(self.model):
            self.averaged.append(weights(self.model))
            self.logits.append(self.model.predict(families.INPUTS, verbose=0)["logits"])
            # What Keras traced once reads the weights as they are now.
            expected = self.model(families.INPUTS, training=False).logits
            np.testing.assert_allclose(self.logits[-1], expected, rtol=1e-2, atol=1e-3)
        assert_same(weights(self.model), self.raw[-1])


def test_averages_in_a_callback_under_float16(float16: None) -> None:
    hardware.set_seed(1)
    model = families.make("bert")
    train_only(model, lambda name: "classifier" in name or "pooler" in name)
    model.call = tf.autograph.experimental.do_not_convert(model.call)
    model.compile(optimizers.make("adamw", 1e-2, ema_momentum=MOMENTUM), loss=CrossEntropyFromLogits())
    model.optimizer.build(model.trainable_variables)  # or Keras traces twice by itself
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    expected = weights(model)
    looks = Looks()
    inputs = {name: value.numpy() for name, value in families.INPUTS.items()}
    model.fit(inputs, np.array([0, 1]), epochs=3, verbose=0, callbacks=[looks])
    for raw, found in zip(looks.raw, looks.averaged, strict=True):
        expected = [MOMENTUM * one + (1 - MOMENTUM) * other for one, other in zip(expected, raw, strict=True)]
        assert_close(found, expected)
    # Keras itself takes the averages at the end.
    assert_same(weights(model), looks.averaged[-1])
    assert model.predict_function.experimental_get_tracing_count() == 1
    assert model.train_function.experimental_get_tracing_count() == 1


def test_under_a_strategy() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(2)])
        model.build((None, 3))
        model.compile(optimizers.make("adamw", 0.1, ema_momentum=MOMENTUM), loss="mse")
    expected = weights(model)
    for _ in range(2):
        model.train_on_batch(np.ones([4, 3]), np.ones([4, 2]))
        pairs = zip(expected, weights(model), strict=True)
        expected = [MOMENTUM * average + (1 - MOMENTUM) * weight for average, weight in pairs]
    raw = weights(model)
    assert_close(inside(model), expected)
    assert_same(weights(model), raw)
    averages.take_averages(model)
    assert_close(weights(model), expected)
