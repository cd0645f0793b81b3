"""Recipes: YAML and overrides become frozen, validated sections, before anything large is loaded.

A recipe is read in layers: the recipe that it `extends` (and so on), then its own file, then the command line. The
layers are merged key by key, every key remembers the file and line it came from, and all that is wrong is reported at
once. Where a later layer names another source of rows (`data.train_file` over an inherited `data.dataset_name`, or the
other way round), the keys of the earlier source go with it; both in one layer contradict each other.

YAML is read as YAML 1.2 reads it: `3e-5` is a number, `no` and `on` are text. Tags, anchors and aliases are refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tfft import tasks
from tfft.errors import RecipeError
from tfft.recipe import checks, distillation_checks, sweep_checks
from tfft.recipe.checks import CHECKS, check_source
from tfft.recipe.files import LARGEST_FILE, STANDARD_INPUT, header, locate, names, read
from tfft.recipe.given import Given, Problem, from_python, is_tree, parse, plain_values
from tfft.recipe.layers import at_layer, merged, overridden, with_extended, without_older_source
from tfft.recipe.messages import ALIASES, inside, said, suggestion
from tfft.recipe.sections import (
    FILE_ENDINGS,
    KEYS,
    LARGEST_SEED,
    OPTIONAL_SECTIONS,
    PRUNING_END,
    SECTIONS,
    TEXT_ENDINGS,
    DataSection,
    DistillationSection,
    FurtherPretrainingSection,
    ModelSection,
    ParameterSection,
    Recipe,
    RuntimeSection,
    StageSection,
    StudentSection,
    SweepSection,
    TrainingSection,
    json_schema,
)
from tfft.recipe.yaml_text import COMMAND_LINE, Place

__all__ = [
    "ALIASES",
    "COMMAND_LINE",
    "FILE_ENDINGS",
    "KEYS",
    "LARGEST_FILE",
    "LARGEST_SEED",
    "PRUNING_END",
    "SECTIONS",
    "STANDARD_INPUT",
    "TEXT_ENDINGS",
    "DataSection",
    "DistillationSection",
    "FurtherPretrainingSection",
    "ModelSection",
    "ParameterSection",
    "Recipe",
    "RuntimeSection",
    "StageSection",
    "StudentSection",
    "SweepSection",
    "TrainingSection",
    "from_mapping",
    "header",
    "hindrances_on_tpu",
    "json_schema",
    "load",
    "locate",
    "names",
    "suggestion",
]


def load(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = (), *, rows_given: bool = False) -> Recipe:
    """The recipe of that name or file, with what it extends and with the overrides.

    Args:
        name_or_path: a shipped recipe's name, a path (ending in .yaml or .yml, with a slash in it, or of a file that is
            there), or `-` for standard input.
        overrides: `KEY=VALUE` and `~KEY`, as on the command line.
        rows_given: the rows come as Python objects, so the recipe need not name any.

    Raises:
        RecipeError: the recipe cannot be read, or something in it or in the overrides is wrong: one line for each.
    """
    text = os.fspath(name_or_path)
    path = None if text == STANDARD_INPUT else locate(text)
    source = "standard input" if path is None else str(path)
    problems: list[Problem] = []
    tree = parse(read(path, source), source, problems)
    folder = Path() if path is None else path.parent
    layers = with_extended(tree, folder, [] if path is None else [path], problems)
    return _resolve(layers, overrides, "stdin" if path is None else path.stem, rows_given, problems)


def from_mapping(
    mapping: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "python", *, rows_given: bool = False
) -> Recipe:
    """The recipe that a Python mapping says, with what it extends (relative to the working directory).

    Args:
        mapping: as YAML would give it: sections are mappings.
        overrides: as in `load`.
        source: what messages call the mapping; also the run's name unless `output_dir` is given.
        rows_given: as in `load`.

    Raises:
        RecipeError: as in `load`.
    """
    problems: list[Problem] = []
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{source}: got {type(mapping).__name__}; expected a mapping with the keys of a recipe")
    try:
        tree = from_python(mapping, Place(source), (), problems)
    except RecursionError:
        raise RecipeError(f"{source}: is nested without end; expected sections of keys and values") from None
    return _resolve(with_extended(tree, Path(), [], problems), overrides, source, rows_given, problems)


def hindrances_on_tpu(recipe: Recipe, why: str) -> list[str]:
    """A sentence for each key that a run on a TPU cannot follow.

    Args:
        why: that is one, as a clause: `since TPU_NAME is node-1`.
    """
    return [f"{key}: {text}" for key, text in checks.hindrances_on_tpu(_values(recipe), why)]


def _resolve(
    layers: Sequence[Given], overrides: Sequence[str], name: str, rows_given: bool, problems: list[Problem]
) -> Recipe:
    """One recipe of all layers, or one error of all problems."""
    root: dict[str, Given] = {}
    for index, layer in enumerate(layers):
        root = without_older_source(merged(root, at_layer(layer, index).value))
    root = without_older_source(overridden(root, overrides, len(layers), problems))
    top = layers[-1].place._replace(line=None, layer=len(layers) - 1)

    plain = {key: plain_values(given) for key, given in root.items()}
    for section in SECTIONS:
        if plain.get(section) is None and section not in OPTIONAL_SECTIONS:
            plain[section] = {}
    if plain.get("task") == tasks.FILL_MASK and isinstance(plain["data"], dict):
        # Text files have no columns, and the hub's sets of plain text call theirs so.
        plain["data"].setdefault("text_columns", ["text"])
    if plain.get("output_dir") is None:
        plain["output_dir"] = f"runs/{name}"

    def note(key: str, text: str) -> None:
        problems.append(Problem(_place_of(key, root, top), key, text))

    # Where a recipe that is extended cannot be read, nothing is known of what is missing or contradicts it.
    is_whole = all(one.key != "extends" for one in problems)
    recipe, wrong = _validated(plain, note, is_whole)
    values = _values(recipe) if recipe is not None else _values_that_hold(plain, wrong)
    wanted = (*CHECKS, *distillation_checks.CHECKS, *sweep_checks.CHECKS)
    wanted += () if rows_given else (check_source, sweep_checks.check_rows)
    for check in wanted if is_whole else ():
        try:
            for key, text in check(values):
                note(key, text)
        except KeyError:  # a check that needs a value which is itself wrong has nothing to say yet
            continue
    if problems or recipe is None:
        depths = {layer.place.source: depth for depth, layer in enumerate(layers)}
        order = sorted(problems, key=lambda one: (depths.get(one.place.source, len(layers)), one.place.line or 0))
        raise RecipeError("\n".join(dict.fromkeys(map(str, order))))
    return recipe


def _place_of(key: str, root: Mapping[str, Given], top: Place) -> Place:
    """Where a dotted key was given; else where its section was; else the recipe as a whole."""
    if key in root:  # also one that has a dot in it
        return root[key].place
    place, tree = top, root
    for part in key.split("[")[0].split("."):
        given = tree.get(part)
        if given is None:
            break
        place = given.place
        if not is_tree(given):
            break
        tree = given.value
    return place


def _validated(
    plain: Mapping[str, Any], note: Callable[[str, str], None], is_whole: bool
) -> tuple[Recipe | None, set[str]]:
    """The recipe, or None and the keys that are wrong; each is noted, what is missing only in a whole recipe."""
    try:
        return Recipe.model_validate(plain), set()
    except ValidationError as error:
        wrong = set()
        for one in error.errors(include_url=False, include_context=False):
            path = one["loc"]
            name = ".".join(map(str, path[:2])) if path[0] in SECTIONS else str(path[0])
            indices = path[len(name.split(".")) :]
            # Of a list, one of whose items is wrong, pydantic also says that it is too short without that item.
            is_echo = one["type"] == "too_short" and name in wrong
            wrong.add(name)
            if not is_echo and (is_whole or one["type"] != "missing"):
                note(name + inside(indices), said(one, name))
        return None, wrong


def _values(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value; keys of sections with a dot."""
    found: dict[str, Any] = {}
    for name in Recipe.model_fields:
        value = getattr(recipe, name)
        is_there = name in SECTIONS and value is not None
        found.update({f"{name}.{key}": one for key, one in value} if is_there else {name: value})
    return found


def _values_that_hold(plain: Mapping[str, Any], wrong: set[str]) -> dict[str, Any]:
    """As `_values`, of a recipe in which some keys are wrong: without those."""
    kept: dict[str, Any] = {
        "task": next(iter(tasks.TASKS)),
        "model": {"name_or_path": "-"},
        "data": {"text_columns": ("-",)},
    }
    placeholders = {
        "distillation": {"teacher": "-"},
        "sweep": {"parameters": {"seed": {"values": (0,)}}, "objective": "loss"},
    }
    for name, value in plain.items():
        if name in wrong:
            continue
        if name in SECTIONS and value is not None:
            kept.setdefault(name, placeholders.get(name, {}))
            value = {**kept.get(name, {}), **{key: one for key, one in value.items() if f"{name}.{key}" not in wrong}}
        kept[name] = value
    values = _values(Recipe.model_validate({"output_dir": "-", **kept}))
    return {key: value for key, value in values.items() if key not in wrong and key.partition(".")[0] not in wrong}
