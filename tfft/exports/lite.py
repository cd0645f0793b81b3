"""TensorFlow Lite: one file, whose batch and length are told at each call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfft.backend import tf


def convert(saved_model: Path, precision: str, examples: Iterator[dict[str, np.ndarray]]) -> bytes:
    """The model of a SavedModel as a file of TensorFlow Lite.

    Args:
        precision: a key of `exports.PRECISIONS`.
        examples: inputs (1, tokens) int32, on which int8 measures its ranges.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: (dict(one) for one in examples)
    converted: bytes = converter.convert()
    return converted
