"""What a problem makes of labels and logits: the loss, decisions, scores' input, and how a prediction is shown.

One class for each problem type of `tasks`, all with the same methods.

Example:
    >>> logits = np.log([[3.0, 1.0], [1.0, 4.0]])  # (rows, classes): the odds are 3 to 1, and 1 to 4
    >>> problem = SingleLabel(("bad", "good"))
    >>> problem.decide(logits).tolist()
    [0, 1]
    >>> list(problem.cells(logits, labels=np.array([0, 0])))  # label, prediction, probability
    [('bad', 'bad', '0.750000'), ('bad', 'good', '0.800000')]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfft import tasks
from tfft.backend import keras
from tfft.data import LabelMap, Split, tags, words
from tfft.data.labels import LabelCounts, count_labels
from tfft.data.words import EncodedWords
from tfft.models import heads
from tfft.thresholds import best_threshold

_NO_LABELS = "a masked-LM model gives no labels; tfft.pipeline('fill-mask', MODEL) fills in what is hidden"


class Prediction(NamedTuple):
    """The likeliest class of one text, and its probability."""

    label: str
    probability: float


class Entity(NamedTuple):
    """Words that form an entity: its type, where it stands in the text, from `start` to before `end` in characters.

    The probability is the mean of those of its words' tags.
    """

    label: str
    text: str
    start: int
    end: int
    probability: float


class Labels(NamedTuple):
    """The classes of one text, those whose probability reaches the threshold, and the probability of every class."""

    labels: tuple[str, ...]
    probabilities: Mapping[str, float]


class Problem(Protocol):
    """What every problem type can say of labels and logits.

    Attributes:
        names: of the classes in id order; of the number that is learned.
    """

    names: tuple[str, ...]

    def loss(
        self, *, label_smoothing: float, focal_gamma: float, class_weights: Sequence[float] | None, r_drop_alpha: float
    ) -> keras.losses.Loss:
        """The loss to train with."""

    def balanced_weights(self, labels: np.ndarray | LabelCounts) -> list[float]:
        """Class weights that make up for classes of different size in `labels`, or where those were counted."""

    def mean_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The plain loss over all rows: logits (rows, outputs) and labels as `data.labels.encode_labels` gives them."""

    def tune(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Settles on the validation rows what decisions need; returns what was settled, by name."""

    def compared(self, logits: np.ndarray, split: Split) -> tuple[Any, Any]:
        """What metrics compare: predictions and references."""

    def every_label(self) -> Any:
        """References in which every class occurs, for trying whether a metric fits."""

    def answers(self, logits: np.ndarray) -> list[Any]:
        """What a user gets for each row."""

    def ranked(self, logits: np.ndarray, top_k: int) -> list[list[Prediction]]:
        """The `top_k` likeliest classes of each row, best first; a TypeError where rows have no classes."""

    def table(self, logits: np.ndarray, split: Split) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """A table of predictions: its columns, and its rows one after the other."""

    def note_in(self, config: Any) -> None:
        """Writes into a model's configuration what whoever loads it needs to decide as this does."""


def _counted(labels: np.ndarray | LabelCounts, names: tuple[str, ...]) -> LabelCounts:
    return labels if isinstance(labels, LabelCounts) else count_labels(labels, len(names))


def _ranked(names: Sequence[str], shares: np.ndarray, top_k: int) -> list[list[Prediction]]:
    """The `top_k` classes with the largest shares (rows, classes), best first; of equal ones the first."""
    order = np.argsort(-shares, axis=-1, kind="stable")[:, :top_k]
    return [[Prediction(names[at], float(row[at])) for at in best] for best, row in zip(order, shares, strict=True)]


class _OfRows:
    """What the problems share whose rows are texts."""

    def ranked(self, logits: np.ndarray, top_k: int) -> list[list[Prediction]]:
        """There are no classes to rank."""
        raise TypeError("only classes of texts can be ranked")

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The decision for each row: of the same shape as the labels."""
        raise NotImplementedError

    def columns(self) -> list[str]:
        """The columns of a table of predictions, after those of the texts."""
        raise NotImplementedError

    def cells(self, logits: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """The cells of those columns, a tuple a row."""
        raise NotImplementedError

    def compared(self, logits: np.ndarray, split: Split) -> tuple[Any, Any]:
        """Decisions and labels."""
        return self.decide(logits), split.labels

    def table(self, logits: np.ndarray, split: Split) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """A row for each: its number in its source, its texts, and what is known and decided of it."""
        assert split.labels is not None
        texts = ["text", "text_pair"][: len(split.rows.texts)]
        rows = zip(
            split.rows.numbers, zip(*split.rows.texts, strict=True), self.cells(logits, split.labels), strict=True
        )
        return ["row", *texts, *self.columns()], ((number, *text, *cells) for number, text, cells in rows)


class SingleLabel(_OfRows):
    """One class for each row; labels are (rows,) class ids."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def loss(self, **settings: Any) -> keras.losses.Loss:
        """Cross-entropy."""
        return heads.CrossEntropyFromLogits(**settings)

    def balanced_weights(self, labels: np.ndarray | LabelCounts) -> list[float]:
        """Every class counts the same in sum."""
        return heads.balanced_by_counts(_counted(labels, self.names).of_class)

    def mean_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Cross-entropy."""
        return heads.mean_cross_entropy(logits, labels)

    def tune(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Nothing to settle."""
        return {}

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """(rows,) ids of the likeliest classes."""
        return logits.argmax(axis=-1)

    def every_label(self) -> np.ndarray:
        """Each class once."""
        return np.arange(len(self.names))

    def answers(self, logits: np.ndarray) -> list[Prediction]:
        """The likeliest class and its probability."""
        return [best for (best,) in self.ranked(logits, 1)]

    def ranked(self, logits: np.ndarray, top_k: int) -> list[list[Prediction]]:
        """The likeliest classes, best first."""
        return _ranked(self.names, heads.probabilities(logits), top_k)

    def columns(self) -> list[str]:
        """Label, prediction and its probability."""
        return ["label", "prediction", "probability"]

    def cells(self, logits: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """As `columns`."""
        for label, (prediction, probability) in zip(labels, self.answers(logits), strict=True):
            yield self.names[label], prediction, f"{probability:.6f}"

    def note_in(self, config: Any) -> None:
        """Nothing to write."""


class MultiLabel(_OfRows):
    """Any number of classes for each row; labels are (rows, classes), 0 or 1.

    Attributes:
        threshold: the probability from which on a row has a class; one half until `tune` settles another.
    """

    def __init__(self, names: tuple[str, ...], threshold: float = 0.5) -> None:
        self.names, self.threshold = names, threshold

    def loss(self, **settings: Any) -> keras.losses.Loss:
        """Binary cross-entropy of every class."""
        return heads.BinaryCrossEntropyFromLogits(**settings)

    def balanced_weights(self, labels: np.ndarray | LabelCounts) -> list[float]:
        """For each class, the rows without it for one with it."""
        return heads.balanced_labels_by_counts(*_counted(labels, self.names))

    def mean_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Binary cross-entropy, the mean over rows and classes."""
        return heads.mean_binary_cross_entropy(logits, labels)

    def tune(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """The threshold that gives these rows the largest micro F1."""
        self.threshold = best_threshold(heads.sigmoids(logits), labels)
        return {"threshold": self.threshold}

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """(rows, classes), 1 where the probability reaches the threshold."""
        return (heads.sigmoids(logits) >= self.threshold).astype(np.int64)

    def every_label(self) -> np.ndarray:
        """Each class in a row of its own."""
        return np.eye(len(self.names), dtype=np.int64)

    def answers(self, logits: np.ndarray) -> list[Labels]:
        """The classes that reach the threshold, and all probabilities."""
        shares, has = heads.sigmoids(logits), self.decide(logits)
        return [
            Labels(self._named(chosen), dict(zip(self.names, map(float, row), strict=True)))
            for chosen, row in zip(has, shares, strict=True)
        ]

    def ranked(self, logits: np.ndarray, top_k: int) -> list[list[Prediction]]:
        """The likeliest classes, best first, whether or not they reach the threshold."""
        return _ranked(self.names, heads.sigmoids(logits), top_k)

    def columns(self) -> list[str]:
        """Labels, predictions, and a probability for each class."""
        return ["labels", "predictions", *(f"probability_{name}" for name in self.names)]

    def cells(self, logits: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """As `columns`; names stand one behind the other, with a semicolon between them."""
        shares, has = heads.sigmoids(logits), self.decide(logits)
        for true, chosen, row in zip(labels, has, shares, strict=True):
            yield ";".join(self._named(true)), ";".join(self._named(chosen)), *(f"{share:.6f}" for share in row)

    def note_in(self, config: Any) -> None:
        """The threshold."""
        config.threshold = self.threshold

    def _named(self, has: np.ndarray) -> tuple[str, ...]:
        return tuple(name for name, one in zip(self.names, has, strict=True) if one)


class Regression(_OfRows):
    """A number for each row; labels are (rows,) float32, and the model has one output."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def loss(self, *, r_drop_alpha: float, **settings: Any) -> keras.losses.Loss:
        """Squared error; what is of classes does not count here, and a recipe that asks for it is refused."""
        return heads.SquaredError(r_drop_alpha)

    def balanced_weights(self, labels: np.ndarray | LabelCounts) -> list[float]:
        """There are no classes."""
        raise ValueError("class weights are for classes; this is regression")

    def mean_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The mean squared error."""
        return float(np.square(self.decide(logits) - labels).mean())

    def tune(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Nothing to settle."""
        return {}

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """(rows,) the predicted numbers."""
        return logits.reshape(-1).astype(np.float64)

    def every_label(self) -> np.ndarray:
        """Two numbers: a correlation needs them to differ."""
        return np.array([0.0, 1.0])

    def answers(self, logits: np.ndarray) -> list[float]:
        """The number."""
        return self.decide(logits).tolist()

    def columns(self) -> list[str]:
        """Label and prediction."""
        return ["label", "prediction"]

    def cells(self, logits: np.ndarray, labels: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """As `columns`."""
        for label, prediction in zip(labels, self.decide(logits), strict=True):
            yield f"{label:.6g}", f"{prediction:.6f}"

    def note_in(self, config: Any) -> None:
        """Nothing to write."""


class WordTag(NamedTuple):
    """A word, its likeliest tag, and that tag's probability; for a word that was cut off, the tag O and None."""

    word: str
    tag: str
    probability: float | None


class Tokens:
    """A tag for each word; labels are (tokens,) class ids of the pieces, -100 where none counts.

    Words that were cut off at `max_length`, or of which the tokenizer makes no piece, count as `O` in scores: an entity
    in them is one that was not found.
    """

    OUTSIDE = "O"

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def loss(self, **settings: Any) -> keras.losses.Loss:
        """Cross-entropy of the pieces that count."""
        return heads.TokenCrossEntropyFromLogits(**settings)

    def balanced_weights(self, labels: np.ndarray | LabelCounts) -> list[float]:
        """Every tag counts the same in sum."""
        return heads.balanced_by_counts(_counted(labels, self.names).of_class)

    def mean_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Cross-entropy, the mean over all pieces that count."""
        counts = labels != words.IGNORED_LABEL
        return heads.mean_cross_entropy(logits[counts], labels[counts])

    def tune(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Nothing to settle."""
        return {}

    def compared(self, logits: np.ndarray, split: Split) -> tuple[Any, Any]:
        """The tags of every word of every sentence, predicted and true."""
        assert split.words is not None and split.rows.words is not None
        decided = self.tags(logits, split.words, split.rows.words)
        return [[one.tag for one in sentence] for sentence in decided], [list(tags) for tags in split.rows.labels or ()]

    def tags(
        self, logits: np.ndarray, encoded: EncodedWords, sentences: Sequence[Sequence[str]]
    ) -> list[list[WordTag]]:
        """A tag for each word of each sentence, from the logits (tokens, tags) of its first piece."""
        by_word = words.by_word(encoded, logits, list(map(len, sentences)), np.nan)
        found = []
        for sentence, rows in zip(sentences, by_word, strict=True):
            shares = heads.probabilities(rows)
            found.append([self._tag(word, share) for word, share in zip(sentence, shares, strict=True)])
        return found

    def _tag(self, word: str, shares: np.ndarray) -> WordTag:
        if np.isnan(shares).any():
            return WordTag(word, self.OUTSIDE, None)
        return WordTag(word, self.names[shares.argmax()], float(shares.max()))

    def entities(
        self, answers: Sequence[Sequence[WordTag]], texts: Sequence[str], places: Sequence[Sequence[tuple[int, int]]]
    ) -> list[list[Entity]]:
        """The entities of each text, by `data.tags.spans` of its words' tags.

        Args:
            answers: what `tags` gives for each text.
            texts: as they were given.
            places: for each text where its words begin and end, in characters.
        """
        found = []
        for answer, text, of_words in zip(answers, texts, places, strict=True):
            spans = tags.spans([one.tag for one in answer])
            found.append([_entity(span, answer, text, of_words) for span in spans])
        return found

    def every_label(self) -> Any:
        """One sentence that has every tag."""
        return [list(self.names)]

    def ranked(self, logits: np.ndarray, top_k: int) -> list[list[Prediction]]:
        """Tags are of words, and each has one."""
        raise TypeError("only classes of texts can be ranked")

    def answers(self, logits: np.ndarray) -> list[Any]:
        """Tags are of words: see `tags`."""
        raise TypeError("tags are of words; use tags(logits, encoded, sentences)")

    def table(self, logits: np.ndarray, split: Split) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """A row for each word: its sentence's number in its source, its own, the word, its tag, what is predicted."""
        assert split.words is not None and split.rows.words is not None
        decided = self.tags(logits, split.words, split.rows.words)
        rows = (
            (number, place + 1, one.word, tag, one.tag, "" if one.probability is None else f"{one.probability:.6f}")
            for number, tags, sentence in zip(split.rows.numbers, split.rows.labels or (), decided, strict=True)
            for place, (tag, one) in enumerate(zip(tags, sentence, strict=True))
        )
        return ["row", "word_number", "word", "label", "prediction", "probability"], rows

    def note_in(self, config: Any) -> None:
        """Nothing to write."""


class Masked(_OfRows):
    """Hidden tokens of texts without labels. What is predicted are tokens; `perplexity.MaskedScorer` scores them."""

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self.names = names

    def loss(self, *, label_smoothing: float, **_: Any) -> keras.losses.Loss:
        """Cross-entropy of the hidden tokens."""
        return heads.TokenCrossEntropyFromLogits(label_smoothing=label_smoothing)

    def balanced_weights(self, labels: np.ndarray | LabelCounts) -> list[float]:
        """There are no classes."""
        raise TypeError(_NO_LABELS)

    def mean_loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Logits of all tokens are too many to keep."""
        raise TypeError(_NO_LABELS)

    def tune(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Nothing to settle."""
        return {}

    def every_label(self) -> Any:
        """There are none."""
        raise TypeError(_NO_LABELS)

    def answers(self, logits: np.ndarray) -> list[Any]:
        """Texts get no labels."""
        raise TypeError(_NO_LABELS)

    def note_in(self, config: Any) -> None:
        """Nothing to write."""


def _entity(
    span: tuple[str, int, int], answer: Sequence[WordTag], text: str, places: Sequence[tuple[int, int]]
) -> Entity:
    label, first, last = span
    start, end = places[first][0], places[last][1]
    # A word without a probability was cut off; it has the tag O, and is in no entity.
    shares = [one.probability or 0.0 for one in answer[first : last + 1]]
    return Entity(label, text[start:end], start, end, sum(shares) / len(shares))


_KINDS = {
    tasks.SINGLE_LABEL: SingleLabel,
    tasks.MULTI_LABEL: MultiLabel,
    tasks.REGRESSION: Regression,
    tasks.TOKENS: Tokens,
    tasks.MASKED: Masked,
}


def make(label_map: LabelMap) -> Problem:
    """The problem whose labels these are."""
    problem: Problem = _KINDS[label_map.problem_type](label_map.names)
    return problem
