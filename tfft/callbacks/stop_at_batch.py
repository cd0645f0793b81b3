"""An end in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfft.backend import keras
from tfft.callbacks.executions import Executions


class StopAtBatch(keras.callbacks.Callback):
    """Ends training after `total_batches` batches; the epoch's end is still reported.

    Attributes:
        batches: the batches done.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> stop = StopAtBatch(5)
        >>> history = model.fit([[1.0]] * 3, [[2.0]] * 3, 1, epochs=9, verbose=0, callbacks=[stop])
        >>> history.epoch, stop.batches
        ([0, 1], 5)
    """

    def __init__(self, total_batches: int) -> None:
        super().__init__()
        self.total_batches, self.batches = total_batches, 0
        self._executions = Executions()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers which batch an execution begins with."""
        self._executions.begun(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and stops at the last one."""
        self.batches += self._executions.ended(batch)
        if self.batches >= self.total_batches:
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """What `ExactCheckpoint` saves."""
        return {"batches": self.batches}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """As `get_state` gave it."""
        self.batches = state["batches"]
