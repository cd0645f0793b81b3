"""Recipes that extend others, and overrides: layers merged key by key."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tfft.errors import RecipeError
from tfft.recipe.files import locate, read
from tfft.recipe.given import Given, Problem, is_tree, leaves, node_tree, parse, trees
from tfft.recipe.messages import suggestion
from tfft.recipe.sections import FILE_KEYS, HUB_KEYS, SECTIONS, SETTLED_IN_SHARDS, SHARD_KEYS
from tfft.recipe.words import dotted, question, shown
from tfft.recipe.yaml_text import COMMAND_LINE, Place, compose, scalar


def with_extended(tree: Given, folder: Path, above: list[Path], problems: list[Problem]) -> list[Given]:
    """The layers of a recipe: those of the recipe that it extends, deepest first, then itself without that key.

    Args:
        folder: what a path in `extends` is relative to.
        above: the files on the way here, this one last.
    """
    own = dict(tree.value)
    extends = own.pop("extends", None)
    this = Given(own, tree.place)
    if extends is None or extends.value is None:
        return [this]
    text = extends.value
    if not isinstance(text, str) or not text:
        problems.append(Problem(extends.place, "extends", f"got {shown(text)}; expected the name or path of a recipe"))
        return [this]
    try:
        path = locate(text, folder)
        chain = [*above, path]
        if any(os.path.realpath(path) == os.path.realpath(one) for one in above):
            raise RecipeError(f"goes in a circle: {' -> '.join(map(str, chain))}; end it somewhere")
        tree = parse(read(path, str(path)), str(path), problems)
    except RecipeError as error:
        problems.append(Problem(extends.place, "extends", f"got {shown(text)}; {error}"))
        return [this]
    return [*with_extended(tree, path.parent, chain, problems), this]


def at_layer(given: Given, layer: int) -> Given:
    value = given.value
    if is_tree(given):
        value = {key: at_layer(one, layer) for key, one in value.items()}
    return Given(value, given.place._replace(layer=layer))


def merged(base: dict[str, Given], over: dict[str, Given]) -> dict[str, Given]:
    """`over` on top of `base`, mapping by mapping. A section that says nothing (`training:` alone) changes nothing."""
    result = dict(base)
    for key, given in over.items():
        before = base.get(key)
        if before is not None and is_tree(before) and is_tree(given):
            result[key] = Given(merged(before.value, given.value), given.place)
        elif not (before is not None and is_tree(before) and given.value is None):
            result[key] = given
    return result


def overridden(
    root: dict[str, Given], overrides: Sequence[str], layer: int, problems: list[Problem]
) -> dict[str, Given]:
    """The merged recipe with the overrides, in their order."""
    place = Place(COMMAND_LINE, layer=layer)
    for text in overrides:
        if text.startswith("~"):
            root = _removed(root, text[1:], place, problems)
            continue
        key, equals, raw = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            expected = "expected KEY=VALUE, or ~KEY to remove one (training.learning_rate=3e-5)"
            problems.append(Problem(place, "", f"got {shown(text)}; {expected}"))
            continue
        given = _override_value(raw, place, tuple(parts), problems)
        if key == "extends" or given is None:
            if given is not None:
                problems.append(Problem(place, key, "expected in a recipe's file; give --recipe the other recipe"))
            continue
        if given.value is None and key in SECTIONS:
            problems.append(Problem(place, key, f"got null; expected a section; ~{key} removes all of it"))
            continue
        for part in reversed(parts):
            given = Given({part: given}, place)
        root = merged(root, given.value)
    return root


def _override_value(raw: str, place: Place, path: tuple[str, ...], problems: list[Problem]) -> Given | None:
    """The value behind `KEY=`. YAML's own signs mean nothing in plain text, nor in a plain list of it: a column may be
    called `#1 x`. What has quotes or is nested is YAML."""
    text = raw.strip()
    if re.fullmatch(r"\[[^][{}'\"]*\]", text):
        parts = [part.strip() for part in text[1:-1].split(",")]
        return Given([scalar(part) for part in (parts if parts[-1] else parts[:-1])], place)
    if not text.startswith(("[", "{", '"', "'")):
        return Given(scalar(text), place)
    try:
        node = compose(text, COMMAND_LINE)
    except RecipeError as error:
        said = str(error).removeprefix(f"{COMMAND_LINE}: ")
        problems.append(Problem(place, dotted(path), f"got {shown(raw)}; {said} (text with , # : [ ] goes in quotes)"))
        return None
    assert node is not None
    return at_layer(node_tree(node, COMMAND_LINE, path, problems), place.layer)


def _removed(root: dict[str, Given], key: str, place: Place, problems: list[Problem]) -> dict[str, Given]:
    present = [*trees(root), *(dotted for dotted, _ in leaves(root))]
    if key not in present:
        text = "no such key in this recipe, so it cannot be removed; expected one that is there"
        meant = suggestion(key)
        problems.append(Problem(place, f"~{key}", text + question(meant if meant in present else None)))
        return root
    return _without(root, key)


def _without(root: dict[str, Given], key: str) -> dict[str, Given]:
    """All but that; keys may have dots in them."""
    if key in root:
        return {name: given for name, given in root.items() if name != key}
    found = next(name for name, one in root.items() if is_tree(one) and key.startswith(f"{name}."))
    return {**root, found: Given(_without(root[found].value, key.removeprefix(f"{found}.")), root[found].place)}


def without_older_source(root: dict[str, Given]) -> dict[str, Given]:
    """Where a later layer names the rows' source anew, the earlier layers' keys of the other kind of source go."""
    data = root.get("data")
    if data is None or not is_tree(data):
        return root

    def layer(key: str) -> int:
        given = data.value.get(key)
        return -1 if given is None or given.value is None else given.place.layer

    keys = {"train_file": FILE_KEYS, "dataset_name": HUB_KEYS, "shards": SHARD_KEYS}
    newest = max(map(layer, keys))
    old = {key for name, of_kind in keys.items() if layer(name) < newest for key in of_kind}
    if layer("shards") == newest:
        old.update(SETTLED_IN_SHARDS)
    kept = {key: one for key, one in data.value.items() if not (key in old and one.place.layer < newest)}
    return {**root, "data": Given(kept, data.place)}
