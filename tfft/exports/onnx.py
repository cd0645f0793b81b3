"""ONNX, through tf2onnx."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tfft.backend import tf
from tfft.errors import ModelError
from tfft.exports.served import Served

# The newest whose operators tf2onnx writes.
OPSET = 18
NEEDED = ("tf2onnx", "onnx", "onnxruntime")


def check_is_installed() -> None:
    """Raises a ModelError unless all that writes and tries ONNX is there."""
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise ModelError(
            f"--to onnx: needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed; "
            "install with: pip install 'tfft[onnx]'"
        )


def write(served: Served, path: Path) -> None:
    """The model's function as a file of ONNX, with inputs and outputs named as in a SavedModel."""
    import tf2onnx

    names = served.input_names
    wanted = [tf.TensorSpec([None, None], tf.int32, name=name) for name in names]

    @tf.function(input_signature=wanted)
    def answer(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = served.answer(dict(zip(names, inputs, strict=True)))
        return found

    tf2onnx.convert.from_function(
        answer,
        input_signature=wanted,
        opset=OPSET,
        output_path=str(path),
        # Of GELU, which ONNX has by erf alone.
        custom_op_handlers={"Erfc": (_as_erf, [])},
    )


def _as_erf(graph: Any, node: Any, name: str, _: Any) -> None:
    """erfc(x) = 1 - erf(x)."""
    output, shape, kind = node.output[0], graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    one = graph.make_const(f"{name}/one", np.ones((), np.float32))
    erf = graph.make_node("Erf", [node.input[0]], name=f"{name}/erf", shapes=[shape], dtypes=[kind])
    graph.remove_node(name)
    inputs = [one.output[0], erf.output[0]]
    graph.make_node("Sub", inputs, name=name, outputs=[output], shapes=[shape], dtypes=[kind])
