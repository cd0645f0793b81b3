"""The small encoder that comes with tfft: what is stored, how it loads, and that meaning counts in it."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from safetensors.numpy import load_file

from tfft import hardware, locations, recipe
from tfft.models import checkpoint, load, save

ROOT = Path(__file__).resolve().parent.parent
NAME = "package:tfft/tiny"
FOLDER = locations.resolve(NAME)
MOST_BYTES = 12_000_000


def test_it_is_small_and_whole() -> None:
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix not in (".py", ".pyc") and path.is_file()}
    assert set(files) == {"README.md", "config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"}
    assert sum(path.stat().st_size for path in files.values()) <= MOST_BYTES
    assert {tensor.dtype for tensor in load_file(files["model.safetensors"]).values()} == {np.dtype(np.float16)}


def test_its_readme_is_about_these_weights() -> None:
    said = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest() in said


def test_it_has_the_sizes_of_its_recipe() -> None:
    distillation = recipe.load("tiny/encoder").distillation
    assert distillation is not None and distillation.student is not None
    config = checkpoint.find(NAME).config
    sizes = distillation.student.model_dump()
    assert {name: getattr(config, name) for name in sizes} == sizes


def test_it_loads_in_float32_with_nothing_new_but_a_classifier_and_its_pooler() -> None:
    found = checkpoint.find(NAME)
    filling = load.load_model(found, "TFAutoModelForMaskedLM")
    assert (filling.new, filling.unused) == ((), ())
    assert {str(weight.dtype) for weight in filling.model.weights} == {"<dtype: 'float32'>"}
    classifier = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification")
    assert {name.split(".")[-3 if "pooler" in name else 0] for name in classifier.new} == {"pooler", "classifier"}


def same_intent_nearby(source: checkpoint.Checkpoint) -> float:
    """For how many of the quickstart's messages the nearest other one has the same intent, by their first tokens."""
    with (locations.resolve("package:tfft/quickstart") / "validation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts, intents = [row["text"] for row in rows], np.array([row["intent"] for row in rows])
    inputs = checkpoint.load_tokenizer(source)(texts, padding=True, return_tensors="tf")
    states = load.load_model(source, "TFAutoModel").model(dict(inputs)).last_hidden_state[:, 0].numpy()
    states -= states.mean(0)
    states /= np.linalg.norm(states, axis=-1, keepdims=True)
    near = states @ states.T
    np.fill_diagonal(near, -1)
    return float((intents[near.argmax(-1)] == intents).mean())


def test_it_knows_what_texts_are_about_and_random_weights_do_not() -> None:
    hardware.set_seed(1)
    found = checkpoint.find(NAME)
    ours, random = same_intent_nearby(found), same_intent_nearby(replace(found, weights=()))
    assert ours > 0.35  # one of eight intents by chance
    assert random < ours - 0.15


# --- What made it -----------------------------------------------------------------------------------------------------


def script(name: str) -> ModuleType:
    """A file of `recipes/tiny`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / "tiny" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WORDNET = """  1 This software and database is being provided
00015388 03 n 02 animal 0 animate_being 0 001 @ 00004475 n 0000 | a living organism; "the animal ran across the road"
00002325 00 a 01 abaxial(p) 0 001 ! 00002527 a 0101 | facing away from the axis
"""


def test_texts_are_gathered_from_what_is_published(tmp_path: Path) -> None:
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text(WORDNET if part == "noun" else "", encoding="utf-8")
    phrases = "a film of eight words and no more\t1\ntoo short\t0\n"
    for name, content in {
        "sst2/train.tsv": f"sentence\tlabel\n{phrases}",
        "mrpc/train.tsv": '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\tHe said "no".\tHe  SAID "no".\n',
        "stsb/train.tsv": "head\n" + "\t".join(["x"] * 7 + ["A dog runs.", "A dog walks.", "5.0"]) + "\n",
        "imdb/reviews.csv": 'review,sentiment\n"Good one.<br />It was very good! I liked it. No.",positive\n',
        "talk/greetings.yml": "categories: [x]\nconversations:\n- ['How are you?', Fine]\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    rated = b"1\t2.5\tThe kettle broke today.\n2\t1.0\tBroke.\n"
    with tarfile.open(tmp_path / "rated.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("hutto/amazonReviewSnippets_GroundTruth.txt")
        member.size = len(rated)
        archive.addfile(member, io.BytesIO(rated))
    found = script("texts").gathered(tmp_path, tmp_path, tmp_path / "rated.tar.gz", tmp_path / "talk")
    assert sorted(found) == sorted(
        [
            "animal, animate being: a living organism",
            "the animal ran across the road",
            "abaxial: facing away from the axis",
            "a film of eight words and no more",
            'He said "no".',
            "A dog runs.",
            "A dog walks.",
            "Good one. It was very good!",
            "I liked it. No.",
            "How are you?",
            "The kettle broke today.",
        ]
    )


def test_what_is_stored_is_the_run_s_model_in_half_of_the_space(tmp_path: Path) -> None:
    found = checkpoint.find(str(ROOT / "tests" / "fixtures" / "tiny_bert_torch"))
    model = load.load_model(found, "TFAutoModelForMaskedLM").model
    save.save(model, checkpoint.load_tokenizer(found), tmp_path / "run" / "model")
    size = script("store").store(tmp_path / "run", tmp_path / "stored")
    assert size == sum(path.stat().st_size for path in (tmp_path / "stored").iterdir())
    again = load.load_model(checkpoint.find(str(tmp_path / "stored")), "TFAutoModelForMaskedLM")
    assert (again.new, again.unused) == ((), ())
    for one, other in zip(again.model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy().astype(np.float16).astype(np.float32))
