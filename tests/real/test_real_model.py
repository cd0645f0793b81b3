"""The real checkpoint in TensorFlow against what PyTorch computed with it (fixtures/make_reference_states.py)."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.conftest import FIXTURES
from tfft.errors import ModelError
from tfft.models import checkpoint, load

REFERENCE = FIXTURES / "reference_states.safetensors"


@pytest.fixture(scope="module")
def found() -> checkpoint.Checkpoint:
    if not (folder := os.environ.get("TFFT_CHECKPOINT")):
        pytest.skip("TFFT_CHECKPOINT is not set; it names the folder of all-MiniLM-L6-v2")
    return checkpoint.find(folder)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    """`hidden_states` (layers + 1, samples) at `positions` (samples, 3: row, token, dimension), `last_cls`, inputs."""
    return load_file(REFERENCE)


@pytest.fixture(scope="module")
def made_with() -> dict[str, str]:
    with safe_open(REFERENCE, framework="np") as file:
        return dict(json.loads(file.metadata()["made_with"]))


def test_the_checkpoint_is_the_one_of_the_reference(found: checkpoint.Checkpoint, made_with: dict[str, str]) -> None:
    (weights,) = found.weights
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == made_with["weights_sha256"]


def test_the_tokenizer_gives_the_reference_its_ids(
    found: checkpoint.Checkpoint, reference: dict[str, np.ndarray], made_with: dict[str, str]
) -> None:
    tokenizer = checkpoint.load_tokenizer(found)
    for row, (first, second) in enumerate(made_with["texts"]):
        real = reference["attention_mask"][row].astype(bool)
        assert tokenizer(first, second)["input_ids"] == reference["input_ids"][row][real].tolist()


def test_hidden_states_are_those_of_pytorch(found: checkpoint.Checkpoint, reference: dict[str, np.ndarray]) -> None:
    loaded = load.load_classifier(found, ["no", "yes"], "TFAutoModelForSequenceClassification")
    assert {name.split(".")[0] for name in loaded.new} == {"classifier"}
    assert loaded.unused == ()
    inputs = {name: reference[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    states = loaded.model(inputs, output_hidden_states=True).hidden_states
    row, token, dimension = reference["positions"].T
    assert len(states) == len(reference["hidden_states"]) == 7
    for layer, (ours, theirs) in enumerate(zip(states, reference["hidden_states"], strict=True)):
        sampled = np.asarray(ours)[row, token, dimension]
        np.testing.assert_allclose(sampled, theirs, atol=1e-4, rtol=0, err_msg=f"layer {layer}")
    np.testing.assert_allclose(np.asarray(states[-1])[:, 0], reference["last_cls"], atol=1e-4, rtol=0)


def test_a_length_beyond_its_positions_is_refused(found: checkpoint.Checkpoint) -> None:
    tokenizer = checkpoint.load_tokenizer(found)
    with pytest.raises(ModelError, match=r"data\.max_length: 513 tokens.*give at most 512"):
        checkpoint.choose_max_length(513, tokenizer, found.config)
