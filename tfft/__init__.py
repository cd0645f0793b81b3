"""tfft: fine-tune Hugging Face models in TensorFlow and Keras.

Importing this package loads neither TensorFlow nor Transformers. It only settles what cannot be changed once TensorFlow
is loaded: which Keras it will use, since the TensorFlow models of Transformers are Keras 2 models (`tf_keras`) and
`tf.keras` is Keras 3 unless `TF_USE_LEGACY_KERAS` says otherwise; and how it keeps the CPU's memory.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from tfft import allocator

__version__ = "0.1.0"

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
allocator.keep_memory()

if TYPE_CHECKING:
    from tfft.attention import attention as attention
    from tfft.distill import distill as distill
    from tfft.evaluate import evaluate as evaluate
    from tfft.evaluation import Evaluation as Evaluation
    from tfft.export import export as export
    from tfft.fit import FitResult as FitResult
    from tfft.fit import fit as fit
    from tfft.loaded import load as load
    from tfft.lr_find import lr_find as lr_find
    from tfft.pipelines import pipeline as pipeline
    from tfft.pretrain import pretrain as pretrain
    from tfft.push import push as push
    from tfft.rate_curve import RateCurve as RateCurve
    from tfft.recipe import Recipe as Recipe
    from tfft.report import report as report
    from tfft.seeds import SeedsResult as SeedsResult
    from tfft.seeds import seeds as seeds
    from tfft.sweep import sweep as sweep

# Public name -> the module that holds it. A name that is a module itself (`fit`) can be called: command.make_callable.
_LAZY = {
    "Evaluation": "tfft.evaluation",
    "Recipe": "tfft.recipe",
    "FitResult": "tfft.fit",
    "RateCurve": "tfft.rate_curve",
    "SeedsResult": "tfft.seeds",
    "load": "tfft.loaded",
    "pipeline": "tfft.pipelines",
}
_MODULES = (
    "attention",
    "callbacks",
    "data",
    "distill",
    "errors",
    "export",
    "evaluate",
    "fit",
    "hardware",
    "lr_find",
    "metrics",
    "models",
    "optimizers",
    "pretrain",
    "push",
    "recipe",
    "report",
    "seeds",
    "sweep",
)

__all__ = [
    "Evaluation",
    "FitResult",
    "RateCurve",
    "Recipe",
    "SeedsResult",
    "__version__",
    "load",
    "pipeline",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"tfft.{name}")
    raise AttributeError(f"module 'tfft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
