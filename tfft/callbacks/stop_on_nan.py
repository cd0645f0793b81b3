"""An end where the loss is no number any more."""

from __future__ import annotations

import math
from typing import Any

from tfft.backend import keras
from tfft.errors import RunError

_MEND = (
    "try a smaller training.learning_rate, a longer warmup (training.warmup_ratio), training.max_grad_norm=1.0, or "
    "runtime.mixed_precision=no"
)


class NotFinite(RunError):
    """A loss became no number.

    Attributes:
        what: in words.
        epoch: of it, counted from 1.
        step: the batch within the epoch, counted from 1; None where the epoch's validation showed it.
    """

    def __init__(self, what: str, epoch: int, step: int | None) -> None:
        super().__init__(f"{what}; {_MEND}")
        self.what, self.epoch, self.step = what, epoch, step


class StopOnNaN(keras.callbacks.Callback):
    """Raises `NotFinite`, a RunError that names epoch and step once the training loss is NaN or infinite.

    The weights are spoilt from that step on: what was saved at the end of an epoch before is the last that is good. It
    goes after ValidationScores and before Checkpoints: an epoch's last step can spoil weights whose loss was still a
    number, which only the validation loss shows, and those must not take the place of good ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss, which Keras reports as the mean over the epoch so far: one NaN stays in it."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            what = f"the loss became {loss} in epoch {self._epoch + 1} at step {batch + 1}"
            raise NotFinite(what, self._epoch + 1, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the validation loss, where there is one."""
        loss = (logs or {}).get("val_loss")
        if loss is not None and not math.isfinite(loss):
            raise NotFinite(
                f"the validation loss became {loss} after the last step of epoch {epoch + 1}", epoch + 1, None
            )
