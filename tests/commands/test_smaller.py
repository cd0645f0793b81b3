"""Runs of models that lose layers, or weights as they are trained, as a user types them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job, killed_at_state
from tests.commands.test_resume import assert_the_same
from tfft.backend import keras
from tfft.errors import ModelError
from tfft.models.parts import part_of

# Of 41 rows in batches of 8: 6 batches an epoch, 3 steps.
PRUNED = {"pruning_sparsity": 0.5, "pruning_frequency": 2, "num_train_epochs": 4}
ALL_OF_IT = {
    **PRUNED,
    "gradient_accumulation_steps": 2,
    "ema_momentum": 0.5,
    "weight_decay": 0.1,
    "save_steps": 2,
    "load_best_model_at_end": True,
    "early_stopping_patience": 9,
}
# Of a layer: query, key, value, what follows attention, and the two of the feed-forward.
KERNELS = 6


def kernels(model: keras.Model) -> list[np.ndarray]:
    """All matrices inside the layers."""
    inside = [one for one in model.weights if one.shape.rank == 2 and part_of(one.name).startswith("layer.")]
    return [one.numpy() for one in inside]


def assert_half_is_zero(model: keras.Model) -> None:
    for one in kernels(model):
        assert np.count_nonzero(one == 0) == one.size // 2
    others = [one for one in model.weights if not part_of(one.name).startswith("layer.") and "bias" not in one.name]
    assert all(np.count_nonzero(one.numpy()) > 0.9 * one.shape.num_elements() for one in others if "kernel" in one.name)


def test_a_run_with_fewer_layers_and_weights_is_a_run_like_any_other(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, fewer = job.arguments()[1], {"keep_layers": 1, "drop_layers": "bottom"}
    result = tfft.fit(recipe, model=fewer, training={**PRUNED, "num_train_epochs": 1})
    said = capsys.readouterr().out
    assert "layers: 1 of 2 are kept, counted from 0: 1" in said
    assert "accelerated: 1 layers" in said
    assert f"pruning: 50.0% of each of {KERNELS} kernels" in said
    assert json.loads((job.run / "model" / "config.json").read_text())["num_hidden_layers"] == 1
    loaded = tfft.load(job.run).model
    for ours, theirs in zip(result.model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert_half_is_zero(loaded)
    zeros = sum(one.size // 2 for one in kernels(loaded))
    assert json.loads((job.run / "metrics.json").read_text())["train"]["pruning"] == {
        "matrices": KERNELS,
        "sparsity": 0.5,
        "sparsity_of_all_parameters": zeros / sum(one.shape.num_elements() for one in loaded.weights),
    }
    assert [row["sparsity"] for row in result.history] == [0.5]

    with pytest.raises(ModelError, match=r"keep_layers: got 0; expected a number of layers from 1 to 2"):
        tfft.fit(recipe, model={"keep_layers": 0}, overwrite=True)
    assert (job.run / "metrics.json").is_file()  # nothing was lost by it


@pytest.mark.slow
@pytest.mark.parametrize(
    "training",
    [
        {"strategy": "lora"},
        {"strategy": "bitfit", "layerwise_lr_decay": 0.5},
        {"strategy": "feature_extraction"},
        {"strategy": "gradual_unfreezing", "stages": [{"unfreeze": "head"}, {"unfreeze": 1}], "num_train_epochs": 2.0},
    ],
    ids=lambda training: training["strategy"],
)
def test_fewer_layers_are_trained_in_any_way(job: Job, training: dict[str, Any]) -> None:
    result = tfft.fit(job.arguments()[1], model={"keep_layers": 1}, training=training, verbose=False)
    loaded = tfft.load(job.run).model
    assert loaded.config.num_hidden_layers == 1
    assert sum(one.shape.num_elements() for one in loaded.weights) < 7442  # what it has with two
    assert result.scores["eval"]


@pytest.mark.slow
def test_a_training_that_ends_too_early_says_so(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**PRUNED, "pruning_end": 1.0, "stop_after_epochs": 1, "load_best_model_at_end": True}
    result = tfft.fit(job.arguments()[1], training=settings)
    said = capsys.readouterr().out
    reached = result.history[0]["sparsity"]
    assert 0 < reached < 0.5
    assert f"pruning: training ended before step 24, so {reached:.1%} is zero of what was to be pruned to 50.0%" in said


@pytest.mark.slow
def test_the_best_epoch_is_one_in_which_all_is_pruned(job: Job) -> None:
    # The first epoch's accuracy is kept for the best unless it does not count, since the rate is next to nothing.
    for by_steps in ({}, {"eval_strategy": "steps", "eval_steps": 2}):
        settings = {**ALL_OF_IT, "learning_rate": 1e-9, "metric_for_best_model": "accuracy", **by_steps}
        result = tfft.fit(job.arguments()[1], training=settings, overwrite=True, verbose=False)
        train: dict[str, Any] = json.loads((job.run / "metrics.json").read_text())["train"]
        assert train["pruning"]["sparsity"] == 0.5
        # Pruning is done with the sixth step of twelve, the second epoch's last.
        assert train["kept_epoch"] == 2
        assert train.get("kept_step") == (6 if by_steps else None)
        assert_half_is_zero(result.model)


@pytest.mark.slow
@pytest.mark.usefixtures("determinism")
@pytest.mark.parametrize("at", [2, 4, 7])
def test_resumed_is_uninterrupted(job: Job, at: int) -> None:
    given: dict[str, Any] = {
        "model": {"keep_layers": [1]},
        "training": ALL_OF_IT,
        "runtime": {"deterministic": True},
        "verbose": False,
    }
    recipe, whole = job.arguments()[1], job.folder / "whole"
    tfft.fit(recipe, output_dir=str(whole), **given)
    with killed_at_state(at):
        tfft.fit(recipe, **given)
    assert_half_is_zero(tfft.fit(recipe, resume=True, **given).model)
    assert_the_same(job.run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [{"mixed_precision": "fp16"}, {"xla": True}, {"steps_per_execution": 3}])
def test_however_steps_are_taken(job: Job, runtime: dict[str, Any]) -> None:
    training = {**PRUNED, "num_train_epochs": 2, "learning_rate": 1e-2}
    assert_half_is_zero(tfft.fit(job.arguments()[1], training=training, runtime=runtime, verbose=False).model)
