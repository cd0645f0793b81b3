"""What trials that run at the same time get of the machine: a GPU each, or their share of the cores."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tfft.errors import HardwareError

_ASKED_SECONDS = 30


@dataclass(frozen=True)
class Slot:
    """A place where one trial runs at a time.

    Attributes:
        name: what the oracle calls it.
        cores: of the processor; empty is all.
        gpu: what CUDA calls it; None is whatever there is.
    """

    name: str
    cores: tuple[int, ...] = ()
    gpu: str | None = None


def environment(gpu: str | None = None) -> dict[str, str]:
    """What a trial's process gets to hear: all but that it is one of several which train together.

    Args:
        gpu: that it alone has.
    """
    kept = {name: value for name, value in os.environ.items() if not is_of_a_cluster(name)}
    return kept if gpu is None else {**kept, "CUDA_VISIBLE_DEVICES": gpu}


def is_of_a_cluster(variable: str) -> bool:
    """Whether a variable of the environment says who trains together: a sweep's processes do not."""
    return variable == "TF_CONFIG" or variable.startswith("SLURM_")


def make(parallel: int, strategy: str, worker: str = "") -> list[Slot]:
    """So many slots on this machine.

    Args:
        strategy: the recipe's; `cpu` needs no GPU.
        worker: the name of this machine among several.

    Raises:
        HardwareError: there are fewer GPUs, or cores, than trials at a time.
    """
    names = [worker or "worker"] if parallel == 1 else [f"{worker or 'worker'}-{index}" for index in range(parallel)]
    if parallel == 1:
        return [Slot(names[0])]
    gpus = [] if strategy == "cpu" else visible_gpus()
    if gpus:
        if parallel > len(gpus):
            raise HardwareError(
                f"--parallel: got {parallel}; expected at most {len(gpus)}, the number of GPUs here: no two trials "
                "share one"
            )
        return [Slot(name, (), gpu) for name, gpu in zip(names, gpus, strict=False)]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if parallel > len(cores):
        raise HardwareError(f"--parallel: got {parallel}; expected at most {len(cores)}, the number of cores here")
    return [Slot(name, share) for name, share in zip(names, shares(cores, parallel), strict=True)]


def shares(cores: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """The cores in so many parts, as equal as can be.

    Example:
        >>> shares([0, 1, 2, 3, 4], 2)
        [(0, 1, 2), (3, 4)]
    """
    least, more = divmod(len(cores), parts)
    ends = [index * least + min(index, more) for index in range(parts + 1)]
    return [tuple(cores[begin:end]) for begin, end in itertools.pairwise(ends)]


def visible_gpus() -> list[str]:
    """NVIDIA's, as CUDA_VISIBLE_DEVICES names them; found without TensorFlow, which would take their memory."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [one.strip() for one in given.split(",") if one.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_ASKED_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return asked.stdout.split() if asked.returncode == 0 else []
