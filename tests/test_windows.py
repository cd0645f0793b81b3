"""Long texts: every piece in a window, head and tail by hand, texts that fit as the tokenizer makes them."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_encode import assert_same, random_texts, row_of
from tfft.data.encode import Encoded, encode, fingerprint
from tfft.data.windows import HEAD_SHARE, LongText
from tfft.errors import DataError
from tfft.models import checkpoint

TEXTS = [*random_texts(30, 60, seed=4), "", "good", " ".join(["bad"] * 200)]


def sliding(stride: int = 0) -> LongText:
    return LongText("sliding_window", stride=stride)


def tiny_bert(folder: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(folder)))


def slow_bert(folder: Path) -> Any:
    from transformers import BertTokenizer

    return BertTokenizer(str(folder / "vocab.txt"))


def roberta(_: Path) -> Any:
    """Byte-level pieces between <s> and </s>; no token types."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trained.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return RobertaTokenizerFast(tokenizer_object=trained._tokenizer)


def t5(_: Path) -> Any:
    """Unigram pieces with </s> behind them and nothing in front, as a tokenizer without a class of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in TEXTS for word in text.split()})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -2.0) for word in words)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_input_names=["input_ids"]
    )


def with_types_of_their_own(_: Path) -> Any:
    """Special tokens behind the pieces, each of another type, as XLNet has them."""
    from tokenizers import processors

    tokenizer = t5(_)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "$A:1 </s>:0 <pad>:2", "$A $B", [("</s>", 1), ("<pad>", 0)]
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids"]
    return tokenizer


KINDS = [tiny_bert, slow_bert, roberta, t5, with_types_of_their_own]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def tokenizer(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> Any:
    return request.param(tiny_checkpoint)


@pytest.fixture
def bert(tiny_checkpoint: Path) -> Any:
    return tiny_bert(tiny_checkpoint)


def windows_of(encoded: Encoded, text: int, name: str = "input_ids") -> list[list[int]]:
    starts = encoded.window_starts
    return [row_of(encoded, row, name) for row in range(starts[text], starts[text + 1])]


def pieces_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer([text], add_special_tokens=False, truncation=False, verbose=False)["input_ids"][0]


def with_special_tokens(tokenizer: Any, pieces: list[int]) -> list[int]:
    """As the tokenizer writes them around one text."""
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    if start is not None:
        return [start, *pieces, end]
    return [*pieces, tokenizer.eos_token_id, *([tokenizer.pad_token_id] if is_typed(tokenizer) else [])]


def is_typed(tokenizer: Any) -> bool:
    return tokenizer.cls_token_id is None and "token_type_ids" in tokenizer.model_input_names


def types_of(tokenizer: Any, length: int) -> list[int]:
    return [*[1] * (length - 2), 0, 2] if is_typed(tokenizer) else [0] * length


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_length", "stride"), [(8, 0), (8, 3), (9, 5), (17, 1), (64, 20), (400, 0)])
def test_windows_hold_every_piece_in_order_with_the_overlap_asked_for(
    tokenizer: Any, max_length: int, stride: int
) -> None:
    encoded = encode([TEXTS], tokenizer, max_length, long_text=sliding(stride))
    room = max_length - tokenizer.num_special_tokens_to_add()
    assert encoded.texts == len(TEXTS)
    for index, text in enumerate(TEXTS):
        pieces, found = pieces_of(tokenizer, text), windows_of(encoded, index)
        begins = range(0, len(found) * (room - stride), room - stride)
        assert found == [with_special_tokens(tokenizer, pieces[begin : begin + room]) for begin in begins]
        whole = pieces[:room] + [piece for begin in begins[1:] for piece in pieces[begin + stride : begin + room]]
        assert whole == pieces
        # None too many: the last window has at least one piece that no other has.
        assert len(found) == 1 + max(0, math.ceil((len(pieces) - room) / (room - stride)))
        if encoded.token_type_ids is not None:
            expected = [types_of(tokenizer, len(window)) for window in found]
            assert windows_of(encoded, index, "token_type_ids") == expected
    assert encoded.lost_tokens.tolist() == [0] * len(encoded)
    assert encoded.lengths.max() <= max_length
    assert [array.dtype.name for array in (encoded.input_ids, encoded.lost_tokens)] == ["int32"] * 2
    assert encoded.offsets.dtype == encoded.window_starts.dtype == np.int64


@pytest.mark.parametrize("kind", [tiny_bert, roberta, t5])
@pytest.mark.parametrize("stride", [0, 4])
def test_windows_are_those_of_the_tokenizers_own_overflow(kind: Any, stride: int, tiny_checkpoint: Path) -> None:
    tokenizer = kind(tiny_checkpoint)
    encoded = encode([TEXTS], tokenizer, 12, long_text=sliding(stride))
    theirs = tokenizer(TEXTS, truncation=True, max_length=12, stride=stride, return_overflowing_tokens=True)
    assert [row_of(encoded, row) for row in range(len(encoded))] == theirs["input_ids"]
    of_text = np.repeat(np.arange(len(TEXTS)), np.diff(encoded.window_starts))
    assert of_text.tolist() == theirs["overflow_to_sample_mapping"]


@pytest.mark.parametrize("mode", ["head_tail", "sliding_window"])
def test_texts_that_fit_are_what_encode_makes_of_them(tokenizer: Any, mode: Any) -> None:
    short = [text for text in TEXTS if len(pieces_of(tokenizer, text)) <= 98]
    assert len(short) > 20
    plain, long = encode([short], tokenizer, 100), encode([short], tokenizer, 100, long_text=LongText(mode, 10))
    for name in ("input_ids", "offsets", "lost_tokens"):
        np.testing.assert_array_equal(getattr(long, name), getattr(plain, name))
    assert (long.token_type_ids is None) == (plain.token_type_ids is None)
    np.testing.assert_array_equal(long.token_type_ids, plain.token_type_ids)
    assert plain.window_starts is None
    expected = None if mode == "head_tail" else list(range(len(short) + 1))
    assert (None if long.window_starts is None else long.window_starts.tolist()) == expected


def test_a_text_that_just_fits_is_one_window(bert: Any) -> None:
    encoded = encode([["good " * count for count in (5, 6, 7, 11, 12)]], bert, 8, long_text=sliding(1))
    assert np.diff(encoded.window_starts).tolist() == [1, 1, 2, 2, 3]
    assert encoded.lengths.tolist() == [7, 8, 8, 4, 8, 8, 8, 8, 4]


def test_special_tokens_that_a_text_spells_out_are_pieces_of_it(bert: Any) -> None:
    """Beside one another, so that what stands around the pieces is not found by the pieces of the wrong text."""
    start, end = bert.cls_token_id, bert.sep_token_id
    (good,) = pieces_of(bert, "good")
    encoded = encode([["[CLS] [CLS] [CLS]", "good", "[SEP]"]], bert, 4, long_text=sliding())
    rows = [row_of(encoded, row) for row in range(len(encoded))]
    assert rows == [[start, start, start, end], [start, start, end], [start, good, end], [start, end, end]]


@pytest.mark.parametrize("mode", ["head_tail", "sliding_window"])
def test_the_truncation_side_does_not_matter(bert: Any, mode: Any, tiny_checkpoint: Path) -> None:
    other = tiny_bert(tiny_checkpoint)
    other.truncation_side = "left"
    assert_same(
        encode([TEXTS], bert, 12, long_text=LongText(mode)), encode([TEXTS], other, 12, long_text=LongText(mode))
    )


def test_no_texts_and_batches_of_texts_do_not_show(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, done = encode([TEXTS], bert, 12, long_text=sliding(2)), []
    monkeypatch.setattr(importlib.import_module("tfft.data.encode"), "ROWS_AT_ONCE", 5)
    parted = encode([TEXTS], bert, 12, long_text=sliding(2), advance=done.append)
    assert_same(parted, at_once)
    np.testing.assert_array_equal(parted.window_starts, at_once.window_starts)
    assert done == [5] * 6 + [3]
    none = encode([[]], bert, 12, long_text=sliding(2))
    assert (len(none), none.texts, none.window_starts.tolist()) == (0, 0, [0])


# --- head and tail ----------------------------------------------------------------------------------------------------


def test_head_and_tail_by_hand(bert: Any) -> None:
    """Room for 8 pieces beside 2 special tokens: 128 / 510 of it are 2.008 at the head."""
    words = ["the", "movie", "was", "good", "bad", "not", "and", "a", "day"]
    ids = bert.convert_tokens_to_ids(words)
    start, end = bert.cls_token_id, bert.sep_token_id
    encoded = encode([["good", " ".join(words[:8]), " ".join(words), " ".join(words * 2)]], bert, 10, long_text=HEAD)
    assert row_of(encoded, 0) == [start, ids[3], end]
    assert row_of(encoded, 1) == [start, *ids[:8], end]
    assert row_of(encoded, 2) == [start, *ids[:2], *ids[3:], end]
    assert row_of(encoded, 3) == [start, *ids[:2], *ids[3:], end]
    assert encoded.lost_tokens.tolist() == [0, 0, 1, 10]
    assert encoded.token_type_ids.tolist() == [0] * len(encoded.input_ids)
    assert (encoded.truncated_rows, encoded.texts, encoded.window_starts) == (2, 4, None)


HEAD = LongText("head_tail")


@pytest.mark.parametrize("head_share", [0.0, 0.25, HEAD_SHARE, 1.0])
def test_head_and_tail_of_every_tokenizer(tokenizer: Any, head_share: float) -> None:
    encoded = encode([TEXTS], tokenizer, 20, long_text=LongText("head_tail", head_share=head_share))
    room = 20 - tokenizer.num_special_tokens_to_add()
    head = round(room * head_share)
    for index, text in enumerate(TEXTS):
        pieces = pieces_of(tokenizer, text)
        kept = pieces if len(pieces) <= room else pieces[:head] + pieces[len(pieces) - (room - head) :]
        assert row_of(encoded, index) == with_special_tokens(tokenizer, kept)
        assert encoded.lost_tokens[index] == len(pieces) - len(kept)
        if encoded.token_type_ids is not None:
            assert row_of(encoded, index, "token_type_ids") == types_of(tokenizer, encoded.lengths[index])


def test_the_papers_head_and_tail(bert: Any) -> None:
    """128 pieces of the head and 382 of the tail, of 510 that BERT has room for."""
    encoded = encode([["good " * 300 + "bad " * 500]], bert, 512, long_text=LongText("head_tail"))
    good, bad = bert.convert_tokens_to_ids(["good", "bad"])
    assert row_of(encoded, 0)[1:-1] == [good] * 128 + [bad] * 382


def test_all_head_is_what_truncation_makes(tokenizer: Any) -> None:
    cut, head = encode([TEXTS], tokenizer, 20), encode([TEXTS], tokenizer, 20, long_text=LongText("head_tail", 0, 1.0))
    for name in ("input_ids", "token_type_ids", "offsets", "lost_tokens"):
        np.testing.assert_array_equal(getattr(head, name), getattr(cut, name))


# --- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "max_length", "long_text", "message"),
    [
        ([["a"], ["b"]], 10, HEAD, r"data.long_text: got head_tail with 2 text columns; expected one column.*truncate"),
        ([["a"], ["b"]], 10, sliding(), r"data.long_text: got sliding_window with 2 text columns"),
        ([["a"]], 10, sliding(8), r"data.stride: got 8; expected 0 to 7.*room for 8 pieces.*data.stride=2"),
        ([["a"]], 10, sliding(200), r"data.stride: got 200; expected 0 to 7"),
        ([["a"]], 10, sliding(-1), r"data.stride: got -1; expected 0 to 7"),
        ([["a"]], 2, sliding(), r"data.max_length: got 2; expected at least 3"),
        ([["a"]], 2, HEAD, r"data.max_length: got 2; expected at least 3"),
        ([["a"]], 10, LongText("head_tail", 0, 1.5), r"head_share: got 1.5; expected .* from 0 to 1"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    bert: Any, tmp_path: Path, texts: Any, max_length: int, long_text: LongText, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode(texts, bert, max_length, tmp_path, long_text=long_text)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_changes_pieces_beside_special_tokens_is_refused(bert: Any) -> None:
    class Changing:
        all_special_ids: tuple[int, ...] = ()
        unk_token_id = None

        def num_special_tokens_to_add(self, pair: bool) -> int:
            return 1

        def __call__(self, texts: list[str], add_special_tokens: bool = True, **_: Any) -> dict[str, Any]:
            return {"input_ids": [[5, 6, 7] if add_special_tokens else [1, 2] for _ in texts]}

    with pytest.raises(DataError, match="Changing makes other tokens of a text with special tokens than without"):
        encode([["a"]], Changing(), 8, long_text=sliding())


# --- the cache --------------------------------------------------------------------------------------------------------


def test_windows_are_cut_once(bert: Any, tmp_path: Path) -> None:
    first = encode([TEXTS], bert, 12, tmp_path, long_text=sliding(2))
    again = encode([TEXTS], bert, 12, tmp_path, long_text=sliding(2))
    assert (first.from_cache, again.from_cache) == (False, True)
    assert_same(again, first)
    np.testing.assert_array_equal(again.window_starts, first.window_starts)
    assert again.window_starts.dtype == np.int64


def test_every_way_of_cutting_is_cached_by_itself(bert: Any, tmp_path: Path) -> None:
    ways = [LongText(), HEAD, LongText("head_tail", 0, 0.5), sliding(), sliding(1)]
    assert len({fingerprint([TEXTS], bert, 12, way) for way in ways}) == len(ways)
    assert fingerprint([TEXTS], bert, 12) == fingerprint([TEXTS], bert, 12, LongText(stride=3))
    for from_cache in (False, True):
        found = [encode([TEXTS], bert, 12, tmp_path, long_text=way) for way in ways]
        assert [encoded.from_cache for encoded in found] == [from_cache] * len(ways)


@pytest.mark.parametrize("without", ["window_starts", "its last"])
def test_a_cached_file_without_whole_windows_is_cut_anew(bert: Any, tmp_path: Path, without: str) -> None:
    from safetensors.numpy import load_file, save_file

    good = encode([TEXTS], bert, 12, tmp_path, long_text=sliding(2))
    (path,) = tmp_path.iterdir()
    arrays = load_file(path)
    starts = arrays.pop("window_starts")
    save_file({**arrays, **({} if without == "window_starts" else {"window_starts": starts[:-1].copy()})}, path)
    mended = encode([TEXTS], bert, 12, tmp_path, long_text=sliding(2))
    assert not mended.from_cache
    assert_same(mended, good)
