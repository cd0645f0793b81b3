"""Files of tagged words as they are published: their sentences, tags and entities, and back from pieces to words."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tfft.data.conll import read_conll
from tfft.data.tags import broken_tags, spans
from tfft.data.words import align_labels, by_word, encode_words


def folder_in(variable: str) -> Path:
    if not (folder := os.environ.get(variable)):
        pytest.skip(f"{variable} is not set")
    return Path(folder)


@pytest.mark.parametrize(
    ("name", "sentences", "words", "entities"),
    [("train", 3394, 62730, 1975), ("dev", 1009, 15733, 836), ("test", 1287, 23394, 1079)],
)
def test_wnut17_is_read_whole(name: str, sentences: int, words: int, entities: int) -> None:
    """The numbers are those of the files' lines, blank lines and B tags, by awk."""
    found = read_conll(folder_in("TFFT_DATA") / "wnut17" / f"{name}.conll")
    assert found.tags is not None
    assert (len(found.words), sum(map(len, found.words))) == (sentences, words)
    assert [len(row) for row in found.tags] == [len(row) for row in found.words]
    assert sum(len(spans(row)) for row in found.tags) == entities
    assert broken_tags(found.tags) == []
    assert found.notes == []


@pytest.mark.parametrize("max_length", [16, 512])
def test_wnut17_labels_come_back(max_length: int) -> None:
    from transformers import AutoTokenizer

    sentences = read_conll(folder_in("TFFT_DATA") / "wnut17" / "dev.conll").words
    words = encode_words(sentences, AutoTokenizer.from_pretrained(folder_in("TFFT_CHECKPOINT")), max_length)
    labels = [list(range(len(row))) for row in sentences]
    back = by_word(words, align_labels(words, labels, label_all_pieces=False), [len(row) for row in sentences], -1)
    lost = [int((row == -1).sum()) for row in back]
    assert lost == (words.lost_words + words.pieceless_words).tolist()
    for row, given in zip(back, labels, strict=True):
        np.testing.assert_array_equal(row[row != -1], np.asarray(given)[row != -1])
    assert words.pieceless_words.sum() == 4, "variation selectors (U+FE0F), of which BERT makes nothing"
    assert (words.lost_words.sum() > 0) == (max_length == 16)
