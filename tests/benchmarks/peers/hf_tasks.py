"""The Trainer peer for numbers (STS-B) and for tags of words (WNUT 2017), with the settings that tfft is run with.

    .venv-peers/bin/python tests/benchmarks/peers/hf_tasks.py stsb --checkpoint DIR --train-file train.tsv \
        --validation-file dev.tsv

Needs the environment of `make bench-setup`. Prints one JSON line, after Trainer's own: Pearson and Spearman, or entity
scores as the seqeval package counts them, on the validation rows.
"""

from __future__ import annotations

import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_NO_TF="1", TOKENIZERS_PARALLELISM="true")

import argparse
import csv
import json
import pathlib
import tempfile
import time
from typing import Any

import numpy as np
import scipy.stats
import seqeval.metrics
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def parse_arguments() -> argparse.Namespace:
    """The task, its files, and the settings that matter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["stsb", "wnut17"])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="folder of the pretrained model")
    parser.add_argument("--train-file", type=pathlib.Path, required=True, help="TSV with a header, or CoNLL")
    parser.add_argument("--validation-file", type=pathlib.Path, required=True)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def read_pairs(path: pathlib.Path) -> dict[str, list[Any]]:
    """The sentences and scores of STS-B, whose quotes are plain characters."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {
        "sentence1": [row["sentence1"] for row in rows],
        "sentence2": [row["sentence2"] for row in rows],
        "labels": [float(row["score"]) for row in rows],
    }


def read_sentences(path: pathlib.Path) -> dict[str, list[list[str]]]:
    """The words and tags of a CoNLL file with a word, a tab and a tag a line."""
    blocks = [block for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip()]
    rows = [[line.split("\t") for line in block.split("\n") if line.strip()] for block in blocks]
    return {"tokens": [[line[0] for line in row] for row in rows], "tags": [[line[-1] for line in row] for row in rows]}


def numbers(args: argparse.Namespace, tokenizer: Any) -> dict[str, Any]:
    """What Trainer needs beside its arguments, for STS-B."""

    def encode(batch: Any) -> Any:
        return tokenizer(batch["sentence1"], batch["sentence2"], truncation=True, max_length=args.max_length)

    def scores(prediction: Any) -> dict[str, float]:
        found = prediction.predictions.reshape(-1)
        return {
            "pearson": scipy.stats.pearsonr(found, prediction.label_ids).statistic,
            "spearmanr": scipy.stats.spearmanr(found, prediction.label_ids).statistic,
        }

    files = (args.train_file, args.validation_file)
    train, validation = (Dataset.from_dict(read_pairs(path)).map(encode, batched=True) for path in files)
    return {
        "model": AutoModelForSequenceClassification.from_pretrained(
            args.checkpoint, num_labels=1, problem_type="regression"
        ),
        "train_dataset": train,
        "eval_dataset": validation,
        "compute_metrics": scores,
        "data_collator": DataCollatorWithPadding(tokenizer),
    }


def words(args: argparse.Namespace, tokenizer: Any) -> dict[str, Any]:
    """What Trainer needs beside its arguments, for WNUT 2017: the first piece of a word has its tag."""
    raw = [read_sentences(path) for path in (args.train_file, args.validation_file)]
    names = sorted({tag for tags in raw[0]["tags"] for tag in tags})
    ids = {name: index for index, name in enumerate(names)}

    def encode(batch: Any) -> Any:
        found = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True, max_length=args.max_length)
        found["labels"] = []
        for row, tags in enumerate(batch["tags"]):
            of_pieces = found.word_ids(row)
            before = [None, *of_pieces[:-1]]
            found["labels"].append(
                [
                    -100 if word is None or word == last else ids[tags[word]]
                    for word, last in zip(of_pieces, before, strict=True)
                ]
            )
        return found

    def scores(prediction: Any) -> dict[str, float]:
        likeliest = np.argmax(prediction.predictions, axis=-1)
        counts = prediction.label_ids != -100
        found = [[names[one] for one in row[real]] for row, real in zip(likeliest, counts, strict=True)]
        true = [[names[one] for one in row[real]] for row, real in zip(prediction.label_ids, counts, strict=True)]
        return {"f1": float(seqeval.metrics.f1_score(true, found))}

    train, validation = (
        Dataset.from_dict(one).map(encode, batched=True, remove_columns=["tokens", "tags"]) for one in raw
    )
    return {
        "model": AutoModelForTokenClassification.from_pretrained(args.checkpoint, num_labels=len(names)),
        "train_dataset": train,
        "eval_dataset": validation,
        "compute_metrics": scores,
        "data_collator": DataCollatorForTokenClassification(tokenizer),
    }


def main() -> None:
    """Reads, encodes, trains, scores, prints."""
    args = parse_arguments()
    set_seed(args.seed)  # Trainer seeds itself only after the new head has been drawn
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    parts = {"stsb": numbers, "wnut17": words}[args.task](args, tokenizer)
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = Trainer(
            args=TrainingArguments(
                output_dir,
                use_cpu=True,
                group_by_length=True,
                per_device_train_batch_size=args.batch_size,
                per_device_eval_batch_size=64,
                num_train_epochs=args.epochs,
                learning_rate=args.learning_rate,
                lr_scheduler_type="linear",
                weight_decay=0.01,
                warmup_ratio=0.1,
                eval_strategy="no",
                save_strategy="no",
                report_to=[],
                seed=args.seed,
            ),
            **parts,
        )
        began = time.time()
        trainer.train()
        seconds = time.time() - began
        final = trainer.evaluate()
    kept = {
        name.removeprefix("eval_"): final[name]
        for name in ("eval_pearson", "eval_spearmanr", "eval_f1")
        if name in final
    }
    print(json.dumps({"peer": "hf_tasks", "task": args.task, "seed": args.seed, **kept, "train_seconds": seconds}))


if __name__ == "__main__":
    main()
