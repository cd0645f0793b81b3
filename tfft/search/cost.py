"""What a sweep took, and what it was spared by stopping trials early and by going on from checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tfft.search.facts import Sweep, Trial

# The recipe's key that says how long a trial may train, where a sweep tries several lengths.
_EPOCHS = "num_train_epochs"


@dataclass(frozen=True)
class Cost:
    """Sums over all trials; None for what none of them says.

    Attributes:
        by_status: status to number of trials.
        epochs, rows: trained.
        seconds: of all trials together; `sweep_seconds` by the clock on the wall.
        trial_seconds: of a trial: least, mean, most.
        peak_rss_mb: the most of all processes.
        epochs_not_repeated: that trials did not train again because they went on from another's checkpoint.
        epochs_not_trained: by which trials that were stopped early, or not taken to Hyperband's next round, fall short
            of a whole training.
    """

    by_status: Mapping[str, int]
    epochs: float | None
    rows: float | None
    seconds: float | None
    sweep_seconds: float | None
    trial_seconds: tuple[float, float, float] | None
    peak_rss_mb: float | None
    epochs_not_repeated: float
    epochs_not_trained: float


def cost_of(sweep: Sweep) -> Cost:
    """Of a sweep. A whole training is as long as the trial's own number of epochs, where that is one of the parameters,
    and else as the longest completed trial with all that it went on from."""
    trials = sweep.trials
    seconds = [one.seconds for one in trials if one.seconds is not None]
    peaks = [run.peak_rss_mb for one in trials for run in one.executions if run.peak_rss_mb is not None]
    statuses = [one.status for one in trials]
    total = _epochs_behind(sweep)
    goes_on = {one.continues for one in trials}
    longest = max((total[one.number] for one in trials if one.status == "completed"), default=0.0)
    ended = [one for one in trials if one.number not in goes_on and (one.status == "pruned" or _is_halved(one))]
    return Cost(
        by_status={name: statuses.count(name) for name in dict.fromkeys(statuses)},
        epochs=_sum(one.epochs for one in trials),
        rows=_sum(one.rows for one in trials),
        seconds=sum(seconds) if seconds else None,
        sweep_seconds=sweep.seconds,
        trial_seconds=(min(seconds), sum(seconds) / len(seconds), max(seconds)) if seconds else None,
        peak_rss_mb=max(peaks, default=None),
        epochs_not_repeated=sum(total.get(one.continues, 0.0) for one in trials if one.continues is not None),
        epochs_not_trained=sum(max(0.0, _wanted(one, longest) - total[one.number]) for one in ended),
    )


def _is_halved(trial: Trial) -> bool:
    return trial.status == "completed" and trial.bracket is not None


def _epochs_behind(sweep: Sweep) -> dict[int, float]:
    """A trial's number to the epochs that its weights have seen, those of the trials that it went on from included."""
    total: dict[int, float] = {}
    for one in sweep.trials:  # a trial goes on from one with a lower number
        total[one.number] = (one.epochs or 0.0) + (total.get(one.continues, 0.0) if one.continues is not None else 0.0)
    return total


def _wanted(trial: Trial, longest: float) -> float:
    own = [value for key, value in trial.values.items() if key.rpartition(".")[2] == _EPOCHS]
    return float(own[0]) if own else longest


def _sum(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) if known else None
