"""`evaluate` module: precision, recall and F1 of the entities that the tags of words mark, and accuracy of the tags.

The numbers of the seqeval package in its default mode, which are those of the CoNLL shared tasks' conlleval script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import datasets
import evaluate

from tfft.data.tags import spans

_DESCRIPTION = """\
Scores of entities, as conlleval and seqeval count them. An entity is right where its type, its first and its last word
are: precision is the right ones over those predicted, recall the right ones over those in the references, f1 their
harmonic mean, over the entities of all types together. Accuracy is the share of words whose tag is right, `O` included.
Tags are IOB1, IOB2 or IOBES: `O`, `B-person`, `I-person`, `E-person`, `S-person`.
"""
_INPUTS = """
Args:
    predictions (`list` of `list` of `str`): predicted tags, one list a sentence, one tag a word.
    references (`list` of `list` of `str`): right tags, as many in each sentence.
Returns:
    precision, recall, f1, accuracy (`float`): from 0.0 to 1.0; higher is better. One whose denominator is zero is 0.0:
    precision where no entity is predicted, recall where there is none, f1 where both are 0.0.
"""
_CITATION = """\
@inproceedings{tjongkimsang2000introduction,
  title={Introduction to the {CoNLL}-2000 Shared Task: Chunking},
  author={Tjong Kim Sang, Erik F. and Buchholz, Sabine},
  booktitle={Fourth Conference on Computational Natural Language Learning and the Second Learning Language in Logic
    Workshop},
  year={2000}
}
"""


class TypeScores(NamedTuple):
    """Scores of the entities of one type; `support` is how many of them the references have."""

    precision: float
    recall: float
    f1: float
    support: int


class EntityScores(NamedTuple):
    """Scores over the entities of all types together, the accuracy of tags, and the scores of each type, by name."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    by_type: dict[str, TypeScores]


def entity_scores(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> EntityScores:
    """The scores of predicted tags, over all entities and for each type that occurs on either side.

    Args:
        predictions: one sequence of tags a sentence.
        references: as many tags in each sentence.

    Raises:
        ValueError: the two differ in their number of sentences, or of words in one of them.

    Source: conlleval of the CoNLL-2000 shared task (Tjong Kim Sang and Buchholz, 2000); see `tfft.data.tags.spans`.

    Example:
        >>> scores = entity_scores([["B-PER", "I-PER", "O", "O"]], [["B-PER", "I-PER", "O", "B-LOC"]])
        >>> scores.precision, scores.recall, scores.accuracy, scores.by_type["LOC"].support
        (1.0, 0.5, 0.75, 1)
    """
    _check_lengths(predictions, references)
    predicted, expected, right = Counter[str](), Counter[str](), Counter[str]()
    words = right_words = 0
    for guess, truth in zip(predictions, references, strict=True):
        found, wanted = set(spans(guess)), set(spans(truth))
        predicted.update(type_ for type_, _, _ in found)
        expected.update(type_ for type_, _, _ in wanted)
        right.update(type_ for type_, _, _ in found & wanted)
        words += len(truth)
        right_words += sum(one == other for one, other in zip(guess, truth, strict=True))
    by_type = {
        name: TypeScores(*_precision_recall_f1(right[name], predicted[name], expected[name]), expected[name])
        for name in sorted(predicted | expected)
    }
    overall = _precision_recall_f1(right.total(), predicted.total(), expected.total())
    return EntityScores(*overall, _ratio(right_words, words), by_type)


def _check_lengths(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} sentences of predictions and {len(references)} of references")
    for index, (guess, truth) in enumerate(zip(predictions, references, strict=True)):
        if len(guess) != len(truth):
            raise ValueError(f"sentence {index} has {len(guess)} predicted tags and {len(truth)} in the references")


def _precision_recall_f1(right: int, predicted: int, expected: int) -> tuple[float, float, float]:
    # f1 as a ratio of counts: 2pr / (p + r) with one division, hence without its rounding.
    return _ratio(right, predicted), _ratio(right, expected), _ratio(2 * right, predicted + expected)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


class Seqeval(evaluate.Metric):
    """Scores of the entities that tags mark."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": tags, "references": tags}),
            homepage="https://www.clips.uantwerpen.be/conll2000/chunking/",
        )

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        scores = entity_scores(predictions, references)
        return {name: getattr(scores, name) for name in ("precision", "recall", "f1", "accuracy")}
