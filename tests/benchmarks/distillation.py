"""What a teacher is worth to a student of half the layers, on MRPC, SST-2 and IMDB with a small model, over seeds.

    python tests/benchmarks/distillation.py --data FOLDER [--seeds 1 2 3] [--tasks MRPC] [--output FILE]

Every run is the command that a user would type, in a folder of its own below `--runs`; what is finished there is not
run again. Of each seed the teacher comes first, a run like any other; the students of that seed learn from it, or do
without. Seconds are of training, and of the teacher's logits where they were computed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from techniques import SHARED, spread
from techniques import TASKS as OF_TECHNIQUES

# As the techniques are compared, but for the rows and epochs of each task.
SETTINGS = (*SHARED, "~data.max_train_samples", "training.num_train_epochs=3")
REVIEWS = (
    "data.train_file={data}/imdb/reviews.csv",
    "data.validation_split=0.25",
    "data.text_columns=[review]",
    "data.label_column=sentiment",
    "data.encoding=utf-8:replace",
    "data.max_train_samples=1500",
    "~data.max_eval_samples",
    "~training.metric_for_best_model",
    "~training.load_best_model_at_end",
    "training.num_train_epochs=2",
)
# The recipe of each task, and its files and what else is its own.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "MRPC": OF_TECHNIQUES["MRPC"],
    "SST-2": ("sst2", (*OF_TECHNIQUES["SST-2"][1][:2], "data.max_train_samples=4000")),
    "IMDB": ("imdb", REVIEWS),
}
TEACHER = "teacher, 6 layers"
_FEWER = ("model.keep_layers=3",)
_BEGUN = (*_FEWER, "model.name_or_path={teacher}/model")
_TAUGHT = (*_BEGUN, "distillation.teacher={teacher}")
# Row of the table -> what differs from SETTINGS. With these weights the distances begin at some 0.5 each.
ROWS: dict[str, tuple[str, ...]] = {
    TEACHER: (),
    "3 layers": _FEWER,
    "3 of the teacher's layers": _BEGUN,
    "and its logits": _TAUGHT,
    "and its states and attentions": (*_TAUGHT, "distillation.hidden_weight=1", "distillation.attention_weight=0.02"),
    "and its relations": (*_TAUGHT, "distillation.relations_weight=0.1"),
}


@dataclass(frozen=True)
class Run:
    """One training that was measured.

    Attributes:
        task, row, seed: which one.
        accuracy, f1: of the validation rows.
        seconds: of training, and of the teacher's logits.
    """

    task: str
    row: str
    seed: int
    accuracy: float
    f1: float
    seconds: float


def folder_of(runs: Path, task: str, row: str, seed: int) -> Path:
    """Where a run goes."""
    return runs / f"{task}-{row}-{seed}".replace(" ", "_").replace(",", "").replace("'", "")


def command(task: str, row: str, seed: int, data: Path, runs: Path, more: Sequence[str] = ()) -> list[str]:
    """What a user would type."""
    recipe, own = TASKS[task]
    teacher = folder_of(runs, task, TEACHER, seed)
    settings = [one.format(data=data, teacher=teacher) for one in (*SETTINGS, *own, *ROWS[row])]
    module = "tfft.distill" if any(one.startswith("distillation.") for one in ROWS[row]) else "tfft.fit"
    output = f"output_dir={folder_of(runs, task, row, seed)}"
    return [sys.executable, "-m", module, "--recipe", recipe, *settings, *more, f"seed={seed}", output, "--overwrite"]


def run(task: str, row: str, seed: int, data: Path, runs: Path, more: Sequence[str]) -> Run:
    """The run, made now unless it is there."""
    folder = folder_of(runs, task, row, seed)
    if not (folder / "metrics.json").is_file():
        given = command(task, row, seed, data, runs, more)
        ended = subprocess.run(given, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if ended.returncode:
            raise SystemExit(f"{task}, {row}, seed {seed} failed:\n{ended.stdout}{ended.stderr}")
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    timing, scores = metrics["timing"], metrics["eval"]
    seconds = timing["train_seconds"] + timing.get("teacher_seconds", 0.0)
    return Run(task, row, seed, scores["accuracy"], scores["f1"], seconds)


def table(runs: Sequence[Run]) -> str:
    """The runs of one task as Markdown, a row a kind of training; `mean (least-greatest)` over seeds."""
    lines = ["| Model | Accuracy | F1 | Training seconds, teacher = 1 |", "| --- | --- | --- | --- |"]
    of_teacher = {one.seed: one.seconds for one in runs if one.row == TEACHER}
    for row in ROWS:
        own = [one for one in runs if one.row == row]
        if own:
            shares = [one.seconds / of_teacher[one.seed] for one in own]
            cells = [row, spread([one.accuracy for one in own]), spread([one.f1 for one in own]), spread(shares, 2)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(runs: Sequence[Run], score: str = "accuracy") -> str:
    """What each student has more than the one without a teacher, seed by seed, in points."""
    plain = {one.seed: getattr(one, score) for one in runs if one.row == "3 layers"}
    lines = []
    for row in ROWS:
        found = [100 * (getattr(one, score) - plain[one.seed]) for one in runs if one.row == row and one.seed in plain]
        if found and row not in (TEACHER, "3 layers"):
            listed = ", ".join(f"{one:+.1f}" for one in found)
            lines.append(f"{row}: {statistics.mean(found):+.1f} points of {score} ({listed})")
    return "\n".join(lines)


def main() -> None:
    """Runs what is not there yet, prints the tables after every seed and writes all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("TFFT_DATA"), help="folder with mrpc/, sst2/ and imdb/"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS)[1:], default=list(ROWS)[1:], help="beside the teacher")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for every training, to try this")
    parser.add_argument("--output", type=Path, default=None, help="a JSON file (default: distillation.json in --runs)")
    arguments = parser.parse_args()
    if arguments.data is None or not Path(arguments.data).is_dir():
        parser.error("name the folder of the data sets by --data, or by TFFT_DATA")
    found: list[Run] = []
    output = arguments.output or arguments.runs / "distillation.json"
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for row in (TEACHER, *arguments.rows):
                done = run(task, row, seed, Path(arguments.data), arguments.runs, arguments.set)
                found.append(done)
                print(
                    f"{task}, {row}, seed {seed}: accuracy {done.accuracy:.4f}, F1 {done.f1:.4f}, {done.seconds:.0f} s",
                    flush=True,
                )
        for task in arguments.tasks:
            own = [one for one in found if one.task == task]
            print(f"{task} after seed {seed}:\n\n{table(own)}\n\n{gains(own)}\n", flush=True)
        output.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
