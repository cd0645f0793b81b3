"""Which weights are trained."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Container, Iterable, Sequence

from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models.parts import HEAD, POOLER, part_of, parts_of


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


def trained_names(model: keras.Model, unfreeze: int | str | Sequence[str]) -> frozenset[str]:
    """The names of the weights that one stage of gradual unfreezing trains, of those that are trained now.

    Args:
        unfreeze: `head`; `all`; a number of layers from the top, with pooler and head; or shell patterns of parts
            (`layer.*`, see `parts`).

    Raises:
        ModelError: there are fewer layers, or a pattern matches no part; the model's are listed.

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> parts_of(trained_names(model, "head"))
        ('head',)
        >>> parts_of(trained_names(model, 1))
        ('layer.1', 'pooler', 'head')
        >>> parts_of(trained_names(model, ["embeddings", "layer.*"]))
        ('embeddings', 'layer.0', 'layer.1')
    """
    names = [weight.name for weight in model.trainable_weights]
    parts = parts_of(names)
    if unfreeze == "all":
        return frozenset(names)
    if isinstance(unfreeze, int):
        layers = [part for part in parts if part.startswith("layer.")]
        if unfreeze > len(layers):
            have = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
            shared = " (ALBERT uses one layer several times)" if len(layers) == 1 else ""
            raise ModelError(
                f"training.stages: unfreeze is {unfreeze}, and this model has {have}{shared} to unfreeze; expected at "
                "most that many, or all"
            )
        chosen = {*layers[-unfreeze:], POOLER, HEAD}
    else:
        patterns = [unfreeze] if isinstance(unfreeze, str) else unfreeze
        for pattern in patterns:
            if not fnmatch.filter(parts, pattern):
                raise ModelError(
                    f"training.stages: {pattern!r} is no part of this model; expected some of {', '.join(parts)}"
                )
        chosen = {part for part in parts for pattern in patterns if fnmatch.fnmatchcase(part, pattern)}
    return frozenset(name for name in names if part_of(name) in chosen)


def train_exactly(model: keras.Model, names: Container[str]) -> None:
    """Trains the weights of these names and no other, whatever was frozen by `train_only` or by this before.

    Example:
        First the head, then one layer with it. All names are taken before anything is frozen.

        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> stages = [trained_names(model, "head"), trained_names(model, 1)]
        >>> for names in stages:
        ...     train_exactly(model, names)
        ...     print(parts_of(weight.name for weight in model.trainable_weights))
        ('head',)
        ('layer.1', 'pooler', 'head')
    """
    layers = [model, *(one for one in model.submodules if isinstance(one, keras.layers.Layer))]
    for layer in layers:
        for weight in list(layer._non_trainable_weights):
            if weight.name in names:
                _move(weight, layer._non_trainable_weights, layer._trainable_weights)
    train_only(model, lambda name: name in names)


def _move(weight: tf.Variable, source: list[tf.Variable], target: list[tf.Variable]) -> None:
    # By identity: to compare variables would compare their values.
    (place,) = (index for index, one in enumerate(source) if one is weight)
    target.append(source.pop(place))


def is_bias_or_head(name: str) -> bool:
    """Whether BitFit trains a weight of this name (Ben Zaken et al. 2022)."""
    last = name.removesuffix(":0").rpartition("/")[2]
    # The shift of layer normalisation is a bias as well, whatever Keras calls it.
    return part_of(name) == HEAD or last.endswith("bias") or last == "beta"


def bitfit(model: keras.Model, also_train: Container[str] = ()) -> None:
    """Freezes all but biases and the head: BitFit (Ben Zaken et al. 2022).

    Args:
        model: built; which of its weights are trained is changed.
        also_train: as in `feature_extraction`.

    Raises:
        ModelError: the model is of a family whose parts are not known.

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> bitfit(model)
        >>> trained = {weight.name.rpartition("/")[2] for weight in model.trainable_weights}
        >>> sorted(trained)  # beta is LayerNorm's bias, the kernel is the head's
        ['beta:0', 'bias:0', 'kernel:0']
    """
    train_only(model, lambda name: is_bias_or_head(name) or part_of(name) in also_train)


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
