"""`python -m tfft.sweep`: many trainings of one recipe, to find the settings that score best.

The story is `_run`. Keras Tuner's oracles choose; every trial is an ordinary run of the recipe, in a folder of its own.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import command
from tfft.errors import RecipeError, RunError

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.search.driver import Driver
    from tfft.search.oracles import Recorded
    from tfft.search.remote import Role
    from tfft.search.slots import Slot
    from tfft.search.trials import Search


def sweep(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    parallel: int = 1,
    overwrite: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Searches what a recipe's section `sweep` says; goes on where an earlier call was broken off.

    Args:
        recipe: a shipped recipe's name, or the path of a YAML file.
        overrides: `KEY=VALUE` and `~KEY`, as on the command line.
        parallel: trials at a time on this machine; each gets a GPU, or its share of the cores.
        overwrite: replace a sweep that is already in the output folder.
        verbose: say how it is going.

    Returns:
        What `sweep.json` holds: `trials` with `values`, `score` and `command`; `best`, the number of the best one.

    Raises:
        UserError: the recipe, the data or the folder cannot be used, or no trial came to its end.
    """
    from tfft.console import Voice

    return _run(_search(os.fspath(recipe), overrides), parallel, overwrite, Voice(silent=not verbose))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = parser().parse_intermixed_args(argv)
    search = _search(arguments.recipe, arguments.overrides)
    from rich.console import Console

    from tfft import console

    if not arguments.verbose:
        console.silence_libraries()
    # A stream of its own, since trials in this process print into their logs.
    voice = console.Voice(console=Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty()))
    _run(search, arguments.parallel, arguments.overwrite, voice)
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(
        prog="python -m tfft.sweep",
        description="Search the settings of a recipe that score best, as its section `sweep` says. The same command "
        "goes on with a sweep that was broken off.",
        epilog="Example: python -m tfft.sweep --recipe sweep-mrpc-lr sweep.max_trials=20. Over several machines: set "
        "KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID, as for Keras Tuner.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--recipe", required=True, metavar="RECIPE", help="a shipped recipe's name or a YAML file, with a sweep section"
    )
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the recipe; ~KEY removes one")
    made.add_argument(
        "--parallel",
        type=_positive,
        default=1,
        metavar="N",
        help="trials at a time: a GPU each, or a share of the cores",
    )
    made.add_argument("--overwrite", action="store_true", help="replace a sweep that is already in output_dir")
    made.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected a whole number of at least 1")
    return int(text)


def _search(source: str, overrides: Sequence[str]) -> Search:
    """What is to be searched.

    Raises:
        RecipeError: the recipe is not valid, or has no sweep.
    """
    from tfft import recipe as recipes
    from tfft.search.trials import Search

    recipe = recipes.load(source, overrides)
    if recipe.sweep is None:
        raise RecipeError(
            f"{source}: has no section sweep; expected sweep.objective and sweep.parameters, for example "
            "sweep.objective=accuracy 'sweep.parameters.training.learning_rate={min: 1e-6, max: 1e-3, scale: log}'"
        )
    if source == recipes.STANDARD_INPUT:
        raise RecipeError("--recipe: got -; expected a name or a file, which the trials' commands can name again")
    return Search(recipe, source, tuple(overrides), Path(recipe.output_dir))


# --- The story --------------------------------------------------------------------------------------------------------


def _run(search: Search, parallel: int, overwrite: bool, voice: Voice) -> dict[str, Any]:
    """The whole sweep. Nothing is written before everything that can be wrong has been looked at."""
    from tfft import environment, interrupts
    from tfft.search import folder, remote, slots

    began = time.time()
    environment.check()
    role = remote.find()
    places = slots.make(parallel, search.recipe.runtime.strategy, role.name if role else "")
    _check_isolation(search, places)
    if role is not None and not role.is_chief:
        return _work(search, role, places, voice)
    folder.check(search, overwrite)
    if overwrite or not folder.has_begun(search):
        _try(search, voice)
    _say_what(search, role, places, voice)
    with folder.opened(search, overwrite), interrupts.waiting(voice.say) as asked_to_stop:
        recorded = _recorded(search, began)
        told: dict[str, Any] = {}

        def ended(record: Mapping[str, Any] | None = None) -> None:
            from tfft.search import table, trials

            records = trials.read_records(search)
            trials.tidy(search, records, is_over=record is None)
            told.update(folder.facts(search, _command(search, parallel), records, began))
            folder.write_summary(search, told)
            if record is not None and not voice.is_terminal:
                voice.say(table.ended(search, record, trials.best_of(search, records)))

        try:
            if role is None:
                _drive(search, recorded, places, ended, asked_to_stop, voice)
            else:
                _serve(search, recorded, role, ended, asked_to_stop, voice)
        except KeyboardInterrupt as interrupt:
            raise type(interrupt)(f"interrupted; the same command goes on with the sweep in {search.folder}") from None
        ended()
        folder.write_report(search, told)
        _show(search, told, voice)
    return told


def _check_isolation(search: Search, places: Sequence[Slot]) -> None:
    if search.sweep.isolation == "warm" and len(places) > 1:
        raise RecipeError(
            f"sweep.isolation: got warm, and --parallel {len(places)}; expected process, or one trial at a time: in "
            "one process they run one after the other"
        )


def _try(search: Search, voice: Voice) -> None:
    """Looks by a dry run whether the recipe can be trained at all; its token ids are then there for all trials.

    Raises:
        RecipeError: it cannot.
    """
    voice.say(f"looks whether {search.source} can be trained")
    words = [search.source, *search.overrides, "~sweep", "--dry-run"]
    tried = subprocess.run([sys.executable, "-m", "tfft.fit", "--recipe", *words], capture_output=True, text=True)
    if tried.returncode == command.USER_ERROR_STATUS:
        raise RecipeError(f"no trial was begun: {tried.stderr.strip().removeprefix('error: ')}")
    if tried.returncode != 0:
        raise RuntimeError(f"python -m tfft.fit {shlex.join(words)} ended with {tried.returncode}:\n{tried.stderr}")


def _recorded(search: Search, began: float) -> Recorded:
    """The oracle, as far as an earlier process has come."""
    from tfft.search import oracles
    from tfft.search.events import Events
    from tfft.search.trials import EVENTS

    sweep = search.sweep
    made = oracles.make(sweep, search.objective, search.direction, search.seed, search.recipe.training.num_train_epochs)
    hours = sweep.max_hours
    return oracles.Recorded(
        made,
        Events(search.folder / EVENTS),
        sweep.parameters,
        is_over=lambda: hours is not None and time.time() - began > hours * 3600,
    )


def _drive(
    search: Search,
    recorded: Recorded,
    places: Sequence[Slot],
    ended: Callable[[Mapping[str, Any]], None],
    asked_to_stop: Callable[[], BaseException | None],
    voice: Voice,
) -> None:
    """Runs all trials on this machine."""
    from tfft.search import trials
    from tfft.search.driver import Driver
    from tfft.search.table import LiveTable

    left = recorded.running
    if left or trials.read_records(search):
        done = len(trials.read_records(search))
        voice.say(f"goes on with the sweep in {search.folder}: {done} trials have ended, {len(left)} were running")
    asked = 0

    def name_of(slot: Slot) -> str:
        # A new one each time: what was left by an earlier process is not this slot's.
        nonlocal asked
        asked += 1
        return f"{slot.name}:{len(recorded.oracle.trials)}.{asked}"

    driver = Driver(search, recorded, places, left, name_of=name_of, ended=ended, asked_to_stop=asked_to_stop)
    table = LiveTable(search, voice, lambda: trials.read_records(search), driver.running, _total(search), len(places))
    with table.shown():
        driver.run()


def _total(search: Search) -> int | None:
    """Trials in all, where that is known before."""
    from tfft.recipe import sweep_checks

    sweep = search.sweep
    if sweep.algorithm == "hyperband":
        return sweep.max_trials
    if sweep.algorithm == "grid":
        return min(sweep.max_trials or sys.maxsize, sweep_checks.grid_points(sweep.parameters))
    return sweep.max_trials or sweep_checks.USUAL_TRIALS


# --- Several machines -------------------------------------------------------------------------------------------------


def _serve(
    search: Search,
    recorded: Recorded,
    role: Role,
    ended: Callable[[Mapping[str, Any]], None],
    asked_to_stop: Callable[[], BaseException | None],
    voice: Voice,
) -> None:
    """The chief: gives trials to workers, and tells of their records."""
    from tfft.search import driver, remote, trials
    from tfft.search.table import LiveTable

    for asked in recorded.running:
        # A worker has trained it while there was no chief.
        record = trials.read_record(search, int(asked.trial_id) + 1)
        if record is not None:
            driver.tell(recorded, search, asked, record)
    told = {one["number"] for one in trials.read_records(search)}

    def meanwhile() -> None:
        if asked := asked_to_stop():
            raise asked
        for one in trials.read_records(search):
            if one["number"] not in told:
                told.add(one["number"])
                ended(one)

    def running() -> list[tuple[int, Mapping[str, Any]]]:
        found = [trials.from_tuner(one, search) for one in recorded.running]
        return [(one.number, one.values) for one in found]

    voice.say(f"waits for workers at {role.address}")
    table = LiveTable(search, voice, lambda: trials.read_records(search), running, _total(search), 1)
    with table.shown():
        remote.serve(recorded, role, meanwhile)
    meanwhile()


def _work(search: Search, role: Role, places: Sequence[Slot], voice: Voice) -> dict[str, Any]:
    """A worker: trains what the chief gives, in the folder that both see."""
    from tfft import interrupts
    from tfft import recipe as recipes
    from tfft.search import folder, remote, table
    from tfft.search.driver import Driver
    from tfft.search.trials import LOCK, RECIPE

    client = remote.Client(role)
    if not (search.folder / LOCK).is_file():
        raise RunError(
            f"output_dir: the chief at {role.address} works in a folder that is not seen here as {search.folder}; give "
            "one on a disk that all share"
        )
    if changes := folder.differences(recipes.load(search.folder / RECIPE), search.recipe):
        listed = "\n".join(f"  {one}" for one in changes)
        raise RunError(f"the chief at {role.address} has another sweep; give this worker the same. Differs:\n{listed}")

    def ended(record: Mapping[str, Any]) -> None:
        voice.say(table.ended(search, record, None))

    with interrupts.waiting(voice.say) as asked_to_stop:
        driver: Driver = Driver(
            search, client, places, name_of=lambda slot: slot.name, ended=ended, asked_to_stop=asked_to_stop
        )
        driver.run()
    voice.say("the chief has no more trials")
    return {}


# --- What is said -----------------------------------------------------------------------------------------------------


def _command(search: Search, parallel: int) -> str:
    words = ["python", "-m", "tfft.sweep", "--recipe", search.source, *search.overrides]
    return shlex.join([*words, *([] if parallel == 1 else ["--parallel", str(parallel)])])


def _say_what(search: Search, role: Role | None, places: Sequence[Slot], voice: Voice) -> None:
    sweep, total = search.sweep, _total(search)
    number = "as many trials as Hyperband wants" if total is None else f"{total:,} trials"
    each = "" if sweep.executions_per_trial == 1 else f" of {sweep.executions_per_trial} seeds each"
    how = "" if role is not None or len(places) == 1 else f", {len(places)} at a time"
    better = "greatest" if search.direction == "max" else "least"
    voice.say(f"{sweep.algorithm} search for the {better} {search.objective}: {number}{each}{how}")


def _show(search: Search, told: Mapping[str, Any], voice: Voice) -> None:
    """The table of all trials, and where everything is.

    Raises:
        RunError: not one trial came to its end.
    """
    from tfft.search import folder, table

    names = [*search.sweep.parameters]
    best = told["best"]
    rows = [
        [
            f"{one['number']}{' (best)' if one['number'] == best else ''}",
            *(table.value(one["values"][name]) if name in one["values"] else "" for name in names),
            table.score(one) or one["status"],
            f"{one['seconds']:,.0f}",
            one["command"],
        ]
        for one in told["trials"]
    ]
    short = [name.rpartition(".")[2] for name in names]
    voice.table(f"Trials of {told['name']}", ["trial", *short, told["objective"], "s", "command"], rows)
    if best is None:
        reasons = next((one["reason"] for one in told["trials"] if one["reason"]), "none was begun")
        raise RunError(
            f"no trial came to its end; the first one: {reasons}. More is in {search.folder / folder.REPORT}"
        )
    voice.say(
        f"best: trial {best}; train it again: python -m tfft.fit --recipe {search.folder / folder.BEST}; the report is "
        f"{search.folder / folder.REPORT}"
    )


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "sweep")
