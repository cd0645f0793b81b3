"""Step to learning rate, as small pure functions, and the Keras schedule that puts a warmup before them.

Each function takes the step as a tensor or a number, counted from 0 at the end of warmup, and works on both.
"""

from __future__ import annotations

import math
from typing import Any

from tfft.backend import keras, tf


def polynomial(step: Any, peak: float, end: float, decay_steps: int, power: float) -> Any:
    """(peak - end) * (1 - step / decay_steps) ** power + end: Keras's PolynomialDecay, linear with power 1."""
    left = 1.0 - tf.minimum(step / decay_steps, 1.0)
    return (peak - end) * left**power + end


def cosine(step: Any, peak: float, decay_steps: int) -> Any:
    """Half a cosine from `peak` to 0 (Loshchilov & Hutter 2017, without restarts)."""
    return peak * 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(step / decay_steps, 1.0)))


def constant(step: Any, peak: float) -> Any:
    """`peak` at every step."""
    return peak * tf.ones_like(step)


def inverse_sqrt(step: Any, peak: float, timescale: int) -> Any:
    """peak * sqrt(timescale / (step + timescale)) (Vaswani et al. 2017, section 5.3, with the peak given)."""
    return peak * tf.sqrt(timescale / (step + timescale))


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warmup from 0, then a decay: rate(warmup_steps) == peak, rate(total_steps) == end.

    Args:
        kind: `polynomial`, `linear`, `cosine`, `constant` or `inverse_sqrt`.
        peak: the rate after warmup.
        total_steps: optimizer steps of the whole training, warmup included.
        warmup_steps: steps of the warmup. The first step's rate is peak / warmup_steps * 0 == 0, as in Trainer.
        end: the rate at `total_steps`, for `polynomial` and `linear`.
        power: of the polynomial.
        first_step: the step that counts as 0.

    Example:
        Two steps up to 1.0, then eight down to 0.2 by a parabola: halfway, 0.8 * 0.5 ** 2 + 0.2.

        >>> rate = Schedule("polynomial", peak=1.0, total_steps=10, warmup_steps=2, end=0.2, power=2.0)
        >>> [round(float(rate(step)), 4) for step in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.4, 0.2]
    """

    def __init__(
        self,
        kind: str,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        end: float = 0.0,
        power: float = 1.0,
        first_step: int = 0,
    ) -> None:
        super().__init__()
        self.kind, self.peak, self.end, self.power = kind, peak, end, power
        self.total_steps, self.warmup_steps, self.first_step = total_steps, warmup_steps, first_step

    def starting_at(self, step: int) -> Schedule:
        """The same schedule, begun at `step`."""
        return Schedule(**{**self.get_config(), "first_step": step})

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step - self.first_step, tf.float32)
        after = tf.maximum(step - self.warmup_steps, 0.0)
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        decayed = {
            "polynomial": lambda: polynomial(after, self.peak, self.end, decay_steps, self.power),
            "linear": lambda: polynomial(after, self.peak, self.end, decay_steps, 1.0),
            "cosine": lambda: cosine(after, self.peak, decay_steps),
            "constant": lambda: constant(after, self.peak),
            # Trainer's time scale: the warmup's length, or 10,000 where there is no warmup.
            "inverse_sqrt": lambda: inverse_sqrt(after, self.peak, self.warmup_steps or 10_000),
        }[self.kind]()
        if not self.warmup_steps:
            return decayed
        return tf.where(step < self.warmup_steps, self.peak * step / self.warmup_steps, decayed)

    def get_config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "end": self.end,
            "power": self.power,
            "first_step": self.first_step,
        }


def linear_decay(peak: float, total_steps: int, warmup_steps: int = 0, end: float = 0.0) -> Schedule:
    """A linear warmup, then a straight line from `peak` to `end`.

    Example:
        >>> rate = linear_decay(peak=1.0, total_steps=10, warmup_steps=2)
        >>> [float(rate(step)) for step in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    return Schedule("linear", peak, total_steps, warmup_steps, end)


def warmup_steps_from(ratio: float | None, steps: int | None, total_steps: int) -> int:
    """The warmup's length from whichever of the two is given; a share is rounded up, as Trainer does."""
    if steps is not None:
        return min(steps, total_steps)
    return math.ceil((ratio or 0.0) * total_steps)


def make_schedule(
    kind: str,
    peak: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    end: float | None = None,
    power: float | None = None,
) -> Schedule:
    """A `Schedule` from recipe values, where None means the usual: `end` 0, `power` 1.

    Example:
        >>> rate = make_schedule("cosine", peak=1.0, total_steps=4)
        >>> [round(float(rate(step)), 4) for step in range(5)]
        [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """
    return Schedule(kind, peak, total_steps, warmup_steps, 0.0 if end is None else end, 1.0 if power is None else power)
