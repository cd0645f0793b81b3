"""Training batches of rows that are in shards, which may be more than memory or a disk holds.

An epoch reads the shards in an order of its own, several at a time, and takes a buffer full of rows from them. Within
the buffer batches are made as `batches.bucketed` makes them of all rows: shuffled, those of similar length together,
in the order of another draw. So every epoch has every row once, as many batches as without shards, and all but the last
are full. Everything follows from the seed and the epoch's number, and is done by TensorFlow's operations alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfft.backend import tf
from tfft.data.batches import (
    FINE_MULTIPLE,
    MAP_THREADS,
    PREFETCH_BATCHES,
    TokenRows,
    batches_per_epoch,
    filled_up,
    rounded_up,
    without_autotune,
)
from tfft.data.manifest import Manifest, ShardedSplit
from tfft.data.records import features_of

# Rows that are shuffled together, and the most tokens that so many may have: what a training from shards holds.
BUFFER_ROWS = 1 << 14
BUFFER_TOKENS = 1 << 22
# Shards that are read at a time, so that what follows in one of them is not in one batch; and rows of each in turn.
SHARDS_AT_ONCE = 8
ROWS_IN_TURN = 16

_branchless = tf.autograph.experimental.do_not_convert


def buffer_batches(batch_size: int, widest: int) -> int:
    """Batches that are made of one buffer of rows.

    Example:
        >>> buffer_batches(batch_size=32, widest=128), buffer_batches(batch_size=32, widest=512)
        (512, 256)
    """
    return max(1, min(BUFFER_ROWS, BUFFER_TOKENS // widest) // batch_size)


def bucketed(
    split: ShardedSplit,
    *,
    batch_size: int,
    widths: Sequence[int],
    seed: int,
    tokenizer: Any,
    static_shapes: bool = False,
    gradient_accumulation_steps: int = 1,
    first_epoch: int = 0,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """As `batches.bucketed`, of rows in shards.

    Args:
        split: the rows.
        first_batch: batches that are left out. What was read for them is read again, but not decoded, except within the
            buffer that the first one is of.

    Returns:
        A dataset of ({"input_ids": (batch, width) int32, …}, (batch, …) labels, (batch,) float32 weights).
    """
    facts = split.facts
    steps = batches_per_epoch(facts.rows, batch_size)
    in_buffer = buffer_batches(batch_size, widths[-1])
    names = tf.constant([f"{split.folder}/{shard.name}" for shard in facts.shards])
    weight_of = _weight_of_batch(facts.rows, batch_size, gradient_accumulation_steps)
    features = features_of(facts, split.manifest)
    at_once = min(SHARDS_AT_ONCE, len(facts.shards))

    @_branchless
    def buffers_of(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(names, seed=_key(seed, epoch))
        records = tf.data.Dataset.from_tensor_slices(order).interleave(
            tf.data.TFRecordDataset,
            cycle_length=at_once,
            block_length=ROWS_IN_TURN,
            num_parallel_calls=min(MAP_THREADS, at_once),
            deterministic=True,
        )
        # Where a shard has other rows than it had when it was verified, the epochs after it would be others.
        records = records.apply(tf.data.experimental.assert_cardinality(facts.rows))
        buffers = records.batch(in_buffer * batch_size).enumerate()
        return buffers.map(lambda number, serialized: (epoch, number, serialized))

    @_branchless
    def read(epoch: tf.Tensor, number: tf.Tensor, serialized: tf.Tensor) -> Any:
        return epoch, number, tf.io.parse_example(serialized, features)

    @_branchless
    def batches_of(epoch: tf.Tensor, number: tf.Tensor, parsed: dict[str, Any]) -> tf.data.Dataset:
        rows = _token_rows(parsed, tokenizer)
        width_of_row = tf.gather(
            tf.constant(widths, tf.int32), tf.searchsorted(tf.constant(widths, tf.int64), rows.lengths)
        )
        key = tf.random.experimental.stateless_fold_in(_key(seed, epoch), number)
        order, batches = _drawn(rounded_up(rows.lengths, FINE_MULTIPLE), batch_size, key)

        @_branchless
        def batch_from(batch: tf.Tensor, place: tf.Tensor) -> Any:
            chosen = order[batch * batch_size : (batch + 1) * batch_size]
            weights = tf.fill([tf.shape(chosen)[0]], weight_of(tf.cast(number, tf.int32) * in_buffer + place))
            if facts.weighted:
                weights *= tf.gather(parsed["weight"], chosen)
            width = tf.reduce_max(tf.gather(width_of_row, chosen))
            if static_shapes:
                chosen, weights = filled_up(chosen, weights, batch_size)
            return rows.batch(chosen, width), tf.gather(_labels(parsed, split.manifest), chosen), weights

        places = tf.range(tf.size(batches))
        return tf.data.Dataset.from_tensor_slices((batches, places)).map(
            batch_from, num_parallel_calls=MAP_THREADS, deterministic=True
        )

    epochs_left_out, batches_left_out = divmod(first_batch, steps)
    buffers_left_out, batches_left_out = divmod(batches_left_out, in_buffer)
    buffers = tf.data.Dataset.counter(first_epoch + epochs_left_out).flat_map(buffers_of).skip(buffers_left_out)
    # One is read while batches are made of another.
    dataset = buffers.map(read).prefetch(1).flat_map(batches_of).skip(batches_left_out)
    return without_autotune(dataset.prefetch(PREFETCH_BATCHES))


def _key(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.constant(seed, tf.int64), epoch])


def _drawn(size_of_row: tf.Tensor, batch_size: int, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of a buffer, those of one size together, and the order of the batches that they are cut into.

    The partial batch, which only an epoch's last buffer has, is the last.
    """
    rows = tf.size(size_of_row)
    shuffled = tf.random.experimental.stateless_shuffle(tf.range(rows), seed=key)
    by_size = tf.argsort(tf.gather(size_of_row, shuffled), stable=True)
    whole = rows // batch_size
    # The second key differs from the first in its sign, so the two draws are independent.
    batches = tf.random.experimental.stateless_shuffle(tf.range(whole), seed=-key - 1)
    return tf.gather(shuffled, by_size), tf.concat([batches, tf.range(whole, -(-rows // batch_size))], 0)


def _weight_of_batch(rows: int, batch_size: int, accumulated: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """What a batch weighs by its place in the epoch, as `batches.window_weights` has it.

    All batches but the last one have as many rows, so only the epoch's last step may have others than 1.
    """
    steps = batches_per_epoch(rows, batch_size)
    first = (steps - 1) // accumulated * accumulated
    in_last = rows - (steps - 1) * batch_size
    mean = ((steps - 1 - first) * batch_size + in_last) / (steps - first)

    def weight_of(place: tf.Tensor) -> tf.Tensor:
        of_last_step = tf.where(place == steps - 1, in_last / mean, batch_size / mean)
        return tf.cast(tf.where(place < first, 1.0, of_last_step), tf.float32)

    return weight_of


def _token_rows(parsed: dict[str, Any], tokenizer: Any) -> TokenRows:
    ids = parsed["input_ids"]
    columns: dict[str, tf.Tensor] = {
        name: tf.cast(parsed[name].flat_values, tf.int32)
        for name in ("input_ids", "token_type_ids")
        if name in parsed and name in ("input_ids", *tokenizer.model_input_names)
    }
    return TokenRows(ids.row_starts(), ids.row_lengths(), columns, tokenizer)


def _labels(parsed: dict[str, Any], manifest: Manifest) -> tf.Tensor:
    return tf.cast(parsed["label"], np.dtype(manifest.label_type()[1]))
