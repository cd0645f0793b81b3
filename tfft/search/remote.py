"""Keras Tuner's chief and workers: one process has the oracle, others on any machine ask it for trials.

Who is who is said as for Keras Tuner: KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT are the chief's address, and
KERASTUNER_TUNER_ID is `chief`, or a name of the worker's own. A worker that comes back under its name gets its trial.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfft.errors import HardwareError, RunError

if TYPE_CHECKING:
    from tfft.search.oracles import Recorded

VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")
# How long a worker waits for the chief's first answer, which may have rows to encode before, and for later ones; how
# long the chief waits for workers that have not heard of the end.
FIRST_ANSWER_SECONDS, ANSWER_SECONDS = 600.0, 60.0
FAREWELL_SECONDS = 30.0
_POLL_SECONDS = 0.2


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


def serve(recorded: Recorded, role: Role, meanwhile: Callable[[], None]) -> None:
    """Answers workers until no trial is left to give or to wait for, and every worker has heard so.

    Args:
        meanwhile: called again and again; what it raises ends the serving.

    Raises:
        HardwareError: the port is in use.
    """
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    heard: dict[str, bool] = {}

    class Servicer(OracleServicer):
        def CreateTrial(self, request: Any, context: Any) -> Any:
            response = super().CreateTrial(request, context)
            heard[request.tuner_id] = self.stop_triggered
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
        stopped_at = None
        while stopped_at is None or (not all(heard.values()) and time.monotonic() - stopped_at < FAREWELL_SECONDS):
            meanwhile()
            time.sleep(_POLL_SECONDS)
            if stopped_at is None and recorded.is_over and not recorded.running:
                stopped_at = time.monotonic()
    finally:
        server.stop(grace=1.0).wait()


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
