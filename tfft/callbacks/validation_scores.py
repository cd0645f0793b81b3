"""The scores of the validation split, among the epoch's logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfft.backend import keras


class ValidationScores(keras.callbacks.Callback):
    """Computes scores after every epoch and adds them to its logs as `val_NAME`.

    It goes before the callbacks that read them (EarlyStopping, Checkpoints, TensorBoard). Keras's own metrics see one
    batch at a time, and the F1 of a split is not the mean of its batches' F1.

    Args:
        score: computes the scores of the model as it stands.
    """

    def __init__(self, score: Callable[[], Mapping[str, float]]) -> None:
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Scores and adds."""
        scores = self.score()
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in scores.items()})
