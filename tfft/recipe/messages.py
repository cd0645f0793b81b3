"""What is wrong with one key, in words: what was given, what is expected, which key may be meant."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfft.errors import nearest
from tfft.recipe.sections import (
    KEYS,
    SECTIONS,
    FurtherPretrainingSection,
    ParameterSection,
    Recipe,
    StageSection,
    StudentSection,
)
from tfft.recipe.words import question, shown

# What people write who know another program, and what it is called here.
ALIASES: dict[str, str] = {
    "random_seed": "seed",
    "out_dir": "output_dir",
    "save_dir": "output_dir",
    "model_name_or_path": "model.name_or_path",
    "pretrained_model_name_or_path": "model.name_or_path",
    "model_name": "model.name_or_path",
    "checkpoint": "model.name_or_path",
    "model_revision": "model.revision",
    "dataset": "data.dataset_name",
    "dataset_config": "data.dataset_config_name",
    "task_name": "data.dataset_config_name",
    "train_split": "data.train_split_name",
    "test_split": "data.test_split_name",
    "eval_file": "data.validation_file",
    "dev_file": "data.validation_file",
    "val_split": "data.validation_split",
    "validation_split_percentage": "data.validation_split",
    "text_column": "data.text_columns",
    "text_column_name": "data.text_columns",
    "text_column_names": "data.text_columns",
    "label_column_name": "data.label_column",
    "label_all_pieces": "data.label_all_tokens",
    "doc_stride": "data.stride",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "pad_to_max_length": "data.padding: max_length",
    "group_by_length": "data.batching: bucketed",
    "line_by_line": "data.documents: lines",
    "mlm": "task: fill-mask",
    "wwm": "data.whole_word_mask",
    "mask_probability": "data.mlm_probability",
    "max_val_samples": "data.max_eval_samples",
    "max_validation_samples": "data.max_eval_samples",
    "lr": "training.learning_rate",
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "steps": "training.max_steps",
    "num_train_steps": "training.max_steps",
    "scheduler": "training.lr_scheduler_type",
    "lr_scheduler": "training.lr_scheduler_type",
    "schedule": "training.lr_scheduler_type",
    "num_warmup_steps": "training.warmup_steps",
    "warmup": "training.warmup_ratio",
    "optim": "training.optimizer",
    "weight_decay_rate": "training.weight_decay",
    "beta_1": "training.adam_beta1",
    "beta_2": "training.adam_beta2",
    "epsilon": "training.adam_epsilon",
    "clipnorm": "training.max_grad_norm",
    "global_clipnorm": "training.max_grad_norm",
    "batch_size": "training.per_device_train_batch_size",
    "train_batch_size": "training.per_device_train_batch_size",
    "eval_batch_size": "training.per_device_eval_batch_size",
    "evaluation_strategy": "training.eval_strategy",
    "metric": "training.metrics",
    "monitor": "training.metric_for_best_model",
    "patience": "training.early_stopping_patience",
    "early_stopping": "training.early_stopping_patience",
    "restore_best_weights": "training.load_best_model_at_end",
    "push_to_hub_model_id": "training.hub_model_id",
    "hub_repo": "training.hub_model_id",
    "trackers": "training.report_to",
    "bf16": "runtime.mixed_precision: bf16",
    "fp16": "runtime.mixed_precision: fp16",
    "precision": "runtime.mixed_precision",
    "teacher_name_or_path": "distillation.teacher",
    "teacher_model": "distillation.teacher",
    "alpha_ce": "distillation.logits_weight",
    "jit_compile": "runtime.xla",
    "full_determinism": "runtime.deterministic",
}

# What no recipe may have: it is written into the run's folder, and anyone who reads the recipe reads it.
SECRETS = ("hub_token", "push_to_hub_token", "hf_token", "use_auth_token", "wandb_api_key")


def said(error: Any, name: str) -> str:
    """What one of pydantic's errors is, in the words of recipes."""
    value, kind = error["input"], error["type"]
    path = error["loc"][len(name.split(".")) :]
    if kind == "extra_forbidden":
        return _unknown_key_inside(name, path, value) if path else _unknown_key(name, value)
    schema = _schema_inside(name, path)
    # The alternative to null, if it is one.
    inner = schema.get("anyOf", [schema])[0]
    expected = _expectation(schema)
    if kind == "missing":
        return f"missing; expected {expected}: {schema['description']}"
    if kind == "finite_number":
        expected = f"finite, {expected}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        expected += f""", so put it in quotes: '{shown(value)}', or "'{shown(value)}'" in a shell"""
    close = nearest(value, inner.get("enum", [])) if isinstance(value, str) else None
    if isinstance(value, str) and inner.get("type") == "array":
        close = shown([value])
    return f"got {shown(value)}; expected {expected}" + question(close)


def inside(path: Iterable[int | str]) -> str:
    """What follows a key's name for a place inside its value: `[0]`, `[head]`, `[0].learning_rate`."""
    parts: list[str] = []
    for part in path:
        parts.append(f".{part}" if parts and isinstance(part, str) else f"[{part}]")
    return "".join(parts)


def _schema_inside(name: str, path: Iterable[int | str]) -> dict[str, Any]:
    """The JSON schema of what a key has at a place inside its value."""
    schema = schema_of(name)
    for part in path:
        schema = _section_of(schema)
        if "properties" in schema:
            schema = schema["properties"][part]
        else:
            schema = schema["items" if schema["type"] == "array" else "additionalProperties"]
    return schema


def _section_of(schema: dict[str, Any]) -> dict[str, Any]:
    """What a value is that is not null; of a section, what is in it."""
    schema = schema.get("anyOf", [schema])[0]
    return _INNER[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _unknown_key_inside(name: str, path: Sequence[int | str], value: Any) -> str:
    known = _section_of(_schema_inside(name, path[:-1]))["properties"]
    close = nearest(str(path[-1]), known)
    return f"no such key, got {shown(value)}; " + (
        f"did you mean {close}?" if close else f"expected one of {', '.join(known)}"
    )


def _unknown_key(name: str, value: Any) -> str:
    section, _, key = name.rpartition(".")
    if key.lower() in SECRETS:
        return (
            "a secret has no place in a recipe, and this one was neither kept nor shown; log in once instead (`hf auth "
            "login`, `wandb login`), or set HF_TOKEN or WANDB_API_KEY"
        )
    got = f"no such key, got {shown(value)}"
    if name in KEYS:  # one key with a dot in it
        section, _, key = name.partition(".")
        return f"{got}; expected {key} inside the section {section}"
    close = suggestion(name)
    if close is not None:
        return f"{got}; did you mean {close}?"
    known = SECTIONS[section].model_fields if section in SECTIONS else Recipe.model_fields
    return f"{got}; expected one of {', '.join(known)}"


def suggestion(name: str) -> str | None:
    """The known key that an unknown one may mean: `training.learning_rate` for `training.lr` or `learning_rate`."""
    section, _, key = name.lower().replace("-", "_").rpartition(".")
    if key in ALIASES:
        return ALIASES[key]
    # Of several of one name, the first: a training's before a sweep's.
    own_names = {one.rpartition(".")[2]: one for one in reversed(KEYS)}
    if key in own_names:
        return own_names[key]
    if not section and (close := nearest(key, Recipe.model_fields)):
        return close
    beside = nearest(key, SECTIONS[section].model_fields) if section in SECTIONS else None
    if beside is not None:
        return f"{section}.{beside}"
    close = nearest(key, [*own_names, *ALIASES])
    return None if close is None else own_names.get(close) or ALIASES[close]


@functools.cache
def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of one key."""
    section, _, key = name.rpartition(".")
    if name in SECTIONS:
        return {"type": "object", "description": Recipe.model_fields[name].description}
    model = SECTIONS[section] if section else Recipe
    return model.model_json_schema()["properties"][key]


# The sections that stand inside a list or a table.
_INNER = {
    one.__name__: one.model_json_schema()
    for one in (StageSection, ParameterSection, StudentSection, FurtherPretrainingSection)
}

_RANGE_WORDS = {
    "exclusiveMinimum": "above",
    "minimum": "of at least",
    "exclusiveMaximum": "below",
    "maximum": "of at most",
}


def _expectation(schema: Mapping[str, Any]) -> str:
    """What a key may be, in words: `a number above 0`, `one of auto, no`."""
    if "anyOf" in schema:
        return " or ".join(_expectation(one) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])
    if "$ref" in schema:
        return "a section: keys and values"
    kind = schema["type"]
    if kind in ("number", "integer"):
        ranges = [f"{word} {shown(schema[key])}" for key, word in _RANGE_WORDS.items() if key in schema]
        return f"a {'whole ' if kind == 'integer' else ''}number {' and '.join(ranges)}".rstrip()
    if kind == "array":
        limits = f"{schema['minItems']} or {schema['maxItems']} " if "maxItems" in schema else ""
        items = schema["items"]
        kinds = {"integer": "whole numbers", "string": "texts"}
        of = "sections" if "$ref" in items else "values" if "anyOf" in items else kinds[items["type"]]
        return f"a list of {limits}{of}"
    if "additionalProperties" in schema:
        return f"a table, each name with {_expectation(schema['additionalProperties'])}"
    return {"string": "text", "boolean": "true or false", "null": "null", "object": "a section: keys and values"}[kind]
