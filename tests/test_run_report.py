"""The report of a run: what is on it, that it is true, and that a browser shows it and carries nothing out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import assert_names_nothing_outside
from tfft import problems, recipe, reports
from tfft.data import Encoded, Rows, Split
from tfft.data.words import EncodedWords
from tfft.evaluation import Confusion
from tfft.reports import answers, charts, overlaps

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NASTY = (
    '</script><script>document.title = "broken"</script><img src="http://nowhere.example/x" onerror="alert(1)"> &lt;'
)
NAMES = ("bad", "good")


def encoded(lengths: Sequence[int]) -> Encoded:
    offsets = np.cumsum([0, *lengths])
    return Encoded(np.ones(offsets[-1], np.int32), None, offsets, np.zeros(len(lengths), np.int64))


def split_of(labels: Any, texts: Sequence[str] | None = None, name: str = "validation", raw: Any = None) -> Split:
    texts = texts or [f"text {at}" for at in range(len(labels))]
    rows = Rows((list(texts),), list(labels) if raw is None else raw, range(1, len(texts) + 1), "rows.csv")
    return Split(name, rows, encoded([3 + at % 5 for at in range(len(texts))]), np.asarray(labels))


def logits_of(probabilities: Sequence[float]) -> np.ndarray:
    """Of two classes, the second with these probabilities."""
    shares = np.asarray(probabilities)
    return np.log(np.stack([1 - shares, shares], axis=1)).astype(np.float32)


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_the_worst_errors_are_the_wrong_ones_by_loss() -> None:
    said = answers.of_split(problems.SingleLabel(NAMES), logits_of([0.9, 0.6, 0.2, 0.99]), split_of([1, 0, 1, 0]))
    worst = said.worst(10)
    assert [one.number for one in worst] == [4, 3, 2]
    assert [one.loss for one in worst] == pytest.approx([-np.log(0.01), -np.log(0.2), -np.log(0.4)], rel=1e-5)
    assert (worst[0].label, worst[0].prediction) == NAMES
    assert (worst[0].of_label, worst[0].of_prediction) == pytest.approx((0.01, 0.99), abs=1e-6)
    assert len(said.worst(1)) == 1


def test_any_number_of_labels() -> None:
    problem = problems.MultiLabel(("a", "b", "c"), threshold=0.5)
    shares = np.array([[0.9, 0.2, 0.1], [0.2, 0.7, 0.1]])
    logits = np.log(shares / (1 - shares)).astype(np.float32)
    [wrong] = answers.of_split(problem, logits, split_of([[1, 0, 0], [1, 0, 0]])).worst(5)
    assert (wrong.number, wrong.label, wrong.prediction) == (2, "a", "b")
    assert (wrong.of_label, wrong.of_prediction) == (None, None)


def test_numbers_are_worst_where_they_are_furthest_off() -> None:
    logits = np.array([[1.0], [5.0], [2.5]], np.float32)
    said = answers.of_split(problems.Regression(("score",)), logits, split_of([1.0, 2.0, 2.0]))
    assert [(one.number, one.label, one.prediction, one.loss) for one in said.worst(5)] == [
        (2, "2", "5", 3.0),
        (3, "2", "2.5", 0.5),
    ]
    assert said.likely_label_errors() == []


def test_words() -> None:
    """Two sentences, `a b` and `c`; of `b` there are two pieces, of which the first decides."""
    sentences = [("a", "b"), ("c",)]
    rows = Rows((["a b", "c"],), [("O", "X"), ("X",)], [7, 9], "rows.conll", words=sentences)
    words = EncodedWords(
        encoded([5, 3]),
        word_ids=np.array([-1, 0, 1, 1, -1, -1, 0, -1]),
        lost_words=np.zeros(2, np.int32),
        pieceless_words=np.zeros(2, np.int32),
    )
    labels = np.array([-100, 0, 1, -100, -100, -100, 1, -100])
    split = Split("validation", rows, words.encoded, labels, words=words)
    logits = np.zeros((8, 2), np.float32)
    logits[1], logits[2], logits[3], logits[6] = (2, 0), (3, 0), (0, 9), (0, 1)
    [wrong] = answers.of_split(problems.Tokens(("O", "X")), logits, split).worst(5)
    assert (wrong.number, wrong.word, wrong.texts) == (7, "b", ("a", ""))
    assert (wrong.label, wrong.prediction) == ("X", "O")
    assert wrong.loss == pytest.approx(np.log(1 + np.e**3), rel=1e-6)


def test_planted_label_errors_are_found() -> None:
    draw = np.random.default_rng(0)
    true = draw.integers(2, size=400)
    probabilities = np.where(true == 1, draw.uniform(0.75, 0.99, 400), draw.uniform(0.01, 0.25, 400))
    planted = draw.choice(400, 12, replace=False)
    labels = true.copy()
    labels[planted] = 1 - labels[planted]
    said = answers.of_split(problems.SingleLabel(NAMES), logits_of(probabilities), split_of(labels))
    found = said.likely_label_errors()
    # Not those whose probability of the other class is below that class's mean.
    assert set(found) <= set(planted) and len(found) >= 9
    # The likeliest first: those whose own label is given the least.
    own = [said.answer(at).of_label for at in found]
    assert own == sorted(own)  # type: ignore[type-var]
    many = problems.MultiLabel(NAMES)
    both = np.stack([1 - true, true], axis=1)
    both[planted] = both[planted][:, ::-1]
    wide = np.stack([1 - probabilities, probabilities], axis=1)
    logits = np.log(wide / (1 - wide)).astype(np.float32)
    of_many = answers.of_split(many, logits, split_of(both)).likely_label_errors()
    assert set(of_many) <= set(planted) and len(of_many) >= 9


@pytest.mark.parametrize("labels", [[0], [0, 0], [1, 1, 1], [0, 1]])
def test_few_rows_and_one_class_alone(labels: list[int]) -> None:
    said = answers.of_split(problems.SingleLabel(NAMES), logits_of([0.4] * len(labels)), split_of(labels))
    assert set(said.likely_label_errors()) <= set(range(len(labels)))


# --- Rows that occur twice --------------------------------------------------------------------------------------------


def test_rows_that_occur_twice() -> None:
    train = split_of([0, 1, 0, 1], ["same", "b", " same ", "same"], "train", ["bad", "good", "bad", "good"])
    validation = split_of([0, 1], ["c", "b"], "validation", ["bad", "good"])
    test = Split("test", Rows((["b", "d"],), None, [1, 2], "test.csv"), encoded([3, 3]), None)
    within, with_validation, with_test, of_both = overlaps.find([train, validation, test])
    assert (within.first, within.second, within.rows, within.contradicting) == ("train", "train", 2, 1)
    # The one that contradicts comes first.
    assert [(one.first, one.second, one.labels) for one in within.examples] == [
        (1, 4, ("bad", "good")),
        (1, 3, ("bad", "bad")),
    ]
    assert (with_validation.first, with_validation.second, with_validation.rows) == ("train", "validation", 1)
    assert with_validation.examples[0].texts == ("b",)
    assert (with_test.rows, with_test.examples[0].labels) == (1, None)
    assert (of_both.first, of_both.second, of_both.rows) == ("validation", "test", 1)
    assert overlaps.find([validation]) == []


# --- Pictures ---------------------------------------------------------------------------------------------------------


def test_learning_curves_have_both_sides() -> None:
    history = [{"epoch": 1, "loss": 2.0, "val_loss": 3.0, "val_f1": 0.5}, {"epoch": 2, "loss": 1.0, "val_loss": 2.0}]
    loss, f1 = charts.learning_curves(history)
    assert [one.name for one in loss.lines] == ["training", "validation"]
    assert (f1.title, [one.name for one in f1.lines]) == ("f1 in validation", ["validation"])
    assert [one.text for one in loss.x_labels] == ["1", "2"]


def test_lengths_are_shares_of_the_rows() -> None:
    drawn = charts.lengths({"train": (np.array([3, 90]), np.array([3, 1]))})
    # Bars as wide as three tokens: three quarters of the rows in the second.
    heights = {float(one.rpartition(",")[2]) for one in drawn.lines[0].path.lstrip("M").split(" L")}
    top, bottom = drawn.frame.top, drawn.frame.bottom
    expected = {round(bottom - share / (0.75 * 1.05) * (bottom - top), 1) for share in (0, 0.25, 0.75)}
    assert heights == expected


def test_confusion() -> None:
    found = Confusion(("a", "b"), np.array([[9, 1], [0, 0]]))
    matrix = charts.matrix(found)
    assert matrix is not None
    assert [[(one.count, one.shade) for one in line] for line in matrix.lines] == [[(9, 9), (1, 1)], [(0, 0), (0, 0)]]
    assert charts.frequent_mistakes(found, 5) == [("a", "b", 1)]
    assert charts.matrix(Confusion(tuple(map(str, range(99))), np.eye(99, dtype=int))) is None


# --- The page ---------------------------------------------------------------------------------------------------------


def material(**changes: Any) -> reports.Material:
    """A run whose data try to break out of the page."""
    draw = np.random.default_rng(1)
    names = (NASTY, "good")
    labels = draw.integers(2, size=200)
    texts = [f"{NASTY} {at}" for at in range(200)]
    scored = split_of(labels, texts, raw=[names[at] for at in labels])
    probabilities = np.clip(np.where(labels == 1, 0.7, 0.3) + draw.normal(0, 0.2, 200), 0.01, 0.99)
    train = split_of(labels, [*texts[:50], *(f"other {at}" for at in range(150))], "train", scored.rows.labels)
    chosen = recipe.load(
        "quickstart", [f"output_dir=runs/{NASTY}".replace("'", ""), "training.metrics=[accuracy,f1]"], rows_given=True
    )
    history = [{"epoch": one, "loss": 1 / one, "val_loss": 1.2 / one, "val_f1": 0.5, NASTY: 1.0} for one in (1, 2, 3)]
    said: dict[str, Any] = {
        "folder": f"runs/{NASTY}",
        "recipe": chosen,
        "metrics": {
            "eval": {"loss": 0.5, "accuracy": 0.8, NASTY: 0.25},
            "test": {"accuracy": 0.7},
            "train": {"rows": 200},
            "timing": {"total_seconds": 61.0},
            "environment": {"processor": NASTY},
        },
        "history": history,
        "scored": reports.Scored(problems.SingleLabel(names), scored, logits_of(probabilities.tolist())),
        "splits": [train, scored],
        "notes": [NASTY],
    }
    return reports.Material(**{**said, **changes})


@pytest.fixture(scope="module")
def text() -> str:
    return reports.page(material())


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_page_is_small_and_the_same_twice(text: str) -> None:
    assert reports.page(material()) == text
    assert len(text.encode()) < 300_000


def test_the_page_names_nothing_outside(text: str) -> None:
    assert_names_nothing_outside(text)


def test_scores_are_those_of_the_rows(text: str) -> None:
    made = material()
    assert made.scored is not None
    split, logits = made.scored.split, made.scored.logits
    accuracy = float((logits.argmax(axis=-1) == split.labels).mean())
    assert re.search(rf"accuracy {accuracy:.4f} [\d.]+ to [\d.]+ 0\.7000", words(text))
    wrong = int((logits.argmax(axis=-1) != split.labels).sum())
    assert f"The {min(wrong, 50)} validation rows that are wrong" in words(text)
    # A score of the run that has no interval is there without one.
    assert re.search(r'<td class="number">0\.2500</td><td class="number">[^\d<]+</td>', text)
    assert "train and validation: 50 rows of validation" in words(text)


def test_a_run_that_was_not_validated() -> None:
    page = words(reports.page(material(scored=None, metrics={"train": {"rows": 3}}, splits=[], notes=[])))
    assert "The run was not validated, so it has no scores." in page
    assert "The rows are not at hand." in page


def test_a_page_of_much_stays_below_two_megabytes() -> None:
    """Texts of a novel's length, of letters that are longest when escaped; four hundred classes with long names."""
    draw = np.random.default_rng(2)
    names = tuple(f"class {at} {'&' * 200}" for at in range(400))
    labels = draw.integers(400, size=2000)
    split = split_of(labels, ["&" * 50_000] * 2000, raw=[names[at] for at in labels])
    logits = draw.normal(size=(2000, 400)).astype(np.float32)
    scored = reports.Scored(problems.SingleLabel(names), split, logits)
    chosen = recipe.load("quickstart", ["training.metrics=[accuracy]"], rows_given=True)
    page = reports.page(material(recipe=chosen, scored=scored, splits=[split]))
    assert len(page.encode()) < 2_000_000


def test_half_a_character_does_not_break_the_page() -> None:
    made = material(notes=["half of a pair: \ud83d"])
    assert "half of a pair: ?" in reports.page(made)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(browser: Browser, tmp_path: Path, text: str, width: int, scheme: Any) -> None:
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    assert page.title().endswith(": report")
    assert (page.locator("script").count(), page.locator("img").count()) == (1, 0)
    assert NASTY in page.locator("#errors .text").first.inner_text()
    assert NASTY in page.locator("#data p").last.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.locator("#run summary").click()
    page.locator("#run button.copy").first.click()
    assert "python -m tfft.fit --recipe" in page.evaluate("getSelection().toString()")
    assert (asked, complaints) == ([file.as_uri()], [])
    page.close()
