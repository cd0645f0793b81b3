"""What the encoder inside tfft knows: ten examples a class, beside the same architecture with random weights.

    python tests/benchmarks/few_examples.py [--data FOLDER] [--seeds 1 2 3 4 5] [--rates 3e-4 1e-3] [--runs FOLDER]

The messages of the quickstart (8 classes) and, where `--data` has `sst2/`, film reviews (2 classes). Each seed draws
other examples, and the same for both; both are scored on all validation and test rows, by which nothing is chosen.
Every learning rate is tried with both, and all are shown. What is finished in `--runs` is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from smaller import run
from techniques import spread

ENCODER = "package:tfft/tiny"
EXAMPLES = 10  # of each class
ROWS = {"the encoder in tfft": ENCODER, "random weights": "{runs}/random"}
SETTINGS = (
    "data.text_columns=[text]",
    "data.label_column=label",
    "training.num_train_epochs=30",
    "training.per_device_train_batch_size=16",
    "training.eval_strategy=no",
    "training.metrics=[accuracy]",
    "training.report=false",
)


@dataclass(frozen=True)
class Run:
    """One training that was measured: of which task, from what, at which rate and seed, and the accuracy at its end."""

    task: str
    row: str
    rate: float
    seed: int
    accuracy: float


def random_checkpoint(folder: Path) -> None:
    """The encoder's architecture and tokenizer, with weights as Transformers draws them."""
    from tfft import hardware
    from tfft.exports import pytorch
    from tfft.models import checkpoint, load

    if (folder / "model.safetensors").is_file():
        return
    hardware.set_seed(1)
    found = checkpoint.find(ENCODER)
    folder.mkdir(parents=True, exist_ok=True)
    model = load.load_model(replace(found, weights=()), "TFAutoModelForMaskedLM").model
    pytorch.write(model, checkpoint.load_tokenizer(found), folder)


def tasks_of(data: Path | None) -> Mapping[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
    """Task -> rows to draw from, and rows to score on, each a text and a label."""
    from tfft import locations

    messages = locations.resolve("package:tfft/quickstart")
    found = {
        "messages": (
            read(messages / "train.csv", "text", "intent"),
            read(messages / "validation.csv", "text", "intent") + read(messages / "test.csv", "text", "intent"),
        )
    }
    if data is not None:
        columns = ("sentence", "label", "\t")
        found["SST-2"] = tuple(read(data / "sst2" / f"{name}.tsv", *columns) for name in ("train", "dev"))
    return found


def read(path: Path, text: str, label: str, delimiter: str = ",") -> list[tuple[str, str]]:
    """Texts and labels of a file."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file, delimiter=delimiter, quoting=quoting)]


def examples(rows: Sequence[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    """As many of each class, drawn by the seed."""
    by_label: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        by_label[row[1]].append(row)
    draw = random.Random(seed)
    return [row for label in sorted(by_label) for row in draw.sample(by_label[label], EXAMPLES)]


def write(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """The rows as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def accuracy_of(
    task: str, row: str, rate: float, seed: int, runs: Path, drawn: Sequence[tuple[str, str]], scored: Path
) -> float:
    """The accuracy of a training, made now unless it is there."""
    folder = runs / f"{task}-{[*ROWS].index(row)}-{rate:g}-{seed}"
    if not (folder / "metrics.json").is_file():
        given = write(runs / f"{task}-{seed}.csv", drawn)
        recipe = runs / "recipe.yaml"
        recipe.write_text("task: text-classification\n", encoding="utf-8")
        settings = (
            f"model.name_or_path={ROWS[row].format(runs=runs)}",
            f"data.train_file={given}",
            f"data.validation_file={scored}",
            f"training.learning_rate={rate:g}",
            f"seed={seed}",
            f"output_dir={folder}",
        )
        run(["tfft.fit", "--recipe", str(recipe), *SETTINGS, *settings, "--overwrite"])
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return float(found["eval"]["accuracy"])


def table(found: Sequence[Run]) -> str:
    """Mean (least-greatest) over seeds, a row for each task and rate."""
    lines = [f"| task | rate | {' | '.join(ROWS)} | points more |", "| --- | --- | --- | --- | --- |"]
    for task, rate in dict.fromkeys((one.task, one.rate) for one in found):
        of_rows = [
            [one.accuracy for one in found if (one.task, one.rate, one.row) == (task, rate, row)] for row in ROWS
        ]
        more = 100 * (statistics.mean(of_rows[0]) - statistics.mean(of_rows[1]))
        lines.append(f"| {task} | {rate:g} | {' | '.join(map(spread, of_rows))} | {more:+.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TFFT_DATA"), help="folder with sst2/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3])
    parser.add_argument("--runs", type=Path, default=Path("runs/few_examples"))
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    arguments = parser.parse_args()
    random_checkpoint(arguments.runs / "random")
    found: list[Run] = []
    for task, (rows, others) in tasks_of(arguments.data).items():
        scored = write(arguments.runs / f"{task}-scored.csv", others)
        for seed in arguments.seeds:
            drawn = examples(rows, seed)
            for rate in arguments.rates:
                for row in ROWS:
                    accuracy = accuracy_of(task, row, rate, seed, arguments.runs, drawn, scored)
                    found.append(Run(task, row, rate, seed, accuracy))
                    print(f"{task}, seed {seed}, rate {rate:g}, {row}: {accuracy:.4f}", flush=True)
    print(table(found))
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
