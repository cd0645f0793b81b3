"""What is known of a checkpoint before TensorFlow is loaded: where it lies, that it is whole, its tokenizer.

Everything a user can get wrong about a checkpoint is found here, in seconds, and not after a minute of loading.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfft import hub, locations
from tfft.errors import ModelError, nearest

# Families that count positions from the padding id on, so that two of them are never used.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta"}
)
# What says of a folder that the tutorials' head lies in it, beside the encoder.
HEAD_CONFIG_FILE = "head_config.json"
# A tokenizer without a limit of its own says a number like 1e30.
_NO_LIMIT = 10**6


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder that was looked through.

    Attributes:
        name: as the user gave it.
        folder: where its files lie.
        weights: the weight files, all shards; none where all weights are to be new, see `sizes`.
        config: the model's configuration (`transformers.PretrainedConfig`).
        layers: those of the encoder that are loaded, by their numbers in the files; None is all. See `layers`.
    """

    name: str
    folder: Path
    weights: tuple[Path, ...]
    config: Any
    layers: tuple[int, ...] | None = None

    @property
    def is_keras_h5(self) -> bool:
        """Whether the weights are Keras's own HDF5 files."""
        return any(path.suffix == ".h5" for path in self.weights)

    @property
    def is_headed(self) -> bool:
        """Whether the tutorials' head lies beside the encoder."""
        return (self.folder / HEAD_CONFIG_FILE).is_file()


def find(
    name_or_path: str,
    revision: str | None = None,
    key: str = "model.name_or_path",
    say: Callable[[str], None] | None = None,
) -> Checkpoint:
    """The checkpoint in a folder, in an installed package (`package:NAME/FOLDER`), or on the hub, looked through.

    Args:
        name_or_path: any of these.
        revision: of one on the hub.
        key: what the name was given by, for messages.
        say: told which files come from the hub before they do; see `hub.snapshot`.

    Raises:
        ModelError: no such folder, no weights in it, weights cut short, or a configuration that cannot be read.
        HubError: it is on the hub, and the hub cannot be reached or does not have it.
    """
    folder = _folder(name_or_path, revision, key, say)
    weights = weight_files(folder, name_or_path)
    for one in weights:
        if one.suffix == ".safetensors":
            check_safetensors(one)
    return Checkpoint(name_or_path, folder, weights, _config(folder, name_or_path))


def _folder(name_or_path: str, revision: str | None, key: str, say: Callable[[str], None] | None) -> Path:
    path = locations.resolve(name_or_path, key)
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{key}: {name_or_path} is a file; give the folder that holds config.json and the weights")
    if name_or_path.startswith(locations.PACKAGE_PREFIX):
        raise ModelError(f"{key}: {name_or_path}: the package is installed, but has no folder {path.name}")
    if not hub.is_hub_id(name_or_path):
        near = nearest(path.name, [one.name for one in path.parent.iterdir()]) if path.parent.is_dir() else None
        hint = f"; did you mean {path.parent / near}?" if near else ""
        raise ModelError(f"{key}: there is no folder {name_or_path}, and it has not the form of a hub id{hint}")
    return hub.snapshot(name_or_path, revision, key, say)


def weight_files(folder: Path, name: str) -> tuple[Path, ...]:
    """The files of `folder` that hold the weights: safetensors before HDF5, one file before shards.

    Raises:
        ModelError: there is none, or a shard that the index names is missing. Pickled weights are never opened.
    """
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("tf_model.h5", "tf_model.h5.index.json"),
    ):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            return _shards(folder, index)
    if list(folder.glob("pytorch_model*.bin")):
        raise ModelError(
            f"model.name_or_path: {name} has its weights as a pickle (pytorch_model.bin), which can run code when it "
            "is opened, so tfft does not; save it once with PyTorch's save_pretrained(…, safe_serialization=True)"
        )
    found = ", ".join(sorted(one.name for one in folder.iterdir())[:8]) or "nothing"
    raise ModelError(
        f"model.name_or_path: {name} holds no weights: expected model.safetensors (or its shards) or tf_model.h5, "
        f"found {found}"
    )


def _shards(folder: Path, index: str) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ModelError(f"{folder / index} is not an index of shards; fetch the checkpoint again") from None
    if outside := [name for name in names if Path(name).name != name]:
        raise ModelError(f"{folder / index} names the shard {outside[0]}, outside its own folder; it is not opened")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{folder / index} names {len(names)} shards, and {', '.join(missing)} is missing")
    return tuple(folder / name for name in names)


def check_safetensors(path: Path) -> None:
    """Raises a ModelError unless the file is as long as its header says (8 bytes of header length, JSON, tensors)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        raw = file.read(header_size) if 8 + header_size <= size else b""
    try:
        header = json.loads(raw)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{path} is not a whole safetensors file ({size:,} bytes); copy or fetch it again") from None
    expected = 8 + header_size + end
    if size != expected:
        raise ModelError(f"{path} has {size:,} bytes where its header says {expected:,}; copy or fetch it again")


def _config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise ModelError(f"model.name_or_path: {name} holds no config.json, so its architecture is unknown")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"model.name_or_path: the config.json of {name} cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The first line of what `error` says, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def load_tokenizer(checkpoint: Checkpoint, pads: bool = True) -> Any:
    """The checkpoint's own tokenizer, the fast one where there is one. Unless `pads`, it need not be able to pad.

    Raises:
        ModelError: there is none, it does not fit the model (more tokens than the embedding has rows, other special
            tokens than the configuration says), or it cannot pad.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library knows no other class for a file that it cannot read
        raise ModelError(
            f"model.name_or_path: {checkpoint.name} has no tokenizer that can be loaded: {_reason(error)}"
        ) from None
    check_match(tokenizer, checkpoint, pads)
    return tokenizer


def check_match(tokenizer: Any, checkpoint: Checkpoint, pads: bool = True) -> None:
    """Raises a ModelError unless `tokenizer` belongs to the model of `checkpoint`, and can pad where it has to."""
    name, config = checkpoint.name, checkpoint.config
    rows = getattr(config, "vocab_size", None)
    tokens = max(tokenizer.get_vocab().values(), default=-1) + 1
    if rows is not None and tokens > rows:
        raise ModelError(
            f"{name}: the tokenizer has {tokens:,} tokens and the model's embedding {rows:,} rows, so they do not "
            "belong together; use the tokenizer files that came with these weights"
        )
    # The defaults of a configuration class say nothing about this checkpoint: only what its own file states counts.
    stated = json.loads((checkpoint.folder / "config.json").read_text())
    for special in ("pad", "bos", "eos"):
        expected, given = stated.get(f"{special}_token_id"), getattr(tokenizer, f"{special}_token_id", None)
        if isinstance(expected, int) and given is not None and expected != given:
            raise ModelError(
                f"{name}: the tokenizer's {special} token is number {given} and the model's {expected}, so they do not "
                "belong together; use the tokenizer files that came with these weights"
            )
    if pads and tokenizer.pad_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no padding token, so rows cannot be put into batches")


def positions(config: Any) -> int | None:
    """The longest input, in tokens, that the model has positions for; None where it has no such limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    return limit - config.pad_token_id - 1 if config.model_type in _OFFSET_POSITIONS else limit


def choose_max_length(wanted: int | None, tokenizer: Any, config: Any) -> int:
    """`wanted`, or the most that tokenizer and model take (512 where neither says).

    Raises:
        ModelError: `wanted` is more than the model has positions for.
    """
    limits = [limit for limit in (tokenizer.model_max_length, positions(config)) if limit is not None]
    limit = min((int(one) for one in limits if one < _NO_LIMIT), default=None)
    most = positions(config)
    if wanted is not None and most is not None and wanted > most:
        raise ModelError(
            f"data.max_length: {wanted} tokens, but the model has positions for {most}; give at most {most}"
        )
    return wanted or limit or 512
