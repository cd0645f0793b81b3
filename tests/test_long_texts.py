"""Training and scoring of texts with several windows: the loss is that of texts, whatever windows they have."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special

from tfft import optimizers, scoring
from tfft.backend import keras, tf
from tfft.data import Rows, Split, batches
from tfft.data.encode import Encoded, encode
from tfft.data.windows import LongText
from tfft.models import checkpoint, heads, load
from tfft.problems import SingleLabel

TEXTS, MAX_LENGTH = 27, 16
WORDS = ("the", "movie", "was", "good", "bad", "not", "and")


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 48))) for _ in range(TEXTS)]


@pytest.fixture(scope="module")
def encoded(tokenizer: Any, texts: list[str]) -> Encoded:
    found = encode([texts], tokenizer, MAX_LENGTH, long_text=LongText("sliding_window", stride=3))
    assert {1, 2, 3, 4} <= set(np.diff(found.window_starts))
    return found


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> keras.Model:
    """A tiny BERT without dropout, so that it computes the same in training."""
    keras.utils.set_random_seed(0)
    found = checkpoint.find(str(tiny_checkpoint))
    made = load.load_classifier(found, ["0", "1", "2"], "TFAutoModelForSequenceClassification").model
    for layer in made.submodules:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    # Or all logits are nearly alike.
    made.classifier.kernel.assign(np.random.default_rng(1).normal(size=made.classifier.kernel.shape))
    return made


def numbers(count: int = TEXTS) -> np.ndarray:
    """Each text's own number in place of a label, so that batches say which texts they hold."""
    return np.arange(count, dtype=np.int32)


def batched(encoded: Encoded, tokenizer: Any, labels: np.ndarray | None = None, **more: Any) -> tf.data.Dataset:
    given = {"batch_size": 4, "seed": 1, "widths": batches.bucket_widths(encoded.lengths, MAX_LENGTH), **more}
    return batches.of_documents(encoded, numbers() if labels is None else labels, tokenizer=tokenizer, **given)


def epochs(dataset: tf.data.Dataset, steps: int, count: int = 1) -> list[list[Any]]:
    taken = list(dataset.take(steps * count).as_numpy_iterator())
    return [taken[start : start + steps] for start in range(0, steps * count, steps)]


def labels_in(targets: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(targets[:, 1:]).view(np.float32)


def order_of(epoch: list[Any]) -> list[int]:
    return [int(number) for _, targets, _ in epoch for number in labels_in(targets)[:, 0]]


def window(encoded: Encoded, row: int) -> list[int]:
    return encoded.input_ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 27, 64])
def test_every_text_once_an_epoch_in_an_order_of_its_own(encoded: Encoded, tokenizer: Any, batch_size: int) -> None:
    steps = batches.batches_per_epoch(TEXTS, batch_size)
    first, second = epochs(batched(encoded, tokenizer, batch_size=batch_size), steps, 2)
    assert sorted(order_of(first)) == sorted(order_of(second)) == list(range(TEXTS))
    assert order_of(first) != order_of(second)
    sizes = sorted(len(targets) for _, targets, _ in first)
    assert sizes == sorted([batch_size] * (steps - 1) + [TEXTS - batch_size * (steps - 1)])
    assert all((weights == 1).all() and len(weights) == len(targets) for _, targets, weights in first)


def test_the_order_comes_from_seed_and_epoch(encoded: Encoded, tokenizer: Any) -> None:
    def orders(**more: Any) -> list[list[int]]:
        return [order_of(epoch) for epoch in epochs(batched(encoded, tokenizer, **more), 7, 2)]

    assert orders() == orders()
    assert orders(seed=2) != orders()
    assert orders(first_epoch=1)[0] == orders()[1]


def test_a_batch_has_all_windows_of_its_texts_in_order(encoded: Encoded, tokenizer: Any) -> None:
    widths, starts = batches.bucket_widths(encoded.lengths, MAX_LENGTH), encoded.window_starts
    for inputs, targets, _ in epochs(batched(encoded, tokenizer), 7)[0]:
        chosen = labels_in(targets)[:, 0].astype(int)
        expected = [window(encoded, row) for text in chosen for row in range(starts[text], starts[text + 1])]
        real = inputs["attention_mask"].astype(bool)
        assert [ids[mask].tolist() for ids, mask in zip(inputs["input_ids"], real, strict=True)] == expected
        assert (inputs["input_ids"][~real] == tokenizer.pad_token_id).all()
        assert targets[:, 0].tolist() == np.diff(starts)[chosen].tolist()
        longest = max(map(len, expected))
        assert inputs["input_ids"].shape[1] == min(width for width in widths if width >= longest)
        assert {values.shape for values in inputs.values()} == {real.shape}


def test_texts_of_as_many_windows_are_together(encoded: Encoded, tokenizer: Any) -> None:
    counts = [sorted(targets[:, 0].tolist()) for _, targets, _ in epochs(batched(encoded, tokenizer), 7)[0]]
    assert [count for batch in sorted(counts) for count in batch] == sorted(np.diff(encoded.window_starts))
    assert max(map(sum, counts)) == batches.most_windows(encoded.window_starts, 4)


def test_most_windows_by_hand() -> None:
    """Texts of 1, 3, 2, 5 and 4 windows: by twos 1 + 2, 3 + 4 and 5."""
    starts = np.cumsum([0, 1, 3, 2, 5, 4])
    assert [batches.most_windows(starts, size) for size in (1, 2, 3, 5, 9)] == [5, 7, 9, 15, 15]


def test_texts_of_one_window_are_batched_as_rows_are(tokenizer: Any) -> None:
    """The same rows in the same order, with the same inputs and weights."""
    texts = [["good " * (count % 9 + 1) for count in range(TEXTS)]]
    rows = encode(texts, tokenizer, MAX_LENGTH)
    windows = encode(texts, tokenizer, MAX_LENGTH, long_text=LongText("sliding_window"))
    given: dict[str, Any] = {
        "batch_size": 4,
        "seed": 3,
        "tokenizer": tokenizer,
        "widths": batches.bucket_widths(rows.lengths, MAX_LENGTH),
        "gradient_accumulation_steps": 2,
        "row_weights": np.random.default_rng(0).random(TEXTS).astype(np.float32),
    }
    (expected,) = epochs(batches.bucketed(rows, numbers(), **given), 7)
    (found,) = epochs(batches.of_documents(windows, numbers(), **given), 7)
    for (inputs, labels, weights), (their_inputs, targets, their_weights) in zip(expected, found, strict=True):
        assert labels_in(targets)[:, 0].tolist() == labels.tolist()
        np.testing.assert_array_equal(weights, their_weights)
        assert inputs.keys() == their_inputs.keys()
        for name, values in inputs.items():
            np.testing.assert_array_equal(values, their_inputs[name])


# --- the loss ---------------------------------------------------------------------------------------------------------

COUNTS = np.array([1, 3, 2, 1])
SINGLE, SEVERAL = np.array([2, 0, 1, 1]), np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
FLOATS = np.array([3.8, -1.25, 0.1, 1e6])


def targets_of(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """As `of_documents` gives them for texts of `counts` windows."""
    bits = labels.astype(np.float32).view(np.int32).reshape(len(labels), -1)
    return np.concatenate([counts[:, None].astype(np.int32), bits], axis=1)


def pooled_by_hand(logits: np.ndarray, pooling: str) -> np.ndarray:
    ends = np.cumsum(COUNTS)
    parts = [logits[end - count : end] for end, count in zip(ends, COUNTS, strict=True)]
    return np.stack([part.mean(axis=0) if pooling == "mean" else part.max(axis=0) for part in parts])


def cross_entropy(logits: np.ndarray) -> np.ndarray:
    return -scipy.special.log_softmax(logits, axis=1)[np.arange(4), SINGLE]


def binary(logits: np.ndarray) -> np.ndarray:
    return -scipy.special.log_expit(np.where(SEVERAL, logits, -logits)).mean(axis=1)


def squared(logits: np.ndarray) -> np.ndarray:
    return (logits[:, 0] - FLOATS) ** 2


KINDS = [
    (heads.CrossEntropyFromLogits(), SINGLE, 3, cross_entropy),
    (heads.BinaryCrossEntropyFromLogits(), SEVERAL, 3, binary),
    (heads.SquaredError(), FLOATS, 1, squared),
]


@pytest.mark.parametrize("pooling", heads.POOLINGS)
@pytest.mark.parametrize(("loss", "labels", "outputs", "expected"), KINDS, ids=["single", "several", "number"])
def test_the_loss_is_that_of_pooled_logits(loss: Any, labels: Any, outputs: int, expected: Any, pooling: str) -> None:
    random = np.random.default_rng(0)
    logits, weights = random.normal(size=(COUNTS.sum(), outputs)) * 3, random.random(4).astype(np.float32)
    losses = expected(pooled_by_hand(logits, pooling))
    pooled = heads.PooledOverWindows(loss, pooling)
    targets, given = targets_of(labels, COUNTS), logits.astype(np.float32)
    np.testing.assert_allclose(pooled.call(targets, given), losses, rtol=1e-5)
    assert float(pooled(targets, given)) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(pooled(targets, given, weights)) == pytest.approx((losses * weights).mean(), rel=1e-5)


def test_options_of_the_loss_are_those_of_the_loss_within() -> None:
    logits = np.random.default_rng(0).normal(size=(COUNTS.sum(), 3)).astype(np.float32)
    options = {"label_smoothing": 0.1, "focal_gamma": 2.0, "class_weights": [1.0, 2.0, 3.0]}
    within = heads.CrossEntropyFromLogits(**options)
    found = heads.PooledOverWindows(within).call(targets_of(SINGLE, COUNTS), logits)
    np.testing.assert_allclose(found, within.call(SINGLE, pooled_by_hand(logits, "mean")), rtol=1e-5)
    again = heads.PooledOverWindows.from_config(heads.PooledOverWindows(within, "max").get_config())
    assert (again.loss, again.pooling, again.name) == (within, "max", within.name)


def test_texts_of_one_window_lose_what_rows_lose() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    within = heads.CrossEntropyFromLogits()
    for pooling in heads.POOLINGS:
        found = heads.PooledOverWindows(within, pooling).call(targets_of(SINGLE, np.ones(4, int)), logits)
        np.testing.assert_allclose(found, within.call(SINGLE, logits), rtol=1e-6)


def test_an_unknown_pooling_is_refused() -> None:
    for refused in (
        lambda: heads.PooledOverWindows(heads.SquaredError(), "sum"),
        lambda: heads.pool_windows(np.zeros((1, 1)), None, "sum"),
    ):
        with pytest.raises(ValueError, match="pooling: got 'sum'; expected one of mean, max"):
            refused()


def test_half_precision_changes_neither_labels_nor_windows() -> None:
    """In bfloat16, 257 windows would be 256, and 3.8 would be 3.796875; both go through Keras's own casts here."""
    counts, labels = np.array([257, 1]), np.array([3.8, 300.5])
    inputs = tf.concat([tf.ones([257, 1]), tf.fill([1, 1], 2.0)], axis=0)
    model = keras.Sequential([keras.layers.Lambda(lambda values: tf.cast(values, tf.bfloat16))])
    model.compile(loss=heads.PooledOverWindows(heads.SquaredError()))
    data = tf.data.Dataset.from_tensors((inputs, targets_of(labels, counts)))
    assert model.evaluate(data, verbose=0) == pytest.approx((2.8**2 + 298.5**2) / 2, rel=1e-6)


# --- training ---------------------------------------------------------------------------------------------------------


def logits_of_windows(model: keras.Model, encoded: Encoded) -> list[tf.Tensor]:
    """(outputs,) of each window, one by one without padding."""
    return [model({"input_ids": tf.constant([window(encoded, row)])}).logits[0] for row in range(len(encoded))]


def pooled_one_by_one(windows: list[tf.Tensor], encoded: Encoded, pooling: str) -> tf.Tensor:
    """(texts, outputs)."""
    starts, pool = encoded.window_starts, {"mean": tf.reduce_mean, "max": tf.reduce_max}[pooling]
    parts = [windows[start:end] for start, end in itertools.pairwise(starts)]
    return tf.stack([pool(tf.stack(part), axis=0) for part in parts])


@pytest.fixture(scope="module")
def window_logits(model: keras.Model, encoded: Encoded) -> list[tf.Tensor]:
    return logits_of_windows(model, encoded)


@pytest.mark.parametrize("pooling", heads.POOLINGS)
def test_gradients_are_those_of_pooling_by_hand(
    texts: list[str], tokenizer: Any, model: keras.Model, pooling: str
) -> None:
    few = encode([texts[:5]], tokenizer, MAX_LENGTH, long_text=LongText("sliding_window", stride=3))
    assert len(set(np.diff(few.window_starts))) > 2
    (batch,) = batched(few, tokenizer, numbers(5) % 3, batch_size=5).take(1)
    inputs, targets, weights = batch
    variables = [model.classifier.kernel, model.bert.encoder.layer[0].attention.self_attention.query.kernel]
    with tf.GradientTape() as tape:
        loss = heads.PooledOverWindows(heads.CrossEntropyFromLogits(), pooling)(targets, model(inputs).logits, weights)
    found = tape.gradient(loss, variables)
    with tf.GradientTape() as tape:
        logits = pooled_one_by_one(logits_of_windows(model, few), few, pooling)
        by_hand = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(numbers(5) % 3, logits))
    expected = tape.gradient(by_hand, variables)
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 1e-3
        np.testing.assert_allclose(one, other, atol=1e-6)


class Toy(keras.Model):
    """Logits of a window: the mean of its tokens' vectors, times a matrix."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.vectors = keras.layers.Embedding(100, 8, embeddings_initializer=keras.initializers.RandomNormal(seed=1))
        self.last = keras.layers.Dense(outputs, kernel_initializer=keras.initializers.GlorotUniform(seed=2))

    def call(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        real = tf.cast(inputs["attention_mask"], tf.float32)[..., tf.newaxis]
        return self.last(tf.reduce_sum(self.vectors(inputs["input_ids"]) * real, 1) / tf.reduce_sum(real, 1))


def fitted(encoded: Encoded, tokenizer: Any, batch_size: int, accumulated: int, rate: float) -> tuple[Any, float]:
    """A toy after one epoch of Keras's own `fit`, and the loss that `fit` reports."""
    steps = batches.batches_per_epoch(TEXTS, batch_size)
    model = Toy(3)
    optimizer = optimizers.make(
        "adamw", rate, epsilon=1.0, gradient_accumulation_steps=accumulated, batches_per_epoch=steps
    )
    model.compile(optimizer, heads.PooledOverWindows(heads.CrossEntropyFromLogits()))
    weights = np.random.default_rng(3).random(TEXTS).astype(np.float32)
    data = batched(
        encoded,
        tokenizer,
        numbers() % 3,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulated,
        row_weights=weights,
    )
    history = model.fit(data, steps_per_epoch=steps, verbose=0)
    return model, history.history["loss"][0]


def test_accumulated_batches_equal_one_large_batch(encoded: Encoded, tokenizer: Any) -> None:
    """27 texts by fours: six whole batches and one of three, with weights of their own."""
    large, large_loss = fitted(encoded, tokenizer, TEXTS, 1, 100.0)
    small, _ = fitted(encoded, tokenizer, 4, 7, 100.0)
    begun, begun_loss = fitted(encoded, tokenizer, 4, 1, 0.0)
    for one, other, before in zip(large.get_weights(), small.get_weights(), begun.get_weights(), strict=True):
        assert np.abs(one - before).max() > 1e-3
        np.testing.assert_allclose(one - before, other - before, atol=2e-6)
    # What Keras reports over batches of different numbers of windows is the mean over texts.
    assert begun_loss == pytest.approx(large_loss, rel=1e-5)


def test_a_transformer_is_trained_by_fit(
    encoded: Encoded, tokenizer: Any, model: keras.Model, window_logits: list[tf.Tensor]
) -> None:
    """Through the training step of Transformers; at rate 0, so that the loss of the whole epoch is known."""
    labels = numbers() % 3
    model.compile(optimizers.make("adamw", 0.0), heads.PooledOverWindows(heads.CrossEntropyFromLogits(), "max"))
    history = model.fit(batched(encoded, tokenizer, labels), steps_per_epoch=7, verbose=0)
    logits = pooled_one_by_one(window_logits, encoded, "max").numpy()
    assert history.history["loss"] == [pytest.approx(heads.mean_cross_entropy(logits, labels), rel=1e-4)]


def test_r_drop_compares_the_same_texts() -> None:
    """Two texts of one and two windows, twice: the divergence is that of the pooled logits of either pass."""
    counts, labels = np.array([1, 2]), np.array([0, 2])
    inputs = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    one_copy = tf.data.Dataset.from_tensors((inputs, targets_of(labels, counts), np.ones(2, np.float32)))
    (both, targets, weights) = next(iter(batches.twice(one_copy)))
    logits = np.asarray(both) + np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)  # as dropout does
    within = heads.CrossEntropyFromLogits(r_drop_alpha=0.7)
    pooled = np.stack([logits[0], logits[1:3].mean(axis=0), logits[3], logits[4:].mean(axis=0)])
    expected = within(np.tile(labels, 2), pooled)
    assert float(heads.PooledOverWindows(within)(targets, logits, weights)) == pytest.approx(float(expected), rel=1e-5)


# --- prediction -------------------------------------------------------------------------------------------------------


def test_pooling_of_predictions_by_hand() -> None:
    logits = np.array([[1, 5], [2, 4], [6, 0], [7, 2]], np.float32)
    starts = np.array([0, 1, 4])
    mean, largest = heads.pool_windows(logits, starts, "mean"), heads.pool_windows(logits, starts, "max")
    np.testing.assert_allclose(mean, [[1, 5], [5, 2]])
    np.testing.assert_allclose(largest, [[1, 5], [7, 4]])
    assert mean.dtype == largest.dtype == np.float32
    assert heads.pool_windows(logits, None, "max") is logits


@pytest.mark.parametrize("pooling", heads.POOLINGS)
def test_scores_count_texts(
    encoded: Encoded,
    texts: list[str],
    tokenizer: Any,
    model: keras.Model,
    window_logits: list[tf.Tensor],
    pooling: str,
) -> None:
    labels = numbers() % 3
    split = Split("validation", Rows((texts,), labels.tolist(), list(range(TEXTS)), "rows"), encoded, labels)
    problem = SingleLabel(("0", "1", "2"))
    scorer = scoring.Scorer(
        model, problem, tokenizer, split, ("accuracy",), batch_size=8, max_length=MAX_LENGTH, pooling=pooling
    )
    scores = scorer()
    expected = pooled_one_by_one(window_logits, encoded, pooling).numpy()
    np.testing.assert_allclose(scorer.logits, expected, atol=1e-5)
    assert scores == {
        "loss": pytest.approx(heads.mean_cross_entropy(expected, labels), rel=1e-4),
        "accuracy": pytest.approx((expected.argmax(axis=1) == labels).mean()),
    }
