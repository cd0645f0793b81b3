"""Students and teachers as a user types them: what is learned, what is left, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job, fitted, killed_at_state, rows_of, write_csv
from tests.commands.test_resume import assert_the_same
from tfft import bench, distill, lr_find
from tfft.distillation import teachers
from tfft.errors import DataError, ModelError, RecipeError, RunError, UserError


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A finished run that knows good from bad."""
    folder = tmp_path_factory.mktemp("teacher")
    training = {"num_train_epochs": 8, "learning_rate": 1e-2, "warmup_ratio": 0.1}
    assert fitted(folder, tiny_checkpoint, rows=200, training=training).scores["eval"]["accuracy"] == 1.0
    return folder / "run"


def changed_copy(model: Path, target: Path, **settings: Any) -> Path:
    """A model's folder with other settings in its configuration."""
    shutil.copytree(model, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **settings}))
    return target


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
    section = {"student": {"hidden_size": 8}, "hidden_weight": 1.0}
    histories = [distilled(job, teacher, section, training={"num_train_epochs": 1}).history for _ in range(2)]
    assert len(loads) == 1 + 2  # for the logits, and for either training's own steps
    # From the cache or not, the same is trained.
    assert histories[0] == histories[1]


def test_labels_alone_are_what_fit_does_without_a_teacher(job: Job, teacher: Path) -> None:
    """A teacher that counts nothing; but for the masks of dropout, which are drawn anew after it."""
    recipe, quiet = job.arguments()[1], {"num_train_epochs": 1}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    changed = changed_copy(job.checkpoint, job.folder / "without-dropout", **still)
    given: dict[str, Any] = {"model": {"name_or_path": str(changed)}, "training": quiet}
    alone = tfft.fit(recipe, verbose=False, **given)
    section = {"labels_weight": 1.0, "logits_weight": 0.0}
    taught = distilled(job, teacher, section, **given)
    assert taught.history[0]["loss"] == pytest.approx(alone.history[0]["loss"], rel=1e-6)
    assert taught.scores["eval"]["loss"] == pytest.approx(alone.scores["eval"]["loss"], rel=1e-6)


# --- Mistakes ---------------------------------------------------------------------------------------------------------

INSIDE = "distillation.hidden_weight=1"
# What is changed in the teacher's configuration, the overrides, and what the message says.
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "other labels": (
        {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}},
        (),
        ("distillation.teacher", "trained for the labels 'no', 'yes'", "the rows have '0', '1'"),
    ),
    "other problems": ({"problem_type": "multi_label_classification"}, (), ("trained for multi_label", "single_label")),
    "fewer layers": (
        {"num_hidden_layers": 1},
        (INSIDE,),
        ("has 1 layers, and the student 2", "model.keep_layers=1"),
    ),
    "other heads": (
        {"num_attention_heads": 4},
        ("distillation.attention_weight=1",),
        ("distillation.attention_weight", "4 attention heads and the student 2", "distillation.relations_weight"),
    ),
    "relations that do not divide": (
        {},
        ("distillation.relations_weight=1", "distillation.relation_heads=3"),
        ("distillation.relation_heads", "got 3", "16 of the teacher and 16 of the student"),
    ),
    "fewer positions": (
        {"max_position_embeddings": 32},
        (INSIDE,),
        ("data.max_length: rows may have 64 tokens", "positions for 32"),
    ),
    "layers that it lacks": ({}, ("model.keep_layers=3",), ("model.keep_layers", "got 3", "from 1 to 2")),
    "a width that does not divide": (
        {},
        ("distillation.student={hidden_size: 15}",),
        ("distillation.student", "a hidden_size of 15 with 2 num_attention_heads"),
    ),
    "a teacher in the way": ({}, ("output_dir={teacher}",), ("distillation.teacher", "lies in output_dir")),
    "nobody": ({}, ("distillation.teacher=runs/no",), ("distillation.teacher",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(
    job: Job, teacher: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, overrides, words = REFUSED[name]
    changed = changed_copy(teacher / "model", job.folder / "teacher", **changes)
    given = [f"distillation.teacher={changed}", *(one.replace("{teacher}", str(changed)) for one in overrides)]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as refused:
        distill.main([*job.arguments(*given), "--dry-run"])
    assert all(one in str(refused.value) for one in words), refused.value
    assert len(str(refused.value).splitlines()) == 1
    assert not job.run.exists()


def test_another_vocabulary_teaches_by_its_logits_alone(job: Job, teacher: Path) -> None:
    changed = changed_copy(teacher / "model", job.folder / "teacher")
    written = json.loads((changed / "tokenizer.json").read_text())
    written["model"]["vocab"] = {
        ("film" if word == "movie" else word): at for word, at in written["model"]["vocab"].items()
    }
    (changed / "tokenizer.json").write_text(json.dumps(written))
    arguments = job.arguments(f"distillation.teacher={changed}", "--dry-run")
    with pytest.raises(
        ModelError, match=r"distillation.teacher: .* have different vocabularies \(100 and 100 tokens\)"
    ):
        distill.main([*arguments, INSIDE])
    assert distill.main(arguments) == 0


def test_a_recipe_without_a_teacher_is_not_for_this_command(job: Job) -> None:
    with pytest.raises(RecipeError, match=r"^distillation: missing; expected a section with a teacher"):
        distill.main(job.arguments())
    with pytest.raises(RecipeError, match=r"^distillation: missing"):
        tfft.distill(job.arguments()[1])


def test_rows_without_labels_need_a_weight_of_zero_and_labels_to_validate_on(job: Job, teacher: Path) -> None:
    write_csv(job.folder / "train.csv", [(text,) for text, _ in rows_of(41)], ("text",))
    with pytest.raises(DataError, match=r"data.train_file: .* no column 'label'"):
        distilled(job, teacher)
    section = {"labels_weight": 0.0}
    share = {"train_file": str(job.folder / "train.csv"), "validation_split": 0.2, "validation_file": None}
    with pytest.raises(RecipeError, match=r"training.eval_strategy: .* the validation rows have no labels"):
        distilled(job, teacher, section, data=share)
    result = distilled(job, teacher, section, data=share, training={"eval_strategy": "no", "num_train_epochs": 1})
    assert result.scores == {}


def test_help_and_a_mistake_load_no_tensorflow() -> None:
    code = (
        "import sys\nfrom tfft import distill, errors\n"
        "for given in (['--help'], ['--recipe', 'quickstart']):\n"
        "    try: distill.main(given)\n"
        "    except (SystemExit, errors.UserError): pass\n"
        "print([name for name in ('tensorflow', 'tf_keras', 'transformers') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "python -m tfft.distill" in said
    assert said.splitlines()[-1] == "[]"


# --- With all else ----------------------------------------------------------------------------------------------------

EVERYTHING = {"hidden_weight": 1.0, "relations_weight": 1.0}
NARROW = {"student": {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16}, "relation_heads": 2}


@pytest.mark.slow
def test_a_narrow_student_with_new_weights_is_saved_without_what_it_was_compared_by(job: Job, teacher: Path) -> None:
    training = {"num_train_epochs": 2, "load_best_model_at_end": True, "save_steps": 2}
    result = distilled(job, teacher, {**EVERYTHING, **NARROW}, training=training)
    loaded = tfft.load(job.run)
    assert (loaded.model.config.hidden_size, loaded.model.config.num_hidden_layers) == (8, 1)
    texts = [text for text, _ in rows_of(12)]
    assert [one.label for one in loaded.predict(texts)] == [one.label for one in result.predict(texts)]
    names = [one.name for one in loaded.model.weights]
    assert not any("distillation" in name for name in names)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "features": ({}, {"training": {"strategy": "feature_extraction"}}),
    "lora": ({}, {"training": {"strategy": "lora"}}),
    "r_drop, accumulation": ({}, {"training": {"r_drop_alpha": 1.0, "gradient_accumulation_steps": 2}}),
    "fgm": ({}, {"training": {"fgm_epsilon": 0.1}}),
    "padded": ({}, {"data": {"batching": "padded"}}),
    "windows": ({}, {"data": {"max_length": 12, "long_text": "sliding_window", "stride": 2}}),
    "fp16": (EVERYTHING, {"runtime": {"mixed_precision": "fp16"}}),
    "xla": (EVERYTHING, {"runtime": {"xla": True}}),
    "ema, executions": (EVERYTHING, {"training": {"ema_momentum": 0.5}, "runtime": {"steps_per_execution": 3}}),
    "pruning, r_drop": (EVERYTHING, {"training": {"pruning_sparsity": 0.5, "r_drop_alpha": 1.0}}),
    "padded inside": ({**EVERYTHING, "attention_weight": 1.0}, {"data": {"batching": "padded"}}),
    "fewer layers of the teacher": ({**EVERYTHING, "attention_weight": 1.0}, {"model": {"keep_layers": 1}}),
    "slower layers, checkpoints": (EVERYTHING, {"runtime": {"accelerate": False}}),
    "gradient checkpointing": (EVERYTHING, {"training": {"gradient_checkpointing": True}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_with_every_other_technique(job: Job, teacher: Path, name: str) -> None:
    section, settings = VARIANTS[name]
    training = {"num_train_epochs": 1, **settings.get("training", {})}
    result = distilled(job, teacher, section, **{**settings, "training": training})
    assert np.isfinite(result.history[0]["loss"])
    assert tfft.load(job.run).predict(["a good movie"])


@pytest.mark.slow
def test_rates_are_looked_for_and_steps_measured_with_the_teacher(
    job: Job, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = [f"distillation.{name}={weight}" for name, weight in EVERYTHING.items()]
    given = [*job.arguments(f"distillation.teacher={teacher}", "distillation.student={hidden_size: 8}", *section)]
    assert lr_find.main([*given, "--steps", "20"]) == 0
    losses = json.loads((job.folder / "run-lr_find" / "lr_find.json").read_text())["losses"]
    assert losses[0] > 2.0  # a loss of two classes alone begins at 0.7
    assert bench.main([*given, "--rounds", "1", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "all weights are new and untrained" in said
    assert "1 rounds of 2 steps" in said


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["warm", "process"])
def test_a_sweep_looks_for_what_a_student_needs(job: Job, teacher: Path, isolation: str) -> None:
    settings = {
        "sweep.objective": "accuracy",
        "sweep.algorithm": "grid",
        "sweep.isolation": isolation,
        "sweep.parameters.distillation.temperature": "[1.0, 4.0]",
        "distillation.teacher": teacher,
        "training.num_train_epochs": 1,
        "output_dir": job.folder / "sweep",
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    result = tfft.sweep(job.arguments()[1], overrides, verbose=False)
    assert [one["status"] for one in result["trials"]] == ["completed", "completed"]
    folders = sorted((job.folder / "sweep" / "trials").iterdir())
    sections = [tfft.recipe.load(one / "recipe.yaml").distillation for one in folders]
    assert [(one.teacher, one.temperature) for one in sections if one] == [(str(teacher), 1.0), (str(teacher), 4.0)]
    losses = [json.loads((one / "metrics.json").read_text())["eval"]["loss"] for one in folders]
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_a_student_is_trained_with_several_seeds_beside_one_without_a_teacher(job: Job, teacher: Path) -> None:
    result = tfft.seeds(
        job.arguments()[1],
        [1, 2],
        against_settings={"distillation": None},
        distillation={"teacher": str(teacher), "logits_weight": 1.0},
        output=str(job.folder / "seeds"),
        verbose=False,
    )
    assert result.failures == ()
    seconds = [json.loads((one.folder / "metrics.json").read_text())["timing"] for one in result.runs]
    assert ["teacher_seconds" in one for one in seconds] == [True, False, True, False]
    losses = [json.loads((one.folder / "metrics.json").read_text())["eval"]["loss"] for one in result.runs]
    assert len(set(losses)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [("regression", [0.1, 2.5, 1.0]), ("multi_label_classification", ["a;b", "b", ""])],
)
def test_numbers_and_several_labels(job: Job, problem_type: str, labels: list[Any]) -> None:
    rows = [(text, labels[index % 3]) for index, (text, _) in enumerate(rows_of(30))]
    for name in ("train", "validation"):
        write_csv(job.folder / f"{name}.csv", rows)
    more: dict[str, Any] = {"problem_type": problem_type, "training": {"metrics": None, "num_train_epochs": 1}}
    if problem_type == "multi_label_classification":
        more["data"] = {"label_separator": ";"}
    first = job.folder / "first"
    tfft.fit(job.arguments()[1], verbose=False, output_dir=str(first), **more)
    for weight in (0.5, 0.0):
        result = distilled(job, first, {"labels_weight": weight}, **more)
        assert np.isfinite(result.history[0]["loss"])


@pytest.mark.slow
@pytest.mark.usefixtures("determinism")
@pytest.mark.parametrize("at", [2, 4])
def test_resumed_is_uninterrupted(job: Job, teacher: Path, at: int) -> None:
    """The map from one width to the other goes on too."""
    given: dict[str, Any] = {
        "training": {"num_train_epochs": 2, "save_steps": 2, "load_best_model_at_end": True},
        "runtime": {"deterministic": True},
    }
    section, whole = {**EVERYTHING, **NARROW}, job.folder / "whole"
    distilled(job, teacher, section, output_dir=str(whole), **given)
    with killed_at_state(at):
        distilled(job, teacher, section, **given)
    with pytest.raises(RunError, match=r"distillation.temperature: 2.0 before, 3.0 now"):
        distilled(job, teacher, {**section, "temperature": 3.0}, overwrite=False, resume=True, **given)
    distilled(job, teacher, section, overwrite=False, resume=True, **given)
    assert_the_same(job.run, whole)
