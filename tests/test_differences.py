"""What differs between two tables of settings."""

from __future__ import annotations

import json

from tfft.differences import differences


def test_what_has_changed_since_a_table_was_written_is_listed() -> None:
    before = {"seed": 1, "training": {"learning_rate": 1e-3, "metrics": ("f1",)}, "data": {"train_file": "a.csv"}}
    written = json.loads(json.dumps(before))
    assert differences(written, before) == []
    now = {"seed": 1, "training": {"learning_rate": 2e-3, "metrics": ("f1",), "new": None}, "data": {}}
    assert differences(written, now) == [
        "training.learning_rate: 0.001 before, 0.002 now",
        "data.train_file: 'a.csv' before, nothing now",
        "training.new: nothing before, None now",
    ]
    assert differences({"seed": 1}, {"seed": 2}, ("there", "here")) == ["seed: 1 there, 2 here"]
