"""The head of the tutorials on any encoder: pooling, a dense layer with ReLU, dropout, and a dense layer to the logits.

It takes and gives what Transformers' classifiers do. Its folder holds the encoder as Transformers saves one, so that
`TFAutoModel` reads it, and the head in two files beside it.
"""

from __future__ import annotations

# Before Transformers loads TensorFlow, which then has its say on the screen.
from tfft.backend import keras, tf  # isort: skip

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import TFPreTrainedModel
from transformers.modeling_tf_outputs import TFSequenceClassifierOutput
from transformers.modeling_tf_utils import unpack_inputs

from tfft import tensors_file
from tfft.errors import ModelError
from tfft.models import checkpoint as checkpoints
from tfft.models.checkpoint import HEAD_CONFIG_FILE, Checkpoint
from tfft.models.load import Loaded, load_weights, name_labels, put_tensors, read_tensors, skip_autograph
from tfft.models.parts import HEAD, part_of
from tfft.tasks import SINGLE_LABEL

HEAD_WEIGHTS_FILE = "head.safetensors"


def first_token(hidden: tf.Tensor, attention_mask: tf.Tensor | None) -> tf.Tensor:
    """The state of each row's first place: (batch, tokens, hidden) to (batch, hidden) float32."""
    return tf.cast(hidden[:, 0], tf.float32)


def mean_of_tokens(hidden: tf.Tensor, attention_mask: tf.Tensor | None) -> tf.Tensor:
    """The mean over each row's real tokens: (batch, tokens, hidden) to (batch, hidden), in float32.

    Args:
        attention_mask: (batch, tokens), 1 for a real token and 0 for padding; None has no padding.

    Example:
        >>> hidden = tf.constant([[[1.0], [3.0], [100.0]]])  # one row of two tokens and a place of padding
        >>> mean_of_tokens(hidden, tf.constant([[1, 1, 0]])).numpy().tolist()
        [[2.0]]
    """
    hidden = tf.cast(hidden, tf.float32)
    if attention_mask is None:
        return tf.reduce_mean(hidden, axis=1)
    real = tf.cast(attention_mask, tf.float32)[:, :, tf.newaxis]
    return tf.reduce_sum(hidden * real, axis=1) / tf.maximum(tf.reduce_sum(real, axis=1), 1.0)


POOLINGS: Mapping[str, Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]] = MappingProxyType(
    {"cls": first_token, "mean": mean_of_tokens}
)


class Headed(TFPreTrainedModel):
    """A Transformers encoder with the tutorials' head.

    The encoder has no pooler of its own where its class can do without one; else that is frozen, since nothing reads
    it. Weights have the names that `parts.part_of` knows; the head's lie under `classifier/hidden` and
    `classifier/output`, which no checkpoint of Transformers has, so that a head for something else is never taken for
    this one.

    Args:
        config: the encoder's, with the classes in it.
        pooling: a key of `POOLINGS`.
        units: width of the dense layer.
        dropout: share of its outputs that are dropped in training.

    Raises:
        ModelError: there is no such pooling, or no TensorFlow model of this architecture.
    """

    built: bool

    def __init__(
        self, config: Any, pooling: str = "cls", units: int = 256, dropout: float = 0.3, name: str = "tf_headed"
    ) -> None:
        if pooling not in POOLINGS:
            raise ModelError(f"model.pooling: got {pooling!r}; expected one of {', '.join(POOLINGS)}")
        super().__init__(config, name=name)
        self.settings: dict[str, Any] = {"pooling": pooling, "units": units, "dropout": dropout}
        encoder = _encoder_class(config)(config)
        self.encoder_architecture = type(encoder).__name__.removeprefix("TF")
        self.base_model_prefix = encoder.base_model_prefix
        if hasattr(encoder, "tf_to_pt_weight_rename"):
            self.tf_to_pt_weight_rename = encoder.tf_to_pt_weight_rename
        base = _without_pooler(getattr(encoder, encoder.base_model_prefix))
        # Some families know no token types, whatever their tokenizer makes.
        self.base_inputs = frozenset(inspect.signature(base.call).parameters)
        setattr(self, self.base_model_prefix, base)
        self.hidden = keras.layers.Dense(units, activation="relu", name="hidden")
        self.dropout = keras.layers.Dropout(dropout)
        self.classifier = keras.layers.Dense(config.num_labels, dtype="float32", name="output")

    @unpack_inputs
    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        inputs_embeds: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        training: bool = False,
    ) -> TFSequenceClassifierOutput:
        """Logits (batch, classes) float32 of the tokenizer's inputs, each (batch, tokens); also as one dict of them."""
        given = {
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        known = {name: value for name, value in given.items() if name in self.base_inputs and value is not None}
        output = getattr(self, self.base_model_prefix)(input_ids, **known, return_dict=True, training=training)
        features = self.pool(output.last_hidden_state, attention_mask)
        logits = self.classifier(self.dropout(self.hidden(features), training=training))
        return TFSequenceClassifierOutput(
            logits=logits, hidden_states=output.hidden_states, attentions=output.attentions
        )

    def pool(self, hidden: tf.Tensor, attention_mask: tf.Tensor | None) -> tf.Tensor:
        """What the head reads of the encoder's last states: (batch, tokens, hidden) to (batch, hidden) float32."""
        return POOLINGS[self.settings["pooling"]](hidden, attention_mask)

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights; call it by `build_in_name_scope`, which gives them the model's name."""
        if self.built:
            return
        self.built = True
        base = getattr(self, self.base_model_prefix)
        with tf.name_scope(base.name):
            base.build(None)
        for layer, inputs in ((self.hidden, self.config.hidden_size), (self.classifier, self.settings["units"])):
            with tf.name_scope(f"classifier/{layer.name}"):
                layer.build([None, inputs])

    def save_pretrained(self, save_directory: Any, safe_serialization: bool = True) -> None:
        """Writes the encoder as `TFAutoModel` reads it, the head to `head.safetensors` and `head_config.json`.

        Raises:
            ValueError: `safe_serialization` is off; nothing but safetensors is written.
            OSError: the disk is full, or whatever else the system says.
        """
        if not safe_serialization:
            raise ValueError("save_pretrained: got safe_serialization=False; this model is saved as safetensors only")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        # As Transformers does: without the model's own name, with Keras's :0.
        weights = {weight.name.partition("/")[2]: weight for weight in self.weights}
        head = {name for name in weights if part_of(name) == HEAD}
        self.config.architectures = [self.encoder_architecture]
        self.config.save_pretrained(folder)
        for file, names in (("model.safetensors", weights.keys() - head), (HEAD_WEIGHTS_FILE, head)):
            tensors_file.write(folder / file, {name: weights[name] for name in sorted(names)}, {"format": "tf"})
        (folder / HEAD_CONFIG_FILE).write_text(json.dumps(self.settings, indent=2) + "\n")


def _encoder_class(config: Any) -> Any:
    from transformers.models.auto.modeling_tf_auto import TF_MODEL_MAPPING

    if type(config) not in TF_MODEL_MAPPING:
        known = ", ".join(sorted(one.model_type for one in TF_MODEL_MAPPING))
        raise ModelError(
            f"model.name_or_path: {config.name_or_path or 'the checkpoint'} is a {config.model_type} model, which has "
            f"no TensorFlow encoder; those that do: {known}"
        )
    return TF_MODEL_MAPPING[type(config)]


def _without_pooler(base: keras.layers.Layer) -> keras.layers.Layer:
    """The same layer, not built yet, without its pooler; frozen where its class always has one, as MPNet's has."""
    if "add_pooling_layer" in inspect.signature(type(base).__init__).parameters:
        return type(base)(base.config, add_pooling_layer=False, name=base.name)
    if getattr(base, "pooler", None) is not None:
        base.pooler.trainable = False
    return base


def load_with_head(
    checkpoint: Checkpoint,
    label_names: Sequence[str],
    pooling: str = "cls",
    units: int = 256,
    dropout: float = 0.3,
    problem_type: str = SINGLE_LABEL,
) -> Loaded:
    """The encoder of `checkpoint` with a new head for `label_names`, as `load.load_classifier` does with its own head.

    Args:
        checkpoint: see `checkpoint.find`. Of one that `save_pretrained` wrote with the same pooling and width, the head
            is kept as far as it has as many classes.
        label_names: the classes in id order.
        pooling, units, dropout: see `Headed`.
        problem_type: as in `load.load_classifier`.

    Raises:
        ModelError: there is no such pooling, the architecture has no TensorFlow model, or the checkpoint lacks weights
            of the encoder, or their shapes differ.

    Example:
        >>> from tfft.models import checkpoint
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load_with_head(found, ["bad", "good"], pooling="mean", units=8).model
        >>> [tuple(weight.shape) for weight in model.weights if part_of(weight.name) == HEAD]
        [(16, 8), (8,), (8, 2), (2,)]
        >>> model(tf.constant([[2, 90, 3], [2, 91, 3]])).logits.shape
        TensorShape([2, 2])
    """
    name_labels(checkpoint.config, label_names, problem_type)
    model = Headed(checkpoint.config, pooling, units, dropout)
    model.build_in_name_scope()
    if is_headed(checkpoint.folder):
        before = head_settings(checkpoint.folder)
        if (before["pooling"], before["units"]) == (pooling, units):
            head = checkpoint.folder / HEAD_WEIGHTS_FILE
            checkpoint = replace(checkpoint, weights=(*checkpoint.weights, head))
    return load_weights(model, checkpoint)


def is_headed(folder: Path) -> bool:
    """Whether `Headed.save_pretrained` wrote this folder."""
    return (folder / HEAD_CONFIG_FILE).is_file()


def head_settings(folder: Path) -> dict[str, Any]:
    """The `pooling`, `units` and `dropout` of a folder that `Headed.save_pretrained` wrote.

    Raises:
        ModelError: the head's weights are missing or damaged, or its settings are.
    """
    head = folder / HEAD_WEIGHTS_FILE
    if not is_headed(folder) or not head.is_file():
        raise ModelError(
            f"{folder} holds no head: expected {HEAD_CONFIG_FILE} and {HEAD_WEIGHTS_FILE} beside its model"
        )
    checkpoints.check_safetensors(head)
    try:
        settings = json.loads((folder / HEAD_CONFIG_FILE).read_text())
        return {"pooling": settings["pooling"], "units": settings["units"], "dropout": settings["dropout"]}
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{folder / HEAD_CONFIG_FILE} cannot be used ({error}); copy the folder again") from None


def load_headed(folder: Path) -> Headed:
    """The model that `Headed.save_pretrained` wrote into `folder`.

    Raises:
        ModelError: a file is missing or damaged, or the head does not belong to the encoder.
    """
    found = checkpoints.find(str(folder))
    settings = head_settings(folder)
    model = Headed(found.config, **settings)
    model.build_in_name_scope()
    lacking, left = put_tensors(model, read_tensors([*found.weights, folder / HEAD_WEIGHTS_FILE]), str(folder))
    if lacking or left:
        raise ModelError(
            f"{folder}: the head and the encoder do not belong together: {', '.join([*lacking, *left][:3])} has no "
            "counterpart; copy the folder again"
        )
    skip_autograph(model)
    return model
