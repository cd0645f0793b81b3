"""Folders to the hub while something else goes on: one is on its way, the newest waits, and nobody is held up."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfft import __version__, hub
from tfft.errors import HubError

LOG_IN = "`hf auth login`, or set HF_TOKEN"


class Repository:
    """A model's repository on the hub, to which whole folders are committed; it is made when it is first needed.

    The token is that of the environment or of the hub's own login. It is shown and written nowhere.

    Args:
        name: OWNER/NAME, or NAME for one of the token's owner.
        private: whether it is private where it has to be made; None leaves that to the hub.
        key: what messages call the name.
        is_asked: whether the hub will be asked anything; nothing but a name is needed where it is not.

    Raises:
        HubError: no hub has such a name, the hub is switched off, or there is no token; it is not asked yet.
    """

    def __init__(
        self, name: str, private: bool | None = None, key: str = "hub_model_id", is_asked: bool = True
    ) -> None:
        from huggingface_hub import constants, get_token

        if not hub.is_hub_id(name):
            raise HubError(
                f"{key}: got {name!r}; expected NAME or OWNER/NAME, of letters, digits and single - _ . between them"
            )
        token = get_token()
        if is_asked and (hub.is_offline() or constants.HF_HUB_OFFLINE):
            raise HubError(
                f"{key}: {name} cannot be pushed to, since HF_HUB_OFFLINE is set; unset it, or push nothing (in a "
                "recipe: training.push_to_hub=false)"
            )
        if is_asked and token is None:
            raise HubError(
                f"{key}: {name} cannot be pushed to without a token of the hub that may write: {LOG_IN}. Recipes and "
                "command lines are no place for it"
            )
        self.name, self.private = name, private
        self._token = token or ""
        self._made: Any = None

    def make(self) -> str:
        """Makes the repository unless it is there; its address.

        Raises:
            HubError: it is to be private, and is there already and public.
        """
        if self._made is None:
            made = self._api().create_repo(self.name, private=self.private, exist_ok=True)
            # The hub leaves one that is there as it is, and says nothing.
            if self.private and not self._api().model_info(made.repo_id).private:
                raise HubError(
                    f"{made.repo_id} is to be private, and is there already as a public repository; make it private on "
                    "the hub, or give another name"
                )
            self._made = made
        return str(self._made)

    @property
    def full_name(self) -> str:
        """OWNER/NAME, once it is made; before that, as it was given."""
        return self.name if self._made is None else str(self._made.repo_id)

    def has_token(self, text: str) -> bool:
        """Whether the token is in a text that is to be published."""
        return bool(self._token) and self._token in text

    def read(self, name: str) -> str | None:
        """The text of a file that is in the repository; None where it is not there."""
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        self.make()
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = Path(self._api().hf_hub_download(self._made.repo_id, name, local_dir=folder))
            except LocalEntryNotFoundError:  # a kind of the other: the hub could not be asked
                raise
            except EntryNotFoundError:
                return None
            return path.read_bytes().decode("utf-8", "replace")

    def push(
        self,
        folder: Path,
        message: str,
        files: Sequence[Path] | None = None,
        before: Callable[[Path], object] = lambda path: None,
    ) -> str:
        """Commits files of a folder, in one commit: those who look see all of them or none. Returns the address.

        Args:
            files: of the folder; None takes all.
            before: told of each file before it is sent.
        """
        from huggingface_hub import CommitOperationAdd

        address, api = self.make(), self._api()
        chosen = sorted(path for path in folder.rglob("*") if path.is_file()) if files is None else files
        additions = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in chosen]
        # One by one: several at once would be threads that keep the process from ending while the hub hangs.
        for path, addition in zip(chosen, additions, strict=True):
            before(path)
            api.preupload_lfs_files(self._made.repo_id, [addition], free_memory=False)
        api.create_commit(self._made.repo_id, additions, commit_message=message)
        return address

    def why(self, error: Exception) -> str:
        """Why a push failed and what to do, in one line without the token."""
        chain = _chain(error)
        answered = next((one for one in chain if getattr(one, "response", None) is not None), None)
        text = " ".join(str(answered or chain[-1]).split()).replace(self._token, "***") or type(chain[-1]).__name__
        status = answered.response.status_code if answered else None
        if status in (401, 403):
            return f"the hub refused the token ({status}); give one that may write to {self.name}: {LOG_IN}"
        if status is not None and status >= 500:
            return f"the hub is in trouble ({status} from it); nothing is to be mended here"
        if status is None and isinstance(chain[-1], OSError):
            return f"{text}; see whether {hub.endpoint()} can be reached from here"
        return text

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(token=self._token, library_name="tfft", library_version=__version__)


def _chain(error: Any) -> list[Any]:
    """The error and what it was raised from, that from what it was raised, and so on."""
    return [error] if error.__cause__ is None else [error, *_chain(error.__cause__)]


@dataclass(frozen=True)
class _Upload:
    folder: Path
    what: str
    is_ours: bool

    def forget(self) -> None:
        """The folder goes, if it was only made for this."""
        if self.is_ours:
            shutil.rmtree(self.folder, ignore_errors=True)


class Uploads:
    """Pushes folders in a thread of its own, one after another; of those that wait only the newest is pushed.

    A push that fails is one line said, and no error.

    Args:
        push: takes a folder and a message, and returns where they are now.
        say: takes a line.
        why: says of an exception of `push` why it happened and what to do.
        begin: called first of all, in the thread; what it raises is said like a failed push.

    Example:
        >>> import tempfile
        >>> uploads = Uploads(lambda folder, what: f"nowhere/{folder.name}", print, str)
        >>> uploads.put(Path("model"), "epoch 1")
        >>> uploads.wait(seconds=10)
        pushed epoch 1 to nowhere/model
        True
    """

    def __init__(
        self,
        push: Callable[[Path, str], str],
        say: Callable[[str], None],
        why: Callable[[Exception], str],
        begin: Callable[[], object] | None = None,
    ) -> None:
        self._push, self.say, self._why, self._begin = push, say, why, begin
        self._changed = threading.Condition()  # of a lock that its holder may take again
        self._waiting: _Upload | None = None
        self._under_way: _Upload | None = None
        self._thread: threading.Thread | None = None
        self._last_arrived = True

    @property
    def is_busy(self) -> bool:
        """Whether something is on its way."""
        return self._thread is not None

    def begin(self) -> None:
        """Does what is to be done first, before there is anything to push."""
        with self._changed:
            self._start()

    def put(self, folder: Path, what: str, is_ours: bool = False) -> None:
        """Has a folder pushed as soon as the present push has ended; returns at once.

        Args:
            folder: must not change until it is pushed.
            what: is in it, in words; also the message of the commit.
            is_ours: it is removed afterwards, pushed or not.
        """
        with self._changed:
            replaced, self._waiting = self._waiting, _Upload(folder, what, is_ours)
            before = self._under_way
            self._start()
        if replaced is not None:
            replaced.forget()
            still = f", while {before.what} is on its way" if before else ""
            self.say(f"{replaced.what} is not pushed: {what} takes its place{still}")

    def wait(self, seconds: float) -> bool:
        """Waits until all is pushed, so long at most; whether the last of all arrived."""
        with self._changed:
            ended = self._changed.wait_for(lambda: self._thread is None, timeout=seconds)
            return ended and self._last_arrived

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: a push that hangs does not keep the process from ending. The hub then never sees its commit.
            self._thread = threading.Thread(target=self._work, name="tfft-push", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            begin, self._begin = self._begin, None
            if begin is not None:
                self._attempt(begin, "the hub's repository could not be made ready")
            while (upload := self._next()) is not None:
                self._last_arrived = False
                try:
                    self._last_arrived = self._attempt(lambda: self._one(upload), f"pushing {upload.what} failed")
                finally:
                    upload.forget()
        finally:
            self._over()

    def _over(self) -> None:
        with self._changed:
            # There may be another thread already, for what was put since this one had nothing more to do.
            if self._thread is threading.current_thread():
                self._thread = None
                self._changed.notify_all()

    def _next(self) -> _Upload | None:
        with self._changed:
            self._under_way, self._waiting = self._waiting, None
            if self._under_way is None:
                # Here and not later: whoever puts something from now on starts another thread.
                self._over()
            return self._under_way

    def _one(self, upload: _Upload) -> None:
        address = self._push(upload.folder, upload.what)
        self.say(f"pushed {upload.what} to {address}")

    def _attempt(self, action: Callable[[], object], otherwise: str) -> bool:
        try:
            action()
        except Exception as error:
            self.say(f"{otherwise}: {self._why(error)}")
            return False
        return True


def no_bars() -> None:
    """Keeps the hub's client from drawing bars from a thread into whatever is on the screen, unless it was asked to."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        disable_progress_bars()
