"""Several processes train as one does: what comes out, a worker that is killed, one that is told to stop."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.commands.conftest import Job, write_csv
from tests.commands.test_replicas import checkpoint_without_dropout
from tests.commands.test_resume import wait_for_training
from tfft import launch, states

# 41 rows in batches of 12: the last has 5, for 2 and for 3 processes.
BATCH = 12
# What bfloat16 rounds, it rounds otherwise in batches of other sizes.
EXACT = "runtime.mixed_precision=no"
KILLED_WITHIN_SECONDS = 60


def start(job: Job, workers: int, *more: str) -> subprocess.Popen[str]:
    rows = f"training.per_device_train_batch_size={BATCH // workers}"
    return subprocess.Popen(
        [sys.executable, "-m", "tfft.launch", "--workers", str(workers), *job.arguments(rows, EXACT, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=job.folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def train(job: Job, workers: int, *more: str) -> dict[str, Any]:
    """What the run leaves."""
    if workers == 1:
        done = job.fit(f"training.per_device_train_batch_size={BATCH}", EXACT, *more)
        out, err, status = done.stdout, done.stderr, done.returncode
    else:
        process = start(job, workers, *more)
        out, err = process.communicate(timeout=300)
        status = process.returncode
    assert status == 0, out + err
    return found(job)


def found(job: Job) -> dict[str, Any]:
    """Scores, history and weights of the finished run."""
    metrics = json.loads((job.run / "metrics.json").read_text())
    history = np.genfromtxt(job.run / "history.csv", delimiter=",", names=True)
    weights = load_file(job.run / "model" / "model.safetensors")
    return {
        "scores": np.array(list(metrics["eval"].values())),
        **{name: history[name] for name in history.dtype.names},
        **weights,
    }


def assert_close(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    assert one.keys() == other.keys()
    assert len(one) > 20
    for name in one:
        # The mean of an epoch's losses counts the rows that fill the last batch.
        loose = 0.05 if name == "loss" else tolerance
        np.testing.assert_allclose(other[name], one[name], rtol=loose, atol=loose, err_msg=name)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The workers' process ids, the chief's first."""
    pids: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which may hold anything: the state, and the parent.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process.pid:
            pids.append(int(path.parent.name))
    return sorted(pids)


def wait_for_a_state(job: Job, process: subprocess.Popen[str]) -> None:
    while not states.folders(job.run / "checkpoint"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
def test_two_and_three_processes_train_as_one(job: Job) -> None:
    job = replace(job, checkpoint=checkpoint_without_dropout(job.checkpoint, job.folder / "checkpoint"))
    one = train(job, 1, "training.load_best_model_at_end=true")
    for workers in (2, 3):
        shutil.rmtree(job.run)
        several = train(job, workers, "training.load_best_model_at_end=true")
        assert_close(one, several, 1e-5)
    written = {path.name for path in job.run.iterdir()}
    assert written == {"recipe.yaml", "metrics.json", "history.csv", "predictions.csv", "model", "logs"}
    assert len(list((job.run / "logs").rglob("*tfevents*"))) == 2, "train and validation, the chief's"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_ends_all_and_they_go_on_exactly(job: Job, killed: int) -> None:
    settings = ("training.save_steps=2", "training.num_train_epochs=5", "training.early_stopping_patience=5")
    whole = train(job, 2, *settings)
    shutil.rmtree(job.run)

    process = start(job, 2, *settings)
    wait_for_a_state(job, process)
    os.kill(children(process)[killed], signal.SIGKILL)
    began = time.monotonic()
    _, err = process.communicate(timeout=KILLED_WITHIN_SECONDS + 30)
    assert time.monotonic() - began < KILLED_WITHIN_SECONDS
    assert process.returncode == 137
    assert "Traceback" not in err
    assert err.count("error: ") == 1, err
    assert f"error: worker {killed} (127.0.0.1:" in err
    assert "The newest saved state is " in err
    assert not (job.run / "metrics.json").exists()

    process = start(job, 2, *settings, "--resume")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "resumed after step " in out
    assert_close(whole, found(job), 1e-6)


KILLS = 5
# Long enough to be hit so often.
LONG = ("training.save_steps=2", "training.num_train_epochs=20", "training.load_best_model_at_end=true")


def kill_one(job: Job, chance: random.Random) -> str | None:
    """Goes on with the job and kills a worker of it: which, when, and what states are left; None if it was over."""
    process = start(job, 2, *LONG, "--resume")
    seconds, killed = chance.uniform(0.0, 3.0), chance.randrange(2)
    try:
        process.wait(seconds if wait_for_training(process) else None)
    except subprocess.TimeoutExpired:
        for pid in children(process)[killed : killed + 1]:  # which may have ended
            os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=KILLED_WITHIN_SECONDS + 30)
    if process.returncode == 0:
        return None
    assert process.returncode == 137, err
    # None where the chief had no more to do with the other.
    assert err.count("error: ") <= 1, err
    assert "Traceback" not in err, err
    kept = [one.name for one in states.folders(job.run / "checkpoint")]
    return f"worker {killed} after {seconds:.2f} s, with the states {kept}"


@pytest.mark.slow
def test_kills_in_a_row_leave_the_run_that_was_never_stopped(job: Job) -> None:
    """SIGKILL of either worker at seeded moments: while they train, one scores, or one writes a state."""
    whole = train(job, 2, *LONG)
    shutil.rmtree(job.run)
    chance = random.Random(5)
    told: list[str] = []
    # Once in a while a moment is too late, and the run begins anew.
    for _ in range(3 * KILLS):
        if said := kill_one(job, chance):
            told.append(said)
        else:
            assert_close(whole, found(job), 1e-6)
            shutil.rmtree(job.run)
        if len(told) == KILLS:
            break
    print("killed", *told, sep="\n")
    assert len(told) == KILLS
    resumed = train(job, 2, *LONG, "--resume")
    assert_close(whole, resumed, 1e-6)
    np.testing.assert_allclose(resumed["loss"], whole["loss"], rtol=1e-6)


@pytest.mark.slow
def test_all_stop_where_one_is_told_to(job: Job) -> None:
    process = start(job, 2, "training.save_steps=1", "training.num_train_epochs=50")
    wait_for_a_state(job, process)
    os.kill(children(process)[1], signal.SIGTERM)  # not the one that writes
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "interrupted after step " in err
    before = states.folders(job.run / "checkpoint")[-1]
    process = start(
        job, 2, "training.save_steps=1", "training.num_train_epochs=50", "training.max_hours=1e-9", "--resume"
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "training.max_hours: None before, 1e-09 now" in err
    assert states.folders(job.run / "checkpoint")[-1] == before


@pytest.mark.slow
def test_rows_that_differ_are_told(job: Job) -> None:
    """As where every machine has a file of its own."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [f"127.0.0.1:{socket_.getsockname()[1]}" for socket_ in (one, other)]
    other_rows = write_csv(job.folder / "other.csv", [("a fine movie", 1), ("a bad movie", 0)] * 20)
    processes = []
    for index in range(2):
        more = [f"runtime.workers=[{', '.join(addresses)}]", *([f"data.train_file={other_rows}"] if index else [])]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tfft.fit", *job.arguments(*more)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "TFFT_WORKER": str(index)},
            )
        )
    said = [process.communicate(timeout=180)[1] for process in processes]
    assert processes[1].returncode == 2
    assert "error: worker 0 trains by another recipe or on other rows; give all workers the same:" in said[1]
    assert "training rows.number: 41 there, 40 here" in said[1]
    assert processes[0].returncode == 2
    assert "error: worker 1 (127.0.0.1:" in said[0]


def test_launch_says_once_what_is_wrong(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--workers", "1", *job.arguments()], "--workers: got 1; expected a number from 2 to 64"),
        (["--workers", "2", "--recipe", "-"], "--recipe: got - "),
        (["--workers", "2", *job.arguments("training.lr=1")], "training.lr: no such key"),
    ):
        done = subprocess.run([sys.executable, "-m", "tfft.launch", *arguments], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.count("error: ") == 1
        assert said in done.stderr


def test_every_worker_is_told_who_it_is() -> None:
    configs = [json.loads(one["TF_CONFIG"]) for one in launch._environments(3)]
    assert [one["task"]["index"] for one in configs] == [0, 1, 2]
    assert len({tuple(one["cluster"]["worker"]) for one in configs}) == 1
    assert len(set(configs[0]["cluster"]["worker"])) == 3
