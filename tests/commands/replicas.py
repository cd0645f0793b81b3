"""One training by one device, and the same by two of a divided processor: a process, since devices are divided once.

    python -m tests.commands.replicas FOLDER CHECKPOINT

Writes `CASE-one.npz` and `CASE-two.npz` for every case: the weights after training, the losses of the epochs, and the
scores. The case `broken_off` writes `whole.npz` and `parts.npz`: two devices without a break, and with one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import tfft
from tfft import states

TEXTS = [f"the movie {index} was {('good', 'bad')[index % 2]}" + " so" * (index % 9) for index in range(27)]
LABELS = [index % 2 for index in range(27)]
SENTENCES = [text.split() for text in TEXTS]
TAGS = [["B-x" if word in ("good", "bad") else "O" for word in words] for words in SENTENCES]
NUMBERS = [index / 7 for index in range(27)]

# Name to what the rows are, and the settings. 27 rows in batches of 8: the last has 3, for two devices.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bucketed": ({"text": TEXTS, "label": LABELS}, {"training": {"weight_decay": 0.1, "layerwise_lr_decay": 0.5}}),
    "padded": ({"text": TEXTS, "label": LABELS}, {"data": {"batching": "padded"}}),
    "one_left": ({"text": TEXTS[:25], "label": LABELS[:25]}, {"training": {"ema_momentum": 0.5, "save_steps": 2}}),
    "stock": ({"text": TEXTS, "label": LABELS}, {"runtime": {"accelerate": False}}),
    "weighted": (
        {"text": TEXTS, "label": LABELS, "weight": [1.0 + index % 3 for index in range(27)]},
        {"data": {"sample_weight_column": "weight"}, "training": {"r_drop_alpha": 1.0, "class_weight": "balanced"}},
    ),
    "windows": (
        {"text": TEXTS, "label": LABELS},
        {"data": {"long_text": "sliding_window", "max_length": 8, "stride": 2}},
    ),
    "words": (
        {"words": SENTENCES, "label": TAGS},
        {"task": "token-classification", "data": {"text_columns": ["words"]}},
    ),
    "numbers": ({"text": TEXTS, "label": NUMBERS}, {"problem_type": "regression"}),
    "pruned": (
        {"text": TEXTS, "label": LABELS},
        {"training": {"pruning_sparsity": 0.5, "pruning_frequency": 2, "ema_momentum": 0.5}},
    ),
    "stages": (
        {"text": TEXTS, "label": LABELS},
        {
            "training": {
                "strategy": "gradual_unfreezing",
                "stages": [{"unfreeze": "head"}, {"unfreeze": 1}],
                "num_train_epochs": 3.0,
            }
        },
    ),
    "masked": ({"text": TEXTS}, {"task": "fill-mask", "data": {"max_length": 16}}),
    "lora": ({"text": TEXTS, "label": LABELS}, {"training": {"strategy": "lora"}}),
    "adversarial": ({"text": TEXTS, "label": LABELS}, {"training": {"fgm_epsilon": 0.5}}),
    "distilled": (
        {"text": TEXTS, "label": LABELS},
        {"distillation": {"student": {"hidden_size": 8}, "hidden_weight": 1.0, "relations_weight": 1.0}},
    ),
}


class Killed(BaseException):
    """What ends a process; nothing catches it."""


def train(
    case: str, folder: Path, checkpoint: str, strategy: str, rows_per_device: int, resume: bool = False
) -> dict[str, np.ndarray]:
    """The weights by their paths, and the losses."""
    rows, settings = CASES[case]
    sections: dict[str, Any] = {
        "data": {"text_columns": ["text"], **settings.get("data", {})},
        "training": {
            "num_train_epochs": 3.0,
            "learning_rate": 1e-2,
            "adam_epsilon": 1e-3,
            "per_device_train_batch_size": rows_per_device,
            "eval_strategy": "no",
            **settings.get("training", {}),
        },
        "runtime": {"strategy": strategy, **settings.get("runtime", {})},
    }
    plain = {key: value for key, value in settings.items() if key not in sections}
    if "distillation" in plain:
        teacher = folder.with_name("teacher")
        if not teacher.exists():
            train("bucketed", teacher, checkpoint, "cpu", 8)
        plain["distillation"] = {**plain["distillation"], "teacher": str(teacher)}
    result = tfft.fit(
        train=rows,
        validation=rows,
        task=plain.pop("task", "text-classification"),
        model={"name_or_path": checkpoint},
        output_dir=str(folder),
        overwrite=not resume,
        resume=resume,
        verbose=False,
        **sections,
        **plain,
    )
    found = {f"{index:03d} {weight.name}": weight.numpy() for index, weight in enumerate(result.model.weights)}
    found["losses"] = np.array([row["loss"] for row in result.history])
    found["scores"] = np.array([value for _, value in sorted(result.scores["eval"].items())])
    return found


def train_in_two_parts(case: str, folder: Path, checkpoint: str) -> dict[str, np.ndarray]:
    """As `train` by two devices, killed when it is about to write its fourth state: the third is within an epoch."""
    write, written = states.write, []

    def write_or_die(*args: Any) -> Path:
        written.append(1)
        if len(written) == 4:
            raise Killed
        return write(*args)

    states.write = write_or_die
    try:
        train(case, folder, checkpoint, "mirrored", 4)
        raise AssertionError("it was not killed")
    except Killed:
        return train(case, folder, checkpoint, "mirrored", 4, resume=True)
    finally:
        states.write = write


def main(folder: Path, checkpoint: str, cases: list[str]) -> None:
    from tfft.backend import tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for case in cases:
        if case == "broken_off":
            np.savez(folder / "whole.npz", *train("one_left", folder / "run", checkpoint, "mirrored", 4).values())
            np.savez(folder / "parts.npz", *train_in_two_parts("one_left", folder / "run", checkpoint).values())
            continue
        np.savez(folder / f"{case}-one.npz", *train(case, folder / "run", checkpoint, "cpu", 8).values())
        np.savez(folder / f"{case}-two.npz", *train(case, folder / "run", checkpoint, "mirrored", 4).values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or [*CASES])
