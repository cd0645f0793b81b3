"""Which weights are trained."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from tfft.backend import keras, tf
from tfft.models.parts import HEAD, POOLER, part_of


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


def feature_extraction(model: keras.Model, also_train: Container[str] = ()) -> None:
    """Freezes the encoder, pooler included, and trains the head on what it gives (Devlin et al. 2019, section 5.3).

    Args:
        model: built; which of its weights are trained is changed.
        also_train: parts, as `part_of` names them, that are trained with the head: a pooler that the checkpoint lacks
            holds random numbers, and a head could only learn around them. See `without_pretraining`.

    Raises:
        ModelError: the model is of a family whose parts are not known.
    """
    train_only(model, lambda name: (part := part_of(name)) == HEAD or part in also_train)


def without_pretraining(new: Iterable[str]) -> frozenset[str]:
    """The parts, besides the head, that are new: the pooler or none, since a checkpoint may lack nothing else.

    Args:
        new: names of weights that the checkpoint did not have, from `load.Loaded`.
    """
    return frozenset({POOLER} if any(POOLER in name.split(".") for name in new) else ())
