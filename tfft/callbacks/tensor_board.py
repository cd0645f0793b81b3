"""Keras's TensorBoard, with texts and what the model says of them, the confusion matrix, and scores by steps."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfft import drawing
from tfft.backend import keras, tf

# More are no picture that anyone can read.
MOST_CLASSES = 100


class TensorBoard(keras.callbacks.TensorBoard):
    """Writes loss, learning rate and all other logs of every epoch, as Keras's does, and what numbers do not show.

    It goes after the callbacks that compute what it shows, such as ValidationScores. A training that goes on in another
    process adds to what is there.

    Args:
        log_dir: for TensorBoard's files.
        samples: called at the ends of epochs; gives the names of columns and a few rows, such as a text, its label, the
            prediction. They are shown as they are, whatever of Markdown or HTML is in them.
        confusion: called at the ends of epochs; gives the names of classes, and how many rows of which class were taken
            for which: (classes, classes), a row for each true class. None is shown as nothing, nor are more than
            `MOST_CLASSES` classes.
        settings: of Keras's TensorBoard.

    Example:
        >>> import pathlib, tempfile
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     board = TensorBoard(
        ...         folder,
        ...         samples=lambda: (["text", "prediction"], [("what a *film*", "good")]),
        ...         confusion=lambda: (["bad", "good"], np.array([[8, 1], [0, 9]])),
        ...     )
        ...     history = model.fit([[1.0]], [[2.0]], verbose=0, callbacks=[board])
        ...     sorted(one.name for one in pathlib.Path(folder).iterdir())
        ['train', 'validation']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        samples: Callable[[], tuple[Sequence[str], Iterable[Sequence[Any]]]] | None = None,
        confusion: Callable[[], tuple[Sequence[str], np.ndarray] | None] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(str(log_dir), **{"write_graph": False, "profile_batch": 0, **settings})
        self.samples, self.confusion = samples, confusion

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes all of it."""
        super().on_epoch_end(epoch, logs)
        if self.samples is None and self.confusion is None:
            return
        with tf.summary.record_if(True), self._val_writer.as_default():
            if self.samples is not None:
                tf.summary.text("samples", markdown_table(*self.samples()), step=epoch)
            found = None if self.confusion is None else self.confusion()
            if found is not None and len(found[0]) <= MOST_CLASSES:
                names, counts = found
                table = markdown_table(["", *names], [(name, *row) for name, row in zip(names, counts, strict=True)])
                tf.summary.text("confusion_table", table, step=epoch)
                picture = drawing.heat_map(counts, names, names, "true class to prediction", numbers=True)
                tf.summary.image("confusion", np.asarray(picture)[np.newaxis], step=epoch)

    def evaluated(self, step: int, logs: Mapping[str, float]) -> None:
        """Writes the scores of an evaluation within an epoch; for `ValidationScores(told=[…])`.

        Under the names that Keras gives to what `evaluate` finds while it trains.
        """
        with tf.summary.record_if(True), self._val_writer.as_default():
            for name, value in logs.items():
                if name.startswith("val_"):
                    tf.summary.scalar(f"evaluation_{name.removeprefix('val_')}_vs_iterations", value, step=step)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown whose cells show what they hold, letter by letter.

    Example:
        >>> print(markdown_table(["text"], [["a|b"]]))
        | text |
        | --- |
        | a&#124;b |
    """
    lines = [columns, *rows]
    written = [f"| {' | '.join(_literally(str(cell)) for cell in line)} |" for line in lines]
    return "\n".join([written[0], f"| {' | '.join('---' for _ in columns)} |", *written[1:]])


def _literally(text: str) -> str:
    # Nothing that is written as a number means anything to Markdown or HTML; line breaks would end the table.
    return re.sub(r"[!-/:-@\[-`{-~]", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))
