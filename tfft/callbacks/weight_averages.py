"""Moving averages of the weights, with any optimizer of Keras: scored, saved, and left in the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from tfft.backend import inner_optimizer, keras
from tfft.callbacks.leads import Leads
from tfft.errors import RunError
from tfft.models import averages


class WeightAverages(Leads):
    """Has the optimizer keep a moving average of every weight, and uses those averages for all but training.

    Keras's own validation (`validation_data`) and `ValidationScores` see the averages, training goes on with the
    weights themselves, and after `fit` the averages are what the model has. The optimizer keeps them, in the training
    step: after each of its steps average = momentum * average + (1 - momentum) * weight, see `models.averages`.

    It goes before `ExactCheckpoint`, which saves weights and averages both.

    Args:
        momentum: from 0 to 1; about the mean of the last 1 / (1 - momentum) steps.
        followers: callbacks that are to see the averages at the ends of epochs, since they keep weights: Keras's
            ModelCheckpoint, or EarlyStopping with `restore_best_weights`. They are given here and not to `fit`.

    Raises:
        ValueError: the momentum is not from 0 to 1.
        RunError: in `fit`, where the optimizer is one of Keras's old kind, or was built without averages.

    Example:
        The first step goes from 4 to 3, by the rate and the gradient; the average is 0.75 * 4 + 0.25 * 3.

        >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer=lambda *_, **__: [[4.0]], input_shape=(1,))
        >>> model = keras.Sequential([layer])
        >>> model.compile(keras.optimizers.SGD(0.5), loss=lambda label, output: output)
        >>> history = model.fit([[2.0]], [[0.0]], verbose=0, validation_data=([[2.0]], [[0.0]]),
        ...     callbacks=[WeightAverages(0.75)])
        >>> history.history["val_loss"], model.get_weights()[0].tolist()
        ([7.5], [[3.75]])
    """

    def __init__(self, momentum: float = 0.999, followers: Sequence[keras.callbacks.Callback] = ()) -> None:
        super().__init__(followers)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}; expected a number from 0 to 1")
        self.momentum = momentum
        self._averaged = ExitStack()

    def set_model(self, model: keras.Model) -> None:
        """As Keras's; from here on the optimizer keeps averages."""
        super().set_model(model)
        optimizer = inner_optimizer(model.optimizer)
        if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(
            optimizer, keras.optimizers.legacy.Optimizer
        ):
            raise RunError(
                f"the optimizer is {type(optimizer).__name__} of Keras's old kind, which keeps no averages; expected "
                "one of keras.optimizers or tfft.optimizers.make"
            )
        if getattr(optimizer, "_built", False) and not optimizer.use_ema:
            raise RunError(
                "the optimizer was built without averages; call model.compile with a new one before this fit, or make "
                "it with use_ema=True"
            )
        optimizer.use_ema, optimizer.ema_momentum = True, self.momentum

    # --- Keras's own validation ---------------------------------------------------------------------------------------

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the averages into the model."""
        self._averaged.enter_context(averages.averaged(self.model))

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes them out again."""
        self._averaged.close()

    # --- Those that keep weights --------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Tells the followers."""
        # What an evaluation that broke off has left is none of this training.
        self._averaged = ExitStack()
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the followers the averages."""
        if self.followers:
            with averages.averaged(self.model):
                for one in self.followers:
                    one.on_epoch_end(epoch, logs)
