"""`evaluate` module: the scores of the GLUE tasks, by their names on the hub."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

_DESCRIPTION = """\
GLUE, the General Language Understanding Evaluation benchmark: nine tasks of understanding English sentences, each with
scores of its own. The configuration is the task.
"""
_INPUTS = """
Args:
    predictions: predicted label ids (`int`), or similarities (`float`) for stsb.
    references: right label ids (`int`), or similarities (`float`) for stsb.
Returns, by configuration:
    accuracy: sst2, mrpc, qqp, mnli, mnli_matched, mnli_mismatched, qnli, rte, wnli, hans.
    f1: mrpc, qqp; label id 1 (a paraphrase) is the positive class.
    pearson, spearmanr: stsb; nan where either side is constant or there is one row only.
    matthews_correlation: cola.
"""
_CITATION = """\
@inproceedings{wang2019glue,
  title={{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author={Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer and Bowman, Samuel R.},
  booktitle={International Conference on Learning Representations},
  year={2019}
}
"""


def _accuracy(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    return {"accuracy": float(accuracy_score(references, predictions))}


def _accuracy_and_f1(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    f1 = float(f1_score(references, predictions, zero_division=0.0))
    return {**_accuracy(predictions, references), "f1": f1}


def _matthews(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    # scikit-learn's own value for one class on both sides, without the warning that it gives there.
    if np.unique(np.concatenate([predictions, references])).size == 1:
        return {"matthews_correlation": 0.0}
    return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


def _correlations(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    if len(predictions) < 2:
        return {"pearson": float("nan"), "spearmanr": float("nan")}
    # A constant side gives nan, which says it all: scipy's warning would come once an epoch.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {
            "pearson": float(pearsonr(references, predictions)[0]),
            "spearmanr": float(spearmanr(references, predictions)[0]),
        }


_SCORES = {
    "cola": _matthews,
    "sst2": _accuracy,
    "mrpc": _accuracy_and_f1,
    "qqp": _accuracy_and_f1,
    "stsb": _correlations,
    "mnli": _accuracy,
    "mnli_matched": _accuracy,
    "mnli_mismatched": _accuracy,
    "qnli": _accuracy,
    "rte": _accuracy,
    "wnli": _accuracy,
    "hans": _accuracy,
}


class Glue(evaluate.Metric):
    """Scores of one GLUE task."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _SCORES:
            raise KeyError(f"glue has no configuration {self.config_name}; expected one of {', '.join(_SCORES)}")
        value = datasets.Value("float64" if self.config_name == "stsb" else "int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": value, "references": value}),
            homepage="https://gluebenchmark.com",
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        # Lists, not numpy: asked for numpy, datasets would hand over float32.
        return _SCORES[self.config_name](np.asarray(predictions), np.asarray(references))
