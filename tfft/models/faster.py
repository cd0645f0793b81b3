"""The same encoder with less work: one traced function for all its layers, fewer and cheaper operations in it.

`accelerate(model)` puts a function of its own in the place of every encoder layer's `call`. The mathematics is the
model's: post-layer-norm attention and feed-forward as BERT has them (Devlin et al. 2019), which RoBERTa, ELECTRA,
DistilBERT and MPNet share. What differs is how it is computed:

- one function is traced for all layers, with their weights as arguments: a step is traced in half the time;
- query, key and value are one product;
- dropout's masks are 16 random bits a value from a counter-based generator, see `dropout`;
- GELU and layer normalisation have gradients of their own that keep less and take fewer passes.

Weights, names, saving and everything above the layers stay as they are. A layer that holds something unknown (an
adapter, another kind of layer in a projection's place) or is asked for more than its output (attentions, a head mask)
computes as it did.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tfft.backend import compiled_by_xla, keras, tf
from tfft.models.dropout import DropoutState, dropout, next_number, put, state_of

# The families whose layers are known, by what their configurations call them.
MODEL_TYPES = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "xlm-roberta": "XLM-RoBERTa",
    "electra": "ELECTRA",
    "distilbert": "DistilBERT",
    "mpnet": "MPNet",
}
FAMILIES = tuple(MODEL_TYPES.values())


class Projections(NamedTuple):
    """The layers inside an encoder layer, by what they do."""

    query: Any
    key: Any
    value: Any
    attention_output: Any
    attention_norm: Any
    intermediate: Any
    output: Any
    output_norm: Any


@dataclass(frozen=True)
class Settings:
    """What the traced function depends on beside its arguments; layers with equal settings share one.

    Attributes:
        heads: of the attention.
        attention_dropout: rate for the attention's probabilities.
        attention_output_dropout, output_dropout: rates for what is added to the residual.
        attention_epsilon, output_epsilon: of the two layer normalisations.
        activation: of the feed-forward's inner values.
    """

    heads: int
    attention_dropout: float
    attention_output_dropout: float
    output_dropout: float
    attention_epsilon: float
    output_epsilon: float
    activation: Callable[[tf.Tensor], tf.Tensor]

    @property
    def drops(self) -> bool:
        """Whether any mask is drawn."""
        return bool(self.attention_dropout or self.attention_output_dropout or self.output_dropout)


def accelerate(model: keras.Model, gradient_checkpointing: bool = False) -> int:
    """Lets every encoder layer of `model` compute the faster way, where its family is known.

    Args:
        model: of Transformers, built; it is changed. A second call changes nothing more.
        gradient_checkpointing: keep only the layers' inputs for the backward pass, which computes each layer once more
            (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"): less memory, a third more products.

    Returns:
        How many layers compute so now; 0 where the family is not among those known (BERT, RoBERTa, XLM-RoBERTa,
        ELECTRA, DistilBERT, MPNet).

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> ids = tf.constant([[2, 90, 3], [2, 91, 3]])
        >>> before = model({"input_ids": ids}).logits
        >>> accelerate(model)
        2
        >>> bool(tf.reduce_max(tf.abs(model({"input_ids": ids}).logits - before)) < 1e-6)
        True
    """
    layers = _layers_of(model)
    if not layers or is_accelerated(layers[0]):
        return len(layers)
    state = state_of(model) or DropoutState()
    functions: dict[Settings, Any] = {}
    for number, layer in enumerate(layers, next_number(model)):
        family = _FAMILIES[type(layer).__name__]
        put(layer, _FasterCall(layer, family, number, state, functions, gradient_checkpointing))
    return len(layers)


def _layers_of(model: keras.Model) -> list[Any]:
    """The encoder layers of the families that are known, from the first to the last."""
    return [
        layer
        for layer in model.submodules
        if type(layer).__name__ in _FAMILIES and not getattr(layer, "is_decoder", False)
    ]


class Attending(NamedTuple):
    """What an encoder layer makes its queries, keys and values by, each a dense layer, and for how many heads."""

    query: Any
    key: Any
    value: Any
    heads: int


def attending_layers(model: keras.Model) -> list[Attending]:
    """That of every encoder layer, from the first to the last; of a family that is not known, none."""
    found = []
    for layer in _layers_of(model):
        family = _FAMILIES[type(layer).__name__]
        parts = (operator.attrgetter(path)(layer) for path in (*family.parts[:3], family.heads))
        found.append(Attending(*parts))
    return found


def is_accelerated(layer: Any) -> bool:
    """Whether an encoder layer computes the faster way."""
    return "call" in vars(layer)


# --- What the families call their parts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Family:
    """Where an encoder layer has its parts, as paths of attributes.

    Attributes:
        parts: for `Projections`, in its order.
        dropouts: of the attention's probabilities, of its output, of the layer's output; None where nothing is dropped.
        heads: the number of them.
        activation: of the feed-forward's inner values.
        mask: what the layer is given to what is added to the scores.
    """

    parts: tuple[str, ...]
    dropouts: tuple[str | None, str | None, str | None]
    heads: str
    activation: str
    mask: Callable[[tf.Tensor], tf.Tensor]


def _added_as_it_is(mask: tf.Tensor) -> tf.Tensor:
    return mask


def _from_ones_and_zeros(mask: tf.Tensor) -> tf.Tensor:
    return -1e30 * (1.0 - tf.cast(mask, tf.float32))[:, tf.newaxis, tf.newaxis, :]


_BERT = _Family(
    parts=(
        *(f"attention.self_attention.{name}" for name in ("query", "key", "value")),
        *("attention.dense_output.dense", "attention.dense_output.LayerNorm"),
        *("intermediate.dense", "bert_output.dense", "bert_output.LayerNorm"),
    ),
    dropouts=("attention.self_attention.dropout", "attention.dense_output.dropout", "bert_output.dropout"),
    heads="attention.self_attention.num_attention_heads",
    activation="intermediate.intermediate_act_fn",
    mask=_added_as_it_is,
)
_FAMILIES = {
    "TFBertLayer": _BERT,
    "TFRobertaLayer": _BERT,
    "TFXLMRobertaLayer": _BERT,
    "TFElectraLayer": _BERT,
    "TFTransformerBlock": _Family(  # DistilBERT
        parts=(
            *(f"attention.{name}" for name in ("q_lin", "k_lin", "v_lin", "out_lin")),
            *("sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
        ),
        dropouts=("attention.dropout", None, "ffn.dropout"),
        heads="attention.n_heads",
        activation="ffn.activation",
        mask=_from_ones_and_zeros,
    ),
    "TFMPNetLayer": _Family(
        parts=(
            *(f"attention.attn.{name}" for name in ("q", "k", "v", "o")),
            *("attention.LayerNorm", "intermediate.dense", "out.dense", "out.LayerNorm"),
        ),
        dropouts=("attention.attn.dropout", "attention.dropout", "out.dropout"),
        heads="attention.attn.num_attention_heads",
        activation="intermediate.intermediate_act_fn",
        mask=_added_as_it_is,
    ),
}


class _FasterCall:
    """What one encoder layer computes by, in the place of its own `call`, with the same arguments.

    Args:
        layer: the encoder layer.
        family: where it has its parts.
        number: of its own among the model's layers that drop.
        dropout_state: shared by all layers.
        functions: settings to the function traced for them, shared by all layers.
        checkpointing: whether training keeps the layer's input alone.
    """

    def __init__(
        self,
        layer: Any,
        family: _Family,
        number: int,
        dropout_state: DropoutState,
        functions: dict[Settings, Any],
        checkpointing: bool,
    ) -> None:
        self.layer, self.family, self.functions = layer, family, functions
        self.number, self.dropout_state = number, dropout_state
        self.checkpointing = checkpointing
        self.stock = layer.call
        self.signature = inspect.signature(self.stock)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output (batch, tokens, hidden) in a tuple; whatever else was asked for is stock's to give."""
        given = self.signature.bind(*args, **kwargs)
        given.apply_defaults()
        (_, hidden), (_, mask), *others = given.arguments.items()
        rest = dict(others)
        training, bias = rest.pop("training"), rest.pop("position_bias", None)
        asked_for_more = any(value is not None and value is not False for value in rest.values())
        parts = Projections(*(self._part(path) for path in self.family.parts))
        if asked_for_more or mask is None or not isinstance(training, bool) or not _are_plain(parts):
            return self.stock(*args, **kwargs)
        settings = self._settings(parts, training)
        if settings not in self.functions:
            self.functions[settings] = _traced(settings)
        # XLA takes all arguments of a function for constants of the program if its gradient reads one shape that the
        # forward pass computed: it would compile anew in every step. So there the operations stand in the step itself.
        traced = self.functions[settings]
        compute = traced.python_function if compiled_by_xla() else traced
        if self.checkpointing and training:
            compute = _computed_twice(compute)
        key = self.dropout_state.next_key(self.number) if settings.drops else None
        weights = [tf.convert_to_tensor(one) for part in parts for one in _weights_of(part)]
        return (compute(hidden, self.family.mask(mask), bias, key, weights),)

    def _part(self, path: str) -> Any:
        return operator.attrgetter(path)(self.layer)

    def _settings(self, parts: Projections, training: bool) -> Settings:
        rates = [
            float(self._part(path).rate) if training and path is not None else 0.0 for path in self.family.dropouts
        ]
        return Settings(
            heads=self._part(self.family.heads),
            attention_dropout=rates[0],
            attention_output_dropout=rates[1],
            output_dropout=rates[2],
            attention_epsilon=parts.attention_norm.epsilon,
            output_epsilon=parts.output_norm.epsilon,
            activation=self._part(self.family.activation),
        )


def _computed_twice(compute: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """The same, of which nothing is kept for the gradient: that computes it once more, with the same masks."""

    def computed(
        hidden: tf.Tensor, mask: tf.Tensor, bias: tf.Tensor | None, key: tf.Tensor | None, weights: list[tf.Tensor]
    ) -> tf.Tensor:
        # Only what has a gradient may be an argument.
        biases = [] if bias is None else [bias]

        def of_differentiable(hidden: tf.Tensor, *given: tf.Tensor) -> tf.Tensor:
            return compute(hidden, mask, given[0] if biases else None, key, list(given[len(biases) :]))

        return tf.recompute_grad(of_differentiable)(hidden, *biases, *weights)

    return computed


def _weights_of(part: Any) -> tuple[Any, Any]:
    return (part.kernel, part.bias) if isinstance(part, keras.layers.Dense) else (part.gamma, part.beta)


def _are_plain(parts: Projections) -> bool:
    """Whether every part is the layer that the family's own code makes, and no adapter of somebody's."""
    kinds = [keras.layers.LayerNormalization if name.endswith("norm") else keras.layers.Dense for name in parts._fields]
    return all(type(part) is kind for part, kind in zip(parts, kinds, strict=True))


# --- The mathematics --------------------------------------------------------------------------------------------------


def _traced(settings: Settings) -> Any:
    """The layer as one function of (hidden, mask, bias, key, weights), traced once for all layers that share it."""

    def encoder_layer(
        hidden: tf.Tensor, mask: tf.Tensor, bias: tf.Tensor | None, key: tf.Tensor | None, weights: list[tf.Tensor]
    ) -> tf.Tensor:
        query, query_bias, key_kernel, key_bias, value, value_bias = weights[:6]
        attention_output, attention_output_bias, gamma, beta = weights[6:10]
        intermediate, intermediate_bias, output, output_bias, output_gamma, output_beta = weights[10:]
        size = query.shape[1]
        shape = tf.shape(hidden)
        batch, tokens = shape[0], shape[1]
        flat = tf.reshape(hidden, [-1, hidden.shape[-1]])

        def dropped(values: tf.Tensor, rate: float, place: int) -> tf.Tensor:
            return values if rate == 0 else dropout(values, rate, tf.concat([key, [place]], 0))

        together = _dense(
            flat, tf.concat([query, key_kernel, value], 1), tf.concat([query_bias, key_bias, value_bias], 0)
        )
        # (3, batch, heads, tokens, size of a head)
        heads = tf.transpose(
            tf.reshape(together, [batch, tokens, 3, settings.heads, size // settings.heads]), [2, 0, 3, 1, 4]
        )
        queries, keys, values = tf.unstack(heads, num=3)
        scores = tf.linalg.matmul(queries, keys, transpose_b=True)
        # In float32, where a mask of the least bfloat16 or float16 still leaves numbers.
        scores = tf.cast(scores, tf.float32) / math.sqrt(size // settings.heads) + tf.cast(mask, tf.float32)
        if bias is not None:
            scores += tf.cast(bias, tf.float32)
        probabilities = tf.cast(tf.nn.softmax(scores), values.dtype)
        probabilities = dropped(probabilities, settings.attention_dropout, 0)
        context = tf.transpose(tf.linalg.matmul(probabilities, values), [0, 2, 1, 3])
        attended = _dense(tf.reshape(context, [-1, size]), attention_output, attention_output_bias)
        attended = dropped(attended, settings.attention_output_dropout, 1)
        normed = layer_norm(attended + flat, gamma, beta, settings.attention_epsilon)
        inner = _activated(settings.activation, _dense(normed, intermediate, intermediate_bias))
        result = dropped(_dense(inner, output, output_bias), settings.output_dropout, 2)
        result = layer_norm(result + normed, output_gamma, output_beta, settings.output_epsilon)
        return tf.reshape(result, shape)

    return tf.function(encoder_layer, autograph=False, reduce_retracing=True)


def _dense(values: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return tf.nn.bias_add(tf.linalg.matmul(values, kernel), bias)


def _activated(activation: Callable[[tf.Tensor], tf.Tensor], values: tf.Tensor) -> tf.Tensor:
    from transformers.activations_tf import get_tf_activation

    return gelu(values) if activation is get_tf_activation("gelu") else activation(values)


@tf.custom_gradient
def gelu(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """x * Phi(x) with the normal distribution's Phi (Hendrycks & Gimpel 2016); its slope is Phi(x) + x * phi(x).

    Example:
        >>> [round(float(value), 4) for value in gelu(tf.constant([-1.0, 0.0, 1.0]))]
        [-0.1587, 0.0, 0.8413]
    """
    below = 0.5 * (1.0 + tf.math.erf(values * (1 / math.sqrt(2))))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        density = tf.exp(tf.square(values) * -0.5) * (1 / math.sqrt(2 * math.pi))
        return upstream * (below + values * density)

    return values * below, gradient


def layer_norm(values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Layer normalisation over the last axis (Ba et al. 2016), computed in float32.

    Args:
        values: (rows, width).
        gamma, beta: (width,).

    Example:
        >>> normed = layer_norm(tf.constant([[1.0, 3.0]]), tf.ones([2]), tf.zeros([2]), epsilon=0.0)
        >>> normed.numpy().tolist()
        [[-1.0, 1.0]]
    """

    @tf.custom_gradient
    def normed(values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> Any:
        dtype = values.dtype
        centred = tf.cast(values, tf.float32)
        centred -= tf.reduce_mean(centred, axis=-1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + epsilon)
        unit = centred * scale
        wide_gamma = tf.cast(gamma, tf.float32)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            upstream = tf.cast(upstream, tf.float32)
            of_unit = upstream * wide_gamma
            shared = unit * tf.reduce_mean(of_unit * unit, axis=-1, keepdims=True)
            of_values = scale * (of_unit - tf.reduce_mean(of_unit, axis=-1, keepdims=True) - shared)
            of_gamma, of_beta = tf.reduce_sum(upstream * unit, axis=0), tf.reduce_sum(upstream, axis=0)
            return tf.cast(of_values, dtype), tf.cast(of_gamma, gamma.dtype), tf.cast(of_beta, beta.dtype)

        return tf.cast(unit * wide_gamma + tf.cast(beta, tf.float32), dtype), gradient

    return normed(values, gamma, beta)
