"""When training steps end."""

from __future__ import annotations

import time
from typing import Any

from tfft.backend import keras
from tfft.callbacks.executions import Executions

WARM_UP = 5


class StepClock(keras.callbacks.Callback):
    """Counts the seconds of all batches but the first few of a training and the first of every epoch.

    Those are traced, or wait for what an epoch begins with; the others are what a long training consists of.

    Attributes:
        first_step_at: `time.perf_counter()` at the end of the first batch that Keras told of; None before it.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> clock = StepClock()
        >>> history = model.fit([[1.0]] * 9, [[2.0]] * 9, 1, verbose=0, callbacks=[clock])
        >>> 0 < clock.steady_batch_seconds < 1
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.first_step_at: float | None = None
        self._ended, self._steady, self._seconds = 0, 0, 0.0
        self._executions = Executions()
        self._previous: float | None = None

    @property
    def steady_batch_seconds(self) -> float | None:
        """Mean seconds of a batch; None where there were too few."""
        return self._seconds / self._steady if self._steady else None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """What lies before the next batch's end is not that batch alone."""
        self.interrupted()

    def interrupted(self) -> None:
        """The same within an epoch, after an evaluation."""
        self._previous = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers which batch an execution begins with."""
        self._executions.begun(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the time."""
        now = time.perf_counter()
        if self.first_step_at is None:
            self.first_step_at = now
        ended = self._executions.ended(batch)
        self._ended += ended
        if self._previous is not None and self._ended > WARM_UP:
            self._steady += ended
            self._seconds += now - self._previous
        self._previous = now
