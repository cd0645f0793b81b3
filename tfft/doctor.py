"""`python -m tfft.doctor`: whether this machine is fit for training, and how to mend what is not."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tfft import command
from tfft.errors import UserError

SMOKE_ROWS, SMOKE_TOKENS = 8, 16


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: `ok`, `note` (worth knowing, training works) or `problem`.
        said: what was found.
        mend: what to do about it; empty where there is nothing to do.
    """

    what: str
    state: Literal["ok", "note", "problem"]
    said: str
    mend: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Looks at everything; status 1 where there is a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m tfft.doctor", description="Look whether this machine is fit for training, and say what is not."
    )
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    arguments = parser.parse_args(argv)

    from tfft import console

    if not arguments.verbose:
        console.silence_libraries()
    voice = console.Voice()
    problems = 0
    for look in (look_at_versions, look_at_torch, look_at_keras, look_at_device, look_at_hub, train_one_batch):
        found = _found(look)
        problems += found.state == "problem"
        voice.say(f"{found.state:<8} {found.what}: {found.said}")
        if found.mend:
            voice.say(f"         mend: {found.mend}")
    voice.say("everything needed for training works" if not problems else f"{problems} to mend before training")
    return 1 if problems else 0


def _found(look: Callable[[], Finding]) -> Finding:
    """What `look` finds. Whatever breaks in it is a finding too: a doctor that dies says nothing about the rest."""
    try:
        return look()
    except UserError as error:
        return Finding(look.__name__.removeprefix("look_at_"), "problem", str(error))
    except Exception as error:
        said = f"failed with {type(error).__name__}: {error}"
        mend = "python -m tfft.doctor --verbose shows more; pip check finds versions that do not go together"
        return Finding(look.__name__.removeprefix("look_at_"), "problem", said, mend)


def look_at_versions() -> Finding:
    """The installed versions against the tested ranges."""
    from tfft import environment

    about = environment.describe()
    shown = ", ".join(f"{name} {about[name] or 'missing'}" for name in ("tfft", "python", *environment.REPORTED))
    environment.check()
    if not environment.requirements():
        mend = "pip install -e . in the checkout, so that the tested ranges are known"
        return Finding("versions", "note", f"{shown}; tfft runs from a folder and is not installed", mend)
    return Finding("versions", "ok", shown)


def look_at_torch() -> Finding:
    """A CUDA build of PyTorch and TensorFlow in one process end it: both register the same LLVM options."""
    from tfft import environment

    version = environment.installed_version("torch")
    if version is None:
        return Finding("torch", "ok", "not installed, and not needed")
    if version.endswith("+cpu"):
        return Finding("torch", "note", f"{version} is installed; tfft does not use it")
    return Finding(
        "torch",
        "note",
        f"{version} is installed; a CUDA build of it can end a process that has TensorFlow in it",
        "an environment without torch, or USE_TORCH=0 in the environment, which keeps Transformers from importing it",
    )


def look_at_keras() -> Finding:
    """Which Keras TensorFlow uses."""
    from tfft.backend import keras, tf

    said = f"tf.keras is tf_keras {keras.__version__} on TensorFlow {tf.__version__}, as Transformers' models need"
    return Finding("keras", "ok", said)


def look_at_device() -> Finding:
    """What training would compute on, and in which precision."""
    from tfft import environment, hardware

    device = hardware.find_device()
    precision = hardware.choose_precision("auto", device)
    said = (
        f"{device.kind} ({device.name}, {os.cpu_count()} cores), mixed_precision: {precision.name}, {precision.reason}"
    )
    if device.kind == "cpu" and os.path.exists("/proc/driver/nvidia/version"):
        mend = f"pip install 'tensorflow[and-cuda]=={environment.installed_version('tensorflow')}'"
        return Finding("device", "note", f"{said}; there is an NVIDIA GPU that TensorFlow does not see", mend)
    return Finding("device", "ok", said)


def look_at_hub() -> Finding:
    """Whether the hub can be reached."""
    from tfft import hub

    if hub.is_offline():
        return Finding("hub", "note", "HF_HUB_OFFLINE is set: only what is in the local cache is used")
    if hub.is_reachable():
        return Finding("hub", "ok", f"{hub.endpoint()} answers")
    return Finding("hub", "note", f"{hub.endpoint()} cannot be reached", hub.WAYS_OUT)


def train_one_batch() -> Finding:
    """One step of `compile` and `fit` on a small random BERT."""
    from tfft import hardware, optimizers
    from tfft.backend import tf
    from tfft.models import heads

    hardware.set_seed(0)
    with hardware.computing_in(hardware.choose_precision("auto", hardware.find_device())):
        model = _small_model()
    model.compile(optimizer=optimizers.make("adamw", 1e-3), loss=heads.CrossEntropyFromLogits())
    inputs = {
        "input_ids": tf.random.uniform((SMOKE_ROWS, SMOKE_TOKENS), 1, 100, tf.int32),
        "attention_mask": tf.ones((SMOKE_ROWS, SMOKE_TOKENS), tf.int32),
    }
    before = model.classifier.kernel.numpy().copy()
    history = model.fit(inputs, tf.range(SMOKE_ROWS) % 2, batch_size=SMOKE_ROWS, verbose=0)
    loss = history.history["loss"][0]
    if not math.isfinite(loss) or (model.classifier.kernel.numpy() == before).all():
        mend = "runtime.mixed_precision=no; python -m tfft.doctor --verbose shows more"
        return Finding("training", "problem", f"one batch gave the loss {loss} and left the weights as they were", mend)
    return Finding("training", "ok", f"one batch of a small BERT: loss {loss:.3f}")


def _small_model() -> Any:
    from transformers import BertConfig, TFBertForSequenceClassification

    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=2
    )
    model = TFBertForSequenceClassification(config)
    model.build_in_name_scope()
    return model


if __name__ == "__main__":
    command.run(main)
