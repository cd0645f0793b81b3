"""What the page of a sweep is made of: axes, places of marks, importance, cost."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tfft.pages import plots
from tfft.pages.plots import NumberAxis, Tick
from tfft.search import axes, charts, cost, facts, importance
from tfft.search.axes import ChoiceAxis


def sweep_of(*trials: dict[str, Any], **more: Any) -> facts.Sweep:
    """A sweep of completed trials with these facts, numbered from 1."""
    numbered = [{"number": place, "status": "completed", **one} for place, one in enumerate(trials, 1)]
    return facts.read({"objective": "f1", "direction": "max", "trials": numbered, **more})


def test_nothing_here_loads_tensorflow() -> None:
    code = "import sys, tfft.search.report; print([one for one in sys.modules if one in ('tensorflow', 'sklearn')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# --- Facts ------------------------------------------------------------------------------------------------------------


def test_best_first_then_others_with_a_score_then_the_rest() -> None:
    told = [
        {"status": "failed"},
        {"score": 0.5},
        {"status": "pruned", "score": 0.9},
        {"score": 0.7},
        {"status": "running"},
        {"score": 0.5},
    ]
    assert [one.number for one in sweep_of(*told).ranked()] == [4, 2, 6, 3, 1, 5]
    assert [one.number for one in sweep_of(*told, best=6).ranked()] == [4, 6, 2, 3, 1, 5]
    assert [one.number for one in sweep_of(*told, direction="min").ranked()] == [2, 6, 4, 3, 1, 5]


@pytest.mark.parametrize(
    ("direction", "named", "best"), [("max", None, 2), ("min", None, 1), ("max", 3, 3), ("max", 17, 2)]
)
def test_the_best_is_the_named_one_else_that_of_the_scores(direction: str, named: int | None, best: int) -> None:
    sweep = sweep_of({"score": 0.1}, {"score": 0.3}, {"score": 0.2}, direction=direction, best=named)
    assert sweep.best is not None
    assert sweep.best.number == best


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "0.5", None])
def test_what_is_no_finite_number_is_absent(value: Any) -> None:
    assert sweep_of({"score": value}).trials[0].score is None


# --- Axes -------------------------------------------------------------------------------------------------------------


def test_places_on_a_linear_axis() -> None:
    axis = axes.of_parameter({"min": 0.0, "max": 0.2}, [0.1])
    assert [axis.share(one) for one in (0.0, 0.05, 0.2)] == pytest.approx([0, 0.25, 1])
    assert [one.text for one in axis.ticks()] == ["0", "0.05", "0.1", "0.15", "0.2"]


def test_places_on_a_logarithmic_axis() -> None:
    axis = axes.of_parameter({"min": 1e-6, "max": 1e-3, "scale": "log"}, [1e-5])
    assert [axis.share(one) for one in (1e-6, 1e-5, 1e-3)] == pytest.approx([0, 1 / 3, 1])
    assert [(round(one.share, 6), one.text) for one in axis.ticks()] == [
        (0, "1e-6"),
        (0.333333, "1e-5"),
        (0.666667, "0.0001"),
        (1, "0.001"),
    ]


@pytest.mark.parametrize("low", [1e-9, 3e-5, 0.013, 1.0, 97.0, 2.5e6])
@pytest.mark.parametrize("factor", [1.01, 1.7, 4.0, 30.0, 1e4, 1e9])
@pytest.mark.parametrize("is_log", [False, True])
def test_ticks_are_few_and_on_the_axis(low: float, factor: float, is_log: bool) -> None:
    ticks = NumberAxis(low, low * factor, is_log).ticks(5)
    assert 2 <= len(ticks) <= 5
    assert all(-1e-6 <= one.share <= 1 + 1e-6 for one in ticks)
    assert [one.share for one in ticks] == sorted({one.share for one in ticks})


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([], (-0.1, 1.1)),
        ([0.0], (-0.5, 0.5)),
        ([2.0, 2.0], (1.9, 2.1)),
        ([-2.0], (-2.1, -1.9)),
        ([0.0, 10.0], (-1, 11)),
    ],
)
def test_an_axis_is_never_without_length(values: list[float], ends: tuple[float, float]) -> None:
    axis = plots.of_numbers(values, margin=0.1)
    assert (axis.low, axis.high) == pytest.approx(ends)


def test_a_logarithmic_axis_of_what_has_no_logarithm_is_linear() -> None:
    assert plots.of_numbers([0.0, 1.0], is_log=True) == NumberAxis(0.0, 1.0)
    assert NumberAxis(1.0, 10.0, is_log=True).share(0) is None


def test_choices_have_columns() -> None:
    axis = axes.of_parameter({"values": [8, 16, 32]}, [16.0, 64])
    assert axis == ChoiceAxis((8, 16, 32, 64))
    assert [axis.share(one) for one in (8, 64.0, 7)] == [0.125, 0.875, None]
    assert axis.ticks()[0] == Tick(0.125, "8")


def test_true_is_not_one() -> None:
    axis = axes.of_parameter({"values": [1, True, "1", None]}, [])
    assert [axis.share(one) for one in (1.0, True, "1", None)] == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(
    ("tried", "axis"),
    [
        ([3, 1, 3], ChoiceAxis((1, 3))),
        (["b", 2, "a"], ChoiceAxis((2, "a", "b"))),
        (list(range(10)), NumberAxis(0.0, 9.0)),
    ],
)
def test_an_axis_that_nobody_declared_follows_from_what_was_tried(tried: list[Any], axis: axes.Axis) -> None:
    assert axes.of_parameter({}, tried) == axis


def test_of_many_choices_every_so_many_is_written() -> None:
    assert [one.text for one in ChoiceAxis(tuple(range(20))).ticks(most=8)] == ["0", "3", "6", "9", "12", "15", "18"]


# --- Pictures ---------------------------------------------------------------------------------------------------------


def test_marks_lie_where_their_values_are() -> None:
    sweep = sweep_of(
        {"values": {"a.rate": 0.0}, "score": 0.0},
        {"values": {"a.rate": 1.0}, "score": 1.0},
        {"values": {"a.rate": 0.5}, "status": "failed"},
        {"values": {}, "score": 0.5},
        parameters={"a.rate": {"min": 0.0, "max": 1.0}},
    )
    picture = charts.scatter(sweep, "a.rate", "rate", charts.parameter_axes(sweep)["a.rate"])
    frame, by_trial = picture.frame, {one.trial: one for one in picture.marks}
    assert (by_trial[1].x, by_trial[2].x, by_trial[3].x) == (frame.left, frame.right, (frame.left + frame.right) / 2)
    assert frame.top < by_trial[2].y < by_trial[1].y < frame.bottom < by_trial[3].y == picture.without_score
    assert {number: one.kind for number, one in by_trial.items()} == {1: "completed", 2: "best", 3: "failed"}
    assert by_trial[2].told == "trial 2: rate 1, f1 1"
    assert picture.marks[-1].kind == "best"  # on top
    assert picture.inactive == 1


def test_marks_of_a_choice_stay_in_its_column_and_apart() -> None:
    trials = [{"values": {"size": size}, "score": 0.5} for size in (8, 16) * 20]
    sweep = sweep_of(*trials, parameters={"size": {"values": [8, 16]}})
    picture = charts.scatter(sweep, "size", "size", charts.parameter_axes(sweep)["size"])
    middle = (picture.frame.left + picture.frame.right) / 2
    assert {one.x < middle for one in picture.marks if one.trial % 2} == {True}
    assert {one.x > middle for one in picture.marks if not one.trial % 2} == {True}
    assert len({one.x for one in picture.marks}) == 40


def test_lines_go_through_all_axes() -> None:
    sweep = sweep_of(
        {"values": {"a": 0.0, "b": 10}, "score": 1.0},
        {"values": {"a": 1.0}, "status": "failed"},
        parameters={"a": {"min": 0.0, "max": 1.0}, "b": {"min": 0, "max": 10}},
    )
    picture = charts.parallel(sweep, {"a": "a", "b": "b"}, charts.parameter_axes(sweep))
    x, frame = [round(one.x) for one in picture.posts], picture.frame
    first, second = (one.path for one in sorted(picture.lines, key=lambda one: one.trial))
    assert x == sorted(x) and len(x) == 3
    assert first.startswith(f"M{x[0]},{frame.bottom} L{x[1]},{frame.top} L{x[2]},")
    assert picture.absent is not None and picture.absent > frame.bottom
    assert second == f"M{x[0]},{frame.top} L{x[1]},{picture.absent:g} L{x[2]},{picture.absent:g}"


def test_curves_of_the_objective_come_first() -> None:
    rows = [{"epoch": epoch, "val_f1": epoch / 4, "val_loss": 1 / epoch, "loss": 9.0, "val_a": 0.0} for epoch in (1, 2)]
    sweep = sweep_of(
        {"score": 0.5, "executions": [{"curve": rows}, {"curve": rows[:1]}]}, {"executions": [{"curve": []}]}
    )
    pictures = charts.curves(sweep)
    assert [one.key for one in pictures] == ["val_f1", "val_loss", "loss", "val_a"]
    assert [one.trial for one in pictures[0].lines] == [1, 1]
    assert [one.text for one in pictures[0].x_labels] == ["1", "2"]


def test_a_loss_that_ran_away_leaves_room_for_the_others() -> None:
    rows = [{"epoch": epoch, "val_loss": value} for epoch, value in ((1, 0.5), (2, 400.0))]
    assert charts.curves(sweep_of({"executions": [{"curve": rows}]}))[0].is_log
    assert not charts.curves(sweep_of({"executions": [{"curve": rows[:1]}]}))[0].is_log


@pytest.mark.parametrize(
    ("name", "lines"),
    [("f1", ("f1",)), ("layer_wise_lr_decay", ("layer_wise_lr_", "decay")), ("x" * 40, ("x" * 19 + "…",))],
)
def test_long_names_are_broken(name: str, lines: tuple[str, ...]) -> None:
    assert charts.wrapped(name) == lines


# --- Importance -------------------------------------------------------------------------------------------------------

SPACE = {
    "rate": axes.of_parameter({"min": 1e-6, "max": 1e-2, "scale": "log"}, []),
    "kind": axes.of_parameter({"values": ["a", "b", "c"]}, []),
    "size": axes.of_parameter({"values": [8, 16, 32]}, []),
    "warmup": axes.of_parameter({"min": 0.0, "max": 0.2}, []),
}


def tried(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Values of `SPACE`, `warmup` only where `kind` is b."""
    chance = random.Random(seed)
    found: list[dict[str, Any]] = []
    for _ in range(count):
        one = {"rate": 10 ** chance.uniform(-6, -2), "kind": chance.choice("abc"), "size": chance.choice([8, 16, 32])}
        found.append(one | ({"warmup": chance.uniform(0, 0.2)} if one["kind"] == "b" else {}))
    return found


@pytest.mark.parametrize(
    ("matters", "score"),
    [
        ("rate", lambda one: -abs(math.log10(one["rate"]) + 4)),
        ("kind", lambda one: {"a": 0.2, "b": 0.9, "c": 0.3}[one["kind"]]),  # and not whether `warmup` is there
        ("size", lambda one: one["size"] / 32),
    ],
)
def test_the_only_parameter_that_matters_comes_first(matters: str, score: Any) -> None:
    values = tried(30)
    found = importance.measure(SPACE, values, [score(one) for one in values], seed=42)
    first, *others = found.losses
    assert first == matters
    assert found.refusal == ""
    assert found.r2 is not None and found.r2 > 0.5
    assert all(found.losses[one] < found.losses[first] / 4 for one in others)


def test_importance_is_the_same_twice_and_in_any_unit_of_the_score() -> None:
    values = tried(12)
    scores = [math.log10(one["rate"]) for one in values]
    first = importance.measure(SPACE, values, scores, seed=1)
    again = importance.measure(SPACE, values, [64 * one for one in scores], seed=1)
    assert again.losses == pytest.approx(first.losses)


@pytest.mark.parametrize(
    ("values", "scores", "said"),
    [
        (tried(7), list(range(7)), "too few"),
        (tried(9), [0.5] * 9, "all scores are equal"),
        ([{"size": 8}] * 9, list(range(9)), "no parameter has more than one value"),
        (tried(40, seed=5), np.random.default_rng(3).normal(size=40).tolist(), "the forest explains nothing"),
    ],
)
def test_nothing_is_ranked_where_nothing_can_be_said(values: Any, scores: list[float], said: str) -> None:
    found = importance.measure(SPACE, values, scores, seed=0)
    assert said in found.refusal
    assert found.losses == {}


def test_a_parameter_with_one_value_is_left_out() -> None:
    values = [{**one, "size": 8} for one in tried(12)]
    found = importance.measure(SPACE, values, [math.log10(one["rate"]) for one in values], seed=0)
    assert "size" not in found.losses and "rate" in found.losses


# --- Cost -------------------------------------------------------------------------------------------------------------


def test_sums() -> None:
    runs = [{"peak_rss_mb": 1200.0}, {"peak_rss_mb": 1400.0}]
    sweep = sweep_of(
        {"seconds": 10.0, "epochs": 3.0, "rows": 300, "executions": runs},
        {"seconds": 30.0, "epochs": 1.0, "status": "failed"},
        seconds=55.0,
    )
    found = cost.cost_of(sweep)
    assert found.by_status == {"completed": 1, "failed": 1}
    assert (found.epochs, found.rows, found.seconds, found.sweep_seconds) == (4.0, 300.0, 40.0, 55.0)
    assert found.trial_seconds == (10.0, 20.0, 30.0)
    assert found.peak_rss_mb == 1400.0
    assert (found.epochs_not_repeated, found.epochs_not_trained) == (0, 0)


def test_nothing_said_is_no_cost_of_nothing() -> None:
    found = cost.cost_of(sweep_of({}))
    assert (found.epochs, found.seconds, found.trial_seconds, found.peak_rss_mb) == (None, None, None, None)


def test_what_pruning_spared() -> None:
    sweep = sweep_of({"epochs": 3.0}, {"epochs": 1.0, "status": "pruned"}, {"epochs": 2.5, "status": "failed"})
    assert cost.cost_of(sweep).epochs_not_trained == 2.0
    own = {"training.num_train_epochs": 5}
    sweep = sweep_of({"epochs": 3.0}, {"epochs": 1.0, "status": "pruned", "values": own})
    assert cost.cost_of(sweep).epochs_not_trained == 4.0


def test_what_going_on_from_checkpoints_spared() -> None:
    """Three begin with an epoch; two go on to the third, one of them to the ninth."""
    sweep = sweep_of(
        *[{"epochs": 1.0, "bracket": 0}] * 3,
        {"epochs": 2.0, "continues": 1, "bracket": 0},
        {"epochs": 2.0, "continues": 3, "bracket": 0},
        {"epochs": 6.0, "continues": 5, "bracket": 0},
    )
    found = cost.cost_of(sweep)
    assert found.epochs == 13.0
    assert found.epochs_not_repeated == 1 + 1 + 3
    assert found.epochs_not_trained == (9 - 1) + (9 - 3)
    # Together: each of three trained to the ninth epoch, and nothing kept.
    assert found.epochs + found.epochs_not_trained == 3 * 9
