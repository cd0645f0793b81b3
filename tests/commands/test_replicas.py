"""Several devices compute what one does, here two halves of a processor: weights, losses and scores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfft
from tests.commands.conftest import Job
from tests.commands.replicas import CASES
from tfft import hardware
from tfft.errors import RunError


def checkpoint_without_dropout(tiny: Path, folder: Path) -> Path:
    """Masks are each device's own, so without them one device and two compute the same."""
    import json

    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(folder: Path, checkpoint: Path, *cases: str) -> None:
    """The cases, by a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands.replicas", str(folder), str(checkpoint), *cases],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_devices_train_as_one_with_twice_the_batch(tmp_path: Path, tiny_checkpoint: Path) -> None:
    run(tmp_path, checkpoint_without_dropout(tiny_checkpoint, tmp_path / "checkpoint"), *CASES)
    for case in CASES:
        one, two = (np.load(tmp_path / f"{case}-{which}.npz") for which in ("one", "two"))
        assert len(one.files) > 10
        for name in one.files:
            if name == one.files[-2]:
                # In the mean of an epoch's losses, the 3 rows of the last batch of 27 count as the 4 that they fill.
                np.testing.assert_allclose(two[name], one[name], rtol=0.05)
                continue
            np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-5, err_msg=f"{case} {name}")


@pytest.mark.slow
def test_two_devices_go_on_where_they_were_killed(tmp_path: Path, tiny_checkpoint: Path) -> None:
    run(tmp_path, tiny_checkpoint, "broken_off")  # with dropout, whose masks are each device's own
    whole, parts = (np.load(tmp_path / f"{which}.npz") for which in ("whole", "parts"))
    assert len(whole.files) > 10
    for name in whole.files:
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)


def test_mirrored_wants_several_devices(job: Job) -> None:
    with pytest.raises(RunError, match=r"runtime\.strategy: got mirrored, .* sees 0 here; .*runtime\.strategy=auto"):
        tfft.fit(job.arguments()[1], runtime={"strategy": "mirrored"})
    assert not job.run.exists()


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    def gpus(count: int) -> None:
        found = [types.SimpleNamespace(name=f"/device:GPU:{index}", device_type="GPU") for index in range(count)]
        monkeypatch.setattr(hardware.tf.config, "list_logical_devices", lambda kind: found if kind == "GPU" else [])
        monkeypatch.setattr(hardware, "_mirrored", lambda devices: devices)

    for count in (0, 1):
        gpus(count)
        assert hardware.choose_distribution("auto") == hardware.Distribution()
    gpus(3)
    names = tuple(f"/device:GPU:{index}" for index in range(3))
    expected = hardware.Distribution(3, "mirrored over 3 GPUs, since they are there", names)  # type: ignore[arg-type]
    assert hardware.choose_distribution("auto") == expected
    assert hardware.choose_distribution("mirrored").reason == "mirrored over 3 GPUs, as asked"
    for wanted in ("cpu", "one_device"):
        assert hardware.choose_distribution(wanted) == hardware.Distribution()
    assert hardware.choose_distribution("auto", "it rains") == hardware.Distribution(
        reason="one of 3 GPUs, since it rains"
    )
    with pytest.raises(RunError, match="got mirrored; expected auto or one_device, since it rains"):
        hardware.choose_distribution("mirrored", "it rains")
