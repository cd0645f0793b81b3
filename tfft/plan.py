"""What a run will do, in numbers known before it begins: steps, shapes, memory; and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft import hardware, tasks
from tfft.console import Voice
from tfft.data import Encoded, Prepared, ShardedSplit, Split, batches
from tfft.data.manifest import ShardedTokens
from tfft.errors import RecipeError
from tfft.hardware import Device, Precision
from tfft.models.load import Loaded, parameter_counts
from tfft.optimizers import batches_of_steps, steps_per_epoch, warmup_steps_from
from tfft.recipe import DataSection, TrainingSection

HISTOGRAM_BARS = 8
BAR_CHARACTERS = 40
CLASSES_SHOWN = 12
# Of a TPU, which waits for Python after each execution.
MOST_EXECUTED_TOGETHER = 32


@dataclass(frozen=True)
class Stage:
    """A part of a training with a schedule of its own; most trainings have one.

    Attributes:
        settings: the training section as this stage has it.
        epochs: epochs begun; the last may end before it is through.
        total_steps: optimizer steps of the stage.
        total_batches: of the stage.
        warmup_steps: steps in which the learning rate rises.
    """

    settings: TrainingSection
    epochs: int
    total_steps: int
    total_batches: int
    warmup_steps: int


@dataclass(frozen=True)
class Plan:
    """The numbers of a training.

    Attributes:
        batch_size: rows of a batch, of all devices together.
        copies: how often a row is in its batch: twice for R-Drop.
        accumulated: batches of an optimizer step.
        batches_per_epoch: the partial one included.
        stages: in their order, at least one.
        widths: the tokens a batch may be wide; empty where every batch is as wide as its longest row.
        replicas: devices that a batch is shared out to.
        is_static: whether all batches have one shape, known beforehand, as a TPU wants it; then there is one width.
        steps_per_execution: batches in one call of the compiled step, unless the recipe says.
    """

    batch_size: int
    copies: int
    accumulated: int
    batches_per_epoch: int
    stages: tuple[Stage, ...]
    widths: tuple[int, ...]
    replicas: int = 1
    is_static: bool = False
    steps_per_execution: int = 1

    @property
    def total_batches(self) -> int:
        """Batches of the whole training."""
        return sum(stage.total_batches for stage in self.stages)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return sum(stage.total_steps for stage in self.stages)

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises, of all stages."""
        return sum(stage.warmup_steps for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Epochs begun in the whole training."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last may have fewer batches than the others."""
        return steps_per_epoch(self.batches_per_epoch, self.accumulated)


def make(
    data: DataSection,
    training: TrainingSection,
    encoded: Encoded | ShardedTokens,
    max_length: int,
    replicas: int = 1,
    is_static: bool = False,
    has_few_shapes: bool = False,
) -> Plan:
    """The plan for these training rows, on so many devices.

    Args:
        is_static: make all batches of one shape: as wide as the longest row, rounded up.
        has_few_shapes: let there be few widths, which are multiples of 8; else any even number may be one.
    """
    batch_size = training.per_device_train_batch_size * replicas
    accumulated = training.gradient_accumulation_steps
    batches_per_epoch = batches.batches_per_epoch(encoded.texts, batch_size)
    stages = tuple(_stage(settings, batches_per_epoch, accumulated) for settings in settings_of_stages(training))
    return Plan(
        batch_size=batch_size,
        copies=2 if training.r_drop_alpha else 1,
        accumulated=accumulated,
        batches_per_epoch=batches_per_epoch,
        stages=stages,
        widths=_widths(data, *encoded.length_counts, max_length, is_static, has_few_shapes),
        replicas=replicas,
        is_static=is_static,
        steps_per_execution=_executed_together(stages, batches_per_epoch) if is_static else 1,
    )


def _executed_together(stages: Sequence[Stage], batches_per_epoch: int) -> int:
    """How many batches, up to `MOST_EXECUTED_TOGETHER`, a call may have, so that stages end with a call.

    The last call of a whole epoch may have fewer.

    Example:
        >>> _executed_together([], batches_per_epoch=459), _executed_together([], batches_per_epoch=3)
        (32, 3)
    """
    ends = {stage.total_batches % batches_per_epoch for stage in stages}
    most = min(MOST_EXECUTED_TOGETHER, batches_per_epoch)
    return max(one for one in range(1, most + 1) if all(end % one == 0 for end in ends))


def check_executions(plan: Plan, steps_per_execution: int) -> None:
    """Keras looks at the end of a training only between two executions.

    Raises:
        RecipeError: a stage ends in the middle of one.
    """
    for stage in plan.stages:
        in_last_epoch = stage.total_batches % plan.batches_per_epoch
        if in_last_epoch % steps_per_execution:
            divisors = [one for one in range(1, steps_per_execution) if in_last_epoch % one == 0]
            raise RecipeError(
                f"runtime.steps_per_execution: got {steps_per_execution}; expected whole epochs, or a divisor of the "
                f"{in_last_epoch} batches of the last one, such as {divisors[-1]}"
            )


def settings_of_stages(training: TrainingSection) -> list[TrainingSection]:
    """The training section as each stage has it: where a stage says nothing, the recipe's holds."""
    if training.stages is None:
        return [training]
    settings = []
    for stage in training.stages:
        said = {name: value for name, value in stage if value is not None and name != "unfreeze"}
        if "warmup_ratio" in said or "warmup_steps" in said:
            said = {"warmup_ratio": None, "warmup_steps": None, **said}
        settings.append(training.model_copy(update=said))
    return settings


def _stage(settings: TrainingSection, batches_per_epoch: int, accumulated: int) -> Stage:
    steps = steps_per_epoch(batches_per_epoch, accumulated)
    total_steps = settings.max_steps or max(1, math.ceil(settings.num_train_epochs * steps))
    return Stage(
        settings=settings,
        epochs=math.ceil(total_steps / steps),
        total_steps=total_steps,
        total_batches=batches_of_steps(total_steps, batches_per_epoch, accumulated),
        warmup_steps=warmup_steps_from(settings.warmup_ratio, settings.warmup_steps, total_steps),
    )


def _widths(
    data: DataSection, lengths: np.ndarray, rows: np.ndarray, max_length: int, is_static: bool, has_few_shapes: bool
) -> tuple[int, ...]:
    if data.padding == "max_length":
        return (max_length,)
    if data.batching != "bucketed":
        return ()
    if is_static or has_few_shapes:
        return batches.bucket_widths(lengths, max_length, 1 if is_static else batches.BUCKETS, rows=rows)
    return batches.bucket_widths(lengths, max_length, None, batches.FINE_MULTIPLE)


def training_memory(
    plan: Plan, encoded: Encoded | ShardedTokens, config: Any, parameters: int, precision: Precision
) -> int | None:
    """Bytes that the largest training step takes by the usual formula, None where the model does not say its sizes.

    It counts weights, gradients, Adam's moments and activations, and none of what the libraries themselves take.
    """
    starts = encoded.window_starts
    rows = plan.batch_size if starts is None else batches.most_windows(starts, plan.batch_size)
    try:
        activations = hardware.activation_bytes(
            rows * plan.copies,
            plan.widths[-1] if plan.widths else int(encoded.length_counts[0].max()),
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            bytes_each=4 if precision.name == "no" else 2,
        )
    except AttributeError:
        return None
    return hardware.training_bytes(parameters, activations)


def histogram(
    lengths: np.ndarray, bars: int = HISTOGRAM_BARS, rows: np.ndarray | None = None
) -> list[tuple[int, int, int]]:
    """How many rows are how long: (least, greatest, rows) of equally wide ranges of tokens.

    Args:
        rows: how many rows have each of `lengths`; None where there is one of each.
    """
    edges = np.unique(np.linspace(lengths.min(), lengths.max() + 1, bars + 1).round().astype(int))
    counts, _ = np.histogram(lengths, edges, weights=rows)
    return [
        (int(low), int(high) - 1, int(count)) for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def show_data(voice: Voice, prepared: Prepared) -> None:
    """Says how large the splits are and what was noticed in them."""
    names = prepared.label_map.names
    listed = ", ".join(names[:CLASSES_SHOWN]) + (", …" if len(names) > CLASSES_SHOWN else "")
    splits = ", ".join(f"{len(split):,} {split.name}" for split in prepared.splits)
    cached = " (token ids from the cache)" if all(split.encoded.from_cache for split in prepared.splits) else ""
    what = "learned is the number" if prepared.label_map.problem_type == tasks.REGRESSION else f"{len(names)} classes:"
    voice.say(f"rows: {splits}{cached}; {what} {listed}")
    for note in prepared.notes:
        voice.say(f"note: {note}")


def show_blocks(voice: Voice, prepared: Prepared) -> None:
    """Says how many documents the splits have, and how many blocks of tokens became of them."""
    splits = ", ".join(
        f"{len(split.rows):,} {split.name} ({len(split):,} blocks, {split.encoded.total_tokens:,} tokens)"
        for split in prepared.splits
        if isinstance(split, Split)
    )
    cached = " (token ids from the cache)" if all(split.encoded.from_cache for split in prepared.splits) else ""
    voice.say(f"documents: {splits}{cached}; blocks of up to {prepared.max_length} tokens")
    for note in prepared.notes:
        voice.say(f"note: {note}")


def show_model(voice: Voice, name: str, loaded: Loaded, device: Device, precision: Precision) -> None:
    """Says what the model is, what of it is new, and what it computes on."""
    trainable, frozen = parameter_counts(loaded.model)
    voice.say(f"model: {name}, {trainable:,} parameters trained, {frozen:,} not; {loaded.sentence()}")
    because = f", {device.reason}" if device.reason else ""
    voice.say(f"device: {device.kind} ({device.name}){because}; mixed_precision: {precision.name}, {precision.reason}")
    if hardware.uses_tf32(device, precision):
        voice.say("note: this GPU multiplies float32 as TF32; tf.config.experimental has a switch for that")


def show_steps(voice: Voice, plan: Plan, data: DataSection) -> None:
    """Says how many steps there will be, and of which shapes."""
    widths = ", ".join(map(str, plan.widths)) if plan.widths else "as wide as the longest row of each batch"
    if len(plan.widths) > batches.BUCKETS:
        widths = f"{plan.widths[0]} to {plan.widths[-1]}"
    rows = f"{plan.batch_size}" + (f" x {plan.accumulated}" if plan.accumulated > 1 else "")
    voice.say(
        f"training: {plan.total_steps:,} steps of {rows} rows, {plan.steps_per_epoch:,} an epoch, "
        f"{plan.warmup_steps:,} of warmup; {data.batching} batches, tokens: {widths}"
    )
    for number, stage in enumerate(plan.stages if len(plan.stages) > 1 else (), 1):
        voice.say(
            f"stage {number} of {len(plan.stages)}: {stage.total_steps:,} steps, learning rate "
            f"{stage.settings.learning_rate:g}"
        )


def show(
    voice: Voice,
    plan: Plan,
    prepared: Prepared,
    loaded: Loaded,
    data: DataSection,
    precision: Precision,
) -> None:
    """What `--dry-run` adds: balance, lengths, padding and memory."""
    lengths, rows = prepared.train.encoded.length_counts
    is_masked = prepared.label_map.problem_type == tasks.MASKED
    if not is_masked:
        _show_balance(voice, prepared)
    voice.table(
        "Length of training rows, in tokens",
        ["tokens", "rows", ""],
        [
            [f"{low}-{high}", f"{count:,}", "#" * round(BAR_CHARACTERS * count / rows.sum())]
            for low, high, count in histogram(lengths, rows=rows)
        ],
    )
    if not is_masked:
        voice.say(f"longest allowed: {prepared.max_length} tokens; rows cut: {_cut_rows(prepared)}")
    if plan.widths:
        voice.say(f"padding: {batches.padding_share(lengths, plan.widths, rows):.1%} of the tokens of an epoch")
    needed = training_memory(
        plan, prepared.train.encoded, loaded.model.config, sum(parameter_counts(loaded.model)), precision
    )
    if needed is not None:
        voice.say(f"memory of the largest step, estimated: {needed / 2**20:,.0f} MB, and what the libraries take")
    voice.say("dry run: nothing was trained or written")


def _cut_rows(prepared: Prepared) -> str:
    return ", ".join(f"{split.encoded.truncated_rows:,} of {len(split):,} {split.name}" for split in prepared.splits)


def _show_balance(voice: Voice, prepared: Prepared) -> None:
    labelled = [split for split in prepared.splits if split.has_labels]
    if prepared.label_map.problem_type == tasks.REGRESSION:
        _show_numbers(voice, prepared.label_map.names[0], labelled)
        return
    found = [split.label_counts(len(prepared.label_map)) for split in labelled]
    rows = [one.rows for one in found]
    # (splits, classes)
    counts = np.stack([one.of_class for one in found])
    voice.table(
        "Words by tag" if prepared.label_map.problem_type == tasks.TOKENS else "Rows by class",
        ["class", *(split.name for split in labelled)],
        [
            [
                name,
                *(f"{count:,} ({count / total:.1%})" for count, total in zip(column, rows, strict=True)),
            ]
            for name, column in zip(prepared.label_map.names, counts.T, strict=True)
        ],
    )


def _show_numbers(voice: Voice, name: str, labelled: list[Split | ShardedSplit]) -> None:
    found = [split.label_range() for split in labelled]
    voice.table(
        f"The number {name}",
        ["", *(split.name for split in labelled)],
        [
            [what, *(f"{figure:.4g}" for figure in figures)]
            for what, figures in zip(("least", "mean", "greatest"), zip(*found, strict=True), strict=True)
        ],
    )
