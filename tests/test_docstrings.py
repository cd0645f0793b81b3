"""The examples in docstrings are run, so that they stay true."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Rooms that people use by themselves, without a recipe.
ROOMS = ("callbacks", "data", "models", "optimizers")


class Docstring(NamedTuple):
    """A docstring with an example: where it is, which module's names it may use, its text."""

    place: str
    module: str
    text: str


def docstrings(path: Path) -> Iterator[Docstring]:
    """Found in the source, so that nothing is imported before a test runs."""
    inside = path.relative_to(ROOT).with_suffix("")
    module = ".".join(part for part in inside.parts if part != "__init__")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            if ">>>" in text:
                yield Docstring(f"{path.relative_to(ROOT)}:{getattr(node, 'name', 'module')}", module, text)


EXAMPLES = [one for path in sorted((ROOT / "tfft").rglob("*.py")) for one in docstrings(path)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.place)
def test_example_shows_what_happens(example: Docstring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the paths in the examples begin
    names = dict(vars(importlib.import_module(example.module)))
    parsed = doctest.DocTestParser().get_doctest(example.text, names, example.place, example.place, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(parsed, out=said.append)
    assert not said, "".join(said)


def test_hardly_any_example_is_skipped() -> None:
    """`tfft.fit` shows the quickstart, which takes most of a minute. It has tests of its own."""
    skipped = [one.place for one in EXAMPLES if re.search(r"doctest:.*\+SKIP", one.text)]
    assert skipped == ["tfft/fit.py:fit"]


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_is_in_it(room: str) -> None:
    """By an example, and by the name of each of its files that has one."""
    text = next((one.text for one in EXAMPLES if one.place == f"tfft/{room}/__init__.py:module"), None)
    assert text is not None
    files = {one.module.rpartition(".")[2] for one in EXAMPLES if one.module.startswith(f"tfft.{room}.")}
    assert {file for file in files if file not in text} == set()
