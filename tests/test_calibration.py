"""Reliability, calibration error and temperature, by hand, by relation and beside scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from tfft import calibration
from tfft.errors import DataError


def drawn(rows: int = 4000, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn by the probabilities that they say."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, classes)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    return logits, labels


def drawn_labels(rows: int = 3000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The same where rows have any number of labels."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, 2)) * 2
    return logits, (random.random((rows, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def test_the_error_by_hand() -> None:
    # Bins of a fifth: two answers at 0.3 and 0.4, one of them right; two at 0.9 and 1.0, both right; one of 0.
    bins = calibration.reliability(np.array([0.3, 0.4, 0.9, 1.0, 0.0]), np.array([1, 0, 1, 1, 0], bool), bins=5)
    assert [one.answers for one in bins] == [1, 2, 0, 0, 2], "what lies on a border belongs below it"
    assert bins[2].probability is None and bins[2].right is None
    assert (bins[1].low, bins[1].high, bins[1].right) == (0.2, 0.4, 0.5)
    assert calibration.expected_error(bins) == pytest.approx((2 * 0.15 + 2 * 0.05) / 5)
    wrong_at_zero = calibration.reliability(np.zeros(2), np.ones(2, bool))
    assert calibration.expected_error(wrong_at_zero) == 1.0


def test_the_curve_is_that_of_scikit_learn() -> None:
    logits, labels = drawn_labels()
    probabilities, right = calibration.answers(logits, labels)
    bins = [one for one in calibration.reliability(probabilities, right) if one.answers]
    theirs = sklearn.calibration.calibration_curve(right, probabilities, n_bins=calibration.BINS)
    np.testing.assert_allclose([[one.right for one in bins], [one.probability for one in bins]], theirs)
    assert sum(one.answers for one in bins) == labels.size


def test_what_is_claimed() -> None:
    logits = np.log([[0.2, 0.8], [0.7, 0.3]])
    probabilities, right = calibration.answers(logits, np.array([0, 0]))
    assert (probabilities.tolist(), right.tolist()) == (pytest.approx([0.8, 0.7]), [False, True])
    probabilities, right = calibration.answers(np.array([[0.0, math.log(3)]]), np.array([[1.0, 0.0]]))
    assert (probabilities.tolist(), right.tolist()) == (pytest.approx([0.5, 0.75]), [True, False])


@pytest.mark.parametrize("data", [drawn(), drawn_labels()], ids=["classes", "labels"])
def test_temperatures(data: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = data
    found = calibration.fit_temperature(logits, labels)
    assert found == pytest.approx(1.0, abs=0.06), "labels were drawn by these very probabilities"
    assert calibration.fit_temperature(7 * logits, labels) == pytest.approx(7 * found, rel=1e-4)
    assert calibration.fit_temperature(logits / found, labels) == pytest.approx(1.0, abs=1e-4)
    assert calibration.fit_temperature(logits.astype(np.float32), labels) == pytest.approx(found, abs=1e-4)

    def likelihood(temperature: float) -> float:
        return float(calibration.negative_log_likelihoods(logits, labels, temperature).mean())

    assert all(likelihood(found) < likelihood(found * factor) for factor in (0.5, 0.98, 1.02, 2))
    # At the best temperature the gradient by it is none: the mean logit that is right is the mean one expected.
    sure, _ = calibration.answers(9 * logits, labels)
    mended, _ = calibration.answers(9 * logits, labels, 9 * found)
    right = calibration.answers(logits, labels)[1]
    errors = [calibration.expected_error(calibration.reliability(one, right)) for one in (sure, mended)]
    assert errors[1] < 0.03 < errors[0]


def test_no_decision_changes() -> None:
    logits, labels = drawn(rows=50)
    for temperature in (0.1, 3.0):
        assert (calibration.answers(logits, labels, temperature)[1] == calibration.answers(logits, labels)[1]).all()


def test_likelihoods_are_those_of_scikit_learn() -> None:
    logits, labels = drawn(rows=100)
    shares = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum(axis=1, keepdims=True)
    mine = calibration.negative_log_likelihoods(logits, labels, 2.5).mean()
    assert mine == pytest.approx(sklearn.metrics.log_loss(labels, shares))
    logits, labels = drawn_labels(rows=100)
    shares = 1 / (1 + np.exp(-logits))
    mine = calibration.negative_log_likelihoods(logits, labels).mean()
    assert mine == pytest.approx(sklearn.metrics.log_loss(labels.ravel(), shares.ravel()))


def test_rows_that_fit_no_temperature() -> None:
    logits = np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    with pytest.raises(DataError, match="3 rows that the model answers without a mistake"):
        calibration.fit_temperature(logits, np.array([0, 1, 1]))
    with pytest.raises(DataError, match="no better than chance"):
        calibration.fit_temperature(logits, np.array([1, 0, 0]))
