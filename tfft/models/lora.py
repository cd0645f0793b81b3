"""LoRA (Hu et al. 2021): the encoder stays as it is, and chosen projections get a product of two narrow matrices.

    y = x W + b + alpha / rank * dropout(x) A B,   A (inputs, rank) random, B (rank, outputs) zero at first

Only A, B and the head are trained. `save_adapters` keeps them alone, `load_adapters` puts them onto the same base
again, `merge` adds the products to the weights and leaves a plain model.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models.forward import forget
from tfft.models.freeze import train_only
from tfft.models.parts import HEAD, part_of, path_of
from tfft.whole import system_errors

# Query and value, as the paper has it, by the names that the families give them. DeBERTa's is one matrix for all three.
DEFAULT_TARGETS = ("query", "value", "q_lin", "v_lin", "q", "v", "query_proj", "value_proj", "in_proj")
WEIGHTS_FILE, SETTINGS_FILE = "adapter_model.safetensors", "adapter_config.json"


class Adapted(keras.layers.Layer):
    """A dense layer with a low-rank product beside it.

    Args:
        base: the layer, built; its kernel is (inputs, outputs).
        rank: columns of A.
        alpha: the product counts alpha / rank.
        dropout: share of the inputs that the product does not see while training.
    """

    def __init__(self, base: keras.layers.Dense, rank: int, alpha: float, dropout: float) -> None:
        super().__init__(name=base.name, dtype=base.dtype_policy)
        self.base, self.rank, self.scale = base, rank, alpha / rank
        self.dropout = keras.layers.Dropout(dropout, dtype=base.dtype_policy)
        inputs, outputs = base.kernel.shape
        name = path_of(base.kernel.name).rpartition("/")[0]
        # Kaiming's uniform with a slope of sqrt(5), which is what PyTorch gives its linear layers and PEFT its A.
        limit = math.sqrt(1 / inputs)
        initial = keras.initializers.RandomUniform(-limit, limit)(shape=(inputs, rank))
        self.lora_a = tf.Variable(initial, name=f"{name}/lora_a")
        self.lora_b = tf.Variable(tf.zeros((rank, outputs)), name=f"{name}/lora_b")
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(…, inputs) to (…, outputs)."""
        narrow = tf.linalg.matmul(self.dropout(inputs, training=training), tf.cast(self.lora_a, inputs.dtype))
        return self.base(inputs) + self.scale * tf.linalg.matmul(narrow, tf.cast(self.lora_b, inputs.dtype))

    def product(self) -> tf.Tensor:
        """What the adapter adds to the kernel, (inputs, outputs)."""
        return self.scale * tf.linalg.matmul(self.lora_a, self.lora_b)


def add(
    model: keras.Model,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    also_train: Sequence[str] = (),
) -> list[str]:
    """Puts adapters onto the dense layers called as one of `targets`, and freezes all but them and the head.

    Args:
        model: built; it is changed.
        rank, alpha, dropout: see `Adapted`.
        targets: names of layers: `query`, or a longer end of the path, `attention/self/query`. None takes query and
            value, whatever the family calls them.
        also_train: parts, as `part_of` names them, that are trained and saved with the head: a pooler that the
            checkpoint lacks holds random numbers, which another time would be others.

    Returns:
        The paths of the layers that have an adapter now.

    Raises:
        ModelError: a target matches no layer; those there are are listed.

    Example:
        Two layers with two adapters each, all of (16, 2) and (2, 16), and a head of 34: 4 * 64 + 34 are trained.

        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> paths = add(model, rank=2)
        >>> paths[0]
        'bert/encoder/layer_._0/attention/self/query'
        >>> load.parameter_counts(model)[0]
        290
    """
    wanted = DEFAULT_TARGETS if targets is None else targets
    layers = list(_dense_layers(model))
    found = [(parent, attribute, layer) for parent, attribute, layer in layers if _is_in(layer, wanted)]
    unmatched = [one for one in targets or () if not any(_is_in(layer, [one]) for *_, layer in found)]
    if not found or unmatched:
        names = sorted({_path(layer).rpartition("/")[2] for *_, layer in layers})
        raise ModelError(
            f"training.lora_target_modules: {', '.join(unmatched or wanted)} is no dense layer of this model's "
            f"encoder; expected one of {', '.join(names)}"
        )
    for parent, attribute, layer in found:
        setattr(parent, attribute, Adapted(layer, rank, alpha, dropout))
    model._lora_settings = {
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": list(wanted),
        "modules_to_save": list(also_train),
    }
    train_only(model, lambda name: is_adapter_or_head(name) or part_of(name) in also_train)
    return [_path(layer) for *_, layer in found]


def is_adapter_or_head(name: str) -> bool:
    """Whether LoRA trains a weight of this name."""
    return name.removesuffix(":0").rpartition("/")[2] in ("lora_a", "lora_b") or part_of(name) == HEAD


def _dense_layers(model: keras.Model) -> Iterator[tuple[Any, str, keras.layers.Dense]]:
    """The dense layers of the encoder: who holds each, under which attribute, and itself."""
    seen: set[int] = set()
    for parent in [model, *model.submodules]:
        if isinstance(parent, Adapted):
            continue
        for attribute, layer in vars(parent).items():
            if isinstance(layer, keras.layers.Dense) and id(layer) not in seen and layer.built:
                seen.add(id(layer))
                if part_of(layer.kernel.name).startswith("layer."):
                    yield parent, attribute, layer


def _path(layer: keras.layers.Dense) -> str:
    return path_of(layer.kernel.name).rpartition("/")[0]


def _is_in(layer: keras.layers.Dense, targets: Sequence[str]) -> bool:
    return any(f"/{_path(layer)}".endswith(f"/{one}") for one in targets)


def adapters(model: keras.Model) -> Iterator[tuple[Any, str, Adapted]]:
    """The adapters of a model: who holds each, under which attribute, and itself."""
    for parent in [model, *model.submodules]:
        for attribute, layer in list(vars(parent).items()):
            if isinstance(layer, Adapted):
                yield parent, attribute, layer


def has_adapters(model: keras.Model) -> bool:
    """Whether `add` was called and `merge` was not."""
    return any(True for _ in adapters(model))


def merge(model: keras.Model) -> None:
    """Adds every adapter's product to its layer's kernel and takes the adapters away; the logits stay the same.

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> paths = add(model, rank=2)
        >>> for _, _, adapter in adapters(model):
        ...     _ = adapter.lora_b.assign(tf.ones_like(adapter.lora_b))  # as training would, from 0
        >>> before = model(tf.constant([[2, 90, 3]])).logits
        >>> merge(model)
        >>> np.allclose(model(tf.constant([[2, 90, 3]])).logits, before, atol=1e-5), has_adapters(model)
        (True, False)
    """
    for parent, attribute, layer in list(adapters(model)):
        _fold(parent, attribute, layer)
    forget(model)


def _fold(parent: Any, attribute: str, layer: Adapted) -> None:
    layer.base.kernel.assign_add(layer.product())
    setattr(parent, attribute, layer.base)


@contextlib.contextmanager
def merged(model: keras.Model) -> Iterator[None]:
    """The model as `merge` would leave it, for saving; afterwards exactly as it was."""
    held = [(parent, attribute, layer, layer.base.kernel.numpy()) for parent, attribute, layer in adapters(model)]
    try:
        for parent, attribute, layer, _ in held:
            _fold(parent, attribute, layer)
        yield
    finally:
        for parent, attribute, layer, kernel in held:
            layer.base.kernel.assign(kernel)
            setattr(parent, attribute, layer)


def save_adapters(model: keras.Model, folder: Path) -> None:
    """Writes the adapters and the head, and their settings, into `folder`.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with system_errors(folder):
        save_file({path_of(weight.name): weight.numpy() for weight in _kept(model)}, folder / WEIGHTS_FILE)
    (folder / SETTINGS_FILE).write_text(json.dumps({"peft_type": "LORA", **model._lora_settings}, indent=2) + "\n")


def load_adapters(model: keras.Model, folder: Path) -> None:
    """Puts the adapters that `save_adapters` wrote onto `model`, the same base with a head of the same classes.

    Raises:
        ModelError: they are of another base or head.
    """
    from safetensors.numpy import load_file

    if not has_adapters(model):
        settings = json.loads((folder / SETTINGS_FILE).read_text())
        wanted = settings["target_modules"]
        # The defaults name the layers of all families.
        targets = None if tuple(wanted) == DEFAULT_TARGETS else wanted
        more = settings.get("modules_to_save") or ()
        add(model, settings["r"], settings["lora_alpha"], settings["lora_dropout"], targets, more)
    tensors: dict[str, np.ndarray] = load_file(folder / WEIGHTS_FILE)
    weights = {path_of(weight.name): weight for weight in _kept(model)}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if {name: value.shape for name, value in tensors.items()} != shapes:
        wrong = sorted(name for name in shapes.keys() | tensors.keys() if shapes.get(name) != _shape(tensors, name))
        raise ModelError(f"{folder} has adapters for another model; the first weight that differs is {wrong[0]}")
    for name, value in tensors.items():
        weights[name].assign(value)


def _shape(tensors: dict[str, np.ndarray], name: str) -> tuple[int, ...] | None:
    return tensors[name].shape if name in tensors else None


def _kept(model: keras.Model) -> list[tf.Variable]:
    more = model._lora_settings["modules_to_save"]
    return [weight for weight in model.weights if is_adapter_or_head(weight.name) or part_of(weight.name) in more]
