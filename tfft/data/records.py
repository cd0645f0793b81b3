"""One row as a record, and records as rows: `tf.train.Example`, which every reader of TFRecord files knows.

| Feature | |
| --- | --- |
| `input_ids`, `token_type_ids` | of every token, without padding |
| `label` | a class id, a number, or 0 and 1 for every class |
| `weight` | what a training row counts in the loss, where rows say so |
| `row`, `text`, `text_pair`, `lost_tokens` | of validation and test rows: number in the source, texts, tokens cut off |
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfft.backend import tf
from tfft.data import Split
from tfft.data.manifest import Manifest, SplitFacts

TEXTS = ("text", "text_pair")


def record(split: Split, index: int) -> bytes:
    """The row at this position.

    Example:
        >>> from tfft.data import Rows
        >>> from tfft.data.encode import Encoded
        >>> encoded = Encoded(np.array([2, 7, 3]), None, np.array([0, 3]), np.zeros(1, np.int32))
        >>> split = Split("train", Rows((["a"],), [1], [1], "rows"), encoded, np.array([1], np.int32))
        >>> found = tf.train.Example.FromString(record(split, 0)).features.feature
        >>> {name: list(found[name].int64_list.value) for name in sorted(found)}
        {'input_ids': [2, 7, 3], 'label': [1]}
    """
    encoded = split.encoded
    begin, end = int(encoded.offsets[index]), int(encoded.offsets[index + 1])
    features = {"input_ids": _integers(_between(encoded.input_ids, begin, end))}
    if encoded.token_type_ids is not None:
        features["token_type_ids"] = _integers(_between(encoded.token_type_ids, begin, end))
    if split.labels is not None:
        label = np.atleast_1d(split.labels[index])
        features["label"] = _integers(label) if label.dtype.kind == "i" else _floats(label)
    if split.weights is not None:
        features["weight"] = _floats(split.weights[index : index + 1])
    if split.name != "train":
        features["row"] = _integers([split.rows.numbers[index]])
        features["lost_tokens"] = _integers(encoded.lost_tokens[index : index + 1])
        for name, column in zip(TEXTS, split.rows.texts, strict=False):
            raw = column[index].encode("utf-8", "surrogatepass")
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[raw]))
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return serialized


def _between(column: Any, begin: int, end: int) -> Any:
    return column[begin:end] if isinstance(column, np.ndarray) else column.read(begin, end)


def _integers(values: Any) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(values: Any) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def features_of(split: SplitFacts, manifest: Manifest, texts: int = 0) -> dict[str, Any]:
    """What `tf.io.parse_example` finds in the records of a split.

    Args:
        texts: how many text columns are wanted too, with `row` and `lost_tokens`; those of training rows are not kept.
    """
    tokens = ["input_ids", "token_type_ids"] if split.token_types else ["input_ids"]
    features: dict[str, Any] = {name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in tokens}
    if split.has_labels:
        shape, kind = manifest.label_type()
        features["label"] = tf.io.FixedLenFeature(shape, tf.int64 if kind is np.int32 else tf.float32)
    if split.weighted:
        features["weight"] = tf.io.FixedLenFeature((), tf.float32)
    if texts:
        features |= {name: tf.io.FixedLenFeature((), tf.int64) for name in ("row", "lost_tokens")}
        features |= {name: tf.io.FixedLenFeature((), tf.string) for name in TEXTS[:texts]}
    return features
