"""States on disk: whole or not there, read back to the last bit, and damage that is seen."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import files_no_larger_than
from tfft import states
from tfft.backend import tf

TENSORS: dict[str, Any] = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "step": np.asarray(2**40, np.int64),
    "is_set": np.array([True, False]),
    "nothing": np.zeros((0, 4), np.float16),
    "variable": tf.Variable([1.5, -2.5]),
}
FACTS = {"epoch": 3, "history": [{"loss": 0.1, "f1": math.nan}], "best": -math.inf, "of": {"name": "ä"}, "none": None}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = states.write(tmp_path, 7, TENSORS, FACTS)
    found, wrong = states.newest(tmp_path)
    assert found is not None and (found.folder, wrong) == (folder, [])
    assert folder.name == "step-00000007"
    assert repr(found.facts) == repr(FACTS)  # NaN equals nothing
    # Read by the library of the format, too.
    by_library = load_file(folder / states.TENSORS)
    for name, value in TENSORS.items():
        assert found.shapes[name] == tuple(value.shape)
        for read in (found.tensor(name), by_library[name]):
            np.testing.assert_array_equal(read, value)
            assert read.dtype == np.asarray(value).dtype


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 9, 10):
        states.write(tmp_path, step, TENSORS, {"step": step})
    assert [one.name for one in states.folders(tmp_path)] == ["step-00000009", "step-00000010"]
    states.write(tmp_path, 10, TENSORS, {"step": "again"})
    found, _ = states.newest(tmp_path)
    assert found is not None and found.facts == {"step": "again"}


def test_states_may_be_spared_chosen_and_forgotten(tmp_path: Path) -> None:
    spared = {tmp_path / "step-00000001"}
    for step in (1, 2, 3, 4):
        states.write(tmp_path, step, TENSORS, {"step": step}, spared)
    assert [one.name[-1] for one in states.folders(tmp_path)] == ["1", "3", "4"]
    found, wrong = states.newest(tmp_path, lambda state: state.facts["step"] < 3)
    assert found is not None and (found.facts["step"], wrong) == (1, [])
    assert states.newest(tmp_path, lambda state: False) == (None, [])
    assert [facts["step"] for facts in states.facts_of_all(tmp_path).values()] == [1, 3, 4]
    (tmp_path / "step-00000003" / states.FACTS).unlink()
    assert [facts["step"] for facts in states.facts_of_all(tmp_path).values()] == [1, 4]
    states.forget_newer(tmp_path / "step-00000003")
    assert [one.name[-1] for one in states.folders(tmp_path)] == ["1", "3"]


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert states.newest(tmp_path / "not there") == (None, [])
    (tmp_path / "step-00000003.partial").mkdir()
    (tmp_path / "best-3").mkdir()
    assert states.newest(tmp_path) == (None, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_format(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": states.FORMAT + 1}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (states.TENSORS, cut),
        (states.TENSORS, flip),
        (states.TENSORS, Path.unlink),
        (states.FACTS, cut),
        (states.FACTS, Path.unlink),
        (states.FACTS, of_another_format),
        (states.FACTS, lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_state_is_passed_over_and_named(tmp_path: Path, name: str, damage: Any) -> None:
    earlier = states.write(tmp_path, 1, TENSORS, FACTS)
    later = states.write(tmp_path, 2, TENSORS, FACTS)
    damage(later / name)
    found, wrong = states.newest(tmp_path)
    assert found is not None and found.folder == earlier
    assert len(wrong) == 1 and wrong[0].startswith(f"{later} is damaged (")


def test_a_full_disk_leaves_the_states_before(tmp_path: Path) -> None:
    states.write(tmp_path, 1, TENSORS, FACTS)
    with files_no_larger_than(100), pytest.raises(OSError) as refused:
        states.write(tmp_path, 2, TENSORS, FACTS)
    assert refused.value.errno == errno.EFBIG
    assert [one.name for one in tmp_path.iterdir()] == ["step-00000001"]
    assert states.newest(tmp_path)[1] == []
