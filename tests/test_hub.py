"""Checkpoints from a hub: a small one that runs here, asked by the hub's own client. Nothing leaves this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tfft import hub
from tfft.errors import HubError

COMMIT = "0123456789abcdef" * 2 + "01234567"
FETCHED = {
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}
NOT_FETCHED = {
    "README.md": b"# a model",
    ".gitattributes": b"*.safetensors filter=lfs",
    "pytorch_model.bin": b"pickled",
    "pytorch_model.bin.index.json.bak": b"pickled",
    "flax_model.msgpack": b"flax",
    "rust_model.ot": b"rust",
    "model.onnx": b"onnx",
    "onnx/model.safetensors": b"onnx",
    "onnx/config.json": b"{}",
    "openvino/openvino_model.bin": b"vino",
    "1_Pooling/config.json": b"{}",
    "coreml/model.mlpackage/Manifest.json": b"{}",
}


# --- a hub ------------------------------------------------------------------------------------------------------------


class Hub:
    """What huggingface_hub asks for: a repository's list of files, then head and body of each.

    It has a checkpoint, owner/tiny, and a data set, owner/pairs.

    Attributes:
        url: its address.
        asked: method and path of every request.
        answer: asked first with a request's path; a status and an error code of the hub, or None to go on as usual.
    """

    def __init__(self, url: str, files: dict[str, bytes], data_files: dict[str, bytes]) -> None:
        self.url, self.files, self.data_files = url, files, data_files
        self.asked: list[str] = []
        self.answer: Callable[[str], tuple[int, str] | None] = lambda path: None

    def reply(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        if (wrong := self.answer(path)) is not None:
            return wrong[0], {"X-Error-Code": wrong[1], "X-Error-Message": f"the hub says {wrong[1]}"}, b""
        if path == "/":
            return 200, {"Content-Type": "text/html"}, b"<html>a hub</html>"
        known = "/api/models/owner/tiny"
        if path == known or path.startswith(f"{known}/revision/"):
            if path.rpartition("/")[2] not in ("tiny", "main", "v1", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            siblings = [{"rfilename": name, "size": len(body)} for name, body in self.files.items()]
            about = {"_id": "1", "id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "siblings": siblings}
            return 200, {"Content-Type": "application/json"}, json.dumps(about).encode()
        if path.startswith("/api/datasets/owner/pairs/"):
            return self._data_set(path.removeprefix("/api/datasets/owner/pairs/"))
        if path.startswith("/api/"):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if path.startswith("/datasets/owner/pairs/resolve/"):
            body = self.data_files.get(path.removeprefix("/datasets/owner/pairs/resolve/").partition("/")[2])
        else:
            body = self.files.get(path.removeprefix(f"/owner/tiny/resolve/{COMMIT}/"))
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body

    def take(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """What comes of a request that has a body; this hub takes nothing, see `pushed.PushedHub`."""
        return 405, {}, b""

    def _data_set(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """What `datasets` asks of the data set: what it is, and which files lie in a folder of it."""
        kind, _, rest = path.partition("/")
        about: Any = {"_id": "2", "id": "owner/pairs", "sha": COMMIT, "siblings": []}
        if kind == "tree":
            folder = rest.partition("/")[2]
            about = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.data_files.items()
                if name.startswith(folder)
            ]
            inner = {name.partition("/")[0] for name in self.data_files if "/" in name and not folder}
            about += [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(inner)]
        return 200, {"Content-Type": "application/json"}, json.dumps(about).encode()

    @property
    def bodies_fetched(self) -> set[str]:
        """Names of the files whose contents were asked for."""
        return {line.rpartition(COMMIT + "/")[2] for line in self.asked if line.startswith("GET /owner/")}


@contextlib.contextmanager
def running_hub(
    files: dict[str, bytes], data_files: dict[str, bytes] | None = None, kind: type[Hub] = Hub
) -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            served.asked.append(f"{self.command} {path}")
            self.answer(*served.reply(path))

        do_HEAD = do_GET

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            served.asked.append(f"{self.command} {path}")
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.answer(*served.take(self.command, path, self.headers, sent))

        do_PUT = do_POST

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = kind(f"http://127.0.0.1:{server.server_address[1]}", files, data_files or {})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def served(tiny_checkpoint: Path) -> Iterator[Hub]:
    files = {one.name: one.read_bytes() for one in tiny_checkpoint.iterdir()}
    with running_hub({**files, **NOT_FETCHED}) as running:
        yield running


@pytest.fixture
def closed_port() -> str:
    """An address where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


SNAPSHOT = """
import sys
from tfft import command, console, hub
def main(arguments):
    console.silence_libraries()
    name, revision = [*sys.argv[1:], None][:2]
    print(hub.snapshot(name, revision))
command.run(main)
"""


def run(code: str, arguments: Sequence[str], url: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the hub's client reads the environment once, when it is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        inherited.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**inherited, "HF_ENDPOINT": url, "HF_HOME": str(home), **settings},
    )


def snapshot(name: str, url: str, home: Path, revision: str | None = None, **settings: str) -> Path:
    done = run(SNAPSHOT, [name, revision] if revision else [name], url, home, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return Path(done.stdout.strip())


def failure(name: str, url: str, home: Path, revision: str | None = None, **settings: str) -> str:
    """The one line that is all a user sees."""
    done = run(SNAPSHOT, [name, revision] if revision else [name], url, home, **settings)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("error: ").rstrip("\n")


# --- a hub that answers -----------------------------------------------------------------------------------------------


def test_what_is_wanted_is_fetched_once_and_then_works_without_the_hub(
    served: Hub, closed_port: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = snapshot("owner/tiny", served.url, tmp_path)
    assert folder.is_relative_to(tmp_path)
    assert {one.name for one in folder.rglob("*")} == FETCHED == served.bodies_fetched
    for name in FETCHED:
        assert (folder / name).read_bytes() == (tiny_checkpoint / name).read_bytes()

    served.asked.clear()
    assert snapshot("owner/tiny", served.url, tmp_path) == folder
    assert served.bodies_fetched == set()

    served.asked.clear()
    assert snapshot("owner/tiny", closed_port, tmp_path) == folder
    assert snapshot("owner/tiny", closed_port, tmp_path, revision="main") == folder
    assert snapshot("owner/tiny", closed_port, tmp_path, revision=COMMIT) == folder
    assert snapshot("owner/tiny", served.url, tmp_path, HF_HUB_OFFLINE="1") == folder
    assert served.asked == []
    assert "v1 is neither a folder" in failure("owner/tiny", closed_port, tmp_path, revision="v1")


def test_a_checkpoint_from_the_hub_is_a_checkpoint(served: Hub, tmp_path: Path) -> None:
    code = """
import sys
from tfft.models import checkpoint
found = checkpoint.find(sys.argv[1], "v1")
tokens = len(checkpoint.load_tokenizer(found))
print(found.config.model_type, found.weights[0].name, tokens, "tensorflow" in sys.modules)
"""
    done = run(code, ["owner/tiny"], served.url, tmp_path)
    assert (done.returncode, done.stdout) == (0, "bert model.safetensors 100 False\n"), done.stderr
    assert "/api/models/owner/tiny/revision/v1" in " ".join(served.asked)


def test_what_is_needed_is_said_before_it_is_fetched(served: Hub, tmp_path: Path) -> None:
    code = "from tfft import console, hub\nconsole.silence_libraries()\nhub.snapshot('owner/tiny', None, say=print)"

    def said(**settings: str) -> list[str]:
        done = run(code, [], served.url, tmp_path, **settings)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    (line,) = said()
    assert line.startswith(
        "owner/tiny: to be fetched from the hub: config.json (0.6 kB), model.safetensors (33.6 kB), "
    )
    assert {one.partition(" ")[0] for one in line.partition("hub: ")[2].split(", ")} == FETCHED
    names = ", ".join(sorted(FETCHED))
    (tmp_path / "hub" / "models--owner--tiny" / "snapshots" / COMMIT / "vocab.txt").unlink()
    assert said() == [
        f"owner/tiny: in the local cache of the hub: {names.removesuffix(', vocab.txt')}",
        "owner/tiny: to be fetched from the hub: vocab.txt (0.3 kB)",
    ]
    assert said() == [
        f"owner/tiny: in the local cache of the hub: {names}",
        "owner/tiny: to be fetched from the hub: nothing",
    ]
    assert said(HF_HUB_OFFLINE="1") == [
        f"owner/tiny: in the local cache of the hub: {names}; nothing is fetched, since HF_HUB_OFFLINE is set"
    ]


def test_tensorflow_weights_are_fetched_too(served: Hub, tmp_path: Path) -> None:
    served.files = {
        "config.json": b"{}",
        "tf_model.h5": b"h5",
        "tf_model-00001-of-00002.h5": b"h5",
        "tf_model.h5.index.json": b"{}",
        "spiece.model": b"pieces",
        "source.spm": b"pieces",
        "merges.txt": b"a b",
        "pytorch_model.bin": b"pickled",
    }
    folder = snapshot("owner/tiny", served.url, tmp_path)
    assert {one.name for one in folder.iterdir()} == set(served.files) - {"pytorch_model.bin"}


# --- a hub that answers, but not as hoped -----------------------------------------------------------------------------


def test_no_such_checkpoint(served: Hub, tmp_path: Path) -> None:
    said = failure("owner/tinny", served.url, tmp_path)
    assert said.startswith("model.name_or_path: the hub has no checkpoint owner/tinny (or it is private")
    assert "check the spelling" in said


def test_no_such_revision(served: Hub, tmp_path: Path) -> None:
    said = failure("owner/tiny", served.url, tmp_path, revision="v7")
    assert said == "model.revision: owner/tiny has no revision v7; leave it out for the newest"


def test_a_licence_that_was_not_accepted(served: Hub, tmp_path: Path) -> None:
    served.answer = lambda path: (403, "GatedRepo") if "/resolve/" in path else None
    said = failure("owner/tiny", served.url, tmp_path)
    assert said.startswith("model.name_or_path: owner/tiny needs its licence accepted on the hub")


@pytest.mark.parametrize(("status", "where"), [(500, "/api/"), (400, "/resolve/"), (429, "/api/"), (403, "/api/")])
def test_a_hub_in_trouble(served: Hub, tmp_path: Path, status: int, where: str) -> None:
    served.answer = lambda path: (status, "Trouble") if where in path else None
    said = failure("owner/tiny", served.url, tmp_path)
    assert said.startswith("model.name_or_path: fetching owner/tiny failed: ")
    assert "the hub says Trouble" in said
    assert said.endswith("try again, or give a local folder")


def test_a_network_that_answers_in_the_hubs_place(served: Hub, tmp_path: Path) -> None:
    served.reply = lambda path: (200, {"Content-Type": "text/html"}, b"<html>Log in to the guest network</html>")
    assert failure("owner/tiny", served.url, tmp_path).startswith("model.name_or_path: fetching owner/tiny failed: ")


def failures() -> list[tuple[Exception, str]]:
    import requests
    from huggingface_hub.errors import LocalEntryNotFoundError

    return [
        (requests.exceptions.ConnectionError("Connection\nreset by peer"), "failed: Connection reset by peer; try"),
        (requests.exceptions.ReadTimeout("timed out"), "failed: timed out; try again"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("Consistency check failed: file should be of size 10"), "Consistency check failed"),
        (LocalEntryNotFoundError("An error happened"), "failed: An error happened"),
    ]


def test_whatever_ends_a_fetch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(hub, "is_offline", lambda: False)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    for error, expected in failures():

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(HubError, match=expected) as caught:
            hub.snapshot("owner/tiny", None)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("model.name_or_path: fetching owner/tiny failed: ")


# --- no hub -----------------------------------------------------------------------------------------------------------


def test_a_hub_that_cannot_be_reached(closed_port: str, tmp_path: Path) -> None:
    said = failure("owner/tiny", closed_port, tmp_path)
    assert said.startswith("model.name_or_path: owner/tiny is neither a folder here nor in the local cache of the hub")
    assert f"{closed_port} cannot be reached" in said
    for way_out in ("model.name_or_path=FOLDER", "data.train_file=", "--recipe quickstart"):
        assert way_out in said


def test_a_hub_that_was_switched_off(served: Hub, tmp_path: Path) -> None:
    said = failure("owner/tiny", served.url, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in said
    assert "--recipe quickstart" in said
    assert served.asked == []


def test_a_data_set_is_not_asked_for_where_there_is_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "endpoint", lambda: "http://hub.example")
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(
        HubError, match=r"^data\.dataset_name: nyu-mll/glue comes from the hub, and http://hub\.example"
    ):
        hub.check_reachable("nyu-mll/glue", "data.dataset_name")
    # Switched off, nothing is asked: it may be in the cache.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.check_reachable("nyu-mll/glue", "data.dataset_name")


@pytest.mark.parametrize(
    ("value", "is_offline"),
    [("1", True), ("on", True), ("YES", True), ("True", True), ("0", False), ("", False), ("no", False)],
)
def test_offline_as_the_hubs_client_reads_it(value: str, is_offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hub.is_offline() == is_offline == constants._is_true(value)


def test_reachable_is_whatever_answers(served: Hub, closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for address, expected in [(served.url, True), (closed_port, False), ("no address", False), ("", False)]:
        monkeypatch.setattr(hub, "endpoint", lambda address=address: address)
        assert hub.is_reachable() == expected
    served.answer = lambda path: (503, "Trouble")
    monkeypatch.setattr(hub, "endpoint", lambda: served.url)
    assert hub.is_reachable()
    assert served.asked == ["HEAD /", "HEAD /"]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2", True),
        ("google-bert/bert-base-uncased", True),
        ("owner/name.v1_2-3", True),
        ("a", True),
        ("x" * 96, True),
        ("owner/" + "x" * 96, True),
        ("x" * 97, False),
        ("owner/" + "x" * 97, False),
        ("", False),
        ("./folder", False),
        ("../folder", False),
        ("/folder", False),
        ("folder/", False),
        ("a/b/c", False),
        ("a b", False),
        ("a--b", False),
        ("owner/a..b", False),
        ("owner/a.git", False),
        ("owner/a-", False),
        ("owner-/a", False),
        ("owner/a.", False),
        ("name\n", False),
    ],
)
def test_names_that_the_hub_may_have(name: str, expected: bool) -> None:
    from huggingface_hub.utils import validate_repo_id

    assert hub.is_hub_id(name) == expected
    if expected:
        validate_repo_id(name)
