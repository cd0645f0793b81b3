"""A folder that Transformers reads into PyTorch, written without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfft.backend import keras
from tfft.errors import ModelError
from tfft.models import headed
from tfft.whole import system_errors


def check(folder: Path) -> None:
    """Raises a ModelError where PyTorch has no class for the model in `folder`."""
    if headed.is_headed(folder):
        raise ModelError(
            "--to hf-pytorch: the model has tfft's own head (model.head), for which Transformers has no PyTorch class; "
            "train with model.head=default, or export as savedmodel, tflite or onnx"
        )


def write(model: keras.Model, tokenizer: Any, folder: Path) -> None:
    """Writes `model.safetensors` in PyTorch's layout, `config.json` and the tokenizer's files.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    from safetensors.numpy import save_file

    with system_errors(folder):
        save_file(tensors(model), folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["architectures"] = [type(model).__name__.removeprefix("TF")]
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)


def tensors(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights under the names and in the layouts that the PyTorch model of the same architecture gives them.

    By the mapping through which Transformers reads PyTorch's weights into TensorFlow, backwards.
    """
    from transformers.modeling_tf_pytorch_utils import apply_transpose, convert_tf_weight_name_to_pt_weight_name

    renamed = getattr(model, "tf_to_pt_weight_rename", None)
    found: dict[str, np.ndarray] = {}
    for weight in model.weights:
        name, transpose = convert_tf_weight_name_to_pt_weight_name(weight.name, tf_weight_shape=weight.shape)
        if renamed is not None:
            # Several names where weights are tied; the first is the one that PyTorch saves.
            name = renamed(name)[0]
        found[name] = np.ascontiguousarray(apply_transpose(transpose, weight.numpy(), pt_to_tf=False))
    return found
