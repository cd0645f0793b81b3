"""MLflow and Weights & Biases, through their own libraries and what those write; nothing leaves this machine."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tfft import reporting
from tfft.backend import keras
from tfft.callbacks import LearningRateLog, MLflowLog, WandbLog
from tfft.errors import RunError

SETTINGS = {"training.learning_rate": 0.5, "data.text_columns": ["text"], "long": "x" * 7000}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test writes into the working directory, asks anybody, or is told anything by the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("WANDB_ERROR_REPORTING", "false"),
        ("WANDB_MODE", "offline"),
        ("WANDB_SILENT", "true"),
    ):
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def model() -> Any:
    made = keras.Sequential([keras.layers.Dense(1, input_shape=(1,), kernel_initializer="ones")])
    made.compile(keras.optimizers.SGD(0.25), "mse")
    return made


def fit(model: Any, callback: Any, epochs: int = 2, first: int = 0, others: Any = ()) -> dict[str, list[float]]:
    """A fit that never saw a recipe; the history."""
    trained = model.fit(
        [[1.0]],
        [[3.0]],
        initial_epoch=first,
        epochs=epochs,
        verbose=0,
        callbacks=[LearningRateLog(), callback, *others],
    )
    history: dict[str, list[float]] = trained.history
    return history


# --- MLflow -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database; MLflow takes two seconds to make one."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def history_of(log: MLflowLog, name: str) -> list[tuple[int, float]]:
    return sorted((one.step, one.value) for one in log.client.get_metric_history(log.run_id, name))


def test_mlflow_has_settings_epochs_and_the_end(model: Any, store: str) -> None:
    log = MLflowLog(SETTINGS, run_name="mine", tracking_uri=store)
    history = fit(model, log)
    run = log.client.get_run(log.run_id)
    assert run.data.params == {
        "training.learning_rate": "0.5",
        "data.text_columns": "['text']",
        "long": "x" * 6000,
    }
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    assert log.client.get_experiment(run.info.experiment_id).name == "tfft"
    assert history_of(log, "loss") == [(1, history["loss"][0]), (2, history["loss"][1])]
    assert history_of(log, "learning_rate") == [(1, 0.25), (2, 0.25)]


def test_mlflow_goes_on_in_the_same_run(model: Any, store: str, tmp_path: Path) -> None:
    """As three processes would: one that is broken off, one that ends it, and one where the run is gone."""
    kept = {"tracking_uri": store, "experiment": "resumed", "run_id_file": tmp_path / "id", "at_end": False}
    first = MLflowLog({"a": 1}, **kept)
    fit(model, first, epochs=1)
    assert first.client.get_run(first.run_id).info.status == "RUNNING"
    assert (tmp_path / "id").read_text() == f"{first.run_id}\n"

    second = MLflowLog({"a": 2}, **kept)
    fit(model, second, epochs=2, first=1)
    second.finish({"eval/f1": 0.75})
    assert second.run_id == first.run_id
    run = second.client.get_run(second.run_id)
    assert (run.info.status, run.data.params) == ("FINISHED", {"a": "1"})
    assert [step for step, _ in history_of(second, "loss")] == [1, 2]
    assert history_of(second, "eval/f1") == [(2, 0.75)]

    second.client.delete_run(second.run_id)
    said: list[str] = []
    third = MLflowLog(**kept, say=said.append)
    fit(model, third, epochs=1)
    third.finish(status="failed")
    assert said == [f"MLflow has no run {first.run_id} any more; this training goes on in a new one"]
    assert third.run_id != first.run_id
    assert (tmp_path / "id").read_text() == f"{third.run_id}\n"
    assert third.client.get_run(third.run_id).info.status == "FAILED"


def test_mlflow_logs_into_the_run_that_is_open(model: Any, store: str, request: pytest.FixtureRequest) -> None:
    import mlflow

    mlflow.set_tracking_uri(store)
    request.addfinalizer(lambda: mlflow.set_tracking_uri(""))
    with mlflow.start_run() as run:
        log = MLflowLog({"a": 1})
        fit(model, log)
        assert log.run_id == run.info.run_id
        assert log.client.get_run(log.run_id).info.status == "RUNNING"
    assert log.client.get_run(log.run_id).data.metrics.keys() == {"loss", "learning_rate"}


def test_mlflows_folder_of_files_where_it_is_allowed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow refuses it unless this is set."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "files")
    history = fit(model, log := MLflowLog({"a": 1}))
    found = list(tmp_path.glob(f"mlruns/*/{log.run_id}/metrics/loss"))
    assert len(found) == 1
    values = [float(line.split()[1]) for line in found[0].read_text().splitlines()]
    assert values == pytest.approx(history["loss"])
    assert log.experiment == "files"


def test_many_settings_are_logged_in_as_many_requests_as_it_takes(store: str) -> None:
    log = MLflowLog({f"key {number} (of many)": number for number in range(250)}, tracking_uri=store)
    log.begin()
    params = log.client.get_run(log.run_id).data.params
    log.finish()
    assert len(params) == 250
    assert params["key 249 _of many_"] == "249"


def test_a_store_that_cannot_be_used_is_an_error_before_training(model: Any, tmp_path: Path) -> None:
    log = MLflowLog(tracking_uri=f"nonsense://{tmp_path}")
    with pytest.raises(
        RunError, match=r"MLflow has no run for this training: .* See MLFLOW_TRACKING_URI, or leave"
    ) as caught:
        log.begin()
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RunError, match="MLflow has no run"):
        fit(model, log)


def test_a_tracker_that_fails_later_fails_no_training(model: Any, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = MLflowLog(tracking_uri=store, say=said.append)
    log.begin()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the server\nis gone.")

    with monkeypatch.context() as patch:
        patch.setattr(log.client, "log_batch", fail)
        assert len(fit(model, log)["loss"]) == 2
    assert said == [
        "MLflow was not told of epoch 1: the server is gone; training goes on",
        "MLflow was not told of epoch 2: the server is gone; training goes on",
        "MLflow was not told of the end of the run: the server is gone; training goes on",
    ]
    assert history_of(log, "loss") == []

    # Once it is there again, it is told what it missed.
    history = fit(model, log, epochs=3, first=2)
    assert [step for step, _ in history_of(log, "loss")] == [1, 2, 3]
    assert history_of(log, "loss")[2] == (3, history["loss"][0])
    assert log.client.get_run(log.run_id).info.status == "FINISHED"
    assert len(said) == 3


def test_a_server_that_does_not_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(RunError, match=r"MLflow has no run for this training: API request to http://127\.0\.0\.1:9"):
        MLflowLog(tracking_uri="http://127.0.0.1:9").begin()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    MLflowLog(tracking_uri="http://127.0.0.1:9")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"


# --- Weights & Biases -------------------------------------------------------------------------------------------------


def records(file: Path) -> Iterator[Any]:
    """What wandb wrote down, from its log of records: blocks of 32 KiB, in the manner of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    content, place, held = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        held += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(held)
            held = b""
            yield record


def told(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], list[int]]:
    """The configuration, the history, the summary's updates and the exit statuses in wandb's file.

    Another process writes it, and may still do so for a moment after a run has ended.
    """
    for _ in range(100):
        found = _told(file)
        if found[3]:
            break
        time.sleep(0.1)
    return found


def _told(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], list[int]]:
    config: dict[str, Any] = {}
    history, summary, exits = [], {}, []
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            updates = record.run.config.update if kind == "run" else record.config.update
            config |= {(one.key or one.nested_key[0]): json.loads(one.value_json) for one in updates}
        elif kind == "history":
            history.append({(one.key or one.nested_key[0]): json.loads(one.value_json) for one in record.history.item})
        elif kind == "summary":
            summary |= {
                (one.key or "/".join(one.nested_key)): json.loads(one.value_json) for one in record.summary.update
            }
        elif kind == "exit":
            exits.append(record.exit.exit_code)
    return config, history, summary, exits


def wandb_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def test_wandb_has_settings_epochs_and_the_end(model: Any, tmp_path: Path) -> None:
    log = WandbLog({"training.learning_rate": 0.5}, run_name="mine", mode="offline", directory=tmp_path, at_end=False)
    history = fit(model, log)
    log.finish({"eval/f1": 0.75})
    config, epochs, summary, exits = told(wandb_files(tmp_path)[0])
    assert config["training.learning_rate"] == 0.5
    seen = [{name: one[name] for name in ("epoch", "loss", "learning_rate", "_step")} for one in epochs]
    assert seen == [
        {"epoch": number, "loss": pytest.approx(loss), "learning_rate": 0.25, "_step": number}
        for number, loss in enumerate(history["loss"], 1)
    ]
    assert summary["eval/f1"] == 0.75
    assert exits == [0]


def test_wandb_goes_on_in_the_same_run(model: Any, tmp_path: Path) -> None:
    # Said, since a process of wandb reads the variables once.
    kept = {"run_id_file": tmp_path / "id", "directory": tmp_path, "at_end": False, "mode": "offline"}
    first = WandbLog({"a": 1}, **kept)
    fit(model, first, epochs=1)
    first.finish(status="interrupted")
    second = WandbLog({"a": 1}, **kept)
    fit(model, second, epochs=2, first=1)
    second.finish()
    assert second.run_id == first.run_id == (tmp_path / "id").read_text().strip()
    files = wandb_files(tmp_path)
    assert [path.name for path in files] == [f"run-{first.run_id}.wandb"] * 2
    assert [[one["_step"] for one in told(path)[1]] for path in files] == [[1], [2]]
    assert [told(path)[3] for path in files] == [[1], [0]]


def test_wandb_logs_into_the_run_that_is_open(model: Any, tmp_path: Path) -> None:
    import wandb

    with wandb.init(project="theirs", dir=tmp_path, mode="offline", settings=wandb.Settings(console="off")) as run:
        run.log({"before": 1})
        log = WandbLog({"a": 1})
        fit(model, log)
        assert log.run_id == run.id
        run.log({"after": 1})
    config, history, _, exits = told(wandb_files(tmp_path)[0])
    assert config["a"] == 1
    assert [sorted({"before", "epoch", "after"} & {*one})[0] for one in history] == [
        "before",
        "epoch",
        "epoch",
        "after",
    ]
    assert exits == [0]


# --- Both -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nobody_is_told_of_anything_else(tmp_path: Path) -> None:
    """In a process of its own, without the signs by which MLflow knows a test, and with every address refused."""
    code = """
        import os, socket, sys, time
        HERE = ("127.0.0.1", "localhost", None)
        asked = []
        def refuse(what):
            asked.append(what)
            raise OSError("no network")
        connect, names = socket.socket.connect, socket.getaddrinfo
        def connect_here(self, address):
            is_here = self.family == socket.AF_UNIX or address[0] in HERE
            return connect(self, address) if is_here else refuse(address)
        def names_here(host, *more, **named):
            return names(host, *more, **named) if host in HERE else refuse(host)
        socket.socket.connect, socket.getaddrinfo = connect_here, names_here

        from tfft.callbacks import MLflowLog, WandbLog
        from tfft.errors import RunError
        assert "mlflow" not in sys.modules and "wandb" not in sys.modules
        for log in (MLflowLog({"a": 1}), WandbLog({"a": 1}, mode="offline")):
            log.begin()
            log.finish({"b": 1.0})
        time.sleep(1)
        print(asked, os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["WANDB_ERROR_REPORTING"])

        # Where there is no account and nobody to ask for one.
        try:
            WandbLog(mode="online").begin()
        except RunError as error:
            print(error)
    """
    clean = ("WANDB_", "MLFLOW_", "PYTEST_", "GITHUB_", "GITLAB_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(clean) and name != "CI"}
    own = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**environment, **own},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[-2:]
    assert first == "[] true false"
    assert second.startswith("Weights & Biases has no run for this training: ")
    assert second.endswith(
        "`wandb login` or WANDB_API_KEY lets it in, WANDB_MODE=offline needs neither; or leave it out"
    )


def test_a_folder_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb leaves a folder of its name in the working directory."""
    (tmp_path / "leftover").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not reporting.is_installed("leftover")
    assert not reporting.is_installed("no_such_library")
    assert reporting.is_installed("wandb")
