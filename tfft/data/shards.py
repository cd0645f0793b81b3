"""Encoded splits as files of records in a folder, on any file system that `tf.io.gfile` knows, and back.

A folder of shards has `train-00000-of-00016.tfrecord` and so on for each split, and `manifest.json`, which is written
last: where it is, all is there. What `manifest` says of a shard is verified before anything is read from it.

Example:
    >>> import tempfile
    >>> from tfft.data import Given, encode_splits, read
    >>> from tfft.models import checkpoint
    >>> from tfft.recipe import DataSection
    >>> tokenizer = checkpoint.load_tokenizer(checkpoint.find("tests/fixtures/tiny_bert_torch"))
    >>> section = DataSection(text_columns=("text",), max_length=16)
    >>> rows = [{"text": "a good movie", "label": "good"}, {"text": "bad", "label": "bad"}] * 5
    >>> prepared = encode_splits(read(section, seed=1, given=Given(rows)), tokenizer, max_length=16)
    >>> about = encoding(section, "text-classification", prepared, tokenizer, "tiny")
    >>> folder = tempfile.TemporaryDirectory()
    >>> written = write(prepared, folder.name, about, rows_per_shard=4, seed=1)
    >>> [(shard.name, shard.rows) for shard in written.shards][:2]
    [('train-00000-of-00003.tfrecord', 4), ('train-00001-of-00003.tfrecord', 3)]
    >>> verify(written, folder.name)
    >>> folder.cleanup()
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tfft import __version__
from tfft.backend import tf
from tfft.data import Prepared, Split, manifest
from tfft.data.encode import Encoded, fingerprint
from tfft.data.manifest import FORMAT, Encoding, Manifest, Shard, ShardedSplit, SplitFacts
from tfft.data.records import TEXTS, features_of, record
from tfft.data.rows import Rows, first_line, shuffled
from tfft.data.windows import LongText
from tfft.errors import DataError, RecipeError
from tfft.recipe import DataSection

MANIFEST = "manifest.json"
ROWS_PER_SHARD = 50_000
_PARTIAL = ".partial"
# What this writes, finished or not: nothing else in a folder is ever removed.
_OURS = re.compile(rf"(?:(?:train|validation|test)-\d{{5,}}-of-\d{{5,}}\.tfrecord|{re.escape(MANIFEST)})(?:\.partial)?")
_CHUNK = 1 << 22
_VERIFIED_AT_ONCE = 4
_ROWS_AT_ONCE = 4096


def encoding(section: DataSection, task: str, prepared: Prepared, tokenizer: Any, checkpoint: str) -> Encoding:
    """What records of these splits depend on.

    Args:
        checkpoint: its name, for messages.
    """
    return wanted(section, task, prepared.label_map.problem_type, prepared.max_length, tokenizer, checkpoint)


def wanted(
    section: DataSection, task: str, problem_type: str, max_length: int, tokenizer: Any, checkpoint: str
) -> Encoding:
    """What a recipe's records depend on."""
    no_texts: list[list[str]] = [[] for _ in section.text_columns]
    return Encoding(
        task=task,
        problem_type=problem_type,
        checkpoint=checkpoint,
        tokenizer=fingerprint(no_texts, tokenizer, max_length, LongText(section.long_text, section.stride or 0)),
        max_length=max_length,
        **{
            name: getattr(section, name)
            for name in (
                *("long_text", "text_columns", "label_column", "label_columns", "label_separator"),
                "sample_weight_column",
            )
        },
    )


# --- Writing ----------------------------------------------------------------------------------------------------------


def check_output(folder: str, overwrite: bool) -> None:
    """Looks whether shards can be written there, before anything is encoded for them.

    Raises:
        DataError: shards are there already, or files of somebody else.
    """
    with _system_errors(folder, "written"):
        if tf.io.gfile.exists(folder) and not tf.io.gfile.isdir(folder):
            raise DataError(f"--output: {folder} is a file; expected a folder")
        names = _listed(folder)
    if others := sorted(name for name in names if not _OURS.fullmatch(name)):
        raise DataError(f"--output: {folder} has files that are no shards, such as {others[0]}; give an empty folder")
    if MANIFEST in names and not overwrite:
        raise DataError(f"--output: {folder} has shards already; give another folder, or --overwrite to replace them")


def _listed(folder: str) -> list[str]:
    if not tf.io.gfile.exists(folder):
        return []
    return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]


def write(
    prepared: Prepared,
    folder: str,
    about: Encoding,
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
    train_shards: int | None = None,
    seed: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> Manifest:
    """Writes every split, and the manifest last. Shards that are in the folder go first.

    Training rows are written in an order drawn from the seed, so that each shard is a sample of all; the others in
    their own.

    Args:
        about: see `encoding`.
        rows_per_shard: at most; the shards of a split are as equal as they can be.
        train_shards: how many the training rows go into, in place of that.
        advance: called with the number of rows done, as they are done.

    Raises:
        DataError: the file system refuses; then there is no manifest, and writing can begin anew.
    """
    with _system_errors(folder, "written"):
        tf.io.gfile.makedirs(folder)
        # The manifest first: what is left without it counts for nothing.
        for name in sorted(filter(_OURS.fullmatch, _listed(folder)), key=lambda name: name != MANIFEST):
            tf.io.gfile.remove(f"{folder}/{name}")
        splits = []
        for split in prepared.splits:
            assert isinstance(split, Split), "rows that are in shards are not written again"
            count = train_shards if split.name == "train" and train_shards else -(-len(split) // rows_per_shard)
            splits.append(_write_split(split, folder, count, seed, len(prepared.label_map), advance))
        written = Manifest(
            format=FORMAT,
            written_by=__version__,
            encoding=about,
            seed=seed,
            label_names=prepared.label_map.names,
            label_values=prepared.label_map.values,
            notes=prepared.notes,
            splits=tuple(splits),
        )
        with _whole(f"{folder}/{MANIFEST}") as partial, tf.io.gfile.GFile(partial, "w") as file:
            file.write(written.model_dump_json(indent=1))
    return written


def _write_split(
    split: Split, folder: str, count: int, seed: int, classes: int, advance: Callable[[int], None]
) -> SplitFacts:
    encoded, rows = split.encoded, len(split)
    assert split.words is None and encoded.window_starts is None, "the recipe was looked at"
    order = shuffled(rows, seed) if split.name == "train" else np.arange(rows)
    parts = np.array_split(order, count)
    shards = []
    for number, part in enumerate(parts):
        name = f"{split.name}-{number:05d}-of-{len(parts):05d}.tfrecord"
        with _whole(f"{folder}/{name}") as partial, tf.io.TFRecordWriter(partial) as file:
            for index in part.tolist():
                file.write(record(split, index))
        size, checksum = _size_and_checksum(f"{folder}/{name}")
        tokens = int(encoded.lengths[part].sum())
        shards.append(Shard(name=name, rows=len(part), tokens=tokens, bytes=size, sha256=checksum))
        advance(len(part))
    are_numbers = split.labels is not None and split.labels.dtype.kind == "f" and split.labels.ndim == 1
    counted = None if are_numbers or split.labels is None else split.label_counts(classes).of_class
    return SplitFacts(
        name=split.name,  # type: ignore[arg-type]
        rows=rows,
        lengths=tuple((int(length), int(count)) for length, count in zip(*encoded.length_counts, strict=True)),
        cut_rows=encoded.truncated_rows,
        lost_tokens=int(encoded.lost_tokens.sum()),
        class_rows=None if counted is None else tuple(counted.tolist()),
        numbers=split.label_range() if are_numbers else None,
        weighted=split.weights is not None,
        token_types=encoded.token_type_ids is not None,
        shards=tuple(shards),
    )


@contextlib.contextmanager
def _whole(path: str) -> Iterator[str]:
    """The name to write to; the file has its own when the body has ended well."""
    partial = path + _PARTIAL
    try:
        yield partial
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(partial)
        raise
    tf.io.gfile.rename(partial, path, overwrite=True)


def _size_and_checksum(path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


@contextlib.contextmanager
def _system_errors(folder: str, done: str) -> Iterator[None]:
    """TensorFlow's errors about files as ours."""
    try:
        yield
    except tf.errors.OpError as error:
        said = first_line(error)
        raise DataError(f"{folder}: shards cannot be {done} there ({said}); give a folder that can be") from None


# --- Reading ----------------------------------------------------------------------------------------------------------


def find(folder: str, wanted: Encoding) -> Manifest:
    """The manifest of the shards in `folder`.

    Raises:
        DataError: there is none that can be used.
        RecipeError: the shards were written with other settings than are `wanted`.
    """
    with _system_errors(folder, "read"):
        if not tf.io.gfile.exists(f"{folder}/{MANIFEST}"):
            raise DataError(
                f"data.shards: {folder} has no {MANIFEST}; expected a folder that `python -m tfft.data shards` has "
                "written (a writing that was broken off leaves none: do it again)"
            )
        with tf.io.gfile.GFile(f"{folder}/{MANIFEST}", "rb") as file:
            found = manifest.parse(file.read(), f"{folder}/{MANIFEST}")
    if differing := manifest.differences(found.encoding, wanted):
        raise RecipeError("\n".join(differing) + f"\n(shards of {folder}; write them again, or correct the recipe)")
    return found


def verify(found: Manifest, folder: str, advance: Callable[[int], None] = lambda bytes: None) -> None:
    """Looks whether the shards are those that the manifest speaks of: all of them, no others, each byte of them.

    Args:
        advance: called with the number of bytes read, as they are read.

    Raises:
        DataError: a shard is missing, was changed, or was added.
    """
    known = {shard.name for shard in found.shards}
    with _system_errors(folder, "read"):
        there = {name for name in _listed(folder) if name.endswith(".tfrecord")}
    for what, names in (("is missing", known - there), ("is not in the manifest", there - known)):
        if names:
            raise _changed(folder, min(names), what)

    def look(shard: Shard) -> str | None:
        with _system_errors(folder, "read"):
            size = tf.io.gfile.stat(f"{folder}/{shard.name}").length
            if size != shard.bytes:
                return f"has {size:,} bytes and not {shard.bytes:,}"
            _, checksum = _size_and_checksum(f"{folder}/{shard.name}")
        advance(shard.bytes)
        return None if checksum == shard.sha256 else "has another content"

    with ThreadPoolExecutor(_VERIFIED_AT_ONCE) as pool:
        for shard, wrong in zip(found.shards, pool.map(look, found.shards), strict=True):
            if wrong:
                # What has not begun need not.
                pool.shutdown(cancel_futures=True)
                raise _changed(folder, shard.name, wrong)


def _changed(folder: str, name: str, what: str) -> DataError:
    return DataError(
        f"data.shards: the shards of {folder} have changed since {MANIFEST} was written: {name} {what}; put them back, "
        "or write them again with `python -m tfft.data shards --overwrite`"
    )


@contextlib.contextmanager
def watched(train: Split | ShardedSplit) -> Iterator[None]:
    """In the body, a shard that can no longer be read as it was verified ends in a message that names it.

    Raises:
        DataError: a shard has changed.
    """
    try:
        yield
    except (tf.errors.OpError, OSError):
        if isinstance(train, ShardedSplit):
            verify(train.manifest, train.folder)
        raise


def prepare(found: Manifest, folder: str) -> Prepared:
    """The splits as a run takes them: the training rows stay where they are, the others are read."""
    train = found.split("train")
    assert train is not None, "a manifest was looked at when it was read"
    others = {
        name: None if (split := found.split(name)) is None else _read(split, found, folder)
        for name in ("validation", "test")
    }
    return Prepared(
        ShardedSplit(train, found, folder),
        others["validation"],
        others["test"],
        found.label_map,
        found.encoding.max_length,
        found.notes,
    )


def _read(split: SplitFacts, found: Manifest, folder: str) -> Split:
    """All rows of a split, in their order."""
    columns = len(found.encoding.text_columns)
    features = features_of(split, found, columns)
    paths = [f"{folder}/{shard.name}" for shard in split.shards]
    parts: list[dict[str, Any]] = []
    with _system_errors(folder, "read"):
        for serialized in tf.data.TFRecordDataset(paths).batch(_ROWS_AT_ONCE):
            parsed = tf.io.parse_example(serialized, features)
            parts.append({name: _as_arrays(values) for name, values in parsed.items()})
    tokens = {
        name: np.concatenate([part[name][0] for part in parts]).astype(np.int32)
        for name in ("input_ids", "token_type_ids")
        if name in features
    }
    lengths = np.concatenate([part["input_ids"][1] for part in parts])
    flat = {name: np.concatenate([part[name] for part in parts]) for name in features if name not in tokens}
    texts = tuple([text.decode("utf-8", "surrogatepass") for text in flat[name].tolist()] for name in TEXTS[:columns])
    return Split(
        split.name,
        Rows(texts, None, flat["row"].tolist(), f"{folder} [{split.name}]"),
        Encoded(
            tokens["input_ids"],
            tokens.get("token_type_ids"),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            flat["lost_tokens"].astype(np.int32),
        ),
        flat["label"].astype(found.label_type()[1]) if split.has_labels else None,
    )


def _as_arrays(values: Any) -> Any:
    """(values, lengths) of ragged ones, an array of others."""
    if isinstance(values, tf.RaggedTensor):
        return values.flat_values.numpy(), values.row_lengths().numpy()
    return values.numpy()
