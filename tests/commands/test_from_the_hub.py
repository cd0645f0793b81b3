"""`--recipe mrpc` as shipped, on a hub that runs here: checkpoint and data set both come from it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from tests.test_hub import running_hub

CARD = b"""---
configs:
- config_name: mrpc
  data_files:
  - {split: train, path: mrpc/train-*}
  - {split: validation, path: mrpc/validation-*}
  - {split: test, path: mrpc/test-*}
---
# Pairs
"""
FEATURES = datasets.Features(
    {
        "sentence1": datasets.Value("string"),
        "sentence2": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["not_equivalent", "equivalent"]),
        "idx": datasets.Value("int32"),
    }
)


def parquet(rows: int, begin: int, has_labels: bool = True) -> bytes:
    """A split as GLUE has them; the test split's labels are hidden, which it says by -1."""
    numbers = range(begin, begin + rows)
    columns = {
        "sentence1": [f"the movie {number} was good" for number in numbers],
        "sentence2": [f"the movie {number} was {'nice' if number % 2 else 'bad'}" for number in numbers],
        "label": [number % 2 if has_labels else -1 for number in numbers],
        "idx": list(numbers),
    }
    written = io.BytesIO()
    datasets.Dataset.from_dict(columns, features=FEATURES).to_parquet(written)
    return written.getvalue()


@pytest.mark.slow
def test_the_shipped_recipe_trains_on_what_the_hub_has(tiny_checkpoint: Path, tmp_path: Path) -> None:
    splits = {"train": parquet(40, 0), "validation": parquet(12, 100), "test": parquet(10, 200, has_labels=False)}
    data_files = {"README.md": CARD, **{f"mrpc/{name}-0.parquet": body for name, body in splits.items()}}
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN"):
        environment.pop(name, None)
    overrides = ["model.name_or_path=owner/tiny", "data.dataset_name=owner/pairs", "output_dir=run"]
    with running_hub({one.name: one.read_bytes() for one in tiny_checkpoint.iterdir()}, data_files) as hub:
        done, evaluated = (
            subprocess.run(
                [sys.executable, "-m", *typed],
                capture_output=True,
                text=True,
                timeout=300,
                cwd=tmp_path,
                env={**environment, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
            )
            for typed in (
                ["tfft.fit", "--recipe", "mrpc", *overrides, "training.num_train_epochs=1"],
                ["tfft.evaluate", "--run", "run", "--slice", "idx", "--min-rows", "1"],
            )
        )
    assert (done.stderr, evaluated.stderr) == ("", "")
    assert (done.returncode, evaluated.returncode) == (0, 0)
    assert "rows: 40 train, 12 validation, 10 test; 2 classes: not_equivalent, equivalent" in done.stdout
    assert "owner/pairs mrpc [test]: its rows have no labels, so it cannot be scored" in done.stdout
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics["eval"]) == {"loss", "accuracy", "f1"}
    assert "test" not in metrics
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["label2id"] == {"not_equivalent": 0, "equivalent": 1}
    found = json.loads((tmp_path / "run" / "evaluation" / "validation" / "evaluation.json").read_text())
    assert {name: one["value"] for name, one in found["scores"].items()} == pytest.approx(metrics["eval"], abs=1e-6)
    assert [one["name"] for one in found["slices"] if one["by"] == "column idx"][::3] == ["100 to 102", "109 to 111"]
