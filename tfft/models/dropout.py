"""Dropout whose masks follow from a seed and a counter, so that a training can go on with the masks it would have had.

TensorFlow's own dropout draws from a generator inside the operation, whose state nothing can read: a training that is
resumed, and one that was traced once more, have other masks. Here a mask is 16 random bits a value from a counter-based
generator (Philox; Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"), keyed by seed, call, replica,
layer and place. It is cheaper as well: `tf.nn.dropout` makes a float32 out of 32 bits and compares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfft import tpu
from tfft.backend import keras, tf

# Random bits for each value of a mask: its rate is a multiple of 2 ** -16.
MASK_BITS = 16
_PHILOX = 1  # tf.random.Algorithm.PHILOX, for the raw operation
# How the counter's lower 64 bits are shared out: the call has what is left.
_PLACE_BITS, _LAYER_BITS, _REPLICA_BITS = 2, 10, 12


class DropoutState(tf.Module):
    """A seed and the number of layers computed so far, from which all masks follow.

    Held beside the model and not in it, so that the model's weights stay those of its checkpoint. A checkpoint of a
    training takes it by `tf.train.Checkpoint(dropout=state_of(model))`.

    Attributes:
        variable: (2,) int64: the seed, and the calls of layers that drop.
    """

    def __init__(self) -> None:
        super().__init__()
        # From NumPy's generator, which `keras.utils.set_random_seed` seeds with all others.
        seed = int(np.random.randint(1, 2**31))
        self.variable = tf.Variable(
            [seed, 0],
            dtype=tf.int64,
            trainable=False,
            name="dropout_state",
            # Every replica counts for itself; they count the same.
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def next_key(self, layer: int) -> tf.Tensor:
        """(4,) int64: seed, call, replica and layer; no two are alike, whichever layers draw from it."""
        self.variable.assign_add([0, 1])
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return tf.concat(
            [self.variable.read_value(), tf.stack([tf.cast(replica, tf.int64), tf.constant(layer, tf.int64)])], 0
        )


def draw_from_state(model: keras.Model) -> DropoutState:
    """Lets every dropout layer of `model` draw its masks from one `DropoutState`.

    Args:
        model: built; it is changed. Another call does the same for layers that have come to it since.

    Returns:
        The state, which accelerated layers draw from as well.

    Example:
        The same state gives the same masks.

        >>> model = keras.Sequential([keras.layers.Dropout(0.5)])
        >>> state = draw_from_state(model)
        >>> first = model(tf.ones([4, 8]), training=True)
        >>> bool(tf.reduce_all(model(tf.ones([4, 8]), training=True) == first))
        False
        >>> _ = state.variable.assign_sub([0, 2])
        >>> bool(tf.reduce_all(model(tf.ones([4, 8]), training=True) == first))
        True
    """
    state = state_of(model) or DropoutState()
    new = [layer for layer in model.submodules if _rate_name(layer) is not None and "call" not in vars(layer)]
    for number, layer in enumerate(new, next_number(model)):
        put(layer, _Drawn(layer, number, state))
    return state


def next_number(model: keras.Model) -> int:
    """The first number that no layer of the model draws with."""
    return 1 + max((call.number for call in _drawing(model)), default=-1)


def put(layer: Any, call: Any) -> None:
    """Lets `layer` compute by `call`, which has a `number` of its own in the model and a `dropout_state`."""
    if call.number >= 2**_LAYER_BITS:
        raise ValueError(f"the model has more than {2**_LAYER_BITS} layers that drop")
    layer.call = tf.autograph.experimental.do_not_convert(call)
    layer.call.number, layer.call.dropout_state = call.number, call.dropout_state


def state_of(model: keras.Model) -> DropoutState | None:
    """What an accelerated model, or one after `draw_from_state`, draws its masks from; None for any other."""
    return next((call.dropout_state for call in _drawing(model)), None)


def _drawing(model: keras.Model) -> Iterator[Any]:
    """What the layers that draw from a state compute by."""
    for layer in model.submodules:
        call = vars(layer).get("call")
        if hasattr(call, "dropout_state"):
            yield call


def _rate_name(layer: Any) -> str | None:
    """The attribute that holds a dropout layer's rate; None for layers of any other kind."""
    if type(layer) is keras.layers.Dropout and layer.noise_shape is None:
        return "rate"
    # DeBERTa has one of its own, which does the same.
    return "drop_prob" if type(layer).__name__ in ("TFDebertaStableDropout", "TFDebertaV2StableDropout") else None


class _Drawn:
    """What a dropout layer computes by, in the place of its own `call`."""

    def __init__(self, layer: Any, number: int, state: DropoutState) -> None:
        self.layer, self.number, self.dropout_state = layer, number, state
        self.stock = layer.call

    def __call__(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """As the layer's; where Keras itself does not know yet whether this is training, by the layer's own."""
        if not isinstance(training, (bool, int)):
            return self.stock(inputs, training=training)
        rate = float(getattr(self.layer, _rate_name(self.layer) or ""))
        if not training or rate == 0:
            return inputs
        return dropout(inputs, rate, tf.concat([self.dropout_state.next_key(self.number), [0]], 0))


def dropout(values: tf.Tensor, rate: float, key: tf.Tensor) -> tf.Tensor:
    """`values` with each set to 0 at `rate`, the others scaled so that the mean stays (Srivastava et al. 2014).

    Args:
        values: any shape.
        rate: from 0 to below 1, taken to the nearest multiple of 2 ** -16.
        key: (5,) int64, from which the mask follows: seed, call, replica, layer and place in it.
    """
    least = round(rate * 2**MASK_BITS)
    scale = 2**MASK_BITS / (2**MASK_BITS - least)

    @tf.custom_gradient
    def dropped(values: tf.Tensor) -> Any:
        if tpu.in_use():
            kept = _uniform(tf.shape(values), key) >= least / 2**MASK_BITS
        else:
            kept = _bits(tf.shape(values), key) >= least - 2 ** (MASK_BITS - 1)

        def masked(values: tf.Tensor) -> tf.Tensor:
            return values * (tf.cast(kept, values.dtype) * tf.cast(scale, values.dtype))

        return masked(values), masked

    return dropped(values)


def _uniform(shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Uniform float32 from 0 to below 1: what a TPU draws, whose values have 32 bits and are not cut into smaller ones.

    TensorFlow's own way; its numbers are others than those of `_bits`.
    """
    seed, call, replica, layer, place = tf.unstack(tf.cast(key, tf.int32), num=5)
    # Of 31 bits, 1,024 layers with 4 places each leave 19 for the replica.
    where = (replica * 2**_LAYER_BITS + layer) * 2**_PLACE_BITS + place
    of_call = tf.random.experimental.stateless_fold_in(tf.stack([seed, where]), call)
    return tf.random.stateless_uniform(shape, of_call)


def _bits(shape: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Uniform int16 of that shape."""
    a_word = 64 // MASK_BITS
    count = tf.reduce_prod(shape)
    # Philox takes one key of 64 bits and a counter of 128: what the mask is for goes into the two by place.
    seed, call, replica, layer, place = tf.unstack(tf.cast(key, tf.uint64), num=5)
    lower = ((call * 2**_REPLICA_BITS + replica) * 2**_LAYER_BITS + layer) * 2**_PLACE_BITS + place
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[(count + a_word - 1) // a_word],
        key=[seed],
        counter=tf.stack([tf.constant(0, tf.uint64), lower]),
        alg=_PHILOX,
        dtype=tf.uint64,
    )
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.int16), [-1])[:count], shape)
