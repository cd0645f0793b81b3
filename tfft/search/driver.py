"""Trials one after the other, or several at a time: asked for, trained, recorded, and told to the oracle."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from tfft import command, console
from tfft.errors import RunError, Terminated
from tfft.run_directory import FINISHED
from tfft.search import oracles, slots, trials
from tfft.search import trial as training
from tfft.search.oracles import TrialStatus
from tfft.search.slots import Slot
from tfft.search.trial import Order
from tfft.search.trials import LOGS, PROGRESS, Search, Trial
from tfft.whole import read_json

_POLL_SECONDS = 0.1
_INTERRUPTED = (command.INTERRUPTED_STATUS, command.TERMINATED_STATUS, -signal.SIGINT, -signal.SIGTERM)
# How long a process may take to save where it stands.
_GRACE_SECONDS = 300.0


@dataclass
class Work:
    """A trial in its slot.

    Attributes:
        slot: where it runs.
        asked: what Keras Tuner gave, to be ended there.
        trial: the same in our words.
        seeds: of trainings that came to their end.
        order: of the one that runs.
        process: which runs it.
    """

    slot: Slot
    asked: Any
    trial: Trial
    seeds: list[int] = field(default_factory=list)
    order: Order | None = None
    process: subprocess.Popen[bytes] | None = None
    began: float = field(default_factory=time.monotonic)


class Driver:
    """Runs the trials that an oracle gives until it gives no more.

    Args:
        oracle: with `create_trial`, `update_trial` and `end_trial` of Keras Tuner's.
        places: where trials run, one in each at a time.
        left: trials that were begun by an earlier process.
        name_of: what the oracle is to call a worker, given its slot.
        ended: told every record.
        asked_to_stop: gives the exception to end with, once there was a signal.
    """

    def __init__(
        self,
        search: Search,
        oracle: Any,
        places: Sequence[Slot],
        left: Sequence[Any] = (),
        *,
        name_of: Callable[[Slot], str],
        ended: Callable[[Mapping[str, Any]], None],
        asked_to_stop: Callable[[], BaseException | None],
    ) -> None:
        self.search, self.oracle, self.places = search, oracle, list(places)
        self._left = deque(left)
        self._name_of, self._ended, self._asked_to_stop = name_of, ended, asked_to_stop
        self.works: dict[str, Work] = {}

    def running(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Number and values of the trials that run."""
        return [(one.trial.number, one.trial.values) for one in list(self.works.values())]

    def run(self) -> None:
        """Until the oracle says that it has no more.

        Raises:
            KeyboardInterrupt: there was a signal; what runs has saved where it stands.
        """
        # Each slot is told for itself: a chief waits for those that it has given trials to.
        stopped: set[str] = set()
        try:
            while True:
                for work in list(self.works.values()):
                    self._look_at(work)
                for slot in self.places:
                    self._end_if_asked()
                    if slot.name not in stopped and slot.name not in self.works and self._begin(slot):
                        stopped.add(slot.name)
                if len(stopped) == len(self.places):
                    return
                time.sleep(_POLL_SECONDS)
        finally:
            self._end_processes()

    def _end_if_asked(self) -> None:
        if asked := self._asked_to_stop():
            raise asked

    def _begin(self, slot: Slot) -> bool:
        """Begins the next trial in the slot, if there is one; whether there never will be."""
        asked = self._left.popleft() if self._left else self.oracle.create_trial(self._name_of(slot))
        if asked.status != TrialStatus.RUNNING:
            return bool(asked.status == TrialStatus.STOPPED)
        work = Work(slot, asked, trials.from_tuner(asked, self.search))
        self.works[slot.name] = work
        record = trials.read_record(self.search, work.trial.number)
        if record is not None:
            self._end(work, record)
        else:
            self._train_next(work)
        return False

    # --- Trainings of a trial -----------------------------------------------------------------------------------------

    def _train_next(self, work: Work) -> None:
        """Begins the next training of the trial; after the last one, records it."""
        search, number = self.search, work.trial.number
        for seed in search.seeds:
            if seed in work.seeds:
                continue
            if (search.run_folder(number, seed) / FINISHED).is_file():
                work.seeds.append(seed)
                # Of one that ended while nobody looked, what it told last says whether it was pruned.
                told = read_json(search.file(PROGRESS, number, ".json"))
                if told.get("seed") == seed and told["pruned"]:
                    self._record(work, pruned=True)
                    return
                continue
            self._end_if_asked()
            work.order = trials.order(search, work.trial, seed, work.slot)
            Path(work.order.outcome).unlink(missing_ok=True)
            if search.sweep.isolation == "warm":
                self._train_here(work)
            else:
                work.process = self._started(work)
            return
        self._record(work)

    def _started(self, work: Work) -> subprocess.Popen[bytes]:
        assert work.order is not None
        with self._log(work) as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tfft.search.trial"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=slots.environment(work.slot.gpu),
                # A terminal's Ctrl-C is for this process, which passes it on.
                start_new_session=True,
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(work.order)).encode() + b"\n")
            process.stdin.flush()
        return process

    def _train_here(self, work: Work) -> None:
        from tfft.backend import forgetting_gradients, keras

        assert work.order is not None
        for name in filter(slots.is_of_a_cluster, list(os.environ)):
            del os.environ[name]
        with (
            self._log(work) as log,
            contextlib.redirect_stdout(log),
            console.stderr_into(log),
            forgetting_gradients(),
        ):
            try:
                training.attempt(work.order)
            except Exception:
                # Ours, or TensorFlow's; the trial fails, and the outcome says so.
                traceback.print_exc()
        keras.backend.clear_session()
        gc.collect()

    @contextlib.contextmanager
    def _log(self, work: Work) -> Iterator[IO[str]]:
        # Line by line, since what comes by the descriptor of standard error stands between them.
        with self.search.file(LOGS, work.trial.number, ".txt").open("a", encoding="utf-8", buffering=1) as log:
            yield log

    # --- How they end -------------------------------------------------------------------------------------------------

    def _look_at(self, work: Work) -> None:
        """Goes on with a trial whose training has ended."""
        if work.process is not None and work.process.poll() is None:
            return
        if work.order is None:
            return
        self._end_if_asked()
        failure, pruned, seed = *self._outcome(work), self._seed(work)
        if work.process is not None and work.process.stdin is not None:
            work.process.stdin.close()
        work.process, work.order = None, None
        if failure or pruned:
            self._record(work, failure, pruned, [] if failure else [seed])
        else:
            work.seeds.append(seed)
            self._train_next(work)

    def _seed(self, work: Work) -> int:
        return next(seed for seed in self.search.seeds if seed not in work.seeds)

    def _outcome(self, work: Work) -> tuple[str, bool]:
        """Why a training failed, empty where it did not; and whether it was pruned."""
        assert work.order is not None
        path, log = Path(work.order.outcome), self.search.file(LOGS, work.trial.number, ".txt")
        if path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["busy"]:
                number, holder = work.trial.number, told["busy"]
                raise RunError(
                    f"trial {number} is trained by {holder}; end that, or give every worker a name of its own"
                )
            return told["error"], told["pruned"]
        status = None if work.process is None else work.process.returncode
        if status in _INTERRUPTED:
            # By whoever ends all of a machine's processes, this one too; the trial goes on another time.
            raise Terminated
        if status == -signal.SIGKILL:
            return f"killed (signal {-status}), as the system does where memory runs out; see {log}", False
        how = "did not say how" if status is None else f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"the training ended ({how}); see {log}", False

    def _record(self, work: Work, failure: str = "", pruned: bool = False, more_seeds: Sequence[int] = ()) -> None:
        seconds = time.monotonic() - work.began
        record = trials.record(self.search, work.trial, [*work.seeds, *more_seeds], failure, pruned, seconds)
        trials.write_record(self.search, record)
        self._end(work, record)

    def _end(self, work: Work, record: Mapping[str, Any]) -> None:
        """Tells the oracle what the record says."""
        del self.works[work.slot.name]
        tell(self.oracle, self.search, work.asked, record)
        self._ended(record)

    def _end_processes(self) -> None:
        """Has all that still runs save where it stands, and waits for it."""
        processes = [one.process for one in self.works.values() if one.process is not None]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        end = time.monotonic() + _GRACE_SECONDS
        for process in processes:
            try:
                process.wait(max(end - time.monotonic(), 0.0))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()
                process.wait()


def tell(oracle: Any, search: Search, asked: Any, record: Mapping[str, Any]) -> None:
    """Ends a trial at the oracle, by its record. One that was not worth its end counts by the score it had."""
    has_score = record["score"] is not None
    if has_score:
        oracle.update_trial(asked.trial_id, {search.objective: float(record["score"])})
    status = TrialStatus.COMPLETED if has_score else TrialStatus.FAILED
    oracle.end_trial(oracles.Trial(asked.hyperparameters, trial_id=asked.trial_id, status=status))
