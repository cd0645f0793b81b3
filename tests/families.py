"""A toy of every model family that tfft knows, from its configuration alone."""

from __future__ import annotations

from typing import Any

from tfft import optimizers
from tfft.backend import keras, tf
from tfft.models import heads

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 40,
}
_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}

# Family to the name of its configuration and what that is made of.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", SIZES),
    "distilbert": ("DistilBertConfig", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "vocab_size": 50}),
    "roberta": ("RobertaConfig", SIZES),
    "xlm-roberta": ("XLMRobertaConfig", SIZES),
    "electra": ("ElectraConfig", {**SIZES, "embedding_size": 8}),
    "albert": ("AlbertConfig", {**SIZES, "embedding_size": 8}),
    "mpnet": ("MPNetConfig", SIZES),
    "deberta": ("DebertaConfig", {**SIZES, **_DISENTANGLED}),
    "deberta-v2": (
        "DebertaV2Config",
        {
            **SIZES,
            **_DISENTANGLED,
            "conv_kernel_size": 3,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_buckets": 8,
        },
    ),
}

# Two rows, for any of them.
INPUTS = {"input_ids": tf.constant([[1, 5, 9, 7, 2], [1, 8, 6, 4, 2]]), "attention_mask": tf.ones([2, 5], tf.int32)}


def config(family: str, **changes: Any) -> Any:
    """The configuration of that family's toy, with changes that have the names of BERT's settings."""
    import transformers

    name, settings = FAMILIES[family]
    made = getattr(transformers, name)(**settings)
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def make(family: str, **changes: Any) -> keras.Model:
    """A model of that family with two classes, built, with random weights; for `changes` see `config`."""
    return from_config(config(family, **changes))


def from_config(made: Any, auto_class: str = "TFAutoModelForSequenceClassification") -> keras.Model:
    """The classifier of a configuration, built, with random weights."""
    import transformers

    model = getattr(transformers, auto_class).from_config(made)
    model.build_in_name_scope()
    return model


def take_a_step(model: keras.Model) -> None:
    """As a step of `fit` would be, without building a graph for it."""
    with tf.GradientTape() as tape:
        loss = heads.CrossEntropyFromLogits()([0, 1], model(INPUTS, training=True).logits)
    variables = model.trainable_variables
    optimizer = optimizers.make("adamw", 1e-2, weight_decay=0.1)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
