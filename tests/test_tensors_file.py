"""Files of safetensors that are written one tensor after the other. What comes back is tried in `test_states`."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from tfft import tensors_file
from tfft.backend import tf


class OnRequest:
    """A tensor of 1 MB that takes memory only while somebody holds its values."""

    shape, dtype = (256, 1024), np.dtype(np.float32)

    def numpy(self) -> np.ndarray:
        return np.ones(self.shape, self.dtype)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        tensors_file.write(tmp_path / "it", {str(number): OnRequest() for number in range(10)})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "it").stat().st_size > 10 * 2**20
    assert 2**20 <= peak < 3 * 2**20


def test_metadata_types_and_the_checksum(tmp_path: Path) -> None:
    tensors = {"short": np.array([[1.5, -2.0]], tf.bfloat16.as_numpy_dtype), "one": np.array(True)}
    checksum = tensors_file.write(tmp_path / "it", tensors, {"format": "tf"})
    assert checksum == hashlib.sha256((tmp_path / "it").read_bytes()).hexdigest()
    with safe_open(tmp_path / "it", framework="numpy") as file:
        assert file.metadata() == {"format": "tf"}
        assert {name: file.get_slice(name).get_dtype() for name in tensors} == {"short": "BF16", "one": "BOOL"}
        for name, values in tensors.items():
            found = file.get_tensor(name)
            assert found.tolist() == values.tolist() and found.shape == values.shape


def test_the_bytes_are_those_of_the_formats_own_library(tmp_path: Path) -> None:
    of_types = (np.float32, np.int64, np.uint8, np.float32, np.float16)
    tensors = {f"größe/{9 - place}:0": np.arange(3).astype(kind) for place, kind in enumerate(of_types)}
    for about in (None, {"format": "tf"}):
        tensors_file.write(tmp_path / "it", tensors, about)
        assert (tmp_path / "it").read_bytes() == save(tensors, about)
