"""A step in which a student learns from what is inside its teacher: what it compares, trains and leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import families
from tfft.backend import keras, tf
from tfft.distillation.losses import Distilled, attention_scores
from tfft.distillation.matching import Weights, match, trained_variables
from tfft.models import faster, heads

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout": 0.0, "attention_dropout": 0.0}
ROWS = {
    "input_ids": np.array([[1, 5, 9, 7, 2], [1, 8, 6, 2, 0], [1, 4, 2, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int32),
}
LABELS = np.array([0, 1, 0])
ALL = Weights(hidden=1.0, attention=0.5, relations=2.0, relation_heads=4)


def still(family: str = "bert", **changes: Any) -> keras.Model:
    """A toy without dropout."""
    model = families.make(family, **STILL, **changes)
    for weight in model.weights:  # what is random is too small for anything to be told apart
        if "kernel" in weight.name:
            weight.assign(10 * weight)
    return model


def compiled(student: keras.Model, labels_weight: float = 0.0, optimizer: Any = None) -> None:
    loss = Distilled(heads.CrossEntropyFromLogits(), "single_label_classification", labels_weight, 0.0)
    student.compile(optimizer or keras.optimizers.Adam(1e-2), loss)
    student.optimizer.build(trained_variables(student))


def packed(labels: np.ndarray = LABELS) -> np.ndarray:
    """Labels with logits of a teacher, which count nothing here."""
    return np.hstack([labels[:, np.newaxis], np.zeros([len(labels), 2])]).astype(np.float32)


def losses_of(student: keras.Model, steps: int) -> list[float]:
    return [student.train_on_batch(ROWS, packed(), return_dict=True)["loss"] for _ in range(steps)]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_scores_are_those_that_the_model_attends_by(family: str) -> None:
    """The layers are found in their order, and what they attend by is made of the states below them."""
    model = still(family, num_hidden_layers=2) if family != "distilbert" else still(family)
    output = model(ROWS, output_hidden_states=True, output_attentions=True)
    layers = faster.attending_layers(model)
    assert len(layers) == len(output.attentions) == 2
    for layer, below, expected in zip(layers, output.hidden_states, output.attentions, strict=False):
        scores = attention_scores(layer.query(below), layer.key(below), layer.heads)
        real = ROWS["attention_mask"][:, np.newaxis, np.newaxis, :]
        found = tf.nn.softmax(scores - 1e9 * (1.0 - real))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_copy_has_nothing_to_learn() -> None:
    teacher = still()
    student = still()
    student.set_weights(teacher.get_weights())
    faster.accelerate(teacher)
    match(student, teacher, ALL)
    # Not Adam, which takes a whole step for whatever gradient there is.
    compiled(student, optimizer=keras.optimizers.SGD(1.0))
    before = student.get_weights()
    assert losses_of(student, 1)[0] == pytest.approx(0.0, abs=1e-5)
    for was, now in zip(before, student.get_weights(), strict=True):
        np.testing.assert_allclose(now, was, atol=1e-4)


EACH = (Weights(hidden=1.0), Weights(attention=1.0), Weights(relations=1.0, relation_heads=4))


def distance(student: keras.Model, teacher: keras.Model, weights: Weights) -> float:
    """Over all rows, by these weights."""
    match(student, teacher, weights)
    states = [one(ROWS, output_hidden_states=True).hidden_states for one in (teacher, student)]
    real = tf.constant(ROWS["attention_mask"], tf.float32)
    return float(tf.reduce_mean(student.train_step.distances(*states, real)))


def test_steps_report_the_distances_and_lessen_each() -> None:
    teacher, student = still(num_hidden_layers=4), still(num_hidden_layers=2)
    before, of_all = [distance(student, teacher, one) for one in EACH], distance(student, teacher, ALL)
    assert of_all == pytest.approx(before[0] + 0.5 * before[1] + 2.0 * before[2], rel=1e-5)
    compiled(student)
    theirs = teacher.get_weights()
    found = losses_of(student, 30)
    assert found[0] == pytest.approx(of_all, rel=1e-4)
    after = [distance(student, teacher, one) for one in EACH]
    assert all(now < 0.9 * was for was, now in zip(before, after, strict=True))
    # A teacher learns nothing.
    assert all((was == now).all() for was, now in zip(theirs, teacher.get_weights(), strict=True))
    # Of the same width nothing is mapped.
    assert len(trained_variables(student)) == len(student.trainable_variables)


def test_another_width_learns_by_a_map_that_is_no_part_of_the_model(tmp_path: Any) -> None:
    teacher, student = still(), still(hidden_size=8)
    names = [one.name for one in student.weights]
    match(student, teacher, Weights(hidden=1.0, relations=1.0, relation_heads=4))
    compiled(student)
    (extra,) = trained_variables(student)[len(student.trainable_variables) :]
    assert extra.shape == [8, 16]
    before = extra.numpy()
    found = losses_of(student, 30)
    assert found[-1] < found[0]
    assert (extra.numpy() != before).all()
    assert [one.name for one in student.weights] == names
    student.save_pretrained(tmp_path, safe_serialization=True)
    from safetensors.numpy import load_file

    assert len(load_file(tmp_path / "model.safetensors")) == len(names)


def test_the_loss_of_labels_and_the_weights_of_rows_count_as_without_a_teacher() -> None:
    teacher, student = still(), still()
    weights = np.array([2.0, 0.0, 1.0], np.float32)
    match(student, teacher, Weights(hidden=3.0))
    compiled(student, labels_weight=1.0)
    states = [one(ROWS, output_hidden_states=True) for one in (teacher, student)]
    real = tf.constant(ROWS["attention_mask"], tf.float32)
    distances = student.train_step.distances(*(one.hidden_states for one in states), real)
    of_labels = heads.CrossEntropyFromLogits().call(tf.constant(LABELS), states[1].logits)
    expected = float(tf.reduce_mean(weights * (distances + of_labels)))
    found = student.train_on_batch(ROWS, packed(), sample_weight=weights, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_inputs_that_a_teacher_does_not_know_are_left_out() -> None:
    """BERT takes types of tokens, DistilBERT does not."""
    teacher, student = still("distilbert"), still()
    match(student, teacher, Weights(hidden=1.0, attention=1.0, relations=1.0, relation_heads=2))
    compiled(student)
    types = {**ROWS, "token_type_ids": np.zeros_like(ROWS["input_ids"])}
    assert np.isfinite(student.train_on_batch(types, packed(), return_dict=True)["loss"])
