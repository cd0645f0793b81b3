"""Every row once an epoch, in shapes known beforehand, and the same loss whichever way the batches are made."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft.backend import keras, tf
from tfft.data import batches
from tfft.data.encode import Encoded, encode
from tfft.models import checkpoint, heads, load

WORDS = ("the", "movie", "was", "good", "bad", "not", "and", "a", "yes")


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> keras.Model:
    keras.utils.set_random_seed(0)
    found = checkpoint.find(str(tiny_checkpoint))
    return load.load_classifier(found, ["0", "1"], "TFAutoModelForSequenceClassification").model


@pytest.fixture(scope="module")
def encoded(tokenizer: Any) -> Encoded:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(1, 50))) for _ in range(53)]
    return encode([texts], tokenizer, max_length=40)


def labels_of(encoded: Encoded) -> np.ndarray:
    """Each row's own number in place of a label, so that batches say which rows they hold."""
    return np.arange(len(encoded), dtype=np.int32)


def rows_of(encoded: Encoded, index: int) -> list[int]:
    return encoded.input_ids[encoded.offsets[index] : encoded.offsets[index + 1]].tolist()


# --- widths -----------------------------------------------------------------------------------------------------------


def padded_tokens(lengths: np.ndarray, widths: tuple[int, ...]) -> int:
    return int(np.asarray(widths)[np.searchsorted(widths, lengths)].sum())


@pytest.mark.parametrize("seed", range(6))
def test_widths_pad_least_of_all_choices(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 41, 30)
    widths = batches.bucket_widths(lengths, max_length=40, buckets=3, multiple=8)
    candidates = sorted({min(-(-length // 8) * 8, 40) for length in lengths})
    choices = [
        (*inner, candidates[-1])
        for count in range(3)
        for inner in itertools.combinations(candidates[:-1], min(count, len(candidates) - 1))
    ]
    assert padded_tokens(lengths, widths) == min(padded_tokens(lengths, choice) for choice in choices)
    assert len(widths) <= 3
    assert widths[-1] >= lengths.max()


@pytest.mark.parametrize(
    ("lengths", "max_length", "widths"),
    [
        ([5, 5, 5], 64, (8,)),
        ([8, 9, 16, 17], 64, (8, 16, 24)),
        ([60, 64], 62, (62,)),
        ([1], 8, (8,)),
    ],
)
def test_widths_by_hand(lengths: list[int], max_length: int, widths: tuple[int, ...]) -> None:
    assert batches.bucket_widths(np.minimum(lengths, max_length), max_length) == widths


def test_padding_share_by_hand() -> None:
    assert batches.padding_share(np.array([4, 8, 12]), (8, 16)) == pytest.approx(1 - 24 / 32)


# --- bucketed ---------------------------------------------------------------------------------------------------------


def bucketed(encoded: Encoded, tokenizer: Any, seed: int = 1, batch_size: int = 8, **more: Any) -> tf.data.Dataset:
    widths = batches.bucket_widths(encoded.lengths, 40)
    return batches.bucketed(
        encoded, labels_of(encoded), batch_size=batch_size, widths=widths, seed=seed, tokenizer=tokenizer, **more
    )


def epochs(dataset: tf.data.Dataset, steps: int, count: int = 2) -> list[list[Any]]:
    taken = list(dataset.take(steps * count).as_numpy_iterator())
    return [taken[start : start + steps] for start in range(0, steps * count, steps)]


def order_of(epoch: list[Any]) -> list[int]:
    return np.concatenate([batch[1] for batch in epoch]).tolist()


@pytest.mark.parametrize("batch_size", [1, 7, 8, 53, 64])
def test_bucketed_has_every_row_once_an_epoch(encoded: Encoded, tokenizer: Any, batch_size: int) -> None:
    steps = batches.steps_per_epoch(len(encoded), batch_size)
    for epoch in epochs(bucketed(encoded, tokenizer, batch_size=batch_size), steps, 3):
        assert sorted(order_of(epoch)) == list(range(len(encoded)))
        assert sorted(len(batch[1]) for batch in epoch)[1:] == [batch_size] * (steps - 1)


def test_bucketed_batches_hold_the_rows_tokens_and_nothing_else(encoded: Encoded, tokenizer: Any) -> None:
    widths = batches.bucket_widths(encoded.lengths, 40)
    (epoch,) = epochs(bucketed(encoded, tokenizer), 7, 1)
    for inputs, rows, weights in epoch:
        assert inputs["input_ids"].shape[1] in widths
        assert (weights == 1).all()
        for index, row in enumerate(rows):
            tokens = rows_of(encoded, row)
            mask = inputs["attention_mask"][index]
            assert inputs["input_ids"][index][: len(tokens)].tolist() == tokens
            assert (inputs["input_ids"][index][len(tokens) :] == tokenizer.pad_token_id).all()
            assert mask.tolist() == [1] * len(tokens) + [0] * (len(mask) - len(tokens))


def test_bucketed_order_comes_from_seed_and_epoch(encoded: Encoded, tokenizer: Any) -> None:
    first, second = map(order_of, epochs(bucketed(encoded, tokenizer), 7))
    assert first != second
    assert [order_of(epoch) for epoch in epochs(bucketed(encoded, tokenizer), 7)] == [first, second]
    assert order_of(epochs(bucketed(encoded, tokenizer, seed=2), 7, 1)[0]) != first


def test_bucketed_pads_less_than_random_batches(encoded: Encoded, tokenizer: Any) -> None:
    (epoch,) = epochs(bucketed(encoded, tokenizer), 7, 1)
    lengths = np.random.default_rng(0).permutation(encoded.lengths)
    at_random = sum(8 * max(lengths[start : start + 8]) for start in range(0, 53, 8))
    assert sum(batch[0]["input_ids"].size for batch in epoch) < at_random


def test_static_shapes_are_whole_and_weigh_the_same(encoded: Encoded, tokenizer: Any, model: keras.Model) -> None:
    labels = np.arange(len(encoded), dtype=np.int32) % 2
    loss = heads.CrossEntropyFromLogits()

    def losses(static_shapes: bool) -> list[float]:
        dataset = batches.bucketed(
            encoded,
            labels,
            batch_size=8,
            widths=batches.bucket_widths(encoded.lengths, 40),
            seed=1,
            tokenizer=tokenizer,
            static_shapes=static_shapes,
        )
        found = []
        for inputs, targets, weights in dataset.take(7):
            if static_shapes:
                assert targets.shape == (8,)
            found.append(float(loss(targets, model(inputs).logits, weights)))
        return found

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-5)


# --- padded -----------------------------------------------------------------------------------------------------------


def padded(encoded: Encoded, tokenizer: Any, **more: Any) -> tf.data.Dataset:
    return batches.padded(encoded, labels_of(encoded), batch_size=8, tokenizer=tokenizer, shuffle=True, **more)


def test_padded_has_every_row_once_and_repeats_by_the_global_seed(encoded: Encoded, tokenizer: Any) -> None:
    def two_epochs() -> list[list[int]]:
        keras.utils.set_random_seed(5)
        dataset = batches.without_autotune(padded(encoded, tokenizer).repeat())
        return [order_of(epoch) for epoch in epochs(dataset, 7)]

    first, second = two_epochs()
    assert sorted(first) == sorted(second) == list(range(len(encoded)))
    assert first != second
    assert two_epochs() == [first, second]


def test_padded_to_max_length(encoded: Encoded, tokenizer: Any) -> None:
    shapes = {batch[0]["input_ids"].shape[1] for batch in padded(encoded, tokenizer, max_length=40).as_numpy_iterator()}
    assert shapes == {40}


def test_both_ways_give_the_same_loss_on_the_same_rows(encoded: Encoded, tokenizer: Any, model: keras.Model) -> None:
    def logits_by_row(dataset: Any) -> np.ndarray:
        found = np.zeros((len(encoded), 2), np.float32)
        for inputs, rows, *_ in dataset:
            found[np.asarray(rows)] = model({name: tf.cast(value, tf.int32) for name, value in inputs.items()}).logits
        return found

    labels = labels_of(encoded) % 2
    by_buckets = logits_by_row(bucketed(encoded, tokenizer).take(7))
    by_padding = logits_by_row(padded(encoded, tokenizer))
    np.testing.assert_allclose(by_buckets, by_padding, atol=1e-5)
    assert heads.mean_cross_entropy(by_buckets, labels) == pytest.approx(heads.mean_cross_entropy(by_padding, labels))


# --- prediction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad_to_max_length", [False, True])
def test_predictions_come_in_the_rows_order(
    encoded: Encoded, tokenizer: Any, model: keras.Model, pad_to_max_length: bool
) -> None:
    dataset, order = batches.for_prediction(
        encoded, batch_size=8, tokenizer=tokenizer, max_length=40, pad_to_max_length=pad_to_max_length
    )
    together = heads.logits_of(model, dataset, order)
    alone = [model({"input_ids": tf.constant([rows_of(encoded, row)])}).logits[0] for row in range(0, 53, 10)]
    np.testing.assert_allclose(together[::10], alone, atol=1e-5)
