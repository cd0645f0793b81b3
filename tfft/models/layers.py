"""A checkpoint with fewer of its encoder's layers (Sajjad et al. 2020, "On the Effect of Dropping Layers").

What is left is an ordinary checkpoint of its family: its configuration has the new count, and its layers are numbered
anew, so a model that was trained from it is saved and loaded like any other.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from tfft.errors import ModelError
from tfft.models.checkpoint import Checkpoint

# Those whose layers are alike and one after the other: any of them can go.
FAMILIES = (
    *("bert", "distilbert", "roberta", "xlm-roberta", "electra", "mpnet"),
    *("deberta", "deberta-v2"),
)
# Uses one layer several times, so that it can be used less often.
SHARED = "albert"
# A layer's number in a name of PyTorch's (encoder.layer.3.) or of TensorFlow's (encoder/layer_._3/).
_NUMBER = re.compile(r"((?:^|[./])(?:layer\.|layer_\._))(\d+)(?=[./])")

_Value = TypeVar("_Value")


def _top(total: int, dropped: int) -> range:
    return range(total - dropped, total)


def _bottom(total: int, dropped: int) -> range:
    return range(dropped)


def _symmetric(total: int, dropped: int) -> range:
    # Of an odd number that stays, one more at the bottom: the paper finds those to matter more.
    first = (total - dropped + 1) // 2
    return range(first, first + dropped)


def _odd(total: int, dropped: int) -> Sequence[int]:
    # The paper counts layers from 1.
    return range(0, total, 2)[-dropped:]


def _even(total: int, dropped: int) -> Sequence[int]:
    return range(1, total, 2)[-dropped:]


# Way of dropping -> the layers, from 0, that go of so many; fewer than were asked for where there are no more.
_DROPPED: Mapping[str, Callable[[int, int], Sequence[int]]] = MappingProxyType(
    {"top": _top, "bottom": _bottom, "symmetric": _symmetric, "odd": _odd, "even": _even}
)


def kept_layers(total: int, count: int, dropped: str = "top") -> tuple[int, ...]:
    """The layers, from 0, that stay where `count` of `total` are to stay (Sajjad et al. 2020, section 3).

    Args:
        dropped: which go. `top` are the last, `bottom` the first, `symmetric` those in the middle; `odd` and `even` are
            every other one from the top down, counted from 1 as in the paper: of a model's 12 layers, to drop four of
            the odd ones is to drop the 5th, 7th, 9th and 11th.

    Raises:
        ModelError: there are not so many layers, or not so many odd or even ones.

    Example:
        >>> {dropped: kept_layers(12, 8, dropped) for dropped in ("top", "symmetric", "odd")}
        {'top': (0, 1, 2, 3, 4, 5, 6, 7), 'symmetric': (0, 1, 2, 3, 8, 9, 10, 11), 'odd': (0, 1, 2, 3, 5, 7, 9, 11)}
    """
    if not 1 <= count <= total:
        raise _refused(count, f"a number of layers from 1 to {total}", total)
    if count == total:
        return tuple(range(total))
    gone = _DROPPED[dropped](total, total - count)
    if len(gone) < total - count:
        raise ModelError(
            f"model.keep_layers: got {count} with model.drop_layers={dropped}; expected at least {total - len(gone)}, "
            f"since {len(gone)} of the model's {total} layers are {dropped}, or another model.drop_layers"
        )
    return tuple(layer for layer in range(total) if layer not in gone)


def _refused(given: object, expected: str, total: int) -> ModelError:
    have = "1 layer" if total == 1 else f"{total} layers"
    return ModelError(f"model.keep_layers: got {given}; expected {expected}, since the model has {have}")


def with_layers(checkpoint: Checkpoint, wanted: int | Sequence[int], dropped: str = "top") -> Checkpoint:
    """The checkpoint with some of its encoder's layers, the others left out wherever it is loaded.

    Args:
        checkpoint: see `checkpoint.find`.
        wanted: how many layers stay; or which, counted from 0, in their own order.
        dropped: see `kept_layers`; for a number alone.

    Raises:
        ModelError: the model has not such layers, or one is named twice, or its family's layers cannot be dropped.

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = with_layers(checkpoint.find("tests/fixtures/tiny_bert_torch"), 1)
        >>> found.layers, found.config.num_hidden_layers
        ((0,), 1)
        >>> loaded = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification")
        >>> loaded.unused  # of the layers that stay
        ()
    """
    kind, total = checkpoint.config.model_type, getattr(checkpoint.config, "num_hidden_layers", 0)
    is_shared = kind == SHARED and checkpoint.config.num_hidden_groups == 1
    if kind not in FAMILIES and not is_shared:
        several = " whose layers share several weights" if kind == SHARED else ""
        raise ModelError(
            f"model.keep_layers: {checkpoint.name} is a {kind} model{several}; expected null, or a model of "
            f"{', '.join((*FAMILIES, SHARED))}"
        )
    if isinstance(wanted, int):
        kept = kept_layers(total, wanted, dropped)
    else:
        kept = tuple(sorted(set(wanted)))
        if not kept or len(kept) < len(wanted) or kept[0] < 0 or kept[-1] >= total:
            raise _refused(list(wanted), f"different layers from 0 to {total - 1}", total)
    config = copy.deepcopy(checkpoint.config)
    config.num_hidden_layers = len(kept)
    return replace(checkpoint, config=config, layers=None if is_shared else kept)


def renumbered(tensors: Mapping[str, _Value], kept: Sequence[int] | None) -> dict[str, _Value]:
    """The tensors of the layers that stay, by the numbers that those have now, and all of no layer.

    Args:
        tensors: by their names in the checkpoint.
        kept: the layers that stay, by their numbers there; None is all.

    Example:
        >>> renumbered({"encoder.layer.0.w": "a", "encoder.layer.5.w": "b", "pooler.w": "c"}, [5])
        {'encoder.layer.0.w': 'b', 'pooler.w': 'c'}
    """
    if kept is None:
        return dict(tensors)
    places = {number: place for place, number in enumerate(kept)}
    found: dict[str, _Value] = {}
    for name, value in tensors.items():
        layer = _NUMBER.search(name)
        if layer is None:
            found[name] = value
        elif int(layer[2]) in places:
            found[name[: layer.start(2)] + str(places[int(layer[2])]) + name[layer.end(2) :]] = value
    return found
