"""`evaluate` module: the share of rows whose predicted label is the right one."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score

_DESCRIPTION = "Accuracy: the number of rows whose predicted label equals the reference, divided by the number of rows."
_INPUTS = """
Args:
    predictions (`list` of `int`): predicted label ids; in the configuration "multilabel", a list of 0 or 1 for every
        class, and a row is right where all of it is.
    references (`list` of `int`): right label ids, or such lists.
Returns:
    accuracy (`float`): from 0.0 to 1.0; higher is better.
"""
_CITATION = """\
@article{scikit-learn,
  title={Scikit-learn: Machine Learning in {P}ython},
  author={Pedregosa, F. and Varoquaux, G. and Gramfort, A. and Michel, V. and Thirion, B. and Grisel, O. and
    Blondel, M. and Prettenhofer, P. and Weiss, R. and Dubourg, V. and Vanderplas, J. and Passos, A. and
    Cournapeau, D. and Brucher, M. and Perrot, M. and Duchesnay, E.},
  journal={Journal of Machine Learning Research},
  volume={12},
  pages={2825--2830},
  year={2011}
}
"""


class Accuracy(evaluate.Metric):
    """Accuracy of label ids."""

    def _info(self) -> evaluate.MetricInfo:
        several = self.config_name == "multilabel"
        labels = datasets.Sequence(datasets.Value("int64")) if several else datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": labels, "references": labels}),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.accuracy_score.html"],
            format=None if several else "numpy",
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
