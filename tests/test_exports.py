"""Weights under PyTorch's names, against files that PyTorch's layout is known by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import families
from tfft.exports import FORMS, formats, pytorch
from tfft.models import checkpoint
from tfft.models.load import load_classifier, load_weights

FAMILIES = sorted(families.FAMILIES)


def test_every_form_has_what_writes_it() -> None:
    assert set(formats.WRITERS) == set(FORMS)


def test_weights_go_back_to_the_names_and_layouts_that_pytorch_wrote(tiny_checkpoint: Path) -> None:
    source = checkpoint.find(str(tiny_checkpoint))
    model = load_classifier(source, ["bad", "good"], "TFAutoModelForSequenceClassification").model
    written, given = pytorch.tensors(model), load_file(tiny_checkpoint / "model.safetensors")
    heads = {"classifier.weight", "classifier.bias"}
    assert {name.removeprefix("bert.") for name in written} - heads == {
        name.removeprefix("bert.") for name in given if "position_ids" not in name
    }
    for name, values in written.items():
        if name not in heads:
            np.testing.assert_array_equal(values, given.get(name, given.get(name.removeprefix("bert."))), name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_reads_its_weights_back(family: str, tmp_path: Path) -> None:
    model, again = families.make(family), families.make(family)
    for weight in again.weights:
        weight.assign(weight * 0)
    save_file(pytorch.tensors(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(tmp_path)
    loaded = load_weights(again, checkpoint.find(str(tmp_path)))
    assert (loaded.new, loaded.unused) == ((), ())
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other, one.name)
