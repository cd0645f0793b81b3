"""`tfft.report`, and the page that a fit writes: the run's own scores, rows that are gone, mistakes."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import tfft
from tests.commands.conftest import fitted, rows_of
from tfft import evaluation, report
from tfft.errors import RunError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    return fitted(tmp_path_factory.mktemp("trained"), tiny_checkpoint, training={"report": True})


def words(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8")).split())


def scores_on(page: Path) -> dict[str, tuple[str, str, str]]:
    """Score to what stands beside it: its value and its interval."""
    section = words(page).partition("95 % interval")[2].partition(" Of ")[0]
    found = re.findall(r"(\w+) (-?\d+\.\d{4}) (?:(-?\d+\.\d{4}) to (-?\d+\.\d{4}))?", section)
    return {name: (value, low, high) for name, value, low, high in found}


def test_a_fit_writes_it_and_the_command_writes_the_same_scores(trained: tfft.FitResult, tmp_path: Path) -> None:
    page = trained.output_dir / "report.html"
    scores = json.loads((trained.output_dir / "metrics.json").read_text())["eval"]
    on_page = {name: rest[0] for name, rest in scores_on(page).items()}
    assert on_page == {name: f"{scores[name]:.4f}" for name in ("loss", "accuracy", "f1")}
    again = tfft.report(trained.output_dir, tmp_path / "again.html", verbose=False)
    assert scores_on(again) == scores_on(page)
    for said in ("train 41", "validation 12", "python -m tfft.fit --recipe", "Learning curves"):
        assert said in words(page) and said in words(again)


def test_report_evaluation_and_card_say_the_same(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = fitted(
        tmp_path,
        tiny_checkpoint,
        data={"max_length": 12, "long_text": "sliding_window", "stride": 2},
        training={"learning_rate": 1e-2, "per_device_eval_batch_size": 5},
        runtime={"mixed_precision": "bf16"},
    )
    made: list[tfft.Evaluation] = []

    def noted(*given: Any, **more: Any) -> tfft.Evaluation:
        made.append(make(*given, **more))
        return made[-1]

    make = evaluation.make
    monkeypatch.setattr(evaluation, "make", noted)
    card = tfft.push(done.output_dir, "owner/mine", license="mit", dry_run=True, verbose=False).card
    page = tfft.report(done.output_dir, tmp_path / "page.html", verbose=False)
    tfft.evaluate(done.output_dir, output=tmp_path / "evaluation", verbose=False)
    of_card, of_report, of_evaluation = [dataclasses.replace(one, source="") for one in made]
    assert of_card.to_dict() == of_report.to_dict() == of_evaluation.to_dict()

    for name, score in of_report.scores.items():
        said = (f"{score.value:.4f}", f"{score.low:.4f}", f"{score.high:.4f}")
        if name in ("loss", "accuracy", "f1"):
            assert scores_on(page)[name] == said
        assert f"| {name} | {said[0]} | {said[1]} to {said[2]} |" in card
    in_training = done.scores["eval"]["loss"]
    assert of_report.scores["loss"].value == pytest.approx(in_training, rel=1e-3)
    # Which float32 is told from.
    from tfft import validated

    plain = tfft.load(done.output_dir)
    split = validated.split_of(done.output_dir, plain, "single_label_classification")
    assert split.labels is not None
    assert plain.problem.mean_loss(plain.logits(split.encoded), split.labels) != of_report.scores["loss"].value


def test_a_worst_error_is_one_of_the_predictions(trained: tfft.FitResult) -> None:
    with (trained.output_dir / "predictions.csv").open(newline="") as file:
        wrong = [row for row in csv.DictReader(file) if row["label"] != row["prediction"]]
    page = words(trained.output_dir / "report.html")
    said = re.search(r"The (\d+) validation rows that are wrong", page)
    assert int(said[1] if said else 0) == len(wrong)
    assert all(one["text"] in page for one in wrong)


def test_a_fit_without_it(tmp_path: Path, tiny_checkpoint: Path) -> None:
    done = fitted(tmp_path, tiny_checkpoint, training={"report": False, "num_train_epochs": 1})
    assert not (done.output_dir / "report.html").exists()


def test_a_page_that_cannot_be_made_costs_no_training(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(material: Any) -> str:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("tfft.reports.page", fail)
    fitted(tmp_path, tiny_checkpoint, training={"num_train_epochs": 1}, output_dir=tmp_path / "other")
    done = tfft.fit(tmp_path / "recipe.yaml", training={"report": True, "num_train_epochs": 1})
    assert f"report.html could not be made (ZeroDivisionError: of ours); python -m tfft.report {done.output_dir} " in (
        capsys.readouterr().out.replace("\n", " ")
    )
    assert (done.output_dir / "metrics.json").is_file()
    with pytest.raises(ZeroDivisionError):
        tfft.report(done.output_dir, verbose=False)
    assert not (done.output_dir / "report.html").exists()


def test_rows_that_are_gone_are_said_to_be(
    trained: tfft.FitResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(trained.output_dir, run)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("train.csv", "gone.csv"))
    assert report.main([str(run)]) == 0
    assert "without the training rows: data.train_file" in capsys.readouterr().out.replace("\n", " ")
    page = words(run / "report.html")
    assert "The training rows could not be read again, so this page says nothing of them: data.train_file" in page
    assert scores_on(run / "report.html") == scores_on(trained.output_dir / "report.html")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["numbers", "tags", "labels", "not validated"])
def test_every_kind_of_run(kind: str, tmp_path: Path, tiny_checkpoint: Path) -> None:
    made = rows_of(30)
    data: dict[str, Any] = {"text_columns": ["text"], "label_column": "label"}
    settings: dict[str, Any] = {"task": "text-classification"}
    rows: list[dict[str, Any]] = [{"text": text, "label": label} for text, label in made]
    if kind == "numbers":
        settings["problem_type"] = "regression"
        rows = [{"text": text, "label": len(text) / 10} for text, _ in made]
    elif kind == "labels":
        settings["problem_type"] = "multi_label_classification"
        rows = [{"text": text, "label": ["a", "b"][: 1 + int(str(label))]} for text, label in made]
    elif kind == "tags":
        settings["task"] = "token-classification"
        rows = [{"text": text.split(), "label": ["B-X" if label else "O"] * len(text.split())} for text, label in made]
    validated = kind != "not validated"
    done = tfft.fit(
        model={"name_or_path": str(tiny_checkpoint)},
        data=data,
        training={"num_train_epochs": 1, "eval_strategy": "epoch" if validated else "no"},
        train=rows,
        validation=rows[:11] if validated else None,
        output_dir=tmp_path / "run",
        verbose=False,
        **settings,
    )
    of_fit, again = done.output_dir / "report.html", tmp_path / "again.html"
    tfft.report(done.output_dir, again, verbose=False)
    for page in (of_fit, again):
        text = words(page)
        assert ("Confident learning is for classes" in text) == (kind == "numbers")
        assert ("The run was not validated, so it has no scores." in text) == (not validated)
        assert "Its rows came from Python and are not kept" in text
    assert "train 30" in words(of_fit)
    if validated:
        assert "validation and" not in words(again)
        assert scores_on(again) == scores_on(of_fit) != {}


def test_mistakes(trained: tfft.FitResult, tmp_path: Path) -> None:
    for run, said in (
        (tmp_path / "none", "there is no folder"),
        (trained.output_dir / "model", "holds a model alone, without what its training was"),
    ):
        with pytest.raises(RunError, match=said):
            tfft.report(run)
    with pytest.raises(RunError, match="cannot be written; give a file in a folder that exists"):
        tfft.report(trained.output_dir, tmp_path / "a" / "b.html")
    torn = tmp_path / "torn"
    shutil.copytree(trained.output_dir, torn)
    (torn / "history.csv").write_text("epoch,loss\n1,much\n")
    with pytest.raises(RunError, match=r"history.csv is not as the run has written it"):
        tfft.report(torn)
