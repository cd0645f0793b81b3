"""Adam's update in one pass over a weight."""

from __future__ import annotations

from typing import Any

from tfft.backend import tf


class UpdatesInOnePass:
    """Mixed into Keras's Adam or AdamW, right before it: one kernel of TensorFlow's for ten operations of Keras's.

    The arithmetic is Keras's (Kingma & Ba 2015, the end of section 2: epsilon is added after the bias corrections are
    put into the rate). A sparse gradient is made dense, since Adam moves every row of an embedding at every step.
    """

    def update_step(self: Any, gradient: Any, variable: tf.Variable) -> None:
        """As Keras's.

        Raises:
            NotImplementedError: the optimizer was made with `amsgrad`.
        """
        if self.amsgrad:
            raise NotImplementedError("amsgrad is not among what this optimizer does; expected amsgrad=False")
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        place = self._index_dict[self._var_key(variable)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].handle,
            v=self._velocities[place].handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(self.learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.convert_to_tensor(gradient),
        )
