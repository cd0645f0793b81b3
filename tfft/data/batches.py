"""Token ids to batches: `tf.data` for training, by either of two ways, and for prediction.

`padded` is the way of every tutorial (`to_tf_dataset` with `DataCollatorWithPadding`). `bucketed` puts rows of similar
length together, in a bounded set of widths known beforehand, and runs as TensorFlow operations alone: no Python takes
part once training has begun, unless the tokens are on disk. `of_documents` does the same for texts that are cut into
windows.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfft import tpu
from tfft.backend import tf
from tfft.data.columns import ArrayOnDisk
from tfft.data.encode import Encoded
from tfft.data.words import IGNORED_LABEL

# Enough that little is padded, few enough that a compiler which makes one program a shape stays quick.
BUCKETS = 8
# Widths are multiples of this, which matrix units of accelerators like.
WIDTH_MULTIPLE = 8
# A processor takes any width, and short texts would be padded by a fifth.
FINE_MULTIPLE = 2
# Tokens that keep a processor busy: those of larger products are hardly faster, and of some slower.
PROCESSOR_TOKENS = 2_048
MAP_THREADS = 2
PREFETCH_BATCHES = 4

# For functions that no value of a tensor decides in: AutoGraph would read, rewrite and compile them at every start.
_branchless = tf.autograph.experimental.do_not_convert


def batches_per_epoch(rows: int, batch_size: int) -> int:
    """Batches that hold `rows` rows, the last partial one included."""
    return math.ceil(rows / batch_size)


def rounded_up(lengths: Any, multiple: int) -> Any:
    """Each of an array or tensor of integers to the next multiple."""
    return -(-lengths // multiple) * multiple


def sizes(lengths: np.ndarray, batch_size: int) -> np.ndarray:
    """What rows are put together by, on every device: their lengths, rounded up to a multiple of 2 or a power of it.

    The finer, the less is padded; the coarser, the more rows a batch is drawn from, and the less it is the same in each
    epoch. So it is the finest of which a size has rows for two batches on average.

    Example:
        >>> sizes(np.array([3, 5, 6, 9, 11, 11, 20, 21]), batch_size=1).tolist()
        [8, 8, 8, 16, 16, 16, 24, 24]
    """
    multiple = FINE_MULTIPLE
    while True:
        rounded = rounded_up(lengths, multiple)
        kinds = len(np.unique(rounded))
        if kinds == 1 or len(lengths) >= 2 * batch_size * kinds:
            return rounded
        multiple *= 2


def bucket_widths(
    lengths: np.ndarray,
    max_length: int,
    buckets: int | None = BUCKETS,
    multiple: int = WIDTH_MULTIPLE,
    rows: np.ndarray | None = None,
) -> tuple[int, ...]:
    """At most `buckets` widths, ascending, that pad rows of these `lengths` the least; the last holds the longest row.

    Candidates are the multiples of `multiple` up to `max_length`. Chosen exactly, by dynamic programming over the
    candidates: cost(j, k) = min over i < j of cost(i, k - 1) + (rows longer than width i, up to width j) * width j.

    Args:
        buckets: None takes every candidate that some row needs.
        rows: how many rows have each of `lengths`; None where there is one of each.

    Example:
        >>> bucket_widths(np.array([3, 5, 6, 20, 21]), max_length=32, buckets=2)
        (8, 24)
        >>> bucket_widths(np.array([3, 5, 6, 20, 21]), max_length=32, buckets=None, multiple=2)
        (4, 6, 20, 22)
    """
    candidates, place = np.unique(
        np.minimum(rounded_up(np.maximum(lengths, 1), multiple), max_length), return_inverse=True
    )
    if buckets is None:
        return tuple(map(int, candidates))
    counts = np.bincount(place, rows)
    below = np.concatenate([[0], np.cumsum(counts)])  # below[j]: rows that fit into candidate j - 1
    size = len(candidates)
    cost = np.full((min(buckets, size) + 1, size + 1), np.inf)
    cost[:, 0] = 0
    chosen = np.zeros(cost.shape, int)
    for k in range(1, len(cost)):
        for j in range(1, size + 1):
            options = cost[k - 1, :j] + (below[j] - below[:j]) * candidates[j - 1]
            chosen[k, j] = int(np.argmin(options))
            cost[k, j] = options[chosen[k, j]]
    widths: list[int] = []
    j = size
    for k in range(len(cost) - 1, 0, -1):
        if j == 0:
            break
        widths.append(int(candidates[j - 1]))
        j = int(chosen[k, j])
    return tuple(reversed(widths))


def padding_share(lengths: np.ndarray, widths: Sequence[int], rows: np.ndarray | None = None) -> float:
    """The share of padding among all tokens when each row is padded to the narrowest of `widths` that holds it.

    Args:
        rows: how many rows have each of `lengths`; None where there is one of each.
    """
    counts = np.ones(len(lengths), np.int64) if rows is None else rows
    padded = np.asarray(widths)[np.searchsorted(widths, lengths)]
    return 1.0 - float((lengths * counts).sum()) / float((padded * counts).sum())


def without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`dataset` with tf.data's autotuning off.

    With it on, TensorFlow 2.21 blocks for up to a minute when an iterator is destroyed before its end, as the end of
    every `fit` does.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)


class TokenStates(NamedTuple):
    """An encoder's outputs for every token, taken in place of token ids.

    Attributes:
        values: (tokens, hidden) float32, all rows end to end.
        name: of the model's input that takes them.
    """

    values: np.ndarray
    name: str


class TokenRows:
    """Encoded rows as tensors, and the one operation on them: padded batches of chosen rows.

    Args:
        starts, lengths: (rows,) int64, where each row begins in the columns, and how many tokens it has.
        columns: what a model takes of each token, by the name of the input: (tokens,) int32 each.
        tokenizer: says which inputs the model takes, and the padding.
    """

    def __init__(self, starts: tf.Tensor, lengths: tf.Tensor, columns: Mapping[str, tf.Tensor], tokenizer: Any) -> None:
        self.starts, self.lengths, self.columns = starts, lengths, dict(columns)
        self.padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        # Models that read the last place, such as XLNet, must not find padding there.
        self.pads_left = tokenizer.padding_side == "left"
        self.needs_mask = "attention_mask" in tokenizer.model_input_names
        self.on_disk: dict[str, ArrayOnDisk] = {}
        self.offsets = np.zeros(1, np.int64)  # where rows on disk begin
        self.token_labels: tf.Tensor | None = None

    @classmethod
    def of(cls, encoded: Encoded, tokenizer: Any, token_labels: np.ndarray | None = None) -> TokenRows:
        """Those of `encoded`; tokens that are on disk stay there."""
        columns: dict[str, np.ndarray | ArrayOnDisk] = {"input_ids": encoded.input_ids}
        if "token_type_ids" in tokenizer.model_input_names and encoded.token_type_ids is not None:
            columns["token_type_ids"] = encoded.token_type_ids
        on_disk = {name: column for name, column in columns.items() if isinstance(column, ArrayOnDisk)}
        in_memory = {name: tf.constant(column) for name, column in columns.items() if name not in on_disk}
        rows = cls(tf.constant(encoded.offsets[:-1]), tf.constant(encoded.lengths), in_memory, tokenizer)
        rows.on_disk, rows.offsets = on_disk, encoded.offsets
        rows.token_labels = None if token_labels is None else tf.constant(token_labels)
        return rows

    def batch(self, rows: tf.Tensor, width: tf.Tensor) -> dict[str, tf.Tensor]:
        """The inputs of `rows` (batch,), each (batch, width) int32."""
        real, source = self._places(rows, width)
        inputs = {
            name: tf.where(real, tf.gather(column, source), self.padding[name]) for name, column in self.columns.items()
        }
        for name in self.on_disk:
            read = functools.partial(self._read, name)
            inputs[name] = tf.ensure_shape(tf.numpy_function(read, [rows, width], tf.int32), real.shape)
        if self.needs_mask:
            inputs["attention_mask"] = tf.cast(real, tf.int32)
        return inputs

    def _read(self, name: str, rows: np.ndarray, width: np.ndarray) -> np.ndarray:
        """As `batch`, of tokens that are on disk: the one place where Python stands in a batch's way."""
        found = np.full((len(rows), int(width)), self.padding[name], np.int32)
        for row, into in zip(rows, found, strict=True):
            values = self.on_disk[name].read(int(self.offsets[row]), int(self.offsets[row + 1]))
            into[len(into) - len(values) if self.pads_left else 0 :][: len(values)] = values
        return found

    def batch_of(self, states: TokenStates) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
        """What gives the states of the tokens of `rows` (batch,) in place of their ids, and which places hold one."""
        held = tf.constant(states.values)

        def batch(rows: tf.Tensor, width: tf.Tensor) -> dict[str, tf.Tensor]:
            real, source = self._places(rows, width)
            found = tf.where(real[:, :, tf.newaxis], tf.gather(held, source), 0.0)
            return {states.name: found, "attention_mask": tf.cast(real, tf.int32)}

        return batch

    def labels(self, rows: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """The labels of the tokens of `rows` (batch,): (batch, width) int32, -100 at padding."""
        real, source = self._places(rows, width)
        return tf.where(real, tf.gather(self.token_labels, source), IGNORED_LABEL)

    def _places(self, rows: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Which places of a padded batch hold tokens, and where those stand among all tokens: (batch, width) each."""
        width = tf.cast(width, tf.int64)
        lengths = tf.gather(self.lengths, rows)[:, tf.newaxis]
        places = tf.range(width)[tf.newaxis, :]
        if self.pads_left:
            places -= width - lengths
        real = tf.logical_and(places >= 0, places < lengths)
        # Places outside a row read token 0, which padding then covers: no index lies outside.
        return real, tf.where(real, tf.gather(self.starts, rows)[:, tf.newaxis] + places, 0)


def window_weights(rows: tf.Tensor, gradient_accumulation_steps: int) -> tf.Tensor:
    """What each batch of an epoch weighs, so that the mean of a window's mean losses is the mean over its rows.

    1 everywhere but in a window whose batches differ in their rows: there, rows * batches / rows of the window.

    Args:
        rows: (batches,) integer, the rows of each batch in the epoch's order.
        gradient_accumulation_steps: batches of a window; the last has what is left.

    Returns:
        (batches,) float32.
    """
    windows = tf.range(tf.size(rows)) // gradient_accumulation_steps
    rows = tf.cast(rows, tf.float32)
    means = tf.math.segment_mean(rows, windows)
    return rows / tf.gather(means, windows)


def bucketed(
    encoded: Encoded,
    labels: np.ndarray,
    *,
    batch_size: int,
    widths: Sequence[int],
    seed: int,
    tokenizer: Any,
    static_shapes: bool = False,
    gradient_accumulation_steps: int = 1,
    row_weights: np.ndarray | None = None,
    first_epoch: int = 0,
    first_batch: int = 0,
    of_tokens: bool = False,
    states: TokenStates | None = None,
) -> tf.data.Dataset:
    """An endless stream of training batches (inputs, labels, weights), rows of similar length together.

    An epoch is `batches_per_epoch(rows, batch_size)` batches and has every row exactly once. Its order is drawn anew
    from `seed` and the epoch's number: rows are shuffled, sorted by `sizes` (stable, so those of one size stay
    shuffled) and cut into batches, whose order is shuffled again. A batch is as wide as its widest row needs, and all
    but one are full.

    Args:
        encoded: the rows.
        labels: (rows,) or (rows, classes), integer or float.
        batch_size: rows in a batch. The last one of the cut has what is left.
        widths: ascending, the last at least as wide as the longest row: see `bucket_widths`.
        seed: fixes the order of all epochs.
        tokenizer: says which inputs the model takes, and the padding id.
        static_shapes: fill the partial batch to `batch_size` with copies of weight 0, for compilers that want every
            shape to be whole. Real rows then weigh `batch_size / real rows`, so that Keras's mean over the batch is the
            mean over the real rows.
        gradient_accumulation_steps: batches that make one step, see `window_weights`.
        row_weights: (rows,) float32, what each row counts; the mean is still over the number of rows.
        first_epoch: the number of the epoch that it begins with, from 0.
        first_batch: batches that are left out from there on; they may be more than an epoch has.
        of_tokens: `labels` are (tokens,) int32, for all rows end to end, and -100 where none counts; the mean of a
            window is then over the tokens that count.
        states: what stands in place of token ids.

    Returns:
        A dataset of ({"input_ids": (batch, width) int32, …}, (batch, …) labels, (batch,) float32 weights).

    Example:
        Rows of 3, 4, 6 and 10 tokens in batches of two: the short ones together, the long ones together.

        >>> from transformers import AutoTokenizer
        >>> from tfft.data.encode import encode
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> encoded = encode([["a", "a b c d e f g h", "a b", "a b c d"]], tokenizer, max_length=32)
        >>> labels, widths = np.array([0, 1, 0, 1]), bucket_widths(encoded.lengths, max_length=32)
        >>> stream = bucketed(encoded, labels, batch_size=1, widths=widths, seed=1, tokenizer=tokenizer)
        >>> one_epoch = stream.take(batches_per_epoch(len(encoded), batch_size=1))
        >>> sorted((tuple(inputs["input_ids"].shape), labels.numpy().tolist()) for inputs, labels, _ in one_epoch)
        [((1, 8), [0]), ((1, 8), [0]), ((1, 8), [1]), ((1, 16), [1])]
    """
    rows = TokenRows.of(encoded, tokenizer, labels if of_tokens else None)
    width_of_row = np.asarray(widths, np.int32)[np.searchsorted(widths, encoded.lengths)]
    return _endless(
        rows.batch if states is None else rows.batch_of(states),
        sizes(encoded.lengths, batch_size),
        width_of_row,
        rows.labels if of_tokens else _labels_of_rows(labels),
        _tokens_that_count(encoded, labels) if of_tokens else np.ones(len(encoded), np.int32),
        of_tokens=of_tokens,
        batch_size=batch_size,
        seed=seed,
        static_shapes=static_shapes,
        gradient_accumulation_steps=gradient_accumulation_steps,
        row_weights=row_weights,
        first_epoch=first_epoch,
        first_batch=first_batch,
    )


def of_blocks(
    encoded: Encoded,
    predicted: np.ndarray,
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
    """As `bucketed`, of blocks of text whose labels are tokens of their own, for `masking.masked`.

    Args:
        predicted: (blocks,) how many tokens of each are predicted, which the loss is the mean over.

    Returns:
        A dataset of (inputs, (batch, 1) int32, weights): -100 where a row only fills the batch, and 0 else.
    """
    return _endless(
        TokenRows.of(encoded, tokenizer).batch,
        sizes(encoded.lengths, batch_size),
        np.asarray(widths, np.int32)[np.searchsorted(widths, encoded.lengths)],
        lambda chosen, _: tf.zeros_like(chosen)[:, tf.newaxis],
        predicted,
        of_tokens=True,
        batch_size=batch_size,
        seed=seed,
        static_shapes=static_shapes,
        gradient_accumulation_steps=gradient_accumulation_steps,
        row_weights=None,
        first_epoch=first_epoch,
        first_batch=first_batch,
    )


def of_features(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    name: str,
    batch_size: int,
    seed: int,
    gradient_accumulation_steps: int = 1,
    row_weights: np.ndarray | None = None,
    first_epoch: int = 0,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """As `bucketed`, of an encoder's outputs in place of tokens.

    Args:
        features: (rows, places, hidden) float32.
        name: of the model's input that takes them.

    Returns:
        A dataset of ({name: (batch, places, hidden) float32}, (batch, …) labels, (batch,) float32 weights).
    """
    held = tf.constant(features)
    return _endless(
        lambda chosen, _: {name: tf.gather(held, chosen)},
        np.ones(len(features), np.int32),
        np.ones(len(features), np.int32),
        _labels_of_rows(labels),
        np.ones(len(features), np.int32),
        batch_size=batch_size,
        seed=seed,
        static_shapes=False,
        gradient_accumulation_steps=gradient_accumulation_steps,
        row_weights=row_weights,
        first_epoch=first_epoch,
        first_batch=first_batch,
    )


def features_for_prediction(features: np.ndarray, *, name: str, batch_size: int) -> tuple[tf.data.Dataset, np.ndarray]:
    """As `for_prediction`, of an encoder's outputs in place of tokens."""
    dataset = tf.data.Dataset.from_tensor_slices({name: features}).batch(batch_size).prefetch(PREFETCH_BATCHES)
    return without_autotune(dataset), np.arange(len(features))


def of_documents(
    encoded: Encoded,
    labels: np.ndarray,
    *,
    batch_size: int,
    widths: Sequence[int],
    seed: int,
    tokenizer: Any,
    gradient_accumulation_steps: int = 1,
    row_weights: np.ndarray | None = None,
    first_epoch: int = 0,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """An endless stream of training batches as `bucketed` makes them, but of texts with all their windows.

    Texts are put together by their number of windows, then by the length of their longest. All windows of a batch are
    as wide as its widest. How many windows a batch has differs from batch to batch, so no shape is static, and XLA is
    not for these; `most_windows` says how many there are at most.

    Args:
        encoded: windows, with `window_starts`.
        labels: (texts,) or (texts, classes), integer or float.
        batch_size: texts in a batch, each with all its windows.
        widths: as in `bucketed`, of the windows.
        gradient_accumulation_steps: batches that make one step, see `window_weights`.
        row_weights: (texts,) float32, what each text counts; the mean is still over the number of texts.

    Returns:
        A dataset of ({"input_ids": (windows, width) int32, …}, (texts, 1 + labels) int32, (texts,) float32 weights).
        The windows are in the order of their texts. Labels are what `heads.PooledOverWindows` reads: a text's number of
        windows, and its label as the bits of float32, or several.
    """
    assert encoded.window_starts is not None, "rows that are no windows are for `bucketed`"
    windows = TokenRows.of(encoded, tokenizer)
    longest = np.maximum.reduceat(encoded.lengths, encoded.window_starts[:-1])
    counts = np.diff(encoded.window_starts)
    starts = tf.constant(encoded.window_starts)

    def inputs_of(chosen: tf.Tensor, width: tf.Tensor) -> dict[str, tf.Tensor]:
        of_chosen = tf.ragged.range(tf.gather(starts, chosen), tf.gather(starts, chosen + 1)).values
        return windows.batch(of_chosen, width)

    return _endless(
        inputs_of,
        # No length reaches the factor, so the number of windows goes first.
        counts * (2 * widths[-1] + 1) + sizes(longest, batch_size),
        np.asarray(widths, np.int32)[np.searchsorted(widths, longest)],
        _labels_of_rows(_with_counts(labels, counts)),
        np.ones(len(counts), np.int32),
        batch_size=batch_size,
        seed=seed,
        static_shapes=False,
        gradient_accumulation_steps=gradient_accumulation_steps,
        row_weights=row_weights,
        first_epoch=first_epoch,
        first_batch=first_batch,
    )


def _with_counts(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(texts, 1 + labels) int32: windows of each text, and its labels as the bits of float32.

    Bits, because Keras casts labels of any floating type to that of the logits: in bfloat16, 257 windows would be 256.
    """
    bits = np.ascontiguousarray(labels, np.float32).view(np.int32).reshape(len(labels), -1)
    return np.concatenate([counts[:, np.newaxis].astype(np.int32), bits], axis=1)


def most_windows(window_starts: np.ndarray, batch_size: int) -> int:
    """Windows of the largest batch that `of_documents` makes of these texts, the same in every epoch."""
    counts = np.sort(np.diff(window_starts))
    return int(np.add.reduceat(counts, np.arange(0, len(counts), batch_size)).max())


def _labels_of_rows(labels: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    held = tf.constant(labels)
    return lambda chosen, _: tf.gather(held, chosen)


def _tokens_that_count(encoded: Encoded, labels: np.ndarray) -> np.ndarray:
    """(rows,) how many tokens of each have a label."""
    before = np.concatenate([[0], np.cumsum(labels != IGNORED_LABEL)])
    return np.diff(before[encoded.offsets]).astype(np.int32)


def _endless(
    inputs_of: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
    size_of_row: np.ndarray,
    width_of_row: np.ndarray,
    labels_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    units_of_row: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    static_shapes: bool,
    gradient_accumulation_steps: int,
    row_weights: np.ndarray | None,
    first_epoch: int,
    first_batch: int,
    of_tokens: bool = False,
) -> tf.data.Dataset:
    """The stream that `bucketed` describes, of whatever `inputs_of` and `labels_of` give for rows (batch,) and a width.

    Args:
        size_of_row: (rows,) integer; rows of the same are put together.
        width_of_row: (rows,) integer, that each needs; a batch has the greatest of its rows'.
        units_of_row: (rows,) what the loss is the mean over: 1 a row, or the tokens that count.
    """
    count = len(width_of_row)
    steps = batches_per_epoch(count, batch_size)
    row_sizes, row_widths, units = tf.constant(size_of_row), tf.constant(width_of_row), tf.constant(units_of_row)
    counted = None if row_weights is None else tf.constant(row_weights)

    def epoch_order(epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(count), seed=key)
        by_size = tf.argsort(tf.gather(row_sizes, shuffled), stable=True)
        # The second key differs from the first in its sign, so the two draws are independent.
        batches = tf.random.experimental.stateless_shuffle(tf.range(steps), seed=-key - 1)
        return tf.gather(shuffled, by_size), batches

    @_branchless
    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order, batches = epoch_order(epoch)
        before = tf.concat([[0], tf.cumsum(tf.gather(units, order))], axis=0)
        ends = tf.minimum((batches + 1) * batch_size, count)
        sizes = tf.gather(before, ends) - tf.gather(before, batches * batch_size)
        weights = window_weights(sizes, gradient_accumulation_steps)
        return tf.data.Dataset.from_tensor_slices((batches, weights)).map(
            lambda batch, weight: (order[batch * batch_size : (batch + 1) * batch_size], weight)
        )

    @_branchless
    def fill(chosen: tf.Tensor, weight: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        real = tf.shape(chosen)[0]
        width = tf.reduce_max(tf.gather(row_widths, chosen))
        weights = tf.fill([real], weight)
        if counted is not None:
            weights *= tf.gather(counted, chosen)
        if static_shapes:
            chosen, weights = filled_up(chosen, weights, batch_size, of_tokens)
        labels = labels_of(chosen, width)
        if static_shapes and of_tokens:
            labels = tf.where(tf.range(batch_size)[:, tf.newaxis] < real, labels, IGNORED_LABEL)
        return inputs_of(chosen, width), labels, weights

    epochs_left_out, batches_left_out = divmod(first_batch, steps)
    dataset = tf.data.Dataset.counter(first_epoch + epochs_left_out).flat_map(epoch_batches).skip(batches_left_out)
    return without_autotune(dataset.map(fill, num_parallel_calls=MAP_THREADS).prefetch(PREFETCH_BATCHES))


def filled_up(
    chosen: tf.Tensor, weights: tf.Tensor, batch_size: int, of_tokens: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """As many rows and weights as a whole batch has: copies of the last row, which count nothing.

    Args:
        chosen: (rows,) at least one.
        weights: (rows,) float32.
        of_tokens: the loss is a mean over tokens. Else real rows weigh `batch_size / real rows`, so that the mean over
            the batch is the mean over the real rows.

    Example:
        >>> [one.numpy().tolist() for one in filled_up(tf.constant([7, 5]), tf.ones([2]), batch_size=4)]
        [[7, 5, 5, 5], [2.0, 2.0, 0.0, 0.0]]
    """
    real = tf.shape(chosen)[0]
    # The mean over tokens is the loss's own: rows there weigh the same in a partial batch.
    share = 1.0 if of_tokens else tf.cast(batch_size / real, tf.float32)
    weights = tf.pad(weights * share, [[0, batch_size - real]])
    weights.set_shape([batch_size])
    return tf.gather(chosen, tf.minimum(tf.range(batch_size), real - 1)), weights


def padded(
    encoded: Encoded,
    labels: np.ndarray,
    *,
    batch_size: int,
    tokenizer: Any,
    shuffle: bool,
    max_length: int | None = None,
    gradient_accumulation_steps: int = 1,
    row_weights: np.ndarray | None = None,
    of_tokens: bool = False,
) -> tf.data.Dataset:
    """One epoch of batches by `datasets.Dataset.to_tf_dataset` with `DataCollatorWithPadding`: the course's way.

    Shuffled row by row from the global seed (`keras.utils.set_random_seed`), anew each time it is iterated. The last,
    partial batch is kept.

    Args:
        max_length: pad every batch to this width; None pads to the longest row of each batch.
        gradient_accumulation_steps: batches that make one step, see `window_weights`.
        row_weights: as in `bucketed`.
        of_tokens: as in `bucketed`; with `DataCollatorForTokenClassification`, and without windows, since how many
            tokens of a window count is not known before it is drawn.

    Returns:
        A dataset of ({"input_ids": (batch, width) int64, …}, (batch, …) labels), with (batch,) float32 weights behind
        the labels where rows have weights, or several batches make one step.

    Example:
        Rows of 3, 10 and 4 tokens in their order, each batch as wide as its longest row.

        >>> from transformers import AutoTokenizer
        >>> from tfft.data.encode import encode
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> encoded = encode([["a", "a b c d e f g h", "a b"]], tokenizer, max_length=32)
        >>> dataset = padded(encoded, np.array([0, 1, 0]), batch_size=2, tokenizer=tokenizer, shuffle=False)
        >>> [tuple(inputs["input_ids"].shape) for inputs, labels in dataset]
        [(2, 10), (1, 4)]
    """
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

    if of_tokens and gradient_accumulation_steps > 1:
        raise ValueError("padded batches of labelled tokens cannot be accumulated; take bucketed ones")
    collator = DataCollatorForTokenClassification if of_tokens else DataCollatorWithPadding
    collate = collator(
        tokenizer, padding="longest" if max_length is None else "max_length", max_length=max_length, return_tensors="tf"
    )
    rows = as_dataset(encoded, labels, row_weights, of_tokens)
    dataset = rows.to_tf_dataset(
        columns=[name for name in tokenizer.model_input_names if name in rows.column_names or name == "attention_mask"],
        label_cols="labels" if row_weights is None else ["labels", "weights"],
        batch_size=batch_size,
        shuffle=shuffle,
        drop_remainder=False,
        collate_fn=collate,
        prefetch=False,
    )
    if row_weights is not None:
        dataset = dataset.map(
            lambda inputs, of_row: (inputs, of_row["labels"], of_row["weights"]), num_parallel_calls=MAP_THREADS
        )
    if gradient_accumulation_steps > 1:
        starts = tf.range(0, len(encoded), batch_size)
        weights = window_weights(tf.minimum(batch_size, len(encoded) - starts), gradient_accumulation_steps)
        dataset = dataset.enumerate().map(
            lambda batch, given: _weighted(*given, weight=weights[batch]), num_parallel_calls=MAP_THREADS
        )
    return without_autotune(dataset.prefetch(PREFETCH_BATCHES))


def _weighted(inputs: Any, labels: tf.Tensor, row_weights: tf.Tensor | None = None, *, weight: tf.Tensor) -> Any:
    ones = tf.ones([tf.shape(labels)[0]]) if row_weights is None else row_weights
    return inputs, labels, ones * weight


def shared_out(
    dataset: tf.data.Dataset,
    replicas: int,
    *,
    own: range | None = None,
    of_tokens: bool = False,
    of_documents: bool = False,
) -> tf.data.Dataset:
    """Every batch in `replicas` parts of as many rows, one after the other, each for a device of its own.

    What lacks for that is filled with rows of weight 0, and the others weigh so that the mean over the devices of each
    one's mean loss is the mean over the batch.

    Args:
        dataset: of (inputs, labels) or (inputs, labels, weights), as this module's functions make them.
        own: which of the parts to give, where other processes have the others; None gives all.
        of_tokens: the loss is the mean over the labels that are not -100.
        of_documents: inputs have a row for each window, and the labels say of how many each text is.

    Example:
        Five rows for two devices: six places, one of them filled, so that each row weighs 6 / 5.

        >>> whole = tf.data.Dataset.from_tensors(({"x": tf.range(1, 6)}, tf.zeros([5])))
        >>> for inputs, _, weights in shared_out(whole, replicas=2):
        ...     print(inputs["x"].numpy(), weights.numpy())
        [1 2 3] [1.2 1.2 1.2]
        [4 5 5] [1.2 1.2 0. ]
    """

    @_branchless
    def parts(inputs: dict[str, tf.Tensor], labels: tf.Tensor, weights: tf.Tensor | None = None) -> tf.data.Dataset:
        # Whole where the compiler wants it to be.
        rows = tf.shape(labels)[0] if labels.shape[0] is None else labels.shape[0]
        size = -(-rows // replicas)
        given = tf.ones([rows]) if weights is None else weights
        starts = tf.concat([[0], tf.cumsum(labels[:, 0])], 0) if of_documents else None

        def part(replica: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
            places = tf.cast(replica, tf.int32) * size + tf.range(size)
            is_real, chosen = places < rows, tf.minimum(places, rows - 1)
            read = chosen
            if starts is not None:
                read = tf.ragged.range(tf.gather(starts, chosen), tf.gather(starts, chosen + 1)).values
            own = tf.gather(labels, chosen)
            if of_tokens:
                own = tf.where(is_real[:, tf.newaxis], own, IGNORED_LABEL)
                share = replicas * _labelled(own) / tf.maximum(_labelled(labels), 1.0)
            else:
                share = tf.cast(replicas * size / rows, tf.float32)
            shares = tf.where(is_real, tf.gather(given, chosen) * share, 0.0)
            return {name: tf.gather(values, read) for name, values in inputs.items()}, own, shares

        first, last = (0, replicas) if own is None else (own.start, own.stop)
        return tf.data.Dataset.range(first, last).map(part)

    return without_autotune(dataset.flat_map(parts).prefetch(PREFETCH_BATCHES))


def _labelled(labels: tf.Tensor) -> tf.Tensor:
    """How many tokens have a label."""
    return tf.reduce_sum(tf.cast(tf.not_equal(labels, IGNORED_LABEL), tf.float32))


def of_shape(
    dataset: tf.data.Dataset, rows: int, width: int, others: Mapping[str, int] | None = None
) -> tf.data.Dataset:
    """`dataset` with every shape whole, for compilers that want to know them before a batch is there.

    Args:
        dataset: of (inputs, labels, weights), each batch of so many rows, inputs of so many tokens.
        others: widths of inputs that have another, by their names; labels that are several a row are as many.
    """
    widths = others or {}

    @_branchless
    def shaped(inputs: dict[str, tf.Tensor], labels: tf.Tensor, weights: tf.Tensor) -> Any:
        found = {name: tf.ensure_shape(values, [rows, widths.get(name, width)]) for name, values in inputs.items()}
        # Of tokens that have labels, each row has as many as its inputs.
        of_row = next(iter(widths.values()), width)
        of_labels = [rows, *(of_row if size is None else size for size in labels.shape[1:])]
        return found, tf.ensure_shape(labels, of_labels), tf.ensure_shape(weights, [rows])

    return without_autotune(dataset.map(shaped, num_parallel_calls=MAP_THREADS).prefetch(PREFETCH_BATCHES))


def twice(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Every batch with its rows twice, the second half the same as the first: what R-Drop compares."""

    def doubled(values: tf.Tensor) -> tf.Tensor:
        return tf.concat([values, values], axis=0)

    twofold = dataset.map(lambda *batch: tf.nest.map_structure(doubled, batch), num_parallel_calls=MAP_THREADS)
    return without_autotune(twofold.prefetch(PREFETCH_BATCHES))


def as_dataset(
    encoded: Encoded, labels: np.ndarray | None = None, row_weights: np.ndarray | None = None, of_tokens: bool = False
) -> Any:
    """The rows as a `datasets.Dataset` of `input_ids`, `attention_mask`, `token_type_ids`, `labels`, `weights`.

    Nothing is copied but labels that are several a row, and tokens that are on disk: those are read into memory.
    """
    import datasets
    import pyarrow as pa

    offsets = pa.array(encoded.offsets)

    def column(values: np.ndarray | ArrayOnDisk) -> pa.Array:
        return pa.LargeListArray.from_arrays(offsets, pa.array(np.asarray(values)))

    columns: Mapping[str, Any] = {
        "input_ids": column(encoded.input_ids),
        "attention_mask": column(np.ones(len(encoded.input_ids), np.int32)),
        **({} if encoded.token_type_ids is None else {"token_type_ids": column(encoded.token_type_ids)}),
        **({} if labels is None else {"labels": column(labels) if of_tokens else _one_a_row(labels)}),
        **({} if row_weights is None else {"weights": pa.array(row_weights)}),
    }
    return datasets.Dataset(pa.table(dict(columns)))


def _one_a_row(labels: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array(labels if labels.ndim == 1 else list(labels))


def for_prediction(
    encoded: Encoded,
    *,
    batch_size: int,
    tokenizer: Any,
    max_length: int,
    pad_to_max_length: bool = False,
    states: TokenStates | None = None,
    more_of_short: bool = True,
) -> tuple[tf.data.Dataset, np.ndarray]:
    """Batches of all rows, sorted by length so that little is padded, and the order they come in.

    Args:
        batch_size: rows in a batch, or more where `more_of_short` says so.
        max_length: the most tokens a row may have.
        pad_to_max_length: pad every batch to `max_length` instead of to its longest row, rounded up to a multiple of 8,
            or of 2 on a processor.
        states: what stands in place of token ids.
        more_of_short: of rows shorter than `max_length` take more, up to the tokens of `batch_size` rows of
            `max_length`, or on a processor up to `PROCESSOR_TOKENS` where that is less: no batch needs more memory than
            one of the longest rows may.

    Returns:
        The dataset of inputs, and `order` (rows,): row i of the output belongs to row `order[i]` of `encoded`.
    """
    rows = TokenRows.of(encoded, tokenizer)
    order = np.argsort(encoded.lengths, kind="stable")
    on_processor = not (tf.config.get_visible_devices("GPU") or tpu.in_use())
    widths = np.minimum(
        rounded_up(encoded.lengths[order], FINE_MULTIPLE if on_processor else WIDTH_MULTIPLE), max_length
    )
    if pad_to_max_length:
        widths = np.full_like(widths, max_length)
    most_tokens = batch_size * max_length if more_of_short else 0
    ends = _ends(widths, batch_size, min(most_tokens, PROCESSOR_TOKENS) if on_processor else most_tokens)
    starts = np.concatenate([[0], ends])[:-1]
    ordered = tf.constant(order)
    inputs_of = rows.batch if states is None else rows.batch_of(states)

    @_branchless
    def batch_from(start: tf.Tensor, end: tf.Tensor, width: tf.Tensor) -> dict[str, tf.Tensor]:
        return inputs_of(ordered[start:end], width)

    dataset = tf.data.Dataset.from_tensor_slices((starts, ends, widths[ends - 1].astype(np.int32))).map(
        batch_from, num_parallel_calls=MAP_THREADS
    )
    cardinality = tf.data.experimental.assert_cardinality(len(ends))
    return without_autotune(dataset.apply(cardinality).prefetch(PREFETCH_BATCHES)), order


def _ends(widths: np.ndarray, batch_size: int, most_tokens: int) -> np.ndarray:
    """Where batches of rows of these ascending `widths` end: (batches,) int64.

    Each has as many rows as `most_tokens` hold with their padding, at least `batch_size`; the last has what is left.

    Example:
        >>> _ends(np.array([4, 4, 4, 4, 4, 8, 8, 8, 16]), batch_size=1, most_tokens=16).tolist()
        [4, 6, 8, 9]
    """
    count, ends, start = len(widths), [], 0
    while start < count:
        least = min(start + batch_size, count)
        more = range(least, count)
        # The rows up to the next one, all as wide as it: that grows with each.
        ends.append(least + bisect.bisect_right(more, most_tokens, key=lambda at: (at + 1 - start) * widths[at]))
        start = ends[-1]
    return np.array(ends, np.int64)
