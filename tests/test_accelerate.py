"""The faster encoder layers against the families' own: logits, gradients, masks of dropout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import hardware, optimizers
from tfft.backend import keras, tf
from tfft.hardware import Precision
from tfft.models import accelerate, freeze, heads, lora
from tfft.models import faster as room
from tfft.models.faster import is_accelerated

FAMILIES = ["bert", "distilbert", "roberta", "xlm-roberta", "electra", "mpnet"]
# Two rows, of which the second is padded.
INPUTS = {
    "input_ids": tf.constant([[1, 5, 9, 7, 2], [1, 8, 2, 3, 3]]),
    "attention_mask": tf.constant([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
}


def layers_of(model: keras.Model) -> list[Any]:
    return [one for one in model.submodules if type(one).__name__ in room._FAMILIES]


def twins(family: str, **changes: Any) -> tuple[keras.Model, keras.Model]:
    """A model and its accelerated twin with the same weights, none of them as regular as at the start."""
    keras.utils.set_random_seed(0)
    stock, faster = families.make(family, **changes), families.make(family, **changes)
    generator = np.random.default_rng(0)
    weights = [one + generator.normal(scale=0.1, size=one.shape) for one in stock.get_weights()]
    stock.set_weights(weights)
    faster.set_weights(weights)
    assert accelerate(faster) == len(layers_of(faster)) == 2
    return stock, faster


def gradients(model: keras.Model) -> list[np.ndarray]:
    """Of the training loss, for every trained weight, as `fit` computes them."""

    @tf.function
    def compute() -> list[Any]:
        with tf.GradientTape() as tape:
            loss = heads.CrossEntropyFromLogits()([0, 1], model(INPUTS, training=True).logits)
        found = tape.gradient(loss, model.trainable_variables)
        return [tf.zeros(()) if one is None else tf.convert_to_tensor(one) for one in found]

    return [one.numpy() for one in compute()]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_models_own(family: str) -> None:
    stock, faster = twins(family)
    np.testing.assert_allclose(faster(INPUTS).logits, stock(INPUTS).logits, atol=1e-5)
    np.testing.assert_allclose(faster.predict(INPUTS, verbose=0).logits, stock(INPUTS).logits, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_models_own(family: str) -> None:
    stock, faster = twins(family, **NO_DROPOUT)
    for name, one, other in zip(
        [weight.name for weight in stock.trainable_weights], gradients(stock), gradients(faster), strict=True
    ):
        np.testing.assert_allclose(other, one, atol=1e-7 + 1e-5 * np.abs(one).max(), rtol=1e-4, err_msg=name)
        if "/layer_._" in name and name.endswith("kernel:0"):
            assert np.abs(one).max() > 1e-6, name


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_half_precision(family: str) -> None:
    with hardware.computing_in(Precision("bf16", "for the test")):
        stock, faster = twins(family)
    assert layers_of(faster)[0].compute_dtype == "bfloat16"
    np.testing.assert_allclose(faster(INPUTS).logits, stock(INPUTS).logits, atol=2e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_asked_for_besides_comes_from_the_models_own_code(family: str) -> None:
    stock, faster = twins(family)
    expected = stock(INPUTS, output_attentions=True, output_hidden_states=True)
    found = faster(INPUTS, output_attentions=True, output_hidden_states=True)
    for one, other in zip(expected.attentions, found.attentions, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    for one, other in zip(expected.hidden_states, faster(INPUTS, output_hidden_states=True).hidden_states, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.parametrize("family", ["albert", "deberta", "deberta-v2"])
def test_other_families_stay_as_they_are(family: str) -> None:
    model = families.make(family)
    before = model(families.INPUTS).logits
    assert accelerate(model) == 0
    np.testing.assert_array_equal(model(families.INPUTS).logits, before)


def test_a_second_call_changes_nothing() -> None:
    _, faster = twins("bert")
    calls = [layer.call for layer in layers_of(faster)]
    np.random.seed(0)
    drawn = np.random.random()
    np.random.seed(0)
    assert accelerate(faster) == 2
    assert np.random.random() == drawn
    assert [layer.call for layer in layers_of(faster)] == calls
    assert all(map(is_accelerated, layers_of(faster)))


def test_adapters_are_computed() -> None:
    stock, faster = twins("bert", **NO_DROPOUT)
    for model in (stock, faster):
        lora.add(model, rank=2)
        generator = np.random.default_rng(1)
        model.set_weights([generator.normal(scale=0.1, size=one.shape) for one in model.get_weights()])
    np.testing.assert_allclose(faster(INPUTS).logits, stock(INPUTS).logits, atol=1e-5)
    for one, other in zip(gradients(stock), gradients(faster), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_frozen_weights_get_no_gradient() -> None:
    stock, faster = twins("bert", **NO_DROPOUT)
    for model in (stock, faster):
        freeze.bitfit(model)
    assert len(faster.trainable_weights) < len(faster.weights)
    for one, other in zip(gradients(stock), gradients(faster), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_saved_weights_are_the_models_own(tmp_path: Path) -> None:
    _, faster = twins("bert")
    names = [weight.name for weight in faster.weights]
    gradients(faster)  # a training pass, which uses the state of dropout
    assert [weight.name for weight in faster.weights] == names
    faster.save_pretrained(tmp_path)
    again = type(faster).from_pretrained(tmp_path)
    np.testing.assert_allclose(again(INPUTS).logits, faster(INPUTS).logits, atol=1e-5)


def test_a_step_has_fewer_operations_to_trace() -> None:
    def traced(model: keras.Model) -> int:
        function = tf.function(lambda: model(INPUTS, training=True).logits).get_concrete_function()
        return len(function.graph.get_operations())

    stock, faster = twins("bert")
    assert traced(faster) < traced(stock) / 2


def test_keras_own_compile_and_fit() -> None:
    _, faster = twins("bert")
    faster.compile(optimizers.make("adamw", 1e-2), heads.CrossEntropyFromLogits())
    labels = tf.constant([0, 1])
    losses = faster.fit(dict(INPUTS), labels, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_checkpointed_gradients_are_the_same(family: str) -> None:
    """Masks of dropout included; MPNet's layers share a bias that is trained."""
    found = []
    for checkpointing in (False, True):
        keras.utils.set_random_seed(0)
        model = families.make(family)
        assert accelerate(model, checkpointing) == 2
        inside = {id(part) for layer in layers_of(model) for part in layer.submodules}
        for part in model.submodules:
            if isinstance(part, keras.layers.Dropout) and id(part) not in inside:
                part.rate = 0.0  # TensorFlow's own, whose masks no two graphs share
        found.append(gradients(model))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-7, rtol=1e-5)


@pytest.mark.slow
def test_checkpointing_takes_less_memory() -> None:
    code = (
        "import sys\n"
        "from tests.test_accelerate import *\n"
        "from tfft import environment\n"
        "model = families.make('bert', num_hidden_layers=8)\n"
        "accelerate(model, sys.argv[1] == 'True')\n"
        "ids = tf.ones([1024, 32], tf.int32)\n"
        "@tf.function\n"
        "def compute():\n"
        "    with tf.GradientTape() as tape:\n"
        "        loss = tf.reduce_sum(model({'input_ids': ids}, training=True).logits)\n"
        "    found = tape.gradient(loss, model.trainable_weights)\n"
        "    return [tf.reduce_sum(tf.convert_to_tensor(one)) for one in found]\n"
        "compute()\n"
        "print(int(environment.peak_rss_mb()))\n"
    )
    plain, checkpointed = (
        int(subprocess.run([sys.executable, "-c", code, kind], check=True, capture_output=True, text=True).stdout)
        for kind in ("False", "True")
    )
    assert checkpointed < plain - 150, (plain, checkpointed)  # MB


@pytest.mark.slow
def test_xla_compiles_a_step_once(tmp_path: Path) -> None:
    code = (
        "from tests.test_accelerate import *\n"
        "_, faster = twins('bert')\n"
        "faster.compile(optimizers.make('sgd', 1e-2), heads.CrossEntropyFromLogits(), jit_compile=True)\n"
        "losses = faster.fit(dict(INPUTS), tf.constant([0, 1]), epochs=3, verbose=0).history['loss']\n"
        "assert np.isfinite(losses).all() and len(set(losses)) == 3, losses\n"
    )
    # TensorFlow writes every program that it compiles into this folder.
    flags = f"--tf_xla_persistent_cache_directory={tmp_path}"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TF_XLA_FLAGS": flags})
    assert len(list(tmp_path.iterdir())) == 1


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masks_are_new_where_only_later_layers_compute_the_faster_way() -> None:
    _, faster = twins("bert")
    lora.add(faster, rank=2, targets=["layer_._0/attention/self/query"])
    first, last = layers_of(faster)
    hidden = tf.ones([1, 4, faster.config.hidden_size])
    mask = tf.zeros([1, 1, 1, 4])

    def once() -> np.ndarray:
        first(hidden, mask, None, None, None, None, False, training=True)
        found: np.ndarray = last(hidden, mask, None, None, None, None, False, training=True)[0].numpy()
        return found

    assert not np.array_equal(once(), once())


def test_layers_have_masks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    plain = room.dropout

    def remembered(values: tf.Tensor, rate: float, of: tf.Tensor) -> tf.Tensor:
        tf.py_function(lambda numbers: seen.append(tuple(numbers.numpy().tolist())), [of], [])
        return plain(values, rate, of)

    monkeypatch.setattr(room, "dropout", remembered)
    _, faster = twins("bert")
    for _ in range(2):
        faster(INPUTS, training=True)
    assert len(seen) == len(set(seen)) == 2 * 2 * 3  # passes, layers, places
