"""`evaluate` module: mean squared error of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from sklearn.metrics import mean_squared_error

_DESCRIPTION = "Mean squared error: the mean over all rows of the squared difference of prediction and reference."
_INPUTS = """
Args:
    predictions (`list` of `float`): predicted numbers.
    references (`list` of `float`): right numbers.
Returns:
    mse (`float`): 0.0 or more; lower is better. nan where a prediction or a reference is not a finite number.
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


class Mse(evaluate.Metric):
    """Mean squared error of numbers."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
            reference_urls=[
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.mean_squared_error.html"
            ],
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        # Asked for numpy, datasets would hand over float32.
        predicted, right = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
        if not (np.isfinite(predicted).all() and np.isfinite(right).all()):
            return {"mse": float("nan")}  # scikit-learn raises here, but a diverged model still has a row in the table
        return {"mse": float(mean_squared_error(right, predicted))}
