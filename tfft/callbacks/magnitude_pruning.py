"""More and more of the smallest weights become zero while the others are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfft.backend import inner_optimizer, keras, tf
from tfft.callbacks.leads import Leads
from tfft.errors import ModelError, RunError
from tfft.models.parts import part_of
from tfft.optimizers.pruning import Pruning, Sparsities


def is_kernel_of_layer(name: str) -> bool:
    """Whether a weight of this name is the kernel of a dense layer inside a layer of the encoder."""
    return name.removesuffix(":0").endswith("/kernel") and part_of(name).startswith("layer.")


def pruned_weights(model: keras.Model, prunes: Callable[[str], bool] = is_kernel_of_layer) -> list[tf.Variable]:
    """The trained matrices of `model` whose names pass.

    Raises:
        ModelError: there are none, or the model's parts are not known.
    """
    found = [one for one in model.trainable_weights if one.shape.rank == 2 and prunes(one.name)]
    if not found:
        raise ModelError(
            "no trained matrix of this model is to be pruned; expected kernels of dense layers inside the encoder's "
            "layers, or others that `prunes` names"
        )
    return found


class MagnitudePruning(keras.callbacks.Callback):
    """Prunes a model while it is trained: of each matrix the weights of least magnitude (Zhu & Gupta 2017, section 3).

    After every `frequency` steps from `begin_step` to `end_step` the smallest weights of each matrix are chosen anew,
    as many as equation 1 of the paper says, and after every step those are zero (see `optimizers.pruning`), to the end
    and in what is saved. Matrices keep their shapes: a file is smaller when it is packed, and nothing computes faster
    that does not know of zeros. It is the optimizer that prunes, so that no callback's place matters but that of
    `ExactCheckpoint`: it goes after this one, and saves what is pruned with the optimizer.

    Args:
        sparsity: the share of each matrix that is zero at the end, above 0 and below 1; rounded to whole weights.
        end_step: the optimizer step by which that is so. The steps after it are for the others to make up for it.
        initial_sparsity: the share with which it begins.
        begin_step: the first step after which anything is pruned, counted from 1.
        frequency: steps from one choice to the next.
        prunes: which names of weights are pruned; None is the kernels of the dense layers inside the encoder's layers,
            of the models that `models.parts` knows: neither embeddings nor layer normalisation, biases, pooler, head.

    Attributes:
        weights: that are pruned.

    Raises:
        ValueError: a share or a step makes no sense.
        RunError: in `fit`, where the optimizer is one of Keras's old kind, or the model is not built.
        ModelError: in `fit`, where nothing is to be pruned, or the model's parts are not known.

    Example:
        >>> layer = keras.layers.Dense(2, input_shape=(8,))
        >>> model = keras.Sequential([layer])
        >>> model.compile("adam", "mse")
        >>> rows = tf.random.stateless_normal([32, 8], [1, 2])
        >>> pruning = MagnitudePruning(0.75, end_step=6, frequency=2, prunes=lambda name: "kernel" in name)
        >>> history = model.fit(rows, rows[:, :2], batch_size=8, epochs=3, verbose=0, callbacks=[pruning])
        >>> [round(share, 2) for share in history.history["sparsity"]], int(np.count_nonzero(layer.kernel))
        ([0.56, 0.75, 0.75], 4)
    """

    def __init__(
        self,
        sparsity: float,
        end_step: int,
        *,
        initial_sparsity: float = 0.0,
        begin_step: int = 1,
        frequency: int = 100,
        prunes: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < sparsity < 1 or not 0 <= initial_sparsity <= sparsity:
            raise ValueError(
                f"sparsity is {sparsity} and initial_sparsity {initial_sparsity}; expected a share above 0 and below "
                "1, and one from 0 to that"
            )
        if not 1 <= begin_step <= end_step or frequency < 1:
            raise ValueError(
                f"begin_step is {begin_step}, end_step {end_step} and frequency {frequency}; expected numbers from 1, "
                "and an end that is not before the beginning"
            )
        self.sparsities = Sparsities(sparsity, end_step, initial_sparsity, begin_step, frequency)
        self.prunes = prunes or is_kernel_of_layer
        self.weights: list[tf.Variable] = []
        self._pruning: Pruning | None = None

    @property
    def is_done(self) -> bool:
        """Whether all is pruned that is to be."""
        return int(self.model.optimizer.iterations.numpy()) >= self.sparsities.end

    @property
    def sparsity(self) -> float:
        """The share of the weights of all pruned matrices that are zero now."""
        return self.zeros / sum(weight.shape.num_elements() for weight in self.weights)

    @property
    def zeros(self) -> int:
        """How many weights of the pruned matrices are zero now."""
        return sum(weight.shape.num_elements() - int(np.count_nonzero(weight.numpy())) for weight in self.weights)

    def once_done(self, *followers: keras.callbacks.Callback) -> keras.callbacks.Callback:
        """A callback for `fit` that tells others of the ends of those epochs only by which all is pruned.

        For those that look for the best epoch (EarlyStopping, ModelCheckpoint), which before would be one with more
        weights.
        """
        return _OnceDone(self, followers)

    def set_model(self, model: keras.Model) -> None:
        """As Keras's; from here on the optimizer prunes."""
        super().set_model(model)
        optimizer = inner_optimizer(model.optimizer)
        if self._pruning is None or self._pruning.optimizer is not optimizer:
            self.weights = self._found(model, optimizer)
            with model.distribute_strategy.scope():
                self._pruning = Pruning(optimizer, self.weights, self.sparsities)
        self._pruning.start()
        model.train_function = None  # what was traced does not prune

    def _found(self, model: keras.Model, optimizer: Any) -> list[tf.Variable]:
        if not isinstance(optimizer, keras.optimizers.Optimizer) or isinstance(
            optimizer, keras.optimizers.legacy.Optimizer
        ):
            raise RunError(
                f"the optimizer is {type(optimizer).__name__} of Keras's old kind, which has no place for pruning; "
                "expected one of keras.optimizers or tfft.optimizers.make"
            )
        if not model.built:
            raise RunError("the model has no weights before its first batch; call model.build(input_shape) before fit")
        return pruned_weights(model, self.prunes)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds `sparsity` to the epoch's logs."""
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """The optimizer prunes no more; with this callback, the next `fit` goes on where this one was."""
        assert self._pruning is not None
        self._pruning.stop()
        self.model.train_function = None


class _OnceDone(Leads):
    def __init__(self, pruning: MagnitudePruning, followers: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__(followers)
        self.pruning = pruning

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.pruning.is_done:
            for one in self.followers:
                one.on_epoch_end(epoch, logs)
