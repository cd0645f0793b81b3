"""Who the workers are, how they meet, and what is said where one is not there."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
import types
import warnings
import weakref
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

from tfft import hardware, run_directory, workers
from tfft.backend import tf
from tfft.errors import RunError
from tfft.workers import Cluster, find


def tf_config(index: int = 0, kind: str = "worker", **cluster: list[str]) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


# --- who they are -----------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_workers() -> None:
    assert find("auto", None, {}) is None
    assert find("mirrored", None, tf_config(worker=["a:1", "b:2"])) is None
    with pytest.raises(RunError, match=r"got multi_worker, and nothing says who the workers are; set TF_CONFIG"):
        find("multi_worker", None, {})


def test_tf_config() -> None:
    assert find("auto", None, tf_config(1, worker=["a:1", "b:2"])) == Cluster(("a:1", "b:2"), 1, "TF_CONFIG")
    assert find("auto", None, tf_config(0, worker=["a:1"])) is None
    assert find("auto", None, {"TF_CONFIG": "{}"}) is None
    assert find("auto", None, {"TF_CONFIG": " "}) is None
    # The chief goes first, whatever the order of the types.
    with_chief = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    assert find("auto", None, tf_config(0, "chief", **with_chief)) == Cluster(("c:3", "a:1", "b:2"), 0, "TF_CONFIG")
    assert find("auto", None, tf_config(1, **with_chief)) == Cluster(("c:3", "a:1", "b:2"), 2, "TF_CONFIG")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TF_CONFIG": "{"}, r"TF_CONFIG: it cannot be read .*; expected something like \{"),
        ({"TF_CONFIG": "[]"}, r"TF_CONFIG: it cannot be read"),
        (tf_config(2, worker=["a:1", "b:2"]), r"its task is worker 2, which its cluster does not have"),
        (tf_config(0, "evaluator", worker=["a:1", "b:2"]), r"its task is evaluator 0"),
        (tf_config(0, worker=["a:1"], ps=["b:2"]), r"tasks of the type ps, where chief and worker are all"),
        (tf_config(0, worker=["a:1", "a:1"]), r"TF_CONFIG: got an address twice"),
        (tf_config(0, worker=["a:1", "b"]), r"TF_CONFIG: got 'b'; expected HOST:PORT"),
        (tf_config(0, worker=["a:1", "b:70000"]), r"got 'b:70000'; expected HOST:PORT"),
    ],
)
def test_a_tf_config_that_cannot_be_followed(variables: dict[str, str], said: str) -> None:
    with pytest.raises(RunError, match=said):
        find("auto", None, variables)


def test_slurm_counts_its_tasks_in_the_order_of_its_list() -> None:
    variables = {
        "SLURM_JOB_ID": "20007",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "node[9-10]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        "SLURM_PROCID": "2",
    }
    assert find("auto", None, variables) == Cluster(("node9:12007", "node9:12008", "node10:12007"), 2, "Slurm's step")
    assert find("auto", None, {**variables, "SLURM_STEP_NUM_TASKS": "1"}) is None
    with pytest.raises(RunError, match=r"tell of 3 tasks, and SLURM_STEP_NUM_TASKS of 4"):
        find("auto", None, {**variables, "SLURM_STEP_NUM_TASKS": "4"})


def test_a_list_in_the_recipe() -> None:
    addresses = ["127.0.0.1:1111", "198.51.100.1:1111"]  # the second is of a range that no machine has
    assert find("auto", addresses, {}) == Cluster(tuple(addresses), 0, "runtime.workers")
    assert find("auto", addresses[::-1], {}) == Cluster(tuple(addresses[::-1]), 1, "runtime.workers")
    assert find("auto", addresses, {"TFFT_WORKER": "1"}) == Cluster(tuple(addresses), 1, "runtime.workers")
    # It goes before what the environment says.
    assert find("auto", addresses, tf_config(worker=["a:1", "b:2"])) == Cluster(tuple(addresses), 0, "runtime.workers")
    for said in ("2", "-1", "x"):
        with pytest.raises(RunError, match=rf"TFFT_WORKER: got '{said}'; expected a number from 0 to 1"):
            find("auto", addresses, {"TFFT_WORKER": said})
    with pytest.raises(RunError, match=r"2 of them are on this machine, .* set TFFT_WORKER=0, 1, …"):
        find("auto", ["localhost:1111", "127.0.0.1:1112"], {})
    with pytest.raises(RunError, match=r"none of them is on this machine"):
        find("auto", ["198.51.100.1:1111", "198.51.100.2:1111"], {})
    with pytest.raises(RunError, match=r"runtime\.workers: got 'here'; expected HOST:PORT"):
        find("auto", ["here", "127.0.0.1:1"], {})


def test_addresses_of_the_sixth_version() -> None:
    assert workers.split_address("[::1]:2222", "") == ("::1", 2222)


# --- how they meet ----------------------------------------------------------------------------------------------------


@pytest.fixture
def addresses() -> Iterator[tuple[str, ...]]:
    """Two that nothing listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    found = tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    yield found


def test_workers_wait_for_each_other(addresses: tuple[str, ...]) -> None:
    came: list[float] = []

    def come(index: int) -> None:
        workers.wait_for_all(Cluster(addresses, index, "here"), 20)
        came.append(time.monotonic())
        # As TensorFlow listens there from now on.
        with socket.create_server(("", workers.split_address(addresses[index], "")[1])):
            over.wait()

    over = threading.Event()
    late = threading.Thread(target=come, args=[1])
    early = threading.Thread(target=come, args=[0])
    early.start()
    time.sleep(1)
    assert not came
    late.start()
    while len(came) < 2 and (early.is_alive() or late.is_alive()):
        time.sleep(0.05)
    over.set()
    early.join()
    late.join()
    assert len(came) == 2


def test_a_worker_that_does_not_come_is_named(addresses: tuple[str, ...]) -> None:
    who = rf"worker 1 \({addresses[1]}\): Connection refused"
    said = rf"1 of 2 workers did not answer within 0\.1 seconds \({who}\); see .* runtime\.workers_timeout_seconds"
    with pytest.raises(RunError, match=said):
        workers.wait_for_all(Cluster(addresses, 0, "here"), 0.1)
    unknown = (addresses[0], "no-such-host.invalid:1")
    with pytest.raises(RunError, match=r"worker 1 \(no-such-host\.invalid:1\): .*[Nn]ame"):
        workers.wait_for_all(Cluster(unknown, 0, "here"), 0.1)


def test_a_port_in_use_is_named(addresses: tuple[str, ...]) -> None:
    port = workers.split_address(addresses[0], "")[1]
    with socket.create_server(("", port)), pytest.raises(RunError, match=rf"port {port} of worker 0 .* is in use on"):
        workers.wait_for_all(Cluster(addresses, 0, "here"), 5)


def test_who_is_gone(addresses: tuple[str, ...]) -> None:
    cluster = Cluster((*addresses, "198.51.100.1:1"), 0, "here")
    named = workers.gone(cluster, Exception("… from remote target /job:worker/replica:0/task:2 while calling …"))
    assert str(named).startswith("worker 2 (198.51.100.1:1) is gone, and a training needs all of its 3")
    # Where TensorFlow names itself alone, the others are asked.
    asked = workers.gone(Cluster(addresses, 0, "here"), Exception("Error reported from /job:worker/task:0"))
    assert str(asked).startswith(f"worker 1 ({addresses[1]}) is gone")


def test_nothing_of_tensorflows_outlives_a_worker_that_is_gone(addresses: tuple[str, ...]) -> None:
    pools: list[weakref.ref[ThreadPool]] = []

    def reduce(*args: Any, axis: None) -> None:
        """As TensorFlow does it, which closes its pool where all goes well."""

        def fail(index: int) -> None:
            raise tf.errors.UnavailableError(None, None, "/job:worker/replica:0/task:1 does not answer")

        pool = ThreadPool(1)
        pools.append(weakref.ref(pool))
        pool.map(fail, [0])

    strategy = types.SimpleNamespace(reduce=reduce)
    distribution = hardware.Distribution(2, strategy=strategy, cluster=Cluster(addresses, 0, "here"))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(RunError, match=r"worker 1 .* is gone") as raised, distribution.watched():
            distribution.wait()
        gc.collect()
    assert raised.value.__cause__ is not None
    assert pools[0]() is None


# --- what several cannot do -------------------------------------------------------------------------------------------


def test_what_is_for_one_process_is_refused_before_anybody_is_waited_for(addresses: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match=r"got auto with 2 workers, told of by here; expected one, since it rains"):
        hardware.choose_distribution("auto", "it rains", cluster=Cluster(addresses, 0, "here"))


def test_a_folder_that_workers_do_not_share_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "SEEN_WITHIN_SECONDS", 0.2)
    followed = run_directory.FollowedDirectory(tmp_path / "run")
    followed.check(overwrite=False)
    with pytest.raises(
        RunError, match=r"worker 0 writes to .*run, and it is not seen from here; give a folder on a disk"
    ):
        followed.open().__enter__()
    with run_directory.RunDirectory(tmp_path / "run").open() as chiefs, followed.open():
        with followed.whole_folder("model") as target:
            (target / "file").write_text("kept by nobody")
        followed.write_text("recipe.yaml", "written by nobody")
        assert [path.name for path in chiefs.path.iterdir()] == [run_directory.LOCK]
