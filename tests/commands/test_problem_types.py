"""Whole trainings whose labels are numbers, or several a row, and rows that count differently."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

import tfft
from tests.commands.conftest import BAD, GOOD, Job, rows_of, write_csv
from tfft import data, predictions, recipe, tasks
from tfft.data import labels, memory, tables
from tfft.errors import DataError
from tfft.problems import Labels


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fit(
    job: Job, tmp_path: Path, problem_type: str, data: dict[str, Any], seed: int = 42, **training: Any
) -> tfft.FitResult:
    return tfft.fit(
        job.arguments()[1],
        seed=seed,
        problem_type=problem_type,
        data=data,
        output_dir=tmp_path / "run",
        training={"metrics": None, "num_train_epochs": 15, "learning_rate": 5e-3, **training},
        verbose=False,
    )


def test_numbers_are_learned(tmp_path: Path, job: Job) -> None:
    def scored(begin: int, count: int) -> list[tuple[object, ...]]:
        return [(text, 2.5 * label - 0.5) for text, label in rows_of(count, begin=begin)]  # type: ignore[operator]

    write_csv(job.folder / "train.csv", scored(0, 41), ("text", "score"))
    write_csv(job.folder / "validation.csv", scored(100, 12), ("text", "score"))
    # The toy learns it in few epochs with every second seed.
    result = fit(job, tmp_path, "regression", {"label_column": "score"}, seed=7)
    assert set(result.scores["eval"]) == {"loss", "mse", "pearsonr", "spearmanr"}
    assert result.scores["eval"]["mse"] == pytest.approx(result.scores["eval"]["loss"], rel=1e-5)
    assert result.scores["eval"]["pearsonr"] > 0.9
    predicted = result.predict([text for text, _ in rows_of(12, begin=100)])
    rows = table(tmp_path / "run" / "predictions.csv")
    assert list(rows[0]) == ["row", "text", "label", "prediction"]
    np.testing.assert_allclose(predicted, [float(row["prediction"]) for row in rows], atol=1e-5)
    config = AutoConfig.from_pretrained(tmp_path / "run" / "model")
    assert (config.problem_type, config.num_labels, config.id2label) == ("regression", 1, {0: "score"})


def sets_of(begin: int, count: int) -> list[tuple[str, list[str]]]:
    """Rows with a good word, a bad one, both or neither, and what they have."""
    rows = []
    for index in range(begin, begin + count):
        chosen = [GOOD[index % 4]] * (index % 2) + [BAD[index % 4]] * (index // 2 % 2)
        labels = ["good"] * (index % 2) + ["poor"] * (index // 2 % 2)
        rows.append((f"the movie {index} was {' and '.join(chosen) or 'there'}", labels))
    return rows


def write_sets(job: Job, given: str) -> dict[str, Any]:
    """Rows with several labels in one of the ways to write them; what the recipe says of it."""
    data: dict[str, Any] = {"lists": {}, "separator": {"label_separator": ";"}}.get(
        given, {"label_columns": ["good", "poor"]}
    )
    for name, rows in (("train", sets_of(0, 60)), ("validation", sets_of(100, 20))):
        path = job.folder / f"{name}.csv"
        if given == "columns":
            cells = [(text, int("good" in has), int("poor" in has)) for text, has in rows]
            write_csv(path, cells, ("text", "good", "poor"))
        elif given == "separator":
            write_csv(path, [(text, "; ".join(has)) for text, has in rows])
        else:
            path = path.with_suffix(".jsonl")
            path.write_text("".join(json.dumps({"text": text, "label": has}) + "\n" for text, has in rows))
            data[f"{name}_file"] = str(path)
    return data


@pytest.mark.parametrize("given", ["separator", "lists", "python"])
def test_labels_are_the_same_however_they_are_written(job: Job, given: str) -> None:
    def read(given: str) -> Any:
        overrides = [f"data.{key}={json.dumps(value)}" for key, value in write_sets(job, given).items()]
        chosen = recipe.load(job.arguments()[1], [*overrides, f"problem_type={tasks.MULTI_LABEL}", "~training.metrics"])
        return data.read(chosen.data, 0, problem_type=tasks.MULTI_LABEL).train

    columns = read("columns")
    if given == "python":
        rows = [{"text": text, "label": has} for text, has in sets_of(0, 60)]
        other, _ = memory.from_python(
            rows, text_columns=["text"], label_column="label", targets=tables.Targets(tasks.MULTI_LABEL)
        )
    else:
        other = read(given)
    expected = labels.encode_labels(columns, labels.settle_labels(columns, tasks.MULTI_LABEL))
    assert expected.tolist() == [[index % 2, index // 2 % 2] for index in range(60)]
    settled = labels.settle_labels(other, tasks.MULTI_LABEL)
    assert settled.names == ("good", "poor")
    assert labels.encode_labels(other, settled).tolist() == expected.tolist()


def test_several_labels_are_learned(tmp_path: Path, job: Job) -> None:
    validation = sets_of(100, 20)
    result = fit(job, tmp_path, tasks.MULTI_LABEL, write_sets(job, "columns"), learning_rate=3e-3)
    assert set(result.scores["eval"]) == {"loss", "f1_micro", "f1_macro", "threshold"}
    assert result.scores["eval"]["f1_micro"] > 0.7  # all of them said of every row would be 0.67
    answers: list[Labels] = result.predict([text for text, _ in validation])
    assert result.label_names == ("good", "poor")
    rows = table(tmp_path / "run" / "predictions.csv")
    assert [row["labels"] for row in rows] == [";".join(has) for _, has in validation]
    assert [row["predictions"] for row in rows] == [";".join(answer.labels) for answer in answers]
    judged = predictions.read(tmp_path / "run" / "predictions.csv", tasks.MULTI_LABEL)
    assert judged is not None
    assert judged.right.tolist() == [
        answer.labels == tuple(has) for answer, (_, has) in zip(answers, validation, strict=True)
    ]
    assert [float(row["probability_poor"]) for row in rows] == pytest.approx(
        [answer.probabilities["poor"] for answer in answers], abs=1e-5
    )
    config = AutoConfig.from_pretrained(tmp_path / "run" / "model")
    assert config.problem_type == "multi_label_classification"
    assert config.threshold == result.scores["eval"]["threshold"]


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["bucketed", "padded"])
def test_rows_count_by_their_weights(tmp_path: Path, job: Job, batching: str) -> None:
    """Nothing is learned of rows with weight 0, and weights of 1 are none."""

    def loss_with(name: str, column: str | None, of_some: float, turned: bool) -> float:
        cells = [
            (text, 1 - label if turned and index % 3 == 0 else label, of_some if index % 3 == 0 else 1.0)  # type: ignore[operator]
            for index, (text, label) in enumerate(rows_of(20))
        ]
        write_csv(job.folder / "train.csv", cells, ("text", "label", "counts"))
        result = tfft.fit(
            job.arguments()[1],
            data={"sample_weight_column": column, "batching": batching},
            output_dir=tmp_path / name,
            training={"max_steps": 3, "gradient_accumulation_steps": 2, "learning_rate": 1e-2},
            verbose=False,
        )
        return result.scores["eval"]["loss"]

    without = loss_with("a", None, 1.0, turned=False)
    assert loss_with("b", "counts", 1.0, turned=False) == pytest.approx(without, rel=1e-6)
    zero = loss_with("c", "counts", 0.0, turned=False)
    assert loss_with("d", "counts", 0.0, turned=True) == pytest.approx(zero, rel=1e-6)
    assert zero != pytest.approx(without, rel=1e-4)


@pytest.mark.parametrize(
    ("problem_type", "data", "header", "cells", "words"),
    [
        ("regression", {}, "label", ("1.5", "high"), r"row 2 \(line 3\): column 'label' has 'high', expected a finite"),
        ("regression", {}, "label", ("1.5", "1.5"), "the label of all 2 rows is 1.5; expected numbers that differ"),
        ("single_label_classification", {}, "label", ("0", "1.5"), "problem_type=regression to learn numbers"),
        (
            "multi_label_classification",
            {"label_columns": ["label"]},
            "label",
            ("1", "2"),
            r"row 2 \(line 3\): column 'label' has '2', expected 0 or 1",
        ),
        (
            "multi_label_classification",
            {"label_columns": ["joy", "label"]},
            "label",
            ("1", "0"),
            "no column 'joy'; the columns present are 'text', 'label'.* Set data.label_columns",
        ),
        (
            "multi_label_classification",
            {},
            "label",
            ("a", "b"),
            r"row 1 \(line 2\): the label is a string \('a'\), expected a list.*data.label_separator",
        ),
        ("multi_label_classification", {"label_separator": ";"}, "label", ("", ""), "no row has a label"),
        (
            "single_label_classification",
            {"sample_weight_column": "label", "label_column": "text2"},
            "label",
            ("1", "-2"),
            "no column 'text2'",
        ),
    ],
)
def test_labels_that_cannot_be_used(
    tmp_path: Path, job: Job, problem_type: str, data: dict[str, Any], header: str, cells: tuple[str, ...], words: str
) -> None:
    write_csv(job.folder / "train.csv", [("a", cells[0]), ("b", cells[1])], ("text", header))
    with pytest.raises(DataError, match=words):
        fit(job, tmp_path, problem_type, data)
    assert not (tmp_path / "run").exists()


def test_a_negative_weight_is_an_error(tmp_path: Path, job: Job) -> None:
    write_csv(job.folder / "train.csv", [("a", 0, 1), ("b", 1, -2)], ("text", "label", "counts"))
    with pytest.raises(DataError, match=r"row 2 \(line 3\): column 'counts' has the weight -2.0; expected 0 or more"):
        fit(job, tmp_path, "single_label_classification", {"sample_weight_column": "counts"})
