"""Pieces of words: the tokenizer's own, each known to its word, and labels that come back as they went."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import files_no_larger_than
from tfft.data import words as room
from tfft.data.encode import encode
from tfft.data.words import EncodedWords, align_labels, by_word, encode_words, word_mark
from tfft.errors import DataError
from tfft.models import checkpoint

CORPUS = ["the movie was good and the end was not bad", "one two house of 2 . a good day for good people"] * 3
WORDS = (
    "the",
    "movie",
    "good",
    "bad",
    "don't",
    "unheard-of",
    "日本",
    "😀",
    "naïve",
    "New York",
    "#",
    " was",
    "[SEP]",
    "2",
)
PIECELESS = ("\u200b", "\x07", "")  # of which BERT makes nothing


@pytest.fixture
def bert(tiny_checkpoint: Path) -> Any:
    """A new one each time: tokenizers change as they are used."""
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


def byte_level(add_prefix_space: bool) -> Any:
    """A tokenizer of byte-level BPE, trained on a few words, with RoBERTa's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=add_prefix_space)
    return backend


def roberta(add_prefix_space: bool) -> Any:
    from transformers import RobertaTokenizerFast

    return RobertaTokenizerFast(
        tokenizer_object=byte_level(add_prefix_space),
        add_prefix_space=add_prefix_space,
        model_input_names=["input_ids", "attention_mask"],
    )


def plain(backend: Any) -> Any:
    """The tokenizer under the class that says nothing about its kind, as ModernBERT has it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


def without_types(tokenizer: Any) -> Any:
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def metaspace(prepend_scheme: str) -> Any:
    """A tokenizer that writes blanks as ▁, as SentencePiece does, without special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    backend.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=60, special_tokens=["<unk>", "<pad>"], unk_token="<unk>", show_progress=False
        ),
    )
    return plain(backend)


KINDS: dict[str, Callable[[], Any]] = {
    "roberta": lambda: roberta(True),
    "roberta without add_prefix_space": lambda: roberta(False),
    "byte level": lambda: plain(byte_level(False)),
    "metaspace always": lambda: metaspace("always"),
    "metaspace first": lambda: metaspace("first"),
    "metaspace never": lambda: metaspace("never"),
}


@pytest.fixture(params=["bert", *KINDS])
def tokenizer(request: pytest.FixtureRequest, bert: Any) -> Any:
    return bert if request.param == "bert" else KINDS[request.param]()


def random_sentences(count: int, longest: int, seed: int) -> list[list[str]]:
    generator = random.Random(seed)
    return [generator.choices(WORDS + PIECELESS, k=generator.randint(0, longest)) for _ in range(count)]


def counts_of(sentences: list[list[str]]) -> list[int]:
    return [len(sentence) for sentence in sentences]


def row_of(words: EncodedWords, row: int, values: np.ndarray) -> list[Any]:
    return values[words.encoded.offsets[row] : words.encoded.offsets[row + 1]].tolist()


def assert_same(one: EncodedWords, other: EncodedWords) -> None:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("word_ids", "first", *room._WORD_ARRAYS)]
    names = ("input_ids", "token_type_ids", "offsets", "lost_tokens")
    pairs += [(getattr(one.encoded, name), getattr(other.encoded, name)) for name in names]
    for left, right in pairs:
        np.testing.assert_array_equal(left, right)
        assert getattr(left, "dtype", None) == getattr(right, "dtype", None)


# --- the tokenizer's own pieces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation_side", ["right", "left"])
@pytest.mark.parametrize("max_length", [4, 9, 64])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_each_row_is_what_transformers_makes_of_it(bert: Any, kind: str, max_length: int, truncation_side: str) -> None:
    tokenizer = bert if kind == "bert" else roberta(True)
    tokenizer.truncation_side = truncation_side
    sentences = random_sentences(60, 12, seed=1)
    words = encode_words(sentences, tokenizer, max_length)
    assert len(words) == 60
    for row, sentence in enumerate(sentences):
        cut = tokenizer([sentence], is_split_into_words=True, truncation=True, max_length=max_length)
        whole = tokenizer([sentence], is_split_into_words=True, verbose=False)
        kept = cut.word_ids(0)
        assert row_of(words, row, words.encoded.input_ids) == cut["input_ids"][0]
        assert row_of(words, row, words.word_ids) == [-1 if word is None else word for word in kept]
        assert row_of(words, row, words.first) == [
            word is not None and word not in kept[:at] for at, word in enumerate(kept)
        ]
        if kind == "bert":
            assert row_of(words, row, words.encoded.token_type_ids) == cut["token_type_ids"][0]
        with_piece, still = set(whole.word_ids(0)) - {None}, set(kept) - {None}
        assert words.encoded.lost_tokens[row] == len(whole["input_ids"][0]) - len(kept)
        assert words.lost_words[row] == len(with_piece - still)
        assert words.pieceless_words[row] == len(sentence) - len(with_piece)
    assert words.kept_words.tolist() == [sum(row_of(words, row, words.first)) for row in range(60)]
    assert words.word_counts.tolist() == counts_of(sentences)
    assert (words.encoded.token_type_ids is None) == (kind == "roberta")
    for array in (words.word_ids, words.lost_words, words.pieceless_words, words.encoded.input_ids):
        assert array.dtype == np.int32


def test_words_give_the_pieces_of_the_text_that_they_form(tokenizer: Any) -> None:
    mark = word_mark(tokenizer)
    generator = random.Random(3)
    sentences = [generator.choices(CORPUS[0].split() + CORPUS[1].split(), k=generator.randint(1, 9)) for _ in range(50)]
    words = encode_words(sentences, tokenizer, 512)
    texts = encode([[mark + " ".join(sentence) for sentence in sentences]], tokenizer, 512)
    np.testing.assert_array_equal(words.encoded.input_ids, texts.input_ids)
    np.testing.assert_array_equal(words.encoded.offsets, texts.offsets)
    for row, sentence in enumerate(sentences):
        pieces = list(zip(row_of(words, row, words.word_ids), row_of(words, row, texts.input_ids), strict=True))
        for number, word in enumerate(sentence):
            of_word = [piece for owner, piece in pieces if owner == number]
            assert tokenizer.decode(of_word).strip().replace(" ", "") == word


def test_pieces_by_hand(bert: Any) -> None:
    start, end = bert.cls_token_id, bert.sep_token_id
    ids = bert.convert_tokens_to_ids
    words = encode_words([["good", "tea", "\u200b", "bad"], [], ["\x07"]], bert, 7)
    tea = ids(["t", "##e", "##a"])
    assert words.encoded.input_ids.tolist() == [start, ids("good"), *tea, ids("bad"), end, start, end, start, end]
    assert words.word_ids.tolist() == [-1, 0, 1, 1, 1, 3, -1, -1, -1, -1, -1]
    assert np.flatnonzero(words.first).tolist() == [1, 2, 5]
    assert words.pieceless_words.tolist() == [1, 0, 1]
    assert words.lost_words.tolist() == [0, 0, 0]
    cut = encode_words([["good", "tea", "\u200b", "bad"]], bert, 5)
    assert cut.word_ids.tolist() == [-1, 0, 1, 1, -1]
    assert (cut.encoded.lost_tokens.tolist(), cut.lost_words.tolist(), cut.pieceless_words.tolist()) == ([2], [1], [1])
    bert.truncation_side = "left"
    left = encode_words([["good", "tea", "\u200b", "bad"]], bert, 5)
    assert left.word_ids.tolist() == [-1, 1, 1, 3, -1]
    assert left.first.tolist() == [False, True, False, True, False]


def test_rows_without_special_tokens_do_not_run_together() -> None:
    words = encode_words([["good"], [], ["good", "good"], ["good"]], metaspace("always"), 64)
    firsts = [sum(row_of(words, row, words.first)) for row in range(4)]
    assert firsts == [1, 0, 2, 1]
    assert words.word_ids[words.first].tolist() == [0, 0, 1, 0]


def test_parts_do_not_show(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = random_sentences(11, 9, seed=7)
    at_once, done = encode_words(sentences, tokenizer, 8), []
    monkeypatch.setattr(room, "ROWS_AT_ONCE", 4)
    assert_same(encode_words(sentences, tokenizer, 8, advance=done.append), at_once)
    assert done == [4, 4, 3]


@pytest.mark.parametrize("sentences", [[], [[]], [[], []], [[""]]])
def test_no_words(tokenizer: Any, tmp_path: Path, sentences: list[list[str]]) -> None:
    for from_cache in (False, True):
        words = encode_words(sentences, tokenizer, 8, tmp_path)
        assert (len(words), words.encoded.from_cache) == (len(sentences), from_cache)
        assert words.kept_words.tolist() == [0] * len(sentences)
        counts = counts_of(sentences)
        assert [len(row) for row in by_word(words, words.word_ids, counts, 0)] == counts


def test_a_tokenizer_that_was_saved_with_padding_and_truncation_of_its_own(bert: Any) -> None:
    sentences = random_sentences(10, 12, seed=3)
    expected = encode_words(sentences, bert, 40)
    bert.backend_tokenizer.enable_truncation(5)
    bert.backend_tokenizer.enable_padding(length=64)
    assert_same(encode_words(sentences, bert, 40), expected)


# --- which tokenizers will do -----------------------------------------------------------------------------------------


def test_byte_level_bpe_without_prefix_spaces_gives_what_it_gives_with_them() -> None:
    sentences = random_sentences(60, 12, seed=5)
    expected = encode_words(sentences, roberta(True), 16)
    for tokenizer in (roberta(False), without_types(plain(byte_level(False)))):
        assert word_mark(tokenizer) == " "
        words = encode_words(sentences, tokenizer, 16)
        assert_same(words, expected)
    the, marked = byte_level(False).token_to_id("the"), byte_level(False).token_to_id("Ġthe")
    ids = encode_words([["the", "the"]], roberta(False), 16).encoded.input_ids.tolist()
    assert (ids.count(the), ids.count(marked)) == (0, 2)


@pytest.mark.parametrize(("kind", "mark"), [("roberta", ""), ("metaspace always", ""), ("metaspace never", " ")])
def test_which_kinds_need_a_mark(kind: str, mark: str) -> None:
    assert word_mark(KINDS[kind]()) == mark


def test_a_tokenizer_that_forgets_where_words_begin_is_refused() -> None:
    from tokenizers import normalizers

    backend = byte_level(False)
    backend.normalizer = normalizers.Strip()
    with pytest.raises(
        DataError, match=r"PreTrainedTokenizerFast, makes other pieces of words .*add_prefix_space=True"
    ):
        encode_words([["good"]], plain(backend), 8)


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"]))
    with pytest.raises(DataError, match=r"is a BertTokenizer, a slow one, .* use .* a fast tokenizer \(one with a "):
        encode_words([["good"]], BertTokenizer(str(tmp_path / "vocab.txt")), 8, tmp_path)


# --- labels to pieces, and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("label_all_pieces", [False, True])
@pytest.mark.parametrize("max_length", [5, 12, 512])
def test_labels_come_back(tokenizer: Any, max_length: int, label_all_pieces: bool) -> None:
    sentences = random_sentences(80, 12, seed=max_length)
    words = encode_words(sentences, tokenizer, max_length)
    labels = [list(range(7, 7 + len(sentence))) for sentence in sentences]
    aligned = align_labels(words, labels, label_all_pieces)
    assert aligned.dtype == np.int32
    assert ((aligned == -100) == (words.word_ids == -1 if label_all_pieces else ~words.first)).all()
    back = by_word(words, aligned, counts_of(sentences), fill=-1)
    assert [len(row) for row in back] == counts_of(sentences)
    for row, (found, given) in enumerate(zip(back, labels, strict=True)):
        owners = set(row_of(words, row, words.word_ids))
        assert found.tolist() == [label if at in owners else -1 for at, label in enumerate(given)]
    assert sum(int((row == -1).sum()) for row in back) == words.lost_words.sum() + words.pieceless_words.sum()


def test_labels_by_hand(bert: Any) -> None:
    words = encode_words([["good", "tea", "\u200b", "bad"], [], ["tea"]], bert, 6)
    labels = [[5, 6, 7, 8], [], [9]]
    assert align_labels(words, labels, False).tolist() == [
        *(-100, 5, 6, -100, -100, -100),
        *(-100, -100),
        *(-100, 9, -100, -100, -100),
    ]
    assert align_labels(words, labels, True).tolist() == [
        *(-100, 5, 6, 6, 6, -100),
        *(-100, -100),
        *(-100, 9, 9, 9, -100),
    ]
    places = np.arange(13.0).reshape(13, 1) * [1, 10]
    found = by_word(words, places, [4, 0, 1], np.nan)
    assert [row.shape for row in found] == [(4, 2), (0, 2), (1, 2)]
    np.testing.assert_array_equal(found[0], [[1, 10], [2, 20], [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_array_equal(found[2], [[9, 90]])
    np.testing.assert_array_equal(by_word(words, places, [4, 0, 1], [-1, -2])[0][2:], [[-1, -2], [-1, -2]])


def test_what_does_not_fit_is_refused(bert: Any) -> None:
    words = encode_words([["good", "bad"], ["good"]], bert, 8)
    with pytest.raises(ValueError, match="sentence 1 has 2 values, expected one for each of 1 words"):
        align_labels(words, [[1, 2], [3, 4]], False)
    with pytest.raises(ValueError, match="1 sentences, expected 2"):
        by_word(words, words.word_ids, [2], 0)
    with pytest.raises(ValueError, match="3 values, expected one for each of 7 tokens"):
        by_word(words, np.zeros(3), [2, 1], 0)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_same_words_are_encoded_once(tokenizer: Any, tmp_path: Path) -> None:
    sentences = random_sentences(9, 9, seed=1)
    first, done = encode_words(sentences, tokenizer, 8, tmp_path / "not there yet"), []
    again = encode_words([tuple(row) for row in sentences], tokenizer, 8, tmp_path / "not there yet", done.append)
    assert (first.encoded.from_cache, again.encoded.from_cache, done) == (False, True, [9])
    assert_same(again, first)
    assert len(list(tmp_path.rglob("*.*"))) == 1


def test_other_words_are_encoded_anew(bert: Any, tmp_path: Path) -> None:
    alike = [[["ab", "c"]], [["ab"], ["c"]], [["a", "bc"]], [["abc"]], [["ab", "c"], []], [[], ["ab", "c"]], [["ab c"]]]
    for sentences in alike:
        assert not encode_words(sentences, bert, 8, tmp_path).encoded.from_cache
    assert not encode_words(alike[0], bert, 9, tmp_path).encoded.from_cache
    assert not encode([["ab", "c"]], bert, 8, tmp_path).from_cache
    assert not encode([["ab"], ["1"]], bert, 8, tmp_path).from_cache
    assert not encode_words([["ab"]], bert, 8, tmp_path).encoded.from_cache
    assert len(list(tmp_path.iterdir())) == len(alike) + 4


@pytest.mark.parametrize("lacking", ["word_ids", "pieceless_words", "lost_words", "input_ids"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_damaged_file_is_encoded_anew(bert: Any, tmp_path: Path, lacking: str, is_gone: bool) -> None:
    from safetensors.numpy import load_file, save_file

    sentences = random_sentences(9, 9, seed=1)
    good = encode_words(sentences, bert, 8, tmp_path)
    (path,) = tmp_path.iterdir()
    arrays = load_file(path)
    rest = {name: array for name, array in arrays.items() if name != lacking}
    save_file(rest if is_gone else rest | {lacking: arrays[lacking][:-1].copy()}, path)
    mended = encode_words(sentences, bert, 8, tmp_path)
    assert not mended.encoded.from_cache
    assert_same(mended, good)
    assert encode_words(sentences, bert, 8, tmp_path).encoded.from_cache


def test_a_full_disk_stops_nothing_and_leaves_nothing(bert: Any, tmp_path: Path) -> None:
    sentences = random_sentences(100, 9, seed=1)
    with files_no_larger_than(1000):
        words = encode_words(sentences, bert, 8, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert_same(words, encode_words(sentences, bert, 8))
