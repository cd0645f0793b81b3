"""Step to learning rate, and the optimizers that use it.

- `schedules`: warmup and decay, as Keras schedules
- `adamw`: Adam and AdamW, made by `make` with all that follows
- `accumulation`: several batches make one step
- `rates`: a learning rate for every part of a model
- `pruning`: weights that become zero as training goes

Example:
    >>> from tfft import optimizers
    >>> optimizer = optimizers.make("adamw", optimizers.linear_decay(5e-5, total_steps=1000), weight_decay=0.01)
    >>> round(float(optimizer.learning_rate), 7)  # a Keras optimizer, for any model's compile
    5e-05
"""

from __future__ import annotations

from tfft.optimizers.accumulation import batches_of_steps, steps_of_batches, steps_per_epoch
from tfft.optimizers.adamw import NO_DECAY, begin_stage, make
from tfft.optimizers.rates import multipliers_by_depth, multipliers_by_pattern
from tfft.optimizers.schedules import Schedule, linear_decay, make_schedule, warmup_steps_from

__all__ = [
    "NO_DECAY",
    "Schedule",
    "batches_of_steps",
    "begin_stage",
    "linear_decay",
    "make",
    "make_schedule",
    "multipliers_by_depth",
    "multipliers_by_pattern",
    "steps_of_batches",
    "steps_per_epoch",
    "warmup_steps_from",
]
