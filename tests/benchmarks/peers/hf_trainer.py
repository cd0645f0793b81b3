"""The peer that most users would pick instead: Hugging Face Trainer on PyTorch, same checkpoint, data and batch size.

    .venv-peers/bin/python tests/benchmarks/peers/hf_trainer.py --checkpoint DIR --train-file train.tsv \
        --validation-file dev.tsv

Needs an environment of its own (`make bench-setup` builds it): torch, transformers 4.57, datasets, accelerate,
scikit-learn. Prints one JSON line, after Trainer's own. `--bf16 --group-by-length` is its fast way on a CPU.
"""

from __future__ import annotations

import time

STARTED = time.time()

import os  # noqa: E402

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_NO_TF="1", TOKENIZERS_PARALLELISM="true")

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import tempfile  # noqa: E402

import clock  # noqa: E402
import numpy as np  # noqa: E402
import rows  # noqa: E402
import sklearn.metrics  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


def parse_arguments() -> argparse.Namespace:
    """The shared arguments, and Trainer's own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    rows.add_arguments(parser)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--warmup-ratio", type=float, default=0.1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--group-by-length", action="store_true")
    return parser.parse_args()


class Timed(TrainerCallback):
    """Tells a clock when epochs begin and steps end."""

    def __init__(self, steps: clock.StepClock) -> None:
        self.steps = steps

    def on_epoch_begin(self, *args, **kwargs):
        """The next step is not timed."""
        self.steps.epoch_begins()

    def on_step_end(self, *args, **kwargs):
        """One step more."""
        self.steps.step_ends()


def main() -> None:
    """Reads, encodes, trains, scores, prints."""
    args = parse_arguments()
    set_seed(args.seed)  # Trainer seeds itself only after the new head has been drawn
    train_columns, validation_columns, names = rows.load(args)
    text_columns = [name for name in train_columns if name != "labels"]
    average = "binary" if len(names) == 2 else "macro"
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)

    def encode(batch):
        return tokenizer(*(batch[name] for name in text_columns), truncation=True, max_length=args.max_length)

    def scores(prediction):
        guess = np.argmax(prediction.predictions, axis=-1)
        return {
            "accuracy": sklearn.metrics.accuracy_score(prediction.label_ids, guess),
            "f1": sklearn.metrics.f1_score(prediction.label_ids, guess, average=average),
        }

    train = Dataset.from_dict(train_columns).map(encode, batched=True)
    validation = Dataset.from_dict(validation_columns).map(encode, batched=True)
    steps = clock.StepClock()
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = Trainer(
            AutoModelForSequenceClassification.from_pretrained(args.checkpoint, num_labels=len(names)),
            TrainingArguments(
                output_dir,
                use_cpu=True,
                bf16=args.bf16,
                group_by_length=args.group_by_length,
                per_device_train_batch_size=args.batch_size,
                per_device_eval_batch_size=64,
                num_train_epochs=args.epochs,
                learning_rate=args.learning_rate,
                lr_scheduler_type="linear",
                weight_decay=0.01,
                warmup_ratio=args.warmup_ratio,
                eval_strategy="epoch",
                save_strategy="no",
                report_to=[],
                seed=args.seed,
            ),
            train_dataset=train,
            eval_dataset=validation,
            compute_metrics=scores,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[Timed(steps)],
        )
        ready = time.time()
        trainer.train()
        trained = time.time()
        final = trainer.evaluate()
    report = {
        "peer": "hf_trainer",
        "bf16": args.bf16,
        "group_by_length": args.group_by_length,
        "warmup_ratio": args.warmup_ratio,
        "seed": args.seed,
        "train_samples": len(train),
        "accuracy": final["eval_accuracy"],
        "f1": final["eval_f1"],
        "train_seconds": trained - ready,
        "total_seconds": time.time() - STARTED,
        "train_samples_per_second": len(train) * args.epochs / (trained - ready),
        **steps.report(STARTED, args.batch_size),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
