"""What happens during `fit`, one callback a file. Keras callbacks all, for anybody's own `model.fit` as well.

Example:
    >>> from tfft.backend import keras
    >>> from tfft.callbacks import LearningRateLog, StopOnNaN
    >>> model = keras.Sequential([keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.5), loss="mse")
    >>> trained = model.fit([[1.0]], [[2.0]], verbose=0, callbacks=[StopOnNaN(), LearningRateLog()])
    >>> trained.history["learning_rate"]
    [0.5]
"""

from __future__ import annotations

from tfft.callbacks.attention_snapshots import AttentionSnapshots
from tfft.callbacks.checkpoints import Checkpoints
from tfft.callbacks.exact_checkpoint import ExactCheckpoint
from tfft.callbacks.gradual_unfreezing import GradualUnfreezing
from tfft.callbacks.learning_rate_log import LearningRateLog
from tfft.callbacks.mlflow_log import MLflowLog
from tfft.callbacks.progress import Progress
from tfft.callbacks.push_to_hub import PushToHub
from tfft.callbacks.step_clock import StepClock
from tfft.callbacks.stop_at_batch import StopAtBatch
from tfft.callbacks.stop_on_nan import StopOnNaN
from tfft.callbacks.tensor_board import TensorBoard
from tfft.callbacks.throughput_log import ThroughputLog
from tfft.callbacks.time_budget import TimeBudget
from tfft.callbacks.validation_scores import ValidationScores
from tfft.callbacks.wandb_log import WandbLog
from tfft.callbacks.weight_averages import WeightAverages

__all__ = [
    "AttentionSnapshots",
    "Checkpoints",
    "ExactCheckpoint",
    "GradualUnfreezing",
    "LearningRateLog",
    "MLflowLog",
    "Progress",
    "PushToHub",
    "StepClock",
    "StopAtBatch",
    "StopOnNaN",
    "TensorBoard",
    "ThroughputLog",
    "TimeBudget",
    "ValidationScores",
    "WandbLog",
    "WeightAverages",
]
