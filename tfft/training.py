"""`compile` and `fit` of Keras, with everything around them: loss, optimizer, batches, callbacks, the weights kept."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tfft import callbacks, interrupts, optimizers, states
from tfft.backend import keras, tf
from tfft.console import Voice
from tfft.data import Split, batches
from tfft.errors import RecipeError, RunError
from tfft.models import adversarial, averages, dropout, features, freeze, lora, save
from tfft.models.load import Loaded, parameter_counts
from tfft.plan import Plan, Stage
from tfft.problems import Problem
from tfft.recipe import DataSection, RuntimeSection, TrainingSection
from tfft.run_directory import STATES, RunDirectory
from tfft.states import State


@dataclass(frozen=True)
class Best:
    """The score that says which epoch is best.

    Attributes:
        monitor: its name in the epoch's logs: `val_f1`.
        mode: which direction is better.
    """

    monitor: str
    mode: Literal["max", "min"]


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        history: one dict an epoch: `epoch`, `loss`, `learning_rate`, `val_…`.
        seconds: from the call of `fit` to its return, validation included.
        clock: when its batches ended.
        steps: optimizer steps done.
        batches: batches done, the same number unless gradients were accumulated.
        kept_epoch: the epoch whose weights the model has now, counted from 1.
        parameters: that were trained, in any stage.
    """

    history: list[dict[str, float]]
    seconds: float
    clock: callbacks.StepClock
    steps: int
    batches: int
    kept_epoch: int
    parameters: int


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
            freeze.trained_names(model, ("head", *new_parts) if stage.unfreeze == "head" else stage.unfreeze)
            for stage in training.stages
        ]
        freeze.train_exactly(model, frozenset().union(*stages))
        return stages
    if training.strategy == "feature_extraction":
        freeze.feature_extraction(model, also_train=new_parts)
    elif training.strategy == "bitfit":
        freeze.bitfit(model)
    elif training.strategy == "lora":
        given: dict[str, Any] = {
            "rank": training.lora_r,
            "alpha": training.lora_alpha,
            "dropout": training.lora_dropout,
            "targets": training.lora_target_modules,
        }
        lora.add(model, **{name: value for name, value in given.items() if value is not None})
    return [frozenset(weight.name for weight in model.trainable_weights)]


def make_loss(training: TrainingSection, problem: Problem, labels: np.ndarray) -> keras.losses.Loss:
    """The loss to train with. Validation reports the problem's plain loss whatever this is.

    Args:
        labels: of the training rows, for balanced weights.

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
    wanted: Mapping[str, float] | str | None, problem: Problem, labels: np.ndarray
) -> list[float] | None:
    if wanted is None or isinstance(wanted, str):
        return None if wanted is None else problem.balanced_weights(labels)
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
        return optimizers.multipliers_by_depth(names, training.layerwise_lr_decay)
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


def make_schedule(stage: Stage) -> optimizers.Schedule:
    """Step of the stage to learning rate."""
    settings = stage.settings
    return optimizers.make_schedule(
        settings.lr_scheduler_type,
        settings.learning_rate,
        stage.total_steps,
        warmup_steps=stage.warmup_steps,
        end=settings.end_learning_rate,
        power=settings.lr_power,
    )


def make_batches(
    train: Split,
    data: DataSection,
    plan: Plan,
    tokenizer: Any,
    seed: int,
    static_shapes: bool,
    first_epoch: int = 0,
    first_batch: int = 0,
) -> tf.data.Dataset:
    """Training batches without end; an epoch is `plan.batches_per_epoch` of them, each in a part for every replica.

    Args:
        first_epoch: epochs that other batches were made for, from 0.
        first_batch: batches from there on that are left out, since they were trained before.
    """
    dataset = _one_copy(train, data, plan, tokenizer, seed, static_shapes, first_epoch, first_batch)
    if plan.replicas > 1:
        dataset = batches.shared_out(
            dataset,
            plan.replicas,
            of_tokens=train.words is not None,
            of_documents=train.encoded.window_starts is not None,
        )
    return batches.twice(dataset) if plan.copies == 2 else dataset


def _one_copy(
    train: Split,
    data: DataSection,
    plan: Plan,
    tokenizer: Any,
    seed: int,
    static_shapes: bool,
    first_epoch: int,
    first_batch: int,
) -> tf.data.Dataset:
    assert train.labels is not None
    shared: dict[str, Any] = {
        "batch_size": plan.batch_size,
        "seed": seed,
        "gradient_accumulation_steps": plan.accumulated,
        "row_weights": train.weights,
        "first_epoch": first_epoch,
        "first_batch": first_batch,
    }
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
        steps_per_execution=runtime.steps_per_execution,
    )
    # Or the step is traced twice: TensorFlow traces anew a function that has made variables.
    model.optimizer.build(model.trainable_variables)


def train(
    model: keras.Model,
    tokenizer: Any,
    batches_from: Callable[[int, int], tf.data.Dataset],
    training: TrainingSection,
    plan: Plan,
    folder: RunDirectory,
    voice: Voice,
    *,
    loss: keras.losses.Loss,
    score: Callable[[], Mapping[str, float]] | None,
    best: Best | None,
    runtime: RuntimeSection,
    multipliers: Mapping[str, float] | None = None,
    trained: Sequence[Container[str]] | None = None,
    found: State | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trained:
    """Trains `model` and leaves in it the weights to be kept.

    Args:
        batches_from: the batches after so many epochs and so many batches more, without end; see `make_batches`.
        loss: see `make_loss`.
        folder: an open run folder, for `checkpoint/` and `logs/`.
        score: the validation scores of the model as it stands; None does not validate.
        best: how the best epoch is told; None keeps the last one's weights.
        multipliers: see `rate_multipliers`.
        trained: the names of the weights that each stage trains, see `choose_weights`; None where there is one stage.
        found: the state to go on from.
        about: what `changes` compares, to be saved with every state.

    Raises:
        RunError: the loss is no number any more; the last state before that stays in the folder.
        KeyboardInterrupt: with a message, after the state of that moment was saved.
    """
    compile_model(model, training, plan, loss=loss, runtime=runtime, multipliers=multipliers)
    parameters = parameter_counts(model)[0]

    # Weights are scored and kept as the averages, where those are kept; training goes on with the weights themselves.
    def keep_best(_: str) -> None:
        _forget_old_best(folder)
        with folder.whole_folder(_best_name(checkpoints.best_epoch)) as target, averages.averaged(model):
            save.save(model, tokenizer, target)

    def score_averaged() -> Mapping[str, float]:
        assert score is not None
        with averages.averaged(model):
            return score()

    checkpoints = callbacks.Checkpoints(
        keep_best, best.monitor if best else None, best.mode if best else "min", saves_last=False
    )
    # Of all stages; no other changes.
    weights = list(model.trainable_weights)
    clock, place = callbacks.StepClock(), _Place()
    before: list[keras.callbacks.Callback] = [clock]
    if score:
        before.append(callbacks.ValidationScores(score_averaged))
    before += [callbacks.LearningRateLog(), callbacks.StopOnNaN()]
    after = [checkpoints, keras.callbacks.TensorBoard(str(folder / "logs"), write_graph=False, profile_batch=0)]
    began = time.perf_counter()
    with interrupts.waiting(voice.say) as asked:
        keeper = callbacks.ExactCheckpoint(
            folder / STATES,
            training.save_steps,
            [checkpoints],
            weights=weights,
            resume=found or False,
            more=lambda: {
                **place.facts(model.optimizer, weights, time.perf_counter() - began),
                "best_epoch": checkpoints.best_epoch,
                "about": about or {},
            },
            asked_to_stop=asked,
        )
        if keeper.found is not None:
            began -= _take_up(keeper, keeper.found, model, weights, place, voice)
        try:
            for number, stage in enumerate(plan.stages):
                if number < place.number or (number == place.number and _is_over(place, stage, keeper, model)):
                    continue
                if number != place.number:
                    place.enter(number, stage, keeper, model.optimizer)
                if len(plan.stages) > 1:
                    assert trained is not None
                    _begin_stage(model, stage, trained[number], place.first_step)
                    voice.say(
                        f"stage {number + 1} of {len(plan.stages)}: {parameter_counts(model)[0]:,} parameters trained"
                    )
                own = [callbacks.StopAtBatch(stage.total_batches), *_early_stopping(training, best)]
                keeper.callbacks = [checkpoints, *own]
                done = keeper.batches_done - place.first_batch
                wanted = [*before, *own, *after, keeper]
                _fit_stage(model, batches_from(place.first_epoch, done), plan, stage, place, done, voice, wanted)
        except RunError as error:
            raise RunError(f"{error}. {_what_is_kept(folder)}") from None
        except KeyboardInterrupt as interrupt:
            steps = f"{int(model.optimizer.iterations):,} of {plan.total_steps:,}"
            raise type(interrupt)(f"interrupted after step {steps}. {_what_is_kept(folder)}") from None
    seconds = time.perf_counter() - began
    kept_epoch = len(keeper.history)
    if training.load_best_model_at_end and checkpoints.best_epoch not in (None, kept_epoch):
        save.restore(model, folder / _best_name(checkpoints.best_epoch))
        kept_epoch = checkpoints.best_epoch or 0
    return Trained(
        keeper.history, seconds, clock, int(model.optimizer.iterations), keeper.batches_done, kept_epoch, parameters
    )


def changes(found: State, about: Mapping[str, Any]) -> list[str]:
    """What differs between the training that a state is of and one that is described by `about`: a line each.

    Args:
        about: tables of tables of plain values, as `train` was given them.
    """
    before, now = _flat(found.facts["more"]["about"]), _flat(about)
    return [
        f"{name}: {repr(before[name]) if name in before else 'nothing'} before, "
        f"{repr(now[name]) if name in now else 'nothing'} now"
        for name in dict.fromkeys([*before, *now])
        if name not in before or name not in now or before[name] != now[name]
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values by their dotted names, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat


@dataclass
class _Place:
    """Where a training stands among its stages.

    Attributes:
        number: of the stage, from 0; -1 before the first.
        first_epoch, first_batch, first_step: as many as were done before the stage.
        total_batches: that the stage was to have.
    """

    number: int = -1
    first_epoch: int = 0
    first_batch: int = 0
    first_step: int = 0
    total_batches: int = 0

    def enter(self, number: int, stage: Stage, keeper: callbacks.ExactCheckpoint, optimizer: Any) -> None:
        """The stage of this number begins."""
        self.total_batches = stage.total_batches
        self.number, self.first_epoch, self.first_batch = number, len(keeper.history), keeper.batches_done
        self.first_step = int(optimizer.iterations)

    def facts(self, optimizer: Any, weights: Sequence[tf.Variable], seconds: float) -> dict[str, Any]:
        """What a state of the training says of it, for `_take_up`."""
        # Not by their names, in which Keras counts the models that a process has made.
        first_steps = [_inner(optimizer).first_steps.get(weight.name) for weight in weights]
        return {"place": vars(self), "first_steps": first_steps, "seconds": seconds}


def _take_up(
    keeper: callbacks.ExactCheckpoint,
    found: State,
    model: keras.Model,
    weights: Sequence[tf.Variable],
    place: _Place,
    voice: Voice,
) -> float:
    """Puts the state back that the keeper found, and says so; the seconds of training that were before it."""
    keeper.set_model(model)
    keeper.put_back()
    more = found.facts["more"]
    vars(place).update(more["place"])
    first_steps = zip(weights, more["first_steps"], strict=True)
    _inner(model.optimizer).first_steps.update({weight.name: step for weight, step in first_steps if step is not None})
    epochs = f"{len(keeper.history)} whole epoch{'' if len(keeper.history) == 1 else 's'}"
    voice.say(f"resumed after step {int(model.optimizer.iterations):,}, with {epochs} done, from {found.folder}")
    seconds: float = more["seconds"]
    return seconds


def _is_over(place: _Place, stage: Stage, keeper: callbacks.ExactCheckpoint, model: keras.Model) -> bool:
    """Whether the stage that the keeper's state is of was over when it was saved; then what ends a stage is done.

    One that was, but has become longer since, goes on.
    """
    done = keeper.batches_done - place.first_batch
    was_over = keeper.found is not None and keeper.found.facts["finished"]
    stopped_early = done < place.total_batches
    if not was_over or (done < stage.total_batches and not stopped_early):
        return False
    # What belongs to the next one begins afresh.
    keeper.put_back_callbacks(1)
    keeper.goes_on = False
    # As Keras does at the end of `fit`.
    averages.take_averages(model)
    return True


def _inner(optimizer: Any) -> Any:
    # LossScaleOptimizer keeps the real one inside.
    return getattr(optimizer, "inner_optimizer", optimizer)


def _best_name(epoch: int | None) -> str:
    return f"{STATES}/best-{epoch}"


def _forget_old_best(folder: RunDirectory) -> None:
    """Leaves the best weights that a kept state speaks of, and no others: from any state training can go on."""
    root = folder / STATES
    spoken_of = {states.facts_of(one)["more"]["best_epoch"] for one in states.folders(root)}
    for old in root.glob("best-*"):
        if old not in {folder / _best_name(epoch) for epoch in spoken_of}:
            shutil.rmtree(old)


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


def _fit_stage(
    model: keras.Model,
    dataset: tf.data.Dataset,
    plan: Plan,
    stage: Stage,
    place: _Place,
    batches_done: int,
    voice: Voice,
    wanted: Sequence[keras.callbacks.Callback],
) -> None:
    """Keras's `fit` for the stage's epochs, with progress; `batches_done` of its batches were trained before."""
    first = place.first_epoch
    progress = callbacks.Progress(
        voice, stage.total_batches, plan.batches_per_epoch, plan.batch_size, plan.accumulated, first, batches_done
    )
    try:
        with memory_errors(plan):
            model.fit(
                dataset,
                initial_epoch=first,
                epochs=first + stage.epochs,
                steps_per_epoch=plan.batches_per_epoch,
                verbose=0,
                # Progress goes before the last, which may end the training; the epoch's logs are whole by then.
                callbacks=[*wanted[:-1], progress, wanted[-1]],
            )
    finally:
        progress.close()


def _begin_stage(model: keras.Model, stage: Stage, trained: Container[str], first_step: int) -> None:
    freeze.train_exactly(model, trained)
    optimizers.begin_stage(model.optimizer, make_schedule(stage), model.trainable_variables, first_step)
    model.train_function = None  # what was traced trains what the stage before did


def _early_stopping(training: TrainingSection, best: Best | None) -> list[keras.callbacks.Callback]:
    """Ends a stage, not the training: what a stage cannot better, the next may, which trains more."""
    patience = training.early_stopping_patience
    if not best or not patience:
        return []
    return [keras.callbacks.EarlyStopping(best.monitor, patience=patience, mode=best.mode)]


def _what_is_kept(folder: RunDirectory) -> str:
    kept = states.folders(folder / STATES)
    if not kept:
        return "No state of the training was saved yet"
    return f"The newest saved state is {kept[-1]}: --resume goes on from it"
