"""Bars on a terminal, plain lines elsewhere, and what libraries print held back unless something fails."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tfft import console
from tfft.console import Voice


@pytest.fixture
def heard() -> io.StringIO:
    return io.StringIO()


def voice_to(file: io.StringIO, is_terminal: bool, silent: bool = False) -> Voice:
    return Voice(silent, Console(file=file, force_terminal=is_terminal, width=60, soft_wrap=not is_terminal))


# --- standard error ---------------------------------------------------------------------------------------------------


def test_standard_error_goes_into_a_file_in_the_body(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    with path.open("w", buffering=1) as log, console.stderr_into(log):
        os.write(2, b"of C++\n")
        handler = logging.StreamHandler()  # as libraries have them, for as long as the process lives
        print("of Python", file=sys.stderr)
        log.write("of ours\n")
    os.write(2, b"afterwards\n")
    handler.emit(logging.makeLogRecord({"msg": "of a library"}))
    assert path.read_text() == "of C++\nof Python\nof ours\n"
    assert capfd.readouterr().err == "afterwards\nof a library\n"


# --- lines and tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["plain", "[bold]no markup[/bold] [/oops] [link=x]", "é 😀", "x" * 500, "C:\\n :smile: 12 'a' http://x", ""]
)
def test_off_a_terminal_a_line_is_said_as_it_is(heard: io.StringIO, line: str) -> None:
    voice_to(heard, is_terminal=False).say(line)
    assert heard.getvalue() == f"{line}\n"


def test_on_a_terminal_nothing_is_read_as_markup(heard: io.StringIO) -> None:
    voice_to(heard, is_terminal=True).say("[bold]loss[/bold] 0.5")
    assert heard.getvalue() == "[bold]loss[/bold] 0.5\n"


def test_a_process_without_a_terminal_folds_no_line() -> None:
    code = "from tfft.console import Voice; Voice().say('word ' * 100); print(Voice().is_terminal)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "word " * 100 + "\nFalse\n"


def test_a_table_off_a_terminal_by_hand(heard: io.StringIO) -> None:
    voice_to(heard, is_terminal=False).table("Splits", ["", "rows", "[x]"], [["train", "9", ""], ["dev", "1000", "b"]])
    assert heard.getvalue().splitlines() == ["Splits", "         rows  [x]", "  train  9", "  dev    1000  b"]


def test_a_table_without_rows(heard: io.StringIO) -> None:
    for is_terminal in (False, True):
        voice_to(heard, is_terminal).table("Nothing", ["a", "b"], [])
    assert heard.getvalue().count("Nothing") == 2


def test_a_table_on_a_terminal_has_every_cell(heard: io.StringIO) -> None:
    voice_to(heard, is_terminal=True).table("Splits", ["", "rows"], [["train", "[red]9"], ["dev", "1000"]])
    for cell in ("Splits", "rows", "train", "[red]9", "dev", "1000"):
        assert cell in heard.getvalue()


def test_scores_by_hand(heard: io.StringIO) -> None:
    scores = {"eval": {"loss": 0.123456, "f1": 1.0}, "test": {"f1": 0.5, "matthews": -0.25}}
    voice_to(heard, is_terminal=False).scores("Scores", scores)
    assert [line.split() for line in heard.getvalue().splitlines()] == [
        ["Scores"],
        ["eval", "test"],
        ["loss", "0.1235"],
        ["f1", "1.0000", "0.5000"],
        ["matthews", "-0.2500"],
    ]


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_silent_say_nothing(heard: io.StringIO, is_terminal: bool) -> None:
    voice = voice_to(heard, is_terminal, silent=True)
    voice.say("a")
    voice.table("b", ["c"], [["d"]])
    voice.scores("e", {"eval": {"f": 1.0}})
    with voice.bar() as bar:
        bar.add_task("g", total=2, detail="")
    assert heard.getvalue() == ""
    assert not voice.is_terminal


def test_a_bar_is_drawn_on_a_terminal_only(heard: io.StringIO) -> None:
    for is_terminal in (False, True):
        with voice_to(heard, is_terminal).bar() as bar:
            task = bar.add_task("[encoding]", total=2, detail="[loss] 0.5")
            bar.advance(task, 2)
        drawn = heard.getvalue()
        assert all((words in drawn) == is_terminal for words in ("[encoding]", "2/2", "[loss] 0.5"))


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("plain é 日 😀", None, "plain é 日 😀"),
        ("two\nlines\tand\x1b[31mred\x07", None, "two lines and [31mred "),
        ("a\u2028b\u202ec\x9bd\ud800e", None, "a b c d e"),
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("", 3, ""),
    ],
)
def test_printable(text: str, limit: int | None, expected: str) -> None:
    assert console.printable(text, limit) == expected


# --- what libraries print ---------------------------------------------------------------------------------------------


@pytest.fixture
def silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.mark.usefixtures("silenced")
def test_standard_error_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with console.quiet_stderr():
        os.write(2, b"from C++\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'from a child')"], check=True)
        os.write(1, b"result\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr() == ("result\n", "afterwards\n")


@pytest.mark.usefixtures("silenced")
@pytest.mark.parametrize("failure", [ImportError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_what_was_held_back_is_shown_where_the_body_fails(
    capfd: pytest.CaptureFixture[str], failure: BaseException
) -> None:
    with pytest.raises(type(failure)), console.quiet_stderr():
        os.write(2, b"why it fails\n")
        raise failure
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "why it fails\nafterwards\n"


def test_nothing_is_held_back_from_the_verbose(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with console.quiet_stderr():
        os.write(2, b"from C++\n")
        assert capfd.readouterr().err == "from C++\n"


@pytest.mark.usefixtures("silenced")
def test_no_descriptor_is_left_open() -> None:
    before = sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for _ in range(3):
        with console.quiet_stderr():
            pass
    assert before == (sorted(os.listdir("/proc/self/fd")) if before is not None else None)


def test_a_process_without_standard_error() -> None:
    code = (
        "import os, sys; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\nfrom tfft import console\n"
        "with console.quiet_stderr():\n    print('done')\n"
    )
    shell = f'exec "{sys.executable}" -c "$0" 2>&-'
    done = subprocess.run(["sh", "-c", shell, code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_libraries_are_silenced_for_the_process_that_asks() -> None:
    code = """
import logging, os, warnings
from tfft import console
console.silence_libraries()
warnings.warn("a warning")
logging.getLogger("transformers").warning("a library's warning")
logging.getLogger("datasets.arrow").info("a library's line")
logging.getLogger("mine").warning("mine")
print(os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["TRANSFORMERS_VERBOSITY"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("3 error\n", "mine\n")


@pytest.mark.parametrize("library", ["datasets", "huggingface_hub", "transformers"])
def test_libraries_that_are_imported_afterwards_stay_silent(library: str) -> None:
    code = f"""
import importlib, logging
from tfft import console
console.silence_libraries()
importlib.import_module("{library}.utils.logging").get_logger("{library}.inside").warning("retrying")
logging.getLogger("{library}").warning("retrying")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
