"""Batches where Keras runs several in one call and tells callbacks of the last."""

from __future__ import annotations


class Executions:
    """Counts the batches between one `on_train_batch_end` and the next, which `steps_per_execution` makes several.

    Example:
        >>> executions = Executions()
        >>> [executions.ended(batch) for batch in (3, 7, 9, 3)]  # ten batches by four, and the next epoch's first four
        [4, 4, 2, 4]

        A training that goes on in the middle of an epoch says so.

        >>> executions.begun(6)
        >>> executions.ended(9)
        4
    """

    def __init__(self) -> None:
        self._previous = -1

    def begun(self, batch: int) -> None:
        """The next batch to end is the epoch's of this number, or comes after it in the same call."""
        self._previous = batch - 1

    def ended(self, batch: int) -> int:
        """How many ended with the epoch's batch of this number, from 0."""
        before = self._previous if batch > self._previous else -1
        self._previous = batch
        return batch - before
