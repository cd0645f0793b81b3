"""What a card is about: a finished run as its files tell of it, without the folders of the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tfft import hub, tasks
from tfft.errors import RecipeError
from tfft.locations import resolve
from tfft.recipe import Recipe
from tfft.recipe.yaml_text import Dumper

# Splits, as metrics.json calls them.
SPLITS = {"validation": "eval", "test": "test"}
# Of the machine and its user, or of no use to whoever trains anew. Texts for pictures of attention may be anybody's.
_LEFT_OUT: Any = {
    "output_dir": True,
    "sweep": True,
    "training": {"report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy", "attention_texts"},
    "runtime": {"tpu_name", "workers", "workers_timeout_seconds"},
}
# What a card tells of an evaluation.
_OF_EVALUATION = ("rows", "unit", "scores", "classes", "calibration", "residuals", "slices")
_PATHS = ("train_file", "validation_file", "test_file", "shards")


@dataclass(frozen=True)
class Subject:
    """A model, and where it will be.

    Attributes:
        repository: OWNER/NAME on the hub.
        licence: as the hub calls it.
        licence_file: where the licence is one that the hub does not know, the file with its text.
        recipe: that the run was trained by.
        metrics: of `metrics.json`.
        config: of the model's `config.json`.
        evaluations: of a split, what `tfft.evaluate` says of it, as `evaluation.json` has it.
    """

    repository: str
    licence: str
    licence_file: str | None
    recipe: Recipe
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The last part of the repository's name."""
        return self.repository.rpartition("/")[2]

    @property
    def problem_type(self) -> str:
        """One of `tasks`."""
        return tasks.problem_type(self.recipe.task, self.recipe.problem_type)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's classes, in the order of its outputs."""
        found = self.config.get("id2label") or {}
        return tuple(str(found[key]) for key in sorted(found, key=int))

    @property
    def train_classes(self) -> Mapping[str, int]:
        """Training rows with each class, by its name; of words that have tags, tokens. Empty where the run is older."""
        found = self.metrics.get("train_classes")
        return found if isinstance(found, dict) else {}

    @property
    def has_own_head(self) -> bool:
        """Whether the head is one that Transformers does not know."""
        return self.recipe.model.head != "default"

    @property
    def base(self) -> str:
        """The checkpoint that training began with: its id on the hub, or the last part of its path."""
        return shown_path(self.recipe.model.name_or_path)

    @property
    def base_id(self) -> str | None:
        """The same where it is on the hub."""
        return hub_id(self.recipe.model.name_or_path)

    @property
    def dataset_id(self) -> str | None:
        """The data set's id on the hub, where it is there."""
        return hub_id(self.recipe.data.dataset_name)

    @property
    def main_score(self) -> str | None:
        """The score that the best epoch is chosen by, or else the first of the metrics; None where there is none."""
        of_run = self.metrics.get("eval", {})
        wanted = tasks.score_name(self.recipe.training.metric_for_best_model or "loss")
        names = [name for name in of_run if name not in ("loss", "threshold")]
        return wanted if wanted in names else next(iter(names), None)

    def scores(self, split: str) -> dict[str, dict[str, float | None]]:
        """By name: `value`, `low` and `high`, the last two None where the interval is not known."""
        unknown = {"low": None, "high": None}
        evaluation = self.evaluations.get(split)
        if evaluation is not None:
            return {name: {key: one[key] for key in ("value", *unknown)} for name, one in evaluation["scores"].items()}
        of_run = self.metrics.get(SPLITS[split], {})
        return {name: {"value": value, **unknown} for name, value in of_run.items() if name != "threshold"}

    def source(self, split: str) -> str | None:
        """Where the rows of a split (`train`, `validation`, `test`) come from, without folders; None: from Python."""
        data = self.recipe.data
        if data.dataset_name is not None:
            config = f" ({data.dataset_config_name})" if data.dataset_config_name else ""
            name = getattr(data, f"{split}_split_name") or split
            return f"{shown_path(data.dataset_name)}{config}, split {name}"
        if data.shards is not None:
            return f"shards {last_part(data.shards)}"
        path = getattr(data, f"{split}_file")
        if path is None and split == "validation" and data.validation_split is not None and data.train_file:
            return f"{data.validation_split:.0%} of {last_part(data.train_file)}"
        return None if path is None else last_part(path)

    def recipe_as_yaml(self) -> str:
        """The recipe's settings, without what is of the machine: of paths the last parts remain."""
        plain = self.recipe.model_dump(mode="json", exclude=_LEFT_OUT, exclude_none=True)
        plain["model"]["name_or_path"] = self.base
        if "distillation" in plain:
            plain["distillation"]["teacher"] = shown_path(plain["distillation"]["teacher"])
        data = plain["data"]
        data |= {key: last_part(data[key]) for key in _PATHS if key in data}
        if "dataset_name" in data:
            data["dataset_name"] = shown_path(data["dataset_name"])
        if metrics := plain["training"].get("metrics"):
            plain["training"]["metrics"] = [one if one in tasks.METRIC_SCORES else shown_path(one) for one in metrics]
        text: str = yaml.dump(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
        return text


def hub_id(name: str | None) -> str | None:
    """`name` where it is an id of the hub: it has the form of one, and nothing here is called so."""
    if name is None or not hub.is_hub_id(name):
        return None
    try:
        return None if resolve(name).exists() else name
    except (OSError, RecipeError):
        return None


def shown_path(name: str) -> str:
    """An id of the hub as it is; of a path the last part."""
    return hub_id(name) or last_part(name)


def last_part(path: str) -> str:
    """Of a path or an address of any system.

    Example:
        >>> [last_part(one) for one in ("/home/me/a.csv", "C:\\\\me\\\\a.csv", "gs://bucket/s/", "package:x/a.csv")]
        ['a.csv', 'a.csv', 's', 'a.csv']
    """
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "."


def agrees(evaluation: Mapping[str, Any], of_run: Mapping[str, float], tolerance: float = 1e-3) -> bool:
    """Whether an evaluation is whole, and of the rows that a run was scored on: a score that both have is the same.

    Args:
        tolerance: other machines round otherwise; of 1, or of the score where that is larger.
    """
    try:
        values = {name: one["value"] for name, one in evaluation["scores"].items()}
        both = {*values} & {*of_run}
        return (
            {*_OF_EVALUATION} <= {*evaluation}
            and "loss" in both
            and all(
                values[name] is not None and abs(values[name] - of_run[name]) <= tolerance * max(1, abs(of_run[name]))
                for name in both
            )
        )
    except (AttributeError, KeyError, TypeError):
        return False
