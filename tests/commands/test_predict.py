"""`tfft.load` and `python -m tfft.predict` on runs of tiny models."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import fitted, rows_of, write_csv
from tests.conftest import files_no_larger_than
from tfft import predict
from tfft.errors import UserError

TEXTS = [text for text, _ in rows_of(12, begin=100)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    """A run of two classes, with `max_length` 16."""
    return fitted(tmp_path_factory.mktemp("classes"), tiny_checkpoint, data={"max_length": 16})


def fit(folder: Path, checkpoint: Path, data: dict[str, Any], **settings: Any) -> tfft.FitResult:
    return tfft.fit(
        model={"name_or_path": str(checkpoint)},
        data=data,
        training={"num_train_epochs": 1, "eval_strategy": "no"},
        output_dir=folder / "run",
        verbose=False,
        **settings,
    )


def test_a_loaded_run_answers_as_the_training_did(trained: tfft.FitResult, tmp_path: Path) -> None:
    moved = shutil.copytree(trained.output_dir, tmp_path / "elsewhere")
    loaded = tfft.load(moved)
    assert (loaded.max_length, loaded.text_columns, loaded.label_names) == (16, ("text",), trained.label_names)
    before, after = trained.predict(TEXTS), loaded.predict(TEXTS)
    assert [one.label for one in after] == [one.label for one in before]
    np.testing.assert_allclose([one.probability for one in after], [one.probability for one in before], atol=1e-5)
    both = loaded.predict(TEXTS, top_k=2)
    assert [one[0] for one in both] == after
    np.testing.assert_allclose([sum(share for _, share in one) for one in both], 1.0)
    bare = tfft.load(moved / "model")
    assert bare.text_columns is None and bare.max_length == 64, "as many positions as the model has"
    assert [one.label for one in bare.predict(TEXTS)] == [one.label for one in after]


def test_answers_in_16_bits(trained: tfft.FitResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained.output_dir
    exact, rounded = tfft.load(run), tfft.load(run, mixed_precision="bf16")
    computed = {one.compute_dtype for one in rounded.model.submodules if hasattr(one, "kernel")}
    assert computed == {"bfloat16", "float32"}, "the encoder, and its head"
    shares = [[one.probability for one in model.predict(TEXTS)] for model in (exact, rounded)]
    np.testing.assert_allclose(shares[1], shares[0], atol=2e-2)
    assert shares[0] != shares[1]
    assert [one.probability for one in tfft.load(run).predict(TEXTS)] == shares[0], "nothing is left of it"
    with pytest.raises(UserError, match="mixed_precision: got 'half'; expected auto, no, bf16, fp16"):
        tfft.load(run, mixed_precision="half")

    source, output = write_csv(tmp_path / "rows.csv", [(text,) for text in TEXTS], ("text",)), tmp_path / "out.csv"
    arguments = ["--run", str(run), *files(source, output)]
    assert predict.main([*arguments, "--mixed-precision", "bf16"]) == 0
    assert "computing in bfloat16 and float32" in capsys.readouterr().out
    np.testing.assert_allclose([float(row["probability"]) for row in read_csv(output)], shares[1], atol=1e-6)
    with pytest.raises(UserError, match="--mixed-precision: goes with --run, and not with --task"):
        predict.main(["--task", "ner", "--model", str(run), "--mixed-precision", "bf16", "A text."])


def test_pairs(tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": text, "b": f"not {text}", "label": label} for text, label in rows_of(20)]
    result = fit(tmp_path, tiny_checkpoint, {"text_columns": ["a", "b"]}, task="text-classification", train=rows)
    pairs = [(row["a"], row["b"]) for row in rows]
    loaded = tfft.load(tmp_path / "run")
    answers = loaded.predict(pairs)
    np.testing.assert_allclose(
        [one.probability for one in answers], [one.probability for one in result.predict(pairs)], atol=1e-5
    )
    for wrong, said in (
        (["one"], "number 1 is a single text; expected a pair"),
        ([("a", "b"), ("c",)], "number 2 is a single text; expected a pair"),
        ([("a", None)], "number 1 is or holds null"),
    ):
        with pytest.raises(tfft.errors.DataError, match=said):
            loaded.predict(wrong)

    run = ["--run", str(tmp_path / "run")]
    assert predict.main([*run, *pairs[0], *pairs[1]]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["text"], one["text_pair"], one["label"]) for one in told] == [
        (*pair, answer.label) for pair, answer in zip(pairs[:2], answers, strict=False)
    ]
    with pytest.raises(tfft.errors.DataError, match="got 1 texts; expected pairs"):
        predict.main([*run, "one"])


def test_the_head_of_the_tutorials(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"text": text, "label": f"class {label}"} for text, label in rows_of(20)]
    result = tfft.fit(
        task="text-classification",
        model={"name_or_path": str(tiny_checkpoint), "head": "mean"},
        data={"text_columns": ["text"]},
        training={"num_train_epochs": 1, "eval_strategy": "no"},
        train=rows,
        output_dir=tmp_path / "run",
        verbose=False,
    )
    loaded = tfft.load(tmp_path / "run")
    assert loaded.label_names == ("class 0", "class 1")
    for after, before in zip(loaded.predict(TEXTS), result.predict(TEXTS), strict=True):
        assert after.probability == pytest.approx(before.probability, abs=1e-5)


def test_several_labels(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"text": text, "label": ["x", "y"][: 1 + int(str(label))]} for text, label in rows_of(20)]
    result = fit(
        tmp_path,
        tiny_checkpoint,
        {"text_columns": ["text"]},
        task="text-classification",
        problem_type="multi_label_classification",
        train=rows,
    )
    result.problem.threshold = 0.123  # type: ignore[attr-defined]
    result.problem.note_in(result.model.config)
    result.model.save_pretrained(tmp_path / "run" / "model", safe_serialization=True)
    loaded = tfft.load(tmp_path / "run")
    assert loaded.problem.threshold == 0.123  # type: ignore[attr-defined]
    for answer, ranked in zip(loaded.predict(TEXTS), loaded.predict(TEXTS, top_k=2), strict=True):
        assert dict(ranked) == answer.probabilities
        assert ranked[0].probability >= ranked[1].probability
        assert answer.labels == tuple(name for name, share in answer.probabilities.items() if share >= 0.123)
    source = write_csv(tmp_path / "rows.csv", [(text,) for text in TEXTS], ("text",))
    assert predict.main(["--run", str(tmp_path / "run"), *files(source, tmp_path / "out.csv")]) == 0
    for row, answer in zip(read_csv(tmp_path / "out.csv"), loaded.predict(TEXTS), strict=True):
        assert row["labels"] == ";".join(answer.labels)
        assert float(row["probability_y"]) == pytest.approx(answer.probabilities["y"], abs=1e-5)


def test_words(tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"tokens": ["good", "tea", "in", "the", str(at)], "tags": ["B-X", "I-X", "O", "O", "B-Y"]} for at in range(9)
    ]
    data = {"text_columns": ["tokens"], "label_column": "tags", "max_length": 10}
    result = fit(tmp_path, tiny_checkpoint, data, task="token-classification", train=rows)
    loaded = tfft.load(tmp_path / "run")
    text = "  good\ttea in\u00a0the 7 " + "so " * 20
    (entities,) = loaded.entities([text])
    tags = [one.tag for one in loaded.predict([text])[0]]
    assert tags == [one.tag for one in result.predict([text.split()])[0]] and tags[-1] == "O"
    assert entities, "with one epoch it gives a tag to something"
    for entity in entities:
        assert text[entity.start : entity.end] == entity.text and 0 < entity.probability <= 1
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"tokens": text, "id": 1}) + "\n\n" + json.dumps({"tokens": text.split()}) + "\n")
    assert predict.main(["--run", str(tmp_path / "run"), *files(source, tmp_path / "out.jsonl")]) == 0
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert list(first) == ["tokens", "id", "entities"] and list(second) == ["tokens", "entities"]
    assert [(one["start"], one["end"], one["label"]) for one in first["entities"]] == [
        (one.start, one.end, one.label) for one in entities
    ]
    assert [one["label"] for one in second["entities"]] == [one.label for one in entities]
    assert all(" ".join(text.split())[one["start"] : one["end"]] == one["text"] for one in second["entities"])
    capsys.readouterr()
    with pytest.raises(tfft.errors.DataError, match="gives no classes of texts"):
        loaded.predict([text], top_k=2)


def test_numbers(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [{"text": text, "label": 2.0 * int(str(label))} for text, label in rows_of(20)]
    data = {"text_columns": ["text"]}
    result = fit(tmp_path, tiny_checkpoint, data, task="text-classification", problem_type="regression", train=rows)
    source = write_csv(tmp_path / "rows.csv", [(text,) for text in TEXTS], ("text",))
    assert predict.main(["--run", str(tmp_path / "run"), *files(source, tmp_path / "out.csv")]) == 0
    found = [float(row["prediction"]) for row in read_csv(tmp_path / "out.csv")]
    np.testing.assert_allclose(found, result.predict(TEXTS), atol=1e-5)


# --- the command ------------------------------------------------------------------------------------------------------


def files(source: Path, output: Path) -> list[str]:
    return ["--input", str(source), "--output", str(output)]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def typed(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tfft.predict", *arguments]
    return subprocess.run(command, capture_output=True, input=given, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def test_texts_as_arguments_and_from_standard_input(
    trained: tfft.FitResult, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = trained.predict(["a good film", "", "awful \x9b\u2028 \u00e9"])
    given = "\ufeffa good film\r\n\nawful \x9b\u2028 \u00e9".encode()
    piped = typed("--run", str(trained.output_dir), "--rows-at-once", "2", given=given)
    assert piped.returncode == 0 and piped.stderr == b""
    assert b"\xc2\x9b" not in piped.stdout, "a terminal would obey it"
    told = [json.loads(line) for line in piped.stdout.decode().split("\n")[:-1]]
    assert [one["text"] for one in told] == ["a good film", "", "awful \x9b\u2028 \u00e9"]
    assert [one["label"] for one in told] == [one.label for one in answers]
    assert predict.main(["a good film", "--run", str(trained.output_dir), "--top-k", "2"]) == 0
    best = json.loads(capsys.readouterr().out)
    assert list(best) == ["text", "label_1", "probability_1", "label_2", "probability_2"]
    assert best["label_1"] == answers[0].label


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_file_comes_back_with_answers(
    trained: tfft.FitResult, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*TEXTS, '"quoted" at the start', "caf\u00e9, with a comma", "" if ending != "jsonl" else "\ud7ff"]
    source, output = tmp_path / f"rows.{ending}", tmp_path / f"out.{ending}"
    write_rows(source, texts)
    arguments = ["--run", str(trained.output_dir), *files(source, output)]
    assert predict.main([*arguments, "--rows-at-once", "4", "--prefix", "my_"]) == 0
    assert "15 rows with my_label, my_probability are in" in capsys.readouterr().out
    rows = read_rows(output)
    assert [(row["text"], str(row["id"])) for row in rows] == [(text, str(at)) for at, text in enumerate(texts)]
    answers = trained.predict(texts)
    assert [row["my_label"] for row in rows] == [one.label for one in answers]
    np.testing.assert_allclose(
        [float(row["my_probability"]) for row in rows], [one.probability for one in answers], atol=1e-5
    )
    assert sorted(os.listdir(tmp_path)) == sorted([source.name, output.name])
    # One piece, and many, say the same.
    at_once = tmp_path / f"again.{ending}"
    assert predict.main(["--run", str(trained.output_dir), *files(source, at_once), "--prefix", "my_"]) == 0
    assert [row["my_label"] for row in read_rows(at_once)] == [row["my_label"] for row in rows]


def write_rows(path: Path, texts: Sequence[str]) -> None:
    if path.suffix == ".csv":
        write_csv(path, [(at, text) for at, text in enumerate(texts)], ("id", "text"))
    elif path.suffix == ".tsv":
        path.write_text("id\ttext\n" + "".join(f"{at}\t{text}\n" for at, text in enumerate(texts)), encoding="utf-8")
    elif path.suffix == ".jsonl":
        lines = [json.dumps({"id": at, "text": text}) for at, text in enumerate(texts)]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"id": range(len(texts)), "text": list(texts)})
        pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": "{}", "kept": "yes"}), path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return list(read_csv(path))
    if path.suffix == ".tsv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    assert table.schema.metadata == {b"kept": b"yes"}
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_a_job_that_was_broken_off_goes_on(
    trained: tfft.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write_csv(tmp_path / "rows.csv", [(text,) for text in TEXTS], ("text",)), tmp_path / "out.csv"
    arguments = ["--run", str(trained.output_dir), *files(source, output), "--rows-at-once", "5"]
    asked: list[int] = []
    answer = predict.answers_of

    def interrupted(predictor: Any, texts: Sequence[Any], top_k: int | None) -> list[list[Any]]:
        if asked:
            raise KeyboardInterrupt
        asked.append(len(texts))
        return answer(predictor, texts, top_k)

    with monkeypatch.context() as patch:
        patch.setattr(predict, "answers_of", interrupted)
        with pytest.raises(KeyboardInterrupt, match="after 5 of 12 rows; the same command goes on"):
            predict.main(arguments)
    assert not output.exists()
    unfinished = tmp_path / "out.csv.unfinished"
    unfinished.write_bytes(unfinished.read_bytes()[:-3])  # the last line is torn
    with pytest.raises(UserError, match=r"(?s)answers of another job.*added: "):
        predict.main([*arguments, "--top-k", "2"])
    capsys.readouterr()
    assert predict.main(arguments) == 0
    assert "4 of 12 rows were answered before" in capsys.readouterr().out
    assert [row["label"] for row in read_csv(output)] == [one.label for one in trained.predict(TEXTS)]
    assert not unfinished.exists()


@pytest.mark.slow
def test_a_job_that_was_killed_goes_on(trained: tfft.FitResult, tmp_path: Path) -> None:
    texts = [f"the movie {at} was {'good' if at % 3 else 'bad'}" for at in range(1500)]
    source = write_csv(tmp_path / "rows.csv", [(text,) for text in texts], ("text",))
    arguments = ["--run", str(trained.output_dir), *files(source, tmp_path / "out.csv"), "--rows-at-once", "16"]
    process = subprocess.Popen([sys.executable, "-m", "tfft.predict", *arguments], stdout=subprocess.DEVNULL)
    unfinished = tmp_path / "out.csv.unfinished"
    end = time.monotonic() + 120
    while not unfinished.is_file() or unfinished.stat().st_size < 2000:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "out.csv").exists()
    ended = typed(*arguments)
    assert ended.returncode == 0, ended.stderr
    assert b"of 1,500 rows were answered before" in ended.stdout
    rows = read_csv(tmp_path / "out.csv")
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == [one.label for one in trained.predict(texts)]


def test_mistakes_leave_the_output_alone(
    trained: tfft.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(trained.output_dir)
    good = write_csv(tmp_path / "good.csv", [("a", 1)], ("text", "label"))
    other = write_csv(tmp_path / "other.csv", [("a", 1)], ("txet", "x"))
    torn = tmp_path / "torn.csv"
    torn.write_text("text,x\na,1\nb\n")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("text\ncaf\u00e9\n".encode("latin-1"))
    lacking = tmp_path / "lacking.jsonl"
    lacking.write_text('{"text": "a"}\n{"text": null}\n')
    empty, json_file = tmp_path / "empty.csv", tmp_path / "rows.json"
    empty.write_text("")
    json_file.write_text("[]")
    for arguments, said in (
        ([*files(good, tmp_path / "out.csv")], "column 'label' already.*--prefix=predicted_"),
        ([*files(other, tmp_path / "out.csv")], "no column 'text'.*did you mean 'txet'.*Set --columns"),
        ([*files(torn, tmp_path / "out.csv")], r"row 2 \(line 3\): 1 field, expected 2"),
        ([*files(latin, tmp_path / "out.csv")], "is not UTF-8.*Set --encoding"),
        ([*files(lacking, tmp_path / "out.jsonl")], r"row 2 \(line 2\): no value in column 'text'"),
        ([*files(empty, tmp_path / "out.csv")], "the file is empty"),
        ([*files(json_file, tmp_path / "out.json")], "cannot be answered; give one that ends in .csv"),
        ([*files(good, tmp_path / "out.tsv")], "expected a file that ends in .csv"),
        ([*files(good, good), "--overwrite"], "is the input"),
        ([*files(good, other)], "is there already"),
        (["--input", str(good)], "expected --output as well"),
        ([*files(good, tmp_path / "out.csv"), "--columns", "text", "label"], "got 2 .*; expected 1"),
        (["a", "caf\udce9"], "text 2 is not UTF-8"),
        (["--top-k", "3", "a"], "top_k: got 3; expected 1 to 2"),
    ):
        before = other.read_bytes()
        with pytest.raises(UserError, match=f"(?s){said}"):
            predict.main(["--run", run, *arguments])
        assert other.read_bytes() == before
    assert [name for name in os.listdir(tmp_path) if name.startswith("out")] == []
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good\n\xff\n")))
    with pytest.raises(UserError, match="standard input, line 2: is not UTF-8"):
        predict.main(["--run", run])


def test_runs_that_cannot_answer(trained: tfft.FitResult, tmp_path: Path, tiny_checkpoint: Path) -> None:
    run = shutil.copytree(trained.output_dir, tmp_path / "run")
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text() + "of_the_future: 1\n")
    unfinished = shutil.copytree(trained.output_dir, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    for folder, said in (
        (run, "of_the_future.*another version of tfft"),
        (unfinished, "unfinished run; finish it with"),
        (tmp_path / "rum", "no folder .*did you mean .*run"),
        (tmp_path, "holds neither a run"),
        (tiny_checkpoint, "gives no labels; expected a model for"),
    ):
        with pytest.raises(UserError, match=f"(?s){said}"):
            tfft.load(folder)


def test_a_mistake_is_told_before_tensorflow_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tfft import predict\nfrom tfft.errors import UserError\n"
        f"try:\n    predict.main(['--run', {str(tmp_path / 'none')!r}, 'text'])\n"
        "except UserError as error:\n    print(error)\nprint('tensorflow' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.startswith("run: there is no folder") and ended.stdout.endswith("\nFalse\n"), ended.stderr


def test_a_full_disk(trained: tfft.FitResult, tmp_path: Path) -> None:
    source, output = write_csv(tmp_path / "rows.csv", [(text,) for text in TEXTS], ("text",)), tmp_path / "out.csv"
    arguments = ["--run", str(trained.output_dir), *files(source, output), "--rows-at-once", "2"]
    with (
        files_no_larger_than(550),
        pytest.raises(UserError, match=r"failed: .*; free the disk and give the same command"),
    ):
        predict.main(arguments)
    assert sorted(os.listdir(tmp_path)) == ["out.csv.unfinished", "rows.csv"]
    assert predict.main(arguments) == 0
    assert [row["label"] for row in read_csv(output)] == [one.label for one in trained.predict(TEXTS)]
