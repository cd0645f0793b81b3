"""A sweep's folder: looked at before anything is done, held while it is, and what is written there at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfft import environment, lock
from tfft import recipe as recipes
from tfft.errors import RunError
from tfft.recipe import Recipe
from tfft.search.events import Clock
from tfft.search.trials import EVENTS, LOCK, LOGS, PROGRESS, RECIPE, RECORDS, TRIALS, Search, best_of, replayed
from tfft.whole import whole_file

SUMMARY, REPORT, BEST = "sweep.json", "report.html", "best.yaml"
FOLDERS = (TRIALS, RECORDS, PROGRESS, LOGS)
ENTRIES = (RECIPE, EVENTS, SUMMARY, REPORT, BEST, LOCK, *FOLDERS)
# What may be another when a sweep is gone on with: nothing of it changes what a trial is, or which is next.
MAY_DIFFER = (("output_dir",), *(("sweep", key) for key in ("max_trials", "max_hours", "isolation", "keep_models")))


def check(search: Search, overwrite: bool) -> None:
    """Looks whether the sweep may be in its folder: nothing is there, or this very sweep, or what may be overwritten.

    Raises:
        RunError: it may not.
    """
    folder = search.folder
    if folder.exists() and not folder.is_dir():
        raise RunError(f"output_dir: {folder} is a file; give a folder")
    present = sorted(os.listdir(folder)) if folder.is_dir() else []
    if holder := lock.holder(folder / LOCK):
        raise RunError(f"output_dir: {folder} is in use by {holder}; wait for it, or give another output_dir=…")
    foreign = [name for name in present if name.removesuffix(".partial") not in ENTRIES]
    if foreign:
        raise RunError(
            f"output_dir: {folder} holds files that are not a sweep's ({', '.join(foreign[:3])}); give a new folder"
        )
    if overwrite or RECIPE not in present:
        return
    if changes := differences(recipes.load(folder / RECIPE), search.recipe):
        listed = "\n".join(f"  {one}" for one in changes)
        raise RunError(
            f"output_dir: {folder} holds another sweep; give another output_dir=…, or --overwrite to replace it. What "
            f"differs:\n{listed}"
        )


def differences(before: Recipe, now: Recipe) -> list[str]:
    """What differs between two sweeps, but for what may: a line each."""
    from tfft.differences import differences as compared

    return compared(_compared(before), _compared(now))


def _compared(recipe: Recipe) -> dict[str, Any]:
    table = recipe.model_dump(mode="json")
    for *above, key in MAY_DIFFER:
        section: dict[str, Any] = table
        for name in above:
            section = section[name]
        section.pop(key)
    return table


@contextlib.contextmanager
def opened(search: Search, overwrite: bool) -> Iterator[None]:
    """The folder, made and held while the body runs; an older sweep in it goes, or stays to be gone on with.

    Raises:
        RunError: another process has it, or the disk does not take it.
    """
    folder = search.folder
    with contextlib.ExitStack() as holding:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            holding.enter_context(lock.held(folder / LOCK))
            if overwrite:
                _empty(search)
            for name in FOLDERS:
                (folder / name).mkdir(exist_ok=True)
            with whole_file(folder / RECIPE) as file:
                file.write(search.recipe.to_yaml())
        except lock.Held as held:
            raise RunError(f"output_dir: {folder} is in use by {held}; wait for it") from None
        except OSError as error:
            raise RunError(f"output_dir: {folder} cannot be written ({error.strerror}); give another") from None
        yield


def _empty(search: Search) -> None:
    # What a later sweep would take for its own goes first, and by what it knows this one last.
    for name in (EVENTS, RECORDS, *(name for name in ENTRIES if name != RECIPE), RECIPE):
        path = search.folder / name
        if name == LOCK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# --- What is left of it -----------------------------------------------------------------------------------------------


def facts(
    search: Search, command: str, records: Sequence[Mapping[str, Any]], clock: Clock, warnings: Sequence[str]
) -> dict[str, Any]:
    """All that is told of a sweep, as plain values: `sweep.json`, from which the report is made.

    Args:
        command: the line that began it.
        records: of trials that have ended.
        clock: of the sweep.
        warnings: sentences that whoever reads the scores should know.
    """
    sweep, best = search.sweep, best_of(search, records)
    return {
        "name": search.recipe.name,
        "command": command,
        "algorithm": sweep.algorithm,
        "objective": search.objective,
        "direction": search.direction,
        "seed": search.seed,
        "executions_per_trial": sweep.executions_per_trial,
        "max_trials": sweep.max_trials,
        "parameters": sweep.model_dump(mode="json")["parameters"],
        "trials": [dict(one) for one in records],
        "best": None if best is None else best["number"],
        "best_yaml": None if best is None else replayed(search, best),
        "seconds": clock.seconds,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(clock.first)),
        "environment": environment.describe(),
        "warnings": list(warnings),
    }


def write_summary(search: Search, told: Mapping[str, Any]) -> None:
    """Writes `sweep.json`, and `best.yaml` where there is a best trial."""
    with whole_file(search.folder / SUMMARY) as file:
        file.write(json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    if told["best_yaml"] is not None:
        with whole_file(search.folder / BEST) as file:
            file.write(told["best_yaml"])


def write_report(search: Search, told: Mapping[str, Any]) -> None:
    """Writes `report.html`."""
    from tfft.search import report

    with whole_file(search.folder / REPORT) as file:
        file.write(report.page(told))
