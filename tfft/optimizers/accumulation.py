"""Several batches make one optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tfft.backend import tf
from tfft.optimizers.sparse import summed


class Accumulates:
    """Mixed into a Keras optimizer, before it: applies the mean gradient of `gradient_accumulation_steps` batches.

    Everything that belongs to a step happens once a window: clipping, weight decay, moments, and `iterations`, so a
    schedule counts optimizer steps. With `batches_per_epoch` the window that an epoch's end cuts short is applied as
    well, as the mean over the batches it has.

    The mean is over batches. Where they differ in their rows, `data.batches` weighs the rows so that it is the mean
    over rows. It takes one more float32 copy of the trained weights. Under float16, a batch whose gradients overflow
    is left out: its window is the mean of the others, and where it was the window's last, they wait for the next one.

    Example:
        Two half batches are one whole batch: nothing happens at the first, and the step is 0.5 times their mean
        gradient, 2.

        >>> from tfft.backend import keras
        >>> class AccumulatingSGD(Accumulates, keras.optimizers.SGD): ...
        >>> optimizer = AccumulatingSGD(learning_rate=0.5, gradient_accumulation_steps=2)
        >>> weight = tf.Variable(0.0)
        >>> for gradient in (1.0, 3.0):
        ...     steps = optimizer.apply_gradients([(tf.constant(gradient), weight)])
        ...     print(int(steps), float(weight))
        0 0.0
        1 -1.0
    """

    def __init__(
        self, *args: Any, gradient_accumulation_steps: int = 1, batches_per_epoch: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if gradient_accumulation_steps < 1:
            raise ValueError(f"gradient_accumulation_steps is {gradient_accumulation_steps}; expected at least 1")
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.batches_per_epoch = batches_per_epoch
        self._gradient_sums: list[tf.Variable] = []

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """As Keras's, and the sums."""
        super().build(var_list)  # type: ignore[misc]
        if self.gradient_accumulation_steps == 1 or self._gradient_sums:
            return
        # Batches seen, those among them that are in the sums, and steps done.
        self._batches, self._summed, self._steps = (
            self.add_variable([], tf.int64, name=name)  # type: ignore[attr-defined]
            for name in ("batches", "summed", "steps")
        )
        self._gradient_sums = [
            self.add_variable_from_reference(variable, "gradient_sum")  # type: ignore[attr-defined]
            for variable in var_list
        ]

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Adds the gradients up; at a window's end, as Keras's with their mean."""
        given = list(grads_and_vars)
        pairs = [(gradient, variable) for gradient, variable in given if gradient is not None]
        if self.gradient_accumulation_steps == 1 or not pairs:
            return super().apply_gradients(given, *args, **kwargs)  # type: ignore[misc]
        with tf.init_scope():
            self.build([variable for _, variable in given])
        # Keras's LossScaleOptimizer calls nobody for a batch that overflowed, but counts it as a step.
        self._batches.assign_add(self.iterations - self._steps)  # type: ignore[attr-defined]
        self.iterations.assign(self._steps)  # type: ignore[attr-defined]
        self._summed.assign_add(1)
        sums = [self._sum_of(variable) for _, variable in pairs]
        for (gradient, _), total in zip(pairs, sums, strict=True):
            if isinstance(gradient, tf.IndexedSlices):
                # Every row once: threads would add the parts of one row in any order.
                total.scatter_add(summed(gradient))
            else:
                total.assign_add(gradient)
        place = self._batches if self.batches_per_epoch is None else self._batches % self.batches_per_epoch
        count = place % self.gradient_accumulation_steps + 1
        is_end = tf.equal(count, self.gradient_accumulation_steps)
        if self.batches_per_epoch is not None:
            is_end = tf.logical_or(is_end, tf.equal(place + 1, self.batches_per_epoch))

        def step() -> tf.Tensor:
            means = [total / tf.cast(self._summed, total.dtype) for total in sums]
            variables = [variable for _, variable in pairs]
            super(Accumulates, self).apply_gradients(zip(means, variables, strict=True), *args, **kwargs)  # type: ignore[misc]
            for total in sums:
                total.assign(tf.zeros_like(total))
            self._summed.assign(0)
            self._steps.assign_add(1)
            return tf.constant(True)

        tf.cond(is_end, step, lambda: tf.constant(False))
        self._batches.assign_add(1)
        return self.iterations  # type: ignore[attr-defined]

    def _sum_of(self, variable: tf.Variable) -> tf.Variable:
        return self._gradient_sums[self._index_dict[self._var_key(variable)]]  # type: ignore[attr-defined]

    def get_config(self) -> dict[str, Any]:
        """As Keras's, and the windows."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return {
            **config,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "batches_per_epoch": self.batches_per_epoch,
        }


def steps_per_epoch(batches_per_epoch: int, gradient_accumulation_steps: int) -> int:
    """Optimizer steps of an epoch; the last may have fewer batches than the others."""
    return -(-batches_per_epoch // gradient_accumulation_steps)


def batches_of_steps(steps: int, batches_per_epoch: int, gradient_accumulation_steps: int) -> int:
    """Batches that make the first `steps` optimizer steps, where an epoch's end ends a window too.

    Example:
        Five batches an epoch by twos are three steps: 2 + 2 + 1.

        >>> [batches_of_steps(steps, 5, 2) for steps in (1, 2, 3, 4, 6)]
        [2, 4, 5, 7, 10]
    """
    epochs, rest = divmod(steps, steps_per_epoch(batches_per_epoch, gradient_accumulation_steps))
    return epochs * batches_per_epoch + min(rest * gradient_accumulation_steps, batches_per_epoch)


def steps_of_batches(batches: int, batches_per_epoch: int, gradient_accumulation_steps: int) -> int:
    """Optimizer steps that the first `batches` batches make or have begun: `batches_of_steps` the other way round.

    Example:
        >>> [steps_of_batches(batches, 5, 2) for batches in (1, 2, 3, 4, 5, 6)]
        [1, 1, 2, 2, 3, 4]
    """
    epochs, rest = divmod(batches, batches_per_epoch)
    whole = epochs * steps_per_epoch(batches_per_epoch, gradient_accumulation_steps)
    return whole + steps_per_epoch(rest, gradient_accumulation_steps)
