"""`tfft.pretrain` as a user types it: text without labels in, a checkpoint for `tfft.fit` out."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tfft
from tests.commands.conftest import Job, killed_at_state
from tests.commands.test_resume import assert_the_same
from tests.conftest import assert_names_nothing_outside
from tfft import distill, fit, pretrain
from tfft.backend import keras
from tfft.errors import DataError, ModelError, RecipeError, UserError
from tfft.models import checkpoint, load

WHO, DOES, WHAT = ("the movie", "a day", "you", "it"), ("was", "is", "not"), ("good", "bad", "reimbursed", "the end")


def documents(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)

    def sentence() -> str:
        return " ".join([generator.choice(WHO), generator.choice(DOES), generator.choice(WHAT), "."])

    return [" ".join(sentence() for _ in range(generator.randint(1, 6))) for _ in range(count)]


@pytest.fixture
def text(tmp_path: Path, tiny_checkpoint: Path) -> Job:
    """A job of 60 training documents and 12 to validate on, without labels."""
    for name, count, seed in (("train", 60, 1), ("validation", 12, 2)):
        (tmp_path / f"{name}.txt").write_text("\n".join(documents(count, seed)) + "\n", encoding="utf-8")
    return TextJob(tmp_path, tiny_checkpoint)


class TextJob(Job):
    def arguments(self, *more: str) -> list[str]:
        recipe = self.folder / "text.yaml"
        recipe.write_text(
            f"task: fill-mask\noutput_dir: {self.run}\nmodel:\n  name_or_path: {self.checkpoint}\n"
            f"data:\n  train_file: {self.folder / 'train.txt'}\n  validation_file: {self.folder / 'validation.txt'}\n"
            "  max_length: 32\ntraining:\n  num_train_epochs: 4\n  learning_rate: 3e-3\n"
            "  per_device_train_batch_size: 8\n  report: false\n",
            encoding="utf-8",
        )
        return ["--recipe", str(recipe), *more]


def metrics_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


def pretrained(text: Job, **settings: Any) -> tfft.FitResult:
    return tfft.pretrain(text.arguments()[1], verbose=False, **settings)


def test_text_in_a_checkpoint_out_that_is_fine_tuned(text: Job, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(text.arguments()) == 0
    said = capsys.readouterr().out
    assert "documents: 60 train (" in said and "has no masked-LM head; it begins from the embeddings" in said
    metrics = metrics_of(text.run)
    assert f"before training: perplexity {metrics['before']['perplexity']:,.2f}" in said
    assert metrics["eval"]["perplexity"] == pytest.approx(np.exp(metrics["eval"]["loss"]))
    assert metrics["eval"]["perplexity"] < 0.5 * metrics["before"]["perplexity"]
    assert "val_perplexity" in (text.run / "history.csv").read_text().splitlines()[0]
    found = checkpoint.find(str(text.run / "model"))
    assert load.load_model(found, "TFAutoModelForMaskedLM").new == ()
    # What the masked-LM model has no place for is kept for a classifier.
    ours, before = load_file(text.run / "model" / "model.safetensors"), load_file(text.checkpoint / "model.safetensors")
    np.testing.assert_array_equal(ours["bert/pooler/dense/kernel:0"], before["pooler.dense.weight"].T)
    np.testing.assert_array_equal(ours["bert/pooler/dense/bias:0"], before["pooler.dense.bias"])
    capsys.readouterr()
    arguments = Job(job.folder / "fine", job.checkpoint)
    arguments.folder.mkdir()
    model = f"model.name_or_path={text.run / 'model'}"
    rows = [f"data.{name}_file={job.folder / name}.csv" for name in ("train", "validation")]
    assert fit.main(arguments.arguments(model, *rows)) == 0
    said = capsys.readouterr().out
    assert "new and untrained: classifier (2 tensors); not used: mlm___cls" in said
    assert "accuracy" in metrics_of(arguments.run)["eval"]


def assert_the_same_training(run: Path, whole: Path) -> None:
    """Scores and history to the last digit, and weights to the last bit."""
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (run, whole))
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    assert (run / "history.csv").read_text() == (whole / "history.csv").read_text()
    for name in ("before", "eval"):
        assert metrics_of(run)[name] == metrics_of(whole)[name]


def test_a_seed_fixes_everything_and_another_changes_what_is_hidden(text: Job) -> None:
    one, same, other = (
        pretrained(text, output_dir=str(text.folder / name), seed=seed, training={"num_train_epochs": 1})
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert_the_same_training(text.folder / "same", text.folder / "one")
    assert one.scores == same.scores and one.scores["eval"] != other.scores["eval"]
    # What is hidden of the validation text is the same for all, and so is what the checkpoint knows of it.
    assert metrics_of(text.folder / "one")["before"] == metrics_of(text.folder / "other")["before"]


def test_a_training_that_was_broken_off_goes_on_with_the_same_masks(text: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"training": {"save_steps": 3, "num_train_epochs": 2}}
    pretrained(text, output_dir=str(text.folder / "whole"), **settings)
    stopped = StopsAfter(5)
    with pytest.raises(Stopped):
        pretrained(text, callbacks=[stopped], **settings)
    pretrained(text, resume=True, **settings)
    assert_the_same_training(text.run, text.folder / "whole")


class Stopped(Exception):
    pass


class StopsAfter(keras.callbacks.Callback):
    """Ends a training from within after so many batches, as no signal would."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if not self.left:
            raise Stopped


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"data": {"cross_documents": True, "whole_word_mask": True, "mlm_probability": 0.3}},
        {"data": {"documents": "paragraphs"}, "training": {"gradient_accumulation_steps": 2, "max_steps": 3}},
        {"data": {"add_tokens": 2}, "runtime": {"accelerate": False}, "training": {"num_train_epochs": 1}},
        {"data": {"padding": "max_length"}, "training": {"ema_momentum": 0.9, "num_train_epochs": 1}},
    ],
    ids=["crossing", "paragraphs", "new words", "padded"],
)
def test_ways_to_train(text: Job, settings: dict[str, Any]) -> None:
    result = pretrained(text, **settings)
    assert result.scores["eval"]["perplexity"] < metrics_of(text.run)["before"]["perplexity"]
    if settings["data"].get("add_tokens"):
        assert result.tokenizer.convert_tokens_to_ids(["reimbursed"])[0] >= 100
        again = checkpoint.find(str(text.run / "model"))
        assert again.config.vocab_size == len(checkpoint.load_tokenizer(again)) > 100


@pytest.mark.slow
def test_rows_from_python_and_a_column_of_a_file(text: Job) -> None:
    train, validation = ([{"review": one, "n": 1} for one in documents(count, 1)] for count in (40, 9))
    settings = {"data": {"text_columns": ["review"], "max_length": 32}, "training": {"num_train_epochs": 1}}
    model = {"name_or_path": str(text.checkpoint)}
    given = tfft.pretrain(
        train=train, validation=validation, model=model, output_dir=str(text.run), verbose=False, **settings
    )
    table = text.folder / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in train), encoding="utf-8")
    more = text.folder / "more.jsonl"
    more.write_text("".join(json.dumps(row) + "\n" for row in validation), encoding="utf-8")
    settings["data"] |= {"train_file": str(table), "validation_file": str(more)}
    of_file = tfft.pretrain(model=model, output_dir=str(text.folder / "of_file"), verbose=False, **settings)
    assert given.scores == of_file.scores


def test_the_report_is_of_what_there_is(text: Job) -> None:
    pretrained(text, training={"report": True, "num_train_epochs": 1})
    page = (text.run / "report.html").read_text(encoding="utf-8")
    assert_names_nothing_outside(page)
    assert "perplexity" in page and "Before training: loss" in page
    assert 'id="classes"' not in page and "was not validated" not in page
    written = text.folder / "again.html"
    tfft.report(text.run, output=written, verbose=False)
    assert "Before training: loss" in written.read_text(encoding="utf-8")


# --- Adapting in one step ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fit_adapts_its_model_on_its_own_texts_first(job: Job) -> None:
    settings = "training.further_pretraining={epochs: 2, learning_rate: 1e-3}"
    done = job.fit(settings)
    assert done.returncode == 0, done.stderr
    adapted = Path(f"{job.run}-further_pretraining")
    assert f"further pretraining: 2 epochs, in {adapted}" in done.stdout
    assert f"model: {adapted}/model" in done.stdout
    assert metrics_of(adapted)["train"]["rows"] == 41 and "perplexity" in metrics_of(adapted)["before"]
    assert "accuracy" in metrics_of(job.run)["eval"]
    # The two steps by hand are the same training.
    by_hand = job.fit(f"model.name_or_path={adapted}/model", f"output_dir={job.folder / 'by_hand'}")
    assert by_hand.returncode == 0, by_hand.stderr
    assert_the_same(job.run, job.folder / "by_hand")
    # A fine-tuning that has to be done again takes what was made.
    (job.run / "metrics.json").unlink()
    again = job.fit(settings, "--resume")
    assert again.returncode == 0 and "holds a finished run; nothing is left to do" in again.stdout


def test_a_fit_adapts_on_other_text(job: Job, text: Job) -> None:
    more = f"training.further_pretraining={{epochs: 1, train_file: {text.folder / 'train.txt'}, max_length: 32}}"
    assert fit.main(job.arguments(more)) == 0
    adapted = Path(f"{job.run}-further_pretraining")
    assert metrics_of(adapted)["train"]["rows"] >= 60
    assert metrics_of(job.run)["train"]["rows"] == 41


def test_a_mistake_in_the_fine_tuning_is_told_before_the_pretraining(job: Job) -> None:
    more = ("training.further_pretraining={epochs: 1}", "data.label_column=nothing")
    with pytest.raises(DataError, match="no column 'nothing'"):
        fit.main(job.arguments(*more))
    assert not Path(f"{job.run}-further_pretraining").exists() and not job.run.exists()


# --- Bad input --------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_in_one_message(text: Job, job: Job, tmp_path: Path) -> None:
    short, picture = tmp_path / "short.txt", tmp_path / "picture.txt"
    short.write_text("a day\n", encoding="utf-8")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    for settings, said in (
        ([f"data.train_file={short}"], "1 documents of train have 4 tokens in all"),
        ([f"data.train_file={picture}"], "is not UTF-8: byte 0x89 at offset 0"),
        (["data.train_file=there.pdf"], "expected a file that ends in"),
        (["training.metrics=[f1]"], "expected null, since task is fill-mask: it is scored by perplexity and accuracy"),
    ):
        with pytest.raises(UserError) as raised:
            pretrain.main(text.arguments(*settings))
        assert said in str(raised.value)
    assert not text.run.exists()
    with pytest.raises(RecipeError, match="task: got text-classification; expected fill-mask"):
        pretrain.main(job.arguments())


# --- A small encoder learns from a large one --------------------------------------------------------------------------

TINY = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 16}
INSIDE = {
    "logits_weight": 0.0,
    "hidden_weight": 1.0,
    "sentence_weight": 2.0,
    "relations_weight": 1.0,
    "relation_heads": 2,
}


def taught(text: Job, **settings: Any) -> tfft.FitResult:
    section = {"teacher": str(text.checkpoint), "student": TINY, **INSIDE, **settings.pop("distillation", {})}
    return tfft.distill(text.arguments()[1], verbose=False, distillation=section, **settings)


def test_a_small_encoder_learns_from_one_that_has_no_labels(
    text: Job, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    section = [f"distillation.{name}={value}" for name, value in INSIDE.items()]
    teacher = f"distillation.teacher={text.checkpoint}"
    assert distill.main(text.arguments(teacher, "distillation.student={hidden_size: 8}", *section)) == 0
    said = capsys.readouterr().out
    assert "all weights are new and untrained" in said
    assert f"teacher: {text.checkpoint}, a bert model" in said
    assert "no masked-LM head" not in said  # nothing is missing where all is new
    metrics = metrics_of(text.run)
    assert metrics["eval"]["loss"] < metrics["before"]["loss"]
    # A plain checkpoint of its own size: nothing of what it was compared by, and no pooler of another width.
    saved = load_file(text.run / "model" / "model.safetensors")
    assert not any("distillation" in name or "pooler" in name for name in saved)
    again = Job(job.folder / "fine", job.checkpoint)
    again.folder.mkdir()
    rows = [f"data.{name}_file={job.folder / name}.csv" for name in ("train", "validation")]
    assert fit.main(again.arguments(f"model.name_or_path={text.run / 'model'}", *rows)) == 0
    assert tfft.load(again.run).model.config.hidden_size == 8


def test_a_teacher_that_does_not_fit_is_told_in_one_message(text: Job, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(text.checkpoint, other)
    written = json.loads((other / "tokenizer.json").read_text())
    words = {("film" if word == "movie" else word): at for word, at in written["model"]["vocab"].items()}
    (other / "tokenizer.json").write_text(json.dumps({**written, "model": {**written["model"], "vocab": words}}))
    inside = [f"distillation.{name}={value}" for name, value in INSIDE.items()]
    for settings, said in (
        ([f"distillation.teacher={other}"], "have different vocabularies (100 and 100 tokens)"),
        (
            [f"distillation.teacher={text.checkpoint}", "distillation.student={num_hidden_layers: 3}"],
            "has 2 layers, and the student 3; expected at most as many",
        ),
        ([f"distillation.teacher={tmp_path / 'nobody'}"], "distillation.teacher: "),
    ):
        with pytest.raises(UserError) as raised:
            distill.main([*text.arguments(*inside, *settings), "--dry-run"])
        assert said in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    assert not text.run.exists()


def test_each_distance_is_learned_by_itself(text: Job) -> None:
    """The loss of hidden tokens counts next to nothing, so what falls is the distance."""
    for name in ("hidden_weight", "sentence_weight", "attention_weight", "relations_weight"):
        alone = {"hidden_weight": 0.0, "sentence_weight": 0.0, "relations_weight": 0.0, "relation_heads": None}
        section = {**alone, name: 1.0, "labels_weight": 1e-6}
        training = {"num_train_epochs": 8, "learning_rate": 1e-2, "eval_strategy": "no"}
        history = taught(text, distillation=section, training=training, overwrite=True).history
        assert history[-1]["loss"] < 0.7 * history[0]["loss"], name


@pytest.mark.slow
@pytest.mark.usefixtures("determinism")
def test_a_student_of_text_goes_on_where_it_was_broken_off(text: Job) -> None:
    given: dict[str, Any] = {
        "training": {"num_train_epochs": 2, "save_steps": 3, "load_best_model_at_end": True},
        "runtime": {"deterministic": True},
    }
    whole = text.folder / "whole"
    taught(text, output_dir=str(whole), **given)
    with killed_at_state(2):
        taught(text, **given)
    taught(text, resume=True, **given)
    assert_the_same_training(text.run, whole)


def test_a_run_without_labels_gives_none(text: Job) -> None:
    pretrained(text, training={"num_train_epochs": 1})
    with pytest.raises(ModelError, match=r"which gives no labels.*--task fill-mask --model"):
        tfft.load(text.run)
