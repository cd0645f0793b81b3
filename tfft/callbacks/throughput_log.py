"""Samples and real tokens a second, and the peak of memory, in the logs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfft import environment
from tfft.backend import keras, tf


class ThroughputLog(keras.callbacks.Callback):
    """Adds to every epoch's logs how fast it trained and how much memory the process has had at most.

    That is `samples_per_second`; `tokens_per_second`, of real tokens, where the inputs have an `attention_mask`;
    `peak_rss_mb`; and where there are GPUs `peak_gpu_mb`, of the fullest one, in MB of 2**20 bytes.

    The training step itself counts rows and tokens, on its device: rows that weigh nothing do not count, and padding is
    no token. Validation and other callbacks take none of the time, nor does the first batch of a `fit`, which builds
    the graph, unless it is the epoch's only one. It goes first, or what callbacks before it do at the end of a batch
    counts as training.

    Args:
        copies: how often a row is in its batch; `data.batches.twice` makes it 2.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> rows = tf.ones([40, 3]), tf.ones([40, 1])
        >>> history = model.fit(*rows, batch_size=4, verbose=0, callbacks=[ThroughputLog()]).history
        >>> sorted(history)
        ['loss', 'peak_rss_mb', 'samples_per_second']
        >>> history["samples_per_second"][0] > 1
        True
    """

    def __init__(self, copies: int = 1) -> None:
        super().__init__()
        # Batches may come and go without being waited for.
        self._supports_tf_logs = True
        self.copies = copies
        self._counts: Any = None
        self._is_first = True
        self._began = self._seconds = 0.0
        # Rows and tokens when time began to be counted, and what the first batch was.
        self._before = np.zeros(2)
        self._first: tuple[np.ndarray, float] = (np.zeros(2), 0.0)

    # --- Counting, in the training step -------------------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        """As Keras's; from here on the model's training step counts, until `fit` ends."""
        super().set_model(model)
        if self._counts is None:
            with model.distribute_strategy.scope():
                # (2,) rows and tokens of all steps; each device counts its own.
                self._counts = tf.Variable(
                    tf.zeros([2], tf.int64),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                    name="rows_and_tokens",
                )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Has the training step count."""
        model, counts = self.model, self._counts
        self._own_step = vars(model).get("train_step")
        step = model.train_step

        def counted(data: Any) -> Any:
            counts.assign_add(tf.stack(rows_and_tokens(data)))
            return step(data)

        model.train_step = counted
        model.make_train_function(force=True)
        self._is_first = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the training step as it was."""
        if self._own_step is None:
            del self.model.train_step
        else:
            self.model.train_step = self._own_step
        self.model.train_function = None

    # --- Time ---------------------------------------------------------------------------------------------------------

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins to count."""
        self._begin()

    def _begin(self) -> None:
        self._before, self._seconds = self._counts.numpy(), 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the time."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads it again; waits for the device after the first batch and after an epoch's last."""
        if self._is_first or batch + 1 == self.params.get("steps"):
            self._counts.numpy()
        self._seconds += time.perf_counter() - self._began
        if self._is_first:
            self._is_first = False
            self._first = self._counts.numpy() - self._before, self._seconds
            self._begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the figures."""
        if logs is None:
            return
        done, seconds = self._counts.numpy() - self._before, self._seconds
        rows, tokens = (done if done[0] else self._first[0]) / self.copies
        seconds = seconds if done[0] else self._first[1]
        logs["samples_per_second"] = float(rows / seconds)
        if tokens:
            logs["tokens_per_second"] = float(tokens / seconds)
        logs.update(peak_memory_mb())


def rows_and_tokens(data: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows that count in a batch of training data, and their real tokens; no tokens without an attention mask.

    Args:
        data: what Keras gives `train_step`: inputs; or inputs and labels; or those and weights of rows.

    Example:
        >>> inputs = {"attention_mask": tf.constant([[1, 1, 1], [1, 1, 0], [1, 0, 0]])}
        >>> [int(one) for one in rows_and_tokens((inputs, tf.zeros([3])))]
        [3, 6]
        >>> [int(one) for one in rows_and_tokens((inputs, tf.zeros([3]), tf.constant([1.0, 0.5, 0.0])))]
        [2, 5]
    """
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    rows = tf.shape(tf.nest.flatten(inputs if labels is None else labels)[0])[0]
    counts = tf.ones([rows], tf.int64)
    if isinstance(weights, tf.Tensor):
        weighs = tf.cast(tf.not_equal(weights, 0), tf.int64)
        # Of words that have weights of their own, one is enough.
        counts = weighs if weights.shape.rank == 1 else tf.reduce_max(tf.reshape(weighs, [rows, -1]), axis=1)
    if mask is None:
        return tf.reduce_sum(counts), tf.zeros([], tf.int64)
    lengths = tf.math.count_nonzero(mask, axis=-1)
    # Where texts have several windows, those are rows of tokens, and their texts are what counts.
    fits = tf.equal(tf.shape(lengths)[0], rows)
    counted = tf.cond(fits, lambda: counts, lambda: tf.ones_like(lengths))
    return tf.reduce_sum(counts), tf.reduce_sum(lengths * tf.ensure_shape(counted, lengths.shape))


def peak_memory_mb() -> dict[str, float]:
    """The most memory that this process has had, and the fullest of its GPUs, where there are any."""
    peaks = {"peak_rss_mb": environment.peak_rss_mb()}
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if gpus:
        peaks["peak_gpu_mb"] = max(tf.config.experimental.get_memory_info(name)["peak"] for name in gpus) / 2**20
    return peaks
