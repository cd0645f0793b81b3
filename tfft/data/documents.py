"""Documents out of plain text files, which have no columns and no labels: for pretraining."""

from __future__ import annotations

import pathlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Literal

from tfft.data.columns import finished, row_numbers
from tfft.data.files import Content, check_is_file, refuse_nul
from tfft.data.rows import Rows
from tfft.data.tables import Wanted
from tfft.recipe import TEXT_ENDINGS

# What a document is in such a file.
Documents = Literal["lines", "paragraphs"]
COLUMN = "text"


def read_documents(
    path: pathlib.Path, *, documents: Documents = "lines", encoding: str = "utf-8", key: str = "data.train_file"
) -> Rows:
    """The documents of a text file; what holds nothing but blanks is none.

    Args:
        path: a file; its ending does not matter.
        documents: `lines`, each line is one; `paragraphs`, what stands between blank lines is one, its lines put
            together with blanks.
        encoding: as in `files.read_file`.
        key: the recipe key that named the file, for messages.

    Raises:
        DataError: the file cannot be read, is not text in this encoding, or holds nothing but blanks.
    """
    path = pathlib.Path(path)
    wanted = Wanted(f"{key}: {path}", path.name, (COLUMN,), None, needs_labels=False, drop_invalid=False)
    check_is_file(path, wanted.error, TEXT_ENDINGS)
    content = Content(path, encoding, wanted)
    texts, lines = content.column(COLUMN), array("q")
    split = _lines if documents == "lines" else _paragraphs
    for text, line in split(_checked(content)):
        texts.append(text)
        lines.append(line)
    if not lines:
        raise wanted.error("the file is empty; expected text, a document on each line")
    return Rows(
        texts=(finished(texts),),
        labels=None,
        numbers=row_numbers(len(lines), content.is_large),
        source=path.name,
        lines=lines if content.is_large else lines.tolist(),
    )


def _checked(content: Content) -> Iterator[tuple[str, int]]:
    """Each line without outer blanks, and its number."""
    for number, line in enumerate(content.lines(newline=""), 1):
        refuse_nul(line, content.wanted.error, number)
        yield line.strip(), number


def _lines(lines: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    return ((line, number) for line, number in lines if line)


def _paragraphs(lines: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Each with the number of its first line."""
    held: list[str] = []
    first = 1
    for line, number in lines:
        if line:
            first = first if held else number
            held.append(line)
        elif held:
            yield " ".join(held), first
            held = []
    if held:
        yield " ".join(held), first
