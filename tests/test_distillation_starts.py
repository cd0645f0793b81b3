"""How a narrow student begins: the directions that keep most of a teacher's embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from tests import families
from tfft.backend import keras, tf
from tfft.distillation import starts

TOKENS = np.random.default_rng(8).normal(size=(50, 12)) * np.linspace(3, 0.1, 12)


def lost(directions: np.ndarray) -> float:
    """The squared length of what the directions leave out."""
    return float(np.square(TOKENS - TOKENS @ directions.T @ directions).sum())


def test_no_other_directions_keep_more() -> None:
    found = starts.principal_directions(TOKENS, 4)
    np.testing.assert_allclose(found @ found.T, np.eye(4), atol=1e-6)
    singular = np.linalg.svd(TOKENS, compute_uv=False)
    assert lost(found) == pytest.approx(np.square(singular[4:]).sum(), rel=1e-4)
    random = np.random.default_rng(9)
    for _ in range(20):
        others, _ = np.linalg.qr(random.normal(size=(12, 4)))
        assert lost(found) < lost(others.T)


def embedded(model: keras.Model) -> tf.Tensor:
    """Sums of the embeddings of tokens and of places, before they are normalised: (tokens, places, width)."""
    layer = getattr(model, model.base_model_prefix).embeddings
    return layer.weight[:, tf.newaxis] + layer.position_embeddings[tf.newaxis]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "mpnet"])
def test_a_students_embeddings_are_its_teachers_as_far_as_they_fit(family: str) -> None:
    teacher, student = families.make(family), families.make(family, hidden_size=8)
    whole, same = families.make(family), families.make(family)
    directions = starts.start_embeddings(student, teacher)
    assert directions is not None
    assert directions.shape == (8, 16)
    np.testing.assert_allclose(embedded(student), embedded(teacher) @ directions.T, atol=1e-6)
    # One that is as wide has room for all.
    of_same = starts.start_embeddings(same, whole)
    np.testing.assert_allclose(embedded(same) @ of_same, embedded(whole), atol=1e-6)


def test_what_does_not_fit_begins_by_itself() -> None:
    teacher = families.make("bert")
    for student in (families.make("bert", hidden_size=32), families.make("electra"), families.make("albert")):
        before = [one.numpy() for one in student.weights]
        assert starts.start_embeddings(student, teacher) is None
        for one, weight in zip(before, student.weights, strict=True):
            np.testing.assert_array_equal(one, weight)
