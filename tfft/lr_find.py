"""`python -m tfft.lr_find`: which learning rate to train with, from a few hundred steps at rates that rise."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import command
from tfft.errors import RecipeError, RunError
from tfft.rate_curve import RateCurve, Sweep

if TYPE_CHECKING:
    from tfft.assembly import Assembly
    from tfft.console import Voice
    from tfft.recipe import Recipe

FIGURES, PICTURE = "lr_find.json", "lr_find.png"

# --- The two doors ----------------------------------------------------------------------------------------------------


def lr_find(
    model: Any,
    batches: Any,
    *,
    min_learning_rate: float = Sweep.min_learning_rate,
    max_learning_rate: float = Sweep.max_learning_rate,
    steps: int = Sweep.steps,
    smoothing: float = Sweep.smoothing,
    divergence_factor: float = Sweep.divergence_factor,
) -> RateCurve:
    """Tries learning rates on a model: one optimizer step at each, the next by a factor above it (Smith 2017, 3.3).

    The steps are those of `fit`, by an optimizer of the settings of the model's own that has learned nothing. Where
    parts of the model have multipliers of their rate, they keep them. Afterwards all is exactly as before: weights,
    optimizer, metrics, random states and the order of `batches`; `fit` then gives what it would have given. With
    `run_eagerly=True` there is an exception, operations of the model's own code that are given a seed: TensorFlow keeps
    the state of those where nothing reaches it.

    Args:
        model: built and compiled, of tf_keras, on one device.
        batches: a `tf.data.Dataset` as `fit` takes it; where it has fewer batches than are needed, they come again.
        min_learning_rate, max_learning_rate: the first rate and the last.
        steps: how many rates, at least 20.
        smoothing: what of the smoothed loss each step keeps, from 0 to below 1. The smoothed curve comes about
            smoothing / (1 - smoothing) steps after the losses.
        divergence_factor: it ends early where the smoothed loss is so many times its lowest, or no number.

    Returns:
        The curve, with `suggestions`, `write_json(path)` and `plot(path)`.

    Raises:
        UserError: model, batches or numbers cannot be used; the message says how to mend it.

    Example:
        >>> import numpy as np
        >>> from tfft.backend import keras, tf
        >>> keras.utils.set_random_seed(1)
        >>> inputs = np.random.normal(size=(64, 4))
        >>> batches = tf.data.Dataset.from_tensor_slices((inputs, inputs.sum(axis=1))).shuffle(64).batch(8)
        >>> model = keras.Sequential([keras.layers.Dense(1, input_shape=(4,))])
        >>> model.compile("adam", "mse")
        >>> curve = lr_find(model, batches, steps=60, min_learning_rate=1e-3)
        >>> 0.03 < curve.suggestions.steepest < 0.3
        True
    """
    sweep = Sweep(min_learning_rate, max_learning_rate, steps, smoothing, divergence_factor)
    from tfft import range_test

    return range_test.run(model, batches, sweep)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = parser().parse_intermixed_args(argv)
    from tfft import console
    from tfft import recipe as recipes

    sweep = Sweep(arguments.min_learning_rate, arguments.max_learning_rate, arguments.steps)
    chosen = recipes.load(arguments.recipe, arguments.overrides)
    _check(chosen)
    folder = _checked_folder(arguments.output or Path(f"{chosen.output_dir}-lr_find"), arguments.overwrite)
    if not arguments.verbose:
        console.silence_libraries()
    voice = console.Voice()
    began = time.perf_counter()
    curve = find(chosen, sweep, voice)
    seconds = time.perf_counter() - began
    try:
        folder.mkdir(parents=True, exist_ok=True)
        curve.plot(folder / PICTURE, f"learning rates for {chosen.name}")
        curve.write_json(folder / FIGURES, seconds=seconds, recipe=chosen.model_dump(mode="json"))
    except OSError as error:
        raise RunError(
            f"--output: writing to {folder} failed: {error.strerror or error}; give another folder"
        ) from None
    _show(voice, curve, arguments.recipe, arguments.overrides)
    voice.say(f"{seconds:,.1f} s; the curve is in {folder / PICTURE}, its numbers are in {folder / FIGURES}")
    return 0


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(
        prog="python -m tfft.lr_find",
        description="Find a learning rate for a recipe: train some steps, each at a higher rate, and look at the loss.",
        epilog="Example: python -m tfft.lr_find --recipe mrpc training.per_device_train_batch_size=32.",
        allow_abbrev=False,
    )
    made.add_argument("--recipe", required=True, metavar="RECIPE", help="a shipped recipe's name or a YAML file")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the recipe; ~KEY removes one")
    made.add_argument(
        "--min-learning-rate", type=float, default=Sweep.min_learning_rate, metavar="RATE", help="default: 1e-6"
    )
    made.add_argument(
        "--max-learning-rate", type=float, default=Sweep.max_learning_rate, metavar="RATE", help="default: 1"
    )
    made.add_argument("--steps", type=int, default=Sweep.steps, help=f"rates to try (default: {Sweep.steps})")
    made.add_argument(
        "--output", metavar="FOLDER", type=Path, help=f"for {FIGURES} and {PICTURE} (default: output_dir and -lr_find)"
    )
    made.add_argument("--overwrite", action="store_true", help="replace those that are there")
    made.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return made


def _check(recipe: Recipe) -> None:
    """Raises a RecipeError where the recipe's training has no one rate that could be tried like this."""
    if recipe.training.strategy == "feature_extraction":
        raise RecipeError(
            "training.strategy: got feature_extraction; expected another, since rates are tried on tokens and not on "
            "the encoder's outputs; a head alone trains at rates like 1e-3"
        )
    if recipe.training.stages is not None:
        raise RecipeError(
            "training.stages: got stages, each with a rate of its own; expected one training, such as "
            "training.strategy=full with ~training.stages for the rate of the last stage"
        )


def _checked_folder(path: Path, overwrite: bool) -> Path:
    """Looked at before anything is trained."""
    there = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise RunError(f"--output: {path} cannot be written, because of {there}; give another folder")
    if not overwrite and (present := [name for name in (FIGURES, PICTURE) if (path / name).exists()]):
        raise RunError(f"--output: {path} already has {' and '.join(present)}; give another folder, or --overwrite")
    return path


# --- The story --------------------------------------------------------------------------------------------------------


def find(recipe: Recipe, sweep: Sweep, voice: Voice) -> RateCurve:
    """Tries the rates of `sweep` as the recipe would train; nothing is validated or saved.

    Raises:
        UserError: the recipe cannot be followed, or not on one device, or its batches do not fit into memory.
    """
    from tfft import environment, workers
    from tfft.compiled import Programs
    from tfft.models import checkpoint

    environment.check()
    if workers.find(recipe.runtime.strategy, recipe.runtime.workers) is not None:
        raise RunError("runtime.strategy: there are several workers; expected one process, on which rates are tried")
    if recipe.runtime.xla:
        Programs()
    source = checkpoint.find(recipe.model.name_or_path, recipe.model.revision)
    tokenizer = checkpoint.load_tokenizer(source)

    from tfft import assembly, range_test, training

    ready = assembly.assemble(recipe, None, source, tokenizer, voice)
    _check_one_device(ready)
    train = assembly.taught(ready, ready.prepared.train, voice)
    training.compile_model(
        ready.loaded.model,
        recipe.training,
        ready.plan,
        loss=ready.loss,
        runtime=recipe.runtime,
        multipliers=ready.multipliers,
    )
    given = (train, recipe.data, ready.plan, tokenizer, recipe.seed, recipe.runtime.xla)
    batches = training.make_batches(*given, hides=ready.masking)
    voice.say(
        f"trying {sweep.steps} rates from {sweep.min_learning_rate:g} to {sweep.max_learning_rate:g}, a step at each"
    )
    with voice.bar() as bar, training.memory_errors(ready.plan):
        task = bar.add_task("learning rates", total=sweep.steps, detail="")
        return range_test.run(ready.loaded.model, batches, sweep, lambda: bar.advance(task))


def _check_one_device(ready: Assembly) -> None:
    if ready.distribution.strategy is not None:
        raise RunError(
            f"runtime.strategy: got {ready.recipe.runtime.strategy} with {ready.distribution.replicas} devices; "
            "expected one_device or cpu, on which rates are tried, with "
            f"training.per_device_train_batch_size={ready.plan.batch_size} for the batch of all of them"
        )


def _show(voice: Voice, curve: RateCurve, recipe: str, overrides: Sequence[str]) -> None:
    voice.say(curve.stopped)
    found = curve.suggestions
    if found.steepest is None or found.minimum_tenth is None:
        voice.say(f"no suggestion: {found.why_none}; try --max-learning-rate, or more --steps")
        return
    kept = [one for one in overrides if not one.startswith("training.learning_rate=")]
    for name, rate in (("steepest descent", found.steepest), ("a tenth of the minimum's rate", found.minimum_tenth)):
        typed = ["python", "-m", "tfft.fit", "--recipe", recipe, *kept, f"training.learning_rate={rate:.1e}"]
        voice.say(f"{name}, {rate:.1e}: {shlex.join(typed)}")


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "lr_find")
