"""A finished run, or a folder with a model, as what answers: `tfft.load`."""

from __future__ import annotations

import os

from tfft import hardware, problems, temperatures
from tfft.backend import keras
from tfft.data.labels import LabelMap
from tfft.data.windows import TRUNCATE, LongText
from tfft.errors import HardwareError, RunError
from tfft.models import checkpoint, faster, save, trained
from tfft.predictor import Predictor
from tfft.run_directory import check_weights, find_model, recipe_of


def load(run: str | os.PathLike[str], *, calibrated: bool = False, mixed_precision: str = "no") -> Predictor:
    """What predicts by the model of a run, or by one that somebody saved.

    Args:
        run: the folder of a finished run, or a folder with `config.json`, weights and tokenizer. Of a run, its recipe
            says what becomes of long texts, and whether texts are pairs. Of a model alone, its configuration says what
            its labels are; one output without `problem_type` is a number, as in Transformers.
        calibrated: give probabilities at the temperature that `tfft.evaluate` has fitted for the run; decisions are
            the same.
        mixed_precision: what the encoder computes in, as in `runtime.mixed_precision`: `bf16` or `fp16`, or `auto` for
            what this device is fast at. Probabilities then differ by some thousandths. `no` is Keras's global policy.

    Raises:
        HardwareError: a precision is asked for that there is not, or that the device does not compute in.
        RunError: there is no such folder, or the run in it is not finished, or its weights are not those that it has
            written; or it has no temperature for these weights.
        RecipeError: the run's recipe cannot be read, as where a newer tfft wrote it.
        ModelError: the model cannot be loaded, or is for something other than labels of texts or words.
    """
    if mixed_precision not in ("auto", *hardware.POLICIES):
        raise HardwareError(f"mixed_precision: got {mixed_precision!r}; expected auto, {', '.join(hardware.POLICIES)}")
    folder = find_model(run)
    recipe = recipe_of(folder)
    model_folder = folder if recipe is None else folder / "model"
    if not (model_folder / "config.json").is_file():
        raise RunError(f"{model_folder} holds no config.json, so there is no model; copy the folder again")
    if recipe is not None:
        check_weights(folder)
    source = checkpoint.find(str(model_folder))
    tokenizer = checkpoint.load_tokenizer(source)
    problem_type = trained.problem_type(source)
    names = trained.label_names(source)
    problem = problems.make(LabelMap(names, names, problem_type))
    if isinstance(problem, problems.MultiLabel):
        problem.threshold = getattr(source.config, "threshold", problem.threshold)
    section = None if recipe is None else recipe.data
    model = _model_in(mixed_precision, source)
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


def _model_in(mixed_precision: str, source: checkpoint.Checkpoint) -> keras.Model:
    if mixed_precision == "no":
        return trained.load(source)
    precision = hardware.choose_precision(mixed_precision, hardware.find_device())
    with hardware.computing_in(precision):
        model = trained.load(source)
    # 16-bit layers as they are lose in casts what their products gain.
    faster.accelerate(model)
    return model
