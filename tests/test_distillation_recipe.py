"""The section `distillation` of a recipe: what it may say, and what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.test_search_recipe import error_of, loaded
from tfft import recipe, reporting
from tfft.recipe import distillation_checks

TEACHER = "distillation.teacher=runs/teacher"
HIDDEN = "distillation.hidden_weight=1"
UNLABELLED = "distillation.labels_weight=0"
TEXT, NO_LOGITS = ("task=fill-mask", "~training.metrics"), "distillation.logits_weight=0"


def test_it_comes_back_from_yaml_and_a_recipe_without_one_does_not_speak_of_it() -> None:
    made = loaded(TEACHER, HIDDEN, "distillation.student={hidden_size: 128, num_attention_heads: 4}")
    assert recipe.from_mapping(yaml.safe_load(made.to_yaml())) == made
    assert "distillation" not in loaded().to_yaml()
    assert recipe.load("quickstart", [TEACHER, HIDDEN, "~distillation"]) == loaded()
    assert reporting.settings(made)["distillation.hidden_weight"] == 1.0
    assert "distillation" not in reporting.settings(loaded())


def test_labels_are_needed_unless_they_count_nothing() -> None:
    assert loaded().needs_train_labels
    assert loaded(TEACHER).needs_train_labels
    assert not loaded(TEACHER, UNLABELLED).needs_train_labels


# What is wrong, the same made right, the key that the message names, and words of it.
WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
    "words": (
        (TEACHER, "task=token-classification", "~training.metrics"),
        (TEACHER,),
        "task",
        "expected text-classification or fill-mask, since distillation is of the logits of whole texts",
    ),
    "logits of a vocabulary": (
        (TEACHER, HIDDEN, *TEXT),
        (TEACHER, HIDDEN, *TEXT, NO_LOGITS),
        "distillation.logits_weight",
        "got 0.5; expected 0, since task is fill-mask: logits of every token of a vocabulary are too many to keep",
    ),
    "a temperature of no logits": (
        (TEACHER, HIDDEN, *TEXT, NO_LOGITS, "distillation.temperature=3"),
        (TEACHER, HIDDEN, *TEXT, NO_LOGITS),
        "distillation.temperature",
        "got 3.0; expected 2.0, since task is fill-mask: there are no logits to soften",
    ),
    "text without labels, and nothing for the head": (
        (TEACHER, HIDDEN, *TEXT, NO_LOGITS, UNLABELLED),
        (TEACHER, HIDDEN, *TEXT, NO_LOGITS),
        "distillation.labels_weight",
        "got 0.0; expected above 0, since task is fill-mask: nothing else trains the head",
    ),
    "text without labels, and nothing to learn": (
        (TEACHER, *TEXT, NO_LOGITS),
        (TEACHER, *TEXT, NO_LOGITS, "distillation.sentence_weight=1"),
        "distillation.hidden_weight",
        "got 0.0; expected above 0 (or one of distillation.sentence_weight, distillation.attention_weight, "
        "distillation.relations_weight), since task is fill-mask",
    ),
    "shards": (
        (TEACHER, "data.shards=somewhere"),
        ("data.shards=somewhere",),
        "data.shards",
        "got 'somewhere'; expected null, since there is a section distillation",
    ),
    "nothing for the head": (
        (TEACHER, UNLABELLED, "distillation.logits_weight=0", HIDDEN),
        (TEACHER, UNLABELLED, HIDDEN),
        "distillation.logits_weight",
        "got 0.0; expected above 0, since distillation.labels_weight is 0 too, and nothing would train the head",
    ),
    "heads of no relations": (
        (TEACHER, "distillation.relation_heads=4"),
        (TEACHER, "distillation.relation_heads=4", "distillation.relations_weight=1"),
        "distillation.relation_heads",
        "got 4; expected null, since distillation.relations_weight is 0",
    ),
    "smoothing of labels that count nothing": (
        (TEACHER, UNLABELLED, "training.label_smoothing_factor=0.1"),
        (TEACHER, "training.label_smoothing_factor=0.1"),
        "training.label_smoothing_factor",
        "got 0.1; expected 0.0, since distillation.labels_weight is 0",
    ),
    "a look inside with adapters": (
        (TEACHER, HIDDEN, "training.strategy=lora"),
        (TEACHER, "training.strategy=lora"),
        "training.strategy",
        "got 'lora'; expected 'full', since distillation.hidden_weight is 1.0: all layers learn from the teacher's",
    ),
    "a look inside of windows": (
        (TEACHER, "distillation.relations_weight=1", "data.long_text=sliding_window"),
        (TEACHER, "data.long_text=sliding_window"),
        "data.long_text",
        "expected truncate or head_tail, since distillation.relations_weight is 1.0",
    ),
    "a new student with layers of an old one": (
        (TEACHER, "distillation.student={hidden_size: 128}", "model.keep_layers=2"),
        (TEACHER, "distillation.student={hidden_size: 128}"),
        "model.keep_layers",
        "got 2; expected null, since distillation.student is given, whose weights are all new",
    ),
    "on a TPU": (
        (TEACHER, "runtime.strategy=tpu"),
        ("runtime.strategy=tpu",),
        "distillation.teacher",
        "expected no section distillation, since runtime.strategy is tpu",
    ),
    "no teacher": (
        (HIDDEN,),
        (TEACHER, HIDDEN),
        "distillation.teacher",
        "missing; expected text: A finished run's folder",
    ),
    "a size that nobody has": (
        (TEACHER, "distillation.student={hidden_sise: 128}"),
        (TEACHER, "distillation.student={hidden_size: 128}"),
        "distillation.student[hidden_sise]",
        "did you mean hidden_size?",
    ),
    "no temperature at all": (
        (TEACHER, "distillation.temperature=0"),
        (TEACHER, "distillation.temperature=1"),
        "distillation.temperature",
        "got 0; expected a number above 0",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_contradiction_is_named_and_its_neighbour_passes(name: str) -> None:
    trips, passes, key, words = WRONG[name]
    said = error_of(*trips)
    assert f": {key}: " in said
    assert words in said
    assert len(said.splitlines()) == 1
    loaded(*passes)


def test_every_check_has_a_row() -> None:
    source = Path(distillation_checks.__file__).read_text(encoding="utf-8")
    assert len(distillation_checks.CHECKS) == len(re.findall(r"^def _check_", source, re.MULTILINE))


def test_names_of_other_programs() -> None:
    assert recipe.suggestion("teacher_name_or_path") == "distillation.teacher"
    assert recipe.suggestion("temperature") == "distillation.temperature"
