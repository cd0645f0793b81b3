"""`python -m tfft.predict --task … --model …`, and `tfft.pipeline` on finished runs and on a hub."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tfft
from tests.commands.conftest import Job, rows_of, write_csv
from tests.test_hub import run, running_hub
from tests.torch_layout import Tiny, make_tiny
from tfft import predict
from tfft.errors import UserError

TEXTS = ["the movie was good", "it was bad"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    return make_tiny(tmp_path_factory.mktemp("models"), ["fill", "span", "tags", "nli", "gpt2"])


@pytest.fixture(autouse=True)
def no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"")


def pipe(monkeypatch: pytest.MonkeyPatch, given: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))


def answers(capsys: pytest.CaptureFixture[str], task: str, model: Path, *arguments: str) -> list[Any]:
    """The lines that the command prints."""
    capsys.readouterr()
    assert predict.main(["--verbose", "--task", task, "--model", str(model), *arguments]) == 0
    said = capsys.readouterr()
    assert "weights loaded; no weight is new" in said.err
    return [json.loads(line) for line in said.out.splitlines()]


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("name", "task", "typed", "options"),
    [
        ("nli", "sentiment-analysis", ["--top-k", "2"], {"top_k": 2}),
        ("tags", "ner", ["--aggregation-strategy", "simple"], {"aggregation_strategy": "simple"}),
        ("fill", "fill-mask", ["--top-k", "2", "--batch-size", "1"], {"top_k": 2}),
        ("gpt2", "text-generation", ["--max-new-tokens", "3", "--seed", "0"], {"max_new_tokens": 3, "seed": 0}),
        (
            "nli",
            "zero-shot-classification",
            ["--candidate-labels", "good", "not good"],
            {"candidate_labels": ["good", "not good"]},
        ),
    ],
)
def test_lines_are_what_the_pipeline_says(
    tiny: dict[str, Tiny],
    name: str,
    task: str,
    typed: list[str],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [f"[MASK] {text}" for text in TEXTS] if name == "fill" else TEXTS
    expected = rounded(list(tfft.pipeline(task, tiny[name].folder, verbose=False, **options)(one for one in texts)))
    assert len(expected) == 2
    assert answers(capsys, task, tiny[name].folder, *texts, *typed) == expected
    pipe(monkeypatch, "\r\n".join(texts).encode())
    assert answers(capsys, task, tiny[name].folder, *typed) == expected


def test_questions(tiny: dict[str, Tiny], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context, folder = "the movie was good and this end is not bad", tiny["span"].folder
    (tmp_path / "context.txt").write_text(f"\ufeff{context}", encoding="utf-8")
    made = tfft.pipeline("question-answering", folder, verbose=False)
    expected = [rounded(made(question=text, context=context)) for text in TEXTS]
    assert answers(capsys, "question-answering", folder, *TEXTS, "--context", context) == expected
    of_file = answers(capsys, "question-answering", folder, TEXTS[1], "--context", str(tmp_path / "context.txt"))
    assert of_file == expected[1:]
    (best,) = answers(capsys, "question-answering", folder, TEXTS[0], "--context", context, "--top-k", "3")
    assert best[0]["answer"] == expected[0]["answer"] and len(best) == 3


def test_pairs(tiny: dict[str, Tiny], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = tfft.pipeline("text-classification", tiny["nli"].folder, verbose=False)
    expected = rounded(made([{"text": TEXTS[0], "text_pair": TEXTS[1]}]))
    assert answers(capsys, "text-classification", tiny["nli"].folder, *TEXTS, "--pairs") == expected
    pipe(monkeypatch, "\t".join(TEXTS).encode())
    assert answers(capsys, "text-classification", tiny["nli"].folder, "--pairs") == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got neither --run and --task; expected --run RUN, or --task TASK --model MODEL"),
        (["--run", "x", "--task", "ner"], "got both --run and --task"),
        (["--run", "x", "--model", "x"], "--model: goes with --task, and not with --run"),
        (["--run", "x", "--seed", "0"], "--seed: goes with --task"),
        (["--task", "ner", "--input", "x.csv"], "--input: goes with --run, and not with --task"),
        (
            ["--task", "ner", "--top-k", "2"],
            "--top-k: token-classification takes none; it takes --aggregation-strategy",
        ),
        (["--task", "fill-mask", "--seed", "0"], "--seed: fill-mask takes none; it takes --top-k"),
        (["--task", "fill-mask", "--pairs"], "--pairs: fill-mask takes none"),
        (["--task", "zero-shot-classification"], "--candidate-labels: expected one"),
        (["--task", "question-answering"], "--context: expected one"),
        (["--task", "question-answering", "--context", " "], "--context: it is empty"),
        (["--task", "neer"], "task: got neer; .*did you mean ner"),
        (["--task", "ner"], "model: expected one for token-classification: .*none is fetched unasked"),
        (["--task", "ner", "caf\udce9"], "text 1 is not UTF-8"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=f"(?s){said}"):
        predict.main(["--verbose", *arguments])


def test_texts_that_have_no_answer(tiny: dict[str, Tiny], monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"good\n\n")
    for name, task, more, said in (
        ("nli", "zero-shot-classification", ["--candidate-labels", "a"], "text 2 is empty"),
        ("fill", "fill-mask", ["no mask"], r"has no \[MASK\]"),
        ("fill", "ner", [], "is a BertForMaskedLM, which is not made for .*; it can do fill-mask"),
    ):
        with pytest.raises(UserError, match=said):
            predict.main(["--verbose", "--task", task, "--model", str(tiny[name].folder), *more])


@pytest.mark.slow
def test_as_it_is_typed(tiny: dict[str, Tiny]) -> None:
    """Answers alone on standard output; a mistake is one line, and loads no TensorFlow."""
    code = (
        "import sys\nfrom tfft import command, predict\n"
        "try: command.run(predict.main)\nfinally: print('tensorflow' in sys.modules)"
    )

    def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    told = typed("--task", "fill-mask", "--model", str(tiny["fill"].folder), "the [MASK]", "--top-k", "1")
    line, loaded = told.stdout.splitlines()
    assert (told.returncode, loaded) == (0, "True") and json.loads(line)[0]["sequence"].startswith("the ")
    assert told.stderr == "weights loaded; no weight is new; nothing of the checkpoint was left out\n"
    wrong = typed("--task", "ner", "--model", str(tiny["fill"].folder), "good")
    assert (wrong.returncode, wrong.stdout) == (2, "False\n")
    assert wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1
    assert typed("--help").stdout.endswith("\nFalse\n")


def test_a_finished_run(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    tfft.fit(job.arguments()[1], data={"max_length": 12}, verbose=False)
    texts = [text for text, _ in rows_of(12, begin=100)] + ["the movie was " + "so " * 40 + "bad"]
    for folder in (job.run, job.run / "model"):
        loaded = tfft.load(folder).predict(texts)
        found = tfft.pipeline("text-classification", folder, verbose=False)(texts)
        assert found == [{"label": one.label, "score": pytest.approx(one.probability, abs=1e-5)} for one in loaded]
    with pytest.raises(UserError, match=r"none of its labels \(0, 1\) is entailment"):
        tfft.pipeline("zero-shot-classification", job.run, candidate_labels=["a"])
    weights = job.run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"model.safetensors is not what the run has written"):
        tfft.pipeline("text-classification", job.run)


def test_a_finished_run_with_the_tutorials_head(tmp_path: Path, tiny_checkpoint: Path) -> None:
    write_csv(tmp_path / "train.csv", rows_of(20))
    tfft.fit(
        task="text-classification",
        model={"name_or_path": str(tiny_checkpoint), "head": "mean"},
        data={"train_file": str(tmp_path / "train.csv"), "text_columns": ["text"], "max_length": 16},
        training={"num_train_epochs": 1, "eval_strategy": "no"},
        output_dir=tmp_path / "run",
        verbose=False,
    )
    texts = [text for text, _ in rows_of(6)]
    found = tfft.pipeline("sentiment-analysis", tmp_path / "run", verbose=False)(texts)
    for answer, expected in zip(found, tfft.load(tmp_path / "run").predict(texts), strict=True):
        assert answer == {"label": expected.label, "score": pytest.approx(expected.probability, abs=1e-5)}
    with pytest.raises(UserError, match="not made for fill-mask; it can do text-classification"):
        tfft.pipeline("fill-mask", tmp_path / "run")


@pytest.mark.slow
def test_a_model_of_the_hub(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    """What is fetched is said before it is; see also `test_hub`."""
    arguments = ["--task", "fill-mask", "--model", "owner/tiny", "the [MASK]", "--top-k", "1"]
    code = "from tfft import command, predict\ncommand.run(predict.main)"
    with running_hub({one.name: one.read_bytes() for one in tiny["fill"].folder.iterdir()}) as hub:
        fetched = run(code, arguments, hub.url, tmp_path)
        hub.asked.clear()
        lacking = run(code, arguments, hub.url, tmp_path / "empty", HF_HUB_OFFLINE="1")
        assert hub.asked == []
    assert fetched.returncode == 0 and json.loads(fetched.stdout)[0]["sequence"].startswith("the "), fetched.stderr
    assert fetched.stderr.startswith("owner/tiny: to be fetched from the hub: config.json (")
    assert (lacking.returncode, lacking.stdout, lacking.stderr.count("\n")) == (2, "", 1)
    assert "model: owner/tiny is neither a folder here nor in the local cache of the hub" in lacking.stderr
