"""`python -m tfft.bench`: how fast a recipe trains on this machine, and which settings would be faster."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import command
from tfft.errors import RecipeError, RunError

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.recipe import Recipe
    from tfft.throughput import Round, Spread

_IMPORTED = time.perf_counter()

# Steps before the first round: the first is traced, and the next ones fill what caches there are.
WARM_UP = 3
ROUNDS, TUNING_ROUNDS = 5, 2


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_intermixed_args(argv)
    from tfft import console
    from tfft import recipe as recipes

    chosen = recipes.load(arguments.recipe, arguments.overrides)
    output: Path | None = arguments.output
    if output is not None:  # looked at before anything is measured
        command.check_can_be_written(output)
    if not arguments.verbose:
        console.silence_libraries()
    voice = console.Voice()
    if arguments.tune:
        rounds = arguments.rounds or TUNING_ROUNDS
        report = tune(arguments.recipe, arguments.overrides, chosen, rounds, arguments.steps, voice)
    else:
        report = measure(chosen, arguments.rounds or ROUNDS, arguments.steps, voice, started=_IMPORTED)
    if output is not None:
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.bench",
        description="Measure the training steps of a recipe: nothing is validated, saved or written.",
        epilog="Example: python -m tfft.bench --recipe mrpc training.per_device_train_batch_size=32. "
        "The whole job beside other libraries: make bench, in a checkout.",
        allow_abbrev=False,
    )
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a shipped recipe's name or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the recipe; ~KEY removes one")
    parser.add_argument(
        "--rounds",
        type=command.positive,
        help=f"of which the median is told (default: {ROUNDS}, or {TUNING_ROUNDS} for each candidate of --tune)",
    )
    parser.add_argument("--steps", type=command.positive, default=20, help="batches in a round (default: 20)")
    parser.add_argument("--tune", action="store_true", help="try precisions, acceleration, XLA and batch sizes instead")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write all figures as JSON")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


# --- One recipe -------------------------------------------------------------------------------------------------------


def measure(recipe: Recipe, rounds: int, steps: int, voice: Voice, started: float) -> dict[str, Any]:
    """Trains `rounds` times `steps` batches by Keras's `fit`, as the recipe would, and says how fast that was.

    Args:
        started: `time.perf_counter()` when the command began.

    Returns:
        The figures, as plain values.

    Raises:
        UserError: the recipe cannot be followed, or its batches do not fit into memory.
    """
    if recipe.training.strategy == "feature_extraction":
        raise RecipeError(
            "training.strategy: got feature_extraction; expected another, since its steps are those of the head alone"
        )
    from tfft import environment
    from tfft.compiled import Programs
    from tfft.models import checkpoint

    environment.check()
    programs = Programs() if recipe.runtime.xla else None
    source = checkpoint.find(recipe.model.name_or_path, recipe.model.revision)
    tokenizer = checkpoint.load_tokenizer(source)

    from tfft import assembly, throughput, training
    from tfft.callbacks.step_clock import StepClock

    ready = assembly.assemble(recipe, None, source, tokenizer, voice)
    train = assembly.taught(ready, ready.prepared.train, voice)
    model, settings = ready.loaded.model, recipe.training
    spread, replicas = ready.distribution.spread, ready.plan.replicas
    with ready.distribution.scope():
        training.compile_model(
            model, settings, ready.plan, loss=ready.loss, runtime=recipe.runtime, multipliers=ready.multipliers
        )
    given = (train, recipe.data, ready.plan, tokenizer, recipe.seed, recipe.runtime.xla)
    dataset = training.make_batches(*given, hides=ready.masking)
    warm_up = WARM_UP
    if recipe.runtime.xla:
        # XLA makes a program for every shape, and none of that belongs into a round.
        shapes, seen = throughput.watched(dataset.take(ready.plan.batches_per_epoch))
        for _ in shapes:  # only looked at: an epoch may be more than memory holds
            pass
        warm_up = throughput.warm_up_batches(seen, WARM_UP)
    # Of a batch there is a part for every replica.
    trained, parts = throughput.watched(dataset.skip(warm_up * replicas))

    clock, timer = StepClock(), throughput.RoundTimer(ready.precision.name)
    with training.memory_errors(ready.plan):
        model.fit(spread(dataset), steps_per_epoch=warm_up, verbose=0, callbacks=[clock])
        model.fit(spread(trained), steps_per_epoch=steps, epochs=rounds, verbose=0, callbacks=[timer])
    assert clock.first_step_at is not None
    first_step = clock.first_step_at - started
    sizes = throughput.sizes_of(model)
    in_round = steps * replicas
    measured = [
        throughput.make_round(parts[index * in_round : (index + 1) * in_round], seconds, peak, sizes, replicas)
        for index, (seconds, peak) in enumerate(zip(timer.seconds, timer.peaks, strict=True))
    ]
    _show(voice, measured, steps, first_step, environment.peak_rss_mb())
    if programs is not None:
        voice.say(programs.told())
    return {
        "recipe": recipe.model_dump(mode="json"),
        "rounds": [dataclasses.asdict(one) for one in measured],
        "steps": steps,
        "first_step_seconds": first_step,
        "peak_rss_mb": environment.peak_rss_mb(),
        "xla_programs_compiled": programs.compiled() if programs else None,
        "mixed_precision": ready.precision.name,
        "device": f"{ready.device.kind} ({ready.device.name})",
        "environment": environment.describe(),
    }


def _show(voice: Voice, rounds: Sequence[Round], steps: int, first_step: float, peak_rss_mb: float) -> None:
    from tfft.throughput import spread

    shares = [one.peak_share for one in rounds if one.peak_share is not None]
    rows = [
        ["a step, ms", *_cells(spread([one.step_seconds * 1e3 for one in rounds]), "{:,.0f}")],
        ["samples a second", *_cells(spread([one.samples_per_second for one in rounds]), "{:,.1f}")],
        ["real tokens a second", *_cells(spread([one.tokens_per_second for one in rounds]), "{:,.0f}")],
        ["padding", *_cells(spread([one.padding_share for one in rounds]), "{:.1%}")],
        ["matrix product, GFLOP/s", *_cells(spread([one.peak_flops / 1e9 for one in rounds]), "{:,.0f}")],
    ]
    if shares:
        rows.append(["the model's share of that", *_cells(spread(shares), "{:.1%}")])
    voice.table(f"{len(rounds)} rounds of {steps} steps", ["", "median", "least", "greatest"], rows)
    voice.say(f"command to the end of the first step: {first_step:,.1f} s; peak memory: {peak_rss_mb:,.0f} MB")


def _cells(values: Spread, form: str) -> list[str]:
    return [form.format(value) for value in (values.median, values.least, values.greatest)]


# --- Which settings are faster ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Attributes:
        settings: recipe keys and values.
        samples_per_second: the median of all its rounds; None where it failed.
        peak_rss_mb: the most of all its processes.
        failure: why it failed, in one line.
    """

    settings: Mapping[str, Any]
    samples_per_second: float | None = None
    peak_rss_mb: float | None = None
    failure: str = ""

    def overrides(self) -> list[str]:
        """As they are typed."""
        return [f"{key}={json.dumps(value).strip(chr(34))}" for key, value in self.settings.items()]


def tune(
    recipe: str, overrides: Sequence[str], chosen: Recipe, rounds: int, steps: int, voice: Voice
) -> dict[str, Any]:
    """Tries precision, acceleration and XLA, then batch sizes with the fastest, each in processes of its own.

    The candidates of a group take turns, so that the machine's moods meet them all.

    Args:
        recipe, overrides: as typed.
        chosen: the recipe that they make.
        rounds, steps: as many rounds of as many steps for every candidate.

    Returns:
        The trials, fastest first, as plain values.

    Raises:
        RunError: not one of them could be measured.
    """
    from tfft import hardware

    precisions = hardware.precisions_of(hardware.find_device(chosen.runtime.strategy, chosen.runtime.tpu_name))
    has_few_shapes = chosen.data.batching == "bucketed" or chosen.data.padding == "max_length"
    programs = [
        {"runtime.mixed_precision": precision, "runtime.accelerate": accelerate, "runtime.xla": xla}
        for precision in precisions
        for accelerate, xla in ((True, False), (True, True), (False, False))
        if has_few_shapes or not xla
    ]
    first = _tried(recipe, overrides, programs, rounds, steps, voice)
    fastest = max((one for one in first if one.samples_per_second), key=_speed, default=None)
    if fastest is None:
        raise RunError(f"nothing could be measured; the first candidate said: {first[0].failure}")
    size = chosen.training.per_device_train_batch_size
    sizes = [
        {**fastest.settings, "training.per_device_train_batch_size": wanted}
        for wanted in (max(1, size // 2), size * 2, size * 4)
        if wanted != size
    ]
    trials = sorted([*first, *_tried(recipe, overrides, sizes, rounds, steps, voice)], key=_speed, reverse=True)
    keys = list(dict.fromkeys(key for one in trials for key in one.settings))
    voice.table(
        f"Fastest first; where no batch size is said it is {size}",
        ["samples a second", "peak memory, MB", *keys, ""],
        [
            [
                f"{one.samples_per_second:,.1f}" if one.samples_per_second else "-",
                f"{one.peak_rss_mb:,.0f}" if one.peak_rss_mb else "-",
                *(str(one.settings.get(key, "")) for key in keys),
                one.failure,
            ]
            for one in trials
        ],
    )
    voice.say(f"set for the fastest: {' '.join(trials[0].overrides())}")
    voice.say("another batch size is another training: its learning rate has to be looked for anew")
    return {"trials": [dataclasses.asdict(one) for one in trials]}


def _speed(trial: Trial) -> float:
    return trial.samples_per_second or 0.0


def _tried(
    recipe: str,
    overrides: Sequence[str],
    candidates: Sequence[Mapping[str, Any]],
    rounds: int,
    steps: int,
    voice: Voice,
) -> list[Trial]:
    from tfft.throughput import spread

    reports: list[list[dict[str, Any]]] = [[] for _ in candidates]
    failures = [""] * len(candidates)
    for _ in range(rounds):
        for index, settings in enumerate(candidates):
            if failures[index]:
                continue
            voice.say("trying " + " ".join(Trial(settings).overrides()))
            report = _measured_apart(recipe, [*overrides, *Trial(settings).overrides()], steps)
            if isinstance(report, str):
                failures[index] = report
            else:
                reports[index].append(report)
    return [
        Trial(settings, failure=failure)
        if failure
        else Trial(
            settings,
            spread([a_round["samples_per_second"] for one in of_one for a_round in one["rounds"]]).median,
            max(one["peak_rss_mb"] for one in of_one),
        )
        for settings, failure, of_one in zip(candidates, failures, reports, strict=True)
    ]


def _measured_apart(recipe: str, overrides: Sequence[str], steps: int) -> dict[str, Any] | str:
    """The figures of one round in a process of its own; where it fails, its last line."""
    with tempfile.TemporaryDirectory(prefix="tfft-bench-") as folder:
        output = Path(folder) / "figures.json"
        typed = ["--recipe", recipe, *overrides, "--rounds", "1", "--steps", str(steps), "--output", str(output)]
        ended = subprocess.run([sys.executable, "-m", "tfft.bench", *typed], capture_output=True, text=True)
        if ended.returncode == 0:
            report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
            return report
    if ended.returncode < 0:
        return f"ended by signal {-ended.returncode}; the system does that where memory runs out"
    return (ended.stderr.strip() or "no reason given").splitlines()[-1]


if __name__ == "__main__":
    command.run(main)
