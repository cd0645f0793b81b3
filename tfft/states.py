"""States of a training on disk, from which it goes on exactly: whole or not there, each with its checksum.

A state is a folder named by the optimizer steps done, such as `step-00000120`: `tensors.safetensors` has every number
that training changes, `state.json` where it stood and the checksum of the other. The newest two are kept.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from tfft import tensors_file
from tfft.whole import sha256, whole_folder

TENSORS, FACTS = "tensors.safetensors", "state.json"
PREFIX = "step-"
KEPT = 2
# Raised whenever what a state holds, or what it means, changes.
FORMAT = 4


@dataclass(frozen=True)
class State:
    """One of them. Its tensors stay on disk until they are asked for.

    Attributes:
        folder: where it is.
        shapes: of its tensors, by name.
        facts: where the training stood: numbers, texts, lists and tables of them.
    """

    folder: Path
    shapes: dict[str, tuple[int, ...]]
    facts: dict[str, Any]

    def tensor(self, name: str) -> np.ndarray:
        """The tensor of this name."""
        with safe_open(self.folder / TENSORS, framework="numpy") as file:
            found: np.ndarray = file.get_tensor(name)
        return found


def write(
    root: Path, step: int, tensors: Mapping[str, Any], facts: Mapping[str, Any], spared: Container[Path] = ()
) -> Path:
    """Writes the state of the training after `step` optimizer steps into a folder of its own in `root`.

    Older ones than the newest `KEPT` go.

    Args:
        tensors: name to an array or a variable; one after the other is copied.
        spared: folders of older ones that stay.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    folder = root / f"{PREFIX}{step:08d}"
    with whole_folder(folder) as target:
        about = {"format": FORMAT, "sha256": tensors_file.write(target / TENSORS, tensors), "facts": _to_json(facts)}
        (target / FACTS).write_text(json.dumps(about, allow_nan=False), encoding="utf-8")
    for old in folders(root)[:-KEPT]:
        if old not in spared:
            shutil.rmtree(old)
    return folder


def folders(root: Path) -> list[Path]:
    """Those of the states in `root`, the oldest first."""
    return sorted(one for one in root.glob(f"{PREFIX}*") if one.name.removeprefix(PREFIX).isdigit())


def newest(root: Path, suits: Callable[[State], bool] = lambda state: True) -> tuple[State | None, list[str]]:
    """The newest state in `root` that is whole and suits, or None; and what is wrong with newer ones."""
    wrong: list[str] = []
    for folder in reversed(folders(root)):
        try:
            if suits(state := read(folder)):
                return state, wrong
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            wrong.append(f"{folder} is damaged ({error})")
    return None, wrong


def forget_newer(folder: Path) -> None:
    """Removes the states that are newer than the one in `folder`, the newest first."""
    for one in reversed(folders(folder.parent)):
        if one > folder:
            shutil.rmtree(one)


def read(folder: Path) -> State:
    """The state in this folder.

    Raises:
        OSError, ValueError, KeyError, TypeError, SafetensorError: it is not whole.
    """
    about = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if about["format"] != FORMAT:
        raise ValueError(f"its format is {about['format']}, of another version of tfft")
    if about["sha256"] != sha256(folder / TENSORS):
        raise ValueError(f"{TENSORS} is not what was written")
    with safe_open(folder / TENSORS, framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return State(folder, shapes, _from_json(about["facts"]))


def facts_of_all(root: Path) -> dict[Path, dict[str, Any]]:
    """The facts of the states in `root`, the oldest first; not of those without any, as where a removal was killed."""
    found: dict[Path, dict[str, Any]] = {}
    for folder in folders(root):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found[folder] = _from_json(json.loads((folder / FACTS).read_text(encoding="utf-8"))["facts"])
    return found


def _to_json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they go as their names, in a table of one entry."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {name: _to_json(one) for name, one in value.items()}
    return [_to_json(one) for one in value] if isinstance(value, list | tuple) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        only = [*value] == ["float"]
        return float(value["float"]) if only else {name: _from_json(one) for name, one in value.items()}
    return [_from_json(one) for one in value] if isinstance(value, list) else value
