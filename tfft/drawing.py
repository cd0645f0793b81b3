"""Numbers as pictures: heat maps with names on their sides. By Pillow, which comes with TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_CELL, _LETTER, _GAP = 22, 12, 6  # in dots
_LONGEST = 18  # letters of a name that are shown
# White to dark blue.
_LIGHT, _DARK = np.array([255.0, 255.0, 255.0]), np.array([8.0, 48.0, 107.0])


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str = "", numbers: bool = False
) -> Image.Image:
    """A picture of a table of numbers: the greater a number, the darker its cell.

    Args:
        values: (rows, columns), none below 0.
        rows, columns: their names; only the first letters of long ones are shown.
        title: above it.
        numbers: whether the numbers are written into the cells.

    Example:
        >>> picture = heat_map(np.array([[8, 1], [0, 9]]), ["bad", "good"], ["bad", "good"], numbers=True)
        >>> picture.mode, picture.getpixel((picture.width - 2, picture.height - 2))  # the darkest
        ('RGB', (8, 48, 107))
    """
    from PIL import Image, ImageDraw, ImageFont

    values = np.asarray(values, np.float64)
    font = ImageFont.load_default(_LETTER)
    row_names, column_names = (_shortened(names) for names in (rows, columns))
    left = max((int(font.getlength(name)) for name in row_names), default=0) + 2 * _GAP
    above = max((int(font.getlength(name)) for name in column_names), default=0) + 2 * _GAP
    above += _CELL if title else 0
    written = [[f"{value:g}" if numbers else "" for value in line] for line in values]
    cell = max([_CELL, *(int(font.getlength(one)) + _GAP for line in written for one in line)])
    width = max(left + cell * len(columns), int(font.getlength(title)) + 2 * _GAP)
    picture = Image.new("RGB", (width, above + cell * len(rows)), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((_GAP, _GAP), title, "black", font)
    for place, name in enumerate(row_names):
        pen.text((_GAP, above + cell * place + cell // 2), name, "black", font, anchor="lm")
    for place, name in enumerate(column_names):
        _write_upwards(picture, name, (left + cell * place + (cell - _LETTER) // 2, above - _GAP), font)
    shares = values / max(values.max(initial=0.0), np.finfo(np.float64).tiny)
    for (row, column), share in np.ndenumerate(shares):
        x, y = left + cell * column, above + cell * row
        colour = tuple(int(one) for one in np.rint(_LIGHT + share * (_DARK - _LIGHT)))
        pen.rectangle((x, y, x + cell - 1, y + cell - 1), colour)
        if written[row][column]:
            middle = (x + cell // 2, y + cell // 2)
            pen.text(middle, written[row][column], "white" if share > 0.5 else "black", font, anchor="mm")
    return picture


def side_by_side(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures in lines of so many, each in a place that is as large as the largest.

    Example:
        >>> one = heat_map(np.eye(2), "ab", "ab")
        >>> side_by_side([one] * 3, columns=2).size == (2 * one.width, 2 * one.height)
        True
    """
    from PIL import Image

    width, height = max(one.width for one in pictures), max(one.height for one in pictures)
    columns = min(columns, len(pictures))
    whole = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    for place, one in enumerate(pictures):
        whole.paste(one, (place % columns * width, place // columns * height))
    return whole


def _shortened(names: Sequence[str]) -> list[str]:
    # The font has no line breaks.
    plain = (" ".join(str(name).split()) for name in names)
    return [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in plain]


def _write_upwards(picture: Image.Image, text: str, bottom: tuple[int, int], font: Any) -> None:
    from PIL import Image, ImageDraw

    length = max(1, int(font.getlength(text)) + 1)
    line = Image.new("RGB", (length, _LETTER + 4), "white")
    ImageDraw.Draw(line).text((0, 0), text, "black", font)
    picture.paste(line.rotate(90, expand=True), (bottom[0], bottom[1] - length))
