"""Gradual unfreezing: what each stage trains, its schedule, and what the optimizer knows from the stages before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests import families
from tests.commands.conftest import Job, rows_of, write_csv
from tfft import optimizers, plan, recipe
from tfft.backend import keras, tf
from tfft.data import Encoded
from tfft.errors import ModelError, RecipeError
from tfft.models import freeze
from tfft.models.parts import part_of, path_of
from tfft.recipe import StageSection, TrainingSection


def parts_trained(model: keras.Model) -> set[str]:
    return {part_of(weight.name) for weight in model.trainable_weights}


@pytest.mark.parametrize(
    ("unfreeze", "expected"),
    [
        ("head", {"head"}),
        (1, {"head", "pooler", "layer.1"}),
        (2, {"head", "pooler", "layer.1", "layer.0"}),
        ("all", {"head", "pooler", "layer.1", "layer.0", "embeddings"}),
        (("head", "layer.*"), {"head", "layer.0", "layer.1"}),
        (("embeddings",), {"embeddings"}),
    ],
)
def test_what_a_stage_trains(unfreeze: Any, expected: set[str]) -> None:
    model = families.make("bert")
    freeze.train_exactly(model, freeze.trained_names(model, unfreeze))
    assert parts_trained(model) == expected


def test_stages_follow_one_another_in_any_order() -> None:
    model = families.make("bert")
    names = {unfreeze: freeze.trained_names(model, unfreeze) for unfreeze in ("head", 1, "all")}
    before = {weight.name for weight in model.trainable_weights}
    for unfreeze in ("head", 1, "all", "head", "all"):
        freeze.train_exactly(model, names[unfreeze])
        assert {weight.name for weight in model.trainable_weights} == names[unfreeze]
    assert names["all"] == before
    assert len(model.weights) == len(before)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_has_a_head_and_layers_to_unfreeze(family: str) -> None:
    model = families.make(family)
    sizes = [len(freeze.trained_names(model, unfreeze)) for unfreeze in ("head", 1, "all")]
    assert 0 < sizes[0] < sizes[1] <= sizes[2] == len(model.trainable_weights)


@pytest.mark.parametrize(
    ("unfreeze", "words"),
    [
        (3, "unfreeze is 3, and this model has 2 layers to unfreeze"),
        (
            ("head", "layer.7"),
            "'layer.7' is no part of this model; expected some of embeddings, layer.0, layer.1, pooler",
        ),
    ],
)
def test_stages_that_the_model_does_not_have(unfreeze: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        freeze.trained_names(families.make("bert"), unfreeze)


# --- the optimizer ----------------------------------------------------------------------------------------------------


def updates(optimizer: Any, variable: tf.Variable, gradients: np.ndarray, others: list[Any] = []) -> np.ndarray:  # noqa: B006
    """How each gradient moves the variable."""
    moves = []
    for gradient in gradients:
        before = variable.numpy()
        optimizer.apply_gradients([(tf.constant(gradient), variable), *others])
        moves.append(variable.numpy() - before)
    return np.array(moves)


def schedule(total: int, peak: float = 0.1) -> optimizers.Schedule:
    return optimizers.linear_decay(peak, total)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_variable_that_is_unfrozen_late_begins_afresh_and_the_others_go_on(kind: str) -> None:
    gradients = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    old, new, alone, same = (tf.Variable(tf.zeros(3), name=name) for name in ("old", "new", "alone", "same"))
    staged = optimizers.make(kind, schedule(4))
    staged.build([old, new])
    optimizers.begin_stage(staged, schedule(4), [old])
    updates(staged, old, gradients[:4])
    optimizers.begin_stage(staged, schedule(4, peak=0.3), [old, new])
    # The same gradient for both; what the optimizer knows of `old` makes the difference.
    moved_new = []
    for gradient in gradients[4:]:
        before = new.numpy()
        staged.apply_gradients([(tf.constant(gradient), old), (tf.constant(gradient), new)])
        moved_new.append(new.numpy() - before)

    fresh = optimizers.make(kind, schedule(4, peak=0.3))
    np.testing.assert_allclose(moved_new, updates(fresh, alone, gradients[4:]), rtol=1e-5)
    unbroken = optimizers.make(kind, schedule(4))
    updates(unbroken, same, gradients[:4])
    unbroken.learning_rate = schedule(4, peak=0.3).starting_at(4)
    updates(unbroken, same, gradients[4:])
    np.testing.assert_allclose(old.numpy(), same.numpy(), rtol=1e-5)
    assert int(staged.iterations) == 8


def test_a_schedule_begun_later_is_the_same_schedule() -> None:
    rate = optimizers.linear_decay(1.0, total_steps=10, warmup_steps=2)
    later = rate.starting_at(100)
    assert [float(later(100 + step)) for step in range(11)] == [float(rate(step)) for step in range(11)]


# --- the plan and the recipe ------------------------------------------------------------------------------------------


def stages(*given: dict[str, Any], **training: Any) -> TrainingSection:
    made = tuple(StageSection(**one) for one in given)
    return TrainingSection(strategy="gradual_unfreezing", stages=made, per_device_train_batch_size=4, **training)


def test_stages_take_from_the_section_what_they_do_not_say() -> None:
    training = stages(
        {"unfreeze": "head", "learning_rate": 1e-3, "warmup_steps": 1},
        {"unfreeze": "all", "num_train_epochs": 2, "lr_scheduler_type": "constant"},
        warmup_ratio=0.5,
        learning_rate=1e-5,
    )
    data = recipe.DataSection(text_columns=("text",))
    made = plan.make(data, training, Encoded(np.zeros(80, np.int32), None, np.arange(0, 88, 8), np.zeros(10)), 32)
    assert [(one.epochs, one.total_steps, one.warmup_steps) for one in made.stages] == [(1, 3, 1), (2, 6, 3)]
    assert [one.settings.learning_rate for one in made.stages] == [1e-3, 1e-5]
    assert [one.settings.lr_scheduler_type for one in made.stages] == ["polynomial", "constant"]
    assert (made.epochs, made.total_steps, made.total_batches) == (3, 9, 9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stages": None}, "training.stages: missing; expected a list of stages"),
        (
            {"stages": [{"unfreeze": "head"}, {"unfreeze": "head"}]},
            "every stage trains 'head', so nothing is ever unfr",
        ),
        ({"max_steps": 9}, "training.max_steps: got 9; expected null, since every stage says its own num_train_epochs"),
        ({"num_train_epochs": 7}, "training.num_train_epochs: got 7.0; expected 2, what the stages take together"),
        ({"strategy": "lora"}, "training.stages: got .*expected null, since training.strategy is lora"),
        (
            {"stages": [{"unfreeze": "head", "warmup_steps": 3, "warmup_ratio": 0.1}, {"unfreeze": "all"}]},
            r"training.stages\[0\].warmup_steps: expected null, since warmup_ratio is given",
        ),
        ({"stages": [{"unfreeze": 0}]}, r"stages\[0\].unfreeze: got 0; expected one of head, all or a whole number of"),
        ({"stages": [{"learning_rate": 1e-3}]}, r"stages\[0\].unfreeze: missing; expected one of head, all or"),
        (
            {"stages": [{"unfreeze": "all", "lr": 1e-3}]},
            r"stages\[0\].lr: no such key, got 0.001; expected one of unfr",
        ),
        ({"stages": [{"unfreeze": "all", "learning_rat": 1e-3}]}, "no such key.*did you mean learning_rate?"),
        (
            {"stages": [{"unfreeze": "all", "learning_rate": 0}]},
            r"stages\[0\].learning_rate: got 0; expected a number abo",
        ),
        ({"stages": "head"}, "training.stages: got 'head'; expected a list of sections"),
    ],
)
def test_stages_that_contradict(job: Job, given: dict[str, Any], words: str) -> None:
    usual = {"strategy": "gradual_unfreezing", "stages": [{"unfreeze": "head"}, {"unfreeze": "all"}]}
    base = {"extends": job.arguments()[1], "training": {"num_train_epochs": 2, **usual, **given}}
    with pytest.raises(RecipeError, match=words):
        recipe.from_mapping(base)


def test_stages_survive_being_written_and_read(job: Job, tmp_path: Path) -> None:
    training = {"strategy": "gradual_unfreezing", "stages": [{"unfreeze": "head"}, {"unfreeze": ["head", "layer.*"]}]}
    made = recipe.from_mapping({"extends": job.arguments()[1], "training": training})
    (tmp_path / "again.yaml").write_text(made.to_yaml())
    assert recipe.load(tmp_path / "again.yaml") == made


# --- whole trainings --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stages_train_what_they_say_and_the_best_epoch_is_found_over_all(tmp_path: Path, job: Job) -> None:
    write_csv(job.folder / "train.csv", rows_of(24))
    result = tfft.fit(
        job.arguments()[1],
        output_dir=tmp_path / "run",
        training={
            "strategy": "gradual_unfreezing",
            "stages": [
                {"unfreeze": "head", "learning_rate": 1e-2, "num_train_epochs": 5, "lr_scheduler_type": "constant"},
                {"unfreeze": 1, "learning_rate": 5e-3},
                {"unfreeze": "all", "learning_rate": 1e-3},
            ],
            "num_train_epochs": 7,
            # No epoch is better than the first by as much as this asks for, so the first stage ends after its second.
            "early_stopping_patience": 1,
            "metric_for_best_model": "accuracy",
            "load_best_model_at_end": True,
        },
        verbose=False,
    )
    epochs = [row["epoch"] for row in result.history]
    assert epochs == list(range(1, len(epochs) + 1))
    assert 4 <= len(epochs) < 7  # a stage without a better epoch ended early, and the next ones came
    best = max(row["val_accuracy"] for row in result.history)
    assert result.scores["eval"]["accuracy"] == best
    assert parts_trained(result.model) == {"head", "pooler", "layer.0", "layer.1", "embeddings"}


@pytest.mark.slow
def test_what_is_frozen_does_not_move(tmp_path: Path, job: Job) -> None:
    def weights(*given: dict[str, Any]) -> dict[str, np.ndarray]:
        result = tfft.fit(
            job.arguments()[1],
            output_dir=tmp_path / str(len(given)),
            training={"strategy": "gradual_unfreezing", "stages": list(given), "num_train_epochs": float(len(given))},
            verbose=False,
        )
        return {path_of(weight.name): weight.numpy() for weight in result.model.weights}

    head = {"unfreeze": ["head"], "learning_rate": 1e-2}
    one = weights(head, {"unfreeze": ["pooler"], "learning_rate": 1e-2})
    two = weights(
        head, {"unfreeze": ["pooler"], "learning_rate": 1e-2}, {"unfreeze": ["layer.1"], "learning_rate": 1e-2}
    )
    moved = {part_of(name) for name, value in one.items() if not np.array_equal(value, two[name])}
    assert moved == {"layer.1"}
