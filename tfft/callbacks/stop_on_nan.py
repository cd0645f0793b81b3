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

    Attributes:
        lowest_after: how many batches, of all epochs, came before those ten with the lowest loss. A state that is no
            newer is from before the loss began to rise, and ten batches have shown what its weights are worth.

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
        # How many batches were before it, and its loss.
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._lowest, self.lowest_after = math.inf, 0
        # Batches of all epochs so far; those of this epoch, and the sum of their losses.
        self._done, self._seen, self._sum = 0, 0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch, self._seen, self._sum = epoch, 0, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss, which Keras reports as the mean over the epoch so far: one NaN stays in it."""
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        where = f"in epoch {self._epoch + 1} at step {batch + 1}"
        if not math.isfinite(loss):
            raise NotFinite(f"the loss became {loss} {where}", self._epoch + 1, batch + 1)
        self._take_in(batch, loss)
        if len(self._recent) < WINDOW:
            return
        now = sum(own for _, own in self._recent) / WINDOW
        if self.explosion_factor is not None and now > self.explosion_factor * self._lowest:
            what = f"the loss exploded {where}: {now:.4g} over ten batches, {self._lowest:.4g} before"
            raise NotFinite(what, self._epoch + 1, batch + 1)
        if now <= self._lowest:
            self._lowest, self.lowest_after = now, self._recent[0][0]

    def _take_in(self, batch: int, mean: float) -> None:
        """Takes the batches' own loss out of the mean over the epoch so far."""
        total, count = mean * (batch + 1), batch + 1 - self._seen
        self._recent.append((self._done, (total - self._sum) / count))
        self._done, self._seen, self._sum = self._done + count, batch + 1, total

    def get_state(self) -> dict[str, Any]:
        """What `ExactCheckpoint` saves."""
        counts = {"lowest_after": self.lowest_after, "done": self._done, "seen": self._seen}
        return {"recent": [*self._recent], "lowest": self._lowest, "sum": self._sum, **counts}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """As `get_state` gave it."""
        self._recent.extend((before, loss) for before, loss in state["recent"])
        self._lowest, self.lowest_after = float(state["lowest"]), state["lowest_after"]
        self._done, self._seen, self._sum = state["done"], state["seen"], state["sum"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the validation loss, where there is one."""
        loss = (logs or {}).get("val_loss")
        if loss is not None and not math.isfinite(loss):
            raise NotFinite(
                f"the validation loss became {loss} after the last step of epoch {epoch + 1}", epoch + 1, None
            )
