"""LoRA in every family: nothing changes at first, adapters and head alone move, and merging leaves the logits."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from tests import families
from tests.conftest import files_no_larger_than
from tfft import hardware
from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models import lora
from tfft.models.load import parameter_counts
from tfft.models.parts import part_of


def make(family: str, seed: int = 1) -> keras.Model:
    hardware.set_seed(seed)
    return families.make(family)


def logits(model: keras.Model) -> np.ndarray:
    return model(families.INPUTS, training=False).logits.numpy()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_adapters_learn_and_merge(family: str, tmp_path: Path) -> None:
    model = make(family)
    plain = logits(model)
    base = {weight.name: weight.numpy() for weight in model.weights}
    places = lora.add(model, rank=2, alpha=4)
    assert len(places) in (1, 2, 4)
    np.testing.assert_array_equal(logits(model), plain)
    adapter_weights = [weight for weight in model.weights if weight.name not in base]
    assert len(adapter_weights) == 2 * len(places)

    families.take_a_step(model)
    families.take_a_step(model)  # in the first step B alone moves: A's gradient is in proportion to it
    moved = {
        weight.name for weight in model.weights if weight.name in base and (weight != base[weight.name]).numpy().any()
    }
    assert moved
    assert all("classifier" in name for name in moved)
    assert all(weight.numpy().any() for weight in adapter_weights)
    for *_, layer in lora.adapters(model):  # two steps do little; what is to be seen must be large
        layer.lora_b.assign(np.random.default_rng(0).normal(size=layer.lora_b.shape))
    learned = logits(model)
    assert np.abs(learned - plain).max() > 1e-3

    lora.save_adapters(model, tmp_path)
    with lora.merged(model):
        assert not list(lora.adapters(model))
        np.testing.assert_allclose(logits(model), learned, atol=1e-5)
    np.testing.assert_array_equal(logits(model), learned)
    lora.merge(model)
    np.testing.assert_allclose(logits(model), learned, atol=1e-5)
    assert {weight.name for weight in model.weights} == set(base)

    again = make(family)
    np.testing.assert_array_equal(logits(again), plain)
    lora.load_adapters(again, tmp_path)
    np.testing.assert_allclose(logits(again), learned, atol=1e-6)


def test_a_pooler_that_the_checkpoint_lacks_is_trained_and_saved_with_the_adapters(tmp_path: Path) -> None:
    model = make("bert")
    lora.add(model, rank=2, also_train=["pooler"])
    assert {part_of(weight.name) for weight in model.trainable_weights} == {"layer.0", "layer.1", "pooler", "head"}
    families.take_a_step(model)
    lora.save_adapters(model, tmp_path)
    again, base = make("bert"), make("bert")
    # Random again, and another time otherwise.
    pooler = again.bert.pooler.dense
    pooler.kernel.assign(-2 * pooler.kernel)
    lora.load_adapters(again, tmp_path)
    np.testing.assert_allclose(logits(again), logits(model), atol=1e-6)
    assert np.abs(logits(base) - logits(model)).max() > 1e-4


def test_an_adapter_by_hand() -> None:
    dense = keras.layers.Dense(2, name="query")
    dense.build((None, 3))
    adapted = lora.Adapted(dense, rank=1, alpha=3.0, dropout=0.0)
    adapted.lora_a.assign([[1.0], [2.0], [0.0]])
    adapted.lora_b.assign([[1.0, -1.0]])
    x = np.float32([[1, 1, 5]])
    np.testing.assert_allclose(adapted(x) - dense(x), [[9, -9]], rtol=1e-5)
    np.testing.assert_allclose(adapted.product(), [[3, -3], [6, -6], [0, 0]])


def test_dropout_is_the_adapters_alone_and_only_in_training() -> None:
    hardware.set_seed(1)
    dense = keras.layers.Dense(4, name="query")
    dense.build((None, 64))
    adapted = lora.Adapted(dense, rank=8, alpha=8.0, dropout=0.5)
    x = tf.ones([1, 64])
    np.testing.assert_array_equal(adapted(x, training=True), dense(x))  # B is zero
    adapted.lora_b.assign(tf.ones([8, 4]))
    assert np.abs(adapted(x, training=True) - adapted(x, training=False)).max() > 1e-3
    np.testing.assert_array_equal(adapted(x), adapted(x, training=False))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_adapter_computes_as_its_layer_does(precision: str) -> None:
    with hardware.computing_in(hardware.Precision(precision, "as asked")):
        model = make("bert")
    plain = logits(model)
    lora.add(model, rank=2)
    np.testing.assert_array_equal(logits(model), plain)
    for *_, layer in lora.adapters(model):
        assert layer(tf.ones([1, 16])).dtype == layer.base(tf.ones([1, 16])).dtype != tf.float32
        assert layer.lora_a.dtype == layer.lora_b.dtype == tf.float32
    families.take_a_step(model)
    assert all(layer.lora_b.numpy().any() for *_, layer in lora.adapters(model))


def test_few_parameters_are_trained() -> None:
    model = make("bert")
    lora.add(model, rank=2, targets=["query", "attention/output/dense"])
    # 2 layers with two adapters of 16 x 2 and 2 x 16, and a head of 16 x 2 + 2.
    assert parameter_counts(model)[0] == 2 * 2 * (32 + 32) + 34


@pytest.mark.parametrize("targets", [["qurey"], ["query", "qurey"], ["query", "q_lin"], []])
def test_targets_that_match_nothing_are_an_error(targets: list[str]) -> None:
    model = make("bert")
    before = logits(model)
    with pytest.raises(ModelError, match=r"lora_target_modules: .* expected one of dense, key, query, value"):
        lora.add(model, targets=targets)
    np.testing.assert_array_equal(logits(model), before)
    assert parameter_counts(model)[1] == 0


def test_a_full_disk_while_saving_adapters_is_the_systems_error(tmp_path: Path) -> None:
    model = make("bert")
    lora.add(model, rank=2)
    with files_no_larger_than(1000), pytest.raises(OSError, match=r"File too large.*adapters") as caught:
        lora.save_adapters(model, tmp_path / "adapters")
    assert caught.value.errno == errno.EFBIG


def test_adapters_of_another_model_are_an_error(tmp_path: Path) -> None:
    model = make("bert")
    lora.add(model, rank=2)
    lora.save_adapters(model, tmp_path)
    other = make("bert")
    lora.add(other, rank=3)
    with pytest.raises(ModelError, match="adapters for another model; the first weight that differs is bert/encoder"):
        lora.load_adapters(other, tmp_path)
