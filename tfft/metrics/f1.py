"""`evaluate` module: F1 of two classes, of many by macro or micro average, or of rows with several labels."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np
from sklearn.metrics import f1_score

_DESCRIPTION = """\
F1: the harmonic mean of precision and recall, 2 * precision * recall / (precision + recall). Configurations: the
default one is for two classes, with label id 1 as the positive class; "macro" is the plain mean of every class's F1;
"micro" counts true positives, false positives and false negatives over all classes together. "multilabel-macro" and
"multilabel-micro" do the same for rows that have any number of classes.
"""
_INPUTS = """
Args:
    predictions (`list` of `int`): predicted label ids; with several labels, a list of 0 or 1 for every class.
    references (`list` of `int`): right label ids, or such lists.
Returns:
    f1, f1_macro or f1_micro by configuration (`float`): from 0.0 to 1.0; higher is better. A class with neither
    predictions nor references of its own counts as 0.0.
"""
_CITATION = """\
@book{vanrijsbergen1979information,
  title={Information Retrieval},
  author={van Rijsbergen, C. J.},
  edition={2},
  publisher={Butterworths},
  year={1979}
}
"""
_AVERAGES = {
    "default": "binary",
    "macro": "macro",
    "micro": "micro",
    "multilabel-macro": "macro",
    "multilabel-micro": "micro",
}


class F1(evaluate.Metric):
    """F1 of label ids; the configuration is the average."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _AVERAGES:
            raise KeyError(f"f1 has no configuration {self.config_name}; expected one of {', '.join(_AVERAGES)}")
        several = self.config_name.startswith("multilabel")
        labels = datasets.Sequence(datasets.Value("int64")) if several else datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": labels, "references": labels}),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.f1_score.html"],
            format=None if several else "numpy",
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        average = _AVERAGES[self.config_name]
        key = "f1" if average == "binary" else f"f1_{average}"
        return {key: float(f1_score(references, predictions, average=average, zero_division=0.0))}
