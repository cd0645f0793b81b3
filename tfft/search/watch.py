"""What a trial's training tells while it runs, and where it ends early."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfft.backend import keras
from tfft.whole import read_json, whole_file

EVERY_SECONDS = 1.0


class Watch(keras.callbacks.Callback):
    """Writes where a training is into a file of JSON: `seed`, `epoch`, `of`, `scores`, `pruned`.

    Args:
        file: written anew every second or so, and at every epoch's end; what it says of an earlier process with the
            same seed is gone on with.
        score: the name in Keras's logs.
        seed: of the training.
        epochs: that the training will have; None asks Keras.
        is_hopeless: told all scores so far after every epoch; where it is true, training ends.

    Attributes:
        pruned: whether it ended so.
    """

    def __init__(
        self,
        file: Path,
        score: str,
        seed: int,
        epochs: int | None = None,
        is_hopeless: Callable[[Sequence[float]], bool] = lambda _: False,
    ) -> None:
        super().__init__()
        self.file, self.score, self.seed, self.epochs, self._is_hopeless = file, score, seed, epochs, is_hopeless
        before = read_json(file)
        is_same = before.get("seed") == seed
        self.pruned: bool = is_same and before["pruned"]
        self._scores: list[float] = before["scores"] if is_same else []
        self._epoch, self._written = 0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers it."""
        self._epoch = epoch
        self._write(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Tells of it, if it is time."""
        if time.monotonic() - self._written > EVERY_SECONDS:
            self._write(self._epoch + (batch + 1) / (self.params.get("steps") or batch + 1))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tells of the score, and ends what is hopeless."""
        if self.score in (logs or {}):
            # What is gone on with may be from before the last score that was told.
            self._scores = [*self._scores[:epoch], float((logs or {})[self.score])]
        is_last = epoch + 1 >= (self.epochs or self.params.get("epochs", 0))
        if not is_last and not self.model.stop_training and self._is_hopeless(self._scores):
            self.pruned = True
            self.model.stop_training = True
        self._write(epoch + 1)

    def _write(self, epochs: float) -> None:
        self._written = time.monotonic()
        told = {
            "seed": self.seed,
            "epoch": epochs,
            "of": self.epochs or self.params.get("epochs"),
            "scores": self._scores,
            "pruned": self.pruned,
        }
        with whole_file(self.file) as file:
            file.write(json.dumps(told))
