"""Scores of predictions, by `evaluate` modules that are part of this package and need no network.

Every file of this folder is an `evaluate` module of its own: `evaluate.load("…/tfft/metrics/f1.py", "macro")` works as
well. They are imported only when a metric is loaded, since `import evaluate` takes seconds and loads TensorFlow.
"""

from __future__ import annotations

import functools
import importlib
import numbers
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfft.errors import DataError, HubError, RecipeError, nearest

if TYPE_CHECKING:
    import evaluate


class _Packaged(NamedTuple):
    """Where a packaged metric is, the scores it yields, and whether it compares class ids (or else numbers).

    `of_many` is its configuration for rows with several labels, where it has one.
    """

    module: str
    class_name: str
    config: str | None
    keys: tuple[str, ...]
    of_classes: bool = True
    of_many: str | None = None


_ACCURACY = ("accuracy",)
_GLUE_KEYS = {
    "cola": ("matthews_correlation",),
    "sst2": _ACCURACY,
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearmanr"),
    "mnli": _ACCURACY,
    "mnli_matched": _ACCURACY,
    "mnli_mismatched": _ACCURACY,
    "qnli": _ACCURACY,
    "rte": _ACCURACY,
    "wnli": _ACCURACY,
    "hans": _ACCURACY,
}

_PACKAGED = {
    "accuracy": _Packaged("accuracy", "Accuracy", None, _ACCURACY, of_many="multilabel"),
    "f1": _Packaged("f1", "F1", None, ("f1",)),
    "f1_macro": _Packaged("f1", "F1", "macro", ("f1_macro",), of_many="multilabel-macro"),
    "f1_micro": _Packaged("f1", "F1", "micro", ("f1_micro",), of_many="multilabel-micro"),
    "matthews_correlation": _Packaged("matthews_correlation", "MatthewsCorrelation", None, ("matthews_correlation",)),
    "pearsonr": _Packaged("pearsonr", "Pearsonr", None, ("pearsonr",), of_classes=False),
    "spearmanr": _Packaged("spearmanr", "Spearmanr", None, ("spearmanr",), of_classes=False),
    "mse": _Packaged("mse", "Mse", None, ("mse",), of_classes=False),
    "seqeval": _Packaged("seqeval", "Seqeval", None, ("precision", "recall", "f1", "accuracy"), of_classes=False),
    **{
        f"glue/{task}": _Packaged("glue", "Glue", task, keys, of_classes=task != "stsb")
        for task, keys in _GLUE_KEYS.items()
    },
}

NAMES: tuple[str, ...] = tuple(_PACKAGED)

# A module from the hub keeps the state of the computation it is in, and one instance of it serves the whole process.
_HUB_LOCK = threading.Lock()


def keys(name: str) -> tuple[str, ...]:
    """The names of the scores that the packaged metric `name` yields.

    Raises:
        RecipeError: no packaged metric has this name (what a hub id yields is known only once it has run).
    """
    if name not in _PACKAGED:
        raise RecipeError(f"metric {name}: {_not_packaged(name)}")
    return _PACKAGED[name].keys


def load(name: str, several_labels: bool = False) -> evaluate.EvaluationModule:
    """The `evaluate` module called `name`: a packaged one without any network, any other from the hub or from a path.

    A packaged module keeps its rows in memory and leaves no file, so that any number of processes can use it at once.
    A module from the hub is code that runs here.

    Args:
        name: one of `NAMES`, a hub id (`rouge`, `OWNER/NAME`) or the path of a module's folder or `.py` file.
        several_labels: a packaged metric in its configuration for rows with several labels.

    Raises:
        RecipeError: a packaged metric has no such configuration.
        HubError: a name that is not packaged, and that the hub does not have or that cannot be fetched now.
    """
    if name not in _PACKAGED:
        return _load_from_hub(name)
    packaged = _PACKAGED[name]
    if several_labels and packaged.of_many is None:
        usable = ", ".join(one for one, known in _PACKAGED.items() if known.of_many)
        raise RecipeError(f"metric {name} is not for rows with several labels; those that are: {usable}")
    config = packaged.of_many if several_labels else packaged.config
    module = importlib.import_module(f"tfft.metrics.{packaged.module}")
    # evaluate makes its cache folder even where it then keeps everything in memory; the user's may be read-only.
    with tempfile.TemporaryDirectory(prefix="tfft-metric-") as folder:
        return getattr(module, packaged.class_name)(config, keep_in_memory=True, cache_dir=folder)


def compute(names: Sequence[str], predictions: Any, references: Any) -> dict[str, float]:
    """The scores of all metrics, in the order of `names`; a score that two packaged metrics share is there once.

    Args:
        names: packaged metrics (`NAMES`), hub ids, or both. What a hub metric yields besides single numbers (tables by
            class, curves) is left out.
        predictions: (rows,) label ids, or numbers for the metrics of regression; (rows, classes) of 0 and 1 where rows
            have several labels; a list of tags for each sentence. Logits are not taken.
        references: (rows,) of the same kind. For the binary `f1`, label id 1 is the positive class.

    Returns:
        Score name to value. A correlation with a constant is nan (`pearsonr`, `spearmanr`) or 0.0
        (`matthews_correlation`, as in scikit-learn).

    Raises:
        RecipeError: a metric that does not fit these predictions, or two different metrics with a score of one name.
        DataError: there are no rows.
        HubError: as `load`.
    """
    if not _are_tags(references):
        predictions, references = _arrays(predictions, references)
    names = tuple(dict.fromkeys(names))
    for name in names:
        _check_fit(name, predictions, references)
    scores: dict[str, float] = {}
    source: dict[str, str] = {}
    for name in names:
        for key, value in _scores(name, predictions, references).items():
            if key in source and not (name in _PACKAGED and source[key] in _PACKAGED):
                raise RecipeError(f"metrics {source[key]} and {name} both yield a score named {key}; use one of them")
            scores[key], source[key] = value, name
    return scores


def _are_tags(references: Any) -> bool:
    """Whether these are sentences' tags: lists of text."""
    if not isinstance(references, list) or not all(isinstance(one, list | tuple) for one in references):
        return False
    return any(isinstance(tag, str) for one in references for tag in one)


def _arrays(predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.shape != references.shape or references.ndim not in (1, 2):
        raise ValueError(
            f"predictions have shape {predictions.shape} and references {references.shape}; expected (rows,) for both, "
            "label ids or numbers, or (rows, classes) of 0 and 1; not logits"
        )
    if references.size == 0:
        raise DataError("no metric can be computed: there are no rows to score")
    return predictions, references


def _scores(name: str, predictions: Any, references: Any) -> dict[str, float]:
    if name in _PACKAGED:
        found = load(name, getattr(references, "ndim", 1) == 2).compute(predictions=predictions, references=references)
        return {key: float(found[key]) for key in keys(name)}
    with _HUB_LOCK:
        found = _hub_metric(name).compute(predictions=predictions, references=references)
    scores = {key: float(value) for key, value in found.items() if isinstance(value, numbers.Real)}
    if not scores:
        raise RecipeError(f"metric {name} yields no single number, only {', '.join(found)}; choose another metric")
    return scores


@functools.cache
def _hub_metric(name: str) -> evaluate.EvaluationModule:
    return load(name)  # fetched once a process: scores are wanted after every epoch


def _check_fit(name: str, predictions: Any, references: Any) -> None:
    """Raises a RecipeError where packaged metric `name` would give a number that means nothing."""
    if name in _PACKAGED and (name == "seqeval") != isinstance(references, list):
        what = "tags of words" if name == "seqeval" else "labels of rows"
        raise RecipeError(f"metric {name} compares {what}; choose one that fits the task")
    if name not in _PACKAGED or not _PACKAGED[name].of_classes:
        return
    for what, values in (("predictions", predictions), ("references", references)):
        if values.dtype.kind == "f" and not np.array_equal(values, np.trunc(values)):
            raise RecipeError(
                f"metric {name} compares label ids, but the {what} are fractions or nan; "
                "use pearsonr, spearmanr or mse for numbers"
            )
    if "f1" not in _PACKAGED[name].keys or references.ndim == 2:
        return
    found = np.union1d(predictions, references).astype(int).tolist()
    if not set(found) <= {0, 1}:
        remedy = "use accuracy with f1_macro or f1_micro" if name.startswith("glue/") else "use f1_macro or f1_micro"
        shown = ", ".join(map(str, found[:8])) + (", …" if len(found) > 8 else "")
        raise RecipeError(
            f"metric {name} is for two classes, label ids 0 and 1, but here are {shown}; {remedy} instead"
        )


def _load_from_hub(name: str) -> evaluate.EvaluationModule:
    from tfft import hub

    is_local = name.endswith(".py") or Path(name).is_dir()
    if not is_local and (name.partition("/")[0] == "glue" or not hub.is_hub_id(name)):
        raise HubError(f"metric {name}: {_not_packaged(name)}")
    is_reachable = not is_local and not hub.is_offline() and hub.is_reachable()

    import evaluate

    try:
        with _without_retries(is_needed=not is_reachable):
            return evaluate.load(name, keep_in_memory=True)
    except Exception as error:  # evaluate raises whatever it or the fetched code stumbles over
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if not is_local and not is_reachable:
            reason = "the hub cannot be reached, and its local cache does not have it"
        raise HubError(f"metric {name}: {_not_packaged(name)}. Loading it failed: {reason}") from error


@contextmanager
def _without_retries(is_needed: bool) -> Iterator[None]:
    """Has evaluate look only into its cache: where there is no hub it would try for half a minute first."""
    config: Any = importlib.import_module("evaluate.config")
    before = config.HF_EVALUATE_OFFLINE
    config.HF_EVALUATE_OFFLINE = before or is_needed
    try:
        yield
    finally:
        config.HF_EVALUATE_OFFLINE = before


def _not_packaged(name: str) -> str:
    close = nearest(name, NAMES)
    plain = ", ".join(one for one in NAMES if "/" not in one)
    tasks = ", ".join(_GLUE_KEYS)
    question = f"did you mean {close}? " if close else ""
    return f"not a packaged metric; {question}Those are {plain}, and glue/TASK with TASK one of {tasks}"
