"""Which recipes are shipped, where a recipe's file is, and its text."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tfft import locations
from tfft.errors import RecipeError, nearest
from tfft.recipe.words import question, shown

STANDARD_INPUT = "-"
LARGEST_FILE = 1_000_000  # bytes; a data file given in place of a recipe is refused before it fills the memory


def names() -> tuple[str, ...]:
    """The shipped recipes, in alphabetical order; those in a folder with its name before theirs: `tiny/encoder`."""
    folder = locations.shipped_recipes()
    return tuple(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")))


def header(name_or_path: str | os.PathLike[str]) -> str:
    """The comment at the top of a recipe's file, without its number signs.

    Raises:
        RecipeError: there is no such recipe, or it cannot be read.
    """
    path = locate(os.fspath(name_or_path))
    lines = []
    for line in read(path, str(path)).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return "\n".join(lines)


def locate(text: str, folder: Path = Path()) -> Path:
    """The file of a shipped recipe's name or of a path relative to `folder`. Paths are not checked to be there.

    Raises:
        RecipeError: neither a shipped recipe nor, by its form or by what is there, a path.
    """
    if text in names():
        return locations.shipped_recipes() / f"{text}.yaml"
    path = folder / os.path.expanduser(text)
    if text.endswith((".yaml", ".yml")) or "/" in text or os.sep in text or (text and path.exists()):
        return path
    raise RecipeError(
        f"no recipe is called {shown(text)}; expected one of {', '.join(names())}, or the path of a .yaml file"
        + question(nearest(text.lower(), names()))
    )


def read(path: Path | None, source: str) -> str:
    try:
        if path is None:
            content = b"" if sys.stdin is None else sys.stdin.buffer.read(LARGEST_FILE + 1)  # None: it is closed
        else:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        assert path is not None
        beside = [one.name for one in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(
            f"{source}: no such file; expected a recipe in YAML, or one of {', '.join(names())}"
            + question(nearest(path.name, [*beside, *names()]))
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{source}: is a folder; expected a recipe's file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise RecipeError(f"{source}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > LARGEST_FILE:
        raise RecipeError(f"{source}: is larger than {LARGEST_FILE:,} bytes; expected a recipe, which is a short text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"{source}:{line}: is not UTF-8: byte 0x{content[error.start]:02x} at position {error.start}; "
            "save the recipe as UTF-8 text"
        ) from None
