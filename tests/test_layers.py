"""Checkpoints with fewer layers, beside models whose layers were taken out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import save_file

from tests import families
from tests.torch_layout import as_torch
from tfft.errors import ModelError, RecipeError
from tfft.models import checkpoint, faster, features, freeze, headed, lora
from tfft.models.checkpoint import Checkpoint
from tfft.models.layers import FAMILIES, kept_layers, with_layers
from tfft.models.load import load_classifier
from tfft.recipe import from_mapping

AUTO = "TFAutoModelForSequenceClassification"
NAMES = ["bad", "good"]


def saved(model: Any, folder: Path, form: str = "safetensors") -> Checkpoint:
    """The model's checkpoint, written by TensorFlow or as PyTorch writes it."""
    if form == "pytorch":
        folder.mkdir()
        model.config.save_pretrained(folder)
        save_file(as_torch(model), folder / "model.safetensors", metadata={"format": "pt"})
    else:
        model.save_pretrained(folder, safe_serialization=form == "safetensors")
    return checkpoint.find(str(folder))


def drop_by_hand(model: Any, kept: Sequence[int]) -> None:
    """Takes the layers out of the list that the encoder goes through."""
    base = getattr(model, model.base_model_prefix)
    encoder = base.transformer if hasattr(base, "transformer") else base.encoder
    encoder.layer = [encoder.layer[index] for index in kept]


@pytest.mark.parametrize(
    ("dropped", "count", "gone"),
    [
        # The examples of section 3 of the paper, which counts from 1.
        ("top", 8, {9, 10, 11, 12}),
        ("bottom", 8, {1, 2, 3, 4}),
        ("symmetric", 6, {4, 5, 6, 7, 8, 9}),
        ("symmetric", 7, {5, 6, 7, 8, 9}),
        ("odd", 8, {5, 7, 9, 11}),
        ("even", 8, {6, 8, 10, 12}),
        ("odd", 6, {1, 3, 5, 7, 9, 11}),
        ("top", 1, set(range(2, 13))),
        ("bottom", 12, set()),
        ("even", 12, set()),
    ],
)
def test_which_of_twelve_layers_go(dropped: str, count: int, gone: set[int]) -> None:
    assert kept_layers(12, count, dropped) == tuple(layer - 1 for layer in range(1, 13) if layer not in gone)


# The one that others are like, and one with more beside its layers.
QUICK = (("bert", "safetensors"), ("deberta-v2", "pytorch"))


@pytest.mark.parametrize(
    ("family", "form"),
    [
        pytest.param(family, form, marks=() if (family, form) in QUICK else pytest.mark.slow)
        for family in FAMILIES
        for form in ("safetensors", "pytorch")
    ],
)
def test_what_stays_computes_what_it_did(family: str, form: str, tmp_path: Path) -> None:
    model = families.make(family, num_hidden_layers=3)
    kept = with_layers(saved(model, tmp_path / "all", form), [2, 0])
    loaded = load_classifier(kept, NAMES, AUTO)
    assert (loaded.new, loaded.unused) == ((), ())
    drop_by_hand(model, [0, 2])
    expected = model(families.INPUTS).logits
    np.testing.assert_allclose(loaded.model(families.INPUTS).logits, expected, atol=1e-6)
    # All that goes by names or counts takes it for a model that never had more.
    own_names = [weight.name.partition("/")[2] for weight in families.make(family, num_hidden_layers=2).weights]
    assert [weight.name.partition("/")[2] for weight in loaded.model.weights] == own_names
    # Transformers by itself loads what is saved.
    loaded.model.save_pretrained(tmp_path / "saved", safe_serialization=True)
    again = getattr(transformers, AUTO).from_pretrained(tmp_path / "saved")
    assert again.config.num_hidden_layers == 2
    np.testing.assert_allclose(again(families.INPUTS).logits, expected, atol=1e-6)


def test_albert_uses_its_one_layer_less_often(tmp_path: Path) -> None:
    found = saved(families.make("albert", num_hidden_layers=3), tmp_path / "all")
    loaded = load_classifier(with_layers(found, 2), NAMES, AUTO)
    found.config.num_hidden_layers = 2
    expected = load_classifier(found, NAMES, AUTO).model(families.INPUTS).logits
    np.testing.assert_array_equal(loaded.model(families.INPUTS).logits, expected)


def test_layers_of_a_keras_file(tmp_path: Path) -> None:
    model = families.make("bert")
    loaded = load_classifier(with_layers(saved(model, tmp_path / "all", "h5"), 1, "bottom"), NAMES, AUTO)
    drop_by_hand(model, [1])
    np.testing.assert_allclose(loaded.model(families.INPUTS).logits, model(families.INPUTS).logits, atol=1e-6)


def test_a_model_with_fewer_layers_goes_with_all_else(tiny_checkpoint: Path) -> None:
    found = checkpoint.find(str(tiny_checkpoint))

    def make(**more: Any) -> Any:
        return headed.load_with_head(with_layers(found, [1]), NAMES, **more).model

    assert found.config.num_hidden_layers == 2  # what others were given stays as it was
    assert faster.accelerate(make()) == 1
    assert lora.add(make()) == [
        f"bert/encoder/layer_._0/attention/self/{projection}" for projection in ("query", "value")
    ]
    assert freeze.trained_names(make(), 1) < freeze.trained_names(make(), "all")
    of_others = with_layers(found, 1)
    fingerprints = {
        features.encoder_fingerprint(headed.load_with_head(one, NAMES).model)
        for one in (found, of_others, with_layers(found, [1]))
    }
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("wanted", "dropped", "words"),
    [
        (0, "top", "got 0; expected a number of layers from 1 to 2, since the model has 2 layers"),
        (3, "top", "got 3; expected a number of layers from 1 to 2, since the model has 2 layers"),
        ([], "top", r"got \[\]; expected different layers from 0 to 1, since the model has 2 layers"),
        ([1, 1], "top", r"got \[1, 1\]; expected different layers from 0 to 1"),
        ([0, 2], "top", r"got \[0, 2\]; expected different layers from 0 to 1"),
        ([-1], "top", r"got \[-1\]; expected different layers from 0 to 1"),
    ],
)
def test_layers_that_are_not_there(tiny_checkpoint: Path, wanted: Any, dropped: str, words: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.keep_layers: {words}"):
        with_layers(checkpoint.find(str(tiny_checkpoint)), wanted, dropped)


def test_there_are_only_so_many_odd_layers() -> None:
    with pytest.raises(
        ModelError, match=r"got 1 with model\.drop_layers=odd; expected at least 2, since 3 of the model's"
    ):
        kept_layers(5, 1, "odd")


def test_families_whose_layers_cannot_go(tmp_path: Path) -> None:
    for config, words in (
        (transformers.T5Config(), "is a t5 model; expected null, or a model of bert, distilbert, "),
        (transformers.AlbertConfig(num_hidden_groups=2), "is a albert model whose layers share several weights; "),
    ):
        with pytest.raises(ModelError, match=words):
            with_layers(Checkpoint("it", tmp_path, (), config), 1)


def recipe(**model: Any) -> Any:
    data = {"train_file": "a.csv", "validation_file": "b.csv", "text_columns": ["text"]}
    model = {"name_or_path": "somewhere", **model}
    return from_mapping({"task": "text-classification", "output_dir": "run", "model": model, "data": data})


def test_recipes_say_how_many_layers_or_which() -> None:
    assert recipe(keep_layers=3, drop_layers="odd").model.keep_layers == 3
    assert recipe(keep_layers=[0, 4]).model.keep_layers == (0, 4)
    for wrong in ("three", True, 2.0, [0, "1"]):
        with pytest.raises(RecipeError, match="expected a whole number or a list of whole numbers or null"):
            recipe(keep_layers=wrong)
    for kept in (None, [0, 1]):
        with pytest.raises(RecipeError, match=r"drop_layers: got 'top'; expected null, since model\.keep_layers is"):
            recipe(keep_layers=kept, drop_layers="top")
    with pytest.raises(RecipeError, match="expected one of top, bottom, symmetric, odd, even"):
        recipe(keep_layers=3, drop_layers="middle")
