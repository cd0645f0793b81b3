"""Contradictions between the section `distillation` and the rest of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfft import tasks
from tfft.recipe.words import shown

# Every key with its value, as `checks.Values`; where a recipe has no teacher, a check's KeyError says that all is well.
Values = Mapping[str, Any]
_Found = Iterator[tuple[str, str]]

# Weights of what only the teacher's whole pass can tell.
INSIDE = ("hidden_weight", "sentence_weight", "attention_weight", "relations_weight")
_STUDENT = "distillation.student"
# What a recipe has that does not name it, as `DistillationSection` says.
_USUAL_TEMPERATURE = 2.0


def _got(values: Values, key: str, expected: str) -> tuple[str, str]:
    return key, f"got {shown(values[key])}; expected {expected}"


def _check_task(values: Values) -> _Found:
    if values["distillation.teacher"] and values["task"] not in ("text-classification", tasks.FILL_MASK):
        why = "since distillation is of the logits of whole texts, or of what is inside a model of text without labels"
        yield _got(values, "task", f"text-classification or {tasks.FILL_MASK}, {why}")
    if values["data.shards"] is not None and values["task"] != tasks.FILL_MASK:
        why = "null, since there is a section distillation: a row's logits are kept beside it, and shards have no place"
        yield _got(values, "data.shards", f"{why} for them")


def _check_weights(values: Values) -> _Found:
    if values["task"] == tasks.FILL_MASK:
        yield from _weights_of_masked(values)
    elif not values["distillation.labels_weight"] and not values["distillation.logits_weight"]:
        expected = "above 0, since distillation.labels_weight is 0 too, and nothing would train the head"
        yield _got(values, "distillation.logits_weight", expected)
    if values["distillation.relation_heads"] is not None and not values["distillation.relations_weight"]:
        yield _got(values, "distillation.relation_heads", "null, since distillation.relations_weight is 0")


def _weights_of_masked(values: Values) -> _Found:
    why = f"since task is {tasks.FILL_MASK}"
    if values["distillation.logits_weight"]:
        expected = f"0, {why}: logits of every token of a vocabulary are too many to keep"
        yield _got(values, "distillation.logits_weight", expected)
    if values["distillation.temperature"] != _USUAL_TEMPERATURE:
        yield _got(values, "distillation.temperature", f"{_USUAL_TEMPERATURE}, {why}: there are no logits to soften")
    if not values["distillation.labels_weight"]:
        yield _got(values, "distillation.labels_weight", f"above 0, {why}: nothing else trains the head")
    if not any(values[f"distillation.{name}"] for name in INSIDE):
        others = ", ".join(f"distillation.{name}" for name in INSIDE[1:])
        yield _got(values, f"distillation.{INSIDE[0]}", f"above 0 (or one of {others}), {why}: it is what is learned")


def _check_labels(values: Values) -> _Found:
    if values["distillation.labels_weight"]:
        return
    for name, usual in (
        ("class_weight", None),
        ("label_smoothing_factor", 0.0),
        ("focal_gamma", 0.0),
        ("r_drop_alpha", 0.0),
    ):
        if values[f"training.{name}"] != usual:
            expected = f"{shown(usual)}, since distillation.labels_weight is 0: it is of the loss of the labels"
            yield _got(values, f"training.{name}", expected)


def _check_inside(values: Values) -> _Found:
    name = next((one for one in INSIDE if values[f"distillation.{one}"]), None)
    if name is None:
        return
    why = f"since distillation.{name} is {shown(values[f'distillation.{name}'])}"
    for key, usual, reason in (
        ("training.strategy", "full", "all layers learn from the teacher's"),
        ("training.fgm_epsilon", None, "embeddings that were moved have no teacher"),
        ("training.layerwise_lr_decay", None, "what maps one width to another is in no part of the model"),
        ("training.learning_rate_multipliers", None, "what maps one width to another is in no part of the model"),
    ):
        if values[key] != usual:
            yield _got(values, key, f"{shown(usual)}, {why}: {reason}")
    if values["data.long_text"] == "sliding_window":
        expected = f"truncate or head_tail, {why}: rows are compared, and windows are several a row"
        yield _got(values, "data.long_text", expected)


def _check_student(values: Values) -> _Found:
    if values[_STUDENT] is None:
        return
    why = f"since {_STUDENT} is given, whose weights are all new"
    for key, usual in (("model.keep_layers", None), ("model.head", "default"), ("training.strategy", "full")):
        if values[key] != usual:
            yield _got(values, key, f"{shown(usual)}, {why}")


CHECKS: tuple[Callable[[Values], _Found], ...] = (
    _check_task,
    _check_weights,
    _check_labels,
    _check_inside,
    _check_student,
)
