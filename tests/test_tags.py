"""Entities of tag sequences and their scores: against what the seqeval package says, and by hand."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FIXTURES
from tfft.data.tags import broken_tags, is_tag, spans

REFERENCE = json.loads((FIXTURES / "seqeval_scores.json").read_text(encoding="utf-8"))
SCORES = ("precision", "recall", "f1", "accuracy")


def sentences(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


# --- entities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("", []),
        ("O O", []),
        ("B-a I-a O B-b", [("a", 0, 1), ("b", 3, 3)]),
        ("O I-a I-a", [("a", 1, 2)]),
        ("I-a I-b", [("a", 0, 0), ("b", 1, 1)]),
        ("I-a B-a I-a", [("a", 0, 0), ("a", 1, 2)]),
        ("B-a I-b", [("a", 0, 0), ("b", 1, 1)]),
        ("B-a I-a E-a S-a", [("a", 0, 2), ("a", 3, 3)]),
        ("B-a E-a I-a", [("a", 0, 1), ("a", 2, 2)]),
        ("S-a E-a E-a", [("a", 0, 0), ("a", 1, 1), ("a", 2, 2)]),
        ("B-creative-work I-creative-work", [("creative-work", 0, 1)]),
        ("B-O I-O O", [("O", 0, 1)]),
        ("B I", [("_", 0, 1)]),
    ],
)
def test_entities_by_hand(tags: str, found: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == found


def test_entities_are_those_of_seqeval() -> None:
    assert len(REFERENCE["spans"]) >= 200
    for tags, found in REFERENCE["spans"]:
        assert [list(span) for span in spans(tags.split())] == found, tags


def test_an_empty_tag_is_outside() -> None:
    assert spans(["B-a", "", "I-a"]) == [("a", 0, 0), ("a", 2, 2)]


# --- slips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("", []),
        ("B-a I-a I-a O B-a B-b", []),
        ("B-a I-a E-a S-b O B-a E-a", []),
        ("I-a I-a", [0]),
        ("O I-a I-a", [1]),
        ("B-a I-b I-b", [1]),
        ("B-a O I-a", [2]),
        ("S-a I-a", [1]),
        ("B-a E-a E-a", [2]),
        ("O o b-a B B- -a B_a PER L-a U-a", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("B-a I-a-b", [1]),
    ],
)
def test_slips_by_hand(tags: str, words: list[int]) -> None:
    assert broken_tags([["O"], tags.split()]) == [(1, word) for word in words]


def test_each_sentence_stands_alone() -> None:
    assert broken_tags([["B-a"], ["I-a"], [], ["I-a", "I-a"]]) == [(1, 0), (3, 0)]
    assert broken_tags([]) == []
    assert broken_tags([["B-a", ""]]) == [(0, 1)]


def test_tags_without_slips_have_one_entity_for_each_that_begins() -> None:
    """In IOB2 and IOBES an entity begins at every B and S and nowhere else."""
    whole = [tags.split() for tags, _ in REFERENCE["spans"] if not broken_tags([tags.split()])]
    assert sum(map(len, whole)) > 200
    for tags in whole:
        assert all(map(is_tag, tags))
        assert [first for _, first, _ in spans(tags)] == [at for at, tag in enumerate(tags) if tag[0] in "BS"]


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def seqeval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, where there is no network."""

    def refuse(*_: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    from tfft.metrics import seqeval

    return seqeval


def test_scores_are_those_of_seqeval(seqeval: Any, recwarn: pytest.WarningsRecorder) -> None:
    assert len(REFERENCE["cases"]) >= 400
    seen = set()
    for case in REFERENCE["cases"]:
        found = seqeval.entity_scores(sentences(case["predictions"]), sentences(case["references"]))
        *overall, accuracy = case["scores"]
        # seqeval divides by the number of words.
        assert found[:4] == pytest.approx((*overall, 0.0 if accuracy is None else accuracy), rel=0, abs=1e-12)
        assert list(found.by_type) == sorted(case["by_type"])
        for type_, scores in case["by_type"].items():
            assert found.by_type[type_] == pytest.approx(scores, rel=0, abs=1e-12)
        seen |= {(name, value) for name, value in zip(SCORES, case["scores"], strict=True) if value in (0.0, 1.0, None)}
    assert len(seen) == 9, "every score was nought and one somewhere, and accuracy without a word"
    assert not recwarn.list


def test_scores_by_hand(seqeval: Any) -> None:
    predictions = [["B-a", "I-a", "O", "B-b"], [], ["B-a", "O"]]
    references = [["B-a", "I-a", "O", "B-a"], [], ["B-a", "I-a"]]
    found = seqeval.entity_scores(predictions, references)
    # 1 of 3 predicted entities is right, 1 of 3 wanted ones is found, and 3 + 0 + 1 of 6 tags are right.
    assert found[:4] == pytest.approx((1 / 3, 1 / 3, 1 / 3, 4 / 6))
    assert found.by_type == {"a": pytest.approx((0.5, 1 / 3, 0.4, 3)), "b": (0.0, 0.0, 0.0, 0)}


def test_scores_of_a_side_with_itself_are_one(seqeval: Any) -> None:
    for case in REFERENCE["cases"]:
        tags = sentences(case["references"])
        found = seqeval.entity_scores(tags, tags)
        assert found.accuracy == float(any(tags))
        assert {found.precision, found.recall, found.f1} == {float(any(map(spans, tags)))}


def test_lengths_that_differ_are_refused(seqeval: Any) -> None:
    with pytest.raises(ValueError, match="1 sentences of predictions and 2 of references"):
        seqeval.entity_scores([["O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="sentence 1 has 2 predicted tags and 1 in the references"):
        seqeval.entity_scores([[], ["O", "O"]], [[], ["O"]])


def test_the_module_gives_the_same_scores(seqeval: Any, tmp_path: Path) -> None:
    predictions = [tags for case in REFERENCE["cases"] for tags in sentences(case["predictions"])]
    references = [tags for case in REFERENCE["cases"] for tags in sentences(case["references"])]
    wanted = dict(zip(SCORES, seqeval.entity_scores(predictions, references)[:4], strict=True))
    metric = seqeval.Seqeval(keep_in_memory=True, cache_dir=str(tmp_path))
    assert metric.name == "seqeval"
    found = metric.compute(predictions=predictions, references=references)
    assert found == wanted
    assert {type(value) for value in found.values()} == {float}
    for start in range(0, len(references), 100):
        part = slice(start, start + 100)
        metric.add_batch(predictions=predictions[part], references=references[part])
    assert metric.compute() == wanted
    assert metric.compute(predictions=[[], []], references=[[], []]) == dict.fromkeys(SCORES, 0.0)
