"""Training a head on a frozen encoder's outputs, computed once and kept on disk.

What a head of texts reads of the encoder is one vector a row: the pooler's output (BERT, ALBERT), the first token's
last state (all others, or where the pooler is trained with the head), or what `Headed` pools; a head of words reads the
last state of every token. `cached_outputs` computes it for all rows, and within `head_only` the same model takes it in
place of tokens:

    outputs = cached_outputs(model, encoded, tokenizer, batch_size=32, max_length=128, cache=folder)
    with head_only(model):
        model.fit({FEATURES: outputs}, labels)

Dropout inside the encoder is off, as it must be where outputs are computed once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfft import locations
from tfft.backend import keras, tf
from tfft.data.batches import for_prediction
from tfft.data.encode import Encoded, read_arrays, write_cached
from tfft.errors import ModelError
from tfft.models.forward import forget
from tfft.models.load import PLAIN_PYTHON
from tfft.models.parts import POOLER, part_of, path_of

# The input of Transformers' models that takes the outputs within `head_only`.
FEATURES = "inputs_embeds"
# Part of every cache key: raise it when the layout of what is cached, or how it is computed, changes.
CACHE_FORMAT = 1
# Of a configuration, what changes no output of the encoder.
_NO_MATTER = frozenset({"architectures", "id2label", "label2id", "num_labels", "problem_type", "_name_or_path"})


def encoder_outputs(model: keras.Model, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """What the head reads of the encoder, with dropout off: (batch, 1, hidden) float32, or (batch, tokens, hidden).

    Args:
        model: one of Transformers' classifiers or `Headed`, built. Not within `head_only`, where the encoder is out of
            reach.
        inputs: what the tokenizer gives, each (batch, tokens).
    """
    return _outputs(model, place_read(model), inputs)


def _outputs(model: keras.Model, place: str, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    output = _base(model)(inputs, return_dict=True, training=False)
    if place == "pooler":
        found = output.pooler_output
    elif place == "tokens":
        return tf.cast(output.last_hidden_state, tf.float32)
    elif place == "cls":
        found = output.last_hidden_state[:, 0]
    else:
        found = model.pool(output.last_hidden_state, inputs.get("attention_mask"))
    return tf.cast(found[:, tf.newaxis], tf.float32)


def place_read(model: keras.Model) -> str:
    """What the head reads: `pooler`, a frozen pooler's output; `cls`, the first token's last state; `mean`; `tokens`.

    A pooler that is trained counts as part of the head, which then reads what the pooler does.
    """
    from tfft.models.headed import Headed

    if isinstance(model, Headed):
        return str(model.settings["pooling"])
    if _gives_one_for_each_token(model):
        return "tokens"
    return "pooler" if _reads_pooler(model) and not _base(model).pooler.trainable_weights else "cls"


@contextlib.contextmanager
def head_only(model: keras.Model) -> Iterator[None]:
    """Within it, `model` computes logits of `{FEATURES: outputs}`, the `encoder_outputs` (batch, 1, hidden).

    The encoder's layer answers with what it was given instead of computing, so the family's own head runs as it is,
    its dropout included. Nothing else changes: the model has all its weights and can be saved, and its training step
    takes those of the head, since the encoder's are frozen. A pooler that is trained is computed. Afterwards the model
    takes tokens again.

    Raises:
        ModelError: weights below the head are trained, which no training within could reach.

    Example:
        >>> from tfft.models import freeze
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> freeze.feature_extraction(model)
        >>> inputs = dict(checkpoint.load_tokenizer(found)(["a good movie"], return_tensors="tf"))
        >>> outputs, logits = encoder_outputs(model, inputs), model(inputs).logits
        >>> with head_only(model):
        ...     np.allclose(model({FEATURES: outputs}).logits, logits, atol=1e-6)
        True
    """
    base = _base(model)
    trained = [path_of(one.name) for one in base.trainable_weights if part_of(one.name) != POOLER]
    if trained:
        raise ModelError(
            f"the encoder has {len(trained)} weights that are trained ({trained[0]}, …), so its outputs cannot be "
            "computed once; freeze it first, with freeze.feature_extraction"
        )
    pooled = _pooled_by(model)
    forget(model)
    try:
        with _answering(base, pooled):
            yield
    finally:
        forget(model)


def _pooled_by(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """What makes the pooler's output (batch, hidden) of `encoder_outputs`: nothing, or a pooler that is trained."""
    if place_read(model) != "cls" or not _reads_pooler(model):
        return lambda features: features[:, 0]
    pooler = _base(model).pooler
    # ALBERT's pooler is a dense layer that is handed the first token; the others take it themselves.
    return (lambda features: pooler(features[:, 0])) if isinstance(pooler, keras.layers.Dense) else pooler


@contextlib.contextmanager
def _answering(base: keras.layers.Layer, pooled: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[None]:
    """The layer gives `inputs_embeds` as its last states, and `pooled` of them as its pooler's output.

    Its `call` is replaced, not the layer itself: Keras would lose track of its weights, and every checkpoint saved in
    between would lack them.
    """
    from transformers.modeling_tf_outputs import TFBaseModelOutputWithPooling

    @tf.autograph.experimental.do_not_convert
    def call(input_ids: None = None, *, inputs_embeds: tf.Tensor, **_: Any) -> TFBaseModelOutputWithPooling:
        features = tf.cast(inputs_embeds, base.compute_dtype)
        return TFBaseModelOutputWithPooling(last_hidden_state=features, pooler_output=pooled(features))

    before = vars(base).get("call")
    base.call = call
    try:
        yield
    finally:
        del base.call
        if before is not None:
            base.call = before


def _base(model: keras.Model) -> keras.layers.Layer:
    return getattr(model, model.base_model_prefix)


def _gives_one_for_each_token(model: keras.Model) -> bool:
    """Whether the logits are of tokens, not of rows: asked of the head, with two tokens."""
    base = _base(model)
    features = tf.zeros([1, 2, model.config.hidden_size], base.compute_dtype)
    with _answering(base, lambda _: features[:, 0]):
        return bool(model({FEATURES: features}, training=False).logits.shape.rank == 3)


def _reads_pooler(model: keras.Model) -> bool:
    """Whether the head reads the pooler's output, asked of the head: a gradient comes back from what it reads."""
    base = _base(model)
    if getattr(base, "pooler", None) is None:
        return False
    with tf.GradientTape() as tape:
        features = tf.zeros([1, 1, model.config.hidden_size], base.compute_dtype)
        pooled = tf.zeros([1, model.config.hidden_size], base.compute_dtype)
        tape.watch(pooled)
        with _answering(base, lambda _: pooled):
            logits = model({FEATURES: features}, training=False).logits
    return tape.gradient(logits, pooled) is not None


def encoder_fingerprint(model: keras.Model) -> str:
    """A SHA-256 over all that the encoder's outputs depend on: its weights, configuration, precision, what is read."""
    import transformers

    base, place = _base(model), place_read(model)
    config = {key: value for key, value in model.config.to_dict().items() if key not in _NO_MATTER}
    about = {
        "format": CACHE_FORMAT,
        "transformers": transformers.__version__,
        "config": config,
        "precision": base.compute_dtype,
        "place": place,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    # By name: freezing changes the order of the weights.
    for weight in sorted(base.weights, key=lambda one: path_of(one.name)):
        if part_of(weight.name) != POOLER or place == "pooler":
            digest.update(path_of(weight.name).encode())
            _add(digest, weight.numpy())
    return digest.hexdigest()


def fingerprint(encoder: str, encoded: Encoded, tokenizer: Any) -> str:
    """A SHA-256 over all that a split's outputs depend on: the encoder's fingerprint, the token ids, padding."""
    about = [encoder, sorted(tokenizer.model_input_names), tokenizer.padding_side, tokenizer.pad_token_id]
    digest = hashlib.sha256(json.dumps(about).encode())
    for array in (encoded.offsets, encoded.input_ids, encoded.token_type_ids):
        _add(digest, np.zeros(0, np.int32) if array is None else np.asarray(array))
    return digest.hexdigest()


def _add(digest: Any, array: np.ndarray) -> None:
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def cached_outputs(
    model: keras.Model,
    encoded: Encoded,
    tokenizer: Any,
    *,
    batch_size: int,
    max_length: int,
    cache: Path | None = None,
    encoder: str | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """The `encoder_outputs` of all rows in their own order, (rows, 1, hidden) float32.

    Where words have labels, (tokens, hidden): those of all rows' tokens end to end, without padding.

    Args:
        model: see `encoder_outputs`; the weights of its encoder are those of this moment.
        encoded: the rows.
        tokenizer: the checkpoint's.
        batch_size: rows computed at once, of short ones more.
        max_length: the most tokens a row has.
        cache: a folder for results, keyed by content (`fingerprint`); None computes every time. A folder that cannot be
            written is passed over, and a damaged file is computed anew and replaced.
        encoder: the model's `encoder_fingerprint`, where several splits are computed with the same weights.
        advance: called with the number of rows done, as they are done.

    Raises:
        ModelError: the head reads more of the encoder than one vector.

    Example:
        >>> from tfft.data.encode import encode
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> tokenizer = checkpoint.load_tokenizer(found)
        >>> encoded = encode([["a good movie", "it was bad", "not you"]], tokenizer, max_length=16)
        >>> cached_outputs(model, encoded, tokenizer, batch_size=2, max_length=16).shape  # (rows, 1, hidden)
        (3, 1, 16)
    """
    place = place_read(model)
    rows = (len(encoded.input_ids),) if place == "tokens" else (len(encoded), 1)
    shape = (*rows, model.config.hidden_size)
    if cache is None:
        return _compute(model, encoded, tokenizer, place, shape, batch_size, max_length, advance)
    path = cache / f"{fingerprint(encoder or encoder_fingerprint(model), encoded, tokenizer)}.safetensors"
    found = read_arrays(path).get("outputs")
    if found is not None and found.shape == shape and found.dtype == np.float32:
        advance(len(encoded))
        return found
    outputs = _compute(model, encoded, tokenizer, place, shape, batch_size, max_length, advance)
    write_cached(path, {"outputs": outputs})
    return outputs


def _compute(
    model: keras.Model,
    encoded: Encoded,
    tokenizer: Any,
    place: str,
    shape: tuple[int, ...],
    batch_size: int,
    max_length: int,
    advance: Callable[[int], None],
) -> np.ndarray:
    outputs = np.zeros(shape, np.float32)
    if not len(encoded):
        return outputs
    dataset, order = for_prediction(encoded, batch_size=batch_size, tokenizer=tokenizer, max_length=max_length)
    _check_place(model, {name: values[:2] for name, values in next(iter(dataset.take(1))).items()})

    # One trace for all widths.
    @tf.function(input_signature=[dataset.element_spec], autograph=model.config.model_type not in PLAIN_PYTHON)
    def compute(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return _outputs(model, place, inputs)

    done = 0
    for inputs in dataset:
        found = compute(inputs).numpy()
        rows = order[done : done + len(found)]
        if place == "tokens":
            for row, real, states in zip(rows, inputs["attention_mask"].numpy(), found, strict=True):
                outputs[encoded.offsets[row] : encoded.offsets[row + 1]] = states[real.astype(bool)]
        else:
            outputs[rows] = found
        done += len(found)
        advance(len(found))
    return outputs


def _check_place(model: keras.Model, inputs: dict[str, tf.Tensor]) -> None:
    """Raises a ModelError unless the head gives the same logits from `encoder_outputs` as from the whole encoder."""
    expected = model(inputs, training=False).logits
    features = encoder_outputs(model, inputs)
    with _answering(_base(model), _pooled_by(model)):
        found = model({FEATURES: features}, training=False).logits
    expected, found = (tf.cast(one, tf.float32).numpy() for one in (expected, found))
    # Roundings of a low precision apart; a head that reads other places is far off.
    if not np.allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max() + 1e-6):
        raise ModelError(
            f"the head of {type(model).__name__} reads more of its encoder than the first token or the pooler, so it "
            "cannot be trained on outputs computed once; train it with another training.strategy"
        )


def cache_folder() -> Path:
    """Where encoders' outputs are cached unless said otherwise."""
    return locations.cache_folder() / "outputs"
