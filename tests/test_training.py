"""`compile` and `fit` with everything around them, on a tiny model and rows that a word of theirs gives away."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft import callbacks, course, hardware, nonfinite, plan, states, training
from tfft.backend import keras
from tfft.callbacks.learning_rate_log import current_rate
from tfft.callbacks.stop_on_nan import NotFinite
from tfft.console import Voice
from tfft.data import Split
from tfft.data.encode import encode
from tfft.data.rows import Rows
from tfft.errors import RecipeError, RunError
from tfft.models import checkpoint, load, lora, save
from tfft.models.parts import path_of
from tfft.problems import SingleLabel
from tfft.recipe import DataSection, RuntimeSection, TrainingSection
from tfft.run_directory import STATES, RunDirectory

ROWS = 44


class Kit:
    """All that a training takes, made anew from a seed."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = RunDirectory(folder)
        self.found = checkpoint.find(str(source))
        self.tokenizer = checkpoint.load_tokenizer(self.found)
        texts = [("good movie" if index % 2 else "bad day") + " so" * (index % 11) for index in range(ROWS)]
        labels = np.arange(ROWS, dtype=np.int32) % 2
        rows = Rows((texts,), labels.tolist(), list(range(1, ROWS + 1)), "rows")
        self.split = Split("train", rows, encode([texts], self.tokenizer, 32), labels)

    def train(
        self,
        score: Callable[[], Mapping[str, float]] | None = None,
        best: training.Best | None = None,
        batching: str = "bucketed",
        resume: bool = False,
        steps_per_execution: int = 1,
        **changes: Any,
    ) -> tuple[course.Trained, keras.Model]:
        settings = TrainingSection(**{"num_train_epochs": 2.0, "learning_rate": 1e-2, **changes})
        data = DataSection(text_columns=("text",), batching=batching)
        hardware.set_seed(3)
        loaded = load.load_classifier(self.found, ["0", "1"], "TFAutoModelForSequenceClassification")
        model, names = loaded.model, training.choose_weights(settings, loaded)
        planned = plan.make(data, settings, self.split.encoded, 32)
        batches_from = functools.partial(training.make_batches, self.split, data, planned, self.tokenizer, 3, False)
        self.folder.check(overwrite=not resume, resume=resume)
        with self.folder.open(resume):
            trained = course.train(
                model,
                self.tokenizer,
                batches_from,
                settings,
                planned,
                self.folder,
                Voice(silent=True),
                loss=training.make_loss(settings, SingleLabel(("0", "1")), self.split.labels),
                score=score,
                best=best,
                runtime=RuntimeSection(steps_per_execution=steps_per_execution),
                trained=names,
                found=states.newest(self.folder / STATES)[0] if resume else None,
            )
        return trained, model


@pytest.fixture
def kit(tmp_path: Path, tiny_checkpoint: Path) -> Kit:
    return Kit(tmp_path / "run", tiny_checkpoint)


def scores_in_turn(name: str, *values: float) -> Callable[[], dict[str, float]]:
    """Scores as an evaluation after each epoch would give them."""
    left = iter(values)
    return lambda: {name: next(left)}


@pytest.mark.parametrize("batching", ["bucketed", "padded"])
def test_training_learns(kit: Kit, batching: str) -> None:
    trained, _ = kit.train(batching=batching, num_train_epochs=20.0, lr_scheduler_type="constant", warmup_ratio=0.2)
    assert trained.history[-1]["loss"] < 0.3 < trained.history[0]["loss"]


def test_speed_and_memory_are_in_the_history_where_they_are_asked_for(kit: Kit) -> None:
    trained, _ = kit.train(num_train_epochs=1.0, include_tokens_per_second=True)
    (row,) = trained.history
    # Of all rows but the first batch's, in the same time.
    assert 3 < row["tokens_per_second"] / row["samples_per_second"] < 15
    assert row["peak_rss_mb"] > 100


@pytest.mark.parametrize("batching", ["bucketed", "padded"])
def test_training_reports(kit: Kit, batching: str) -> None:
    trained, _ = kit.train(batching=batching, num_train_epochs=4.0)
    assert [row["epoch"] for row in trained.history] == [1, 2, 3, 4]
    assert (trained.steps, trained.kept_epoch) == (24, 4)
    assert trained.history[-1]["learning_rate"] == 0
    # Halfway through a straight line from 1e-2 to 0.
    assert trained.history[1]["learning_rate"] == pytest.approx(5e-3)


@pytest.mark.parametrize(
    ("batching", "batch_size", "accumulated"),
    [("bucketed", 11, 4), ("bucketed", 16, 3), ("bucketed", 8, 50), ("padded", 16, 3)],
)
def test_batches_accumulated_are_one_large_batch(kit: Kit, batching: str, batch_size: int, accumulated: int) -> None:
    """All 44 rows in one step an epoch; 16 and 8 leave a partial batch, and 50 a window that the epoch cuts short."""
    kit.found.config.hidden_dropout_prob = kit.found.config.attention_probs_dropout_prob = 0.0
    settings = {"batching": batching, "num_train_epochs": 3.0, "warmup_steps": 1, "max_grad_norm": 0.1}
    settings |= {"optimizer": "adamw", "weight_decay": 0.1, "adam_epsilon": 1e-4}
    trained, model = kit.train(
        per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulated, **settings
    )
    at_once, other = kit.train(per_device_train_batch_size=ROWS, **settings)
    assert (trained.steps, at_once.steps) == (3, 3)
    assert (trained.batches, at_once.batches) == (3 * -(-ROWS // batch_size), 3)
    for one, two in zip(trained.history, at_once.history, strict=True):
        assert one["learning_rate"] == two["learning_rate"]
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_window_at_the_end_of_an_epoch_is_not_lost(kit: Kit) -> None:
    trained, _ = kit.train(gradient_accumulation_steps=4, num_train_epochs=2.0)  # 6 batches: 4 and 2
    assert (trained.steps, trained.batches) == (4, 12)
    assert trained.history[-1]["learning_rate"] == 0


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2}, {"strategy": "lora"}])
def test_the_step_is_traced_once_for_all_widths(kit: Kit, settings: dict[str, Any]) -> None:
    _, model = kit.train(num_train_epochs=1.0, **settings)
    assert model.train_function.experimental_get_tracing_count() == 1


def test_class_weights_are_those_of_the_recipe() -> None:
    labels = np.array([0, 1, 1, 1])

    def weights(class_weight: Any) -> Any:
        settings = TrainingSection(class_weight=class_weight)
        return training.make_loss(settings, SingleLabel(("no", "yes")), labels).class_weights

    assert weights(None) is None
    assert weights("balanced") == pytest.approx((2, 2 / 3))
    assert weights({"yes": 3, "no": 0.5}) == (0.5, 3)
    with pytest.raises(RecipeError, match=r"class_weight: maybe is no label; expected a weight for each of no, yes"):
        weights({"yes": 1.0, "no": 1.0, "maybe": 1.0})
    with pytest.raises(RecipeError, match=r"class_weight: nothing is said of no; expected"):
        weights({"yes": 1.0})


@pytest.mark.parametrize("batching", ["bucketed", "padded"])
def test_r_drop_without_dropout_is_plain_training(kit: Kit, batching: str) -> None:
    kit.found.config.hidden_dropout_prob = kit.found.config.attention_probs_dropout_prob = 0.0
    settings = {"batching": batching, "adam_epsilon": 1e-4}
    trained, model = kit.train(r_drop_alpha=1.0, **settings)
    plain, other = kit.train(**settings)
    assert (trained.steps, trained.batches) == (plain.steps, plain.batches)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_r_drop_counts_what_dropout_makes_of_a_row(kit: Kit) -> None:
    """With the same masks, all that differs is how much the divergence counts."""
    strong, weak = kit.train(r_drop_alpha=5.0)[0], kit.train(r_drop_alpha=1e-9)[0]
    assert strong.history[0]["loss"] > weak.history[0]["loss"]


def test_one_seed_gives_one_training(kit: Kit) -> None:
    first, one = kit.train()
    second, other = kit.train()
    assert first.history == second.history
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("mode", "values", "epoch"),
    [("max", (0.1, 0.8, 0.3), 2), ("min", (0.1, 0.8, 0.3), 1), ("max", (0.1, float("nan"), 0.3), 3)],
)
def test_best_weights_are_those_of_the_best_epoch(kit: Kit, mode: Any, values: tuple[float, ...], epoch: int) -> None:
    trained, model = kit.train(
        scores_in_turn("f1", *values),
        training.Best("val_f1", mode),
        num_train_epochs=3.0,
        load_best_model_at_end=True,
    )
    assert trained.kept_epoch == epoch
    kept = [weight.copy() for weight in model.get_weights()]
    found, _ = states.newest(kit.folder / STATES)
    assert found is not None
    last = [found.tensor(f"model/{index:04d}") for index in range(len(model.trainable_weights))]
    is_last = all(np.array_equal(a, b) for a, b in zip(model.trainable_weights, last, strict=True))
    assert is_last == (epoch == 3)
    save.restore(model, kit.folder / STATES / f"best-{epoch}")
    for a, b in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_best_adapters_are_those_of_the_best_epoch(kit: Kit) -> None:
    scores = scores_in_turn("f1", 0.8, 0.1)
    settings = {"strategy": "lora", "lora_r": 2, "load_best_model_at_end": True}
    trained, model = kit.train(scores, training.Best("val_f1", "max"), **settings)
    assert trained.kept_epoch == 1
    with lora.merged(model):
        kept = {path_of(weight.name): weight.numpy() for weight in model.weights}
    # The checkpoint is a plain model, which anyone can load, with the same weights.
    loaded = load.load_classifier(
        checkpoint.find(str(kit.folder / STATES / "best-1")), ["0", "1"], "TFAutoModelForSequenceClassification"
    )
    assert (loaded.new, loaded.unused) == ((), ())
    for weight in loaded.model.weights:
        np.testing.assert_allclose(weight, kept[path_of(weight.name)], atol=1e-7)


def test_last_weights_stay_where_the_best_were_not_asked_for(kit: Kit) -> None:
    trained, _ = kit.train(scores_in_turn("f1", 0.9, 0.1), training.Best("val_f1", "max"))
    assert trained.kept_epoch == 2


def test_early_stopping_counts_epochs_without_a_better_score(kit: Kit) -> None:
    trained, _ = kit.train(
        scores_in_turn("f1", 0.5, 0.6, 0.4, 0.5, 0.9),
        training.Best("val_f1", "max"),
        num_train_epochs=5.0,
        early_stopping_patience=2,
    )
    assert len(trained.history) == 4
    assert [row["val_f1"] for row in trained.history] == [0.5, 0.6, 0.4, 0.5]


BY_STEPS = {"eval_strategy": "steps", "eval_steps": 4, "best": training.Best("val_f1", "max")}


def test_evaluations_every_few_steps_choose_the_weights_to_keep(kit: Kit) -> None:
    trained, model = kit.train(
        scores_in_turn("f1", 0.1, 0.3, 0.9, 0.4, 0.5, 0.6),
        **BY_STEPS,
        num_train_epochs=3.0,
        load_best_model_at_end=True,
    )
    # Six steps an epoch; the twelfth is both a fourth and an epoch's last.
    at = [(row["epoch"], row["step"]) for row in trained.history]
    assert at == [(1, 4), (1, 6), (2, 8), (2, 12), (3, 16), (3, 18)]
    assert [row["val_f1"] for row in trained.history] == [0.1, 0.3, 0.9, 0.4, 0.5, 0.6]
    rates = [1e-2 * (1 - row["step"] / 18) for row in trained.history]
    assert [row["learning_rate"] for row in trained.history] == pytest.approx(rates)
    assert (trained.kept_epoch, trained.kept_step, trained.steps) == (2, 8, 18)
    kept = [weight.copy() for weight in model.get_weights()]
    save.restore(model, kit.folder / STATES / "best-3")
    for one, other in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_weights_kept_in_the_middle_of_an_epoch_are_those_of_their_step(kit: Kit) -> None:
    settings = {"num_train_epochs": 3.0, "lr_scheduler_type": "constant"}
    scores = scores_in_turn("f1", 0.1, 0.3, 0.9, 0.4, 0.5, 0.6)
    _, best = kit.train(scores, **BY_STEPS, **settings, load_best_model_at_end=True)
    _, ended = kit.train(max_steps=8, **settings)
    for one, other in zip(best.weights, ended.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_early_stopping_counts_evaluations_where_they_have_steps_of_their_own(kit: Kit) -> None:
    settings = {**BY_STEPS, "num_train_epochs": 5.0, "early_stopping_patience": 2}
    trained, _ = kit.train(scores_in_turn("f1", 0.5, 0.6, 0.4, 0.5), **settings)
    assert (trained.steps, [row["val_f1"] for row in trained.history]) == (12, [0.5, 0.6, 0.4, 0.5])
    within, _ = kit.train(scores_in_turn("f1", 0.5, 0.4, 0.3), **settings)
    assert (within.steps, [row["step"] for row in within.history]) == (8, [4, 6, 8])


@pytest.mark.parametrize(
    ("settings", "steps", "epochs"),
    [({"max_steps": 8}, 8, 2), ({"num_train_epochs": 1.5}, 9, 2), ({"num_train_epochs": 0.25}, 2, 1)],
)
def test_training_ends_in_the_middle_of_an_epoch(kit: Kit, settings: Any, steps: int, epochs: int) -> None:
    trained, _ = kit.train(**settings)
    assert (trained.steps, len(trained.history)) == (steps, epochs)
    assert trained.history[-1]["learning_rate"] == 0


def test_nan_in_the_second_epoch_keeps_the_weights_of_the_first(kit: Kit, tiny_checkpoint: Path) -> None:
    calls = []
    kept: list[keras.Model] = []

    def spoil() -> dict[str, float]:
        # Between two epochs something goes wrong with the weights.
        calls.append(1)
        kept[0].classifier.bias.assign([float("nan"), 0.0]) if len(calls) == 2 else None
        return {"f1": 0.5}

    original = keras.Model.fit

    def fit(self: keras.Model, *args: Any, **kwargs: Any) -> Any:
        kept.append(self)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit)
        with pytest.raises(
            RunError, match=r"became nan in epoch 3 at step 1.*The newest saved state is .*step-00000012"
        ):
            kit.train(spoil, training.Best("val_f1", "max"), num_train_epochs=3.0)
    assert (kit.folder / STATES / "best-1" / "model.safetensors").is_file()


def test_infinite_rate_is_named_in_the_first_epoch(kit: Kit) -> None:
    with pytest.raises(
        RunError, match=r"in epoch 1 at step \d+.*training\.learning_rate.*No state of the training was saved"
    ):
        kit.train(learning_rate=1e38, max_grad_norm=None)


def test_weights_that_an_epochs_last_step_spoilt_are_not_kept(kit: Kit) -> None:
    """The loss of that step was still a number: only the validation loss shows it."""
    losses = iter([0.5, float("nan")])
    with pytest.raises(
        RunError, match=r"validation loss became nan after .* epoch 2;.*The newest saved state is .*step-00000006"
    ):
        kit.train(lambda: {"loss": next(losses)}, training.Best("val_loss", "min"), num_train_epochs=3.0)
    kept = json.loads((kit.folder / STATES / "best-1" / "config.json").read_text())
    assert kept["id2label"] == {"0": "0", "1": "1"}


# --- going on where a training stopped --------------------------------------------------------------------------------


class Killed(BaseException):
    """What ends a process; nothing catches it."""


def broken_off(kit: Kit, monkeypatch: pytest.MonkeyPatch, at_state: int, **settings: Any) -> None:
    """A training that is killed when it is about to write its state of that number, from 0."""
    written = 0
    write = states.write

    def write_or_die(*args: Any) -> Path:
        nonlocal written
        written += 1
        if written > at_state:
            raise Killed
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(states, "write", write_or_die)
        with pytest.raises(Killed):
            kit.train(**settings)


def assert_equal(one: tuple[course.Trained, keras.Model], other: tuple[course.Trained, keras.Model]) -> None:
    """The same weights to the last bit, and the same of all that is reported but for time."""
    (trained, model), (again, twin) = one, other
    assert trained.history == again.history
    for name in ("steps", "batches", "kept_epoch", "kept_step", "parameters"):
        assert getattr(trained, name) == getattr(again, name)
    for a, b in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.name)


STAGES = [{"unfreeze": "head", "num_train_epochs": 2}, {"unfreeze": "all", "learning_rate": 1e-3}]


@pytest.mark.parametrize(
    ("settings", "at_states"),
    [
        ({"num_train_epochs": 3.0}, (2,)),
        ({"strategy": "gradual_unfreezing", "stages": STAGES, "ema_momentum": 0.9}, (4,)),
        pytest.param({"num_train_epochs": 3.0}, (1, 5), marks=pytest.mark.slow),
        pytest.param(
            {"num_train_epochs": 2.5, "batching": "padded", "optimizer": "adam", "lr_scheduler_type": "cosine"},
            (3,),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"gradient_accumulation_steps": 2, "warmup_steps": 2, "per_device_train_batch_size": 4, "save_steps": 3},
            (1, 3),
            marks=pytest.mark.slow,
        ),
        pytest.param({"strategy": "lora", "lora_dropout": 0.2}, (1,), marks=pytest.mark.slow),
        pytest.param({"ema_momentum": 0.9, "r_drop_alpha": 1.0}, (3,), marks=pytest.mark.slow),
        pytest.param({"fgm_epsilon": 0.5, "steps_per_execution": 2}, (1,), marks=pytest.mark.slow),
        pytest.param(
            {"strategy": "gradual_unfreezing", "stages": STAGES, "ema_momentum": 0.9}, (2, 5), marks=pytest.mark.slow
        ),
    ],
    ids=["plain", "stages", "early and late", "padded", "accumulated", "lora", "averages", "adversarial", "all stages"],
)
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], at_states: tuple[int, ...]
) -> None:
    settings = {"save_steps": 4, **settings}
    whole = kit.train(**settings)
    for at_state in at_states:
        broken_off(kit, monkeypatch, at_state, **settings)
        found, _ = states.newest(kit.folder / STATES)
        assert found is not None
        assert_equal(kit.train(resume=True, **settings), whole)


@pytest.mark.slow
def test_what_is_known_of_the_best_epoch_and_of_patience_outlives_a_kill(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [0.3, 0.8, 0.5, 0.6, 0.9]
    best = training.Best("val_f1", "max")
    settings = {"num_train_epochs": 5.0, "early_stopping_patience": 2, "load_best_model_at_end": True, "best": best}
    whole = kit.train(score=scores_in_turn("f1", *values), **settings)
    assert (whole[0].kept_epoch, len(whole[0].history)) == (2, 4)
    # The state of the third epoch is not written, so that epoch is trained once more.
    broken_off(kit, monkeypatch, 2, score=scores_in_turn("f1", *values), **settings)
    assert_equal(kit.train(score=scores_in_turn("f1", *values[2:]), resume=True, **settings), whole)


@pytest.mark.slow
@pytest.mark.parametrize(("at_state", "evaluated"), [(1, 1), (3, 3), (4, 4)])
def test_evaluations_every_few_steps_outlive_a_kill(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, at_state: int, evaluated: int
) -> None:
    """States after steps 5, 6, 11, 12, 17, 18; evaluations after 4, 6, 8, 12, 16, 18."""
    values = [0.3, 0.8, 0.9, 0.6, 0.7, 0.5, 0.4]
    settings = {**BY_STEPS, "num_train_epochs": 5.0, "early_stopping_patience": 3, "load_best_model_at_end": True}
    settings |= {"save_steps": 5, "ema_momentum": 0.5}
    whole = kit.train(score=scores_in_turn("f1", *values), **settings)
    assert (whole[0].kept_step, [row["step"] for row in whole[0].history]) == (8, [4, 6, 8, 12, 16, 18])
    broken_off(kit, monkeypatch, at_state, score=scores_in_turn("f1", *values), **settings)
    found, _ = states.newest(kit.folder / STATES)
    assert found is not None and found.facts["batch"] == (5 if at_state % 2 else 0)
    assert_equal(kit.train(score=scores_in_turn("f1", *values[evaluated:]), resume=True, **settings), whole)


@pytest.mark.slow
def test_a_worse_best_written_after_the_last_state_is_not_taken_for_it(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"num_train_epochs": 3.0, "load_best_model_at_end": True, "best": training.Best("val_f1", "max")}
    whole = kit.train(score=scores_in_turn("f1", 0.5, 0.4, 0.3), **settings)
    # The second epoch was best, its weights are on disk, and its state is not; this time it is worse than the first.
    broken_off(kit, monkeypatch, 1, score=scores_in_turn("f1", 0.5, 0.9), **settings)
    assert (kit.folder / STATES / "best-2").is_dir()
    assert_equal(kit.train(score=scores_in_turn("f1", 0.4, 0.3), resume=True, **settings), whole)


def test_a_time_budget_counts_the_processes_before(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    now = 0.0

    def clock() -> float:
        # With every look at it more than a minute passes.
        nonlocal now
        now += 100.0
        return now

    monkeypatch.setattr(course, "time", types.SimpleNamespace(perf_counter=clock))
    trained, _ = kit.train(num_train_epochs=50.0, max_hours=1.0)
    assert 1 <= len(trained.history) < 20 and trained.seconds > 3600
    again, _ = kit.train(num_train_epochs=50.0, max_hours=1.0, resume=True)
    assert again.history == trained.history


def test_a_training_that_was_over_is_not_begun_again(kit: Kit) -> None:
    whole = kit.train(ema_momentum=0.5)
    assert_equal(kit.train(ema_momentum=0.5, resume=True), whole)


@pytest.mark.slow
def test_the_state_before_a_damaged_one_is_used(kit: Kit) -> None:
    whole = kit.train(num_train_epochs=3.0)
    *_, last = states.folders(kit.folder / STATES)
    tensors = last / states.TENSORS
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    found, damaged = states.newest(kit.folder / STATES)
    assert found is not None and found.folder.name == "step-00000012"
    assert damaged == [f"{last} is damaged (tensors.safetensors is not what was written)"]
    assert_equal(kit.train(num_train_epochs=3.0, resume=True), whole)


@pytest.mark.slow
def test_a_damaged_state_is_not_asked_for_its_best_epoch(kit: Kit) -> None:
    settings = {"num_train_epochs": 3.0, "load_best_model_at_end": True, "best": training.Best("val_f1", "max")}
    whole = kit.train(score=scores_in_turn("f1", 0.1, 0.2, 0.3), **settings)
    *_, last = states.folders(kit.folder / STATES)
    (last / states.FACTS).write_text("{")
    assert_equal(kit.train(score=scores_in_turn("f1", 0.3), resume=True, **settings), whole)


def test_the_state_of_another_model_is_refused(kit: Kit) -> None:
    kit.train()
    with pytest.raises(RunError, match=r"state of another model or optimizer: its model/0000 has the shape .*lora_a"):
        kit.train(strategy="lora", resume=True)
    with pytest.raises(RunError, match=r"state of another model or optimizer: it has no optimizer/.*batches"):
        kit.train(gradient_accumulation_steps=2, resume=True)


# --- a loss that is no number -----------------------------------------------------------------------------------------


def test_rolling_back_goes_on_from_the_last_state_at_half_the_rate(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def too_fast(self: callbacks.StopOnNaN, batch: int, logs: Any = None) -> None:
        rate = current_rate(self.model.optimizer)
        rates.append(rate)
        if batch == 4 and rate > 3e-3:
            raise NotFinite(
                f"the loss became nan in epoch {self._epoch + 1} at step {batch + 1}", self._epoch + 1, batch + 1
            )

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", too_fast)
    trained, model = kit.train(on_nan="rollback", save_steps=2, lr_scheduler_type="constant")
    # To step 5, and from step 4 on twice more, at 1, 1/2 and 1/4 of the rate.
    assert rates == pytest.approx([1e-2] * 5 + [5e-3] + [2.5e-3] * 8)
    assert (trained.steps, [row["epoch"] for row in trained.history]) == (12, [1, 2])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    report = json.loads((kit.folder / "nan_report.json").read_text())
    assert (report["epoch"], report["step"]) == (1, 5)


def test_a_rollback_goes_to_before_the_loss_began_to_rise(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = callbacks.StopOnNaN.on_train_batch_end
    steps: list[int] = []
    on_disk: list[str] = []
    sums = 0.0

    def rising(self: callbacks.StopOnNaN, batch: int, logs: Any = None) -> None:
        """As if the loss fell, and at the full rate rose from step 20 on."""
        nonlocal sums
        step = int(self.model.optimizer.iterations.numpy())
        if steps and step < steps[-1]:
            on_disk.extend(one.name for one in states.folders(kit.folder / STATES))
        steps.append(step)
        rises = step > 20 and current_rate(self.model.optimizer) > 8e-3
        sums = (sums if self._seen else 0.0) + (1.5 ** (step - 20) if rises else 2 - step / 20)
        judge(self, batch, {"loss": sums / (batch + 1)})

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", rising)
    settings = {"num_train_epochs": 6.0, "lr_scheduler_type": "constant", "save_steps": 2}
    trained, _ = kit.train(on_nan="rollback", loss_explosion_factor=5.0, **settings)
    # Seen after 28 steps, when 24 and 26 were the newest states. The ten batches after step 10 had the lowest loss.
    assert steps == [*range(1, 29), *range(9, 37)]
    assert on_disk == ["step-00000008"]
    assert (trained.steps, [row["epoch"] for row in trained.history]) == (36, [1, 2, 3, 4, 5, 6])


@pytest.mark.slow
def test_an_exploded_loss_is_reported_with_its_batch(kit: Kit) -> None:
    """The rate rises until the loss does."""
    settings = {"learning_rate": 10.0, "warmup_steps": 30, "num_train_epochs": 5.0, "max_grad_norm": None}
    with pytest.raises(RunError, match=r"the loss exploded in epoch \d at step \d: .* The newest saved state is"):
        kit.train(**settings, loss_explosion_factor=2.0)
    report = json.loads((kit.folder / "nan_report.json").read_text())
    assert report["gradient_norms"]
    assert report["rows"]
    assert report["first_layer"] is None


@pytest.mark.slow
def test_a_rollback_is_known_to_the_states_after_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def once(self: callbacks.StopOnNaN, batch: int, logs: Any = None) -> None:
        seen.append(batch)
        if len(seen) == 3:
            raise NotFinite("the loss became nan in epoch 1 at step 3", 1, 3)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopOnNaN, "on_train_batch_end", once)
        whole = kit.train(on_nan="rollback")
        seen.clear()
        broken_off(kit, monkeypatch, 2, on_nan="rollback")
    assert_equal(kit.train(on_nan="rollback", resume=True), whole)


@pytest.mark.parametrize("on_nan", ["stop", pytest.param("rollback", marks=pytest.mark.slow)])
def test_what_happened_is_reported(kit: Kit, capsys: pytest.CaptureFixture[str], on_nan: str) -> None:
    with pytest.raises(RunError, match=r"the loss became nan in epoch 1 at step"):
        kit.train(learning_rate=1e38, max_grad_norm=None, on_nan=on_nan)
    report = json.loads((kit.folder / "nan_report.json").read_text())
    assert report["epoch"] == 1
    assert len(report["rows"]) == 8 and all(row.startswith(("good movie", "bad day")) for row in report["rows"])
    # Only where a state was saved before the first step can be seen what happened in it.
    assert ("gradient_norms" in report) == (on_nan == "rollback")
    if on_nan == "rollback":
        assert set(report["gradient_norms"]) == {"embeddings", "layer.0", "layer.1", "pooler", "head"}
        assert report["first_layer"] in ("embeddings", "layer.0", "layer.1", "head")


def test_the_step_that_spoils_is_found_and_looked_into(kit: Kit) -> None:
    found = load.load_classifier(kit.found, ["0", "1"], "TFAutoModelForSequenceClassification")
    model = found.model
    model.compile(
        keras.optimizers.SGD(1e-2), training.make_loss(TrainingSection(), SingleLabel(("0", "1")), np.ones(2))
    )
    dataset = training.make_batches(
        kit.split, DataSection(text_columns=("text",)), plan.make(
            DataSection(text_columns=("text",)), TrainingSection(), kit.split.encoded, 32
        ), kit.tokenizer, 3, False
    )  # fmt: skip
    batches = list(dataset.take(4))
    inputs, labels, weights = batches[2]
    batches[2] = inputs, labels, weights * np.float32("inf")
    seen = nonfinite.replay(model, iter(batches), 4)
    assert (seen["batches_before"], seen["loss"], seen["spoilt_weights"]) == (2, float("inf"), [])
    assert seen["first_layer"] is None and not any(map(math.isfinite, seen["gradient_norms"].values()))
    # One that is spoilt before it comes to the batch.
    model.bert.encoder.layer[1].bert_output.dense.bias.assign([np.nan] * model.config.hidden_size)
    seen = nonfinite.look_into(model, batches[0])
    assert (seen["first_layer"], seen["spoilt_weights"]) == ("layer.1", ["layer.1"])
    assert not seen["is_finite"]
    lines = nonfinite.told(nonfinite.without_nan({"step": 3, "epoch": 1, "rows": ["a", "b", "c"], **seen}))
    assert lines[0] == "step 3 of epoch 1 had these rows: a; b"
    assert "weights that were no numbers before it: layer.1" in lines


# --- what is reported -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "columns"),
    [
        (None, ["epoch", "loss", "learning_rate"]),
        (lambda: {"loss": 0.5, "f1": 0.25}, ["epoch", "loss", "val_loss", "val_f1", "learning_rate"]),
    ],
    ids=["without validation", "with validation"],
)
def test_history_has_its_columns_in_every_row(kit: Kit, score: Any, columns: list[str]) -> None:
    trained, _ = kit.train(score)
    assert [list(row) for row in trained.history] == [columns] * 2
    assert all(type(row[name]) is float for row in trained.history for name in columns[1:])
