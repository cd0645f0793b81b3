"""`python -m tfft.export` on runs of tiny models: every form is loaded again, and bad ones are not kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import fitted, rows_of
from tests.conftest import files_no_larger_than
from tfft import export
from tfft.errors import ModelError, RunError, UserError
from tfft.exports import PRECISIONS

TEXTS = ["a good film", "awful", "it was a nice movie and not a bad one"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    """A run of two classes, with `max_length` 16."""
    return fitted(
        tmp_path_factory.mktemp("classes"),
        tiny_checkpoint,
        data={"max_length": 16},
        training={"learning_rate": 1e-2},
    )


def logits_of(result: tfft.FitResult, texts: list[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs (texts, tokens) int32, and what the run's model gives."""
    from tfft.backend import tf

    inputs = {name: np.asarray(ids, np.int32) for name, ids in result.tokenizer(texts, padding=True).items()}
    return inputs, result.model({name: tf.constant(ids) for name, ids in inputs.items()}).logits.numpy()


def code_of(folder: Path) -> list[str]:
    """The Python of the guide beside an export."""
    return [part.partition("```")[0] for part in (folder / "README.md").read_text().split("```python\n")[1:]]


@pytest.mark.slow
def test_a_saved_model_answers_as_the_run(trained: tfft.FitResult, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "exported"
    arguments = ["--run", str(trained.output_dir), "--to", "savedmodel", "--output", str(output)]
    assert export.main(arguments) == 0
    said = capsys.readouterr().out
    assert "0 of 12 predictions changed" in said and f"the export is in {output}" in said
    report = json.loads((output / "export.json").read_text())
    assert report["max_logit_difference"] < 1e-5 and report["changed_predictions"] == 0
    assert report["scores"] == pytest.approx(
        {name: trained.scores["eval"][name] for name in ("accuracy", "f1")}, abs=1e-7
    ), "those that the training wrote"
    assert report["bytes"] == sum(report["files"].values())
    assert report["milliseconds_at_batch_1"] > 0 and report["rows_per_second"] > 0
    from tfft.backend import tf

    signature = tf.saved_model.load(str(output / "1")).signatures["serving_default"]
    for texts in (TEXTS, TEXTS[:1]):
        inputs, expected = logits_of(trained, texts)
        found = signature(**{name: tf.constant(ids) for name, ids in inputs.items()})
        np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
        np.testing.assert_allclose(np.sum(found["probabilities"], axis=-1), 1.0, rtol=1e-6)
    [code] = code_of(output)
    exec(code, {})
    assert "tf.Tensor" in capsys.readouterr().out
    with pytest.raises(RunError, match="is there already"):
        export.main(arguments)
    assert json.loads((output / "request.json").read_text())["inputs"].keys() == set(report["inputs"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # that LiteRT, a package of its own, is to be taken
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensorflow_lite(trained: tfft.FitResult, tmp_path: Path, precision: str, capsys: Any) -> None:
    exported = export.export(trained.output_dir, "tflite", tmp_path / "lite", precision=precision, tolerance=0.2)
    path = tmp_path / "lite" / f"model_{precision}.tflite"
    from tfft.backend import tf

    runner = tf.lite.Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    for texts in (TEXTS, TEXTS[:1]):
        inputs, expected = logits_of(trained, texts)
        bound = {"float32": 1e-5, "float16": 1e-2}.get(precision, 0.5)
        np.testing.assert_allclose(runner(**inputs)["logits"], expected, atol=bound)
    is_exact = exported.report["max_logit_difference"] < 1e-5
    assert is_exact == (precision == "float32")
    assert not (tmp_path / "lite" / "scratch").exists()
    [code] = code_of(tmp_path / "lite")
    exec(code, {})
    assert len(capsys.readouterr().out.strip().splitlines()[-1]) > 4


@pytest.mark.slow
def test_onnx(trained: tfft.FitResult, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnxruntime

    exported = export.export(trained.output_dir, "onnx", tmp_path / "onnx")
    assert exported.report["max_logit_difference"] < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    assert [one.name for one in session.get_outputs()] == ["logits", "probabilities"]
    for texts in (TEXTS, TEXTS[:1]):
        inputs, expected = logits_of(trained, texts)
        np.testing.assert_allclose(session.run(["logits"], inputs)[0], expected, atol=1e-5)
    [code] = code_of(tmp_path / "onnx")
    exec(code, {})


@pytest.mark.slow
@pytest.mark.parametrize("to", ["hf-pytorch", "keras-weights"])
def test_folders_of_weights(trained: tfft.FitResult, tmp_path: Path, to: str) -> None:
    exported = export.export(trained.output_dir, to, tmp_path / to)
    assert exported.report["max_logit_difference"] < 1e-5 and exported.report["changed_predictions"] == 0
    if to == "hf-pytorch":
        from safetensors import safe_open

        config = json.loads((tmp_path / to / "config.json").read_text())
        assert config["architectures"] == ["BertForSequenceClassification"]
        with safe_open(tmp_path / to / "model.safetensors", framework="np") as file:
            assert file.metadata() == {"format": "pt"}
            kernel = file.get_tensor("classifier.weight")
        np.testing.assert_array_equal(kernel, trained.model.classifier.kernel.numpy().T)
    else:
        [code] = code_of(tmp_path / to)
        exec(code, {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tags", "several labels", "numbers", "pairs in windows"])
def test_every_kind_of_answer(kind: str, tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = rows_of(30)
    data: dict[str, Any] = {"text_columns": ["text"]}
    settings: dict[str, Any] = {"task": "text-classification"}
    made: list[dict[str, Any]] = [{"text": text, "label": label} for text, label in rows]
    if kind == "tags":
        settings = {"task": "token-classification"}
        made = [{"tokens": text.split(), "tags": ["B-X" if label else "O"] * len(text.split())} for text, label in rows]
        data = {"text_columns": ["tokens"], "label_column": "tags"}
    elif kind == "several labels":
        settings["problem_type"] = "multi_label_classification"
        made = [{"text": text, "label": ["x", "y"] if label else ["y"]} for text, label in rows]
    elif kind == "numbers":
        settings["problem_type"] = "regression"
        made = [{"text": text, "label": len(text) / 10} for text, _ in rows]
    else:
        made = [{"text": f"{text} " * 12, "label": label} for text, label in rows]
        data |= {"max_length": 16, "long_text": "sliding_window", "stride": 4}
    tfft.fit(
        model={"name_or_path": str(tiny_checkpoint)},
        data=data,
        training={"num_train_epochs": 1, "learning_rate": 1e-2},
        train=made[:20],
        validation=made[20:],
        output_dir=tmp_path / "run",
        verbose=False,
        **settings,
    )
    report = export.export(tmp_path / "run", "savedmodel", tmp_path / "out", rows=8).report
    assert report["max_logit_difference"] < 1e-5
    assert report["changed_predictions"] == (None if kind == "numbers" else 0)
    assert report["rows"] == 8
    why = {"tags": "words have tags, and", "pairs in windows": "data.long_text is sliding_window"}.get(kind)
    assert ("none_since" in report["texts"]) == (why is not None) and (why or "") in str(report["texts"])


@pytest.mark.slow
def test_what_answers_worse_is_not_kept(
    trained: tfft.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tfft.exports import formats

    write = formats.WRITERS["savedmodel"]

    def broken(source: formats.Source, folder: Path) -> tuple[str, str]:
        source.model.classifier.kernel.assign(-source.model.classifier.kernel)
        return write(source, folder)

    monkeypatch.setattr(formats, "WRITERS", {"savedmodel": broken})
    with pytest.raises(RunError, match=r"the export's accuracy is .* of 12 predictions changed, .*nothing was kept"):
        export.export(trained.output_dir, "savedmodel", tmp_path / "out", tolerance=0.0)
    assert os.listdir(tmp_path) == []
    assert export.export(trained.output_dir, "savedmodel", tmp_path / "out", tolerance=1.0).report["score_loss"] > 0


@pytest.mark.parametrize("to", ["savedmodel", "hf-pytorch", "keras-weights"])
def test_a_full_disk(trained: tfft.FitResult, tmp_path: Path, to: str) -> None:
    with files_no_larger_than(3000), pytest.raises(RunError, match=r"writing .* failed: .*; nothing was kept"):
        export.export(trained.output_dir, to, tmp_path / "out")
    assert os.listdir(tmp_path) == []


def moved(trained: tfft.FitResult, folder: Path, *without: str) -> Path:
    run = shutil.copytree(trained.output_dir, folder / "run")
    for name in without:
        (run / name).unlink()
    return run


def wrong(trained: tfft.FitResult, folder: Path) -> Iterator[tuple[list[str], str]]:
    run, output = str(trained.output_dir), str(folder / "out")
    (folder / "mine").mkdir()
    yield ["--run", str(folder / "none"), "--to", "tflite", "--output", output], "there is no folder"
    yield ["--run", run + "/model", "--to", "tflite", "--output", output], "a model alone, without validation rows"
    yield ["--run", run, "--to", "tflite", "--output", str(folder / "a" / "b")], "cannot be made"
    yield ["--run", run, "--to", "tflite", "--output", str(folder / "mine"), "--overwrite"], "is no export of tfft"
    yield ["--run", run, "--to", "onnx", "--precision", "int8", "--output", output], "expected float32 with --to onnx"
    unfinished = moved(trained, folder / "1", "metrics.json")
    yield ["--run", str(unfinished), "--to", "tflite", "--output", output], "holds an unfinished run"
    unvalidated = moved(trained, folder / "2", "predictions.csv")
    yield ["--run", str(unvalidated), "--to", "tflite", "--output", output], "it was not validated"
    torn = moved(trained, folder / "3")
    (torn / "predictions.csv").write_text("row,text,label\n1,a\n2,b,neither\n")
    yield ["--run", str(torn), "--to", "tflite", "--output", output], "is not as the run has written it"


def test_mistakes(trained: tfft.FitResult, tmp_path: Path) -> None:
    for arguments, said in wrong(trained, tmp_path):
        with pytest.raises(UserError, match=said):
            export.main(arguments)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tolerance", ["2", "-0.1", "little"])
def test_a_tolerance_is_a_share(tolerance: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        export.main(["--run", "r", "--to", "onnx", "--output", "o", "--tolerance", tolerance])
    assert f"got {tolerance}; expected a number from 0 to 1" in capsys.readouterr().err


def test_a_guide_is_safe_to_read_whatever_labels_say(trained: tfft.FitResult, tmp_path: Path) -> None:
    import dataclasses

    from tfft import loaded, problems
    from tfft.exports import FORMS, papers

    nasty = problems.SingleLabel(("</code><script>", "# `rm`\n"))
    predictor = dataclasses.replace(loaded.load(trained.output_dir), problem=nasty)
    report = {
        "tfft": "0", "run": "r", "to": "savedmodel", "precision": "float32", "rows": 3, "inputs": ["input_ids"],
        "changed_predictions": 1, "max_logit_difference": None,
    }  # fmt: skip
    papers.write(tmp_path, tmp_path, predictor, report, FORMS["savedmodel"])
    guide = (tmp_path / "README.md").read_text()
    assert "script>" not in guide and "`rm`" not in guide
    assert "1 of 3 predictions changed, logits that are not finite" in guide
    assert json.loads((tmp_path / "export.json").read_text())["labels"] == list(nasty.names)


def test_what_a_form_needs(trained: tfft.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfft.exports import onnx, pytorch

    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "tf2onnx" else name)
    with pytest.raises(
        ModelError, match=r"needs tf2onnx, which is not installed; install with: pip install 'tfft\[onnx"
    ):
        export.export(trained.output_dir, "onnx", tmp_path / "out")
    monkeypatch.setattr(pytorch.headed, "is_headed", lambda folder: True)
    with pytest.raises(ModelError, match="has tfft's own head"):
        export.export(trained.output_dir, "hf-pytorch", tmp_path / "out")
