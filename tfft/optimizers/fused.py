"""Adam's update in one pass over a weight."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tfft.backend import compiled_by_xla, tf

# From so many values on a weight is worth a tenth of a second of compiling.
LARGE = 2**20


class _Rates(NamedTuple):
    """What a weight is moved by in one step, scalars of its type.

    Attributes:
        decay: the share of itself that it loses.
        rate: with the corrections of both means' beginning at zero.
    """

    decay: Any
    rate: Any
    beta_1: Any
    beta_2: Any
    epsilon: Any


class UpdatesInOnePass:
    """Mixed into Keras's Adam or AdamW, right before it: one kernel of TensorFlow's for ten operations of Keras's.

    The arithmetic is Keras's (Kingma & Ba 2015, the end of section 2: epsilon is added after the bias corrections are
    put into the rate), and Adam moves every row of an embedding at every step, those without a gradient too. What is
    the same for many weights is computed once a step, not once a weight.

    On a processor, a large embedding is decayed and moved by one compiled pass as if it had no gradient at all, and its
    few rows that have one are put in afterwards: memory is what such a step waits for.
    """

    def apply_gradients(self: Any, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """As Keras's."""
        pairs = list(grads_and_vars)
        few_rows = (self._var_key(variable) for gradient, variable in pairs if _has_few_rows(gradient, variable))
        self._of_step = _OfStep(frozenset(few_rows))
        try:
            return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]
        finally:
            self._of_step = _OfStep()

    def _apply_weight_decay(self: Any, variables: Sequence[tf.Variable]) -> None:
        # The others lose it with their update.
        apart = [variable for variable in variables if self._var_key(variable) not in self._of_step.few_rows]
        super()._apply_weight_decay(apart)  # type: ignore[misc]

    def update_step(self: Any, gradient: Any, variable: tf.Variable) -> None:
        """As Keras's.

        Raises:
            NotImplementedError: the optimizer was made with `amsgrad`.
        """
        if self.amsgrad:
            raise NotImplementedError("amsgrad is not among what this optimizer does; expected amsgrad=False")
        key = self._var_key(variable)
        place = self._index_dict[key]
        mean, square = self._momentums[place], self._velocities[place]
        # By what `CountsFromFirstStep` and `ScalesRates` make of a weight.
        rate, power_1, power_2 = self._of_step.once(
            (variable.dtype, self._steps_before, self._multiplier), lambda: self._numbers(variable.dtype)
        )
        if key in self._of_step.few_rows:
            decay = rate * self.weight_decay if self.weight_decay and self._use_weight_decay(variable) else 0.0
            corrected = rate * tf.sqrt(1 - power_2) / (1 - power_1)
            rates = map(tf.convert_to_tensor, (decay, corrected, self.beta_1, self.beta_2, self.epsilon))
            _move_rows(variable, mean, square, gradient, _Rates(*rates))
            return
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )

    def _numbers(self: Any, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        step = tf.cast(self.iterations + 1, dtype)
        powers = (tf.pow(tf.cast(beta, dtype), step) for beta in (self.beta_1, self.beta_2))
        return tf.cast(self.learning_rate, dtype), *powers


class _OfStep:
    """What was computed in one step, by what it depends on. No dict of the optimizer's, which Keras would track.

    Attributes:
        few_rows: keys of the variables that `_move_rows` moves.
    """

    def __init__(self, few_rows: frozenset[Any] = frozenset()) -> None:
        self.few_rows = few_rows
        self.found: dict[Any, Any] = {}

    def once(self, key: Any, compute: Any) -> Any:
        """What `compute` gave for `key`, the first time in this step."""
        if key not in self.found:
            self.found[key] = compute()
        return self.found[key]


def _has_few_rows(gradient: Any, variable: tf.Variable) -> bool:
    """Whether `variable` is a large embedding on a processor, moved by operations that nothing else compiles."""
    return (
        isinstance(gradient, tf.IndexedSlices)
        and variable.dtype == tf.float32
        and variable.shape.num_elements() >= LARGE
        and "CPU" in variable.device
        # TensorFlow brings no compiler for processors everywhere.
        and sys.platform == "linux"
        and not compiled_by_xla()
    )


def _move_rows(
    variable: tf.Variable, mean: tf.Variable, square: tf.Variable, gradient: tf.IndexedSlices, rates: _Rates
) -> None:
    """Moves all rows, those of `gradient` (each of them once) by it."""
    value_before, mean_before, square_before = (tf.gather(one, gradient.indices) for one in (variable, mean, square))
    # The gradient stays outside: its number of rows is another in every step, and each would be compiled for.
    _move_without_gradient(variable, mean, square, rates)
    moved = _moved(value_before, mean_before, square_before, gradient.values, rates)
    for one, rows in zip((variable, mean, square), moved, strict=True):
        one.scatter_update(tf.IndexedSlices(rows, gradient.indices))


@tf.function(jit_compile=True, autograph=False)
def _move_without_gradient(variable: tf.Variable, mean: tf.Variable, square: tf.Variable, rates: _Rates) -> None:
    moved = _moved(variable, mean, square, 0.0, rates)
    for one, value in zip((variable, mean, square), moved, strict=True):
        one.assign(value)


def _moved(value: Any, mean: Any, square: Any, gradient: Any, rates: _Rates) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One step of AdamW: the new value, and the new means of the gradient and of its square."""
    mean = mean + (gradient - mean) * (1 - rates.beta_1)
    square = square + (gradient * gradient - square) * (1 - rates.beta_2)
    kept = value - value * rates.decay
    return kept - mean * rates.rate / (tf.sqrt(square) + rates.epsilon), mean, square
