"""Reading a data set without moving the order that it has for others."""

from __future__ import annotations

from tfft.backend import tf
from tfft.errors import DataError

_IGNORE_STATE = 1  # tf.data.experimental.ExternalStatePolicy.IGNORE, for the raw operation


def unread(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements in the order in which `dataset` would give them next; `dataset` itself is not read.

    A `shuffle` has another order in each iteration, by a generator that belongs to the data set: whoever reads it takes
    one of its orders from all that follow. Here the data set's graph is made once more with generators of its own.

    Args:
        dataset: not read before, or the order is that of its first iteration. Has to be kept while the other is read.

    Raises:
        DataError: it shuffles and its graph cannot be copied, as where it holds more than 2 GB.

    Example:
        >>> from tfft.backend import keras
        >>> def orders(looked_at: bool) -> list[list[int]]:
        ...     keras.utils.set_random_seed(1)
        ...     dataset = tf.data.Dataset.range(8).shuffle(8)
        ...     looked = list(unread(dataset)) if looked_at else []
        ...     return [[int(one) for one in dataset] for _ in range(3)]
        >>> orders(looked_at=True) == orders(looked_at=False)
        True
    """
    if not _reshuffles(dataset):
        return dataset
    try:
        text = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset), external_state_policy=_IGNORE_STATE
        )
        graph = tf.compat.v1.GraphDef.FromString(text.numpy())
        nodes = {node.name: node for node in graph.node}
        for node in graph.node:
            if node.op == "ShuffleDatasetV3":
                generator = nodes[node.input[4]]  # a handle of the one that it has
                generator.op = "DummySeedGenerator"  # which stands for one that is to be made
                generator.attr.clear()
        (output,) = (node.input[0] for node in graph.node if node.op == "_Retval")
        imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
        variant = imported.prune([], imported.graph.get_tensor_by_name(f"{output}:0"))()
    except (tf.errors.OpError, ValueError, KeyError) as error:
        raise DataError(
            "the batches are shuffled anew whenever they are read, and no second data set could be made of these "
            f"({str(error).splitlines()[0]}), so that reading them would change their order later; shuffle them with "
            "reshuffle_each_iteration=False, or give another data set, made for this alone"
        ) from error
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _reshuffles(dataset: tf.data.Dataset) -> bool:
    """Whether there is a shuffle in it whose order is another one in each iteration."""
    return bool(getattr(dataset, "_reshuffle_each_iteration", False)) or any(map(_reshuffles, dataset._inputs()))
