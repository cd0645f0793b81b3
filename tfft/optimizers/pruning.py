"""Weights that become zero as training goes and stay zero: the smallest of every matrix (Zhu & Gupta 2017).

`Pruning` does it inside the optimizer's step, so that it holds wherever a step is taken: several in one call, of
accumulated batches, on several devices, and not where float16 leaves a step out. Moments of Adam go on as if nothing
were pruned; averages of the weights are zero where the weights are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfft.backend import inner_optimizer, tf


@dataclass(frozen=True)
class Sparsities:
    """Optimizer step to the share of weights that are zero after it: equation 1 of Zhu & Gupta (2017).

    Attributes:
        final: the share from step `end` on.
        end: the step, counted from 1, by which that is reached.
        initial: the share after step `begin`.
        begin: the first step, counted from 1, after which anything is pruned.
        frequency: steps from one rise to the next; whatever it is, the last rise is at `end`.

    Example:
        The cubic is steep at first: after half of the steps seven eighths of the way are done.

        >>> sparsities = Sparsities(final=0.8, end=101, begin=1, frequency=50)
        >>> [round(float(sparsities.at(step)), 4) for step in (1, 51, 101)]
        [0.0, 0.7, 0.8]
        >>> [step for step in range(1, 200) if sparsities.is_due(step)]
        [1, 51, 101]
    """

    final: float
    end: int
    initial: float = 0.0
    begin: int = 1
    frequency: int = 100

    def at(self, step: Any) -> tf.Tensor:
        """The share after this step, one of those where it rises; float32."""
        left = (self.end - tf.cast(step, tf.float32)) / max(1, self.end - self.begin)
        return self.final + (self.initial - self.final) * left**3

    def is_due(self, step: Any) -> Any:
        """Whether weights are chosen anew after this step."""
        step = tf.convert_to_tensor(step)
        rises = tf.equal((step - self.begin) % self.frequency, 0) | tf.equal(step, self.end)
        return rises & (step >= self.begin) & (step <= self.end)


def smallest(values: tf.Tensor, count: Any) -> tf.Tensor:
    """Where the `count` values of least magnitude are, of equal ones the first: bool, of the shape of `values`.

    It halves the range of a threshold, which takes a quarter of the time of sorting.

    Example:
        >>> smallest(tf.constant([[0.5, -0.1], [0.1, -3.0]]), 2).numpy().tolist()
        [[False, True], [True, False]]
    """
    magnitudes = tf.reshape(tf.abs(tf.cast(values, tf.float32)), [-1])
    # Numbers that are not negative are in the order of their bits.
    bits = tf.bitcast(magnitudes, tf.int32)

    def halved(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        middle = low + (high - low) // 2
        reaches = tf.math.count_nonzero(bits <= middle, dtype=tf.int32) >= count
        return tf.where(reaches, low, middle + 1), tf.where(reaches, middle, high)

    ends = (tf.constant(0), tf.constant(tf.int32.max))
    _, threshold = tf.while_loop(lambda low, high: low < high, halved, ends)
    below, equal = bits < threshold, tf.equal(bits, threshold)
    left = count - tf.math.count_nonzero(below, dtype=tf.int32)
    found = below | (equal & (tf.cumsum(tf.cast(equal, tf.int32)) <= left))
    return tf.reshape(found, tf.shape(values))


# For matrices of all shapes one trace, which stays a function: dozens of them in line take seconds to be made ready.
@tf.function(
    input_signature=[
        tf.TensorSpec([None, None], tf.float32),
        tf.TensorSpec([None, None], tf.bool),
        tf.TensorSpec([], tf.float32),
        tf.TensorSpec([], tf.bool),
    ],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def _left(values: tf.Tensor, left: tf.Tensor, sparsity: tf.Tensor, is_due: tf.Tensor) -> tf.Tensor:
    """Which of `values` are left: as they were, or chosen anew."""

    def chosen() -> tf.Tensor:
        count = tf.cast(tf.round(sparsity * tf.cast(tf.size(values), tf.float32)), tf.int32)
        return tf.logical_not(smallest(values, count))

    return tf.cond(is_due, chosen, lambda: left)


class Pruning:
    """Has an optimizer of Keras prune some weights after each of its steps, from `start` to `stop`.

    Which weights are left is among the optimizer's variables, so whatever saves those saves it.

    Args:
        optimizer: not of the old kind; one that Keras has wrapped for float16 too. Made within the scope of the model's
            strategy, as this has to be.
        weights: matrices that it trains; each is pruned by itself.
        sparsities: how many of their values are zero after which step.

    Attributes:
        left: of each weight, where it is not pruned; bool, of its shape.

    Example:
        >>> from tfft import optimizers
        >>> optimizer, weight = optimizers.make("adam", 0.1), tf.Variable([[3.0, -1.0], [2.0, -4.0]])
        >>> pruning = Pruning(optimizer, [weight], Sparsities(final=0.5, end=1))
        >>> pruning.start()
        >>> for _ in range(3):
        ...     _ = optimizer.apply_gradients([(tf.ones([2, 2]), weight)])
        >>> weight.numpy().round().tolist()
        [[3.0, 0.0], [0.0, -4.0]]
    """

    def __init__(self, optimizer: Any, weights: Sequence[tf.Variable], sparsities: Sparsities) -> None:
        self.optimizer, self.sparsities = inner_optimizer(optimizer), sparsities
        self.left: list[tf.Variable] = [
            self.optimizer.add_variable(weight.shape, tf.bool, "ones", f"left/{weight.name.removesuffix(':0')}")
            for weight in weights
        ]
        self._places: Mapping[Any, int] = {self.optimizer._var_key(one): place for place, one in enumerate(weights)}
        self._before: Any = None

    def start(self) -> None:
        """From the next trace of the step on; changes nothing where it has begun."""
        if self._before is None:
            self._before = self.optimizer.update_step
            self.optimizer.update_step = self._update_step
            # Keras would go on with the updates that it has compiled, which do not prune.
            self._compiled, self.optimizer.jit_compile = self.optimizer.jit_compile, False

    def stop(self) -> None:
        """The optimizer is as it was, but for the variables; what was traced before goes on."""
        if self._before is not None:
            del self.optimizer.update_step
            self.optimizer.jit_compile = self._compiled
            self._before = None

    def _update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """As the optimizer's, and what is pruned is zero again, whatever moments and decay have made of it."""
        self._before(gradient, variable)
        place = self._places.get(self.optimizer._var_key(variable))
        if place is not None:
            self._prune(variable, self.left[place])

    def _prune(self, variable: tf.Variable, left: tf.Variable) -> None:
        # The step that is being done counts.
        step, before = self.optimizer.iterations + 1, left.read_value()
        is_due, sparsity = self.sparsities.is_due(step), self.sparsities.at(step)
        # Without what this step has made of pruned weights, so that those are the smallest again.
        value = _where(before, variable.read_value())
        chosen = _left(tf.cast(value, tf.float32), before, sparsity, is_due)
        left.assign(chosen)
        variable.assign(_where(chosen, value))
        for average in self._averages_of(variable):
            # It is averaged with the pruned weight later in this step, so that it stays zero.
            average.assign(_where(chosen, average.read_value()))

    def _averages_of(self, variable: tf.Variable) -> list[tf.Variable]:
        optimizer = self.optimizer
        if not optimizer.use_ema:
            return []
        place = optimizer._index_dict[optimizer._var_key(variable)]
        return [optimizer._model_variables_moving_average[place]]


def _where(left: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return tf.where(left, value, tf.zeros_like(value))
