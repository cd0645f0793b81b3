"""A whole training on what stands in for a TPU of two cores, two halves of a processor: a process of its own.

    python -m tests.commands.tpu_stand_in FOLDER CHECKPOINT

Writes `FOLDER/tpu`, a run with the strategy `tpu`, and `FOLDER/one`, one on one device with twice the batch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import tfft
from tests.commands.replicas import LABELS, TEXTS
from tfft import tpu
from tfft.backend import tf


class Resolver:
    """In the place of TensorFlow's."""

    def __init__(self, tpu: str) -> None:
        assert tpu == "local"


def main(folder: Path, checkpoint: str) -> None:
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy
    tf.distribute.cluster_resolver.TPUClusterResolver = Resolver
    tf.config.experimental_connect_to_cluster = lambda resolver: None
    tf.tpu.experimental.initialize_tpu_system = lambda resolver: None
    tf.distribute.TPUStrategy = lambda resolver: mirrored(["CPU:0", "CPU:1"])
    (folder / "accel0").touch()
    tpu.DEVICE = str(folder / "accel0")
    for name in ("TPU_NAME", "COLAB_TPU_ADDR"):
        os.environ.pop(name, None)
    rows = {"text": TEXTS, "label": LABELS}

    def train(name: str, rows_per_device: int, runtime: dict[str, Any], **data: Any) -> None:
        tfft.fit(
            train=rows,
            validation=rows,
            task="text-classification",
            model={"name_or_path": checkpoint},
            data={"text_columns": ["text"], **data},
            training={
                "num_train_epochs": 3.0,
                "learning_rate": 1e-2,
                "adam_epsilon": 1e-3,
                "per_device_train_batch_size": rows_per_device,
            },
            runtime=runtime,
            output_dir=str(folder / name),
        )

    # The same shapes on one device, and so the same rows in each batch.
    train("one", 8, {"strategy": "cpu", "mixed_precision": "no"}, padding="max_length", max_length=24)
    train("tpu", 4, {"strategy": "tpu", "mixed_precision": "no"}, padding="max_length", max_length=24)
    train("auto", 4, {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
