"""Contradictions in what a recipe has to be searched: parameters, objective, algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from tfft import tasks
from tfft.errors import nearest
from tfft.recipe.messages import said, schema_of, suggestion
from tfft.recipe.sections import KEYS, LARGEST_SEED, SECTIONS, ParameterSection, Recipe
from tfft.recipe.words import question, shown

# Every key with its value, as `checks.Values`; where a recipe has no sweep, a check's KeyError says that all is well.
Values = Mapping[str, Any]
_Found = Iterator[tuple[str, str]]

# What the sweep itself decides for every trial.
SETTLED = ("output_dir", "task", "seed", "training.stop_after_epochs", "training.push_to_hub")
# The epochs of a trial are Hyperband's to choose.
OF_HYPERBAND = ("training.num_train_epochs", "training.max_steps", "training.max_hours", "training.stages")
# Trials, and what Hyperband keeps one in so many of, where a recipe says no number.
USUAL_TRIALS, USUAL_FACTOR = 10, 3


def grid_points(parameters: Mapping[str, ParameterSection]) -> int:
    """Combinations of a grid. A parameter that waits for another counts with those values of the other alone."""

    def count(names: tuple[str, ...], chosen: dict[str, Any]) -> int:
        if not names:
            return 1
        name, rest = names[0], names[1:]
        if not is_active(parameters[name], chosen):
            return count(rest, chosen)
        # Only where another parameter waits for it do its values make a difference.
        points = points_of(parameters[name], is_whole(name))
        if any(name in (one.when or {}) for one in parameters.values()):
            return sum(count(rest, {**chosen, name: value}) for value in points)
        return len(points) * count(rest, chosen)

    return count(in_order(parameters), {})


def is_active(parameter: ParameterSection, chosen: Mapping[str, Any]) -> bool:
    """Whether the parameter is searched where others have these values."""
    return all(name in chosen and chosen[name] in wanted for name, wanted in (parameter.when or {}).items())


def in_order(parameters: Mapping[str, ParameterSection]) -> tuple[str, ...]:
    """The names, each after those that it waits for; as they were given else. In a circle: without those in it."""
    placed: list[str] = []
    while found := [
        name
        for name, one in parameters.items()
        if name not in placed and all(other in placed for other in one.when or {})
    ]:
        placed.append(found[0])
    return tuple(placed)


def points_of(parameter: ParameterSection, whole: bool) -> tuple[Any, ...]:
    """All values that it may have, where they can be counted.

    Args:
        whole: whether the key takes whole numbers.
    """
    if parameter.values is not None:
        return parameter.values
    least, greatest, step = parameter.min, parameter.max, parameter.step or 1
    assert least is not None and greatest is not None
    if parameter.scale == "log":
        number = int(math.log(greatest / least) / math.log(step) + 1e-8) + 1
        found: list[int | float] = [least * step**index for index in range(number)]
    else:
        number = int((greatest - least) / step + 1e-8) + 1
        found = [least + index * step for index in range(number)]
    return tuple(int(one) if whole else float(one) for one in found)


def is_whole(key: str) -> bool:
    """Whether a recipe's key takes whole numbers."""
    schema = schema_of(key)
    return bool(schema.get("anyOf", [schema])[0].get("type") == "integer")


def _check_keys(values: Values) -> _Found:
    for name, parameter in values["sweep.parameters"].items():
        key = f"sweep.parameters[{name}]"
        if name not in KEYS or name in SECTIONS:
            yield (
                key,
                "no such key of a recipe" + (question(suggestion(name)) or f"; expected one of {', '.join(KEYS)}"),
            )
        elif name.startswith("sweep.") or name in SETTLED:
            yield key, "is settled for every trial; expected a key that trials may differ in"
        else:
            yield from _check_range(key, name, parameter)


def _check_range(key: str, name: str, parameter: ParameterSection) -> _Found:
    least, greatest, step = parameter.min, parameter.max, parameter.step
    if parameter.values is not None:
        for other in ("min", "max", "step", "scale"):
            if getattr(parameter, other) is not None:
                yield f"{key}.{other}", "given beside values; expected values, or min and max"
        if len(set(map(repr, parameter.values))) < len(parameter.values):
            yield f"{key}.values", f"got {shown(parameter.values)}; expected every value once"
        for index, value in enumerate(parameter.values):
            yield from _check_value(f"{key}.values[{index}]", name, value)
        return
    if least is None or greatest is None:
        yield key, "missing; expected values, or both min and max"
        return
    if not _takes_numbers(name):
        yield key, f"got a range; expected values, since {name} takes no numbers"
        return
    if least >= greatest:
        yield key, f"got an empty range from {shown(least)} to {shown(greatest)}; expected min below max"
    if parameter.scale == "log" and least <= 0:
        yield f"{key}.scale", f"got log from {shown(least)} on; expected min above 0: a log scale has no zero"
    if parameter.scale == "log" and step is not None and step <= 1:
        yield f"{key}.step", f"got {shown(step)}; expected more than 1, since it is a factor on a log scale"
    if step is not None and is_whole(name) and int(step) != step:
        yield f"{key}.step", f"got {shown(step)}; expected a whole number, since {name} takes whole numbers"
    for end, value in (("min", least), ("max", greatest)):
        yield from _check_value(f"{key}.{end}", name, value)


def _takes_numbers(name: str) -> bool:
    schema = schema_of(name)
    return any(one.get("type") in ("integer", "number") for one in schema.get("anyOf", [schema]))


def _check_value(key: str, name: str, value: Any) -> _Found:
    """Whether the recipe's key may have the value, by itself."""
    section, _, own = name.rpartition(".")
    model: Any = SECTIONS[section] if section else Recipe
    try:
        model.model_validate({own: value})
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            if one["loc"][0] == own and one["type"] != "missing":
                yield key, said({**one, "loc": (*name.split("."), *one["loc"][1:])}, name)


def _check_conditions(values: Values) -> _Found:
    parameters = values["sweep.parameters"]
    ordered = in_order(parameters)
    for name, parameter in parameters.items():
        for other, wanted in (parameter.when or {}).items():
            key = f"sweep.parameters[{name}].when[{other}]"
            if other not in parameters:
                yield key, f"is no parameter of this sweep; expected one of {', '.join(one for one in parameters)}"
            elif parameters[other].values is None:
                yield key, f"{other} is a range; expected a parameter that has values"
            elif unknown := [one for one in wanted if one not in parameters[other].values]:
                yield key, f"got {shown(unknown[0])}; expected values that {other} may have"
        if name not in ordered and all(other in parameters for other in parameter.when or {}):
            yield f"sweep.parameters[{name}].when", "goes in a circle; end it somewhere"


def _check_objective(values: Values) -> _Found:
    objective, given = values["sweep.objective"], values["sweep.direction"]
    metrics = values["training.metrics"]
    problem = tasks.problem_type(values["task"], values["problem_type"])
    scores = tasks.scores_of(tasks.DEFAULT_METRICS[problem] if metrics is None else metrics, problem)
    name = tasks.score_name(objective)
    if scores is not None and name not in scores:
        yield (
            "sweep.objective",
            f"got {shown(objective)}; expected one of {', '.join(scores)}, which are computed"
            + question(nearest(name, scores)),
        )
        return
    known = tasks.direction(name)
    if known is None and given is None:
        yield "sweep.direction", f"missing; expected max or min, since tfft does not know which {name} is better"
    if known is not None and given is not None and given != known:
        yield "sweep.direction", f"got {shown(given)}; expected {known} or null, by which {name} is better"


def check_rows(values: Values) -> _Found:
    """What is missing to score on where the rows do not come as Python objects."""
    values["sweep.objective"]
    sources = ("validation_file", "validation_split", "dataset_name", "shards")
    if all(values[f"data.{name}"] is None for name in sources):
        yield "sweep.objective", "needs rows to score on; expected data.validation_file or data.validation_split=0.1"


def _check_algorithm(values: Values) -> _Found:
    algorithm, parameters = values["sweep.algorithm"], values["sweep.parameters"]
    if algorithm == "hyperband":
        epochs = values["training.num_train_epochs"]
        if epochs != int(epochs) or epochs < 2 or values["training.max_steps"] is not None:
            yield (
                "sweep.algorithm",
                "got hyperband; expected another, or training.num_train_epochs, which the longest trials have, as a "
                "whole number of at least 2, without training.max_steps",
            )
        elif epochs < (values["sweep.factor"] or USUAL_FACTOR):
            yield (
                "training.num_train_epochs",
                f"got {shown(epochs)}; expected at least {values['sweep.factor'] or USUAL_FACTOR}, Hyperband's factor: "
                "with fewer there is no rung",
            )
        for name in set(parameters) & set(OF_HYPERBAND):
            yield f"sweep.parameters[{name}]", "is Hyperband's own to choose; expected another algorithm, or key"
        if values["training.stages"] is not None:
            yield "sweep.algorithm", "got hyperband; expected another, since training.stages has epochs of its own"
    for name in ("factor", "iterations"):
        if values[f"sweep.{name}"] is not None and algorithm != "hyperband":
            yield f"sweep.{name}", f"got {shown(values[f'sweep.{name}'])}; expected null: it is Hyperband's alone"
    if algorithm == "grid":
        yield from _check_grid(values)


def _check_grid(values: Values) -> _Found:
    parameters, most = values["sweep.parameters"], values["sweep.max_trials"]
    endless = [
        name
        for name, one in parameters.items()
        if one.values is None and one.step is None and (not is_whole(name) or one.scale == "log")
    ]
    for name in endless:
        yield f"sweep.parameters[{name}]", "got a range without a step; expected values or a step, for a grid"
    if endless or any(True for _ in (*_check_keys(values), *_check_conditions(values))):
        return
    points = grid_points(parameters)
    if most is not None and points > most:
        yield "sweep.max_trials", f"got {most}; expected at least {points:,}, the points of this grid, or null"


def _check_trials(values: Values) -> _Found:
    executions, seed = values["sweep.executions_per_trial"], values["seed"]
    if seed + executions - 1 > LARGEST_SEED:
        yield "seed", f"got {seed}; expected one after which {executions - 1} more are at most {LARGEST_SEED}"
    if values["training.push_to_hub"]:
        expected = "false, since every trial would push to the same repository; push the best one, by best.yaml"
        yield "training.push_to_hub", f"got true; expected {expected}"
    if values["runtime.strategy"] == "multi_worker" or values["runtime.workers"] is not None:
        yield "runtime.strategy", "got several workers; expected others, since each trial of a sweep is one process"


def _check_pruning(values: Values) -> _Found:
    if not values["sweep.prune"]:
        return
    why = None
    if values["sweep.algorithm"] == "hyperband":
        why = "Hyperband stops trials by itself"
    elif values["training.eval_strategy"] == "no":
        why = "training.eval_strategy is no: there is no score to judge by before the end"
    elif values["training.stages"] is not None:
        why = "training.stages has epochs of its own"
    if why is not None:
        yield "sweep.prune", f"got true; expected false, since {why}"


CHECKS: tuple[Callable[[Values], _Found], ...] = (
    _check_keys,
    _check_conditions,
    _check_objective,
    _check_algorithm,
    _check_trials,
    _check_pruning,
)
