"""A run that was broken off, by a signal or without one, goes on to the same files as one that was not."""

from __future__ import annotations

import json
import platform
import random
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tfft
from tests.commands.conftest import Job
from tfft import states
from tfft.errors import RunError

# Long enough to be hit, and with something in it of all that a state has to hold.
LONG = (
    "training.num_train_epochs=12",
    "training.save_steps=3",
    "training.ema_momentum=0.9",
    "training.gradient_accumulation_steps=2",
    "training.load_best_model_at_end=true",
    "training.metric_for_best_model=f1",
    "training.early_stopping_patience=11",
    "runtime.deterministic=true",
)


def what_is_left(run: Path) -> dict[str, Any]:
    """Everything of a finished run that does not depend on time."""
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        "scores": metrics["eval"],
        "train": metrics["train"],
        "history": (run / "history.csv").read_text(),
        "predictions": (run / "predictions.csv").read_text(),
        # The states go last of all: a run may have been killed in between.
        "files": sorted(one.name for one in run.iterdir() if one.name != "checkpoint"),
    }


def assert_the_same(run: Path, whole: Path) -> None:
    """Scores, history and predictions to the last digit, and weights to the last bit."""
    assert what_is_left(run) == what_is_left(whole)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (run, whole))
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


def trained_whole(job: Job, *settings: str) -> Path:
    """The same run without a break, in a folder of its own."""
    whole = job.folder / "whole"
    done = job.fit(*settings, f"output_dir={whole}")
    assert done.returncode == 0, done.stderr
    return whole


def wait_for_training(process: subprocess.Popen[str]) -> bool:
    """Until the first line about a step; false where there is none."""
    assert process.stdout is not None
    return any(line.startswith("step ") for line in process.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_a_signal_saves_where_training_stands_and_resume_goes_on(job: Job, number: int, status: int) -> None:
    settings = ("training.num_train_epochs=40", "training.eval_strategy=no")
    process = job.start(*settings)
    assert wait_for_training(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "stopping as soon as the state of the training is saved" in out
    *_, kept = states.folders(job.run / "checkpoint")
    assert f"interrupted after step {int(kept.name.removeprefix('step-')):,} of 240" in err
    assert f"{kept}: --resume goes on from it" in err
    assert "Traceback" not in err
    assert not (job.run / "metrics.json").exists()

    again = job.fit(*settings)
    assert again.returncode == 2
    assert f"{job.run} holds an unfinished run; --resume to go on with it" in again.stderr
    resumed = job.fit(*settings, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"from {kept}" in resumed.stdout
    assert_the_same(job.run, trained_whole(job, *settings))


def test_what_may_be_resumed(job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = job.arguments()[1]

    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    # Killed after training, while the model is saved; and once more, with all but the last file written.
    for place, resume in (("tfft.models.save.save", False), ("tfft.run_directory.RunDirectory.write_json", True)):
        with monkeypatch.context() as patch:
            patch.setattr(place, die)
            with pytest.raises(Killed):
                tfft.fit(recipe, training={"eval_strategy": "no"}, resume=resume)
    said = (job.run / "recipe.yaml").read_text()

    with pytest.raises(RunError) as refused:
        tfft.fit(recipe, training={"eval_strategy": "no", "learning_rate": 2e-3, "report": True}, seed=7, resume=True)
    assert str(refused.value).splitlines()[1:] == [
        "  seed: 42 before, 7 now",
        "  training.learning_rate: 0.001 before, 0.002 now",
    ]
    train = job.folder / "train.csv"
    rows = train.read_text()
    train.write_text(rows.replace("movie 3", "film 3"))
    with pytest.raises(RunError, match=r"  training rows\.fingerprint: '\w+' before, '\w+' now"):
        tfft.fit(recipe, training={"eval_strategy": "no"}, resume=True)
    train.write_text(rows)
    assert (job.run / "recipe.yaml").read_text() == said

    capsys.readouterr()
    more = {"eval_strategy": "no", "num_train_epochs": 3}
    result = tfft.fit(recipe, training=more, resume_with_changes=True)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert "resumed after step 12, with 2 whole epochs done" in capsys.readouterr().out
    with pytest.raises(RunError, match="holds a finished run, so there is nothing to resume"):
        tfft.fit(recipe, training=more, resume=True)
    # As a process leaves it that was killed after its last file.
    (job.run / "run.lock").write_text(f"{2**22 + 1}\n{platform.node()}\n0")
    assert job.fit("--resume").stdout.endswith("holds a finished run; nothing is left to do\n")
    assert not (job.run / "run.lock").exists()


def test_resume_begins_where_nothing_is_there_yet(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    tfft.fit(job.arguments()[1], training={"max_steps": 1}, resume=True)
    assert "has no state of a training to resume; it begins" in capsys.readouterr().out
    assert (job.run / "metrics.json").is_file()


@pytest.mark.slow
def test_twenty_kills_leave_the_run_that_was_never_stopped(job: Job) -> None:
    """SIGKILL at seeded moments: while it trains, validates, or writes a state."""
    whole = trained_whole(job, *LONG)
    chance = random.Random(5)
    kills, steps = 0, []
    # Once in a while a moment is too late, and the run begins anew.
    for _ in range(60):
        process = job.start(*LONG, "--resume")
        seconds = chance.uniform(0.0, 1.5)
        try:
            process.wait(seconds if wait_for_training(process) else None)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
            steps.append([int(one.name.removeprefix("step-")) for one in states.folders(job.run / "checkpoint")])
        _, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, err
            assert_the_same(job.run, whole)
            shutil.rmtree(job.run)
        if kills == 20:
            break
    print(f"killed 20 times, with these states on disk: {steps}")
    assert kills == 20
    last = job.fit(*LONG, "--resume")
    assert last.returncode == 0, last.stderr
    assert_the_same(job.run, whole)
