"""Runs that are scored every few steps, and that leave speeds, attentions and boards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job
from tests.commands.test_resume import assert_the_same, trained_whole
from tests.test_tensor_board import events

BY_STEPS = (
    "training.num_train_epochs=3",
    "training.eval_strategy=steps",
    "training.eval_steps=4",
    "training.save_steps=5",
    "training.load_best_model_at_end=true",
    "training.metric_for_best_model=loss",
    "training.early_stopping_patience=9",
)


def test_a_run_scored_every_few_steps_leaves_all_that_was_asked_for(job: Job) -> None:
    watched: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "load_best_model_at_end": True,
        "include_tokens_per_second": True,
        "attention_texts": ["a good movie"],
    }
    result = tfft.fit(job.arguments()[1], training=watched, verbose=False)
    steps = [4, 6, 8, 12]
    assert [row["step"] for row in result.history] == steps
    best = min(result.history, key=lambda row: row["val_loss"])
    assert result.scores["eval"]["loss"] == pytest.approx(best["val_loss"], abs=1e-6)
    lines = (job.run / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,step,learning_rate,loss,") and len(lines) == 5
    assert all(row["samples_per_second"] > 0 for row in result.history if row["step"] in (6, 12))
    attention = np.load(job.run / "attention" / "epoch-0002" / "attentions.npz")
    assert attention["tokens_1"].tolist() == ["[CLS]", "a", "good", "movie", "[SEP]"]
    board = events(job.run / "logs")
    assert [step for step, _ in board["evaluation_f1_vs_iterations"]] == [4, 8]
    assert [step for step, _ in board["samples"]] == [0, 1]
    assert len(board["confusion"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("at_write", [1, 2, 4])
def test_a_killed_run_scored_every_few_steps_goes_on_to_the_same(
    job: Job, monkeypatch: pytest.MonkeyPatch, at_write: int
) -> None:
    """Killed when it is about to write the state after step 6, 11 or 17."""
    from tfft import states

    class Killed(BaseException):
        pass

    whole = trained_whole(job, *BY_STEPS)
    recipe = tfft.recipe.load(job.arguments()[1], list(BY_STEPS))
    write, left = states.write, iter(range(100))

    def write_or_die(*args: Any) -> Any:
        if next(left) == at_write:
            raise Killed
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(states, "write", write_or_die)
        with pytest.raises(Killed):
            tfft.fit(recipe, verbose=False)
    resumed = job.fit(*BY_STEPS, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed after step" in resumed.stdout
    assert_the_same(job.run, whole)
