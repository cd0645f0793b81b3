"""An end where the loss is no number any more, or has exploded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from tfft.backend import keras
from tfft.errors import RunError

# Batches whose mean loss tells whether it has exploded: one alone may be of hard rows.
WINDOW = 10
_MEND = (
    "try a smaller training.learning_rate, a longer warmup (training.warmup_ratio), training.max_grad_norm=1.0, or "
    "runtime.mixed_precision=no"
)


class NotFinite(RunError):
    """A loss became no number, or exploded.

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

    Args:
        explosion_factor: also raise where the mean loss of ten batches is more than so many times the lowest that ten
            batches had before; None does not look.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="ones")])
        >>> model.compile("sgd", "mse")
        >>> try:
        ...     history = model.fit([[1e30]], [[0.0]], verbose=0, callbacks=[StopOnNaN()])
        ... except NotFinite as error:
        ...     print(error.what)
        the loss became inf in epoch 1 at step 1
    """

    def __init__(self, explosion_factor: float | None = None) -> None:
        super().__init__()
        if explosion_factor is not None and not explosion_factor > 1:
            raise ValueError(f"explosion_factor is {explosion_factor}; expected more than 1")
        self.explosion_factor = explosion_factor
        self._epoch = 0
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._lowest = math.inf
        # Batches of the epoch so far, and the sum of their losses.
        self._seen, self._sum = 0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch, self._seen, self._sum = epoch, 0, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss, which Keras reports as the mean over the epoch so far: one NaN stays in it."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            what = f"the loss became {loss} in epoch {self._epoch + 1} at step {batch + 1}"
            raise NotFinite(what, self._epoch + 1, batch + 1)
        if loss is not None and self.explosion_factor is not None:
            self._look_for_an_explosion(batch, loss, self.explosion_factor)

    def _look_for_an_explosion(self, batch: int, mean: float, factor: float) -> None:
        """Takes the batches' own loss out of the mean over the epoch so far."""
        total = mean * (batch + 1)
        self._recent.append((total - self._sum) / (batch + 1 - self._seen))
        self._seen, self._sum = batch + 1, total
        if len(self._recent) < WINDOW:
            return
        now = sum(self._recent) / WINDOW
        if now > factor * self._lowest:
            what = f"the loss exploded in epoch {self._epoch + 1} at step {batch + 1}"
            raise NotFinite(
                f"{what}: {now:.4g} over ten batches, {self._lowest:.4g} before", self._epoch + 1, batch + 1
            )
        self._lowest = min(self._lowest, now)

    def get_state(self) -> dict[str, Any]:
        """What `ExactCheckpoint` saves."""
        return {"recent": [*self._recent], "lowest": self._lowest, "seen": self._seen, "sum": self._sum}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """As `get_state` gave it."""
        self._recent.extend(state["recent"])
        self._lowest, self._seen, self._sum = float(state["lowest"]), state["seen"], state["sum"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the validation loss, where there is one."""
        loss = (logs or {}).get("val_loss")
        if loss is not None and not math.isfinite(loss):
            raise NotFinite(
                f"the validation loss became {loss} after the last step of epoch {epoch + 1}", epoch + 1, None
            )
