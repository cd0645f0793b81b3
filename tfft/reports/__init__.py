"""The report of a run: one HTML page to be read offline.

- `answers`: what the model said of each row, the worst of it, and labels that are likely wrong
- `overlaps`: rows that occur twice
- `charts`: where lines lie; `report.html.jinja` and `report.css` say how all of it looks
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft import evaluation, metrics, pages, tasks
from tfft.data import ShardedSplit, Split
from tfft.evaluation import Evaluation
from tfft.problems import Problem, Regression, Tokens
from tfft.recipe import Recipe
from tfft.reports import answers, charts, overlaps
from tfft.reports.answers import Answer, Answers

# Of errors, of doubtful labels, of classes and of slices that are shown; the evaluation has all.
WORST, DOUBTFUL, MOST_CLASSES, MOST_SLICES = 50, 50, 100, 60
_MISTAKES = 20
_TOLD = ("before", "eval", "test", "train", "timing", "environment")


@dataclass(frozen=True)
class Scored:
    """Validation rows with what the model says of them: logits (rows, outputs), of tags (tokens, outputs)."""

    problem: Problem
    split: Split
    logits: np.ndarray


@dataclass(frozen=True)
class Material:
    """What a report is made of.

    Attributes:
        folder: the run's, as commands are given it.
        metrics: as in `metrics.json`.
        history: a row an epoch.
        scored: None where nothing was validated.
        splits: those whose rows are at hand.
        notes: what is to be said of the data, in plain sentences.
    """

    folder: str
    recipe: Recipe
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    scored: Scored | None
    splits: Sequence[Split | ShardedSplit]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Doubtful:
    """Answers whose label is likely wrong: how many of how many, and the likeliest."""

    count: int
    of: int
    shown: tuple[Answer, ...]


@dataclass(frozen=True)
class SplitFacts:
    """What is known of a split: its rows, its classes, the lengths of its texts in tokens."""

    name: str
    rows: int
    classes: Mapping[str, int]
    median: float
    longest: int
    cut: int


def page(material: Material) -> str:
    """The report as one HTML document, which needs no network and no other file; all text of the data is escaped."""
    recipe, scored = material.recipe, material.scored
    found = None if scored is None else _evaluated(recipe, scored)
    said = None if scored is None else answers.of_split(scored.problem, scored.logits, scored.split)
    rendered = pages.template(__package__, "report").render(
        folder=material.folder,
        recipe=recipe,
        told={name: material.metrics.get(name, {}) for name in _TOLD},
        command=_command(material),
        has_labels=recipe.task != tasks.FILL_MASK,
        found=found,
        unscored=_unscored(material, found),
        unit="words" if scored is not None and isinstance(scored.problem, Tokens) else "rows",
        is_number=scored is not None and isinstance(scored.problem, Regression),
        curves=charts.learning_curves(material.history),
        matrix=found and found.confusion and charts.matrix(found.confusion),
        mistakes=charts.frequent_mistakes(found.confusion, _MISTAKES) if found and found.confusion else [],
        reliability=found and found.calibration and charts.reliability(found.calibration),
        thresholds=found and found.thresholds and charts.thresholds(found.thresholds),
        worst=[] if said is None else said.worst(WORST),
        doubtful=None if said is None or said.shares is None else _doubtful(said),
        splits=[_facts(one, scored) for one in material.splits],
        lengths=charts.lengths({one.name: one.encoded.length_counts for one in material.splits})
        if material.splits
        else None,
        overlaps=overlaps.find([one for one in material.splits if isinstance(one, Split)]),
        notes=list(material.notes),
        most_classes=MOST_CLASSES,
        most_slices=MOST_SLICES,
        recipe_text=recipe.to_yaml(),
    )
    # Half a surrogate pair, as a column may have, is no UTF-8.
    return rendered.encode("utf-8", "replace").decode("utf-8")


def _evaluated(recipe: Recipe, scored: Scored) -> Evaluation:
    """Scores with intervals; metrics of the hub are left out, since resamples of them take long."""
    return evaluation.make(
        scored.problem,
        scored.logits,
        scored.split,
        [name for name in recipe.metric_names if name in metrics.NAMES],
    )


def _unscored(material: Material, found: Evaluation | None) -> dict[str, float]:
    """The run's validation scores that have no interval."""
    known = {} if found is None else found.scores
    return {name: value for name, value in material.metrics.get("eval", {}).items() if name not in known}


def _doubtful(said: Answers) -> Doubtful:
    likely = said.likely_label_errors()
    return Doubtful(len(likely), len(said), tuple(said.answer(at) for at in likely[:DOUBTFUL]))


def _facts(split: Split | ShardedSplit, scored: Scored | None) -> SplitFacts:
    lengths, rows = split.encoded.length_counts
    middle = int(np.searchsorted(np.cumsum(rows), rows.sum() / 2))
    classes: dict[str, int] = {}
    names = () if scored is None or isinstance(scored.problem, Regression) else scored.problem.names
    if names and split.has_labels:
        counts = split.label_counts(len(names)).of_class
        classes = {name: int(count) for name, count in zip(names, counts, strict=True)}
    return SplitFacts(
        split.name, len(split), classes, float(lengths[middle]), int(lengths.max()), split.encoded.truncated_rows
    )


def _command(material: Material) -> str | None:
    """By which the run is repeated; None where its rows came from Python."""
    data = material.recipe.data
    if data.train_file is None and data.dataset_name is None and data.shards is None:
        return None
    parts = ["python", "-m", "tfft.fit", "--recipe", f"{material.folder}/recipe.yaml"]
    return shlex.join([*parts, f"output_dir={material.folder}-again"])
