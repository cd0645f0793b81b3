"""Pages to be read offline: one HTML file each, with style, script and data inside, that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2

from tfft.pages.numbers import duration, short

PARTS = "parts.html.jinja"


def template(package: str, name: str, **filters: Callable[[Any], str]) -> jinja2.Template:
    """The template `NAME.html.jinja` of a package, with `base.css`, `NAME.css`, `base.js` and any `NAME.js` at hand.

    It can import the macros of `parts.html.jinja`.

    All values are escaped. `style`, `script` and their hashes `style_hash`, `script_hash` are for the page's policy,
    which lets nothing else be carried out.

    Args:
        filters: of the template, by name, beside `short` and `duration` of `numbers`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda file: _text(__package__ if file == PARTS else package, file)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"short": short, "duration": duration, **filters})
    texts = {
        "style": _text(__package__, "base.css") + _text(package, f"{name}.css"),
        "script": _text(__package__, "base.js")
        + (_text(package, f"{name}.js") if _is_there(package, f"{name}.js") else ""),
    }
    for kind, text in texts.items():
        environment.globals.update({kind: text, f"{kind}_hash": _hash(text)})
    return environment.get_template(f"{name}.html.jinja")


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _is_there(package: str, name: str) -> bool:
    return resources.files(package).joinpath(name).is_file()


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what may be carried out."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
