"""`python -m tfft.attention` on a run of a tiny model, and its page in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tfft
from tests.commands.conftest import fitted, rows_of
from tfft import attention
from tfft.attention import page
from tfft.errors import DataError, RunError, UserError
from tfft.models.attentions import Attended, Importance

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TEXT = "a good movie and not a bad one"
ROWS = rows_of(20)
NASTY = '</script><script>document.title = "broken"</script><img src="http://nowhere.example/x"> &lt;'


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tfft.FitResult:
    return fitted(tmp_path_factory.mktemp("classes"), tiny_checkpoint)


def test_before_and_after(trained: tfft.FitResult, tmp_path: Path, tiny_checkpoint: Path, capsys: Any) -> None:
    output = tmp_path / "seen"
    arguments = ["--run", str(trained.output_dir), "--output", str(output), "--text", TEXT]
    assert attention.main([*arguments, "--compare", str(tiny_checkpoint)]) == 0
    answer = trained.predict([TEXT])[0].label
    assert f"answer: {answer} (logit" in capsys.readouterr().out
    pictures = {"heads-layer-1.png", "heads-layer-2.png", "layers.png", "rollout.png", "before-after.png"}
    assert {one.name for one in output.iterdir()} == {*pictures, "attention.html", "attentions.npz"}
    arrays = np.load(output / "attentions.npz")
    inputs = trained.tokenizer([TEXT], return_tensors="tf")
    expected = trained.model(dict(inputs), output_attentions=True).attentions
    np.testing.assert_allclose(arrays["after"], np.concatenate(expected), atol=1e-5)
    assert np.abs(arrays["after"] - arrays["before"]).max() > 1e-4, "training changes what is looked at"
    from PIL import Image

    both, one = Image.open(output / "before-after.png"), Image.open(output / "layers.png")
    assert both.width == one.width and both.height == 2 * one.height, "two layers in two lines, before and after"
    with pytest.raises(RunError, match="is there already"):
        attention.main(arguments)
    assert attention.main([*arguments, "--overwrite"]) == 0
    assert not (output / "before-after.png").exists()


def test_mistakes(trained: tfft.FitResult, tmp_path: Path, tiny_checkpoint: Path) -> None:
    run, output = str(trained.output_dir), str(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    for arguments, said in (
        (["--run", run, "--text", "a", "b", "--output", output], "got 2; expected 1"),
        (["--run", run + "x", "--text", "a", "--output", output], "there is no folder"),
        (["--run", run, "--text", "a", "--output", str(tmp_path / "mine"), "--overwrite"], "was not written by tfft"),
        (
            ["--run", run, "--text", "a", "--output", output, "--compare", str(tmp_path)],
            "--compare: .* holds no weights",
        ),
    ):
        with pytest.raises(UserError, match=said):
            attention.main(arguments)
        assert not Path(output).exists()


def test_another_checkpoints_tokens(trained: tfft.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tfft.models import attentions

    attend = attentions.attend
    seen = [Attended(["[CLS]", "x"], np.ones((2, 2, 2, 2))), attend]

    def other_tokens(*given: Any) -> Attended:
        return attend(*given) if len(seen) == 2 and seen.pop() else seen[0]

    monkeypatch.setattr(attentions, "attend", other_tokens)
    checkpoint = trained.output_dir / "model"
    with pytest.raises(DataError, match="makes other tokens of the text"):
        attention.attention(trained.output_dir, TEXT, tmp_path / "out", compare=str(checkpoint))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tags", "numbers"])
def test_answers_that_are_no_classes(kind: str, tmp_path: Path, tiny_checkpoint: Path) -> None:
    if kind == "tags":
        train = [{"text": text.split(), "label": ["B-X" if label else "O"] * len(text.split())} for text, label in ROWS]
        settings: dict[str, Any] = {"task": "token-classification"}
    else:
        train = [{"text": text, "label": len(text) / 10} for text, _ in ROWS]
        settings = {"task": "text-classification", "problem_type": "regression"}
    tfft.fit(
        model={"name_or_path": str(tiny_checkpoint)},
        data={"text_columns": ["text"], "label_column": "label"},
        training={"num_train_epochs": 1, "eval_strategy": "no"},
        train=train,
        output_dir=tmp_path / "run",
        verbose=False,
        **settings,
    )
    seen = attention.attention(tmp_path / "run", TEXT, tmp_path / "seen", compare=str(tiny_checkpoint), verbose=False)
    assert seen.before is not None and (tmp_path / "seen" / "before-after.png").is_file()
    page_text = (tmp_path / "seen" / "attention.html").read_text()
    assert ("What the answer depends on" in page_text) == (kind == "numbers")
    if kind == "tags":
        assert (seen.importance, seen.answer) == (None, None)
    else:
        [value] = tfft.load(tmp_path / "run").predict([TEXT])
        assert float(seen.answer or "nan") == pytest.approx(value, abs=1e-3)


def test_the_page_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    tokens = ["[CLS]", NASTY, "good", "[SEP]"]
    after, before = (Attended(tokens, draw.dirichlet(np.ones(4), size=(3, 2, 4)).astype(np.float32)) for _ in range(2))
    importance = Importance(tokens, np.array([0, 0.5, -0.2, 0], np.float32), 1.3, 1.0)
    path = tmp_path / "attention.html"
    path.write_text(page([NASTY], after, before, importance, NASTY), encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    assert (said, asked) == ([], [path.as_uri()])
    assert opened.title().startswith("Attention: </script>")
    assert opened.locator("figcaption").all_inner_texts() == ["before", "after"]
    assert opened.locator("figure").first.locator("rect").count() == 16
    assert "for-4" in (opened.locator(".token").nth(1).get_attribute("class") or "")
    assert "against-3" in (opened.locator(".token").nth(2).get_attribute("class") or "")

    def share(row: int, column: int) -> float:
        words = opened.locator("figure").nth(1).locator("rect title").nth(4 * row + column).text_content() or ""
        return float(words.rpartition(": ")[2])

    assert share(2, 1) == pytest.approx(after.attentions[2, :, 2, 1].mean(), abs=5e-3), "the last layer at first"
    opened.select_option("#layer", value="0")
    opened.select_option("#head", index=2)  # the mean comes first
    assert share(1, 3) == pytest.approx(after.attentions[0, 1, 1, 3], abs=5e-3)
    opened.select_option("#shown", value="rollout")
    assert opened.locator("#head").is_disabled()
    mixed = 0.5 * after.attentions[0].mean(axis=0) + 0.5 * np.eye(4)
    assert share(1, 1) == pytest.approx(mixed[1, 1], abs=5e-3)
    opened.locator("figure").nth(1).locator("rect").first.click()
    assert opened.locator("#told").inner_text().startswith("after: [CLS] looks at [CLS]")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
