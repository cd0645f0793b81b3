"""The Hugging Face hub: whether it can be reached, and a checkpoint's files from it or from its local cache."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tfft.errors import HubError

PROBE_SECONDS = 5.0
# Weights that TensorFlow can read, the configuration and the tokenizer. Pickled weights are never fetched.
WANTED = ("*.json", "*.txt", "*.model", "*.spm", "*.safetensors", "tf_model*.h5")
UNWANTED = ("onnx/*", "openvino/*", "coreml/*", "*/*")

# What the hub's client accepts, so that it never refuses a name with an error of its own.
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_HUB_ID = re.compile(rf"(?!.*(?:--|\.\.|\.git$)){_NAME}(?:/{_NAME})?")

WAYS_OUT = (
    "ways out: a local checkpoint folder (model.name_or_path=FOLDER), local files (data.train_file=… "
    "data.validation_file=…, with ~data.dataset_name ~data.dataset_config_name), or `python -m tfft.fit --recipe "
    "quickstart`, which needs no hub"
)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a hub id: `NAME` or `OWNER/NAME`."""
    return _HUB_ID.fullmatch(name) is not None


def endpoint() -> str:
    """The hub's address: `HF_ENDPOINT` or the public one."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_offline() -> bool:
    """Whether the user has switched the hub off (`HF_HUB_OFFLINE`)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def is_reachable(timeout_seconds: float = PROBE_SECONDS) -> bool:
    """Whether the hub answers at all, by one request with a short timeout and no retries.

    The hub's own client retries for half a minute before it says that there is no network.
    """
    import requests

    try:
        requests.head(endpoint(), timeout=timeout_seconds, allow_redirects=False)
    except requests.RequestException:
        return False
    return True


def check_reachable(wanted: str, key: str) -> None:
    """Raises a HubError with the ways out, unless the hub answers. `wanted` is what was asked of it, by `key`.

    Under `HF_HUB_OFFLINE` nothing is asked: what is cached works, and what is not fails at once by itself.
    """
    if not is_offline() and not is_reachable():
        raise HubError(f"{key}: {wanted} comes from the hub, and {endpoint()} cannot be reached; {WAYS_OUT}")


def snapshot(
    name: str, revision: str | None, key: str = "model.name_or_path", say: Callable[[str], None] | None = None
) -> Path:
    """The folder of checkpoint `name` at `revision`: from the local cache where it is complete there, else fetched.

    Args:
        name, revision: of a repository of models; the newest revision where it is None.
        key: what the name was given by, for messages.
        say: told before anything is fetched which files that will be, and which are in the local cache.

    Raises:
        HubError: the hub cannot be reached, or has no such checkpoint or revision, or asks for a login.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = f"{name}@{revision}" if revision else name
    if is_offline() or not is_reachable():
        why = "HF_HUB_OFFLINE is set" if is_offline() else f"{endpoint()} cannot be reached"
        try:
            found = Path(
                snapshot_download(
                    name, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED, local_files_only=True
                )
            )
            if say is not None:
                files = ", ".join(sorted(one.name for one in found.iterdir()))
                say(f"{wanted}: in the local cache of the hub: {files}; nothing is fetched, since {why}")
            return found
        except LocalEntryNotFoundError:
            raise HubError(
                f"{key}: {wanted} is neither a folder here nor in the local cache of the hub, and {why}; {WAYS_OUT}"
            ) from None
    try:
        if say is not None:
            for line in _needed(name, revision):
                say(f"{wanted}: {line}")
        return Path(snapshot_download(name, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except GatedRepoError:
        raise HubError(f"{key}: {wanted} needs its licence accepted on the hub, then `huggingface-cli login`") from None
    except RevisionNotFoundError:
        raise HubError(f"model.revision: {name} has no revision {revision}; leave it out for the newest") from None
    except RepositoryNotFoundError:
        raise HubError(
            f"{key}: the hub has no checkpoint {name} (or it is private: `huggingface-cli login`), and no folder of "
            "that name is here; check the spelling"
        ) from None
    except OSError as error:  # of the hub, of the network, or of the disk that holds the hub's cache
        why = " ".join(str(error.__cause__ or error).split())
        raise HubError(f"{key}: fetching {wanted} failed: {why}; try again, or give a local folder") from None


def _needed(name: str, revision: str | None) -> list[str]:
    """Which files of a checkpoint are in the local cache, and which will be fetched, with their sizes."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    about = HfApi().model_info(name, revision=revision, files_metadata=True)
    sizes = {one.rfilename: one.size for one in about.siblings or ()}
    wanted = sorted(filter_repo_objects(sizes, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    cached = [one for one in wanted if isinstance(try_to_load_from_cache(name, one, revision=about.sha), str)]
    fetched = [f"{one} ({_size(sizes[one])})" for one in wanted if one not in cached]
    return [
        *([f"in the local cache of the hub: {', '.join(cached)}"] if cached else []),
        f"to be fetched from the hub: {', '.join(fetched) or 'nothing'}",
    ]


def _size(size: int | None) -> str:
    """Bytes as people read them, in units of 1,000."""
    if size is None:
        return "of unknown size"
    value, unit = (size / 1e6, "MB") if size >= 1e5 else (size / 1e3, "kB")
    return f"{value:,.1f} {unit}"
