"""A finished run, or a folder with a model, as what answers: `tfft.load`."""

from __future__ import annotations

import os
from typing import Any

from tfft import problems, tasks, temperatures
from tfft.data.labels import LabelMap
from tfft.data.windows import TRUNCATE, LongText
from tfft.errors import ModelError, RunError
from tfft.models import checkpoint, headed, save
from tfft.models.checkpoint import Checkpoint
from tfft.models.load import load_classifier
from tfft.predictor import Predictor
from tfft.run_directory import check_weights, find_model, recipe_of


def load(run: str | os.PathLike[str], *, calibrated: bool = False) -> Predictor:
    """What predicts by the model of a run, or by one that somebody saved.

    Args:
        run: the folder of a finished run, or a folder with `config.json`, weights and tokenizer. Of a run, its recipe
            says what becomes of long texts, and whether texts are pairs. Of a model alone, its configuration says what
            its labels are; one output without `problem_type` is a number, as in Transformers.
        calibrated: give probabilities at the temperature that `tfft.evaluate` has fitted for the run; decisions are
            the same.

    Raises:
        RunError: there is no such folder, or the run in it is not finished, or its weights are not those that it has
            written; or it has no temperature for these weights.
        RecipeError: the run's recipe cannot be read, as where a newer tfft wrote it.
        ModelError: the model cannot be loaded, or is for something other than labels of texts or words.
    """
    folder = find_model(run)
    recipe = recipe_of(folder)
    model_folder = folder if recipe is None else folder / "model"
    if not (model_folder / "config.json").is_file():
        raise RunError(f"{model_folder} holds no config.json, so there is no model; copy the folder again")
    if recipe is not None:
        check_weights(folder)
    source = checkpoint.find(str(model_folder))
    tokenizer = checkpoint.load_tokenizer(source)
    problem_type = _problem_type(source)
    names = tuple(source.config.id2label[at] for at in range(source.config.num_labels))
    problem = problems.make(LabelMap(names, names, problem_type))
    if isinstance(problem, problems.MultiLabel):
        problem.threshold = getattr(source.config, "threshold", problem.threshold)
    section = None if recipe is None else recipe.data
    model = _model(source, names, problem_type)
    temperature = 1.0
    if calibrated:
        temperature = temperatures.read(folder, save.fingerprint(model)).temperature
        if isinstance(problem, problems.MultiLabel):
            problem.threshold = temperatures.scaled(problem.threshold, temperature)
    return Predictor(
        model,
        tokenizer,
        problem,
        checkpoint.choose_max_length(section.max_length if section else None, tokenizer, source.config),
        LongText(section.long_text, section.stride or 0) if section else TRUNCATE,
        section.window_pooling if section else "mean",
        section.text_columns if section else None,
        temperature=temperature,
    )


def _problem_type(source: Checkpoint) -> str:
    """What the labels of a saved model are."""
    config = source.config
    architecture = next(iter(config.architectures or ()), "")
    if architecture.removeprefix("TF").endswith("ForTokenClassification"):
        return tasks.TOKENS
    if not headed.is_headed(source.folder) and not architecture.endswith("ForSequenceClassification"):
        mend = (
            f"; it fills in words (python -m tfft.predict --task fill-mask --model {source.folder}), and a classifier "
            f"is trained from it by model.name_or_path={source.folder}"
        )
        raise ModelError(
            f"{source.name} is a {architecture or config.model_type}, which gives no labels; expected a model for text "
            "classification (…ForSequenceClassification) or token classification (…ForTokenClassification)"
            + (mend if architecture.endswith("ForMaskedLM") else "")
        )
    return config.problem_type or (tasks.REGRESSION if config.num_labels == 1 else tasks.SINGLE_LABEL)


def _model(source: Checkpoint, names: tuple[str, ...], problem_type: str) -> Any:
    if headed.is_headed(source.folder):
        return headed.load_headed(source.folder)
    task = next(one for one in tasks.TASKS.values() if problem_type in one.problem_types)
    loaded = load_classifier(source, names, task.auto_class, problem_type)
    if loaded.new:
        raise ModelError(
            f"{source.name} lacks weights that its config.json asks for ({', '.join(loaded.new[:3])}), so its answers "
            "would be random; train it first, or copy the folder again"
        )
    return loaded.model
