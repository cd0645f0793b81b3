"""What a task is: the head it puts on a model, the metrics it is scored by, and which direction of a score is better.

Plain tables, so that a recipe can be checked before anything large is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Direction = Literal["max", "min"]


SINGLE_LABEL, MULTI_LABEL, REGRESSION, TOKENS, MASKED = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "masked_language_modeling",
)
FILL_MASK = "fill-mask"


@dataclass(frozen=True)
class Task:
    """One kind of training.

    Attributes:
        name: what a recipe's `task` says.
        auto_class: the class of Transformers that makes the model.
        problem_types: what its labels may be, as Transformers' configurations call it; the first where nothing is said.
    """

    name: str
    auto_class: str
    problem_types: tuple[str, ...]


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "text-classification": Task(
            "text-classification",
            "TFAutoModelForSequenceClassification",
            (SINGLE_LABEL, MULTI_LABEL, REGRESSION),
        ),
        "token-classification": Task("token-classification", "TFAutoModelForTokenClassification", (TOKENS,)),
        FILL_MASK: Task(FILL_MASK, "TFAutoModelForMaskedLM", (MASKED,)),
    }
)

# The metrics computed where a recipe names none.
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        SINGLE_LABEL: ("accuracy",),
        MULTI_LABEL: ("f1_micro", "f1_macro"),
        REGRESSION: ("mse", "pearsonr", "spearmanr"),
        TOKENS: ("seqeval",),
        MASKED: (),
    }
)

# What masked tokens are scored by, whatever metrics there are.
MASKED_SCORES = ("loss", "perplexity", "accuracy")

METRIC_DIRECTIONS: Mapping[str, Direction] = MappingProxyType(
    {
        "loss": "min",
        "mse": "min",
        "perplexity": "min",
        "accuracy": "max",
        "f1": "max",
        "f1_macro": "max",
        "f1_micro": "max",
        "precision": "max",
        "recall": "max",
        "matthews_correlation": "max",
        "pearson": "max",
        "pearsonr": "max",
        "spearmanr": "max",
    }
)

# The packaged metrics and the scores each yields. `tfft.metrics` says the same where it loads them; a recipe's error
# must not wait for its imports. A test holds the two together.
METRIC_SCORES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "accuracy": ("accuracy",),
        "f1": ("f1",),
        "f1_macro": ("f1_macro",),
        "f1_micro": ("f1_micro",),
        "matthews_correlation": ("matthews_correlation",),
        "pearsonr": ("pearsonr",),
        "spearmanr": ("spearmanr",),
        "mse": ("mse",),
        "seqeval": ("precision", "recall", "f1", "accuracy"),
        "glue/cola": ("matthews_correlation",),
        "glue/sst2": ("accuracy",),
        "glue/mrpc": ("accuracy", "f1"),
        "glue/qqp": ("accuracy", "f1"),
        "glue/stsb": ("pearson", "spearmanr"),
        "glue/mnli": ("accuracy",),
        "glue/mnli_matched": ("accuracy",),
        "glue/mnli_mismatched": ("accuracy",),
        "glue/qnli": ("accuracy",),
        "glue/rte": ("accuracy",),
        "glue/wnli": ("accuracy",),
        "glue/hans": ("accuracy",),
    }
)

# Packaged metrics that compare numbers: of class ids they would say nothing that means anything.
NUMBER_METRICS = frozenset({"pearsonr", "spearmanr", "mse", "glue/stsb"})
# Packaged metrics that compare tags of words.
TAG_METRICS = frozenset({"seqeval"})
# Packaged metrics that know rows with several labels.
MULTI_LABEL_METRICS = frozenset({"accuracy", "f1_macro", "f1_micro"})


def problem_type(task: str, given: str | None) -> str:
    """What a recipe's labels are: `given`, or the usual of its task."""
    return given or TASKS[task].problem_types[0]


def fits(metric: str, problem: str) -> bool:
    """Whether a packaged metric says something of such labels; of metrics from the hub nothing is known."""
    if problem == MASKED:
        return False
    if metric not in METRIC_SCORES:
        return True
    if problem == MULTI_LABEL:
        return metric in MULTI_LABEL_METRICS
    if TAG_METRICS & {metric} or problem == TOKENS:
        return problem == TOKENS and metric in TAG_METRICS
    return (metric in NUMBER_METRICS) == (problem == REGRESSION)


def score_name(name: str) -> str:
    """A score's own name: `f1` for `eval_f1` and `val_f1`, as other programs call it."""
    return name.removeprefix("eval_").removeprefix("val_")


def direction(score: str) -> Direction | None:
    """Whether a larger or a smaller score is better; None where that is not known. Prefixes as in `score_name`."""
    return METRIC_DIRECTIONS.get(score_name(score))


def scores_of(metrics: Iterable[str], problem: str) -> tuple[str, ...] | None:
    """The names of all scores that these metrics yield, `loss` first; None where one of them is not packaged."""
    if problem == MASKED:
        return MASKED_SCORES
    found = ["loss"]
    for name in metrics:
        if name not in METRIC_SCORES:
            return None
        found.extend(METRIC_SCORES[name])
    return tuple(dict.fromkeys(found))
