"""Scores of known logits against scikit-learn, whatever order the model sees the rows in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from tfft import scoring
from tfft.backend import keras, tf
from tfft.data import Rows, Split
from tfft.data.encode import encode
from tfft.errors import RecipeError
from tfft.models import checkpoint, heads
from tfft.problems import Problem, SingleLabel

ROWS = 23


class Written(keras.Model):
    """Gives each row the logits that are written down for its length, and notes the shapes it was given."""

    def __init__(self, by_length: np.ndarray) -> None:
        super().__init__()
        self.by_length = tf.Variable(by_length, trainable=False)
        self.shapes: list[tuple[int, ...]] = []
        self.compile(run_eagerly=True)  # so that shapes are known

    def call(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        self.shapes.append(tuple(inputs["input_ids"].shape))
        return {"logits": tf.gather(self.by_length, tf.reduce_sum(inputs["attention_mask"], axis=1))}


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


def split_of(tokenizer: Any, labels: np.ndarray | None) -> Split:
    """Rows of all lengths from 2 to ROWS + 1 tokens, in no order."""
    words = np.random.default_rng(0).permutation(ROWS)
    texts = [" ".join(["good"] * count) for count in words]
    rows = Rows((texts,), None if labels is None else labels.tolist(), list(range(ROWS)), "rows")
    encoded = encode([texts], tokenizer, 32)
    assert sorted(encoded.lengths) == list(range(2, ROWS + 2))
    return Split("validation", rows, encoded, labels)


def classes_of(count: int) -> Problem:
    return SingleLabel(tuple(map(str, range(count))))


def scorer_of(tokenizer: Any, classes: int, names: tuple[str, ...], **more: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """A scorer, and the logits and labels of its rows in their own order."""
    random = np.random.default_rng(1)
    by_length = random.normal(size=(ROWS + 2, classes)).astype(np.float32)
    labels = random.integers(0, classes, ROWS).astype(np.int32)
    split = split_of(tokenizer, labels)
    problem = classes_of(classes)
    scorer = scoring.Scorer(Written(by_length), problem, tokenizer, split, names, batch_size=4, max_length=32, **more)
    return scorer, by_length[split.encoded.lengths], labels


@pytest.mark.parametrize("pad_to_max_length", [False, True])
def test_scores_are_those_of_scikit_learn(tokenizer: Any, pad_to_max_length: bool) -> None:
    scorer, logits, labels = scorer_of(tokenizer, 2, ("accuracy", "f1"), pad_to_max_length=pad_to_max_length)
    assert scorer.logits is None
    scores = scorer()
    predictions = logits.argmax(axis=1)
    assert scores == {
        "loss": pytest.approx(sklearn.metrics.log_loss(labels, heads.probabilities(logits)), rel=1e-6),
        "accuracy": pytest.approx(sklearn.metrics.accuracy_score(labels, predictions)),
        "f1": pytest.approx(sklearn.metrics.f1_score(labels, predictions)),
    }
    np.testing.assert_allclose(scorer.logits, logits, rtol=1e-6)
    assert all(type(value) is float for value in scores.values())
    # 23 rows of 2 to 24 tokens, the shortest first, at most as many tokens as 4 of 32: up to 11, 18, 23 and 24.
    shapes = [(4, 32)] * 5 + [(3, 32)] if pad_to_max_length else [(10, 12), (7, 18), (5, 24), (1, 24)]
    assert scorer.model.shapes == shapes


def test_scores_of_many_classes(tokenizer: Any) -> None:
    scorer, logits, labels = scorer_of(tokenizer, 5, ("f1_macro", "matthews_correlation"))
    predictions = logits.argmax(axis=1)
    assert scorer() == {
        "loss": pytest.approx(sklearn.metrics.log_loss(labels, heads.probabilities(logits), labels=range(5)), rel=1e-6),
        "f1_macro": pytest.approx(sklearn.metrics.f1_score(labels, predictions, average="macro")),
        "matthews_correlation": pytest.approx(sklearn.metrics.matthews_corrcoef(labels, predictions)),
    }


def test_scores_follow_the_weights(tokenizer: Any) -> None:
    scorer, logits, labels = scorer_of(tokenizer, 2, ("accuracy",))
    before = scorer()
    scorer.model.by_length.assign(-scorer.model.by_length)
    after = scorer()
    assert after["accuracy"] == pytest.approx(1 - before["accuracy"])
    assert after["loss"] == pytest.approx(heads.mean_cross_entropy(-logits, labels), rel=1e-6)


def test_rows_are_counted_as_they_are_answered(tokenizer: Any) -> None:
    scorer, logits, _ = scorer_of(tokenizer, 2, ())
    told: list[tuple[int, int]] = []
    found = scorer.answer(lambda rows: told.append((rows, len(scorer.model.shapes))))
    np.testing.assert_array_equal(found, logits)
    assert found is scorer.logits
    # Each once the next one has begun, so that the device never waits; the last one at the end.
    assert told == [(10, 2), (7, 3), (5, 4), (1, 4)]


def test_rows_without_labels_have_no_scores(tokenizer: Any) -> None:
    with pytest.raises(AssertionError, match="validation has no labels to score against"):
        scoring.Scorer(
            keras.Model(), classes_of(2), tokenizer, split_of(tokenizer, None), (), batch_size=4, max_length=32
        )


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        ((), 2, ("loss",)),
        (("accuracy",), 2, ("loss", "accuracy")),
        (("glue/mrpc",), 2, ("loss", "accuracy", "f1")),
        (("accuracy", "f1", "accuracy"), 2, ("loss", "accuracy", "f1")),
        (("f1_macro", "f1_micro"), 7, ("loss", "f1_macro", "f1_micro")),
    ],
)
def test_names_of_scores_are_known_beforehand(names: tuple[str, ...], classes: int, expected: tuple[str, ...]) -> None:
    assert scoring.score_names(names, classes_of(classes)) == expected


@pytest.mark.parametrize("name", ["f1", "glue/mrpc", "glue/qqp"])
def test_f1_of_three_classes_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"metric {name} is for two classes.*f1_macro or f1_micro"):
        scoring.score_names((name,), classes_of(3))
