"""Which weights are trained."""

from __future__ import annotations

from collections.abc import Callable

from tfft.backend import keras, tf
from tfft.models.parts import HEAD, part_of


def train_only(model: keras.Model, is_trained: Callable[[str], bool]) -> None:
    """Freezes every weight whose name does not pass; Keras then computes no gradient for it.

    Keras knows layers that are trained or not, but not single weights of a layer, so the weights change places inside
    their layers. The order of `model.weights` changes with them: trained ones come first.
    """
    layers = [one for one in model.submodules if isinstance(one, keras.layers.Layer)]
    for layer in [model, *layers]:
        for weight in list(layer._trainable_weights):
            if not is_trained(weight.name):
                _move(weight, layer._trainable_weights, layer._non_trainable_weights)


def _move(weight: tf.Variable, source: list[tf.Variable], target: list[tf.Variable]) -> None:
    # By identity: to compare variables would compare their values.
    (place,) = (index for index, one in enumerate(source) if one is weight)
    target.append(source.pop(place))


def is_bias_or_head(name: str) -> bool:
    """Whether BitFit trains a weight of this name (Ben Zaken et al. 2022)."""
    last = name.removesuffix(":0").rpartition("/")[2]
    # The shift of layer normalisation is a bias as well, whatever Keras calls it.
    return part_of(name) == HEAD or last.endswith("bias") or last == "beta"


def bitfit(model: keras.Model) -> None:
    """Freezes all but biases and the head: BitFit (Ben Zaken et al. 2022).

    Raises:
        ModelError: the model is of a family whose parts are not known.
    """
    train_only(model, is_bias_or_head)
