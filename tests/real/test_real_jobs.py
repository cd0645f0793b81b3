"""The main job on real text with the real checkpoint, on samples that two cores get through in a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tfft


def folder_in(variable: str) -> Path:
    if not (folder := os.environ.get(variable)):
        pytest.skip(f"{variable} is not set")
    return Path(folder)


def command(module: str, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def fit(recipe: str, run: Path, *overrides: str) -> dict[str, Any]:
    """The metrics of a run on MiniLM."""
    checkpoint = folder_in("TFFT_CHECKPOINT")
    command("tfft.fit", "--recipe", recipe, f"model.name_or_path={checkpoint}", f"output_dir={run}", *overrides)
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return metrics


def test_sst2_learns_from_a_thousand_phrases(tmp_path: Path) -> None:
    data = folder_in("TFFT_DATA") / "sst2"
    metrics = fit(
        "sst2",
        tmp_path / "run",
        f"data.train_file={data / 'train.tsv'}",
        f"data.validation_file={data / 'dev.tsv'}",
        "data.max_train_samples=1000",
        "training.num_train_epochs=2",
        "training.learning_rate=1e-4",
        "training.per_device_train_batch_size=16",
    )
    assert metrics["train"]["rows"] == 1000
    assert metrics["eval"]["accuracy"] > 0.7  # the larger class has 0.51
    texts = [line.partition("\t")[0] for line in (data / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    labels = [one.label for one in tfft.load(tmp_path / "run").predict(texts)]
    answers = tfft.pipeline("sentiment-analysis", tmp_path / "run", verbose=False)(texts)
    assert [one["label"] for one in answers] == labels
    exported = tfft.export(tmp_path / "run", "savedmodel", tmp_path / "saved", rows=len(texts), verbose=False).report
    for answers in (exported, exported["texts"]):  # of token ids, and of strings that the model itself tokenizes
        assert answers["changed_predictions"] == 0 and answers["max_logit_difference"] < 1e-3
    assert exported["rows"] == len(texts)
    with pytest.raises(tfft.errors.ModelError, match=r"it can do text-classification$"):
        tfft.pipeline("fill-mask", tmp_path / "run")


def test_mrpc_with_its_own_columns_and_a_test_split(tmp_path: Path) -> None:
    data = folder_in("TFFT_DATA") / "mrpc"
    metrics = fit(
        "mrpc",
        tmp_path / "run",
        f"data.train_file={data / 'train.tsv'}",
        f"data.validation_file={data / 'dev.tsv'}",
        f"data.test_file={data / 'test.tsv'}",
        "data.text_columns=['#1 String','#2 String']",
        "data.label_column=Quality",
        "data.max_train_samples=160",
        "data.max_eval_samples=80",
        "training.num_train_epochs=1",
        "training.per_device_train_batch_size=16",
    )
    assert {"accuracy", "f1", "loss"} == set(metrics["eval"]) == set(metrics["test"])
    assert metrics["train"]["steps"] == 10
    assert 0.4 < metrics["eval"]["accuracy"] <= 1


def reviews() -> tuple[str, ...]:
    """The reviews as they are, a quarter of them to validate on."""
    return (
        f"data.train_file={folder_in('TFFT_DATA') / 'imdb' / 'reviews.csv'}",
        "data.validation_split=0.25",
        "data.text_columns=[review]",
        "data.label_column=sentiment",
        "data.encoding=utf-8:replace",
    )


def test_imdb_as_it_is_with_a_split_of_its_own(tmp_path: Path) -> None:
    metrics = fit(
        "imdb",
        tmp_path / "run",
        *reviews(),
        "data.max_length=48",
        "data.max_train_samples=320",
        "data.max_eval_samples=100",
        "training.num_train_epochs=1",
        "training.metrics=[accuracy,f1]",
    )
    assert metrics["train"]["rows"] == 320
    assert 0.4 < metrics["eval"]["accuracy"] <= 1


def test_pretraining_goes_on_with_reviews(tmp_path: Path) -> None:
    """MiniLM has no masked-LM head: it begins from the embeddings, and learns the commonest words at least."""
    run = tmp_path / "run"
    metrics = fit(
        "legal",
        run,
        *(one for one in reviews() if "label_column" not in one),
        "data.max_length=64",
        "data.max_train_samples=250",
        "data.max_eval_samples=30",
        "data.add_tokens=20",
        "training.num_train_epochs=1",
        "training.learning_rate=5e-4",
        "training.per_device_train_batch_size=16",
    )
    assert metrics["eval"]["perplexity"] < 0.1 * metrics["before"]["perplexity"]
    fill = tfft.pipeline("fill-mask", run / "model", verbose=False)
    assert len(fill.tokenizer) == 30522 + 20 == fill.model.config.vocab_size
    answers = fill("This is one of [MASK] best movies.")
    inputs = dict(fill.tokenizer("This is one of [MASK] best movies.", return_tensors="tf"))
    place = inputs["input_ids"][0].numpy().tolist().index(fill.tokenizer.mask_token_id)
    assert answers[0]["token"] == int(fill.model(inputs).logits[0, place].numpy().argmax())


def test_stsb_is_learned_as_a_number(tmp_path: Path) -> None:
    data = folder_in("TFFT_DATA") / "stsb"
    metrics = fit(
        "stsb",
        tmp_path / "run",
        f"data.train_file={data / 'train.tsv'}",
        f"data.validation_file={data / 'dev.tsv'}",
        "data.label_column=score",
        "data.max_train_samples=800",
        "data.max_eval_samples=150",
        "training.num_train_epochs=3",
        "training.learning_rate=1e-4",
        "training.warmup_ratio=0.1",
        "training.per_device_train_batch_size=8",
    )
    # It takes a whole epoch until the mean score is learned, and only then what differs from it.
    assert set(metrics["eval"]) == {"loss", "pearson", "spearmanr"}
    assert metrics["eval"]["pearson"] > 0.5


def test_wnut17_entities_are_found(tmp_path: Path) -> None:
    data = folder_in("TFFT_DATA") / "wnut17"
    metrics = fit(
        "wnut17",
        tmp_path / "run",
        f"data.train_file={data / 'train.conll'}",
        f"data.validation_file={data / 'dev.conll'}",
        f"data.test_file={data / 'test.conll'}",
        "data.max_train_samples=1000",
        "data.max_eval_samples=400",
        # In batches of 16, two epochs end where entities are just beginning to be found, or not, by the seed.
        "training.per_device_train_batch_size=8",
        "training.num_train_epochs=2",
        "training.learning_rate=3e-4",
    )
    assert metrics["eval"]["f1"] > 0.2  # no entity at all is 0
    assert metrics["eval"]["accuracy"] > 0.9


def test_reviews_in_windows_are_scored_as_reviews(tmp_path: Path) -> None:
    metrics = fit(
        "imdb",
        tmp_path / "run",
        *reviews(),
        "data.max_length=64",
        "data.long_text=sliding_window",
        "data.stride=16",
        "data.max_train_samples=64",
        "data.max_eval_samples=40",
        "training.num_train_epochs=1",
        "training.metrics=[accuracy,f1]",
    )
    assert metrics["train"] | {"rows": 64, "steps": 8} == metrics["train"]
    assert len((tmp_path / "run" / "predictions.csv").read_text(encoding="utf-8").splitlines()) >= 41


def test_the_quickstart_with_a_better_model(tmp_path: Path) -> None:
    folder_in("TFFT_CHECKPOINT")
    command("tfft.fit", "--recipe", "quickstart-minilm", f"output_dir={tmp_path / 'run'}")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["eval"]["accuracy"] > 0.6  # eight classes, equally frequent
    assert metrics["test"]["accuracy"] > 0.6
