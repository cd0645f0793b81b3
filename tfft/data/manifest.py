"""What is written beside the shards of a data set: how many rows, how long, of which labels, encoded by what.

`shards` writes and reads them; here is only what is known without a row being read, so that a training of more rows
than memory holds can be planned.

Example:
    >>> facts = SplitFacts(name="train", rows=3, lengths=((5, 2), (9, 1)), cut_rows=0, lost_tokens=0, shards=())
    >>> tokens = ShardedTokens(facts)
    >>> tokens.total_tokens, tokens.length_counts
    (19, (array([5, 9]), array([2, 1])))
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from tfft import tasks
from tfft.data.labels import LabelCounts, LabelMap
from tfft.errors import DataError

# Raised whenever what a manifest or a record holds, or what it means, changes.
FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Part):
    """One file of records, a row each.

    Attributes:
        name: of the file, inside the folder of the manifest.
        rows, tokens, bytes: how many it has.
        sha256: of its bytes.
    """

    name: str
    rows: int
    tokens: int
    bytes: int
    sha256: str


class SplitFacts(_Part):
    """What is written of one split.

    Attributes:
        name: `train`, `validation` or `test`.
        rows: in all shards.
        lengths: (tokens of a row, rows of that length), ascending.
        cut_rows, lost_tokens: rows that were longer than `max_length`, and what they lost.
        class_rows: rows of each class; None where the split has no labels, or where they are numbers.
        numbers: the least, the mean and the greatest label, where they are numbers.
        weighted: whether every row says what it counts in the loss.
        token_types: whether rows have token types.
        shards: in the order of their rows.
    """

    name: Literal["train", "validation", "test"]
    rows: int
    lengths: tuple[tuple[int, int], ...]
    cut_rows: int
    lost_tokens: int
    class_rows: tuple[int, ...] | None = None
    numbers: tuple[float, float, float] | None = None
    weighted: bool = False
    token_types: bool = False
    shards: tuple[Shard, ...]

    @property
    def has_labels(self) -> bool:
        """Whether rows have labels."""
        return self.class_rows is not None or self.numbers is not None

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return sum(length * rows for length, rows in self.lengths)


class Encoding(_Part):
    """What the records depend on: a recipe that reads them has to say the same.

    Attributes:
        task, problem_type: what labels are.
        checkpoint: whose tokenizer made the token ids.
        tokenizer: a SHA-256 over the tokenizer and all other settings of the encoding.
        Others: the keys of the section `data` of the same name.
    """

    task: str
    problem_type: str
    checkpoint: str
    tokenizer: str
    max_length: int
    long_text: str
    text_columns: tuple[str, ...]
    label_column: str
    label_columns: tuple[str, ...] | None
    label_separator: str | None
    sample_weight_column: str | None


class Manifest(_Part):
    """All that is known of a data set in shards.

    Attributes:
        format: of this and of the records.
        written_by: the version of tfft.
        encoding: what the records depend on.
        seed: by which the training rows were shuffled before they were written.
        label_names, label_values: see `labels.LabelMap`.
        notes: plain sentences about the data.
        splits: the training split first.
    """

    format: int
    written_by: str
    encoding: Encoding
    seed: int
    label_names: tuple[str, ...]
    label_values: tuple[bool | int | str, ...]
    notes: tuple[str, ...]
    splits: tuple[SplitFacts, ...]

    @property
    def label_map(self) -> LabelMap:
        """The classes."""
        return LabelMap(self.label_names, self.label_values, self.encoding.problem_type)

    @property
    def shards(self) -> list[Shard]:
        """Those of all splits."""
        return [shard for split in self.splits for shard in split.shards]

    def split(self, name: str) -> SplitFacts | None:
        """The split of that name, where there is one."""
        return next((split for split in self.splits if split.name == name), None)

    def label_type(self) -> tuple[tuple[int, ...], type[np.generic]]:
        """Shape and type of a row's labels."""
        if self.encoding.problem_type == tasks.MULTI_LABEL:
            return (len(self.label_names),), np.float32
        return (), np.float32 if self.encoding.problem_type == tasks.REGRESSION else np.int32


class ShardedTokens:
    """What is known of the token ids of rows in shards; what is here is called as in `encode.Encoded`."""

    from_cache = False
    window_starts = None

    def __init__(self, facts: SplitFacts) -> None:
        self._facts = facts

    def __len__(self) -> int:
        return self._facts.rows

    @property
    def texts(self) -> int:
        """As many as rows."""
        return self._facts.rows

    @property
    def length_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """The lengths that occur, ascending, and how many rows have each."""
        pairs = np.asarray(self._facts.lengths, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    @property
    def total_tokens(self) -> int:
        """Tokens of all rows."""
        return self._facts.tokens

    @property
    def truncated_rows(self) -> int:
        """How many rows lost tokens."""
        return self._facts.cut_rows


@dataclass(frozen=True)
class ShardedSplit:
    """Training rows that stay in their shards; what is here is called as in `data.Split`.

    Attributes:
        facts: what is written of them.
        manifest: where that is written.
        folder: where the shards are, on any file system that `tf.io.gfile` knows.
    """

    facts: SplitFacts
    manifest: Manifest
    folder: str

    @property
    def name(self) -> str:
        """`train`."""
        return self.facts.name

    @property
    def encoded(self) -> ShardedTokens:
        """What is known of the token ids."""
        return ShardedTokens(self.facts)

    @property
    def has_labels(self) -> bool:
        """Whether rows have labels."""
        return self.facts.has_labels

    def __len__(self) -> int:
        return self.facts.rows

    def label_counts(self, classes: int) -> LabelCounts:
        """Rows of each class."""
        return LabelCounts(self.facts.rows, np.asarray(self.facts.class_rows or [0] * classes, np.int64))

    def label_range(self) -> tuple[float, float, float]:
        """The least, the mean and the greatest label, where those are numbers."""
        assert self.facts.numbers is not None
        return self.facts.numbers

    def fingerprint(self) -> str:
        """A SHA-256 over all that is trained on: by the checksums of the shards, in their order."""
        return hashlib.sha256("".join(one.sha256 for one in self.facts.shards).encode()).hexdigest()


def parse(text: str | bytes, place: str) -> Manifest:
    """The manifest that is written at `place`.

    Raises:
        DataError: it is none, it is of another version, or it contradicts itself.
    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValueError:
        raise DataError(f"{place} is no manifest of shards that this version of tfft knows; write them again") from None
    if manifest.format != FORMAT:
        raise DataError(
            f"{place} is of format {manifest.format}, and this version of tfft reads {FORMAT}; write the shards again"
        )
    for split in manifest.splits:
        counts = {split.rows, sum(rows for _, rows in split.lengths), sum(shard.rows for shard in split.shards)}
        if len(counts) > 1 or split.tokens != sum(shard.tokens for shard in split.shards):
            raise DataError(f"{place} contradicts itself about the rows of {split.name}; write the shards again")
    if manifest.split("train") is None:
        raise DataError(f"{place} has no training split; write the shards again")
    return manifest


def differences(written: Encoding, wanted: Encoding) -> list[str]:
    """A sentence for each key that a recipe says otherwise than the shards were written with."""
    given: dict[str, Any] = wanted.model_dump()
    found = []
    for name, was in written.model_dump().items():
        if name in ("checkpoint", "tokenizer") or given[name] == was:
            continue
        key = name if name in ("task", "problem_type") else f"data.{name}"
        found.append(f"{key}: got {_shown(given[name])}; expected {_shown(was)}, with which the shards were written")
    if not found and written.tokenizer != wanted.tokenizer:
        found.append(
            f"model.name_or_path: the tokenizer of {wanted.checkpoint} is not that of {written.checkpoint}, by which "
            "the shards were written"
        )
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)
