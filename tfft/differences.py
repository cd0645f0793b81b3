"""What differs between two tables of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], names: tuple[str, str] = ("before", "now")
) -> list[str]:
    """What differs between two tables: a line for each value.

    Args:
        before, now: tables of tables of plain values.
        names: what stands behind the values of either.

    Example:
        >>> differences({"seed": 1, "data": {"batching": "padded"}}, {"seed": 2, "data": {"batching": "padded"}})
        ['seed: 1 before, 2 now']
    """
    before, now = _flat(before), _flat(now)
    return [
        f"{name}: {repr(before[name]) if name in before else 'nothing'} {names[0]}, "
        f"{repr(now[name]) if name in now else 'nothing'} {names[1]}"
        for name in dict.fromkeys([*before, *now])
        if name not in before or name not in now or before[name] != now[name]
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values by their dotted names, as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return flat
