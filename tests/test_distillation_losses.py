"""How far a student is from its teacher, against the formulas in NumPy, and what must leave it alone."""

from __future__ import annotations

import numpy as np
import pytest

from tfft import tasks
from tfft.backend import tf
from tfft.distillation import losses
from tfft.models import heads

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def scores(query: np.ndarray, key: np.ndarray, parts: int) -> np.ndarray:
    """(rows, parts, tokens, tokens), a part after the other."""
    size = query.shape[-1] // parts
    cuts = [slice(at * size, (at + 1) * size) for at in range(parts)]
    return np.stack([query[..., cut] @ key[..., cut].transpose(0, 2, 1) / np.sqrt(size) for cut in cuts], 1)


# Three rows of 5, 3 and 1 tokens.
REAL = (np.arange(5) < np.array([[5], [3], [1]])).astype(np.float32)
LENGTHS = (5, 3, 1)


# --- Logits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_classes_by_the_formula(temperature: float) -> None:
    teacher, student = normal(6, 3), normal(6, 3)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(-1)
    found = losses.class_divergence(tf.constant(teacher), tf.constant(student), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_several_labels_by_the_formula(temperature: float) -> None:
    teacher, student = normal(6, 3), normal(6, 3)
    p, q = (1 / (1 + np.exp(-one / temperature)) for one in (teacher, student))
    expected = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)
    found = losses.label_divergence(tf.constant(teacher), tf.constant(student), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_two_classes_are_a_label_with_its_yes_and_no() -> None:
    teacher, student = normal(4, 1), normal(4, 1)
    as_classes = losses.class_divergence(*(tf.constant(np.hstack([0 * one, one])) for one in (teacher, student)), 3.0)
    as_label = losses.label_divergence(tf.constant(teacher), tf.constant(student), 3.0)
    np.testing.assert_allclose(as_classes, as_label, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", losses.OF_LOGITS)
def test_who_agrees_is_at_no_distance_and_stays_there(kind: str) -> None:
    logits = tf.Variable(normal(4, 1 if kind == tasks.REGRESSION else 3))
    with tf.GradientTape() as tape:
        distance = losses.OF_LOGITS[kind](tf.constant(logits), logits, 2.0)
    np.testing.assert_allclose(distance, np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(tape.gradient(distance, logits), np.zeros(logits.shape), atol=1e-6)


def test_a_high_temperature_compares_the_logits_themselves() -> None:
    """As it grows, the gradient becomes that of half the mean squared difference of centred logits (section 2.1)."""
    teacher, student = normal(2, 3), tf.Variable(normal(2, 3))
    with tf.GradientTape() as tape:
        distance = losses.class_divergence(tf.constant(teacher), student, 1000.0)
    centred = [one - one.mean(-1, keepdims=True) for one in (student.numpy(), teacher)]
    np.testing.assert_allclose(tape.gradient(distance, student), (centred[0] - centred[1]) / 3, rtol=0.02, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "loss", "labels", "outputs"),
    [
        (tasks.SINGLE_LABEL, heads.CrossEntropyFromLogits(label_smoothing=0.1), np.array([0.0, 2.0, 1.0]), 3),
        (tasks.MULTI_LABEL, heads.BinaryCrossEntropyFromLogits(), np.array([[0, 1], [1, 1], [0, 0.0]]), 2),
        (tasks.REGRESSION, heads.SquaredError(), np.array([0.5, -1.0, 2.0]), 1),
    ],
)
def test_labels_and_teacher_count_by_their_weights(
    kind: str, loss: heads.SquaredError, labels: np.ndarray, outputs: int
) -> None:
    teacher, student = normal(3, outputs), tf.constant(normal(3, outputs))
    labels = labels.astype(np.float32)
    packed = tf.constant(np.hstack([labels.reshape(3, -1), teacher]))
    of_labels = loss.call(tf.constant(labels), student)
    of_teacher = losses.OF_LOGITS[kind](tf.constant(teacher), student, 3.0)
    both = losses.Distilled(loss, kind, 0.25, 2.0, 3.0)
    np.testing.assert_allclose(both.call(packed, student), 0.25 * of_labels + 2.0 * of_teacher, rtol=1e-5)
    # A row without labels has the teacher's logits alone.
    unlabelled = losses.Distilled(loss, kind, 0.0, 2.0, 3.0)
    np.testing.assert_allclose(unlabelled.call(tf.constant(teacher), student), 2.0 * of_teacher, rtol=1e-5)
    again = losses.Distilled.from_config(both.get_config())
    np.testing.assert_array_equal(again.call(packed, student), both.call(packed, student))


def test_a_loss_counts_as_much_as_it_is_told() -> None:
    plain = heads.TokenCrossEntropyFromLogits()
    labels, logits = tf.constant([[1, -100], [0, 2]]), tf.constant(normal(2, 2, 3))
    weighted = losses.Weighted(plain, 0.25)
    np.testing.assert_allclose(weighted.call(labels, logits), 0.25 * plain.call(labels, logits), rtol=1e-6)
    again = losses.Weighted.from_config(weighted.get_config())
    np.testing.assert_array_equal(again.call(labels, logits), weighted.call(labels, logits))


# --- What is inside ---------------------------------------------------------------------------------------------------


def test_layers_learn_from_layers_that_are_as_high() -> None:
    assert [losses.layer_learned(one, 2, 6) for one in range(3)] == [0, 3, 6]
    assert [losses.layer_learned(one, 4, 6) for one in range(5)] == [0, 1, 3, 4, 6]
    assert [losses.layer_learned(one, 5, 5) for one in range(6)] == list(range(6))


def test_states_by_the_formula() -> None:
    teacher, student = normal(3, 5, 4), normal(3, 5, 4)
    expected = [((teacher[row] - student[row])[:length] ** 2).mean() for row, length in enumerate(LENGTHS)]
    found = losses.state_distance(tf.constant(teacher), tf.constant(student), tf.constant(REAL))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_first_token_learns_the_mean_of_real_tokens() -> None:
    teacher, student = normal(3, 5, 4), normal(3, 5, 4)
    expected = [((teacher[row, :length].mean(0) - student[row, 0]) ** 2).mean() for row, length in enumerate(LENGTHS)]
    found = losses.sentence_distance(tf.constant(teacher), tf.constant(student), tf.constant(REAL))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Rows that fill up a batch have no token at all.
    empty = losses.sentence_distance(tf.constant(teacher), tf.constant(student), tf.zeros([3, 5]))
    assert np.isfinite(empty).all()


def test_attentions_by_the_formula() -> None:
    query, key, other_query, other_key = (normal(3, 5, 8) for _ in range(4))
    given = losses.attention_scores(tf.constant(query), tf.constant(key), 2)
    np.testing.assert_allclose(given, scores(query, key, 2), rtol=1e-4, atol=1e-5)
    squares = (scores(query, key, 2) - scores(other_query, other_key, 2)) ** 2
    expected = [squares[row, :, :length, :length].mean() for row, length in enumerate(LENGTHS)]
    learned = losses.attention_scores(tf.constant(other_query), tf.constant(other_key), 2)
    np.testing.assert_allclose(
        losses.attention_distance(given, learned, tf.constant(REAL)), expected, rtol=1e-4, atol=1e-5
    )


def test_relations_by_the_formula_at_any_width() -> None:
    teacher, student = normal(3, 5, 12), normal(3, 5, 8)
    expected = []
    for row, length in enumerate(LENGTHS):
        own = [one[row : row + 1, :length] for one in (teacher, student)]
        p, q = (softmax(scores(one, one, 4)) for one in own)
        expected.append((p * np.log(p / q)).sum(-1).mean())
    found = losses.relation_divergence(tf.constant(teacher), tf.constant(student), tf.constant(REAL), 4)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert float(found[2]) == pytest.approx(0, abs=1e-6)  # a token alone is related to itself alone


def test_padding_counts_nothing() -> None:
    """Whatever stands there, in a wider batch too; and nothing there is learned."""
    teacher, student = normal(3, 5, 8), normal(3, 5, 8)
    wide_real = np.pad(REAL, [(0, 0), (0, 2)])

    def all_of(teacher: np.ndarray, student: tf.Tensor, real: np.ndarray) -> list[tf.Tensor]:
        given, mask = tf.constant(teacher), tf.constant(real)
        of_attention = (losses.attention_scores(one, one, 2) for one in (given, student))
        return [
            losses.state_distance(given, student, mask),
            losses.sentence_distance(given, student, mask),
            losses.attention_distance(*of_attention, mask),
            losses.relation_divergence(given, student, mask, 2),
        ]

    def widened(values: np.ndarray) -> np.ndarray:
        wide = np.concatenate([values, normal(3, 2, 8)], 1)
        return np.where(wide_real[..., np.newaxis] > 0, wide, 7 * normal(3, 7, 8))

    learned = tf.Variable(widened(student))
    with tf.GradientTape() as tape:
        wide = all_of(widened(teacher), learned, wide_real)
        total = tf.add_n(wide)
    for narrow, one in zip(all_of(teacher, tf.constant(student), REAL), wide, strict=True):
        np.testing.assert_allclose(one, narrow, rtol=1e-4, atol=1e-6)
    slope = tape.gradient(total, learned).numpy()
    assert (slope[wide_real == 0] == 0).all()
    assert (slope[wide_real == 1] != 0).any()
