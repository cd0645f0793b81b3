"""The head first, and more of the model from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfft.backend import inner_optimizer, keras
from tfft.errors import RunError
from tfft.models import freeze

# What a stage trains: see `freeze.trained_names`; or which names of weights pass.
Unfreeze = int | str | Sequence[str] | Callable[[str], bool]


class GradualUnfreezing(keras.callbacks.Callback):
    """Trains the head first and unfreezes more of the model as epochs go by (Howard & Ruder 2018, section 3.3).

    For any Keras optimizer, which keeps what it knows of the weights that were trained before. Every stage is traced
    anew. Adam takes the first steps of a weight that is unfrozen late for settled and makes them up to three times as
    long; optimizers of `tfft.optimizers.make` count each weight's own steps, so that theirs are not. The learning rate
    is the optimizer's own affair: a stage has none here, as it has in a recipe.

    At the end of `fit` the weights that were trained before it are trained again. Where there is an
    `ExactCheckpoint`, it goes before that, and into its `callbacks`.

    Args:
        stages: the epoch that each begins with, counted from 0, to what it trains: `head`; `all`; a number of layers
            from the top, with pooler and head; shell patterns of parts (`layer.*`); or, for a model of any kind, a
            function that says which names of weights are trained.

    Attributes:
        stage: the epoch that the present stage began with; None before the first.

    Raises:
        ValueError: no stage begins with epoch 0.
        ModelError: in `fit`, where the model has not what a stage trains, or its parts are not known.
        RunError: in `fit`, where the model is not built, or its optimizer was built for fewer weights.

    Example:
        >>> layers = [keras.layers.Dense(4, name="below", input_shape=(2,)), keras.layers.Dense(1, name="head")]
        >>> model = keras.Sequential(layers)
        >>> model.compile("adam", "mse")
        >>> below, head = (layer.get_weights()[0] for layer in layers)
        >>> unfreezing = GradualUnfreezing({0: lambda name: name.startswith("head"), 2: "all"})
        >>> history = model.fit([[1.0, 2.0]], [[3.0]], epochs=2, verbose=0, callbacks=[unfreezing])
        >>> [bool((layer.get_weights()[0] != one).any()) for layer, one in zip(layers, (below, head))]
        [False, True]
        >>> history = model.fit([[1.0, 2.0]], [[3.0]], initial_epoch=2, epochs=3, verbose=0, callbacks=[unfreezing])
        >>> bool((layers[0].get_weights()[0] != below).any())
        True

        A model of Transformers has parts.

        >>> import numpy as np
        >>> from tfft.models import checkpoint, heads, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> model.compile("adam", heads.CrossEntropyFromLogits())
        >>> def show(epoch: int, logs: dict[str, float]) -> None:
        ...     print(epoch, *freeze.parts_of(weight.name for weight in model.trainable_weights))
        >>> shows = keras.callbacks.LambdaCallback(on_epoch_end=show)
        >>> unfreezing = GradualUnfreezing({0: "head", 1: 1})
        >>> rows = {"input_ids": np.array([[2, 5, 3]]), "attention_mask": np.ones([1, 3], int)}
        >>> history = model.fit(rows, np.array([1]), epochs=2, verbose=0, callbacks=[unfreezing, shows])
        0 head
        1 layer.1 pooler head
    """

    def __init__(self, stages: Mapping[int, Unfreeze]) -> None:
        super().__init__()
        if 0 not in stages or min(stages) < 0:
            raise ValueError(f"stages begin with the epochs {sorted(stages)}; expected the first to begin with epoch 0")
        self.stages = dict(sorted(stages.items()))
        self.stage: int | None = None
        self._all: list[str] = []
        self._names: dict[int, frozenset[str]] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds what every stage trains, and has the optimizer know all of it."""
        model, optimizer = self.model, self.model.optimizer
        if not model.built:
            raise RunError("the model has no weights before its first batch; call model.build(input_shape) before fit")
        inner = inner_optimizer(optimizer)
        # The legacy optimizers have another name for it.
        make_slots = inner._create_all_weights if hasattr(inner, "_create_all_weights") else inner.build
        make_slots(model.trainable_variables)
        places = getattr(inner, "_index_dict", None)
        unknown = [one for one in model.trainable_variables if places and inner._var_key(one) not in places]
        if unknown:
            raise RunError(
                f"the optimizer was built for other weights: it does not know {unknown[0].name}; call model.compile "
                "with a new one, while all weights are trainable that are ever to be trained"
            )
        self._all = [weight.name for weight in model.trainable_weights]
        self._names = {epoch: self._names_of(unfreeze) for epoch, unfreeze in self.stages.items()}
        self.stage = None

    def _names_of(self, unfreeze: Unfreeze) -> frozenset[str]:
        if unfreeze == "all":
            return frozenset(self._all)
        if callable(unfreeze):
            return frozenset(name for name in self._all if unfreeze(name))
        return freeze.trained_names(self.model, unfreeze)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins a stage where it is time, in the middle of one too where a training goes on there."""
        stage = max(first for first in self.stages if first <= epoch)
        if stage == self.stage:
            return
        self.stage = stage
        model = self.model
        freeze.train_exactly(model, self._names[stage])
        inner = inner_optimizer(model.optimizer)
        done = int(inner.iterations.numpy())
        for weight in model.trainable_weights:
            self._first_steps().setdefault(weight.name, done)
        # What was traced trains what the stage before did.
        model.make_train_function(force=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the model as it was found, but for the weights' values."""
        freeze.train_exactly(self.model, self._all)
        self.model.train_function = None

    def _first_steps(self) -> dict[str, int]:
        """Name of a weight to the steps done before it was first trained, of the optimizers that count so."""
        found: dict[str, int] = getattr(inner_optimizer(self.model.optimizer), "first_steps", {})
        return found

    def get_state(self) -> dict[str, Any]:
        """What `ExactCheckpoint` saves."""
        known = self._first_steps()
        # Not by their names, in which Keras counts the models that a process has made.
        return {"first_steps": [known.get(name) for name in self._all]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """As `get_state` gave it."""
        pairs = zip(self._all, state["first_steps"], strict=True)
        self._first_steps().update({name: step for name, step in pairs if step is not None})
