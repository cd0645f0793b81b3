"""How messages show keys and values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def dotted(path: Iterable[str]) -> str:
    return ".".join(path)


def question(close: str | None) -> str:
    return "" if close is None else f"; did you mean {close}?"


def shown(value: Any, limit: int = 60) -> str:
    """A value on one line, as a recipe would write it, cut where it is long."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        text = repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {shown(one)}" for key, one in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(shown(one) for one in value) + "]"
    else:
        try:
            text = repr(value)
        except ValueError:  # a whole number with more digits than Python prints
            text = "a number with very many digits"
    return text if len(text) <= limit else text[: limit - 1] + "…"
