"""Adam and AdamW of Keras, with weight decay where it belongs and gradients clipped by their true norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfft.backend import keras, tf

# Never decayed: biases and the scale and shift of layer normalisation (Devlin et al. 2019, the released BERT code).
NO_DECAY = ("bias", "LayerNorm", "layer_norm", "layernorm", "gamma", "beta")


def summed(gradient: Any) -> Any:
    """A sparse gradient with every row once, the sum of its parts; a dense one as it is.

    An embedding's gradient has one part for every token. Keras clips before it sums them, and the norm of the parts is
    not that of the gradient.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


class _SumsFirst:
    """Mixed into an optimizer: gradients are summed before anything is done with them."""

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """As Keras's."""
        pairs = [(summed(gradient), variable) for gradient, variable in grads_and_vars]
        return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]


@keras.saving.register_keras_serializable("tfft")
class Adam(_SumsFirst, keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015)."""


@keras.saving.register_keras_serializable("tfft")
class AdamW(_SumsFirst, keras.optimizers.AdamW):
    """Adam with decay apart from the gradient (Loshchilov & Hutter 2019)."""


def make(
    kind: str,
    learning_rate: Any,
    *,
    weight_decay: float = 0.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    max_grad_norm: float | None = None,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer for fine-tuning.

    Args:
        kind: `adamw` or `adam`.
        learning_rate: a number or a schedule.
        weight_decay: for `adamw`; never on biases and LayerNorm (`NO_DECAY`).
        beta_1, beta_2, epsilon: Adam's.
        max_grad_norm: gradients are scaled down together where their joint norm is larger.
    """
    shared = {
        "learning_rate": learning_rate,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": epsilon,
        "global_clipnorm": max_grad_norm,
        "jit_compile": False,
    }
    if kind == "adam":
        return Adam(**shared)
    optimizer = AdamW(weight_decay=weight_decay, **shared)
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer
