"""A run's folder: nobody's files are lost, and nothing half-written looks finished."""

from __future__ import annotations

import csv
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import files_no_larger_than
from tfft import lock
from tfft.errors import RunError
from tfft.run_directory import ENTRIES, RunDirectory, check_weights, checksums

Put = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunDirectory]:
    """An open one."""
    with RunDirectory(tmp_path / "run").open() as opened:
        yield opened


def contents(path: Path) -> dict[str, str]:
    return {str(one.relative_to(path)): one.read_text() for one in path.rglob("*") if one.is_file()}


class Trouble(Exception):
    """Whatever may happen in a body."""


# --- what may be written to -------------------------------------------------------------------------------------------


def a_file(name: str, content: str = "") -> Put:
    def put(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(content)

    return put


def several(*puts: Put) -> Put:
    def put(run: Path) -> None:
        for one in puts:
            one(run)

    return put


def a_link(run: Path) -> None:
    (run.parent / "other").mkdir()
    run.symlink_to(run.parent / "other")


IS_FREE: dict[str, Put] = {
    "nothing": lambda run: None,
    "an empty folder": lambda run: run.mkdir(),
    "a link to an empty folder": a_link,
}
IS_A_RUN = {
    "finished": (a_file("metrics.json", "{}"), "holds a finished run;"),
    "finished with all": (several(*map(a_file, ENTRIES[:4]), a_file("model/config.json")), "holds a finished run;"),
    "unfinished": (a_file("recipe.yaml"), "holds an unfinished run;"),
    "interrupted": (a_file("checkpoint/step-00000010/state.json"), "unfinished run; --resume to go on with it"),
    "killed while writing": (several(a_file("recipe.yaml"), a_file("metrics.json.partial")), "unfinished run"),
    "killed while saving": (a_file("model.partial/config.json"), "unfinished run"),
    "killed before writing": (a_file("run.lock", "999999999"), "unfinished run"),
}
IS_SOMEBODYS = {
    "thesis": (a_file("thesis.tex"), r"not a run's \(thesis\.tex\)"),
    "run and thesis": (several(a_file("metrics.json"), a_file("thesis.tex")), r"not a run's \(thesis\.tex\)"),
    "download": (a_file("film.mp4.partial"), r"not a run's \(film\.mp4\.partial\)"),
    "hidden": (a_file(".git/config"), r"not a run's \(\.git\)"),
    "many": (several(*(a_file(name) for name in "dcba")), r"not a run's \(a, b, c\)"),
}


@pytest.mark.parametrize("put", IS_FREE.values(), ids=IS_FREE)
@pytest.mark.parametrize("overwrite", [False, True])
def test_where_nothing_is_a_run_may_be_written(tmp_path: Path, put: Put, overwrite: bool) -> None:
    put(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    run = RunDirectory(tmp_path / "run")
    run.check(overwrite)
    assert sorted(tmp_path.rglob("*")) == before
    with run.open():
        run.write_text("recipe.yaml", "a: 1\n")
    assert contents(tmp_path / "run") == {"recipe.yaml": "a: 1\n"}


@pytest.mark.parametrize(("put", "expected"), IS_A_RUN.values(), ids=IS_A_RUN)
def test_a_run_is_replaced_only_when_asked(tmp_path: Path, put: Put, expected: str) -> None:
    put(tmp_path / "run")
    before = contents(tmp_path)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(RunError, match=f"output_dir: .*{expected}.*--overwrite"):
        run.check(overwrite=False)
    run.check(overwrite=True)
    assert contents(tmp_path) == before
    with run.open():
        assert os.listdir(tmp_path / "run") == ["run.lock"]
    assert os.listdir(tmp_path / "run") == []


@pytest.mark.parametrize(("put", "expected"), IS_SOMEBODYS.values(), ids=IS_SOMEBODYS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_used(tmp_path: Path, put: Put, expected: str, overwrite: bool) -> None:
    put(tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=f"output_dir: .*{expected}.*give a new folder"):
        RunDirectory(tmp_path / "run").check(overwrite)
    assert contents(tmp_path) == before


def test_other_files_outlive_even_a_run_that_was_not_checked(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("thesis.tex", "film.mp4.partial", "data/train.csv", ".hidden", "old.partial"):
        a_file(name, name)(run)
    with RunDirectory(run).open() as opened:
        opened.write_text("history.csv", "")
    assert set(contents(run)) == {
        "thesis.tex",
        "film.mp4.partial",
        "data/train.csv",
        ".hidden",
        "old.partial",
        "history.csv",
    }


def test_what_a_link_points_to_stays(tmp_path: Path) -> None:
    a_file("kept/config.json", "kept")(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "model").symlink_to(tmp_path / "kept")
    opened = RunDirectory(run)
    opened.check(overwrite=True)
    with opened.open():
        assert not (run / "model").is_symlink()
    assert contents(tmp_path) == {"kept/config.json": "kept"}


@pytest.mark.parametrize("name", ["file", "file/run", "file/run/deep", "link", "link/run"])
def test_a_file_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"output_dir: .*/(file|link) is a file.*give a folder"):
            RunDirectory(tmp_path / name).check(overwrite)
    assert (tmp_path / "file").read_text() == "x"


def test_no_permission_by_the_systems_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def access(path: Path, mode: int) -> bool:
        asked.append((path, bool(mode & os.W_OK)))
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(RunError, match=rf"a/b cannot be written \(no permission for {tmp_path}\); give another folder"):
        RunDirectory(tmp_path / "a" / "b").check(overwrite=False)
    assert asked == [(tmp_path, True)]


LIKE_ANYBODY = """
import os, sys
from tfft.errors import RunError
from tfft.run_directory import RunDirectory
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in sys.argv[1:]:
    try:
        RunDirectory(name).check(overwrite=True)
    except RunError as error:
        print(error)
"""


def test_no_permission_for_anybody(tmp_path: Path) -> None:
    """Not even for looking whether the folder is there."""
    closed = tmp_path / "closed"
    a_file("run/metrics.json")(closed)
    closed.chmod(0)
    try:
        names = [str(closed), str(closed / "run"), str(closed / "run" / "deeper")]
        done = subprocess.run([sys.executable, "-c", LIKE_ANYBODY, *names], capture_output=True, text=True)
    finally:
        closed.chmod(0o700)
    assert done.stderr == ""
    assert [line.count("cannot be written (no permission for") for line in done.stdout.splitlines()] == [1, 1, 1]


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / ("x" * 300))
    run.check(overwrite=False)
    with pytest.raises(RunError, match="File name too long"), run.open():
        raise AssertionError("it was opened")


# --- one run at a time ------------------------------------------------------------------------------------------------

HOLD = """
import sys
from tfft.run_directory import RunDirectory
with RunDirectory(sys.argv[1]).open() as run:
    run.write_text("recipe.yaml", "theirs")
    print("open", flush=True)
    sys.stdin.readline()
    run.write_text("metrics.json", "{}")
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, with the folder `run` open until it is sent a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_folder_in_use_by_a_living_process(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    run = RunDirectory(tmp_path / "run")
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(RunError, match=f"is in use by process {other.pid}"):
            run.check(overwrite)
    with pytest.raises(RunError, match=f"is in use by process {other.pid}"), run.open():
        raise AssertionError("it was opened")
    assert contents(tmp_path) == before
    assert before["run/recipe.yaml"] == "theirs" and before["run/run.lock"].startswith(f"{other.pid}\n")
    other.communicate("\n", timeout=60)
    assert other.returncode == 0
    assert set(contents(tmp_path)) == {"run/recipe.yaml", "run/metrics.json"}
    run.check(overwrite=True)


def test_a_folder_left_by_a_process_that_was_killed(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait(60)
    run = RunDirectory(tmp_path / "run")
    assert (run / "run.lock").read_text().startswith(f"{other.pid}\n")
    with pytest.raises(RunError, match=r"holds an unfinished run; .*--overwrite"):
        run.check(overwrite=False)
    run.check(overwrite=True)
    with run.open():
        assert [*contents(tmp_path)] == ["run/run.lock"]
        assert (run / "run.lock").read_text().startswith(f"{os.getpid()}\n")


@pytest.mark.parametrize(
    "content", ["", "nobody", "4321", *(f"{pid}\n{platform.node()}\n0" for pid in ("0", "-1", "9" * 30)), "\xff"]
)
def test_a_lock_that_names_no_process_holds_nothing(tmp_path: Path, content: str) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / "run.lock").write_text(content, encoding="latin-1")
    run.check(overwrite=True)
    with run.open():
        assert (tmp_path / "run.lock").read_text().startswith(f"{os.getpid()}\n")


def test_a_process_of_another_user_is_a_living_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(process: int, number: int) -> None:
        assert (process, number) == (4321, 0)
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "run.lock").write_text(f"4321\n{platform.node()}\n{time.time() - 300}")
    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(RunError, match="is in use by process 4321 for 5 minutes; wait for it"):
        RunDirectory(tmp_path).check(overwrite=True)


def test_a_process_of_another_machine_lives_as_long_as_it_touches_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = RunDirectory(tmp_path), tmp_path / "run.lock"
    file.write_text(f"{os.getpid()}\nelsewhere\n{time.time() - 7300}")
    with pytest.raises(RunError, match=f"is in use by process {os.getpid()} on elsewhere for 2 hours"):
        run.check(overwrite=True)
    long_ago = time.time() - lock.GONE_AFTER_SECONDS - 1
    os.utime(file, (long_ago, long_ago))
    run.check(overwrite=True)
    monkeypatch.setattr(lock, "TOUCHED_EVERY_SECONDS", 0.01)
    with run.open():
        os.utime(file, (long_ago, long_ago))
        deadline = time.monotonic() + 30
        while file.stat().st_mtime < long_ago + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > long_ago + 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_ended_here_since_the_check_is_kept(tmp_path: Path, overwrite: bool) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    second.check(overwrite)
    first.check(overwrite)
    with first.open():
        first.write_json("metrics.json", {"eval": 1})
    before = contents(tmp_path)
    with pytest.raises(RunError, match="was written to by another run"), second.open():
        raise AssertionError("it was opened")
    assert contents(tmp_path) == before


def test_the_lock_goes_however_the_body_ends(tmp_path: Path) -> None:
    for failure in (Trouble(), KeyboardInterrupt(), OSError("neither full nor forbidden")):
        run = RunDirectory(tmp_path / "run")
        with pytest.raises(type(failure)), run.open():
            assert (run / "run.lock").read_text().startswith(f"{os.getpid()}\n")
            raise failure
        assert os.listdir(tmp_path / "run") == []


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_whole(folder: RunDirectory) -> None:
    with folder.whole_file("a.txt") as file:
        file.write("é" * 10_000)
        file.flush()
        assert not (folder / "a.txt").exists()
    assert (folder / "a.txt").read_text(encoding="utf-8") == "é" * 10_000
    assert sorted(os.listdir(folder.path)) == ["a.txt", "run.lock"]


@pytest.mark.parametrize("failure", [Trouble(), KeyboardInterrupt(), UnicodeEncodeError("utf-8", "x", 0, 1, "no")])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_that_fails_midway_changes_nothing(
    folder: RunDirectory, old: str | None, failure: BaseException
) -> None:
    if old is not None:
        folder.write_text("a.txt", old)
    before = contents(folder.path)
    with pytest.raises(type(failure)), folder.whole_file("a.txt") as file:
        file.write("new" * 10_000)
        file.flush()
        raise failure
    assert contents(folder.path) == before


@pytest.mark.parametrize("old", [None, "old"])
def test_a_folder_that_fails_midway_changes_nothing(folder: RunDirectory, old: str | None) -> None:
    for name in ("model", "checkpoint/best"):
        if old is not None:
            with folder.whole_folder(name) as target:
                (target / "old").write_text(old)
        before = contents(folder.path)
        for failure in (Trouble(), KeyboardInterrupt()):
            with pytest.raises(type(failure)), folder.whole_folder(name) as target:
                (target / "new").write_text("new")
                assert not (folder / name / "new").exists()
                raise failure
            assert contents(folder.path) == before


def test_a_whole_folder_takes_the_place_of_the_old_one(folder: RunDirectory) -> None:
    for content in ("first", "second", "third"):
        with folder.whole_folder("checkpoint/best") as target:
            (target / content).write_text(content)
        assert contents(folder / "checkpoint") == {f"best/{content}": content}
    assert os.listdir(folder / "checkpoint") == ["best"]


def test_a_partial_folder_left_behind_does_not_get_into_the_new_one(folder: RunDirectory) -> None:
    a_file("model.partial/old", "old")(folder.path)
    with folder.whole_folder("model") as target:
        (target / "new").write_text("new")
    assert contents(folder / "model") == {"new": "new"}
    # Nor one that was on its way out, into which none can be moved.
    a_file("model.old.partial/old", "old")(folder.path)
    with folder.whole_folder("model") as target:
        (target / "newer").write_text("newer")
    assert contents(folder / "model") == {"newer": "newer"}


WRITES: dict[str, Callable[[RunDirectory], None]] = {
    "text": lambda run: run.write_text("recipe.yaml", "x" * 5000),
    "much text": lambda run: run.write_text("recipe.yaml", "x" * 500_000),
    "json": lambda run: run.write_json("metrics.json", {"eval": list(range(5000))}),
    "csv": lambda run: run.write_csv("predictions.csv", ["row"], ([number] for number in range(5000))),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_full_disk_is_an_error_of_the_user_and_leaves_nothing(
    tmp_path: Path, write: Callable[[RunDirectory], None]
) -> None:
    run = RunDirectory(tmp_path / "run")
    with (
        pytest.raises(RunError, match=r"output_dir: .*/run failed: File too large; the run is not finished\. Free the"),
        run.open(),
        files_no_larger_than(1000),
    ):
        write(run)
    assert contents(tmp_path) == {}
    assert not run.is_finished


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    with (
        files_no_larger_than(0),
        pytest.raises(RunError, match="File too large; the run is not finished"),
        RunDirectory(tmp_path / "run").open(),
    ):
        raise AssertionError("it was opened")
    RunDirectory(tmp_path / "run").check(overwrite=True)


def test_a_run_is_finished_by_its_last_file(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.open():
        for name in ("recipe.yaml", "history.csv", "predictions.csv"):
            run.write_text(name, "")
            assert not run.is_finished
        run.write_json("metrics.json", {})
        assert run.is_finished
    run.check(overwrite=True)
    with run.open():
        assert not run.is_finished


# --- what is in the files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_has_not_is_refused(folder: RunDirectory, number: float) -> None:
    folder.write_json("metrics.json", {"eval": {"loss": 1.0}})
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json("metrics.json", {"eval": {"loss": number}})
    assert json.loads((folder / "metrics.json").read_text()) == {"eval": {"loss": 1.0}}


def test_json_is_read_as_it_was_written(folder: RunDirectory) -> None:
    value = {"größe": [1, 2.5, None, True, "a\nb"], "empty": {}, "half a pair \ud800": "\\ud800 \udfff"}
    folder.write_json("metrics.json", value)
    text = (folder / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "größe" in text
    assert text.endswith("}\n")


def test_csv_is_read_as_it_was_written(folder: RunDirectory) -> None:
    texts = [
        "plain",
        "",
        "a,b",
        'say "so"',
        "two\nlines",
        "back\rhere",
        "\r\n",
        "é 😀",
        " blanks ",
        "'",
        "\t",
        "\u2028",
    ]
    folder.write_csv("predictions.csv", ["row", "text"], enumerate(texts))
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["row", "text"], *([str(number), text] for number, text in enumerate(texts))]


def test_a_table_whose_rows_lack_columns(folder: RunDirectory) -> None:
    folder.write_table("history.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "val_f1": 0.25}, {}])
    assert (folder / "history.csv").read_text() == "epoch,loss,val_f1\n1,0.5,\n2,,0.25\n,,\n"


def test_weights_are_those_that_the_run_has_written(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    weights = model / "model.safetensors"

    def finish(**more: object) -> None:
        (tmp_path / "metrics.json").write_text(json.dumps({"eval": {}, **more}))

    def wrong() -> str:
        with pytest.raises(RunError) as refused:
            check_weights(tmp_path)
        return str(refused.value)

    weights.write_bytes(b"abc")
    finish()
    check_weights(tmp_path)  # of a run that says nothing of its weights

    finish(weights=checksums(model))
    check_weights(tmp_path)
    # The SHA-256 of `abc`, as FIPS 180-2 prints it.
    assert checksums(model) == {weights.name: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    (model / "more.safetensors").write_bytes(b"abc")
    assert f"run: {model / 'more.safetensors'} is not what the run has written" in wrong()
    (model / "more.safetensors").unlink()
    weights.write_bytes(b"abd")
    assert f"{weights} is not what the run has written" in wrong()
    weights.unlink()
    assert f"or where the weights were changed on purpose give {model}" in wrong()
