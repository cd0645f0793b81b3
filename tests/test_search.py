"""What a sweep is made of: the space, the oracles and their log, pruning, slots."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import queue
import random
import shutil
import socket
import sys
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tfft import recipe, run_directory, sweep
from tfft.errors import HardwareError, RecipeError, RunError
from tfft.recipe import sweep_checks
from tfft.search import pruning, remote, slots, space, table, trials
from tfft.search.events import Clock, Events

SPACE = (
    "sweep.objective=accuracy",
    "sweep.parameters.training.learning_rate={min: 1e-6, max: 1e-3, scale: log}",
    "sweep.parameters.training.per_device_train_batch_size=[8, 16, 32]",
    "sweep.parameters.runtime.xla=[true, false]",
    "sweep.parameters.training.warmup_ratio={values: [null, 0.1], when: {runtime.xla: [true]}}",
)
GRID = ("sweep.algorithm=grid", "sweep.parameters.training.learning_rate=[1e-5, 2e-5]")
HYPERBAND = ("sweep.algorithm=hyperband", "training.num_train_epochs=9")


def search_of(*overrides: str, folder: Path = Path("sweep")) -> trials.Search:
    given = (*SPACE, *overrides)
    return trials.Search(recipe.load("quickstart", given), "quickstart", given, folder)


# --- The space --------------------------------------------------------------------------------------------------------


def test_values_come_back_from_keras_tuner_also_by_way_of_its_protocol() -> None:
    import keras_tuner
    from keras_tuner.engine.hyperparameters import HyperParameters

    parameters = search_of().sweep.parameters
    made = space.hyperparameters(parameters)
    rng = random.Random(0)
    for _ in range(50):
        chosen = {one.name: one.random_sample(rng.randrange(10**6)) for one in made.space}
        made.values = space.rounded(parameters, chosen)
        sent = HyperParameters.from_proto(made.to_proto())  # numbers of 32 bits
        assert isinstance(made, keras_tuner.HyperParameters)
        values = space.decoded(parameters, made.values)
        assert space.decoded(parameters, sent.values) == values
        assert values["runtime.xla"] in (True, False)
        assert values["training.warmup_ratio"] in (None, 0.1)
        assert values["training.per_device_train_batch_size"] in (8, 16, 32)
        assert 1e-6 <= values["training.learning_rate"] <= 1e-3
        # As it is typed, it is the same number.
        assert float(f"{values['training.learning_rate']:.5g}") == values["training.learning_rate"]


def test_a_log_scale_is_searched_as_one() -> None:
    made = space.hyperparameters(search_of().sweep.parameters)
    rate = made.space[0]
    below = sum(rate.random_sample(seed) < math.sqrt(1e-6 * 1e-3) for seed in range(400))
    assert 160 < below < 240  # half of them, give or take four standard deviations


# --- Oracles, and their log -------------------------------------------------------------------------------------------


def recorded(search: trials.Search, log: Path, **more: Any) -> Any:
    from tfft.search import oracles

    made = oracles.make(search.sweep, "accuracy", "max", 3, search.recipe.training.num_train_epochs)
    return oracles.Recorded(made, Events(log), search.sweep.parameters, search.max_trials, **more)


def score_of(values: dict[str, Any]) -> float:
    """Best at a rate of 1e-4."""
    return 1 - abs(math.log10(values["training.learning_rate"]) + 4) / 3


def searched(search: trials.Search, log: Path, killed_after: Sequence[int] = (), fails: bool = True) -> list[Any]:
    """Two workers' trials to the end of the search, with kills after so many ends; all trials as they were begun."""
    from tfft.search import oracles

    oracle, rng, ends = recorded(search, log), random.Random(0), 0
    while True:
        asked = [oracle.create_trial(f"worker-{index}") for index in range(2)]
        running = [one for one in asked if one.status == "RUNNING"]
        if not running:
            assert all(one.status == "STOPPED" for one in asked)
            return list(oracle.oracle.trials.values())
        one = rng.choice(running)
        failed = fails and rng.random() < 0.2
        if not failed:
            values = space.decoded(search.sweep.parameters, one.hyperparameters.values)
            oracle.update_trial(one.trial_id, {"accuracy": score_of(values)})
        status = "FAILED" if failed else "COMPLETED"
        oracle.end_trial(oracles.Trial(one.hyperparameters, trial_id=one.trial_id, status=status))
        ends += 1
        if ends in killed_after:
            with log.open("ab") as file:
                file.write(b'{"event": "ended", "tri')  # what a kill leaves of a line
            oracle = recorded(search, log)


@pytest.mark.parametrize(
    "overrides",
    [("sweep.max_trials=14",), ("sweep.algorithm=bayesian", "sweep.max_trials=9"), GRID, HYPERBAND],
    ids=["random", "bayesian", "grid", "hyperband"],
)
def test_a_search_that_is_killed_is_the_same_search(overrides: tuple[str, ...], tmp_path: Path) -> None:
    search = search_of(*overrides)
    whole = searched(search, tmp_path / "whole")
    killed = searched(search, tmp_path / "killed", killed_after=(1, 2, 5, 9))
    assert [one.hyperparameters.values for one in killed] == [one.hyperparameters.values for one in whole]
    assert [(one.status, one.score) for one in killed] == [(one.status, one.score) for one in whole]
    assert len(whole) == {"random": 14, "bayesian": 9, "grid": 18}.get(search.sweep.algorithm, len(whole))


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> remote.Role:
    """Of a chief on a free port here, as the environment says it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    for name, value in zip(remote.VARIABLES, ("127.0.0.1", str(port), "chief"), strict=True):
        monkeypatch.setenv(name, value)
    found = remote.find()
    assert found is not None
    return found


def test_a_chief_says_for_whom_it_waits(role: remote.Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfft.search import oracles

    monkeypatch.setattr(remote, "_TOLD_AFTER_SECONDS", 0.0)
    said: queue.Queue[str] = queue.Queue()
    heard: list[str] = []

    def end(client: remote.Client, trial: Any) -> None:
        client.end_trial(oracles.Trial(trial.hyperparameters, trial_id=trial.trial_id, status="FAILED"))
        heard.append(said.get(timeout=20))

    def workers() -> None:
        client = remote.Client(role, lambda line: None)
        one = client.create_trial("tuner0")
        other = client.create_trial("tuner1")
        heard.append(said.get(timeout=20))
        # One that comes back to its trial is waited for as before, to the end.
        assert client.create_trial("tuner1").trial_id == other.trial_id
        end(client, one)
        assert client.create_trial("tuner0").status == "STOPPED"
        end(client, other)
        assert client.create_trial("tuner1").status == "STOPPED"

    with futures.ThreadPoolExecutor() as pool:
        done = pool.submit(workers)
        oracle = recorded(search_of("sweep.max_trials=2"), tmp_path / "log")
        remote.serve(oracle, role, lambda: done.result() if done.done() else None, said.put)
        done.result()
    here = role.address.partition(":")[0]
    assert heard == [
        f"no trial is left to begin; waits for tuner0 at {here} (trial 1), tuner1 at {here} (trial 2)",
        f"no trial is left to begin; waits for tuner1 at {here} (trial 2)",
        f"no trial is left; waits 30 s at most for tuner1 at {here} to hear so",
    ]
    assert said.empty()


def test_a_chief_that_is_interrupted_says_who_trains_on(role: remote.Role, tmp_path: Path) -> None:
    oracle, said = recorded(search_of(), tmp_path / "log"), list[str]()
    oracle.create_trial("tuner0")  # of an earlier process, so that nobody knows where

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote.serve(oracle, role, interrupted, said.append)
    assert said == ["still training: tuner0 (trial 1); what comes of it counts once the chief is back"]


def test_a_grid_has_every_point_once(tmp_path: Path) -> None:
    search = search_of(*GRID)
    found = [
        json.dumps(space.decoded(search.sweep.parameters, one.hyperparameters.values))
        for one in searched(search, tmp_path / "log")
    ]
    # 2 rates x 3 batch sizes x (2 warmups with XLA, none without).
    assert len(found) == len(set(found)) == 2 * 3 * 3


def test_a_grid_of_steps_has_both_ends_and_every_step(tmp_path: Path) -> None:
    steps = (
        "sweep.algorithm=grid",
        "~sweep.parameters",
        "sweep.parameters.training.learning_rate={min: 1e-6, max: 1e-3, scale: log, step: 10}",
        "sweep.parameters.training.weight_decay={min: 0, max: 0.5, step: 0.1}",
        "sweep.parameters.training.per_device_train_batch_size={min: 8, max: 16, step: 8}",
    )
    search = search_of(*steps)
    found = [
        tuple(space.decoded(search.sweep.parameters, one.hyperparameters.values).values())
        for one in searched(search, tmp_path / "log", killed_after=(3,), fails=False)
    ]
    rates, decays = (1e-6, 1e-5, 1e-4, 1e-3), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert sorted(found) == sorted((rate, decay, size) for rate in rates for decay in decays for size in (8, 16))
    assert sweep_checks.grid_points(search.sweep.parameters) == len(found)


@pytest.mark.slow
def test_the_bayesian_search_learns(tmp_path: Path) -> None:
    search = search_of("sweep.algorithm=bayesian", "sweep.max_trials=12")
    values = [
        score_of(space.decoded(search.sweep.parameters, one.hyperparameters.values))
        for one in searched(search, tmp_path / "log", fails=False)
    ]
    first = len(search.sweep.parameters) + 2
    assert sum(values[first:]) / len(values[first:]) > sum(values[:first]) / first


def test_hyperbands_rungs_go_on_from_the_best_below_also_where_trials_fail(tmp_path: Path) -> None:
    search = search_of(*HYPERBAND)
    made = [trials.from_tuner(one, search) for one in searched(search, tmp_path / "log", fails=True)]
    by_number = {one.number: one for one in made}
    going_on = [one for one in made if one.continues is not None]
    # Brackets of 9 epochs and factor 3: of 9 trials of one epoch 3 go on, and 1 of those; of 5 with 3 epochs 2.
    assert sorted(one.epochs or 0 for one in going_on) == [3, 3, 3, 9, 9, 9]
    for one in going_on:
        before = by_number[one.continues or 0]
        assert one.begins_at == before.epochs
        assert one.values == before.values
    # All trials of a rung that is the first of three, and those of them that went on.
    rung = [one for one in made if one.bracket == 2 and one.round == 0]
    chosen = {one.continues for one in going_on if one.bracket == 2 and one.round == 1}
    assert len(rung) == 9
    assert len(chosen) == 3


def test_a_search_with_other_values_is_told(tmp_path: Path) -> None:
    searched(search_of("sweep.max_trials=3"), tmp_path / "log")
    with pytest.raises(RunError, match="trial 1 had"):
        recorded(search_of("sweep.max_trials=3", "sweep.parameters.training.weight_decay=[0.1]"), tmp_path / "log")


def test_more_trials_than_before_go_on_and_no_trial_begins_when_time_is_over(tmp_path: Path) -> None:
    before = searched(search_of("sweep.max_trials=3"), tmp_path / "log")
    more = searched(search_of("sweep.max_trials=12"), tmp_path / "log")
    values = [one.hyperparameters.values for one in more]
    assert values[:3] == [one.hyperparameters.values for one in before]
    assert len(values) == 12
    over = recorded(search_of("sweep.max_trials=20"), tmp_path / "log", is_over=lambda: True)
    assert over.create_trial("worker").status == "STOPPED"


def test_more_trials_for_hyperband_go_on_too(tmp_path: Path) -> None:
    searched(search_of(*HYPERBAND, "sweep.max_trials=12"), tmp_path / "log")
    more = searched(search_of(*HYPERBAND), tmp_path / "log")
    whole = searched(search_of(*HYPERBAND), tmp_path / "whole")
    assert len(more) == len(whole) > 12
    # Fewer than there are: no other begins.
    assert len(searched(search_of(*HYPERBAND, "sweep.max_trials=5"), tmp_path / "log")) == len(more)


def test_an_oracle_that_has_no_more_is_not_asked_again(tmp_path: Path) -> None:
    few = search_of("~sweep.parameters", "sweep.parameters.runtime.xla=[true, false]")
    oracle = recorded(few, tmp_path / "log")
    assert [oracle.create_trial(str(index)).status for index in range(4)] == [
        "RUNNING",
        "RUNNING",
        "STOPPED",
        "STOPPED",
    ]
    assert oracle.is_exhausted
    assert oracle.is_over
    again = recorded(few, tmp_path / "log")
    assert [again.create_trial(str(index)).status for index in (0, 1, 9)] == ["RUNNING", "RUNNING", "STOPPED"]


def test_what_is_left_of_a_broken_off_overwriting_is_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfft.search import folder

    search = search_of(folder=tmp_path / "sweep")
    for name in folder.FOLDERS:
        (search.folder / name).mkdir(parents=True)
    for name in ("events.jsonl", "recipe.yaml", "records/0001.json"):
        (search.folder / name).write_text(search.recipe.to_yaml())

    def killed(path: Path) -> None:
        if path.name == "trials":
            raise KeyboardInterrupt
        shutil.rmtree(path)

    monkeypatch.setattr(folder, "shutil", SimpleNamespace(rmtree=killed))
    with pytest.raises(KeyboardInterrupt), folder.opened(search, overwrite=True):
        pass
    left = {one.name for one in search.folder.iterdir()}
    assert not {"events.jsonl", "records"} & left
    # By it another sweep is still told from this one.
    assert "recipe.yaml" in left


def test_what_a_training_has_told_is_gone_on_with(tmp_path: Path) -> None:
    from tfft.backend import keras
    from tfft.search.watch import Watch

    def trained(seed: int, first: int, hopeless_at: int) -> Watch:
        model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile("sgd", "mse")
        watch = Watch(tmp_path / "told.json", "loss", seed, None, lambda scores: len(scores) == hopeless_at)
        model.fit([[1.0]], [[2.0]], epochs=4, initial_epoch=first, verbose=0, callbacks=[watch])
        return watch

    assert not trained(1, 0, hopeless_at=9).pruned
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["seed"], told["epoch"], told["of"], len(told["scores"])) == (1, 4, 4, 4)
    # After the second epoch again: two scores are known of before.
    watch = trained(1, 2, hopeless_at=3)
    assert watch.pruned
    assert json.loads((tmp_path / "told.json").read_text())["pruned"]
    # Killed before its outcome was written, it is still known to be pruned; another seed is another training.
    assert Watch(tmp_path / "told.json", "loss", 1).pruned
    assert not Watch(tmp_path / "told.json", "loss", 2).pruned


def test_a_log_leaves_out_what_was_not_written_whole(tmp_path: Path) -> None:
    log = Events(tmp_path / "log")
    assert log.read() == []
    log.append({"event": "one"})
    with log.path.open("ab") as file:
        file.write(b'{"event": "tw')
    assert [one["event"] for one in log.read()] == ["one"]
    log.append({"event": "three"})
    assert [one["event"] for one in log.read()] == ["one", "three"]


# --- Pruning ----------------------------------------------------------------------------------------------------------


def test_the_median_of_running_means() -> None:
    finished = [[0.5, 0.7], [0.6, 0.8], [0.2, 0.9]]
    # After one epoch the means are 0.5, 0.6, 0.2; after two 0.6, 0.7, 0.55.
    assert not pruning.is_hopeless([0.5], finished, "max")
    assert pruning.is_hopeless([0.49], finished, "max")
    assert not pruning.is_hopeless([0.1, 0.6], finished, "max")
    assert pruning.is_hopeless([0.59, 0.1], finished, "max")
    # The best so far counts, and for a loss it is the least.
    assert not pruning.is_hopeless([0.6, 0.1], finished, "max")
    assert pruning.is_hopeless([0.51], finished, "min")
    assert not pruning.is_hopeless([0.5], finished, "min")


def test_too_few_finished_trials_prune_nothing() -> None:
    assert not pruning.is_hopeless([0.0], [[0.9], [0.9]], "max")
    assert not pruning.is_hopeless([0.0], [[0.9], [0.9], []], "max")
    assert not pruning.is_hopeless([], [[0.9]] * 3, "max")


# --- Slots ------------------------------------------------------------------------------------------------------------


def test_trials_at_a_time_share_the_cores_without_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 7})
    made = slots.make(2, "auto")
    assert [one.cores for one in made] == [(0, 1, 2), (5, 7)]
    assert [slots.environment(one.gpu)["CUDA_VISIBLE_DEVICES"] for one in made] == ["", ""]
    assert slots.make(1, "auto")[0].cores == ()
    with pytest.raises(HardwareError, match="got 6; expected at most 5, the number of cores"):
        slots.make(6, "auto")


def test_no_two_trials_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert [slots.environment(one.gpu)["CUDA_VISIBLE_DEVICES"] for one in slots.make(2, "auto")] == ["4", "6"]
    with pytest.raises(HardwareError, match="at most 2, the number of GPUs here: no two trials share one"):
        slots.make(3, "auto")


def test_gpus_are_those_that_the_driver_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in = tmp_path / "nvidia-smi"
    stand_in.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    stand_in.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slots.visible_gpus() == ["0", "1", "2"]
    stand_in.write_text("#!/bin/sh\necho no devices were found\nexit 6\n")
    assert slots.visible_gpus() == []


# --- What is said -----------------------------------------------------------------------------------------------------


def record_of(number: int, **more: Any) -> dict[str, Any]:
    made = {
        "number": number,
        "status": "completed",
        "values": {"training.learning_rate": 3e-5},
        "score": 0.5,
        "spread": None,
        "seconds": 10.0,
        "reason": "",
        "continues": None,
        "planned_epochs": None,
        "executions": [{"curve": [{"epoch": 1.0, "val_accuracy": 0.5}]}],
    }
    return {**made, **more}


def test_the_best_trial_is_by_the_objectives_direction_and_trained_to_its_end() -> None:
    records = [record_of(1, score=0.5), record_of(2, score=0.7, status="pruned"), record_of(3, score=0.6)]
    records += [record_of(4, score=None, status="failed"), record_of(5, score=0.6)]
    best = trials.best_of(search_of(), records)
    assert best is not None
    assert best["number"] == 3
    least = trials.best_of(search_of("sweep.objective=loss"), records)
    assert least is not None
    assert least["number"] == 1
    assert trials.best_of(search_of(), records[3:4]) is None


def test_the_best_of_hyperbands_trials_is_one_of_the_longest() -> None:
    short = record_of(1, score=0.9, planned_epochs=3)
    # It stopped early, which is its right.
    long = record_of(2, score=0.7, planned_epochs=9, executions=[{"curve": [{"epoch": 1.0}]}])
    best = trials.best_of(search_of(*HYPERBAND), [short, long])
    assert best is not None
    assert best["number"] == 2


def test_the_command_of_a_trial_is_its_recipe() -> None:
    import shlex

    search = search_of(*HYPERBAND, folder=Path("runs/my sweep"))
    values = {"training.learning_rate": 3.1e-05, "runtime.xla": False, "training.warmup_ratio": None}
    words = shlex.split(trials.command_of(search, trials.Trial(7, "0006", values, epochs=3)))
    assert words[:5] == ["python", "-m", "tfft.fit", "--recipe", "quickstart"]
    made = recipe.load(words[4], words[5:])
    assert made.sweep is None
    assert made.training.learning_rate == 3.1e-05
    assert made.training.warmup_ratio is None
    assert made.training.stop_after_epochs == 3
    assert made.training.num_train_epochs == 9
    assert made.output_dir == "runs/my sweep-trial-7"
    # The longest ones are the recipe's own length.
    assert "stop_after" not in trials.command_of(search, trials.Trial(8, "0007", values, epochs=9))


@pytest.mark.parametrize("value", ["3e-5", "true", "null", "[a]", "{a", '"x"', "plain", "a b", "it's"])
def test_any_text_is_typed_so_that_it_is_read_again(value: str) -> None:
    said = trials._said(value)
    made = recipe.load("quickstart", [f"model.revision={said}"])
    assert made.model.revision == value


def test_a_line_on_a_trial_shows_no_control_characters() -> None:
    said = table.ended(search_of(), record_of(1, status="failed", score=None, reason="bad \x1b[31m batch"), None)
    assert said == "trial 1: learning_rate=3e-05: failed: bad  [31m batch (10 s)"


def test_time_left_is_that_of_trials_like_those_before() -> None:
    records = [record_of(1), record_of(2, seconds=30.0)]
    assert table.time_left(records, 6, 1) == 80.0
    assert table.time_left(records, 6, 2) == 40.0
    assert table.time_left(records, None, 1) is None
    assert table.time_left([], 6, 1) is None
    assert table.time_left(records, 6, 2, under_way=1.5) == 25.0


def drawn(search: trials.Search, ended: int, running: int, height: int, width: int = 80) -> list[str]:
    """The lines of a live table, as a terminal of this size gets them."""
    from rich.console import Console

    from tfft.console import Voice

    values = {
        "training.learning_rate": 3.1416e-05,
        "training.per_device_train_batch_size": 16,
        "runtime.xla": True,
        "training.warmup_ratio": 0.1,
    }
    records = [record_of(number, values=values, score=0.7 if number == 2 else 0.5) for number in range(1, ended + 1)]
    works = [(number, values) for number in range(ended + 1, ended + running + 1)]
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height)
    live = table.LiveTable(search, Voice(console=console), lambda: records, lambda: works, 40, running)
    return ["".join(one.text for one in line).rstrip() for line in console.render_lines(live.drawn(), pad=False)]


def test_a_live_table_leaves_out_the_earliest_trials_where_a_terminal_is_low() -> None:
    lines = drawn(search_of(), ended=30, running=2, height=24)
    assert len(lines) == 24
    numbers = [line.split()[1] for line in lines if line.startswith("│")]
    assert numbers == [str(number) for number in range(15, 33)]
    assert lines[0] == "Sweep of quickstart"
    # Ten seconds each, and two at a time.
    assert lines[-1] == "30 of 40 trials, best 0.7000 (trial 2), about 50 s left"
    assert len(drawn(search_of(), ended=3, running=1, height=24)) == 10


def test_a_live_table_cuts_off_names_before_numbers() -> None:
    narrow, wide = (drawn(search_of(), ended=2, running=1, height=24, width=width) for width in (80, 140))
    assert max(map(len, narrow)) <= 80
    assert "learning_rate" in wide[2] and "learning_rate" not in narrow[2] and "learn" in narrow[2]
    for lines in (narrow, wide):
        cells = [cell.strip() for cell in lines[4].split("│")]
        assert cells[1:-1] == ["1", "3.1416e-05", "16", "0.1", "true", "1", "0.5000", "completed"]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(None, 20.0), ({"seed": 43, "epoch": 1.0, "of": 4}, 13.75), ({"seed": 42, "epoch": 5.0, "of": 4}, 15.0)],
)
def test_what_is_done_of_a_running_trial_is_not_left(
    told: dict[str, Any] | None, seconds: float, tmp_path: Path
) -> None:
    search = search_of("sweep.executions_per_trial=2", folder=tmp_path)
    (tmp_path / trials.PROGRESS).mkdir()
    if told is not None:
        search.file(trials.PROGRESS, 39, ".json").write_text(json.dumps({**told, "scores": [], "pruned": False}))
    said = drawn(search, ended=38, running=1, height=60)[-1]
    assert said.endswith(f"about {seconds:.0f} s left")


def test_all_that_a_warm_trial_says_is_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tfft.search import driver

    def attempt(order: Any) -> None:
        print("of Python")
        os.write(2, b"of C++\n")  # as TensorFlow does
        print("a warning", file=sys.stderr)
        raise ValueError("of ours")

    monkeypatch.setattr("tfft.search.trial.attempt", attempt)
    search = search_of(folder=tmp_path)
    (tmp_path / trials.LOGS).mkdir()
    made: Any = driver.Driver(search, None, [], name_of=str, ended=print, asked_to_stop=lambda: None)
    chosen = trials.Trial(1, "0000", {})
    made._train_here(
        driver.Work(slots.Slot("worker"), None, chosen, order=trials.order(search, chosen, 42, slots.Slot("worker")))
    )
    log = search.file(trials.LOGS, 1, ".txt").read_text()
    assert log.startswith("of Python\nof C++\na warning\nTraceback")
    assert log.endswith("ValueError: of ours\n")
    assert capfd.readouterr() == ("", "")


# --- What a sweep says of mistakes and circumstances ------------------------------------------------------------------


def test_a_chief_trains_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in zip(remote.VARIABLES, ("127.0.0.1", "8000", "chief"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match="got 2; expected it of workers: the chief trains nothing"):
        sweep.sweep("sweep-quickstart", [f"output_dir={tmp_path / 'sweep'}"], parallel=2)
    assert not (tmp_path / "sweep").exists()


def test_fewer_points_than_trials_are_told() -> None:
    two = ("~sweep.parameters", "sweep.parameters.runtime.xla=[true, false]")
    [said] = sweep._warnings(search_of(*two, "sweep.max_trials=2"))
    assert "the parameters have 2 combinations, so there may be fewer than 2 trials" in said
    assert sweep._warnings(search_of(*two, "sweep.max_trials=1")) == []
    assert sweep._warnings(search_of(*two, "sweep.algorithm=grid")) == []
    assert sweep._warnings(search_of("sweep.max_trials=2")) == []  # a range has no end of points


def test_a_full_disk_is_told_and_a_bug_is_not_hidden() -> None:
    said = pytest.raises(RunError, match=r"writing to sweep failed: No space left.*the same command goes on")
    with said, run_directory.disk_errors("output_dir: writing to sweep", "mend that, and the same command goes on"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="of another kind"), run_directory.disk_errors("writing", "mend that"):
        raise OSError(errno.EPIPE, "of another kind")


def test_hours_count_over_all_processes(tmp_path: Path) -> None:
    log = Events(tmp_path / "log")
    times = [("began", 0.0), ("told", 3000.0), ("began", 90_000.0), ("told", 90_700.0)]
    log.path.write_text("".join(json.dumps({"event": name, "at": at}) + "\n" for name, at in times))
    clock = Clock(log)
    assert clock.first == 0.0
    assert 3700 <= clock.seconds < 3800
    assert sweep._recorded(search_of("sweep.max_hours=1"), log, clock).is_over
    assert not sweep._recorded(search_of("sweep.max_hours=1.1"), log, clock).is_over


def test_a_worker_with_another_sweep_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tfft.console import Voice

    search = search_of("sweep.seed=1", folder=tmp_path)
    (tmp_path / trials.RECIPE).write_text(search_of("sweep.seed=2").recipe.to_yaml())
    (tmp_path / trials.LOCK).touch()
    monkeypatch.setattr(remote, "Client", lambda role, say: None)
    with pytest.raises(
        RunError, match=r"has another sweep; give this worker the same(?s:.*)sweep.seed: 2 before, 1 now"
    ):
        sweep._work(search, remote.Role("127.0.0.1:8000", "tuner0"), [slots.Slot("tuner0")], Voice(silent=True))


def test_every_slot_of_a_worker_hears_that_there_are_no_more_trials(tmp_path: Path) -> None:
    from tfft.search import driver

    asked: list[str] = []

    def create_trial(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(status="IDLE" if len(asked) < 3 else "STOPPED")

    places = [slots.Slot("tuner0-0"), slots.Slot("tuner0-1")]
    oracle: Any = SimpleNamespace(create_trial=create_trial)
    driver.Driver(
        search_of(folder=tmp_path),
        oracle,
        places,
        name_of=lambda one: one.name,
        ended=print,
        asked_to_stop=lambda: None,
    ).run()
    assert asked == ["tuner0-0", "tuner0-1", "tuner0-0", "tuner0-1"]


def test_a_run_that_another_process_holds_fails_no_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tfft.search import driver, trial

    search = search_of(folder=tmp_path)
    for name in ("logs", "progress"):
        (tmp_path / name).mkdir()
    (tmp_path / trials.RECIPE).write_text(search.recipe.to_yaml())
    monkeypatch.setattr(trial.lock, "holder", lambda path: "process 7 for 2 minutes")
    monkeypatch.setattr(trial.lock, "GONE_AFTER_SECONDS", 0.0)
    chosen, slot = trials.Trial(1, "0000", {"training.learning_rate": 3e-5}), slots.Slot("worker")
    order = trials.order(search, chosen, 42, slot)
    trial.attempt(order)
    work = driver.Work(slot, None, chosen, order=order)
    made: Any = driver.Driver(search, None, [slot], name_of=str, ended=print, asked_to_stop=lambda: None)
    with pytest.raises(RunError, match="trial 1 is trained by process 7 for 2 minutes"):
        made._outcome(work)


def test_the_recipe_of_the_best_trial_says_how_far_it_came(tmp_path: Path) -> None:
    search = search_of(*HYPERBAND, folder=tmp_path)
    (tmp_path / trials.RECIPE).write_text(search.recipe.to_yaml())
    said = trials.replayed(search, record_of(3, id="0002", planned_epochs=3)).splitlines()[0]
    assert said.endswith("accuracy 0.5000 after 3 of its epochs on the validation rows.")
    whole = trials.replayed(search, record_of(3, id="0002", planned_epochs=9)).splitlines()[0]
    assert whole.endswith("accuracy 0.5000 on the validation rows.")
