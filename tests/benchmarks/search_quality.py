"""How good the best trial is after so much training: random, Bayesian and Hyperband search, and random with pruning.

    python tests/benchmarks/search_quality.py

The searches are tfft's own, on the table of real runs that `search_curves.py` has recorded: a trial's scores are looked
up, not trained. A search sees one seed's runs; what its choice is worth is the mean over all seeds, so that a lucky run
is not taken for a good setting. Training is counted in runs of the full length; Hyperband's shorter ones count less.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search_curves import EPOCHS, TABLE

TRIALS = 15
SEARCHES: dict[str, tuple[str, ...]] = {
    "random": ("sweep.algorithm=random",),
    "random, pruned": ("sweep.algorithm=random", "sweep.prune=true"),
    "bayesian": ("sweep.algorithm=bayesian",),
    "hyperband": ("sweep.algorithm=hyperband", "sweep.iterations=4"),
}
# Full runs' worth of training after which the searches are compared.
BUDGETS = (2, 4, 6, 8, 10, 12)
# Rate, batch size, seed: the score after every epoch.
Curves = dict[tuple[float, int, int], list[float]]


def main() -> None:
    """Runs every search with every seed, and shows the means."""
    parser = argparse.ArgumentParser(description="Compare searches on recorded runs.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--score", default="val_accuracy")
    parser.add_argument("--output", type=Path, help="write the figures as JSON, and a picture beside it")
    arguments = parser.parse_args()
    curves = table(arguments.score)
    worth = mean_over_seeds(curves)
    print(
        f"{len(curves)} runs; the best setting is worth {max(worth.values()):.4f}, the mean one "
        f"{statistics.fmean(worth.values()):.4f}"
    )
    found: dict[str, dict[str, list[float]]] = {}
    for name, settings in SEARCHES.items():
        each = [searched(settings, seed, curves, worth) for seed in range(1, arguments.seeds + 1)]
        found[name] = {
            "mean": [statistics.fmean(one[index] for one in each) for index in range(len(BUDGETS))],
            "sd": [statistics.stdev(one[index] for one in each) for index in range(len(BUDGETS))],
        }
        cells = "  ".join(f"{mean:.4f} ± {sd:.4f}" for mean, sd in zip(*found[name].values(), strict=True))
        print(f"{name:16}{cells}", flush=True)
    if arguments.output is not None:
        told = {"score": arguments.score, "seeds": arguments.seeds, "budgets": BUDGETS, "searches": found}
        arguments.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        draw(arguments.output.with_suffix(".png"), found, max(worth.values()), arguments.score)


def table(score: str) -> Curves:
    """The recorded runs, of those seeds that have every setting."""
    if not TABLE.is_file():
        raise SystemExit(f"{TABLE} is not there; record it: python tests/benchmarks/search_curves.py --data FOLDER")
    curves: Curves = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cell = (float(row["learning_rate"]), int(row["batch_size"]), int(row["seed"]))
            curves.setdefault(cell, []).append(float(row[score]))
    settings = {cell[:2] for cell in curves}
    return {cell: curve for cell, curve in curves.items() if all((*one, cell[2]) in curves for one in settings)}


def mean_over_seeds(curves: Curves) -> dict[tuple[float, int], float]:
    """What a setting is worth: the last epoch's score."""
    settings = {cell[:2] for cell in curves}
    return {one: statistics.fmean(curve[-1] for cell, curve in curves.items() if cell[:2] == one) for one in settings}


def searched(
    settings: Sequence[str], seed: int, curves: Curves, worth: Mapping[tuple[float, int], float]
) -> list[float]:
    """What the best trial so far is worth, after each of the budgets."""
    from tfft import recipe
    from tfft.search import oracles, pruning, trials
    from tfft.search.events import Events

    rates, sizes, seeds = (sorted({cell[index] for cell in curves}) for index in range(3))
    own_seed = seeds[seed % len(seeds)]
    chosen = recipe.load(
        "quickstart",
        [
            "sweep.objective=accuracy",
            f"training.num_train_epochs={EPOCHS}",
            f"sweep.parameters.training.learning_rate={list(rates)}",
            f"sweep.parameters.training.per_device_train_batch_size={list(sizes)}",
            *([] if "sweep.algorithm=hyperband" in settings else [f"sweep.max_trials={TRIALS}"]),
            *settings,
        ],
    )
    search = trials.Search(chosen, "quickstart", (), Path("search"))
    spent, finished, by_budget = 0.0, [], []
    best: tuple[float, float] | None = None  # score seen, worth
    with tempfile.TemporaryDirectory() as folder:
        made = oracles.make(search.sweep, "accuracy", "max", seed, EPOCHS)
        oracle = oracles.Recorded(made, Events(Path(folder) / "events"), search.sweep.parameters)
        while spent < BUDGETS[-1]:
            asked = oracle.create_trial("one")
            if asked.status != "RUNNING":
                break
            trial = trials.from_tuner(asked, search)
            setting = (
                trial.values["training.learning_rate"],
                trial.values["training.per_device_train_batch_size"],
            )
            curve = curves[(*setting, own_seed)][: trial.epochs]
            if search.sweep.prune:
                stops = (end for end in range(1, len(curve)) if pruning.is_hopeless(curve[:end], finished, "max"))
                curve = curve[: next(stops, len(curve))]
            spent += (len(curve) - trial.begins_at) / EPOCHS
            oracle.update_trial(asked.trial_id, {"accuracy": curve[-1]})
            oracle.end_trial(oracles.Trial(asked.hyperparameters, trial_id=asked.trial_id, status="COMPLETED"))
            by_budget += [nothing_yet(best, worth) for budget in BUDGETS[len(by_budget) :] if spent > budget]
            if len(curve) == EPOCHS:
                finished.append(curve)
                if best is None or curve[-1] > best[0]:
                    best = (curve[-1], worth[setting])
    return [*by_budget, *[nothing_yet(best, worth)] * (len(BUDGETS) - len(by_budget))]


def nothing_yet(best: tuple[float, float] | None, worth: Mapping[Any, float]) -> float:
    """What the best trial is worth; before the first that came to its end, a setting taken blindly."""
    return statistics.fmean(worth.values()) if best is None else best[1]


def draw(path: Path, found: Mapping[str, Mapping[str, Sequence[float]]], best: float, score: str) -> None:
    """The picture of the README."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    for name, one in found.items():
        axes.plot(BUDGETS, one["mean"], marker="o", label=name)
    axes.axhline(best, linestyle=":", color="gray", label="the best setting")
    axes.set_xlabel("training spent, in full runs")
    axes.set_ylabel(f"{score.removeprefix('val_')} of the best trial (mean)")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
