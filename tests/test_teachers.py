"""A teacher is found, its classes and tokens are brought together with the student's, and it is asked once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfft import tasks
from tfft.data import LabelMap, Rows, Split, encode_split
from tfft.data.windows import TRUNCATE, LongText
from tfft.distillation import teachers
from tfft.distillation.teachers import Teacher
from tfft.errors import HubError, ModelError, RunError
from tfft.models import checkpoint, load, save
from tfft.models.sizes import with_sizes

TEXTS = ["a good movie", "it was bad", "the end of the day", "not you", "good good good bad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """A random classifier of two classes that tells texts apart, with its tokenizer."""
    made = tmp_path_factory.mktemp("teacher")
    found = checkpoint.find(str(tiny_checkpoint))
    model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
    for weight in model.weights:
        if "kernel" in weight.name:
            weight.assign(10 * weight)
    save.save(model, checkpoint.load_tokenizer(found), made)
    return made


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same in a folder that may be changed."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def found_in(path: Path) -> Teacher:
    return teachers.find(str(path), path.parent / "student")


def split_of(teacher: Teacher, texts: list[str] = TEXTS, long_text: LongText = TRUNCATE) -> Split:
    rows = Rows((texts,), None, list(range(1, len(texts) + 1)), "rows")
    return encode_split("train", rows, None, teacher.tokenizer, 16, long_text=long_text)


def logits_of(teacher: Teacher, split: Split | None = None, **more: Any) -> np.ndarray:
    given: dict[str, Any] = {"max_length": 16, "long_text": TRUNCATE, "pooling": "mean", "batch_size": 2, **more}
    return teachers.logits(teacher, split or split_of(teacher), **given)


def change_config(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def change_weights(folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    path = folder / "model.safetensors"
    changed = {name: change(name, value) for name, value in load_file(path).items()}
    save_file(changed, path, metadata={"format": "tf"})


def test_what_it_says_is_what_its_model_says(folder: Path) -> None:
    teacher = found_in(folder)
    model = load.load_classifier(teacher.source, teacher.names, "TFAutoModelForSequenceClassification").model
    expected = np.concatenate([model(dict(teacher.tokenizer(one, return_tensors="tf"))).logits for one in TEXTS])
    found = logits_of(teacher)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0.01  # rows differ, so their order is right
    assert found.dtype == np.float32


def test_a_second_time_they_come_from_the_cache(
    folder: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, loads = tmp_path / "cache", []
    real_load = teachers.load
    monkeypatch.setattr(teachers, "load", lambda *given: loads.append(1) or real_load(*given))
    first = logits_of(found_in(folder), cache=cache)
    (file,) = cache.iterdir()
    np.testing.assert_array_equal(logits_of(found_in(folder), cache=cache), first)
    # The same teacher elsewhere is the same.
    np.testing.assert_array_equal(logits_of(found_in(copy), cache=cache), first)
    assert len(loads) == 1
    file.write_bytes(file.read_bytes()[:-4])
    np.testing.assert_array_equal(logits_of(found_in(folder), cache=cache), first)
    assert len(loads) == 2
    # Other rows, and another teacher, are asked anew.
    logits_of(found_in(folder), split_of(found_in(folder), TEXTS[:2]), cache=cache)
    change_weights(copy, lambda name, value: value + 1 if "classifier/bias" in name else value)
    np.testing.assert_allclose(logits_of(found_in(copy), cache=cache), first + 1, rtol=1e-5)
    assert len(loads) == 4 and len(list(cache.iterdir())) == 3


def test_a_teacher_reads_with_its_own_vocabulary(folder: Path, copy: Path) -> None:
    """Two words change places among the tokens, and so do their embeddings: it says what it said."""
    teacher = found_in(folder)
    good, bad = (teacher.tokenizer.convert_tokens_to_ids(word) for word in ("good", "bad"))
    written = json.loads((copy / "tokenizer.json").read_text())
    written["model"]["vocab"] |= {"good": bad, "bad": good}
    (copy / "tokenizer.json").write_text(json.dumps(written))

    def swapped(name: str, value: np.ndarray) -> np.ndarray:
        if "word_embeddings" not in name:
            return value
        order = np.arange(len(value))
        order[[good, bad]] = bad, good
        return value[order]

    change_weights(copy, swapped)
    other = found_in(copy)
    assert other.tokenizer.get_vocab() != teacher.tokenizer.get_vocab()
    # The student's tokens are those of the first.
    split = split_of(teacher)
    np.testing.assert_allclose(logits_of(other, split), logits_of(teacher, split), rtol=1e-4, atol=1e-6)


def test_windows_of_a_text_speak_together(folder: Path) -> None:
    teacher, windows = found_in(folder), LongText("sliding_window", 4)
    split = split_of(teacher, ["good", "bad the day " * 9], windows)
    assert split.encoded.window_starts is not None and split.encoded.window_starts[-1] > 2
    found = logits_of(teacher, split, long_text=windows)
    assert found.shape == (2, 2)
    alone = logits_of(teacher, split_of(teacher, ["good"], windows), long_text=windows)
    np.testing.assert_allclose(found[:1], alone, rtol=1e-5)


def test_a_teacher_with_fewer_positions_reads_less(folder: Path, copy: Path) -> None:
    change_config(copy, max_position_embeddings=8)
    change_weights(copy, lambda name, value: value[:8] if "position_embeddings" in name else value)
    long = "good bad the day " * 4
    shortened = logits_of(found_in(folder), split_of(found_in(folder), [long]), max_length=8)
    np.testing.assert_allclose(logits_of(found_in(copy), split_of(found_in(folder), [long])), shortened, rtol=1e-4)


def test_classes_are_matched_by_name(folder: Path, copy: Path) -> None:
    def order(names: tuple[str, ...], path: Path = folder) -> list[int]:
        return teachers.order_of_classes(found_in(path), LabelMap(names, names))

    assert order(("bad", "good")) == [0, 1]
    assert order(("good", "bad")) == [1, 0]
    with pytest.raises(ModelError, match=r"trained for the labels 'bad', 'good', and the rows have 'bad', 'fine'"):
        order(("bad", "fine"))
    with pytest.raises(ModelError, match="regression"):
        teachers.order_of_classes(found_in(folder), LabelMap(("label",), (), tasks.REGRESSION))
    # Nobody has named these.
    change_config(copy, id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})
    assert order(("good", "bad"), copy) == [0, 1]
    with pytest.raises(ModelError, match="LABEL_0"):
        order(("a", "b", "c"), copy)


def test_logits_stand_behind_the_labels_in_the_order_of_the_rows_classes(folder: Path) -> None:
    split = split_of(found_in(folder))
    logits = np.arange(10, dtype=np.float32).reshape(5, 2)
    labelled = Split(split.name, split.rows, split.encoded, np.array([1, 0, 1, 0, 1], np.int32))
    packed = teachers.with_logits(labelled, logits, [1, 0], keeps_labels=True).labels
    assert packed is not None and packed.dtype == np.float32
    assert packed[:2].tolist() == [[1, 1, 0], [0, 3, 2]]
    alone = teachers.with_logits(split, logits, [0, 1], keeps_labels=False).labels
    np.testing.assert_array_equal(alone, logits)


def test_what_is_no_number_is_refused(copy: Path) -> None:
    change_weights(copy, lambda name, value: value * np.nan if "classifier/bias" in name else value)
    with pytest.raises(ModelError, match=r"distillation.teacher: .* answers rows row 1 with something that is no numb"):
        logits_of(found_in(copy))


def test_what_is_no_teacher(copy: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"distillation.teacher: .* is a BertModel, which gives no labels"):
        teachers.find(str(tiny_checkpoint), tmp_path / "run")
    with pytest.raises(RunError, match=r"distillation.teacher: .* lies in output_dir"):
        teachers.find(str(copy), copy.parent)
    with pytest.raises(RunError, match=r"distillation.teacher: .* lies in output_dir"):
        teachers.find(str(copy), copy)
    (copy / "recipe.yaml").write_text("")
    with pytest.raises(RunError, match=r"^distillation.teacher: .* holds an unfinished run; finish it with"):
        found_in(copy)
    with pytest.raises(ModelError, match=r"^distillation.teacher: .*/non/such"):
        teachers.find(str(tmp_path / "non/such"), tmp_path / "run")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"^distillation.teacher: "):
        teachers.find("nobody/nothing", tmp_path / "run")


def test_sizes_that_do_not_divide(tiny_checkpoint: Path) -> None:
    found = checkpoint.find(str(tiny_checkpoint))
    with pytest.raises(ModelError, match=r"a hidden_size of 15 with 2 num_attention_heads; .* such as 14"):
        with_sizes(found, {"hidden_size": 15}, "distillation.student")
