"""From a recipe to everything that a training needs, in memory; nothing is written and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfft import data, hardware, plan, problems, scoring, tasks, tpu, training
from tfft.backend import keras
from tfft.callbacks.magnitude_pruning import pruned_weights
from tfft.console import Voice
from tfft.data import Given, Prepared, ShardedSplit, Split, blocks, masking, new_words, shards
from tfft.data.columns import ArrayOnDisk
from tfft.data.encode import cache_folder
from tfft.data.labels import LabelCounts
from tfft.data.manifest import Encoding
from tfft.data.masking import Masking
from tfft.data.windows import LongText
from tfft.distillation import matching, starts, teachers
from tfft.distillation.losses import Distilled, Weighted
from tfft.distillation.teachers import Teacher
from tfft.errors import ModelError, RecipeError
from tfft.hardware import Device, Distribution, Precision
from tfft.models import checkpoint, faster, headed, heads, masked
from tfft.models.checkpoint import Checkpoint
from tfft.models.layers import with_layers
from tfft.models.load import Loaded, load_classifier, load_model
from tfft.models.sizes import with_sizes
from tfft.plan import Plan
from tfft.problems import Problem
from tfft.recipe import DataSection, DistillationSection, ModelSection, Recipe, hindrances_on_tpu
from tfft.training import Best
from tfft.workers import Cluster


@dataclass(frozen=True)
class Assembly:
    """What was made of a recipe.

    Attributes:
        recipe: it.
        source: the checkpoint with the layers or the sizes that the recipe wants.
        tokenizer: the checkpoint's.
        prepared: every split as token ids.
        problem: what the labels are.
        metrics: names of those to score with.
        best: how the best epoch is told; None where nothing is validated.
        device, precision: what the model computes on, and in.
        distribution: over which devices a step is spread.
        loaded: the model, and what of it is new.
        trained_names: the names of the weights that each stage trains.
        loss: to train with.
        multipliers: of the learning rate, by weight; None where one rate is for all.
        plan: steps, shapes, stages.
        masking: how tokens are hidden, where those are what is predicted.
        teacher: from whom the model learns; None where it learns from labels alone.
    """

    recipe: Recipe
    source: Checkpoint
    tokenizer: Any
    prepared: Prepared
    problem: Problem
    metrics: tuple[str, ...]
    best: Best | None
    device: Device
    precision: Precision
    distribution: Distribution
    loaded: Loaded
    trained_names: list[frozenset[str]]
    loss: keras.losses.Loss
    multipliers: dict[str, float] | None
    plan: Plan
    masking: Masking | None = None
    teacher: Teacher | None = None


def assemble(
    recipe: Recipe,
    given: Given | None,
    source: Checkpoint,
    tokenizer: Any,
    voice: Voice,
    cluster: Cluster | None = None,
) -> Assembly:
    """Reads and encodes the rows, loads the model, plans the steps; says what was found.

    Args:
        given: rows from Python, in place of the recipe's.
        source: the recipe's checkpoint.
        tokenizer: the checkpoint's.
        cluster: the workers that share the training, all of which have to call this.

    Raises:
        UserError: the data, the model or the recipe's settings for them do not go together.
    """
    # First of all: workers find each other before anything that may take longer on one than on another, and only before
    # TensorFlow has computed anything; a TPU forgets what was computed before it was made ready.
    runtime = recipe.runtime
    section = recipe.distillation
    is_masked = recipe.task == tasks.FILL_MASK
    teacher = None if section is None else teachers.find(section.teacher, recipe.output_dir, not is_masked)
    source, layers = _with_kept_layers(recipe.model, source)
    source = _with_sizes(recipe, source)
    device = hardware.find_device(runtime.strategy, runtime.tpu_name)
    if device.kind == "tpu":
        _check_for_tpu(recipe)
    distribution = hardware.choose_distribution(
        runtime.strategy, _hindrance(recipe), runtime.tpu_name, cluster, runtime.workers_timeout_seconds
    )
    precision = hardware.choose_precision(runtime.mixed_precision, device, runtime.xla)
    max_length = checkpoint.choose_max_length(recipe.data.max_length, tokenizer, source.config)
    prepared = prepare(recipe, given, source, tokenizer, max_length, voice, None if teacher is None else teacher.names)
    problem = problems.make(prepared.label_map)
    if section is not None and teacher is not None:
        teachers.order_of_classes(teacher, prepared.label_map)
        teachers.check_inside(section, teacher, tokenizer, source.config, source.name, max_length)
    best = _best(recipe, problem, recipe.metric_names)
    hardware.set_seed(recipe.seed, recipe.runtime.deterministic)
    auto_class = tasks.TASKS[recipe.task].auto_class
    if device.kind == "tpu":
        _check_needs_no_python(prepared.train)
    how = _masking(recipe.data, tokenizer) if is_masked else None
    with hardware.computing_in(precision), distribution.watched(), distribution.scope():
        if how is not None:
            loaded = _load_masked(source, auto_class, prepared, voice)
        else:
            loaded = _load(recipe.model, source, problem, auto_class, prepared.label_map.problem_type)
        accelerated = _accelerated(recipe, loaded.model, source) if recipe.runtime.accelerate else None
        trained_names = training.choose_weights(recipe.training, loaded)
    loss = training.make_loss(recipe.training, problem, _labels(prepared.train, problem))
    if section is not None and is_masked:
        loss = Weighted(loss, section.labels_weight)
    elif section is not None:
        given_weights = (section.labels_weight, section.logits_weight, section.temperature)
        loss = Distilled(loss, prepared.label_map.problem_type, *given_weights)
    if prepared.train.encoded.window_starts is not None:
        loss = heads.PooledOverWindows(loss, recipe.data.window_pooling)
    multipliers = training.rate_multipliers(recipe.training, loaded.model)
    planned = plan.make(
        recipe.data,
        recipe.training,
        prepared.train.encoded,
        max_length,
        distribution.replicas,
        is_static=device.kind == "tpu",
        has_few_shapes=runtime.xla or device.kind != "cpu",
    )
    plan.check_executions(planned, runtime.steps_per_execution or planned.steps_per_execution)
    plan.show_model(voice, source.name, loaded, device, precision)
    if layers:
        voice.say(f"layers: {layers}")
    if teacher is not None:
        voice.say(f"teacher: {teacher.name}, a {teacher.source.config.model_type} model")
    if distribution.reason:
        voice.say(f"devices: {distribution.reason}")
    if accelerated is not None:
        what = (
            f"{accelerated} layers of the encoder" if accelerated else "nothing, since this family has no faster layers"
        )
        voice.say(f"accelerated: {what}")
    plan.show_steps(voice, planned, recipe.data)
    _show_pruning(voice, recipe, loaded.model, planned)
    return Assembly(
        recipe=recipe,
        source=source,
        tokenizer=tokenizer,
        prepared=prepared,
        problem=problem,
        metrics=recipe.metric_names,
        best=best,
        device=device,
        precision=precision,
        distribution=distribution,
        loaded=loaded,
        trained_names=trained_names,
        loss=loss,
        multipliers=multipliers,
        plan=planned,
        masking=how,
        teacher=teacher,
    )


def _masking(section: DataSection, tokenizer: Any) -> Masking:
    return masking.make(
        tokenizer,
        probability=section.mlm_probability,
        mask_share=section.mask_replace_prob,
        random_share=section.random_replace_prob,
        whole_words=section.whole_word_mask,
    )


def _load_masked(source: Checkpoint, auto_class: str, prepared: Prepared, voice: Voice) -> Loaded:
    """The checkpoint with a masked-LM head, and a token for each new word; what of this begins afresh is said."""
    loaded = load_model(source, auto_class, head_in_float32=False)
    if loaded.new and source.weights:
        voice.say(
            f"note: {source.name} has no masked-LM head{_why_no_head(source)}; it begins from the embeddings, so the "
            "perplexity is far off at first"
        )
        masked.start_head(loaded.model, loaded.new)
    if prepared.new_words:
        masked.add_tokens(loaded.model, list(prepared.new_words.values()))
    masked.predict_only_masked(loaded.model)
    return loaded


def _why_no_head(source: Checkpoint) -> str:
    """What a checkpoint was trained for instead, where its architecture tells."""
    if source.config.model_type == "electra":
        return " (ELECTRA's discriminators tell replaced tokens; its generators have one)"
    return ""


def taught(ready: Assembly, train: Split | ShardedSplit, voice: Voice) -> Split | ShardedSplit:
    """The training rows `train` as the loss takes them: where a teacher has labels, with its logits behind their own.

    Where the student is to learn from what is inside the teacher too, its training step asks for that from here on.

    Raises:
        ModelError: the teacher cannot be loaded, or gives what is no number.
    """
    recipe, teacher = ready.recipe, ready.teacher
    section = recipe.distillation
    if teacher is None or section is None:
        return train
    if ready.masking is None:
        assert isinstance(train, Split), "the recipe was looked at"
        train = _with_logits(ready, section, teacher, train, voice)
    with hardware.computing_in(ready.precision), ready.distribution.scope():
        model = teachers.load(teacher, recipe.runtime.accelerate) if section.looks_inside else None
        # Whether the logits came from the cache or from a model, what is drawn from here on is the same.
        hardware.set_seed(recipe.seed, recipe.runtime.deterministic)
        if model is not None:
            parts = teachers.relation_heads(section, teacher.source.config)
            weights = matching.Weights(
                hidden=section.hidden_weight,
                sentence=section.sentence_weight,
                attention=section.attention_weight,
                relations=section.relations_weight,
                relation_heads=parts,
            )
            student = ready.loaded.model
            directions = None if section.student is None else starts.start_embeddings(student, model)
            matching.match(student, model, weights, directions)
    return train


def _with_logits(ready: Assembly, section: DistillationSection, teacher: Teacher, train: Split, voice: Voice) -> Split:
    """The rows with what the teacher says of them, from the cache or computed now."""
    recipe = ready.recipe
    with voice.bar() as bar:
        task = bar.add_task("teacher's logits", total=len(train.encoded), detail="")
        logits = teachers.logits(
            teacher,
            train,
            max_length=ready.prepared.max_length,
            long_text=long_text(recipe.data),
            pooling=recipe.data.window_pooling,
            batch_size=recipe.training.per_device_eval_batch_size,
            cache=teachers.cache_folder(),
            advance=lambda done: bar.advance(task, done),
        )
    order = teachers.order_of_classes(teacher, ready.prepared.label_map)
    return teachers.with_logits(train, logits, order, section.labels_weight > 0)


def _with_kept_layers(section: ModelSection, source: Checkpoint) -> tuple[Checkpoint, str | None]:
    """The checkpoint with the layers that the recipe keeps, and which those are; None where all stay."""
    wanted = section.keep_layers
    if wanted is None:
        return source, None
    kept, total = with_layers(source, wanted, section.drop_layers or "top"), source.config.num_hidden_layers
    if kept.layers is None:
        return kept, f"one for all, used {kept.config.num_hidden_layers} times instead of {total}"
    return kept, f"{len(kept.layers)} of {total} are kept, counted from 0: {', '.join(map(str, kept.layers))}"


def _with_sizes(recipe: Recipe, source: Checkpoint) -> Checkpoint:
    """The checkpoint, or its family in the sizes of a student with new weights."""
    student = recipe.distillation and recipe.distillation.student
    if student is None:
        return source
    if source.is_headed:
        raise ModelError(
            f"distillation.student: {source.name} has a head of the tutorials', and a student with new weights has its "
            "family's own; give the checkpoint that it was trained from as model.name_or_path"
        )
    return with_sizes(source, student.model_dump(exclude_none=True), "distillation.student")


def _hindrance(recipe: Recipe) -> str | None:
    """What keeps the training from being spread over several devices."""
    if recipe.training.gradient_accumulation_steps > 1:
        return "training.gradient_accumulation_steps is above 1"
    return "runtime.xla is true" if recipe.runtime.xla else None


def _check_for_tpu(recipe: Recipe) -> None:
    """Of a TPU that `auto` found; for one that is asked for, the recipe was looked at."""
    if hindrances := hindrances_on_tpu(recipe, f"since training is done on a TPU ({tpu.sign()})"):
        raise RecipeError("\n".join(hindrances) + "\n(or take runtime.strategy=cpu)")


def _check_needs_no_python(train: Split | ShardedSplit) -> None:
    if isinstance(train, Split) and isinstance(train.encoded.input_ids, ArrayOnDisk):
        raise RecipeError(
            "runtime.strategy: on a TPU no Python may read the rows, and so many are kept on disk, where Python reads "
            "them; write them as shards (python -m tfft.data shards) and give data.shards"
        )


def _accelerated(recipe: Recipe, model: keras.Model, source: Checkpoint) -> int:
    """How many layers compute the faster way now."""
    accelerated = faster.accelerate(model, recipe.training.gradient_checkpointing)
    if recipe.training.gradient_checkpointing and not accelerated:
        raise ModelError(
            f"training.gradient_checkpointing: got true; expected false, since {source.name} is of a family whose "
            f"layers tfft has not: {', '.join(faster.FAMILIES)} have it"
        )
    return accelerated


def _show_pruning(voice: Voice, recipe: Recipe, model: keras.Model, planned: Plan) -> None:
    """Says what is pruned, when; raises a ModelError where nothing could be."""
    pruning = training.make_pruning(recipe.training, planned)
    if pruning is None:
        return
    weights, wanted = pruned_weights(model), pruning.sparsities
    voice.say(
        f"pruning: {wanted.final:.1%} of each of {len(weights)} kernels of the encoder's layers, "
        f"{sum(one.shape.num_elements() for one in weights):,} parameters in all, chosen from step {wanted.begin:,} to "
        f"{wanted.end:,}, every {wanted.frequency:,} steps"
    )


def long_text(section: DataSection) -> LongText:
    """What becomes of texts that are too long."""
    return LongText(section.long_text, section.stride or 0)


def _labels(train: Split | ShardedSplit, problem: Problem) -> np.ndarray | LabelCounts | None:
    """What balanced weights are made of."""
    return train.label_counts(len(problem.names)) if isinstance(train, ShardedSplit) else train.labels


def prepare(
    recipe: Recipe,
    given: Given | None,
    source: Checkpoint,
    tokenizer: Any,
    max_length: int,
    voice: Voice,
    label_names: Sequence[str] | None = None,
) -> Prepared:
    """The rows, as token ids, with a bar while they are encoded; or, of rows in shards, while those are verified.

    Args:
        max_length: tokens a row may have.
        label_names: of a teacher's classes, which hold where training rows have no labels and need none.

    Raises:
        UserError: the rows cannot be used.
    """
    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    if recipe.data.shards is not None and given is None:
        about = shards.wanted(recipe.data, recipe.task, problem_type, max_length, tokenizer, source.name)
        prepared = _from_shards(recipe.data.shards, about, voice)
        _check_validation(recipe, prepared.validation)
        plan.show_data(voice, prepared)
        return prepared
    if recipe.task == tasks.FILL_MASK:
        masking.check(tokenizer, source.name)
    splits = data.read(recipe.data, recipe.seed, given, problem_type, recipe.needs_train_labels)
    _check_validation(recipe, splits.validation)
    if recipe.task == tasks.FILL_MASK:
        return _prepare_blocks(recipe.data, splits, tokenizer, max_length, voice)
    rows = sum(len(one) for one in (splits.train, splits.validation, splits.test) if one is not None)
    with voice.bar() as bar:
        task = bar.add_task("encoding", total=rows, detail="")
        prepared = data.encode_splits(
            splits,
            tokenizer,
            max_length,
            cache_folder(),
            advance=lambda done: bar.advance(task, done),
            problem_type=problem_type,
            label_all_tokens=recipe.data.label_all_tokens,
            strict=recipe.data.strict,
            long_text=long_text(recipe.data),
            label_names=label_names,
        )
    plan.show_data(voice, prepared)
    return prepared


def _prepare_blocks(
    section: DataSection, splits: data.Splits, tokenizer: Any, max_length: int, voice: Voice
) -> Prepared:
    """Documents as blocks, after the tokenizer was given the words that it is to have."""
    words = {}
    if section.add_tokens is not None:
        words = new_words.frequent_words(splits.train.texts[0], tokenizer, section.add_tokens)
        new_words.add(tokenizer, words)
        shown = ", ".join(list(words)[:5])
        voice.say(
            f"new tokens: {len(words):,} of {section.add_tokens:,} asked for" + (f": {shown}, …" if words else "")
        )
    documents = sum(len(one) for one in (splits.train, splits.validation, splits.test) if one is not None)
    with voice.bar() as bar:
        task = bar.add_task("encoding", total=documents, detail="")
        prepared = blocks.encode_splits(
            splits,
            tokenizer,
            max_length,
            section.cross_documents,
            cache_folder(),
            advance=lambda done: bar.advance(task, done),
        )
    plan.show_blocks(voice, prepared)
    return replace(prepared, new_words=words)


def _check_validation(recipe: Recipe, validation: Any) -> None:
    is_scored = validation is not None and recipe.training.eval_strategy != "no"
    if is_scored and validation.labels is None and recipe.task != tasks.FILL_MASK:
        raise RecipeError(
            f"training.eval_strategy: got {recipe.training.eval_strategy!r}, but the validation rows have no labels, "
            "being a share of training rows without any; give rows to validate on that have some, or "
            "training.eval_strategy=no"
        )
    if validation is None and recipe.training.eval_strategy != "no":
        raise RecipeError(
            f"training.eval_strategy: got {recipe.training.eval_strategy!r}, but there are no validation rows; give "
            "data.validation_split=0.1 (a share of the training rows) or rows to validate on, or "
            "training.eval_strategy=no"
        )


def _from_shards(path: str, about: Encoding, voice: Voice) -> Prepared:
    """The splits of a folder of shards, each of which is read once to see that it is what was written."""
    folder = path.rstrip("/")
    found = shards.find(folder, about)
    with voice.bar() as bar:
        task = bar.add_task("verifying shards, bytes", total=sum(one.bytes for one in found.shards), detail="")
        shards.verify(found, folder, lambda done: bar.advance(task, done))
    voice.say(f"shards: {len(found.shards):,} of {folder}, as they were written")
    return shards.prepare(found, folder)


def _load(section: ModelSection, source: Checkpoint, problem: Problem, auto_class: str, problem_type: str) -> Loaded:
    """The checkpoint with the head that the recipe asks for."""
    if section.head == "default" and headed.is_headed(source.folder):
        kept = headed.head_settings(source.folder)
        return headed.load_with_head(source, problem.names, problem_type=problem_type, **kept)
    if section.head == "default":
        return load_classifier(source, problem.names, auto_class, problem_type)
    given = {"units": section.head_hidden_size, "dropout": section.head_dropout}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return headed.load_with_head(source, problem.names, section.head, problem_type=problem_type, **settings)


def _best(recipe: Recipe, problem: Problem, names: Sequence[str]) -> Best | None:
    """How the best epoch is told; metrics that do not fit the classes are refused here, before anything is trained."""
    known = scoring.score_names(names, problem)
    wanted = recipe.training
    score = tasks.score_name(wanted.metric_for_best_model or "loss")
    if score not in known:
        raise RecipeError(
            f"training.metric_for_best_model: got {wanted.metric_for_best_model!r}; expected a score that "
            f"training.metrics yields: {', '.join(known)}"
        )
    if wanted.eval_strategy == "no":
        return None
    if wanted.greater_is_better is not None:
        return Best(f"val_{score}", "max" if wanted.greater_is_better else "min")
    direction = tasks.direction(score)
    assert direction is not None, "a validated recipe says greater_is_better where the score's direction is unknown"
    return Best(f"val_{score}", direction)
