"""The weights of the last epoch and of the best one, kept on disk as training goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from tfft.backend import keras


class Checkpoints(keras.callbacks.Callback):
    """Has the model saved after every epoch, and once more where the monitored score is the best so far.

    The direction must be said: Keras's `mode="auto"` takes `val_f1` for something to be minimised.

    Args:
        save: called with `last` or `best`; saves the model under that name, in place of what was there.
        monitor: a name in the epoch's logs, such as `val_f1`; None keeps the last epoch only.
        mode: `max` or `min`.
        saves_last: whether the last epoch is saved too, where the best one is told by a score.

    Attributes:
        best_epoch: counted from 1; None while there is no best. Among the followers of `ValidationScores`, it is the
            evaluation's number.
        best_value: the monitored score of that epoch.
        last_epoch: the last epoch that ended, and was saved where that is wanted; None while there is none.

    Example:
        The loss of a model that learns is the least at the end.

        >>> model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
        >>> model.compile(keras.optimizers.SGD(0.1), "mse")
        >>> saved = []
        >>> kept = Checkpoints(saved.append, "loss", "min")  # save(name) would be model.save_weights(f"{name}.h5")
        >>> history = model.fit([[1.0]], [[9.0]], epochs=2, verbose=0, callbacks=[kept])
        >>> saved, kept.best_epoch
        (['best', 'last', 'best', 'last'], 2)
    """

    def __init__(
        self,
        save: Callable[[str], None],
        monitor: str | None = None,
        mode: Literal["max", "min"] = "min",
        saves_last: bool = True,
    ) -> None:
        super().__init__()
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}; expected max or min")
        self.save, self.monitor, self.mode, self.saves_last = save, monitor, mode, saves_last
        self.best_epoch: int | None = None
        self.best_value = -math.inf if mode == "max" else math.inf
        self.last_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves. A score that is NaN is never the best, nor is any of weights whose validation loss is no number."""
        if self.monitor is not None:
            if self.monitor not in (logs or {}):
                raise KeyError(f"the logs have no {self.monitor}; they have {', '.join(logs or {})}")
            value = float((logs or {})[self.monitor])
            is_better = value > self.best_value if self.mode == "max" else value < self.best_value
            if is_better and math.isfinite((logs or {}).get("val_loss", 0.0)):
                self.best_epoch, self.best_value = epoch + 1, value
                self.save("best")
        if self.saves_last:
            self.save("last")
        self.last_epoch = epoch + 1

    def get_state(self) -> dict[str, Any]:
        """What `ExactCheckpoint` saves."""
        return {"best_epoch": self.best_epoch, "best_value": self.best_value, "last_epoch": self.last_epoch}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """As `get_state` gave it."""
        self.best_epoch, self.best_value = state["best_epoch"], state["best_value"]
        self.last_epoch = state["last_epoch"]
