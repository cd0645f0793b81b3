"""The ranks of the rooms: a module imports only from lower ranks, or from rooms before its own in its rank."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tfft"

# Rooms of ranks 0, 1 and 2, each rank in the order in which its rooms may know each other. All others are commands.
RANKS = (
    (
        "allocator",
        "errors",
        "locations",
        "compiled",
        "command",
        "tasks",
        "recipe",
        "whole",
        "lock",
        "tensors_file",
        "states",
        "interrupts",
        "drawing",
        "pages",
        "differences",
        "statistics",
        "calibration",
        "thresholds",
        "tallies",
        "slices",
        "predictions",
        "rate_curve",
    ),
    ("console", "environment", "hub", "uploads", "backend"),
    (
        "workers",
        "tpu",
        "hardware",
        "data",
        "models",
        "optimizers",
        "metrics",
        "run_directory",
        "temperatures",
        "callbacks",
        "problems",
        "scoring",
        "perplexity",
        "plan",
        "distillation",
        "training",
        "nonfinite",
        "rehearsal",
        "range_test",
        "course",
        "assembly",
        "further",
        "predictor",
        "loaded",
        "validated",
        "exports",
        "evaluation",
        "rescored",
        "evaluation_tables",
        "evaluation_pictures",
        "reports",
        "cards",
        "pipelines",
        "typed",
        "answered",
        "pipeline_lines",
        "unfinished",
        "throughput",
        "reporting",
        "search",
        "verdicts",
    ),
)
ORDER = {room: (rank, place) for rank, rooms in enumerate(RANKS) for place, room in enumerate(rooms)}
COMMAND = (len(RANKS), 0)

# Commands that are made of another command, and which.
COMMAND_IMPORTS = {
    ("__main__", "*"),
    ("quickstart", "fit"),
    ("quickstart", "predict"),
    ("doctor", "fit"),
    ("distill", "fit"),
    ("launch", "fit"),
    ("seeds", "fit"),
    ("evaluate", "fit"),
    ("pretrain", "fit"),
}
BACKEND_ONLY = {"tensorflow", "tf_keras", "keras"}

# (importing module, its source) for every module but the package's own door, which names everything lazily.
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room_of(path: Path) -> str:
    # The door of a room that is also a command stands outside it.
    return "__main__" if path.name == "__main__.py" else path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str, path: Path) -> Iterator[str]:
    """Dotted names of all that a module imports, at any depth; `from a import b` gives both `a` and `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = ("tfft", *path.relative_to(PACKAGE).parts)
            base = [*parts[: len(parts) - node.level], *filter(None, [node.module])] if node.level else [node.module]
            yield from (".".join(filter(None, [*base, name])) for name in ("", *(one.name for one in node.names)))


def wrong_imports(source: str, path: Path) -> list[str]:
    """One sentence for every import that the ranks forbid."""
    here = room_of(path)
    there = {name.split(".")[1] for name in imported(source, path) if name.startswith("tfft.")} - {here}
    rooms = {room for room in there if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()}
    allowed = {room for room in rooms if ORDER.get(room, COMMAND) < ORDER.get(here, COMMAND)}
    allowed |= {room for room in rooms if not {(here, room), (here, "*")}.isdisjoint(COMMAND_IMPORTS)}
    found = [f"{here} may not import {room}" for room in sorted(rooms - allowed)]
    tops = {name.split(".")[0] for name in imported(source, path)} & BACKEND_ONLY
    # An export is tried as those load it who have TensorFlow alone.
    if here not in ("backend", "metrics") and path.name != "reload.py":
        found += [f"{here} imports {top}; say `from tfft.backend import keras, tf`" for top in sorted(tops)]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_ranks(path: Path) -> None:
    assert wrong_imports(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("errors.py", "from tfft.hub import snapshot", ["errors may not import hub"]),
        ("errors.py", "def f():\n    from tfft import hub", ["errors may not import hub"]),
        ("errors.py", "import tfft.backend as b", ["errors may not import backend"]),
        ("locations.py", "from tfft import __version__\nfrom tfft.errors import UserError", []),
        ("errors.py", "from tfft.locations import resolve", ["errors may not import locations"]),
        ("errors.py", "from .hub import snapshot", ["errors may not import hub"]),
        ("data/encode.py", "from ..hub import snapshot\nfrom .batches import x", []),
        ("data/encode.py", "from ..models import load", ["data may not import models"]),
        ("hub.py", "import tensorflow.data", ["hub imports tensorflow; say `from tfft.backend import keras, tf`"]),
        (
            "hub.py",
            "def f():\n    from tf_keras import Model",
            ["hub imports tf_keras; say `from tfft.backend import keras, tf`"],
        ),
        ("backend.py", "import tensorflow as tf\nimport tf_keras", []),
    ],
)
def test_the_rule_itself(module: str, source: str, wrong: list[str]) -> None:
    assert wrong_imports(source, PACKAGE / module) == wrong
