"""The sentences on scores over seeds: whether they say what the numbers say."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from rich.console import Console

from tfft import verdicts
from tfft.console import Voice
from tfft.predictions import Judged
from tfft.recipe import TrainingSection
from tfft.verdicts import Side

TRAINING = TrainingSection()


def side(name: str, right: Sequence[str] = (), rows: str = "rows", **scores: Sequence[float]) -> Side:
    """A side with these scores of seeds 1, 2, …; `right` has a word of 1 and 0 for each seed."""
    count = max(map(len, scores.values()))
    return Side(
        name,
        {seed + 1: {f"eval.{score}": values[seed] for score, values in scores.items()} for seed in range(count)},
        {seed + 1: Judged("rows", np.array([*word]) == "1", rows) for seed, word in enumerate(right)},
    )


def sentences(*sides: Side, training: TrainingSection = TRAINING) -> list[str]:
    return [*verdicts.judge(sides, training).sentences]


def test_one_recipe_has_a_spread() -> None:
    (said,) = sentences(side("a", accuracy=[0.7, 0.8, 0.9, 0.8, 0.8]))
    assert said.startswith(
        "accuracy: 0.8000 ± 0.0707 (mean ± standard deviation of 5 seeds; 95 % interval of the mean 0.7"
    )


@pytest.mark.parametrize(
    ("first", "second", "ending"),
    [
        (
            [0.80, 0.81, 0.82, 0.81, 0.80],
            [0.70, 0.71, 0.73, 0.71, 0.69],
            "a is better, by more than the noise of seeds",
        ),
        (
            [0.70, 0.71, 0.73, 0.71, 0.69],
            [0.80, 0.81, 0.82, 0.81, 0.80],
            "b is better, by more than the noise of seeds",
        ),
        ([0.80, 0.71, 0.72, 0.81, 0.70], [0.70, 0.81, 0.73, 0.71, 0.79], "): cannot be told from the noise of seeds"),
        ([0.80, 0.71, 0.72, 0.81, 0.70], [0.80, 0.71, 0.72, 0.81, 0.70], "difference +0.0000 with every seed"),
        ([0.75] * 5, [0.5] * 5, "difference +0.2500 with every seed: cannot be told from the noise of seeds"),
        ([0.75] * 6, [0.5] * 6, "difference +0.2500 with every seed: a is better, by more than the noise of seeds"),
    ],
)
def test_two_recipes(first: list[float], second: list[float], ending: str) -> None:
    said = sentences(side("a", accuracy=first), side("b", accuracy=second))[0]
    assert ending in said
    assert f"accuracy: a {np.mean(first):.4f} ± {np.std(first, ddof=1):.4f}, b {np.mean(second):.4f} ± " in said


@pytest.mark.parametrize(
    ("score", "training", "ending"),
    [
        ("loss", TRAINING, "b is better, being smaller, by more"),
        ("f1", TRAINING, "a is better, by more"),
        ("perplexity", TRAINING, "b is better, being smaller, by more"),
        ("ter", TRAINING, "more than the noise of seeds explains; which is better is not known of this score"),
        (
            "ter",
            TrainingSection(metric_for_best_model="eval_ter", greater_is_better=False),
            "b is better, being smaller, by more",
        ),
    ],
)
def test_smaller_is_better_for_some_scores(score: str, training: TrainingSection, ending: str) -> None:
    larger, smaller = side("a", **{score: [5.1, 5.2, 5.0, 5.1, 5.3]}), side("b", **{score: [4.1, 4.3, 4.0, 4.1, 4.2]})
    assert f"): {ending}" in sentences(larger, smaller, training=training)[0]


def test_few_seeds_are_called_few() -> None:
    assert "--seeds 5 says more" not in sentences(side("a", f1=[0.1, 0.2, 0.1, 0.2, 0.1]))[-1]
    assert sentences(side("a", f1=[0.1, 0.2]))[-1].startswith("2 seeds say little")
    # One recipe may have lost its runs.
    said = sentences(side("a", f1=[0.1, 0.2, 0.1, 0.2, 0.1]), side("b", f1=[0.3]))
    assert said[0] == "f1: a 0.1000, b 0.3000 (1 seed); difference -0.2000: of one seed nothing can be told"
    assert said[-1] == "1 seed says nothing of the others; --seeds 5 says more"


def test_only_seeds_that_both_have_are_compared() -> None:
    first, second = side("a", f1=[0.9, 0.2, 0.3, 0.4]), side("b", f1=[0.9, 0.1, 0.1, 0.2])
    del first.scores[1]  # type: ignore[attr-defined]
    (found,) = verdicts.compare(first, second, TRAINING)
    assert found.seeds == (2, 3, 4)
    assert found.difference.differences == pytest.approx((0.1, 0.2, 0.2))
    assert found.first.values == (0.2, 0.3, 0.4)


def test_recipes_without_a_seed_that_both_have() -> None:
    first, second = side("a", ["11", "10"], f1=[0.9, 0.2]), side("b", ["11", "10"], f1=[0.9, 0.1])
    del first.scores[1], second.scores[2]  # type: ignore[attr-defined]
    found = verdicts.judge([first, second], TRAINING)
    assert found.sentences == ["no seed came to its end with both recipes, so they are not compared"]
    assert set(found.to_json()["scores"]) == {"a", "b"}


# --- predictions ------------------------------------------------------------------------------------------------------


def test_rows_that_one_recipe_has_right() -> None:
    first, second = side("a", ["11111100"], f1=[0.1]), side("b", ["00000011"], f1=[0.1])
    found = verdicts.compare_predictions(first, second)
    assert found.over_seeds == found.by_seed[1]
    assert found.sentence == (
        "predictions: of 8 validation rows, a alone has 6 right and b alone 2 (McNemar's exact test, p = 0.29): cannot "
        "be told from the noise of rows"
    )
    told = verdicts.compare_predictions(first, side("b", ["00000000"], f1=[0.1]))
    assert told.sentence.endswith("p = 0.031): a is better, by more than the noise of rows explains")
    assert verdicts.compare_predictions(side("b", ["00000000"], f1=[0.1]), first).sentence.endswith(
        "p = 0.031): a is better, by more than the noise of rows explains"
    )


def test_rows_of_several_seeds_count_once() -> None:
    first = side("a", ["1110", "1010", "1100"], f1=[0.1] * 3)
    second = side("b", ["0111", "0011", "0110"], f1=[0.1] * 3)
    found = verdicts.compare_predictions(first, second)
    assert {seed: (one.only_first, one.only_second) for seed, one in found.by_seed.items()} == {
        1: (1, 1),
        2: (1, 1),
        3: (1, 1),
    }
    assert found.over_seeds is not None
    assert (found.over_seeds.only_first, found.over_seeds.only_second) == (1, 2)
    assert "a has 1 right with more seeds than b, 2 with fewer (McNemar's exact test, p = 1)" in found.sentence


def other_rows(of: Side, rows: Mapping[int, str]) -> Side:
    judged = {seed: Judged(one.unit, one.right, rows[seed]) for seed, one in of.predictions.items()}
    return Side(of.name, of.scores, judged)


def test_predictions_of_different_rows_are_not_compared() -> None:
    first, second = side("a", ["110", "110"], f1=[0.1, 0.2]), side("b", ["11", "10"], "others", f1=[0.1, 0.1])
    found = verdicts.judge([first, second], TRAINING)
    assert found.predictions is not None and found.predictions.over_seeds is None and not found.predictions.by_seed
    assert "no McNemar's test, since the recipes validate on different rows (3 and 2 rows)" in found.sentences[1]
    assert found.sentences[0].startswith("f1: a 0.1500"), "scores are compared all the same"


def test_seeds_with_rows_of_their_own_are_tested_each_alone() -> None:
    rows = {1: "some", 2: "others"}
    first = other_rows(side("a", ["111111", "1100"], f1=[0.1, 0.2]), rows)
    second = other_rows(side("b", ["000000", "0011"], f1=[0.1, 0.2]), rows)
    found = verdicts.compare_predictions(first, second)
    assert found.over_seeds is None
    assert found.by_seed[1].p_value == 2 / 2**6 and found.by_seed[2].p_value == 1
    assert found.sentence.endswith("each seed alone: p from 0.031 to 1")


def test_numbers_have_no_test_of_rows() -> None:
    found = verdicts.judge([side("a", mse=[0.1, 0.2]), side("b", mse=[0.1, 0.1])], TRAINING)
    assert "predictions: no McNemar's test, which is of validation rows that are right or wrong" in found.sentences[1]


# --- all of it --------------------------------------------------------------------------------------------------------


def test_all_is_shown_and_is_json() -> None:
    first = side("a", ["110", "111"], f1=[0.1, 0.2], loss=[1.0, 2.0])
    second = side("b", ["110", "100"], f1=[0.1, 0.1])
    found = verdicts.judge([first, second], TRAINING)
    report = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert report["scores"]["a"]["eval.loss"]["mean"] == 1.5
    assert report["differences"]["eval.f1"]["differences"] == pytest.approx([0.0, 0.1])
    assert report["mcnemar"]["by_seed"]["2"] == {"only_first": 2, "only_second": 0, "p_value": 0.5}
    assert report["sentences"] == found.sentences

    text = io.StringIO()
    found.show(Voice(console=Console(file=text, soft_wrap=True)))
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert ["f1", "a", "2", "0.1500", "0.0707", "0.1000", "to", "0.2000"] in lines
    assert ["loss", "a", "2", "1.5000", "0.7071", "1.0000", "to", "2.0000"] in lines
    assert ["all", "2", "0", "0.5"] in lines


def test_scores_of_both_splits() -> None:
    assert verdicts.scores_in(
        {"eval": {"f1": 0.5, "threshold": 0.4}, "test": {"f1": 0.25}, "train": {"loss": 1.0}}
    ) == {
        "eval.f1": 0.5,
        "test.f1": 0.25,
    }
    assert [verdicts.shown(one) for one in ("eval.f1", "test.f1")] == ["f1", "test f1"]
