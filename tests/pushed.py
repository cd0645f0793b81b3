"""A hub that takes models: what its own client asks for when it makes a repository and commits a folder to it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from huggingface_hub import ModelCard

from tests.test_hub import Hub, running_hub

TOKEN = "hf_aSecretOfTheTests"
OWNER = "owner"
JSON = {"Content-Type": "application/json"}
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Pushed:
    """A repository: what it was made with, its files as they are, and its commits in their order."""

    private: bool | None
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return f"{len(self.commits):040x}"

    @property
    def messages(self) -> list[str]:
        return [message for message, _ in self.commits]


class PushedHub(Hub):
    """Takes what is pushed with the right token: preupload, LFS by its basic transfer with verification, commits.

    Large files are those that end in .safetensors; their bytes must come first, and have the hash that they say.

    Attributes:
        repositories: by OWNER/NAME.
        wrong: the status of every answer to a request whose method and path have that in them.
        gate: requests that bring the bytes of a file wait until it is set.
        seconds: that every request takes.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.repositories: dict[str, Pushed] = {}
        self.wrong: dict[str, int] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.seconds = 0.0
        self._large: dict[str, bytes] = {}
        self._verified: set[str] = set()

    def reply(self, path: str) -> Answer:
        """To whom it has something to give: what a repository is, and its files."""
        if self.answer(path) is not None:
            return super().reply(path)
        for name, one in self.repositories.items():
            if path == f"/api/models/{name}" or path.startswith(f"/api/models/{name}/revision/"):
                siblings = [{"rfilename": file} for file in one.files]
                names = {"_id": "1", "id": name, "modelId": name}
                about = {**names, "sha": one.sha, "private": bool(one.private), "siblings": siblings}
                return 200, JSON, json.dumps(about).encode()
            if path.startswith(f"/{name}/resolve/"):
                body = one.files.get(path.removeprefix(f"/{name}/resolve/").partition("/")[2])
                if body is None:
                    return 404, {"X-Error-Code": "EntryNotFound"}, b""
                return 200, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": one.sha}, body
        return super().reply(path)

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What is pushed."""
        time.sleep(self.seconds)
        for part, status in self.wrong.items():
            if part in f"{method} {path}":
                return status, {"X-Error-Message": f"no luck with {part}"}, b""
        if path.startswith("/bytes/"):
            # By a signed address, without the token.
            self.gate.wait(30)
            return self._take_bytes(path.removeprefix("/bytes/"), body)
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"X-Error-Message": "Invalid user token."}, b""
        if path == "/api/repos/create":
            return self._make(json.loads(body))
        if path == "/api/validate-yaml":
            errors = [{"message": one} for one in [validated(json.loads(body)["content"])] if one]
            return 400 if errors else 200, JSON, json.dumps({"errors": errors, "warnings": []}).encode()
        if path == "/verify":
            self._verified.add(json.loads(body)["oid"])
            return 200, JSON, b"{}"
        for name, one in self.repositories.items():
            if path == f"/api/models/{name}/preupload/main":
                return (
                    200,
                    JSON,
                    json.dumps({"files": [_upload_mode(file) for file in json.loads(body)["files"]]}).encode(),
                )
            if path == f"/{name}.git/info/lfs/objects/batch":
                objects = [self._wanted(file) for file in json.loads(body)["objects"]]
                return 200, JSON, json.dumps({"transfer": "basic", "objects": objects}).encode()
            if path == f"/api/models/{name}/commit/main":
                return self._commit(name, one, body)
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def _make(self, asked: dict[str, Any]) -> Answer:
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        is_new = name not in self.repositories
        self.repositories.setdefault(name, Pushed(asked.get("private")))
        return 200 if is_new else 409, JSON, json.dumps({"url": f"{self.url}/{name}", "name": name}).encode()

    def _wanted(self, file: dict[str, Any]) -> dict[str, Any]:
        if file["oid"] in self._verified:
            return file
        return {
            **file,
            "actions": {
                "upload": {"href": f"{self.url}/bytes/{file['oid']}"},
                "verify": {"href": f"{self.url}/verify"},
            },
        }

    def _take_bytes(self, sha: str, body: bytes) -> Answer:
        if hashlib.sha256(body).hexdigest() != sha:
            return 400, {"X-Error-Message": "these are other bytes"}, b""
        self._large[sha] = body
        return 200, {}, b""

    def _commit(self, name: str, one: Pushed, body: bytes) -> Answer:
        files: dict[str, bytes] = {}
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                if value["oid"] not in self._verified or len(self._large[value["oid"]]) != value["size"]:
                    return 400, {"X-Error-Message": f"{value['path']} is not here"}, b""
                files[value["path"]] = self._large[value["oid"]]
            else:
                assert (line["key"], value["encoding"]) == ("file", "base64")
                files[value["path"]] = base64.b64decode(value["content"])
        one.files.update(files)
        one.commits.append((lines[0]["value"]["summary"], files))
        about = {"commitUrl": f"{self.url}/{name}/commit/{one.sha}", "commitOid": one.sha, "success": True}
        return 200, JSON, json.dumps(about).encode()


def validated(card: str) -> str:
    """What the hub has against a README.md: its front matter is to be YAML, and to name a licence."""
    try:
        return "" if ModelCard(card).data.license else '"license" is required'
    except (ValueError, yaml.YAMLError) as error:
        return str(error)


def _upload_mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def running() -> Any:
    """A context with such a hub."""
    return running_hub({}, kind=PushedHub)


def an_empty_hub() -> Iterator[PushedHub]:
    """For a fixture."""
    with running() as hub:
        yield hub
        hub.gate.set()
