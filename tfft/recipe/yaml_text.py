"""YAML text to nodes that know their lines, and back: YAML 1.2's scalars, no tags, no anchors."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from tfft.errors import RecipeError

COMMAND_LINE = "command line"


class Place(NamedTuple):
    """Where a key was given: which layer (0 is the deepest recipe extended), its source, and the line there."""

    source: str
    line: int | None = None
    layer: int = 0

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


_WHOLE = re.compile(r"[-+]?\d+(_\d+)*|0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FRACTION = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def scalar(text: str) -> Any:
    """What unquoted text means: null, a boolean, a number, or itself. YAML 1.1 would read 3e-5 as text, no as false."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _WHOLE.fullmatch(text):
            digits = text.lstrip("+-")
            base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
            return int(text, base)
        if _FRACTION.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:  # more digits than Python converts
        pass
    return text


class _Loader(yaml.SafeLoader):
    """Composes nodes only; `_node_value` makes values of them."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases (& and *) are not read here; put text that begins so in quotes, "
                "and use `extends` to share settings",
                problem_mark=event.start_mark,
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="tags (!) are not read here; put text that begins so in quotes", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


class Dumper(yaml.SafeDumper):
    """Puts quotes around text that either YAML 1.1 or `scalar` would read as something else."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"^(?:{_WHOLE.pattern})$"), list("-+0123456789"))
Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FRACTION.pattern})$"), list("-+.0123456789")
)


def compose(text: str, source: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)  # reads the first characters already
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line + 1 if mark and source != COMMAND_LINE else None)
        said = error.problem or error.context or "cannot be read"
        # The second of two documents is the problem; that one was expected is only the context.
        said = "a second document begins here; expected one" if "another document" in said else said
        raise RecipeError(f"{place}: is not YAML that can be read: {said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        place = Place(source, line)
        raise RecipeError(f"{place}: holds the control character U+{error.character:04X}; expected text") from None
    except RecursionError:
        raise RecipeError(f"{source}: is nested too deeply; expected sections of keys and values") from None
    finally:
        if loader is not None:
            loader.dispose()
