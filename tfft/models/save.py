"""A model to a folder that Transformers reads, and its weights back from there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tfft.backend import keras
from tfft.models import lora
from tfft.models.load import put_tensors, read_tensors
from tfft.whole import system_errors

ADAPTERS_FOLDER = "adapters"


def save(model: keras.Model, tokenizer: Any, folder: Path) -> None:
    """Writes `model.safetensors`, `config.json` and the tokenizer's files into `folder`. The tokenizer may be None.

    Adapters are merged into the weights; they are kept apart as well, in `adapters/`.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    if lora.has_adapters(model):
        lora.save_adapters(model, folder / ADAPTERS_FOLDER)
    with system_errors(folder), lora.merged(model):
        model.save_pretrained(folder, safe_serialization=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def fingerprint(model: keras.Model) -> str:
    """A SHA-256 over all weights in their order, whatever precision the model computes in."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def restore(model: keras.Model, folder: Path) -> None:
    """Puts the weights that `save` wrote into `folder` back into the same model."""
    if lora.has_adapters(model):
        return lora.load_adapters(model, folder / ADAPTERS_FOLDER)
    lacking, left = put_tensors(model, read_tensors(sorted(folder.glob("*.safetensors"))), str(folder))
    if lacking or left:
        raise ValueError(f"{folder} was not written by this model: it lacks {lacking} and has {left} besides")
