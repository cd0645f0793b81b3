"""Text without labels: documents, blocks of their tokens, tokens hidden, words worth a token of their own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from tfft.backend import tf
from tfft.data import batches, columns, masking, new_words
from tfft.data.blocks import encode_blocks
from tfft.data.columns import ArrayOnDisk, TextWriter
from tfft.data.documents import read_documents
from tfft.data.encode import Encoded
from tfft.data.words import IGNORED_LABEL
from tfft.errors import DataError, ModelError
from tfft.models import checkpoint

CLS, SEP, MASK = 2, 3, 4
WORDS = ("the", "movie", "was", "good", "bad", "unheard", "of", "day", "reimbursement", ".")


@pytest.fixture
def tokenizer(tiny_checkpoint: Path) -> Any:
    """A new one each time: tokenizers change as they are used."""
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


def random_documents(count: int, seed: int = 1, longest: int = 30) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, longest))) for _ in range(count)]


# --- Documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "how", "texts", "lines"),
    [
        ("one\ntwo words\n\n  \nthree", "lines", ["one", "two words", "three"], [1, 2, 5]),
        ("one\ntwo words\n\n  \nthree\n", "paragraphs", ["one two words", "three"], [1, 5]),
        ("\ufeffone\r\n\r\ntwo\r\nmore\r\n", "paragraphs", ["one", "two more"], [1, 3]),
        ("a\u2028b\nc", "lines", ["a\u2028b", "c"], [1, 2]),
    ],
)
def test_documents_of_a_text_file(tmp_path: Path, content: str, how: Any, texts: list[str], lines: list[int]) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content.encode())
    rows = read_documents(path, documents=how)
    assert list(rows.texts[0]) == texts and list(rows.lines or []) == lines
    assert list(rows.numbers) == list(range(1, len(texts) + 1)) and rows.labels is None


def test_a_large_file_is_read_the_same_with_its_texts_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(random_documents(50)), encoding="utf-8")
    in_memory = read_documents(path)
    monkeypatch.setattr(columns, "LARGE_BYTES", 10)
    on_disk = read_documents(path)
    assert isinstance(on_disk.texts[0], columns.TextsOnDisk)
    assert list(on_disk.texts[0]) == in_memory.texts[0] and list(on_disk.lines or []) == in_memory.lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b" \n\n \t\n", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8: byte 0x89 at offset 0"),
        (b"PK\x03\x04\x00\x00", "holds a NUL character (line 1), so it is not text"),
        ("naïve".encode("latin-1"), "data.encoding=cp1252?"),
    ],
)
def test_what_is_no_text_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_documents(path)
    assert str(raised.value).startswith(f"data.train_file: {path}") and said in str(raised.value)


# --- Blocks -----------------------------------------------------------------------------------------------------------


def blocks_of(encoded: Encoded) -> list[list[int]]:
    ids = np.asarray(encoded.input_ids)
    return [ids[start:end].tolist() for start, end in zip(encoded.offsets, encoded.offsets[1:], strict=False)]


def plain_ids(tokenizer: Any, document: str) -> list[int]:
    ids: list[int] = tokenizer(document, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("length", [3, 8, 17, 512])
def test_blocks_hold_all_tokens_of_every_document_and_no_document_shares_one(tokenizer: Any, length: int) -> None:
    documents = [*random_documents(40), "", "   ", "a"]
    expected = []
    for document in documents:
        ids = plain_ids(tokenizer, document)
        expected += [[CLS, *ids[at : at + length - 2], SEP] for at in range(0, len(ids), length - 2)]
    assert blocks_of(encode_blocks(documents, tokenizer, length)) == expected


@pytest.mark.parametrize("length", [3, 8, 17])
def test_blocks_that_cross_are_full_and_part_documents(tokenizer: Any, length: int) -> None:
    documents = [*random_documents(40), "", "a"]
    with_ends = [[*ids, SEP] for document in documents if (ids := plain_ids(tokenizer, document))]
    stream = [token for ids in with_ends for token in ids][:-1]
    room = length - 2
    expected = [[CLS, *stream[at : at + room], SEP] for at in range(0, len(stream), room)]
    assert blocks_of(encode_blocks(documents, tokenizer, length, crosses=True)) == expected


@pytest.mark.parametrize("crosses", [False, True])
def test_blocks_are_the_same_in_pieces_from_disk_and_from_the_cache(
    tokenizer: Any, crosses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = random_documents(40)
    expected = blocks_of(encode_blocks(documents, tokenizer, 12, crosses))
    monkeypatch.setattr("tfft.data.blocks.ROWS_AT_ONCE", 7)
    assert blocks_of(encode_blocks(documents, tokenizer, 12, crosses)) == expected
    writer = TextWriter()
    writer.extend(documents)
    on_disk = writer.finish()
    first = encode_blocks(on_disk, tokenizer, 12, crosses, cache=tmp_path)
    again = encode_blocks(on_disk, tokenizer, 12, crosses, cache=tmp_path)
    assert isinstance(first.input_ids, ArrayOnDisk) and isinstance(again.input_ids, ArrayOnDisk)
    assert not first.from_cache and again.from_cache
    assert blocks_of(first) == blocks_of(again) == expected
    # What is cut in another way is another entry.
    assert not encode_blocks(on_disk, tokenizer, 12, not crosses, cache=tmp_path).from_cache


def test_a_block_needs_room_beside_its_special_tokens(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"data.max_length: got 2; expected at least 3"):
        encode_blocks(["a b"], tokenizer, 2)


# --- What is hidden ---------------------------------------------------------------------------------------------------


def hide(
    encoded: Encoded, tokenizer: Any, seed: int = 1, batch_size: int = 8, first_batch: int = 0, **settings: Any
) -> tuple[masking.Masking, tf.data.Dataset]:
    wanted = {"probability": 0.15, "mask_share": 0.8, "random_share": 0.1, **settings}
    how = masking.make(tokenizer, **wanted)
    widths = batches.bucket_widths(encoded.lengths, 64)
    stream = batches.of_blocks(
        encoded,
        how.places(encoded.lengths),
        batch_size=batch_size,
        widths=widths,
        seed=seed,
        tokenizer=tokenizer,
        first_batch=first_batch,
    )
    return how, masking.masked(stream, how, seed, first_batch)


def restored(tokens: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The tokens as they were before some were hidden."""
    whole = tokens.copy()
    for row, place in zip(*np.nonzero(labels != IGNORED_LABEL), strict=True):
        whole[row, positions[row, place]] = labels[row, place]
    return whole


@pytest.mark.parametrize("whole_words", [False, True])
def test_labels_are_what_stood_there_and_nothing_else_has_changed(tokenizer: Any, whole_words: bool) -> None:
    encoded = encode_blocks(random_documents(60), tokenizer, 40)
    steps = batches.batches_per_epoch(len(encoded), 8)
    how, stream = hide(encoded, tokenizer, whole_words=whole_words)
    found = []
    for inputs, labels, weights in stream.take(steps):
        tokens, positions, given = (one.numpy() for one in (inputs["input_ids"], inputs[masking.POSITIONS], labels))
        assert (weights.numpy() == 1).all() and positions.shape == given.shape
        lengths = inputs["attention_mask"].numpy().sum(axis=1)
        counts = (given != IGNORED_LABEL).sum(axis=1)
        if whole_words:
            assert (counts <= how.places(lengths)).all()
        else:
            assert (counts == how.places(lengths)).all()
        for row, count in enumerate(counts):
            assert (np.diff(positions[row, :count]) > 0).all() and not positions[row, count:].any()
        assert not np.isin(given, [CLS, SEP]).any()
        whole = restored(tokens, positions, given)
        found += [row[:length].tolist() for row, length in zip(whole, lengths, strict=True)]
    assert sorted(found) == sorted(blocks_of(encoded))


def test_the_shares_are_those_of_the_recipe(tokenizer: Any) -> None:
    encoded = encode_blocks(random_documents(400, longest=40), tokenizer, 64)
    _, stream = hide(encoded, tokenizer, batch_size=100, probability=0.3, mask_share=0.7, random_share=0.2)
    kinds = np.zeros(3)
    hidden = maskable = 0
    for inputs, labels, _ in stream.take(batches.batches_per_epoch(len(encoded), 100)):
        counts = labels.numpy() != IGNORED_LABEL
        put = np.take_along_axis(inputs["input_ids"].numpy(), inputs[masking.POSITIONS].numpy(), 1)[counts]
        real = labels.numpy()[counts]
        kinds += [(put == MASK).sum(), ((put != MASK) & (put != real)).sum(), (put == real).sum()]
        hidden += counts.sum()
        maskable += inputs["attention_mask"].numpy().sum() - 2 * len(counts)
    assert hidden > 3000 and abs(hidden / maskable - 0.3) < 0.01
    # Of random tokens, one in a hundred is the mask, and one the token itself.
    assert np.abs(kinds / hidden - [0.702, 0.196, 0.102]).max() < 0.03


def test_what_is_hidden_is_drawn_anew_every_epoch_and_again_for_the_same_seed(tokenizer: Any) -> None:
    encoded = encode_blocks(random_documents(30), tokenizer, 40)
    steps = batches.batches_per_epoch(len(encoded), 8)

    def hidden(seed: int, epochs: int, first_batch: int = 0) -> list[list[set[tuple[int, ...]]]]:
        _, stream = hide(encoded, tokenizer, seed, first_batch=first_batch)
        rows = [
            {
                (*restored(tokens[None], positions[None], given[None])[0], -1, *positions[given >= 0])
                for tokens, positions, given in zip(
                    inputs["input_ids"].numpy(), inputs[masking.POSITIONS].numpy(), labels.numpy(), strict=True
                )
            }
            for inputs, labels, _ in stream.take(epochs * steps - first_batch)
        ]
        return [rows[at : at + steps] for at in range(0, len(rows), steps)]

    first, second = hidden(1, 2)
    # Of a block of a few tokens the same one may be hidden twice.
    assert len(set().union(*first) & set().union(*second)) < 0.1 * len(encoded)
    assert hidden(1, 2) == [first, second] and hidden(2, 1) != [first]
    # As a training goes on that was broken off in the middle of its second epoch.
    assert hidden(1, 2, first_batch=steps + 2) == [second[2:]]


def test_all_pieces_of_a_word_are_hidden_or_none(tokenizer: Any) -> None:
    encoded = encode_blocks(random_documents(60), tokenizer, 40)
    goes_on = masking.continuations(tokenizer)
    _, stream = hide(encoded, tokenizer, whole_words=True, probability=0.4)
    hidden_words = 0
    for inputs, labels, _ in stream.take(batches.batches_per_epoch(len(encoded), 8)):
        positions, given = inputs[masking.POSITIONS].numpy(), labels.numpy()
        whole = restored(inputs["input_ids"].numpy(), positions, given)
        for tokens, places, of_row in zip(whole, positions, given, strict=True):
            is_hidden = np.isin(np.arange(len(tokens)), places[of_row != IGNORED_LABEL])
            # A block may begin in the middle of a word, whose pieces then stand behind the first token.
            joined = goes_on[tokens][2:]
            assert (is_hidden[2:][joined] == is_hidden[1:-1][joined]).all()
            hidden_words += (is_hidden[2:] & joined).sum()
    assert hidden_words > 100


def test_a_vocabulary_tells_where_words_go_on(tokenizer: Any) -> None:
    goes_on = masking.continuations(tokenizer)
    assert {token for token, number in tokenizer.get_vocab().items() if goes_on[number]} == {
        token for token in tokenizer.get_vocab() if token.startswith("##")
    }


def test_scoring_hides_the_same_tokens_every_time(tokenizer: Any) -> None:
    encoded = encode_blocks(random_documents(30), tokenizer, 40)
    how = masking.make(tokenizer, probability=0.15, mask_share=0.8, random_share=0.1)
    dataset = masking.for_scoring(encoded, how, batch_size=8, tokenizer=tokenizer, max_length=40)
    once, again = ([(one[0]["input_ids"].numpy(), one[1].numpy()) for one in dataset] for _ in range(2))
    assert sum(len(labels) for _, labels in once) == len(encoded)
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


# --- New words --------------------------------------------------------------------------------------------------------


def test_words_are_taken_by_the_pieces_they_cost(tokenizer: Any) -> None:
    # 13 pieces 6 times, 7 pieces 10 times, 4 pieces 4 times (too seldom), and known ones.
    documents = ["reimbursement the movie"] * 6 + ["unheard of the good"] * 10 + ["rare"] * 4 + ["end-of 12ab"] * 9
    found = new_words.frequent_words(documents, tokenizer, 9)
    assert list(found) == ["reimbursement", "unheard"]
    assert {word: len(pieces) for word, pieces in found.items()} == {"reimbursement": 13, "unheard": 7}
    assert list(found["unheard"]) == plain_ids(tokenizer, "unheard")
    assert list(new_words.frequent_words(documents, tokenizer, 1)) == ["reimbursement"]
    before = len(tokenizer)
    new_words.add(tokenizer, found)
    assert plain_ids(tokenizer, "The unheard, unheardof reimbursement")[1] == before + 1
    assert plain_ids(tokenizer, "reimbursement") == [before]
    # Inside another word it is no word.
    assert plain_ids(tokenizer, "unheardof") == list(found["unheard"]) + plain_ids(tokenizer, "xof")[1:]


def test_a_tokenizer_without_a_mask_token_is_refused(tokenizer: Any) -> None:
    masking.check(tokenizer, "here")
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="here has no mask token"):
        masking.check(tokenizer, "here")


def test_a_vocabulary_that_marks_no_beginnings_knows_no_whole_words() -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "[MASK]": 1, "good": 2, "movie": 3}, unk_token="[UNK]"))
    unmarked = PreTrainedTokenizerFast(tokenizer_object=words, mask_token="[MASK]", unk_token="[UNK]")
    with pytest.raises(ModelError, match=r"^data.whole_word_mask: leave it out, since .* does not mark"):
        masking.continuations(unmarked)
