"""A whole training, step by step, against the same training in PyTorch (fixtures/make_reference_training.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tests.conftest import FIXTURES
from tfft import optimizers
from tfft.backend import keras
from tfft.models import checkpoint, heads, load

REFERENCE = FIXTURES / "tiny_bert_torch_training.safetensors"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with safe_open(REFERENCE, framework="np") as file:
        settings = json.loads(file.metadata()["settings"])
    return load_file(REFERENCE), settings


def test_every_loss_and_every_weight_is_that_of_pytorch(reference: Any, tiny_checkpoint: Path) -> None:
    arrays, settings = reference
    # A fifth of the steps is clipped at least, or the comparison would say nothing of clipping.
    assert np.mean(arrays["norms"] > settings["max_grad_norm"]) > 0.2
    found = checkpoint.find(str(tiny_checkpoint))
    found.config.hidden_dropout_prob = found.config.attention_probs_dropout_prob = 0.0
    model = load.load_classifier(found, ["a", "b", "c"], "TFAutoModelForSequenceClassification").model
    model.classifier.kernel.assign(arrays["head.weight"].T)
    model.classifier.bias.assign(arrays["head.bias"])
    rate = optimizers.linear_decay(settings["learning_rate"], settings["total_steps"], settings["warmup_steps"])
    optimizer = optimizers.make(
        "adamw",
        rate,
        weight_decay=settings["weight_decay"],
        epsilon=settings["adam_epsilon"],
        max_grad_norm=settings["max_grad_norm"],
    )
    model.compile(optimizer=optimizer, loss=heads.CrossEntropyFromLogits())
    losses = [
        model.train_on_batch({name: arrays[name][step] for name in INPUTS}, arrays["labels"][step], reset_metrics=True)
        for step in range(settings["total_steps"])
    ]
    np.testing.assert_allclose(losses, arrays["losses"], rtol=2e-4)
    for weight in model.trainable_weights:
        if "/key/bias" in weight.name:
            continue  # softmax takes it out, so its gradient is rounding alone, which Adam scales up
        expected = arrays[pytorch_name(weight)]
        value = weight.numpy().T if weight.name.endswith("kernel:0") else weight.numpy()
        np.testing.assert_allclose(value, expected, atol=5e-5, err_msg=weight.name)


def pytorch_name(weight: keras.backend.variable) -> str:
    """`bert.encoder.layer.0.attention.self.query.weight` for its TensorFlow name."""
    parts = weight.name.removesuffix(":0").partition("/")[2].replace("layer_._", "layer.").split("/")
    last = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight"}
    return ".".join([*parts[:-1], last.get(parts[-1], parts[-1])])
