"""A small data set and the tiny checkpoint, as a user's files and command line would have them."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tfft
from tfft import states

GOOD = ("good", "nice", "fine", "great")
BAD = ("bad", "poor", "awful", "sad")


def write_csv(path: Path, rows: Sequence[tuple[object, ...]], columns: Sequence[str] = ("text", "label")) -> Path:
    """A CSV file with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def rows_of(count: int, begin: int = 0) -> list[tuple[str, object]]:
    """Texts of several lengths that a word of theirs gives away, labels in turn."""
    return [
        (f"the movie {index} was {(GOOD if index % 2 else BAD)[index % 4]}" + " so" * (index % 9), index % 2)
        for index in range(begin, begin + count)
    ]


@dataclass(frozen=True)
class Job:
    """A folder with `train.csv` and `validation.csv`, and the command line that trains on them."""

    folder: Path
    checkpoint: Path

    @property
    def run(self) -> Path:
        """Where the run goes."""
        return self.folder / "run"

    def arguments(self, *more: str) -> list[str]:
        """What follows `python -m tfft.fit`."""
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(
            f"task: text-classification\noutput_dir: {self.run}\nmodel:\n  name_or_path: {self.checkpoint}\n"
            f"data:\n  train_file: {self.folder / 'train.csv'}\n  validation_file: {self.folder / 'validation.csv'}\n"
            "  text_columns: [text]\ntraining:\n  num_train_epochs: 2\n  learning_rate: 1e-3\n"
            "  per_device_train_batch_size: 8\n  metrics: [accuracy, f1]\n  report: false\n",
            encoding="utf-8",
        )
        return ["--recipe", str(recipe), *more]

    def start(self, *more: str, command: str = "fit") -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", f"tfft.{command}", *self.arguments(*more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    def fit(self, *more: str) -> subprocess.CompletedProcess[str]:
        """The command, from start to exit."""
        process = self.start(*more)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def fitted(folder: Path, checkpoint: Path, rows: int = 41, **settings: Any) -> tfft.FitResult:
    """A run of such a job, trained in this process; `settings` as of `tfft.fit`."""
    write_csv(folder / "train.csv", rows_of(rows))
    write_csv(folder / "validation.csv", rows_of(12, begin=100))
    return tfft.fit(Job(folder, checkpoint).arguments()[1], verbose=False, **settings)


@pytest.fixture
def job(tmp_path: Path, tiny_checkpoint: Path) -> Job:
    """A job of 41 training rows and 12 validation rows."""
    write_csv(tmp_path / "train.csv", rows_of(41))
    write_csv(tmp_path / "validation.csv", rows_of(12, begin=100))
    return Job(tmp_path, tiny_checkpoint)


@contextlib.contextmanager
def killed_at_state(number: int) -> Iterator[None]:
    """In the body a training ends when it is about to write its state of this number, as a kill would end it."""

    class Killed(BaseException):
        """Nothing catches it."""

    write, written = states.write, itertools.count(1)

    def write_or_die(*args: Any) -> Path:
        if next(written) == number:
            raise Killed
        return write(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(states, "write", write_or_die)
        yield


@pytest.fixture
def determinism() -> Iterator[None]:
    """What `runtime.deterministic` switches on in this process is off again for the tests that follow."""
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()
