"""The usual Keras tutorial flow, as in courses: to_tf_dataset, DataCollatorWithPadding, PolynomialDecay, Adam.

    python tests/benchmarks/peers/keras_course.py --checkpoint DIR --train-file train.tsv --validation-file dev.tsv

Runs in the project's own environment (no torch). Prints one JSON line, after Keras's own. What slows this flow down is
left in on purpose: it is what people have.
"""

from __future__ import annotations

import time

STARTED = time.time()

import os  # noqa: E402

os.environ.update(TF_USE_LEGACY_KERAS="1", HF_HUB_OFFLINE="1", TF_CPP_MIN_LOG_LEVEL="3")

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402

import clock  # noqa: E402
import numpy as np  # noqa: E402
import rows  # noqa: E402
import sklearn.metrics  # noqa: E402
import tensorflow as tf  # noqa: E402
from datasets import Dataset  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoTokenizer,
    DataCollatorWithPadding,
    TFAutoModelForSequenceClassification,
)
from transformers.modeling_tf_pytorch_utils import load_pytorch_state_dict_in_tf2_model  # noqa: E402


def make_model(checkpoint, num_labels: int):
    """The checkpoint's weights under a new head. `from_pretrained` cannot read PyTorch's safetensors any more."""
    config = AutoConfig.from_pretrained(checkpoint, num_labels=num_labels)
    model = TFAutoModelForSequenceClassification.from_config(config)
    model.build_in_name_scope()
    weights = load_file(checkpoint / "model.safetensors")
    load_pytorch_state_dict_in_tf2_model(model, weights, tf_inputs=False, allow_missing_keys=True)
    return model


def main() -> None:
    """Reads, encodes, trains, scores, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    rows.add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    tf.keras.utils.set_random_seed(args.seed)

    train_columns, validation_columns, names = rows.load(args)
    text_columns = [name for name in train_columns if name != "labels"]
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    collate = DataCollatorWithPadding(tokenizer=tokenizer, return_tensors="tf")

    def encode(batch):
        return tokenizer(*(batch[name] for name in text_columns), truncation=True, max_length=args.max_length)

    def batches(dataset, shuffle):
        return dataset.to_tf_dataset(
            columns=tokenizer.model_input_names,
            label_cols=["labels"],
            shuffle=shuffle,
            collate_fn=collate,
            batch_size=args.batch_size,
        )

    train = Dataset.from_dict(train_columns).map(encode, batched=True)
    validation = Dataset.from_dict(validation_columns).map(encode, batched=True)
    train_batches, validation_batches = batches(train, True), batches(validation, False)

    model = make_model(args.checkpoint, len(names))
    schedule = tf.keras.optimizers.schedules.PolynomialDecay(args.learning_rate, len(train_batches) * args.epochs, 0.0)
    model.compile(
        optimizer=tf.keras.optimizers.Adam(schedule),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    steps = clock.StepClock()
    timed = tf.keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: steps.epoch_begins(), on_batch_end=lambda batch, logs: steps.step_ends()
    )
    ready = time.time()
    model.fit(train_batches, validation_data=validation_batches, epochs=args.epochs, verbose=2, callbacks=[timed])
    trained = time.time()
    guess = np.argmax(model.predict(validation_batches, verbose=0)["logits"], axis=1)
    labels = np.array(validation["labels"])
    average = "binary" if len(names) == 2 else "macro"
    report = {
        "peer": "keras_course",
        "seed": args.seed,
        "train_samples": len(train),
        "accuracy": sklearn.metrics.accuracy_score(labels, guess),
        "f1": sklearn.metrics.f1_score(labels, guess, average=average),
        "train_seconds": trained - ready,
        "total_seconds": time.time() - STARTED,
        "train_samples_per_second": len(train) * args.epochs / (trained - ready),
        **steps.report(STARTED, args.batch_size),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
