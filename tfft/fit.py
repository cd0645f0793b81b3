"""`python -m tfft.fit`: one recipe, one training, one folder that anyone can use.

The story is `_run`; everything above it is the two doors, the command line and Python.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfft import command
from tfft.errors import DataError, RecipeError, RunError

if TYPE_CHECKING:
    from tfft.assembly import Assembly
    from tfft.callbacks import StepClock
    from tfft.console import Voice
    from tfft.course import Trained
    from tfft.data import Given, Prepared, Split
    from tfft.data.windows import LongText
    from tfft.hardware import Distribution
    from tfft.models.checkpoint import Checkpoint
    from tfft.perplexity import MaskedScorer
    from tfft.predictor import Predictor
    from tfft.problems import Problem
    from tfft.recipe import Recipe
    from tfft.run_directory import RunDirectory
    from tfft.scoring import Scorer
    from tfft.states import State

_IMPORTED = time.perf_counter()

Resume = Literal["no", "exactly", "with_changes"]


@dataclass(frozen=True)
class FitResult:
    """What a training leaves in memory; `output_dir` has it on disk.

    Attributes:
        scores: `eval` and, where there is a labelled test split, `test`: score name to value; of a masked-LM model also
            `before`, what `eval` was before training.
        history: one dict an epoch: `epoch`, `loss`, `learning_rate`, `val_…`; with `training.eval_steps` one dict an
            evaluation, with its `step`.
        model: the Keras model with the weights that were kept.
        tokenizer: the checkpoint's.
        output_dir: the run's folder.
        problem: what the labels are, and how logits become answers.
        max_length: tokens a text may have.
        long_text, window_pooling: what becomes of longer ones, and of the logits of their windows.
    """

    scores: dict[str, dict[str, float]]
    history: list[dict[str, float]]
    model: Any
    tokenizer: Any
    output_dir: Path
    problem: Problem
    max_length: int
    long_text: LongText
    window_pooling: str

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes in id order."""
        return self.problem.names

    @property
    def predictor(self) -> Predictor:
        """What answers with this model, as `tfft.load` of the run gives it."""
        from tfft.predictor import Predictor

        return Predictor(self.model, self.tokenizer, self.problem, self.max_length, self.long_text, self.window_pooling)

    def predict(self, texts: Sequence[str] | Sequence[Sequence[str]], top_k: int | None = None) -> list[Any]:
        """An answer for each text, or for each pair of texts; see `predictor.Predictor.predict`."""
        return self.predictor.predict(texts, top_k)


# --- The two doors ----------------------------------------------------------------------------------------------------


def fit(
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    overwrite: bool = False,
    resume: bool = False,
    resume_with_changes: bool = False,
    verbose: bool = True,
    callbacks: Sequence[Any] = (),
    **settings: Any,
) -> FitResult:
    """Fine-tunes a model as a recipe says, and returns it with its scores.

    Args:
        recipe: a `Recipe`, a shipped recipe's name, the path of a YAML file, or None where `settings` say everything.
        train, validation, test: rows as a `datasets.Dataset`, a pandas frame, a list of dicts or a dict of lists, in
            place of those that the recipe names.
        overwrite: replace a run that is already in the output folder.
        resume: go on with a run that was broken off in the output folder, as if it had not been; begin where there is
            none.
        resume_with_changes: the same, although the recipe or the rows are others now.
        verbose: say how it is going.
        callbacks: Keras callbacks of yours, told of the training like tfft's own, scores included; what they remember
            is not part of the states that a training is resumed from. Of several processes the first one's are told.
        settings: what differs from the recipe, by its keys: `seed=1`, `training={"learning_rate": 3e-5}`.

    Raises:
        UserError: the recipe, the data, the checkpoint or the output folder cannot be used; the message says how to
            mend it.

    Example:
        >>> import tfft
        >>> result = tfft.fit("quickstart", training={"num_train_epochs": 2})  # doctest: +SKIP
        >>> result.scores["eval"]["accuracy"]  # doctest: +SKIP
    """
    from tfft.console import Voice
    from tfft.data import Given

    if train is None and (validation is not None or test is not None):
        raise DataError("validation or test rows were given without train rows; give train=… as well")
    given = None if train is None else Given(train, validation, test)
    chosen = chosen_recipe(recipe, settings, rows_given=given is not None)
    result = _run(
        chosen,
        given,
        overwrite=overwrite,
        resume=_resume(resume, resume_with_changes),
        voice=Voice(silent=not verbose),
        started=time.perf_counter(),
        callbacks=callbacks,
    )
    if result is None:
        raise RunError(f"output_dir: {chosen.output_dir} holds a finished run, so there is nothing to resume")
    return result


def _resume(resume: bool, with_changes: bool) -> Resume:
    return "with_changes" if with_changes else "exactly" if resume else "no"


def chosen_recipe(
    recipe: Recipe | str | os.PathLike[str] | None, settings: Mapping[str, Any], rows_given: bool = False
) -> Recipe:
    """The recipe that `fit` is given in one of these ways, with the settings that differ."""
    from tfft import recipe as recipes

    if isinstance(recipe, recipes.Recipe):
        if not settings:
            return recipe
        base: dict[str, Any] = recipe.model_dump(mode="json")
        merged = {
            key: {**base[key], **value} if isinstance(value, Mapping) and isinstance(base.get(key), dict) else value
            for key, value in settings.items()
        }
        return recipes.from_mapping({**base, **merged}, rows_given=rows_given)
    if recipe is None:
        return recipes.from_mapping(settings, rows_given=rows_given)
    name = Path(os.fspath(recipe)).stem
    return recipes.from_mapping({"extends": os.fspath(recipe), **settings}, source=name, rows_given=rows_given)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    return train_by(parser(), argv)


def train_by(
    wanted: argparse.ArgumentParser, argv: Sequence[str] | None, check: Callable[[Recipe], None] = lambda recipe: None
) -> int:
    """Trains as a command line says.

    Args:
        wanted: what the command line takes, as `parser` makes it.
        check: raises a UserError where the recipe is not for the command.
    """
    arguments = wanted.parse_intermixed_args(argv)
    from tfft import console
    from tfft import recipe as recipes

    chosen = recipes.load(arguments.recipe, arguments.overrides)
    check(chosen)
    if not arguments.verbose:
        console.silence_libraries()
    _run(
        chosen,
        None,
        overwrite=arguments.overwrite,
        resume=_resume(arguments.resume, arguments.resume_with_changes),
        voice=console.Voice(),
        started=_IMPORTED,
        is_dry=arguments.dry_run,
    )
    return 0


def parser(
    command_name: str = "fit",
    description: str = "Fine-tune a Hugging Face model in TensorFlow, as a recipe says.",
    example: str = "--recipe mrpc training.learning_rate=3e-5 data.max_train_samples=1000",
) -> argparse.ArgumentParser:
    """What the command line takes."""
    made = argparse.ArgumentParser(
        prog=f"python -m tfft.{command_name}",
        description=description,
        epilog=f"Example: python -m tfft.{command_name} {example}. The recipes: python -m tfft.recipes list.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--recipe", required=True, metavar="RECIPE", help="a shipped recipe's name, a YAML file, or - (standard input)"
    )
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the recipe; ~KEY removes one")
    made.add_argument("--dry-run", action="store_true", help="show what would be done, train and write nothing")
    made.add_argument("--overwrite", action="store_true", help="replace a run that is already in output_dir")
    made.add_argument(
        "--resume", action="store_true", help="go on with the run in output_dir from its last state; begin if none is"
    )
    made.add_argument(
        "--resume-with-changes", action="store_true", help="the same, although recipe or rows have changed since"
    )
    made.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return made


# --- The story --------------------------------------------------------------------------------------------------------


def _run(
    recipe: Recipe,
    given: Given | None,
    *,
    overwrite: bool,
    resume: Resume,
    voice: Voice,
    started: float,
    is_dry: bool = False,
    callbacks: Sequence[Any] = (),
) -> FitResult | None:
    """The whole training. Nothing is written before everything that can be wrong has been looked at."""
    from tfft import environment, lock, reporting, tasks, workers
    from tfft.compiled import Programs
    from tfft.console import Voice
    from tfft.models import checkpoint
    from tfft.run_directory import LOCK, STATES, FollowedDirectory, RunDirectory, checksums

    environment.check()
    cluster = workers.find(recipe.runtime.strategy, recipe.runtime.workers)
    folder = RunDirectory(recipe.output_dir)
    if cluster is not None and not cluster.is_chief:
        folder, voice = FollowedDirectory(recipe.output_dir), Voice(silent=True)
    else:
        reporting.check(recipe)
    if not is_dry:
        if resume != "no" and folder.is_finished and not overwrite:
            lock.clear(folder / LOCK)  # it may have been killed after its last file
            voice.say(f"{folder.path} holds a finished run; nothing is left to do")
            return None
        folder.check(overwrite, resume != "no")
    programs = Programs() if recipe.runtime.xla else None
    source = checkpoint.find(recipe.model.name_or_path, recipe.model.revision)
    if recipe.training.further_pretraining is not None:
        source = _pretrained_first(recipe, given, source, overwrite, resume, voice, cluster is not None, is_dry)
    # What has no mask token is told so, which says more.
    tokenizer = checkpoint.load_tokenizer(source, pads=recipe.task != tasks.FILL_MASK)

    from tfft import assembly, course, plan, training
    from tfft.data import shards
    from tfft.models import averages, features, save

    ready = assembly.assemble(recipe, given, source, tokenizer, voice, None if is_dry else cluster)
    if is_dry:
        plan.show(voice, ready.plan, ready.prepared, ready.loaded, recipe.data, ready.precision)
        return None

    model, prepared, problem, distribution = ready.loaded.model, ready.prepared, ready.problem, ready.distribution
    reads_features = recipe.training.strategy == "feature_extraction"
    features_began = time.perf_counter()
    if reads_features:
        prepared = _with_features(recipe, prepared, model, tokenizer, voice)
    features_seconds = time.perf_counter() - features_began
    teacher_began = time.perf_counter()
    train = assembly.taught(ready, prepared.train, voice)
    teacher_seconds = time.perf_counter() - teacher_began
    scorers = _scorers(ready, prepared)

    def batches_from(first_epoch: int, first_batch: int) -> Any:
        given = (train, recipe.data, ready.plan, tokenizer, recipe.seed, recipe.runtime.xla)
        own = distribution.own_replicas
        return distribution.spread(training.make_batches(*given, first_epoch, first_batch, own, ready.masking))

    def save_model(target: Path) -> None:
        with averages.averaged(model):
            problem.note_in(model.config)
            save.save(model, tokenizer, target)
        # The finished model's folder has none, and would not take those of an epoch off the hub.
        shutil.rmtree(target / save.ADAPTERS_FOLDER, ignore_errors=True)

    about = _about(ready)
    resumes = resume != "no" and not overwrite
    with (
        # Outermost, since it reads all shards again: not for a full disk or a worker that is gone.
        shards.watched(prepared.train),
        distribution.watched(),
        _opened(folder, resumes, distribution),
        distribution.scope(),
        features.head_only(model) if reads_features else contextlib.nullcontext(),
        reporting.opened(recipe, folder, save_model, voice.say, distribution.is_chief) as reports,
    ):
        _check_same_for_all(about, distribution)
        found = _state_to_go_on_from(folder, about, resume, distribution, voice) if resumes else None
        folder.write_text("recipe.yaml", _replayable(recipe, given))
        before = _scores_before(ready, scorers, voice)
        trained = course.train(
            model,
            tokenizer,
            batches_from,
            recipe.training,
            ready.plan,
            folder,
            voice,
            loss=ready.loss,
            score=scorers.get("eval") if recipe.training.eval_strategy != "no" else None,
            best=ready.best,
            runtime=recipe.runtime,
            multipliers=ready.multipliers,
            trained=ready.trained_names,
            found=found,
            about=about,
            distribution=distribution,
            reports=[*reports.callbacks, *callbacks],
        )
        scores = {**before, **_scores_at_end(distribution, scorers, trained)}
        if distribution.is_chief:
            _save(folder, ready, trained, scorers)
        report = {**scores, **_report(ready, trained, started)}
        if distribution.is_chief:
            report["weights"] = checksums(folder / "model")
        if reads_features:
            report["timing"]["features_seconds"] = features_seconds
        if ready.teacher is not None:
            report["timing"]["teacher_seconds"] = teacher_seconds
        if programs is not None:
            report["train"]["xla_programs_compiled"] = programs.compiled()
            voice.say(programs.told())
        if distribution.is_chief and recipe.training.report:
            _write_report(folder, voice, recipe, report, trained, prepared, problem, scorers.get("eval"))
        folder.write_json("metrics.json", report)
        # Last of all: until then the run can be gone on with. One that was to stop midway still can.
        if recipe.training.stop_after_epochs is None:
            folder.remove(STATES)
        distribution.wait()
        _show_end(voice, folder, scores, report)
        reports.end(scores, folder / "model")
    return FitResult(
        scores,
        trained.history,
        model,
        tokenizer,
        folder.path,
        problem,
        prepared.max_length,
        assembly.long_text(recipe.data),
        recipe.data.window_pooling,
    )


def _pretrained_first(
    recipe: Recipe,
    given: Given | None,
    source: Checkpoint,
    overwrite: bool,
    resume: Resume,
    voice: Voice,
    is_one_of_several: bool,
    is_dry: bool,
) -> Checkpoint:
    """The recipe's checkpoint after it has gone on with its pretraining, in a run of its own beside this one.

    Where that run is finished already, a training that is resumed takes what it has made.
    """
    from tfft import assembly, backend, further
    from tfft.console import Voice
    from tfft.models import checkpoint

    if is_one_of_several:
        raise RecipeError(
            "training.further_pretraining: expected null, since several workers train: run python -m tfft.pretrain "
            "first, and give what it writes to all of them as model.name_or_path"
        )
    sub_recipe = further.recipe_of(recipe)
    if is_dry:
        voice.say(f"further pretraining comes first, in {sub_recipe.output_dir}; what follows is with {source.name}")
        return source
    # What is wrong with the rows is said now, not after the pretraining.
    tokenizer = checkpoint.load_tokenizer(source)
    max_length = checkpoint.choose_max_length(recipe.data.max_length, tokenizer, source.config)
    assembly.prepare(recipe, given, source, tokenizer, max_length, Voice(silent=True))
    voice.say(f"further pretraining: {sub_recipe.training.num_train_epochs:g} epochs, in {sub_recipe.output_dir}")
    with backend.forgetting_gradients():
        _run(
            sub_recipe,
            further.texts(recipe, given),
            overwrite=overwrite,
            resume=resume,
            voice=voice,
            started=time.perf_counter(),
        )
    return checkpoint.find(f"{sub_recipe.output_dir}/model")


def _about(ready: Assembly) -> dict[str, Any]:
    """What has to be the same for a training to go on: recipe, wherever its run is, rows, devices, and a teacher."""
    from tfft import reporting

    settings, train = reporting.settings_of(ready.recipe), ready.prepared.train
    # A training that was to stop midway goes on.
    settings["training"].pop("stop_after_epochs")
    rows = {"number": len(train), "fingerprint": train.fingerprint()}
    teacher = {} if ready.teacher is None else {"teacher": ready.teacher.fingerprint}
    return {**settings, "training rows": rows, "devices": ready.distribution.replicas, **teacher}


@contextlib.contextmanager
def _opened(folder: RunDirectory, resumes: bool, distribution: Distribution) -> Iterator[None]:
    """The run's folder, open in the body; where several processes train, the chief opens it first."""
    with contextlib.ExitStack() as opened:
        if distribution.is_chief:
            opened.enter_context(folder.open(resumes))
        distribution.wait()
        if not distribution.is_chief:
            opened.enter_context(folder.open(resumes))
        yield


def _check_same_for_all(about: Mapping[str, Any], distribution: Distribution) -> None:
    """Raises a RunError where this worker has another recipe or other rows than the chief."""
    from tfft.differences import differences

    changes = differences(distribution.from_chief(about), about, ("there", "here"))
    if changes:
        listed = "\n".join(f"  {one}" for one in changes)
        raise RunError(f"worker 0 trains by another recipe or on other rows; give all workers the same:\n{listed}")


def _state_to_go_on_from(
    folder: RunDirectory, about: Mapping[str, Any], resume: Resume, distribution: Distribution, voice: Voice
) -> State | None:
    """The newest whole state in the folder; None, and a line that says so, where there is none.

    Raises:
        RunError: it is of another recipe, or of other rows.
    """
    from tfft import course
    from tfft.differences import differences

    found, damaged = course.newest_state(folder, distribution)
    for one in damaged:
        voice.say(f"not used: {one}")
    if found is None:
        voice.say(f"{folder.path} has no state of a training to resume; it begins")
        return None
    changes = differences(found.facts["more"]["about"], about)
    if changes and resume != "with_changes":
        raise RunError(
            f"--resume: {found.folder} is of another training; give the recipe as it was, or --resume-with-changes:\n"
            + "\n".join(f"  {one}" for one in changes)
        )
    return found


def _with_features(recipe: Recipe, prepared: Prepared, model: Any, tokenizer: Any, voice: Voice) -> Prepared:
    """Every split with the frozen encoder's outputs, from the cache where they are there, with a bar else."""
    from tfft.data import ShardedSplit
    from tfft.models import features

    encoder = features.encoder_fingerprint(model)
    with voice.bar() as bar:
        task = bar.add_task("encoder's outputs", total=sum(map(len, prepared.splits)), detail="")

        assert not isinstance(prepared.train, ShardedSplit), "the recipe was looked at"

        def with_them(split: Split) -> Split:
            outputs = features.cached_outputs(
                model,
                split.encoded,
                tokenizer,
                batch_size=recipe.training.per_device_eval_batch_size,
                max_length=prepared.max_length,
                cache=features.cache_folder(),
                encoder=encoder,
                advance=lambda done: bar.advance(task, done),
            )
            return replace(split, features=outputs)

        return replace(
            prepared,
            train=with_them(prepared.train),
            validation=prepared.validation and with_them(prepared.validation),
            test=prepared.test and with_them(prepared.test),
        )


def _scorers(ready: Assembly, prepared: Prepared) -> dict[str, Scorer | MaskedScorer]:
    """`eval` for the validation split, `test` for the test split, where they are and have labels, or hide tokens.

    Args:
        prepared: the splits, with a frozen encoder's outputs where the head alone is trained.
    """
    from tfft.perplexity import MaskedScorer
    from tfft.scoring import Scorer

    recipe, model, tokenizer = ready.recipe, ready.loaded.model, ready.tokenizer
    shared: dict[str, Any] = {
        "batch_size": recipe.training.per_device_eval_batch_size,
        "max_length": prepared.max_length,
        "pad_to_max_length": recipe.data.padding == "max_length",
    }
    splits = {"eval": prepared.validation, "test": prepared.test}
    if ready.masking is not None:
        return {
            name: MaskedScorer(model, tokenizer, split, ready.masking, **shared)
            for name, split in splits.items()
            if split is not None
        }
    pooling = recipe.data.window_pooling
    return {
        name: Scorer(
            model, ready.problem, tokenizer, split, ready.metrics, tunes=name == "eval", pooling=pooling, **shared
        )
        for name, split in splits.items()
        if split is not None and split.labels is not None
    }


def _scores_before(
    ready: Assembly, scorers: Mapping[str, Scorer | MaskedScorer], voice: Voice
) -> dict[str, dict[str, float]]:
    """What a masked-LM model knows of the text already, as `before`; nothing of a head that is always new."""
    if ready.masking is None or "eval" not in scorers:
        return {}
    found = ready.distribution.by_chief(scorers["eval"])
    voice.say(f"before training: perplexity {found['perplexity']:,.2f}, accuracy {found['accuracy']:.4f}")
    return {"before": found}


def _scores_at_end(
    distribution: Distribution, scorers: Mapping[str, Scorer | MaskedScorer], trained: Trained
) -> dict[str, dict[str, float]]:
    """Of all splits, by the weights that are kept. Those of the last evaluation may be just these already."""
    known = {} if trained.scores is None else {"eval": dict(trained.scores)}
    return {name: known.get(name) or distribution.by_chief(scorer) for name, scorer in scorers.items()}


def _replayable(recipe: Recipe, given: Given | None) -> str:
    note = "" if given is None else "# The rows came from Python: tfft.fit(THIS_FILE, train=…) needs them again.\n"
    return note + recipe.to_yaml()


def _save(
    folder: RunDirectory,
    ready: Assembly,
    trained: Trained,
    scorers: Mapping[str, Scorer | MaskedScorer],
) -> None:
    """The model, the history and the predictions."""
    from tfft.models import lora, masked, save

    model, problem, validation = ready.loaded.model, ready.problem, ready.prepared.validation
    if lora.has_adapters(model):
        with folder.whole_folder("adapters") as target:
            lora.save_adapters(model, target)
        lora.merge(model)
    problem.note_in(model.config)
    with folder.whole_folder("model") as target:
        kept = {} if ready.masking is None else masked.poolers(ready.source, model.base_model_prefix)
        save.save(model, ready.tokenizer, target, kept)
    folder.write_table("history.csv", trained.history)
    logits = scorers["eval"].logits if "eval" in scorers else None
    if validation is not None and logits is not None:
        columns, rows = problem.table(logits, validation)
        folder.write_csv("predictions.csv", columns, rows)


def _write_report(
    folder: RunDirectory,
    voice: Voice,
    recipe: Recipe,
    metrics: Mapping[str, Any],
    trained: Trained,
    prepared: Prepared,
    problem: Problem,
    scorer: Scorer | MaskedScorer | None,
) -> None:
    """The run on a page. One that cannot be made costs no training: it is said."""
    from tfft import reports
    from tfft.run_directory import REPORT

    scored = None
    if scorer is not None and scorer.logits is not None:
        scored = reports.Scored(problem, scorer.split, scorer.logits)
    material = reports.Material(
        str(folder.path), recipe, metrics, trained.history, scored, prepared.splits, prepared.notes
    )
    try:
        page = reports.page(material)
    except Exception as error:
        voice.say(
            f"{REPORT} could not be made ({type(error).__name__}: {error}); python -m tfft.report {folder.path} tries "
            "it once more and says where it fails"
        )
    else:
        folder.write_text(REPORT, page)


def _report(ready: Assembly, trained: Trained, started: float) -> dict[str, Any]:
    """What `metrics.json` holds beside the scores."""
    from tfft import environment

    rows = len(ready.prepared.train)
    seen = rows * trained.batches / ready.plan.batches_per_epoch
    return {
        "train": {
            "loss": trained.history[-1]["loss"],
            "rows": rows,
            "tokens": ready.prepared.train.encoded.total_tokens,
            "steps": trained.steps,
            "epochs": seen / rows,
            "kept_epoch": trained.kept_epoch,
            **({} if trained.kept_step is None else {"kept_step": trained.kept_step}),
            "parameters": trained.parameters,
            **({} if trained.pruning is None else {"pruning": trained.pruning}),
        },
        "train_classes": ready.prepared.train_classes,
        "timing": {
            "train_seconds": trained.seconds,
            "total_seconds": time.perf_counter() - started,
            "train_samples_per_second": seen / trained.seconds,
            **_timing_of_steps(trained.clock, ready.plan.batch_size, started),
        },
        "memory": {"peak_rss_mb": environment.peak_rss_mb()},
        "environment": {
            **environment.describe(),
            "device": f"{ready.device.kind} ({ready.device.name})",
            "mixed_precision": ready.precision.name,
            "deterministic": ready.recipe.runtime.deterministic,
        },
    }


def _timing_of_steps(clock: StepClock, batch_size: int, started: float) -> dict[str, float]:
    """Seconds to the end of the first step, and rows a second once it is under way, where there were enough steps."""
    timing = {}
    if clock.first_step_at is not None:
        timing["first_step_seconds"] = clock.first_step_at - started
    if clock.steady_batch_seconds is not None:
        timing["steady_samples_per_second"] = batch_size / clock.steady_batch_seconds
    return timing


def _show_end(voice: Voice, folder: RunDirectory, scores: Mapping[str, Mapping[str, float]], report: Any) -> None:
    timing, kept = report["timing"], f"epoch {report['train']['kept_epoch']}"
    if "kept_step" in report["train"]:
        kept = f"step {report['train']['kept_step']:,}, {kept}"
    if scores:
        voice.scores(f"Scores of {folder.path.name} (weights of {kept})", scores)
    voice.say(
        f"trained in {timing['train_seconds']:,.1f} s ({timing['train_samples_per_second']:,.1f} samples/s), "
        f"{timing['total_seconds']:,.1f} s in all; the model is in {folder / 'model'}, all scores in "
        f"{folder / 'metrics.json'}"
    )


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "fit")
