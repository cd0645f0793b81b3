"""The quickstart as it is typed: with what comes with tfft alone, and without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Whoever asks for any address fails.
WITHOUT_NETWORK = """
import runpy, socket, sys
def refused(*args, **kwargs):
    raise OSError("there is no network")
socket.getaddrinfo = socket.create_connection = refused
sys.argv[:] = sys.argv[1:]
runpy.run_module("tfft.quickstart", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_it_trains_scores_and_predicts_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_NETWORK, "quickstart", "--output-dir", str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # Eight classes, equally frequent.
    assert metrics["eval"]["accuracy"] > 0.5
    assert metrics["test"]["accuracy"] > 0.5
    assert len(ended.stdout.partition("Three new sentences")[2].strip().splitlines()) == 4
