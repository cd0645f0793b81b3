"""What a sweep says of itself in `sweep.json`, as typed values. Whatever is missing there is empty here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfft.pages.numbers import number


@dataclass(frozen=True)
class Execution:
    """One training of a trial.

    Attributes:
        seed, folder: None and "" where they were not said.
        scores: score name to value, those that are numbers.
        curve: a row an epoch, `epoch` and whatever else is a number.
        peak_rss_mb: of its process.
    """

    seed: int | None
    folder: str
    scores: Mapping[str, float]
    curve: tuple[Mapping[str, float], ...]
    peak_rss_mb: float | None


@dataclass(frozen=True)
class Trial:
    """Values of the parameters that were tried, and what came of them.

    Attributes:
        number: its name.
        status: `completed`, `pruned`, `failed` or `running`.
        values: parameter to value; a conditional parameter that is not active is absent.
        score, spread: mean and standard deviation over the executions.
        seconds: of all executions.
        epochs, rows: trained by this trial itself, not by the one that it continues.
        reason: of a failure; any text.
        command: that trains it again.
        continues: the trial whose checkpoint it went on from.
        bracket, round: of Hyperband.
    """

    number: int
    status: str
    values: Mapping[str, Any]
    score: float | None = None
    spread: float | None = None
    seconds: float | None = None
    epochs: float | None = None
    rows: float | None = None
    reason: str = ""
    command: str = ""
    continues: int | None = None
    bracket: int | None = None
    round: int | None = None
    executions: tuple[Execution, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """A whole search; see `read`. `trials` are in the order of their numbers."""

    name: str
    command: str
    algorithm: str
    objective: str
    direction: str
    seed: int | None
    executions_per_trial: int
    max_trials: int | None
    parameters: Mapping[str, Mapping[str, Any]]
    trials: tuple[Trial, ...]
    best: Trial | None
    best_yaml: str
    seconds: float | None
    started: str
    environment: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def scored(self) -> list[Trial]:
        """The completed trials that have a score."""
        return [one for one in self.trials if one.status == "completed" and one.score is not None]

    def ranked(self) -> list[Trial]:
        """The best first: completed trials by score, then other ones that have a score, then the rest by number."""
        sign = -1.0 if self.direction == "max" else 1.0

        def rank(trial: Trial) -> tuple[bool, bool, float, bool, int]:
            score = 0.0 if trial.score is None else sign * trial.score
            return trial.score is None, trial.status != "completed", score, trial is not self.best, trial.number

        return sorted(self.trials, key=rank)


def read(facts: Mapping[str, Any]) -> Sweep:
    """The sweep of `sweep.json`.

    A parameter that trials have values of but that was not declared has no bounds. Scores, times and
    other figures that are not finite numbers are taken as absent. The best trial is the one that is named, else the
    completed one with the best score.
    """
    trials = tuple(sorted((_trial(one) for one in facts.get("trials") or ()), key=lambda trial: trial.number))
    declared = {str(name): dict(one or {}) for name, one in (facts.get("parameters") or {}).items()}
    tried: dict[str, dict[str, Any]] = {name: {} for one in trials for name in one.values}
    direction = "min" if facts.get("direction") == "min" else "max"
    return Sweep(
        name=str(facts.get("name") or "sweep"),
        command=str(facts.get("command") or ""),
        algorithm=str(facts.get("algorithm") or ""),
        objective=str(facts.get("objective") or "score"),
        direction=direction,
        seed=_whole(facts.get("seed")),
        executions_per_trial=_whole(facts.get("executions_per_trial")) or 1,
        max_trials=_whole(facts.get("max_trials")),
        parameters={**tried, **declared},
        trials=trials,
        best=_best(trials, facts.get("best"), direction),
        best_yaml=str(facts.get("best_yaml") or ""),
        seconds=number(facts.get("seconds")),
        started=str(facts.get("started") or ""),
        environment=dict(facts.get("environment") or {}),
        warnings=tuple(str(one) for one in facts.get("warnings") or ()),
    )


def _best(trials: Iterable[Trial], named: Any, direction: str) -> Trial | None:
    better = max if direction == "max" else min
    scored = [one for one in trials if one.status == "completed" and one.score is not None]
    by_score = better(scored, key=lambda one: one.score or 0.0, default=None)
    return next((one for one in trials if one.number == named), by_score)


def _trial(raw: Mapping[str, Any]) -> Trial:
    return Trial(
        number=int(raw["number"]),
        status=str(raw.get("status") or "running"),
        values=dict(raw.get("values") or {}),
        score=number(raw.get("score")),
        spread=number(raw.get("spread")),
        seconds=number(raw.get("seconds")),
        epochs=number(raw.get("epochs")),
        rows=number(raw.get("rows")),
        reason=str(raw.get("reason") or ""),
        command=str(raw.get("command") or ""),
        continues=_whole(raw.get("continues")),
        bracket=_whole(raw.get("bracket")),
        round=_whole(raw.get("round")),
        executions=tuple(_execution(one) for one in raw.get("executions") or ()),
    )


def _execution(raw: Mapping[str, Any]) -> Execution:
    return Execution(
        seed=_whole(raw.get("seed")),
        folder=str(raw.get("folder") or ""),
        scores=_numbers(raw.get("scores") or {}),
        curve=tuple(_numbers(one) for one in raw.get("curve") or ()),
        peak_rss_mb=number(raw.get("peak_rss_mb")),
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): found for name, one in values.items() if (found := number(one)) is not None}


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Every key with its last part, where no other key ends with the same.

    Example:
        >>> short_names(["training.learning_rate", "data.seed", "model.seed"])
        {'training.learning_rate': 'learning_rate', 'data.seed': 'data.seed', 'model.seed': 'model.seed'}
    """
    keys = list(keys)
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}
