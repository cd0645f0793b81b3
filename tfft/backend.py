"""The only place that imports TensorFlow and Keras: `from tfft.backend import keras, tf`.

Transformers' TensorFlow models are built on `tf_keras` (Keras 2) whatever else is installed, so that is the Keras of
tfft. A `tf.keras` that is already Keras 3 would mix the two and fail far from the cause: it is refused here.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

from tfft.console import quiet_stderr
from tfft.errors import UserError

with quiet_stderr():
    import tensorflow as tf
    import tf_keras as keras

    # tf.keras is resolved when it is first touched, by the variable's value at that moment.
    _same_keras = tf.keras.Model is keras.Model

if not _same_keras:
    raise UserError(
        "tf.keras is Keras 3 in this process "
        f"(TF_USE_LEGACY_KERAS={os.environ.get('TF_USE_LEGACY_KERAS', 'unset')}), and Hugging Face's TensorFlow models "
        "need Keras 2; import tfft before tensorflow, or set TF_USE_LEGACY_KERAS=1 before Python starts"
    )

__all__ = ["compiled_by_xla", "forgetting_gradients", "generators", "inner_optimizer", "keras", "slurm_step", "tf"]


def compiled_by_xla() -> bool:
    """Whether the graph that is being made is for XLA: of `jit_compile=True`, or for a TPU."""
    # Of TensorFlow's insides, since nothing public tells; Keras asks the same way.
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return not tf.executing_eagerly() and bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


@contextlib.contextmanager
def forgetting_gradients() -> Iterator[None]:
    """What was trained in the body can be freed afterwards; it cannot be differentiated any more.

    TensorFlow registers the gradient of every function that a graph calls, for as long as the process lives, and each
    holds its graph with all variables in it.
    """
    from tensorflow.python.framework import ops

    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            del registry[name]


def inner_optimizer(optimizer: Any) -> Any:
    """The optimizer itself where Keras has wrapped it for float16, whose LossScaleOptimizer keeps it inside."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def slurm_step(nodes: str, tasks_per_node: str) -> tuple[list[str], list[int]]:
    """The hosts of Slurm's `SLURM_STEP_NODELIST` and the tasks on each, as TensorFlow's own resolver reads them."""
    from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver as resolver

    return resolver.expand_hostlist(nodes), resolver.expand_tasks_per_node(tasks_per_node)


def generators() -> tuple[list[random.Random], tf.random.Generator | None]:
    """What TensorFlow and Keras draw seeds from, where they were seeded, and TensorFlow's global generator."""
    # Nothing public gives any of them without making those that are not there.
    from tensorflow.python.eager import context
    from tensorflow.python.ops import stateful_random_ops
    from tf_keras.src import backend

    of_seeds = (getattr(context.context(), "_rng", None), getattr(backend._SEED_GENERATOR, "generator", None))
    return [one for one in of_seeds if one is not None], stateful_random_ops.global_generator
