"""Paths, files inside installed packages, shipped recipes, the cache folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tfft import locations
from tfft.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("data/train.csv", "data/train.csv"),
        ("/data/train.csv", "/data/train.csv"),
        ("~/train.csv", "/home/somebody/train.csv"),
        ("a~b", "a~b"),
        ("~no-such-user-here/train.csv", "~no-such-user-here/train.csv"),
        (".", "."),
        ("packages:tfft/x", "packages:tfft/x"),
    ],
)
def test_plain_paths(text: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert locations.resolve(text) == Path(path)


def test_files_inside_packages() -> None:
    folder = Path(locations.__file__).parent
    assert locations.resolve("package:tfft/quickstart/train.csv") == folder / "quickstart" / "train.csv"
    assert locations.resolve("package:tfft/quickstart/train.csv").is_file()
    assert locations.resolve("package:tfft") == folder
    assert locations.resolve("package:tfft/not/there") == folder / "not" / "there"


def test_a_package_is_found_but_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert locations.resolve("package:some_weights/model") == tmp_path / "some_weights" / "model"
    assert "some_weights" not in sys.modules


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("package:no_such_package/model", "no_such_package, which is not installed; .*no-such-package"),
        ("package:no.such/model", r"no\.such"),
        ("package:tfft.data/x", r"tfft\.data"),
        ("package:/model", r"\(none\)"),
        ("package:", r"\(none\)"),
        ("package:json.py/x", r"json\.py"),
        ("package:this/x", "this"),  # a module, no folder
    ],
)
def test_packages_that_are_not_installed(text: str, named: str) -> None:
    with pytest.raises(
        RecipeError, match=f"^model.name_or_path: {text} names the package {named.split('package ')[-1]}"
    ):
        locations.resolve(text, "model.name_or_path")


def test_shipped_recipes_are_there() -> None:
    assert {"quickstart", "mrpc"} <= {one.stem for one in locations.shipped_recipes().glob("*.yaml")}


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({}, "/home/somebody/.cache/tfft"),
        ({"XDG_CACHE_HOME": ""}, "/home/somebody/.cache/tfft"),
        ({"XDG_CACHE_HOME": "/fast"}, "/fast/tfft"),
        ({"XDG_CACHE_HOME": "/fast", "TFFT_CACHE": "/own"}, "/own"),
        ({"TFFT_CACHE": "~/own"}, "/home/somebody/own"),
        ({"TFFT_CACHE": ""}, "/home/somebody/.cache/tfft"),
    ],
)
def test_the_cache_folder(settings: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "TFFT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/somebody", **settings}.items():
        monkeypatch.setenv(name, value)
    assert locations.cache_folder() == Path(folder)
