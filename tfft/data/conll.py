"""Sentences of words with a tag each, out of CoNLL files.

One word a line, its columns separated by tabs, or by runs of blanks where the line has no tab; a blank line ends a
sentence. What the shared tasks and their successors add to that:

- Lines that begin with the column `-DOCSTART-` (CoNLL-2003) are left out, and end a sentence.
- A line that begins with `# ` is a comment (CoNLL-U, WNUT) where it has no tab and all other lines have one: in such a
  file it has fewer columns than they. Elsewhere `#` is a word like any other, as `# O` is in files with blanks.
- A column counted from the end (`-1` is the last) is the same column of every line only where all lines have equally
  many, so then they must. Counted from the start, the number of columns may vary, as in CoNLL-2012.

Ranges and empty nodes of CoNLL-U (`1-2`, `1.1`) are not known here: they are words like any other.
"""

from __future__ import annotations

import itertools
import pathlib
from dataclasses import dataclass
from typing import NamedTuple

from tfft.data.files import check_is_file, decode, read_content, refuse_nul
from tfft.data.rows import counted
from tfft.errors import DataError
from tfft.recipe.sections import CONLL_ENDINGS

ENDINGS = CONLL_ENDINGS
DOCUMENT_START = "-DOCSTART-"

_BLANKS = " \t"  # not all that Unicode counts as blank: a no-break space can be a word, or stand in one


class Sentences(NamedTuple):
    """The sentences of one file.

    Attributes:
        words: the words of each sentence.
        tags: as many tags for each; None where the file has none, or not for all words, and none are needed.
        lines: the line of the file that each sentence starts on, from 1.
        notes: plain sentences about what was left out.
    """

    words: list[list[str]]
    tags: list[list[str]] | None
    lines: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Wanted:
    """Which columns are to be read, and how messages about the file begin."""

    prefix: str
    token_column: int
    tag_column: int
    needs_labels: bool

    def error(self, message: str) -> DataError:
        return DataError(f"{self.prefix}: {message}")

    def line_error(self, line: int, message: str) -> DataError:
        return DataError(f"{self.prefix} line {line}: {message}")


def read_conll(
    path: pathlib.Path,
    *,
    encoding: str = "utf-8",
    tag_column: int = -1,
    token_column: int = 0,
    key: str = "data.train_file",
    needs_labels: bool = True,
) -> Sentences:
    """The sentences of a CoNLL file; this module's own page says how its lines are read.

    Args:
        path: a file; its ending does not matter.
        encoding: a Python codec's name. Text is decoded strictly; `NAME:replace` puts U+FFFD for what cannot be read.
        tag_column: the column of tags, from 0, or from the end where negative.
        token_column: the column of words, likewise.
        key: the recipe key that named the file, for messages.
        needs_labels: False reads tags where every word has one, and none otherwise.

    Raises:
        DataError: the file cannot be read, holds no sentence, or has a line that lacks its word or its tag.
    """
    path = pathlib.Path(path)
    wanted = _Wanted(f"{key}: {path}", token_column, tag_column, needs_labels)
    check_is_file(path, wanted.error, ENDINGS)
    text = decode(read_content(path, wanted.error), encoding, wanted.error)
    refuse_nul(text, wanted.error)
    if not text.strip():
        raise wanted.error("the file is empty; expected lines of a word and its tag, and a blank line after a sentence")
    lines = _lines(text)
    comments = _comments(lines)
    sentences = _sentences(lines, comments)
    if not sentences:
        raise wanted.error(
            f"there is no sentence in it, only blank lines, comments and {DOCUMENT_START} lines; expected lines of a "
            "word and its tag"
        )
    _check_widths(sentences, wanted)
    words = [[_word(fields, line, wanted) for line, fields in sentence] for sentence in sentences]
    notes = [f"{path.name}: {counted(len(comments), 'comment line')} left out."] if comments else []
    tags, lacking = _tags(sentences, wanted)
    if lacking:
        count = sum(map(len, words))
        whose = (
            "its words have no tags" if lacking == count else f"{counted(lacking, 'word')} of {count:,} without a tag"
        )
        notes.append(f"{path.name}: {whose}, so it cannot be scored.")
    return Sentences(words, tags, [sentence[0][0] for sentence in sentences], notes)


def _lines(text: str) -> list[str]:
    """The lines of a text, however they end. Not splitlines(): U+2028 and its like may stand in a word."""
    end = "\n" if "\n" in text else "\r"
    return [line.removesuffix("\r") for line in text.split(end)]


def _comments(lines: list[str]) -> set[int]:
    """The numbers of the lines that are comments, by the rule at the top of this module."""
    alike = {number for number, line in enumerate(lines, 1) if line.startswith("# ") and "\t" not in line}
    others = [line for number, line in enumerate(lines, 1) if line.strip() and number not in alike]
    words = [line for line in others if _fields(line)[0] != DOCUMENT_START]
    return alike if words and all("\t" in line for line in words) else set()


def _fields(line: str) -> list[str]:
    if "\t" in line:
        return [field.strip(_BLANKS) for field in line.split("\t")]
    return [field for field in line.split(" ") if field]


def _sentences(lines: list[str], comments: set[int]) -> list[list[tuple[int, list[str]]]]:
    """(line number, columns) of every word, by sentence."""
    sentences: list[list[tuple[int, list[str]]]] = []
    is_open = False
    for number, line in enumerate(lines, 1):
        if number in comments:
            continue
        fields = _fields(line) if line.strip() else []
        if not fields or fields[0] == DOCUMENT_START:
            is_open = False
            continue
        if not is_open:
            sentences.append([])
        sentences[-1].append((number, fields))
        is_open = True
    return sentences


def _check_widths(sentences: list[list[tuple[int, list[str]]]], wanted: _Wanted) -> None:
    """Raises a DataError where a line has too few columns, or not as many as the first where they are counted back."""
    first_line, first_fields = sentences[0][0]
    is_counted_from_end = min(wanted.token_column, wanted.tag_column) < 0
    for sentence in sentences:
        for line, fields in sentence:
            _check_width(fields, line, wanted)
            if is_counted_from_end and len(fields) != len(first_fields):
                raise wanted.line_error(
                    line,
                    f"{counted(len(fields), 'column')} ({_shown(fields)}), expected {len(first_fields)} as on line "
                    f"{first_line} ({_shown(first_fields)}); give every line its columns, and separate them by tabs "
                    "where a word has a blank in it",
                )


def _check_width(fields: list[str], line: int, wanted: _Wanted) -> None:
    token, tag = (_position(column, len(fields)) for column in (wanted.token_column, wanted.tag_column))
    columns = f"the word in column {wanted.token_column}"
    if wanted.needs_labels:
        columns += f" and its tag in column {wanted.tag_column}"
    if token is None or (wanted.needs_labels and tag in (None, token)):
        raise wanted.line_error(
            line,
            f"{counted(len(fields), 'column')} ({_shown(fields)}), expected {columns} (counted from 0, or back from "
            "-1), separated by a tab or by blanks; mend the line, or name the columns that the file has",
        )


def _position(column: int, width: int) -> int | None:
    """Where a column stands in a line of `width` columns; None where it has no such column."""
    at = column + width if column < 0 else column
    return at if 0 <= at < width else None


def _shown(fields: list[str]) -> str:
    shown = " | ".join(fields)
    return repr(shown if len(shown) <= 60 else shown[:60] + "…")


def _word(fields: list[str], line: int, wanted: _Wanted) -> str:
    word = fields[wanted.token_column]
    if not word:
        raise wanted.line_error(
            line, f"the column of the word is empty ({_shown(fields)}), expected a word; put it in or remove the line"
        )
    return word


def _tags(sentences: list[list[tuple[int, list[str]]]], wanted: _Wanted) -> tuple[list[list[str]] | None, int]:
    """The tags of every word, or None and how many words lack one where none are needed."""
    tags = [[_tag(fields, wanted) for _, fields in sentence] for sentence in sentences]
    places = [place for sentence in sentences for place in sentence]
    lacking = [place for place, tag in zip(places, itertools.chain(*tags), strict=True) if not tag]
    if lacking and wanted.needs_labels:
        line, fields = lacking[0]
        raise wanted.line_error(
            line,
            f"the column of the tag is empty ({_shown(fields)}), expected a tag; put one in (O where there is none)",
        )
    return (None if lacking else tags), len(lacking)


def _tag(fields: list[str], wanted: _Wanted) -> str:
    """The tag of a line, empty where it has none."""
    at = _position(wanted.tag_column, len(fields))
    return "" if at is None or at == _position(wanted.token_column, len(fields)) else fields[at]
