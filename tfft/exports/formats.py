"""How each form of a model is written into a folder, and what loads it again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfft.backend import tf
from tfft.exports import lite, onnx, pytorch, wordpiece
from tfft.exports.served import Served
from tfft.predictor import Predictor
from tfft.problems import Tokens
from tfft.whole import system_errors

# The number of the version, without which TF Serving finds no model.
VERSION = "1"
# Bytes of all else that a form has: names, graph, tokenizer.
_BESIDE_WEIGHTS = 4_000_000


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        folder: the run's.
        model, tokenizer: loaded from there.
        served: the model as a function.
        examples: inputs (1, tokens) int32 of validation rows, anew at each call.
        precision: a key of `exports.PRECISIONS`.
        no_texts: why `served` takes token ids only; None where it takes strings as well.
    """

    folder: Path
    model: Any
    tokenizer: Any
    served: Served
    examples: Callable[[], Iterator[dict[str, np.ndarray]]]
    precision: str
    no_texts: str | None


def source(
    to: str,
    folder: Path,
    predictor: Predictor,
    input_names: tuple[str, ...],
    columns: int,
    examples: Callable[[], Iterator[dict[str, np.ndarray]]],
    precision: str,
) -> Source:
    """What is exported of a run.

    Args:
        to: a key of `exports.FORMS`.
        folder: the run's.
        predictor: loaded from it.
        input_names: those of the tokenizer's inputs that the model takes.
        columns: of texts, one or two.
        examples, precision: see `Source`.
    """
    no_texts = _takes_no_texts(to, predictor)
    pieces = None if no_texts else wordpiece.WordPiece(predictor.tokenizer, predictor.max_length)
    served = Served(predictor.model, predictor.problem, input_names, pieces, columns)
    return Source(folder, predictor.model, predictor.tokenizer, served, examples, precision, no_texts)


def check(to: str, model_folder: Path) -> None:
    """Raises a ModelError where this model has no such form, or what writes it is not installed."""
    if to == "hf-pytorch":
        pytorch.check(model_folder)
    if to == "onnx":
        onnx.check_is_installed()


def _takes_no_texts(to: str, predictor: Predictor) -> str | None:
    if to != "savedmodel":
        return "only a SavedModel takes them"
    if isinstance(predictor.problem, Tokens):
        return "words have tags, and a string does not say what its words are"
    if predictor.long_text.mode != "truncate":
        return f"data.long_text is {predictor.long_text.mode}"
    if reason := wordpiece.hindrance(predictor.tokenizer):
        return f"of the tokenizer: {reason}"
    return None


def reserve(source: Source, folder: Path) -> None:
    """Finds out whether the disk has room for the weights.

    The writer of HDF5 crashes on a full disk, and TensorFlow's says so in many ways.

    Raises:
        OSError: it has none.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    size = sum(weight.shape.num_elements() * weight.dtype.size for weight in source.served.weights)
    trial = folder / "reserved"
    with trial.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + _BESIDE_WEIGHTS)
    trial.unlink()


def _saved_model(source: Source, folder: Path) -> tuple[str, str]:
    _save(source.served, folder / VERSION)
    source.tokenizer.save_pretrained(folder / "tokenizer")
    return "saved_model", str(folder / VERSION)


def _lite(source: Source, folder: Path) -> tuple[str, str]:
    scratch, path = folder / "scratch", folder / f"model_{source.precision}.tflite"
    _save(source.served, scratch)
    path.write_bytes(lite.convert(scratch, source.precision, source.examples()))
    shutil.rmtree(scratch)
    source.tokenizer.save_pretrained(folder / "tokenizer")
    return "lite", str(path)


def _onnx(source: Source, folder: Path) -> tuple[str, str]:
    onnx.write(source.served, folder / "model.onnx")
    source.tokenizer.save_pretrained(folder / "tokenizer")
    return "onnx", str(folder / "model.onnx")


def _pytorch(source: Source, folder: Path) -> tuple[str, str]:
    pytorch.write(source.model, source.tokenizer, folder)
    return "folder", str(folder)


def _keras_weights(source: Source, folder: Path) -> tuple[str, str]:
    path = folder / "model.weights.h5"
    with system_errors(folder):
        source.model.save_weights(path)
    source.model.config.save_pretrained(folder)
    source.tokenizer.save_pretrained(folder)
    return "keras_weights", "\n".join([str(path), str(source.folder)])


def _save(served: Served, folder: Path) -> None:
    tf.saved_model.save(served, str(folder), signatures=served.signatures)


# Form -> what puts it into a folder, and gives the kind that `reload` knows it by and the argument for that.
WRITERS: Mapping[str, Callable[[Source, Path], tuple[str, str]]] = {
    "savedmodel": _saved_model,
    "tflite": _lite,
    "onnx": _onnx,
    "hf-pytorch": _pytorch,
    "keras-weights": _keras_weights,
}
