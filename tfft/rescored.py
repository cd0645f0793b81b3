"""A finished run's model, scoring labelled rows as its training did: in its precision, by its batches.

What is said of a run has its logits from here, whoever says it: `tfft.evaluate`, its report, its card on the hub. So
all of them say the same figures of the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfft import evaluation, hardware, loaded, run_directory, tasks, temperatures, validated, whole
from tfft.console import Voice
from tfft.data import Split
from tfft.evaluation import Evaluation
from tfft.hardware import Precision
from tfft.models import faster, save
from tfft.predictor import Predictor
from tfft.recipe import Recipe
from tfft.scoring import Scorer


@dataclass(frozen=True)
class RunModel:
    """A run's model as the training scored it.

    Attributes:
        predictor: with the model.
        weights: their fingerprint.
        precision: what it computes in.
    """

    predictor: Predictor
    weights: str
    precision: Precision


def load(run: Path, trained: Recipe) -> RunModel:
    """The model of a finished run.

    Args:
        run: its folder.
        trained: its own recipe.

    Raises:
        UserError: as `loaded.load`.
    """
    precision = _precision(run, trained)
    with hardware.computing_in(precision):
        predictor = loaded.load(run)
    weights = save.fingerprint(predictor.model)
    if trained.runtime.accelerate:
        faster.accelerate(predictor.model)
    return RunModel(predictor, weights, precision)


def _precision(run: Path, trained: Recipe) -> Precision:
    """That in which the training scored, so that scores are the same, where this machine has it."""
    environment = whole.read_json(run / run_directory.FINISHED).get("environment", {})
    trained_in = environment.get("mixed_precision", "no") if isinstance(environment, dict) else "no"
    device = hardware.find_device("cpu" if trained.runtime.strategy == "cpu" else "auto")
    if trained_in in hardware.precisions_of(device):
        return Precision(trained_in, "as in training")
    return Precision("no", f"not in {trained_in}, as in training, which this machine does not compute in")


def logits(model: RunModel, recipe: Recipe, split: Split, voice: Voice) -> np.ndarray:
    """What the model says of a split: (rows, outputs) float32, or (tokens, outputs) where words have tags.

    Args:
        recipe: the run's, perhaps with other batches.
        voice: told which rows are scored; on a terminal it has a bar.
    """
    precision = "float32" if model.precision.name == "no" else model.precision.name
    voice.say(f"scoring {len(split):,} rows of {split.rows.source}, in {precision} ({model.precision.reason})")
    predictor = model.predictor
    scorer = Scorer(
        predictor.model,
        predictor.problem,
        predictor.tokenizer,
        split,
        (),
        batch_size=recipe.training.per_device_eval_batch_size,
        max_length=predictor.max_length,
        pad_to_max_length=recipe.data.padding == "max_length",
        pooling=predictor.window_pooling,
    )
    with voice.bar() as bar:
        task = bar.add_task("scoring", total=len(split.encoded), detail="")
        return scorer.answer(lambda rows: bar.advance(task, rows))


def temperature(run: Path, model: RunModel) -> float | None:
    """That which the run has for these weights."""
    kept = temperatures.find(run, model.weights)
    return None if kept is None else kept.temperature


def of_validated(run: Path, recipe: Recipe, model: RunModel, voice: Voice) -> tuple[Split, np.ndarray]:
    """The validation rows that a run has kept, and the logits of its model on them.

    Raises:
        RunError: it has kept none, or its file is not as it was written.
    """
    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    split = validated.split_of(run, model.predictor, problem_type, label_all_tokens=recipe.data.label_all_tokens)
    return split, logits(model, recipe, split, voice)


def evaluate_validated(run: Path, recipe: Recipe, voice: Voice) -> Evaluation:
    """All that is said of a run's model on the validation rows that the run has kept. Nothing is written.

    Raises:
        RunError: it has kept none, or its files are not as it has written them.
    """
    model = load(run, recipe)
    split, found = of_validated(run, recipe, model, voice)
    return evaluation.make(
        model.predictor.problem, found, split, recipe.metric_names, temperature=temperature(run, model)
    )
