"""`evaluate` module: Pearson correlation of numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr

_DESCRIPTION = """\
Pearson correlation coefficient: how close the relation of two series of numbers is to a straight line.
"""
_INPUTS = """
Args:
    predictions (`list` of `float`): predicted numbers.
    references (`list` of `float`): right numbers.
Returns:
    pearsonr (`float`): from -1.0 to 1.0; higher is better. nan where either side is constant or there is one row only.
"""
_CITATION = """\
@article{pearson1895note,
  title={Note on regression and inheritance in the case of two parents},
  author={Pearson, Karl},
  journal={Proceedings of the Royal Society of London},
  volume={58},
  pages={240--242},
  year={1895}
}
"""


class Pearsonr(evaluate.Metric):
    """Pearson correlation of numbers."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
            reference_urls=["https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.pearsonr.html"],
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        # Asked for numpy, datasets would hand over float32.
        predicted, right = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
        if len(predicted) < 2:
            return {"pearsonr": float("nan")}
        # A constant side gives nan, which says it all: scipy's warning would come once an epoch.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return {"pearsonr": float(pearsonr(right, predicted)[0])}
