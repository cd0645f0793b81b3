"""The scores of the validation split, among the logs of epochs and, where it is asked for, every few steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfft.backend import keras
from tfft.callbacks.learning_rate_log import current_rate
from tfft.models import averages


class ValidationScores(keras.callbacks.Callback):
    """Computes scores after every epoch and, if wanted, every few optimizer steps, for the logs as `val_NAME`.

    It goes before the callbacks that read them (EarlyStopping, Checkpoints, TensorBoard). Keras's own metrics see one
    batch at a time, and the F1 of a split is not the mean of its batches' F1.

    Where the optimizer keeps averages of the weights (`WeightAverages`, `ema_momentum`), those are scored.

    Args:
        score: computes the scores of the model as it stands. It may be Keras's `evaluate(…, return_dict=True)`.
        eval_steps: optimizer steps between two evaluations within an epoch; None evaluates at the ends of epochs alone.
            Where Keras runs several batches in one call, an evaluation waits for the call's end.
        followers: callbacks for which every evaluation is what the end of an epoch is to others: Keras's EarlyStopping,
            ReduceLROnPlateau and ModelCheckpoint, and `Checkpoints`. They are given here and not to `fit`. Patience
            counts evaluations then, and their `epoch` is the evaluation's number.
        told: called with the optimizer step and the logs after each evaluation within an epoch.

    Attributes:
        evaluations: with `eval_steps`, a dict for each of all `fit`s so far: `epoch`, counted from 1, `step`,
            `learning_rate`, and the logs, whose loss is the mean of the epoch until then.

    Raises:
        ValueError: eval_steps is below 1.

    Example:
        >>> rows, numbers = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[2.0], [4.0], [6.0], [8.0]])
        >>> model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
        >>> model.compile(keras.optimizers.Adam(0.1), "mse")
        >>> def score() -> dict[str, float]:
        ...     return {"error": np.abs(model(rows) - numbers).max()}
        >>> stop = keras.callbacks.EarlyStopping("val_error", mode="min", patience=5)
        >>> scores = ValidationScores(score, eval_steps=3, followers=[stop])
        >>> history = model.fit(rows, numbers, batch_size=1, epochs=2, verbose=0, callbacks=[scores])
        >>> [(one["epoch"], one["step"]) for one in scores.evaluations]  # the last of each epoch is at its end
        [(1, 3), (1, 4), (2, 6), (2, 8)]
        >>> history.history["val_error"] == [scores.evaluations[1]["val_error"], scores.evaluations[3]["val_error"]]
        True
    """

    def __init__(
        self,
        score: Callable[[], Mapping[str, float]],
        eval_steps: int | None = None,
        followers: Sequence[keras.callbacks.Callback] = (),
        told: Sequence[Callable[[int, Mapping[str, float]], None]] = (),
    ) -> None:
        super().__init__()
        if eval_steps is not None and eval_steps < 1:
            raise ValueError(f"eval_steps is {eval_steps}; expected at least 1, or None for the ends of epochs alone")
        self.score, self.eval_steps, self.followers, self.told = score, eval_steps, list(followers), list(told)
        self.evaluations: list[dict[str, Any]] = []
        self._epoch, self._steps_before = 0, 0
        # The step that was scored last, and how: an epoch may end with it.
        self._scored_at: int | None = None
        self._scores: dict[str, float] = {}

    # --- When ---------------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Nothing is known of this training yet."""
        self._scored_at = None
        for one in self.followers:
            one.set_params(self.params)
            one.set_model(self.model)
            one.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch, and the step that it begins with."""
        self._epoch = epoch
        if self.eval_steps:
            # Not earlier: a training that goes on has been given its steps by now.
            self._steps_before = self._steps()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates where it is time."""
        if not self.eval_steps:
            return
        before, self._steps_before = self._steps_before, self._steps()
        is_due = self._steps_before // self.eval_steps > before // self.eval_steps
        # With the epoch's last batch comes its end.
        if not is_due or batch + 1 == self.params.get("steps"):
            return
        with _unchanged(self.model):
            scores = self._evaluate()
        logs = {name: float(value) for name, value in (logs or {}).items()} | scores
        self._note(logs)
        for one in self.followers:
            one.on_epoch_end(len(self.evaluations) - 1, logs)
        for tell in self.told:
            tell(self._steps_before, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates, unless that was done after the same step, and adds."""
        logs = {} if logs is None else logs
        if self.eval_steps and self._scored_at == self._steps():
            logs.update(self._scores)
            self.evaluations.pop()
            self._note(logs)
            return
        logs.update(self._evaluate())
        if self.eval_steps:
            self._note(logs)
        for one in self.followers:
            one.on_epoch_end(len(self.evaluations) - 1 if self.eval_steps else epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Tells those that follow."""
        for one in self.followers:
            one.on_train_end(logs)

    # --- What ---------------------------------------------------------------------------------------------------------

    def _steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def _evaluate(self) -> dict[str, float]:
        with averages.averaged(self.model):
            scores = {f"val_{name}": value for name, value in self.score().items()}
        if self.eval_steps:
            self._scored_at, self._scores = self._steps(), scores
        return scores

    def _note(self, logs: Mapping[str, float]) -> None:
        """The evaluation that was made last, with all that is known beside it."""
        about = {"epoch": self._epoch + 1, "step": self._scored_at, "learning_rate": current_rate(self.model.optimizer)}
        self.evaluations.append(about | {name: float(value) for name, value in logs.items()})

    def get_state(self) -> dict[str, Any]:
        """What `ExactCheckpoint` saves; it is to be given the followers as well."""
        scores = {name: float(value) for name, value in self._scores.items()}
        return {"evaluations": self.evaluations, "scored_at": self._scored_at, "scores": scores}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """As `get_state` gave it."""
        self.evaluations = list(state["evaluations"])
        self._scored_at, self._scores = state["scored_at"], dict(state["scores"])


@contextlib.contextmanager
def _unchanged(model: keras.Model) -> Iterator[None]:
    """The epoch's metrics so far are the same after the body, in which `evaluate` may set them to nothing."""
    kept = [(variable, variable.numpy()) for metric in model.metrics for variable in metric.variables]
    yield
    for variable, value in kept:
        if not np.array_equal(variable.numpy(), value, equal_nan=True):
            variable.assign(value)
