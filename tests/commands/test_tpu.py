"""A whole training with the strategy `tpu`, on a stand-in; and the message where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import tfft
from tests.commands.conftest import Job
from tests.commands.test_replicas import checkpoint_without_dropout
from tfft import tpu
from tfft.errors import HardwareError


@pytest.mark.slow
def test_a_training_on_two_cores_is_that_of_one_device(tmp_path: Path, tiny_checkpoint: Path) -> None:
    checkpoint = checkpoint_without_dropout(tiny_checkpoint, tmp_path / "checkpoint")
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands.tpu_stand_in", str(tmp_path), str(checkpoint)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "tpu"))
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-5, atol=1e-5, err_msg=name)
    assert "device: tpu (local)" in done.stdout
    assert "devices: a TPU of 2 cores, as asked" in done.stdout
    # `auto` says why, computes in bfloat16, and makes batches of one width.
    assert f"devices: a TPU of 2 cores, since {tmp_path / 'accel0'} is there" in done.stdout
    assert "mixed_precision: bf16, a TPU multiplies bfloat16 matrices" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("trained in")
    assert json.loads((tmp_path / "auto" / "metrics.json").read_text())["train"]["steps"] == 12


def test_no_tpu_is_said_at_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TPU_NAME", "COLAB_TPU_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DEVICE", "DEVICES"):
        monkeypatch.setattr(tpu, name, str(job.folder / "none"))
    began = time.perf_counter()
    with pytest.raises(HardwareError, match=r"runtime\.strategy: got tpu, and there is no sign of one here"):
        tfft.fit(job.arguments()[1], runtime={"strategy": "tpu"}, verbose=False)
    # With the import of TensorFlow; Google's metadata server would be asked for minutes.
    assert time.perf_counter() - began < 60
    assert not job.run.exists()
