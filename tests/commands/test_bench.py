"""`python -m tfft.bench` as a user types it, on a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Job
from tfft import bench
from tfft import recipe as recipes
from tfft.console import Voice
from tfft.errors import RunError


def typed(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfft.bench", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
    )


@pytest.mark.slow
def test_a_recipe_is_measured_and_nothing_is_left(job: Job) -> None:
    output = job.folder / "figures.json"
    arguments = job.arguments("data.batching=bucketed", "runtime.mixed_precision=no")
    ended = typed(*arguments, "--rounds", "2", "--steps", "3", "--output", str(output))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    for words in ("2 rounds of 3 steps", "real tokens a second", "the model's share of that", "first step: "):
        assert words in ended.stdout
    report = json.loads(output.read_text())
    assert len(report["rounds"]) == 2 and report["first_step_seconds"] > 0 and report["peak_rss_mb"] > 0
    for figures in report["rounds"]:
        assert 0 < figures["peak_share"] < 1 and 0 <= figures["padding_share"] < 1
        rows = figures["samples_per_second"] * figures["step_seconds"] * 3
        assert 17 <= round(rows) <= 24, "three batches of 8, one of which may be the last of 41 rows"
    assert not job.run.exists()


@pytest.mark.slow
def test_a_batch_that_does_not_fit_into_memory(job: Job) -> None:
    arguments = job.arguments(
        "training.per_device_train_batch_size=41", "data.padding=max_length", "data.max_length=64"
    )
    # Without oneDNN, whose fused product reads its output even where there was no memory for it.
    memory = {"TF_CPU_BFC_MEM_LIMIT_IN_MB": "8", "TF_ENABLE_ONEDNN_OPTS": "0"}
    ended = typed(*arguments, "--rounds", "1", "--steps", "1", **memory)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "memory ran out in a training step of 41 rows of up to 64 tokens" in ended.stderr
    assert "training.per_device_train_batch_size=20 with training.gradient_accumulation_steps=3" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "mrcp"], "did you mean mrpc"),
        (["--recipe", "mrpc", "--steps", "0"], "got 0; expected a whole number of at least 1"),
        (["--recipe", "mrpc", "--output", "no/such/folder/figures.json"], "give a file in a folder that exists"),
        (["--recipe", "feature-extraction"], "training.strategy: got feature_extraction; expected another"),
    ],
)
def test_mistakes_end_with_status_2(arguments: Sequence[str], said: str) -> None:
    ended = typed(*arguments)
    assert ended.returncode == 2
    assert said in ended.stderr and "Traceback" not in ended.stderr


# --- tuning, of figures that are made up ------------------------------------------------------------------------------


def figures(speed: float) -> dict[str, Any]:
    return {"rounds": [{"samples_per_second": speed}], "peak_rss_mb": 100.0 + speed}


def test_tuning_goes_on_with_the_fastest_program(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[list[str]] = []

    def measured(recipe: str, overrides: Sequence[str], steps: int) -> dict[str, Any] | str:
        tried.append(list(overrides))
        if "runtime.xla=true" in overrides:
            return "error: no compiler"
        speed = 20.0 if {"runtime.mixed_precision=bf16", "runtime.accelerate=true"} <= set(overrides) else 10.0
        sizes = [one.rpartition("=")[2] for one in overrides if "batch_size" in one]
        return figures(speed + (int(sizes[0]) if sizes else 0))

    monkeypatch.setattr(bench, "_measured_apart", measured)
    recipe = job.arguments()[1]
    overrides = ["seed=3", "data.batching=bucketed"]
    found = bench.tune(recipe, overrides, recipes.load(recipe, overrides), 3, 4, Voice())
    assert all("seed=3" in one for one in tried)
    assert len(tried) == 4 * 3 + 2 + 3 * 3, "what failed is not tried again"
    fastest = found["trials"][0]
    assert fastest["samples_per_second"] == 52.0 and fastest["peak_rss_mb"] == 152.0
    said = capsys.readouterr().out
    assert (
        "set for the fastest: runtime.mixed_precision=bf16 runtime.accelerate=true runtime.xla=false "
        "training.per_device_train_batch_size=32"
    ) in said
    assert "error: no compiler" in said


def test_tuning_leaves_xla_out_where_every_batch_has_a_width_of_its_own(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_measured_apart", lambda *ignored: figures(1.0))
    recipe, overrides = job.arguments()[1], ["data.batching=padded"]
    found = bench.tune(recipe, overrides, recipes.load(recipe, overrides), 1, 4, Voice(silent=True))
    assert {one["settings"]["runtime.xla"] for one in found["trials"]} == {False}


def test_tuning_where_nothing_works(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_measured_apart", lambda *ignored: "error: broken")
    recipe = job.arguments()[1]
    with pytest.raises(RunError, match=r"nothing could be measured; the first candidate said: error: broken"):
        bench.tune(recipe, [], recipes.load(recipe, []), 2, 4, Voice(silent=True))


def test_a_failed_trial_says_why(tmp_path: Path) -> None:
    assert "did you mean mrpc" in bench._measured_apart("mrcp", [], 1)
