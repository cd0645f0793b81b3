"""Recipes: layers, overrides, the numbers of YAML, and every check with a case that trips it and one that passes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tfft import recipe, tasks
from tfft.errors import RecipeError
from tfft.recipe import checks, given, layers
from tfft.recipe.yaml_text import Place, scalar

BASE: dict[str, Any] = {
    "task": "text-classification",
    "output_dir": "runs/base",
    "model": {"name_or_path": "some/checkpoint"},
    "data": {"train_file": "train.csv", "validation_file": "validation.csv", "text_columns": ["text"]},
}


def load_base(*overrides: str, **more: Any) -> recipe.Recipe:
    return recipe.from_mapping(BASE, overrides, "base", **more)


def error_of(*overrides: str, **more: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        load_base(*overrides, **more)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- Checks: overrides that trip, overrides that pass, the key that is named, words of the message --------------------

HUB = ("data.dataset_name=user/set", "~data.train_file", "~data.validation_file")

CHECKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
    "a repository, and nothing to push": (
        ("training.hub_model_id=me/mine",),
        ("training.hub_model_id=me/mine", "training.push_to_hub=true", "training.hub_strategy=end"),
        "training.hub_model_id",
        "got 'me/mine'; expected null, since training.push_to_hub is false",
    ),
    "a stop after more epochs than there are": (
        ("training.stop_after_epochs=3", "training.num_train_epochs=2"),
        ("training.stop_after_epochs=2", "training.num_train_epochs=2"),
        "training.stop_after_epochs",
        "got 3; expected at most training.num_train_epochs, which is 2",
    ),
    "a share of masks, and texts with labels": (
        ("data.mlm_probability=0.3",),
        ("data.mlm_probability=0.3", "task=fill-mask"),
        "data.mlm_probability",
        "got 0.3; expected 0.15, since task is text-classification: it is for fill-mask only",
    ),
    "labels of texts without labels": (
        ("task=fill-mask", "data.sample_weight_column=w"),
        ("task=fill-mask",),
        "data.sample_weight_column",
        "got 'w'; expected null, since task is fill-mask: all tokens count alike",
    ),
    "more masks and random tokens than there are": (
        ("task=fill-mask", "data.mask_replace_prob=0.9", "data.random_replace_prob=0.2"),
        ("task=fill-mask", "data.mask_replace_prob=0.9", "data.random_replace_prob=0.1"),
        "data.random_replace_prob",
        "got 0.2; expected at most 0.1, since data.mask_replace_prob is 0.9",
    ),
    "further pretraining of a pretraining": (
        ("task=fill-mask", "training.further_pretraining={epochs: 1}"),
        ("training.further_pretraining={epochs: 1}",),
        "training.further_pretraining",
        "expected null, since task is fill-mask: that is what this training does",
    ),
    "further pretraining of rows without labels": (
        (
            "training.further_pretraining={epochs: 1}",
            "distillation.teacher=there",
            "distillation.labels_weight=0",
        ),
        ("training.further_pretraining={epochs: 1}", "distillation.teacher=there"),
        "training.further_pretraining",
        "expected null, since distillation.labels_weight is 0: run python -m tfft.pretrain first",
    ),
    "further pretraining of shards": (
        ("data.shards=here", "~data.train_file", "~data.validation_file", "training.further_pretraining={epochs: 1}"),
        (
            "data.shards=here",
            "~data.train_file",
            "~data.validation_file",
            "training.further_pretraining={epochs: 1, train_file: more.txt}",
        ),
        "training.further_pretraining.train_file",
        "missing; expected a file of text, since data.shards holds tokens and no texts",
    ),
    "a report twice": (
        ("training.report_to=[mlflow, mlflow]",),
        ("training.report_to=[mlflow, tensorboard, wandb]",),
        "training.report_to",
        "expected every name once",
    ),
    "layers of a number that is not said": (
        ("model.drop_layers=odd",),
        ("model.drop_layers=odd", "model.keep_layers=3"),
        "model.drop_layers",
        "got 'odd'; expected null, since model.keep_layers is null: it is for a number of layers only",
    ),
    "an end of pruning, and no pruning": (
        ("training.pruning_end=0.4",),
        ("training.pruning_end=0.4", "training.pruning_sparsity=0.5"),
        "training.pruning_end",
        "got 0.4; expected null, since training.pruning_sparsity is null",
    ),
    "more pruned at first than at last": (
        ("training.pruning_sparsity=0.5", "training.pruning_initial_sparsity=0.6"),
        ("training.pruning_sparsity=0.5", "training.pruning_initial_sparsity=0.5"),
        "training.pruning_initial_sparsity",
        "got 0.6; expected at most training.pruning_sparsity, which is 0.5",
    ),
    "pruning that begins after its end": (
        ("training.pruning_sparsity=0.5", "training.pruning_begin=0.6"),
        ("training.pruning_sparsity=0.5", "training.pruning_begin=0.6", "training.pruning_end=0.6"),
        "training.pruning_begin",
        "got 0.6; expected at most training.pruning_end, which is 0.5",
    ),
    **{
        f"pruning and {strategy}": (
            (f"training.strategy={strategy}", "training.pruning_sparsity=0.5"),
            (f"training.strategy={strategy}",),
            "training.pruning_sparsity",
            f"got 0.5; expected null, since training.strategy is {strategy}: the weights that would be pruned are "
            "frozen, for a while or for good",
        )
        for strategy in ("lora", "feature_extraction", "bitfit")
    },
    "both warmups": (
        ("training.warmup_ratio=0.1", "training.warmup_steps=5"),
        ("training.warmup_steps=5",),
        "training.warmup_steps",
        "got 5; expected null, since training.warmup_ratio is 0.1: give one of them",
    ),
    "a warmup longer than the training": (
        ("training.warmup_steps=11", "training.max_steps=10"),
        ("training.warmup_steps=10", "training.max_steps=10"),
        "training.warmup_steps",
        "got 11; expected at most training.max_steps, which is 10",
    ),
    "an end that the schedule has not": (
        ("training.lr_scheduler_type=cosine", "training.end_learning_rate=0.0"),
        ("training.lr_scheduler_type=linear", "training.end_learning_rate=0.0"),
        "training.end_learning_rate",
        "got 0.0; expected null, since training.lr_scheduler_type is cosine: it is for polynomial and linear only",
    ),
    "a power that the schedule has not": (
        ("training.lr_scheduler_type=linear", "training.lr_power=2.0"),
        ("training.lr_power=2.0",),
        "training.lr_power",
        "since training.lr_scheduler_type is linear: it is for polynomial only",
    ),
    "two tables of rates": (
        ("training.layerwise_lr_decay=0.9", "training.learning_rate_multipliers={'*': 1.0}"),
        ("training.learning_rate_multipliers={'*': 1.0}",),
        "training.learning_rate_multipliers",
        "expected null, since training.layerwise_lr_decay is 0.9: give one of them",
    ),
    "a focal loss of soft labels": (
        ("training.focal_gamma=2.0", "training.label_smoothing_factor=0.1"),
        ("training.focal_gamma=2.0",),
        "training.focal_gamma",
        "got 2.0; expected 0, since training.label_smoothing_factor is 0.1",
    ),
    "the width of a head that is not there": (
        ("model.head_hidden_size=64",),
        ("model.head_hidden_size=64", "model.head=mean"),
        "model.head_hidden_size",
        "got 64; expected null, since model.head is default: it is for cls and mean only",
    ),
    "an attack on what is computed once": (
        ("training.strategy=feature_extraction", "training.fgm_epsilon=1.0"),
        ("training.fgm_epsilon=1.0",),
        "training.fgm_epsilon",
        "expected null, since training.strategy is feature_extraction: the encoder's outputs are computed once",
    ),
    "an average over stages": (
        (
            "training.strategy=gradual_unfreezing",
            "training.stages=[{unfreeze: head}, {unfreeze: all}]",
            "training.ema_momentum=0.9",
        ),
        ("training.ema_momentum=0.9",),
        "training.ema_momentum",
        "expected null, since training.strategy is gradual_unfreezing",
    ),
    "a stride of no windows": (
        ("data.stride=16",),
        ("data.stride=16", "data.long_text=sliding_window"),
        "data.stride",
        "got 16; expected null, since data.long_text is truncate: it is for sliding_window only",
    ),
    "windows further apart than they are long": (
        ("data.stride=64", "data.long_text=sliding_window", "data.max_length=64"),
        ("data.stride=32", "data.long_text=sliding_window", "data.max_length=64"),
        "data.stride",
        "got 64; expected less than data.max_length, which is 64",
    ),
    "windows in padded batches": (
        ("data.batching=padded", "data.long_text=sliding_window"),
        ("data.batching=padded", "data.long_text=head_tail"),
        "data.batching",
        "expected 'bucketed', since data.long_text is sliding_window",
    ),
    "windows of pairs": (
        ("data.text_columns=[a, b]", "data.long_text=head_tail"),
        ("data.text_columns=[a]", "data.long_text=head_tail"),
        "data.text_columns",
        "expected one column, since data.long_text is head_tail: pairs are truncated",
    ),
    "a head of texts for words": (
        ("task=token-classification", "model.head=mean"),
        ("task=token-classification",),
        "model.head",
        "got 'mean'; expected default, since task is token-classification",
    ),
    "a problem that the task has not": (
        ("task=token-classification", "problem_type=regression"),
        ("problem_type=regression",),
        "problem_type",
        "got 'regression'; expected one of token_classification, since task is token-classification",
    ),
    "tags of texts": (
        ("data.strict=true",),
        ("data.strict=true", "task=token-classification"),
        "data.strict",
        "got true; expected false, since problem_type is single_label_classification: it is for token_classification",
    ),
    "pieces of texts": (
        ("data.label_all_tokens=true",),
        ("data.label_all_tokens=true", "task=token-classification"),
        "data.label_all_tokens",
        "got true; expected false, since problem_type is single_label_classification",
    ),
    "rates of layers that are not trained": (
        ("training.strategy=feature_extraction", "training.layerwise_lr_decay=0.9"),
        ("training.layerwise_lr_decay=0.9",),
        "training.layerwise_lr_decay",
        "expected null, since training.strategy is feature_extraction: nothing below the head is trained",
    ),
    "windows under XLA": (
        ("runtime.xla=true", "data.long_text=sliding_window"),
        ("runtime.xla=true", "data.long_text=head_tail"),
        "runtime.xla",
        "got true; expected false, since data.long_text is sliding_window",
    ),
    "one worker": (
        ("runtime.workers=[a:1]",),
        ("runtime.workers=[a:1, b:1]",),
        "runtime.workers",
        "expected two or more, or null where one process trains",
    ),
    "workers that nobody asks": (
        ("runtime.workers=[a:1, b:1]", "runtime.strategy=mirrored"),
        ("runtime.workers=[a:1, b:1]",),
        "runtime.workers",
        "expected null, since runtime.strategy is mirrored: auto and multi_worker take several processes",
    ),
    "checkpoints of stock layers": (
        ("training.gradient_checkpointing=true", "runtime.accelerate=false"),
        ("training.gradient_checkpointing=true",),
        "runtime.accelerate",
        "got false; expected true, since training.gradient_checkpointing is true",
    ),
    "checkpoints of layers with adapters": (
        ("training.gradient_checkpointing=true", "training.strategy=lora"),
        ("training.gradient_checkpointing=true", "training.strategy=bitfit"),
        "training.gradient_checkpointing",
        "expected false, since training.strategy is lora: layers with adapters are not accelerated",
    ),
    "a program for every width": (
        ("runtime.xla=true", "data.batching=padded"),
        ("runtime.xla=true", "data.batching=padded", "data.padding=max_length", "data.max_length=64"),
        "data.batching",
        "expected bucketed, or data.padding=max_length, since runtime.xla is true",
    ),
    "one output for many windows": (
        ("training.strategy=feature_extraction", "data.long_text=sliding_window"),
        ("training.strategy=feature_extraction", "data.long_text=head_tail"),
        "data.long_text",
        "expected truncate or head_tail, since training.strategy is feature_extraction",
    ),
    "windows of words": (
        ("task=token-classification", "data.long_text=sliding_window"),
        ("task=token-classification",),
        "data.long_text",
        "expected truncate, since task is token-classification",
    ),
    "stages of nothing": (
        ("training.strategy=gradual_unfreezing",),
        ("training.strategy=gradual_unfreezing", "training.stages=[{unfreeze: head}, {unfreeze: all}]"),
        "training.stages",
        "missing; expected a list of stages, since training.strategy is gradual_unfreezing",
    ),
    "adapters without LoRA": (
        ("training.lora_r=4",),
        ("training.lora_r=4", "training.strategy=lora"),
        "training.lora_r",
        "got 4; expected null, since training.strategy is full: it is for lora only",
    ),
    "decay without decay": (
        ("training.optimizer=adam", "training.weight_decay=0.01"),
        ("training.weight_decay=0.01",),
        "training.weight_decay",
        "got 0.01; expected 0, since training.optimizer is adam",
    ),
    "attentions of an encoder that is not trained": (
        ("training.attention_texts=[a film]", "training.strategy=feature_extraction"),
        ("training.attention_texts=[a film]",),
        "training.attention_texts",
        "expected null, since training.strategy is feature_extraction: the encoder is frozen",
    ),
    "steps without their number": (
        ("training.eval_strategy=steps",),
        ("training.eval_strategy=steps", "training.eval_steps=50"),
        "training.eval_steps",
        "missing; expected the number of optimizer steps between two evaluations",
    ),
    "a number of steps for epochs": (
        ("training.eval_steps=50",),
        ("training.eval_strategy=steps", "training.eval_steps=50"),
        "training.eval_steps",
        "got 50; expected null, since training.eval_strategy is epoch: it is for steps only",
    ),
    "a best epoch without scores": (
        ("training.eval_strategy=no", "training.load_best_model_at_end=true"),
        ("training.load_best_model_at_end=true",),
        "training.load_best_model_at_end",
        "got true; expected false, since training.eval_strategy is no",
    ),
    "early stopping without scores": (
        ("training.eval_strategy=no", "training.early_stopping_patience=2"),
        ("training.early_stopping_patience=2",),
        "training.early_stopping_patience",
        "got 2; expected null, since training.eval_strategy is no",
    ),
    "a best score without scores": (
        ("training.eval_strategy=no", "training.metric_for_best_model=accuracy"),
        ("training.metric_for_best_model=accuracy",),
        "training.metric_for_best_model",
        "got 'accuracy'; expected null",
    ),
    "a direction without scores": (
        ("training.eval_strategy=no", "training.greater_is_better=false"),
        ("training.greater_is_better=false",),
        "training.greater_is_better",
        "got false; expected null",
    ),
    "a direction nobody knows": (
        ("training.metrics=[user/bleu]", "training.metric_for_best_model=bleu"),
        ("training.metrics=[user/bleu]", "training.metric_for_best_model=bleu", "training.greater_is_better=true"),
        "training.greater_is_better",
        "missing; expected true or false, since tfft does not know which direction of 'bleu' is better",
    ),
    "a direction turned round": (
        ("training.metric_for_best_model=accuracy", "training.greater_is_better=false"),
        ("training.metric_for_best_model=accuracy", "training.greater_is_better=true"),
        "training.greater_is_better",
        "got false; expected true or null: a larger accuracy is better",
    ),
    "the loss turned round": (
        ("training.greater_is_better=true",),
        ("training.greater_is_better=false",),
        "training.greater_is_better",
        "got true; expected false or null: a smaller loss is better",
    ),
    "a metric of numbers for classes": (
        ("training.metrics=[accuracy, pearsonr]",),
        ("training.metrics=[accuracy, f1]",),
        "training.metrics[1]",
        "matthews_correlation, since problem_type is single_label_classification",
    ),
    "a metric of classes for numbers": (
        ("problem_type=regression", "training.metrics=[mse, glue/mrpc]"),
        ("problem_type=regression", "training.metrics=[mse, glue/stsb]"),
        "training.metrics[1]",
        "got 'glue/mrpc'; expected one of pearsonr, spearmanr, mse, since problem_type is regression",
    ),
    "a metric of one class for several": (
        ("problem_type=multi_label_classification", "training.metrics=[f1]"),
        ("problem_type=multi_label_classification", "training.metrics=[f1_micro]"),
        "training.metrics[0]",
        "got 'f1'; expected one of accuracy, f1_macro, f1_micro, since",
    ),
    "weights of classes where there are none": (
        ("problem_type=regression", "training.class_weight=balanced"),
        ("problem_type=multi_label_classification", "training.class_weight=balanced"),
        "training.class_weight",
        "got 'balanced'; expected null, since problem_type is regression: it is for single_label_classification and",
    ),
    "columns of labels for one class": (
        ("data.label_columns=[joy, anger]",),
        ("data.label_columns=[joy, anger]", "problem_type=multi_label_classification"),
        "data.label_columns",
        "expected null, since problem_type is single_label_classification",
    ),
    "two ways to give several labels": (
        ("data.label_columns=[a, b]", "data.label_separator=;", "problem_type=multi_label_classification"),
        ("data.label_separator=;", "problem_type=multi_label_classification"),
        "data.label_separator",
        "expected null, since data.label_columns has a column for every label",
    ),
    "a text as weight": (
        ("data.sample_weight_column=text",),
        ("data.sample_weight_column=weight",),
        "data.sample_weight_column",
        "expected a column that is not among data.text_columns",
    ),
    "a text as one of the labels": (
        ("data.label_columns=[joy, text]", "problem_type=multi_label_classification"),
        ("data.label_columns=[joy, fear]", "problem_type=multi_label_classification"),
        "data.label_columns",
        "expected columns that are not among data.text_columns, as text is",
    ),
    "no such GLUE task": (
        ("training.metrics=[glue/mrcp]",),
        ("training.metrics=[glue/mrpc]",),
        "training.metrics[0]",
        "did you mean glue/mrpc?",
    ),
    "a best score that no metric yields": (
        ("training.metric_for_best_model=f1",),
        ("training.metric_for_best_model=f1", "training.metrics=[accuracy, f1]"),
        "training.metric_for_best_model",
        "got 'f1'; expected one of loss, accuracy, which training.metrics yields; add f1 to training.metrics",
    ),
    "two sources": (
        ("data.dataset_name=user/set", "data.train_file=a.csv", "~data.validation_file"),
        HUB,
        "data.train_file",
        "expected null, since data.dataset_name is 'user/set'",
    ),
    "a key of the hub alone": (
        ("data.dataset_config_name=mrpc",),
        (*HUB, "data.dataset_config_name=mrpc"),
        "data.dataset_config_name",
        "got 'mrpc'; expected null, since there is no data.dataset_name",
    ),
    "a split name of the hub alone": (
        ("data.train_split_name=all",),
        (*HUB, "data.train_split_name=all"),
        "data.train_split_name",
        "got 'all'; expected 'train', since there is no data.dataset_name",
    ),
    "rows from shards and from a file": (
        ("data.train_file=a.csv", "data.shards=a", "~data.validation_file"),
        ("data.shards=a",),
        "data.train_file",
        "got 'a.csv'; expected null, since data.shards is 'a': rows come from there",
    ),
    "a sample of shards": (
        ("data.shards=a", "data.max_train_samples=9"),
        ("data.shards=a",),
        "data.max_train_samples",
        "got 9; expected null, since data.shards is 'a': that was settled when they were written",
    ),
    "windows of shards": (
        ("data.shards=a", "data.long_text=sliding_window"),
        ("data.shards=a", "data.long_text=head_tail"),
        "data.long_text",
        "got 'sliding_window'; expected truncate or head_tail, since data.shards is 'a'",
    ),
    "padded batches of shards": (
        ("data.shards=a", "data.batching=padded"),
        ("data.shards=a", "data.padding=max_length", "data.max_length=64"),
        "data.batching",
        "got 'padded'; expected bucketed, since data.shards is 'a'",
    ),
    "words in shards": (
        ("data.shards=a", "task=token-classification"),
        ("data.shards=a",),
        "task",
        "got 'token-classification'; expected text-classification, since data.shards is 'a'",
    ),
    "features of shards": (
        ("data.shards=a", "training.strategy=feature_extraction"),
        ("data.shards=a", "training.strategy=lora"),
        "training.strategy",
        "got 'feature_extraction'; expected another, since data.shards is 'a'",
    ),
    "padded batches on a TPU": (
        ("runtime.strategy=tpu", "data.batching=padded"),
        ("runtime.strategy=tpu", "runtime.tpu_name=local"),
        "data.batching",
        "got 'padded'; expected bucketed, since runtime.strategy is tpu: padded batches are made by Python",
    ),
    "accumulation on a TPU": (
        ("runtime.strategy=tpu", "training.gradient_accumulation_steps=2"),
        ("runtime.strategy=tpu", "runtime.steps_per_execution=8"),
        "training.gradient_accumulation_steps",
        "got 2; expected 1, since runtime.strategy is tpu",
    ),
    "float16 on a TPU": (
        ("runtime.strategy=tpu", "runtime.mixed_precision=fp16"),
        ("runtime.strategy=tpu", "runtime.mixed_precision=no"),
        "runtime.mixed_precision",
        "got 'fp16'; expected bf16, no or auto, since runtime.strategy is tpu",
    ),
    "a TPU's name without one": (
        ("runtime.tpu_name=node-1",),
        ("runtime.tpu_name=node-1", "runtime.strategy=tpu"),
        "runtime.tpu_name",
        "got 'node-1'; expected null, since runtime.strategy is auto",
    ),
    "two ways to validate": (
        ("data.validation_split=0.1",),
        ("data.validation_split=0.1", "~data.validation_file"),
        "data.validation_split",
        "got 0.1; expected null, since data.validation_file is 'validation.csv'",
    ),
    "two ways to validate on the hub": (
        (*HUB, "data.validation_split=0.1", "data.validation_split_name=dev"),
        (*HUB, "data.validation_split_name=dev"),
        "data.validation_split",
        "since data.validation_split_name is 'dev'",
    ),
    "one column twice": (
        ("data.text_columns=[a, a]",),
        ("data.text_columns=[a, b]",),
        "data.text_columns",
        "expected two different columns",
    ),
    "the label as text": (
        ("data.label_column=text",),
        ("data.label_column=class",),
        "data.label_column",
        "expected a column that is not among data.text_columns",
    ),
    "padding to no width": (
        ("data.padding=max_length",),
        ("data.padding=max_length", "data.max_length=128"),
        "data.max_length",
        "missing; expected a whole number of at least 8, since data.padding is max_length",
    ),
    "a file of another kind": (
        ("data.test_file=test.xlsx",),
        ("data.test_file=test.JSONL",),
        "data.test_file",
        "expected a file that ends in .csv, .tsv",
    ),
    "no such encoding": (
        ("data.encoding=utf8-sgi",),
        ("data.encoding=utf-8-sig",),
        "data.encoding",
        "expected an encoding that Python knows",
    ),
    "an encoding that is none of text": (
        ("data.encoding=rot13",),
        ("data.encoding=latin-1:replace",),
        "data.encoding",
        "got 'rot13'; expected an encoding that Python knows",
    ),
    "no rows": (
        ("~data.train_file", "~data.validation_file"),
        HUB,
        "data.train_file",
        "missing; expected data.train_file (a file of rows) or data.dataset_name",
    ),
    "nothing to validate on": (
        ("~data.validation_file",),
        ("~data.validation_file", "training.eval_strategy=no"),
        "data.validation_file",
        "missing; expected rows to validate on",
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_contradiction_is_named_and_its_neighbour_passes(name: str) -> None:
    trips, passes, key, words = CHECKS[name]
    said = error_of(*trips)
    assert f": {key}: " in said
    assert words in said
    assert len(said.splitlines()) == 1
    load_base(*passes)


@pytest.mark.parametrize("key", ["training.hub_token", "hub_token", "training.push_to_hub_token", "runtime.HF_TOKEN"])
def test_a_secret_is_refused_and_not_shown(key: str) -> None:
    said = error_of(f"{key}=hf_secret")
    assert f"{key}: a secret has no place in a recipe" in said
    assert "hf auth login" in said
    assert "hf_secret" not in said


@pytest.mark.parametrize(
    ("given", "expected"), [("none", ()), ("[]", ()), ("[wandb]", ("wandb",)), ("[mlflow, wandb]", ("mlflow", "wandb"))]
)
def test_who_is_told(given: str, expected: tuple[str, ...]) -> None:
    made = load_base(f"training.report_to={given}")
    assert made.training.report_to == expected
    assert recipe.from_mapping(yaml.safe_load(made.to_yaml())) == made
    assert load_base().training.report_to == ("tensorboard",)


def test_who_cannot_be_told() -> None:
    assert "got 'comet'; expected one of tensorboard, mlflow, wandb" in error_of("training.report_to=[comet]")
    assert "did you mean ['mlflow']?" in error_of("training.report_to=mlflow")


def test_every_check_has_a_row() -> None:
    """A check that no row above trips is either dead or untested."""
    values = [_values(trips) for trips, _, _, _ in CHECKS.values()]
    for check in (*checks.CHECKS, checks.check_source):
        assert any(list(check(one)) for one in values), check.__name__


def _values(overrides: tuple[str, ...]) -> dict[str, Any]:
    """All values with these overrides, contradictions and all."""
    tree = given.from_python(BASE, Place("base"), (), [])
    root = layers.overridden(tree.value, overrides, 1, [])
    return recipe._values(recipe.Recipe.model_validate(given.plain_values(given.Given(root, tree.place))))


# --- One key: type, range, name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learning_rate=fast", "got 'fast'; expected a number above 0"),
        ("training.learning_rate=0", "got 0; expected a number above 0"),
        ("training.learning_rate=.inf", "got inf; expected finite, a number above 0"),
        ("training.warmup_ratio=1", "got 1; expected a number of at least 0 and below 1 or null"),
        ("training.max_steps=2.5", "got 2.5; expected a whole number of at least 1 or null"),
        ("training.max_steps=true", "got true; expected a whole number of at least 1 or null"),
        ("seed=-1", "got -1; expected a whole number of at least 0 and of at most 4294967295"),
        ("training.optimizer=adamv", "got 'adamv'; expected one of adamw, adam; did you mean adam?"),
        ("training.load_best_model_at_end=yes", "got 'yes'; expected true or false"),
        ("data.text_columns=text", "got 'text'; expected a list of 1 or 2 texts; did you mean ['text']?"),
        ("data.text_columns=[a, b, c]", "expected a list of 1 or 2 texts"),
        ("data.text_columns=[1]", """got 1; expected text, so put it in quotes: '1', or "'1'" in a shell"""),
        ("model.name_or_path=", "got null; expected text"),
        ("training.learning_rate_multipliers=3", "expected a table, each name with a number of at least 0 or null"),
        ("training.learning_rate_multipliers.head=-1", "multipliers[head]: got -1; expected a number of at least 0"),
        (
            "training.class_weight=heavy",
            "got 'heavy'; expected balanced or a table, each name with a number of at least 0 or null",
        ),
        ("training.class_weight={good: heavy}", "got {good: 'heavy'}; expected balanced or a table"),
        ("training.class_weight={}", "got {}; expected balanced or a table"),
        ("training=3", "got 3; expected a section: keys and values"),
        ("task=regression", "got 'regression'; expected one of text-classification, token-classification"),
    ],
)
def test_a_wrong_value_says_what_is_expected(override: str, words: str) -> None:
    assert words in error_of(override)


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.learning_rte=1", "training.learning_rate"),
        ("learning_rate=1", "training.learning_rate"),
        ("data.learning_rate=1", "training.learning_rate"),
        ("training.lr=1", "training.learning_rate"),
        ("training.Learning-Rate=1", "training.learning_rate"),
        ("modle.name_or_path=a", "model"),
        ("output=a", "output_dir"),
        ("fp16=true", "runtime.mixed_precision: fp16"),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(override: str, meant: str) -> None:
    said = error_of(override)
    assert "no such key" in said
    assert f"did you mean {meant}?" in said


def test_an_alias_is_no_key_and_means_one() -> None:
    for name, meant in recipe.ALIASES.items():
        assert meant.partition(":")[0] in recipe.KEYS
        assert name not in {key.rpartition(".")[2] for key in recipe.KEYS}


def test_an_unknown_key_near_nothing_lists_its_section() -> None:
    assert "expected one of name_or_path, revision" in error_of("model.bananas=1")


# --- All at once, each with its place ---------------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once_with_file_and_line(tmp_path: Path) -> None:
    below = write(tmp_path / "below.yaml", "task: text-classification\ntraining:\n  lr: 3\n")
    above = write(
        tmp_path / "above.yaml",
        f"extends: {below}\n"
        "model:\n"
        "  name_or_path: some/checkpoint\n"
        "data:\n"
        "  train_file: a.csv\n"
        "  validation_split: 1.5\n"
        "  text_columns:\n"
        "  - text\n"
        "  - 3\n"
        "training:\n"
        "  warmup_ratio: 0.1\n"
        "  warmup_steps: 5\n"
        "  warmup_steps: 6\n",
    )
    with pytest.raises(RecipeError) as caught:
        recipe.load(above, ["runtime.xla=maybe", "nonsense"])
    said = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in said] == [
        [f"{below}:3", "training.lr"],
        [f"{above}:6", "data.validation_split"],
        [f"{above}:7", "data.text_columns[1]"],
        [f"{above}:12", "training.warmup_steps"],
        [f"{above}:13", "training.warmup_steps"],
        ["command line", "got 'nonsense'; expected KEY=VALUE, or ~KEY to remove one (training.learning_rate=3e-5)"],
        ["command line", "runtime.xla"],
    ]


def test_what_is_missing_is_said_of_the_whole_recipe(tmp_path: Path) -> None:
    path = write(tmp_path / "short.yaml", "seed: 1\n")
    with pytest.raises(RecipeError) as caught:
        recipe.load(path)
    said = str(caught.value)
    for key in ("task", "model.name_or_path", "data.text_columns"):
        assert f"{path}: {key}: missing; expected" in said


BAD_FILES = {
    "empty": ("", "is empty; expected a recipe with the keys task"),
    "only a comment": ("# nothing\n", "is empty"),
    "a list": ("- a\n", ":1: got a list; expected a recipe"),
    "text": ("just text\n", ":1: got 'just text'; expected a recipe"),
    "broken": ("task: [a\nseed: 1\n", "is not YAML that can be read"),
    "a tab": ("task:\n\tseed: 1\n", ":2: is not YAML that can be read"),
    "an alias": ("task: &a text\nmodel: *a\n", ":1: is not YAML that can be read: anchors and aliases"),
    "a tag": ("task: !!python/name:os.system x\n", ":1: is not YAML that can be read: tags"),
    "two documents": ("task: a\n---\ntask: b\n", "a second document begins here; expected one"),
    "a control character": ("task: a\nseed: \x07\n", ":2: holds the control character U+0007"),
    "nested without end": ("[" * 5000, "is nested too deeply"),
    "a list as a key": ("[a, b]: 1\n", ":1: got a list or mapping as a key; expected a word"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_recipe(name: str, tmp_path: Path) -> None:
    text, words = BAD_FILES[name]
    path = write(tmp_path / "bad.yaml", text)
    with pytest.raises(RecipeError) as caught:
        recipe.load(path)
    assert f"{path}" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "mine.yaml", "seed: 1\n")
    (tmp_path / "latin.yaml").write_bytes(b"# one\n# caf\xe9\nseed: 1\n")
    (tmp_path / "large.yaml").write_bytes(b"# \n" * (recipe.LARGEST_FILE // 3 + 1))
    for name, words in {
        "mien.yaml": "no such file; expected a recipe in YAML, or one of .*imdb.*did you mean mine.yaml",
        "latin.yaml": r"latin\.yaml:2: is not UTF-8: byte 0xe9 at position 11",
        "large.yaml": "is larger than 1,000,000 bytes",
        "": "is a folder",
    }.items():
        with pytest.raises(RecipeError, match=words):
            recipe.load(f"{tmp_path}/{name}")


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(
        RecipeError, match=r"no recipe is called 'mrcp'; expected one of .*quickstart.*did you mean mrpc"
    ):
        recipe.load("mrcp")


# --- Values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-5", 3e-5),
        ("3E-5", 3e-5),
        ("1_000", 1000),
        ("007", 7),
        ("0x10", 16),
        ("0o10", 8),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("-.inf", -np.inf),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        # Text, all of it, whatever YAML 1.1 makes of it.
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("1e", "1e"),
        ("0x", "0x"),
        ("\u0663", "\u0663"),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_plain_text_is_read_as_yaml_1_2_does(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "columns"),
    [
        ("data.text_columns=[#1 String, #2 String]", ("#1 String", "#2 String")),
        ("data.text_columns=['#1 String', '#2, String']", ("#1 String", "#2, String")),
        ('data.text_columns=["a: b"]', ("a: b",)),
        ("data.text_columns=[text,]", ("text",)),
        ("data.text_columns=['1']", ("1",)),
    ],
)
def test_columns_with_signs_that_yaml_uses(override: str, columns: tuple[str, ...]) -> None:
    assert load_base(override).data.text_columns == columns


@pytest.mark.parametrize("override", ["data.label_column=#1", "data.label_column='#1'", "data.label_column= #1 "])
def test_text_behind_an_override_needs_no_quotes(override: str) -> None:
    assert load_base(override).data.label_column == "#1"


@pytest.mark.parametrize("override", ["training.metrics=['a", "training.metrics={a: [}"])
def test_an_override_that_is_not_yaml(override: str) -> None:
    assert "command line: training.metrics: " in error_of(override)


def test_numbers_of_numpy_and_paths_are_taken(tmp_path: Path) -> None:
    made = recipe.from_mapping(
        {
            **BASE,
            "output_dir": tmp_path,
            "seed": np.int64(3),
            "training": {"learning_rate": np.float32(0.5), "load_best_model_at_end": np.bool_(True)},
        }
    )
    assert (made.output_dir, made.seed) == (str(tmp_path), 3)
    assert made.training.learning_rate == 0.5
    assert made.training.load_best_model_at_end is True


def test_labels_of_a_table_may_be_numbers(tmp_path: Path) -> None:
    by_python = recipe.from_mapping({**BASE, "training": {"class_weight": {0: 1, 1: 2.5}}})
    by_override = load_base("training.class_weight={0: 1, 1: 2.5}")
    assert by_python.training.class_weight == by_override.training.class_weight == {"0": 1, "1": 2.5}
    assert recipe.load(write(tmp_path / "again.yaml", by_python.to_yaml())).training == by_python.training


@pytest.mark.parametrize("value", ["no", False])
def test_no_is_a_word_even_where_python_says_false(value: Any) -> None:
    made = recipe.from_mapping({**BASE, "runtime": {"mixed_precision": value}, "training": {"eval_strategy": value}})
    assert (made.runtime.mixed_precision, made.training.eval_strategy) == ("no", "no")


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_base().training.learning_rate = 1.0  # type: ignore[misc]


# --- Layers and overrides ---------------------------------------------------------------------------------------------


def test_overrides_are_values_of_the_file() -> None:
    by_override = load_base("training.learning_rate=3e-5", "data.max_train_samples=1000", "runtime.mixed_precision=no")
    by_value = recipe.from_mapping(
        {
            **BASE,
            "data": {**BASE["data"], "max_train_samples": 1000},
            "training": {"learning_rate": 3e-5},
            "runtime": {"mixed_precision": "no"},
        }
    )
    assert by_override == by_value


def test_a_removed_key_has_its_default() -> None:
    assert load_base("data.max_length=64", "~data.max_length") == load_base()
    made = recipe.load("mrpc", ["~data.batching", "~training.adam_epsilon"])
    assert made.data.batching == recipe.DataSection.model_fields["batching"].default
    assert made.training.adam_epsilon == recipe.TrainingSection.model_fields["adam_epsilon"].default


def test_a_removed_section_has_its_defaults() -> None:
    assert recipe.load("mrpc", ["~training"]).training == recipe.TrainingSection()


def test_a_key_that_is_not_there_cannot_be_removed() -> None:
    assert "~data.max_length: no such key in this recipe" in error_of("~data.max_length")
    assert "did you mean data.train_file?" in error_of("~data.train_fil")


def test_the_last_of_two_overrides_counts() -> None:
    assert load_base("seed=1", "seed=2").seed == 2


def test_extends_merges_key_by_key(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", "extends: mrpc\nseed: 7\ntraining:\n  learning_rate: 1e-5\ndata:\n")
    mine, base = recipe.load(path), recipe.load("mrpc")
    assert (mine.seed, mine.training.learning_rate) == (7, 1e-5)
    assert mine.output_dir.endswith("mine")
    assert mine.data == base.data
    assert mine.training == base.training.model_copy(update={"learning_rate": 1e-5})


def test_extends_is_relative_to_the_file_that_says_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "base.yaml", "extends: mrpc\nseed: 7\n")
    write(tmp_path / "sub/mid.yaml", "extends: ../base.yaml\ntraining: {learning_rate: 1e-5}\n")
    top = write(tmp_path / "top.yaml", "extends: sub/mid.yaml\n")
    made = recipe.load(top)
    assert (made.seed, made.training.learning_rate) == (7, 1e-5)


@pytest.mark.parametrize(
    ("own", "overrides", "source"),
    [
        ("data: {train_file: a.csv, validation_split: 0.1}", ["data.shards=a", "data.batching=bucketed"], (None, None)),
        ("data: {shards: a}", ["data.train_file=b.csv", "data.validation_split=0.1"], (None, "b.csv")),
        ("data: {train_file: a.csv, validation_split: 0.1}", [], (None, "a.csv")),
        ("", ["data.train_file=a.csv", "data.validation_split=0.1"], (None, "a.csv")),
        ("data: {train_file: a.csv, validation_split: 0.1}", ["data.dataset_name=user/set"], ("user/set", None)),
    ],
)
def test_a_later_source_takes_the_place_of_an_earlier_one(
    own: str, overrides: list[str], source: tuple[str | None, str | None], tmp_path: Path
) -> None:
    data = recipe.load(write(tmp_path / "mine.yaml", f"extends: mrpc\n{own}\n"), overrides).data
    assert (data.dataset_name, data.train_file) == source
    assert data.dataset_config_name is None


@pytest.mark.parametrize("text", ["extends: b.yaml\n", "extends: a.yaml\n", "extends: ./b.yaml\n"])
def test_a_circle_is_named(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", text)
    write(tmp_path / "b.yaml", "extends: a.yaml\n")
    with pytest.raises(RecipeError, match=r"yaml:1: extends: .*goes in a circle: .*a\.yaml -> .*a\.yaml;"):
        recipe.load(path)


@pytest.mark.parametrize(("value", "words"), [("3", "got 3; expected the name"), ("mrcp", "did you mean mrpc?")])
def test_extends_of_nothing_is_one_problem(value: str, words: str, tmp_path: Path) -> None:
    """What is missing in a recipe whose base is unknown may well be in its base: nothing is said of that."""
    with pytest.raises(RecipeError) as caught:
        recipe.load(write(tmp_path / "a.yaml", f"extends: {value}\n"))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_rows_given_need_no_source() -> None:
    made = load_base("~data.train_file", "~data.validation_file", rows_given=True)
    assert made.data.train_file is None


# --- Shipped recipes --------------------------------------------------------------------------------------------------


def test_the_recipes_that_are_promised_are_shipped() -> None:
    assert set(recipe.names()) >= {
        *("mrpc", "sst2", "cola", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"),
        *("imdb", "imdb-10k", "yelp", "emotion", "wnut17", "quickstart"),
        *("bert", "distilbert", "roberta", "xlm-roberta", "electra", "albert", "mpnet", "deberta-v3"),
        *("feature-extraction", "unfreeze", "unfreeze-ulmfit", "lora"),
        *("imdb-tapt", "legal"),
    }


@pytest.mark.parametrize("name", recipe.names())
def test_a_shipped_recipe_comes_back_from_its_own_yaml(name: str, tmp_path: Path) -> None:
    first = recipe.load(name)
    path = write(tmp_path / "again.yaml", first.to_yaml())
    assert recipe.load(path) == first
    # Other readers of YAML, which know YAML 1.1, read the same.
    assert recipe.from_mapping(yaml.safe_load(first.to_yaml())) == first


@pytest.mark.parametrize("name", recipe.names())
def test_a_header_names_its_own_command_and_what_to_expect(name: str) -> None:
    said = recipe.header(name)
    made = recipe.load(name)
    command = "distill" if made.distillation else "pretrain" if made.task == "fill-mask" else "fit"
    command = "sweep" if made.sweep else command
    assert re.search(rf"python -m tfft\.{command} --recipe {name}\b(?!-)", said)
    assert "Expect:" in said


HARD = ("no", "1e-5", "0x10", "null", "~", "12:30", "=", "#1 x", "a: b", "007", "1_0", "", "\u00e9\u4e2d", "a\nb", "'")


@pytest.mark.parametrize("text", [one for one in HARD if one])
def test_any_text_comes_back_from_yaml(text: str, tmp_path: Path) -> None:
    made = recipe.from_mapping({**BASE, "data": {**BASE["data"], "label_column": text}})
    assert recipe.load(write(tmp_path / "again.yaml", made.to_yaml())).data.label_column == text


# --- The schema, and what other rooms say -----------------------------------------------------------------------------


def test_the_schema_has_every_key_with_a_description() -> None:
    schema = recipe.json_schema()
    assert json.loads(json.dumps(schema)) == schema
    found = set(schema["properties"]) - {"extends", *recipe.SECTIONS}
    for section in recipe.SECTIONS:
        reference = schema["properties"][section]["$ref"].rpartition("/")[2]
        definition = schema["$defs"][reference]
        assert definition["additionalProperties"] is False
        for name, entry in definition["properties"].items():
            assert entry["description"].endswith((".", "null")), name
            found.add(f"{section}.{name}")
    assert found == set(recipe.KEYS)


def test_scores_and_directions_are_those_of_the_metrics() -> None:
    from tfft import metrics

    for name, scores in tasks.METRIC_SCORES.items():
        assert metrics.keys(name) == scores
        assert all(tasks.direction(score) for score in scores)
    assert set(tasks.METRIC_SCORES) == set(metrics.NAMES)


def test_recipes_load_neither_tensorflow_nor_transformers() -> None:
    code = (
        "import sys, tfft.recipe, tfft.recipes; print([m for m in ('tensorflow', 'transformers') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
