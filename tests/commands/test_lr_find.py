"""`python -m tfft.lr_find` as a user types it, on a tiny model."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.commands.conftest import Job, rows_of, write_csv
from tfft import lr_find
from tfft import recipe as recipes
from tfft.errors import RunError, UserError


def typed(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfft.lr_find", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
    )


@pytest.mark.slow
def test_a_recipes_rate_is_looked_for(job: Job) -> None:
    write_csv(job.folder / "train.csv", rows_of(200))
    arguments = job.arguments("data.batching=bucketed", "training.learning_rate=0.5", "training.layerwise_lr_decay=0.9")
    ended = typed(*arguments, "--steps", "160", "--min-learning-rate", "1e-4")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    folder = job.folder / "run-lr_find"
    assert sorted(os.listdir(folder)) == ["lr_find.json", "lr_find.png"] and not job.run.exists()
    assert (folder / "lr_find.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((folder / "lr_find.json").read_text())
    assert found["sweep"]["steps"] == 160 and found["seconds"] > 0 and found["recipe"]["seed"] == 42
    assert len(found["learning_rates"]) == len(found["losses"]) == len(found["smoothed"]) <= 160
    assert found["stopped"] in ended.stdout and str(folder / "lr_find.png") in ended.stdout
    rate = found["suggestions"]["steepest"]
    assert 1e-4 < rate < 1, "the words of this tiny set give its labels away, so its loss falls"
    # What it says to type is a recipe with that rate.
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("steepest descent"))
    command = shlex.split(line.partition(": python ")[2])
    assert command[:2] == ["-m", "tfft.fit"]
    chosen = recipes.load(command[3], command[4:])
    assert chosen.training.learning_rate == pytest.approx(rate, rel=0.05)
    assert chosen.data.batching == "bucketed" and chosen.training.layerwise_lr_decay == 0.9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "mrcp"], "did you mean mrpc"),
        (["--recipe", "mrpc", "--steps", "3"], "steps is 3; expected at least 20"),
        (["--recipe", "mrpc", "--min-learning-rate", "1", "--max-learning-rate", "0.1"], "expected the first above 0"),
        (["--recipe", "feature-extraction"], "training.strategy: got feature_extraction; expected another"),
        (["--recipe", "unfreeze"], "training.stages: got stages, each with a rate of its own"),
        (["--recipe", "mrpc", "--output", f"{__file__}/rates"], r"test_lr_find\.py/rates cannot be written"),
    ],
)
def test_mistakes_have_one_message(arguments: Sequence[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        lr_find.main(arguments)


def test_a_mistakes_status_and_what_is_loaded_until_then() -> None:
    ended = typed("--recipe", "mrpc", "training.lr=1")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and "did you mean training.learning_rate?" in ended.stderr
    code = (
        "import sys\nfrom tfft import lr_find\nfrom tfft.errors import UserError\n"
        "for wrong in (['mrpc', 'training.lr=1'], ['unfreeze'], ['mrpc', '--steps', '1']):\n"
        "    try: lr_find.main(['--recipe', *wrong])\n    except UserError: continue\n    raise SystemExit(wrong)\n"
        "try:\n    lr_find.main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('tensorflow', 'tf_keras', 'transformers', 'matplotlib') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("\n[]\n")


def test_what_was_found_before_is_replaced_only_if_asked(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    folder = job.folder / "rates"
    folder.mkdir()
    (folder / "lr_find.json").write_text("{}")
    (folder / "mine.txt").write_text("")
    arguments = job.arguments("--steps", "20", "--output", str(folder), "--verbose")
    with pytest.raises(RunError, match=r"already has lr_find\.json; give another folder, or --overwrite"):
        lr_find.main(arguments)
    assert (folder / "lr_find.json").read_text() == "{}"
    assert (
        lr_find.main(
            [*arguments, "--overwrite", "training.gradient_accumulation_steps=2", "--max-learning-rate", "2e-6"]
        )
        == 0
    )
    assert json.loads((folder / "lr_find.json").read_text())["suggestions"]["steepest"] is None
    assert "no suggestion: the smoothed loss never falls" in capsys.readouterr().out
    assert (folder / "mine.txt").exists()


@pytest.mark.slow
def test_several_devices_are_refused(job: Job) -> None:
    code = (
        "import sys\nfrom tfft.backend import tf\nfrom tfft import command, lr_find\n"
        "cpu, = tf.config.list_physical_devices('CPU')\n"
        "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        "command.run(lambda _: lr_find.main(sys.argv[1:]))"
    )
    arguments = job.arguments("runtime.strategy=mirrored", "--steps", "20")
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "got mirrored with 2 devices; expected one_device or cpu" in ended.stderr
    assert "training.per_device_train_batch_size=16" in ended.stderr and "Traceback" not in ended.stderr
