"""Text from data as Markdown and HTML show it, letter by letter, whatever is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tfft.console import printable

LIMIT = 100
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What begins emphasis, code, links, cells, formulas, mentions or addresses in the midst of a line, in GitHub's dialect.
# A low line between letters is only that.
_MARKS = re.compile(r"[\\`*{}\[\]|~$@:!#]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.")
# What begins a heading, a list, a rule or another block, where a line begins.
_BEGINS = re.compile(r"^[-+=]|^\d+(?=[.)](\s|$))")


class Markdown(str):
    """Text that is Markdown already, and is not escaped."""


def escaped(value: object, limit: int = LIMIT) -> Markdown:
    """A value as Markdown that shows it, on one line, cut to `limit` characters.

    Example:
        >>> escaped("<b>*no*</b> | www.x.org")
        '&lt;b&gt;\\\\*no\\\\*&lt;/b&gt; \\\\| www\\\\.x.org'
    """
    if isinstance(value, Markdown):
        return value
    text = " ".join(printable(str(value), limit).split())
    text = "".join(_HTML.get(one, one) for one in _MARKS.sub(r"\\\g<0>", text))
    return Markdown(_BEGINS.sub(_unbegun, text))


def _unbegun(found: re.Match[str]) -> str:
    return f"\\{found[0]}" if found[0] in "-+=" else f"{found[0]}\\"


def listed(values: Sequence[object], most: int = 10) -> Markdown:
    """Values in a row, with the number of those left out."""
    shown = ", ".join(escaped(one) for one in values[:most])
    left = len(values) - most
    return Markdown(f"{shown} and {left:,} more" if left > 0 else shown)


def fenced(text: str, language: str = "") -> Markdown:
    """A block of code, with a fence that is longer than any in it."""
    longest = max((len(one) for one in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{text.rstrip()}\n{fence}")
