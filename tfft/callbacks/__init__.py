"""What happens during `fit`, one callback a file. Keras callbacks all, for anybody's own `model.fit` as well.

- `validation_scores`: scores of the whole split, at epochs' ends and every few steps
- `checkpoints`: the best weights by a score with its direction, and the last
- `exact_checkpoint`: all that a training depends on, and going on from it
- `gradual_unfreezing`, `weight_averages`: what is trained, and what is scored and kept
- `magnitude_pruning`: weights that become zero as training goes
- `learning_rate_log`, `throughput_log`: rate, speed and memory in the logs
- `progress`, `tensor_board`, `attention_snapshots`: for a person to look at
- `step_clock`, `executions`: the time that batches take, and where Keras runs several in one call
- `mlflow_log`, `wandb_log` (both made of `tracker`), `push_to_hub`: for others to see
- `stop_at_batch`, `pause_after_epochs`, `stop_on_nan`, `time_budget`: ends of a training

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
from tfft.callbacks.magnitude_pruning import MagnitudePruning
from tfft.callbacks.mlflow_log import MLflowLog
from tfft.callbacks.pause_after_epochs import PauseAfterEpochs
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
    "MagnitudePruning",
    "PauseAfterEpochs",
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
