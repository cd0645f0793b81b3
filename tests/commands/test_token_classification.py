"""Whole trainings whose words have labels, from CoNLL files and columns of lists."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer, TFAutoModelForTokenClassification

import tfft
from tests.commands.conftest import Job
from tfft import data, plan, predictions, recipe, tasks, training
from tfft.backend import tf
from tfft.data import batches
from tfft.errors import DataError, RecipeError
from tfft.models import heads

PEOPLE, PLACES = ("good", "nice", "fine", "great"), ("bad", "poor", "awful", "sad")


def sentences(count: int, begin: int = 0) -> list[tuple[list[str], list[str]]]:
    """Sentences in which some words are names of two kinds, one of them of two words."""
    found = []
    for index in range(begin, begin + count):
        words = ["the", "movie", "was", PEOPLE[index % 4], PEOPLE[(index + 1) % 4], "and"] + ["so"] * (index % 5)
        tags = ["O", "O", "O", "B-PER", "I-PER", "O"] + ["O"] * (index % 5)
        found.append(([*words, PLACES[index % 4]], [*tags, "B-LOC"]))
    return found


def conll(rows: list[tuple[list[str], list[str]]]) -> str:
    return "\n".join("".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows)


def json_lines(rows: list[tuple[list[str], list[str]]]) -> str:
    return "".join(json.dumps({"tokens": words, "tags": tags}) + "\n" for words, tags in rows)


def settings(job: Job, **changes: Any) -> dict[str, Any]:
    (job.folder / "train.conll").write_text(conll(sentences(40)))
    (job.folder / "validation.conll").write_text(conll(sentences(11, begin=100)))
    base: dict[str, Any] = {
        "task": "token-classification",
        "seed": 1,
        "model": {"name_or_path": str(job.checkpoint)},
        "data": {
            "train_file": str(job.folder / "train.conll"),
            "validation_file": str(job.folder / "validation.conll"),
            "text_columns": ["tokens"],
            "label_column": "tags",
        },
        "training": {"num_train_epochs": 12, "learning_rate": 1e-2, "per_device_train_batch_size": 8},
        "output_dir": str(job.run),
    }
    return {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in base.items()}


@pytest.mark.slow
def test_several_steps_in_an_execution(job: Job) -> None:
    training = {"num_train_epochs": 1}
    result = tfft.fit(**settings(job, training=training), runtime={"steps_per_execution": 4}, verbose=False)
    usual = tfft.fit(**settings(job, training=training), overwrite=True, verbose=False)
    assert result.scores["eval"]["loss"] == pytest.approx(usual.scores["eval"]["loss"], rel=1e-5)
    assert len(result.predict(["the good movie"])[0]) == 3


def test_words_get_their_tags(job: Job) -> None:
    result = tfft.fit(**settings(job), verbose=False)
    scores = result.scores["eval"]
    assert set(scores) == {"loss", "precision", "recall", "f1", "accuracy"}
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    given = [words for words, _ in sentences(11, begin=100)]
    answers = result.predict([*given, "the good movie"])
    assert [[one.word for one in answer] for answer in answers] == [*given, ["the", "good", "movie"]]
    assert result.label_names == ("B-LOC", "B-PER", "I-PER", "O")
    with (job.run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = [
        {"row": str(row + 1), "word_number": str(place + 1), "word": one.word, "label": tag, "prediction": one.tag}
        for row, ((_, tags), answer) in enumerate(zip(sentences(11, begin=100), answers, strict=False))
        for place, (tag, one) in enumerate(zip(tags, answer, strict=True))
    ]
    assert [{key: value for key, value in row.items() if key != "probability"} for row in rows] == told
    judged = predictions.read(job.run / "predictions.csv", tasks.TOKENS)
    assert judged is not None
    assert judged.right.tolist() == [
        tags == [one.tag for one in answer]
        for (_, tags), answer in zip(sentences(11, begin=100), answers, strict=False)
    ]
    config = AutoConfig.from_pretrained(job.run / "model")
    assert config.id2label == {0: "B-LOC", 1: "B-PER", 2: "I-PER", 3: "O"}
    assert config.architectures == ["BertForTokenClassification"]
    # What anyone would do with the folder.
    model = TFAutoModelForTokenClassification.from_pretrained(job.run / "model")
    tokenizer = AutoTokenizer.from_pretrained(job.run / "model")
    encoded = tokenizer([given[0]], is_split_into_words=True, return_tensors="tf")
    likeliest = model(encoded).logits[0].numpy().argmax(axis=-1)
    first = {word: place for place, word in reversed(list(enumerate(encoded.word_ids(0)))) if word is not None}
    assert [config.id2label[likeliest[first[word]]] for word in range(len(given[0]))] == [one.tag for one in answers[0]]


def prepared(job: Job, **changes: Any) -> tuple[recipe.Recipe, data.Prepared, Any]:
    chosen = recipe.from_mapping(settings(job, **changes))
    tokenizer = AutoTokenizer.from_pretrained(job.checkpoint)
    splits = data.read(chosen.data, 0, problem_type=tasks.TOKENS)
    return chosen, data.encode_splits(splits, tokenizer, 32, problem_type=tasks.TOKENS), tokenizer


def test_lists_are_read_as_conll_is(job: Job) -> None:
    _, expected, _ = prepared(job)
    (job.folder / "train.jsonl").write_text(json_lines(sentences(40)))
    _, found, _ = prepared(job, data={"train_file": str(job.folder / "train.jsonl")})
    assert found.label_map == expected.label_map
    assert found.train.labels is not None and expected.train.labels is not None
    assert found.train.labels.tolist() == expected.train.labels.tolist()
    assert found.train.encoded.input_ids.tolist() == expected.train.encoded.input_ids.tolist()


@pytest.mark.parametrize("batching", ["bucketed", "padded"])
@pytest.mark.parametrize("static_shapes", [False, True])
def test_every_label_is_in_an_epoch_once(job: Job, batching: str, static_shapes: bool) -> None:
    chosen, ready, tokenizer = prepared(job, data={"batching": batching})
    made = plan.make(chosen.data, chosen.training, ready.train.encoded, 32)
    dataset = training.make_batches(ready.train, chosen.data, made, tokenizer, 0, static_shapes)
    found = []
    for _, labels, *_ in dataset.take(made.batches_per_epoch):
        found += labels.numpy()[labels.numpy() != -100].tolist()
    assert ready.train.labels is not None
    assert sorted(found) == sorted(ready.train.labels[ready.train.labels != -100].tolist())


@pytest.mark.parametrize("static_shapes", [False, True])
def test_the_loss_of_a_window_is_the_mean_over_its_tokens(job: Job, static_shapes: bool) -> None:
    """Batches of 8 of 40 rows by threes: the epoch's weighted losses are those of 24 and of 16 rows at once."""
    _, ready, tokenizer = prepared(job)
    split, loss = ready.train, heads.TokenCrossEntropyFromLogits()
    assert split.labels is not None
    dataset = batches.bucketed(
        split.encoded,
        split.labels,
        batch_size=7,
        widths=(16, 32),
        seed=0,
        tokenizer=tokenizer,
        static_shapes=static_shapes,
        gradient_accumulation_steps=3,
        of_tokens=True,
    )
    by_batch, sums, counts = [], [], []
    for inputs, labels, weights in dataset.take(6):
        logits = tf.one_hot(inputs["input_ids"] % 4, 4) * 3.0  # the same for a token wherever it is
        by_batch.append(float(loss(labels, logits, sample_weight=weights)))
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits).numpy()
        sums.append(each[labels.numpy() != -100].sum())
        counts.append((labels.numpy() != -100).sum())
    for window in (slice(0, 3), slice(3, 6)):
        assert np.mean(by_batch[window]) == pytest.approx(sum(sums[window]) / sum(counts[window]), rel=1e-5)


@pytest.mark.slow
def test_all_pieces_of_a_word_are_trained_where_that_is_asked_for(job: Job) -> None:
    losses = {}
    for every in (False, True):
        made = settings(job, data={"label_all_tokens": every}, training={"max_steps": 1})
        result = tfft.fit(**{**made, "output_dir": str(job.folder / f"run-{every}")}, verbose=False)
        losses[every] = result.history[0]["loss"]
    assert losses[True] != pytest.approx(losses[False], rel=1e-4)


def test_the_loss_of_tokens_is_that_of_classes() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 5, 4)).astype(np.float32)
    labels = random.integers(0, 4, (3, 5)).astype(np.int32)
    labels[0, 2:] = labels[2, 0] = -100
    counts = labels != -100
    for options in ({}, {"focal_gamma": 2.0}, {"label_smoothing": 0.1}, {"class_weights": [1.0, 2.0, 3.0, 4.0]}):
        expected = heads.CrossEntropyFromLogits(**options)(labels[counts], logits[counts])
        assert float(heads.TokenCrossEntropyFromLogits(**options)(labels, logits)) == pytest.approx(float(expected))
    twice = np.concatenate([labels, labels]), np.concatenate([logits, logits])
    assert float(heads.TokenCrossEntropyFromLogits(r_drop_alpha=2.0)(*twice)) == pytest.approx(
        float(heads.TokenCrossEntropyFromLogits()(labels, logits))
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "lora"},
        {"strategy": "bitfit"},
        {"strategy": "feature_extraction", "gradient_accumulation_steps": 2},
        {
            "strategy": "gradual_unfreezing",
            "stages": [{"unfreeze": "head"}, {"unfreeze": "all"}],
            "num_train_epochs": 2,
        },
        {"r_drop_alpha": 1.0, "gradient_accumulation_steps": 3, "class_weight": "balanced", "focal_gamma": 1.0},
        {"fgm_epsilon": 0.5, "ema_momentum": 0.9, "layerwise_lr_decay": 0.9, "label_smoothing_factor": 0.1},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_techniques_work_on_words(job: Job, changes: dict[str, Any]) -> None:
    result = tfft.fit(**settings(job, training={"num_train_epochs": 1, **changes}), verbose=False)
    assert np.isfinite(result.scores["eval"]["loss"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"text_columns": ["a", "b"]}}, "data.text_columns: .*expected one column, since task is token-class"),
        ({"model": {"head": "mean"}}, "model.head: got 'mean'; expected default, since task is token-classification"),
        (
            {"training": {"strategy": "feature_extraction"}, "data": {"batching": "padded"}},
            "data.batching: got 'padded'; expected bucketed, since .* training.strategy is feature_extraction",
        ),
        (
            {"training": {"gradient_accumulation_steps": 2}, "data": {"batching": "padded"}},
            "data.batching: got 'padded'; expected bucketed",
        ),
        ({"training": {"metrics": ["accuracy"]}}, r"training.metrics\[0\]: got 'accuracy'; expected one of seqeval"),
    ],
)
def test_what_does_not_go_with_words(job: Job, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe.from_mapping(settings(job, **changes))


def test_tags_that_break_bio_are_counted_and_refused_where_that_is_asked_for(job: Job) -> None:
    made = settings(job)
    (job.folder / "train.conll").write_text("a\tO\nb\tI-PER\n\nc\tB-LOC\nd\tI-PER\n" + conll(sentences(3)))
    said = "2 tags of train break BIO .*first 'I-PER' at word 2 \\('b'\\) of train.conll row 1 \\(line 1\\)"
    chosen = recipe.from_mapping(made)
    splits = data.read(chosen.data, 0, problem_type=tasks.TOKENS)
    tokenizer = AutoTokenizer.from_pretrained(job.checkpoint)
    notes = data.encode_splits(splits, tokenizer, 32, problem_type=tasks.TOKENS).notes
    assert any(re.search(said, note) for note in notes)
    with pytest.raises(DataError, match=said):
        data.encode_splits(splits, tokenizer, 32, problem_type=tasks.TOKENS, strict=True)
    with pytest.raises(DataError, match=said):
        tfft.fit(**{**made, "data": {**made["data"], "strict": True}}, verbose=False)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "train.jsonl",
            '{"tokens": ["a", "b"], "tags": ["O"]}\n',
            r"row 1 \(line 1\): column 'tags' has 1 tag for 2 words",
        ),
        ("train.jsonl", '{"tokens": "a b", "tags": ["O"]}\n', "column 'tokens' has a string, expected a list of texts"),
        ("train.csv", "tokens,tags\na b,O O\n", "column 'tokens' has a string, expected a list of texts.* CoNLL file"),
        ("train.conll", "a\tO\nb\n", "line 2"),
    ],
)
def test_words_that_cannot_be_used(job: Job, name: str, text: str, words: str) -> None:
    (job.folder / name).write_text(text)
    changes = {"data": {"train_file": str(job.folder / name)}}
    made = settings(job, **changes)
    (job.folder / name).write_text(text)
    with pytest.raises(DataError, match=words):
        tfft.fit(**made, verbose=False)
    assert not Path(job.run).exists()


def test_weights_of_rows_are_not_for_conll(job: Job) -> None:
    with pytest.raises(
        DataError, match=r"sample_weight_column: got 'w'; expected null, since train\.conll is in CoNLL's"
    ):
        tfft.fit(**settings(job, data={"sample_weight_column": "w"}))
