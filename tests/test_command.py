"""A command's exit status says what happened; a module can be called like its main function."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tfft import command
from tfft.errors import DataError, HubError, ModelError, RecipeError, RunError, UserError

Main = Callable[[Sequence[str] | None], int | None]


def ending_in(outcome: int | BaseException | None) -> Main:
    def main(arguments: Sequence[str] | None) -> int | None:
        assert arguments is None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return main


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (1, 1, ""),
        (UserError("give a folder"), 2, "error: give a folder\n"),
        *((kind("two\nlines"), 2, "error: two\nlines\n") for kind in (RecipeError, DataError, ModelError)),
        *((kind("é"), 2, "error: é\n") for kind in (HubError, RunError)),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (KeyboardInterrupt("the weights are kept in x"), 130, "the weights are kept in x\n"),
        (SystemExit(3), 3, ""),
    ],
    ids=repr,
)
def test_statuses(
    outcome: int | BaseException | None, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(ending_in(outcome))
    assert ended.value.code == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("bug", [ValueError("x"), KeyError("x"), AssertionError("x"), OSError("x"), RuntimeError("x")])
def test_bugs_keep_their_traceback(bug: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(bug)) as caught:
        command.run(ending_in(bug))
    assert caught.value is bug
    assert capsys.readouterr() == ("", "")


def start(body: str, **more: Any) -> subprocess.Popen[str]:
    code = f"from tfft import command, errors\ndef main(arguments):\n    {body}\ncommand.run(main)\n"
    # Unbuffered, as some environments have it, Python would meet the closed pipe elsewhere than by default.
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env={}, **more)


def test_a_bug_in_a_process_of_its_own() -> None:
    with start("raise ValueError('a bug')", cwd=command.__file__.rsplit("/", 2)[0]) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("Traceback")
    assert said.endswith("ValueError: a bug\n")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_went_away_is_no_error(lines: int) -> None:
    root = command.__file__.rsplit("/", 2)[0]
    with start(f"for _ in range({lines}): print('a line of text')", stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


def test_a_module_that_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_command", "Its text.")
    monkeypatch.setitem(sys.modules, "a_command", module)
    module.repeat = lambda text, times=1: text * times  # type: ignore[attr-defined]
    command.make_callable("a_command", "repeat")
    import a_command  # type: ignore[import-not-found]

    assert a_command is module
    assert a_command("ab") == a_command.repeat("ab") == "ab"
    assert a_command("ab", times=2) == "abab"
    assert isinstance(a_command, types.ModuleType)
    assert a_command.__doc__ == "Its text."
    # What is called is looked up when it is called, so that a test may put something else there.
    monkeypatch.setattr(a_command, "repeat", lambda: "other")
    assert a_command() == "other"
    assert not callable(types.ModuleType("another"))


def test_fit_is_a_module_and_a_function_whoever_imports_it_first() -> None:
    import tfft
    import tfft.fit
    from tfft import fit

    assert fit is tfft.fit is sys.modules["tfft.fit"]
    assert callable(fit)
    assert callable(fit.main)
