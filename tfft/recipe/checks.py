"""Contradictions: each check gets all values of a recipe and yields keys with what is wrong about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from tfft import tasks
from tfft.errors import nearest
from tfft.recipe.sections import (
    CONLL_ENDINGS,
    FILE_ENDINGS,
    FILE_KEYS,
    HUB_KEYS,
    MASKING_KEYS,
    PRUNING_END,
    SETTLED_IN_SHARDS,
    TEXT_ENDINGS,
    DataSection,
    TrainingSection,
)
from tfft.recipe.words import question, shown

# Every key with its value, keys of sections with a dot. A value that is itself wrong is left out: the KeyError of a
# check that needs it means that there is nothing to say yet.
Values = Mapping[str, Any]
_Found = Iterator[tuple[str, str]]


def _got(values: Values, key: str, expected: str) -> tuple[str, str]:
    return key, f"got {shown(values[key])}; expected {expected}"


def _check_warmup(values: Values) -> _Found:
    ratio, steps = values["training.warmup_ratio"], values["training.warmup_steps"]
    if ratio is not None and steps is not None:
        yield _got(
            values, "training.warmup_steps", f"null, since training.warmup_ratio is {shown(ratio)}: give one of them"
        )
    longest = values["training.max_steps"]
    if steps is not None and longest is not None and steps > longest:
        yield _got(values, "training.warmup_steps", f"at most training.max_steps, which is {longest}")


def _check_schedule(values: Values) -> _Found:
    kind = values["training.lr_scheduler_type"]
    for name, kinds in (("end_learning_rate", ("polynomial", "linear")), ("lr_power", ("polynomial",))):
        if values[f"training.{name}"] is not None and kind not in kinds:
            expected = f"null, since training.lr_scheduler_type is {kind}: it is for {' and '.join(kinds)} only"
            yield _got(values, f"training.{name}", expected)


def _check_rates(values: Values) -> _Found:
    decay = values["training.layerwise_lr_decay"]
    if decay is not None and values["training.learning_rate_multipliers"] is not None:
        expected = f"null, since training.layerwise_lr_decay is {shown(decay)}: give one of them"
        yield _got(values, "training.learning_rate_multipliers", expected)


def _check_lora(values: Values) -> _Found:
    strategy = values["training.strategy"]
    for name in ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"):
        if strategy != "lora" and values[f"training.{name}"] is not None:
            yield _got(values, f"training.{name}", f"null, since training.strategy is {strategy}: it is for lora only")


def _check_pruning(values: Values) -> _Found:
    sparsity, strategy = values["training.pruning_sparsity"], values["training.strategy"]
    if sparsity is None:
        for name in ("initial_sparsity", "begin", "end", "frequency"):
            if values[f"training.pruning_{name}"] is not None:
                yield _got(values, f"training.pruning_{name}", "null, since training.pruning_sparsity is null")
        return
    if strategy != "full":
        why = "the weights that would be pruned are frozen, for a while or for good"
        yield _got(values, "training.pruning_sparsity", f"null, since training.strategy is {strategy}: {why}")
    initial, begin = values["training.pruning_initial_sparsity"] or 0.0, values["training.pruning_begin"] or 0.0
    end = PRUNING_END if values["training.pruning_end"] is None else values["training.pruning_end"]
    if initial > sparsity:
        expected = f"at most training.pruning_sparsity, which is {shown(sparsity)}"
        yield _got(values, "training.pruning_initial_sparsity", expected)
    if begin > end:
        expected = f"at most training.pruning_end, which is {shown(end)}"
        yield _got(values, "training.pruning_begin", expected)


def _check_head(values: Values) -> _Found:
    for name in ("head_hidden_size", "head_dropout"):
        if values["model.head"] == "default" and values[f"model.{name}"] is not None:
            yield _got(values, f"model.{name}", "null, since model.head is default: it is for cls and mean only")


def _check_layers(values: Values) -> _Found:
    kept = values["model.keep_layers"]
    if values["model.drop_layers"] is not None and not isinstance(kept, int):
        expected = f"null, since model.keep_layers is {shown(kept)}: it is for a number of layers only"
        yield _got(values, "model.drop_layers", expected)


def _check_strategy(values: Values) -> _Found:
    strategy = values["training.strategy"]
    for name, strategies, why in (
        (
            "fgm_epsilon",
            ("feature_extraction",),
            "the encoder's outputs are computed once, from embeddings as they are",
        ),
        ("layerwise_lr_decay", ("feature_extraction",), "nothing below the head is trained"),
        ("attention_texts", ("feature_extraction",), "the encoder is frozen, and no part of the training"),
        ("ema_momentum", ("gradual_unfreezing",), "the average would lag behind from stage to stage"),
    ):
        if strategy in strategies and values[f"training.{name}"] is not None:
            yield _got(values, f"training.{name}", f"null, since training.strategy is {strategy}: {why}")


def _check_stages(values: Values) -> _Found:
    stages, strategy = values["training.stages"], values["training.strategy"]
    if strategy != "gradual_unfreezing":
        if stages is not None:
            expected = f"null, since training.strategy is {strategy}: stages are for gradual_unfreezing only"
            yield _got(values, "training.stages", expected)
        return
    if stages is None:
        yield "training.stages", "missing; expected a list of stages, since training.strategy is gradual_unfreezing"
        return
    if all(stage.unfreeze == stages[0].unfreeze for stage in stages):
        yield (
            "training.stages",
            f"every stage trains {shown(stages[0].unfreeze)}, so nothing is ever unfrozen; expected stages that train "
            "more, from the head down, or training.strategy=full",
        )
    if values["training.max_steps"] is not None:
        yield _got(values, "training.max_steps", "null, since every stage says its own num_train_epochs")
    epochs, usual = sum(stage.num_train_epochs for stage in stages), TrainingSection().num_train_epochs
    if values["training.num_train_epochs"] not in (usual, epochs):
        expected = f"{epochs}, what the stages take together, or no such key"
        yield _got(values, "training.num_train_epochs", expected)
    for index, stage in enumerate(stages):
        if stage.warmup_ratio is not None and stage.warmup_steps is not None:
            yield (
                f"training.stages[{index}].warmup_steps",
                "expected null, since warmup_ratio is given: give one of them",
            )


def _check_problem(values: Values) -> _Found:
    task, given = values["task"], values["problem_type"]
    kinds = tasks.TASKS[task].problem_types
    if given is not None and given not in kinds:
        yield _got(values, "problem_type", f"one of {', '.join(kinds)}, since task is {task}")
        return
    problem = tasks.problem_type(task, given)
    for key, empty, known in (
        ("data.label_columns", None, (tasks.MULTI_LABEL,)),
        ("data.label_separator", None, (tasks.MULTI_LABEL,)),
        ("training.class_weight", None, (tasks.SINGLE_LABEL, tasks.MULTI_LABEL, tasks.TOKENS)),
        ("training.label_smoothing_factor", 0.0, (tasks.SINGLE_LABEL, tasks.MULTI_LABEL, tasks.TOKENS)),
        ("training.focal_gamma", 0.0, (tasks.SINGLE_LABEL, tasks.MULTI_LABEL, tasks.TOKENS)),
        ("data.label_all_tokens", False, (tasks.TOKENS,)),
        ("data.strict", False, (tasks.TOKENS,)),
    ):
        if values.get(key, empty) != empty and problem not in known:
            yield _got(values, key, f"{shown(empty)}, since problem_type is {problem}: it is for {' and '.join(known)}")
    if values.get("data.label_columns") is not None and values.get("data.label_separator") is not None:
        yield _got(values, "data.label_separator", "null, since data.label_columns has a column for every label")


def _check_long_text(values: Values) -> _Found:
    mode = values["data.long_text"]
    for name, empty in (("stride", None), ("window_pooling", "mean")):
        if mode != "sliding_window" and values[f"data.{name}"] != empty:
            expected = f"{shown(empty)}, since data.long_text is {mode}: it is for sliding_window only"
            yield _got(values, f"data.{name}", expected)
    if mode == "truncate":
        return
    if len(values["data.text_columns"]) > 1:
        yield _got(values, "data.text_columns", f"one column, since data.long_text is {mode}: pairs are truncated")
    if values["task"] == "token-classification":
        yield _got(values, "data.long_text", "truncate, since task is token-classification")
    if mode == "head_tail":
        return
    for key, wanted in (("data.batching", "bucketed"), ("runtime.xla", False)):
        if values[key] != wanted:
            why = "texts have any number of windows, which only bucketed batches of free shape hold"
            yield _got(values, key, f"{shown(wanted)}, since data.long_text is sliding_window: {why}")
    if values["training.strategy"] == "feature_extraction":
        expected = "truncate or head_tail, since training.strategy is feature_extraction, which keeps one output a text"
        yield _got(values, "data.long_text", expected)
    stride, length = values["data.stride"], values["data.max_length"]
    if stride is not None and length is not None and stride >= length:
        yield _got(values, "data.stride", f"less than data.max_length, which is {length}")


def _check_workers(values: Values) -> _Found:
    strategy, workers = values["runtime.strategy"], values["runtime.workers"]
    if workers is not None and len(workers) < 2:
        yield _got(values, "runtime.workers", "two or more, or null where one process trains")
    if workers is not None and strategy not in ("auto", "multi_worker"):
        expected = f"null, since runtime.strategy is {strategy}: auto and multi_worker take several processes"
        yield _got(values, "runtime.workers", expected)


def _check_compiler(values: Values) -> _Found:
    free = values["data.batching"] == "padded" and values["data.padding"] == "longest"
    if values["runtime.xla"] and free:
        expected = (
            "bucketed, or data.padding=max_length, since runtime.xla is true: XLA compiles a program for each width"
        )
        yield _got(values, "data.batching", expected)


def _check_tpu(values: Values) -> _Found:
    if values["runtime.strategy"] == "tpu":
        yield from hindrances_on_tpu(values, "since runtime.strategy is tpu")
    elif values["runtime.tpu_name"] is not None:
        expected = f"null, since runtime.strategy is {values['runtime.strategy']}: it is for tpu only"
        yield _got(values, "runtime.tpu_name", expected)


def hindrances_on_tpu(values: Values, why: str) -> _Found:
    """What a TPU does not do: it computes whole batches of one shape, which no Python has a part in."""
    for key, wrong, expected, reason in (
        ("data.batching", "padded", "bucketed", "padded batches are made by Python"),
        ("data.long_text", "sliding_window", "truncate or head_tail", "texts have any number of windows"),
        (
            "training.strategy",
            "feature_extraction",
            "another",
            "the encoder's outputs are computed once, on one device",
        ),
        ("runtime.xla", True, "false", "a TPU's steps are always compiled"),
        ("runtime.mixed_precision", "fp16", "bf16, no or auto", "a TPU does not compute in float16"),
    ):
        if values[key] == wrong:
            yield _got(values, key, f"{expected}, {why}: {reason}")
    if values["training.gradient_accumulation_steps"] > 1:
        yield _got(values, "training.gradient_accumulation_steps", f"1, {why}: take larger batches")
    if "distillation.teacher" in values:
        yield _got(values, "distillation.teacher", f"no section distillation, {why}: that was not tried on one")


def _check_checkpointing(values: Values) -> _Found:
    if not values["training.gradient_checkpointing"]:
        return
    if not values["runtime.accelerate"]:
        expected = "true, since training.gradient_checkpointing is true: it is the accelerated layers that can do it"
        yield _got(values, "runtime.accelerate", expected)
    for strategy, why in (
        ("lora", "layers with adapters are not accelerated"),
        ("feature_extraction", "nothing is kept of an encoder that is not trained"),
    ):
        if values["training.strategy"] == strategy:
            expected = f"false, since training.strategy is {strategy}: {why}"
            yield _got(values, "training.gradient_checkpointing", expected)


def _check_tokens(values: Values) -> _Found:
    if values["task"] != "token-classification":
        return
    why = "since task is token-classification"
    if len(values["data.text_columns"]) > 1:
        yield _got(values, "data.text_columns", f"one column, {why}: words of one sentence have tags")
    if values["model.head"] != "default":
        yield _got(values, "model.head", f"default, {why}: cls and mean make one vector of a whole text")
    if values["training.strategy"] == "feature_extraction" and values["data.batching"] == "padded":
        yield _got(values, "data.batching", f"bucketed, {why} and training.strategy is feature_extraction")
    if values["training.gradient_accumulation_steps"] > 1 and values["data.batching"] == "padded":
        yield _got(values, "data.batching", f"bucketed, {why} and training.gradient_accumulation_steps is above 1")


def _check_masking(values: Values) -> _Found:
    if values["task"] != tasks.FILL_MASK:
        for name in MASKING_KEYS:
            usual = DataSection.model_fields[name].default
            if values[f"data.{name}"] != usual:
                expected = f"{shown(usual)}, since task is {values['task']}: it is for {tasks.FILL_MASK} only"
                yield _got(values, f"data.{name}", expected)
        return
    why = f"since task is {tasks.FILL_MASK}"
    if len(values["data.text_columns"]) > 1:
        yield _got(values, "data.text_columns", f"one column, {why}: documents are not pairs")
    for key, usual, reason in (
        ("problem_type", None, "there are no labels"),
        ("model.head", "default", "cls and mean make one vector of a whole text"),
        ("data.label_columns", None, "there are no labels"),
        ("data.label_separator", None, "there are no labels"),
        ("data.sample_weight_column", None, "all tokens count alike"),
        ("data.long_text", "truncate", "documents are cut into blocks, and nothing is left out"),
        ("data.batching", "bucketed", "what is hidden is drawn as those batches are made"),
        ("data.shards", None, "shards are of texts with labels"),
        ("training.strategy", "full", "the whole model learns"),
        ("training.metrics", None, "it is scored by perplexity and accuracy"),
        ("training.class_weight", None, "tokens are no classes with weights"),
        ("training.focal_gamma", 0.0, "the loss is cross-entropy"),
        ("training.r_drop_alpha", 0.0, "the loss is cross-entropy"),
        ("training.fgm_epsilon", None, "embeddings are outputs as well"),
        ("training.layerwise_lr_decay", None, "all parts learn at one rate"),
        ("training.learning_rate_multipliers", None, "all parts learn at one rate"),
        ("training.pruning_sparsity", None, "prune the classifier that is trained afterwards"),
    ):
        if values[key] not in (usual, ()):
            yield _got(values, key, f"{shown(usual)}, {why}: {reason}")
    if values["data.mask_replace_prob"] + values["data.random_replace_prob"] > 1:
        most = round(1 - values["data.mask_replace_prob"], 6)
        expected = f"at most {shown(most)}, since data.mask_replace_prob is {shown(values['data.mask_replace_prob'])}"
        yield _got(values, "data.random_replace_prob", expected)


def _check_further_pretraining(values: Values) -> _Found:
    key = "training.further_pretraining"
    if values[key] is None:
        return
    for other, wrong, why in (
        ("task", tasks.FILL_MASK, "that is what this training does"),
        ("runtime.strategy", "tpu", "run python -m tfft.pretrain first, and give what it writes as model.name_or_path"),
        ("runtime.strategy", "multi_worker", "run python -m tfft.pretrain first, and give what it writes to all"),
    ):
        if values[other] == wrong:
            yield key, f"expected null, since {other} is {wrong}: {why}"
    if values.get("distillation.labels_weight") == 0:
        yield key, "expected null, since distillation.labels_weight is 0: run python -m tfft.pretrain first"
    if values["data.shards"] is not None and values[key].train_file is None:
        yield f"{key}.train_file", "missing; expected a file of text, since data.shards holds tokens and no texts"


def _check_loss(values: Values) -> _Found:
    if values["training.focal_gamma"] and values["training.label_smoothing_factor"]:
        smoothing = shown(values["training.label_smoothing_factor"])
        expected = f"0, since training.label_smoothing_factor is {smoothing}: focal loss is of hard labels"
        yield _got(values, "training.focal_gamma", expected)


def _check_weight_decay(values: Values) -> _Found:
    if values["training.weight_decay"] > 0 and values["training.optimizer"] == "adam":
        expected = "0, since training.optimizer is adam, which has no decoupled decay: use adamw"
        yield _got(values, "training.weight_decay", expected)


def _check_eval_steps(values: Values) -> _Found:
    strategy, steps = values["training.eval_strategy"], values["training.eval_steps"]
    if strategy == "steps" and steps is None:
        yield (
            "training.eval_steps",
            "missing; expected the number of optimizer steps between two evaluations, since training.eval_strategy is "
            "steps",
        )
    if strategy != "steps" and steps is not None:
        expected = f"null, since training.eval_strategy is {strategy}: it is for steps only"
        yield _got(values, "training.eval_steps", expected)


def _check_evaluation(values: Values) -> _Found:
    if values["training.eval_strategy"] != "no":
        return
    for name, empty in (
        ("metric_for_best_model", None),
        ("greater_is_better", None),
        ("load_best_model_at_end", False),
        ("early_stopping_patience", None),
    ):
        if values[f"training.{name}"] != empty:
            expected = f"{shown(empty)}, since training.eval_strategy is no: it needs a score after every epoch"
            yield _got(values, f"training.{name}", expected)


def _check_direction(values: Values) -> _Found:
    metric, greater = values["training.metric_for_best_model"], values["training.greater_is_better"]
    known = tasks.direction(metric or "loss")
    if known is None and greater is None:
        close = nearest(tasks.score_name(metric), tasks.METRIC_DIRECTIONS)
        expected = f"true or false, since tfft does not know which direction of {shown(metric)} is better"
        yield (
            "training.greater_is_better",
            f"missing; expected {expected}" + (f" (or did you mean {close}?)" if close else ""),
        )
    if known is not None and greater is not None and greater != (known == "max"):
        better = "larger" if known == "max" else "smaller"
        expected = f"{shown(not greater)} or null: a {better} {metric or 'loss'} is better"
        yield _got(values, "training.greater_is_better", expected)


def _metrics(values: Values) -> tuple[str, ...]:
    named: tuple[str, ...] | None = values["training.metrics"]
    return tasks.DEFAULT_METRICS[_problem(values)] if named is None else named


def _problem(values: Values) -> str:
    return tasks.problem_type(values["task"], values["problem_type"])


def _check_metrics(values: Values) -> _Found:
    problem = _problem(values)
    for index, name in enumerate(() if problem == tasks.MASKED else _metrics(values)):
        key = f"training.metrics[{index}]"
        if not tasks.fits(name, problem):
            usable = ", ".join(one for one in tasks.METRIC_SCORES if tasks.fits(one, problem) and "/" not in one)
            yield key, f"got {shown(name)}; expected one of {usable}, since problem_type is {problem}"
        elif name.startswith("glue/") and name not in tasks.METRIC_SCORES:
            known = [one for one in tasks.METRIC_SCORES if one.startswith("glue/") and tasks.fits(one, problem)]
            yield key, f"got {shown(name)}; expected one of {', '.join(known)}" + question(nearest(name, known))


def _check_best_metric(values: Values) -> _Found:
    metric, scores = values["training.metric_for_best_model"], tasks.scores_of(_metrics(values), _problem(values))
    if metric is None or scores is None or tasks.score_name(metric) in scores:
        return
    of_metrics = "" if _problem(values) == tasks.MASKED else ", which training.metrics yields"
    expected = f"one of {', '.join(scores)}{of_metrics}"
    givers = [name for name, given in tasks.METRIC_SCORES.items() if tasks.score_name(metric) in given]
    usable = [name for name in givers if tasks.fits(name, _problem(values))]
    close = nearest(tasks.score_name(metric), scores)
    mend = f"; add {usable[0]} to training.metrics" if usable else question(close)
    key, text = _got(values, "training.metric_for_best_model", expected)
    yield key, text + mend


def _check_stop(values: Values) -> _Found:
    stop, epochs = values["training.stop_after_epochs"], values["training.num_train_epochs"]
    if stop is None:
        return
    if values["training.stages"] is not None:
        yield _got(values, "training.stop_after_epochs", "null, since training.stages has epochs of its own")
    elif values["training.max_steps"] is None and stop > epochs:
        yield _got(values, "training.stop_after_epochs", f"at most training.num_train_epochs, which is {shown(epochs)}")


def _check_hub(values: Values) -> _Found:
    if values["training.push_to_hub"]:
        return
    for name in ("hub_model_id", "hub_private_repo", "hub_strategy"):
        usual = TrainingSection.model_fields[name].default
        if values[f"training.{name}"] != usual:
            yield _got(values, f"training.{name}", f"{shown(usual)}, since training.push_to_hub is false")


def _check_reports(values: Values) -> _Found:
    reports = values["training.report_to"]
    if len(set(reports)) < len(reports):
        yield _got(values, "training.report_to", "every name once")


def _check_two_sources(values: Values) -> _Found:
    hub_id = values["data.dataset_name"]
    for name in FILE_KEYS if hub_id is not None else ():
        if values[f"data.{name}"] is not None:
            expected = f"null, since data.dataset_name is {shown(hub_id)}: rows come from the hub or from files"
            yield _got(values, f"data.{name}", expected)


def _check_shards(values: Values) -> _Found:
    path = values["data.shards"]
    if path is None:
        return
    why = f"since data.shards is {shown(path)}"
    for name in ("dataset_name", *FILE_KEYS):
        if values[f"data.{name}"] is not None:
            yield _got(values, f"data.{name}", f"null, {why}: rows come from there")
    for name in SETTLED_IN_SHARDS:
        if values[f"data.{name}"] is not None:
            yield _got(values, f"data.{name}", f"null, {why}: that was settled when they were written")
    for key, wrong, expected, reason in (
        ("task", "token-classification", "text-classification", "shards are of whole texts"),
        ("data.long_text", "sliding_window", "truncate or head_tail", "shards have no windows"),
        ("data.batching", "padded", "bucketed", "padded batches take memory for all rows"),
        ("training.strategy", "feature_extraction", "another", "the encoder's outputs are kept for all rows"),
    ):
        if values[key] == wrong:
            yield _got(values, key, f"{expected}, {why}: {reason}")


def _check_hub_keys(values: Values) -> _Found:
    for name in HUB_KEYS[1:]:
        usual = DataSection.model_fields[name].default
        if values["data.dataset_name"] is None and values[f"data.{name}"] != usual:
            yield _got(
                values, f"data.{name}", f"{shown(usual)}, since there is no data.dataset_name that it could be of"
            )


def _check_validation_split(values: Values) -> _Found:
    for name in ("validation_file", "validation_split_name"):
        other = values[f"data.{name}"]
        if values["data.validation_split"] is not None and other is not None:
            expected = f"null, since data.{name} is {shown(other)}: give one of them"
            yield _got(values, "data.validation_split", expected)


def _check_columns(values: Values) -> _Found:
    columns = values["data.text_columns"]
    if len(set(columns)) < len(columns):
        yield _got(values, "data.text_columns", "two different columns")
    for name in ("label_column", "sample_weight_column"):
        if values.get(f"data.{name}") in columns:
            yield _got(values, f"data.{name}", "a column that is not among data.text_columns")
    if repeated := [one for one in values.get("data.label_columns") or () if one in columns]:
        yield _got(values, "data.label_columns", f"columns that are not among data.text_columns, as {repeated[0]} is")


def _check_padding(values: Values) -> _Found:
    if values["data.padding"] == "max_length" and values["data.max_length"] is None:
        yield "data.max_length", "missing; expected a whole number of at least 8, since data.padding is max_length"


def _check_file_endings(values: Values) -> _Found:
    others = {"token-classification": CONLL_ENDINGS, tasks.FILL_MASK: TEXT_ENDINGS}
    endings = (*FILE_ENDINGS, *others.get(values["task"], ()))
    for name in FILE_KEYS:
        path = values.get(f"data.{name}")
        if path is not None and PurePath(path).suffix.lower() not in endings:
            yield _got(values, f"data.{name}", f"a file that ends in {', '.join(endings)}")


def _check_encoding(values: Values) -> _Found:
    try:
        "a".encode(values["data.encoding"].removesuffix(":replace"))  # Python does not look up what encodes nothing
    except (LookupError, ValueError):
        usual = ("utf-8", "utf-16", "utf-32", "cp1252", "latin-1", "ascii")
        close = question(nearest(values["data.encoding"], usual))
        key, text = _got(values, "data.encoding", "an encoding that Python knows, for example utf-8 or cp1252")
        yield key, text + close


CHECKS: tuple[Callable[[Values], _Found], ...] = (
    _check_warmup,
    _check_schedule,
    _check_rates,
    _check_lora,
    _check_pruning,
    _check_head,
    _check_layers,
    _check_strategy,
    _check_stages,
    _check_problem,
    _check_long_text,
    _check_workers,
    _check_compiler,
    _check_tpu,
    _check_checkpointing,
    _check_tokens,
    _check_masking,
    _check_further_pretraining,
    _check_loss,
    _check_weight_decay,
    _check_eval_steps,
    _check_evaluation,
    _check_direction,
    _check_metrics,
    _check_best_metric,
    _check_stop,
    _check_hub,
    _check_reports,
    _check_two_sources,
    _check_shards,
    _check_hub_keys,
    _check_validation_split,
    _check_columns,
    _check_padding,
    _check_file_endings,
    _check_encoding,
)


def check_source(values: Values) -> _Found:
    """What is missing where the rows do not come as Python objects."""
    hub_id, file = values["data.dataset_name"], values["data.train_file"]
    if values["data.shards"] is not None:
        return
    if hub_id is None and file is None:
        yield (
            "data.train_file",
            "missing; expected data.train_file (a file of rows) or data.dataset_name (a hub id), or data.shards (a "
            "folder)",
        )
    no_rows = values["data.validation_file"] is None and values["data.validation_split"] is None
    if file is not None and no_rows and values["training.eval_strategy"] != "no" and hub_id is None:
        yield (
            "data.validation_file",
            "missing; expected rows to validate on: data.validation_file, or data.validation_split=0.1 (a share of the "
            "training rows), or training.eval_strategy=no",
        )
