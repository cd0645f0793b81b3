"""Numbers and texts for people: as tables and axes of pages show them."""

from __future__ import annotations

import json
import math
import re
from typing import Any


def number(value: Any) -> float | None:
    """The value where it is a finite number, else None; True and False are none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def short(value: Any) -> str:
    """A value for a table or an axis: four significant digits of a number, anything else whole.

    Example:
        >>> [short(one) for one in (3.14159e-05, 0.1, 16, 16.0, 123456, True, "linear", [1, 2])]
        ['3.142e-5', '0.1', '16', '16', '123456', 'true', 'linear', '[1, 2]']
    """
    as_number = number(value)
    if as_number is None:
        return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if as_number.is_integer() and abs(as_number) < 1e6:
        return str(int(as_number))
    return re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), f"{as_number:.4g}")


def duration(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> [duration(one) for one in (4.25, 61.2, 3725, 200000)]
        ['4.2 s', '1 min 1 s', '1 h 2 min', '55 h 33 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def shortened(text: str, letters: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
