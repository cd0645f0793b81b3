"""An end in the middle of an epoch."""

from __future__ import annotations

from typing import Any

from tfft.backend import keras


class StopAtStep(keras.callbacks.Callback):
    """Ends training after `total_steps` optimizer steps; the epoch's end is still reported.

    Attributes:
        steps: the steps done.
    """

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.total_steps, self.steps = total_steps, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and stops at the last one."""
        self.steps += 1
        if self.steps >= self.total_steps:
            self.model.stop_training = True
