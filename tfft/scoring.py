"""A model's scores on a split: its logits, the loss, and the metrics of what is decided by them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfft import metrics, tasks
from tfft.backend import keras
from tfft.data import Split, batches
from tfft.models import heads
from tfft.models.features import FEATURES
from tfft.problems import Masked, Problem, SingleLabel


class Scorer:
    """Scores a model on one split, as often as it is called.

    Args:
        model: takes the tokenizer's inputs and gives `logits` (rows, outputs).
        problem: what the labels are; see `problems`.
        tokenizer: the checkpoint's.
        split: texts with labels.
        names: metrics, see `metrics.compute`.
        batch_size: rows at once, of short ones more; see `batches.for_prediction`.
        max_length: tokens a row may have.
        pad_to_max_length: pad every batch to `max_length`.
        tunes: whether this is the split on which thresholds are settled.
        pooling: what makes a text's logits of its windows', where it has several; see `heads.pool_windows`.

    Attributes:
        logits: (texts, outputs) float32 of the last call, texts in the split's order; (tokens, outputs) where words
            have tags; None before it.
    """

    def __init__(
        self,
        model: keras.Model,
        problem: Problem,
        tokenizer: Any,
        split: Split,
        names: Sequence[str],
        *,
        batch_size: int,
        max_length: int,
        pad_to_max_length: bool = False,
        tunes: bool = False,
        pooling: str = "mean",
    ) -> None:
        assert split.labels is not None, f"{split.name} has no labels to score against"
        self.model, self.problem, self.split, self.names = model, problem, split, tuple(names)
        self.tunes, self.pooling = tunes, pooling
        self.logits: np.ndarray | None = None
        states = None
        if split.features is not None and split.words is not None:
            states = batches.TokenStates(split.features, FEATURES)
        elif split.features is not None:
            self._dataset, self._order = batches.features_for_prediction(
                split.features, name=FEATURES, batch_size=batch_size
            )
            return
        self._dataset, self._order = batches.for_prediction(
            split.encoded,
            batch_size=batch_size,
            tokenizer=tokenizer,
            max_length=max_length,
            pad_to_max_length=pad_to_max_length,
            states=states,
        )

    def __call__(self) -> dict[str, float]:
        """`loss`, every metric's scores, and what was settled here, for the model's present weights."""
        labels, logits = self.split.labels, self.answer()
        assert labels is not None
        loss = self.problem.mean_loss(logits, labels)
        settled = self.problem.tune(logits, labels) if self.tunes else {}
        return {"loss": loss, **metrics.compute(self.names, *self.problem.compared(logits, self.split)), **settled}

    def answer(self, advance: Callable[[int], None] = lambda rows: None) -> np.ndarray:
        """The model's logits with its present weights: `logits` anew, of which no score is computed.

        Args:
            advance: called with the number of rows done (of texts with several windows, of windows), as they are done.
        """
        encoded = self.split.encoded
        if self.split.words is None:
            of_rows = heads.logits_of(self.model, self._dataset, self._order, advance)
            self.logits = heads.pool_windows(of_rows, encoded.window_starts, self.pooling)
        else:
            self.logits = heads.token_logits_of(self.model, self._dataset, self._order, encoded.offsets, advance)
        return self.logits

    def samples(self, most: int = 10) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The first rows, or words, with what the last call decided of them: the table's columns, and its rows."""
        assert self.logits is not None, "nothing was scored yet"
        columns, rows = self.problem.table(self.logits, self.split)
        return columns, list(itertools.islice(rows, most))

    def confusion(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        """The names of the classes, and how many rows of which the last call took for which: (classes, classes).

        A row for each true class. None where a row has not one class.
        """
        assert self.logits is not None, "nothing was scored yet"
        if not isinstance(self.problem, SingleLabel):
            return None
        assert self.split.labels is not None
        counts = np.zeros([len(self.problem.names)] * 2, np.int64)
        np.add.at(counts, (self.split.labels, self.problem.decide(self.logits)), 1)
        return self.problem.names, counts


def score_names(names: Sequence[str], problem: Problem) -> tuple[str, ...]:
    """The scores that metrics `names` will yield for such labels, found by scoring every class once.

    Raises:
        RecipeError: a metric does not fit, such as the binary F1 for three classes.
        HubError: a metric is on the hub, and the hub cannot be reached or does not have it.
    """
    if isinstance(problem, Masked):
        return tasks.MASKED_SCORES
    labels = problem.every_label()
    return ("loss", *metrics.compute(names, labels, labels))
