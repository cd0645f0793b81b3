"""Masked-LM models: only the hidden tokens go through the vocabulary, new heads start sensibly, vocabularies grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfft.backend import keras, tf
from tfft.data.masking import POSITIONS
from tfft.models import load
from tfft.models.checkpoint import Checkpoint


def predict_only_masked(model: keras.Model) -> None:
    """Lets `model` take one more input, `masking.POSITIONS`, and give logits of those places alone.

    The projection to the vocabulary is half of the work of a small model, and 85 % of its results would be thrown away.
    Without that input the model gives all logits, as before.

    Args:
        model: a `TFAutoModelForMaskedLM`, built; it is changed. With positions (batch, places) its logits are (batch,
            places, tokens), each what the model gives for that place otherwise.

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_model(found, "TFAutoModelForMaskedLM").model
        >>> predict_only_masked(model)
        >>> ids = tf.constant([[2, 90, 91, 3]])
        >>> model({"input_ids": ids}).logits.shape, model({"input_ids": ids, POSITIONS: [[1, 2]]}).logits.shape
        (TensorShape([1, 4, 100]), TensorShape([1, 2, 100]))
    """
    base = getattr(model, model.base_model_prefix)
    whole, encode = model.call, base.call
    # Of the call that is being made, which Keras hands to no layer.
    asked: list[tf.Tensor] = []

    @tf.autograph.experimental.do_not_convert
    def of_base(*inputs: Any, **settings: Any) -> Any:
        output = encode(*inputs, **settings)
        if asked:
            output.last_hidden_state = tf.gather(output.last_hidden_state, asked[-1], batch_dims=1)
        return output

    @tf.autograph.experimental.do_not_convert
    def of_model(inputs: Any = None, *more: Any, **settings: Any) -> Any:
        if not isinstance(inputs, dict) or POSITIONS not in inputs:
            return whole(inputs, *more, **settings)
        asked.append(inputs[POSITIONS])
        try:
            return whole({name: one for name, one in inputs.items() if name != POSITIONS}, *more, **settings)
        finally:
            asked.pop()

    base.call, model.call = of_base, of_model


def start_head(model: keras.Model, new: Sequence[str]) -> bool:
    """Lets a head that the checkpoint lacks begin from the embeddings, to which its outputs are tied.

    Its dense layer begins as the identity instead of at random: what the encoder gives is compared with each token's
    embedding from the first step on.

    Args:
        new: names of the weights that the checkpoint lacks.

    Returns:
        Whether there was such a dense layer.
    """
    base = getattr(model, model.base_model_prefix)
    inside = {id(layer) for layer in (base, *base.submodules)}
    found = False
    for layer in model.submodules:
        is_head = isinstance(layer, keras.layers.Dense) and id(layer) not in inside
        if is_head and new and layer.kernel.shape[0] == layer.kernel.shape[1]:
            layer.kernel.assign(tf.eye(layer.kernel.shape[0], dtype=layer.kernel.dtype))
            found = True
    return found


def poolers(checkpoint: Checkpoint, prefix: str) -> dict[str, np.ndarray]:
    """The checkpoint's pooler, which masked-LM models have not: a classifier that is trained later reads it.

    Args:
        prefix: of the model's base layer: `bert`.

    Returns:
        Tensors by the names that TensorFlow's models give them; nothing where the checkpoint has no pooler.
    """
    found = {}
    for name, value in load.tensors_of(checkpoint).items():
        _, is_one, rest = name.removesuffix(":0").replace("/", ".").partition("pooler.")
        if is_one and rest.endswith("weight") and value.ndim == 2:  # PyTorch's dense layers are the other way round
            rest, value = f"{rest.removesuffix('weight')}kernel", value.T
        if is_one:
            found[f"{prefix}/pooler/{rest.replace('.', '/')}:0"] = np.ascontiguousarray(value)
    return found


def add_tokens(model: keras.Model, pieces: Sequence[Sequence[int]]) -> None:
    """Adds tokens to a model's vocabulary, each with the mean of its pieces' embeddings (Yao et al. 2021, section 3.3).

    Args:
        pieces: of each new token, the ids of those that stood for it before.
    """
    count = model.config.vocab_size
    embeddings = model.get_input_embeddings().weight
    before = embeddings.numpy()
    bias = next(iter((model.get_bias() or {}).values()), None)
    bias_before = None if bias is None else bias.numpy()
    model.resize_token_embeddings(count + len(pieces))
    after = model.get_input_embeddings().weight
    new = np.stack([before[list(ids)].mean(axis=0) for ids in pieces])
    after.assign(np.concatenate([before, new]))
    if bias_before is not None:
        grown = next(iter(model.get_bias().values()))
        grown.assign(np.concatenate([bias_before, [bias_before[list(ids)].mean() for ids in pieces]]))
