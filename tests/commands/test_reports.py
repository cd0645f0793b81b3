"""Runs that are told of: to trackers, and to a hub that runs here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests import pushed
from tests.commands.conftest import Job
from tests.pushed import TOKEN, PushedHub
from tests.test_trackers import told, wandb_files


@pytest.fixture
def served() -> Iterator[PushedHub]:
    yield from pushed.an_empty_hub()


def fit(job: Job, url: str, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, with the hub at that address, from start to exit."""
    left_out = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    own = ("MLFLOW_", "WANDB_")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in left_out and not name.startswith(own) and not name.lower().endswith("_proxy")
    }
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(job.folder / "home"), "WANDB_MODE": "offline", **settings}
    return subprocess.run(
        [sys.executable, "-m", "tfft.fit", *job.arguments(*more)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=job.folder,
        env={**environment, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )


PUSH = ("training.push_to_hub=true", "training.hub_model_id=owner/mine")


@pytest.mark.parametrize(
    ("more", "settings", "expected"),
    [
        (PUSH, {}, "training.hub_model_id: owner/mine cannot be pushed to without a token of the hub that may write"),
        (PUSH, {"HF_HUB_OFFLINE": "1"}, "owner/mine cannot be pushed to, since HF_HUB_OFFLINE is set; unset it, or"),
        (
            (PUSH[0], "training.hub_model_id=a b"),
            {"HF_TOKEN": TOKEN},
            "training.hub_model_id: got 'a b'; expected NAME or",
        ),
        (("training.hub_token=hf_x",), {}, "training.hub_token: a secret has no place in a recipe"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_done(
    job: Job, served: PushedHub, more: tuple[str, ...], settings: dict[str, str], expected: str
) -> None:
    done = fit(job, served.url, *more, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not job.run.exists()
    assert served.asked == []


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed(job: Job, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from tfft import fit as command
    from tfft.errors import RecipeError

    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *more: None if one == name else there(one, *more))
    with pytest.raises(
        RecipeError, match=rf"^training.report_to: {name} is not installed; pip install 'tfft\[{name}\]'"
    ):
        command.main(job.arguments(f"training.report_to=[tensorboard, {name}]", "--verbose"))
    assert not job.run.exists()


@pytest.mark.slow
def test_a_run_that_is_told_of_to_all(job: Job, served: PushedHub) -> None:
    """Broken off after its first epoch, and gone on with: one run for each tracker, and the model on the hub."""
    wanted = (*PUSH, "training.hub_private_repo=true", "training.report_to=[mlflow, wandb]", "training.strategy=lora")
    secret = {"HF_TOKEN": TOKEN}
    begun = subprocess.Popen(
        [sys.executable, "-u", "-c", STOPPED_AFTER_AN_EPOCH, *job.arguments(*wanted)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=job.folder,
        env=_environment(job, served.url, **secret),
    )
    out, err = begun.communicate(timeout=300)
    assert begun.returncode == 143, (out, err)
    kept = {name: (job.run / name).read_text() for name in ("mlflow_run_id", "wandb_run_id")}

    done = fit(job, served.url, *wanted, "--resume", **secret)
    assert done.returncode == 0, done.stderr
    assert "resumed after step 6" in done.stdout
    assert {name: (job.run / name).read_text() for name in kept} == kept
    metrics = json.loads((job.run / "metrics.json").read_text())

    there = served.repositories["owner/mine"]
    assert there.private is True
    assert there.messages[-1] == "end of training"
    assert there.files == {path.name: path.read_bytes() for path in (job.run / "model").iterdir()}
    assert done.stdout.splitlines()[-1] == f"pushed end of training to {served.url}/owner/mine"
    assert not (job.run / "pushes").exists()
    assert not (job.run / "logs").exists()  # TensorBoard was not asked for

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{job.folder}/mlflow.db")
    run = client.get_run(kept["mlflow_run_id"].strip())
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["training.learning_rate"] == "0.001"
    assert run.data.metrics["eval/accuracy"] == metrics["eval"]["accuracy"]
    assert sorted({one.step for one in client.get_metric_history(run.info.run_id, "val_f1")}) == [1, 2]

    files = wandb_files(job.folder)
    assert [path.name for path in files] == [f"run-{kept['wandb_run_id'].strip()}.wandb"] * 2
    parts = [told(path) for path in files]
    assert [[one["_step"] for one in part[1]] for part in parts] == [[1], [2]]
    assert parts[1][0]["training.learning_rate"] == 0.001
    assert parts[1][2]["eval/f1"] == metrics["eval"]["f1"]
    assert [part[3] for part in parts] == [[1], [0]]

    everything = [path.read_bytes() for path in job.folder.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in one for one in everything)
    assert TOKEN not in done.stdout + done.stderr + out + err


# Says SIGTERM to itself once the first epoch is over.
STOPPED_AFTER_AN_EPOCH = f"""
import os, sys
from tfft import callbacks, fit
ended = callbacks.LearningRateLog.on_epoch_end
def on_epoch_end(self, epoch, logs=None):
    ended(self, epoch, logs)
    os.kill(os.getpid(), {int(signal.SIGTERM)})
callbacks.LearningRateLog.on_epoch_end = on_epoch_end
from tfft import command
command.run(lambda _: fit.main(sys.argv[1:]))
"""


def _environment(job: Job, url: str, **settings: str) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    own = {"HF_ENDPOINT": url, "HF_HOME": str(job.folder / "home"), "WANDB_MODE": "offline"}
    return {**kept, **own, "MLFLOW_DISABLE_TELEMETRY": "true", "HF_HUB_OFFLINE": "0", **settings}


@pytest.mark.slow
def test_a_hub_in_trouble_costs_no_run_and_a_recipe_that_says_nothing_asks_nobody(job: Job, served: PushedHub) -> None:
    served.wrong = {"/api/": 500}
    done = fit(job, served.url, *PUSH, "training.num_train_epochs=1", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert "the hub's repository could not be made ready: the hub is in trouble (500 from it)" in done.stdout
    assert f"once the hub can take it: hf upload owner/mine {job.run / 'model'}" in done.stdout
    assert (job.run / "metrics.json").is_file()

    served.asked.clear()
    done = fit(job, served.url, "training.num_train_epochs=1", "--overwrite", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert served.asked == []
    assert (job.run / "logs").is_dir()
    assert not list(job.folder.glob("wandb*")) + list(job.folder.glob("mlflow*"))
