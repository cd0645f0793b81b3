"""Adam and AdamW of Keras, with weight decay where it belongs and gradients clipped by their true norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tfft.backend import inner_optimizer, keras, tf
from tfft.optimizers.accumulation import Accumulates
from tfft.optimizers.fused import UpdatesInOnePass
from tfft.optimizers.late import CountsFromFirstStep
from tfft.optimizers.rates import ScalesRates
from tfft.optimizers.sparse import SumsFirst

# Never decayed: biases and the scale and shift of layer normalisation (Devlin et al. 2019, the released BERT code).
NO_DECAY = ("bias", "LayerNorm", "layer_norm", "layernorm", "gamma", "beta")


@keras.saving.register_keras_serializable("tfft")
class Adam(Accumulates, SumsFirst, ScalesRates, CountsFromFirstStep, UpdatesInOnePass, keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015)."""


@keras.saving.register_keras_serializable("tfft")
class AdamW(Accumulates, SumsFirst, ScalesRates, CountsFromFirstStep, UpdatesInOnePass, keras.optimizers.AdamW):
    """Adam with decay apart from the gradient (Loshchilov & Hutter 2019)."""


def begin_stage(
    optimizer: keras.optimizers.Optimizer,
    schedule: Any,
    variables: Iterable[tf.Variable],
    first_step: int | None = None,
) -> None:
    """From the next step on, `optimizer` follows `schedule` (its step 0 is that one) and trains `variables`.

    What it knows of variables that it trained before stays; those that are new to it begin afresh. The training
    function has to be traced anew afterwards.

    Args:
        first_step: the step that the schedule's step 0 was, where training goes on inside a stage.
    """
    inner = inner_optimizer(optimizer)
    done = int(inner.iterations.numpy()) if first_step is None else first_step
    inner.learning_rate = schedule.starting_at(done)
    for variable in variables:
        inner.first_steps.setdefault(variable.name, done)


def make(
    kind: str,
    learning_rate: Any,
    *,
    weight_decay: float = 0.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    max_grad_norm: float | None = None,
    gradient_accumulation_steps: int = 1,
    batches_per_epoch: int | None = None,
    rate_multipliers: Mapping[str, float] | None = None,
    ema_momentum: float | None = None,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer for fine-tuning.

    Args:
        kind: `adamw` or `adam`.
        learning_rate: a number or a schedule.
        weight_decay: for `adamw`; never on biases and LayerNorm (`NO_DECAY`).
        beta_1, beta_2, epsilon: Adam's.
        max_grad_norm: gradients are scaled down together where their joint norm is larger.
        gradient_accumulation_steps, batches_per_epoch: see `Accumulates`.
        rate_multipliers: name of a variable to what its learning rate is multiplied by; of all variables, or None. See
            `multipliers_by_depth` and `multipliers_by_pattern`.
        ema_momentum: the optimizer also keeps an exponential moving average of every weight, one more copy of them:
            after each step it is ema_momentum * average + (1 - ema_momentum) * weight, about the mean of the last
            1 / (1 - ema_momentum) steps. From 0 to 1; None keeps none. At the end of `fit` Keras puts the averages
            into the model; before that, `models.averages` does.

    Raises:
        ValueError: gradient_accumulation_steps is below 1, or ema_momentum is not from 0 to 1.

    Example:
        Where the gradient is 0, decay is all that a step does: 1 - 0.1 * 0.5. A bias has none.

        >>> optimizer = make("adamw", learning_rate=0.1, weight_decay=0.5)
        >>> kernel, bias = tf.Variable(1.0, name="kernel"), tf.Variable(1.0, name="bias")
        >>> _ = optimizer.apply_gradients([(tf.constant(0.0), kernel), (tf.constant(0.0), bias)])
        >>> round(float(kernel), 4), float(bias)
        (0.95, 1.0)
    """
    shared = {
        "learning_rate": learning_rate,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": epsilon,
        "global_clipnorm": max_grad_norm,
        "jit_compile": False,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "batches_per_epoch": batches_per_epoch,
        "rate_multipliers": rate_multipliers,
    }
    if ema_momentum is not None:
        shared |= {"use_ema": True, "ema_momentum": ema_momentum}
    if kind == "adam":
        return Adam(**shared)
    optimizer = AdamW(weight_decay=weight_decay, **shared)
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer
