"""`python -m tfft.sweep` as a user types it, on a tiny model."""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.commands.conftest import Job
from tfft import recipe
from tfft.search import oracles
from tfft.search.events import Events
from tfft.whole import read_json

RATES = "sweep.parameters.training.learning_rate={min: 1e-4, max: 1e-2, scale: log}"
WARM = "sweep.isolation=warm"
BASE = ("sweep.objective=accuracy", RATES, "training.num_train_epochs=1", "runtime.deterministic=true")


def start(job: Job, *more: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tfft.sweep", *job.arguments(*BASE, f"output_dir={job.folder / 'sweep'}", *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=job.folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
    )


def sweep(job: Job, *more: str) -> subprocess.CompletedProcess[str]:
    """The command, from start to exit."""
    process = start(job, *more)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def told(job: Job) -> dict[str, Any]:
    """What the sweep has written."""
    found: dict[str, Any] = json.loads((job.folder / "sweep" / "sweep.json").read_text())
    return found


def scores(job: Job) -> list[tuple[Any, Any]]:
    """Values and score of every trial."""
    return [(one["values"], one["score"]) for one in told(job)["trials"]]


def is_whole(job: Job, trials: int) -> None:
    """Every trial is there once, with a record and a finished run."""
    assert [one["number"] for one in told(job)["trials"]] == [*range(1, trials + 1)]
    runs = sorted(one.name for one in (job.folder / "sweep" / "trials").iterdir())
    assert runs == [f"{number:04d}" for number in range(1, trials + 1)]
    assert all((job.folder / "sweep" / "trials" / name / "metrics.json").is_file() for name in runs)


# --- What a sweep leaves ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failure_is_recorded_and_the_best_trial_can_be_trained_again(job: Job) -> None:
    # A power is for the polynomial schedule only, which shows when the trial begins.
    settings = (
        "sweep.algorithm=grid",
        "~sweep.parameters.training.learning_rate",
        "sweep.parameters.training.lr_scheduler_type=[polynomial, constant]",
        "sweep.parameters.training.lr_power=[1.0, 2.0]",
        WARM,
    )
    done = sweep(job, *settings)
    assert done.returncode == 0, done.stderr
    trials = told(job)["trials"]
    assert [one["status"] for one in trials] == ["completed", "completed", "failed", "failed"]
    assert "training.lr_power: got 1.0; expected null" in trials[2]["reason"]
    assert "trial 3: lr_scheduler_type=constant lr_power=1: failed: " in done.stdout

    best = told(job)["best"]
    assert best in (1, 2)
    # Its weights stay, those of the others do not.
    kept = [one.parent.name for one in (job.folder / "sweep" / "trials").glob("*/model")]
    assert kept == [f"{best:04d}"]
    again = recipe.load(job.folder / "sweep" / "best.yaml")
    assert again.sweep is None
    assert again.training.lr_power == trials[best - 1]["values"]["training.lr_power"]
    assert "<title>" in (job.folder / "sweep" / "report.html").read_text(encoding="utf-8")

    # The command that the table shows trains the same, elsewhere.
    command = next(one["command"] for one in trials if one["number"] == best)
    assert command in done.stdout
    replay = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=job.folder, capture_output=True, text=True, check=False
    )
    assert replay.returncode == 0, replay.stderr
    metrics = json.loads((job.folder / f"sweep-trial-{best}" / "metrics.json").read_text())
    assert metrics["eval"] == trials[best - 1]["executions"][0]["scores"]

    # A finished sweep has nothing left to do; another recipe is not taken for it.
    before = (job.folder / "sweep" / "records" / "0001.json").stat().st_mtime_ns
    again_done = sweep(job, *settings)
    assert again_done.returncode == 0, again_done.stderr
    assert scores(job) == [(one["values"], one["score"]) for one in trials]
    assert (job.folder / "sweep" / "records" / "0001.json").stat().st_mtime_ns == before
    other = sweep(job, *settings, "data.max_length=8", "sweep.seed=7")
    assert other.returncode == 2
    assert "holds another sweep" in other.stderr
    assert "data.max_length: " in other.stderr
    assert "sweep.seed: None before, 7 now" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.slow
def test_trials_in_one_process_score_like_those_in_processes_of_their_own(job: Job) -> None:
    settings = ("sweep.max_trials=2", "sweep.executions_per_trial=2")
    done = sweep(job, *settings, WARM)
    assert done.returncode == 0, done.stderr
    warm = told(job)["trials"]
    assert [len(one["executions"]) for one in warm] == [2, 2]
    for one in warm:
        each = [execution["scores"]["accuracy"] for execution in one["executions"]]
        assert one["score"] == pytest.approx(np.mean(each))
        assert one["spread"] == pytest.approx(np.std(each, ddof=1))
    done = sweep(job, *settings, "--overwrite", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    for one, other in zip(warm, told(job)["trials"], strict=True):
        assert one["values"] == other["values"]
        for ours, theirs in zip(one["executions"], other["executions"], strict=True):
            assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)


@pytest.mark.slow
def test_hopeless_trials_are_stopped_and_counted(job: Job) -> None:
    # Rates that do no harm, and one that spoils the weights.
    rates = "sweep.parameters.training.learning_rate={values: [1e-3, 9e-4, 8e-4, 10.0]}"
    settings = ("sweep.algorithm=grid", rates, "sweep.prune=true", "training.num_train_epochs=4", WARM)
    done = sweep(job, "~sweep.parameters.training.learning_rate", *settings, "sweep.objective=loss")
    assert done.returncode == 0, done.stderr
    trials = told(job)["trials"]
    assert [one["status"] for one in trials] == ["completed"] * 3 + ["pruned"]
    assert trials[3]["epochs"] < 4
    assert trials[3]["score"] is not None
    assert len(trials[0]["executions"][0]["curve"]) == 4


# --- Hyperband --------------------------------------------------------------------------------------------------------


def epochs_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_rung_goes_on_from_the_one_below_as_if_it_had_never_stopped(job: Job) -> None:
    settings = ("sweep.algorithm=hyperband", "sweep.factor=2", "training.num_train_epochs=2", WARM)
    done = sweep(job, *settings, "sweep.keep_models=all")
    assert done.returncode == 0, done.stderr
    trials = told(job)["trials"]
    going_on = [one for one in trials if one["continues"] is not None]
    assert going_on
    one = going_on[0]
    assert [one["epochs"], trials[one["continues"] - 1]["epochs"]] == [1, 1]
    # The same settings from the first step to the last.
    whole = job.fit(f"training.learning_rate={one['values']['training.learning_rate']}", "runtime.deterministic=true")
    assert whole.returncode == 0, whole.stderr
    run = job.folder / "sweep" / one["executions"][0]["folder"]
    assert epochs_of(run) == epochs_of(job.run)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (run, job.run))
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    log = (job.folder / "sweep" / "logs" / f"{one['number']:04d}.txt").read_text()
    assert "with 1 whole epoch done, from " in log
    # Nothing is left to go on from.
    assert not list((job.folder / "sweep" / "trials").glob("*/checkpoint"))


# --- Nothing is lost --------------------------------------------------------------------------------------------------


def descendants_are_gone(job: Job) -> bool:
    """Whether no process trains in the folder any more."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
                if b"tfft.search.trial" in words and os.readlink(process / "cwd") == str(job.folder):
                    return False
            except OSError:
                continue
    return True


@pytest.mark.slow
def test_kills_lose_no_trial_and_change_no_score(job: Job) -> None:
    settings = ("sweep.max_trials=2", "training.num_train_epochs=25", "training.save_steps=2")
    done = sweep(job, *settings)
    assert done.returncode == 0, done.stderr
    whole = scores(job)
    is_whole(job, 2)

    rng = random.Random(1)
    folder = job.folder / "sweep"
    shutil.rmtree(folder)
    process, killed = start(job, *settings), 0
    while killed < 3:
        began = time.time()
        # Some time after a training has told that its first epoch is over.
        wait_for(lambda one=process, since=began: one.poll() is not None or has_told(folder, since), 120)
        time.sleep(rng.uniform(0, 3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
        wait_for(lambda: descendants_are_gone(job), 30)
        records = {one.name: one.stat().st_mtime_ns for one in (folder / "records").glob("*.json")}
        process, began = start(job, *settings), time.time()
        wait_for(lambda one=process, since=began: one.poll() is not None or has_told(folder, since), 120)
        # Of those that had ended, none is trained again.
        assert records == {name: (folder / "records" / name).stat().st_mtime_ns for name in records}
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert killed >= 2
    is_whole(job, 2)
    assert scores(job) == whole
    logs = "".join(one.read_text() for one in (folder / "logs").iterdir())
    assert "resumed after step " in logs


def has_told(folder: Path, since: float) -> bool:
    """Whether a training of the sweep has said after that where it is, beyond its first epoch."""
    found = [one for one in (folder / "progress").glob("????.json") if one.stat().st_mtime > since]
    return any(read_json(one).get("epoch", 0) >= 1 for one in found)


def wait_for(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_signal_has_the_trials_save_where_they_stand(job: Job) -> None:
    settings = ("sweep.max_trials=1", "training.num_train_epochs=200", "training.eval_strategy=no")
    process = start(job, *settings, "--overwrite")
    folder = job.folder / "sweep"
    wait_for(lambda: bool(list((folder / "progress").glob("0001.json"))), 120)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "interrupted; the same command without --overwrite goes on with the sweep" in err
    assert list((folder / "trials" / "0001" / "checkpoint").glob("step-*"))
    assert not list((folder / "records").iterdir())
    assert descendants_are_gone(job)


# --- Several machines -------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.slow
def test_a_chief_and_two_workers_share_the_trials(job: Job) -> None:
    port = str(free_port())

    def role(name: str) -> dict[str, str]:
        return {
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": port,
            "KERASTUNER_TUNER_ID": name,
        }

    settings = ("sweep.max_trials=4", WARM)
    processes = {name: start(job, *settings, environment=role(name)) for name in ("chief", "tuner0", "tuner1")}
    ended = {name: (*one.communicate(timeout=600), one.returncode) for name, one in processes.items()}
    for name, (_, err, status) in ended.items():
        assert status == 0, f"{name}: {err}"
    is_whole(job, 4)
    assert all(one["status"] == "completed" for one in told(job)["trials"])
    did = [sum(line.startswith("trial ") for line in ended[name][0].splitlines()) for name in ("tuner0", "tuner1")]
    assert sum(did) == 4
    # The values are those that one process would have chosen; numbers came through a protocol with 32 bits.
    chosen = recipe.load(job.folder / "sweep" / "recipe.yaml")
    assert chosen.sweep is not None
    alone = oracles.make(chosen.sweep, "accuracy", "max", chosen.seed, 1)
    recorded = oracles.Recorded(alone, Events(job.folder / "alone"), chosen.sweep.parameters)
    values = [recorded.create_trial(str(index)).hyperparameters.values for index in range(4)]
    assert [one["values"] for one in told(job)["trials"]] == values


def test_a_chief_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from tfft.errors import RunError
    from tfft.search import remote

    monkeypatch.setattr(remote, "FIRST_ANSWER_SECONDS", 0.5)
    port, said = free_port(), list[str]()
    with pytest.raises(RunError, match=f"the chief at 127.0.0.1:{port} has not answered for 0.5 s"):
        remote.Client(remote.Role(f"127.0.0.1:{port}", "tuner0"), said.append)
    assert said[0].startswith(f"waits for the chief at 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"KERASTUNER_ORACLE_IP": "10.0.0.1"}, "KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID not set"),
        (
            {
                "KERASTUNER_ORACLE_IP": "10.0.0.1",
                "KERASTUNER_ORACLE_PORT": "many",
                "KERASTUNER_TUNER_ID": "chief",
            },
            "got many; expected a port",
        ),
    ],
)
def test_half_an_address(given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfft.errors import HardwareError
    from tfft.search import remote

    for name in remote.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert remote.find() is None
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HardwareError, match=words):
        remote.find()


# --- Mistakes end it before the first trial ---------------------------------------------------------------------------


def mistake(job: Job, *more: str) -> str:
    """What is said of it; nothing was written."""
    done = sweep(job, *more)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert not (job.folder / "sweep").exists()
    return done.stderr


def test_a_recipe_without_a_sweep(job: Job) -> None:
    assert "has no section sweep; expected sweep.objective and sweep.parameters" in mistake(job, "~sweep")


def test_more_trials_at_a_time_than_cores(job: Job) -> None:
    assert "expected at most" in mistake(job, "--parallel", "500")


def test_one_process_runs_one_trial_at_a_time(job: Job) -> None:
    assert "sweep.isolation: got warm, and --parallel 2" in mistake(job, "--parallel", "2", WARM)


@pytest.mark.slow
def test_data_that_are_not_there(job: Job) -> None:
    said = mistake(job, "data.train_file=gone.csv")
    assert "no trial is begun: " in said
    assert "gone.csv" in said


def test_a_folder_of_somebody_elses(job: Job) -> None:
    (job.folder / "sweep").mkdir()
    (job.folder / "sweep" / "thesis.tex").touch()
    done = sweep(job)
    assert done.returncode == 2
    assert "holds files that are not a sweep's (thesis.tex)" in done.stderr
    assert os.listdir(job.folder / "sweep") == ["thesis.tex"]


@pytest.mark.slow
def test_where_every_trial_fails_the_first_reason_is_told(job: Job) -> None:
    wrong: Sequence[str] = (
        "~sweep.parameters.training.learning_rate",
        "sweep.parameters.training.warmup_steps=[7]",
        "training.warmup_ratio=0.1",
        "sweep.algorithm=grid",
        WARM,
    )
    done = sweep(job, *wrong)
    assert done.returncode == 2
    assert "no trial came to its end; the first one: command line: training.warmup_steps: got 7" in done.stderr
    assert told(job)["best"] is None
    assert not (job.folder / "sweep" / "best.yaml").exists()
