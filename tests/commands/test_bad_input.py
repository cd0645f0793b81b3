"""Every mistake that a user can make: status 2, one message that says where and how to mend it, nothing written."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.conftest import Job, rows_of, write_csv
from tfft import command, fit

# Takes the job, spoils something, returns what to add to the command line.
Spoil = Callable[[Job], Sequence[str]]


@dataclass(frozen=True)
class Row:
    """One mistake, and what its message must name."""

    name: str
    spoil: Spoil
    words: tuple[str, ...]


def text_of(name: str, content: str | bytes) -> Spoil:
    def spoil(job: Job) -> Sequence[str]:
        (job.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return ()

    return spoil


def rows_in(name: str, rows: Sequence[tuple[str, object]], *more: str) -> Spoil:
    def spoil(job: Job) -> Sequence[str]:
        write_csv(job.folder / name, rows)
        return more

    return spoil


def with_checkpoint(change: Callable[[Path], None]) -> Spoil:
    def spoil(job: Job) -> Sequence[str]:
        copy = job.folder / "checkpoint-copy"
        shutil.copytree(job.checkpoint, copy)
        change(copy)
        return [f"model.name_or_path={copy}"]

    return spoil


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5", "architectures": ["T5Model"]}))


def smaller_embedding(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 50}))


def in_use(job: Job) -> Sequence[str]:
    job.run.mkdir()
    (job.run / "run.lock").write_text(f"{os.getppid()}\n{platform.node()}\n{time.time():.0f}")
    return ()


def below_a_file(job: Job) -> Sequence[str]:
    return [f"output_dir={job.folder / 'train.csv' / 'run'}"]


def finished(job: Job) -> Sequence[str]:
    job.run.mkdir()
    (job.run / "metrics.json").write_text("{}")
    return ()


def somebody_elses(job: Job) -> Sequence[str]:
    job.run.mkdir()
    (job.run / "thesis.tex").write_text("")
    return ["--overwrite"]


TABLE = (
    Row("unknown recipe", lambda job: ["--recipe", "mrcp"], ("mrcp", "did you mean mrpc?")),
    Row("no such recipe file", lambda job: ["--recipe", "no/such.yaml"], ("no/such.yaml", "no such file")),
    Row("unknown key", lambda job: ["training.bananas=3"], ("training.bananas", "expected one of")),
    Row("misspelt key", lambda job: ["training.learning_rte=1"], ("did you mean training.learning_rate?",)),
    Row("another program's key", lambda job: ["training.lr=1"], ("did you mean training.learning_rate?",)),
    Row("wrong type", lambda job: ["training.num_train_epochs=many"], ("num_train_epochs", "'many'", "number")),
    Row("out of range", lambda job: ["training.learning_rate=-1"], ("training.learning_rate", "-1", "above 0")),
    Row(
        "a contradiction",
        lambda job: ["training.warmup_ratio=0.1", "training.warmup_steps=5"],
        ("training.warmup_steps", "training.warmup_ratio"),
    ),
    Row("missing file", lambda job: ["data.train_file=tran.csv"], ("data.train_file", "tran.csv", "no such file")),
    Row("empty file", text_of("train.csv", ""), ("data.train_file", "empty")),
    Row("header only", text_of("train.csv", "text,label\n"), ("data.train_file", "no rows")),
    Row("a directory", lambda job: ["data.train_file=folder.csv"], ("data.train_file", "directory")),
    Row(
        "not UTF-8",
        text_of("train.csv", b"text,label\nok,1\ncaf\xe9,0\n"),
        ("data.train_file", "0xe9", "line 3", "data.encoding"),
    ),
    Row(
        "missing column",
        lambda job: ["data.text_columns=[body]"],
        ("'body'", "'text', 'label'", "data.text_columns"),
    ),
    Row("one class only", rows_in("train.csv", [("a", 1), ("b", 1)]), ("only label", "at least two classes")),
    Row(
        "a label missing in training",
        rows_in("validation.csv", [("a", 0), ("b", 7)]),
        ("validation.csv row 2 (line 3)", "7"),
    ),
    Row("ragged rows", text_of("train.csv", "text,label\na,1\nb,0,0\n"), ("train.csv", "line 3", "3")),
    Row(
        "zero rows after filtering",
        text_of("train.csv", "text,label\na,\nb,\n"),
        ("no value in column 'label'", "data.drop_invalid"),
    ),
    Row(
        "zero rows although filtering was asked for",
        lambda job: [*text_of("train.csv", "text,label\na,\nb,\n")(job), "data.drop_invalid=true"],
        ("no rows are left", "data.label_column"),
    ),
    Row("nothing to validate on", lambda job: ["~data.validation_file"], ("data.validation_split",)),
    Row("max_length beyond the positions", lambda job: ["data.max_length=65"], ("data.max_length", "65", "64")),
    Row(
        "a part that the model has not",
        lambda job: ["training.learning_rate_multipliers={layer.9: 0.1, '*': 1}"],
        ("training.learning_rate_multipliers", "'layer.9'", "embeddings, layer.0, layer.1, pooler, head"),
    ),
    Row("no such checkpoint", lambda job: ["model.name_or_path=./no/model"], ("model.name_or_path", "./no/model")),
    Row(
        "checkpoint without weights",
        with_checkpoint(lambda folder: (folder / "model.safetensors").unlink()),
        ("model.name_or_path", "no weights", "model.safetensors"),
    ),
    Row("truncated safetensors", with_checkpoint(truncate), ("model.safetensors", "bytes", "again")),
    Row(
        "wrong architecture for the task",
        with_checkpoint(other_architecture),
        ("t5", "TFAutoModelForSequenceClassification", "bert"),
    ),
    Row("tokenizer of another model", with_checkpoint(smaller_embedding), ("100 tokens", "50 rows")),
    Row(
        "a metric for two classes on three",
        lambda job: [*rows_in("train.csv", [(str(i), i % 3) for i in range(9)])(job), "training.metrics=[f1]"],
        ("f1", "f1_macro"),
    ),
    Row("a metric that nobody has", lambda job: ["training.metrics=[acuracy]"], ("acuracy", "did you mean accuracy?")),
    Row("output_dir below a file", below_a_file, ("output_dir", "train.csv")),
    Row("output_dir is a file", lambda job: [f"output_dir={job.folder / 'train.csv'}"], ("output_dir", "is a file")),
    Row("output_dir in use", in_use, ("output_dir", "in use", str(os.getppid()))),
    Row("output_dir holds a run", finished, ("output_dir", "finished run", "--overwrite")),
    Row("output_dir is somebody's", somebody_elses, ("output_dir", "thesis.tex")),
    Row(
        "hub unreachable: the model",
        lambda job: ["model.name_or_path=google-bert/bert-base-uncased"],
        ("google-bert/bert-base-uncased", "--recipe quickstart", "data.train_file"),
    ),
    Row("hub unreachable: everything", lambda job: ["--recipe", "mrpc"], ("bert-base-uncased", "--recipe quickstart")),
)


def snapshot_of(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_message_status_and_nothing_written(
    row: Row, job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job.folder / "folder.csv").mkdir()
    arguments = ["tfft.fit", "--verbose", *job.arguments(*row.spoil(job))]
    before = snapshot_of(job.folder)
    monkeypatch.chdir(job.folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        command.run(fit.main)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    # A library may warn on standard error under --verbose; the message is what begins with `error: `.
    message = said[said.index("error: ") :]
    assert [word for word in row.words if word not in message] == [], message
    assert "Traceback" not in message
    assert snapshot_of(job.folder) == before


def test_a_recipe_with_several_mistakes_reports_each_with_file_and_line(job: Job) -> None:
    recipe = job.folder / "wrong.yaml"
    recipe.write_text("task: text-classification\nmodel:\n  name_or_path: x\ndata:\n  text_columns: 3\ntrainig: {}\n")
    done = job.fit("--recipe", str(recipe), "training.lr=1")
    assert done.returncode == 2
    assert f"{recipe}:5: data.text_columns: got 3" in done.stderr
    assert f"{recipe}:6: trainig: no such key" in done.stderr
    assert "command line: training.lr: no such key" in done.stderr
    assert "Traceback" not in done.stderr


def test_nan_loss_is_named_and_the_last_good_weights_stay(job: Job) -> None:
    # The rate is still small in the first epoch and beyond float32 in the second: 1e38 * step / 30 warmup steps.
    done = job.fit("training.learning_rate=1e38", "training.warmup_steps=1", "training.max_grad_norm=null")
    assert done.returncode == 2
    assert "the loss became" in done.stderr
    assert "in epoch 1 at step" in done.stderr
    assert "training.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (job.run / "metrics.json").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_that_looks_finished(job: Job) -> None:
    # The largest file that the process may write is smaller than the model: what a full disk does, at the same place.
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    code = limit + "sys.argv[0] = 'tfft.fit'; runpy.run_module('tfft.fit', run_name='__main__')"
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code, *job.arguments()], capture_output=True, text=True, cwd=job.folder, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert "output_dir" in done.stderr
    assert "not finished" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (job.run / "metrics.json").exists()
    assert not (job.run / "model").exists()
    assert not list((job.run / "checkpoint").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [rows_of(4)])
def test_a_good_job_passes_the_same_door(job: Job, rows: Sequence[tuple[str, object]]) -> None:
    assert job.fit("--dry-run").returncode == 0
    assert not job.run.exists()
