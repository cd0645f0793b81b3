"""The identifiers by which the hub knows licences (https://huggingface.co/docs/hub/repositories-licenses)."""

from __future__ import annotations

from tfft.errors import RunError, nearest

COMMON = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "gpl-3.0")
OTHER = "other"
_ALL = frozenset(
    (
        *COMMON,
        OTHER,
        *("openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0", "openrail++"),
        *("bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause-clear"),
        *("c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-sa-3.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0"),
        *("cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0"),
        *("epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "lgpl", "lgpl-2.1"),
        *("lgpl-3.0", "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl", "osl-3.0", "postgresql", "ofl-1.1"),
        *("ncsa", "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license", "llama2", "llama3", "llama3.1"),
        *("llama3.2", "llama3.3", "gemma", "unknown"),
    )
)


def check(licence: str | None, key: str) -> str:
    """The licence, where the hub knows it.

    Raises:
        RunError: there is none, or the hub does not know it. `key` says where it was given.
    """
    expected = f"expected a licence's id as the hub has it ({', '.join(COMMON)}, …) or {OTHER}"
    if licence is None:
        raise RunError(
            f"{key}: nothing says under which licence the model may be used; {expected}. Those of the checkpoint and "
            "of the data may have a say in it"
        )
    if licence not in _ALL:
        near = nearest(licence.lower(), _ALL)
        raise RunError(f"{key}: got {licence!r}; {expected}{f'; did you mean {near}?' if near else ''}")
    return licence
