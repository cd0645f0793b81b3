"""Callbacks fed with written histories, as Keras tests its own; real fits only where the order of several matters."""

from __future__ import annotations

import io
import json
import math
import runpy
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from rich.console import Console

from tfft import callbacks, optimizers
from tfft.backend import keras, tf
from tfft.callbacks import StepClock, progress, step_clock
from tfft.callbacks.learning_rate_log import current_rate
from tfft.console import Voice
from tfft.errors import RunError

NAN = math.nan


def stand_in(rate: Any = 0.1) -> Any:
    """As much of a model as callbacks look at."""
    return types.SimpleNamespace(optimizer=keras.optimizers.SGD(rate), stop_training=False)


def run_epochs(callback: keras.callbacks.Callback, logs: Sequence[Mapping[str, float]]) -> None:
    for epoch, one in enumerate(logs):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, dict(one))


# --- Checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "scores", "saved", "best"),
    [
        ("max", [0.1, 0.3, 0.2], ["best", "last", "best", "last", "last"], (2, 0.3)),
        ("min", [0.1, 0.3, 0.2], ["best", "last", "last", "last"], (1, 0.1)),
        ("min", [3.0, 2.0, 1.0], ["best", "last"] * 3, (3, 1.0)),
        ("max", [-5.0, -7.0], ["best", "last", "last"], (1, -5.0)),
        # The first of two equal ones stays, and 0 is a score like any other.
        ("max", [0.0, 0.0, 0.0], ["best", "last", "last", "last"], (1, 0.0)),
        ("max", [NAN, 0.2, NAN], ["last", "best", "last", "last"], (2, 0.2)),
        ("min", [NAN, 0.2, NAN], ["last", "best", "last", "last"], (2, 0.2)),
        ("max", [NAN, NAN], ["last", "last"], (None, -math.inf)),
        ("min", [NAN, NAN], ["last", "last"], (None, math.inf)),
    ],
)
def test_checkpoints_keep_the_best_and_the_last(
    mode: Literal["max", "min"], scores: list[float], saved: list[str], best: tuple[int | None, float]
) -> None:
    names: list[str] = []
    callback = callbacks.Checkpoints(names.append, "val_f1", mode)
    assert (callback.best_epoch, callback.last_epoch) == (None, None)
    run_epochs(callback, [{"loss": 1.0, "val_f1": score} for score in scores])
    assert names == saved
    assert (callback.best_epoch, callback.best_value) == best
    assert callback.last_epoch == len(scores)


def test_checkpoints_keep_the_last_alone_where_nothing_is_monitored() -> None:
    names: list[str] = []
    callback = callbacks.Checkpoints(names.append)
    run_epochs(callback, [{"loss": 1.0}, {}])
    callback.on_epoch_end(2, None)
    assert names == ["last"] * 3
    assert (callback.best_epoch, callback.last_epoch) == (None, 3)


def test_checkpoints_name_what_they_cannot_find() -> None:
    names: list[str] = []
    callback = callbacks.Checkpoints(names.append, "val_f1", "max")
    with pytest.raises(KeyError, match="the logs have no val_f1; they have loss, val_accuracy"):
        callback.on_epoch_end(0, {"loss": 1.0, "val_accuracy": 0.5})
    assert names == []


@pytest.mark.parametrize("mode", ["auto", "MAX", ""])
def test_checkpoints_guess_no_direction(mode: Any) -> None:
    with pytest.raises(ValueError, match="expected max or min"):
        callbacks.Checkpoints(lambda name: None, "val_f1", mode)


def test_an_epoch_that_could_not_be_saved_is_not_the_last() -> None:
    def save(name: str) -> None:
        raise OSError("no space")

    callback = callbacks.Checkpoints(save)
    with pytest.raises(OSError, match="no space"):
        callback.on_epoch_end(0, {})
    assert callback.last_epoch is None


# --- StopOnNaN --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [NAN, math.inf, -math.inf, np.float32("nan")])
def test_a_loss_that_is_no_number_is_named_with_epoch_and_step(loss: float) -> None:
    callback = callbacks.StopOnNaN()
    callback.on_epoch_begin(0)
    for batch in range(3):
        callback.on_train_batch_end(batch, {"loss": 0.5})
    callback.on_epoch_end(0, {"loss": 0.5, "val_loss": 0.4})
    callback.on_epoch_begin(1)
    callback.on_train_batch_end(0, {"loss": 1e30})
    with pytest.raises(RunError, match=rf"became {loss} in epoch 2 at step 2; .*training\.learning_rate"):
        callback.on_train_batch_end(1, {"loss": loss})


def test_weights_spoilt_by_an_epochs_last_step_are_seen_before_they_are_kept() -> None:
    callback = callbacks.StopOnNaN()
    run_epochs(callback, [{"loss": 0.5, "val_loss": 0.5, "val_f1": NAN}])
    with pytest.raises(RunError, match=r"validation loss became nan after the last step of epoch 2; .*learning_rate"):
        callback.on_epoch_end(1, {"loss": 0.5, "val_loss": NAN})


def test_logs_without_a_loss_stop_nothing() -> None:
    callback = callbacks.StopOnNaN()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0, None)
    callback.on_train_batch_end(1, {"accuracy": NAN})
    callback.on_epoch_end(0, None)


def means(losses: list[float]) -> list[float]:
    """Of the batches of an epoch, as Keras reports them."""
    return [sum(losses[: count + 1]) / (count + 1) for count in range(len(losses))]


def test_an_explosion_is_ten_batches_and_not_one() -> None:
    callback = callbacks.StopOnNaN(explosion_factor=3.0)
    callback.on_epoch_begin(0)
    # One batch of hard rows is none, nor is the beginning, whose loss is the highest.
    for batch, mean in enumerate(means([9.0] * 4 + [1.0] * 20 + [15.0] + [1.0] * 5)):
        callback.on_train_batch_end(batch, {"loss": mean})
    state = callback.get_state()
    assert state["lowest"] == pytest.approx(1.0)
    # The next epoch counts on, in the same process and in another.
    again = callbacks.StopOnNaN(explosion_factor=3.0)
    again.set_state(state)
    for one in (callback, again):
        one.on_epoch_begin(1)
        with pytest.raises(
            RunError, match=r"the loss exploded in epoch 2 at step 3: 3\.3 over ten batches, 1 before; try"
        ):
            for batch, mean in enumerate(means([4.0] * 10)):
                one.on_train_batch_end(batch, {"loss": mean})
    with pytest.raises(ValueError, match="explosion_factor is 1; expected more than 1"):
        callbacks.StopOnNaN(explosion_factor=1)


@pytest.mark.parametrize(
    ("losses", "lowest_after"),
    [
        ([5.0, 3.0] + [1.0] * 20 + [20.0] * 5, 12),
        # As low as it was is not risen; one low batch is not the lowest ten.
        ([1.0] * 10 + [2.0] * 15 + [0.5] + [2.0] * 5 + [9.0] * 9, 0),
        # Slowly, over more than ten batches.
        ([2.0] * 7 + [1.0] * 13 + [1.2**count for count in range(1, 20)], 10),
    ],
    ids=["at once", "after a rest", "slowly"],
)
def test_an_explosion_knows_when_the_loss_was_lowest(losses: list[float], lowest_after: int) -> None:
    per_epoch = 7
    callback = callbacks.StopOnNaN(explosion_factor=3.0)
    with pytest.raises(RunError, match="the loss exploded"):
        for first in range(0, len(losses), per_epoch):
            callback.on_epoch_begin(first // per_epoch)
            for batch, mean in enumerate(means(losses[first : first + per_epoch])):
                callback.on_train_batch_end(batch, {"loss": mean})
            other = callbacks.StopOnNaN(explosion_factor=3.0)
            other.set_state(json.loads(json.dumps(callback.get_state())))
            callback = other
    assert callback.lowest_after == lowest_after


# --- StopAtBatch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total_batches", "batches_per_epoch", "done"), [(1, 4, 1), (3, 4, 3), (4, 4, 4), (6, 4, 6)])
def test_stop_at_batch_counts_over_epochs(total_batches: int, batches_per_epoch: int, done: int) -> None:
    callback = callbacks.StopAtBatch(total_batches)
    callback.set_model(stand_in())
    for _ in range(3):
        for batch in range(batches_per_epoch):
            assert not callback.model.stop_training
            callback.on_train_batch_end(batch)
            if callback.model.stop_training:
                break
        if callback.model.stop_training:
            break
    assert callback.model.stop_training
    assert callback.batches == done


# --- TimeBudget -------------------------------------------------------------------------------------------------------


def test_a_time_budget_ends_with_the_batch_that_spends_it() -> None:
    seconds = iter([10.0, 3599.0, 3600.0])
    callback = callbacks.TimeBudget(1.0, lambda: next(seconds))
    callback.set_model(stand_in())
    callback.on_train_begin()
    stopped = []
    for batch in range(3):
        callback.on_train_batch_end(batch)
        stopped.append(callback.model.stop_training)
    assert stopped == [False, False, True]


@pytest.mark.parametrize("hours", [0.0, -1.0, NAN])
def test_a_time_budget_is_above_nothing(hours: float) -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        callbacks.TimeBudget(hours)


# --- ValidationScores -------------------------------------------------------------------------------------------------


def test_scores_get_the_name_of_validation() -> None:
    callback = callbacks.ValidationScores(lambda: {"f1": 0.5, "loss": 0.25})
    logs = {"loss": 1.0}
    callback.on_epoch_end(0, logs)
    assert logs == {"loss": 1.0, "val_f1": 0.5, "val_loss": 0.25}
    callback.on_epoch_end(1, None)


# --- real fits of a model of one layer --------------------------------------------------------------------------------


def fit(
    *given: keras.callbacks.Callback, rate: Any = 0.1, epochs: int = 6, steps: int = 4, steps_per_execution: int = 1
) -> keras.callbacks.History:
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="mse", steps_per_execution=steps_per_execution)
    dataset = tf.data.Dataset.from_tensors((tf.ones([3, 2]), tf.ones([3, 1]))).repeat()
    return model.fit(dataset, epochs=epochs, steps_per_epoch=steps, verbose=0, callbacks=list(given))


@pytest.mark.parametrize(
    ("mode", "values", "epochs"),
    [
        ("max", [0.1, 0.5, 0.4, 0.3, 0.9, 0.9], 4),
        ("max", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6),
        ("min", [0.1, 0.5, 0.4, 0.3, 0.9, 0.9], 3),
    ],
)
def test_early_stopping_reads_the_scores(mode: str, values: list[float], epochs: int) -> None:
    left = iter(values)
    stopped = fit(
        callbacks.ValidationScores(lambda: {"f1": next(left)}),
        keras.callbacks.EarlyStopping("val_f1", patience=2, mode=mode),
    )
    assert stopped.history["val_f1"] == values[:epochs]


def scored(
    values: Sequence[float], eval_steps: int | None, *followers: keras.callbacks.Callback, **settings: Any
) -> tuple[callbacks.ValidationScores, keras.callbacks.History]:
    left = iter(values)
    scores = callbacks.ValidationScores(lambda: {"f1": next(left)}, eval_steps, followers)
    return scores, fit(scores, **settings)


@pytest.mark.parametrize(
    ("eval_steps", "settings", "at"),
    [
        (3, {}, [(1, 3), (1, 4), (2, 6), (2, 8)]),
        # An epoch's last step is evaluated once, at its end.
        (2, {}, [(1, 2), (1, 4), (2, 6), (2, 8)]),
        (100, {}, [(1, 4), (2, 8)]),
        (5, {"steps": 12, "epochs": 1, "steps_per_execution": 4}, [(1, 8), (1, 12)]),
    ],
)
def test_evaluations_every_few_steps(eval_steps: int, settings: dict[str, Any], at: list[tuple[int, int]]) -> None:
    values = [0.1 * (1 + index) for index in range(len(at))]
    scores, history = scored(values, eval_steps, **{"epochs": 2, **settings})
    assert [(row["epoch"], row["step"]) for row in scores.evaluations] == at
    assert [row["val_f1"] for row in scores.evaluations] == pytest.approx(values)
    ends = [row["val_f1"] for row in scores.evaluations if row["step"] % settings.get("steps", 4) == 0]
    assert history.history["val_f1"] == pytest.approx(ends)
    assert all({"loss", "learning_rate"} <= row.keys() for row in scores.evaluations)


@pytest.mark.parametrize("steps", [0, -3])
def test_evaluations_come_after_at_least_a_step(steps: int) -> None:
    with pytest.raises(ValueError, match=f"eval_steps is {steps}; expected at least 1, or None"):
        callbacks.ValidationScores(dict, steps)


def test_early_stopping_and_checkpoints_may_follow_the_evaluations() -> None:
    names: list[str] = []
    kept = callbacks.Checkpoints(names.append, "val_f1", "max", saves_last=False)
    stop = keras.callbacks.EarlyStopping("val_f1", patience=2, mode="max")
    scores, history = scored([0.1, 0.5, 0.4, 0.3], 3, stop, kept, epochs=5)
    # It ends in the middle of the second epoch, whose end takes the scores that are there.
    assert [row["step"] for row in scores.evaluations] == [3, 4, 6, 8]
    assert (kept.best_epoch, kept.best_value, names) == (2, 0.5, ["best"] * 2)
    assert (history.epoch, history.history["val_f1"]) == ([0, 1], [0.5, 0.3])
    scores, history = scored([0.5, 0.4, 0.3], 3, keras.callbacks.EarlyStopping("val_f1", patience=2, mode="max"))
    assert ([row["step"] for row in scores.evaluations], history.history["val_f1"]) == ([3, 4, 6], [0.4, 0.3])


def test_followers_are_told_of_epochs_where_those_alone_are_evaluated() -> None:
    stop = keras.callbacks.EarlyStopping("val_f1", patience=2, mode="max")
    scores, history = scored([0.1, 0.5, 0.4, 0.3], None, stop)
    assert (history.epoch, scores.evaluations) == ([0, 1, 2, 3], [])


def test_evaluate_within_an_epoch_leaves_its_loss_alone_and_others_are_told() -> None:
    told: list[int] = []
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,), kernel_initializer="ones")])
    model.compile("sgd", "mse", metrics=["mae"])
    rows = tf.data.Dataset.range(8).map(lambda index: (tf.fill([2, 2], float(index)), tf.ones([2, 1])))
    weights = model.get_weights()
    plain = model.fit(rows, epochs=2, verbose=0).history
    model.set_weights(weights)
    model.compile("sgd", "mse", metrics=["mae"])
    scores = callbacks.ValidationScores(
        lambda: model.evaluate(rows.take(1), verbose=0, return_dict=True),
        1,
        told=[lambda step, logs: told.append(step)],
    )
    history = model.fit(rows, epochs=2, verbose=0, callbacks=[scores]).history
    assert {name: history[name] for name in plain} == plain
    assert scores.evaluations[-1]["val_mae"] == history["val_mae"][-1]
    # The eighth step is the first epoch's end.
    assert told == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
    assert len(scores.evaluations) == 16


def test_weights_whose_validation_loss_is_no_number_are_never_the_best() -> None:
    names: list[str] = []
    callback = callbacks.Checkpoints(names.append, "val_f1", "max", saves_last=False)
    run_epochs(callback, [{"val_f1": 0.5, "val_loss": 1.0}, {"val_f1": 0.9, "val_loss": NAN}])
    assert (callback.best_epoch, names) == (1, ["best"])


def test_several_batches_in_an_execution_are_all_counted() -> None:
    stop = callbacks.StopAtBatch(14)
    history = fit(stop, steps=6, steps_per_execution=4)
    # Four and two batches in each of two epochs, and two in the third.
    assert stop.batches == 16 and history.epoch == [0, 1, 2]


def test_a_fit_that_stops_at_a_batch_reports_its_epoch() -> None:
    stop = callbacks.StopAtBatch(6)
    names: list[str] = []
    history = fit(stop, callbacks.LearningRateLog(), callbacks.Checkpoints(names.append))
    assert stop.batches == 6
    assert history.epoch == [0, 1]
    assert len(history.history["learning_rate"]) == 2
    assert names == ["last", "last"]


def test_a_fit_ends_at_the_first_loss_that_is_no_number() -> None:
    names: list[str] = []
    with pytest.raises(RunError, match="in epoch 1 at step 2;"):
        fit(callbacks.StopOnNaN(), callbacks.Checkpoints(names.append), rate=1e38)
    assert names == []


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.25, [0.25, 0.25]),
        # After 4 and 8 of 8 steps.
        (optimizers.linear_decay(0.5, 8), [0.25, 0.0]),
        (optimizers.linear_decay(0.5, 8, warmup_steps=4), [0.5, 0.0]),
    ],
)
def test_the_rate_of_the_next_step_is_logged(rate: Any, expected: list[float]) -> None:
    history = fit(callbacks.LearningRateLog(), rate=rate, epochs=2)
    assert history.history["learning_rate"] == pytest.approx(expected)


OPTIMIZERS = {
    "AdamW": lambda rate: optimizers.make("adamw", rate),
    "with a scaled loss": lambda rate: keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(rate)),
    "legacy": keras.optimizers.legacy.Adam,
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(("rate", "expected"), [(0.25, 0.25), (optimizers.linear_decay(0.5, 8), 0.375)])
def test_the_rate_is_found_in_any_optimizer(kind: str, rate: Any, expected: float) -> None:
    optimizer = OPTIMIZERS[kind](rate)
    optimizer.iterations.assign(2)
    assert current_rate(optimizer) == pytest.approx(expected)


# --- Progress ---------------------------------------------------------------------------------------------------------


class Clock:
    """Time that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    yield made


def speak(clock: Clock, is_terminal: bool, is_silent: bool = False, total_steps: int = 16, epochs: int = 2) -> str:
    """What is said of a training of 8 steps an epoch, 4 rows each: the first takes 30 seconds and every other one 2."""
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=150, soft_wrap=not is_terminal)
    callback = callbacks.Progress(Voice(silent=is_silent, console=console), total_steps, 8, batch_size=4)
    callback.set_model(stand_in())
    callback.on_train_begin()
    done = 0
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(min(8, total_steps - done)):
            clock.now += 30.0 if done == 0 else 2.0
            done += 1
            callback.on_train_batch_end(batch, {"loss": 1 / done})
        clock.now += 60.0  # validation, which is no training
        callback.on_epoch_end(epoch, {"loss": 1 / done, "learning_rate": 0.1, "val_f1": 0.5, "val_loss": 0.75})
    callback.on_train_end()
    callback.close()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_off_a_terminal(clock: Clock) -> None:
    assert speak(clock, is_terminal=False).splitlines() == [
        "step 2 of 16: loss 0.5000, rate 1.00e-01, 2.0 samples/s, 28 s left",
        "step 4 of 16: loss 0.2500, rate 1.00e-01, 2.0 samples/s, 24 s left",
        "step 6 of 16: loss 0.1667, rate 1.00e-01, 2.0 samples/s, 20 s left",
        "epoch 1 of 2: loss 0.1250, val_f1 0.5000, val_loss 0.7500",
        "step 10 of 16: loss 0.1000, rate 1.00e-01, 2.0 samples/s, 12 s left",
        "step 12 of 16: loss 0.0833, rate 1.00e-01, 2.0 samples/s, 8 s left",
        "step 14 of 16: loss 0.0714, rate 1.00e-01, 2.0 samples/s, 4 s left",
        "epoch 2 of 2: loss 0.0625, val_f1 0.5000, val_loss 0.7500",
    ]


def test_a_training_that_ends_in_an_epoch_counts_that_epoch(clock: Clock) -> None:
    said = speak(clock, is_terminal=False, total_steps=10)
    assert "step 10 of 10" in said
    assert "epoch 2 of 2: loss 0.1000" in said


def test_a_bar_on_a_terminal(clock: Clock) -> None:
    said = speak(clock, is_terminal=True)
    assert "training" in said
    assert "16/16" in said
    assert "rate 1.00e-01, 2.0 samples/s" in said
    assert "epoch 1 of 2: loss 0.1250, val_f1 0.5000, val_loss 0.7500" in said
    assert "step 2 of 16" not in said
    # The cursor that the bar hid is shown again.
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nothing_where_it_is_to_be_silent(clock: Clock, is_terminal: bool) -> None:
    assert speak(clock, is_terminal=is_terminal, is_silent=True) == ""


def test_a_bar_goes_away_when_training_breaks_off() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    callback = callbacks.Progress(Voice(console=console), 8, 8, batch_size=4)
    callback.set_model(stand_in())
    callback.on_train_begin()
    callback.close()
    callback.close()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")


# --- StepClock --------------------------------------------------------------------------------------------------------


def test_the_clock_leaves_out_the_first_batches_and_the_first_of_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the bench's peers, which must not load tfft, goes by the same rule."""
    now = [0.0]
    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: now[0])
    peers = runpy.run_path(str(Path(__file__).parent / "benchmarks" / "peers" / "clock.py"))["StepClock"]()
    monkeypatch.setitem(type(peers).step_ends.__globals__, "time", types.SimpleNamespace(time=lambda: now[0]))
    clock = StepClock()
    assert clock.first_step_at is None and clock.steady_batch_seconds is None
    for epoch, seconds in enumerate([[50, 9, 9, 9, 9, 2, 2], [40, 3, 3]]):
        clock.on_epoch_begin(epoch)
        peers.epoch_begins()
        for batch, took in enumerate(seconds):
            now[0] += took
            clock.on_train_batch_end(batch)
            peers.step_ends()
    assert clock.first_step_at == 50
    assert clock.steady_batch_seconds == pytest.approx((2 + 2 + 3 + 3) / 4)
    assert peers.report(started=10, batch_size=16) == {
        "first_step_seconds": 40,
        "steady_samples_per_second": pytest.approx(16 / clock.steady_batch_seconds),
    }


def test_the_clock_counts_all_batches_of_an_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: now[0])
    clock = StepClock()
    clock.on_epoch_begin(0)
    for batch, took in ((3, 50), (7, 8), (9, 5)):
        now[0] += took
        clock.on_train_batch_end(batch)
    assert clock.steady_batch_seconds == pytest.approx((8 + 5) / (4 + 2))
