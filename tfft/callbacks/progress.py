"""How training is going, for a person: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from tfft.backend import keras
from tfft.callbacks.executions import Executions
from tfft.callbacks.learning_rate_log import current_rate
from tfft.console import Voice
from tfft.optimizers import steps_of_batches

# Lines an epoch where no bar can be drawn, and seconds between two redrawn texts of a bar.
LINES_AN_EPOCH = 4
REDRAW_SECONDS = 0.25


class Progress(keras.callbacks.Callback):
    """Shows step, loss, learning rate, samples a second and the time left; after every epoch its scores.

    It goes last, so that the epoch's logs are complete.

    Args:
        voice: where to speak.
        total_batches: of the whole training.
        batches_per_epoch: the partial one included.
        batch_size: training rows of a batch.
        accumulated: batches of an optimizer step.
        first_epoch: epochs done before.
        batches_done: of these batches, by a training that this one goes on from.
        replicas: that a batch is spread over, whose losses Keras adds up until the epoch's end.

    Example:
        >>> from tfft.console import Voice
        >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile(keras.optimizers.SGD(0.0), "mse")
        >>> shows = Progress(Voice(), total_batches=1, batches_per_epoch=1, batch_size=1)
        >>> history = model.fit([[1.0]], [[2.0]], verbose=0, callbacks=[shows])
        epoch 1 of 1: loss 4.0000
    """

    def __init__(
        self,
        voice: Voice,
        total_batches: int,
        batches_per_epoch: int,
        batch_size: int,
        accumulated: int = 1,
        first_epoch: int = 0,
        batches_done: int = 0,
        replicas: int = 1,
    ) -> None:
        super().__init__()
        self.replicas = replicas
        self.voice, self.total_batches, self.batch_size = voice, total_batches, batch_size
        self.batches_per_epoch, self.accumulated = batches_per_epoch, accumulated
        self.epochs = first_epoch + -(-total_batches // batches_per_epoch)
        self._every = max(1, batches_per_epoch // LINES_AN_EPOCH)
        # Of the batches, `_timed_from` were done when time began to be counted.
        self._batches, self._timed_from = batches_done, 0
        self._seconds, self._began, self._drawn = 0.0, 0.0, 0.0
        self._executions = Executions()
        self._open = contextlib.ExitStack()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Draws the bar."""
        self._bar = self._open.enter_context(self.voice.bar())
        self._task = self._bar.add_task(
            "training", total=self._steps(self.total_batches), detail="first step: building the graph"
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins to count the epoch's time."""
        self._began = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers which batch an execution begins with."""
        self._executions.begun(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar, or says a line every quarter of an epoch."""
        ended = self._executions.ended(batch)
        self._batches += ended
        now = time.perf_counter()
        # The first step builds the graph, which says nothing of the others; validation lies between the epochs.
        if self._timed_from:
            self._seconds += now - self._began
        else:
            self._timed_from = self._batches
        self._began = now
        if self.voice.is_terminal:
            self._bar.update(self._task, completed=self._steps(self._batches))
            if now - self._drawn > REDRAW_SECONDS:
                self._drawn = now
                self._bar.update(self._task, detail=self._detail(logs))
        elif (batch + 1) // self._every > (batch + 1 - ended) // self._every and batch + 1 < self.batches_per_epoch:
            left = (self.total_batches - self._batches) * self._seconds / max(self._batches - self._timed_from, 1)
            done = f"step {self._steps(self._batches):,} of {self._steps(self.total_batches):,}"
            self.voice.say(f"{done}: {self._detail(logs)}, {left:,.0f} s left")

    def leave_out(self, seconds: float) -> None:
        """So many of the seconds since the last batch were none of training, but of an evaluation."""
        self._began += seconds

    def _steps(self, batches: int) -> int:
        return steps_of_batches(batches, self.batches_per_epoch, self.accumulated)

    def _detail(self, logs: dict[str, Any] | None) -> str:
        loss = (logs or {}).get("loss", float("nan")) / self.replicas
        speed = (self._batches - self._timed_from) * self.batch_size / max(self._seconds, 1e-9)
        return f"loss {loss:.4f}, rate {current_rate(self.model.optimizer):.2e}, {speed:,.1f} samples/s"

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says the epoch's scores."""
        scores = ", ".join(
            f"{name} {value:.4f}" for name, value in (logs or {}).items() if name == "loss" or name.startswith("val_")
        )
        self.voice.say(f"epoch {epoch + 1} of {self.epochs}: {scores}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the bar away."""
        self.close()

    def close(self) -> None:
        """Takes the bar away where training ended by an exception, of which Keras tells callbacks nothing."""
        self._open.close()
