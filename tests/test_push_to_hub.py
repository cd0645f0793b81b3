"""Models pushed to a hub that runs here and speaks the protocol of uploads, by the hub's own client."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import pushed
from tests.pushed import TOKEN, PushedHub
from tfft.errors import HubError
from tfft.uploads import Repository, Uploads


@pytest.fixture
def served() -> Iterator[PushedHub]:
    yield from pushed.an_empty_hub()


@pytest.fixture
def logged_in(served: PushedHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PushedHub:
    """The hub that runs here is the hub, and the environment has its token."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    files = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return served


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_folder(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


# --- Repository -------------------------------------------------------------------------------------------------------


def test_a_folder_is_committed_as_it_is(logged_in: PushedHub, tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "model", model_safetensors="weights", other_safetensors="more", config_json="{}")
    a_folder(folder / "adapters", adapter_safetensors="small")
    repository = Repository("owner/mine", private=True)
    assert logged_in.asked == []  # nobody was asked until there is something to do
    assert repository.push(folder, "one") == f"{logged_in.url}/owner/mine"
    there = logged_in.repositories["owner/mine"]
    assert (there.private, there.messages) == (True, ["one"])
    assert there.files == there.commits[0][1] == files_of(folder)
    assert "adapters/adapter.safetensors" in there.files

    # What the hub has already is not sent again.
    (folder / "config.json").write_text('{"a": 1}')
    logged_in.asked.clear()
    Repository("owner/mine").push(folder, "two")
    assert there.messages == ["one", "two"]
    assert there.files == files_of(folder)
    assert not [one for one in logged_in.asked if one.startswith("PUT")]


def test_a_name_alone_is_of_the_tokens_owner(logged_in: PushedHub, tmp_path: Path) -> None:
    Repository("mine").push(a_folder(tmp_path / "model", config_json="{}"), "one")
    assert list(logged_in.repositories) == ["owner/mine"]
    assert logged_in.repositories["owner/mine"].private is None


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "../x", "owner/", "x--y"])
def test_no_hub_has_such_a_name(logged_in: PushedHub, name: str) -> None:
    with pytest.raises(HubError, match=r"^training\.hub_model_id: got .*; expected NAME or OWNER/NAME"):
        Repository(name, key="training.hub_model_id")


def test_the_hub_is_switched_off(logged_in: PushedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="since HF_HUB_OFFLINE is set; unset it, or push nothing"):
        Repository("owner/mine")


def test_there_is_no_token(logged_in: PushedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"without a token of the hub that may write: `hf auth login`, or set HF_TOKEN"):
        Repository("owner/mine")
    assert logged_in.asked == []


@pytest.mark.parametrize(
    ("wrong", "status", "expected"),
    [
        ("/api/repos/create", 500, r"the hub is in trouble \(500 from it\)"),
        ("/commit/", 503, r"the hub is in trouble \(503 from it\)"),
        (
            "/api/repos/create",
            401,
            r"the hub refused the token \(401\); give one that may write to owner/mine: `hf auth",
        ),
        ("/preupload/", 403, r"the hub refused the token \(403\)"),
        ("/commit/", 400, "no luck with /commit/"),
        ("PUT /bytes/", 400, "no luck with PUT /bytes/"),
    ],
)
def test_why_a_push_failed(logged_in: PushedHub, tmp_path: Path, wrong: str, status: int, expected: str) -> None:
    logged_in.wrong[wrong] = status
    repository = Repository("owner/mine")
    with pytest.raises(Exception) as caught:
        repository.push(a_folder(tmp_path / "model", model_safetensors="weights"), "one")
    said = repository.why(caught.value)
    assert len(said.splitlines()) == 1
    assert re.search(expected, said), said
    assert TOKEN not in said


def test_a_hub_that_is_not_there(logged_in: PushedHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    repository = Repository("owner/mine")
    with pytest.raises(OSError) as caught:
        repository.push(a_folder(tmp_path / "model", config_json="{}"), "one")
    assert repository.why(caught.value).endswith("see whether http://127.0.0.1:9 can be reached from here")


def test_the_token_is_never_said(logged_in: PushedHub) -> None:
    assert Repository("owner/mine").why(ValueError(f"bad\nheader: {TOKEN}")) == "bad header: ***"


# --- Uploads ----------------------------------------------------------------------------------------------------------


class Slow:
    """Pushes to nowhere; each push begins, and ends when it is let go."""

    def __init__(self) -> None:
        self.pushed: list[str] = []
        self.said: list[str] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.uploads = Uploads(self.push, self.said.append, str)

    def push(self, folder: Path, message: str) -> str:
        self.begun.release()
        assert self.go.acquire(timeout=10)
        if message == "bad":
            raise OSError("no luck")
        self.pushed.append(message)
        return "nowhere"


def test_one_is_on_its_way_and_the_newest_waits(tmp_path: Path) -> None:
    slow = Slow()
    folders = {name: a_folder(tmp_path / name, a_txt=name) for name in ("one", "two", "three", "bad")}
    slow.uploads.put(folders["one"], "one", is_ours=True)
    assert slow.begun.acquire(timeout=10)
    slow.uploads.put(folders["two"], "two", is_ours=True)
    slow.uploads.put(folders["three"], "three")
    assert slow.uploads.is_busy
    assert not slow.uploads.wait(0.01)
    assert slow.said == ["two is not pushed: three takes its place, while one is on its way"]
    slow.go.release(2)
    assert slow.uploads.wait(10)
    assert slow.pushed == ["one", "three"]
    assert slow.said[1:] == ["pushed one to nowhere", "pushed three to nowhere"]
    # Those that were made for it are gone.
    assert [name for name, folder in folders.items() if folder.exists()] == ["three", "bad"]

    slow.uploads.put(folders["bad"], "bad", is_ours=True)
    slow.go.release()
    assert not slow.uploads.wait(10)
    assert slow.said[-1] == "pushing bad failed: no luck"
    assert not folders["bad"].exists()
    # What failed before keeps nothing that comes later from arriving.
    slow.uploads.put(folders["three"], "three")
    slow.go.release()
    assert slow.uploads.wait(10)
    assert not [one for one in threading.enumerate() if one.name == "tfft-push"]


def test_what_is_put_as_a_thread_ends_is_waited_for() -> None:
    go, threads = threading.Event(), []

    class Late(Uploads):
        def _next(self) -> Any:
            upload = super()._next()
            if upload is None and len(threads) == 1:
                # This thread has found nothing more to do, and has not ended yet.
                self.put(Path("model"), "late")
                threads.append(self._thread)
            return upload

    def push(folder: Path, what: str) -> str:
        if what == "late":
            assert go.wait(10)
        return "there"

    said: list[str] = []
    uploads = Late(push, said.append, str)
    with uploads._changed:
        uploads.put(Path("model"), "early")
        threads.append(uploads._thread)
    threads[0].join(10)
    assert not uploads.wait(0.01)
    assert uploads.is_busy
    go.set()
    assert uploads.wait(10)
    assert said == ["pushed early to there", "pushed late to there"]


def test_what_comes_first_may_fail() -> None:
    said: list[str] = []

    def begin() -> None:
        raise OSError("no luck")

    uploads = Uploads(lambda folder, what: "there", said.append, str, begin)
    uploads.begin()
    uploads.put(Path("model"), "one")
    assert uploads.wait(10)
    assert said == ["the hub's repository could not be made ready: no luck", "pushed one to there"]


def test_a_push_that_hangs_keeps_no_process() -> None:
    code = """
        import threading
        from pathlib import Path
        from tfft.uploads import Uploads
        uploads = Uploads(lambda folder, what: threading.Event().wait(), print, str)
        uploads.put(Path("model"), "one")
        print(uploads.wait(0.1))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


# --- In anybody's fit -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tiny_checkpoint: Path) -> tuple[Any, Any, dict[str, np.ndarray], np.ndarray]:
    """A classifier of Transformers, its tokenizer, eight rows and their labels; compiled, with no recipe anywhere.

    One for all tests: its training step is traced once.
    """
    import transformers

    from tfft.backend import keras

    keras.utils.set_random_seed(1)
    config = transformers.AutoConfig.from_pretrained(tiny_checkpoint, num_labels=2, num_hidden_layers=1)
    model = transformers.TFBertForSequenceClassification(config)
    model.build_in_name_scope()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_checkpoint)
    texts = [f"the movie was {'good' if row % 2 else 'bad'}" for row in range(8)]
    inputs = dict(tokenizer(texts, padding=True, return_tensors="np"))
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, tokenizer, inputs, np.arange(8) % 2


Fit = Callable[..., list[str]]


@pytest.fixture
def fit(parts: Any) -> Fit:
    """Fits with a PushToHub of the given settings; what it said."""
    from tfft.backend import keras
    from tfft.callbacks import PushToHub

    def run(epochs: int = 2, others: Any = (), **settings: Any) -> list[str]:
        model, tokenizer, inputs, labels = parts
        said: list[str] = []
        callback = PushToHub("owner/mine", tokenizer, say=said.append, **settings)
        trained = model.fit(inputs, labels, batch_size=4, epochs=epochs, verbose=0, callbacks=[*others, callback])
        assert isinstance(trained, keras.callbacks.History)
        assert len(trained.epoch) == epochs
        return said

    return run


def test_what_arrives_is_the_model(logged_in: PushedHub, parts: Any, fit: Fit, tmp_path: Path) -> None:
    import transformers

    model, tokenizer, inputs, _ = parts
    said = fit(epochs=1, snapshots=tmp_path / "waiting")
    there = logged_in.repositories["owner/mine"]
    assert there.messages[-1] == "end of training"
    assert said[-1] == f"pushed end of training to {logged_in.url}/owner/mine"
    model.save_pretrained(tmp_path / "saved", safe_serialization=True)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert there.files == files_of(tmp_path / "saved")
    assert list((tmp_path / "waiting").iterdir()) == []

    for name, body in there.files.items():
        (tmp_path / "fetched").mkdir(exist_ok=True)
        (tmp_path / "fetched" / name).write_bytes(body)
    loaded = transformers.TFAutoModelForSequenceClassification.from_pretrained(tmp_path / "fetched")
    np.testing.assert_array_equal(loaded(inputs).logits, model(inputs).logits)


def test_every_commit_is_of_one_moment(logged_in: PushedHub, parts: Any, fit: Fit) -> None:
    """The hub is slow, and training changes the weights while they are on their way."""
    from tfft.backend import keras

    logged_in.gate.clear()
    seen: dict[str, bytes] = {}

    class Watch(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen[f"epoch {epoch + 1}"] = self.model.get_weights()[0].tobytes()
            if epoch == 2:
                logged_in.gate.set()

    said = fit(epochs=3, others=[Watch()])
    there = logged_in.repositories["owner/mine"]
    assert there.messages[0] == "epoch 1"
    assert there.messages[-1] == "end of training"
    assert any("is not pushed" in line for line in said)
    assert len({*seen.values()}) == 3
    from safetensors.numpy import load

    first = load(there.commits[0][1]["model.safetensors"])
    assert seen["epoch 1"] in {tensor.tobytes() for tensor in first.values()}
    assert seen["epoch 2"] not in {tensor.tobytes() for tensor in first.values()}


def test_training_does_not_wait_for_the_hub(logged_in: PushedHub, fit: Fit) -> None:
    logged_in.gate.clear()
    began = time.perf_counter()
    said = fit(epochs=3, wait_seconds=0.2)
    assert time.perf_counter() - began < 25  # the server would hold every file for 30
    assert logged_in.repositories["owner/mine"].commits == []
    assert said[-2:] == [
        "waiting for owner/mine to be pushed, 0.2 s at most",
        "the model has not arrived after 0.2 s; once the hub can take it: hf upload owner/mine FOLDER",
    ]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            {"/commit/": 500},
            "pushing epoch 1 failed: the hub is in trouble (500 from it); nothing is to be mended here",
        ),
        ({"/api/": 401}, "the hub's repository could not be made ready: the hub refused the token (401); give one"),
    ],
)
def test_a_hub_in_trouble_fails_no_training(
    logged_in: PushedHub, fit: Fit, wrong: dict[str, int], expected: str
) -> None:
    logged_in.wrong = wrong
    said = fit(epochs=1)
    assert any(line.startswith(expected) for line in said), said
    assert said[-1] == "the model was not pushed; once the hub can take it: hf upload owner/mine FOLDER"
    assert TOKEN not in "".join(said)


def test_a_model_that_cannot_be_written_fails_no_training(logged_in: PushedHub, fit: Fit, tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    said = fit(epochs=1, save=save, snapshots=tmp_path)
    assert said[0].startswith(f"epoch 1 is not pushed, since it could not be written to {tmp_path}")
    assert "No space left on device" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_the_end_alone_or_every_few_steps(logged_in: PushedHub, parts: Any, fit: Fit) -> None:
    fit(epochs=2, hub_strategy="end")
    there = logged_in.repositories["owner/mine"]
    assert there.messages == ["end of training"]
    there.commits.clear()

    from tfft.backend import keras

    class Idle(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        """Lets every push end before the next."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            time.sleep(0.3)

    begin = int(parts[0].optimizer.iterations.numpy())
    fit(epochs=2, save_steps=1, others=[Idle()])
    assert there.messages[0] == f"step {begin + 1}, in epoch 1"
    assert there.messages[-1] == "end of training"


def test_settings_that_make_no_sense(logged_in: PushedHub) -> None:
    from tfft.callbacks import PushToHub

    with pytest.raises(ValueError, match="hub_strategy is 'checkpoint'; expected every_save or end"):
        PushToHub("owner/mine", hub_strategy="checkpoint")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="save_steps is 0; expected more than 0"):
        PushToHub("owner/mine", save_steps=0)
    assert logged_in.asked == []


def test_nothing_is_left_where_temporary_files_go(
    logged_in: PushedHub, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fit(epochs=1)
    assert logged_in.repositories["owner/mine"].messages[-1] == "end of training"
    assert list(tmp_path.glob("push-*")) == []
