"""`python -m tfft.push` and `tfft.push`, of runs of tiny models, to a hub that runs here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

import tfft
from tests import pushed
from tests.commands.conftest import fitted, rows_of
from tests.conftest import files_no_larger_than
from tests.pushed import TOKEN, PushedHub
from tests.test_cards import NASTY, shown, tables
from tests.test_push_to_hub import files_of, logged_in  # noqa: F401  # a fixture
from tfft import cards
from tfft import push as command
from tfft.errors import HubError, RecipeError, RunError, UserError

FILES = {
    *("README.md", "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json"),
    *("tokenizer_config.json", "vocab.txt"),
}


@pytest.fixture
def served() -> Iterator[PushedHub]:
    yield from pushed.an_empty_hub()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    """A run of two classes whose texts are cut at 16 tokens."""
    folder = tmp_path_factory.mktemp("classes")
    return fitted(folder, tiny_checkpoint, data={"max_length": 16}, training={"learning_rate": 1e-2})


@pytest.fixture(scope="module")
def evaluated(trained: tfft.FitResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that run with an evaluation of its validation rows, so that a push has nothing to score."""
    copy = shutil.copytree(trained.output_dir, tmp_path_factory.mktemp("evaluated") / "run")
    tfft.evaluate(copy, resamples=20, verbose=False)
    return copy


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of that one, elsewhere."""
    return shutil.copytree(evaluated, tmp_path / "moved")


def typed(run: Path, *more: str, repo: str = "owner/mine", license: str | None = "mit") -> list[str]:
    """What follows `python -m tfft.push`."""
    return ["--run", str(run), "--repo", repo, *(["--license", license] if license else []), *more]


def code_of(card: str) -> list[str]:
    """The Python in a card."""
    return [part.partition("```")[0] for part in card.split("```python\n")[1:]]


def test_what_is_on_the_hub_is_the_run(
    logged_in: PushedHub,  # noqa: F811
    trained: tfft.FitResult,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(run / "evaluation")
    (run / "model" / "notes.md").write_text("of nobody's concern")
    (run / "model" / ".env").write_text("SECRET=1")
    before = set(os.listdir(run))
    assert command.main(typed(run, "--message", "a message", repo="mine")) == 0
    out = capsys.readouterr().out
    assert f"pushing 7 files, 0.0 MB, to {logged_in.url}/owner/mine" in out
    assert f"the model is at {logged_in.url}/owner/mine" in out
    assert "stays here, since it is not of a model: .env, notes.md" in out
    assert set(os.listdir(run)) == before, "nothing but the card is left"
    there = logged_in.repositories["owner/mine"]
    assert (there.private, there.messages, set(there.files)) == (None, ["a message"], FILES)
    assert there.files == {name: body for name, body in files_of(run / "model").items() if name in FILES}

    # The numbers are those that tfft.evaluate says of the run's own rows.
    card = there.files["README.md"].decode()
    assert cards.is_ours(card)
    found = tfft.evaluate(trained.output_dir, output=tmp_path / "evaluation", verbose=False)
    rows = [row for table in tables(card) for row in table]
    for name, score in found.scores.items():
        assert [name, f"{score.value:.4f}", f"{score.low:.4f} to {score.high:.4f}"] in rows
    for one in found.classes:
        row = next(row for row in rows if row[0] == one.name and len(row) == 8)
        assert row[1:4] == [str(one.wanted), str(one.predicted), str(one.right)]
        assert row[6] == f"{one.f1.value:.4f}"
    assert [["Class", "Training rows"], ["0", "21"], ["1", "20"]] in tables(card)
    assert found.calibration is not None and f"calibration error: {found.calibration.ece:.4f}" in card
    metadata = metadata_load(run / "model" / "README.md")
    _, results = model_index_to_eval_results(metadata["model-index"])
    assert {one.metric_type: one.metric_value for one in results} == pytest.approx(
        {name: trained.scores["eval"][name] for name in ("accuracy", "f1")}, abs=1e-6
    )

    # Its code does what it says, and answers as the run does.
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for name, body in there.files.items():
        (fetched / name).write_bytes(body)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name: fetched)
    of_transformers, of_tfft = code_of(card)
    assert '"owner/mine"' in of_transformers and '"owner/mine"' in of_tfft
    names: dict[str, Any] = {}
    exec(of_transformers.replace("owner/mine", str(fetched)), names)
    expected = trained.model(dict(names["inputs"])).logits
    np.testing.assert_allclose(names["model"](**names["inputs"]).logits, expected, atol=1e-5)
    exec(of_tfft, names)
    texts = [str(text) for text, _ in rows_of(12)]
    for mine, of_run in zip(names["model"].predict(texts), trained.predict(texts), strict=True):
        assert mine.label == of_run.label and mine.probability == pytest.approx(of_run.probability, abs=1e-5)


def test_a_dry_run_asks_and_writes_nothing(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = files_of(run)
    assert command.main(typed(run, "--dry-run", repo="mine")) == 0
    out, err = capsys.readouterr()
    assert logged_in.asked == [] and files_of(run) == before
    assert all(name in out for name in FILES) and f"To {logged_in.url}/mine, in one commit" in out
    assert "license: mit" in out and "nothing was pushed or written (--dry-run)" in out
    assert "will stand before mine" in out
    assert TOKEN not in out + err
    card = tfft.push(run, "owner/mine", license="mit", dry_run=True, verbose=False).card
    assert tfft.push(run, "owner/mine", license="mit", verbose=False).card == card, "what was shown is what is pushed"


def test_a_dry_run_needs_no_token_and_no_hub(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = tfft.push(run, "owner/mine", license="mit", dry_run=True, verbose=False).card
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert tfft.push(run, "owner/mine", license="mit", dry_run=True, verbose=False).card == card
    assert logged_in.asked == []


def test_neither_paths_nor_the_token_are_told(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(typed(run)) == 0
    logged_in.wrong["/commit/"] = 500
    with pytest.raises(HubError) as caught:
        command.main(typed(run))
    said = "".join(capsys.readouterr()) + str(caught.value)
    assert TOKEN not in said
    assert not [name for name, body in files_of(run).items() if TOKEN.encode() in body]
    on_hub = logged_in.repositories["owner/mine"].files
    for name, body in on_hub.items():
        assert str(run.parent).encode() not in body and b"/tmp" not in body and TOKEN.encode() not in body, name
    assert str(Path.home()) not in on_hub["README.md"].decode()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"/api/repos/create": 401}, r"the hub refused the token \(401\); give one that may write to owner/mine"),
        ({"/preupload/": 403}, r"the hub refused the token \(403\)"),
        ({"PUT /bytes/": 400}, "no luck with PUT /bytes/"),
        ({"/commit/": 503}, r"the hub is in trouble \(503 from it\)"),
    ],
)
def test_what_fails_midway_publishes_nothing(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    wrong: dict[str, int],
    expected: str,
) -> None:
    logged_in.wrong = wrong
    with pytest.raises(HubError, match=f"^--repo: nothing was published: .*{expected}") as caught:
        tfft.push(run, "owner/mine", license="mit", verbose=False)
    assert len(str(caught.value).splitlines()) == 1
    assert not [one for one in logged_in.repositories.values() if one.commits or one.files]
    assert not [name for name in files_of(run) if "partial" in name or name == "run.lock"]
    logged_in.wrong = {}
    tfft.push(run, "owner/mine", license="mit", verbose=False)
    tfft.push(run, "owner/mine", verbose=False)  # the licence is in the card
    assert len(logged_in.repositories["owner/mine"].commits) == 2


def test_an_evaluation_that_is_there_is_taken(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = run / "evaluation" / "validation" / "evaluation.json"
    found = json.loads(path.read_text())
    low, high = (found["scores"]["accuracy"][key] for key in ("low", "high"))
    tfft.push(run, "owner/mine", license="mit")
    assert "scoring" not in capsys.readouterr().out
    assert f"| {low:.4f} to {high:.4f} |" in (run / "model" / "README.md").read_text()
    # One of other rows is not.
    found["scores"]["accuracy"]["value"] = 0.123
    path.write_text(json.dumps(found))
    tfft.push(run, "owner/mine")
    assert "scoring 12 rows of predictions.csv, in " in capsys.readouterr().out
    # Nor are rows that are others now, or gone.
    text = (run / "predictions.csv").read_text()
    (run / "predictions.csv").write_text(text.replace(",1,", ",0,"))
    tfft.push(run, "owner/mine")
    assert "has other rows or labels" in capsys.readouterr().out
    (run / "predictions.csv").unlink()
    card = tfft.push(run, "owner/mine").card
    assert "the card says nothing of intervals" in capsys.readouterr().out
    assert "their intervals are not known" in card and "without intervals" in card
    scores = json.loads((run / "metrics.json").read_text())["eval"]
    assert f"| accuracy | {scores['accuracy']:.4f} | - |" in card
    there = logged_in.repositories["owner/mine"]
    assert len(there.commits) == 4 and set(there.files) == FILES


def test_a_card_that_was_changed_by_hand_is_kept(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = run / "model" / "README.md"
    ours = tfft.push(run, "owner/mine", license="mit", verbose=False).card
    assert tfft.push(run, "owner/mine", license="apache-2.0", verbose=False).card != ours, "ours is written anew"
    changed = path.read_text() + "\nMore of it.\n"
    path.write_text(changed)
    assert tfft.push(run, "owner/mine").card == changed
    assert "was changed by hand, and is kept" in capsys.readouterr().out
    assert path.read_text() == changed == logged_in.repositories["owner/mine"].files["README.md"].decode()
    with pytest.raises(
        RunError, match=r"got mit, and the license in README.md, which was changed by hand, is apache-2.0"
    ):
        tfft.push(run, "owner/mine", license="mit")
    path.write_text("# Mine\n")
    with pytest.raises(RunError, match=r"^license in README.md, which was changed by hand: nothing says under which"):
        tfft.push(run, "owner/mine")
    path.write_text(f"---\nlicense: mit\n---\nmy token is {TOKEN}\n")
    asked = len(logged_in.asked)
    with pytest.raises(HubError, match=r"README.md would hold your token of the hub; take it out") as caught:
        tfft.push(run, "owner/mine")
    assert TOKEN not in str(caught.value) and len(logged_in.asked) == asked
    path.write_text("---\nlicense: [\n---\n")
    with pytest.raises(RunError, match=r"front matter of .* cannot be read"):
        tfft.push(run, "owner/mine")
    path.write_text("# Mine\n")
    assert cards.is_ours(tfft.push(run, "owner/mine", license="mit", overwrite_card=True, verbose=False).card)


def test_a_card_that_was_written_on_the_hub_stays_there(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As the hub makes it for a new repository.
    there = logged_in.repositories["owner/mine"] = pushed.Pushed(None, {"README.md": b"---\nlicense: mit\n---\n"})
    ours = tfft.push(run, "owner/mine", license="mit").card
    assert there.files["README.md"].decode() == ours and "written there" not in capsys.readouterr().out
    there.files["README.md"] = changed = (ours + "More, on the hub.").encode()
    done = tfft.push(run, "owner/mine")
    assert "README.md on the hub was written there, and stays" in capsys.readouterr().out
    assert there.files["README.md"] == changed and "README.md" not in there.commits[-1][1]
    assert done.card == changed.decode() and "README.md" not in done.files
    assert tfft.push(run, "owner/mine", overwrite_card=True).card == there.files["README.md"].decode() == ours
    # The hub does not say: nothing is taken for granted.
    logged_in.answer = lambda path: (403, "") if "resolve" in path else None
    with pytest.raises(HubError, match=r"^--repo: nothing was published: "):
        tfft.push(run, "owner/mine", verbose=False)


def test_a_full_disk_leaves_nothing_half_written(logged_in: PushedHub, run: Path) -> None:  # noqa: F811
    before = files_of(run)
    with (
        files_no_larger_than(200),
        pytest.raises(RunError, match=r"^writing .*README.md failed: .*nothing was published"),
    ):
        tfft.push(run, "owner/mine", license="mit", verbose=False)
    assert files_of(run) == before and logged_in.repositories["owner/mine"].commits == []


def test_what_the_hub_says_of_a_card_is_told(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushed, "validated", lambda card: '"base_model" must be a name')
    with pytest.raises(HubError, match=r'^--repo: nothing was published: .*"base_model" must be a name'):
        tfft.push(run, "owner/mine", license="mit", verbose=False)
    assert logged_in.repositories["owner/mine"].commits == []


def test_what_is_to_be_private_is_never_public(logged_in: PushedHub, run: Path) -> None:  # noqa: F811
    tfft.push(run, "owner/mine", license="mit", private=True, verbose=False)
    assert logged_in.repositories["owner/mine"].private is True
    tfft.push(run, "owner/mine", private=True, verbose=False)
    logged_in.repositories["owner/public"] = pushed.Pushed(private=None)
    with pytest.raises(HubError, match="owner/public is to be private, and is there already as a public repository"):
        tfft.push(run, "owner/public", private=True, verbose=False)
    assert logged_in.repositories["owner/public"].commits == []


# --- What cannot be pushed --------------------------------------------------------------------------------------------


def unfinished(run: Path) -> None:
    (run / "metrics.json").unlink()


def damaged_weights(run: Path) -> None:
    path = run / "model" / "model.safetensors"
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))


def no_weights(run: Path) -> None:
    (run / "model" / "model.safetensors").unlink()
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["weights"]  # as of a run of a version that did not say
    (run / "metrics.json").write_text(json.dumps(metrics))


def newer(run: Path) -> None:
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text + "something_new: 1\n")


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        (unfinished, RunError, "holds an unfinished run; finish it with"),
        (shutil.rmtree, RunError, "there is no folder"),
        (damaged_weights, RunError, "is not what the run has written .*; copy the run again"),
        (no_weights, RunError, "holds no weights"),
        (newer, RecipeError, "something_new: no such key(.|\n)*made by another version of tfft"),
        (lambda run: (run / "metrics.json").write_text("[]"), RunError, "metrics.json is not as a run writes it"),
        (lambda run: (run / "metrics.json").write_text("{"), RunError, "metrics.json is not as a run writes it"),
        (lambda run: (run / "model" / "config.json").unlink(), RunError, "holds no config.json that can be read"),
        (lambda run: (run / "recipe.yaml").unlink(), RunError, "holds neither a run"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_runs_that_cannot_be_pushed(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    change: Any,
    kind: type[UserError],
    expected: str,
) -> None:
    change(run)
    before = files_of(run) if run.exists() else {}
    with pytest.raises(kind, match=expected):
        tfft.push(run, "owner/mine", license="mit", verbose=False)
    assert logged_in.asked == []
    assert (files_of(run) if run.exists() else {}) == before


def test_settings_that_cannot_be(
    logged_in: PushedHub,  # noqa: F811
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RunError, match=r"^--license: nothing says under which licence .*expected a licence's id"):
        tfft.push(run, "owner/mine", verbose=False)
    with pytest.raises(RunError, match=r"^--license: got 'apache'; expected .*did you mean apache-2.0\?"):
        tfft.push(run, "owner/mine", license="apache", verbose=False)
    with pytest.raises(RunError, match=r"^--license: of a licence that the hub does not know .*model/LICENSE$"):
        tfft.push(run, "owner/mine", license="other", verbose=False)
    with pytest.raises(HubError, match=r"^--repo: got 'a/b/c'; expected NAME or OWNER/NAME"):
        tfft.push(run, "a/b/c", license="mit", verbose=False)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"^--repo: owner/mine cannot be pushed to without a token"):
        tfft.push(run, "owner/mine", license="mit", verbose=False)
    assert logged_in.asked == [] and not (run / "model" / "README.md").exists()


def test_a_licence_of_ones_own(logged_in: PushedHub, run: Path) -> None:  # noqa: F811
    (run / "model" / "LICENSE").write_text("do no harm")
    card = tfft.push(run, "owner/mine", license="other", verbose=False).card
    assert ModelCard(card).data.license_link == "LICENSE"
    assert logged_in.repositories["owner/mine"].files["LICENSE"] == b"do no harm"


def test_a_run_that_somebody_writes_to(logged_in: PushedHub, run: Path) -> None:  # noqa: F811
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        (run / "run.lock").write_text(f"{process.pid}\n{os.uname().nodename}\n0")
        with pytest.raises(RunError, match=f"is in use by process {process.pid}"):
            tfft.push(run, "owner/mine", license="mit", verbose=False)
        process.communicate(b"\n")
    assert logged_in.asked == [] and not (run / "model" / "README.md").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--run", "none", "--repo", "a/b"]])
def test_help_and_mistakes_are_told_before_tensorflow_is_loaded(arguments: list[str]) -> None:
    program = (
        f"import sys\nfrom tfft import push, errors\ntry:\n    push.main({arguments!r})\n"
        "except (SystemExit, errors.UserError): pass\nprint('tensorflow' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.endswith("\nFalse\n") or ended.stdout == "False\n", ended.stderr


def test_a_failure_is_one_message_and_status_2(trained: tfft.FitResult) -> None:
    environment = {**os.environ, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "tfft.push", *typed(trained.output_dir)], capture_output=True, text=True, env=environment
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: --repo: owner/mine cannot be pushed to, since HF_HUB_OFFLINE is set.*\n", ended.stderr)


# --- Every kind of problem --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression", "tokens"])
def test_every_kind_of_problem(
    logged_in: PushedHub,  # noqa: F811
    tmp_path: Path,
    tiny_checkpoint: Path,
    kind: str,
) -> None:
    """Of rows from Python, with labels that would do harm."""
    # Tags and labels that are joined may not have every letter.
    names = [name for name in NASTY if name != "\ud800" and shown(name) == name]
    rows: list[dict[str, Any]]
    settings: dict[str, Any] = {"task": "text-classification", "problem_type": kind}
    columns = {"text_columns": ["text"]}
    if kind == "tokens":
        settings = {"task": "token-classification"}
        columns = {"text_columns": ["text"], "label_column": "label"}
        rows = [{"text": ["good", "tea"], "label": [f"B-{names[at % len(names)]}", "O"]} for at in range(40)]
    else:
        rows = [{"text": text, "label": names[at % len(names)]} for at, (text, _) in enumerate(rows_of(40))]
    if kind == "regression":
        rows = [{"text": one["text"], "label": at / 7} for at, one in enumerate(rows)]
    elif kind == "multi_label_classification":
        rows = [{**one, "label": [one["label"].replace(";", "")]} for one in rows]
    result = tfft.fit(
        **settings,
        model={"name_or_path": str(tiny_checkpoint)},
        data=columns,
        training={"num_train_epochs": 1},
        train=rows,
        validation=rows[:30],
        output_dir=tmp_path / "run",
        verbose=False,
    )
    card = tfft.push(tmp_path / "run", "owner/mine", license="mit", verbose=False).card
    assert logged_in.repositories["owner/mine"].files["README.md"].decode() == card
    rows_shown = [row for table in tables(card) for row in table]
    for name, value in result.scores["eval"].items():
        if name != "threshold":
            row = next(row for row in rows_shown if row[0] == name)
            assert float(row[1]) == pytest.approx(value, abs=1e-4) and " to " in row[2], row
    shown_classes = [table for table in tables(card) if table[0][1:2] == ["Wanted"]]
    if kind == "regression":
        assert shown_classes == []
    else:
        wanted = {"".join(name.replace(";", "") if kind.startswith("multi") else name) for name in names}
        assert {row[0] for row in shown_classes[0][1:]} == wanted
    metadata = metadata_load(tmp_path / "run" / "model" / "README.md")
    assert model_index_to_eval_results(metadata["model-index"])[1]
