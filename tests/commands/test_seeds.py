"""`python -m tfft.seeds` as a user types it, on a tiny model; much of it on runs that are made up."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tfft
from tests.commands.conftest import Job
from tests.commands.test_resume import assert_the_same
from tfft import command, lock, recipe, seeds
from tfft.errors import RunError, Terminated, UserError
from tfft.run_directory import RunDirectory

# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "mrcp"], "did you mean mrpc"),
        (["--recipe", "mrpc", "--against", "mrcp"], "did you mean mrpc"),
        (["--recipe", "mrpc", "--against-set", "training.lr=1"], "training.learning_rate"),
        (["--recipe", "-"], "got - (standard input)"),
        (["--recipe", "mrpc", "--against", "-"], "got - (standard input)"),
        (["--recipe", "mrpc", "--against", "mrpc"], "both recipes say the same"),
        (["--recipe", "mrpc", "--against-set", "seed=7"], "both recipes say the same"),
        (["--recipe", "mrpc", "--seeds", "1"], "--seeds: got 1; expected 2 to 1000"),
        (["--recipe", "mrpc", "--seeds", "99999999999"], "expected 2 to 1000"),
        (["--recipe", "mrpc", "--seeds", "4,4"], "expected every seed once"),
        (["--recipe", "mrpc", "--seeds", f"1,{2**32}"], "expected seeds from 0 to 4294967295"),
        (["--recipe", "mrpc", "seed=4294967295"], "got 4294967296; expected seeds"),
        (["--recipe", "mrpc", "training.push_to_hub=true"], "training.push_to_hub: got true; expected false"),
        (["--recipe", "mrpc", 'runtime.workers=["a:1", "b:1"]'], "workers"),
        (["--recipe", "mrpc", "--output", "a-file"], "a-file is a file, or lies in one"),
        (["--recipe", "mrpc", "--output", "a-file/below"], "is a file, or lies in one"),
        (["--recipe", "mrpc", "--output", "a-run"], "a-run is the folder of one run"),
    ],
)
def test_mistakes(arguments: Sequence[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("")
    Path("a-run").mkdir()
    Path("a-run", "metrics.json").write_text("{}")
    with pytest.raises(UserError) as refused:
        seeds.main(arguments)
    assert said in str(refused.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a-file", "a-run"]


@pytest.mark.parametrize("typed", ["x", "1.5", "-3", "1,", "²"])
def test_what_is_no_number_of_seeds(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        seeds.main(["--recipe", "mrpc", f"--seeds={typed}"])
    assert ended.value.code == command.USER_ERROR_STATUS
    assert f"got {typed}; expected a number of seeds, such as 5, or a list" in capsys.readouterr().err


# --- runs that are made up --------------------------------------------------------------------------------------------

Made = list[tuple[str, int]]


def write_run(folder: Path, accuracy: float, right: str) -> None:
    """What of a run is read."""
    metrics = {"eval": {"loss": 1 - accuracy, "accuracy": accuracy}, "timing": {"total_seconds": 2.0}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = (f"{index},a text,yes,{'yes' if one == '1' else 'no'},0.9\n" for index, one in enumerate(right))
    (folder / "predictions.csv").write_text("row,text,label,prediction,probability\n" + "".join(rows))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Nothing is trained: a run's accuracy depends on its recipe's rate and seed. Which were made, in this order."""
    made: Made = []

    def status_of(typed: Sequence[str], log: Path, asked: Any) -> int:
        given = dict(one.split("=", 1) for one in typed if "=" in one)
        assert typed[:4] == [sys.executable, "-m", "tfft.fit", "--recipe"] and typed[-1] == "--resume"
        chosen = recipe.load(typed[4], [f"{key}={value}" for key, value in given.items()])
        folder = Path(chosen.output_dir)
        made.append((folder.parent.name, chosen.seed))
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(chosen.to_yaml())
        is_better = chosen.training.learning_rate > 5e-4
        write_run(folder, 0.5 + 0.3 * is_better + chosen.seed % 3 / 100, "11111110" if is_better else "00000001")
        return 0

    monkeypatch.setattr(seeds, "_status_of", status_of)
    return made


OTHER_RATE = ("--against-set", "training.learning_rate=1e-4")


def test_two_recipes_take_turns_and_are_compared(job: Job, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert seeds.main(job.arguments("--seeds", "3", *OTHER_RATE)) == 0
    assert made == [(name, seed) for seed in (42, 43, 44) for name in ("recipe", "recipe-against")]
    output = Path(f"{job.run}-seeds")
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "training.learning_rate: 0.001 in recipe, 0.0001 in recipe-against",
        f"6 runs, one after the other, in {output}",
        "recipe, seed 42: loss 0.2000, accuracy 0.8000; 2 s",
    ]
    assert (
        "accuracy: recipe 0.8100 ± 0.0100, recipe-against 0.5100 ± 0.0100 (mean ± standard deviation of 3 seeds); "
        "difference +0.3000 with every seed: cannot be told from the noise of seeds"
    ) in said
    report = json.loads((output / "seeds.json").read_text())
    assert report["seeds"] == [42, 43, 44]
    assert report["differences"]["eval.accuracy"]["mean"] == pytest.approx(0.3)
    assert report["mcnemar"]["over_seeds"] == {"only_first": 7, "only_second": 1, "p_value": pytest.approx(18 / 256)}
    assert [one["scores"]["eval.accuracy"] for one in report["runs"][:2]] == [0.8, 0.5]
    assert [line for line in said if line in report["sentences"]] == report["sentences"]
    for one in report["runs"]:
        words = shlex.split(one["command"])
        again = recipe.load(words[words.index("--recipe") + 1], [word for word in words if "=" in word])
        assert (again.seed, again.output_dir) == (one["seed"], one["folder"])


def test_one_recipe_with_seeds_that_are_named(job: Job, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    output = job.folder / "other" / "folder"
    assert seeds.main(job.arguments("--seeds", "7,1", "--output", str(output))) == 0
    assert made == [("recipe", 7), ("recipe", 1)]
    assert "accuracy: 0.8100 ± 0.0000 (mean ± standard deviation of 2 seeds" in capsys.readouterr().out
    assert set(json.loads((output / "seeds.json").read_text())) >= {"seeds", "runs", "scores", "sentences"}
    assert sorted(one.name for one in output.iterdir()) == ["recipe", "recipe.yaml", "seeds.json"]


def test_finished_runs_are_kept(job: Job, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    seeds.main(job.arguments("--seeds", "2"))
    made.clear()
    seeds.main(job.arguments("--seeds", "3", *OTHER_RATE))
    assert made == [("recipe-against", 42), ("recipe-against", 43), ("recipe", 44), ("recipe-against", 44)]
    assert "recipe, seed 43: loss 0.1900, accuracy 0.8100; 2 s, kept\n" in capsys.readouterr().out


def test_runs_with_other_settings_are_refused(job: Job, made: Made) -> None:
    seeds.main(job.arguments("--seeds", "2", *OTHER_RATE))
    made.clear()
    with pytest.raises(RunError) as refused:
        seeds.main(job.arguments("--seeds", "2", "--against-set", "training.learning_rate=2e-4"))
    first, *listed = str(refused.value).splitlines()
    assert (
        f"{job.run}-seeds/recipe-against/seed-42 has a run with other settings; give another --output FOLDER" in first
    )
    assert listed == ["  training.learning_rate: 0.0001 before, 0.0002 now"]
    # Where a run is told of has nothing to do with it.
    seeds.main(job.arguments("--seeds", "2", *OTHER_RATE, "training.report_to=none"))
    assert made == []


def test_from_python(job: Job, made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(job.folder)
    file = job.arguments()[1]
    result = tfft.seeds(
        file,
        [1, 2],
        against_settings={"training": {"learning_rate": 1e-4}},
        verbose=False,
        training={"num_train_epochs": 1},
        output="runs",
    )
    assert capsys.readouterr().out == ""
    assert isinstance(result, tfft.SeedsResult)
    assert [(one.recipe, one.seed) for one in result.runs] == made and len(made) == 4
    for one, rate in zip(result.runs, [1e-3, 1e-4] * 2, strict=True):
        training = recipe.load(one.folder / "recipe.yaml").training
        assert (training.num_train_epochs, training.learning_rate) == (1, rate)
    assert result.report == json.loads(Path("runs/seeds.json").read_text())
    assert result.failures == ()

    chosen = recipe.load(file, ["output_dir=runs/mine"])
    other = tfft.seeds(chosen, 2, file, against_settings={"seed": 1, "data": {"batching": "padded"}}, output="both")
    assert [(one.recipe, one.seed) for one in other.runs] == [
        (name, seed) for seed in (42, 43) for name in ("mine", "recipe")
    ]


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (2, "a line\nerror: no such file;\ngive another\n", "no such file;\ngive another"),
        (1, "Traceback (most recent call last):\n  File\nValueError: a bug\n", "ValueError: a bug"),
        (-9, "step 1\n", "ended by signal 9; the system does that where memory runs out"),
        (-11, "", "ended by signal 11"),
        (3, "", "ended with status 3"),
    ],
)
def test_a_run_that_fails_is_left_out(
    job: Job,
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    said: str,
    reason: str,
) -> None:
    makes: Callable[..., int] = seeds._status_of

    def fails_once(typed: Sequence[str], log: Path, asked: Any) -> int:
        if "seed=43" not in typed:
            return makes(typed, log, asked)
        with log.open("a") as file:
            file.write(said)
        return status

    monkeypatch.setattr(seeds, "_status_of", fails_once)
    assert seeds.main(job.arguments("--seeds", "3")) == 1
    log = Path(f"{job.run}-seeds", "recipe", "seed-43.log")
    out = capsys.readouterr().out
    assert f"left out: recipe, seed 43, which failed: {reason} (all that it said is in {log})\n" in out
    assert "(mean ± standard deviation of 2 seeds" in out
    report = json.loads(Path(f"{job.run}-seeds", "seeds.json").read_text())
    assert [bool(one["failure"]) for one in report["runs"]] == [False, True, False]
    made.clear()
    # What it said before is not what it says now.
    monkeypatch.setattr(seeds, "_status_of", makes)
    assert seeds.main(job.arguments("--seeds", "3")) == 0
    assert made == [("recipe", 43)]


def test_where_every_run_fails(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "_status_of", lambda typed, log, asked: log.write_text("error: broken\n") and 2)
    with pytest.raises(RunError) as failed:
        seeds.main(job.arguments("--seeds", "2"))
    assert re.fullmatch(
        r"not one run came to its end:\n(  recipe, seed 4[23]: broken \(all that it said is in \S+\)\n?){2}",
        str(failed.value),
    )
    assert not Path(f"{job.run}-seeds", "seeds.json").exists()


def test_a_run_that_outlived_its_command_is_waited_for(
    job: Job, made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(f"{job.run}-seeds", "recipe", "seed-43")
    holders = iter(["process 71 for 3 minutes"] * 3)

    def holder(path: Path) -> str | None:
        if path.parent != folder:
            return None
        here = next(holders, None)
        if here is None and not folder.exists():
            folder.mkdir(parents=True)
            write_run(folder, 0.25, "10")
        return here

    monkeypatch.setattr(lock, "holder", holder)
    monkeypatch.setattr(seeds, "_LOOK_EVERY", 0.0)
    # Ours would be refused, as by a run that is finished.
    makes = seeds._status_of
    monkeypatch.setattr(seeds, "_status_of", lambda typed, *rest: 0 if "seed=43" in typed else makes(typed, *rest))
    assert seeds.main(job.arguments("--seeds", "2")) == 0
    said = capsys.readouterr().out
    assert f"{folder} is in use by process 71 for 3 minutes, which is waited for" in said
    assert "recipe, seed 43: loss 0.7500, accuracy 0.2500; 2 s\n" in said


def test_two_commands_in_one_folder(job: Job, made: Made) -> None:
    output = Path(f"{job.run}-seeds")
    output.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (output / "seeds.lock").write_text(f"{other.pid}\n{os.uname().nodename}\n{time.time():.0f}")
        with pytest.raises(RunError, match=f"{output} is in use by process {other.pid} for .*; wait for it"):
            seeds.main(job.arguments("--seeds", "2"))
    assert made == []


def test_runs_without_scores(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def status_of(typed: Sequence[str], log: Path, asked: Any) -> int:
        folder = Path(typed[-2].removeprefix("output_dir="))
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text('{"train": {}, "timing": {"total_seconds": 1}}')
        return 0

    monkeypatch.setattr(seeds, "_status_of", status_of)
    with pytest.raises(RunError, match=r"the runs have no scores; give the recipe rows to validate on"):
        seeds.main(job.arguments("--seeds", "2"))


# --- a process of its own ---------------------------------------------------------------------------------------------


def test_a_signal_is_handed_on_once_and_waited_for(tmp_path: Path) -> None:
    """To a process that counts how often it is asked, and ends when it has had its time."""
    code = (
        "import signal, sys, time\nasked = []\nsignal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
        "print('ready', flush=True)\nwhile not asked: time.sleep(0.01)\ntime.sleep(0.5)\nprint(len(asked), 'times')\n"
        "sys.exit(143)"
    )
    log = tmp_path / "log"

    def asked() -> KeyboardInterrupt | None:
        return Terminated() if log.exists() and "ready" in log.read_text() else None

    assert seeds._status_of([sys.executable, "-c", code], log, asked) == 143
    assert log.read_text() == "ready\n1 times\n"


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    def asked() -> KeyboardInterrupt | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seeds._status_of([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log", asked)


def test_help_a_recipes_errors_and_verdicts_load_nothing_large(job: Job, made: Made) -> None:
    seeds.main(job.arguments("--seeds", "2", *OTHER_RATE))
    code = (
        "import sys\nfrom tfft import seeds\nfrom tfft.errors import RecipeError\n"
        "try:\n    seeds.main(['--recipe', 'mrpc', 'training.lr=1'])\nexcept RecipeError: pass\n"
        "else: raise SystemExit('no error')\n"
        f"assert seeds.main({job.arguments('--seeds', '2', *OTHER_RATE)!r}) == 0\n"  # all are kept
        "try:\n    seeds.main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('tensorflow', 'tf_keras', 'transformers', 'datasets') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--against-set" in ended.stdout
    assert ended.stdout.endswith("\n[]\n")


# --- real trainings ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runs_are_ordinary_ones_and_one_that_fails_is_left_out(job: Job) -> None:
    output = Path(f"{job.run}-seeds")
    foreign = output / "recipe-against" / "seed-43" / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("somebody's")
    process = job.start("--seeds", "2", *OTHER_RATE, command="seeds")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (1, "")
    assert "left out: recipe-against, seed 43, which failed: output_dir: " in out
    assert "holds files that are not a run's (notes.txt); give a new folder" in out
    assert foreign.read_text() == "somebody's"
    for seed in (42, 43):
        whole = job.folder / "whole" / str(seed)
        tfft.fit(job.arguments()[1], seed=seed, output_dir=whole, verbose=False)
        assert_the_same(output / "recipe" / f"seed-{seed}", whole)
    report = json.loads((output / "seeds.json").read_text())
    assert [len(report["scores"][name]["eval.accuracy"]["values"]) for name in report["scores"]] == [2, 1]

    foreign.unlink()
    times = {one: one.stat().st_mtime_ns for one in output.glob("*/*/metrics.json")}
    process = job.start("--seeds", "2", *OTHER_RATE, command="seeds")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert len(times) == 3 and {one: one.stat().st_mtime_ns for one in times} == times
    assert "predictions: of 12 validation rows, recipe has " in out


def wait_for_training(folder: Path) -> None:
    """Until the run has saved a state."""
    end = time.monotonic() + 120
    while not [*folder.glob("checkpoint/step-*/state.json")]:
        assert time.monotonic() < end, "no state was saved"
        time.sleep(0.05)


LONG = ("training.num_train_epochs=40", "training.save_steps=3", "training.eval_strategy=no")


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False], ids=["with its run", "alone"])
def test_killed_it_goes_on_where_it_was(job: Job, both: bool) -> None:
    output = Path(f"{job.run}-seeds")
    first, second = (output / "recipe" / f"seed-{seed}" for seed in (42, 43))
    process = job.start("--seeds", "2", *LONG, command="seeds")
    wait_for_training(second)
    run = int((second / "run.lock").read_text().split("\n")[0])
    process.kill()
    process.communicate()
    if both:
        os.kill(run, signal.SIGKILL)
    written = (first / "metrics.json").stat().st_mtime_ns
    assert not RunDirectory(second).is_finished

    process = job.start("--seeds", "2", *LONG, command="seeds")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert (first / "metrics.json").stat().st_mtime_ns == written
    assert re.search(r"recipe, seed 42: .*, kept\n", out)
    log = (output / "recipe" / "seed-43.log").read_text()
    if both:
        assert "resumed after step" in log
    else:
        assert f"{second} is in use by process {run} for " in out
        assert log.count("trained in ") == 1
    whole = job.folder / "whole"
    tfft.fit(recipe.load(job.arguments()[1], [*LONG, "seed=43"]), output_dir=whole, verbose=False)
    assert_the_same(second, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_it_saves_the_run(job: Job, number: int, status: int) -> None:
    folder = Path(f"{job.run}-seeds", "recipe", "seed-42")
    process = job.start("--seeds", "2", *LONG, command="seeds")
    wait_for_training(folder)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert err == ("interrupted at recipe, seed 42; what is finished is kept, and the same command goes on there\n")
    assert "stopping as soon as the state of the training is saved" in out
    log = folder.with_name("seed-42.log").read_text()
    assert "interrupted after step" in log and "--resume goes on from it" in log
    assert lock.holder(folder / "run.lock") is None
    assert not (folder.parent / "seed-43").exists()
