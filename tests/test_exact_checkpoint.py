"""Exact resume in a plain `fit` of Keras, which never saw a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft import states
from tfft.backend import keras, tf
from tfft.callbacks import ExactCheckpoint, ValidationScores
from tfft.errors import RunError

BATCHES = 10  # of an epoch


class Killed(BaseException):
    """What ends a process; nothing catches it."""


class KillAt(keras.callbacks.Callback):
    """Ends the training after so many batches of this call."""

    def __init__(self, batches: int | None) -> None:
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


def adam() -> Any:
    return keras.optimizers.Adam(keras.optimizers.schedules.PolynomialDecay(0.1, 40))


def with_loss_scale() -> Any:
    return keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9), dynamic_growth_steps=3)


def of_transformers() -> Any:
    """Keras's old kind, whose slots are made with the first step."""
    from transformers import create_optimizer

    return create_optimizer(0.1, num_train_steps=40, num_warmup_steps=4, weight_decay_rate=0.1)[0]


Make = Callable[[], Any]


def train(
    folder: Path,
    optimizer: Make = adam,
    kill_at: int | None = None,
    epochs: int = 3,
    steps_per_execution: int = 1,
    save_steps: int | None = 3,
    made: Callable[[], list[keras.callbacks.Callback]] = list,
) -> tuple[ExactCheckpoint, keras.Model]:
    """A training of a small model on a stream of a fixed order, killed after a batch where that is said."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(8, "relu", input_shape=(3,)),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, "sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile(
        optimizer(), "binary_crossentropy", metrics=["accuracy", "AUC"], steps_per_execution=steps_per_execution
    )
    others = made()
    keeper = ExactCheckpoint(folder, save_steps, others)

    def rows(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = tf.random.stateless_normal([4, 3], seed=tf.stack([index, 5]))
        return inputs, tf.cast(tf.reduce_sum(inputs, axis=1, keepdims=True) > 0, tf.float32)

    stream = tf.data.Dataset.counter().map(rows).skip(keeper.batches_done)
    following = [one for scores in others for one in getattr(scores, "followers", [])]
    given = [*(one for one in others if one not in following), keeper, KillAt(kill_at)]
    model.fit(stream, epochs=epochs, steps_per_epoch=BATCHES, verbose=0, callbacks=given)
    return keeper, model


def assert_equal(one: tuple[ExactCheckpoint, keras.Model], other: tuple[ExactCheckpoint, keras.Model]) -> None:
    assert one[0].history == other[0].history
    assert one[0].batches_done == other[0].batches_done
    for a, b in zip(one[1].weights, other[1].weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("optimizer", "kill_at"),
    [(adam, 17), *(pytest.param(one, 17, marks=pytest.mark.slow) for one in (with_loss_scale, of_transformers))],
)
def test_fit_goes_on_where_it_was_killed(tmp_path: Path, optimizer: Make, kill_at: int) -> None:
    whole = train(tmp_path / "whole", optimizer)
    with pytest.raises(Killed):
        train(tmp_path / "run", optimizer, kill_at)
    assert_equal(train(tmp_path / "run", optimizer), whole)


@pytest.mark.slow
def test_it_goes_on_more_than_once(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    # The first time nothing was saved yet, so it begins anew.
    for kill_at in (1, 5, 2, 9):
        with pytest.raises(Killed):
            train(tmp_path / "run", kill_at=kill_at)
    assert_equal(train(tmp_path / "run"), whole)


@pytest.mark.slow
def test_several_batches_in_an_execution(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", steps_per_execution=4)
    with pytest.raises(Killed):
        train(tmp_path / "run", kill_at=4, steps_per_execution=4)
    resumed = train(tmp_path / "run", steps_per_execution=4)
    for one, other in zip(resumed[0].history, whole[0].history, strict=True):
        # Metrics are sums, here added up in another order.
        assert one == pytest.approx(other, rel=1e-6)
    for a, b in zip(resumed[1].weights, whole[1].weights, strict=True):
        np.testing.assert_array_equal(a, b)


def patient() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping("loss", mode="max", patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", mode="max", patience=2),
    ]


def test_what_other_callbacks_know_is_kept(tmp_path: Path) -> None:
    def slow() -> Any:
        return keras.optimizers.SGD(0.5)

    settings: dict[str, Any] = {"optimizer": slow, "epochs": 8, "made": patient}
    whole = train(tmp_path / "whole", **settings)
    # The loss falls, and the greatest is wanted: patience ends.
    assert 4 <= len(whole[0].history) < 8
    with pytest.raises(Killed):
        train(tmp_path / "run", kill_at=26, **settings)
    assert_equal(train(tmp_path / "run", **settings), whole)


def scored() -> list[keras.callbacks.Callback]:
    """Scores of the weights as they are, every few steps, of which the greatest is the first."""
    stop = keras.callbacks.EarlyStopping("val_size", mode="max", patience=4, restore_best_weights=True)
    scores = ValidationScores(lambda: {"size": -float(scores.model.optimizer.iterations)}, 4, followers=[stop])
    return [scores, stop]


def test_evaluations_every_few_steps_go_on(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", made=scored)
    assert len(whole[0].history) == 2
    with pytest.raises(Killed):
        train(tmp_path / "run", kill_at=13, made=scored)
    seen: list[ValidationScores] = []

    def again() -> list[keras.callbacks.Callback]:
        made = scored()
        seen.append(made[0])
        return made

    assert_equal(train(tmp_path / "run", made=again), whole)
    at = [(row["epoch"], row["step"]) for row in seen[0].evaluations]
    assert at == [(1, 4), (1, 8), (1, 10), (2, 12), (2, 16)]


def test_a_training_that_ended_can_be_made_longer(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", epochs=3)
    train(tmp_path / "run", epochs=2)
    assert_equal(train(tmp_path / "run", epochs=3), whole)


def test_states_are_saved_every_few_optimizer_steps_and_at_the_ends_of_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int, int]] = []
    write = states.write

    def seen(root: Path, step: int, tensors: Any, facts: Any, spared: Any) -> Path:
        saved.append((step, facts["epoch"], facts["batch"]))
        return write(root, step, tensors, facts, spared)

    monkeypatch.setattr(states, "write", seen)
    train(tmp_path, epochs=2, save_steps=4)
    assert saved == [(4, 0, 4), (8, 0, 8), (10, 1, 0), (14, 1, 4), (18, 1, 8), (20, 2, 0)]
    saved.clear()
    train(tmp_path / "other", epochs=2, save_steps=None)
    assert saved == [(10, 1, 0), (20, 2, 0)]


def test_a_wish_to_stop_is_granted_after_the_state_is_saved(tmp_path: Path) -> None:
    asked: list[BaseException] = []
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.compile("sgd", "mse")
    keeper = ExactCheckpoint(tmp_path, asked_to_stop=lambda: asked[0] if asked else None)
    wish = keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: asked.append(Killed()) if batch == 2 else None
    )
    with pytest.raises(Killed):
        model.fit(tf.ones([8, 1]), tf.ones([8, 1]), batch_size=1, verbose=0, callbacks=[wish, keeper])
    assert [one.name for one in states.folders(tmp_path)] == ["step-00000003"]


def test_other_models_and_models_without_weights_are_refused(tmp_path: Path) -> None:
    train(tmp_path)
    rows = tf.data.Dataset.from_tensors((tf.ones([4, 3]), tf.ones([4, 1]))).repeat()

    def fit(*layers: keras.layers.Layer) -> None:
        model = keras.Sequential(list(layers))
        model.compile("adam", "mse")
        model.fit(rows, epochs=4, steps_per_epoch=BATCHES, verbose=0, callbacks=[ExactCheckpoint(tmp_path)])

    with pytest.raises(RunError, match=r"step-00000030 is the state of another model .*: its model/0000 has the shape"):
        fit(keras.layers.Dense(1, input_shape=(3,)))
    with pytest.raises(RunError, match=r"call model\.build\(input_shape\) before fit"):
        fit(keras.layers.Dense(1))
