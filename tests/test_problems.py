"""Losses, decisions and thresholds of every problem type, beside scikit-learn and SciPy and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from tfft import metrics, problems, tasks
from tfft.backend import keras, tf
from tfft.data import LabelMap
from tfft.models import heads

NAMES = ("anger", "fear", "joy")
PLAIN = {"label_smoothing": 0.0, "focal_gamma": 0.0, "class_weights": None, "r_drop_alpha": 0.0}


def several(rows: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of rows with any number of the classes."""
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(rows, 3)).astype(np.float32) * 3,
        (random.random((rows, 3)) < [0.1, 0.5, 0.8]).astype(np.float32),
    )


@pytest.mark.parametrize("problem_type", [tasks.SINGLE_LABEL, tasks.MULTI_LABEL, tasks.REGRESSION])
def test_the_loss_over_all_rows_is_the_one_that_is_trained(problem_type: str) -> None:
    logits, sets = several()
    labels: Any = {
        tasks.SINGLE_LABEL: sets.argmax(axis=1),
        tasks.MULTI_LABEL: sets,
        tasks.REGRESSION: logits.sum(axis=1),
    }
    outputs = logits[:, :1] if problem_type == tasks.REGRESSION else logits
    problem = problems.make(LabelMap(NAMES, (), problem_type))
    trained = problem.loss(**PLAIN)(labels[problem_type], outputs)
    assert problem.mean_loss(outputs, labels[problem_type]) == pytest.approx(float(trained), rel=1e-5)


def test_the_loss_of_several_labels_is_log_loss_of_each() -> None:
    logits, labels = several()
    shares = scipy.special.expit(logits.astype(np.float64))
    expected = np.mean([sklearn.metrics.log_loss(labels[:, at], shares[:, at]) for at in range(3)])
    assert problems.MultiLabel(NAMES).mean_loss(logits, labels) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(heads.sigmoids(np.array([-800.0, 0.0, 800.0])), [0.0, 0.5, 1.0])


def test_options_of_the_loss_of_several_labels() -> None:
    """By hand, for one row with p = (0.8, 0.3) and labels (1, 0)."""
    logits, labels = scipy.special.logit([[0.8, 0.3]]), [[1.0, 0.0]]

    def loss(**options: Any) -> float:
        return float(heads.BinaryCrossEntropyFromLogits(**options)(labels, logits))

    first, second = -np.log(0.8), -np.log(0.7)
    assert loss() == pytest.approx((first + second) / 2)
    assert loss(class_weights=[3.0, 5.0]) == pytest.approx((3 * first + second) / 2)
    assert loss(focal_gamma=2.0) == pytest.approx((0.2**2 * first + 0.3**2 * second) / 2)
    smooth = 0.9 * first - 0.1 * np.log(0.2), 0.9 * second - 0.1 * np.log(0.3)
    assert loss(label_smoothing=0.2) == pytest.approx(sum(smooth) / 2)


@pytest.mark.parametrize("kind", [heads.BinaryCrossEntropyFromLogits, heads.SquaredError])
def test_r_drop_counts_the_divergence_of_the_halves(kind: Any) -> None:
    outputs = 1 if kind is heads.SquaredError else 3
    random = np.random.default_rng(0)
    half, labels = random.normal(size=(2, 4, outputs)), random.integers(0, 2, (4, outputs)).astype(np.float32)
    twice = np.concatenate([labels, labels]).squeeze() if outputs == 1 else np.concatenate([labels, labels])
    alike = np.concatenate([half[0], half[0]])
    assert float(kind(r_drop_alpha=3.0)(twice, alike)) == pytest.approx(float(kind()(twice, alike)))
    unlike = np.concatenate([half[0], half[1]])
    if outputs == 1:
        divergence = np.square(half[0] - half[1]).mean()
    else:
        p, q = scipy.special.expit(half)
        both = scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)
        both += scipy.special.rel_entr(q, p) + scipy.special.rel_entr(1 - q, 1 - p)
        divergence = 0.5 * both.mean()
    expected = float(kind()(twice, unlike)) + 3.0 * divergence
    assert float(kind(r_drop_alpha=3.0)(twice, unlike)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [heads.BinaryCrossEntropyFromLogits, heads.SquaredError])
def test_losses_are_made_again_from_their_settings(kind: Any) -> None:
    loss = kind(r_drop_alpha=2.0)
    assert kind(**loss.get_config()).get_config() == loss.get_config()
    assert isinstance(loss, keras.losses.Loss)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_gives_a_larger_micro_f1(seed: int) -> None:
    logits, labels = several(seed=seed)
    problem = problems.MultiLabel(NAMES)

    def f1() -> float:
        return sklearn.metrics.f1_score(labels, problem.decide(logits), average="micro", zero_division=0.0)

    settled = problem.tune(logits, labels)
    assert settled == {"threshold": problem.threshold}
    best = f1()
    for threshold in np.unique(heads.sigmoids(logits)):
        problem.threshold = threshold
        assert f1() <= best + 1e-12


def test_a_threshold_does_not_part_equal_probabilities() -> None:
    shares = np.array([[0.7, 0.7, 0.7, 0.2]])
    assert problems.best_threshold(shares, np.array([[1, 0, 0, 0]])) == pytest.approx(0.45)
    assert problems.best_threshold(shares, np.zeros((1, 4))) == 0.5


def test_balanced_weights_of_several_labels() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    assert problems.MultiLabel(NAMES).balanced_weights(labels) == pytest.approx([1 / 3, 1 / 3, 1.0])


@pytest.mark.parametrize(("name", "average"), [("f1_macro", "macro"), ("f1_micro", "micro"), ("accuracy", None)])
def test_scores_of_several_labels_are_those_of_scikit_learn(name: str, average: str | None) -> None:
    logits, labels = several()
    decided = problems.MultiLabel(NAMES).decide(logits)
    expected = (
        sklearn.metrics.f1_score(labels, decided, average=average)
        if average
        else sklearn.metrics.accuracy_score(labels, decided)
    )
    assert metrics.compute((name,), decided, labels) == pytest.approx({name: expected})


def test_answers_and_cells() -> None:
    many = problems.MultiLabel(NAMES, threshold=0.3)
    logits = scipy.special.logit(np.array([[0.4, 0.1, 0.9]], np.float32))
    (answer,) = many.answers(logits)
    assert answer.labels == ("anger", "joy")
    assert answer.probabilities == pytest.approx({"anger": 0.4, "fear": 0.1, "joy": 0.9})
    assert list(many.cells(logits, np.array([[0, 1, 1]]))) == [
        ("fear;joy", "anger;joy", "0.400000", "0.100000", "0.900000")
    ]
    number = problems.Regression(("score",))
    assert number.answers(np.array([[1.5], [2.0]], np.float32)) == [1.5, 2.0]
    assert list(number.cells(np.array([[1.5]], np.float32), np.array([0.25], np.float32))) == [("0.25", "1.500000")]


@pytest.mark.parametrize("problem_type", [tasks.SINGLE_LABEL, tasks.MULTI_LABEL, tasks.REGRESSION])
def test_every_default_metric_fits_its_problem(problem_type: str) -> None:
    problem, labels = problems.make(LabelMap(NAMES, (), problem_type)), None
    names = tasks.DEFAULT_METRICS[problem_type]
    labels = problem.every_label()
    assert all(np.isfinite(value) for value in metrics.compute(names, labels, labels).values())
    assert all(tasks.fits(name, problem_type) for name in names)


def test_a_row_of_several_labels_has_one_loss() -> None:
    logits, labels = several()
    losses = heads.BinaryCrossEntropyFromLogits().call(tf.constant(labels), tf.constant(logits))
    assert losses.shape == (40,)
