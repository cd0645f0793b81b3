"""Which part of a model a weight belongs to, by its name: `embeddings`, `layer.0` to the last, `pooler`, `head`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tfft.errors import ModelError

EMBEDDINGS, POOLER, HEAD = "embeddings", "pooler", "head"

_LAYER = re.compile(r"(?:^|/)(?:layer|albert_layer_groups)_\._(\d+)/")  # ALBERT's layers are one, used several times
# DeBERTa's convolution works beside its first layer.
_FIRST_LAYER = re.compile(r"/encoder/conv/")
_POOLER = re.compile(r"(?:^|/)pooler/")
# ELECTRA and ALBERT widen their embeddings, MPNet and DeBERTa have some of relative positions in the encoder.
_EMBEDDINGS = re.compile(
    r"/embeddings/|/embeddings_project/|/embedding_hidden_mapping_in/|/rel_embeddings|/relative_attention_bias/"
    r"|/encoder/LayerNorm/"
)
_HEAD = re.compile(r"^(?:pre_)?classifier/|^mlm___cls/|^lm_head/|^vocab_\w+/|^generator_\w+/|^predictions/")


def path_of(name: str) -> str:
    """A weight's name without the model's own and without `:0`: `bert/encoder/layer_._0/…`, `classifier/kernel`."""
    name = name.removesuffix(":0")
    first, _, rest = name.partition("/")
    return rest if first.startswith("tf") and rest else name


def part_of(name: str) -> str:
    """The part that a weight of this name belongs to.

    Raises:
        ModelError: the name is like none of the known families' (BERT, DistilBERT, RoBERTa, XLM-RoBERTa, ELECTRA,
            ALBERT, MPNet, DeBERTa).
    """
    path = path_of(name)
    if layer := _LAYER.search(path):
        return f"layer.{layer[1]}"
    for pattern, part in (
        (_FIRST_LAYER, "layer.0"),
        (_POOLER, POOLER),
        (_EMBEDDINGS, EMBEDDINGS),
        (_HEAD, HEAD),
    ):
        if pattern.search(path):
            return part
    raise ModelError(
        f"the weight {path} is in no part of a model that tfft knows (embeddings, layers, pooler, head); leave out "
        "settings that tell parts apart, such as training.layerwise_lr_decay"
    )


def parts_of(names: Iterable[str]) -> tuple[str, ...]:
    """All parts of a model, from its input to its output."""
    return tuple(sorted({part_of(name) for name in names}, key=_place))


def _place(part: str) -> tuple[int, int]:
    kind, _, number = part.partition(".")
    return (EMBEDDINGS, "layer", POOLER, HEAD).index(kind), int(number or 0)
