"""Several processes that train one model together: who they are, how they meet, and what is said when one is gone.

Every worker runs the same command on the same recipe. Which one a process is, and where the others are, is read from

- `TF_CONFIG`, as TensorFlow, Kubeflow and Vertex AI set it, and as the shipped Kubernetes manifest does;
- Slurm's variables, in a step of several tasks;
- `runtime.workers`, a list of `host:port`, with `TFFT_WORKER` in the environment of each process where the hosts alone
  do not tell which one it is.

Worker 0 is the chief: it writes the run's files and computes the scores, which it tells the others. TensorFlow's
`MultiWorkerMirroredStrategy` sums the gradients.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tfft.errors import RunError

INDEX_VARIABLE = "TFFT_WORKER"
# Slurm says no ports; a job takes those from here on by its number, so that two jobs on a machine seldom meet.
_SLURM_PORTS, _SLURM_PORT_COUNT = 12_000, 20_000
# Seconds between two looks for a worker that was not there, and for an answer to one.
_LOOK_EVERY, _LOOK_FOR = 0.2, 2.0
_TASK = re.compile(r"/job:worker(?:/replica:\d+)?/task:(\d+)")


@dataclass(frozen=True)
class Cluster:
    """The workers of a training.

    Attributes:
        addresses: `host:port` of each, the chief's first.
        index: which of them this process is.
        source: where it was read, for a person.
    """

    addresses: tuple[str, ...]
    index: int
    source: str

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def name(self, index: int) -> str:
        """A worker as messages have it."""
        return f"worker {index} ({self.addresses[index]})"


def find(
    wanted: str, addresses: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Cluster | None:
    """The workers that this process belongs to; None where it is to train alone.

    Args:
        wanted: as in `runtime.strategy`: `multi_worker` needs workers, `auto` takes them where they are told of.
        addresses: as in `runtime.workers`.
        environment: of the process, by default.

    Raises:
        RunError: what is said of the workers cannot be understood, or nothing is and they are wanted.

    Example:
        >>> cluster = find("auto", None, {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": 1}}'})
        >>> cluster.name(cluster.index), cluster.is_chief
        ('worker 1 (b:1)', False)
    """
    known = os.environ if environment is None else environment
    if wanted not in ("auto", "multi_worker"):
        return None
    if addresses is not None:
        return Cluster(tuple(addresses), _own_index(addresses, known), "runtime.workers")
    found = _of_tf_config(known["TF_CONFIG"]) if known.get("TF_CONFIG", "").strip() else _of_slurm(known)
    if found is None and wanted == "multi_worker":
        raise RunError(
            "runtime.strategy: got multi_worker, and nothing says who the workers are; set TF_CONFIG, or start the "
            "command by srun with several tasks, or give runtime.workers=[HOST:PORT, …]; python -m tfft.launch "
            "--workers 2 --recipe … tries it on this machine alone"
        )
    return found


# --- Who they are -----------------------------------------------------------------------------------------------------


def _of_tf_config(text: str) -> Cluster | None:
    """None where it names fewer than two."""

    def wrong(what: str) -> RunError:
        example = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        return RunError(f"TF_CONFIG: {what}; expected something like {example}")

    try:
        config = json.loads(text)
        jobs, task = config.get("cluster") or {}, config.get("task") or {}
        workers = [address for job in ("chief", "worker") for address in jobs.get(job, [])]
        kind, index = task.get("type", "worker"), task.get("index", 0)
        if others := sorted(set(jobs) - {"chief", "worker"}):
            raise wrong(f"it has tasks of the type {', '.join(others)}, where chief and worker are all that train here")
        if len(workers) < 2:
            return None
        place = int(index) + (len(jobs.get("chief", [])) if kind == "worker" else 0)
        if not (kind in jobs and 0 <= int(index) < len(jobs[kind])):
            raise wrong(f"its task is {kind} {index}, which its cluster does not have")
        return Cluster(_checked(workers, "TF_CONFIG"), place, "TF_CONFIG")
    except (ValueError, AttributeError, TypeError) as error:
        raise wrong(f"it cannot be read ({error})") from None


def _of_slurm(known: Mapping[str, str]) -> Cluster | None:
    """The tasks of a step of Slurm's; None outside of one, and in a step of one task."""
    tasks, rank = known.get("SLURM_STEP_NUM_TASKS", "1"), known.get("SLURM_PROCID")
    if rank is None or not tasks.isdigit() or int(tasks) < 2:
        return None
    # Its resolver sorts the hosts as texts, node10 before node9, while Slurm counts its tasks in the order of the list;
    # and on nodes without GPUs it fails. So only its reading of the variables is taken.
    from tfft.backend import slurm_step

    hosts, counts = slurm_step(known.get("SLURM_STEP_NODELIST", ""), known.get("SLURM_STEP_TASKS_PER_NODE", ""))
    first = _SLURM_PORTS + int(known.get("SLURM_JOB_ID", "0")) % _SLURM_PORT_COUNT
    addresses = [f"{host}:{first + place}" for host, count in zip(hosts, counts, strict=True) for place in range(count)]
    if len(addresses) != int(tasks):
        raise RunError(
            f"Slurm: SLURM_STEP_NODELIST and SLURM_STEP_TASKS_PER_NODE tell of {len(addresses)} tasks, and "
            f"SLURM_STEP_NUM_TASKS of {tasks}; give runtime.workers=[HOST:PORT, …]"
        )
    return Cluster(tuple(addresses), int(rank), "Slurm's step")


def _checked(addresses: Sequence[str], key: str) -> tuple[str, ...]:
    for one in addresses:
        split_address(one, key)
    if len(set(addresses)) < len(addresses):
        raise RunError(f"{key}: got an address twice; expected one HOST:PORT for each worker")
    return tuple(addresses)


def split_address(address: str, key: str) -> tuple[str, int]:
    """Host and port of `host:port`; IPv6 hosts stand in brackets."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise RunError(f"{key}: got {address!r}; expected HOST:PORT, such as 10.0.0.1:2222")
    return host.strip("[]"), int(port)


def _own_index(addresses: Sequence[str], known: Mapping[str, str]) -> int:
    """Which of `runtime.workers` this process is: as its environment says, or the only one whose host is here."""
    count = len(_checked(addresses, "runtime.workers"))
    if (said := known.get(INDEX_VARIABLE)) is not None:
        if not (said.isdigit() and int(said) < count):
            raise RunError(f"{INDEX_VARIABLE}: got {said!r}; expected a number from 0 to {count - 1}")
        return int(said)
    here = [index for index, one in enumerate(addresses) if _is_here(split_address(one, "runtime.workers")[0])]
    if len(here) != 1:
        what = "none of them is" if not here else f"{len(here)} of them are"
        raise RunError(
            f"runtime.workers: {what} on this machine, so which one this process is cannot be told; set "
            f"{INDEX_VARIABLE}=0, 1, … in the environment of each"
        )
    return here[0]


def _is_here(host: str) -> bool:
    """Whether an address of the host is one of this machine's: only those can be bound."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, _, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind) as trial:
            trial.bind(address)
            return True
    return False


# --- How they meet, and part ------------------------------------------------------------------------------------------


def wait_for_all(cluster: Cluster, seconds: float) -> None:
    """Returns once every worker listens at its address.

    TensorFlow would wait for an hour, and name nobody.

    Raises:
        RunError: this one's port is in use, or some worker did not come.
    """
    _, port = split_address(cluster.addresses[cluster.index], cluster.source)
    missing = {index: "" for index in range(len(cluster.addresses)) if index != cluster.index}
    end = time.monotonic() + seconds
    with _listening(cluster, port):
        while missing:
            for index in [*missing]:
                if why := _why_silent(cluster.addresses[index], cluster.source):
                    missing[index] = why
                else:
                    del missing[index]
            if missing and time.monotonic() > end:
                who = "; ".join(f"{cluster.name(index)}: {why}" for index, why in missing.items())
                raise RunError(
                    f"{cluster.source}: {len(missing)} of {len(cluster.addresses)} workers did not answer within "
                    f"{seconds:g} seconds ({who}); see that each runs, that its port can be reached, and start all of "
                    "them at about the same time, or give runtime.workers_timeout_seconds a larger number"
                )
            if missing:
                time.sleep(_LOOK_EVERY)


@contextlib.contextmanager
def _listening(cluster: Cluster, port: int) -> Iterator[None]:
    """This worker's port answers in the body."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(
            ("", port), family=family, backlog=len(cluster.addresses) * 8, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise RunError(
            f"{cluster.source}: port {port} of {cluster.name(cluster.index)} is in use on this machine; end what uses "
            "it, or give another port"
        ) from None
    with server:
        yield


def _why_silent(address: str, key: str) -> str:
    """Why nothing answers there; empty where something does."""
    try:
        with socket.create_connection(split_address(address, key), timeout=_LOOK_FOR):
            return ""
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or str(error)


def tells_of_workers(error: Exception) -> bool:
    """Whether an error of TensorFlow's is about the other workers and not about what was computed."""
    return "/job:worker" in str(error) or "Collective ops is aborted" in str(error)


def gone(cluster: Cluster, error: Exception) -> RunError:
    """What to say where TensorFlow could not reach a worker any more."""
    named = {int(found) for found in _TASK.findall(str(error))} - {cluster.index}
    silent = [
        index
        for index, address in enumerate(cluster.addresses)
        if index != cluster.index and _why_silent(address, cluster.source)
    ]
    # A worker that ended for another's sake does not answer either; the one that TensorFlow names was first.
    who = [index for index in sorted(named) if index < len(cluster.addresses)] or silent
    what = f"{cluster.name(who[0])} is gone" if who else "another worker is gone"
    return RunError(
        f"{what}, and a training needs all of its {len(cluster.addresses)}; look at what it said last, then start "
        "all of them again"
    )
