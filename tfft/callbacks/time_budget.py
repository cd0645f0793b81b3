"""An end after a given time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tfft.backend import keras


class TimeBudget(keras.callbacks.Callback):
    """Ends training once it has taken so many hours; the epoch that is cut short is still scored and reported.

    Args:
        max_hours: of training, validation included.
        seconds: what training has taken so far; None counts from the beginning of `fit`.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit([[1.0]] * 8, [[2.0]] * 8, 1, epochs=100, verbose=0, callbacks=[TimeBudget(1e-9)])
        >>> history.epoch
        [0]
    """

    def __init__(self, max_hours: float, seconds: Callable[[], float] | None = None) -> None:
        super().__init__()
        if not max_hours > 0:
            raise ValueError(f"max_hours is {max_hours}; expected more than 0")
        self.max_hours, self._seconds, self._began = max_hours, seconds, 0.0

    @property
    def is_spent(self) -> bool:
        """Whether the time is over."""
        seconds = time.perf_counter() - self._began if self._seconds is None else self._seconds()
        return seconds >= self.max_hours * 3600

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to count."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the clock."""
        if self.is_spent:
            self.model.stop_training = True
