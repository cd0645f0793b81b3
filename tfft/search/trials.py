"""The trials of a sweep: what is to be trained, where, by which command; and the record of what came of it.

The folder of a sweep has `recipe.yaml` (the sweep's), `events.jsonl` (what the oracle was asked and told), and by trial
`trials/0001` (an ordinary run, or one for each seed), `records/0001.json`, `progress/0001.json`, `logs/0001.txt`.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfft import tasks
from tfft.recipe import Recipe, SweepSection, sweep_checks
from tfft.recipe.yaml_text import scalar
from tfft.run_directory import FINISHED, STATES
from tfft.search.slots import Slot
from tfft.search.trial import Order
from tfft.whole import whole_file

RECIPE, EVENTS, LOCK = "recipe.yaml", "events.jsonl", "sweep.lock"
TRIALS, RECORDS, PROGRESS, LOGS = "trials", "records", "progress", "logs"
MODELS = ("model", "adapters")


@dataclass(frozen=True)
class Search:
    """A sweep as it was asked for.

    Attributes:
        recipe: with its section `sweep`.
        source, overrides: as on the command line.
        folder: where all of it goes.
    """

    recipe: Recipe
    source: str
    overrides: tuple[str, ...]
    folder: Path

    @property
    def sweep(self) -> SweepSection:
        """What is searched."""
        assert self.recipe.sweep is not None
        return self.recipe.sweep

    @property
    def objective(self) -> str:
        """The score's own name."""
        return tasks.score_name(self.sweep.objective)

    @property
    def direction(self) -> str:
        """Whether `max` or `min` of it is better."""
        direction = self.sweep.direction or tasks.direction(self.objective)
        assert direction is not None, "the recipe was looked at"
        return direction

    @property
    def seed(self) -> int:
        """Of the choice of values."""
        return self.recipe.seed % 2**31 if self.sweep.seed is None else self.sweep.seed

    @property
    def seeds(self) -> list[int]:
        """Of the trainings of every trial."""
        return [self.recipe.seed + index for index in range(self.sweep.executions_per_trial)]

    @property
    def max_trials(self) -> int | None:
        """Trials in all; None is as many as the algorithm wants."""
        usual = None if self.sweep.algorithm in ("grid", "hyperband") else sweep_checks.USUAL_TRIALS
        return self.sweep.max_trials or usual

    def is_better(self, one: float, other: float) -> bool:
        """Whether the first score is."""
        return one > other if self.direction == "max" else one < other

    def file(self, kind: str, number: int, ending: str) -> Path:
        """A trial's file of this kind."""
        return self.folder / kind / f"{number:04d}{ending}"

    def run_folder(self, number: int, seed: int) -> Path:
        """Where a training of a trial is."""
        folder = self.folder / TRIALS / f"{number:04d}"
        return folder if len(self.seeds) == 1 else folder / f"seed-{seed}"


@dataclass(frozen=True)
class Trial:
    """What an oracle chose.

    Attributes:
        number: from 1.
        id: what Keras Tuner calls it.
        values: recipe keys and values.
        epochs: after which it is to end; None is the recipe's own number.
        begins_at: epochs that were done by the trial that it continues.
        continues: the number of that trial.
        bracket, round: Hyperband's.
    """

    number: int
    id: str
    values: Mapping[str, Any]
    epochs: int | None = None
    begins_at: int = 0
    continues: int | None = None
    bracket: int | None = None
    round: int | None = None


def number_of(trial_id: str) -> int:
    """The number, from 1, of the trial that Keras Tuner calls so."""
    return int(trial_id) + 1


def from_tuner(trial: Any, search: Search) -> Trial:
    """Keras Tuner's trial as ours."""
    from tfft.search import space

    chosen = trial.hyperparameters.values
    values = space.decoded(search.sweep.parameters, chosen)
    number = number_of(trial.trial_id)
    if "tuner/epochs" not in chosen:
        return Trial(number, trial.trial_id, values)
    before = chosen.get("tuner/trial_id")
    return Trial(
        number,
        trial.trial_id,
        values,
        int(chosen["tuner/epochs"]),
        int(chosen["tuner/initial_epoch"]),
        None if before is None else number_of(before),
        int(chosen["tuner/bracket"]),
        int(chosen["tuner/round"]),
    )


# --- What is to be done -----------------------------------------------------------------------------------------------


def settings(search: Search, trial: Trial) -> list[str]:
    """What a trial's trainings have other than the recipe, as on the command line."""
    said = ["~sweep", *(f"{key}={_said(value)}" for key, value in trial.values.items())]
    if trial.epochs is not None and trial.epochs < search.recipe.training.num_train_epochs:
        said.append(f"training.stop_after_epochs={trial.epochs}")
    return said


def _said(value: Any) -> str:
    """A value as the command line reads it."""
    if isinstance(value, str):
        return value if scalar(value) == value and value[:1] not in "[{\"'" else json.dumps(value)
    return json.dumps(value)


def command_of(search: Search, trial: Trial) -> str:
    """The line that trains the same again, elsewhere."""
    again = f"output_dir={search.folder}-trial-{trial.number}"
    words = [*search.overrides, *settings(search, trial), f"seed={search.seeds[0]}", again]
    return shlex.join(["python", "-m", "tfft.fit", "--recipe", search.source, *words])


def order(search: Search, trial: Trial, seed: int, slot: Slot) -> Order:
    """One training of the trial."""
    folder = search.run_folder(trial.number, seed)
    return Order(
        recipe=str(search.folder / RECIPE),
        overrides=[*settings(search, trial), f"seed={seed}", f"output_dir={folder}"],
        seed=seed,
        progress=str(search.file(PROGRESS, trial.number, ".json")),
        outcome=str(search.file(PROGRESS, trial.number, f"-{seed}.outcome.json")),
        score=f"val_{search.objective}",
        direction=search.direction,
        epochs=trial.epochs,
        records=str(search.folder / RECORDS) if search.sweep.prune else None,
        continues=None if trial.continues is None else str(search.run_folder(trial.continues, seed)),
        cores=list(slot.cores),
    )


# --- What came of it --------------------------------------------------------------------------------------------------


def record(
    search: Search, trial: Trial, seeds: Sequence[int], failure: str, pruned: bool, seconds: float
) -> dict[str, Any]:
    """What is known of a trial that has ended.

    Args:
        seeds: of its trainings that came to their end.
        failure: why it failed; empty where it did not.
        pruned: whether it was not worth its end.
        seconds: it took.
    """
    executions = [_execution(search, trial, seed) for seed in seeds]
    scores = [one["scores"].get(search.objective) for one in executions]
    if not failure and not all(isinstance(one, int | float) and math.isfinite(one) for one in scores):
        failure = f"no {search.objective} was computed, or it is no number; there are {executions[0]['scores']}"
    failed = bool(failure) or not scores
    epochs = sum(one.pop("epochs") for one in executions)
    rows = sum(one.pop("rows") for one in executions)
    return {
        "number": trial.number,
        "id": trial.id,
        "status": "failed" if failed else "pruned" if pruned else "completed",
        "values": dict(trial.values),
        "score": None if failed else statistics.fmean(scores),
        "spread": statistics.stdev(scores) if not failed and len(scores) > 1 else None,
        "seconds": seconds,
        "epochs": epochs,
        "rows": rows,
        "reason": failure,
        "command": command_of(search, trial),
        "continues": trial.continues,
        "planned_epochs": trial.epochs,
        "bracket": trial.bracket,
        "round": trial.round,
        "executions": executions,
    }


def _execution(search: Search, trial: Trial, seed: int) -> dict[str, Any]:
    folder = search.run_folder(trial.number, seed)
    metrics = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
    epochs = max(metrics["train"]["epochs"] - trial.begins_at, 0.0)
    return {
        "seed": seed,
        "folder": str(folder.relative_to(search.folder)),
        "scores": metrics.get("eval", {}),
        "curve": _curve(folder / "history.csv"),
        "peak_rss_mb": metrics["memory"]["peak_rss_mb"],
        "seconds": metrics["timing"]["total_seconds"],
        "epochs": epochs,
        "rows": round(epochs * metrics["train"]["rows"]),
    }


def _curve(path: Path) -> list[dict[str, float]]:
    """A run's history, as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    # JSON has no NaN.
    return [{name: value for name, value in row.items() if math.isfinite(value)} for row in rows]


def write_record(search: Search, one: Mapping[str, Any]) -> None:
    """Writes it, whole or not at all."""
    with whole_file(search.file(RECORDS, one["number"], ".json")) as file:
        file.write(json.dumps(one, indent=1, allow_nan=False))


def read_record(search: Search, number: int) -> dict[str, Any] | None:
    """A trial's record; None where it has not ended."""
    path = search.file(RECORDS, number, ".json")
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_records(search: Search) -> list[dict[str, Any]]:
    """Those of all trials that have ended, by number."""
    paths = sorted((search.folder / RECORDS).glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def best_of(search: Search, records: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The best trial that was trained to its end; of equals, the earlier. Of Hyperband's, among the longest alone."""
    done = [one for one in records if one["status"] == "completed"]
    if search.sweep.algorithm == "hyperband" and done:
        # A score early on the way down of the rate says little beside one at its end.
        longest = max(one["planned_epochs"] for one in done)
        done = [one for one in done if one["planned_epochs"] == longest]
    best = None
    for one in done:
        if best is None or search.is_better(one["score"], best["score"]):
            best = one
    return best


def tidy(search: Search, records: Sequence[Mapping[str, Any]], is_over: bool) -> None:
    """Removes weights that nobody needs: models of trials that are not the best, states that nothing continues."""
    best = best_of(search, records)
    for one in records:
        is_best = best is not None and one["number"] == best["number"]
        continued = any(other["continues"] == one["number"] for other in records)
        for seed in search.seeds:
            folder = search.run_folder(one["number"], seed)
            if search.sweep.keep_models == "best" and not is_best:
                for name in MODELS:
                    shutil.rmtree(folder / name, ignore_errors=True)
            if is_over or continued or search.sweep.algorithm != "hyperband":
                shutil.rmtree(folder / STATES, ignore_errors=True)


def replayed(search: Search, one: Mapping[str, Any]) -> str:
    """A recipe that trains the trial of this record again, with all settings.

    Raises:
        RecipeError: it is not valid any more.
    """
    from tfft import recipe as recipes

    trial = Trial(one["number"], one["id"], one["values"])
    name = f"{search.recipe.name}-best"
    words = [*settings(search, trial), f"seed={search.seeds[0]}", f"output_dir={search.folder.parent / name}"]
    made = recipes.load(search.folder / RECIPE, words)
    score = f"{search.objective} {one['score']:.4f}"
    epochs = one["planned_epochs"]
    if epochs is not None and epochs < made.training.num_train_epochs:
        score += f" after {epochs} of its epochs"
    return (
        f"# Trial {one['number']} of the sweep {search.recipe.name}: {score} on the validation rows.\n{made.to_yaml()}"
    )
