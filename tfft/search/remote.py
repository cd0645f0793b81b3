"""Keras Tuner's chief and workers: one process has the oracle, others on any machine ask it for trials.

Who is who is said as for Keras Tuner: KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT are the chief's address, and
KERASTUNER_TUNER_ID is `chief`, or a name of the worker's own. A worker that comes back under its name gets its trial.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib import parse

from tfft.errors import HardwareError, RunError

if TYPE_CHECKING:
    from tfft.search.oracles import Recorded

VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
# How long a worker waits for the chief's first answer, which may have rows to encode before, and for later ones; how
# long the chief waits for workers that have not heard of the end.
FIRST_ANSWER_SECONDS, ANSWER_SECONDS = 600.0, 60.0
FAREWELL_SECONDS = 30.0
_POLL_SECONDS = 0.2
# Workers ask again a moment after their trial has ended; who does not in this time is worth a line.
_TOLD_AFTER_SECONDS = 2.0


@dataclass(frozen=True)
class Role:
    """What this process is in a sweep of several.

    Attributes:
        address: HOST:PORT of the chief.
        name: its own; the chief's has `chief` in it.
    """

    address: str
    name: str

    @property
    def is_chief(self) -> bool:
        """Whether it has the oracle."""
        return "chief" in self.name


def find() -> Role | None:
    """What the environment says; None where it says nothing.

    Raises:
        HardwareError: it says some of it, or no address.
    """
    given = {name: os.environ.get(name, "") for name in VARIABLES}
    if not given["KERASTUNER_ORACLE_IP"]:
        return None
    if missing := [name for name, value in given.items() if not value]:
        raise HardwareError(
            f"KERASTUNER_ORACLE_IP is {given['KERASTUNER_ORACLE_IP']}, and {' and '.join(missing)} not set; expected "
            "all three: the chief's address and port, and `chief` or this worker's name"
        )
    port = given["KERASTUNER_ORACLE_PORT"]
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise HardwareError(f"KERASTUNER_ORACLE_PORT: got {port}; expected a port, 1 to 65535")
    return Role(f"{given['KERASTUNER_ORACLE_IP']}:{port}", given["KERASTUNER_TUNER_ID"])


def host_of(peer: str) -> str:
    """The address in what gRPC calls the other side; empty where it has none.

    Example:
        >>> host_of("ipv4:10.0.0.5:40514"), host_of("ipv6:%5B::1%5D:40514"), host_of("unix:")
        ('10.0.0.5', '::1', '')
    """
    kind, _, address = parse.unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


@dataclass
class Workers:
    """Who has asked this chief for trials.

    Attributes:
        hosts: the address of each, by its name.
        heard: whether each was told that there are no more trials.
    """

    hosts: dict[str, str] = field(default_factory=dict)
    heard: dict[str, bool] = field(default_factory=dict)

    def asked(self, name: str, peer: str, is_told_the_end: bool) -> None:
        """One has asked for a trial."""
        self.hosts[name], self.heard[name] = host_of(peer), is_told_the_end

    @property
    def unaware(self) -> list[str]:
        """Those that do not know that it is over."""
        return [name for name, has in self.heard.copy().items() if not has]

    def listed(self, numbers: Mapping[str, int | None]) -> str:
        """Workers in words, with where they are, if they have asked, and the trial that they train, if any.

        Example:
            >>> Workers({"tuner0": "10.0.0.5"}).listed({"tuner0": 3, "tuner1": 4})
            'tuner0 at 10.0.0.5 (trial 3), tuner1 (trial 4)'
        """
        said = []
        for name, number in sorted(numbers.items()):
            host = self.hosts.get(name)
            said.append(name + (f" at {host}" if host else "") + (f" (trial {number})" if number else ""))
        return ", ".join(said)


def serve(recorded: Recorded, role: Role, meanwhile: Callable[[], None], say: Callable[[str], None]) -> None:
    """Answers workers until no trial is left to give or to wait for, and every worker has heard so.

    Args:
        meanwhile: called again and again; what it raises ends the serving.
        say: told which workers are waited for at the end, once and whenever those are others.

    Raises:
        HardwareError: the port is in use.
    """
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    workers = Workers()

    class Servicer(OracleServicer):
        def CreateTrial(self, request: Any, context: Any) -> Any:
            response = super().CreateTrial(request, context)
            # One that came back to the trial that it had is told of no end.
            is_told = self.stop_triggered and request.tuner_id not in recorded.by_worker
            workers.asked(request.tuner_id, context.peer(), is_told)
            return response

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    servicer = Servicer(recorded)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(role.address)
    except RuntimeError:
        raise HardwareError(
            f"KERASTUNER_ORACLE_PORT: {role.address} cannot be served from here; another process may have the port: "
            "give another one, and an address of this machine"
        ) from None
    server.start()
    try:
        _until_all_have_heard(recorded, workers, meanwhile, say)
    except KeyboardInterrupt:
        if training := _training(recorded, workers):
            say(f"still training: {training}; what comes of it counts once the chief is back")
        raise
    finally:
        server.stop(grace=1.0).wait()


def _until_all_have_heard(
    recorded: Recorded, workers: Workers, meanwhile: Callable[[], None], say: Callable[[str], None]
) -> None:
    said, stopped_at = "", None
    while True:
        meanwhile()
        now = time.monotonic()
        line = ""
        if training := recorded.is_over and _training(recorded, workers):
            line = f"no trial is left to begin; waits for {training}"
        elif recorded.is_over:
            stopped_at = stopped_at or now
            if not workers.unaware or now - stopped_at > FAREWELL_SECONDS:
                return
            if now - stopped_at > _TOLD_AFTER_SECONDS:
                unaware = workers.listed(dict.fromkeys(workers.unaware))
                line = f"no trial is left; waits {FAREWELL_SECONDS:g} s at most for {unaware} to hear so"
        if line and line != said:
            said = line
            say(line)
        time.sleep(_POLL_SECONDS)


def _training(recorded: Recorded, workers: Workers) -> str:
    """The workers that have a trial, in words."""
    from tfft.search.trials import number_of

    return workers.listed({name: number_of(trial.trial_id) for name, trial in recorded.by_worker.items()})


class Client:
    """The chief's oracle, as a worker asks it.

    Args:
        role: the worker's.
        say: told that the chief is waited for.

    Raises:
        RunError: the chief does not answer.
    """

    def __init__(self, role: Role, say: Callable[[str], None]) -> None:
        import grpc
        from keras_tuner.src.distribute import oracle_client

        self._role = role
        oracle_client.TIMEOUT = ANSWER_SECONDS
        say(f"waits for the chief at {role.address}, {FIRST_ANSWER_SECONDS / 60:g} minutes at most")
        with grpc.insecure_channel(role.address) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=FIRST_ANSWER_SECONDS)
            except grpc.FutureTimeoutError:
                raise self._silent(FIRST_ANSWER_SECONDS) from None
        self._client = oracle_client.OracleClient(None)

    def _silent(self, seconds: float) -> RunError:
        return RunError(
            f"the chief at {self._role.address} has not answered for {seconds:g} s; begin it (the same "
            "command with KERASTUNER_TUNER_ID=chief), or correct KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT. A "
            "trial that has ended meanwhile is in the sweep's folder, and counts once the chief is back"
        )

    def _asked(self, name: str, *arguments: Any) -> Any:
        import grpc

        try:
            return getattr(self._client, name)(*arguments)
        except grpc.RpcError:
            raise self._silent(ANSWER_SECONDS) from None

    def create_trial(self, tuner_id: str) -> Any:
        """As an oracle's."""
        return self._asked("create_trial", tuner_id)

    def update_trial(self, trial_id: str, metrics: dict[str, float]) -> Any:
        """As an oracle's."""
        return self._asked("update_trial", trial_id, metrics)

    def end_trial(self, trial: Any) -> None:
        """As an oracle's."""
        self._asked("end_trial", trial)
