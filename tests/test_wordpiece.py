"""BERT's tokenizer as operations of TensorFlow, against the tokenizers library."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import normalizers
from transformers import BertTokenizerFast

from tfft.backend import tf
from tfft.exports import wordpiece

WORDS = [
    "good",
    "film",
    "awful",
    "movie",
    "unaffable",
    "goodmovie",
    "naïve",
    "北京",
    "don't",
    "İ",
    "ﬁ",
    "½",
    "…",
    "한국",
]
ODD = [
    "",
    "  ",
    "\u0300",
    "a\u0301\u0327",
    "\u200b",
    "x\x00y",
    "\u2028",
    "\xa0",
    "[SEP]",
    "a[CLS]b",
    "##ing",
    "🙂",
    "ΣΑΣ",
]
ODD += ["x" * 100, "x" * 101, "\ufdd0", "\ue000", "\U000e0001", "a\rb\tc", "“q”", "—", "\U0001d538", "\U0001d165"]


@pytest.fixture(scope="module", params=[True, False], ids=["lowercase", "cased"])
def tokenizer(request: pytest.FixtureRequest, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One whose vocabulary has letters and pieces, so that words fall apart in many ways."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "good",
        "go",
        "##od",
        "film",
        "un",
        "##aff",
        "##able",
        "##ff",
    ]
    letters = sorted(
        {sign for word in [*WORDS, *ODD] for sign in word + word.lower() if sign.strip()} - {"x", "\ufdd0"}
    )
    pieces += [*"abcdefghijklmnopqrstuvw", *(f"##{sign}" for sign in "abcdefghijklmnopqrstuvwx"), *letters]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(pieces)), encoding="utf-8")
    return BertTokenizerFast(str(path), do_lower_case=request.param)


@pytest.fixture(scope="module")
def made(tokenizer: Any) -> wordpiece.WordPiece:
    assert wordpiece.hindrance(tokenizer) is None
    return wordpiece.WordPiece(tokenizer, 16)


def texts_of(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        "".join(draw.choice([*WORDS, *ODD, " ", " ", "."]) for _ in range(draw.randrange(20))) for _ in range(count)
    ]


def test_texts(tokenizer: Any, made: wordpiece.WordPiece) -> None:
    texts = [*ODD, *WORDS, *texts_of(200, 1)]
    expected = tokenizer(texts, truncation=True, max_length=16, padding=True, return_tensors="np")
    found = made.inputs(tf.constant(texts))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, name)
    assert (expected["input_ids"] == tokenizer.unk_token_id).any() and (expected["input_ids"] == 3).any()


@pytest.mark.parametrize("max_length", [3, 8, 9, 64])
def test_pairs_are_cut_as_the_longer_of_them_is(tokenizer: Any, made: wordpiece.WordPiece, max_length: int) -> None:
    texts, pairs = texts_of(150, 2), texts_of(150, 3)
    expected = tokenizer(texts, pairs, truncation=True, max_length=max_length, padding=True, return_tensors="np")
    made._max_length = max_length
    found = made.inputs(tf.constant(texts), tf.constant(pairs))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, name)


@pytest.mark.slow
def test_every_character(tokenizer: Any, made: wordpiece.WordPiece) -> None:
    characters = [chr(number) for number in [*range(1, 0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE1000)]]
    for start in range(0, len(characters), 50_000):
        texts = [f"go{sign}od" for sign in characters[start : start + 50_000]]
        expected = tokenizer(texts, add_special_tokens=False)["input_ids"]
        assert made.pieces(tf.constant(texts)).to_list() == expected


def test_what_cannot_be_had(tokenizer: Any) -> None:
    import copy

    left = copy.deepcopy(tokenizer)
    left.truncation_side = "left"
    assert wordpiece.hindrance(left) == "it cuts or fills up texts on their left side"
    more = copy.deepcopy(tokenizer)
    more.add_tokens(["tfft"])
    assert wordpiece.hindrance(more) == "it has words of its own beside its special tokens"
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert wordpiece.hindrance(other) == "it is not BERT's WordPiece (Lowercase, BertPreTokenizer, WordPiece)"
    assert wordpiece.hindrance(object()) == "it is none of the tokenizers library"
