"""Callbacks that are given to another one, which decides what they see, and not to `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfft.backend import keras


class Leads(keras.callbacks.Callback):
    """Tells other callbacks of the beginnings of training and epochs, and of the end; of epochs' ends it is silent.

    Args:
        followers: the others.
    """

    def __init__(self, followers: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.followers = list(followers)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Tells the followers."""
        for one in self.followers:
            one.set_params(self.params)
            one.set_model(self.model)
            one.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tells the followers."""
        for one in self.followers:
            one.on_epoch_begin(epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Tells the followers."""
        for one in self.followers:
            one.on_train_end(logs)
