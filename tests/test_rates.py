"""A rate for every part: by names, by hand, and by what a step of plain SGD really moves in every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import hardware, optimizers
from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models import parts
from tfft.optimizers.accumulation import Accumulates
from tfft.optimizers.rates import ScalesRates
from tfft.optimizers.sparse import SumsFirst

LAYERS = {"albert": 1}  # of two layers that share their weights


class SGD(Accumulates, SumsFirst, ScalesRates, keras.optimizers.SGD):
    """Plain SGD moves each weight by rate times gradient, so the two show the rate."""


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("tf_bert_for_sequence_classification/bert/embeddings/word_embeddings/weight:0", "embeddings"),
        ("tf_bert_for_sequence_classification/bert/encoder/layer_._11/output/LayerNorm/beta:0", "layer.11"),
        ("tf_bert_for_sequence_classification/bert/pooler/dense/bias:0", "pooler"),
        ("tf_bert_for_sequence_classification/classifier/kernel:0", "head"),
        ("tf_distil_bert_for_sequence_classification/distilbert/transformer/layer_._0/ffn/lin1/kernel:0", "layer.0"),
        ("tf_distil_bert_for_sequence_classification/pre_classifier/kernel:0", "head"),
        ("tfxlm_roberta_for_sequence_classification/roberta/embeddings/LayerNorm/gamma:0", "embeddings"),
        ("tf_electra_for_sequence_classification/electra/embeddings_project/kernel:0", "embeddings"),
        ("tf_albert_for_sequence_classification/albert/encoder/albert_layer_groups_._0/x/ffn/kernel:0", "layer.0"),
        ("tf_albert_for_sequence_classification/albert/encoder/embedding_hidden_mapping_in/bias:0", "embeddings"),
        ("tfmp_net_for_sequence_classification/mpnet/encoder/relative_attention_bias/embeddings:0", "embeddings"),
        ("tf_deberta_for_sequence_classification/pooler/dense/kernel:0", "pooler"),
        ("tf_deberta_for_sequence_classification/deberta/encoder/rel_embeddings.weight:0", "embeddings"),
        ("tf_deberta_v2_for_sequence_classification/deberta/encoder/LayerNorm/gamma:0", "embeddings"),
        ("tf_deberta_v2_for_sequence_classification/deberta/encoder/conv/conv/kernel:0", "layer.0"),
    ],
)
def test_parts_by_name(name: str, part: str) -> None:
    assert parts.part_of(name) == part


@pytest.mark.parametrize("name", ["dense/kernel:0", "tf_new_model/new/blocks_0/kernel:0"])
def test_a_weight_of_no_part_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match="is in no part of a model that tfft knows"):
        parts.part_of(name)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_weight_of_every_family_has_a_part(family: str) -> None:
    found = parts.parts_of(weight.name for weight in families.make(family).weights)
    layers = tuple(f"layer.{number}" for number in range(LAYERS.get(family, 2)))
    assert [part for part in found if part != "pooler"] == ["embeddings", *layers, "head"]


# --- multipliers ------------------------------------------------------------------------------------------------------

NAMES = [
    "tf_x/bert/embeddings/weight:0",
    "tf_x/bert/encoder/layer_._0/kernel:0",
    "tf_x/bert/encoder/layer_._10/kernel:0",
    "tf_x/bert/encoder/layer_._9/kernel:0",
    "tf_x/bert/pooler/kernel:0",
    "tf_x/classifier/kernel:0",
]


def test_decay_by_hand() -> None:
    found = optimizers.multipliers_by_depth(NAMES, 0.5)
    assert list(found) == NAMES
    # Layer 10 is above layer 9, though not in the order of letters.
    assert list(found.values()) == [0.0625, 0.125, 0.5, 0.25, 1.0, 1.0]
    assert set(optimizers.multipliers_by_depth(NAMES, 1.0).values()) == {1.0}
    # The depth is the model's, whatever is trained.
    some = [name for name in NAMES if "layer_._9/" not in name]
    assert some != NAMES
    assert optimizers.multipliers_by_depth(some, 0.5, NAMES) == {name: found[name] for name in some}


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ({"*": 2.0}, [2, 2, 2, 2, 2, 2]),
        ({"head": 10.0, "*": 1.0}, [1, 1, 1, 1, 1, 10]),
        ({"embeddings": 0.0, "layer.1?": 3.0, "layer.*": 2.0, "pooler": 4.0, "head": 5.0}, [0, 2, 3, 2, 4, 5]),
        ({"bert/encoder/*": 2.0, "*/kernel": 3.0, "*": 1.0}, [1, 2, 2, 2, 3, 3]),
    ],
)
def test_patterns_by_hand(table: dict[str, float], values: list[float]) -> None:
    assert list(optimizers.multipliers_by_pattern(NAMES, table).values()) == values


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"*": 1.0, "layer.12": 2.0}, "'layer.12' is no part of this model; expected embeddings, layer.0, layer.9"),
        ({"embeddings": 1.0, "layer.*": 1.0}, r"nothing in it is said of 'pooler', 'head' \(2 weights, the first"),
        ({}, "nothing in it is said of 'embeddings', 'layer.0'"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(table: dict[str, float], words: str) -> None:
    with pytest.raises(ModelError, match=r"training\.learning_rate_multipliers: .*" + words):
        optimizers.multipliers_by_pattern(NAMES, table)


# --- what really moves ------------------------------------------------------------------------------------------------


def gradients_of(model: keras.Model) -> list[Any]:
    with tf.GradientTape() as tape:
        logits = model(families.INPUTS, training=False).logits
        loss = tf.reduce_sum(tf.nn.log_softmax(logits)[:, 0])
    return tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_each_weight_moves_at_its_own_rate(family: str) -> None:
    hardware.set_seed(1)
    model = families.make(family)
    variables = model.trainable_variables
    multipliers = optimizers.multipliers_by_depth([variable.name for variable in variables], 0.5)
    layers = LAYERS.get(family, 2)
    expected = {"embeddings": 0.5 ** (layers + 1), "layer.0": 0.5**layers, "layer.1": 0.5, "pooler": 1, "head": 1}
    gradients = gradients_of(model)
    before = [variable.numpy() for variable in variables]
    SGD(0.25, rate_multipliers=multipliers).apply_gradients(zip(gradients, variables, strict=True))
    moved = 0
    for variable, gradient, old in zip(variables, gradients, before, strict=True):
        if gradient is None:
            continue
        rate = 0.25 * expected[parts.part_of(variable.name)]
        np.testing.assert_allclose(variable.numpy(), old - rate * tf.convert_to_tensor(gradient), rtol=1e-5, atol=1e-7)
        moved += (variable.numpy() != old).any()
    assert moved > len(variables) / 2


def one_step(optimizer: keras.optimizers.Optimizer, gradient: float = 1.0) -> list[float]:
    variables = [tf.Variable([2.0], name="slow/kernel"), tf.Variable([2.0], name="fast/kernel")]
    optimizer.apply_gradients([(tf.constant([gradient]), variable) for variable in variables])
    return [float(variable[0]) for variable in variables]


RATES = {"slow/kernel:0": 0.5, "fast/kernel:0": 2.0}


def test_decay_of_weights_goes_with_the_rate() -> None:
    """Of a zero gradient Adam makes no move, so all that is left is decoupled decay."""
    moved = one_step(optimizers.make("adamw", 0.1, weight_decay=0.5, rate_multipliers=RATES), gradient=0.0)
    assert moved == pytest.approx([2 - 2 * 0.05 * 0.5, 2 - 2 * 0.2 * 0.5])


def test_a_schedule_is_multiplied_and_shown_as_it_is() -> None:
    optimizer = optimizers.make("adam", optimizers.linear_decay(0.2, 10), epsilon=1e-12, rate_multipliers=RATES)
    assert one_step(optimizer) == pytest.approx([2 - 0.1, 2 - 0.4], rel=1e-5)
    assert float(optimizer.learning_rate) == pytest.approx(0.2)


def test_multipliers_and_accumulation_together() -> None:
    variables = [tf.Variable([2.0], name="slow/kernel"), tf.Variable([2.0], name="fast/kernel")]
    optimizer = SGD(0.1, rate_multipliers=RATES, gradient_accumulation_steps=2)

    @tf.function
    def step(gradient: tf.Tensor) -> None:
        optimizer.apply_gradients([(gradient, variable) for variable in variables])

    for value in (1.0, 3.0):
        step(tf.constant([value]))
    assert [float(one[0]) for one in variables] == pytest.approx([2 - 0.05 * 2, 2 - 0.2 * 2])


def test_a_rate_can_still_be_set() -> None:
    optimizer = optimizers.make("adam", 0.1, rate_multipliers=RATES)
    optimizer.learning_rate = 0.3
    assert float(optimizer.learning_rate) == pytest.approx(0.3)
