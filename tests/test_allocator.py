"""TensorFlow keeps its memory: page faults, counted in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tfft import allocator

VARIABLES = ("TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB")
# Ten tensors of 64 MB, each freed before the next is made.
FAULTS = """
import resource
from tfft.backend import tf
def make():
    return float(tf.reduce_sum(tf.ones([16, 1 << 20]) * 2.0))
make()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**variables: str) -> int:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=clean | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="the figures are of Linux's pages and allocator")
def test_a_freed_tensors_memory_is_used_again() -> None:
    # Where oneDNN is on, as TensorFlow has it on processors with AVX512-VNNI or AMX, its allocator keeps memory too.
    stock = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    kept, given_back = faults(**stock), faults(**stock, TF_CPU_ALLOCATOR_USE_BFC="0")
    assert given_back > 10 * 64 * 256 / 2  # 256 pages of 4 kB a MB; half, for there may be larger pages
    assert kept < given_back / 20


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    allocator.keep_memory()
    assert [os.environ[name] for name in VARIABLES] == ["7", "7"]


@pytest.mark.parametrize(("physical", "limit"), [(0, None), (24_000, None), (512_000, "512000")])
def test_the_limit_is_never_below_the_machines_memory(
    monkeypatch: pytest.MonkeyPatch, physical: int, limit: str | None
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator, "_physical_memory", lambda: physical)
    allocator.keep_memory()
    found = [os.environ.get(name) for name in VARIABLES]
    for name in VARIABLES:  # set by the call, not through monkeypatch
        os.environ.pop(name, None)
    assert found == ["1", limit]
