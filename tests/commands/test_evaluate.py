"""`python -m tfft.evaluate`, `tfft.evaluate` and calibrated predictions, on runs of tiny models."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import special

import tfft
from tests.commands.conftest import Job, rows_of, write_csv
from tests.conftest import files_no_larger_than
from tfft import console, predict
from tfft import evaluate as command
from tfft.data.labels import known_labels
from tfft.data.rows import Rows
from tfft.errors import UserError

COLUMNS = ("text", "label", "source", "stars")


def noisy(count: int, begin: int = 0) -> list[tuple[object, ...]]:
    """Rows of which every fifth has the wrong label, and two columns more."""
    return [
        (text, int(str(label)) ^ (at % 5 == 0), ("web", "mail", "=fax")[at % 11 % 3], at)
        for at, (text, label) in enumerate(rows_of(count, begin))
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    """A run of two classes, whose longer texts have several windows."""
    folder = tmp_path_factory.mktemp("classes")
    write_csv(folder / "train.csv", noisy(80), COLUMNS)
    write_csv(folder / "validation.csv", noisy(40, begin=100), COLUMNS)
    job = Job(folder, tiny_checkpoint)
    return tfft.fit(
        job.arguments()[1],
        data={"max_length": 16, "long_text": "sliding_window", "stride": 4},
        training={"learning_rate": 1e-2, "num_train_epochs": 3},
        verbose=False,
    )


@pytest.fixture
def run(trained: tfft.FitResult, tmp_path: Path) -> Path:
    """A copy of that run, elsewhere."""
    return shutil.copytree(trained.output_dir, tmp_path / "moved")


def of_rows(folder: Path, checkpoint: Path, data: dict[str, Any], rows: list[dict[str, Any]], **more: Any) -> Any:
    """A training on Python's rows, the first ten of which it is validated on."""
    return tfft.fit(
        model={"name_or_path": str(checkpoint)},
        data=data,
        training={"num_train_epochs": 1, "learning_rate": 5e-3},
        train=rows,
        validation=rows[:10],
        output_dir=folder / "run",
        verbose=False,
        **more,
    )


def values(found: tfft.Evaluation) -> dict[str, float | None]:
    return {name: score.value for name, score in found.scores.items()}


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return found


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What commands draw on a terminal from here on."""
    drawn = io.StringIO()
    voice = console.Voice(console=Console(file=drawn, force_terminal=True, width=120))
    monkeypatch.setattr(console, "Voice", lambda silent: voice)
    return drawn


def last_of_bar(drawn: io.StringIO) -> tuple[int, int]:
    """How many are done, and of how many, as the bar of the scoring has it in the end."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.getvalue())
    [*_, (done, total)] = re.findall(r"scoring .*? (\d+)/(\d+) ", plain)
    return int(done), int(total)


def test_scores_are_those_of_the_training(
    trained: tfft.FitResult, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--run", str(run), "--slice", "source", "--slice", "stars", "--slice", "label", "--resamples", "200"]
    assert command.main(typed) == 0
    told = capsys.readouterr().out
    folder = run / "evaluation" / "validation"
    assert sorted(os.listdir(folder)) == ["confusion.png", "evaluation.json", "reliability.png", "thresholds.png"]
    for name in ("confusion", "reliability", "thresholds"):
        with Image.open(folder / f"{name}.png") as picture:
            picture.verify()
    found, scores = figures(folder), trained.scores["eval"]
    assert {name: one["value"] for name, one in found["scores"].items()} == pytest.approx(scores, abs=1e-6)
    assert found["scores"]["accuracy"]["value"] == scores["accuracy"]
    for name, one in found["scores"].items():
        assert one["low"] <= one["value"] <= one["high"] and f"  {name}  " in told

    with (trained.output_dir / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for one in found["classes"]:
        assert one["wanted"] == sum(row["label"] == one["name"] for row in rows)
        assert one["predicted"] == sum(row["prediction"] == one["name"] for row in rows)
    confusion = np.asarray(found["confusion"]["counts"])
    assert confusion.sum() == 40 and np.trace(confusion) / 40 == pytest.approx(scores["accuracy"])
    assert sum(one["answers"] for one in found["calibration"]["bins"]) == 40
    assert found["calibration"]["nll"] == pytest.approx(scores["loss"], abs=1e-6)
    assert found["calibrated"] is None and found["thresholds"]["of"] == "1"

    by = {
        name: [one for one in found["slices"] if one["by"] == name]
        for name in ("column source", "column stars", "label", "length")
    }
    assert all(sum(one["rows"] for one in some) == 40 for some in by.values())
    assert sorted(one["name"] for one in by["column source"]) == ["=fax", "mail", "web"]
    assert len(by["column stars"]) == 4, "numbers by quartiles"
    assert [one["name"] for one in by["length"]] == ["whole", "in several windows"]
    mean = sum(one["rows"] * one["scores"]["accuracy"]["value"] for one in by["column source"]) / 40
    assert mean == pytest.approx(scores["accuracy"])

    assert command.main(typed) == 0, "the same rows again"
    assert {**figures(folder), "seconds": 0} == {**found, "seconds": 0}


def test_a_terminal_shows_how_far_the_scoring_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = terminal(monkeypatch)
    tfft.evaluate(run, resamples=10)
    done, total = last_of_bar(drawn)
    of_length = [one for one in figures(run / "evaluation" / "validation")["slices"] if one["by"] == "length"]
    (whole, several) = (one["rows"] for one in of_length)
    assert done == total >= whole + 2 * several, "windows, of which some texts have several"


def test_a_slice_is_as_a_file_of_its_rows(run: Path, tmp_path: Path) -> None:
    every = noisy(40, begin=100)
    web = write_csv(tmp_path / "web.csv", [row for row in every if row[2] == "web"], COLUMNS)
    whole = tfft.evaluate(run, write_csv(tmp_path / "all.csv", every, COLUMNS), slices=["source"], verbose=False)
    part = tfft.evaluate(run, web, verbose=False)
    (one,) = [one for one in whole.slices if one.name == "web"]
    assert one.rows == part.rows and one.scores == part.scores
    assert sorted(os.listdir(run / "evaluation")) == ["all.csv", "web.csv"]
    texts = [dict(zip(COLUMNS, row, strict=True)) for row in every]
    given = tfft.evaluate(run, texts, slices=["source"], verbose=False)
    assert (given.scores, given.slices) == (whole.scores, whole.slices)
    assert tfft.evaluate(run, texts, resamples=50, seed=1, verbose=False).scores["loss"] != given.scores["loss"]


@pytest.mark.slow
def test_calibration(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [str(row[0]) for row in noisy(40, begin=100)]
    plain = tfft.load(run)
    with pytest.raises(UserError, match=r"has no temperature .*--calibrate"):
        tfft.load(run, calibrated=True)
    assert command.main(["--run", str(run), "--calibrate", "--resamples", "20"]) == 0
    told = capsys.readouterr().out
    kept = json.loads((run / "calibration.json").read_text())
    assert f"temperature {kept['temperature']:.4f}, fitted on validation.csv (40 rows)" in told
    assert kept["after"]["nll"] < kept["before"]["nll"]
    found = figures(run / "evaluation" / "validation")
    assert found["calibrated"]["temperature"] == kept["temperature"]

    mended = tfft.load(run, calibrated=True)
    before, after = (
        np.asarray([[one.probability for one in row] for row in _by_label(p, texts)]) for p in (plain, mended)
    )
    assert abs(kept["temperature"] - 1) > 0.01
    np.testing.assert_allclose(after, special.softmax(np.log(before) / kept["temperature"], axis=1), rtol=1e-5)
    assert [one.label for one in mended.predict(texts)] == [one.label for one in plain.predict(texts)]
    assert predict.main(["--run", str(run), "--calibrated", texts[0]]) == 0
    share = mended.predict(texts[:1])[0].probability
    assert json.loads(capsys.readouterr().out)["probability"] == pytest.approx(share, abs=1e-5)

    # Of other rows, and with the temperature that is in the run.
    other = tfft.evaluate(
        run, write_csv(tmp_path / "o.csv", noisy(20, begin=300), COLUMNS), resamples=20, verbose=False
    )
    assert other.calibrated is not None and other.calibrated.temperature == kept["temperature"]

    plain.model.weights[-1].assign_add([0.5, 0.0])
    plain.model.save_pretrained(run / "model", safe_serialization=True)
    with pytest.raises(UserError, match=r"model.safetensors is not what the run has written .*; copy the run again"):
        tfft.load(run)
    told = json.loads((run / "metrics.json").read_text())
    del told["weights"]  # as of a run of a version that did not say
    (run / "metrics.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="of other weights"):
        tfft.load(run, calibrated=True)
    assert tfft.evaluate(run, split="validation", resamples=20, verbose=False).calibrated is None


def _by_label(predictor: Any, texts: list[str]) -> list[list[Any]]:
    return [sorted(row) for row in predictor.predict(texts, top_k=2)]


@pytest.mark.slow
def test_several_labels(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"text": row[0], "label": ["x", "y"][: 1 + int(str(row[1]))]} for row in noisy(40)]
    data = {"text_columns": ["text"]}
    kind = "multi_label_classification"
    result = of_rows(tmp_path, tiny_checkpoint, data, rows, task="text-classification", problem_type=kind)
    scores = dict(result.scores["eval"])
    threshold = scores.pop("threshold")
    with pytest.raises(UserError, match="trained on rows from Python"):
        tfft.evaluate(tmp_path / "run", verbose=False)
    found = tfft.evaluate(tmp_path / "run", rows[:10], verbose=False)
    assert values(found) == pytest.approx(scores, abs=1e-6)
    assert found.thresholds is not None and set(found.thresholds.best_of_label) == {"x", "y"}
    assert (found.thresholds.best, found.thresholds.threshold) == pytest.approx((threshold, threshold), abs=1e-5)
    assert {one.name: one.wanted for one in found.classes}["x"] == 10
    assert found.confusion is None and found.calibration is not None

    everything = tfft.evaluate(tmp_path / "run", rows, calibrate=True, overwrite=True, resamples=20, verbose=False)
    assert everything.calibrated is not None
    plain, mended = tfft.load(tmp_path / "run"), tfft.load(tmp_path / "run", calibrated=True)
    texts = [str(row["text"]) for row in rows]
    for one, other in zip(plain.predict(texts), mended.predict(texts), strict=True):
        assert one.labels == other.labels
        logit = special.logit(one.probabilities["y"]) / everything.calibrated.temperature
        assert other.probabilities["y"] == pytest.approx(special.expit(logit), abs=1e-5)


def test_numbers_of_pairs(tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": row[0], "b": "so", "label": float(str(row[1])) + at / 50} for at, row in enumerate(noisy(40))]
    data = {"text_columns": ["a", "b"]}
    result = of_rows(tmp_path, tiny_checkpoint, data, rows, task="text-classification", problem_type="regression")
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({**row, "part": "\ud800"}) + "\n" for row in rows[:10]))
    assert command.main(["--run", str(tmp_path / "run"), "--data", str(file), "--slice", "part"]) == 0
    assert "residuals: mean" in capsys.readouterr().out
    found = figures(tmp_path / "run" / "evaluation" / "pairs.jsonl")
    assert {name: one["value"] for name, one in found["scores"].items()} == pytest.approx(
        result.scores["eval"], abs=1e-5
    )
    assert (tmp_path / "run" / "evaluation" / "pairs.jsonl" / "numbers.png").is_file()
    predicted = np.asarray(result.predict([(row["a"], row["b"]) for row in rows[:10]]))
    residuals = predicted - [row["label"] for row in rows[:10]]
    assert found["residuals"]["mean"] == pytest.approx(residuals.mean(), abs=1e-5)
    assert found["residuals"]["quantiles"]["1"] == pytest.approx(residuals.max(), abs=1e-5)
    assert (found["calibration"], found["classes"], found["thresholds"]) == (None, [], None)
    assert [one["name"] for one in found["slices"] if one["by"] == "column part"] == ["\ud800"]
    with pytest.raises(UserError, match="predicts numbers, which have no probabilities"):
        tfft.evaluate(tmp_path / "run", file, calibrate=True, verbose=False)


def test_words(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"tokens": ["good", "tea", "in", "the", str(at)], "tags": ["B-X", "I-X", "O", "O", "B-Y" if at % 3 else "O"]}
        for at in range(24)
    ]
    data = {"text_columns": ["tokens"], "label_column": "tags", "max_length": 10}
    result = of_rows(tmp_path, tiny_checkpoint, data, rows, task="token-classification")
    file = tmp_path / "rows.conll"
    file.write_text("\n".join("".join(f"{w}\t{t}\n" for w, t in zip(*row.values(), strict=True)) for row in rows[:10]))
    drawn = terminal(monkeypatch)
    found = tfft.evaluate(tmp_path / "run", file, calibrate=True)
    assert last_of_bar(drawn) == (10, 10)
    assert values(found) == pytest.approx(result.scores["eval"], abs=1e-6)
    assert (found.unit, found.rows) == ("sentences", 10)
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())["train_classes"]
    assert kept == {"B-X": 24, "B-Y": 16, "I-X": 24, "O": 56}, "words"
    assert [(one.name, one.wanted) for one in found.classes] == [("X", 10), ("Y", 6)]
    assert found.confusion is not None and found.confusion.counts.sum() == 50
    assert found.calibrated is not None
    mended = tfft.load(tmp_path / "run", calibrated=True)
    assert mended.temperature == found.calibrated.temperature
    with pytest.raises(UserError, match="CoNLL's format, whose columns are of words"):
        tfft.evaluate(tmp_path / "run", file, slices=["tags"], verbose=False)


def test_validation_rows_out_of_the_training_file(tmp_path: Path, tiny_checkpoint: Path) -> None:
    write_csv(tmp_path / "train.csv", noisy(60), COLUMNS)
    write_csv(tmp_path / "validation.csv", noisy(2), COLUMNS)
    job = Job(tmp_path, tiny_checkpoint)
    changes = ["~data.validation_file", "data.validation_split=0.3", "data.max_eval_samples=15"]
    from tfft import recipe

    result = tfft.fit(recipe.load(job.arguments()[1], changes), verbose=False)
    found = tfft.evaluate(job.run, slices=["stars"], min_rows=1, verbose=False)
    assert values(found) == pytest.approx(result.scores["eval"], abs=1e-6)
    with (job.run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        numbers = sorted(int(row["row"]) - 1 for row in csv.DictReader(file))
    stars = [one.name for one in found.slices if one.by == "column stars"]
    assert stars[0].startswith(f"{numbers[0]} to ") and stars[-1].endswith(f" to {numbers[-1]}")
    with pytest.raises(UserError, match="has no test rows; give rows by --data"):
        tfft.evaluate(job.run, split="test", verbose=False)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(UserError, match=r"not there any more: there is no file .*train\.csv"):
        tfft.evaluate(job.run, verbose=False)


def test_mistakes_change_nothing(run: Path, tmp_path: Path) -> None:
    good = write_csv(tmp_path / "good.csv", noisy(6), COLUMNS)
    other = write_csv(tmp_path / "other.csv", [("a", 1)], ("txet", "label"))
    unknown = write_csv(tmp_path / "unknown.csv", [("a", 1), ("b", 7)], ("text", "label"))
    latin = tmp_path / "latin.csv"
    latin.write_bytes("text,label\ncaf\u00e9,1\n".encode("latin-1"))
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("text,label\na,1\nb,\n")
    empty, some_file = tmp_path / "empty.csv", tmp_path / "file"
    empty.write_text("")
    some_file.write_text("")
    somebodys = tmp_path / "somebodys"
    somebodys.mkdir()
    (somebodys / "thesis.txt").write_text("words")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for arguments, said in (
        (["--data", str(other)], "no column 'text'.*did you mean 'txet'.*Set data.text_columns"),
        (["--data", str(unknown)], r"row 2 \(line 3\): the label 7 does not occur in the training split"),
        (["--data", str(latin)], r"is not UTF-8.*data.encoding=cp1252"),
        (["--data", str(lacking)], "1 in 'label'|row 2"),
        (["--data", str(empty)], "the file is empty"),
        (["--data", str(tmp_path / "god.csv")], r"did you mean .*good\.csv"),
        (["--data", str(good), "--split", "test"], "expected it or --data"),
        (
            ["--data", str(good), "--slice", "sauce"],
            "--slice: .*no column 'sauce'.*did you mean 'source'.*Give --slice",
        ),
        (["--data", str(good), "--output", str(some_file)], "is a file; give a folder"),
        (["--data", str(good), "--output", str(somebodys), "--overwrite"], "not an evaluation's"),
        (["--split", "test"], "has no test rows"),
        (["--split", "test", "--calibrate"], "fitted on validation rows"),
        (["--seed", "-1"], "--seed: got -1; expected 0 or more"),
        (["data.max_length=32"], "data.max_length: the model was trained with 16, which stays"),
        (["data.text_colums=[a]"], "did you mean data.text_columns"),
        (["training.metrics=[seqeval]"], "metric seqeval compares tags|seqeval"),
    ):
        with pytest.raises(UserError, match=f"(?s){said}"):
            command.main(["--run", str(run), *arguments])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert command.main(["--run", str(run), "--data", str(other), "data.text_columns=[txet]"]) == 0


def test_runs_that_cannot_be_evaluated(run: Path, tmp_path: Path) -> None:
    newer = shutil.copytree(run, tmp_path / "newer")
    (newer / "recipe.yaml").write_text((newer / "recipe.yaml").read_text() + "of_the_future: 1\n")
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    for folder, said in (
        (newer, "of_the_future.*another version of tfft"),
        (unfinished, "unfinished run; finish it with"),
        (run / "model", "a model alone"),
        (tmp_path / "movd", "no folder .*did you mean .*moved"),
    ):
        with pytest.raises(UserError, match=f"(?s){said}"):
            command.main(["--run", str(folder)])


def test_other_rows_replace_nothing_unasked(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = write_csv(tmp_path / "a.csv", noisy(6), COLUMNS)
    second = write_csv(tmp_path / "b.csv", noisy(7), COLUMNS)
    quick: dict[str, Any] = {"output": output, "resamples": 10, "verbose": False}
    tfft.evaluate(run, first, **quick)
    with pytest.raises(UserError, match=r"evaluation of other rows \(6 of a\.csv\)"):
        tfft.evaluate(run, second, **quick)
    assert figures(output)["rows"] == 6
    tfft.evaluate(run, second, overwrite=True, **quick)
    assert figures(output)["rows"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "moved", "out"]
    assert not (run / "evaluation").exists()


def test_a_full_disk(run: Path) -> None:
    before = sorted(os.listdir(run))
    with files_no_larger_than(5000), pytest.raises(UserError, match=r"failed: .*nothing of it was kept"):
        tfft.evaluate(run, calibrate=True, resamples=10, verbose=False)
    assert sorted(os.listdir(run)) == sorted([*before, "evaluation"])
    assert os.listdir(run / "evaluation") == []


@pytest.mark.parametrize(
    ("names", "labels", "class_names", "expected"),
    [
        (("bad", "good"), ["good"], None, ("bad", "good")),
        (("-1", "4"), [4, -1], None, (-1, 4)),
        (("bad", "good"), [1, 0], None, (0, 1)),
        (("bad", "good"), [1, 0], ("good", "bad"), (0, 1)),
        (("False", "True"), [True], None, (False, True)),
        (("0", "1"), ["1"], None, ("0", "1")),
    ],
)
def test_what_a_models_classes_are_called(names: Any, labels: Any, class_names: Any, expected: Any) -> None:
    rows = Rows((["a"] * len(labels),), labels, range(len(labels)), "rows", class_names)
    assert known_labels(names, rows).values == expected


@pytest.mark.parametrize("typed", [["--help"], ["--run", "none"]])
def test_help_and_mistakes_are_told_before_tensorflow_is_loaded(typed: list[str]) -> None:
    program = (
        "import sys\nfrom tfft import evaluate\nfrom tfft.errors import UserError\n"
        f"try:\n    evaluate.main({typed!r})\nexcept (SystemExit, UserError) as error:\n    print(error)\n"
        "print('tensorflow' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.endswith("\nFalse\n"), ended.stderr
