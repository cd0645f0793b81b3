"""A model's scores on a split: its logits, the loss, and the metrics of the likeliest classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfft import metrics
from tfft.backend import keras
from tfft.data import Split, batches
from tfft.models import heads


class Scorer:
    """Scores a model on one split, as often as it is called.

    Args:
        model: takes the tokenizer's inputs and gives `logits` (rows, classes).
        tokenizer: the checkpoint's.
        split: rows with labels.
        names: metrics, see `metrics.compute`.
        batch_size: rows at once.
        max_length: tokens a row may have.
        pad_to_max_length: pad every batch to `max_length`.

    Attributes:
        logits: (rows, classes) float32 of the last call, rows in the split's order; None before it.
    """

    def __init__(
        self,
        model: keras.Model,
        tokenizer: Any,
        split: Split,
        names: Sequence[str],
        *,
        batch_size: int,
        max_length: int,
        pad_to_max_length: bool = False,
    ) -> None:
        assert split.labels is not None, f"{split.name} has no labels to score against"
        self.model, self.labels, self.names = model, split.labels, tuple(names)
        self.logits: np.ndarray | None = None
        self._dataset, self._order = batches.for_prediction(
            split.encoded,
            batch_size=batch_size,
            tokenizer=tokenizer,
            max_length=max_length,
            pad_to_max_length=pad_to_max_length,
        )

    def __call__(self) -> dict[str, float]:
        """`loss`, the mean cross-entropy, and every metric's scores, for the model's present weights."""
        self.logits = heads.logits_of(self.model, self._dataset, self._order)
        loss = heads.mean_cross_entropy(self.logits, self.labels)
        return {"loss": loss, **metrics.compute(self.names, self.logits.argmax(axis=-1), self.labels)}


def score_names(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """The scores that metrics `names` will yield for this many classes, found by scoring every class once.

    Raises:
        RecipeError: a metric does not fit, such as the binary F1 for three classes.
        HubError: a metric is on the hub, and the hub cannot be reached or does not have it.
    """
    every_class = np.arange(classes)
    return ("loss", *metrics.compute(names, every_class, every_class))
