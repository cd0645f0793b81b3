"""A checkpoint to a Keras model with the head that a task needs, whatever framework wrote the checkpoint.

`TFAuto….from_pretrained` fails on PyTorch's safetensors in Transformers 4.55 to 4.57, so the model is built from its
configuration and the tensors are put in by Transformers' own name mapping, which names what was missing or unused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models.abilities import tensorflow_classes
from tfft.models.checkpoint import Checkpoint
from tfft.models.layers import renumbered
from tfft.models.parts import path_of
from tfft.tasks import SINGLE_LABEL, TOKENS

# Families whose code branches on no tensor, so AutoGraph would spend seconds of every start to change nothing.
PLAIN_PYTHON = frozenset({"albert", "bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"})
# Parts that a checkpoint may lack although they belong to the base model: PyTorch models are often saved without them.
_OPTIONAL_IN_BASE = ("pooler", "position_ids")
# What PyTorch has saved with weights and is none: places, and the masks of GPT-2.
_BUFFER = re.compile(r"position_ids$|(?:^|\.)h\.\d+\.attn\.(?:masked_)?bias$")


@dataclass(frozen=True)
class Loaded:
    """A model, and what its checkpoint did not have for it.

    Attributes:
        model: the `TFAutoModelFor…` model, built, with `config.id2label` set.
        new: names of weights that start from random values.
        unused: names of tensors of the checkpoint that the model has no place for.
    """

    model: keras.Model
    new: tuple[str, ...]
    unused: tuple[str, ...]

    def sentence(self) -> str:
        """One plain sentence about what is new and what is unused."""
        if len(self.new) == len(self.model.weights):
            return "all weights are new and untrained"
        started = f"new and untrained: {_brief(self.new)}" if self.new else "no weight is new"
        left = f"not used: {_brief(self.unused)}" if self.unused else "nothing of the checkpoint was left out"
        return f"weights loaded; {started}; {left}"


def _brief(names: Iterable[str]) -> str:
    """Weight names by the layer they belong to, as `classifier (2 tensors)`."""
    groups: dict[str, int] = {}
    for name in names:
        group = name.rsplit(".", 1)[0]
        groups[group] = groups.get(group, 0) + 1
    listed = [f"{group} ({count} tensor{'s' if count > 1 else ''})" for group, count in sorted(groups.items())]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} layers more" if len(listed) > 6 else "")


def load_classifier(
    checkpoint: Checkpoint, label_names: Sequence[str], auto_class: str, problem_type: str = SINGLE_LABEL
) -> Loaded:
    """The model of `checkpoint` with a head for `label_names`, its weights loaded.

    New weights are drawn from Keras's global generator: `keras.utils.set_random_seed` fixes them.

    Args:
        checkpoint: see `checkpoint.find`.
        label_names: the classes in id order; they go into the model's configuration.
        auto_class: a class of Transformers, such as `TFAutoModelForSequenceClassification`.
        problem_type: what the labels are; goes into the configuration, where Transformers' pipelines look for it.

    Raises:
        ModelError: the architecture has no such TensorFlow model, or the checkpoint lacks weights of the encoder, or
            their shapes differ.

    Example:
        >>> from tfft.models import checkpoint
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> loaded = load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification")
        >>> loaded.new  # the checkpoint has no head
        ('classifier.weight', 'classifier.bias')
        >>> tokenizer = checkpoint.load_tokenizer(found)
        >>> inputs = tokenizer(["a good movie", "it was bad", "not you"], padding=True, return_tensors="tf")
        >>> loaded.model(dict(inputs)).logits.shape  # (texts, classes)
        TensorShape([3, 2])
    """
    name_labels(checkpoint.config, label_names, problem_type)
    return load_model(checkpoint, auto_class)


def load_model(checkpoint: Checkpoint, auto_class: str, head_in_float32: bool = True) -> Loaded:
    """The model of `checkpoint` as its own configuration has it, with any head: one that generates, fills masks, …

    Args:
        checkpoint: see `checkpoint.find`.
        auto_class: a class of Transformers, such as `TFAutoModelForCausalLM`.

    Raises:
        ModelError: the architecture has no such TensorFlow model, or the checkpoint lacks weights of the encoder, or
            their shapes differ, or it has output embeddings of its own where the TensorFlow model has none.

    Example:
        >>> from tfft.models import checkpoint
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> load_model(found, "TFAutoModelForMaskedLM").new  # the checkpoint has no head
        ('cls.predictions.bias', 'cls.predictions.transform.dense.weight', ...)
    """
    model = _build(checkpoint.config, auto_class, checkpoint.name)
    if model.can_generate():
        _take_generation_settings(model, checkpoint)
    return load_weights(model, checkpoint, head_in_float32)


def _take_generation_settings(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Gives a model that generates the settings of its folder, where there are some beside `config.json`."""
    from transformers import GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME

    if not (checkpoint.folder / GENERATION_CONFIG_NAME).is_file():
        return
    try:
        model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{checkpoint.folder / GENERATION_CONFIG_NAME} cannot be used: {error}") from None


def name_labels(config: Any, label_names: Sequence[str], problem_type: str = SINGLE_LABEL) -> None:
    """Puts the classes, in id order, and what labels are into a model's configuration."""
    config.num_labels = len(label_names)
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: index for index, name in enumerate(label_names)}
    # Transformers knows this key for classes of texts alone.
    config.problem_type = None if problem_type == TOKENS else problem_type
    config.use_cache = False


def load_weights(model: keras.Model, checkpoint: Checkpoint, head_in_float32: bool = True) -> Loaded:
    """Puts the checkpoint's weights into a built `model` whose base is the checkpoint's architecture.

    Args:
        head_in_float32: compute what is not the encoder in float32, whatever the encoder computes in.

    Raises:
        ModelError: the checkpoint lacks weights of the encoder, or their shapes differ.
    """
    new: list[str]
    unused: list[str]
    if not checkpoint.weights:
        new, unused = [path_of(weight.name).replace("/", ".") for weight in model.weights], []
    elif checkpoint.is_keras_h5 or _written_by_tensorflow(checkpoint.weights[0]):
        new, unused = _load_tensorflow(model, checkpoint)
    else:
        new, unused = _load_pytorch(model, checkpoint)
    if checkpoint.weights:
        _check_encoder(model, new, checkpoint.name)
    if head_in_float32:
        _compute_head_in_float32(model)
    skip_autograph(model)
    return Loaded(model, tuple(new), tuple(unused))


def _compute_head_in_float32(model: keras.Model) -> None:
    """Whatever is not the encoder computes in float32, under mixed precision too: few products, and all the scores."""
    encoder = getattr(model, model.base_model_prefix, None)
    if encoder is None:  # as T5, whose encoder, decoder and embeddings are in no layer that holds them
        return
    inside = {id(layer) for layer in (encoder, *encoder.submodules)}
    for layer in model.submodules:
        if isinstance(layer, keras.layers.Layer) and id(layer) not in inside:
            # Keras says a layer's precision when it is made, and these are made by Transformers.
            layer._set_dtype_policy("float32")


def skip_autograph(model: keras.Model) -> None:
    """Turns AutoGraph off for a model of `PLAIN_PYTHON`."""
    if model.config.model_type in PLAIN_PYTHON:
        model.call = tf.autograph.experimental.do_not_convert(model.call)


def _build(config: Any, auto_class: str, name: str) -> keras.Model:
    import transformers

    factory = getattr(transformers, auto_class)
    classes = tensorflow_classes(auto_class)
    if config.model_type not in classes:
        known = ", ".join(sorted(classes))
        raise ModelError(
            f"model.name_or_path: {name} is a {config.model_type} model, which has no {auto_class}; "
            f"those that do: {known}"
        )
    model = factory.from_config(config)
    model.build_in_name_scope()
    return model


def _written_by_tensorflow(path: Path) -> bool:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return (file.metadata() or {}).get("format") == "tf"


def read_tensors(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    """All tensors of one or several safetensors files, 16-bit ones as float32: NumPy lacks bfloat16, and of float16
    TensorFlow says on standard error that a processor is slow with it.
    """
    from safetensors.tensorflow import load_file

    tensors: dict[str, np.ndarray] = {}
    for path in paths:
        for name, tensor in load_file(path).items():
            value = tf.cast(tensor, tf.float32).numpy() if tensor.dtype == tf.bfloat16 else tensor.numpy()
            tensors[name] = value.astype(np.float32) if value.dtype == np.float16 else value
    return tensors


def _load_pytorch(model: keras.Model, checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model

    # As tensors of TensorFlow: of NumPy's arrays, Transformers cannot tell that a shape differs.
    with tf.device("CPU"):
        found = renumbered(read_tensors(checkpoint.weights), checkpoint.layers)
        tensors = {name: tf.constant(value) for name, value in found.items()}
    own_names = getattr(model, "tf_to_pt_weight_rename", None)
    model._keys_to_ignore_on_load_unexpected = None  # the class's list hides heads of pretraining that are not used
    try:
        _, info = load_pytorch_state_dict_in_tf2_model(
            model,
            tensors,
            tf_inputs=False,
            allow_missing_keys=True,
            output_loading_info=True,
            tf_to_pt_weight_rename=own_names,
            ignore_mismatched_sizes=True,
            skip_logger_warnings=True,
        )
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ModelError(f"{checkpoint.name}: the weights do not fit the model of its config.json: {error}") from None
    # A classifier trained for other classes is replaced by a new one; any other difference of shape is an error.
    replaced = [name for name, _, _ in info["mismatched_keys"]]
    for name, given, expected in info["mismatched_keys"]:
        if _in_base(model, name):
            raise ModelError(
                f"{checkpoint.name}: the weight {name} has shape {tuple(given)}, and config.json asks for "
                f"{tuple(expected)}"
            )
    unused = [name for name in info["unexpected_keys"] if not _BUFFER.search(name)]
    if model.get_output_embeddings() is not None:
        unused = _without_copies(model, {name: tensors.get(name) for name in unused}, checkpoint.name)
    return [*info["missing_keys"], *replaced], unused


def _without_copies(model: keras.Model, unused: dict[str, tf.Tensor | None], name_of_checkpoint: str) -> list[str]:
    """Names of unused tensors without those that repeat a weight, as where PyTorch saves shared embeddings twice.

    Raises:
        ModelError: embeddings of outputs are others than those of inputs. Most TensorFlow models know one for both.
    """
    left = []
    for name, tensor in unused.items():
        if tensor is None or not any(
            tensor.shape == weight.shape and bool(tf.reduce_all(tf.cast(tensor, weight.dtype) == weight))
            for weight in model.weights
        ):
            left.append(name)
            if tensor is not None and tensor.shape.rank == 2 and tensor.shape[0] == model.config.vocab_size:
                raise ModelError(
                    f"{name_of_checkpoint}: {name} differs from the embeddings of its inputs, and "
                    f"{type(model).__name__} of Transformers knows no embeddings of its outputs; its answers would be "
                    "others than the checkpoint's"
                )
    return left


def tensors_of(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint, by the names that they have there."""
    return _read_h5(checkpoint.weights) if checkpoint.is_keras_h5 else read_tensors(checkpoint.weights)


def _load_tensorflow(model: keras.Model, checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    return put_tensors(model, renumbered(tensors_of(checkpoint), checkpoint.layers), checkpoint.name)


def put_tensors(
    model: keras.Model, tensors: dict[str, np.ndarray], name_of_checkpoint: str
) -> tuple[list[str], list[str]]:
    """Assigns tensors that carry TensorFlow's names; returns the names of weights without one, and of tensors left."""
    tensors = {_key(name): value for name, value in tensors.items()}
    new: list[str] = []
    for weight in model.weights:
        # The base layer of every head of one architecture has the same name: only the model's own name differs.
        name = _key(weight.name)
        value = tensors.pop(name, None)
        if value is None or value.shape != tuple(weight.shape):
            if value is not None and _in_base(model, name.replace("/", ".")):
                raise ModelError(
                    f"{name_of_checkpoint}: the weight {name} has shape {value.shape}, and config.json asks for "
                    f"{tuple(weight.shape)}"
                )
            new.append(name.replace("/", "."))
            continue
        weight.assign(tf.cast(value, weight.dtype))
    return new, [name.replace("/", ".") for name in tensors]


def _key(name: str) -> str:
    """A weight's path without repetitions: of embeddings that several layers share, Keras and the files that
    Transformers writes repeat different parts, as `shared/shared/embeddings` and `shared/embeddings`.
    """
    return "/".join(part for part, _ in itertools.groupby(path_of(name).split("/")))


def _read_h5(paths: Iterable[Path]) -> dict[str, np.ndarray]:
    import h5py

    tensors: dict[str, np.ndarray] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            # Keras puts each weight under its layer's group, and repeats the layer's name: bert/tf_bert…/bert/….
            # Shards have neither the group nor the model's name.
            tensors[name if is_shard else name.partition("/")[2]] = np.asarray(item)

    for path in paths:
        is_shard = path.name != "tf_model.h5"
        try:
            with h5py.File(path, "r") as file:
                file.visititems(collect)
        except OSError as error:
            raise ModelError(f"{path} cannot be read as HDF5 ({error}); copy or fetch it again") from None
    return tensors


def _in_base(model: keras.Model, name: str) -> bool:
    """Whether a weight belongs to the pretrained encoder rather than to a head."""
    prefix = f"{model.base_model_prefix}."
    inside = name.startswith(prefix) or name.startswith(("embeddings.", "encoder.", "transformer."))
    return inside and not any(part in name for part in _OPTIONAL_IN_BASE)


def _check_encoder(model: keras.Model, new: Iterable[str], name: str) -> None:
    if lacking := [one for one in new if _in_base(model, one)]:
        raise ModelError(
            f"{name}: the checkpoint lacks {len(lacking)} weights of the encoder ({', '.join(lacking[:3])}, …), so it "
            "is not a checkpoint of the architecture that its config.json names"
        )


def parameter_counts(model: keras.Model) -> tuple[int, int]:
    """Parameters of the model that are trained, and that are not."""

    def count(weights: Iterable[tf.Variable]) -> int:
        return sum(int(np.prod(weight.shape)) for weight in weights)

    return count(model.trainable_weights), count(model.non_trainable_weights)
