"""Keras Tuner's oracles: which values the next trial has.

Keras Tuner saves an oracle in files that a kill may leave half written, and forgets the random state of some. So here
an oracle is made again from its seed and a log of all that it was asked and told, in that order.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from tfft.console import quiet_stderr
from tfft.errors import RunError
from tfft.recipe import ParameterSection, SweepSection, sweep_checks
from tfft.search import space
from tfft.search.events import Events
from tfft.search.trials import number_of

# It loads Keras 3 and TensorFlow, whose first lines nobody wants to see.
with quiet_stderr():
    import keras_tuner
    from keras_tuner.engine.trial import Trial, TrialStatus

__all__ = ["Recorded", "Trial", "TrialStatus", "make"]

# Of Keras Tuner, which knows 3 consecutive failures as the end of a search: no failure is the end of a sweep.
_NEVER = 2**31
# Its seed 0 means any.
_SEED_FOR_0 = 2**31


def make(sweep: SweepSection, objective: str, direction: str, seed: int, epochs: float) -> Any:
    """The oracle that a recipe's sweep asks for.

    Args:
        objective, direction: the score, and whether `max` or `min` is better.
        seed: of its choices.
        epochs: of the longest trials, for Hyperband.
    """
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(objective, direction),
        "hyperparameters": space.hyperparameters(sweep.parameters),
        "allow_new_entries": False,
        "seed": seed or _SEED_FOR_0,
        "max_retries_per_trial": 0,
        "max_consecutive_failed_trials": _NEVER,
    }
    if sweep.algorithm == "hyperband":
        return keras_tuner.oracles.HyperbandOracle(
            **common,
            max_epochs=int(epochs),
            factor=sweep.factor or sweep_checks.USUAL_FACTOR,
            hyperband_iterations=sweep.iterations or 1,
        )
    # The number of trials is `Recorded`'s to see to: Keras Tuner names trials by it, and a later number renames them.
    common["max_trials"] = None
    if sweep.algorithm == "grid":
        return keras_tuner.oracles.GridSearchOracle(**common)
    if sweep.algorithm == "bayesian":
        # Keras Tuner's own three for each parameter would often be all trials that there are.
        first = max(3, len(sweep.parameters) + 2)
        return _Bayesian(**common, num_initial_points=first)
    return keras_tuner.oracles.RandomSearchOracle(**common)


class _Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):
    """Keras Tuner's, whose choice hangs on the trials alone and not on what this process has chosen before.

    So what is known from a log need not be computed again, which takes seconds a trial.

    Attributes:
        known: the values that the next trial had, where they are known.
    """

    known: Mapping[str, Any] | None = None
    trials: dict[str, Any]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next trial's values: random ones at first, then by a Gaussian process."""
        everything = self.trials
        completed = {name: one for name, one in everything.items() if one.status == TrialStatus.COMPLETED}
        if len(completed) >= self.num_initial_points:
            if self.known is not None:
                return {"status": TrialStatus.RUNNING, "values": dict(self.known)}
            self._random_state = np.random.RandomState([self.seed, len(everything)])
            # By it Keras Tuner guesses the scores of trials that run; its own would be of the choice before.
            self.trials = completed
            scored = self._vectorize_trials()
            self.trials = everything
            with _quiet():
                self.gpr.fit(*scored)
        with _quiet():
            found: dict[str, Any] = super().populate_space(trial_id)
        return found


class Recorded:
    """An oracle whose every answer that changes it is logged, and which is made again from the log.

    It has the methods of an oracle that Keras Tuner's chief serves to workers on other machines.

    Args:
        oracle: fresh from `make`.
        events: the log, perhaps of an earlier process.
        parameters: the recipe's.
        max_trials: after which no other is begun; None is as many as the oracle wants.
        is_over: whether no further trial is to begin.

    Attributes:
        is_exhausted: whether the oracle itself has no more.

    Raises:
        RunError: the log is of another search.
    """

    def __init__(
        self,
        oracle: Any,
        events: Events,
        parameters: Mapping[str, ParameterSection],
        max_trials: int | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.oracle, self._events, self._parameters = oracle, events, parameters
        self._max_trials, self._is_over, self.is_exhausted = max_trials, is_over, False
        self._lock = threading.RLock()
        # Where the oracle has nothing to do, it is not asked again before something has changed.
        self._is_idle = False
        # Keras Tuner would write files of its own, which nobody reads here.
        oracle.save, oracle._save_trial = (lambda *_: None), (lambda *_: None)
        oracle.verbose = 0
        for event in events.read():
            self._replay(event)

    def _replay(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "asked":
            self.oracle.known = event["values"]
            trial = self._asked(event["tuner"])
            self.oracle.known = None
            values = dict(trial.hyperparameters.values) if trial.status == TrialStatus.RUNNING else None
            if trial.status != event["status"] or values != event["values"]:
                raise RunError(
                    f"{self._events.path}: trial {event['trial']} had {event['values']}, and the same search gives "
                    f"{values} now; Keras Tuner or scikit-learn may be another version: give --overwrite, or another "
                    "output_dir"
                )
        elif event["event"] == "ended":
            ended = next(one for one in self.oracle.trials.values() if number_of(one.trial_id) == event["trial"])
            self._ended(ended, event["status"], event["score"])

    @property
    def running(self) -> list[Trial]:
        """Trials that have begun and not ended."""
        return list(self.by_worker.values())

    @property
    def by_worker(self) -> dict[str, Trial]:
        """The same, each by what the worker is called that has it."""
        return dict(self.oracle.ongoing_trials)

    @property
    def is_over(self) -> bool:
        """Whether no other trial will begin, for all that is known without asking for one."""
        are_enough = self._max_trials is not None and len(self.oracle.trials) >= self._max_trials
        return self.is_exhausted or are_enough or self._is_over()

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial for this worker, or one that says that there is none now (IDLE) or any more (STOPPED)."""
        with self._lock:
            ongoing = self.oracle.ongoing_trials.get(tuner_id)
            if ongoing is not None:
                return ongoing
            if self.is_over:
                return Trial(self.oracle.get_space(), status=TrialStatus.STOPPED)
            if self._is_idle:
                return Trial(self.oracle.get_space(), status=TrialStatus.IDLE)
            trial = self._asked(tuner_id)
            # It may have drawn numbers to find that out, so it is not asked again.
            self.is_exhausted = trial.status == TrialStatus.STOPPED
            if not self.is_exhausted:
                is_running = trial.status == TrialStatus.RUNNING
                self._events.append(
                    {
                        "event": "asked",
                        "tuner": tuner_id,
                        "status": trial.status,
                        "trial": number_of(trial.trial_id),
                        "values": dict(trial.hyperparameters.values) if is_running else None,
                    }
                )
            return trial

    def _asked(self, tuner_id: str) -> Trial:
        with _quiet():
            trial = self.oracle.create_trial(tuner_id)
        self._is_idle = trial.status == TrialStatus.IDLE
        if trial.status == TrialStatus.RUNNING:
            trial.hyperparameters.values = space.rounded(self._parameters, trial.hyperparameters.values)
        return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Takes a trial's score; it counts when the trial ends."""
        with self._lock, _quiet():
            return self.oracle.update_trial(trial_id, metrics, step=step)

    def end_trial(self, trial: Trial) -> None:
        """Ends a trial: COMPLETED, with the score that `update_trial` was given, or FAILED."""
        with self._lock:
            own = self.oracle.trials[trial.trial_id]
            if own.status != TrialStatus.RUNNING:
                return
            name = self.oracle.objective.name
            has_score = trial.status == TrialStatus.COMPLETED
            score = own.metrics.get_best_value(name) if has_score else None
            self._events.append(
                {
                    "event": "ended",
                    "trial": number_of(own.trial_id),
                    "status": trial.status,
                    "score": score,
                }
            )
            self._ended(own, trial.status, None)

    def _ended(self, own: Trial, status: str, score: float | None) -> None:
        """Args:
        score: what `update_trial` was not yet given.
        """
        if status == TrialStatus.FAILED and isinstance(self.oracle, keras_tuner.oracles.HyperbandOracle):
            # Its rungs wait for as many trials as they began with, and know no failures: those are the worst.
            status, score = TrialStatus.COMPLETED, math.inf if self.oracle.objective.direction == "min" else -math.inf
        if score is not None:
            self.update_trial(own.trial_id, {self.oracle.objective.name: score})
        ended = Trial(own.hyperparameters, trial_id=own.trial_id, status=status)
        with _quiet():
            self.oracle.end_trial(ended)
        self._is_idle = False

    def get_trial(self, trial_id: str) -> Trial:
        """A trial that has begun."""
        return self.oracle.trials[trial_id]

    def get_space(self) -> keras_tuner.HyperParameters:
        """What is searched."""
        return self.oracle.get_space()

    def update_space(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        """What is searched does not change."""

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best ones, the best first."""
        return self.oracle.get_best_trials(num_trials)


class _quiet(warnings.catch_warnings):
    """Keras Tuner uses names of Python that are going away, and its Gaussian process complains of few trials."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return entered
