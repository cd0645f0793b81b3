"""The learning-rate range test (Smith 2017, section 3.3): a rising rate, a step at each, until the loss diverges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tfft.backend import inner_optimizer, keras, tf
from tfft.data.unread import unread
from tfft.errors import DataError, ModelError
from tfft.rate_curve import RateCurve, Sweep, smooth, suggest
from tfft.rehearsal import rehearsed

# An optimizer that has not stepped after so many batches is not the one that trains.
_MOST_BATCHES_OF_A_STEP = 1024
# More batches than any test needs; it ends itself.
_WITHOUT_END = 10**9


def run(
    model: keras.Model, batches: tf.data.Dataset, sweep: Sweep, advance: Callable[[], None] = lambda: None
) -> RateCurve:
    """Tries the rates of `sweep` on `model`, which then is exactly as it was; see `tfft.lr_find`.

    Args:
        advance: called after every rate.
    """
    if not isinstance(batches, tf.data.Dataset):
        raise DataError(f"batches is of the type {type(batches).__name__}; expected a tf.data.Dataset, as fit takes it")
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ModelError(f"the model is spread over {replicas} devices; expected one, on which the rates are tried")
    rates = sweep.learning_rates()
    trial = _Trial(sweep, rates, advance)
    with rehearsed(model, rates[0]):
        own = unread(batches)
        count = int(own.cardinality())
        if count == 0 or (count == tf.data.UNKNOWN_CARDINALITY and next(iter(own.take(1)), None) is None):
            raise DataError("batches has no batch; expected at least one, of which more are made by repeating them")
        model.fit(own.repeat(), steps_per_epoch=_WITHOUT_END, verbose=0, callbacks=[trial])
    losses = trial.losses
    tried = rates[: len(losses)]
    return RateCurve(
        sweep,
        tuple(tried),
        tuple(losses),
        tuple(smooth(losses, sweep.smoothing)),
        suggest(tried, losses, sweep.smoothing),
        trial.stopped,
    )


class _Trial(keras.callbacks.Callback):
    """Sets each rate for one optimizer step, whose loss it keeps, and ends `fit` where nothing more can be seen.

    Attributes:
        losses: of each step, the mean of its batches where several make one.
        stopped: why it ended.
    """

    def __init__(self, sweep: Sweep, rates: list[float], advance: Callable[[], None]) -> None:
        super().__init__()
        self.sweep, self.rates, self.advance = sweep, rates, advance
        self.losses: list[float] = []
        self.stopped = ""
        self._of_step: list[float] = []
        self._steps, self._scale = 0, 1.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Remembers the loss scale of float16."""
        self._scale = self._loss_scale()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the rate, and has Keras report the batch's own loss, not the mean since the epoch began."""
        self.model.optimizer.learning_rate = self.rates[len(self.losses)]
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss."""
        if "loss" not in (logs or {}):
            raise ModelError("the model's train_step reports no loss; expected 'loss' among what it returns")
        loss = float(logs["loss"])  # type: ignore[index]
        rate = self.rates[len(self.losses)]
        if not math.isfinite(loss):
            self._stop(f"the loss became {loss} at {rate:.1e}")
            return
        if self._has_overflowed():
            return
        self._of_step.append(loss)
        if not self._has_stepped():
            if len(self._of_step) == _MOST_BATCHES_OF_A_STEP:
                raise ModelError(
                    f"the optimizer has made no step in {_MOST_BATCHES_OF_A_STEP:,} batches; expected a model that is "
                    "trained by the optimizer that it was compiled with"
                )
            return
        self.losses.append(float(np.mean(self._of_step)))
        self._of_step = []
        self.advance()
        smoothed = smooth(self.losses, self.sweep.smoothing)
        if self.sweep.diverged(smoothed):
            self._stop(
                f"the loss diverged: smoothed, it was {smoothed[-1]:.4g} at {rate:.1e}, and {min(smoothed):.4g} before"
            )
        elif len(self.losses) == len(self.rates):
            self._stop(f"all {len(self.rates)} rates were tried, and the loss did not diverge")

    def _stop(self, why: str) -> None:
        self.stopped, self.model.stop_training = why, True

    def _has_overflowed(self) -> bool:
        """Whether the batch's gradients were no float16, so that it is left out: its rate is tried on the next one."""
        before, self._scale = self._scale, self._loss_scale()
        return self._scale < before

    def _loss_scale(self) -> float:
        return float(getattr(self.model.optimizer, "loss_scale", 1.0))

    def _has_stepped(self) -> bool:
        """Whether the batch ended an optimizer step, as several do where they are accumulated."""
        before, self._steps = self._steps, int(inner_optimizer(self.model.optimizer).iterations.numpy())
        return self._steps > before
