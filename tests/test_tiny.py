"""The small encoder that comes with tfft: what is stored, how it loads, and that meaning counts in it."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tfft import hardware, locations, recipe
from tfft.models import checkpoint, load

NAME = "package:tfft/tiny"
FOLDER = locations.resolve(NAME)
MOST_BYTES = 12_000_000


def test_it_is_small_and_whole() -> None:
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix not in (".py", ".pyc") and path.is_file()}
    assert set(files) == {"README.md", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}
    assert sum(path.stat().st_size for path in files.values()) <= MOST_BYTES
    assert {tensor.dtype for tensor in load_file(files["model.safetensors"]).values()} == {np.dtype(np.float16)}


def test_its_readme_is_about_these_weights() -> None:
    said = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest() in said


def test_it_has_the_sizes_of_its_recipe() -> None:
    distillation = recipe.load("tiny/encoder").distillation
    assert distillation is not None and distillation.student is not None
    config = checkpoint.find(NAME).config
    sizes = distillation.student.model_dump()
    assert {name: getattr(config, name) for name in sizes} == sizes


def test_it_loads_in_float32_with_nothing_new_but_a_classifier_and_its_pooler() -> None:
    found = checkpoint.find(NAME)
    filling = load.load_model(found, "TFAutoModelForMaskedLM")
    assert (filling.new, filling.unused) == ((), ())
    assert {str(weight.dtype) for weight in filling.model.weights} == {"<dtype: 'float32'>"}
    classifier = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification")
    assert {name.split(".")[-3 if "pooler" in name else 0] for name in classifier.new} == {"pooler", "classifier"}


def same_intent_nearby(source: checkpoint.Checkpoint) -> float:
    """For how many of the quickstart's messages the nearest other one has the same intent, by their first tokens."""
    with (locations.resolve("package:tfft/quickstart") / "validation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts, intents = [row["text"] for row in rows], np.array([row["intent"] for row in rows])
    inputs = checkpoint.load_tokenizer(source)(texts, padding=True, return_tensors="tf")
    states = load.load_model(source, "TFAutoModel").model(dict(inputs)).last_hidden_state[:, 0].numpy()
    states -= states.mean(0)
    states /= np.linalg.norm(states, axis=-1, keepdims=True)
    near = states @ states.T
    np.fill_diagonal(near, -1)
    return float((intents[near.argmax(-1)] == intents).mean())


def test_it_knows_what_texts_are_about_and_random_weights_do_not() -> None:
    hardware.set_seed(1)
    found = checkpoint.find(NAME)
    ours, random = same_intent_nearby(found), same_intent_nearby(replace(found, weights=()))
    assert ours > 0.35  # one of eight intents by chance
    assert random < ours - 0.15


@pytest.mark.parametrize("file", ["texts.py", "store.py"])
def test_what_made_it_lies_beside_its_recipe(file: str) -> None:
    assert (Path(__file__).parent.parent / "recipes" / "tiny" / file).is_file()
