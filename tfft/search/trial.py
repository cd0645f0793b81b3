"""One training of a trial: an ordinary run of the recipe, watched; in this process, or in one of its own.

`python -m tfft.search.trial` reads its order from standard input, and ends when that does: with whoever sent it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfft import command, lock
from tfft import recipe as recipes
from tfft.errors import RunError, UserError
from tfft.recipe import Recipe
from tfft.run_directory import LOCK, STATES
from tfft.whole import whole_file, whole_folder


@dataclass(frozen=True)
class Order:
    """What is to be trained.

    Attributes:
        recipe, overrides: as on the command line of `tfft.fit`.
        seed: among them.
        progress: the file that tells where it is.
        outcome: the file that tells how it ended.
        score, direction: the name of the objective in Keras's logs, and which is better.
        epochs: that it will have; None where that is not known before.
        records: the folder of finished trials' records, where it is to be pruned.
        continues: the run from whose last state it goes on.
        cores: of the processor that it may use; empty is all.
    """

    recipe: str
    overrides: list[str]
    seed: int
    progress: str
    outcome: str
    score: str
    direction: str
    epochs: int | None = None
    records: str | None = None
    continues: str | None = None
    cores: list[int] = dataclasses.field(default_factory=list)


def attempt(order: Order) -> None:
    """Trains, and writes how that ended to `order.outcome`: `error` (empty where it went well), `pruned`, `seconds`.

    Where another process holds the run, `busy` says which, and that is all.

    Raises:
        Exception: a bug of ours; a mistake of the user's is only written.
    """
    began = time.perf_counter()
    outcome: dict[str, Any] = {"error": "", "pruned": False, "busy": ""}
    try:
        recipe = recipes.load(order.recipe, order.overrides)
        outcome["busy"] = _holder(Path(recipe.output_dir))
        if not outcome["busy"]:
            outcome["pruned"] = _train(order, recipe)
    except UserError as error:
        outcome["error"] = str(error)
    except Exception as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        # Not where it was interrupted: then it goes on another time.
        if outcome["error"] or not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            outcome["seconds"] = time.perf_counter() - began
            with whole_file(Path(order.outcome)) as file:
                file.write(json.dumps(outcome))


def _holder(run: Path) -> str:
    """Who holds the run's folder, and does not let go; empty where nobody does.

    One that was killed on another machine, or a moment ago, is gone after a while.
    """
    end = time.monotonic() + 2 * lock.GONE_AFTER_SECONDS
    while (holder := lock.holder(run / LOCK)) and time.monotonic() < end:
        time.sleep(1.0)
    return holder or ""


def _train(order: Order, recipe: Recipe) -> bool:
    """Whether it was pruned."""
    import tfft
    from tfft.search import watch

    if order.continues is not None:
        _take_state(Path(order.continues), Path(recipe.output_dir))

    def is_hopeless(scores: Sequence[float]) -> bool:
        from tfft.search import pruning

        if order.records is None:
            return False
        return pruning.is_hopeless(scores, finished_curves(Path(order.records), order.score), order.direction)

    watching = watch.Watch(Path(order.progress), order.score, order.seed, order.epochs, is_hopeless)
    tfft.fit(recipe, resume=True, callbacks=[watching])
    return watching.pruned


def _take_state(source: Path, target: Path) -> None:
    """Copies the last states of a run into the folder of one that goes on from them, unless they are there.

    Raises:
        RunError: the run has none.
    """
    if (target / STATES).exists():
        return
    if not (source / STATES).is_dir():
        raise RunError(f"{source} has no state to go on from")
    target.mkdir(parents=True, exist_ok=True)
    with whole_folder(target / STATES) as folder:
        shutil.copytree(source / STATES, folder, dirs_exist_ok=True)


def finished_curves(records: Path, score: str) -> list[list[float]]:
    """The scores by epoch of every trial that came to its end."""
    curves = []
    for path in sorted(records.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] == "completed":
            # Of several evaluations in an epoch, the one at its end.
            by_epoch = {row["epoch"]: row for row in record["executions"][0]["curve"]}
            curves.append([row[score] for row in by_epoch.values() if score in row])
    return curves


def main(argv: Sequence[str] | None = None) -> int:
    """The process of a trial."""
    order = Order(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_sender, daemon=True).start()
    if order.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order.cores)
    from tfft import console

    console.silence_libraries()
    attempt(order)
    return 0


def _end_with_sender() -> None:
    """Standard input ends when the sender does, however that came about; what it began is not to live on."""
    # By its descriptor: a thread that waits inside sys.stdin would keep Python from ending.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    command.run(main)
