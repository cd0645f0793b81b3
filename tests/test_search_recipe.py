"""The section `sweep` of a recipe: what it may say, and what is wrong with it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml

from tfft import recipe
from tfft.errors import RecipeError
from tfft.recipe import ParameterSection, sweep_checks

RATE = "sweep.parameters.training.learning_rate={min: 1e-6, max: 1e-3, scale: log}"
BATCH = "sweep.parameters.training.per_device_train_batch_size=[8, 16]"
OBJECTIVE = "sweep.objective=accuracy"


def loaded(*overrides: str) -> recipe.Recipe:
    return recipe.load("quickstart", overrides)


def error_of(*overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        loaded(*overrides)
    return str(caught.value)


def test_parameters_by_dotted_keys_and_by_sections_are_the_same() -> None:
    dotted = {"training.learning_rate": {"values": [1e-5, 2e-5]}}
    base = {"extends": "quickstart"}
    one = recipe.from_mapping({**base, "sweep": {"objective": "loss", "parameters": dotted}})
    nested = {"training": {"learning_rate": [1e-5, 2e-5]}}
    other = recipe.from_mapping({**base, "sweep": {"objective": "loss", "parameters": nested}})
    assert one.sweep == other.sweep
    assert loaded(OBJECTIVE, "sweep.parameters.training.learning_rate=[1e-5, 2e-5]").sweep is not None


def test_a_sweep_comes_back_from_yaml_and_a_recipe_without_one_does_not_speak_of_it() -> None:
    made = loaded(OBJECTIVE, RATE, BATCH, "sweep.algorithm=bayesian")
    assert recipe.from_mapping(yaml.safe_load(made.to_yaml())) == made
    assert "sweep" not in loaded().to_yaml()
    assert recipe.load("quickstart", [OBJECTIVE, RATE, "~sweep"]) == loaded()


CONDITION = "sweep.parameters.training.lr_power={values: [1, 2], when: {training.lr_scheduler_type: [polynomial]}}"
KINDS = "sweep.parameters.training.lr_scheduler_type=[polynomial, constant]"

# What is wrong, the same made right, the key that the message names, and words of it.
WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
    "no key": (
        ("sweep.parameters.training.lr=[1, 2]",),
        (RATE,),
        "sweep.parameters[training.lr]",
        "no such key of a recipe; did you mean training.learning_rate?",
    ),
    "what is settled": (
        ("sweep.parameters.output_dir=[a, b]",),
        (RATE,),
        "sweep.parameters[output_dir]",
        "is settled for every trial",
    ),
    "an empty range": (
        ("sweep.parameters.training.weight_decay={min: 0.2, max: 0.1}",),
        ("sweep.parameters.training.weight_decay={min: 0.1, max: 0.2}",),
        "sweep.parameters[training.weight_decay]",
        "got an empty range from 0.2 to 0.1",
    ),
    "a log scale with zero": (
        ("sweep.parameters.training.weight_decay={min: 0, max: 0.1, scale: log}",),
        ("sweep.parameters.training.weight_decay={min: 0, max: 0.1}",),
        "sweep.parameters[training.weight_decay].scale",
        "a log scale has no zero",
    ),
    "a factor of one": (
        ("sweep.parameters.training.learning_rate={min: 1e-6, max: 1e-3, scale: log, step: 1}",),
        ("sweep.parameters.training.learning_rate={min: 1e-6, max: 1e-3, scale: log, step: 10}",),
        "sweep.parameters[training.learning_rate].step",
        "expected more than 1",
    ),
    "half a row": (
        ("sweep.parameters.training.per_device_train_batch_size={min: 8, max: 16, step: 0.5}",),
        ("sweep.parameters.training.per_device_train_batch_size={min: 8, max: 16, step: 4}",),
        "sweep.parameters[training.per_device_train_batch_size].step",
        "takes whole numbers",
    ),
    "one end": (
        ("sweep.parameters.training.learning_rate={min: 1e-6}",),
        (RATE,),
        "sweep.parameters[training.learning_rate]",
        "expected values, or both min and max",
    ),
    "values and a range": (
        ("sweep.parameters.training.learning_rate={values: [1e-5], min: 1e-6}",),
        (RATE,),
        "sweep.parameters[training.learning_rate].min",
        "given beside values",
    ),
    "a range of words": (
        ("sweep.parameters.training.optimizer={min: 1, max: 2}",),
        ("sweep.parameters.training.optimizer=[adam, adamw]",),
        "sweep.parameters[training.optimizer]",
        "takes no numbers",
    ),
    "a value that the key may not have": (
        ("sweep.parameters.training.learning_rate={min: -1, max: 1}",),
        (RATE,),
        "sweep.parameters[training.learning_rate].min",
        "got -1; expected a number above 0",
    ),
    "a value twice": (
        ("sweep.parameters.training.per_device_train_batch_size=[8, 8]",),
        (BATCH,),
        "sweep.parameters[training.per_device_train_batch_size].values",
        "expected every value once",
    ),
    "a condition on a stranger": (
        (CONDITION,),
        (CONDITION, KINDS),
        "sweep.parameters[training.lr_power].when[training.lr_scheduler_type]",
        "is no parameter of this sweep",
    ),
    "a condition on what cannot be": (
        (CONDITION, "sweep.parameters.training.lr_scheduler_type=[linear, constant]"),
        (CONDITION, KINDS),
        "sweep.parameters[training.lr_power].when[training.lr_scheduler_type]",
        "got 'polynomial'; expected values that training.lr_scheduler_type may have",
    ),
    "a condition on a range": (
        ("sweep.parameters.training.weight_decay={values: [0, 0.1], when: {training.learning_rate: [1e-5]}}", RATE),
        (CONDITION, KINDS),
        "sweep.parameters[training.weight_decay].when[training.learning_rate]",
        "is a range; expected a parameter that has values",
    ),
    "an objective that nobody computes": (
        (RATE, "sweep.objective=accurcy"),
        (RATE,),
        "sweep.objective",
        "got 'accurcy'; expected one of loss, accuracy, f1_macro, which are computed; did you mean accuracy?",
    ),
    "the wrong direction": (
        (RATE, "sweep.direction=min"),
        (RATE, "sweep.direction=max"),
        "sweep.direction",
        "got 'min'; expected max or null",
    ),
    "an unknown direction": (
        (RATE, "training.metrics=[me/mine]", "sweep.objective=mine"),
        (RATE, "training.metrics=[me/mine]", "sweep.objective=mine", "sweep.direction=max"),
        "sweep.direction",
        "expected max or min",
    ),
    "a grid without an end": (
        (RATE, "sweep.algorithm=grid"),
        (BATCH, "sweep.algorithm=grid"),
        "sweep.parameters[training.learning_rate]",
        "got a range without a step",
    ),
    "a grid of more points than trials": (
        (BATCH, "sweep.algorithm=grid", "sweep.max_trials=1"),
        (BATCH, "sweep.algorithm=grid", "sweep.max_trials=2"),
        "sweep.max_trials",
        "got 1; expected at least 2, the points of this grid, or null",
    ),
    "hyperband with half an epoch": (
        (RATE, "sweep.algorithm=hyperband", "training.num_train_epochs=2.5"),
        (RATE, "sweep.algorithm=hyperband", "training.num_train_epochs=3"),
        "sweep.algorithm",
        "whole number of at least 2",
    ),
    "hyperband over its own resource": (
        ("sweep.parameters.training.num_train_epochs=[1, 2]", "sweep.algorithm=hyperband"),
        ("sweep.parameters.training.num_train_epochs=[1, 2]", "sweep.algorithm=random"),
        "sweep.parameters[training.num_train_epochs]",
        "is Hyperband's own to choose",
    ),
    "a factor for others": (
        (RATE, "sweep.factor=2"),
        (RATE, "sweep.factor=2", "sweep.algorithm=hyperband"),
        "sweep.factor",
        "it is Hyperband's alone",
    ),
    "a rung of less than an epoch": (
        (RATE, "sweep.algorithm=hyperband", "training.num_train_epochs=2"),
        (RATE, "sweep.algorithm=hyperband", "training.num_train_epochs=2", "sweep.factor=2"),
        "training.num_train_epochs",
        "expected at least 3, Hyperband's factor",
    ),
    "half a row on a log scale": (
        ("sweep.parameters.training.per_device_train_batch_size={min: 8, max: 32, step: 1.5, scale: log}",),
        ("sweep.parameters.training.per_device_train_batch_size={min: 8, max: 32, step: 2, scale: log}",),
        "sweep.parameters[training.per_device_train_batch_size].step",
        "takes whole numbers",
    ),
    "seeds beyond the last": (
        (RATE, "seed=4294967295", "sweep.executions_per_trial=2"),
        (RATE, "seed=4294967294", "sweep.executions_per_trial=2"),
        "seed",
        "expected one after which 1 more are at most 4294967295",
    ),
    "one repository for all": (
        (RATE, "training.push_to_hub=true"),
        (RATE,),
        "training.push_to_hub",
        "every trial would push to the same repository",
    ),
    "several workers": (
        (RATE, "runtime.strategy=multi_worker"),
        (RATE, "runtime.strategy=mirrored"),
        "runtime.strategy",
        "each trial of a sweep is one process",
    ),
    "pruning what prunes": (
        (RATE, "sweep.prune=true", "sweep.algorithm=hyperband"),
        (RATE, "sweep.prune=true"),
        "sweep.prune",
        "Hyperband stops trials by itself",
    ),
    "pruning blindly": (
        (RATE, "sweep.prune=true", "training.eval_strategy=no"),
        (RATE, "training.eval_strategy=no"),
        "sweep.prune",
        "there is no score to judge by",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_its_neighbour_passes(name: str) -> None:
    trips, passes, key, words = WRONG[name]
    said = error_of(OBJECTIVE, *trips)
    assert f": {key}: " in said
    assert words in said
    assert len(said.splitlines()) == 1
    assert loaded(OBJECTIVE, *passes).sweep is not None


def test_conditions_in_a_circle() -> None:
    one = "sweep.parameters.training.weight_decay={values: [0, 0.1], when: {training.ema_momentum: [0.9]}}"
    other = "sweep.parameters.training.ema_momentum={values: [0.9], when: {training.weight_decay: [0]}}"
    assert "goes in a circle" in error_of(OBJECTIVE, one, other)


def test_rows_to_score_on_are_needed_unless_they_come_from_python() -> None:
    rows = ["~data.validation_file", "~data.test_file", "training.eval_strategy=no"]
    assert "needs rows to score on" in error_of(OBJECTIVE, RATE, *rows)
    assert recipe.load("quickstart", [OBJECTIVE, RATE, *rows], rows_given=True).sweep is not None
    assert recipe.load("quickstart", rows).sweep is None


def test_unknown_words_inside_a_parameter_are_named() -> None:
    said = error_of(OBJECTIVE, "sweep.parameters.training.learning_rate={least: 1}")
    assert "sweep.parameters[training.learning_rate].least: no such key" in said
    assert "sweep: got 3; expected a section" in error_of("sweep=3")


def points(parameters: dict[str, dict[str, Any]]) -> int:
    return sweep_checks.grid_points({name: ParameterSection.model_validate(one) for name, one in parameters.items()})


def test_points_of_a_grid() -> None:
    rate = {"min": 1e-6, "max": 1e-3, "scale": "log", "step": 10}
    batch = {"min": 8, "max": 32, "step": 8}
    assert points({"training.learning_rate": rate}) == 4  # 1e-6, 1e-5, 1e-4, 1e-3
    assert points({"training.per_device_train_batch_size": batch}) == 4  # 8, 16, 24, 32
    assert points({"training.learning_rate": rate, "training.per_device_train_batch_size": batch}) == 16


def test_points_of_a_grid_with_a_condition() -> None:
    kinds = {"values": ("polynomial", "linear", "constant")}
    ends = {"values": (0.0, 1e-6), "when": {"training.lr_scheduler_type": ("polynomial", "linear")}}
    powers = {"values": (1.0, 2.0, 3.0), "when": {"training.lr_scheduler_type": ("polynomial",)}}
    given = {
        "training.lr_power": powers,
        "training.end_learning_rate": ends,
        "training.lr_scheduler_type": kinds,
    }
    # 3 powers x 2 ends with polynomial, 2 ends with linear, one with constant.
    assert points(given) == 3 * 2 + 2 + 1
    assert {points(dict(order)) for order in itertools.permutations(given.items())} == {9}
