"""Which versions are installed, whether tfft was tested with them, and what a run says about its surroundings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

from tfft import __version__
from tfft.errors import UserError

# What a run writes down about its environment; the rest of the lock follows from these.
REPORTED = ("tensorflow", "tf_keras", "transformers", "tokenizers", "datasets", "evaluate", "numpy")

# Distributions with the modules of another: TensorFlow for TPUs comes as a package of its own.
_IN_PLACE_OF = {"tensorflow": "tensorflow-tpu"}


def installed_version(distribution: str) -> str | None:
    """The installed version of a distribution, or of one that has the same modules; None where neither is installed."""
    for name in (distribution, _IN_PLACE_OF.get(distribution)):
        if name is not None:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                pass
    return None


def requirements() -> list[Requirement]:
    """The tested ranges, from tfft's own metadata; none where tfft is run from a folder without being installed."""
    try:
        lines = importlib.metadata.requires("tfft") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    parsed = (Requirement(line) for line in lines)
    return [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def misfits(needed: list[Requirement]) -> list[str]:
    """One sentence for every requirement that the installed versions do not meet."""
    found = []
    for one in needed:
        version = installed_version(one.name)
        if version is None:
            found.append(f"{one.name} is not installed; tfft needs {one.name}{one.specifier}")
        elif not one.specifier.contains(version, prereleases=True):
            found.append(f"{one.name} {version} is installed; tfft was tested with {one.name}{one.specifier}")
    return found


def check() -> None:
    """Raises a UserError that lists every installed version outside the tested ranges, with the command that mends it.

    Takes milliseconds: it reads metadata and imports nothing.
    """
    needed = requirements()
    if found := misfits(needed):
        wanted = {one.name: f"'{one.name}{one.specifier}'" for one in needed}
        names = " ".join(wanted[line.split()[0]] for line in found)
        raise UserError(
            "this environment does not fit:\n  " + "\n  ".join(found) + f"\nmend it with: pip install {names}"
        )


def commit() -> str | None:
    """The commit of the checkout that tfft runs from (`+changes` where files differ), None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def describe() -> dict[str, str | int | None]:
    """Versions, processor and commit, as they go into a run's `metrics.json`."""
    return {
        "tfft": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        **{name: installed_version(name) for name in REPORTED},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cpu_count": os.cpu_count(),
    }


def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def processor_name() -> str:
    """The processor's name as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """The processor's instruction sets by their Linux names (`amx_bf16`); empty where the system does not list them."""
    return frozenset(_cpuinfo("flags").split())


def peak_rss_mb() -> float:
    """The largest resident set that this process has had, in MB of 2**20 bytes.

    Linux hands `ru_maxrss` on to the programs that a process starts, so a small job started from a large notebook would
    show the notebook's memory; the high-water mark under /proc is the program's own.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, others KiB
