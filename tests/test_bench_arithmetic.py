"""The bench's arithmetic and its handling of child processes. No training here."""

from __future__ import annotations

import ast
import importlib.util
import json
import pathlib
import sys
import types

import pytest

from tfft import recipe

BENCHMARKS = pathlib.Path(__file__).resolve().parent / "benchmarks"


def load_script(path: pathlib.Path, name: str) -> types.ModuleType:
    """A script as a module, registered under a name that nothing else uses (dataclasses look their module up)."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


whole_job = load_script(BENCHMARKS / "whole_job.py", "bench_whole_job")
techniques = load_script(BENCHMARKS / "techniques.py", "bench_techniques")
predict = load_script(BENCHMARKS / "predict.py", "bench_predict")
peer_rows = load_script(BENCHMARKS / "peers" / "rows.py", "bench_peer_rows")


def test_neither_the_bench_nor_a_peer_imports_tfft() -> None:
    """It would choose an allocator for TensorFlow, in the peers as well."""
    scripts = [BENCHMARKS / "whole_job.py", *(BENCHMARKS / "peers").glob("*.py")]
    assert len(scripts) > 3
    for script in scripts:
        imports = [
            one for one in ast.walk(ast.parse(script.read_text())) if isinstance(one, (ast.Import, ast.ImportFrom))
        ]
        names = [one.module or "" if isinstance(one, ast.ImportFrom) else one.names[0].name for one in imports]
        assert names, script
        assert not [name for name in names if name.partition(".")[0] == "tfft"], script


SPEED, SECONDS = (
    next(one for one in whole_job.FIGURES if one.key == key) for key in ("train_samples_per_second", "total_seconds")
)


def run(speed: float, seconds: float) -> dict[str, float]:
    return {
        "train_samples_per_second": speed,
        "steady_samples_per_second": speed,
        "steady_tokens_per_second": speed * 50,
        "first_step_seconds": seconds / 2,
        "total_seconds": seconds,
        "wall_seconds": seconds + 1,
        "peak_rss_mb": 100.0,
        "train_seconds": seconds * 0.8,
        "epochs": 2.0,
        "accuracy": 0.5,
        "f1": 0.25,
    }


def test_more_than_one_is_better_for_us_in_every_figure():
    assert whole_job.advantage(SPEED, ours=30.0, peer=20.0) == 1.5
    assert whole_job.advantage(SECONDS, ours=30.0, peer=20.0) == pytest.approx(2 / 3)
    directions = {figure.key: figure.higher_is_better for figure in whole_job.FIGURES}
    assert directions == {
        "steady_samples_per_second": True,
        "steady_tokens_per_second": True,
        "train_samples_per_second": True,
        "first_step_seconds": False,
        "total_seconds": False,
        "wall_seconds": False,
        "peak_rss_mb": False,
    }


def test_ratios_are_taken_within_a_round_and_only_then_is_the_median_formed():
    # We are twice as fast in two rounds of three, but the ratio of the medians would be 30 / 50.
    ours = [run(10, 1), run(100, 1), run(30, 1)]
    peer = [run(5, 1), run(50, 1), run(60, 1)]
    assert whole_job.advantages(SPEED, ours, peer) == whole_job.Spread(2.0, 0.5, 2.0)


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        whole_job.advantages(SPEED, [run(1, 1), run(1, 1)], [run(1, 1)])


def test_spread_of_even_and_odd_counts():
    assert whole_job.spread([3.0, 1.0, 2.0]) == whole_job.Spread(2.0, 1.0, 3.0)
    assert whole_job.spread([1.0, 2.0]) == whole_job.Spread(1.5, 1.0, 2.0)
    assert whole_job.spread([1234.5, 1234.5]).text(1) == "1,234.5 (1,234.5-1,234.5)"


def test_everyone_starts_once_in_three_rounds():
    orders = [whole_job.rotated(["a", "b", "c"], i) for i in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_selected_lines_are_seeded_and_keep_the_header():
    lines = ["header", *(str(i) for i in range(50))]
    chosen = whole_job.selected_lines(lines, 10, seed=1)
    assert chosen[0] == "header"
    assert len(set(chosen[1:])) == 10 and set(chosen[1:]) <= set(lines[1:])
    assert chosen == whole_job.selected_lines(lines, 10, seed=1)
    assert chosen != whole_job.selected_lines(lines, 10, seed=2)
    assert whole_job.selected_lines(lines, 0, seed=1) == lines
    assert whole_job.selected_lines(lines, 99, seed=1) == lines


def test_summary_compares_with_every_peer_but_not_with_ourselves():
    runs = {
        "tfft": [run(20, 5)],
        "keras_course": [run(10, 10)],
        "hf_trainer": [run(40, 4)],
        "tfft_features": [run(1, 1)],
    }
    summary = whole_job.summary(runs)
    better = summary["times_better_than"]
    assert set(better) == {"keras_course", "hf_trainer"}
    assert better["keras_course"]["total_seconds"]["median"] == 2.0
    assert better["hf_trainer"]["train_samples_per_second"]["median"] == 0.5
    assert summary["frozen_epoch_share"]["median"] == pytest.approx(0.2)
    assert summary["figures"]["tfft"]["accuracy"] == {"median": 0.5, "least": 0.5, "greatest": 0.5}


def test_our_report_takes_the_peers_names(tmp_path):
    metrics = {
        "eval": {"accuracy": 0.7, "f1": 0.8, "loss": 0.6},
        "train": {"epochs": 3.0, "rows": 10, "tokens": 530},
        "timing": {
            "train_seconds": 9.0,
            "total_seconds": 12.0,
            "train_samples_per_second": 33.0,
            "first_step_seconds": 2.0,
            "steady_samples_per_second": 40.0,
        },
        "memory": {"peak_rss_mb": 1.0},
        "environment": {"device": "CPU"},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    report = whole_job.our_report(tmp_path)
    assert report["train_samples_per_second"] == 33.0 and report["f1"] == 0.8
    assert report["tokens_per_sample"] == 53.0
    assert "peak_rss_mb" not in report, "memory is measured from outside, alike for all"


def test_peer_report_is_the_last_line():
    assert whole_job.peer_report("Epoch 1/1\n{'loss': 0.3}\n{\"accuracy\": 1.0}\n\n") == {"accuracy": 1.0}
    for useless in ("", "done", "3"):
        with pytest.raises(ValueError):
            whole_job.peer_report(useless)


def test_cpu_model_from_cpuinfo():
    text = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nprocessor\t: 1\nmodel name\t: Some CPU @ 2.00GHz\n"
    assert whole_job.cpu_model(text) == "Some CPU @ 2.00GHz"
    assert whole_job.cpu_model("") != ""


def test_measured_counts_the_childs_time_and_memory(monkeypatch):
    monkeypatch.setenv("BENCH_PROBE", "seen")
    code = "import os, time; held = b'x' * 150_000_000; time.sleep(0.2); print(os.environ['BENCH_PROBE'])"
    stdout, outside = whole_job.measured([sys.executable, "-c", code], dict(whole_job.os.environ))
    assert stdout == "seen\n"
    assert outside["wall_seconds"] >= 0.2
    assert outside["peak_rss_mb"] >= 143, "150 MB are 143 MiB, and they were all held"


def test_a_failed_child_shows_the_tail_of_its_errors():
    code = "import sys; [print(f'line {i}', file=sys.stderr) for i in range(100)]; sys.exit(7)"
    with pytest.raises(whole_job.JobError) as caught:
        whole_job.measured([sys.executable, "-c", code], dict(whole_job.os.environ))
    message = str(caught.value)
    assert "status 7" in message and message.endswith("line 99") and "line 10\n" not in message


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A command line whose files are there: six rows, and a checkpoint that no fake contender opens."""
    # Of that in bfloat16 ours, as it is faked below, takes a quarter.
    ours = 6 * 3 * (4 * 16 + 2 * 32) * 25.0 * 50.0
    monkeypatch.setattr(whole_job, "product_peaks", lambda: {"no": ours * 2, "bf16": ours * 4})
    data, checkpoint = tmp_path / "data", tmp_path / "model"
    (data / "mrpc").mkdir(parents=True)
    checkpoint.mkdir()
    for name in ("train.tsv", "dev.tsv"):
        rows = [f"{i % 2}\ta\u2028{i}\tb" for i in range(6)]
        text = "\n".join(["Quality\t#1 String\t#2 String", *rows])  # no line end after the last row
        (data / "mrpc" / name).write_text(text, encoding="utf-8-sig")
    (checkpoint / "model.safetensors").touch()
    sizes = {"hidden_size": 4, "num_hidden_layers": 3, "intermediate_size": 8}
    (checkpoint / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    return ["--data", str(data), "--checkpoint", str(checkpoint), "--peers-python", sys.executable]


OUR_FAKE = """
import json, os, pathlib, sys
rows = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").split("\\n")
assert len(rows) == 6 and rows[0].startswith("Quality") and all(len(row.split("\\t")) == 3 for row in rows[:5]), rows
assert not pathlib.Path(os.environ["TFFT_CACHE"]).exists()
output_dir = pathlib.Path(sys.argv[2])
output_dir.mkdir()
timing = {"train_seconds": 2.0, "total_seconds": 3.0, "train_samples_per_second": 20.0}
timing |= {"first_step_seconds": 1.0, "steady_samples_per_second": 25.0}
metrics = {"eval": {"accuracy": 0.5, "f1": 0.5}, "timing": timing, "environment": {"mixed_precision": "bf16"}}
metrics["train"] = {"epochs": 40.0 if sys.argv[3] == "True" else 1.0, "rows": 4, "tokens": 200}
(output_dir / "metrics.json").write_text(json.dumps(metrics))
"""

PEER_FAKE = """
import json
print("chatter")
report = {"train_samples_per_second": 10.0, "total_seconds": 6.0, "accuracy": 0.25, "f1": 0.25}
print(json.dumps({**report, "first_step_seconds": 4.0, "steady_samples_per_second": 5.0}))
"""


def test_a_whole_bench_of_fake_contenders(monkeypatch, capsys, tmp_path, arguments):
    python, output = sys.executable, tmp_path / "bench.json"
    monkeypatch.setattr(
        whole_job,
        "our_command",
        lambda settings, folder, frozen=False: [
            python,
            "-c",
            OUR_FAKE,
            str(settings.train_file),
            str(folder),
            str(frozen),
        ],
    )
    monkeypatch.setattr(whole_job, "peer_command", lambda *ignored: [python, "-c", PEER_FAKE])
    assert whole_job.main([*arguments, "--max-train-samples", "4", "--output", str(output)]) == 0
    said = capsys.readouterr()
    order = [line.split()[2] for line in said.err.splitlines() if line.startswith("round ")]
    ours, course, trainer, fast, frozen = names = [
        *("tfft", "keras_course", "hf_trainer", "hf_trainer_fast", "tfft_features")
    ]
    second, third = [course, trainer, fast, frozen, ours], [trainer, fast, frozen, ours, course]
    fourth, fifth = [fast, frozen, ours, course, trainer], [frozen, ours, course, trainer, fast]
    assert order == [*names, *second, *third, *fourth, *fifth]
    assert "an epoch takes 2.5% (2.5%-2.5%) of one of full" in " ".join(said.out.split())
    assert "2.00 (2.00-2.00)" in said.out and "More than 1 is better for tfft" in said.out
    report = json.loads(output.read_text(encoding="utf-8"))
    assert {name: len(own) for name, own in report["runs"].items()} == dict.fromkeys(names, 5)
    assert report["times_better_than"][trainer]["train_samples_per_second"]["median"] == 2.0
    assert report["times_better_than"][course]["total_seconds"]["median"] == 2.0
    assert report["runs"][ours][0]["steady_tokens_per_second"] == 25.0 * 50.0
    assert report["runs"][ours][0]["peak_share"] == pytest.approx(0.25)
    assert report["runs"][trainer][0]["peak_share"] == pytest.approx(0.1)
    assert report["runs"][fast][0]["peak_share"] == pytest.approx(0.05)
    assert report["settings"]["train_samples"] == 4
    assert report["machine"]["cores"] >= 1 and "python" in report["versions"]["peers"]
    assert list(tmp_path.glob("*.part")) == []


def test_another_data_set_beside_some_of_the_contenders(monkeypatch, capsys, tmp_path, arguments):
    """Everybody is told its columns; without feature extraction nothing is said of it."""
    told = {}
    fakes = {"our_command": whole_job.our_command, "peer_command": whole_job.peer_command}
    monkeypatch.setattr(
        whole_job,
        "our_command",
        lambda settings, folder, frozen=False: (
            told.update(tfft=fakes["our_command"](settings, folder, frozen))
            or [sys.executable, "-c", OUR_FAKE, str(settings.train_file), str(folder), str(frozen)]
        ),
    )
    monkeypatch.setattr(
        whole_job,
        "peer_command",
        lambda python, script, *rest: (
            told.update({script: fakes["peer_command"](python, script, *rest)}) or [sys.executable, "-c", PEER_FAKE]
        ),
    )
    (pathlib.Path(arguments[1]) / "mrpc").rename(pathlib.Path(arguments[1]) / "sst2")
    output = tmp_path / "bench.json"
    wanted = ["--dataset", "sst2", "--beside", "hf_trainer_fast", "--max-train-samples", "4", "--rounds", "1"]
    assert whole_job.main([*arguments, *wanted, "--output", str(output)]) == 0
    assert "Feature extraction" not in capsys.readouterr().out
    report = json.loads(output.read_text(encoding="utf-8"))
    assert set(report["runs"]) == {"tfft", "hf_trainer_fast"} and "frozen_epoch_share" not in report
    assert report["settings"]["dataset"] == "sst2"
    assert {'data.text_columns=["sentence"]', "data.label_column=label"} <= set(told["tfft"])
    columns = told["hf_trainer.py"]
    assert columns[columns.index("--text-columns") + 1 :] == ["sentence", "--bf16", "--group-by-length"]
    assert columns[columns.index("--label-column") + 1] == "label"


def test_a_contender_without_a_usable_report_ends_the_bench_with_status_1(monkeypatch, capsys, arguments):
    monkeypatch.setattr(
        whole_job, "our_command", lambda settings, folder, frozen=False: [sys.executable, "-c", "print('done')"]
    )
    assert whole_job.main(arguments) == 1
    assert "tfft ended well but its report cannot be used" in capsys.readouterr().err


def test_a_checkpoint_of_unknown_sizes_is_said_with_status_2(capsys, arguments):
    config = pathlib.Path(arguments[3]) / "config.json"
    config.write_text(json.dumps({"hidden_size": 4, "num_hidden_layers": 3}), encoding="utf-8")
    assert whole_job.main(arguments) == 2
    assert "config.json has no 'intermediate_size'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_processors_product_is_measured_in_a_process():
    peaks = whole_job.product_peaks()
    assert set(peaks) == {"no", "bf16"} and min(peaks.values()) > 1e6


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *[("tfft", "bf16"), ("tfft_features", "bf16"), ("keras_course", "no")],
        *[("hf_trainer", "no"), ("hf_trainer_fast", "bf16")],
    ],
)
def test_what_a_contender_computes_in(name, precision):
    assert whole_job.precision_of(name, {"environment": {"mixed_precision": "bf16"}}) == precision


def test_a_failed_contender_ends_the_bench_with_status_1(monkeypatch, capsys, arguments):
    failing = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    monkeypatch.setattr(whole_job, "our_command", lambda settings, folder, frozen=False: failing)
    assert whole_job.main([*arguments, "--rounds", "1"]) == 1
    said = capsys.readouterr().err
    assert "no such thing" in said and "--rounds 1 is fewer than 5" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--peers-python", "absent/python"], "make bench-setup"),
        (["--peers-python", sys.executable], "set TFFT_DATA"),
        (["--peers-python", sys.executable, "--data", "absent"], "holds no mrpc/train.tsv"),
    ],
)
def test_what_is_missing_is_said_in_one_line_with_status_2(monkeypatch, capsys, arguments, said):
    monkeypatch.delenv("TFFT_DATA", raising=False)
    assert whole_job.main(arguments) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_rows_of_tsv_and_csv(tmp_path):
    tsv = tmp_path / "a.tsv"
    tsv.write_bytes('\ufeffQuality\t#1 String\t#2 String\r\n1\t" Open\tquote\r\n0\tb\tc\r\n'.encode())
    rows = peer_rows.read(tsv, ["#1 String", "#2 String"], "Quality")
    assert rows == peer_rows.Rows((['" Open', "b"], ["quote", "c"]), ["1", "0"])
    csv = tmp_path / "a.csv"
    csv.write_text('review,sentiment\n"two\nlines, ""quoted""",positive\nplain,negative\n')
    rows = peer_rows.read(csv, ["review"], "sentiment")
    assert rows == peer_rows.Rows((['two\nlines, "quoted"', "plain"],), ["positive", "negative"])
    csv.write_bytes("review,sentiment\ncafé,positive\n".encode("latin-1"))
    assert peer_rows.read(csv, ["review"], "sentiment", "latin-1").texts == (["café"],)
    with pytest.raises(SystemExit, match="no column text; it has review, sentiment"):
        peer_rows.read(csv, ["text"], "sentiment", "latin-1")


def test_label_names_by_value_or_by_spelling():
    assert peer_rows.label_names(["10", "9", "0", "9"]) == ["0", "9", "10"]
    assert peer_rows.label_names(["positive", "negative"]) == ["negative", "positive"]


def test_selected_rows_keep_text_and_label_together():
    rows = peer_rows.Rows(([f"t{i}" for i in range(20)], [f"u{i}" for i in range(20)]), [str(i) for i in range(20)])
    chosen = peer_rows.select(rows, 5, seed=3)
    assert len(chosen) == 5 and chosen == peer_rows.select(rows, 5, seed=3) and chosen != peer_rows.select(rows, 5, 4)
    assert list(zip(*chosen.texts, strict=True)) == [(f"t{i}", f"u{i}") for i in chosen.labels]
    assert peer_rows.select(rows, 0, seed=3) == rows


# --- techniques -------------------------------------------------------------------------------------------------------


def technique_run(
    technique: str, seed: int, accuracy: float, seconds: float, features_seconds: float = 0.0, epochs: float = 2.0
) -> object:
    return techniques.Run("MRPC", technique, seed, accuracy, accuracy / 2, seconds, features_seconds, epochs, 1234)


RUNS = [
    technique_run("full", 1, 0.7, 100.0),
    technique_run("full", 2, 0.8, 200.0),
    technique_run("feature extraction", 1, 0.6, 10.0, 10.0, epochs=20.0),
    technique_run("feature extraction", 2, 0.5, 30.0, 30.0, epochs=20.0),
    technique_run("BitFit", 3, 0.5, 60.0),
]


def test_seconds_of_a_technique_are_compared_within_a_seed() -> None:
    assert techniques.relative_seconds(RUNS, "feature extraction") == pytest.approx([0.2, 0.3])
    assert techniques.relative_seconds(RUNS, "BitFit") == []
    assert techniques.relative_epoch(RUNS, "feature extraction") == pytest.approx(0.0125)  # without the one pass


def test_the_table_of_techniques_has_means_and_spreads() -> None:
    shown = techniques.table(RUNS[:4])
    assert "| full | 0.750 (0.700-0.800) | 0.375 (0.350-0.400) | 1,234 | 1.00 (1.00-1.00) |" in shown
    assert "| feature extraction | 0.550 (0.500-0.600) | 0.275 (0.250-0.300) | 1,234 | 0.25 (0.20-0.30) |" in shown
    assert "BitFit" not in shown


@pytest.mark.parametrize("technique", techniques.TECHNIQUES)
@pytest.mark.parametrize("task", techniques.TASKS)
def test_every_technique_is_a_recipe_that_holds(task: str, technique: str, tmp_path: pathlib.Path) -> None:
    from tfft import recipe

    typed = techniques.command(task, technique, 1, tmp_path, tmp_path / "run")
    name, *overrides = typed[typed.index("--recipe") + 1 : -1]
    chosen = recipe.load(name, overrides)
    assert chosen.training.per_device_train_batch_size == 16
    assert chosen.output_dir == str(tmp_path / "run")


def test_prediction_is_compared_round_by_round(tmp_path: pathlib.Path) -> None:
    reports = {
        "tfft": [{"first_pass": 10.0, "later_passes": [30.0, 20.0, 90.0]}, {"first_pass": 5.0, "later_passes": [40.0]}],
        "hf_pipeline": [{"first_pass": 5.0, "later_passes": [15.0]}, {"first_pass": 10.0, "later_passes": [10.0]}],
    }
    assert predict.ratios(reports) == {"first_pass": [2.0, 0.5], "later_passes": [2.0, 4.0]}


def test_texts_to_predict_are_a_seeded_selection_of_the_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sst2").mkdir()
    lines = ["sentence\tlabel\n", *(f'phrase "{number}\t1\n' for number in range(50))]
    (tmp_path / "sst2" / "train.tsv").write_text("".join(lines))
    for name in ("one.tsv", "two.tsv"):
        predict.write_texts(tmp_path, tmp_path / name, 7)
    chosen = (tmp_path / "one.tsv").read_text().splitlines(keepends=True)
    assert chosen == (tmp_path / "two.tsv").read_text().splitlines(keepends=True)
    assert chosen[0] == lines[0] and len(set(chosen[1:])) == 7 and set(chosen) <= set(lines)


def test_the_table_of_smaller_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    smaller = load_script(BENCHMARKS / "smaller.py", "bench_smaller")
    found = [
        smaller.Measured("float16", seed, accuracy, 0.9, 45_000_000, 40_000_000, changed)
        for seed, accuracy, changed in ((1, 0.8, 0), (2, 0.9, 2))
    ]
    header, _, row = smaller.table(found, {"float16": [30.0, 10.0, 20.0]}).splitlines()
    assert len(header.split("|")) == len(row.split("|"))
    assert row == "| float16 | 45.0 | 40.0 | 20.0 | 0.850 (0.800-0.900) | 0.900 (0.900-0.900) | 1 (0-2) |"
    assert {name for name, _ in smaller.ROWS.values()} == set(smaller.TRAININGS)


def test_the_table_of_students(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    distillation = load_script(BENCHMARKS / "distillation.py", "bench_distillation")
    found = [
        distillation.Run("MRPC", row, seed, accuracy + seed / 100, 0.9, seconds)
        for row, accuracy, seconds in ((distillation.TEACHER, 0.8, 100.0), ("3 layers", 0.7, 50.0))
        for seed in (1, 3)
    ]
    found.append(distillation.Run("MRPC", "and its logits", 3, 0.76, 0.9, 60.0))
    header, _, *rows = distillation.table(found).splitlines()
    assert all(len(header.split("|")) == len(row.split("|")) for row in rows)
    assert rows[1] == "| 3 layers | 0.720 (0.710-0.730) | 0.900 (0.900-0.900) | 0.50 (0.50-0.50) |"
    assert distillation.gains(found) == "and its logits: +3.0 points of accuracy (+3.0)"


@pytest.mark.parametrize("task", ["MRPC", "SST-2", "IMDB"])
def test_students_are_trained_by_valid_recipes(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    distillation = load_script(BENCHMARKS / "distillation.py", "bench_distillation")
    data, runs = pathlib.Path("data"), pathlib.Path("runs")
    for row in distillation.ROWS:
        _, _, module, _, name, *rest = distillation.command(task, row, 7, data, runs)
        chosen = recipe.load(name, [one for one in rest if one != "--overwrite"])
        assert chosen.seed == 7
        assert (module == "tfft.distill") == (chosen.distillation is not None)
        if chosen.distillation is not None:
            assert chosen.distillation.teacher == str(distillation.folder_of(runs, task, distillation.TEACHER, 7))


def test_adaptation_is_trained_by_valid_recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    adaptation = load_script(BENCHMARKS / "adaptation.py", "bench_adaptation")
    (tmp_path / "recipe.yaml").write_text("{}\n")
    found = []
    for row in adaptation.ROWS:
        chosen = recipe.load(str(tmp_path / "recipe.yaml"), adaptation.settings_of(row, tmp_path, epochs=2))
        further = chosen.training.further_pretraining
        found.append(further and (further.epochs, further.train_file))
    assert found == [None, (2.0, None), (2.0, str(tmp_path / "texts.csv"))]
