"""The learning rate in the logs."""

from __future__ import annotations

from typing import Any

from tfft.backend import inner_optimizer, keras, tf


def current_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the next step, whether it is a number or follows a schedule."""
    optimizer = inner_optimizer(optimizer)
    # Keras shows a variable that the optimizer updates at the start of a step, so it lags by one step behind this.
    # The legacy optimizers, such as that of transformers.create_optimizer, show the schedule itself.
    schedule = getattr(optimizer, "_learning_rate", optimizer.learning_rate)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return float(schedule(optimizer.iterations))
    return float(tf.convert_to_tensor(optimizer.learning_rate))


class LearningRateLog(keras.callbacks.Callback):
    """Adds `learning_rate` to every epoch's logs: the rate that the next step will have.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> model.fit([[1.0]], [[2.0]], epochs=2, verbose=0, callbacks=[LearningRateLog()]).history["learning_rate"]
        [0.25, 0.25]
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds it."""
        if logs is not None:
            logs["learning_rate"] = current_rate(self.model.optimizer)
