"""`python -m tfft.seeds`: a recipe with several seeds, alone or beside another, and what of the scores is noise.

Every run is that of `python -m tfft.fit`, in a process and a folder of its own, and is kept: the same command again
goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import command
from tfft.errors import RecipeError, RunError

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.recipe import Recipe
    from tfft.verdicts import Side

SEEDS, MOST_SEEDS = 5, 1000
REPORT, LOCK = "seeds.json", "seeds.lock"
# Seconds between two looks at a run.
_LOOK_EVERY = 0.1

Asked = Callable[[], KeyboardInterrupt | None]


@dataclass(frozen=True)
class SeedRun:
    """One run: a recipe with a seed.

    Attributes:
        recipe: its name.
        seed: that was set.
        folder: with the run's files.
        command: that makes it anew.
        scores: `eval.f1` and the like; None where the run failed.
        seconds: from its start to its end.
        failure: why it failed; else empty.
    """

    recipe: str
    seed: int
    folder: Path
    command: str
    scores: dict[str, float] | None = None
    seconds: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class SeedsResult:
    """What the runs say together; `seeds.json` in `output` has the same.

    Attributes:
        output: the folder of all runs.
        runs: every run, in the order in which they were made.
        report: as in the file: mean, standard deviation and interval of every score; of two recipes the differences
            and McNemar's test.
        sentences: the same in words.
    """

    output: Path
    runs: tuple[SeedRun, ...]
    report: dict[str, Any]
    sentences: tuple[str, ...]

    @property
    def failures(self) -> tuple[SeedRun, ...]:
        """The runs that failed."""
        return tuple(one for one in self.runs if one.failure)


# --- The two doors ----------------------------------------------------------------------------------------------------


def seeds(
    recipe: Recipe | str | os.PathLike[str],
    seeds: int | Sequence[int] = SEEDS,
    against: Recipe | str | os.PathLike[str] | None = None,
    *,
    against_settings: dict[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    **settings: Any,
) -> SeedsResult:
    """Trains a recipe with several seeds, or two recipes with the same, and says what of the scores is noise.

    Args:
        recipe: a `Recipe`, a shipped recipe's name or the path of a YAML file.
        seeds: how many, the recipe's own and the next ones; or which.
        against: a recipe to compare with.
        against_settings: what differs from `against`, or from `recipe` where that is not given.
        output: the folder of all runs; `output_dir` of the recipe with `-seeds` behind it where it is not given. Runs
            that are finished there are kept, and one that was broken off goes on.
        verbose: say how it is going.
        settings: what differs from both recipes, by their keys: `training={"learning_rate": 3e-5}`.

    Raises:
        UserError: a recipe cannot be used, the folder has runs with other settings, or no run came to its end.
    """
    from tfft.console import Voice
    from tfft.fit import chosen_recipe

    first = chosen_recipe(recipe, settings)
    named = [(_name_of(recipe), first)]
    if against is not None or against_settings:
        other = recipe if against is None else against
        second = chosen_recipe(chosen_recipe(other, settings), against_settings or {})
        named.append((_name_of(other), second))
    return _run(named, seeds, None if output is None else Path(output), Voice(silent=not verbose))


def _name_of(recipe: Recipe | str | os.PathLike[str]) -> str:
    return Path(recipe).stem if isinstance(recipe, str | os.PathLike) else recipe.name


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend; returns 1 where some run failed."""
    arguments = parser().parse_intermixed_args(argv)
    from tfft import console
    from tfft import recipe as recipes

    other = arguments.recipe if arguments.against is None else arguments.against
    if recipes.STANDARD_INPUT in (arguments.recipe, other):
        raise RecipeError("--recipe: got - (standard input), which can be read only once; give a name or a file")
    named = [(_name_of(arguments.recipe), recipes.load(arguments.recipe, arguments.overrides))]
    if arguments.against is not None or arguments.against_set:
        named.append((_name_of(other), recipes.load(other, [*arguments.overrides, *arguments.against_set])))
    return 1 if _run(named, arguments.seeds, arguments.output, console.Voice()).failures else 0


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(
        prog="python -m tfft.seeds",
        description="Train a recipe with several seeds, alone or beside another, and say what of the scores is noise.",
        epilog="Example: python -m tfft.seeds --recipe mrpc --seeds 5 --against-set training.learning_rate=5e-5. The "
        "same command again keeps what is finished and goes on with what is not.",
        allow_abbrev=False,
    )
    made.add_argument("--recipe", required=True, metavar="RECIPE", help="a shipped recipe's name or a YAML file")
    made.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the recipe, of both recipes; ~KEY removes one"
    )
    made.add_argument(
        "--seeds",
        type=_seeds_typed,
        default=SEEDS,
        metavar="N",
        help=f"how many: the recipe's own seed and the next ones (default: {SEEDS}); or which: 1,2,3",
    )
    made.add_argument("--against", metavar="RECIPE", help="compare with this recipe, on the same seeds")
    made.add_argument(
        "--against-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the recipe compared with, which is the same one without --against; may be repeated",
    )
    made.add_argument(
        "--output", type=Path, metavar="FOLDER", help="of all runs (default: the recipe's output_dir with -seeds)"
    )
    return made


def _seeds_typed(text: str) -> int | list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise argparse.ArgumentTypeError(f"got {text}; expected a number of seeds, such as 5, or a list, such as 1,2,3")
    return int(text) if len(parts) == 1 else list(map(int, parts))


# --- The story --------------------------------------------------------------------------------------------------------


def _run(
    named: Sequence[tuple[str, Recipe]], wanted: int | Sequence[int], output: Path | None, voice: Voice
) -> SeedsResult:
    """Trains what is not there yet, and judges all. Nothing is written before it was looked at."""
    from tfft import interrupts, verdicts, whole

    first = named[0][1]
    numbers = _numbers(wanted, first.seed)
    output = Path(f"{first.output_dir}-seeds") if output is None else output
    recipes = _told_apart(named, output)
    differences = _differences(recipes)
    planned = [_planned(name, recipe, seed) for seed in numbers for name, recipe in recipes.items()]
    for one in planned:
        _check_same(one, recipes[one.recipe])
    voice.say("\n".join([*differences, f"{len(planned)} runs, one after the other, in {output}"]))

    with _held(output), interrupts.waiting(voice.say) as asked:
        for recipe in recipes.values():
            with whole.whole_file(_recipe_file(recipe.output_dir)) as file:
                file.write(recipe.to_yaml())
        runs = [_finished(one, voice, asked) for one in planned]
        if not any(one.scores for one in runs):
            raise RunError(_nothing_to_judge(runs))
        sides = [_side(name, recipe, runs) for name, recipe in recipes.items()]
        found = verdicts.judge([side for side in sides if side.scores], first.training)
        report = {
            "seeds": numbers,
            "recipes": {name: str(_recipe_file(recipe.output_dir)) for name, recipe in recipes.items()},
            "differences_of_recipes": differences,
            "runs": [{**dataclasses.asdict(one), "folder": str(one.folder)} for one in runs],
            **found.to_json(),
        }
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        with whole.whole_file(output / REPORT) as file:
            file.write(f"{text}\n")
    found.show(voice)
    result = SeedsResult(output, tuple(runs), json.loads(text), tuple(found.sentences))
    for one in result.failures:
        voice.say(f"left out: {one.recipe}, seed {one.seed}, which failed: {one.failure}")
    voice.say(f"all scores, and the command of every run, are in {output / REPORT}")
    return result


def _numbers(wanted: int | Sequence[int], own: int) -> list[int]:
    """The seeds.

    Raises:
        RecipeError: they are too few to say anything, no seeds, or there twice.
    """
    from tfft.recipe import LARGEST_SEED

    count = wanted if isinstance(wanted, int) else len(wanted)
    if not 2 <= count <= MOST_SEEDS:
        raise RecipeError(f"--seeds: got {count}; expected 2 to {MOST_SEEDS}, since one says nothing of the others")
    numbers = list(range(own, own + count)) if isinstance(wanted, int) else list(wanted)
    if wrong := [one for one in numbers if not 0 <= one <= LARGEST_SEED]:
        raise RecipeError(f"--seeds: got {wrong[0]}; expected seeds from 0 to {LARGEST_SEED}")
    if len(set(numbers)) < len(numbers):
        raise RecipeError(f"--seeds: got {','.join(map(str, numbers))}; expected every seed once")
    return numbers


def _told_apart(named: Sequence[tuple[str, Recipe]], output: Path) -> dict[str, Recipe]:
    """The recipes under names that differ, each with the output folder of its runs and the first one's seed.

    Raises:
        RecipeError: one wants its model on the hub.
        RunError: one wants several workers, or says wrong things of them.
    """
    from tfft import workers

    found: dict[str, Recipe] = {}
    for name, recipe in named:
        if workers.find(recipe.runtime.strategy, recipe.runtime.workers) is not None:
            raise RunError(
                "tfft.seeds trains with one process, and there are several workers; run it where there are none"
            )
        if recipe.training.push_to_hub:
            raise RecipeError(
                "training.push_to_hub: got true; expected false, since every seed would push its model to one place"
            )
        # Also on disks that do not tell Mine from mine.
        while name.casefold() in map(str.casefold, found):
            name = f"{name}-against"
        folder = str(output / name)
        found[name] = recipe.model_copy(update={"seed": named[0][1].seed, "output_dir": folder})
    return found


def _differences(recipes: Mapping[str, Recipe]) -> list[str]:
    """A line for each setting in which two recipes differ; none of a single one.

    Raises:
        RecipeError: they differ in none.
    """
    from tfft import reporting
    from tfft.differences import differences

    if len(recipes) == 1:
        return []
    (first, one), (second, other) = recipes.items()
    found = differences(reporting.settings_of(one), reporting.settings_of(other), (f"in {first}", f"in {second}"))
    if not found:
        raise RecipeError("--against: both recipes say the same; give another one, or --against-set KEY=VALUE")
    return found


def _recipe_file(runs: str | Path) -> Path:
    """The recipe by which all runs of a folder are made, whatever becomes of the file that was given."""
    return Path(f"{runs}.yaml")


def _log_of(folder: Path) -> Path:
    """Beside the run's folder, in which nothing is but what a run writes."""
    return folder.with_name(f"{folder.name}.log")


def _planned(name: str, recipe: Recipe, seed: int) -> SeedRun:
    folder = Path(recipe.output_dir, f"seed-{seed}")
    return SeedRun(name, seed, folder, shlex.join(["python", "-m", "tfft.fit", *_typed(seed, folder), "--overwrite"]))


def _typed(seed: int, folder: Path) -> list[str]:
    return ["--recipe", str(_recipe_file(folder.parent)), f"seed={seed}", f"output_dir={folder}"]


def _check_same(planned: SeedRun, recipe: Recipe) -> None:
    """Raises a RunError where the run's folder has one with other settings."""
    from tfft import recipe as recipes
    from tfft import reporting
    from tfft.differences import differences

    file = planned.folder / "recipe.yaml"
    if not file.is_file():
        return
    wanted = recipe.model_copy(update={"seed": planned.seed})
    changes = differences(reporting.settings_of(recipes.load(file)), reporting.settings_of(wanted))
    if changes:
        raise RunError(
            f"--output: {planned.folder} has a run with other settings; give another --output FOLDER, or the settings "
            "as they were:\n" + "\n".join(f"  {one}" for one in changes)
        )


@contextlib.contextmanager
def _held(output: Path) -> Iterator[None]:
    """The folder of all runs, there and this command's own in the body.

    Raises:
        RunError: it is another's, or its disk cannot be written to.
    """
    from tfft import lock, run_directory

    if any((output / name).exists() for name in (run_directory.FINISHED, run_directory.LOCK)):
        raise RunError(f"--output: {output} is the folder of one run; give another")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with lock.held(output / LOCK):
            yield
    except lock.Held as held:
        raise RunError(f"--output: {output} is in use by {held}; wait for it, or give another") from None
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"--output: {output} is a file, or lies in one; give a folder") from None
    except OSError as error:
        if error.errno not in run_directory.DISK_ERRORS:
            raise
        raise RunError(
            f"--output: writing to {output} failed: {error.strerror}; what is finished there is kept, and the same "
            "command goes on"
        ) from None


# --- One run ----------------------------------------------------------------------------------------------------------


def _finished(planned: SeedRun, voice: Voice, asked: Asked) -> SeedRun:
    """The run with its scores, made now unless it is there; or with why it failed."""
    from tfft import verdicts
    from tfft.run_directory import FINISHED, RunDirectory

    is_kept = RunDirectory(planned.folder).is_finished
    about = f"{planned.recipe}, seed {planned.seed}"
    failure = "" if is_kept else _train(planned, voice, asked)
    if failure:
        failure = f"{failure} (all that it said is in {_log_of(planned.folder)})"
        voice.say(f"{about} failed: {failure}")
        return dataclasses.replace(planned, failure=failure)
    metrics = json.loads((planned.folder / FINISHED).read_text(encoding="utf-8"))
    scores, seconds = verdicts.scores_in(metrics), metrics["timing"]["total_seconds"]
    said = ", ".join(f"{verdicts.shown(name)} {value:.4f}" for name, value in scores.items())
    voice.say(f"{about}: {said or 'no scores'}; {seconds:,.0f} s{', kept' if is_kept else ''}")
    return dataclasses.replace(planned, scores=scores, seconds=seconds)


def _train(planned: SeedRun, voice: Voice, asked: Asked) -> str:
    """Trains in a process of its own, on from a state where there is one; returns why that failed, or nothing.

    Raises:
        KeyboardInterrupt: it was asked for, and the run has saved its state.
    """
    from tfft import lock, run_directory

    log, held = _log_of(planned.folder), planned.folder / run_directory.LOCK
    log.parent.mkdir(parents=True, exist_ok=True)
    typed = [sys.executable, "-m", "tfft.fit", *_typed(planned.seed, planned.folder), "--resume"]
    while True:
        # A run outlives this command where that was killed. It may also begin only now: then ours is refused.
        if holder := lock.holder(held):
            voice.say(f"{planned.folder} is in use by {holder}, which is waited for")
        while lock.holder(held):
            _stop_if_asked(planned, asked)
            time.sleep(_LOOK_EVERY)
        begin = log.stat().st_size if log.exists() else 0
        status = _status_of(typed, log, asked)
        _stop_if_asked(planned, asked)
        if status == 0:
            return ""
        if lock.holder(held) is None:
            return _reason(status, log.read_bytes()[begin:].decode(errors="replace"))


def _stop_if_asked(planned: SeedRun, asked: Asked) -> None:
    if interrupt := asked():
        raise type(interrupt)(
            f"interrupted at {planned.recipe}, seed {planned.seed}; what is finished is kept, and the same command "
            "goes on there"
        )


def _status_of(typed: Sequence[str], log: Path, asked: Asked) -> int:
    """Runs it to its end; Ctrl-C and SIGTERM are handed on once, so that it saves its state."""
    with log.open("ab") as file:
        # A session of its own: a terminal's Ctrl-C would reach it twice, and a second one ends a run at once.
        process = subprocess.Popen(
            typed, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            is_told = False
            while process.poll() is None:
                if not is_told and asked():
                    process.terminate()
                    is_told = True
                time.sleep(_LOOK_EVERY)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return process.returncode


def _reason(status: int, said: str) -> str:
    """Why a run failed: its error, or its last line."""
    if status < 0:
        return f"ended by signal {-status}" + ("; the system does that where memory runs out" if status == -9 else "")
    _, error, message = f"\n{said}".rpartition("\nerror: ")
    if error:
        return message.strip()
    return (said.strip() or f"ended with status {status}").splitlines()[-1]


def _side(name: str, recipe: Recipe, runs: Sequence[SeedRun]) -> Side:
    """What a recipe's finished runs left."""
    from tfft import predictions, tasks
    from tfft.verdicts import Side

    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    done = [one for one in runs if one.recipe == name and one.scores]
    read = {one.seed: predictions.read(one.folder / "predictions.csv", problem_type) for one in done}
    return Side(
        name,
        {one.seed: one.scores for one in done if one.scores},
        {seed: judged for seed, judged in read.items() if judged is not None},
    )


def _nothing_to_judge(runs: Sequence[SeedRun]) -> str:
    failures = [f"  {one.recipe}, seed {one.seed}: {one.failure}" for one in runs if one.failure]
    if failures:
        return "not one run came to its end:\n" + "\n".join(failures)
    return "the runs have no scores; give the recipe rows to validate on, such as data.validation_file"


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "seeds")
