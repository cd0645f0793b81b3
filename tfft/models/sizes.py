"""A checkpoint's family in other sizes: a model whose weights are all new, for the checkpoint's tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from tfft.errors import ModelError
from tfft.models.checkpoint import Checkpoint

# Sizes that a family calls otherwise, and whose configuration does not know them by the usual name too.
_OWN_NAMES = {"distilbert": {"intermediate_size": "hidden_dim"}}


def with_sizes(checkpoint: Checkpoint, sizes: Mapping[str, int], key: str) -> Checkpoint:
    """The checkpoint with these sizes, and without weights: wherever it is loaded, all of them are new.

    Args:
        checkpoint: see `checkpoint.find`.
        sizes: by the names that configurations of Transformers have: `num_hidden_layers`, `hidden_size`, …
        key: what they were given by, for messages.

    Raises:
        ModelError: the family has no such size, or the width does not divide by the heads.

    Example:
        >>> from tfft.models import checkpoint, load
        >>> found = with_sizes(checkpoint.find("tests/fixtures/tiny_bert_torch"), {"hidden_size": 8}, "sizes")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> model.config.hidden_size, load.parameter_counts(model)
        (8, (3178, 0))
    """
    config = copy.deepcopy(checkpoint.config)
    own_names = _OWN_NAMES.get(config.model_type, {})
    for name, value in sizes.items():
        own = own_names.get(name, name)
        if not hasattr(config, own):
            raise ModelError(
                f"{key}: {checkpoint.name} is a {config.model_type} model, which has no {name}; leave it out"
            )
        setattr(config, own, value)
    width, heads = config.hidden_size, config.num_attention_heads
    if width % heads:
        raise ModelError(
            f"{key}: got a hidden_size of {width} with {heads} num_attention_heads; expected a width that divides by "
            f"the heads, such as {max(1, width // heads) * heads}"
        )
    return replace(checkpoint, config=config, weights=(), layers=None)
