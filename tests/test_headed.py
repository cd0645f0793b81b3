"""The tutorials' head: its pooling by hand, its files, and every family with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import transformers

from tests import families
from tests.conftest import files_no_larger_than
from tfft import hardware
from tfft.backend import keras, tf
from tfft.data import batches
from tfft.data.encode import encode
from tfft.errors import ModelError
from tfft.models import adversarial, checkpoint, headed, heads, save
from tfft.models.headed import Headed
from tfft.models.load import Loaded, parameter_counts
from tfft.models.parts import HEAD, part_of, parts_of, path_of

TEXTS = ["the movie was good", "bad", "a good movie and not a bad one"]


def make(family: str, pooling: str = "cls", **settings: Any) -> Headed:
    hardware.set_seed(1)
    name, sizes = families.FAMILIES[family]
    model = Headed(getattr(transformers, name)(**sizes), pooling, **settings)
    model.build_in_name_scope()
    return model


def load_from(folder: Path, pooling: str = "cls") -> Loaded:
    hardware.set_seed(1)
    return headed.load_with_head(checkpoint.find(str(folder)), ["no", "maybe", "yes"], pooling)


def logits(model: keras.Model, inputs: Any = families.INPUTS) -> np.ndarray:
    return np.asarray(model(inputs, training=False).logits)


# --- pooling and head by hand -----------------------------------------------------------------------------------------

HIDDEN = tf.constant([[[1.0, 2.0], [3.0, 6.0], [50.0, 60.0]], [[5.0, 5.0], [70.0, 80.0], [90.0, 10.0]]])


def test_pooling_by_hand() -> None:
    mask = tf.constant([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(headed.first_token(HIDDEN, mask), [[1, 2], [5, 5]])
    np.testing.assert_array_equal(headed.mean_of_tokens(HIDDEN, mask), [[2, 4], [5, 5]])
    np.testing.assert_allclose(headed.mean_of_tokens(HIDDEN, None), [[18, 68 / 3], [55, 95 / 3]], rtol=1e-6)
    np.testing.assert_array_equal(headed.mean_of_tokens(HIDDEN, tf.zeros([2, 3])), np.zeros([2, 2]))


def test_a_mean_over_many_tokens_of_low_precision_is_taken_in_float32() -> None:
    hidden = tf.fill([1, 1000, 1], tf.constant(1.0078125, tf.bfloat16))
    found = headed.mean_of_tokens(hidden, tf.ones([1, 1000], tf.int32))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, [[1.0078125]], rtol=1e-6)


@pytest.mark.parametrize("pooling", headed.POOLINGS)
def test_the_head_by_hand(pooling: str) -> None:
    model = make("bert", pooling, units=7)
    output = model(families.INPUTS, output_hidden_states=True)
    states = output.hidden_states[-1].numpy()
    pooled = states[:, 0] if pooling == "cls" else states.mean(axis=1)
    hidden = np.maximum(pooled @ model.hidden.kernel.numpy() + model.hidden.bias.numpy(), 0)
    assert hidden.shape == (2, 7)
    np.testing.assert_allclose(output.logits, hidden @ model.classifier.kernel.numpy(), atol=1e-5)


def test_dropout_is_in_training_alone() -> None:
    model = make("bert", dropout=0.5)
    np.testing.assert_array_equal(logits(model), logits(model))
    assert np.abs(model(families.INPUTS, training=True).logits - logits(model)).max() > 1e-3


@pytest.mark.parametrize("pooling", headed.POOLINGS)
def test_padding_changes_nothing(tiny_checkpoint: Path, pooling: str) -> None:
    model = load_from(tiny_checkpoint, pooling).model
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    wide = logits(model, tokenizer(TEXTS, padding="max_length", max_length=20, return_tensors="tf"))
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(logits(model, dict(tokenizer(text, return_tensors="tf")))[0], wide[row], atol=1e-5)


# --- as one of Transformers' classifiers ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_takes_a_step(family: str) -> None:
    model = make(family, "mean")
    assert parts_of(one.name for one in model.trainable_weights)[-1] == HEAD
    assert {part_of(one.name) for one in model.trainable_weights} >= {"embeddings", "layer.0", HEAD}
    assert "pooler" not in {part_of(one.name) for one in model.trainable_weights}
    before = [one.numpy() for one in model.trainable_weights]
    families.take_a_step(model)  # moves nothing that has no gradient
    assert all((one.numpy() != old).any() for one, old in zip(model.trainable_weights, before, strict=True))


@pytest.mark.parametrize("family", families.FAMILIES)
def test_embeddings_give_the_logits_of_their_ids(family: str) -> None:
    model = make(family, "mean")
    layer = model.get_input_embeddings()
    embeddings = tf.gather(layer.weight, families.INPUTS["input_ids"])
    inputs = adversarial.with_embeddings(layer, families.INPUTS, embeddings)
    np.testing.assert_allclose(logits(model, inputs), logits(model), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_is_saved_and_read_by_transformers(family: str, tmp_path: Path) -> None:
    model = make(family)
    with tf.device("CPU"):
        model.save_pretrained(tmp_path)
    np.testing.assert_allclose(logits(headed.load_headed(tmp_path)), logits(model), atol=1e-6)
    encoder = transformers.TFAutoModel.from_pretrained(tmp_path)
    states = encoder(families.INPUTS).last_hidden_state
    np.testing.assert_allclose(states, model(families.INPUTS, output_hidden_states=True).hidden_states[-1], atol=1e-5)
    assert [type(encoder).__name__] == [f"TF{one}" for one in encoder.config.architectures]


def test_keras_trains_and_predicts(tiny_checkpoint: Path) -> None:
    loaded = load_from(tiny_checkpoint, "mean")
    model, tokenizer = loaded.model, checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    encoded = encode([TEXTS], tokenizer, max_length=20)
    dataset, order = batches.for_prediction(encoded, batch_size=2, tokenizer=tokenizer, max_length=20)
    found = heads.logits_of(model, dataset, order)
    np.testing.assert_allclose(found, logits(model, tokenizer(TEXTS, padding=True, return_tensors="tf")), atol=1e-5)
    model.compile(keras.optimizers.Adam(1e-2), heads.CrossEntropyFromLogits())
    inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="np"))
    losses = model.fit(inputs, np.array([0, 1, 2]), epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_logits_are_float32_in_low_precision(precision: str) -> None:
    with hardware.computing_in(hardware.Precision(precision, "as asked")):
        model = make("bert", "mean")
    output = model(families.INPUTS, output_hidden_states=True)
    assert output.logits.dtype == tf.float32 != output.hidden_states[-1].dtype
    families.take_a_step(model)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_the_encoder_is_the_checkpoints(tiny_checkpoint: Path) -> None:
    loaded = load_from(tiny_checkpoint)
    assert loaded.sentence() == (
        "weights loaded; new and untrained: classifier.hidden (2 tensors), classifier.output (2 tensors); "
        "not used: pooler.dense (2 tensors)"
    )
    assert {part_of(one.name) for one in loaded.model.weights} == {"embeddings", "layer.0", "layer.1", HEAD}
    reference = safetensors.numpy.load_file(tiny_checkpoint.parent / "tiny_bert_torch_states.safetensors")
    inputs = {name: reference[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    states = loaded.model(inputs, output_hidden_states=True).hidden_states[-1].numpy()
    real = inputs["attention_mask"].astype(bool)
    np.testing.assert_allclose(states[real], reference["hidden_states"][-1][real], atol=1e-4)


def test_parameters_by_hand() -> None:
    model = make("bert", units=256)
    head = [one for one in model.weights if part_of(one.name) == HEAD]
    assert sum(int(np.prod(one.shape)) for one in head) == 16 * 256 + 256 + 256 * 2 + 2
    assert parameter_counts(model)[1] == 0
    assert parameter_counts(make("mpnet"))[1] == 16 * 16 + 16  # a pooler that its class always has


@pytest.mark.parametrize("pooling", headed.POOLINGS)
def test_what_was_saved_comes_back(tiny_checkpoint: Path, tmp_path: Path, pooling: str) -> None:
    model = load_from(tiny_checkpoint, pooling).model
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    expected = logits(model)
    save.save(model, tokenizer, tmp_path)
    assert headed.is_headed(tmp_path)
    assert not headed.is_headed(tiny_checkpoint)
    again = headed.load_headed(tmp_path)
    assert again.settings == {"pooling": pooling, "units": 256, "dropout": 0.3}
    assert again.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    np.testing.assert_allclose(logits(again), expected, atol=1e-6)
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    save.restore(model, tmp_path)
    np.testing.assert_array_equal(logits(model), expected)
    # Its encoder is a checkpoint like any other.
    anew = load_from(tmp_path, pooling)
    assert anew.new == ()
    np.testing.assert_allclose(logits(anew.model), expected, atol=1e-6)
    assert anew.unused == ()
    assert {path_of(one.name) for one in anew.model.weights} == {path_of(one.name) for one in model.weights}


# --- what cannot be used ----------------------------------------------------------------------------------------------


def test_a_pooling_that_is_none() -> None:
    with pytest.raises(ModelError, match=r"model.pooling: got 'max'; expected one of cls, mean"):
        make("bert", "max")


def test_an_architecture_without_tensorflow() -> None:
    with pytest.raises(ModelError, match=r"is a modernbert model, which has no TensorFlow encoder; .*bert"):
        Headed(transformers.ModernBertConfig())


def test_nothing_but_safetensors_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="safe_serialization=False; this model is saved as safetensors only"):
        make("bert").save_pretrained(tmp_path, safe_serialization=False)


def test_a_full_disk_is_the_systems_error(tmp_path: Path) -> None:
    model = make("bert")
    with files_no_larger_than(4000), pytest.raises(OSError, match="File too large"):
        save.save(model, None, tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("headed")
    make("bert").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "head.safetensors").unlink(), "holds no head: expected head_config.json and head"),
        (lambda folder: (folder / "head_config.json").unlink(), "holds no head"),
        (lambda folder: (folder / "head_config.json").write_text("{"), "head_config.json cannot be used"),
        (lambda folder: (folder / "head_config.json").write_text('{"x": 1}'), "head_config.json cannot be used"),
        (lambda folder: (folder / "head.safetensors").write_bytes(b"short"), "is not a whole safetensors file"),
        (
            lambda folder: (folder / "head_config.json").write_text(
                json.dumps({"pooling": "cls", "units": 3, "dropout": 0.3})
            ),
            "do not belong together: classifier.hidden.kernel",
        ),
    ],
)
def test_a_spoilt_folder_is_told(whole: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "spoilt"))
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        headed.load_headed(folder)
