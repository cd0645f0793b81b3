"""Values as they were given, in a file or in Python, each with its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from tfft.errors import RecipeError
from tfft.recipe.sections import Recipe
from tfft.recipe.words import dotted, shown
from tfft.recipe.yaml_text import COMMAND_LINE, Place, compose, scalar


@dataclass(frozen=True)
class Given:
    """A value and where it was given. The value of a section is a dict of these; any other is plain."""

    value: Any
    place: Place


class Problem(NamedTuple):
    place: Place
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(filter(None, [str(self.place), self.key, self.text]))


def is_tree(given: Given) -> bool:
    return isinstance(given.value, dict)


def plain_values(given: Given) -> Any:
    return {key: plain_values(one) for key, one in given.value.items()} if is_tree(given) else given.value


def leaves(root: Mapping[str, Given], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Given]]:
    for key, given in root.items():
        if is_tree(given):
            yield from leaves(given.value, (*path, key))
        else:
            yield dotted((*path, key)), given


def trees(root: Mapping[str, Given], path: tuple[str, ...] = ()) -> Iterator[str]:
    """The dotted names of all that has keys of its own."""
    for key, given in root.items():
        if is_tree(given):
            yield dotted((*path, key))
            yield from trees(given.value, (*path, key))


def parse(text: str, source: str, problems: list[Problem]) -> Given:
    """A file's keys and values with their lines. Keys given twice go to `problems`."""
    root = compose(text, source)
    expected = f"expected a recipe with the keys {', '.join(Recipe.model_fields)}"
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value and not root.style):
        raise RecipeError(f"{source}: is empty; {expected}")
    if not isinstance(root, yaml.MappingNode):
        got = "a list" if isinstance(root, yaml.SequenceNode) else shown(root.value)
        raise RecipeError(f"{Place(source, root.start_mark.line + 1)}: got {got}; {expected}")
    return node_tree(root, source, (), problems)


def node_tree(node: yaml.Node, source: str, path: tuple[str, ...], problems: list[Problem]) -> Given:
    if not isinstance(node, yaml.MappingNode):
        return Given(_node_value(node), _node_place(node, source))
    found: dict[str, Given] = {}
    for key_node, value_node in node.value:
        place = _node_place(key_node, source)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(place, dotted(path), "got a list or mapping as a key; expected a word"))
            continue
        key = key_node.value
        if key in found:
            first = found[key].place.line
            where = "" if first is None else f", first in line {first}"
            text = f"given twice{where}; expected once: keep one of the two"
            problems.append(Problem(place, dotted((*path, key)), text))
            continue
        # A key's place is its own line, also where its value begins below.
        found[key] = Given(node_tree(value_node, source, (*path, key), problems).value, place)
    return Given(found, _node_place(node, source))


def _node_place(node: yaml.Node, source: str) -> Place:
    return Place(source, None if source == COMMAND_LINE else node.start_mark.line + 1)


def _node_value(node: yaml.Node) -> Any:
    """The plain value of a node inside a list, or of one that is no mapping."""
    if isinstance(node, yaml.SequenceNode):
        return [_node_value(one) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(_node_value(key)): _node_value(value) for key, value in node.value}
    assert isinstance(node, yaml.ScalarNode)
    return scalar(node.value) if node.style is None else node.value


def from_python(value: Any, place: Place, path: tuple[str, ...], problems: list[Problem]) -> Given:
    """A Python value as a file would have given it: paths as text, NumPy's numbers as plain ones."""
    if isinstance(value, Mapping):
        found = {}
        for key, one in value.items():
            if isinstance(key, str | int):  # labels may be numbers
                found[str(key)] = from_python(one, place, (*path, str(key)), problems)
            else:
                problems.append(Problem(place, dotted(path), f"got the key {key!r}; expected text as a key"))
        return Given(found, place)
    return Given(_plain_python(value), place)


def _plain_python(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's numbers, booleans and arrays
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain_python(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
