"""When a peer's training steps ended, by the same rule as `tfft.callbacks.StepClock`."""

from __future__ import annotations

import time

WARM_UP = 5


class StepClock:
    """Counts the seconds of all steps but the first few of the training and the first of every epoch."""

    def __init__(self) -> None:
        self.first_step_at: float | None = None
        self.ended, self.steady_steps, self.steady_seconds = 0, 0, 0.0
        self.previous: float | None = None

    def epoch_begins(self) -> None:
        """What lies before the next step's end is not that step alone."""
        self.previous = None

    def step_ends(self) -> None:
        """Reads the time."""
        now = time.time()
        if self.first_step_at is None:
            self.first_step_at = now
        self.ended += 1
        if self.previous is not None and self.ended > WARM_UP:
            self.steady_steps += 1
            self.steady_seconds += now - self.previous
        self.previous = now

    def report(self, started: float, batch_size: int) -> dict[str, float]:
        """The figures that the bench reads."""
        assert self.first_step_at is not None and self.steady_steps, "too few steps to say anything"
        return {
            "first_step_seconds": self.first_step_at - started,
            "steady_samples_per_second": self.steady_steps * batch_size / self.steady_seconds,
        }
