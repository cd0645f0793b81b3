"""`evaluate` module: Spearman rank correlation of numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from scipy.stats import spearmanr

_DESCRIPTION = """\
Spearman rank correlation coefficient: the Pearson correlation of the ranks, hence how well the order is kept.
"""
_INPUTS = """
Args:
    predictions (`list` of `float`): predicted numbers.
    references (`list` of `float`): right numbers.
Returns:
    spearmanr (`float`): from -1.0 to 1.0; higher is better. nan where either side is constant or there is one row only.
"""
_CITATION = """\
@article{spearman1904proof,
  title={The proof and measurement of association between two things},
  author={Spearman, Charles},
  journal={The American Journal of Psychology},
  volume={15},
  number={1},
  pages={72--101},
  year={1904}
}
"""


class Spearmanr(evaluate.Metric):
    """Spearman rank correlation of numbers."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
            reference_urls=["https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.spearmanr.html"],
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        # Asked for numpy, datasets would hand over float32.
        predicted, right = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
        if len(predicted) < 2:
            return {"spearmanr": float("nan")}
        # A constant side gives nan, which says it all: scipy's warning would come once an epoch.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return {"spearmanr": float(spearmanr(right, predicted)[0])}
