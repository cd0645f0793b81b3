"""What happens during `fit`, one callback a file. Keras callbacks all, for anybody's own `model.fit` as well.

Example:
    >>> from tfft.callbacks import LearningRateLog, StopOnNaN
    >>> model.fit(dataset, callbacks=[StopOnNaN(), LearningRateLog()])  # doctest: +SKIP
"""

from __future__ import annotations

from tfft.callbacks.checkpoints import Checkpoints
from tfft.callbacks.learning_rate_log import LearningRateLog
from tfft.callbacks.progress import Progress
from tfft.callbacks.stop_at_batch import StopAtBatch
from tfft.callbacks.stop_on_nan import StopOnNaN
from tfft.callbacks.validation_scores import ValidationScores

__all__ = ["Checkpoints", "LearningRateLog", "Progress", "StopAtBatch", "StopOnNaN", "ValidationScores"]
