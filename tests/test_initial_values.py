"""Weights that no checkpoint fills get the very values that they would have had."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import families
from tfft.backend import keras, tf
from tfft.models import checkpoint, headed, initial_values, load


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_values_are_those_of_a_model_built_at_once(family: str) -> None:
    def built(context: Callable[[], contextlib.AbstractContextManager[None]]) -> list[np.ndarray]:
        keras.utils.set_random_seed(5)
        with context():
            model = families.make(family)
        return [weight.numpy() for weight in model.weights]

    for one, other in zip(built(contextlib.nullcontext), built(initial_values.postponed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("with_head", [False, True])
def test_only_new_weights_are_drawn(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, with_head: bool) -> None:
    drawn: list[tuple[int, ...]] = []
    plain = keras.initializers.TruncatedNormal.__call__

    def counted(self: object, shape: tuple[int, ...], *args: object, **kwargs: object) -> tf.Tensor:
        drawn.append(tuple(shape))
        return plain(self, shape, *args, **kwargs)

    monkeypatch.setattr(keras.initializers.TruncatedNormal, "__call__", counted)
    found = checkpoint.find(str(tiny_checkpoint))
    if with_head:
        loaded = headed.load_with_head(found, ["a", "b"], units=8)
        assert drawn == [], "the tutorials' head is drawn otherwise"
    else:
        loaded = load.load_classifier(found, ["a", "b"], "TFAutoModelForSequenceClassification")
        assert drawn == [(16, 2)]
    assert all(
        weight.numpy().std() > 0
        for weight in loaded.model.weights
        if "classifier" in weight.name and "kernel" in weight.name
    )
    assert not any(np.isnan(weight.numpy()).any() for weight in loaded.model.weights)
