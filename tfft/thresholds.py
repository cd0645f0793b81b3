"""From which probability on to say yes: what precision, recall and F1 are at every threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores of saying yes from a probability on, at each that occurs, rising.

    Attributes:
        thresholds: (points,) the probabilities.
        precision, recall, f1: (points,) each.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def thinned(self, most: int) -> ThresholdCurve:
        """So many of its points at most, evenly spread over them, the first, the last and the best F1 among them."""
        count = len(self.thresholds)
        if count <= most:
            return self
        chosen = np.union1d(np.linspace(0, count - 1, most - 1).round().astype(int), [int(self.f1.argmax())])
        return ThresholdCurve(self.thresholds[chosen], self.precision[chosen], self.recall[chosen], self.f1[chosen])


def curve(shares: np.ndarray, labels: np.ndarray) -> ThresholdCurve | None:
    """The curve over all decisions together, as scikit-learn's `precision_recall_curve` has it, without its last point.

    Args:
        shares: probabilities of yes, of any shape.
        labels: of the same shape, 0 or 1.

    Returns:
        None where no label is 1: nothing can be found there.

    Example:
        >>> found = curve(np.array([0.1, 0.4, 0.8]), np.array([0, 1, 1]))
        >>> found.thresholds.tolist(), found.recall.tolist(), found.f1.tolist()
        ([0.1, 0.4, 0.8], [1.0, 1.0, 0.5], [0.8, 1.0, 0.6666666666666666])
    """
    ordered, right = _likeliest_first(shares, labels)
    wanted = right[-1]
    if not wanted:
        return None
    last = np.append(ordered[1:] < ordered[:-1], True)  # of those with the same probability
    said = (np.flatnonzero(last) + 1)[::-1]
    right, thresholds = right[last][::-1], ordered[last][::-1]
    return ThresholdCurve(thresholds, right / said, right / wanted, 2 * right / (said + wanted))


def best_threshold(shares: np.ndarray, labels: np.ndarray) -> float:
    """The probability from which on to say yes, for the largest micro F1: halfway between two that occur.

    With the k likeliest decisions said yes, F1 is 2 * right / (k + wanted); every k that parts two different
    probabilities is tried. One half where no row has a label.

    Args:
        shares: (rows, classes) probabilities.
        labels: (rows, classes), 0 or 1.

    Example:
        >>> best_threshold(np.array([[0.9, 0.2], [0.4, 0.1]]), np.array([[1, 0], [1, 0]]))
        0.3
    """
    ordered, right = _likeliest_first(shares, labels)
    if not right[-1]:
        return 0.5
    f1 = 2 * right / (np.arange(1, len(ordered) + 1) + right[-1])
    following = np.append(ordered[1:], 0.0)
    best = int(np.argmax(np.where(ordered > following, f1, -1.0)))
    return round(float(ordered[best] + following[best]) / 2, 12)


def _likeliest_first(shares: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All probabilities, falling, and how many of those so far are of labels that are there."""
    order = np.argsort(-shares, axis=None, kind="stable")
    return shares.ravel()[order], np.cumsum(labels.ravel()[order])
