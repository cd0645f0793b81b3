"""Rows written as shards by the command, and trained on: the same training, and the same messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tfft
from tests.commands.conftest import Job
from tests.commands.test_replicas import checkpoint_without_dropout
from tfft import command, states
from tfft import fit as fitting
from tfft.data import __main__ as writing
from tfft.errors import UserError


def shards_of(job: Job, *more: str) -> Path:
    """The job's rows in four shards, of which the training rows have three."""
    folder = job.folder / "shards"
    assert writing.main(["shards", *job.arguments(), "--output", str(folder), "--shards", "3", *more]) == 0
    return folder


def weights_of(run: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = load_file(run / "model" / "model.safetensors")
    return found


def trained(job: Job, name: str, **settings: Any) -> tfft.FitResult:
    settings.setdefault("output_dir", str(job.folder / name))
    return tfft.fit(job.arguments()[1], verbose=False, **settings)


@pytest.mark.slow
def test_the_same_training_as_without_shards(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """In batches of all rows, so that their order does not count."""
    folder = shards_of(job)
    said = capsys.readouterr().out
    assert f"train from there with data.shards={folder}" in said
    checkpoint = checkpoint_without_dropout(job.checkpoint, job.folder / "checkpoint")
    settings: dict[str, Any] = {
        "model": {"name_or_path": str(checkpoint)},
        "training": {"per_device_train_batch_size": 41, "class_weight": "balanced", "adam_epsilon": 1e-3},
    }
    one = trained(job, "one", **settings)
    other = trained(job, "other", data={"shards": str(folder)}, **settings)
    for name, values in weights_of(one.output_dir).items():
        np.testing.assert_allclose(weights_of(other.output_dir)[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    assert other.scores["eval"] == pytest.approx(one.scores["eval"], rel=1e-4)
    evaluated = tfft.evaluate(other.output_dir, resamples=10, verbose=False).scores
    assert {name: score.value for name, score in evaluated.items()} == pytest.approx(other.scores["eval"], abs=1e-6)
    with pytest.raises(UserError, match="rows in shards have no columns but"):
        tfft.evaluate(other.output_dir, slices=["text"], verbose=False)
    texts = [
        [line.rpartition(",")[0] for line in (result.output_dir / "predictions.csv").read_text().splitlines()]
        for result in (one, other)
    ]
    assert texts[0] == texts[1]
    reports = [json.loads((result.output_dir / "metrics.json").read_text())["train"] for result in (one, other)]
    assert [[report[name] for name in ("rows", "tokens", "steps")] for report in reports] == [[41, 736, 2]] * 2


class Killed(BaseException):
    """What ends a process; nothing catches it."""


@pytest.mark.slow
def test_a_training_from_shards_goes_on_where_it_was_killed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {
        "data": {"shards": str(shards_of(job))},
        "training": {"num_train_epochs": 3, "save_steps": 4},
    }
    whole = weights_of(trained(job, "whole", **settings).output_dir)
    again = weights_of(trained(job, "again", **settings).output_dir)
    write, left = states.write, iter(range(3))

    def write_or_die(*args: Any) -> Path:
        if next(left, None) is None:
            raise Killed
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(states, "write", write_or_die)
        with pytest.raises(Killed):
            trained(job, "parts", **settings)
    kept = states.folders(job.folder / "parts" / "checkpoint")
    assert kept[-1].name == "step-00000010"  # in the middle of the second epoch
    parts = weights_of(trained(job, "parts", resume=True, **settings).output_dir)
    for name, values in whole.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)
        np.testing.assert_array_equal(parts[name], values, err_msg=name)


def said_by(
    main: Any, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The message of a command that ends with status 2."""
    monkeypatch.setattr(sys, "argv", ["tfft", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        command.run(main)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "Traceback" not in said
    return said[said.index("error: ") :]


def test_what_is_wrong_is_one_message(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shards_of(job)

    def fit(*more: str) -> str:
        return said_by(fitting.main, ["--verbose", *job.arguments(f"data.shards={folder}", *more)], monkeypatch, capsys)

    def write(*more: str) -> str:
        typed = ["shards", "--verbose", *job.arguments("--output", str(folder), *more)]
        return said_by(writing.main, typed, monkeypatch, capsys)

    assert "data.max_length: got 32; expected 64, with which the shards were written" in fit("data.max_length=32")
    assert "has shards already" in write()
    assert "expected at most 41" in write("--overwrite", "--shards", "42")
    assert "expected truncate or head_tail" in write("--overwrite", "data.long_text=sliding_window")
    shard = next(folder.glob("train-00001*"))
    kept = shard.read_bytes()
    shard.write_bytes(kept[::-1])
    said = fit()
    assert f"{shard.name} has another content" in said
    assert len(said.strip().splitlines()) == 1
    shard.unlink()
    assert f"{shard.name} is missing" in fit()
    shard.write_bytes(kept)
    (folder / "manifest.json").unlink()
    assert "has no manifest.json" in fit()
    shutil.rmtree(folder)
    assert "has no manifest.json" in fit()
    assert not job.run.exists()


def test_shards_need_rows_to_validate_on(job: Job) -> None:
    folder = shards_of(job, "~data.validation_file", "training.eval_strategy=no")
    with pytest.raises(UserError, match="there are no validation rows"):
        trained(job, "run", data={"shards": str(folder)})


def test_help_comes_without_tensorflow() -> None:
    code = (
        "import sys\nfrom tfft.data.__main__ import main\n"
        "try:\n    main(['--help'])\nfinally:\n    assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--rows-per-shard" in done.stdout
