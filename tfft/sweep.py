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
    from tfft.search.events import Clock, Events
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
        What `sweep.json` holds: `trials` with `values`, `score` and `command`; `best`, the number of the best one. Of a
        worker of several machines: nothing, for the chief has it.

    Raises:
        UserError: the recipe, the data or the folder cannot be used, or no trial came to its end.
    """
    return _run(_search(os.fspath(recipe), overrides), parallel, overwrite, _voice(silent=not verbose))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = parser().parse_intermixed_args(argv)
    search = _search(arguments.recipe, arguments.overrides)
    from tfft import console

    if not arguments.verbose:
        console.silence_libraries()
    _run(search, arguments.parallel, arguments.overwrite, _voice(silent=False))
    return 0


def _voice(silent: bool) -> Voice:
    """One with a stream of its own, since trials in this process print into their logs."""
    from rich.console import Console

    from tfft.console import Voice

    return Voice(silent=silent, console=Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty()))


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
        type=command.positive,
        default=1,
        metavar="N",
        help="trials at a time: a GPU each, or a share of the cores",
    )
    made.add_argument("--overwrite", action="store_true", help="replace a sweep that is already in output_dir")
    made.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return made


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
    from tfft import environment, interrupts, run_directory
    from tfft.search import folder, remote, slots, table, trials
    from tfft.search.events import Clock, Events
    from tfft.search.trials import EVENTS

    environment.check()
    role = remote.find()
    if role is not None and role.is_chief and parallel > 1:
        raise RecipeError(f"--parallel: got {parallel}; expected it of workers: the chief trains nothing")
    places = slots.make(parallel, search.recipe.runtime.strategy, role.name if role else "")
    _check_isolation(search, places)
    if role is not None and not role.is_chief:
        return _work(search, role, places, voice)
    folder.check(search, overwrite)
    _try(search, voice)
    warnings = _warnings(search)
    _say_what(search, role, places, warnings, voice)
    with (
        folder.opened(search, overwrite),
        interrupts.waiting(voice.say) as asked_to_stop,
        run_directory.disk_errors(f"output_dir: writing to {search.folder}", "mend that, and the same command goes on"),
    ):
        events = Events(search.folder / EVENTS)
        clock = Clock(events)
        recorded = _recorded(search, events, clock)
        told: dict[str, Any] = {}

        def ended(record: Mapping[str, Any] | None = None) -> None:
            records = trials.read_records(search)
            # Where only the time or the number of trials has ended it, there may be more to come.
            trials.tidy(search, records, is_over=record is None and recorded.is_exhausted)
            told.update(folder.facts(search, _command(search, parallel), records, clock, warnings))
            folder.write_summary(search, told)
            if record is not None and not voice.is_terminal:
                voice.say(table.ended(search, record, trials.best_of(search, records)))

        try:
            if role is None:
                _drive(search, recorded, places, ended, asked_to_stop, voice)
            else:
                _serve(search, recorded, role, ended, asked_to_stop, voice)
        except KeyboardInterrupt as interrupt:
            same = "the same command without --overwrite" if overwrite else "the same command"
            raise type(interrupt)(f"interrupted; {same} goes on with the sweep in {search.folder}") from None
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

    Also where the sweep goes on: data may be gone, and every trial would fail.

    Raises:
        RecipeError: it cannot.
    """
    from tfft.search import slots

    voice.say(f"looks whether {search.source} can be trained")
    words = [search.source, *search.overrides, "~sweep", "--dry-run"]
    command_line = [sys.executable, "-m", "tfft.fit", "--recipe", *words]
    tried = subprocess.run(command_line, capture_output=True, text=True, env=slots.environment())
    if tried.returncode == command.USER_ERROR_STATUS:
        raise RecipeError(f"no trial is begun: {tried.stderr.strip().removeprefix('error: ')}")
    if tried.returncode != 0:
        raise RuntimeError(f"python -m tfft.fit {shlex.join(words)} ended with {tried.returncode}:\n{tried.stderr}")


def _recorded(search: Search, events: Events, clock: Clock) -> Recorded:
    """The oracle, as far as an earlier process has come."""
    from tfft.search import oracles

    sweep = search.sweep
    made = oracles.make(sweep, search.objective, search.direction, search.seed, search.recipe.training.num_train_epochs)
    hours = sweep.max_hours
    return oracles.Recorded(
        made,
        events,
        sweep.parameters,
        search.max_trials,
        is_over=lambda: hours is not None and clock.seconds > hours * 3600,
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

    left, done = recorded.running, len(trials.read_records(search))
    if left or done:
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

    if search.sweep.algorithm == "grid":
        return min(search.max_trials or sys.maxsize, sweep_checks.grid_points(search.sweep.parameters))
    return search.max_trials


def _warnings(search: Search) -> list[str]:
    """What may come otherwise than whoever wrote the recipe expects."""
    from tfft.recipe import sweep_checks

    parameters, wanted = search.sweep.parameters, search.max_trials
    if search.sweep.algorithm == "grid" or wanted is None or any(not one.values for one in parameters.values()):
        return []
    points = sweep_checks.grid_points(parameters)
    if points > wanted:
        return []
    return [
        f"the parameters have {points:,} combinations, so there may be fewer than {wanted:,} trials; a grid "
        "(sweep.algorithm=grid) has each of them once"
    ]


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

    told = {one["number"] for one in trials.read_records(search)}

    def meanwhile() -> None:
        if asked := asked_to_stop():
            raise asked
        for trial in recorded.running:
            # Its worker may be gone, or could not tell of it while there was no chief.
            record = trials.read_record(search, trials.number_of(trial.trial_id))
            if record is not None:
                driver.tell(recorded, search, trial, record)
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
        remote.serve(recorded, role, meanwhile, voice.say)
    meanwhile()


def _work(search: Search, role: Role, places: Sequence[Slot], voice: Voice) -> dict[str, Any]:
    """A worker: trains what the chief gives, in the folder that both see."""
    from tfft import interrupts
    from tfft import recipe as recipes
    from tfft.run_directory import SEEN_WITHIN_SECONDS
    from tfft.search import folder, remote, table
    from tfft.search.driver import Driver
    from tfft.search.trials import LOCK, RECIPE

    client = remote.Client(role, voice.say)
    end = time.monotonic() + SEEN_WITHIN_SECONDS
    while not (search.folder / LOCK).is_file():
        if time.monotonic() > end:
            raise RunError(
                f"output_dir: the chief at {role.address} works in a folder that is not seen here as {search.folder}; "
                "give one on a disk that all share"
            )
        time.sleep(0.1)
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


def _say_what(search: Search, role: Role | None, places: Sequence[Slot], warnings: Sequence[str], voice: Voice) -> None:
    sweep, total = search.sweep, _total(search)
    number = "as many trials as Hyperband wants" if total is None else f"{total:,} trials"
    each = "" if sweep.executions_per_trial == 1 else f" of {sweep.executions_per_trial} seeds each"
    how = "" if role is not None or len(places) == 1 else f", {len(places)} at a time"
    better = "greatest" if search.direction == "max" else "least"
    voice.say(f"{sweep.algorithm} search for the {better} {search.objective}: {number}{each}{how}")
    for one in warnings:
        voice.say(f"note: {one}")


def _mark(trial: Mapping[str, Any], best: int | None) -> str:
    """What is to be said of a trial that has a score."""
    if trial["number"] == best:
        return " (best)"
    return " (pruned)" if trial["status"] == "pruned" else ""


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
            f"{one['number']}{_mark(one, best)}",
            *(table.value(one["values"][name]) if name in one["values"] else "" for name in names),
            table.score(one) or one["status"],
            f"{one['seconds']:,.0f}",
        ]
        for one in told["trials"]
    ]
    short = [name.rpartition(".")[2] for name in names]
    voice.table(f"Trials of {told['name']}", ["trial", *short, told["objective"], "s"], rows)
    voice.say("to train one of them again:")
    for one in told["trials"]:
        voice.say_whole(f"  {one['number']}: {one['command']}")
    if best is None:
        reasons = next((one["reason"] for one in told["trials"] if one["reason"]), "none was begun")
        raise RunError(
            f"no trial came to its end; the first one: {reasons}. More is in {search.folder / folder.REPORT}"
        )
    voice.say(
        f"best: trial {best}, whose recipe is {search.folder / folder.BEST}; the report is "
        f"{search.folder / folder.REPORT}"
    )


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "sweep")
