"""What a run's figures warn of, in sentences."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from tfft import tasks
from tfft.cards.markdown import Markdown, escaped, listed
from tfft.cards.subject import Subject

# An interval that is wider says little.
WIDE = 0.05
# A class with fewer rows has figures that a few rows decide; a class with a lower F1 is more often wrong than right.
FEW_ROWS, LOW_F1 = 30, 0.5
# Probabilities that are off by more on average are not to be taken at their word.
LARGE_ECE = 0.05
_BETWEEN_0_AND_1 = frozenset({"accuracy", "f1", "f1_macro", "f1_micro", "precision", "recall"})


def limits(subject: Subject) -> list[Markdown]:
    """What whoever uses the model should know of it, a sentence or two each."""
    evaluation = subject.evaluations.get("validation")
    found: list[Iterator[str]] = [_not_scored(subject), _chosen_on_the_same_rows(subject), _long_texts(subject)]
    if evaluation is not None:
        found += [
            _wide_interval(subject, evaluation),
            _no_better_than_one_answer(subject, evaluation),
            _weak_classes(subject, evaluation),
            _calibration(evaluation),
            _cut_off(evaluation),
        ]
    return [Markdown(one) for one in itertools.chain(*found)]


def _not_scored(subject: Subject) -> Iterator[str]:
    if not subject.scores("validation"):
        yield "It was not validated: how well it does is not known."
    elif "validation" not in subject.evaluations:
        yield (
            "The validation rows were not at hand when this was written, so the scores are those of the training, "
            "without intervals, and nothing is known of single classes."
        )


def _chosen_on_the_same_rows(subject: Subject) -> Iterator[str]:
    if not subject.scores("validation"):
        return
    training = subject.recipe.training
    chosen = [
        *(["the epoch that was kept"] if training.load_best_model_at_end else []),
        *(["the end of training"] if training.early_stopping_patience else []),
        *(["the threshold"] if subject.problem_type == tasks.MULTI_LABEL else []),
    ]
    if chosen:
        what = " and ".join([", ".join(chosen[:-1]), chosen[-1]] if len(chosen) > 1 else chosen)
        verb = "were" if len(chosen) > 1 else "was"
        yield f"{what.capitalize()} {verb} chosen on the validation rows, so their scores are somewhat too good."


def _wide_interval(subject: Subject, evaluation: Mapping[str, Any]) -> Iterator[str]:
    name = subject.main_score
    score = evaluation["scores"].get(name)
    if name is None or not score or score["low"] is None:
        return
    if name in _BETWEEN_0_AND_1 and score["high"] - score["low"] > WIDE:
        yield (
            f"There are only {evaluation['rows']:,} validation {evaluation['unit']}: with others like them its "
            f"{escaped(name)} could as well be anything from {score['low']:.3f} to {score['high']:.3f}."
        )


def _no_better_than_one_answer(subject: Subject, evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Of one class a row, the class that most rows have; of numbers, their mean."""
    accuracy, rows = evaluation["scores"].get("accuracy"), evaluation["rows"]
    if subject.problem_type == tasks.SINGLE_LABEL and accuracy and accuracy["value"] is not None and rows:
        most = max(evaluation["classes"], key=lambda one: int(one["wanted"]))
        share = most["wanted"] / rows
        # Without an interval, as of rows that are all right, the score itself has to be above.
        if (accuracy["value"] if accuracy["low"] is None else accuracy["low"]) <= share:
            yield (
                f"It is not shown to be better than always answering {escaped(most['name'])}, which is right for "
                f"{share:.1%} of the validation rows; its accuracy is {accuracy['value']:.1%}."
            )
    residuals = evaluation.get("residuals")
    if residuals and (residuals["r_squared"] is None or residuals["r_squared"] <= 0):
        yield "It is no better than always answering the mean of the validation rows' numbers."


def _weak_classes(subject: Subject, evaluation: Mapping[str, Any]) -> Iterator[str]:
    classes = evaluation["classes"]
    what = {tasks.TOKENS: "type of entities", tasks.MULTI_LABEL: "label"}.get(subject.problem_type, "class")
    missing = [one["name"] for one in classes if one["wanted"] == 0]
    rare = [f"{one['name']} ({one['wanted']:,})" for one in classes if 0 < one["wanted"] < FEW_ROWS]
    low = [
        f"{one['name']} ({one['f1']['value']:.2f})"
        for one in classes
        if one["wanted"] and one["f1"]["value"] is not None and one["f1"]["value"] < LOW_F1
    ]
    never = [one["name"] for one in classes if one["wanted"] and not one["predicted"]]
    for names, said in (
        (missing, f"No validation row has this {what}, so nothing is known of it"),
        (rare, f"Fewer than {FEW_ROWS} validation rows have this {what}, so its figures say little"),
        (low, f"The F1 of this {what} is below {LOW_F1}"),
        (never, f"This {what} is never predicted on the validation rows"),
    ):
        if names:
            yield f"{said}: {listed(names)}."


def _calibration(evaluation: Mapping[str, Any]) -> Iterator[str]:
    found = evaluation.get("calibration")
    if found and found["ece"] > LARGE_ECE:
        yield (
            f"Its probabilities are off by {found['ece']:.2f} on average (expected calibration error): one of 0.9 does "
            "not mean that nine of ten such answers are right."
        )


def _cut_off(evaluation: Mapping[str, Any]) -> Iterator[str]:
    for one in evaluation["slices"]:
        if (one["by"], one["name"]) == ("length", "cut off"):
            yield f"{one['rows'] / evaluation['rows']:.1%} of the validation texts are longer than what it reads."


def _long_texts(subject: Subject) -> Iterator[str]:
    data = subject.recipe.data
    if data.long_text == "sliding_window":
        yield (
            "A text that is too long is answered by the "
            f"{'mean' if data.window_pooling == 'mean' else 'maximum'} of its windows' logits. What reads its "
            "beginning alone, as Transformers does by itself, gives other answers."
        )
    elif data.long_text == "head_tail":
        yield (
            "Of a text that is too long it was trained on beginning and end. What reads its beginning alone, as "
            "Transformers does by itself, gives other answers."
        )
