"""The README's commands are accepted as they stand, and its first screen and links name what is there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tfft import recipe
from tfft.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
FITS = [line[3:] for line in LINES if line[:3] == ["python", "-m", "tfft.fit"]]


@pytest.mark.parametrize("arguments", FITS, ids=" ".join)
def test_every_training_command_is_a_valid_recipe(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text((ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    name = arguments[arguments.index("--recipe") + 1]
    recipe.load(name, [one for one in arguments if "=" in one or one.startswith("~")])


def test_every_command_and_make_target_is_there() -> None:
    modules = {line[2].removeprefix("tfft.") for line in LINES if line[:2] == ["python", "-m"]}
    assert modules <= set(COMMANDS)
    targets = {line[1] for line in LINES if line[0] == "make"}
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"quickstart", "test"} <= targets
    assert [target for target in targets if f"\n  {target} " not in f"\n{listed}"] == []


def test_every_recipe_is_in_the_table() -> None:
    table = TEXT[TEXT.index("| Recipe |") : TEXT.index("python -m tfft.recipes list")]
    assert set(re.findall(r"^\| `([\w/-]+)` \|", table, re.MULTILINE)) == set(recipe.names())


def test_python_blocks_are_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)
