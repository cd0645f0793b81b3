"""What is installed, whether it fits, and what a run says about its surroundings."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tfft
from tfft import environment
from tfft.errors import UserError

INSTALLED = {"tensorflow": "2.21.0", "transformers": "5.0.0", "datasets": "4.0.0rc1", "numpy": "2.1.3+cpu"}


@pytest.fixture
def these_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "installed_version", INSTALLED.get)


@pytest.mark.usefixtures("these_versions")
@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ("tensorflow>=2.19,<2.22", None),
        ("tensorflow", None),
        ("numpy==2.1.3", None),
        ("datasets>=3,<5", None),  # release candidates count
        ("transformers>=4.46,<5", "transformers 5.0.0 is installed; tfft was tested with transformers<5,>=4.46"),
        ("tensorflow<2.21", "tensorflow 2.21.0 is installed; tfft was tested with tensorflow<2.21"),
        ("datasets>=4.0.0", "datasets 4.0.0rc1 is installed; tfft was tested with datasets>=4.0.0"),
        ("evaluate>=0.4", "evaluate is not installed; tfft needs evaluate>=0.4"),
        ("evaluate", "evaluate is not installed; tfft needs evaluate"),
    ],
)
def test_one_requirement(needed: str, expected: str | None) -> None:
    assert environment.misfits([Requirement(needed)]) == ([] if expected is None else [expected])


def test_tensorflow_for_tpus_is_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "tensorflow-tpu":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.20.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert environment.installed_version("tensorflow") == "2.20.0"
    assert environment.installed_version("tf_keras") is None


@pytest.mark.usefixtures("these_versions")
def test_the_message_lists_all_and_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = [Requirement(one) for one in ("tensorflow>=2.19", "transformers>=4.46,<5", "evaluate>=0.4")]
    monkeypatch.setattr(environment, "requirements", lambda: needed)
    with pytest.raises(UserError) as caught:
        environment.check()
    assert str(caught.value).splitlines() == [
        "this environment does not fit:",
        "  transformers 5.0.0 is installed; tfft was tested with transformers<5,>=4.46",
        "  evaluate is not installed; tfft needs evaluate>=0.4",
        "mend it with: pip install 'transformers<5,>=4.46' 'evaluate>=0.4'",
    ]


def test_this_environment_fits() -> None:
    environment.check()
    assert environment.installed_version("numpy") == importlib.metadata.version("numpy")
    assert environment.installed_version("no-such-distribution") is None


def test_requirements_of_extras_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=2", "ruff; extra == 'dev'", "tomli; python_version < '3'", "rich; python_version >= '3'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert [one.name for one in environment.requirements()] == ["numpy", "rich"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: None)
    assert environment.requirements() == []


def test_run_from_a_folder_nothing_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert environment.requirements() == []
    environment.check()


def test_what_a_run_writes_down() -> None:
    found = environment.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["tfft"] == tfft.__version__
    assert set(environment.REPORTED) <= set(found)
    assert isinstance(found["cpu_count"], int)
    assert found["processor"]
    # More than an interpreter needs, less than any machine has: bytes, KiB and MB are told apart.
    assert 10 < environment.peak_rss_mb() < 1_000_000
    assert all(re.fullmatch(r"\S+", flag) for flag in environment.processor_flags())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands a starting program's peak on")
def test_a_small_program_started_by_a_large_one_has_its_own_peak() -> None:
    code = (
        "import subprocess, sys\n"
        "held = bytearray(600_000_000)\n"
        "small = 'from tfft import environment; print(environment.peak_rss_mb())'\n"
        "print(subprocess.run([sys.executable, '-c', small], capture_output=True, text=True, check=True).stdout)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tfft").mkdir()
    code = tmp_path / "tfft" / "environment.py"
    code.write_text("a = 1\n")
    monkeypatch.setattr(environment, "__file__", str(code))
    assert environment.commit() is None
    git(tmp_path, "init", "-q")
    assert environment.commit() is None  # nothing is committed yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert environment.commit() == head
    (tmp_path / "new.txt").write_text("a file that git does not know")
    assert environment.commit() == head
    code.write_text("a = 2\n")
    assert environment.commit() == f"{head}+changes"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git there
    assert environment.commit() is None
