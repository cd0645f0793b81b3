"""A training from its first step, or from where it was broken off, to its last: stages, states, what went wrong."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfft import callbacks, interrupts, nonfinite, optimizers, states
from tfft.backend import inner_optimizer, keras, tf
from tfft.callbacks.stop_on_nan import NotFinite
from tfft.console import Voice
from tfft.distillation.matching import trained_variables
from tfft.errors import RunError, Terminated
from tfft.hardware import Distribution
from tfft.models import averages, freeze, save
from tfft.models.load import parameter_counts
from tfft.plan import Plan, Stage
from tfft.recipe import RuntimeSection, TrainingSection
from tfft.run_directory import ATTENTION, NAN_REPORT, STATES, RunDirectory
from tfft.states import State
from tfft.training import Best, compile_model, make_pruning, make_schedule, memory_errors

# Where a loss became no number, `training.on_nan: rollback` goes on with the rate times this, so often at most.
RATE_AFTER_ROLLBACK = 0.5
MOST_ROLLBACKS = 5


@dataclass(frozen=True)
class Trained:
    """What a training did.

    Attributes:
        history: one dict an epoch: `epoch`, `loss`, `learning_rate`, `val_…`; with `training.eval_steps` one dict an
            evaluation, with its `step`, of which each epoch's last is at its end.
        seconds: from the call of `fit` to its return, validation included.
        clock: when its batches ended.
        steps: optimizer steps done.
        batches: batches done, the same number unless gradients were accumulated.
        kept_epoch: the epoch whose weights the model has now, counted from 1.
        kept_step: the step whose weights those are, where the history says steps.
        parameters: that were trained, in any stage.
        pruning: of the weights that the model has now, see `_pruning_report`; None where nothing was pruned.
        scores: of the validation split by the weights that the model has now, where those were scored last; else None.
    """

    history: list[dict[str, float]]
    seconds: float
    clock: callbacks.StepClock
    steps: int
    batches: int
    kept_epoch: int
    kept_step: int | None
    parameters: int
    pruning: dict[str, Any] | None = None
    scores: Mapping[str, float] | None = None


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
    distribution: Distribution | None = None,
    reports: Sequence[keras.callbacks.Callback] = (),
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
        about: what `differences.differences` compares, to be saved with every state.
        distribution: over which devices a step is spread; None is one. Of several processes, all have to call this.
        reports: callbacks that tell others of the training; for the chief alone.

    Raises:
        RunError: the loss is no number any more; the last state before that stays in the folder. Or a worker is gone.
        KeyboardInterrupt: with a message, after the state of that moment was saved.
    """
    compile_model(model, training, plan, loss=loss, runtime=runtime, multipliers=multipliers)
    parameters = parameter_counts(model)[0]
    spread = distribution or Distribution()
    course = _Course(
        model,
        tokenizer,
        batches_from,
        training,
        plan,
        folder,
        voice,
        score,
        best,
        trained,
        about or {},
        spread,
        reports,
    )
    agreed: list[BaseException] = []
    with interrupts.waiting(voice.say) as heard:

        def asked() -> BaseException | None:
            # Whichever process was asked, all of them end after the same batch.
            here = heard()
            if not spread.any(here is not None):
                return None
            agreed.append(here or Terminated())
            return agreed[-1]

        while True:
            try:
                course.run(found, asked)
                break
            except NotFinite as error:
                found = course.state_after(error)
            except RunError as error:
                raise RunError(f"{error}. {_what_is_kept(folder)}") from None
            except KeyboardInterrupt as interrupt:
                if interrupt in agreed:
                    spread.wait()  # until the chief has written: where one process ends, others may be killed
                at = f"step {int(model.optimizer.iterations.numpy()):,} of {plan.total_steps:,}"
                raise type(interrupt)(f"interrupted after {at}. {_what_is_kept(folder)}") from None
    history, best_number = course.history, course.checkpoints.best_epoch
    kept = len(history)
    if training.load_best_model_at_end and best_number is not None and best_number != kept:
        spread.wait()  # until it is written
        save.restore(model, folder / _best_name(best_number))
        kept = best_number
    return Trained(
        history,
        course.seconds,
        course.clock,
        steps=int(model.optimizer.iterations.numpy()),
        batches=course.keeper.batches_done,
        kept_epoch=int(history[kept - 1]["epoch"]),
        kept_step=history[kept - 1].get("step"),
        parameters=parameters,
        pruning=course.pruning and _pruning_report(course.pruning, model, voice),
        scores=course.scores_now(),
    )


def _pruning_report(pruning: callbacks.MagnitudePruning, model: keras.Model, voice: Voice) -> dict[str, Any]:
    """How much of the model is zero, of the pruned matrices and of all parameters; says where it is not as wanted."""
    wanted, sparsity = pruning.sparsities, pruning.sparsity
    if not pruning.is_done:
        voice.say(
            f"pruning: training ended before step {wanted.end:,}, so {sparsity:.1%} is zero of what was to be pruned "
            f"to {wanted.final:.1%}, and the weights kept are the last"
        )
    return {
        "matrices": len(pruning.weights),
        "sparsity": sparsity,
        "sparsity_of_all_parameters": pruning.zeros / sum(parameter_counts(model)),
    }


def newest_state(
    folder: RunDirectory, distribution: Distribution, suits: Callable[[State], bool] = lambda state: True
) -> tuple[State | None, list[str]]:
    """As `states.newest` for the run's folder; of several processes, all have to ask, and get the chief's."""
    found, damaged = states.newest(folder / STATES, suits) if distribution.is_chief else (None, [])
    if distribution.cluster is None:
        return found, damaged
    name = distribution.from_chief(found and found.folder.name)
    if name is None or distribution.is_chief:
        return found, damaged
    return states.read(folder / STATES / name), []


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


@dataclass
class _Course:
    """One training, which may be run more than once: from its beginning, and from a state of it.

    The first attributes are the arguments of `train`.

    Attributes:
        place: where it stands.
        rate_factor: what the learning rates are multiplied by, after rollbacks.
        clock: of its batches.
        pause: ends it before its last epoch, where it is to.
        pruning: of its weights, where there is any.
        weights: those that any stage trains, and what maps them to a teacher's; no others change.
        keeper, checkpoints, scores: of the present run.
        progress, on_nan: of the present stage.
        last: the scores of the present run's last evaluation, and the fingerprint of the weights that it was of.
        seconds: of training so far, by other processes too.
    """

    model: keras.Model
    tokenizer: Any
    batches_from: Callable[[int, int], tf.data.Dataset]
    training: TrainingSection
    plan: Plan
    folder: RunDirectory
    voice: Voice
    score: Callable[[], Mapping[str, float]] | None
    best: Best | None
    trained: Sequence[Container[str]] | None
    about: Mapping[str, Any]
    distribution: Distribution
    reports: Sequence[keras.callbacks.Callback]
    place: _Place = field(default_factory=_Place)
    rate_factor: float = 1.0
    rollbacks: int = 0
    last: tuple[Mapping[str, float], str] | None = None

    def __post_init__(self) -> None:
        self.weights = trained_variables(self.model)
        self.clock = callbacks.StepClock()
        self.pause = callbacks.PauseAfterEpochs(self.training.stop_after_epochs)
        self.pruning = make_pruning(self.training, self.plan)
        if self.pruning:
            self.pruning.set_model(self.model)  # before a state is put back, which has what is pruned
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def _agreed_seconds(self) -> float:
        """By the chief's clock, where they count."""
        return 0.0 if self.training.max_hours is None else float(self.distribution.from_chief(self.seconds))

    @property
    def history(self) -> list[dict[str, Any]]:
        """A row an epoch, or an evaluation where those have steps of their own."""
        return self.scores.evaluations if self._by_steps else self.keeper.history

    @property
    def _by_steps(self) -> bool:
        return self.score is not None and self.training.eval_steps is not None

    def run(self, found: State | None, asked_to_stop: Callable[[], BaseException | None]) -> None:
        """Trains all stages from a state on, or from the first step."""
        model, plan, training, best, place = self.model, self.plan, self.training, self.best, self.place
        monitored = {"monitor": best.monitor, "mode": best.mode} if best else {}
        self.checkpoints = callbacks.Checkpoints(self._keep_best, saves_last=False, **monitored)  # type: ignore[arg-type]
        self.scores = scores = callbacks.ValidationScores(self._scores, training.eval_steps)
        self.keeper = keeper = callbacks.ExactCheckpoint(
            self.folder / STATES,
            training.save_steps,
            [self.checkpoints, scores],
            weights=self.weights,
            resume=found or False,
            more=self._facts,
            asked_to_stop=asked_to_stop,
            save_first=training.on_nan == "rollback",
            writes=self.distribution.is_chief,
            spared=self._spared,
        )
        if found is not None:
            self._take_up(found)
        budget = callbacks.TimeBudget(training.max_hours or math.inf, self._agreed_seconds)
        for number, stage in enumerate(plan.stages):
            if number < place.number or (number == place.number and self._is_over(stage)):
                continue
            if self.pause.is_due(len(keeper.history)):
                keeper.put_back_callbacks(2)
                averages.take_averages(model)
                break
            if budget.is_spent and keeper.history:
                if keeper.goes_on:
                    keeper.put_back_callbacks(2)
                averages.take_averages(model)
                break
            if number != place.number:
                self._enter(number, stage)
            if len(plan.stages) > 1 or self.rate_factor != 1.0:
                self._begin_stage(number, stage)
            stop, early = callbacks.StopAtBatch(stage.total_batches), _early_stopping(training, best)
            self.on_nan = callbacks.StopOnNaN(training.loss_explosion_factor)
            keeper.callbacks = [self.checkpoints, scores, stop, *early, self.on_nan]
            of_scores = [*early, self.checkpoints]
            if self.pruning:
                of_scores = [self.pruning.once_done(*of_scores)]
            scores.followers = of_scores if self._by_steps else []
            boards = self._boards()
            scores.told = [self._tell, *(board.evaluated for board in boards)]
            self.progress = callbacks.Progress(
                self.voice,
                stage.total_batches,
                plan.batches_per_epoch,
                plan.batch_size,
                plan.accumulated,
                place.first_epoch,
                self._done(),
                plan.replicas,
            )
            _fit_stage(
                model,
                self.batches_from(place.first_epoch, self._done()),
                plan,
                stage,
                place.first_epoch,
                self.progress,
                [
                    *([self.pruning] if self.pruning else []),
                    *([callbacks.ThroughputLog(plan.copies)] if training.include_tokens_per_second else []),
                    self.clock,
                    *([scores] if self.score else []),
                    callbacks.LearningRateLog(),
                    self.on_nan,
                    budget,
                    stop,
                    *(of_scores if not self._by_steps else []),
                    *boards,
                    *self.reports,
                    *self._attention_snapshots(),
                    keeper,
                    # After it, so that the state which it saves is one of a training that goes on.
                    self.pause,
                ],
                self.distribution,
            )

    def _boards(self) -> list[callbacks.TensorBoard]:
        """Of the chief, which alone writes."""
        if "tensorboard" not in self.training.report_to or not self.distribution.is_chief:
            return []
        # Whoever scores may also have texts and a confusion matrix to show.
        shown = {name: getattr(self.score, name, None) for name in ("samples", "confusion")}
        return [callbacks.TensorBoard(self.folder / "logs", **shown)]

    # --- Weights are scored and kept as the averages, where those are kept; training goes on with the others ----------

    def _keep_best(self, _: str) -> None:
        if not self.distribution.is_chief:
            return
        _forget_old_best(self.folder)
        name = _best_name(self.checkpoints.best_epoch)
        with self.folder.whole_folder(name) as target, averages.averaged(self.model):
            save.save(self.model, self.tokenizer, target)

    def _scores(self) -> Mapping[str, float]:
        assert self.score is not None
        began = time.perf_counter()
        scores: Mapping[str, float] = self.distribution.by_chief(self.score)
        self._scoring_seconds = time.perf_counter() - began
        self.last = scores, save.fingerprint_of(self.weights)
        return scores

    def scores_now(self) -> Mapping[str, float] | None:
        """The scores of the last evaluation, unless the weights have changed since."""
        return self.last[0] if self.last and self.last[1] == save.fingerprint_of(self.weights) else None

    def _attention_snapshots(self) -> list[keras.callbacks.Callback]:
        texts = self.training.attention_texts
        if not texts or not self.distribution.is_chief:
            return []
        return [callbacks.AttentionSnapshots(self.folder / ATTENTION, texts, self.tokenizer)]

    def _tell(self, step: int, logs: Mapping[str, float]) -> None:
        """Says the scores of an evaluation within an epoch, whose time is none of a batch."""
        self.clock.interrupted()
        self.progress.leave_out(self._scoring_seconds)
        scores = ", ".join(f"{name} {value:.4f}" for name, value in logs.items() if name.startswith("val_"))
        self.voice.say(f"evaluation after step {step:,}: {scores}")

    # --- Stages -------------------------------------------------------------------------------------------------------

    def _enter(self, number: int, stage: Stage) -> None:
        """The stage of this number begins."""
        place, keeper = self.place, self.keeper
        place.number, place.total_batches = number, stage.total_batches
        place.first_epoch, place.first_batch = len(keeper.history), keeper.batches_done
        place.first_step = int(self.model.optimizer.iterations.numpy())

    def _done(self) -> int:
        """Batches of the present stage that were trained."""
        return self.keeper.batches_done - self.place.first_batch

    def _begin_stage(self, number: int, stage: Stage) -> None:
        model, stages = self.model, self.plan.stages
        if len(stages) > 1:
            assert self.trained is not None
            freeze.train_exactly(model, self.trained[number])
            parameters = parameter_counts(model)[0]
            self.voice.say(f"stage {number + 1} of {len(stages)}: {parameters:,} parameters trained")
        schedule = make_schedule(stage, self.rate_factor)
        optimizers.begin_stage(model.optimizer, schedule, model.trainable_variables, self.place.first_step)
        model.train_function = None  # what was traced trains what the stage before did, at its rates

    def _is_over(self, stage: Stage) -> bool:
        """Whether the stage that the keeper's state is of was over when it was saved; then what ends a stage is done.

        One that was, but has become longer since, goes on.
        """
        keeper, done = self.keeper, self._done()
        was_over = keeper.found is not None and keeper.found.facts["finished"]
        stopped_early = done < self.place.total_batches
        if not was_over or (done < stage.total_batches and not stopped_early):
            return False
        # What belongs to the next one begins afresh, but for the two of the whole training.
        keeper.put_back_callbacks(2)
        keeper.goes_on = False
        # As Keras does at the end of `fit`.
        averages.take_averages(self.model)
        return True

    # --- States -------------------------------------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        """What a state says beside what the keeper does, for `_take_up`."""
        # Not by their names, in which Keras counts the models that a process has made.
        first_steps = inner_optimizer(self.model.optimizer).first_steps
        return {
            "place": vars(self.place),
            "first_steps": [first_steps.get(weight.name) for weight in self.weights],
            "seconds": self.seconds,
            "rate_factor": self.rate_factor,
            "best_epoch": self.checkpoints.best_epoch,
            "about": self.about,
        }

    def _spared(self) -> list[Path]:
        """States that stay beside the newest two, which may both be of an explosion of the loss already.

        The newest from before the loss began to rise, and the one after it, which takes its place once the loss is
        lower still.
        """
        if self.training.on_nan != "rollback":
            return []
        older: list[Path] = []
        later: list[Path] = []
        for folder, facts in states.facts_of_all(self.folder / STATES).items():
            (older if facts["batches_done"] <= self._batches_before_rise else later).append(folder)
        return [*older[-1:], *later[:1]]

    @property
    def _batches_before_rise(self) -> float:
        """How many batches were surely done before the loss began to rise; infinite where its rise is not looked at."""
        if self.training.loss_explosion_factor is None:
            return math.inf
        return self.place.first_batch + self.on_nan.lowest_after

    def _take_up(self, found: State) -> None:
        """Puts the state back, and says so."""
        model, keeper, more = self.model, self.keeper, found.facts["more"]
        if self.distribution.is_chief:
            states.forget_newer(found.folder)  # damaged, or of what is undone
        keeper.set_model(model)
        keeper.put_back()
        vars(self.place).update(more["place"])
        first_steps = {
            weight.name: step
            for weight, step in zip(self.weights, more["first_steps"], strict=True)
            if step is not None
        }
        inner_optimizer(model.optimizer).first_steps.update(first_steps)
        if not self.rollbacks:
            self.rate_factor = more["rate_factor"]
            self._began -= more["seconds"]
        epochs = f"{len(keeper.history)} whole epoch{'' if len(keeper.history) == 1 else 's'}"
        said = f"after step {int(model.optimizer.iterations.numpy()):,}, with {epochs} done, from {found.folder}"
        self.voice.say(f"resumed {said}" if not self.rollbacks else f"rolled back: goes on {said}")

    # --- A loss that is no number -------------------------------------------------------------------------------------

    def state_after(self, error: NotFinite) -> State:
        """Reports what happened, and gives the state to go on from, at a lower rate.

        Raises:
            RunError: the recipe says to stop, there is no state, or this has happened too often.
        """
        newest, _ = newest_state(self.folder, self.distribution)
        report = self._report(error, newest)
        self.folder.write_json(NAN_REPORT, report)
        for line in nonfinite.told(report):
            self.voice.say(line)
        self.voice.say(f"more of this is in {self.folder / NAN_REPORT}")
        limit = self._batches_before_rise
        found, _ = newest_state(
            self.folder, self.distribution, lambda state: bool(state.facts["batches_done"] <= limit)
        )
        if self.training.on_nan == "stop" or found is None or self.rollbacks == MOST_ROLLBACKS:
            raise RunError(f"{error}. {_what_is_kept(self.folder)}") from None
        self.rollbacks += 1
        self.rate_factor *= RATE_AFTER_ROLLBACK
        self.voice.say(f"{error.what}; the learning rate is {self.rate_factor:g} times the recipe's from here on")
        return found

    def _report(self, error: NotFinite, found: State | None) -> dict[str, Any]:
        """Of the batch that spoilt the training: its rows, and, where there is a state to see it from, its insides."""
        place, per_epoch = self.place, self.plan.batches_per_epoch
        # Batches of the stage until the loss was seen to be no number.
        until = (error.epoch - 1 - place.first_epoch) * per_epoch + (error.step or per_epoch)
        until = min(until, place.total_batches)
        scale = getattr(self.model.optimizer, "loss_scale", None)
        if found is not None and self._can_be_seen_from(found):
            begin = found.facts["batches_done"] - place.first_batch
            self.voice.say(f"trains {until - begin} batches again from {found.folder} to see what happened")
            keeper = callbacks.ExactCheckpoint(self.folder / STATES, weights=self.weights, resume=found)
            keeper.set_model(self.model)
            keeper.put_back()
            stream = iter(self.batches_from(place.first_epoch, begin))
            inside = nonfinite.replay(self.model, stream, until - begin)
            batch, at = inside.pop("batch"), begin + inside.pop("batches_before")
        else:
            inside, at = {}, until - 1
            batch = next(iter(self.batches_from(place.first_epoch, at)))
        report = {
            "epoch": place.first_epoch + at // per_epoch + 1,
            "step": at % per_epoch + 1,
            "rows": nonfinite.rows_of(batch, self.tokenizer) if self.plan.replicas == 1 else [],
            "loss_scale": None if scale is None else float(scale),
            **inside,
        }
        plain: dict[str, Any] = nonfinite.without_nan(report)
        return plain

    def _can_be_seen_from(self, found: State) -> bool:
        """Whether training again from the state leads to where the loss was seen, on one device."""
        same_stage = found.facts["more"]["place"]["number"] == self.place.number
        return same_stage and not found.facts["finished"] and self.plan.replicas == 1 and not self.plan.is_static


def _best_name(epoch: int | None) -> str:
    return f"{STATES}/best-{epoch}"


def _forget_old_best(folder: RunDirectory) -> None:
    """Leaves the best weights that a kept state speaks of, and no others: from any state training can go on."""
    root = folder / STATES
    spoken_of = {facts["more"]["best_epoch"] for facts in states.facts_of_all(root).values()}
    for old in root.glob("best-*"):
        if old not in {folder / _best_name(epoch) for epoch in spoken_of}:
            shutil.rmtree(old)


def _fit_stage(
    model: keras.Model,
    dataset: tf.data.Dataset,
    plan: Plan,
    stage: Stage,
    first: int,
    progress: callbacks.Progress,
    wanted: Sequence[keras.callbacks.Callback],
    distribution: Distribution,
) -> None:
    """Keras's `fit` for the stage's epochs, from `first` on."""
    try:
        with memory_errors(plan), distribution.watched():
            model.fit(
                dataset,
                initial_epoch=first,
                epochs=first + stage.epochs,
                steps_per_epoch=plan.batches_per_epoch,
                verbose=0,
                # Progress goes before the last two, which may end the training; the epoch's logs are whole by then.
                callbacks=[*wanted[:-2], progress, *wanted[-2:]],
            )
    finally:
        progress.close()


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
