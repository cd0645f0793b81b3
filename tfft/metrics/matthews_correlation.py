"""`evaluate` module: Matthews correlation of label ids."""

from __future__ import annotations

import datasets
import evaluate
import numpy as np
from sklearn.metrics import matthews_corrcoef

_DESCRIPTION = """\
Matthews correlation coefficient: the correlation of predicted with right labels, a fair measure even where the classes
are of very different sizes. 1 is a perfect prediction, 0 no better than chance, -1 always wrong (for two classes).
"""
_INPUTS = """
Args:
    predictions (`list` of `int`): predicted label ids.
    references (`list` of `int`): right label ids.
Returns:
    matthews_correlation (`float`): from -1.0 to 1.0; higher is better. 0.0 where either side has one class only.
"""
_CITATION = """\
@article{matthews1975comparison,
  title={Comparison of the predicted and observed secondary structure of {T4} phage lysozyme},
  author={Matthews, B. W.},
  journal={Biochimica et Biophysica Acta (BBA) - Protein Structure},
  volume={405},
  number={2},
  pages={442--451},
  year={1975}
}
"""


class MatthewsCorrelation(evaluate.Metric):
    """Matthews correlation of label ids."""

    def _info(self) -> evaluate.MetricInfo:
        labels = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": labels, "references": labels}),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.matthews_corrcoef.html"],
            format="numpy",
        )

    def _compute(self, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
        # scikit-learn's own value for one class on both sides, without the warning that it gives there.
        if np.unique(np.concatenate([predictions, references])).size == 1:
            return {"matthews_correlation": 0.0}
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
