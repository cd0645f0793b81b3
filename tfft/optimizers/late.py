"""Weights that are trained from a later step on."""

from __future__ import annotations

from typing import Any

from tfft.backend import keras, tf


def name_of(variable: Any) -> str:
    """The name that a variable has in the model; where a strategy has copies of it, theirs differ."""
    # Either the variable or its handle knows, by the kind of the variable.
    own = getattr(variable, "_distributed_container", None)
    container = own or getattr(variable.handle, "_distributed_container", None)
    whole = container() if container is not None else None
    name: str = (variable if whole is None else whole).name
    return name


class CountsFromFirstStep:
    """Mixed into a Keras optimizer, before it: each variable's steps are counted from the one that trained it first.

    Adam divides its means by 1 - beta ** steps, since they begin at zero. The means of a variable that is unfrozen
    after a thousand steps begin at zero then: by the optimizer's own count they would pass for settled, and its first
    updates would be three times as long as they should be.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._steps_before = 0
        super().__init__(*args, **kwargs)
        # Name of a variable to the optimizer steps done before it was first trained.
        self.first_steps: dict[str, int] = {}

    @property
    def iterations(self) -> Any:
        """The steps done; while a variable is being updated, those that it has seen."""
        steps = keras.optimizers.Optimizer.iterations.fget(self)
        return steps - self._steps_before if self._steps_before else steps

    @iterations.setter
    def iterations(self, variable: tf.Variable) -> None:
        keras.optimizers.Optimizer.iterations.fset(self, variable)

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """As Keras's, with the variable's own count of steps."""
        self._steps_before = self.first_steps.get(name_of(variable), 0)
        try:
            super().update_step(gradient, variable)  # type: ignore[misc]
        finally:
            self._steps_before = 0
