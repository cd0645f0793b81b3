"""Runs of models that lose layers, or weights as they are trained, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job
from tests.commands.test_resume import assert_the_same
from tfft import states
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
# Of the tiny model: in each of two layers four matrices of 16 x 16, and one to the inner layer and one back.
KERNELS = 12


def kernels(model: keras.Model) -> list[np.ndarray]:
    """All matrices inside the layers."""
    inside = [one for one in model.weights if one.shape.rank == 2 and part_of(one.name).startswith("layer.")]
    return [one.numpy() for one in inside]


def assert_half_is_zero(model: keras.Model) -> None:
    for one in kernels(model):
        assert np.count_nonzero(one == 0) == one.size // 2
    others = [one for one in model.weights if not part_of(one.name).startswith("layer.") and "bias" not in one.name]
    assert all(np.count_nonzero(one.numpy()) > 0.9 * one.shape.num_elements() for one in others if "kernel" in one.name)


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_run_with_one_layer_is_a_run_like_any_other(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = job.arguments()[1]
    result = tfft.fit(recipe, model={"keep_layers": 1, "drop_layers": "bottom"}, training={"max_steps": 2})
    said = capsys.readouterr().out
    assert "layers: 1 of 2 are kept, counted from 0: 1" in said
    assert "accelerated: 1 layers" in said
    assert json.loads((job.run / "model" / "config.json").read_text())["num_hidden_layers"] == 1
    predictor = tfft.load(job.run)
    assert predictor.model.config.num_hidden_layers == 1
    texts = ["the movie was good", "it was bad"]
    np.testing.assert_allclose(
        predictor.predict_proba(texts) if hasattr(predictor, "predict_proba") else [0.0],
        result.predictor.predict_proba(texts) if hasattr(predictor, "predict_proba") else [0.0],
    )
    assert predictor.predict(texts) == result.predict(texts)
    with pytest.raises(ModelError, match=r"keep_layers: got 0; expected a number of layers from 1 to 2"):
        tfft.fit(recipe, model={"keep_layers": 0}, overwrite=True)
    assert (job.run / "metrics.json").is_file()  # nothing was lost by it


def test_what_is_pruned_is_in_the_report_and_in_what_is_saved(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    result = tfft.fit(job.arguments()[1], training={**PRUNED, "num_train_epochs": 1})
    assert f"pruning: 50.0% of each of {KERNELS} kernels" in capsys.readouterr().out
    assert_half_is_zero(result.model)
    assert_half_is_zero(tfft.load(job.run).model)
    zeros = sum(one.size // 2 for one in kernels(result.model))
    assert json.loads((job.run / "metrics.json").read_text())["train"]["pruning"] == {
        "matrices": KERNELS,
        "sparsity": 0.5,
        "sparsity_of_all_parameters": zeros / sum(one.shape.num_elements() for one in result.model.weights),
    }
    assert [row["sparsity"] for row in result.history] == [0.5]


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
@pytest.mark.parametrize("at", [2, 4, 7])
def test_resumed_is_uninterrupted(job: Job, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    written: list[int] = []
    write = states.write

    def write_or_die(*args: Any) -> Path:
        written.append(1)
        if len(written) == at:
            raise Killed
        return write(*args)

    given: dict[str, Any] = {
        "model": {"keep_layers": [1]},
        "training": ALL_OF_IT,
        "runtime": {"deterministic": True},
        "verbose": False,
    }
    recipe, whole = job.arguments()[1], job.folder / "whole"
    tfft.fit(recipe, output_dir=str(whole), **given)
    with monkeypatch.context() as patch:
        patch.setattr(states, "write", write_or_die)
        with pytest.raises(Killed):
            tfft.fit(recipe, **given)
    assert_half_is_zero(tfft.fit(recipe, resume=True, **given).model)
    assert_the_same(job.run, whole)


@pytest.mark.slow
def test_float16_and_xla_and_several_batches_in_one_call(job: Job) -> None:
    for runtime in (
        {"mixed_precision": "bf16"},
        {"mixed_precision": "fp16"},
        {"xla": True},
        {"steps_per_execution": 3},
    ):
        training = {**PRUNED, "num_train_epochs": 2, "learning_rate": 1e-2}
        result = tfft.fit(job.arguments()[1], training=training, runtime=runtime, overwrite=True, verbose=False)
        assert_half_is_zero(result.model)
