"""The files of `clusters/`: what they tell the workers is what tfft reads, and they do what their headers say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.conftest import Job
from tfft import workers

CLUSTERS = Path(__file__).resolve().parents[2] / "clusters"
SLURM = CLUSTERS / "slurm.sh"


def test_the_pods_of_kubernetes_find_each_other() -> None:
    service, job = yaml.safe_load_all((CLUSTERS / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert (service["kind"], job["kind"], job["spec"]["completionMode"]) == ("Service", "Job", "Indexed")
    pod = job["spec"]["template"]["spec"]
    worker = pod["containers"][0]
    port = service["spec"]["ports"][0]["port"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] == "Never", "else podFailurePolicy is refused"
    # A variable may only speak of one before it.
    variables: dict[str, Any] = {one["name"]: one.get("value") for one in worker["env"]}
    assert [*variables] == ["INDEX", "TF_CONFIG"]
    count = job["spec"]["parallelism"]
    assert job["spec"]["completions"] == count
    for index in range(count):
        found = workers.find("auto", None, {"TF_CONFIG": variables["TF_CONFIG"].replace("$(INDEX)", str(index))})
        assert found is not None
        assert found.index == index
        # As the pods of an Indexed Job are called.
        assert found.addresses == tuple(
            f"{job['metadata']['name']}-{pod}.{service['metadata']['name']}:{port}" for pod in range(count)
        )


def with_stubs(folder: Path, **scripts: str) -> dict[str, str]:
    """The environment in which these commands are the first that are found."""
    folder.mkdir()
    for name, script in {**scripts, "python": f'exec "{sys.executable}" "$@"'}.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("ended", "requeued"), [(0, False), (2, False), (143, True)])
def test_slurms_script_goes_into_the_queue_again_where_it_was_stopped(
    tmp_path: Path, ended: int, requeued: bool
) -> None:
    environment = with_stubs(
        tmp_path / "bin",
        srun=f'echo "$@" > {tmp_path}/srun; exit {ended}',
        scontrol=f'echo "$@" > {tmp_path}/scontrol',
    )
    arguments = ["bash", str(SLURM), "a recipe.yaml", "seed=1"]
    done = subprocess.run(arguments, env={**environment, "SLURM_JOB_ID": "7"}, capture_output=True, text=True)
    assert done.returncode == ended, done.stderr
    assert (tmp_path / "srun").read_text().endswith("python -m tfft.fit --recipe a recipe.yaml --resume seed=1\n")
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    done = subprocess.run(["bash", str(SLURM)], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "usage: sbatch slurm.sh RECIPE" in done.stderr


# Two tasks on this machine, as srun would start them on two nodes.
SRUN = """
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2
SLURM_PROCID=1 "$@" > /dev/null &
SLURM_PROCID=0 "$@" && wait %1
"""


@pytest.mark.slow
def test_slurms_script_trains(job: Job, tmp_path: Path) -> None:
    environment = with_stubs(tmp_path / "bin", srun=SRUN)
    recipe, *more = job.arguments()[1:]
    done = subprocess.run(
        ["bash", str(SLURM), recipe, *more],
        env={**environment, "SLURM_JOB_ID": str(os.getpid())},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "devices: 2 workers, told of by Slurm's step; this is worker 0" in done.stdout
    assert (job.run / "metrics.json").is_file()
