"""What is frozen stays, what is trained moves, in every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from tests import families
from tfft import hardware, training
from tfft.backend import tf
from tfft.errors import RecipeError
from tfft.models import checkpoint, freeze, load, save
from tfft.models.load import parameter_counts
from tfft.models.parts import part_of
from tfft.recipe import TrainingSection


@pytest.mark.parametrize("strategy", get_args(TrainingSection.model_fields["strategy"].annotation))
def test_every_strategy_of_a_recipe_trains_the_head_and_what_it_says(strategy: str) -> None:
    model = families.make("bert")
    names = {weight.name for weight in model.weights}
    stages = {"stages": [{"unfreeze": "head"}, {"unfreeze": 1}]} if strategy == "gradual_unfreezing" else {}
    training.choose_weights(TrainingSection(strategy=strategy, **stages), load.Loaded(model, (), ()))
    trained = {weight.name for weight in model.trainable_weights}
    head = {name for name in names if part_of(name) == "head"}
    assert trained == head if strategy == "feature_extraction" else head < trained
    assert (trained == names) == (strategy == "full")


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "feature_extraction"},
        {"strategy": "bitfit"},
        {"strategy": "lora"},
        {"strategy": "gradual_unfreezing", "stages": [{"unfreeze": "head"}, {"unfreeze": 1}]},
        {"strategy": "gradual_unfreezing", "stages": [{"unfreeze": ["head"]}, {"unfreeze": 1}]},
    ],
)
def test_a_pooler_that_the_checkpoint_lacks_is_trained_wherever_the_head_is(settings: dict[str, Any]) -> None:
    model = families.make("bert")
    new = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
    first, *_ = training.choose_weights(TrainingSection(**settings), load.Loaded(model, new, ()))
    pooler = {weight.name for weight in model.bert.pooler.weights}
    assert len(pooler) == 2 and pooler <= first


@pytest.mark.parametrize(
    "stages",
    [
        ["head", ["head"]],
        [2, ["layer.*", "pooler", "head"]],
        ["all", "head"],
        [["layer.*", "pooler", "head"], 1, "head"],
    ],
)
def test_stages_that_never_unfreeze_anything(stages: list[Any]) -> None:
    settings = TrainingSection(strategy="gradual_unfreezing", stages=[{"unfreeze": one} for one in stages])
    with pytest.raises(RecipeError, match=r"training\.stages: no stage trains a weight that the first does not"):
        training.choose_weights(settings, load.Loaded(families.make("bert"), (), ()))


@pytest.mark.parametrize("family", families.FAMILIES)
def test_bitfit_moves_biases_and_the_head_alone(family: str) -> None:
    hardware.set_seed(1)
    model = families.make(family)
    whole = sum(parameter_counts(model))
    freeze.bitfit(model)
    trained, frozen = parameter_counts(model)
    assert trained + frozen == whole
    before = {weight.name: weight.numpy() for weight in model.weights}
    families.take_a_step(model)
    moved = {weight.name for weight in model.weights if (weight.numpy() != before[weight.name]).any()}
    allowed = {name for name in before if name.endswith(("bias:0", "beta:0")) or part_of(name) == "head"}
    assert moved <= allowed
    # Biases of keys change no score (softmax is blind to them), and some heads begin with zeros.
    assert len(moved) > len(allowed) / 2
    assert {part_of(name) for name in moved} >= {"embeddings", "layer.0", "head"}


def test_what_a_predicate_lets_pass_is_trained_in_the_models_order() -> None:
    model = families.make("bert")
    names = [weight.name for weight in model.trainable_weights]
    freeze.train_only(model, lambda name: part_of(name) in ("layer.1", "head"))
    kept = [weight.name for weight in model.trainable_weights]
    assert kept == [name for name in names if part_of(name) in ("layer.1", "head")]
    assert sorted(weight.name for weight in model.weights) == sorted(names)


def test_a_model_with_frozen_weights_is_saved_whole(tiny_checkpoint: Path, tmp_path: Path) -> None:
    found = checkpoint.find(str(tiny_checkpoint))
    tokenizer: Any = checkpoint.load_tokenizer(found)
    model = load.load_classifier(found, ["no", "yes"], "TFAutoModelForSequenceClassification").model
    freeze.bitfit(model)
    expected = model(families.INPUTS).logits.numpy()
    save.save(model, tokenizer, tmp_path / "model")
    again = load.load_classifier(
        checkpoint.find(str(tmp_path / "model")), ["no", "yes"], "TFAutoModelForSequenceClassification"
    )
    assert (again.new, again.unused) == ((), ())
    np.testing.assert_allclose(again.model(families.INPUTS).logits, expected, atol=1e-6)
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    save.restore(model, tmp_path / "model")
    np.testing.assert_array_equal(model(families.INPUTS).logits, expected)
