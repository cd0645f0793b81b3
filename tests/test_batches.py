"""Every row once an epoch, in shapes known beforehand, and the same loss whichever way the batches are made."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
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


@pytest.fixture(scope="module")
def pairs(tokenizer: Any) -> Encoded:
    generator = np.random.default_rng(1)
    texts = [[" ".join(generator.choice(WORDS, generator.integers(0, 20))) for _ in range(29)] for _ in range(2)]
    return encode(texts, tokenizer, max_length=40)


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


@pytest.mark.parametrize(("rows", "multiple"), [(5000, 2), (500, 4), (200, 8), (39, 64), (3, 64)])
def test_rows_are_put_together_as_finely_as_batches_can_be_drawn_anew(rows: int, multiple: int) -> None:
    lengths = np.random.default_rng(1).integers(1, 65, rows)
    lengths[0] = 64
    np.testing.assert_array_equal(batches.sizes(lengths, batch_size=10), batches.rounded_up(lengths, multiple))


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


@pytest.mark.parametrize("seed", range(4))
def test_more_buckets_never_pad_more(seed: int) -> None:
    generator = np.random.default_rng(seed)
    max_length = int(generator.integers(20, 130))
    lengths = generator.integers(1, max_length + 1, 200)
    choices = [batches.bucket_widths(lengths, max_length, buckets) for buckets in range(1, 20)]
    padding = [padded_tokens(lengths, widths) for widths in choices]
    assert padding == sorted(padding, reverse=True)
    for buckets, widths in enumerate(choices, 1):
        assert len(widths) <= buckets
        assert list(widths) == sorted(set(widths))
        assert all(width % 8 == 0 or width == max_length for width in widths)
        assert lengths.max() <= widths[-1] <= max_length
    # With a width for every candidate, no row is padded by more than the rounding.
    assert padding[-1] == int(np.minimum(-(-lengths // 8) * 8, max_length).sum())


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
    steps = batches.batches_per_epoch(len(encoded), batch_size)
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


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["bucketed", "padded", "for_prediction"])
def test_padding_is_the_tokenizers_own(tiny_checkpoint: Path, pairs: Encoded, kind: str, side: str) -> None:
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    tokenizer.padding_side = side
    seen: list[int] = []
    for inputs, rows in batches_of(kind, pairs, tokenizer):
        assert set(inputs) == {"input_ids", "token_type_ids", "attention_mask"}
        width = inputs["input_ids"].shape[1]
        alone = {
            name: [getattr(pairs, name)[pairs.offsets[row] : pairs.offsets[row + 1]].tolist() for row in rows]
            for name in ("input_ids", "token_type_ids")
        }
        expected = tokenizer.pad(alone, padding="max_length", max_length=width, return_tensors="np")
        for name, values in inputs.items():
            np.testing.assert_array_equal(values, expected[name])
        seen.extend(rows)
    assert sorted(seen) == list(range(len(pairs)))


def batches_of(kind: str, encoded: Encoded, tokenizer: Any) -> list[tuple[dict[str, np.ndarray], list[int]]]:
    """One epoch: inputs, and the numbers of the rows that they hold."""
    if kind == "for_prediction":
        dataset, order = batches.for_prediction(encoded, batch_size=8, tokenizer=tokenizer, max_length=40)
        taken = list(dataset.as_numpy_iterator())
        ends = np.cumsum([len(inputs["input_ids"]) for inputs in taken])
        return [(inputs, rows.tolist()) for inputs, rows in zip(taken, np.split(order, ends[:-1]), strict=True)]
    stream = padded(encoded, tokenizer) if kind == "padded" else bucketed(encoded, tokenizer).take(4)
    return [(inputs, rows.tolist()) for inputs, rows, *_ in stream.as_numpy_iterator()]


def test_inputs_that_the_model_does_not_take_are_left_out(tiny_checkpoint: Path, pairs: Encoded) -> None:
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    tokenizer.model_input_names = ["input_ids"]
    for kind in ("bucketed", "for_prediction"):
        assert set(batches_of(kind, pairs, tokenizer)[0][0]) == {"input_ids"}


def test_bucketed_takes_the_narrowest_planned_width_that_holds_its_rows(encoded: Encoded, tokenizer: Any) -> None:
    widths = batches.bucket_widths(encoded.lengths, 40, buckets=3)
    dataset = batches.bucketed(encoded, labels_of(encoded), batch_size=2, widths=widths, seed=3, tokenizer=tokenizer)
    for epoch in epochs(dataset, 27, 3):
        mixed = 0
        for inputs, rows, _ in epoch:
            own = np.asarray(widths)[np.searchsorted(widths, encoded.lengths[rows])]
            assert inputs["input_ids"].shape == (len(rows), own.max())
            mixed += len(set(own)) > 1
        # Only where one bucket ends and the next begins may a batch hold rows of both.
        assert mixed <= len(widths) - 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_labels_keep_their_kind(encoded: Encoded, tokenizer: Any, dtype: type) -> None:
    labels = (labels_of(encoded) * 2).astype(dtype)
    widths = batches.bucket_widths(encoded.lengths, 40)
    dataset = batches.bucketed(encoded, labels, batch_size=8, widths=widths, seed=3, tokenizer=tokenizer)
    found = np.concatenate([batch[1] for batch in dataset.take(7).as_numpy_iterator()])
    assert found.dtype == dtype
    assert sorted(found) == labels.tolist()


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_any_seed_of_a_recipe_can_be_used(encoded: Encoded, tokenizer: Any, seed: int) -> None:
    first, second = map(order_of, epochs(bucketed(encoded, tokenizer, seed=seed), 7))
    assert sorted(first) == sorted(second) == list(range(len(encoded)))
    assert first != second


def test_the_order_inside_a_bucket_is_drawn_anew(encoded: Encoded, tokenizer: Any) -> None:
    """Rows that share a batch in one epoch do not in the next, and the partial batch is not always the last."""
    together, places = [], set()
    for epoch in epochs(bucketed(encoded, tokenizer), 7, 6):
        together.append({frozenset(batch[1].tolist()) for batch in epoch})
        places.add(next(at for at, batch in enumerate(epoch) if len(batch[1]) == 5))
    assert all(len(one & other) <= 1 for one, other in itertools.combinations(together, 2))
    assert len(places) > 1


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


@pytest.mark.parametrize(("batch_size", "real"), [(8, 5), (64, 53), (53, 53), (52, 1)])
def test_the_copies_of_static_shapes_weigh_nothing(
    encoded: Encoded, tokenizer: Any, batch_size: int, real: int
) -> None:
    steps = batches.batches_per_epoch(len(encoded), batch_size)
    losses = np.random.default_rng(0).random(len(encoded))  # of each row, whatever the model
    (epoch,) = epochs(bucketed(encoded, tokenizer, batch_size=batch_size, static_shapes=True), steps, 1)
    seen: list[int] = []
    sizes = []
    for inputs, rows, weights in epoch:
        assert {values.shape for values in inputs.values()} == {(batch_size, inputs["input_ids"].shape[1])}
        assert rows.shape == weights.shape == (batch_size,)
        chosen = rows[weights > 0]
        seen.extend(chosen.tolist())
        sizes.append(len(chosen))
        assert set(rows[weights == 0]) <= {chosen[-1]}
        assert weights.sum() == pytest.approx(batch_size)
        assert (weights * losses[rows]).mean() == pytest.approx(losses[chosen].mean())
    assert sorted(seen) == list(range(len(encoded)))
    assert sorted(sizes) == [real] + [batch_size] * (steps - 1)


def test_static_shapes_are_known_before_the_first_batch(encoded: Encoded, tokenizer: Any) -> None:
    inputs, labels, weights = bucketed(encoded, tokenizer, static_shapes=True).element_spec
    assert labels.shape == weights.shape == (8,)
    assert {spec.shape[0] for spec in inputs.values()} == {8}


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        ([8, 8, 5], 1, [1, 1, 1]),
        ([8, 8, 8, 8], 2, [1, 1, 1, 1]),
        # A window of 8 and 2 rows: 16 and 4 tenths; the batch left over is a window of its own.
        ([8, 2, 8], 2, [1.6, 0.4, 1]),
        ([8, 8, 2], 2, [1, 1, 1]),
        ([5, 8, 8], 9, [15 / 21, 24 / 21, 24 / 21]),
    ],
)
def test_windows_weigh_by_rows(rows: list[int], size: int, expected: list[float]) -> None:
    np.testing.assert_allclose(batches.window_weights(tf.constant(rows), size), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["bucketed", "static", "padded"])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_a_windows_mean_loss_is_that_of_its_rows(encoded: Encoded, tokenizer: Any, kind: str, size: int) -> None:
    losses = np.random.default_rng(0).random(len(encoded))  # of each row, whatever the model
    more = {"gradient_accumulation_steps": size}
    if kind == "padded":
        dataset = padded(encoded, tokenizer, **more)
    else:
        dataset = bucketed(encoded, tokenizer, static_shapes=kind == "static", **more).take(7)
    taken = [(rows, weights) for _, rows, weights in dataset.as_numpy_iterator()]
    assert len(taken) == 7
    for start in range(0, 7, size):
        window = taken[start : start + size]
        accumulated = np.mean([(losses[rows] * weights).mean() for rows, weights in window])
        chosen = np.concatenate([rows[weights > 0] for rows, weights in window])
        assert accumulated == pytest.approx(losses[chosen].mean(), rel=1e-5)


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


def test_padded_differs_between_seeds_and_keeps_the_order_unasked(encoded: Encoded, tokenizer: Any) -> None:
    orders = []
    for seed in (5, 6):
        keras.utils.set_random_seed(seed)
        orders.append(order_of(list(padded(encoded, tokenizer).as_numpy_iterator())))
    assert orders[0] != orders[1]
    plain = batches.padded(encoded, labels_of(encoded), batch_size=8, tokenizer=tokenizer, shuffle=False)
    taken = list(plain.as_numpy_iterator())
    assert order_of(taken) == list(range(len(encoded)))
    assert [len(batch[1]) for batch in taken] == [8] * 6 + [5]
    for inputs, rows in taken:
        assert inputs["input_ids"].shape[1] == encoded.lengths[rows].max()


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


def test_as_dataset_has_the_rows_as_they_are(pairs: Encoded) -> None:
    dataset = batches.as_dataset(pairs, labels_of(pairs))
    assert dataset.column_names == ["input_ids", "attention_mask", "token_type_ids", "labels"]
    assert len(dataset) == len(pairs)
    for row, found in enumerate(dataset):
        assert found["input_ids"] == rows_of(pairs, row)
        assert found["attention_mask"] == [1] * int(pairs.lengths[row])
        assert len(found["token_type_ids"]) == int(pairs.lengths[row])
        assert found["labels"] == row
    assert "labels" not in batches.as_dataset(pairs).column_names


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


def test_prediction_pads_little_and_says_how_many_batches(encoded: Encoded, tokenizer: Any) -> None:
    dataset, order = batches.for_prediction(
        encoded, batch_size=8, tokenizer=tokenizer, max_length=40, more_of_short=False
    )
    assert sorted(order) == list(range(len(encoded)))
    assert int(dataset.cardinality()) == 7
    shapes = [batch["input_ids"].shape for batch in dataset.as_numpy_iterator()]
    longest = [encoded.lengths[order[start : start + 8]].max() for start in range(0, 53, 8)]
    assert shapes == [(size, min(-(-most // 2) * 2, 40)) for size, most in zip([8] * 6 + [5], longest, strict=True)]
    assert shapes == sorted(shapes, key=lambda shape: shape[1])


@pytest.mark.parametrize("processor_tokens", [200, 10_000])
def test_prediction_takes_more_rows_of_short_texts_and_never_more_tokens(
    encoded: Encoded, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, processor_tokens: int
) -> None:
    monkeypatch.setattr(batches, "PROCESSOR_TOKENS", processor_tokens)
    budget = min(8 * 40, processor_tokens)
    dataset, order = batches.for_prediction(encoded, batch_size=8, tokenizer=tokenizer, max_length=40)
    shapes = [batch["input_ids"].shape for batch in dataset.as_numpy_iterator()]
    assert int(dataset.cardinality()) == len(shapes)
    assert sum(rows for rows, _ in shapes) == len(encoded)
    assert shapes[0][0] > 8
    assert max(rows * width for rows, width in shapes) <= 8 * 40
    assert all(rows == 8 or rows * width <= budget for rows, width in shapes[:-1])
    # One row more, as wide as the next batch's first needs, is never within the budget.
    firsts = encoded.lengths[order[np.cumsum([rows for rows, _ in shapes[:-1]])]]
    needed = np.minimum(batches.rounded_up(firsts, 2), 40)
    assert all((rows + 1) * width > budget for (rows, _), width in zip(shapes, needed, strict=False))


@pytest.mark.parametrize("kind", ["GPU", "CPU"])
def test_an_accelerator_takes_as_many_tokens_as_the_longest_rows_may_have(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda asked: [asked] if asked == kind else [])
    monkeypatch.setattr(batches, "PROCESSOR_TOKENS", 128)
    encoded = encode([["good film"] * 100], tokenizer, max_length=40)
    dataset, _ = batches.for_prediction(encoded, batch_size=8, tokenizer=tokenizer, max_length=40)
    shapes = [tuple(batch["input_ids"].shape) for batch in dataset.as_numpy_iterator()]
    assert shapes == ([(40, 8), (40, 8), (20, 8)] if kind == "GPU" else [(16, 8)] * 6 + [(4, 8)])


def test_prediction_never_pads_beyond_the_models_positions(tokenizer: Any) -> None:
    encoded = encode([["good " * 60]], tokenizer, max_length=61)
    (batch,) = batches.for_prediction(encoded, batch_size=8, tokenizer=tokenizer, max_length=61)[0].as_numpy_iterator()
    assert batch["input_ids"].shape == (1, 61)


def test_pairs_are_predicted_alike_one_by_one(pairs: Encoded, tokenizer: Any, model: keras.Model) -> None:
    together = heads.logits_of(model, *batches.for_prediction(pairs, batch_size=8, tokenizer=tokenizer, max_length=40))
    for row in range(len(pairs)):
        part = slice(pairs.offsets[row], pairs.offsets[row + 1])
        inputs = {"input_ids": pairs.input_ids[part], "token_type_ids": pairs.token_type_ids[part]}
        alone = model({name: tf.constant(values[None]) for name, values in inputs.items()}).logits[0]
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


# --- the autotuner ----------------------------------------------------------------------------------------------------


MAKERS: dict[str, Callable[[Encoded, Any], tf.data.Dataset]] = {
    "bucketed": lambda encoded, tokenizer: bucketed(encoded, tokenizer),
    "padded": lambda encoded, tokenizer: padded(encoded, tokenizer),
    "twice": lambda encoded, tokenizer: batches.twice(bucketed(encoded, tokenizer)),
    "for prediction": lambda encoded, tokenizer: batches.for_prediction(
        encoded, batch_size=8, tokenizer=tokenizer, max_length=40
    )[0],
    "of features": lambda encoded, tokenizer: batches.of_features(
        np.zeros([53, 1, 4], np.float32), labels_of(encoded), name="states", batch_size=8, seed=1
    ),
    "features for prediction": lambda encoded, tokenizer: batches.features_for_prediction(
        np.zeros([53, 1, 4], np.float32), name="states", batch_size=8
    )[0],
    "of documents": lambda encoded, tokenizer: batches.of_documents(
        replace(encoded, window_starts=np.arange(54)),
        labels_of(encoded),
        batch_size=8,
        widths=(40,),
        seed=1,
        tokenizer=tokenizer,
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_no_iterator_waits_for_the_autotuner_when_it_ends(name: str, encoded: Encoded, tokenizer: Any) -> None:
    """With the autotuner on, TensorFlow 2.21 blocks for up to minutes where an iterator is destroyed before its end."""
    dataset = MAKERS[name](encoded, tokenizer)
    # What Keras makes of it keeps the option.
    for made in (dataset, dataset.take(2), dataset.repeat(2)):
        assert made.options().autotune.enabled is False
