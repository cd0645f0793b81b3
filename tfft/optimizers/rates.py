"""A learning rate of its own for every part of a model."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models.parts import EMBEDDINGS, part_of, parts_of, path_of
from tfft.optimizers.late import name_of


def multipliers_by_depth(
    names: Sequence[str], decay: float = 0.95, all_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Rate multipliers that fall from the output to the input: layer-wise learning-rate decay.

    Head and pooler have 1, the last layer `decay`, the one below it `decay` squared, and so on; the embeddings come
    below the first layer (Sun et al. 2019, How to Fine-Tune BERT for Text Classification, section 5.3.4; Clark et al.
    2020, ELECTRA, appendix B, with 0.8).

    Args:
        names: of the model's trainable weights.
        decay: above 0, at most 1.
        all_names: of all weights, where some are not trained: a layer below such a one is as deep as it is.

    Returns:
        Name to multiplier.

    Raises:
        ModelError: a name belongs to no known part.

    Example:
        >>> names = ["bert/embeddings/w", "bert/encoder/layer_._0/w", "bert/encoder/layer_._1/w", "classifier/kernel"]
        >>> list(multipliers_by_depth(names, 0.5).values())
        [0.125, 0.25, 0.5, 1.0]
    """
    parts_of(names)  # all are known
    below_head = [
        part for part in reversed(parts_of(all_names or names)) if part.startswith("layer.") or part == EMBEDDINGS
    ]
    multipliers = {part: decay ** (depth + 1) for depth, part in enumerate(below_head)}
    return {name: multipliers.get(part_of(name), 1.0) for name in names}


def multipliers_by_pattern(names: Sequence[str], table: Mapping[str, float]) -> dict[str, float]:
    """Rate multipliers from a table of patterns, the first that matches.

    Args:
        names: of the model's trainable weights.
        table: shell patterns (`*`, `?`, `[…]`) of parts (`embeddings`, `layer.*`, `pooler`, `head`) or of weights'
            paths (`bert/encoder/layer_._0/*`), to multipliers.

    Returns:
        Name to multiplier.

    Raises:
        ModelError: a pattern matches nothing, or a weight is matched by none.

    Example:
        >>> names = ["bert/embeddings/w", "bert/encoder/layer_._0/w", "bert/encoder/layer_._1/w", "classifier/kernel"]
        >>> multipliers = multipliers_by_pattern(names, {"head": 10.0, "layer.*": 1.0, "*": 0.1})
        >>> list(multipliers.values())
        [0.1, 1.0, 1.0, 10.0]
    """
    found: dict[str, float] = {}
    used: set[str] = set()
    for name in names:
        subjects = (part_of(name), path_of(name))
        matching = [pattern for pattern in table if any(fnmatch.fnmatchcase(one, pattern) for one in subjects)]
        used.update(matching)
        if matching:
            found[name] = table[matching[0]]
    key = "training.learning_rate_multipliers"
    if unused := [pattern for pattern in table if pattern not in used]:
        raise ModelError(
            f"{key}: {_listed(unused)} is no part of this model; expected {', '.join(parts_of(names))}, or the path of "
            f"a weight such as {path_of(names[0])}"
        )
    if missing := [name for name in names if name not in found]:
        parts = dict.fromkeys(map(part_of, missing))
        raise ModelError(
            f"{key}: nothing in it is said of {_listed(parts)} ({len(missing)} weights, the first of them "
            f"{path_of(missing[0])}); name every part, or end with '*': 1.0"
        )
    return found


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(repr, texts))


class ScalesRates:
    """Mixed into a Keras optimizer, before it: every variable has the schedule's rate times a multiplier of its own.

    The multiplier counts for the update and for decoupled weight decay, which is in proportion to the rate.
    """

    def __init__(self, *args: Any, rate_multipliers: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        self._multiplier: float | None = None
        super().__init__(*args, **kwargs)
        self.rate_multipliers = None if rate_multipliers is None else dict(rate_multipliers)

    @property
    def learning_rate(self) -> Any:
        """The rate; while a variable is being updated, that variable's."""
        rate = keras.optimizers.Optimizer.learning_rate.fget(self)
        return rate if self._multiplier is None else rate * tf.cast(self._multiplier, rate.dtype)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        keras.optimizers.Optimizer.learning_rate.fset(self, value)

    @contextlib.contextmanager
    def _at_the_rate_of(self, variable: tf.Variable) -> Iterator[None]:
        if self.rate_multipliers is not None:
            self._multiplier = self.rate_multipliers[name_of(variable)]
        try:
            yield
        finally:
            self._multiplier = None

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """As Keras's, at the variable's rate."""
        with self._at_the_rate_of(variable):
            super().update_step(gradient, variable)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        if self.rate_multipliers is None:
            super()._apply_weight_decay(variables)  # type: ignore[misc]
            return
        for variable in variables:
            with self._at_the_rate_of(variable):
                super()._apply_weight_decay([variable])  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """As Keras's, and the multipliers."""
        multipliers = None if self.rate_multipliers is None else dict(self.rate_multipliers)
        return {**super().get_config(), "rate_multipliers": multipliers}  # type: ignore[misc]
