"""What lies beside an export: the figures of its trial, and how it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfft.predictor import Predictor
from tfft.problems import Regression
from tfft.whole import whole_file

REPORT, GUIDE, REQUEST = "export.json", "README.md", "request.json"

_TEXTS = ("A text to be answered.", "Another one.")

_HEAD = """# {run}, for {purpose}

Written by tfft {tfft} with `--to {to}`{precision}.
Beside the run's model, on {rows:,} of its validation rows: {compared}.
The figures are in `export.json`.

- Takes {inputs}, each (batch, tokens) int32, of any batch and up to {max_length:,} tokens. {tokenizer}
- Gives {outputs}.
"""
_STRINGS = """It takes plain strings as well, and tokenizes them itself:

```sh
curl -d '{request}' http://localhost:8501/v1/models/{name}:predict
```

"""
_USE = {
    "savedmodel": """
## TF Serving

```sh
docker run --rm -p 8501:8501 -v "{folder}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
curl -d @request.json http://localhost:8501/v1/models/{name}:predict
```

{strings}## Python

```python
import json
from pathlib import Path

import tensorflow as tf

model = tf.saved_model.load("{folder}/1")
rows = json.loads(Path("{folder}/request.json").read_text())["inputs"]
inputs = {{name: tf.constant(ids, tf.int32) for name, ids in rows.items()}}
print(model.signatures["serving_default"](**inputs)["logits"])
```
""",
    "tflite": """
```python
import json
from pathlib import Path

import numpy as np
from tensorflow import lite  # or, without TensorFlow, from ai_edge_litert import interpreter as lite

answer = lite.Interpreter("{folder}/{file}").get_signature_runner("serving_default")
rows = json.loads(Path("{folder}/request.json").read_text())["inputs"]
print(answer(**{{name: np.array(ids, np.int32) for name, ids in rows.items()}})["logits"])
```
""",
    "onnx": """
```python
import json
from pathlib import Path

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{folder}/model.onnx")
rows = json.loads(Path("{folder}/request.json").read_text())["inputs"]
print(session.run(["logits"], {{name: np.array(ids, np.int32) for name, ids in rows.items()}})[0])
```
""",
    "hf-pytorch": """
```python
from transformers import {auto_class}, AutoTokenizer

model = {auto_class}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
print(model(**tokenizer({text}, return_tensors="pt")).logits)
```
""",
    "keras-weights": """
```python
import tfft

model = tfft.load("{source}").model  # or any model of the same architecture, built
model.load_weights("{folder}/model.weights.h5")
```
""",
}


def write(folder: Path, final: Path, predictor: Predictor, report: Mapping[str, Any], purpose: str) -> None:
    """Writes `export.json`, `README.md`, and `request.json` where the form takes token ids.

    Args:
        folder: where the files go.
        final: what the folder will be called.
        predictor: of the run.
        report: the figures.
        purpose: of the form.
    """
    report = {**report, "labels": list(predictor.label_names), "max_length": predictor.max_length}
    texts = _TEXTS[: len(predictor.text_columns or "1")]
    with whole_file(folder / REPORT) as file:
        file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if (folder / "tokenizer").is_dir():
        ids = predictor.tokenizer(*([text] for text in texts))
        with whole_file(folder / REQUEST) as file:
            file.write(json.dumps({"inputs": {name: ids[name] for name in report["inputs"]}}, indent=2) + "\n")
    with whole_file(folder / GUIDE) as file:
        file.write(_guide(final, predictor, report, purpose, texts))


def _guide(final: Path, predictor: Predictor, report: Mapping[str, Any], purpose: str, texts: tuple[str, ...]) -> str:
    to, outputs = report["to"], "`logits`"
    if not isinstance(predictor.problem, Regression):
        count = len(predictor.label_names)
        outputs = f"`logits` and `probabilities`, of {count:,} classes, whose names are in `export.json`"
    if to in ("hf-pytorch", "keras-weights"):
        outputs = "`logits`"
    strings = ""
    if "scores" in report.get("texts", {}):
        names = ("text", "text_pair")[: len(texts)]
        request = {"signature_name": "texts", "inputs": {name: [text] for name, text in zip(names, texts, strict=True)}}
        strings = _STRINGS.format(request=json.dumps(request), name=final.name)
    values = {
        **report,
        "strings": strings,
        "purpose": purpose,
        "precision": f" `--precision {report['precision']}`" if to == "tflite" else "",
        "compared": compared(report),
        "inputs": ", ".join(f"`{name}`" for name in report["inputs"]),
        "tokenizer": "" if to in ("hf-pytorch", "keras-weights") else "The tokenizer is in `tokenizer/`.",
        "outputs": outputs,
        "folder": final.absolute(),
        "source": Path(report["run"]).absolute(),
        "name": final.name,
        "file": f"model_{report['precision']}.tflite",
        "auto_class": "AutoModelFor" + type(predictor.model).__name__.rpartition("For")[2],
        "text": ", ".join(map(repr, texts)),
    }
    return (_HEAD + _USE[to]).format(**values)


def compared(report: Mapping[str, Any]) -> str:
    """How the export answers beside the run's model, in a line."""
    changed, difference = report["changed_predictions"], report["max_logit_difference"]
    parts = [] if changed is None else [f"{changed:,} of {report['rows']:,} predictions changed"]
    parts.append("logits that are not finite" if difference is None else f"logits within {difference:.2g}")
    return ", ".join(parts)
