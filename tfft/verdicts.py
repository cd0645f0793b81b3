"""What is said of scores over seeds: tables, plain sentences, and all of it as plain values.

Nothing here trains or reads a disk: `Side` has what the finished runs of a recipe left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfft import statistics, tasks
from tfft.statistics import Interval, McNemar, Paired, Summary

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.predictions import Judged
    from tfft.recipe import TrainingSection

# With fewer the sentences say that they are few.
FEW = 5
# Told among a run's scores, and none.
_SETTLED = ("threshold",)


@dataclass(frozen=True)
class Side:
    """The finished runs of one recipe.

    Attributes:
        name: of the recipe.
        scores: seed to score to value; scores are called as in a run's `metrics.json`, `eval.f1` or `test.f1`.
        predictions: seed to the validation rows that were right; without those seeds that left none.
    """

    name: str
    scores: Mapping[int, Mapping[str, float]]
    predictions: Mapping[int, Judged]


def scores_in(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a run's `metrics.json`, as `Side` has them."""
    return {
        f"{split}.{name}": value
        for split in ("eval", "test")
        for name, value in metrics.get(split, {}).items()
        if name not in _SETTLED
    }


def shown(score: str) -> str:
    """A score as sentences have it: `eval.f1` is `f1`, `test.f1` is `test f1`."""
    return score.removeprefix("eval.").replace(".", " ", 1)


def direction(score: str, training: TrainingSection) -> tasks.Direction | None:
    """Whether a larger or a smaller value is better; None where neither tfft nor the recipe knows."""
    name = score.partition(".")[2]
    wanted = training.metric_for_best_model
    if training.greater_is_better is not None and wanted is not None and tasks.score_name(wanted) == name:
        return "max" if training.greater_is_better else "min"
    return tasks.direction(name)


# --- One recipe -------------------------------------------------------------------------------------------------------


def summaries(side: Side) -> dict[str, Summary]:
    """Every score over the seeds that have it."""
    names = dict.fromkeys(name for of_seed in side.scores.values() for name in of_seed)
    return {
        name: statistics.summarize([of_seed[name] for of_seed in side.scores.values() if name in of_seed])
        for name in names
    }


def alone(score: str, found: Summary) -> str:
    """A sentence on one score of one recipe."""
    if found.interval is None:
        return f"{shown(score)}: {_spread(found)} (1 seed)"
    return (
        f"{shown(score)}: {_spread(found)} (mean ± standard deviation of {len(found.values)} seeds; "
        f"95 % interval of the mean {_interval(found.interval)})"
    )


# --- Two recipes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One score of two recipes, over the seeds that both have.

    Attributes:
        score: its name.
        names: of the recipes.
        seeds: those.
        first, second: the score of each recipe.
        difference: first less second, seed by seed.
        direction: which is better, where that is known.
    """

    score: str
    names: tuple[str, str]
    seeds: tuple[int, ...]
    first: Summary
    second: Summary
    difference: Paired
    direction: tasks.Direction | None

    @property
    def better(self) -> str | None:
        """The recipe that is better by more than noise; None where that cannot be told, or the direction is unknown."""
        if not self.difference.is_told or self.direction is None:
            return None
        return self.names[0 if (self.difference.mean > 0) == (self.direction == "max") else 1]

    @property
    def sentence(self) -> str:
        """What this says of the recipes."""
        sides = ", ".join(
            f"{name} {_spread(one)}" for name, one in zip(self.names, (self.first, self.second), strict=True)
        )
        of = f"(mean ± standard deviation of {len(self.seeds)} seeds)" if len(self.seeds) > 1 else "(1 seed)"
        return f"{shown(self.score)}: {sides} {of}; difference {self.difference.mean:+.4f}{self._verdict}"

    @property
    def _verdict(self) -> str:
        found = self.difference
        if found.p_value is None:
            return ": of one seed nothing can be told"
        if found.standard_deviation == 0.0 and found.mean == 0.0:
            return " with every seed"
        interval = " with every seed"
        if found.interval is not None:
            interval = f" (95 % interval {found.interval[0]:+.4f} to {found.interval[1]:+.4f})"
        if not found.is_told:
            return f"{interval}: cannot be told from the noise of seeds"
        if self.better is None:
            return f"{interval}: more than the noise of seeds explains; which is better is not known of this score"
        hint = ", being smaller" if self.direction == "min" else ""
        return f"{interval}: {self.better} is better{hint}, by more than the noise of seeds explains"


def compare(first: Side, second: Side, training: TrainingSection) -> list[Compared]:
    """Every score that both have, over the seeds that both have.

    Args:
        training: what the first recipe says of scores' directions.
    """
    found = []
    for score in summaries(first):
        seeds = tuple(
            seed for seed in first.scores if score in first.scores[seed] and score in second.scores.get(seed, {})
        )
        if not seeds:
            continue
        ours, theirs = ([side.scores[seed][score] for seed in seeds] for side in (first, second))
        found.append(
            Compared(
                score,
                (first.name, second.name),
                seeds,
                statistics.summarize(ours),
                statistics.summarize(theirs),
                statistics.paired(ours, theirs),
                direction(score, training),
            )
        )
    return found


@dataclass(frozen=True)
class ComparedPredictions:
    """McNemar's test on the validation rows of two recipes.

    Attributes:
        by_seed: of each seed that both have.
        over_seeds: of all, each row counted once; None where it cannot be.
        sentence: what this says of the recipes, or why there is no test.
    """

    by_seed: Mapping[int, McNemar]
    over_seeds: McNemar | None
    sentence: str


def compare_predictions(first: Side, second: Side) -> ComparedPredictions:
    """McNemar's test for each seed, and over all of them; see `statistics.over_seeds`."""
    seeds = [seed for seed in first.predictions if seed in second.predictions]
    ours, theirs = ([side.predictions[seed] for seed in seeds] for side in (first, second))
    if not seeds:
        return ComparedPredictions(
            {},
            None,
            "predictions: no McNemar's test, which is of validation rows that are right or wrong; numbers are neither",
        )
    for one, other in zip(ours, theirs, strict=True):
        if one.fingerprint != other.fingerprint:
            return ComparedPredictions(
                {},
                None,
                f"predictions: no McNemar's test, since the recipes validate on different rows ({len(one.right):,} and "
                f"{len(other.right):,} {one.unit}), which the scores above do too",
            )
    by_seed = {
        seed: statistics.over_seeds(one.right[None], other.right[None])
        for seed, one, other in zip(seeds, ours, theirs, strict=True)
    }
    if len({one.fingerprint for one in ours}) > 1:
        values = [one.p_value for one in by_seed.values()]
        return ComparedPredictions(
            by_seed,
            None,
            "predictions: every seed validates on rows of its own, so McNemar's exact test is of each seed alone: p "
            f"from {min(values):.2g} to {max(values):.2g}",
        )
    first_right, second_right = (np.stack([one.right for one in side]) for side in (ours, theirs))
    over = statistics.over_seeds(first_right, second_right)
    rows = f"{len(ours[0].right):,} validation {ours[0].unit}"
    return ComparedPredictions(by_seed, over, _of_predictions(first.name, second.name, over, rows, len(seeds)))


def _of_predictions(first: str, second: str, found: McNemar, rows: str, seeds: int) -> str:
    counted = f"{first} alone has {found.only_first:,} right and {second} alone {found.only_second:,}"
    if seeds > 1:
        counted = (
            f"{first} has {found.only_first:,} right with more seeds than {second}, {found.only_second:,} with fewer"
        )
    verdict = "cannot be told from the noise of rows"
    if found.is_told:
        better = first if found.only_first > found.only_second else second
        verdict = f"{better} is better, by more than the noise of rows explains"
    return f"predictions: of {rows}, {counted} (McNemar's exact test, p = {found.p_value:.2g}): {verdict}"


# --- All of it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdicts:
    """All that is said of one recipe, or of two.

    Attributes:
        of_each: recipe to score to what is known of it.
        compared: the scores that two recipes share.
        predictions: of two recipes; None of one, and where there is no seed that both have.
        sentences: one a score, one on the predictions, and a caution where there are few seeds.
    """

    of_each: Mapping[str, Mapping[str, Summary]]
    compared: Sequence[Compared]
    predictions: ComparedPredictions | None
    sentences: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        scores = {
            name: {score: dataclasses.asdict(one) for score, one in of_one.items()}
            for name, of_one in self.of_each.items()
        }
        if self.predictions is None:
            return {"scores": scores, "sentences": [*self.sentences]}
        differences = {
            one.score: {
                "seeds": [*one.seeds],
                **dataclasses.asdict(one.difference),
                "is_told": one.difference.is_told,
                "better": one.better,
            }
            for one in self.compared
        }
        return {
            "scores": scores,
            "differences": differences,
            "mcnemar": dataclasses.asdict(self.predictions),
            "sentences": [*self.sentences],
        }

    def show(self, voice: Voice) -> None:
        """The tables and the sentences."""
        rows = [
            [shown(score), name, str(len(of_one[score].values)), *_cells(of_one[score])]
            for score in dict.fromkeys(score for of_one in self.of_each.values() for score in of_one)
            for name, of_one in self.of_each.items()
            if score in of_one
        ]
        voice.table(
            "Scores over seeds, with the bootstrap interval of their mean",
            ["score", "recipe", "seeds", "mean", "standard deviation", "95 % interval"],
            rows,
        )
        if self.predictions is not None and self.predictions.by_seed:
            first, second = self.of_each
            tests = {str(seed): one for seed, one in self.predictions.by_seed.items()}
            if self.predictions.over_seeds is not None:
                tests["all"] = self.predictions.over_seeds
            voice.table(
                "Validation rows that one recipe has right and the other has not (all: right with more seeds)",
                ["seed", first, second, "McNemar's p"],
                [
                    [name, f"{one.only_first:,}", f"{one.only_second:,}", f"{one.p_value:.2g}"]
                    for name, one in tests.items()
                ],
            )
        for sentence in self.sentences:
            voice.say(sentence)


def judge(sides: Sequence[Side], training: TrainingSection) -> Verdicts:
    """All that can be said of one or two recipes, each with at least one finished run.

    Args:
        training: what the first recipe says of scores' directions.
    """
    of_each = {side.name: summaries(side) for side in sides}
    if len(sides) == 1:
        sentences = [alone(score, one) for score, one in of_each[sides[0].name].items()]
        return Verdicts(of_each, (), None, [*sentences, *_caution(len(sides[0].scores))])
    first, second = sides
    seeds = len(first.scores.keys() & second.scores.keys())
    if not seeds:
        return Verdicts(of_each, (), None, ["no seed came to its end with both recipes, so they are not compared"])
    compared, predictions = compare(first, second, training), compare_predictions(first, second)
    sentences = [*(one.sentence for one in compared), predictions.sentence]
    return Verdicts(of_each, compared, predictions, [*sentences, *_caution(seeds)])


def _caution(seeds: int) -> list[str]:
    if seeds >= FEW:
        return []
    if seeds == 1:
        return [f"1 seed says nothing of the others; --seeds {FEW} says more"]
    return [
        f"{seeds} seeds say little: the intervals of the means are too short, and only large differences can be told "
        f"from noise; --seeds {FEW} says more"
    ]


def _spread(found: Summary) -> str:
    if found.standard_deviation is None:
        return f"{found.mean:.4f}"
    return f"{found.mean:.4f} ± {found.standard_deviation:.4f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _cells(found: Summary) -> list[str]:
    deviation = "" if found.standard_deviation is None else f"{found.standard_deviation:.4f}"
    return [f"{found.mean:.4f}", deviation, _interval(found.interval)]
