"""The page of a sweep: what is on it, and what it does in a real browser."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import assert_names_nothing_outside
from tfft.search import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RATE, SIZE, SCHEDULE, WARMUP = (
    f"training.{name}" for name in ("learning_rate", "per_device_train_batch_size", "lr_scheduler_type", "warmup_ratio")
)
NASTY = (
    '</script><script>document.title = "broken"</script><img src="http://nowhere.example/x" onerror="alert(1)"> &lt;'
)


def trial(number: int, chance: random.Random) -> dict[str, Any]:
    """A trial whose score follows from its learning rate, best at 1e-4."""
    rate = 10 ** chance.uniform(-6, -3)
    schedule = chance.choice(["linear", "constant"])
    values: dict[str, Any] = {RATE: rate, SIZE: chance.choice([8, 16, 32]), SCHEDULE: schedule}
    if schedule == "linear":
        values[WARMUP] = chance.choice([0.0, 0.06, 0.1])
    values["training.strategy"] = chance.choice(["full", NASTY])
    score = 0.9 - 0.05 * (math.log10(rate) + 4) ** 2
    curve = [
        {
            "epoch": epoch,
            "loss": 0.7 / epoch,
            "val_loss": 0.8 / epoch + 0.1 * (1 - score),
            "val_f1": score - 0.1 / epoch**2,
        }
        for epoch in (1, 2, 3)
    ]
    return {
        "number": number,
        "status": "completed",
        "values": values,
        "score": score,
        "spread": 0.004,
        "seconds": 40.0 + 7 * number % 31,
        "epochs": 3.0,
        "rows": 11004,
        "reason": "",
        "command": f"python -m tfft.fit --recipe sweep-mrpc-lr '~sweep' {RATE}={rate} '{NASTY}'",
        "continues": None,
        "bracket": None,
        "round": None,
        "executions": [
            {
                "seed": 42,
                "folder": f"trials/{number:04}",
                "scores": {"f1": score},
                "curve": curve,
                "peak_rss_mb": 1400.0,
            }
        ],
    }


def example(count: int = 24) -> dict[str, Any]:
    """What a sweep writes; trial 3 is pruned, 5 failed, 7 is running, as far as there are so many."""
    chance = random.Random(0)
    trials = [trial(number, chance) for number in range(1, count + 1)]
    for one in trials:
        if one["number"] == 3:
            one |= {"status": "pruned", "epochs": 1.0}
            one["executions"][0]["curve"] = one["executions"][0]["curve"][:1]
        if one["number"] in (5, 7):
            one |= {
                "status": "failed" if one["number"] == 5 else "running",
                "score": None,
                "spread": None,
                "executions": [],
            }
            one["reason"] = f"loss is not a number {NASTY}"
    scored = [one for one in trials if one["status"] == "completed"]
    best = max(scored, key=lambda one: one["score"])["number"] if scored else None
    return {
        "name": f"sweep-mrpc-lr {NASTY}",
        "command": "python -m tfft.sweep --recipe sweep-mrpc-lr",
        "algorithm": "random",
        "objective": "f1",
        "direction": "max",
        "seed": 42,
        "executions_per_trial": 1,
        "max_trials": count,
        "parameters": {
            RATE: {"min": 1e-6, "max": 1e-3, "scale": "log"},
            SIZE: {"values": [8, 16, 32]},
            SCHEDULE: {"values": ["linear", "constant"]},
            WARMUP: {"values": [0.0, 0.06, 0.1], "when": {SCHEDULE: ["linear"]}},
            "training.strategy": {"values": ["full", NASTY]},
        },
        "trials": trials,
        "best": best,
        "best_yaml": f"# {NASTY}\ntraining:\n  learning_rate: 1e-4\n",
        "seconds": 903.1,
        "started": "2026-11-22T10:00:00+00:00",
        "environment": {"tfft": "0.1.0", "tensorflow": "2.21.0"},
        "warnings": [f"one trial failed {NASTY}"],
    }


# --- Without a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text() -> str:
    return report.page(example())


def without(keys: set[str], told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name not in keys}


def part(text: str, name: str) -> str:
    """The words of a section, without the page's tags."""
    section = text[text.index(f'<section id="{name}"') :]
    return " ".join(re.sub(r"<[^>]*>", " ", section[: section.index("</section>")]).split())


def test_the_page_is_the_same_twice(text: str) -> None:
    assert report.page(example()) == text


def test_the_page_names_nothing_outside(text: str) -> None:
    assert_names_nothing_outside(text)


def test_best_trial(text: str) -> None:
    told = example()
    best = next(one for one in told["trials"] if one["number"] == told["best"])
    words = part(text, "best")
    assert f"trial {best['number']} f1 {best['score']:.4g} ± 0.004" in words
    assert f"{RATE} " in words.replace("_ ", "_").replace(". ", ".")
    assert str(best["values"][RATE]) in words  # with all its digits
    assert f"--recipe sweep-mrpc-lr &#39;~sweep&#39; {RATE}={best['values'][RATE]}" in words
    assert "learning_rate: 1e-4" in words


def test_importance_is_named_for_what_it_is(text: str) -> None:
    words = part(text, "importance")
    assert "Permutation importance on a random forest, out of bag" in words
    assert "out-of-bag R² is 0." in words
    assert words.replace("_ ", "_").replace(". ", ".").index("learning_rate") < words.index("strategy")


@pytest.mark.parametrize(
    ("change", "section", "said"),
    [
        ({"trials": []}, "trials", "No trial was begun."),
        ({"trials": [], "best": None}, "best", "No trial was completed"),
        ({"trials": [], "parameters": {}}, "scores", "Nothing to show."),
        (
            {"trials": [{"number": 1, "status": "failed", "reason": "no <memory>"}]},
            "failures",
            "Trial 1 no &lt;memory&gt;",
        ),
        ({"trials": [{"number": 1, "status": "failed"}]}, "failures", "No reason was given."),
        ({"trials": [{"number": 1}], "best": None}, "best", "No trial was completed"),
        ({"trials": [{"number": 1, "status": "completed", "score": math.nan}]}, "best", "No trial was completed"),
        ({"trials": [{"number": 1, "status": "completed", "score": 0.5}]}, "best", "trial 1 f1 0.5"),
        ({"trials": [{"number": 1, "status": "completed", "score": 0.5}]}, "curves", "No trial wrote down its epochs."),
        (
            {"trials": [{"number": 1, "status": "completed", "score": 0.5}]},
            "importance",
            "there are too few, 1; 8 are the least",
        ),
        ({"best": None}, "best", "± 0.004"),
        ({"environment": {}}, "environment", "Nothing was written down."),
        ({"direction": "min", "objective": "loss"}, "scores", "loss upwards; smaller is better"),
    ],
)
def test_what_is_missing_is_said(change: dict[str, Any], section: str, said: str) -> None:
    assert said in part(report.page({**example(4), **change}), section)


@pytest.mark.parametrize("key", sorted(example(1)))
def test_every_key_may_be_missing(key: str) -> None:
    assert report.page(without({key}, example(4))).rstrip().endswith("</html>")


@pytest.mark.parametrize("key", sorted(set(example(1)["trials"][0]) - {"number"}))
def test_every_key_of_a_trial_may_be_missing(key: str) -> None:
    told = example(4)
    told["trials"] = [without({key}, one) for one in told["trials"]]
    assert report.page(told).rstrip().endswith("</html>")


def test_values_of_any_kind() -> None:
    """Booleans beside the numbers that Python takes them for, lists, nothing, and a parameter that was not declared."""
    told = example(4)
    told["parameters"] = {"a": {"values": [True, 1, 1.0, "1", None, [1, 2]]}}
    for one, value in zip(told["trials"], [True, 1.0, [1, 2], "1"], strict=True):
        one["values"] = {"a": value, "b": one["number"] / 3}
    words = part(report.page(told), "scores")
    assert words.count("trial 1: a true,") == 1
    assert "true 1 1 null [1, 2]" in words
    assert "trial 3: b 1," in words


def test_all_scores_equal() -> None:
    told = example()
    for one in told["trials"]:
        one["score"] = 0.5
    assert "Nothing is ranked: all scores are equal." in part(report.page(told), "importance")


# --- Colours ----------------------------------------------------------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio", of two colours as #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_the_page(scheme: int) -> None:
    style = resources.files("tfft.pages").joinpath("base.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w{6});", style.split("@media (prefers-color-scheme: dark)")[scheme]))
    for ground in ("page", "panel"):
        ratios = {name: contrast(colours[name], colours[ground]) for name in colours}
        assert {name for name in ("text", "muted", "best", "pruned", "failed") if ratios[name] < 4.5} == set()
        assert ratios["plain"] >= 3  # of marks and lines


# --- In a browser -----------------------------------------------------------------------------------------------------


class Opened:
    """A page in the browser, what it asked for and what it complained of."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.asked, self.complaints = page, list[str](), list[str]()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(path.as_uri())

    def column(self, name: str) -> list[str]:
        """The cells of the trials' table under that name, downwards, as they are shown."""
        names = [one.split("\xa0")[0] for one in self.page.locator("#trials thead button").all_inner_texts()]
        place = names.index(name) + 1
        return self.page.locator(f"#trials tbody tr > :nth-child({place})").all_inner_texts()

    def sort(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture(scope="module")
def file(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    """The example, with all that a test does to it under watch."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    opened = Opened(page, file)
    yield opened
    assert opened.asked == [file.as_uri()]
    assert opened.complaints == []
    page.close()


def test_data_are_shown_and_not_carried_out(opened: Opened) -> None:
    page = opened.page
    assert page.title() == f"sweep-mrpc-lr {NASTY}: sweep"
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert NASTY in page.locator("#failures pre").inner_text()
    assert NASTY in page.locator("#command").inner_text()
    assert NASTY in page.locator("header .warning").inner_text()
    assert NASTY in opened.column("strategy")
    page.locator("#best summary").click()
    assert NASTY in page.locator("#recipe").inner_text()


def test_the_best_comes_first(opened: Opened) -> None:
    scores = [float(one.split()[0]) for one in opened.column("f1") if one]
    statuses = opened.column("status")
    completed = statuses.count("completed")
    assert statuses[:completed] == ["completed"] * completed
    assert scores[:completed] == sorted(scores[:completed], reverse=True)
    assert opened.column("trial")[0].startswith(str(example()["best"]))


def test_a_click_sorts_by_number(opened: Opened) -> None:
    opened.sort("learning_rate")
    rates = [float(one) for one in opened.column("learning_rate")]
    assert rates == sorted(rates)
    assert [str(one) for one in opened.column("learning_rate")] != sorted(opened.column("learning_rate"))
    assert opened.page.locator("#trials [aria-sort]").evaluate_all("all => all.map(one => one.ariaSort)") == [
        "ascending"
    ]
    opened.sort("learning_rate")
    assert [float(one) for one in opened.column("learning_rate")] == rates[::-1]
    assert opened.page.locator("#trials [aria-sort]").evaluate_all("all => all.map(one => one.ariaSort)") == [
        "descending"
    ]


def test_what_is_empty_comes_last_both_ways(opened: Opened) -> None:
    for _ in range(2):
        opened.sort("warmup_ratio")
        cells = opened.column("warmup_ratio")
        filled = [one for one in cells if one]
        assert 0 < len(filled) < len(cells)
        assert cells == filled + [""] * (len(cells) - len(filled))


def test_equal_rows_keep_their_order(opened: Opened) -> None:
    opened.sort("trial")
    opened.sort("per_device_train_batch_size")
    pairs = list(zip(map(int, opened.column("per_device_train_batch_size")), opened.column("trial"), strict=True))
    assert pairs == sorted(pairs, key=lambda one: (one[0], int(one[1].split()[0])))
    opened.sort("per_device_train_batch_size")
    turned = list(zip(map(int, opened.column("per_device_train_batch_size")), opened.column("trial"), strict=True))
    assert turned == sorted(pairs, key=lambda one: -one[0])


def test_every_column_sorts(opened: Opened) -> None:
    buttons = opened.page.locator("#trials thead button")
    for place in range(buttons.count()):
        cells = opened.page.locator(f"#trials tbody tr > :nth-child({place + 1})")
        keys = []
        for _ in range(2):
            buttons.nth(place).click()
            keys.append(cells.evaluate_all("all => all.map(one => one.dataset.sort).filter(one => one !== '')"))
        assert keys[0] != keys[1]
        assert keys[0] == keys[1][::-1]
        if buttons.nth(place).locator("..").get_attribute("data-kind") == "number":
            assert keys[0] == sorted(keys[0], key=float)


def test_another_curve_is_another_picture(opened: Opened) -> None:
    figures = opened.page.locator("figure.curve")

    def shown() -> tuple[str, str | None]:
        visible = figures.locator("visible=true")
        assert visible.count() == 1
        caption = opened.page.locator("figure.curve:visible figcaption").inner_text()
        return caption, opened.page.locator("figure.curve:visible .line.best").get_attribute("d")

    caption, path = shown()
    assert caption == "val_f1 by epoch"
    opened.page.select_option("#curve", label="val_loss")
    other_caption, other_path = shown()
    assert other_caption == "val_loss by epoch"
    assert other_path != path


def test_a_trial_is_pointed_out_everywhere(opened: Opened) -> None:
    page, readout = opened.page, opened.page.locator("#readout")
    assert not readout.is_visible()
    page.locator(f"#scores svg [data-trial='{example()['best']}']").first.hover()
    told = readout.inner_text()
    assert told.startswith(f"trial {example()['best']}, completed, f1 0.")
    assert "learning_rate" in told
    # In every picture with that parameter, on the visible curve and the hidden ones, and in the table.
    assert page.locator(".on").count() == page.locator(f"[data-trial='{example()['best']}']").count()
    page.locator("h1").hover()
    assert not readout.is_visible()


def test_the_keyboard_walks_through_a_picture(opened: Opened) -> None:
    page = opened.page
    assert page.locator("#parallel svg [tabindex='0']").count() == 1
    page.locator("#parallel svg [tabindex='0']").focus()
    assert page.locator("#readout").inner_text().startswith(f"trial {example()['best']},")
    page.keyboard.press("ArrowRight")
    assert page.locator("#readout").inner_text().startswith("trial 1,")


def test_the_command_is_copied(opened: Opened) -> None:
    opened.page.get_by_role("button", name="copy").first.click()
    assert opened.page.locator("#best [role=status]").first.inner_text() == "copied"
    assert opened.page.evaluate("getSelection().toString()") == opened.page.locator("#command").inner_text()


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser: Browser, file: Path, width: int, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened = Opened(page, file)
    for name in ("documentElement", "body"):
        assert page.evaluate(f"document.{name}.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert opened.complaints == []
    page.close()


def test_the_page_may_ask_for_nothing(browser: Browser, file: Path) -> None:
    """Not even where a script got in: the policy in its head forbids it."""
    page = browser.new_page()
    page.goto(file.as_uri())
    refused = page.evaluate(
        """() => new Promise(done => {
            const seen = [];
            document.addEventListener("securitypolicyviolation", event => {
                seen.push(event.effectiveDirective);
                if (seen.length === 3) done(seen.sort());
            });
            fetch("http://127.0.0.1:9/").catch(() => {});
            document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/" }));
            const script = document.createElement("script");
            script.textContent = "document.title = 'broken'";
            document.body.append(script);
            setTimeout(() => done(seen.sort()), 10000);  // where something is let through
        })"""
    )
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert page.title() != "broken"
    page.close()


def test_bare_pages_work_too(browser: Browser, tmp_path: Path) -> None:
    bare = copy.deepcopy(example(4))
    for one in bare["trials"]:
        one |= {"score": None, "status": "failed", "executions": []}
    for told in ({}, example(1), bare):
        path = tmp_path / "report.html"
        path.write_text(report.page(told), encoding="utf-8")
        opened = Opened(browser.new_page(), path)
        assert opened.page.locator("h2").count() == 10
        assert (opened.asked, opened.complaints) == ([path.as_uri()], [])
        opened.page.close()
