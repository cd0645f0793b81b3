"""Students and teachers as a user types them: what is learned, what is left, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tfft
from tests.commands.conftest import Job, fitted, rows_of, write_csv
from tfft.distillation import teachers


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A finished run that knows good from bad."""
    folder = tmp_path_factory.mktemp("teacher")
    training = {"num_train_epochs": 15, "learning_rate": 1e-2, "warmup_ratio": 0.1}
    assert fitted(folder, tiny_checkpoint, training=training).scores["eval"]["accuracy"] == 1.0
    return folder / "run"


def distilled(job: Job, teacher: Path, section: dict[str, Any] | None = None, **settings: Any) -> tfft.FitResult:
    settings = {"verbose": False, "overwrite": True, **settings}
    return tfft.distill(job.arguments()[1], distillation={"teacher": str(teacher), **(section or {})}, **settings)


def test_a_student_learns_what_its_teacher_says_without_any_label(job: Job, teacher: Path) -> None:
    # Training rows without labels, and some of them to validate on, with labels the wrong way round.
    write_csv(job.folder / "train.csv", [(text,) for text, _ in rows_of(41)], ("text",))
    write_csv(job.folder / "validation.csv", [(text, 1 - int(str(label))) for text, label in rows_of(12)])
    training = {"num_train_epochs": 8, "learning_rate": 5e-3}
    model = {"name_or_path": str(teacher / "model"), "keep_layers": 1}
    section = {"labels_weight": 0.0, "logits_weight": 1.0}
    result = distilled(job, teacher, section, model=model, training={**training, "report": True})
    assert result.model.config.num_hidden_layers == 1
    assert result.label_names == ("0", "1")
    assert result.scores["eval"]["accuracy"] == 0.0  # it was the teacher that it listened to
    texts = [text for text, _ in rows_of(12)]
    ours, theirs = (tfft.load(one).predict(texts) for one in (job.run, teacher))
    assert [one.label for one in ours] == [one.label for one in theirs]
    assert (job.run / "report.html").is_file()


def test_the_command_leaves_a_plain_run(job: Job, teacher: Path) -> None:
    fewer = [f"model.name_or_path={teacher / 'model'}", "model.keep_layers=1", "training.num_train_epochs=1"]
    process = job.start(f"distillation.teacher={teacher}", *fewer, command="distill")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert f"teacher: {teacher}, a bert model" in out
    again = json.loads((job.run / "metrics.json").read_text())
    assert again["timing"]["teacher_seconds"] > 0
    loaded = tfft.load(job.run)
    assert loaded.model.config.num_hidden_layers == 1
    assert sum(one.shape.num_elements() for one in loaded.model.weights) < 7442  # what it has with two
    # `fit` does the same.
    recipe = tfft.recipe.load(job.run / "recipe.yaml")
    assert tfft.fit(recipe, verbose=False, overwrite=True).scores["eval"] == pytest.approx(again["eval"], rel=1e-5)


def test_logits_are_computed_once(job: Job, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    load = teachers.load
    monkeypatch.setattr(teachers, "load", lambda *args: loads.append(1) or load(*args))
    write_csv(job.folder / "train.csv", rows_of(30, begin=500))  # of no other test
    histories = [distilled(job, teacher, training={"num_train_epochs": 1}).history for _ in range(2)]
    assert len(loads) == 1
    # From the cache or not, the same is trained.
    assert histories[0] == histories[1]


def test_labels_alone_are_what_fit_does_without_a_teacher(job: Job, teacher: Path) -> None:
    """A teacher that counts nothing; but for the masks of dropout, which are drawn anew after it."""
    recipe, quiet = job.arguments()[1], {"num_train_epochs": 1}
    changed = job.folder / "without-dropout"
    shutil.copytree(job.checkpoint, changed)
    config = json.loads((changed / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (changed / "config.json").write_text(json.dumps({**config, **still}))
    given: dict[str, Any] = {"model": {"name_or_path": str(changed)}, "training": quiet}
    alone = tfft.fit(recipe, verbose=False, **given)
    section = {"labels_weight": 1.0, "logits_weight": 0.0}
    taught = distilled(job, teacher, section, **given)
    assert taught.history[0]["loss"] == pytest.approx(alone.history[0]["loss"], rel=1e-6)
    assert taught.scores["eval"]["loss"] == pytest.approx(alone.scores["eval"]["loss"], rel=1e-6)
