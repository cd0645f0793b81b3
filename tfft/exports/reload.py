"""An export in a process of its own, as whoever takes it loads it: its answers on stored rows, and how fast they come.

    python reload.py KIND PATH ROWS.npz ANSWERS.npz [TEXTS.json]

It is run as a file, and knows nothing of tfft but where a kind is tfft's own. ROWS.npz holds, for each input NAME,
`of_NAME` (tokens,) int32, all rows end to end, and `pad_of_NAME`; `offsets` (rows + 1,), where each row begins. Into
ANSWERS.npz go the `logits`: (rows, outputs), or (tokens, outputs) where tokens are answered; and, where TEXTS.json has
the same rows as strings, a list for each input NAME, those `of_texts`. The seconds are printed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ == "__main__":
    # Python looks for modules beside this file first, and `onnx` there is not the library.
    del sys.path[0]

import numpy as np

Answer = Callable[[dict[str, np.ndarray]], np.ndarray]

BATCH_SIZE = 32
# Rows that are answered one by one, of which the first are not counted.
SINGLE, WARMUP = 60, 10


def saved_model(path: str) -> Answer:
    """A SavedModel, by the signature that TF Serving takes."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]

    def answer(inputs: dict[str, np.ndarray], _: Any = loaded) -> np.ndarray:
        found: np.ndarray = signature(**{name: tf.constant(value) for name, value in inputs.items()})["logits"].numpy()
        return found

    return answer


def of_texts(path: str, texts: dict[str, list[str]]) -> np.ndarray:
    """The logits (rows, outputs) that a SavedModel gives for strings."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    rows = len(next(iter(texts.values())))
    answered = []
    for start in range(0, rows, BATCH_SIZE):
        batch = {name: tf.constant(column[start : start + BATCH_SIZE]) for name, column in texts.items()}
        answered.append(loaded.signatures["texts"](**batch)["logits"].numpy())
    return np.concatenate(answered)


def lite(path: str) -> Answer:
    """A file of TensorFlow Lite."""
    import warnings

    import tensorflow as tf

    warnings.filterwarnings("ignore", category=UserWarning)  # that LiteRT, a package of its own, is to be taken
    interpreter = tf.lite.Interpreter(model_path=path, num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner("serving_default")
    return lambda inputs: np.asarray(runner(**inputs)["logits"])


def onnx(path: str) -> Answer:
    """A file of ONNX."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(["logits"], inputs)[0])


def folder(path: str) -> Answer:
    """A folder with a model, or a run, by `tfft.load`."""
    import tfft

    return _of_keras(tfft.load(path).model)


def keras_weights(path: str) -> Answer:
    """A file of Keras's weights, put into the model of a run; PATH is two lines, file and run."""
    import tfft

    weights, run = path.split("\n")
    model = tfft.load(run).model
    for weight in model.variables:
        weight.assign(weight * 0)
    model.load_weights(weights)
    return _of_keras(model)


def _of_keras(model: Any) -> Answer:
    import tensorflow as tf

    call = tf.function(lambda inputs: model(inputs, training=False).logits, reduce_retracing=True)

    def answer(inputs: dict[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = call({name: tf.constant(value) for name, value in inputs.items()}).numpy()
        return found

    return answer


KINDS: dict[str, Callable[[str], Answer]] = {
    "saved_model": saved_model,
    "lite": lite,
    "onnx": onnx,
    "folder": folder,
    "keras_weights": keras_weights,
}


def main() -> None:
    """Loads, answers all rows, then times single rows and all rows once more."""
    kind, path, rows_file, target, *texts_file = sys.argv[1:]
    stored = np.load(rows_file)
    began = time.perf_counter()
    answer = KINDS[kind](path)
    load_seconds = time.perf_counter() - began
    offsets = stored["offsets"]
    order = np.argsort(np.diff(offsets), kind="stable")
    batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
    answered = [answer(_padded(stored, rows)) for rows in batches]
    logits: dict[str, Any] = {"logits": _in_order(answered, batches, offsets)}
    if texts_file:
        logits["of_texts"] = of_texts(path, json.loads(Path(texts_file[0]).read_text(encoding="utf-8")))
    np.savez(target, **logits)
    seconds: dict[str, Any] = {"load_seconds": load_seconds, **_single(answer, stored, order)}
    inputs = [_padded(stored, rows) for rows in batches]
    began = time.perf_counter()
    for one in inputs:
        answer(one)
    seconds["rows_per_second"] = len(order) / (time.perf_counter() - began)
    print(json.dumps(seconds))


def _padded(stored: Any, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Inputs (rows, longest) int32."""
    offsets = stored["offsets"]
    longest = max(offsets[row + 1] - offsets[row] for row in rows)
    inputs = {}
    for key in stored.files:
        if key.startswith("of_"):
            inputs[key.removeprefix("of_")] = padded = np.full((len(rows), longest), stored[f"pad_{key}"], np.int32)
            for place, row in enumerate(rows):
                padded[place, : offsets[row + 1] - offsets[row]] = stored[key][offsets[row] : offsets[row + 1]]
    return inputs


def _in_order(answered: Sequence[np.ndarray], batches: Sequence[np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """The logits in the rows' order; of tokens without those of padding."""
    of_rows: dict[int, np.ndarray] = {}
    for logits, rows in zip(answered, batches, strict=True):
        for row, given in zip(rows, logits, strict=True):
            of_rows[int(row)] = given[: offsets[row + 1] - offsets[row]] if given.ndim == 2 else given[None]
    return np.concatenate([of_rows[row] for row in range(len(of_rows))]).astype(np.float32)


def _single(answer: Answer, stored: Any, order: np.ndarray) -> dict[str, Any]:
    """Milliseconds of a row alone, rows as long as they come."""
    rows = np.random.default_rng(0).choice(order, SINGLE)
    times = []
    for row in rows:
        inputs = _padded(stored, np.array([row]))
        began = time.perf_counter()
        answer(inputs)
        times.append((time.perf_counter() - began) * 1000)
    times = times[WARMUP:]
    return {
        "milliseconds_at_batch_1": statistics.median(times),
        "milliseconds_at_batch_1_p95": float(np.percentile(times, 95)),
    }


if __name__ == "__main__":
    Path(sys.argv[4]).unlink(missing_ok=True)
    main()
