"""An end before the last epoch, from which a training can go on."""

from __future__ import annotations

from typing import Any

from tfft.backend import keras


class PauseAfterEpochs(keras.callbacks.Callback):
    """Ends `fit` after so many epochs of all, whatever the rates are made for.

    After `ExactCheckpoint`, whose state then says of a training that it goes on.

    Args:
        epochs: counted from the training's first; None never pauses.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> pause = PauseAfterEpochs(2)
        >>> history = model.fit([[1.0]] * 3, [[2.0]] * 3, 1, epochs=9, verbose=0, callbacks=[pause])
        >>> history.epoch
        [0, 1]
    """

    def __init__(self, epochs: int | None) -> None:
        super().__init__()
        self.epochs = epochs

    def is_due(self, epochs_done: int) -> bool:
        """Whether a training that has come so far is not to go on."""
        return self.epochs is not None and epochs_done >= self.epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends training where it is time."""
        if self.is_due(epoch + 1):
            self.model.stop_training = True
