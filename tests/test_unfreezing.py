"""Gradual unfreezing in a plain `fit` of Keras, which never saw a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import optimizers
from tfft.backend import keras, tf
from tfft.callbacks import ExactCheckpoint, GradualUnfreezing
from tfft.errors import ModelError, RunError
from tfft.models import heads

BATCHES = 3  # of an epoch
STAGES: dict[int, Any] = {0: lambda name: name.startswith("top"), 2: lambda name: not name.startswith("low"), 3: "all"}


def adam() -> Any:
    return keras.optimizers.Adam(0.1)


def of_tfft() -> Any:
    return optimizers.make("adamw", 0.1)


def with_loss_scale() -> Any:
    return keras.mixed_precision.LossScaleOptimizer(optimizers.make("adam", 0.1))


def legacy() -> Any:
    return keras.optimizers.legacy.Adam(0.1)


def make(optimizer: Callable[[], Any]) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(3, input_shape=(2,), name="low"), keras.layers.BatchNormalization(name="middle")]
    model = keras.Sequential([*layers, keras.layers.Dropout(0.2), keras.layers.Dense(1, name="top")])
    model.compile(optimizer(), "mse")
    return model


def rows(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    inputs = tf.random.stateless_normal([4, 2], seed=tf.stack([index, 5]))
    return inputs, tf.reduce_sum(inputs, axis=1, keepdims=True)


def fit(model: keras.Model, *given: keras.callbacks.Callback, epochs: int = 4, skipped: int = 0, **more: Any) -> None:
    stream = tf.data.Dataset.counter().map(rows).skip(skipped)
    model.fit(stream, epochs=epochs, steps_per_epoch=BATCHES, verbose=0, callbacks=list(given), **more)


class Moves(keras.callbacks.Callback):
    """Which layers' trained weights each epoch moves."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[set[str]] = []

    def _now(self) -> dict[str, np.ndarray]:
        return {one.name: one.numpy() for one in self.model.weights if "moving" not in one.name}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.before = self._now()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        moved = {name for name, value in self._now().items() if (value != self.before[name]).any()}
        self.seen.append({name.partition("/")[0] for name in moved})


@pytest.mark.parametrize(
    "optimizer", [adam, *(pytest.param(one, marks=pytest.mark.slow) for one in (of_tfft, with_loss_scale, legacy))]
)
def test_each_stage_moves_what_it_says(optimizer: Callable[[], Any]) -> None:
    model, moves = make(optimizer), Moves()
    names = [weight.name for weight in model.weights]
    fit(model, GradualUnfreezing(STAGES), moves)
    assert moves.seen == [{"top"}, {"top"}, {"top", "middle"}, {"top", "middle", "low"}]
    # The model is as it was.
    assert [weight.name for weight in model.weights] == names
    assert int(model.optimizer.iterations) == 12
    fit(model, moves, epochs=1)
    assert moves.seen[-1] == {"top", "middle", "low"}


def test_what_the_optimizer_knows_outlives_a_change_of_stages() -> None:
    model, known = make(adam), []

    def look(epoch: int, logs: Any) -> None:
        known.append([one.numpy() for one in model.optimizer.variables])

    before, after = (keras.callbacks.LambdaCallback(on_epoch_begin=look) for _ in range(2))
    fit(model, before, GradualUnfreezing({0: STAGES[0], 1: "all"}), after, epochs=2)
    means = [index for index, one in enumerate(model.optimizer.variables) if one.shape == (3, 1)]
    assert len(known) == 4 and means and all(np.abs(known[2][index]).max() > 0 for index in means)
    for one, other in zip(known[2], known[3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_of_weights_that_are_unfrozen_late_are_their_own() -> None:
    model = make(of_tfft)
    fit(model, GradualUnfreezing({0: STAGES[0], 2: "all"}), epochs=3)
    firsts = model.optimizer.first_steps
    assert {name.partition("/")[0]: step for name, step in firsts.items()} == {"top": 0, "middle": 6, "low": 6}


class Killed(BaseException):
    """What ends a process; nothing catches it."""


def resumable(folder: Path, kill_at: int | None = None) -> keras.Model:
    model, unfreezing = make(of_tfft), GradualUnfreezing(STAGES)
    keeper = ExactCheckpoint(folder, 2, [unfreezing])
    left = iter(range(100))

    def kill(batch: int, logs: Any) -> None:
        if next(left) == kill_at:
            raise Killed

    dies = keras.callbacks.LambdaCallback(on_batch_end=kill)
    fit(model, unfreezing, keeper, dies, skipped=keeper.batches_done)
    return model


@pytest.mark.parametrize("kill_at", [7, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_in_its_stage(tmp_path: Path, kill_at: int) -> None:
    whole = resumable(tmp_path / "whole")
    with pytest.raises(Killed):
        resumable(tmp_path / "run", kill_at)
    for one, other in zip(resumable(tmp_path / "run").weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.name)


def test_parts_that_an_encoder_has_not() -> None:
    model = families.make("distilbert")
    model.compile(optimizers.make("adamw", 1e-2), heads.CrossEntropyFromLogits())
    inputs = {name: one.numpy() for name, one in families.INPUTS.items()}
    with pytest.raises(ModelError, match="this model has 2 layers to unfreeze"):
        model.fit(inputs, np.array([0, 1]), verbose=0, callbacks=[GradualUnfreezing({0: "head", 1: 7})])


@pytest.mark.parametrize("stages", [{}, {1: "all"}, {-1: "head", 0: "all"}])
def test_stages_begin_with_the_first_epoch(stages: dict[int, Any]) -> None:
    with pytest.raises(ValueError, match="expected the first to begin with epoch 0"):
        GradualUnfreezing(stages)


def test_what_cannot_be_unfrozen_is_said() -> None:
    model = make(adam)
    model.optimizer.build(model.layers[-1].trainable_variables)
    with pytest.raises(RunError, match=r"built for other weights: it does not know low/kernel:0; call model\.compile"):
        fit(model, GradualUnfreezing(STAGES))
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(RunError, match=r"call model\.build\(input_shape\) before fit"):
        fit(model, GradualUnfreezing(STAGES))
