"""`python -m tfft.recipes` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tfft import recipe


def run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfft.recipes", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
    )


def test_list_has_a_line_for_each(tmp_path: Path) -> None:
    done = run(tmp_path, "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(recipe.names())
    assert "google-bert/bert-base-uncased" in done.stdout


def test_show_gives_a_recipe_that_says_the_same(tmp_path: Path) -> None:
    done = run(tmp_path, "show", "mrpc", "seed=7")
    assert done.returncode == 0
    assert done.stdout.startswith(f"# {recipe.header('mrpc').splitlines()[0]}\n")
    (tmp_path / "mrpc.yaml").write_text(done.stdout)
    assert recipe.load(tmp_path / "mrpc.yaml") == recipe.load("mrpc", ["seed=7"])
    assert run(tmp_path, "validate", "-", stdin=done.stdout).stdout == "-: valid\n"


def test_copy_writes_the_text_once(tmp_path: Path) -> None:
    first = run(tmp_path, "copy", "imdb", "mine.yaml")
    assert first.returncode == 0
    shipped = recipe.locate("imdb").read_text(encoding="utf-8")
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == shipped
    (tmp_path / "mine.yaml").write_text("mine")
    again = run(tmp_path, "copy", "mrpc", "mine.yaml")
    assert again.returncode == 2
    assert "mine.yaml: is there already and stays as it is" in again.stderr
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_validate_says_all_that_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("extends: mrpc\ntraining:\n  lr: 1\nseed: many\n")
    done = run(tmp_path, "validate", "bad.yaml", "data.max_length=2")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.removeprefix("error: ").partition(": ")[0] for line in done.stderr.splitlines()] == [
        "bad.yaml:3",
        "bad.yaml:4",
        "command line",
    ]


def test_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "schema").stdout) == recipe.json_schema()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "mrcp"), "did you mean mrpc?"),
        (("copy", "mrcp", "a.yaml"), "did you mean mrpc?"),
        (("copy", "mrpc", "a.txt"), "expected a name that ends in .yaml"),
        (("copy", "mrpc", "no/folder/a.yaml"), "cannot be written"),
        (("validate", "none.yaml"), "no such file"),
        (("remove",), "invalid choice: 'remove'"),
        ((), "ACTION"),
    ],
)
def test_a_mistake_ends_with_status_2_and_writes_nothing(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
