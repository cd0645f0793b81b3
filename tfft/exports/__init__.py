"""A run's model in the forms that other programs load: how each is written, and how it is tried afterwards.

`formats` writes them, by what `served`, `lite`, `onnx` and `pytorch` know; `reload` loads one in a process of its own,
`check` compares what it answers there with what the run's model answers, and `papers` tell how to use it.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMS: Mapping[str, str] = {
    "savedmodel": "TF Serving, and TensorFlow in any language",
    "tflite": "phones and small computers",
    "onnx": "the runtimes of ONNX",
    "hf-pytorch": "PyTorch, by Transformers",
    "keras-weights": "code of one's own in Keras",
}
# Of tflite: what the weights are held as, and what it computes in.
PRECISIONS: Mapping[str, str] = {
    "float32": "as it was trained",
    "float16": "weights of half the size, computed in float32",
    "dynamic": "weights as 8-bit integers, the ranges of all else measured at each call",
    "int8": "8-bit integers by ranges measured on validation rows; what has no such kernel stays float32",
}
