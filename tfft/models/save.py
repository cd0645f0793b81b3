"""A model to a folder that Transformers reads, and its weights back from there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tfft import tensors_file
from tfft.backend import keras
from tfft.models import lora
from tfft.models.load import put_tensors, read_tensors
from tfft.whole import system_errors

ADAPTERS_FOLDER = "adapters"
# In bytes: what is larger, `save_pretrained` parts.
LARGEST_FILE = 5 * 10**9


def save(
    model: keras.Model, tokenizer: Any, folder: Path, beside: Mapping[str, np.ndarray] = MappingProxyType({})
) -> None:
    """Writes `model.safetensors`, `config.json` and the tokenizer's files into `folder`. The tokenizer may be None.

    Adapters are merged into the weights; they are kept apart as well, in `adapters/`.

    Args:
        beside: tensors by their names in TensorFlow that the model has no place for, and the file is to have; a model
            so large that it is written in several files goes without them.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    if lora.has_adapters(model):
        lora.save_adapters(model, folder / ADAPTERS_FOLDER)
    with system_errors(folder), lora.merged(model):
        if _is_one_file(model):
            _save_one_file(model, folder, beside)
        else:
            model.save_pretrained(folder, safe_serialization=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _is_one_file(model: keras.Model) -> bool:
    """Whether Transformers would write no more than a configuration and one file of weights."""
    from transformers import TFPreTrainedModel

    return (
        type(model).save_pretrained is TFPreTrainedModel.save_pretrained
        and not model.can_generate()
        and sum(weight.shape.num_elements() * weight.dtype.size for weight in model.weights) <= LARGEST_FILE
    )


def _save_one_file(model: keras.Model, folder: Path, beside: Mapping[str, np.ndarray]) -> None:
    """As Transformers writes it, whose `save_pretrained` would take memory for two copies of all weights."""
    from transformers.modeling_tf_utils import strip_model_name_and_prefix

    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__.removeprefix("TF")]
    model.config.save_pretrained(folder)
    tensors = {strip_model_name_and_prefix(weight.name): weight for weight in model.weights}
    tensors_file.write(folder / "model.safetensors", {**tensors, **beside}, {"format": "tf"})


def fingerprint(model: keras.Model) -> str:
    """A SHA-256 over all weights in their order, whatever precision the model computes in."""
    return fingerprint_of(model.weights)


def fingerprint_of(weights: Iterable[Any]) -> str:
    """A SHA-256 over some weights in their order."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight.numpy()).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def restore(model: keras.Model, folder: Path) -> None:
    """Puts the weights that `save` wrote into `folder` back into the same model."""
    if lora.has_adapters(model):
        return lora.load_adapters(model, folder / ADAPTERS_FOLDER)
    lacking, left = put_tensors(model, read_tensors(sorted(folder.glob("*.safetensors"))), str(folder))
    if lacking or left:
        raise ValueError(f"{folder} was not written by this model: it lacks {lacking} and has {left} besides")
