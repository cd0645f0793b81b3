"""Adam's update in one pass over a weight."""

from __future__ import annotations

from typing import Any

from tfft.backend import tf


class UpdatesInOnePass:
    """Mixed into Keras's Adam or AdamW, right before it: one kernel of TensorFlow's for ten operations of Keras's.

    The arithmetic is Keras's (Kingma & Ba 2015, the end of section 2: epsilon is added after the bias corrections are
    put into the rate). A sparse gradient is made dense, since Adam moves every row of an embedding at every step. What
    is the same for many weights is computed once a step, not once a weight.
    """

    def apply_gradients(self: Any, *args: Any, **kwargs: Any) -> Any:
        """As Keras's."""
        self._of_step = _OfStep()
        try:
            return super().apply_gradients(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._of_step = _OfStep()

    def update_step(self: Any, gradient: Any, variable: tf.Variable) -> None:
        """As Keras's.

        Raises:
            NotImplementedError: the optimizer was made with `amsgrad`.
        """
        if self.amsgrad:
            raise NotImplementedError("amsgrad is not among what this optimizer does; expected amsgrad=False")
        place = self._index_dict[self._var_key(variable)]
        # By what `CountsFromFirstStep` and `ScalesRates` make of a weight.
        rate, power_1, power_2 = self._of_step.once(
            (variable.dtype, self._steps_before, self._multiplier), lambda: self._numbers(variable.dtype)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].handle,
            v=self._velocities[place].handle,
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
    """What was computed in one step, by what it depends on. No dict of the optimizer's, which Keras would track."""

    def __init__(self) -> None:
        self.found: dict[Any, Any] = {}

    def once(self, key: Any, compute: Any) -> Any:
        """What `compute` gave for `key`, the first time in this step."""
        if key not in self.found:
            self.found[key] = compute()
        return self.found[key]
