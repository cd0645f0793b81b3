"""Whole trainings on texts longer than the model's rows: every score and prediction is of a text, not of a window."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job, rows_of, write_csv


def long_rows(count: int, begin: int = 0) -> list[tuple[object, ...]]:
    """What tells the label stands at the end, behind more words than a row of 16 tokens holds in every other text."""
    return [
        (" ".join(["so"] * (20 * (index // 2 % 2))) + " " + text, label)
        for index, (text, label) in enumerate(rows_of(count, begin=begin))
    ]


@pytest.fixture
def fitted(tmp_path: Path, job: Job) -> Any:
    write_csv(job.folder / "train.csv", long_rows(30))
    write_csv(job.folder / "validation.csv", long_rows(11, begin=100))

    def fit(name: str, data: dict[str, Any], **training: Any) -> tfft.FitResult:
        return tfft.fit(
            job.arguments()[1],
            output_dir=tmp_path / name,
            data={"max_length": 16, **data},
            training={"learning_rate": 3e-3, "num_train_epochs": 2, **training},
            verbose=False,
        )

    return fit


@pytest.mark.parametrize("pooling", ["mean", pytest.param("max", marks=pytest.mark.slow)])
def test_windows_are_scored_and_predicted_as_one_text(tmp_path: Path, fitted: Any, pooling: str) -> None:
    data = {"long_text": "sliding_window", "stride": 4, "window_pooling": pooling}
    result = fitted("run", data, gradient_accumulation_steps=2)
    with (tmp_path / "run" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 12)]
    answers = result.predict([str(text) for text, _ in long_rows(11, begin=100)])
    assert [row["prediction"] for row in rows] == [answer.label for answer in answers]
    np.testing.assert_allclose(
        [float(row["probability"]) for row in rows], [one.probability for one in answers], atol=1e-5
    )
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    assert result.scores["eval"]["accuracy"] == pytest.approx(right)


@pytest.mark.slow
def test_what_is_kept_of_a_text_changes_what_is_learned(fitted: Any) -> None:
    ways = {
        "truncate": {},
        "head_tail": {"long_text": "head_tail"},
        "mean": {"long_text": "sliding_window"},
        "max": {"long_text": "sliding_window", "window_pooling": "max"},
        "overlapping": {"long_text": "sliding_window", "stride": 7},
    }
    losses = {name: fitted(name, data).scores["eval"]["loss"] for name, data in ways.items()}
    assert len(set(losses.values())) == len(ways), losses


@pytest.mark.slow
@pytest.mark.parametrize("technique", [{"r_drop_alpha": 1.0}, {"fgm_epsilon": 0.5}, {"class_weight": "balanced"}])
def test_techniques_work_on_windows(fitted: Any, technique: dict[str, Any]) -> None:
    assert np.isfinite(fitted("run", {"long_text": "sliding_window"}, max_steps=2, **technique).scores["eval"]["loss"])
