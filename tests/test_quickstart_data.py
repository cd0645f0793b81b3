"""The messages of the quickstart: well-formed, balanced, varied, and none of them twice or nearly so across splits."""

from __future__ import annotations

import collections
import csv
import itertools
import math
import pathlib
import re
import statistics

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tfft" / "quickstart"
SPLITS = ("train", "validation", "test")

# Two messages are near-duplicates where their sets of words overlap this much (Jaccard: shared words / all words).
NEAR_DUPLICATE = 0.6
# Texts filled into templates begin alike: at most this share of all messages may share their first four words ...
SAME_OPENING = 0.02
# ... or hold the same five words in a row, anywhere.
SAME_PHRASE = 0.01


def read_split(split: str) -> list[dict[str, str]]:
    """The rows of one split; a malformed quote or a ragged row is an error."""
    with (FOLDER / f"{split}.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return re.findall(r"\w+", text.lower())


def word_count(text: str) -> int:
    """How many words a reader would count: what stands between blanks."""
    return len(text.split())


def similarity(one: set[str], other: set[str]) -> float:
    """The Jaccard similarity of two sets of words."""
    return len(one & other) / len(one | other)


def most_shared(phrases_by_message: list[set[tuple[str, ...]]]) -> tuple[tuple[str, ...], int]:
    """The phrase that most messages have, and how many have it."""
    return collections.Counter(itertools.chain.from_iterable(phrases_by_message)).most_common(1)[0]


@pytest.fixture(scope="module")
def rows_by_split() -> dict[str, list[dict[str, str]]]:
    return {split: read_split(split) for split in SPLITS}


@pytest.fixture(scope="module")
def rows(rows_by_split: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return [row for split in SPLITS for row in rows_by_split[split]]


@pytest.mark.parametrize("split", SPLITS)
def test_file_is_plain_utf8_with_unix_line_ends(split: str) -> None:
    content = (FOLDER / f"{split}.csv").read_bytes()
    content.decode("utf-8")
    assert content.startswith(b"text,intent\n"), "the header, and no byte-order mark before it"
    assert b"\r" not in content
    assert content.endswith(b"\n")


def test_split_sizes(rows_by_split: dict[str, list[dict[str, str]]]) -> None:
    sizes = {split: len(rows) for split, rows in rows_by_split.items()}
    assert 550 <= sum(sizes.values()) <= 700
    assert 0.65 <= sizes["train"] / sum(sizes.values()) <= 0.75
    assert sizes["validation"] == sizes["test"]


def test_every_intent_has_the_same_share_of_every_split(rows_by_split: dict[str, list[dict[str, str]]]) -> None:
    counts = {split: collections.Counter(row["intent"] for row in rows) for split, rows in rows_by_split.items()}
    intents = set(counts["train"])
    assert len(intents) >= 6
    for split, of_intent in counts.items():
        assert set(of_intent) == intents, split
        assert max(of_intent.values()) - min(of_intent.values()) <= 1, f"{split} is not balanced: {of_intent}"


def test_no_text_is_empty_or_padded_with_blanks(rows: list[dict[str, str]]) -> None:
    assert [row for row in rows if not words(row["text"]) or row["text"] != row["text"].strip()] == []
    assert [row for row in rows if not re.fullmatch(r"[a-z_]+", row["intent"])] == []


def test_lengths_vary(rows: list[dict[str, str]]) -> None:
    lengths_by_intent = collections.defaultdict(list)
    for row in rows:
        lengths_by_intent[row["intent"]].append(word_count(row["text"]))
    for intent, lengths in lengths_by_intent.items():
        assert min(lengths) <= 4, intent
        assert max(lengths) >= 40, intent
        assert statistics.stdev(lengths) > 4, intent


def test_quotes_and_commas_occur(rows: list[dict[str, str]]) -> None:
    # The shipped files also show that quoted fields are read: a reader that splits at commas must not get by.
    assert sum("," in row["text"] for row in rows) >= 50
    assert sum('"' in row["text"] for row in rows) >= 20


def test_no_text_occurs_twice(rows: list[dict[str, str]]) -> None:
    counts = collections.Counter(" ".join(words(row["text"])) for row in rows)
    assert [text for text, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(("one_split", "other_split"), list(itertools.combinations(SPLITS, 2)))
def test_no_near_duplicates_across_splits(
    rows_by_split: dict[str, list[dict[str, str]]], one_split: str, other_split: str
) -> None:
    one_side = [(row["text"], set(words(row["text"]))) for row in rows_by_split[one_split]]
    other_side = [(row["text"], set(words(row["text"]))) for row in rows_by_split[other_split]]
    near = [
        (one, other)
        for (one, one_words), (other, other_words) in itertools.product(one_side, other_side)
        if similarity(one_words, other_words) >= NEAR_DUPLICATE
    ]
    assert near == []


def test_messages_do_not_begin_alike(rows: list[dict[str, str]]) -> None:
    openings = [{tuple(found[:4])} for row in rows if len(found := words(row["text"])) >= 4]
    opening, count = most_shared(openings)
    assert count <= SAME_OPENING * len(rows), f"{count} messages begin with {' '.join(opening)!r}"


def test_messages_are_not_filled_into_templates(rows: list[dict[str, str]]) -> None:
    phrases = []
    for row in rows:
        found = words(row["text"])
        phrases.append({tuple(found[start : start + 5]) for start in range(len(found) - 4)})
    phrase, count = most_shared(phrases)
    assert count <= SAME_PHRASE * len(rows), f"{count} messages hold {' '.join(phrase)!r}"


def test_readme_states_the_real_counts(rows_by_split: dict[str, list[dict[str, str]]]) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, split_rows in rows_by_split.items():
        per_intent = math.ceil(len(split_rows) / len({row["intent"] for row in split_rows}))
        assert f"| `{split}.csv` | {len(split_rows)} | {per_intent} |" in readme
    for intent in {row["intent"] for row in rows_by_split["train"]}:
        assert f"| `{intent}` |" in readme
    assert "CC0-1.0" in readme


def test_similarity_by_hand() -> None:
    assert similarity({"where", "is", "it"}, {"where", "was", "it"}) == 0.5
    assert similarity({"same"}, {"same"}) == 1.0
    assert most_shared([{("a",)}, {("a",), ("b",)}, {("b",)}, {("a",)}]) == (("a",), 3)
