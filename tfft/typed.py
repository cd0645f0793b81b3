"""Texts as a command gets them: arguments, or lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from tfft.errors import DataError


def check_texts(texts: Sequence[str]) -> None:
    """Raises a DataError where an argument is not of the terminal's encoding: its bytes come as halves of pairs."""
    if wrong := [number for number, text in enumerate(texts, 1) if any("\ud800" <= sign <= "\udfff" for sign in text)]:
        raise DataError(f"text {wrong[0]} is not UTF-8; correct it")


def lines_of_standard_input() -> Iterator[str]:
    """The lines, without what ends them and without a byte-order mark.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode().removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"standard input, line {number}: is not UTF-8 ({error.reason}); convert it") from None


def pairs(texts: Iterable[str], by_tab: bool) -> Iterator[tuple[str, ...]]:
    """Lines with a tab between two texts, or texts two by two.

    Raises:
        DataError: they are no pairs.
    """
    if by_tab:
        for number, line in enumerate(texts, 1):
            pair = tuple(line.split("\t"))
            if len(pair) != 2:
                raise DataError(f"standard input, line {number}: expected two texts with a tab between them")
            yield pair
        return
    given = list(texts)
    if len(given) % 2:
        raise DataError(f"got {len(given)} texts; expected pairs of them, as the model was trained on")
    yield from zip(given[::2], given[1::2], strict=True)
