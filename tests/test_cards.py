"""Model cards: what they say is what the figures say, and whatever data call themselves stays text."""

from __future__ import annotations

import copy
import getpass
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt

from tfft import cards, recipe, tasks
from tfft.cards import licences
from tfft.cards.limits import limits
from tfft.cards.markdown import escaped, fenced, listed
from tfft.cards.subject import agrees, hub_id
from tfft.console import printable
from tfft.errors import RunError

NASTY = (
    *(
        "<script>alert(1)</script>",
        "---",
        "|",
        "a\nb\r\n---\n# c",
        "`code` ```",
        "{{ subject.labels }} {% raw %}",
        "* _x_ *",
    ),
    *(
        "1. one",
        "- two",
        "&lt;",
        "$x$",
        "[a](http://b)",
        "www.a.b",
        "@me",
        "\\",
        "-->",
        "<!--",
        "\u2028",
        "\ud800",
        "é",
    ),
)


def score(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "undefined": 0}


def a_class(name: str, wanted: int, predicted: int, right: int, f1: float | None) -> dict[str, Any]:
    scores = {"precision": score(0.5), "recall": score(0.25), "f1": score(f1, 0.125, 0.875)}
    return {"name": name, "wanted": wanted, "predicted": predicted, "right": right, **scores}


def an_evaluation(**changes: Any) -> dict[str, Any]:
    """Of a good model on many rows, of which nothing is to be warned of."""
    return {
        "rows": 2000,
        "unit": "rows",
        "scores": {"loss": score(0.1, 0.09, 0.11), "accuracy": score(0.95, 0.94, 0.96)},
        "classes": [a_class("bad", 1000, 980, 940, 0.95), a_class("good", 1000, 1020, 960, 0.951)],
        "calibration": {"ece": 0.0125},
        "residuals": None,
        "slices": [
            {"by": "tokens", "name": "3 to 17", "rows": 1000},
            {"by": "tokens", "name": "18 to 40", "rows": 1000},
        ],
        **changes,
    }


def a_subject(
    settings: Mapping[str, Any] = {},
    evaluations: Mapping[str, Any] | None = None,
    labels: tuple[str, ...] = ("bad", "good"),
    **changes: Any,
) -> cards.Subject:
    base = {
        "task": "text-classification",
        "output_dir": "/home/someone/runs/mine",
        "model": {"name_or_path": "/home/someone/models/tiny"},
        "data": {
            "train_file": "/home/someone/data/train.csv",
            "validation_file": "C:\\someone\\validation.csv",
            "text_columns": ["text"],
        },
    }
    found = {"validation": an_evaluation()} if evaluations is None else evaluations
    given: dict[str, Any] = {
        "repository": "owner/name",
        "licence": "mit",
        "licence_file": None,
        "recipe": recipe.from_mapping({**base, **settings}),
        "metrics": {
            "eval": {"loss": 0.1, "accuracy": 0.95},
            "train": {"rows": 4000, "tokens": 40000, "steps": 100, "epochs": 2.0, "kept_epoch": 2, "parameters": 7442},
            "environment": {"tfft": "0.1.0", "mixed_precision": "no"},
        },
        "config": {"id2label": {str(at): name for at, name in enumerate(labels)}, "threshold": 0.25},
        "evaluations": found,
        **changes,
    }
    return cards.Subject(**given)


def tables(card: str) -> list[list[list[str]]]:
    """The text of every cell, as who reads the page sees it."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(ModelCard(card).text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level > 3:
            found[-1][-1].append("".join(one.content for one in token.children or ()))
    return found


def html(card: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(ModelCard(card).text)
    inline = [child for token in tokens for child in token.children or ()]
    return [one.content.strip() for one in (*tokens, *inline) if one.type in ("html_block", "html_inline")]


def shown(name: str) -> str:
    return " ".join(printable(name).split())


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_a_card_says_what_the_figures_say() -> None:
    card = cards.write(a_subject())
    found = {row[0]: row[1:] for one in tables(card) for row in one}
    assert found["loss"] == ["0.1000", "0.0900 to 0.1100"]
    assert found["accuracy"] == ["0.9500", "0.9400 to 0.9600"]
    assert found["bad"] == ["1,000", "980", "940", "0.5000", "0.2500", "0.9500", "0.1250 to 0.8750"]
    assert found["train"] == ["train.csv"] and found["validation"] == ["validation.csv"]
    assert "on 4,000 rows with 40,000 tokens, some 10 each" in card
    assert "3 to 17, 18 to 40" in card and "calibration error: 0.0125" in card


def test_training_rows_of_each_class_are_told_where_the_run_has_kept_them() -> None:
    older = a_subject()
    assert "Training rows" not in cards.write(older)
    metrics = {**older.metrics, "train_classes": {"bad": 1, "good": 3999}}
    assert [["Class", "Training rows"], ["good", "3,999"], ["bad", "1"]] in tables(
        cards.write(a_subject(metrics=metrics))
    )
    names = {name: 40 - at for at, name in enumerate(NASTY)}
    card = cards.write(a_subject(metrics={**older.metrics, "train_classes": names}))
    told = next(one for one in tables(card) if one[0] == ["Class", "Training rows"])
    assert told[1:] == [[shown(name), f"{count}"] for name, count in names.items()]
    assert len(html(card)) == len(html(cards.write(older))), "names are text"
    many = {f"c{at}": at for at in range(150)}
    card = cards.write(a_subject(metrics={**older.metrics, "train_classes": many}))
    assert "| c50 | 50 |" in card and "| c49 | 49 |" not in card
    assert "Those are the 100 with the most of 150." in card


def test_front_matter_is_what_the_hub_wants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        "model": {"name_or_path": "google-bert/bert-base-uncased"},
        "data": {
            "dataset_name": "nyu-mll/glue",
            "dataset_config_name": "mrpc",
            "text_columns": ["sentence1", "sentence2"],
        },
    }
    data = ModelCard(cards.write(a_subject(settings))).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "text-classification")
    assert (data.base_model, data.datasets, data.metrics) == (
        "google-bert/bert-base-uncased",
        ["nyu-mll/glue"],
        ["accuracy"],
    )
    [result] = data.eval_results
    assert (result.task_type, result.metric_type, result.metric_value) == ("text-classification", "accuracy", 0.95)
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "mrpc", "validation")
    index = yaml.safe_load(cards.write(a_subject(settings)).split("---\n")[1])["model-index"]
    assert model_index_to_eval_results(index) == ("name", [result])

    # A folder of that name is not on the hub.
    (tmp_path / "google-bert" / "bert-base-uncased").mkdir(parents=True)
    assert hub_id("google-bert/bert-base-uncased") is None
    assert ModelCard(cards.write(a_subject(settings))).data.base_model is None


def test_a_split_without_intervals_says_so() -> None:
    metrics = {**a_subject().metrics, "test": {"loss": 0.2, "accuracy": 0.9}}
    card = cards.write(a_subject(metrics=metrics))
    assert card.count("their intervals are not known") == 1
    assert ["accuracy", "0.9000", "-"] in [row for one in tables(card) for row in one]
    assert [one.dataset_split for one in ModelCard(card).data.eval_results] == ["validation", "test"]
    card = cards.write(a_subject(evaluations={}, metrics=metrics))
    assert card.count("their intervals are not known") == 2
    assert "The validation rows were not at hand" in card
    card = cards.write(a_subject(evaluations={}, metrics={**metrics, "eval": {}, "test": {}}))
    assert "It was not validated: how well it does is not known." in card
    assert ModelCard(card).data.eval_results is None


def test_only_an_evaluation_of_the_same_rows_counts() -> None:
    of_run = a_subject().metrics["eval"]
    assert agrees(an_evaluation(), of_run)
    assert agrees(an_evaluation(), {**of_run, "threshold": 0.3})
    assert not agrees(an_evaluation(), {**of_run, "accuracy": 0.94})
    assert not agrees(an_evaluation(scores={"accuracy": score(0.95)}), of_run)
    lacking = an_evaluation()
    del lacking["slices"]
    for damaged in ({}, [], lacking, an_evaluation(scores=None), an_evaluation(scores={"loss": 1.0})):
        assert not agrees(damaged, of_run)  # type: ignore[arg-type]


# --- Limits -----------------------------------------------------------------------------------------------------------


def test_a_good_model_has_no_limits_that_its_figures_show() -> None:
    assert limits(a_subject()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"rows": 40, "scores": {"loss": score(0.1), "accuracy": score(0.95, 0.85, 1.0)}},
            "only 40 validation rows: with others like them its accuracy could as well be anything from 0.850 to 1.000",
        ),
        (
            {"classes": [a_class("bad", 1900, 2000, 1900, 0.97), a_class("good", 100, 50, 20, 0.9)]},
            "not shown to be better than always answering bad, which is right for 95.0% of the validation rows",
        ),
        ({"classes": [a_class("rare", 29, 30, 25, 0.9), a_class("b", 30, 30, 25, 0.9)]}, "say little: rare (29)."),
        ({"classes": [a_class("weak", 99, 90, 25, 0.49), a_class("b", 99, 99, 55, 0.5)]}, "below 0.5: weak (0.49)."),
        ({"classes": [a_class("none", 0, 1, 0, None), a_class("b", 99, 99, 99, 1.0)]}, "is known of it: none."),
        (
            {"classes": [a_class("never", 99, 0, 0, 0.6), a_class("b", 99, 99, 99, 1.0)]},
            "on the validation rows: never.",
        ),
        ({"calibration": {"ece": 0.21}}, "off by 0.21 on average"),
        ({"slices": [{"by": "length", "name": "cut off", "rows": 500}]}, "25.0% of the validation texts are longer"),
        ({"residuals": {"r_squared": -0.1}}, "no better than always answering the mean"),
    ],
)
def test_what_the_figures_warn_of(changes: dict[str, Any], said: str) -> None:
    found = limits(a_subject(evaluations={"validation": an_evaluation(**changes)}))
    assert [one for one in found if said in one], found


def test_what_the_recipe_warns_of() -> None:
    training = {"load_best_model_at_end": True, "early_stopping_patience": 2}
    [one] = limits(a_subject({"training": training}))
    assert one == (
        "The epoch that was kept and the end of training were chosen on the validation rows, so their scores are "
        "somewhat too good."
    )
    windows = {**a_subject().recipe.data.model_dump(exclude_none=True), "long_text": "sliding_window", "stride": 4}
    subject = a_subject({"data": {**windows, "max_length": 32}})
    assert "mean of its windows' logits" in limits(subject)[0]
    assert 'long_text=LongText("sliding_window", 4)' in cards.write(subject)


# --- Text from data ---------------------------------------------------------------------------------------------------


def test_names_are_shown_and_do_nothing() -> None:
    classes = [a_class(name, 10, 10, 9, 0.4) for name in NASTY]
    settings = {
        "data": {
            "train_file": "/x/<b>`|`.csv",
            "validation_file": "---\n.csv",
            "text_columns": ["```\n# x", "{{ 1 }}"],
            "label_column": "---",
        },
        "training": {"class_weight": {name: 1.0 for name in NASTY if name != "\ud800"}},
    }
    card = cards.write(a_subject(settings, {"validation": an_evaluation(classes=classes)}, NASTY))
    card.encode("utf-8")
    assert ModelCard(card).data.eval_results[0].dataset_name == "--- .csv"
    shown_classes = next(one for one in tables(card) if one[0][1:2] == ["Wanted"])
    assert [row[0] for row in shown_classes[1:]] == [shown(name) for name in NASTY]
    assert all(len(row) == 8 for row in shown_classes)
    assert [row[1] for one in tables(card) for row in one if row[0] in ("train", "validation")] == [
        "<b>`|`.csv",
        "--- .csv",
    ]
    assert {one.split(" ")[0].split("\n")[0] for one in html(card)} == {"<details>", "</details>", "<!--"}
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert headings == [
        *("# name", "## Data", "## Training", "## Scores", "## Limits", "## Use", "### Transformers on TensorFlow"),
        *("### tfft", "## How it was made"),
    ]
    [block] = [token.content for token in MarkdownIt("commonmark").parse(ModelCard(card).text) if token.info == "yaml"]
    assert yaml.safe_load(block)["data"]["text_columns"] == ["```\n# x", "{{ 1 }}"]


def test_one_name_alone() -> None:
    for name in filter(shown, NASTY):
        for text in (escaped(name), f"- {escaped(name)}", f"said {escaped(name)}."):
            [inline] = [one for one in MarkdownIt("commonmark").parse(text) if one.type == "inline"]
            assert {one.type for one in inline.children or ()} == {"text"}
    assert escaped("x" * 300).endswith("…") and len(escaped("x" * 300)) == 100
    assert listed(list("abcd"), most=2) == "a, b and 2 more"
    assert fenced("```` x").startswith("`````\n")


def test_nothing_of_the_machine_is_in_a_card() -> None:
    workers = {"workers": ["secret-host:2222", "secret-host:2223"], "strategy": "multi_worker"}
    training = {"push_to_hub": True, "hub_model_id": "secret/name", "metrics": ["/secret/my_metric.py"]}
    settings: tuple[dict[str, Any], ...] = (
        {"runtime": workers, "training": {**training, "attention_texts": ["a secret"]}},
        {"runtime": {"strategy": "tpu", "tpu_name": "secret-tpu"}},
        {"data": {"shards": "gs://secret-bucket/shards", "text_columns": ["text"]}},
    )
    for some in settings:
        card = cards.write(a_subject(some))
        for word in ("someone", "/home", "secret", str(Path.home()) + "/", platform.node()):
            assert word not in card, word
        assert f"/{getpass.getuser()}" not in card
    assert "shards" in card


@pytest.mark.parametrize("problem_type", [tasks.SINGLE_LABEL, tasks.MULTI_LABEL, tasks.REGRESSION, tasks.TOKENS])
def test_every_kind_of_problem_has_a_card(problem_type: str) -> None:
    is_tokens = problem_type == tasks.TOKENS
    settings: dict[str, Any] = {"task": "token-classification" if is_tokens else "text-classification"}
    changes: dict[str, Any] = {"unit": "sentences"} if is_tokens else {"problem_type": problem_type}
    settings |= {} if is_tokens else {"problem_type": problem_type}
    if problem_type == tasks.REGRESSION:
        changes |= {"classes": [], "calibration": None, "residuals": {"r_squared": 0.5}}
    card = cards.write(a_subject(settings, {"validation": an_evaluation(**changes)}))
    said = {
        tasks.SINGLE_LABEL: "gives each text one of 2 classes",
        tasks.MULTI_LABEL: "is at least 0.2500",
        tasks.REGRESSION: "gives each text a number",
        tasks.TOKENS: "gives each word of a sentence one of 2 tags",
    }
    assert said[problem_type] in card
    assert ("Classes, in the order" in card) == (problem_type in (tasks.SINGLE_LABEL, tasks.MULTI_LABEL))
    assert f"TFAutoModelFor{'Token' if is_tokens else 'Sequence'}Classification" in card


def test_of_many_classes_those_with_most_rows_are_told() -> None:
    classes = [a_class(f"c{at}", at + 30, 40, 30, 0.9) for at in range(150)]
    card = cards.write(a_subject(evaluations={"validation": an_evaluation(classes=classes)}))
    told = next(one for one in tables(card) if one[0][1:2] == ["Wanted"])
    assert "on the validation rows, those with the most:\n\n|" in card
    assert [row[0] for row in told[1:]] == [f"c{at}" for at in reversed(range(50, 150))]


def test_a_head_of_tfft_is_not_for_transformers() -> None:
    card = cards.write(a_subject({"model": {"name_or_path": "x/y", "head": "mean"}}))
    assert "TFAutoModel" not in card and "The head is tfft's own" in card
    assert ModelCard(card).data.library_name == "tfft"


# --- Whose card it is, and licences -----------------------------------------------------------------------------------


def test_a_card_that_was_changed_is_known() -> None:
    card = cards.write(a_subject())
    assert cards.is_ours(card)
    changed = (
        card.replace("license: mit", "license: gpl-3.0"),
        card + "\nMore.",
        card.replace("\n", "\r\n"),
        "",
        "# x",
    )
    assert not [one for one in changed if cards.is_ours(one)]


def test_licences() -> None:
    assert licences.check("apache-2.0", "--license") == "apache-2.0"
    with pytest.raises(RunError, match=r"^--license: got 'Apache2.0'; expected .*mit.* did you mean apache-2.0\?$"):
        licences.check("Apache2.0", "--license")
    with pytest.raises(RunError, match=r"^--license: nothing says under which licence .*; expected .*apache-2.0"):
        licences.check(None, "--license")
    data = ModelCard(cards.write(a_subject(licence="other", licence_file="LICENSE"))).data
    assert (data.license, data.license_name, data.license_link) == ("other", "name-license", "LICENSE")


def test_figures_are_left_as_they_are() -> None:
    evaluation = an_evaluation()
    before = copy.deepcopy(evaluation)
    cards.write(a_subject(evaluations={"validation": evaluation}))
    assert evaluation == before
