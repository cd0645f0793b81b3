"""`tfft.load` and `python -m tfft.predict` on runs of tiny models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job, rows_of, write_csv

TEXTS = [text for text, _ in rows_of(12, begin=100)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    """A run of two classes, with `max_length` 16."""
    folder = tmp_path_factory.mktemp("classes")
    write_csv(folder / "train.csv", rows_of(41))
    write_csv(folder / "validation.csv", rows_of(12, begin=100))
    job = Job(folder, tiny_checkpoint)
    return tfft.fit(job.arguments()[1], data={"max_length": 16}, verbose=False)


def fit(folder: Path, checkpoint: Path, data: dict[str, Any], **settings: Any) -> tfft.FitResult:
    return tfft.fit(
        model={"name_or_path": str(checkpoint)},
        data=data,
        training={"num_train_epochs": 1, "eval_strategy": "no"},
        output_dir=folder / "run",
        verbose=False,
        **settings,
    )


def test_a_loaded_run_answers_as_the_training_did(trained: tfft.FitResult, tmp_path: Path) -> None:
    moved = shutil.copytree(trained.output_dir, tmp_path / "elsewhere")
    loaded = tfft.load(moved)
    assert (loaded.max_length, loaded.text_columns, loaded.label_names) == (16, ("text",), trained.label_names)
    before, after = trained.predict(TEXTS), loaded.predict(TEXTS)
    assert [one.label for one in after] == [one.label for one in before]
    np.testing.assert_allclose([one.probability for one in after], [one.probability for one in before], atol=1e-5)
    both = loaded.predict(TEXTS, top_k=2)
    assert [one[0] for one in both] == after
    np.testing.assert_allclose([sum(share for _, share in one) for one in both], 1.0)
    bare = tfft.load(moved / "model")
    assert bare.text_columns is None and bare.max_length == 64, "as many positions as the model has"
    assert [one.label for one in bare.predict(TEXTS)] == [one.label for one in after]


def test_pairs(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"a": text, "b": f"not {text}", "label": label} for text, label in rows_of(20)]
    result = fit(tmp_path, tiny_checkpoint, {"text_columns": ["a", "b"]}, task="text-classification", train=rows)
    pairs = [(row["a"], row["b"]) for row in rows]
    loaded = tfft.load(tmp_path / "run")
    answers = loaded.predict(pairs)
    np.testing.assert_allclose(
        [one.probability for one in answers], [one.probability for one in result.predict(pairs)], atol=1e-5
    )
    for wrong, said in (
        (["one"], "number 1 is a single text; expected a pair"),
        ([("a", "b"), ("c",)], "number 2 is a single text; expected a pair"),
        ([("a", None)], "number 1 is or holds null"),
    ):
        with pytest.raises(tfft.errors.DataError, match=said):
            loaded.predict(wrong)


def test_several_labels(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"text": text, "label": ["x", "y"][: 1 + int(str(label))]} for text, label in rows_of(20)]
    result = fit(
        tmp_path,
        tiny_checkpoint,
        {"text_columns": ["text"]},
        task="text-classification",
        problem_type="multi_label_classification",
        train=rows,
    )
    result.problem.threshold = 0.123  # type: ignore[attr-defined]
    result.problem.note_in(result.model.config)
    result.model.save_pretrained(tmp_path / "run" / "model", safe_serialization=True)
    loaded = tfft.load(tmp_path / "run")
    assert loaded.problem.threshold == 0.123  # type: ignore[attr-defined]
    for answer, ranked in zip(loaded.predict(TEXTS), loaded.predict(TEXTS, top_k=2), strict=True):
        assert dict(ranked) == answer.probabilities
        assert ranked[0].probability >= ranked[1].probability
        assert answer.labels == tuple(name for name, share in answer.probabilities.items() if share >= 0.123)
