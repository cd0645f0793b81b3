"""The front matter of a card, as https://github.com/huggingface/hub-docs/blob/main/modelcard.md defines it."""

from __future__ import annotations

from typing import Any

import yaml

from tfft import tasks
from tfft.cards.subject import SPLITS, Subject
from tfft.console import printable

# Scores, to the metrics of https://hf.co/metrics that yield them. Of others the hub knows nothing.
_METRICS = {
    "f1_macro": "f1",
    "f1_micro": "f1",
    "pearson": "pearsonr",
    **{
        name: name
        for name in (
            *("accuracy", "f1", "precision", "recall", "matthews_correlation"),
            *("pearsonr", "spearmanr", "mse"),
        )
    },
}
_NAMES = {tasks.TOKENS: "Token Classification"}


def front_matter(subject: Subject) -> str:
    """The YAML between the two lines of dashes, without them."""
    scores = {name for split in SPLITS for name in subject.scores(split)}
    values: dict[str, Any] = {
        "license": subject.licence,
        **_of_other_licence(subject),
        "library_name": "tfft" if subject.has_own_head else "transformers",
        "pipeline_tag": subject.recipe.task,
        "base_model": subject.base_id,
        "datasets": [subject.dataset_id] if subject.dataset_id else None,
        "metrics": sorted({_METRICS[name] for name in scores if name in _METRICS}) or None,
        "tags": ["tfft", "tensorflow", subject.recipe.task],
    }
    if results := [one for split in SPLITS for one in _results(subject, split)]:
        values["model-index"] = [{"name": subject.name, "results": results}]
    plain = {key: value for key, value in values.items() if value is not None}
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=float("inf"))
    return text


def _of_other_licence(subject: Subject) -> dict[str, str]:
    if subject.licence_file is None:
        return {}
    return {"license_name": f"{subject.name}-license".lower(), "license_link": subject.licence_file}


def _results(subject: Subject, split: str) -> list[dict[str, Any]]:
    """One result, where the split was scored by a metric that the hub knows."""
    metrics = [
        {"type": _METRICS[name], "value": one["value"], "name": printable(name)}
        for name, one in subject.scores(split).items()
        if name in _METRICS and one["value"] is not None
    ]
    if not metrics:
        return []
    data, task = subject.recipe.data, subject.recipe.task
    dataset = {
        # Required, and the hub knows no other word for data that it does not have.
        "type": subject.dataset_id or "custom",
        "name": printable(subject.source(split) or "rows given in Python", 200),
        "config": data.dataset_config_name if subject.dataset_id else None,
        "split": (getattr(data, f"{split}_split_name") if subject.dataset_id else None) or split,
    }
    return [
        {
            "task": {"type": task, "name": _NAMES.get(subject.problem_type, "Text Classification")},
            "dataset": {key: value for key, value in dataset.items() if value is not None},
            "metrics": metrics,
        }
    ]
