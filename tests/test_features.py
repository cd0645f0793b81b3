"""A head on outputs computed once gives the logits of the whole model, and trains as it does, in every family."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests import families
from tests.conftest import files_no_larger_than
from tfft import hardware
from tfft.backend import keras, tf
from tfft.data.encode import Encoded, encode
from tfft.errors import ModelError
from tfft.models import checkpoint, features, freeze, headed, heads, load, save
from tfft.models.features import FEATURES
from tfft.models.parts import HEAD, POOLER, part_of

INPUTS = {
    "input_ids": tf.constant([[1, 5, 9, 7, 2], [1, 8, 6, 2, 0]]),
    "attention_mask": tf.constant([[1] * 5, [1] * 4 + [0]]),
}
READS_POOLER = ("bert", "albert")
# Every family with its encoder frozen, and once more with its pooler trained, where it has one.
CASES = [
    *((family, ()) for family in families.FAMILIES),
    *((family, (POOLER,)) for family in ("bert", "albert", "mpnet", "deberta")),
]


def make(family: str, also_train: tuple[str, ...] = (), seed: int = 1) -> keras.Model:
    """Its encoder frozen, its head with weights large enough to tell logits apart."""
    hardware.set_seed(seed)
    model = families.make(family)
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if part_of(weight.name) in (HEAD, POOLER):
            weight.assign(random.normal(scale=0.5, size=weight.shape))
    freeze.feature_extraction(model, also_train)
    return model


def without_dropout(model: keras.Model) -> None:
    for layer in model.submodules:
        for rate in ("rate", "drop_prob"):
            if hasattr(layer, rate):
                setattr(layer, rate, 0.0)


def logits(model: keras.Model, inputs: dict[str, Any] = INPUTS) -> np.ndarray:
    return np.asarray(model(inputs, training=False).logits)


def state(model: keras.Model) -> list[Any]:
    """All that could be left behind."""
    base = getattr(model, model.base_model_prefix)
    return [
        id(base),
        *map(id, model.layers),
        *map(id, model.weights),
        *map(id, model.trainable_weights),
        frozenset(vars(base)),
    ]


# --- every family -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "also_train"), CASES)
def test_logits_are_those_of_the_whole_model(family: str, also_train: tuple[str, ...]) -> None:
    model = make(family, also_train)
    assert {part_of(one.name) for one in model.trainable_weights} <= {HEAD, *also_train}
    before, expected = state(model), logits(model)
    outputs = features.encoder_outputs(model, INPUTS)
    assert (outputs.shape, outputs.dtype) == ((2, 1, 16), tf.float32)
    assert features.place_read(model) == ("pooler" if family in READS_POOLER and not also_train else "cls")
    with features.head_only(model):
        np.testing.assert_allclose(logits(model, {FEATURES: outputs}), expected, atol=1e-5)
        assert np.abs(logits(model, {FEATURES: 2 * outputs}) - expected).max() > 1e-3
        assert state(model)[:-1] == before[:-1]
    assert state(model) == before
    np.testing.assert_array_equal(logits(model), expected)


@pytest.mark.parametrize(("family", "also_train"), CASES)
def test_training_is_that_through_the_frozen_encoder(family: str, also_train: tuple[str, ...]) -> None:
    def trained(model: keras.Model, inputs: dict[str, Any]) -> None:
        optimizer = keras.optimizers.SGD(0.5)
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = heads.CrossEntropyFromLogits()([0, 1], model(inputs, training=True).logits)
            pairs = zip(tape.gradient(loss, model.trainable_weights), model.trainable_weights, strict=True)
            optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])  # MPNet's head reads no pooler

    whole, cached = make(family, also_train), make(family, also_train)
    before = {one.name.partition("/")[2]: one.numpy() for one in cached.weights}
    without_dropout(whole)
    without_dropout(cached)
    trained(whole, INPUTS)
    outputs = features.encoder_outputs(cached, INPUTS)
    with features.head_only(cached):
        trained(cached, {FEATURES: outputs})
    for one, other in zip(whole.weights, cached.weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5, err_msg=one.name)
    moved = {name for one in cached.weights if (one.numpy() != before[name := one.name.partition("/")[2]]).any()}
    assert {part_of(name) for name in moved} == {
        HEAD,
        *(also_train if family in (*READS_POOLER, "deberta", "deberta-v2") else ()),
    }
    np.testing.assert_allclose(logits(cached), logits(whole), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_head_of_words_reads_every_token(family: str, tiny_checkpoint: Path) -> None:
    """The states of all rows end to end, computed in batches of other shapes, give the logits of the whole model."""
    hardware.set_seed(1)
    model = families.from_config(families.config(family, num_labels=5), "TFAutoModelForTokenClassification")
    freeze.feature_extraction(model)
    assert features.place_read(model) == "tokens"
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    ids = np.array([2, 8, 9, 3, 2, 7, 3, 2, 5, 6, 7, 3], np.int32)
    encoded = Encoded(ids, None, np.array([0, 4, 7, 12]), np.zeros(3, np.int32))
    states = features.cached_outputs(model, encoded, tokenizer, batch_size=2, max_length=8)
    assert states.shape == (12, 16)
    with features.head_only(model):
        found = logits(model, {FEATURES: tf.constant(states[np.newaxis])})[0]
    for begin, end in itertools.pairwise(encoded.offsets):
        row = {"input_ids": ids[np.newaxis, begin:end], "attention_mask": np.ones((1, end - begin), np.int32)}
        np.testing.assert_allclose(found[begin:end], logits(model, row)[0], atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "deberta"])
def test_keras_trains_and_predicts_with_outputs_and_with_tokens_again(family: str) -> None:
    model = make(family)
    without_dropout(model)
    expected = logits(model)
    outputs = features.encoder_outputs(model, INPUTS)
    plain = {name: value.numpy() for name, value in INPUTS.items()}
    model.compile(keras.optimizers.SGD(0.1), heads.CrossEntropyFromLogits())
    np.testing.assert_allclose(model.predict(plain, verbose=0)["logits"], expected, atol=1e-5)
    encoder = [one.numpy() for one in model.weights if part_of(one.name) != HEAD]
    with features.head_only(model):
        given = {FEATURES: outputs.numpy()}
        np.testing.assert_allclose(model.predict(given, verbose=0)["logits"], expected, atol=1e-5)
        losses = model.fit(given, np.array([0, 1]), epochs=20, verbose=0).history["loss"]
        learned = model.predict(given, verbose=0)["logits"]
    assert losses[-1] < losses[0]
    assert np.abs(learned - expected).max() > 1e-3
    np.testing.assert_allclose(model.predict(plain, verbose=0)["logits"], learned, atol=1e-5)
    for before, after in zip(encoder, (one for one in model.weights if part_of(one.name) != HEAD), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_heads_dropout_is_at_work() -> None:
    model = make("bert")
    outputs = tf.repeat(features.encoder_outputs(model, INPUTS), 20, axis=0)
    with features.head_only(model):
        dropped = model({FEATURES: outputs}, training=True).logits.numpy()
    assert np.unique(dropped[:20].round(5), axis=0).shape[0] > 5


@pytest.mark.parametrize(("family", "precision"), [("bert", "bf16"), ("roberta", "fp16"), ("deberta-v2", "bf16")])
def test_low_precision_is_that_of_the_whole_model(family: str, precision: str) -> None:
    with hardware.computing_in(hardware.Precision(precision, "as asked")):
        model = make(family)
    outputs = features.encoder_outputs(model, INPUTS)
    assert outputs.dtype == tf.float32
    with features.head_only(model):
        found = model({FEATURES: outputs}, training=False).logits
    expected = model(INPUTS, training=False).logits
    assert found.dtype == expected.dtype != tf.float32
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(expected, tf.float32))


def test_an_encoder_that_is_trained_is_refused() -> None:
    model = families.make("bert")
    with (
        pytest.raises(ModelError, match=r"has 37 weights that are trained \(bert/.*freeze it first"),
        features.head_only(model),
    ):
        pass
    assert "call" not in vars(model.bert)


def test_an_error_within_leaves_the_model_as_it_was() -> None:
    model = make("roberta")
    before, expected = state(model), logits(model)
    with pytest.raises(KeyError, match="mine"), features.head_only(model):
        raise KeyError("mine")
    assert state(model) == before
    np.testing.assert_array_equal(logits(model), expected)


def test_a_model_saved_within_is_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    found = checkpoint.find(str(tiny_checkpoint))
    model = load.load_classifier(found, ["no", "yes"], "TFAutoModelForSequenceClassification").model
    freeze.feature_extraction(model)
    expected = logits(model)
    with features.head_only(model):
        save.save(model, checkpoint.load_tokenizer(found), tmp_path / "model")
        for weight in model.trainable_weights:
            weight.assign(tf.zeros_like(weight))
        save.restore(model, tmp_path / "model")
    np.testing.assert_array_equal(logits(model), expected)
    again = load.load_classifier(
        checkpoint.find(str(tmp_path / "model")), ["no", "yes"], "TFAutoModelForSequenceClassification"
    )
    assert again.new == ()
    np.testing.assert_allclose(logits(again.model), expected, atol=1e-6)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


@pytest.fixture(scope="module")
def encoded(tokenizer: Any) -> Encoded:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(["the", "movie", "was", "good"], random.integers(1, 30))) for _ in range(23)]
    return encode([texts], tokenizer, max_length=24)


def tiny(folder: Path, seed: int = 0, also_train: tuple[str, ...] = ()) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = load.load_classifier(checkpoint.find(str(folder)), ["0", "1"], "TFAutoModelForSequenceClassification").model
    freeze.feature_extraction(model, also_train)
    return model


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> keras.Model:
    """Nobody changes its weights."""
    return tiny(tiny_checkpoint)


def outputs_of(model: keras.Model, encoded: Encoded, tokenizer: Any, **given: Any) -> np.ndarray:
    return features.cached_outputs(model, encoded, tokenizer, batch_size=4, max_length=24, **given)


def test_rows_come_in_their_own_order(model: keras.Model, encoded: Encoded, tokenizer: Any) -> None:
    done: list[int] = []
    found = outputs_of(model, encoded, tokenizer, advance=done.append)
    assert (found.shape, found.dtype) == ((23, 1, 16), np.float32)
    assert done == [9, 4, 4, 4, 2]
    for row, (start, end) in enumerate(itertools.pairwise(encoded.offsets)):
        alone = features.encoder_outputs(model, {"input_ids": tf.constant(encoded.input_ids[None, start:end])})
        np.testing.assert_allclose(found[row], alone[0], atol=1e-5)


def test_no_rows_are_no_outputs(model: keras.Model, tokenizer: Any) -> None:
    none = Encoded(np.zeros(0, np.int32), None, np.zeros(1, np.int64), np.zeros(0, np.int32))
    assert outputs_of(model, none, tokenizer).shape == (0, 1, 16)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed is random numbers, the same each time."""
    numbers = np.random.default_rng(0).normal(size=(23, 1, 16)).astype(np.float32)
    monkeypatch.setattr(features, "_compute", lambda *_: numbers)


@pytest.mark.usefixtures("quick")
def test_what_is_cached_is_not_computed_again(
    model: keras.Model, encoded: Encoded, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = outputs_of(model, encoded, tokenizer, cache=tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    monkeypatch.setattr(features, "_compute", lambda *_: pytest.fail("computed again"))
    done: list[int] = []
    key = features.encoder_fingerprint(model)
    for given in ({}, {"encoder": key}):
        again = outputs_of(model, encoded, tokenizer, cache=file.parent, advance=done.append, **given)
        np.testing.assert_array_equal(again, first)
    assert done == [23, 23]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["cut short", "other names", "other rows", "other numbers"])
def test_a_damaged_file_is_replaced(
    model: keras.Model, encoded: Encoded, tokenizer: Any, tmp_path: Path, kind: str
) -> None:
    expected = outputs_of(model, encoded, tokenizer, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    if kind == "cut short":
        file.write_bytes(whole[:-5])
    else:
        spoilt = {"other names": expected, "other rows": expected[1:], "other numbers": expected.astype(np.float64)}[
            kind
        ]
        safetensors.numpy.save_file({"outputs" if kind != "other names" else "x": spoilt}, file)
    np.testing.assert_array_equal(outputs_of(model, encoded, tokenizer, cache=tmp_path), expected)
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures("quick")
def test_a_folder_that_cannot_be_written_is_passed_over(
    model: keras.Model, encoded: Encoded, tokenizer: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert outputs_of(model, encoded, tokenizer, cache=tmp_path / "file").any()
    with files_no_larger_than(500):
        assert outputs_of(model, encoded, tokenizer, cache=tmp_path / "full").any()
    assert list((tmp_path / "full").iterdir()) == []


def test_the_key_is_the_content(tiny_checkpoint: Path, encoded: Encoded, tokenizer: Any) -> None:
    model, other_head = tiny(tiny_checkpoint), tiny(tiny_checkpoint, seed=1)
    key = features.encoder_fingerprint(model)
    assert features.encoder_fingerprint(other_head) == key
    freeze.feature_extraction(other_head)  # once more changes nothing
    weight = model.bert.encoder.layer[1].intermediate.dense.bias
    weight.assign_add(tf.fill(weight.shape, 1e-3))
    assert features.encoder_fingerprint(model) != key
    weight.assign(other_head.bert.encoder.layer[1].intermediate.dense.bias)
    assert features.encoder_fingerprint(model) == key
    model.config.hidden_act = "relu"
    assert features.encoder_fingerprint(model) != key

    split = features.fingerprint(key, encoded, tokenizer)
    ids = encoded.input_ids.copy()
    ids[-1] += 1
    moved = encoded.offsets.copy()
    moved[1] += 1
    others = [
        Encoded(ids, encoded.token_type_ids, encoded.offsets, encoded.lost_tokens),
        Encoded(encoded.input_ids, None, encoded.offsets, encoded.lost_tokens),
        Encoded(encoded.input_ids, encoded.token_type_ids, moved, encoded.lost_tokens),
    ]
    keys = {features.fingerprint(key, one, tokenizer) for one in others}
    assert len(keys | {split, features.fingerprint("another encoder", encoded, tokenizer)}) == 5


def test_a_pooler_that_is_trained_is_not_in_the_key(tiny_checkpoint: Path) -> None:
    def key(scale: float, is_trained: bool) -> str:
        model = tiny(tiny_checkpoint, also_train=(POOLER,) if is_trained else ())
        for weight in model.bert.pooler.weights:
            weight.assign(weight * scale)
        return features.encoder_fingerprint(model)

    assert key(1, True) == key(2, True)
    assert len({key(1, True), key(1, False), key(2, False)}) == 3


def test_a_head_that_reads_more_is_told(
    model: keras.Model, encoded: Encoded, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = model.call

    def reads_all_tokens(inputs: Any, training: bool = False) -> Any:
        output = original(inputs, training=training)
        ids = inputs.get("input_ids")
        output.logits += 0.0 if ids is None else tf.reduce_sum(tf.cast(ids, tf.float32), axis=1, keepdims=True)
        return output

    monkeypatch.setattr(model, "call", reads_all_tokens)
    with pytest.raises(ModelError, match="TFBertForSequenceClassification reads more of its encoder"):
        outputs_of(model, encoded, tokenizer)


# --- with the tutorials' head -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", headed.POOLINGS)
def test_the_tutorials_head_takes_outputs_too(
    tiny_checkpoint: Path, encoded: Encoded, tokenizer: Any, pooling: str
) -> None:
    model = headed.load_with_head(checkpoint.find(str(tiny_checkpoint)), ["0", "1"], pooling).model
    freeze.feature_extraction(model)
    expected = logits(model)
    outputs = features.encoder_outputs(model, INPUTS)
    assert features.place_read(model) == pooling
    with features.head_only(model):
        np.testing.assert_allclose(logits(model, {FEATURES: outputs}), expected, atol=1e-5)
    np.testing.assert_array_equal(logits(model), expected)
    found = outputs_of(model, encoded, tokenizer)[0] if pooling == "mean" else outputs[0]
    ids = encoded.input_ids[None, : encoded.offsets[1]] if pooling == "mean" else INPUTS["input_ids"][:1]
    alone = features.encoder_outputs(model, {"input_ids": tf.constant(ids)})
    np.testing.assert_allclose(found, alone[0], atol=1e-5)


def test_an_untrained_pooler_is_named() -> None:
    assert freeze.without_pretraining(["bert.pooler.dense.weight", "classifier.bias"]) == {POOLER}
    assert freeze.without_pretraining(["albert.pooler.kernel"]) == {POOLER}
    assert freeze.without_pretraining(["classifier.bias", "classifier.weight"]) == frozenset()
