"""Sentences out of CoNLL files, and one clear message for everything that can be wrong with them."""

from __future__ import annotations

import pathlib
import random
import re
from typing import Any

import pytest

from tfft.data.conll import Sentences, read_conll
from tfft.errors import DataError

TWO = [["Ann", "of", "Ulm"], ["Yes"]]
TWO_TAGS = [["B-PER", "O", "B-LOC"], ["O"]]


def read(tmp_path: pathlib.Path, content: str | bytes, **changes: Any) -> Sentences:
    path = tmp_path / "a.conll"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_conll(path, **changes)


def message(tmp_path: pathlib.Path, content: str | bytes, **changes: Any) -> str:
    """What the error says after the key and the path."""
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, **changes)
    said = str(caught.value)
    begin = f"data.train_file: {tmp_path / 'a.conll'}"
    assert said.startswith(begin)
    return said[len(begin) :]


# --- ways of writing --------------------------------------------------------------------------------------------------

TABBED = "Ann\tB-PER\nof\tO\nUlm\tB-LOC\n\nYes\tO\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (TABBED, [1, 5]),
        (TABBED.replace("\t", " "), [1, 5]),
        (TABBED.replace("\t", "   "), [1, 5]),
        (TABBED.replace("\tO", " O"), [1, 5]),
        (TABBED.replace("\tO", " \tO "), [1, 5]),
        (TABBED.rstrip(), [1, 5]),
        ("\ufeff" + TABBED, [1, 5]),
        (TABBED.replace("\n", "\r\n"), [1, 5]),
        (TABBED.replace("\n", "\r"), [1, 5]),
        ("\n \n\t\n" + TABBED.replace("\n\n", "\n \t\n\u3000\n\n") + "\n\n", [4, 10]),
        ("-DOCSTART- -X- -X- O\n\n" + TABBED.replace("\t", " NN x "), [3, 7]),
        ("-DOCSTART-\tO\n\n" + TABBED, [3, 7]),
        (TABBED.replace("\n\n", "\n-DOCSTART-\n"), [1, 5]),
        ("# id = 1\n# text = Ann of Ulm\n" + TABBED, [3, 7]),
        ("-DOCSTART- x\n# id = 1\n" + TABBED, [3, 7]),
    ],
)
def test_ways_of_writing(tmp_path: pathlib.Path, content: str, lines: list[int]) -> None:
    found = read(tmp_path, content)
    assert (found.words, found.tags, found.lines) == (TWO, TWO_TAGS, lines)
    comments = content.count("# ")
    assert found.notes == ([f"a.conll: {comments} comment line{'s' * (comments > 1)} left out."] if comments else [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings(tmp_path: pathlib.Path, encoding: str) -> None:
    found = read(tmp_path, "é\tB-x\n\nß\tO\n".encode(encoding), encoding=encoding)
    assert found.words == [["é"], ["ß"]]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_what_is_written_is_read(tmp_path: pathlib.Path, separator: str) -> None:
    signs = "ab#-\"'\u200b\u2028\x85\u00a0\x0b日😀\u0301\ufeff"
    generator = random.Random(5)
    for _ in range(50):
        words = [
            ["a" + "".join(generator.choices(signs, k=generator.randint(0, 4))) for _ in range(generator.randint(1, 6))]
            for _ in range(generator.randint(1, 5))
        ]
        tags = [[generator.choice(("O", "B-a", "I-creative-work")) for _ in row] for row in words]
        blocks = [
            "".join(f"{word}{separator}{tag}\n" for word, tag in zip(*each, strict=True))
            for each in zip(words, tags, strict=True)
        ]
        found = read(tmp_path, "\n".join(blocks))
        assert (found.words, found.tags) == (words, tags)
        rows = ("\n".join(blocks)).split("\n")
        assert [rows[line - 1].split(separator)[0] for line in found.lines] == [row[0] for row in words]


def test_a_number_sign_is_a_word(tmp_path: pathlib.Path) -> None:
    for content in ("#\tO\n# \tO\n#x\tO\na\tO\n", "# O\n# O\n#x O\na O\n"):
        found = read(tmp_path, content)
        assert (found.words, found.notes) == ([["#", "#", "#x", "a"]], [])
    assert read(tmp_path, "# O\n").words == [["#"]]
    assert read(tmp_path, "# O\na\tO\nb O\n").words == [["#", "a", "b"]]


def test_a_no_break_space_is_a_word_and_parts_none(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, "\u00a0\tO\n\u200b\tO\n").words == [["\u00a0", "\u200b"]]
    assert read(tmp_path, "5\u00a0kg O\n").words == [["5\u00a0kg"]]


def test_columns_are_counted_from_either_end(tmp_path: pathlib.Path) -> None:
    content = "1\tAnn\tNNP\tB-PER\n2\truns\tVBZ\tO\n"
    assert read(tmp_path, content, token_column=1)[:2] == ([["Ann", "runs"]], [["B-PER", "O"]])
    assert read(tmp_path, content, token_column=-3, tag_column=2)[:2] == ([["Ann", "runs"]], [["NNP", "VBZ"]])


def test_the_number_of_columns_may_vary_where_they_are_counted_from_the_start(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, "Ann B-PER x y\nruns O\n\nYes O z\n", tag_column=1)
    assert found[:2] == ([["Ann", "runs"], ["Yes"]], [["B-PER", "O"], ["O"]])


def test_tags_that_are_not_needed(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, TABBED, needs_labels=False)[:2] == (TWO, TWO_TAGS)
    none = read(tmp_path, "Ann\nof\nUlm\n\nYes\n", needs_labels=False)
    assert none == (TWO, None, [1, 5], ["a.conll: its words have no tags, so it cannot be scored."])
    some = read(tmp_path, TABBED.replace("Yes\tO", "Yes\t"), needs_labels=False)
    assert some == (TWO, None, [1, 5], ["a.conll: 1 word of 4 without a tag, so it cannot be scored."])
    some = read(tmp_path, "Ann\nof O\nUlm\n\nYes O\n", needs_labels=False, tag_column=1)
    assert some.notes == ["a.conll: 2 words of 4 without a tag, so it cannot be scored."]


# --- what can be wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "changes", "said"),
    [
        ("", {}, r": the file is empty; expected lines of a word and its tag"),
        (" \n\n", {}, r": the file is empty"),
        (
            "-DOCSTART- O\n\n",
            {},
            r": there is no sentence in it, only blank lines, comments and -DOCSTART- lines; expec",
        ),
        ("a\tO\n\n-DOCSTART-\nb\n", {}, r" line 4: 1 column \('b'\), expected the word in column 0 and its tag in col"),
        ("a\tO\tx\nb\tO\n", {"tag_column": 2}, r" line 2: 2 columns \('b \| O'\), expected .* tag in column 2 "),
        ("a\tO\n", {"tag_column": 0}, r" line 1: 2 columns .* the word in column 0 and its tag in column 0 "),
        ("a O\n", {"token_column": -2, "tag_column": 0}, r" line 1: 2 columns "),
        (
            "a\n",
            {"token_column": 1, "needs_labels": False},
            r" line 1: 1 column \('a'\), expected the word in column 1 ",
        ),
        (
            "a O\n\nNew York B-x\n",
            {},
            r" line 3: 3 columns \('New \| York \| B-x'\), expected 2 as on line 1 \('a \| O",
        ),
        ("a O\n# id = 1\nb O\n", {}, r" line 2: 4 columns \('# \| id \| = \| 1'\), expected 2 as on line 1"),
        (
            "a\tO\n\tO\n",
            {},
            r" line 2: the column of the word is empty \(' \| O'\), expected a word; put it in or remove",
        ),
        ("a\tO\n \tO\n", {}, r" line 2: the column of the word is empty"),
        ("a\tO\nb\t\n", {}, r" line 2: the column of the tag is empty \('b \| '\), expected a tag; put one in"),
        (b"a\tO\n\xe9\tO\n", {}, r": is not UTF-8: byte 0xe9 at offset 4 \(line 2\).*data\.encoding=cp1252"),
        ("a\tO\n".encode("utf-16"), {}, r": is not UTF-8.*begins like UTF-16, set data\.encoding=utf-16"),
        ("a\tO\n".encode("utf-16-le"), {}, r": holds a NUL character \(line 1\)"),
        ("a\tO\n", {"encoding": "utf-ate"}, r": data\.encoding=utf-ate is not an encoding that Python knows"),
        ("b" * 999 + "\n", {}, r" line 1: 1 column \('b{60}…'\), "),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: pathlib.Path, content: str | bytes, changes: dict[str, Any], said: str
) -> None:
    assert re.match(said, message(tmp_path, content, **changes))


def test_a_byte_that_cannot_be_read_can_be_replaced(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, b"\xe9\tO\n", encoding="utf-8:replace").words == [["\ufffd"]]


def test_paths_that_are_no_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "dev.conll").write_text("a\tO\n")
    with pytest.raises(DataError, match=r"data\.test_file: .*dew\.conll: no such file; did you mean .*dev\.conll\?"):
        read_conll(tmp_path / "dew.conll", key="data.test_file")
    with pytest.raises(DataError, match=r"this is a directory, expected a file; it holds dev\.conll"):
        read_conll(tmp_path)
