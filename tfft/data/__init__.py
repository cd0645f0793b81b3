"""Rows to encoded splits: read, checked, labelled, turned into token ids. Batches are made of these in `batches`.

Nothing here loads TensorFlow: whatever is wrong with the data is said before a model is touched.

- `read`, `encode_splits`: a recipe's `data` section to `Prepared` splits
- `encode`: texts to token ids, with a cache on disk; `windows`: what becomes of texts that are too long
- `documents`: text files; `blocks`: such texts to blocks of tokens; `masking` (this one loads TensorFlow): batches of
  those with some tokens hidden; `new_words` (and this one): words that deserve a token
- `words`: sentences of words to token ids, and back; `conll`: files of such; `tags`: entities of BIO tags
- `labels`: labels to class ids
- `shards` (this one loads TensorFlow): encoded splits to files of records and back; `manifest`: what is known of
  those; `records`: a row as a record
- `batches` (this one too): token ids to `tf.data`, `bucketed` or `padded`, and batches for prediction; `stream` (and
  this one): batches of rows that are in shards
- `unread` (this one as well): a `tf.data` data set read without moving its order

Example:
    Rows of any source, here lists, to splits whose classes are settled on the training rows.

    >>> from tfft.models import checkpoint
    >>> from tfft.recipe import DataSection
    >>> tokenizer = checkpoint.load_tokenizer(checkpoint.find("tests/fixtures/tiny_bert_torch"))
    >>> rows = [{"text": "a good movie", "label": "good"}, {"text": "bad", "label": "bad"}]
    >>> splits = read(DataSection(text_columns=("text",), label_column="label"), seed=1, given=Given(rows))
    >>> prepared = encode_splits(splits, tokenizer, max_length=16)
    >>> prepared.label_map.names, prepared.train.labels.tolist()
    (('bad', 'good'), [1, 0])
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfft import hub, locations, tasks
from tfft.data import checks, conll, documents, files, hub_sets, labels, memory, tags
from tfft.data.columns import ArrayOnDisk
from tfft.data.encode import Encoded, encode
from tfft.data.labels import LabelCounts, LabelMap, count_labels
from tfft.data.manifest import ShardedSplit
from tfft.data.rows import Rows, Splits, counted, sample, split_stratified
from tfft.data.tables import Targets
from tfft.data.windows import TRUNCATE, LongText
from tfft.data.words import EncodedWords, align_labels, encode_words
from tfft.errors import DataError
from tfft.recipe import TEXT_ENDINGS, DataSection

__all__ = [
    "Encoded",
    "Given",
    "LabelMap",
    "Prepared",
    "Rows",
    "ShardedSplit",
    "Split",
    "Splits",
    "encode_split",
    "encode_splits",
    "read",
    "read_more",
    "read_split",
]


@dataclass(frozen=True)
class Given:
    """Rows handed over as Python objects (`datasets.Dataset`, pandas, lists of dicts, dict of lists), not as files."""

    train: Any
    validation: Any = None
    test: Any = None


@dataclass(frozen=True)
class Split:
    """One split, ready for batches.

    Attributes:
        name: `train`, `validation` or `test`.
        rows: texts and raw labels.
        encoded: the rows' token ids.
        labels: see `labels.encode_labels`, (rows,) int32 class ids where a row has one; None where the split has none.
        weights: (rows,) float32, what each row counts in the training loss; None where all count 1.
        words: where words have labels, which piece is of which; `labels` are then (tokens,), -100 where none counts.
        features: (rows, 1, hidden) float32, a frozen encoder's outputs, to be taken in place of tokens; where words
            have labels, (tokens, hidden).
    """

    name: str
    rows: Rows
    encoded: Encoded
    labels: np.ndarray | None
    weights: np.ndarray | None = None
    features: np.ndarray | None = None
    words: EncodedWords | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_labels(self) -> bool:
        """Whether rows have labels."""
        return self.labels is not None

    def label_counts(self, classes: int) -> LabelCounts:
        """Rows of each class; of words that have tags, the pieces that count."""
        assert self.labels is not None
        return count_labels(self.labels, classes)

    def label_range(self) -> tuple[float, float, float]:
        """The least, the mean and the greatest label, where those are numbers."""
        assert self.labels is not None
        return float(np.min(self.labels)), float(np.mean(self.labels)), float(np.max(self.labels))

    def fingerprint(self) -> str:
        """A SHA-256 over all that is trained on: tokens, labels, weights, in their order."""
        digest = hashlib.sha256()
        for array in (self.encoded.offsets, self.encoded.window_starts, self.labels, self.weights):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).data.cast("B"))
        tokens = self.encoded.input_ids
        for part in tokens.parts() if isinstance(tokens, ArrayOnDisk) else [tokens]:
            digest.update(np.ascontiguousarray(part).data.cast("B"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """All splits of a run, and what was noticed on the way.

    Attributes:
        train: what is trained on; where its rows are in shards, none of them is in memory.
        label_map: the classes, settled on the training split.
        max_length: tokens a row may have.
        notes: plain sentences about the data, for the user.
        new_words: those that the tokenizer was given as tokens, with the ids of their pieces before.
    """

    train: Split | ShardedSplit
    validation: Split | None
    test: Split | None
    label_map: LabelMap
    max_length: int
    notes: tuple[str, ...]
    new_words: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def splits(self) -> list[Split | ShardedSplit]:
        """Those there are, in the usual order."""
        found: tuple[Split | ShardedSplit | None, ...] = (self.train, self.validation, self.test)
        return [split for split in found if split is not None]

    @property
    def train_classes(self) -> dict[str, int]:
        """Training rows with each class, by its name; of words with tags the tokens that count."""
        if not self.train.has_labels or self.label_map.problem_type == tasks.REGRESSION:
            return {}
        counts = self.train.label_counts(len(self.label_map)).of_class
        # Shards need not say it.
        return dict(zip(self.label_map.names, counts.tolist(), strict=True)) if counts.any() else {}


def read(
    section: DataSection,
    seed: int,
    given: Given | None = None,
    problem_type: str = tasks.SINGLE_LABEL,
    needs_labels: bool = True,
) -> Splits:
    """The rows of every split that a recipe's `data` section names, sampled as it says.

    Args:
        problem_type: what their labels are, see `tasks.Task`.
        needs_labels: whether training rows have to have them; validation rows do, unless they are a share of those.

    Raises:
        DataError: a file, column or row cannot be used.
        HubError: the data set is on the hub, and the hub cannot be reached or does not have it.
    """
    targets = _targets(section, problem_type)
    if given is not None:
        splits = _read_given(section, given, targets, needs_labels)
    elif section.dataset_name is not None:
        hub.check_reachable(section.dataset_name, "data.dataset_name")
        splits = hub_sets.read_hub(
            section.dataset_name,
            section.dataset_config_name,
            train_split_name=section.train_split_name,
            validation_split_name=section.validation_split_name,
            test_split_name=section.test_split_name,
            text_columns=section.text_columns,
            label_column=_label_column(section, targets),
            # Rows to be split are sampled after it, as those of a file are.
            max_train_samples=section.max_train_samples if section.validation_split is None else None,
            max_eval_samples=section.max_eval_samples,
            seed=seed,
            drop_invalid=section.drop_invalid,
            targets=targets,
            needs_labels=needs_labels,
        )
    else:
        splits = _read_files(section, targets, needs_labels)

    train, validation = splits.train, splits.validation
    if validation is None and section.validation_split is not None:
        train, validation = split_stratified(
            train, section.validation_split, seed, by_label=problem_type == tasks.SINGLE_LABEL
        )
    return Splits(
        train=_sampled(train, section.max_train_samples, seed),
        validation=validation and _sampled(validation, section.max_eval_samples, seed),
        test=splits.test and _sampled(splits.test, section.max_eval_samples, seed),
        notes=splits.notes,
    )


def read_split(
    section: DataSection, seed: int, name: str, problem_type: str = tasks.SINGLE_LABEL, needs_labels: bool = True
) -> tuple[Rows | None, tuple[str, ...]]:
    """The rows of `validation` or `test` as `read` gives them, and sentences about them; None where there are none.

    Where they have a file of their own, no other is read.

    Raises:
        DataError, HubError: as `read`.
    """
    path = getattr(section, f"{name}_file")
    if path is None or section.train_file is None:
        splits = read(section, seed, problem_type=problem_type, needs_labels=needs_labels)
        return getattr(splits, name), splits.notes
    resolved = locations.resolve(path, f"data.{name}_file")
    rows, notes = _read_file(section, _targets(section, problem_type), f"{name}_file", resolved, name != "test")
    return _sampled(rows, section.max_eval_samples, seed), tuple(notes)


def read_more(
    section: DataSection, source: Any, problem_type: str = tasks.SINGLE_LABEL, key: str = "rows"
) -> tuple[Rows, tuple[str, ...]]:
    """All rows of another source, read as a recipe's validation rows are, and sentences about them.

    Args:
        source: the path of a file, or rows as `Given` takes them.
        key: what messages call it.

    Raises:
        DataError: it cannot be read.
    """
    targets = _targets(section, problem_type)
    if isinstance(source, str | Path):
        rows, notes = _read_file(section, targets, "validation_file", Path(source), True, key)
    else:
        rows, notes = _read_python(section, targets, "validation", source, True, "rows given")
    return rows, tuple(notes)


def _sampled(rows: Rows, count: int | None, seed: int) -> Rows:
    return rows if count is None or count >= len(rows) else sample(rows, count, seed)


def _read_files(section: DataSection, targets: Targets, needs_labels: bool) -> Splits:
    notes: list[str] = []

    def read_one(name: str, needs_labels: bool) -> Rows | None:
        path = getattr(section, name)
        if path is None:
            return None
        rows, found = _read_file(section, targets, name, locations.resolve(path, f"data.{name}"), needs_labels)
        notes.extend(found)
        return rows

    train = read_one("train_file", needs_labels)
    assert train is not None, "a validated recipe names data.train_file where it names no data set"
    return Splits(train, read_one("validation_file", True), read_one("test_file", False), tuple(notes))


def _read_file(
    section: DataSection, targets: Targets, name: str, path: Path, needs_labels: bool, key: str | None = None
) -> tuple[Rows, list[str]]:
    """The rows of one file, read as the one that `data.NAME` says; `key` is what messages call it else."""
    key = key or f"data.{name}"
    if targets.problem_type == tasks.TOKENS and path.suffix.lower() in conll.ENDINGS:
        if targets.weight_column is not None:
            raise DataError(
                f"data.sample_weight_column: got {targets.weight_column!r}; expected null, since {path.name} "
                "is in CoNLL's format, whose columns are of words"
            )
        return _conll_rows(path, section.encoding, key, needs_labels)
    if targets.problem_type == tasks.MASKED and path.suffix.lower() in TEXT_ENDINGS:
        found = documents.read_documents(path, documents=section.documents, encoding=section.encoding, key=key)
        return found, []
    return files.read_file(
        path,
        text_columns=section.text_columns,
        label_column=_label_column(section, targets),
        encoding=section.encoding,
        needs_labels=needs_labels and targets.problem_type != tasks.MASKED,
        drop_invalid=section.drop_invalid,
        targets=_targets_of(name, targets),
        key=key,
    )


def _conll_rows(path: Path, encoding: str, key: str, needs_labels: bool) -> tuple[Rows, list[str]]:
    sentences = conll.read_conll(path, encoding=encoding, key=key, needs_labels=needs_labels)
    rows = Rows(
        texts=([" ".join(words) for words in sentences.words],),
        labels=None if sentences.tags is None else [tuple(tags) for tags in sentences.tags],
        numbers=list(range(1, len(sentences.words) + 1)),
        source=path.name,
        lines=sentences.lines,
        words=[tuple(words) for words in sentences.words],
    )
    return rows, sentences.notes


def _read_given(section: DataSection, given: Given, targets: Targets, needs_labels: bool) -> Splits:
    notes: list[str] = []

    def read_one(name: str, needs_labels: bool) -> Rows | None:
        data = getattr(given, name)
        if data is None or isinstance(data, Rows):
            return data
        rows, found = _read_python(section, targets, name, data, needs_labels, f"{name} rows given")
        notes.extend(found)
        return rows

    train = read_one("train", needs_labels)
    assert train is not None
    return Splits(train, read_one("validation", True), read_one("test", False), tuple(notes))


def _read_python(
    section: DataSection, targets: Targets, name: str, data: Any, needs_labels: bool, source: str
) -> tuple[Rows, list[str]]:
    return memory.from_python(
        data,
        text_columns=section.text_columns,
        label_column=_label_column(section, targets),
        needs_labels=needs_labels and targets.problem_type != tasks.MASKED,
        drop_invalid=section.drop_invalid,
        targets=_targets_of(name, targets),
        source=source,
    )


def _targets(section: DataSection, problem_type: str) -> Targets:
    return Targets(problem_type, section.label_columns or (), section.label_separator, section.sample_weight_column)


def _label_column(section: DataSection, targets: Targets) -> str | None:
    return None if targets.problem_type == tasks.MASKED else section.label_column


def _targets_of(name: str, targets: Targets) -> Targets:
    """Weights are for training alone."""
    return targets if name.startswith("train") else replace(targets, weight_column=None)


def encode_splits(
    splits: Splits,
    tokenizer: Any,
    max_length: int,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    problem_type: str = tasks.SINGLE_LABEL,
    label_all_tokens: bool = False,
    strict: bool = False,
    long_text: LongText = TRUNCATE,
    label_names: Sequence[str] | None = None,
) -> Prepared:
    """Settles the classes on the training split and turns every split into token ids and class ids.

    Args:
        tokenizer: the checkpoint's.
        max_length: tokens a row may have.
        cache: a folder for token ids, see `encode.encode`.
        advance: called with the number of rows done, as they are done.
        problem_type: what the labels are.
        label_all_tokens: give a word's tag to all its pieces, not to the first alone.
        strict: make tags that break BIO an error, not a note.
        long_text: what becomes of texts longer than `max_length`.
        label_names: the classes in id order, where training rows may be without labels.

    Raises:
        DataError: there is one class only, or a label that the training split does not have; or, if `strict`, tags that
            break BIO.
    """
    tag_notes = [] if problem_type != tasks.TOKENS else _look_at_tags(splits, strict)
    if label_names is not None and splits.train.labels is None:
        label_map = labels.known_labels(tuple(label_names), splits.validation or splits.train, problem_type)
    else:
        label_map = labels.settle_labels(splits.train, problem_type)
    class_ids = {
        name: None if rows is None or rows.labels is None else labels.encode_labels(rows, label_map)
        for name, rows in _named(splits)
    }
    ready = {
        name: encode_split(
            name, rows, class_ids[name], tokenizer, max_length, cache, advance, label_all_tokens, long_text
        )
        for name, rows in _named(splits)
        if rows is not None
    }
    notes = [*splits.notes, *tag_notes, *checks.examine(splits).sentences()]
    for split in ready.values():
        if (starts := split.encoded.window_starts) is not None:
            long = int((np.diff(starts) > 1).sum())
            notes.append(
                f"{split.name}: {long} of {len(split)} rows were longer than {max_length} tokens and have {starts[-1]} "
                f"windows with the others, at most {np.diff(starts).max()} a row"
            )
        if cut := split.encoded.truncated_rows:
            lost = int(split.encoded.lost_tokens.sum())
            notes.append(
                f"{split.name}: {cut} of {len(split)} rows were longer than {max_length} tokens and lost {lost} tokens "
                f"({lost / (lost + len(split.encoded.input_ids)):.1%} of all)"
            )
    return Prepared(ready["train"], ready.get("validation"), ready.get("test"), label_map, max_length, tuple(notes))


def encode_split(
    name: str,
    rows: Rows,
    labels: np.ndarray | None,
    tokenizer: Any,
    max_length: int,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    label_all_tokens: bool = False,
    long_text: LongText = TRUNCATE,
) -> Split:
    """One split as token ids.

    Args:
        labels: as `labels.encode_labels` gives them.

    The others are those of `encode_splits`.
    """
    weights = None if rows.weights is None else np.asarray(rows.weights, np.float32)
    if rows.words is None:
        encoded = encode(rows.texts, tokenizer, max_length, cache, advance, long_text)
        return Split(name, rows, encoded, labels, weights)
    words = encode_words(rows.words, tokenizer, max_length, cache, advance)
    if labels is not None:
        ends = np.cumsum([len(row) for row in rows.words])
        labels = align_labels(words, [row.tolist() for row in np.split(labels, ends[:-1])], label_all_tokens)
    return Split(name, rows, words.encoded, labels, weights, words=words)


def _look_at_tags(splits: Splits, strict: bool) -> list[str]:
    """Sentences about tags that break BIO: as many as there are, and where the first one is."""
    notes = []
    for name, rows in _named(splits):
        broken = tags.broken_tags(rows.labels) if rows is not None and rows.labels is not None else []
        if not broken or rows is None or rows.labels is None or rows.words is None:
            continue
        sentence, word = broken[0]
        said = (
            f"{counted(len(broken), 'tag')} of {name} {'breaks' if len(broken) == 1 else 'break'} BIO (an I- tag that "
            f"follows no tag of its kind, or no such tag at all): first {rows.labels[sentence][word]!r} at word "
            f"{word + 1} ({rows.words[sentence][word]!r}) of {rows.name_row(sentence)}"
        )
        if strict:
            raise DataError(f"{said}; correct them, or take them as they are with data.strict=false")
        notes.append(f"{said}; scores count it as the start of an entity.")
    return notes


def _named(splits: Splits) -> list[tuple[str, Rows | None]]:
    return [("train", splits.train), ("validation", splits.validation), ("test", splits.test)]
