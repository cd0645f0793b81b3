"""The set-up files agree with each other and with the package they install."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import tfft

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
# `import NAME` -> the distribution that brings it, where the two differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
    "mlflow": "mlflow-skinny",
    "grpc": "grpcio",
}
# Extras with what a user may want; each is loaded only where it is asked for.
OPTIONAL = ("mlflow", "wandb", "onnx")
VERBS = ("setup", "quickstart", "test", "test-real", "bench", "style", "quality", "lock")


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(block: str) -> list[str]:
    return [line.strip() for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]


def needed(setup: configparser.ConfigParser) -> dict[str, Requirement]:
    texts = lines(setup["options"]["install_requires"]) + lines(setup["options.extras_require"]["dev"])
    return {canonicalize_name(one.name): one for one in map(Requirement, texts)}


def locked() -> dict[str, Version]:
    pins = [line.split("==") for line in lines(LOCK.read_text(encoding="utf-8"))]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_lock_has_a_version_within_every_range(setup: configparser.ConfigParser) -> None:
    pins = locked()
    outside = {
        name: str(pins.get(name)) for name, one in needed(setup).items() if str(pins.get(name)) not in one.specifier
    }
    assert outside == {}


def test_lock_is_plain_pins_without_torch_or_the_project() -> None:
    assert {"torch", "tfft"}.isdisjoint(locked())
    wrong = [line for line in lines(LOCK.read_text(encoding="utf-8")) if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]
    assert wrong == []


def test_lock_names_the_python_it_was_made_with(setup: configparser.ConfigParser) -> None:
    made_with = re.search(r"^# Made with Python (\d+\.\d+\.\d+) ", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert made_with is not None
    assert made_with[1] in SpecifierSet(setup["options"]["python_requires"])


def test_version_is_the_same_everywhere(setup: configparser.ConfigParser) -> None:
    assert setup["metadata"]["version"] == tfft.__version__


def test_python_classifiers_are_the_supported_pythons(setup: configparser.ConfigParser) -> None:
    named = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    supported = SpecifierSet(setup["options"]["python_requires"])
    assert named == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported]


def test_every_package_is_installed(setup: configparser.ConfigParser) -> None:
    listed = set(lines(setup["options"]["packages"]))
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "tfft").rglob("__init__.py")}
    assert found <= listed
    mapped = dict(line.split(" = ") for line in lines(setup["options"]["package_dir"]))
    assert [name for name in listed if not (ROOT / mapped.get(name, name.replace(".", "/"))).is_dir()] == []


def test_every_data_file_is_installed(setup: configparser.ConfigParser) -> None:
    mapped = dict(line.split(" = ") for line in lines(setup["options"]["package_dir"]))
    installed = {
        path
        for package, patterns in setup["options.package_data"].items()
        for pattern in patterns.split(",")
        for path in (ROOT / mapped.get(package, package.replace(".", "/"))).glob(pattern.strip())
    }
    present = {
        path
        for folder in ("tfft", "recipes")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert present == installed


def test_every_import_is_a_declared_dependency(setup: configparser.ConfigParser) -> None:
    imported = set()
    for path in (ROOT / "tfft").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {one.name.split(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    third_party = imported - sys.stdlib_module_names - {"tfft"}
    extras = [line for name in OPTIONAL for line in lines(setup["options.extras_require"][name])]
    texts = [*lines(setup["options"]["install_requires"]), *extras]
    declared = {canonicalize_name(Requirement(line).name) for line in texts}
    assert {name for name in third_party if canonicalize_name(DISTRIBUTIONS.get(name, name)) not in declared} == set()


def test_what_extras_install_is_tested(setup: configparser.ConfigParser) -> None:
    extras = setup["options.extras_require"]
    assert {line for name in OPTIONAL for line in lines(extras[name])} <= set(lines(extras["dev"]))


def test_declared_dependencies_are_those_of_the_installed_package(setup: configparser.ConfigParser) -> None:
    try:
        texts = importlib.metadata.requires("tfft") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tfft is not installed here, only its folder is used")
    installed = {canonicalize_name(Requirement(line).name) for line in texts}
    assert set(needed(setup)) <= installed, "setup.cfg was changed after tfft was installed: run make setup"


def test_make_lists_every_verb() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = [line.split()[0] for line in shown.splitlines()]
    assert set(VERBS) <= set(listed)
    assert all(len(line.split()) > 2 for line in shown.splitlines())
