"""Threshold curves beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics

from tfft import thresholds


@pytest.mark.parametrize("shape", [(200,), (60, 4)])
def test_the_curve_is_that_of_scikit_learn(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    shares = random.random(shape).round(2)  # many are equal
    labels = (random.random(shape) < shares).astype(np.float32)
    found = thresholds.curve(shares, labels)
    assert found is not None
    precision, recall, at = sklearn.metrics.precision_recall_curve(labels.ravel(), shares.ravel())
    np.testing.assert_allclose(found.thresholds, at)
    np.testing.assert_allclose([found.precision, found.recall], [precision[:-1], recall[:-1]])
    for point in (0, 7, -1):
        said = shares >= found.thresholds[point]
        assert found.f1[point] == pytest.approx(sklearn.metrics.f1_score(labels.ravel(), said.ravel()))
    # Halfway to the next lower one, and so the same decisions.
    best = thresholds.best_threshold(shares, labels)
    assert (shares >= best).sum() == (shares >= found.thresholds[found.f1.argmax()]).sum()


def test_fewer_points_keep_the_best() -> None:
    random = np.random.default_rng(1)
    shares = random.random(1000)
    found = thresholds.curve(shares, random.random(1000) < shares)
    assert found is not None
    thin = found.thinned(50)
    assert len(thin.thresholds) <= 50 and thin.f1.max() == found.f1.max()
    assert (thin.thresholds[0], thin.thresholds[-1]) == (found.thresholds[0], found.thresholds[-1])
    assert found.thinned(1000) is found


def test_where_nothing_can_be_found() -> None:
    assert thresholds.curve(np.array([0.5, 0.2]), np.zeros(2)) is None
    assert thresholds.best_threshold(np.array([[0.5, 0.2]]), np.zeros((1, 2))) == 0.5
