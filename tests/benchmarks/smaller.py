"""What a smaller model costs in scores on MRPC with a small model, over seeds: size, latency, accuracy and F1.

    python tests/benchmarks/smaller.py --data FOLDER [--seeds 1 2 3] [--output FILE]

For each seed three trainings (all layers, half of the layers' weights pruned, three layers of six), each exported to
TensorFlow Lite in the precisions of its rows, so that one program runs them all; its scores are those that
`export.json` has on all validation rows. What is finished in `--runs` is not made again. At the end the files of the
first seed answer validation rows one by one, all of them in turn in one process, and the median is the latency.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from techniques import SHARED, TASKS, spread

# As the techniques are compared, but for longer and on all rows.
SETTINGS = (*SHARED, "~data.max_train_samples", "training.num_train_epochs=3")
# What differs from that.
TRAININGS: dict[str, tuple[str, ...]] = {
    "all": (),
    "pruned": ("training.pruning_sparsity=0.5",),
    "three-layers": ("model.keep_layers=3",),
}
# Row of the table -> which training, and the precision of its file.
ROWS: dict[str, tuple[str, str]] = {
    "float32": ("all", "float32"),
    "float16": ("all", "float16"),
    "int8 weights (dynamic)": ("all", "dynamic"),
    "int8": ("all", "int8"),
    "pruned 50 %": ("pruned", "float32"),
    "3 of 6 layers": ("three-layers", "float32"),
}
# Of latency: validation rows, and how often each is answered by each file.
TIMED, ROUNDS, WARMUP = 60, 3, 10


@dataclass(frozen=True)
class Measured:
    """One file.

    Attributes:
        row, seed: which one.
        accuracy, f1: of the validation rows.
        bytes, packed_bytes: of the file, and of what gzip makes of it.
        changed: validation rows that it answers otherwise than the model it was made of.
    """

    row: str
    seed: int
    accuracy: float
    f1: float
    bytes: int
    packed_bytes: int
    changed: int


def run(arguments: Sequence[str]) -> None:
    """A command of tfft's."""
    ended = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{ended.stdout}{ended.stderr}")


def trained(name: str, seed: int, data: Path, runs: Path, more: Sequence[str]) -> Path:
    """The folder of the training, made now unless it is there."""
    folder = runs / f"{name}-{seed}"
    if not (folder / "metrics.json").is_file():
        recipe, files = TASKS["MRPC"]
        settings = (*SETTINGS, *(one.format(data=data) for one in files), *TRAININGS[name], *more)
        run(["tfft.fit", "--recipe", recipe, *settings, f"seed={seed}", f"output_dir={folder}", "--overwrite"])
    return folder


def exported(folder: Path, precision: str) -> Path:
    """The file that a training's model has become, made now unless it is there."""
    output = folder.with_name(f"{folder.name}-{precision}")
    if not (output / "export.json").is_file():
        # All rows, and whatever score it has: that is what is measured here.
        given = ["--run", str(folder), "--to", "tflite", "--precision", precision, "--output", str(output)]
        run(["tfft.export", *given, "--rows", "1000000", "--tolerance", "1", "--overwrite"])
    return output / f"model_{precision}.tflite"


def measured(row: str, seed: int, file: Path) -> Measured:
    """What the export says, and its sizes."""
    report: Mapping[str, Any] = json.loads((file.parent / "export.json").read_text(encoding="utf-8"))
    content = file.read_bytes()
    return Measured(
        row,
        seed,
        report["scores"]["accuracy"],
        report["scores"]["f1"],
        len(content),
        len(gzip.compress(content, mtime=0)),
        report["changed_predictions"],
    )


def milliseconds(files: Mapping[str, Path], folder: Path, rounds: int) -> dict[str, list[float]]:
    """What each file takes for a row alone, as long as it comes; one file after the other answers the same row.

    Args:
        folder: of a run with the same tokenizer, for the rows.
        rounds: how often the rows are gone through.
    """
    import tfft
    from tfft import console, validated
    from tfft.exports import reload
    from tfft.exports.check import Checked
    from tfft.tasks import SINGLE_LABEL

    console.silence_libraries()
    predictor = tfft.load(folder)
    checked = Checked(predictor, validated.split_of(folder, predictor, SINGLE_LABEL, TIMED), ["accuracy"])
    rows = list(checked.examples(TIMED))
    answers = {name: reload.lite(str(file)) for name, file in files.items()}
    found: dict[str, list[float]] = {name: [] for name in files}
    for number, inputs in enumerate(rows[:WARMUP] + rows * rounds):
        for name, answer in answers.items():
            began = time.perf_counter()
            answer(inputs)
            if number >= WARMUP:
                found[name].append((time.perf_counter() - began) * 1000)
    return found


def table(found: Sequence[Measured], latencies: Mapping[str, Sequence[float]]) -> str:
    """Markdown, a row a file; scores as `mean (least-greatest)` over seeds."""
    lines = [
        "| Model | MB | MB, gzip | ms a row | Accuracy | F1 | Answered otherwise than by its float32 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        own = [one for one in found if one.row == row]
        if not own:
            continue
        cells = [
            row,
            f"{statistics.median(one.bytes for one in own) / 1e6:.1f}",
            f"{statistics.median(one.packed_bytes for one in own) / 1e6:.1f}",
            f"{statistics.median(latencies[row]):.1f}" if row in latencies else "",
            spread([one.accuracy for one in own]),
            spread([one.f1 for one in own]),
            spread([one.changed for one in own], 0),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Makes what is not there yet, prints a table after every seed and writes all numbers at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TFFT_DATA"), help="folder with mrpc/")
    parser.add_argument("--runs", type=Path, default=Path("runs/smaller"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of latency, {TIMED} rows each (default: {ROUNDS})")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for every training, to try this")
    parser.add_argument("--output", type=Path, default=None, help="a JSON file (default: smaller.json in --runs)")
    arguments = parser.parse_args()
    if arguments.data is None or not Path(arguments.data).is_dir():
        parser.error("name the folder of the data sets by --data, or by TFFT_DATA")
    found: list[Measured] = []
    files: dict[str, Path] = {}
    for seed in arguments.seeds:
        for row in arguments.rows:
            name, precision = ROWS[row]
            folder = trained(name, seed, arguments.data, arguments.runs, arguments.set)
            file = exported(folder, precision)
            files.setdefault(row, file)
            found.append(measured(row, seed, file))
            print(f"seed {seed}, {row}: accuracy {found[-1].accuracy:.4f}, F1 {found[-1].f1:.4f}", flush=True)
        print(f"after seed {seed}:\n\n{table(found, {})}\n", flush=True)
    latencies = milliseconds(files, folder, arguments.rounds)
    print(f"with latencies of seed {arguments.seeds[0]}:\n\n{table(found, latencies)}")
    output = arguments.output or arguments.runs / "smaller.json"
    report = {"files": [asdict(one) for one in found], "milliseconds": latencies, "threads": os.cpu_count()}
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
