"""The whole state of a training on disk, and `fit` going on from it as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfft import states
from tfft.backend import inner_optimizer, keras, tf
from tfft.callbacks.executions import Executions
from tfft.errors import RunError
from tfft.models.dropout import draw_from_state
from tfft.states import State

# How the tensors are named that are not variables of model and optimizer.
_METRICS, _BEST = "metrics/", "best_weights/"
# Keras's own count of batches.
_STEPS = "steps"
# What Keras's own callbacks know beside their arguments.
_KERAS_STATE: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "epochs_since_last_save"),
}


class ExactCheckpoint(keras.callbacks.Callback):
    """Saves all that a training depends on, and has `fit` go on from what it finds saved.

    That is: weights, the optimizer's slots and steps, its loss scale, the masks of dropout, the metrics of the epoch so
    far, the place within it, the history, and what other callbacks remember. It is saved at every epoch's end and, if
    asked for, every few optimizer steps.

    It goes last, so that the others have seen what it saves. The batches are the caller's: those from `batches_done`
    on, of a stream without end whose order is the same every time (`data.batches.bucketed`, or any with a seed).

    Args:
        folder: where states are and will be; the newest two are kept, see `states`.
        save_steps: optimizer steps between two states within an epoch; None saves at the ends of epochs alone.
        callbacks: others whose state belongs to that of the training: Keras's EarlyStopping, ReduceLROnPlateau and
            ModelCheckpoint, and all that have `get_state` and `set_state`.
        weights: of the model that are saved; None is all. Those that never change need not be.
        resume: whether to go on from the newest state in `folder`, or from which.
        more: called whenever a state is saved; the facts that it gives come back in `found.facts["more"]`.
        asked_to_stop: called after every batch and epoch; where it gives an exception, a state is saved, and `fit` ends
            with it.
        save_first: also save the state before the first batch.
        writes: whether states go to the disk; where several processes train together, one writes, and all others have
            this callback as well, since what is spread over them is read by all at once.
        spared: called before a state is written; which older ones' folders are to stay beside the newest two.

    Attributes:
        found: the state that training goes on from; None where there is none.
        damaged: sentences about states that could not be read.
        batches_done: in all epochs so far.
        history: one dict an epoch: `epoch`, counted from 1, and the epoch's logs.
        goes_on: whether the next `fit` begins where the found state ends; the first one does.

    Raises:
        RunError: in `fit`, where the state is that of another model or optimizer.

    Example:
        Two epochs, and a third by another process.

        >>> import tempfile
        >>> def train(folder: str, epochs: int) -> list[dict[str, float]]:
        ...     keras.utils.set_random_seed(1)
        ...     layers = [keras.layers.Dropout(0.5, input_shape=(3,)), keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers)
        ...     model.compile(keras.optimizers.Adam(0.1), loss="mse")
        ...     rows = tf.data.Dataset.range(12).map(lambda i: (tf.fill([4, 3], i % 5), tf.ones([4, 1]))).repeat()
        ...     keeper = ExactCheckpoint(folder)
        ...     rows = rows.skip(keeper.batches_done)
        ...     model.fit(rows, epochs=epochs, steps_per_epoch=12, verbose=0, callbacks=[keeper])
        ...     return keeper.history
        >>> with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        ...     whole = train(folder, epochs=3)
        ...     first_two = train(other, epochs=2)
        ...     train(other, epochs=3) == whole
        True
    """

    def __init__(
        self,
        folder: Path | str,
        save_steps: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        *,
        weights: Iterable[tf.Variable] | None = None,
        resume: bool | State = True,
        more: Callable[[], Mapping[str, Any]] = dict,
        asked_to_stop: Callable[[], BaseException | None] = lambda: None,
        save_first: bool = False,
        writes: bool = True,
        spared: Callable[[], Container[Path]] = tuple,
    ) -> None:
        super().__init__()
        self.folder, self.save_steps, self.callbacks = Path(folder), save_steps, list(callbacks)
        self.weights = None if weights is None else list(weights)
        self.more, self.asked_to_stop, self.save_first, self.writes = more, asked_to_stop, save_first, writes
        self.spared = spared
        self.damaged: list[str] = []
        self.found = resume if isinstance(resume, State) else None
        if resume is True:
            self.found, self.damaged = states.newest(self.folder)
        facts = self.found.facts if self.found else {}
        self.batches_done: int = facts.get("batches_done", 0)
        self.history: list[dict[str, float]] = facts.get("history", [])
        self._epoch, self._batch = facts.get("epoch", 0), facts.get("batch", 0)
        self._steps_saved = 0
        self._executions = Executions()
        # Parts of `found` that are put back when Keras comes to where they belong.
        self._of_metrics: list[np.ndarray] = []
        self.goes_on = self.found is not None
        self._is_back = False

    # --- What is saved ------------------------------------------------------------------------------------------------

    def save(self) -> Path | None:
        """Saves the state as it is between two batches; returns the folder that has it, where it `writes`."""
        optimizer = self.model.optimizer
        facts = {
            "epoch": self._epoch,
            "batch": self._batch,
            "batches_done": self.batches_done,
            "history": self.history,
            "finished": bool(self.model.stop_training) or self._epoch >= self.params.get("epochs", self._epoch + 1),
            "callbacks": [[type(one).__name__, _state_of(one)] for one in self.callbacks],
            "more": dict(self.more()),
        }
        steps = int(optimizer.iterations.numpy())
        tensors: dict[str, Any] = dict(self._variables())
        if self._batch:
            # Sums over all replicas, so their reading is computed; once, by all processes in the same order.
            tensors |= {f"{_METRICS}{index}": one.numpy() for index, one in enumerate(self._metric_variables())}
        for index, one in enumerate(self.callbacks):
            best = getattr(one, "best_weights", None) or []
            tensors |= {f"{_BEST}{index}/{place}": np.asarray(value) for place, value in enumerate(best)}
        self._steps_saved = steps
        if not self.writes:
            return None
        return states.write(self.folder, steps, tensors, facts, self.spared())

    def _variables(self) -> dict[str, tf.Variable]:
        optimizer = self.model.optimizer
        named = {
            "model": self.model.weights if self.weights is None else self.weights,
            "optimizer": _variables_of(optimizer),
            "dropout": [self._masks.variable],
            _STEPS: [self.model._train_counter],
        }
        return {
            # Not by their names, in which Keras counts the models that a process has made.
            f"{of}/{index:04d}": variable
            for of, variables in named.items()
            for index, variable in enumerate(variables)
        }

    def _metric_variables(self) -> list[tf.Variable]:
        # Before the first batch Keras does not tell of the loss's own metric yet.
        metrics = self.model.metrics or [getattr(self.model.compiled_loss, "_loss_metric", None)]
        return [variable for metric in metrics if metric is not None for variable in metric.variables]

    # --- How it comes back --------------------------------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        """As Keras's; the model's masks are drawn from a state that can be saved from here on."""
        super().set_model(model)
        if self.weights is None and model.built:
            # Their order changes where some are frozen for a while.
            self.weights = list(model.weights)
        self._masks = draw_from_state(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the state back that was found, the first time."""
        if self.goes_on:
            assert self.found is not None
            if not self._is_back:
                self.put_back()
            # Keras has just set it to nothing.
            self.model._train_counter.assign(self.found.tensor(f"{_STEPS}/0000"))
            # Where Keras asks at which epoch and batch to begin.
            self.model._training_state = _Beginning(self._epoch, self._batch)
        elif self.save_first and not self.batches_done:
            self.model.optimizer.build(self.model.trainable_variables)
            self.save()
        self._steps_saved = int(self.model.optimizer.iterations.numpy())

    def put_back(self) -> None:
        """Gives the model and its optimizer the state that was found, as `fit` does by itself when it begins."""
        found = self.found
        assert found is not None
        if not self.model.built:
            raise RunError("the model has no weights before its first batch; call model.build(input_shape) before fit")
        inner = inner_optimizer(self.model.optimizer)
        # The legacy optimizers have another name for it.
        make_slots = inner._create_all_weights if hasattr(inner, "_create_all_weights") else inner.build
        make_slots(self.model.trainable_variables)
        variables = self._variables()
        kept = {name: shape for name, shape in found.shapes.items() if not name.startswith((_METRICS, _BEST))}
        if wrong := _difference(variables, kept):
            raise RunError(f"{found.folder} is the state of another model or optimizer: {wrong}")
        for name, variable in variables.items():
            variable.assign(found.tensor(name))
        self._of_metrics = _in_order(found, _METRICS)
        self._is_back = True

    def put_back_callbacks(self, count: int | None = None) -> None:
        """Gives the other callbacks, or the first `count` of them, what they knew in the state that was found."""
        assert self.found is not None
        saved = self.found.facts["callbacks"]
        for index, (one, (kind, state)) in enumerate(zip(self.callbacks[:count], saved, strict=False)):
            if type(one).__name__ == kind:
                _set_state(one, state)
                if best := _in_order(self.found, f"{_BEST}{index}/"):
                    one.best_weights = best

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts back what Keras has just set to nothing: metrics, and what the other callbacks remember."""
        self._epoch = epoch
        if not self.goes_on:
            return
        self.goes_on = False
        self.model._training_state = None
        self.put_back_callbacks()
        variables = self._metric_variables()
        if self._of_metrics and len(variables) == len(self._of_metrics):
            for variable, value in zip(variables, self._of_metrics, strict=True):
                variable.assign(value)
            self._of_metrics = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers which batch an execution begins with."""
        self._executions.begun(batch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and saves where it is time."""
        self.batches_done += self._executions.ended(batch)
        self._batch = batch + 1
        if self._of_metrics:
            # Metrics that Keras made with the first batch: they are sums all, so what was there before is added.
            for variable, value in zip(self._metric_variables(), self._of_metrics, strict=True):
                # Not by `assign_add`, which a sum over replicas does not have outside of them.
                variable.assign(variable.numpy() + value)
            self._of_metrics = []
        # The epoch's end saves too, and from its last batch no training can go on before it.
        if self.model.stop_training or self._batch == self.params.get("steps"):
            return
        asked = self.asked_to_stop()
        is_due = self.save_steps and int(self.model.optimizer.iterations.numpy()) - self._steps_saved >= self.save_steps
        if asked or is_due:
            self.save()
            if asked:
                raise asked

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves."""
        self.history.append({"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}})
        self._epoch, self._batch = epoch + 1, 0
        self.save()
        if asked := self.asked_to_stop():
            raise asked

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Nothing of this training is for the next call of `fit`."""
        self.model._training_state = None


class _Beginning:
    """What `fit` asks for the epoch and the batch to begin with."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch

    def maybe_load_initial_counters_from_ckpt(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        return self.epoch, self.batch


def _variables_of(optimizer: Any) -> list[tf.Variable]:
    """All that it changes, the loss scale of float16 included."""
    scale = getattr(optimizer, "_loss_scale", None)
    # A plain number where it is fixed.
    of_scale = [] if scale is None or isinstance(scale, float) else [scale._current_loss_scale, scale._counter]
    # A method of the legacy optimizers.
    variables = optimizer.variables
    return [*(variables() if callable(variables) else variables), *of_scale]


def _in_order(found: State, prefix: str) -> list[np.ndarray]:
    """The tensors whose names are the prefix and a number, by their number."""
    names = [name for name in found.shapes if name.startswith(prefix)]
    return [found.tensor(name) for name in sorted(names, key=lambda name: int(name.removeprefix(prefix)))]


def _state_of(callback: Any) -> dict[str, Any]:
    if hasattr(callback, "get_state"):
        state: dict[str, Any] = callback.get_state()
        return state
    return {name: _plain(getattr(callback, name)) for name in _names_of(callback) if hasattr(callback, name)}


def _set_state(callback: Any, state: Mapping[str, Any]) -> None:
    if hasattr(callback, "set_state"):
        callback.set_state(state)
    else:
        for name, value in state.items():
            setattr(callback, name, value)


def _names_of(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _KERAS_STATE.items() if isinstance(callback, kind)), ())


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def _difference(variables: Mapping[str, tf.Variable], kept: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first thing that keeps tensors of these shapes from being the values of `variables`."""
    for name, variable in variables.items():
        if name not in kept:
            return f"it has no {name} ({variable.name})"
        if kept[name] != tuple(variable.shape):
            return f"its {name} has the shape {kept[name]}, and {variable.name} has {tuple(variable.shape)}"
    unknown = [name for name in kept if name not in variables]
    return f"it has {unknown[0]}, which is not here" if unknown else None
