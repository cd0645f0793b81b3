"""The whole job as a user types it, and from Python: what it prints, what it leaves, and that it repeats."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests import families
from tests.commands.conftest import Job, rows_of, write_csv
from tfft import course, fit, recipe, scoring
from tfft.models import faster, headed, load, lora

FILES = {"recipe.yaml", "metrics.json", "history.csv", "predictions.csv", "model", "logs"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tuple[Job, str]:
    """A job that was run once, with a test split, and what it printed."""
    folder = tmp_path_factory.mktemp("job")
    write_csv(folder / "train.csv", rows_of(41))
    write_csv(folder / "validation.csv", rows_of(12, begin=100))
    write_csv(folder / "test.csv", rows_of(10, begin=200))
    job = Job(folder, tiny_checkpoint)
    ended = job.fit(f"data.test_file={folder / 'test.csv'}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return job, ended.stdout


def test_plain_lines_without_a_terminal(done: tuple[Job, str]) -> None:
    _, said = done
    assert "\x1b" not in said
    assert "rows: 41 train, 12 validation, 10 test; 2 classes: 0, 1" in said
    assert "new and untrained: classifier (2 tensors)" in said
    assert "accelerated: 2 layers of the encoder" in said
    assert "epoch 2 of 2: loss" in said
    assert "accuracy" in said.partition("Scores of run")[2]


def test_output_dir_holds_what_is_promised(done: tuple[Job, str]) -> None:
    job, _ = done
    assert {one.name for one in job.run.iterdir()} == FILES
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {one.name for one in (job.run / "model").iterdir()}
    assert list((job.run / "logs").rglob("events.out.tfevents.*"))


def test_metrics_have_every_figure(done: tuple[Job, str]) -> None:
    job, _ = done
    metrics = json.loads((job.run / "metrics.json").read_text())
    for split in ("eval", "test"):
        assert set(metrics[split]) == {"loss", "accuracy", "f1"}
        assert 0 <= metrics[split]["accuracy"] <= 1
    assert (metrics["train"]["rows"], metrics["train"]["steps"], metrics["train"]["epochs"]) == (41, 12, 2)
    assert metrics["train_classes"] == {"0": 21, "1": 20}
    assert 0 < metrics["timing"]["train_seconds"] < metrics["timing"]["total_seconds"]
    speed = 2 * 41 / metrics["timing"]["train_seconds"]
    assert metrics["timing"]["train_samples_per_second"] == pytest.approx(speed)
    assert 0 < metrics["timing"]["first_step_seconds"] < metrics["timing"]["total_seconds"]
    assert metrics["timing"]["steady_samples_per_second"] > 0
    assert metrics["train"]["tokens"] > 41
    assert metrics["memory"]["peak_rss_mb"] > 100
    assert {"tensorflow", "transformers", "device", "commit", "mixed_precision"} <= set(metrics["environment"])


def test_history_has_a_row_an_epoch_and_ends_with_the_scores(done: tuple[Job, str]) -> None:
    job, _ = done
    rows = table(job.run / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    scores = json.loads((job.run / "metrics.json").read_text())["eval"]
    assert {name: float(rows[-1][f"val_{name}"]) for name in scores} == scores
    assert float(rows[-1]["learning_rate"]) == 0


def test_predictions_are_the_validation_rows_in_order(done: tuple[Job, str]) -> None:
    job, _ = done
    rows = table(job.run / "predictions.csv")
    given = rows_of(12, begin=100)
    assert [(row["row"], row["text"], row["label"]) for row in rows] == [
        (str(number + 1), text, str(label)) for number, (text, label) in enumerate(given)
    ]
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    assert right == pytest.approx(json.loads((job.run / "metrics.json").read_text())["eval"]["accuracy"])


def test_saved_model_gives_the_predictions_in_plain_transformers(done: tuple[Job, str]) -> None:
    from transformers import AutoTokenizer, TFAutoModelForSequenceClassification

    job, _ = done
    model = TFAutoModelForSequenceClassification.from_pretrained(job.run / "model")
    tokenizer = AutoTokenizer.from_pretrained(job.run / "model")
    rows = table(job.run / "predictions.csv")
    inputs = tokenizer([row["text"] for row in rows], padding=True, truncation=True, max_length=64, return_tensors="tf")
    logits = model(**inputs).logits.numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert [model.config.id2label[index] for index in logits.argmax(axis=-1)] == [row["prediction"] for row in rows]
    np.testing.assert_allclose(shares.max(axis=-1), [float(row["probability"]) for row in rows], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", ["true", "false"])
def test_the_runs_own_recipe_repeats_it(done: tuple[Job, str], deterministic: str) -> None:
    job, _ = done
    folders = [job.folder / f"again-{deterministic}-{number}" for number in range(2)]
    for folder in folders:
        more = ("--recipe", str(job.run / "recipe.yaml"), f"output_dir={folder}")
        ended = job.fit(*more, f"runtime.deterministic={deterministic}")
        assert ended.returncode == 0, ended.stderr
        assert "token ids from the cache" in ended.stdout
    first, second = ((folder / "history.csv").read_text() for folder in folders)
    assert first == second
    if deterministic == "false":  # the run's own setting
        assert first == (job.run / "history.csv").read_text()


def test_dry_run_shows_the_plan_and_writes_nothing(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = job.arguments("--dry-run", "--verbose", "training.warmup_ratio=0.25", "data.max_length=12")
    before = sorted(job.folder.rglob("*"))
    assert fit.main(arguments) == 0
    said = capsys.readouterr().out
    for words in (
        "12 steps of 8 rows, 6 an epoch, 3 of warmup",
        "Rows by class",
        "20 (48.8%)",
        "Length of training rows, in tokens",
        "longest allowed: 12 tokens; rows cut:",
        "lost",
        "parameters trained, 0 not",
        "memory of the largest step",
        "mixed_precision:",
        "device: ",
    ):
        assert words in said, words
    assert sorted(job.folder.rglob("*")) == before


@pytest.mark.slow
def test_overwrite_replaces_a_run(job: Job) -> None:
    assert fit.main(job.arguments("--verbose", "training.max_steps=1")) == 0
    assert fit.main(job.arguments("--verbose", "training.max_steps=2", "--overwrite")) == 0
    assert json.loads((job.run / "metrics.json").read_text())["train"]["steps"] == 2


def test_help_and_a_recipes_errors_load_nothing_large() -> None:
    code = (
        "import sys\nfrom tfft import fit\nfrom tfft.errors import RecipeError\n"
        "try:\n    fit.main(['--recipe', 'mrpc', 'training.lr=1'])\nexcept RecipeError: pass\n"
        "else: raise SystemExit('no error')\n"
        "try:\n    fit.main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('tensorflow', 'tf_keras', 'transformers', 'datasets') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("\n[]\n")


# --- from Python ------------------------------------------------------------------------------------------------------


def test_fit_from_python_with_rows_of_its_own(tmp_path: Path, tiny_checkpoint: Path) -> None:
    import pandas

    names = {0: "neg", 1: "pos"}
    rows = [{"body": text, "mood": names[int(str(label))]} for text, label in rows_of(24)]
    result = tfft.fit(
        model={"name_or_path": tiny_checkpoint},
        data={"text_columns": ["body"], "label_column": "mood"},
        training={"max_steps": 3, "metrics": ["accuracy", "f1_macro"]},
        task="text-classification",
        output_dir=tmp_path / "run",
        train=rows,
        validation=pandas.DataFrame(rows[:7]),
        verbose=False,
    )
    assert set(result.scores) == {"eval"}
    assert set(result.scores["eval"]) == {"loss", "accuracy", "f1_macro"}
    assert result.label_names == ("neg", "pos")
    assert result.history[-1]["epoch"] == 1
    predicted = result.predict([row["body"] for row in rows[:7]])
    written = table(tmp_path / "run" / "predictions.csv")
    assert [one.label for one in predicted] == [row["prediction"] for row in written]
    np.testing.assert_allclose(
        [one.probability for one in predicted], [float(row["probability"]) for row in written], atol=1e-5
    )
    assert "rows came from Python" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_fit_from_python_with_a_recipe_and_changes(tmp_path: Path, job: Job) -> None:
    _, path = job.arguments()[:2]
    loaded = recipe.load(path)
    by_object = tfft.fit(loaded, output_dir=tmp_path / "a", training={"max_steps": 2}, verbose=False)
    by_path = tfft.fit(path, output_dir=tmp_path / "b", training={"max_steps": 2}, verbose=False)
    assert by_object.scores == by_path.scores
    assert by_object.history == by_path.history


def test_pairs_of_texts(tmp_path: Path, job: Job) -> None:
    rows = [{"a": text, "b": f"a movie {label}", "label": label} for text, label in rows_of(16)]
    result = tfft.fit(
        job.arguments()[1],
        data={"text_columns": ["a", "b"]},
        training={"max_steps": 2, "metrics": ["accuracy"]},
        output_dir=tmp_path / "pairs",
        train=rows,
        validation=rows[:4],
        verbose=False,
    )
    assert len(result.predict([("good movie", "a movie 1"), ("bad movie", "a movie 0")])) == 2
    assert list(table(tmp_path / "pairs" / "predictions.csv")[0])[:3] == ["row", "text", "text_pair"]


def test_test_rows_without_labels_are_not_scored(tmp_path: Path, job: Job) -> None:
    write_csv(job.folder / "test.csv", [(text, "") for text, _ in rows_of(5)])
    result = tfft.fit(
        job.arguments()[1],
        data={"test_file": job.folder / "test.csv"},
        training={"max_steps": 1},
        output_dir=tmp_path / "x",
        verbose=False,
    )
    assert set(result.scores) == {"eval"}


# Each changes what is learned from the same rows with the same seed.
TECHNIQUES = (
    {"strategy": "feature_extraction"},
    {"fgm_epsilon": 1.0},
    {"fgm_epsilon": 0.1},
    {"ema_momentum": 0.5},
    {"strategy": "bitfit"},
    {"strategy": "lora"},
    {"strategy": "lora", "lora_r": 2},
    {"strategy": "lora", "lora_alpha": 64.0},
    {"strategy": "lora", "lora_dropout": 0.5},
    {"strategy": "lora", "lora_target_modules": ["key"]},
    {"layerwise_lr_decay": 0.5},
    {"learning_rate_multipliers": {"head": 0.1, "*": 1.0}},
    {"gradient_accumulation_steps": 2},
    {"class_weight": "balanced"},
    {"class_weight": {"0": 3.0, "1": 1.0}},
    {"label_smoothing_factor": 0.2},
    {"focal_gamma": 2.0},
    {"r_drop_alpha": 1.0},
)


@pytest.mark.slow
def test_every_technique_of_a_recipe_changes_what_is_learned(tmp_path: Path, job: Job) -> None:
    """A key that were accepted and not handed on would give a run like another's."""
    write_csv(job.folder / "train.csv", [(text, label) for text, label in rows_of(24) if label or "1" in text])
    losses = {}
    for number, changes in enumerate(({}, *TECHNIQUES)):
        changes = {"max_steps": 3, "learning_rate": 1e-2, "metrics": ["accuracy"], **changes}
        done = tfft.fit(job.arguments()[1], output_dir=tmp_path / f"{number}", training=changes, verbose=False)
        losses[str(changes)] = done.scores["eval"]["loss"]
    assert len(set(losses.values())) == len(losses), losses


@pytest.mark.parametrize("head", ["cls", pytest.param("mean", marks=pytest.mark.slow)])
def test_a_head_of_its_own_is_trained_on_outputs_computed_once(tmp_path: Path, job: Job, head: str) -> None:
    """The encoder stays as it is; the model of the result takes text, and its folder can be trained on."""
    changes: dict[str, Any] = {
        "model": {"head": head, "head_hidden_size": 8},
        "training": {"strategy": "feature_extraction", "learning_rate": 1e-2, "num_train_epochs": 4},
        "verbose": False,
    }
    result = tfft.fit(job.arguments()[1], output_dir=tmp_path / "run", **changes)
    timing = json.loads((tmp_path / "run" / "metrics.json").read_text())["timing"]
    assert 0 < timing["features_seconds"] < timing["total_seconds"] - timing["train_seconds"]
    written = [float(row["probability"]) for row in table(tmp_path / "run" / "predictions.csv")]
    texts = [text for text, _ in rows_of(12, begin=100)]
    np.testing.assert_allclose([one.probability for one in result.predict(texts)], written, atol=1e-5)
    again = headed.load_headed(tmp_path / "run" / "model")
    own, base = (one.bert.encoder.layer[0].bert_output.dense.kernel for one in (again, result.model))
    np.testing.assert_array_equal(own, base)
    # From the cache this time, and with the same scores.
    repeated = tfft.fit(job.arguments()[1], output_dir=tmp_path / "again", **changes)
    assert repeated.scores == result.scores
    onward = tfft.fit(
        job.arguments()[1],
        output_dir=tmp_path / "onward",
        model={"name_or_path": str(tmp_path / "run" / "model")},
        training={"max_steps": 1, "learning_rate": 1e-9},
        verbose=False,
    )
    assert onward.scores["eval"]["loss"] == pytest.approx(result.scores["eval"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_acceleration_can_be_turned_off_and_says_where_it_is_not_for_the_model(
    tmp_path: Path, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    once = {"training": {"max_steps": 1}}
    result = tfft.fit(job.arguments()[1], output_dir=tmp_path / "off", runtime={"accelerate": False}, **once)
    assert not any(map(faster.is_accelerated, result.model.bert.encoder.layer))
    assert "accelerated" not in capsys.readouterr().out
    albert = tmp_path / "albert"
    shutil.copytree(job.checkpoint, albert, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    families.make("albert", vocab_size=len((albert / "vocab.txt").read_text().split())).save_pretrained(albert)
    tfft.fit(job.arguments()[1], output_dir=tmp_path / "run", model={"name_or_path": str(albert)}, **once)
    assert "accelerated: nothing, since this family has no faster layers" in capsys.readouterr().out


def test_less_is_kept_for_the_backward_pass_where_that_is_asked_for(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    accelerate = faster.accelerate

    def seen(model: Any, gradient_checkpointing: bool = False) -> int:
        asked.append(gradient_checkpointing)
        return accelerate(model, gradient_checkpointing) if "Bert" in type(model).__name__ else 0

    monkeypatch.setattr(faster, "accelerate", seen)
    training = {"max_steps": 2, "gradient_checkpointing": True}
    tfft.fit(job.arguments()[1], output_dir=tmp_path / "run", training=training, verbose=False)
    assert asked == [True]
    monkeypatch.setattr(faster, "accelerate", lambda *_: 0)
    with pytest.raises(tfft.errors.ModelError, match=r"gradient_checkpointing: got true; expected false, .* BERT, "):
        tfft.fit(job.arguments()[1], output_dir=tmp_path / "other", training=training, verbose=False)


def test_a_gpu_that_is_asked_for_and_is_not_there(job: Job) -> None:
    ended = job.fit("runtime.strategy=one_device")
    assert ended.returncode == 2
    assert "runtime.strategy: got one_device, which is a GPU, and TensorFlow sees none here" in ended.stderr
    assert not job.run.exists()


@pytest.mark.slow
def test_several_steps_in_an_execution_are_the_same_training(tmp_path: Path, job: Job) -> None:
    histories = []
    for count in (1, 4):
        name = tmp_path / str(count)
        tfft.fit(job.arguments()[1], output_dir=name, runtime={"steps_per_execution": count}, verbose=False)
        histories.append([[float(value) for value in row.values()] for row in table(name / "history.csv")])
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)
    with pytest.raises(
        tfft.errors.RecipeError, match=r"got 4; expected whole epochs, or .* the 2 batches .* such as 2"
    ):
        tfft.fit(
            job.arguments()[1],
            output_dir=tmp_path / "cut",
            training={"max_steps": 8},
            runtime={"steps_per_execution": 4},
            verbose=False,
        )


@pytest.mark.slow
def test_compiled_programs_are_as_many_as_the_widths_and_are_kept(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short = [(f"{word} {number}", label) for number, (word, label) in enumerate([("good", 1), ("bad", 0)] * 10)]
    write_csv(job.folder / "train.csv", [*rows_of(24), *short])
    monkeypatch.setenv("TFFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    widths = {}
    for name in ("first", "second"):
        # Not `auto`, which on some processors measures compiled products first: those would be kept too.
        ended = job.fit(
            *("runtime.xla=true", "runtime.mixed_precision=no", f"output_dir={tmp_path / name}"),
            *("data.batching=bucketed", "data.max_length=12"),
        )
        assert ended.returncode == 0, ended.stderr
        compiled = json.loads((tmp_path / name / "metrics.json").read_text())["train"]["xla_programs_compiled"]
        assert len(list((tmp_path / "cache" / "xla").iterdir())) == 2, "and none for scoring"
        assert f"XLA: {compiled} new programs compiled; they are kept in {tmp_path / 'cache' / 'xla'}" in ended.stdout
        widths[name] = compiled
    assert "tokens: 8, 12" in ended.stdout
    assert widths == {"first": 2, "second": 0}


@pytest.mark.slow
def test_a_batch_that_does_not_fit_into_memory(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPU_BFC_MEM_LIMIT_IN_MB", "8")
    # oneDNN's fused product reads its output even where there was no memory for it, and the process dies.
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    ended = job.fit("training.per_device_train_batch_size=41", "data.padding=max_length", "data.max_length=64")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "memory ran out in a training step of 41 rows of up to 64 tokens" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (job.run / "metrics.json").exists()


@pytest.mark.slow
def test_averages_are_what_is_scored_and_kept(tmp_path: Path, job: Job) -> None:
    """With momentum 0 they are the weights themselves; near 1 they hardly leave where training began."""
    kept = {}
    for momentum in (None, 0.0, 0.999999):
        result = tfft.fit(
            job.arguments()[1],
            output_dir=tmp_path / str(momentum),
            training={"max_steps": 4, "learning_rate": 1e-2, "ema_momentum": momentum},
            verbose=False,
        )
        kept[momentum] = result.scores["eval"]["loss"]
        saved = load.read_tensors([tmp_path / str(momentum) / "model" / "model.safetensors"])
        np.testing.assert_array_equal(saved["classifier/kernel:0"], result.model.classifier.kernel)
    assert kept[0.0] == pytest.approx(kept[None], rel=1e-6)
    assert kept[0.999999] != pytest.approx(kept[None], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "passes"),
    [
        ({}, 2),
        ({"ema_momentum": 0.5}, 2),
        ({"strategy": "feature_extraction"}, 2),
        # The first epoch's weights are kept: the second is no better, and the end scores what was read again.
        ({"load_best_model_at_end": True, "metric_for_best_model": "accuracy", "learning_rate": 1e-7}, 3),
    ],
    ids=["the last weights", "averages", "a head", "the best weights"],
)
def test_validation_rows_are_scored_no_more_often_than_weights_change(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any], passes: int
) -> None:
    answer, answers = scoring.Scorer.answer, []
    monkeypatch.setattr(scoring.Scorer, "answer", lambda self: answers.append(self) or answer(self))
    scores = []
    for name in ("once", "again"):
        result = tfft.fit(job.arguments()[1], output_dir=tmp_path / name, training=training, verbose=False)
        scores.append(result.scores)
        monkeypatch.setattr(course._Course, "scores_now", lambda self: None)
    assert len(answers) == passes + 3
    assert scores[0] == scores[1]
    assert (tmp_path / "once" / "predictions.csv").read_text() == (tmp_path / "again" / "predictions.csv").read_text()


@pytest.mark.slow
def test_adapters_are_kept_apart_and_merged_and_the_run_can_be_replaced(tmp_path: Path, job: Job) -> None:
    training = {"strategy": "lora", "max_steps": 3, "learning_rate": 1e-2}
    first = tfft.fit(job.arguments()[1], output_dir=tmp_path / "run", training=training, verbose=False)
    assert {one.name for one in (tmp_path / "run").iterdir()} == FILES | {"adapters"}
    assert {one.name for one in (tmp_path / "run" / "adapters").iterdir()} == {lora.WEIGHTS_FILE, lora.SETTINGS_FILE}
    texts = [text for text, _ in rows_of(12, begin=100)]
    # The model of the result has them merged, and says what was scored with them apart.
    written = [float(row["probability"]) for row in table(tmp_path / "run" / "predictions.csv")]
    np.testing.assert_allclose([one.probability for one in first.predict(texts)], written, atol=1e-5)
    again = tfft.fit(job.arguments()[1], output_dir=tmp_path / "run", overwrite=True, training=training, verbose=False)
    assert again.scores == first.scores
