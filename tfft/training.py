"""`compile` and `fit` of Keras, with everything around them: loss, optimizer, batches, callbacks, the weights kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tfft import callbacks, optimizers
from tfft.backend import keras, tf
from tfft.data import ShardedSplit, Split, batches, masking, stream
from tfft.data.labels import LabelCounts
from tfft.data.masking import Masking
from tfft.distillation.matching import trained_variables
from tfft.errors import RecipeError, RunError
from tfft.models import adversarial, dropout, features, freeze, lora
from tfft.models.load import Loaded
from tfft.plan import Plan, Stage
from tfft.problems import Problem
from tfft.recipe import PRUNING_END, DataSection, RuntimeSection, TrainingSection


@dataclass(frozen=True)
class Best:
    """The score that says which epoch is best.

    Attributes:
        monitor: its name in the epoch's logs: `val_f1`.
        mode: which direction is better.
    """

    monitor: str
    mode: Literal["max", "min"]


# How often it is chosen what is pruned, unless the recipe says every how many steps.
PRUNING_CHOICES = 20
# What a stage may say for the head alone.
_HEAD_ALONE = ("head", ("head",), ["head"])


def choose_weights(training: TrainingSection, loaded: Loaded) -> list[frozenset[str]]:
    """Freezes what the strategy does not train, and adds what it trains besides.

    A pooler that the checkpoint lacks is trained wherever the head is: it holds random numbers.

    Returns:
        The names of the weights that each stage of the training trains.

    Raises:
        ModelError: the model has not what the strategy needs.
    """
    model, new_parts = loaded.model, freeze.without_pretraining(loaded.new)
    if training.stages is not None:
        stages = [
            freeze.trained_names(model, ("head", *new_parts) if stage.unfreeze in _HEAD_ALONE else stage.unfreeze)
            for stage in training.stages
        ]
        if frozenset().union(*stages) == stages[0]:
            raise RecipeError(
                "training.stages: no stage trains a weight that the first does not, so nothing is ever unfrozen; "
                "expected stages that train more, from the head down, or training.strategy=full"
            )
        freeze.train_exactly(model, frozenset().union(*stages))
        return stages
    if training.strategy == "feature_extraction":
        freeze.feature_extraction(model, also_train=new_parts)
    elif training.strategy == "bitfit":
        freeze.bitfit(model, also_train=new_parts)
    elif training.strategy == "lora":
        given: dict[str, Any] = {
            "rank": training.lora_r,
            "alpha": training.lora_alpha,
            "dropout": training.lora_dropout,
            "targets": training.lora_target_modules,
        }
        given = {name: value for name, value in given.items() if value is not None}
        lora.add(model, **given, also_train=sorted(new_parts))
    return [frozenset(weight.name for weight in model.trainable_weights)]


def make_loss(
    training: TrainingSection, problem: Problem, labels: np.ndarray | LabelCounts | None
) -> keras.losses.Loss:
    """The loss to train with. Validation reports the problem's plain loss whatever this is.

    Args:
        labels: of the training rows, or how often each class occurs there, for balanced weights.

    Raises:
        RecipeError: `class_weight` has a name that is no class, or leaves a class out.
    """
    return problem.loss(
        label_smoothing=training.label_smoothing_factor,
        focal_gamma=training.focal_gamma,
        class_weights=_class_weights(training.class_weight, problem, labels),
        r_drop_alpha=training.r_drop_alpha,
    )


def _class_weights(
    wanted: Mapping[str, float] | str | None, problem: Problem, labels: np.ndarray | LabelCounts | None
) -> list[float] | None:
    if wanted is None:
        return None
    if isinstance(wanted, str):
        assert labels is not None
        return problem.balanced_weights(labels)
    names = problem.names
    unknown, missing = [name for name in wanted if name not in names], [name for name in names if name not in wanted]
    if unknown or missing:
        what = f"{', '.join(unknown)} is no label" if unknown else f"nothing is said of {', '.join(missing)}"
        raise RecipeError(f"training.class_weight: {what}; expected a weight for each of {', '.join(names)}")
    return [wanted[name] for name in names]


def rate_multipliers(training: TrainingSection, model: keras.Model) -> dict[str, float] | None:
    """What multiplies the rate of each trained weight, by its name; None where one rate is for all.

    Raises:
        ModelError: the recipe tells parts apart that this model has not, or leaves some out.
    """
    names = [variable.name for variable in model.trainable_variables]
    if training.layerwise_lr_decay is not None:
        all_names = [weight.name for weight in model.weights]
        return optimizers.multipliers_by_depth(names, training.layerwise_lr_decay, all_names)
    if training.learning_rate_multipliers is not None:
        return optimizers.multipliers_by_pattern(names, training.learning_rate_multipliers)
    return None


def make_optimizer(
    training: TrainingSection, plan: Plan, multipliers: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """The optimizer with the first stage's schedule.

    Args:
        multipliers: see `rate_multipliers`.
    """
    return optimizers.make(
        training.optimizer,
        make_schedule(plan.stages[0]),
        weight_decay=training.weight_decay,
        beta_1=training.adam_beta1,
        beta_2=training.adam_beta2,
        epsilon=training.adam_epsilon,
        max_grad_norm=training.max_grad_norm,
        gradient_accumulation_steps=plan.accumulated,
        batches_per_epoch=plan.batches_per_epoch,
        rate_multipliers=multipliers,
        ema_momentum=training.ema_momentum,
    )


def make_schedule(stage: Stage, factor: float = 1.0) -> optimizers.Schedule:
    """Step of the stage to learning rate, `factor` times as the recipe has it."""
    settings = stage.settings
    return optimizers.make_schedule(
        settings.lr_scheduler_type,
        settings.learning_rate * factor,
        stage.total_steps,
        warmup_steps=stage.warmup_steps,
        end=None if settings.end_learning_rate is None else settings.end_learning_rate * factor,
        power=settings.lr_power,
    )


def make_pruning(training: TrainingSection, plan: Plan) -> callbacks.MagnitudePruning | None:
    """What prunes the model while it is trained; None where nothing does."""
    if training.pruning_sparsity is None:
        return None
    # Steps are counted from 1.
    begin, end = (
        max(1, round(share * plan.total_steps))
        for share in (training.pruning_begin or 0.0, training.pruning_end or PRUNING_END)
    )
    return callbacks.MagnitudePruning(
        training.pruning_sparsity,
        end,
        initial_sparsity=training.pruning_initial_sparsity or 0.0,
        begin_step=begin,
        frequency=training.pruning_frequency or max(1, (end - begin) // PRUNING_CHOICES),
    )


def make_batches(
    train: Split | ShardedSplit,
    data: DataSection,
    plan: Plan,
    tokenizer: Any,
    seed: int,
    static_shapes: bool,
    first_epoch: int = 0,
    first_batch: int = 0,
    own_replicas: range | None = None,
    hides: Masking | None = None,
) -> tf.data.Dataset:
    """Training batches without end; an epoch is `plan.batches_per_epoch` of them, each in a part for every replica.

    Args:
        first_epoch: epochs that other batches were made for, from 0.
        first_batch: batches from there on that are left out, since they were trained before.
        own_replicas: for which to give parts, where other processes have the others; None gives all.
        hides: how tokens of `train` are hidden, where those are what is predicted.
    """
    has_static_shapes = static_shapes or plan.is_static
    if hides is not None:
        dataset = _of_blocks(train, plan, tokenizer, seed, has_static_shapes, first_epoch, first_batch, hides)
    else:
        dataset = _one_copy(train, data, plan, tokenizer, seed, has_static_shapes, first_epoch, first_batch)
    if plan.replicas > 1:
        of_tokens = hides is not None or (isinstance(train, Split) and train.words is not None)
        of_documents = train.encoded.window_starts is not None
        dataset = batches.shared_out(
            dataset, plan.replicas, own=own_replicas, of_tokens=of_tokens, of_documents=of_documents
        )
    if plan.is_static:
        width = plan.widths[-1]
        others = {} if hides is None else {masking.POSITIONS: int(hides.places(np.array(width)))}
        dataset = batches.of_shape(dataset, plan.batch_size // plan.replicas, width, others)
    return batches.twice(dataset) if plan.copies == 2 else dataset


def _one_copy(
    train: Split | ShardedSplit,
    data: DataSection,
    plan: Plan,
    tokenizer: Any,
    seed: int,
    static_shapes: bool,
    first_epoch: int,
    first_batch: int,
) -> tf.data.Dataset:
    shared: dict[str, Any] = {
        "batch_size": plan.batch_size,
        "seed": seed,
        "gradient_accumulation_steps": plan.accumulated,
        "first_epoch": first_epoch,
        "first_batch": first_batch,
    }
    if isinstance(train, ShardedSplit):
        return stream.bucketed(train, widths=plan.widths, tokenizer=tokenizer, static_shapes=static_shapes, **shared)
    assert train.labels is not None
    shared["row_weights"] = train.weights
    of_tokens = train.words is not None
    if train.features is not None and not of_tokens:
        return batches.of_features(train.features, train.labels, name=features.FEATURES, **shared)
    if train.encoded.window_starts is not None:
        return batches.of_documents(train.encoded, train.labels, widths=plan.widths, tokenizer=tokenizer, **shared)
    if data.batching == "bucketed" or train.features is not None:
        return batches.bucketed(
            train.encoded,
            train.labels,
            widths=plan.widths,
            tokenizer=tokenizer,
            static_shapes=static_shapes,
            of_tokens=of_tokens,
            states=None if train.features is None else batches.TokenStates(train.features, features.FEATURES),
            **shared,
        )
    one_epoch = batches.padded(
        train.encoded,
        train.labels,
        batch_size=plan.batch_size,
        tokenizer=tokenizer,
        shuffle=True,
        max_length=plan.widths[0] if plan.widths else None,
        gradient_accumulation_steps=plan.accumulated,
        row_weights=train.weights,
        of_tokens=of_tokens,
    )
    # Their order is drawn as they are made, so those left out are made too.
    return batches.without_autotune(one_epoch.repeat().skip(first_batch))


def _of_blocks(
    train: Split | ShardedSplit,
    plan: Plan,
    tokenizer: Any,
    seed: int,
    static_shapes: bool,
    first_epoch: int,
    first_batch: int,
    hides: Masking,
) -> tf.data.Dataset:
    assert isinstance(train, Split), "shards are of texts with labels"
    dataset = batches.of_blocks(
        train.encoded,
        hides.places(train.encoded.lengths),
        batch_size=plan.batch_size,
        widths=plan.widths,
        seed=seed,
        tokenizer=tokenizer,
        static_shapes=static_shapes,
        gradient_accumulation_steps=plan.accumulated,
        first_epoch=first_epoch,
        first_batch=first_batch,
    )
    return masking.masked(dataset, hides, seed, first_epoch * plan.batches_per_epoch + first_batch)


def compile_model(
    model: keras.Model,
    training: TrainingSection,
    plan: Plan,
    *,
    loss: keras.losses.Loss,
    runtime: RuntimeSection,
    multipliers: Mapping[str, float] | None = None,
) -> None:
    """Keras's `compile` with all that the recipe says of a step; arguments as those of `train`."""
    if training.fgm_epsilon is not None:
        adversarial.attack(model, training.fgm_epsilon)
    dropout.draw_from_state(model)
    model.compile(
        optimizer=make_optimizer(training, plan, multipliers),
        loss=loss,
        jit_compile=runtime.xla,
        steps_per_execution=runtime.steps_per_execution or plan.steps_per_execution,
    )
    # Or the step is traced twice: TensorFlow traces anew a function that has made variables.
    model.optimizer.build(trained_variables(model))


@contextlib.contextmanager
def memory_errors(plan: Plan) -> Iterator[None]:
    """In the body, TensorFlow's lack of memory becomes a RunError that names the batch and proposes a smaller one."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        rows, widest = plan.batch_size, f" of up to {plan.widths[-1]} tokens" if plan.widths else ""
        smaller = max(1, rows // 2)
        way = (
            f"training.per_device_train_batch_size={smaller} with training.gradient_accumulation_steps="
            f"{plan.accumulated * -(-rows // smaller)} is the same training in less memory"
            if rows > 1
            else "try a smaller data.max_length, or a smaller model"
        )
        raise RunError(f"memory ran out in a training step of {rows} rows{widest}; {way}") from error
