"""`python -m tfft.attention`: what a run's model looks at in a text, and why it answers so."""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfft import command, drawing, pages
from tfft.errors import DataError, ModelError
from tfft.run_directory import find_model
from tfft.whole import whole_folder

if TYPE_CHECKING:
    from tfft.models.attentions import Attended, Importance
    from tfft.predictor import Predictor

PAGE, ARRAYS = "attention.html", "attentions.npz"
MAX_LENGTH = 64
_MAPS_IN_A_LINE = 4
# Of the largest importance: from where on a token is marked, more and more.
_MARKS = (0.1, 0.3, 0.6)


@dataclass(frozen=True)
class Seen:
    """What `attention` has found.

    Attributes:
        folder: where the pictures and the page are.
        after: the run's model.
        before: the checkpoint that it is compared with; None where there is none.
        importance: what each token adds to the logit of the answer; None where words have tags.
        answer: the class, or what else the model answers; None where words have tags.
    """

    folder: Path
    after: Attended
    before: Attended | None
    importance: Importance | None
    answer: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_args(argv)
    if not arguments.verbose:
        from tfft import console

        console.silence_libraries()
    attention(
        arguments.run,
        arguments.text[0] if len(arguments.text) == 1 else tuple(arguments.text),
        arguments.output,
        compare=arguments.compare,
        max_length=arguments.max_length,
        overwrite=arguments.overwrite,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.attention",
        description="Show what a run's model looks at in a text: maps of all layers and heads, attention rollout, and "
        "by integrated gradients what the answer depends on; as pictures, and as a page to choose layer and head on.",
        epilog='Example: python -m tfft.attention --run runs/imdb --text "I love this movie, it\'s fantastic!" '
        "--output attention --compare google-bert/bert-base-uncased",
        allow_abbrev=False,
    )
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished run's folder, or a model's")
    parser.add_argument("--text", required=True, nargs="+", metavar="TEXT", help="a text; of pairs both")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--compare", metavar="CHECKPOINT", help="one to be shown beside it, as it was before training")
    parser.add_argument(
        "--max-length", type=command.positive, default=MAX_LENGTH, help=f"tokens that are taken (default: {MAX_LENGTH})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what was written there before")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


def attention(
    run: str | os.PathLike[str],
    text: str | tuple[str, str],
    output: str | os.PathLike[str],
    *,
    compare: str | None = None,
    max_length: int = MAX_LENGTH,
    overwrite: bool = False,
    verbose: bool = True,
) -> Seen:
    """Shows what a run's model looks at in a text, or in a pair of texts.

    Into the folder go `heads-layer-1.png` and so on (a map for each head), `layers.png` (the mean over the heads),
    `rollout.png`, with `compare` `before-after.png`, the page `attention.html`, and `attentions.npz` with the arrays
    `tokens`, `after`, `rollout`, `before` and `importance`.

    Args:
        run: the folder of a finished run, or of a model.
        text: one, or a pair where the model was trained on pairs.
        output: a folder that is not there yet, or such a one to be replaced.
        compare: a checkpoint with the same tokens, as a recipe's `model.name_or_path`.
        max_length: tokens that are taken.
        overwrite: replace what is there.
        verbose: say where everything is.

    Raises:
        UserError: the run or the checkpoint cannot be used, or the output is in the way.
    """
    output = Path(output)
    command.check_new_folder(output, overwrite, PAGE, "was not written by tfft.attention")
    find_model(run)
    from tfft import console, environment

    environment.check()
    from tfft import loaded
    from tfft.models import attentions

    predictor = loaded.load(run)
    _check_text(text, predictor)
    attentions.check(predictor.model)
    after = attentions.attend(predictor.model, predictor.tokenizer, text, max_length)
    before = None if compare is None else _before(compare, predictor, text, max_length, after)
    importance, answer = _explained(predictor, text, max_length)
    with whole_folder(output) as folder:
        _draw(folder, after, before)
        _save_arrays(folder, after, before, importance)
        texts = (text,) if isinstance(text, str) else text
        (folder / PAGE).write_text(page(texts, after, before, importance, answer), encoding="utf-8")
    voice = console.Voice(silent=not verbose)
    if answer is not None:
        voice.say(f"answer: {console.printable(answer)}")
    voice.say(f"the page is {output / PAGE}; the pictures are beside it")
    return Seen(output, after, before, importance, answer)


def _check_text(text: str | tuple[str, ...], predictor: Predictor) -> None:
    count = 1 if isinstance(text, str) else len(text)
    wanted = None if predictor.text_columns is None else len(predictor.text_columns)
    if count > 2 or (wanted is not None and count != wanted):
        raise DataError(f"--text: got {count}; expected {wanted or '1 or 2'}, as the model was trained on")


def _before(name: str, predictor: Predictor, text: str | tuple[str, str], max_length: int, after: Attended) -> Attended:
    """What the checkpoint looks at, whose head plays no part in that.

    Raises:
        ModelError: it cannot be used.
        DataError: it makes other tokens of the text.
    """
    from tfft import tasks
    from tfft.models import attentions, checkpoint
    from tfft.models.load import load_classifier

    try:
        source = checkpoint.find(name)
    except ModelError as error:
        raise ModelError(str(error).replace("model.name_or_path", "--compare")) from None
    tokenizer = checkpoint.load_tokenizer(source)
    task = tasks.TASKS["token-classification" if predictor.has_tags else "text-classification"]
    model = load_classifier(source, predictor.label_names, task.auto_class).model
    found = attentions.attend(model, tokenizer, text, max_length)
    if found.tokens != after.tokens:
        raise DataError(
            f"--compare: {name} makes other tokens of the text ({' '.join(found.tokens[:6])} …) than the run's model "
            f"({' '.join(after.tokens[:6])} …); give the checkpoint that the run began with"
        )
    return found


def _explained(
    predictor: Predictor, text: str | tuple[str, str], max_length: int
) -> tuple[Importance | None, str | None]:
    """What each token adds to the answer, and the answer in words; nothing where words have tags."""
    from tfft.models import attentions

    if predictor.has_tags:
        return None, None
    inputs = attentions.encoded(predictor.model, predictor.tokenizer, text, max_length)
    logits = np.asarray(predictor.model(inputs, training=False).logits, np.float32)[0]
    at = int(logits.argmax())
    importance = attentions.integrated_gradients(predictor.model, predictor.tokenizer, text, at, max_length)
    if len(logits) == 1:
        return importance, f"{logits[0]:.4f}"
    return importance, f"{predictor.label_names[at]} (logit {logits[at]:.3f})"


# --- Pictures and numbers ---------------------------------------------------------------------------------------------


def _draw(folder: Path, after: Attended, before: Attended | None) -> None:
    def picture(values: np.ndarray, title: str) -> Any:
        return drawing.heat_map(values, after.tokens, after.tokens, title)

    def saved(pictures: Sequence[Any], name: str, columns: int = _MAPS_IN_A_LINE) -> None:
        drawing.side_by_side(pictures, columns).save(folder / name)

    for layer, heads in enumerate(after.attentions, 1):
        maps = [picture(one, f"layer {layer}, head {head}") for head, one in enumerate(heads, 1)]
        saved(maps, f"heads-layer-{layer}.png")
    means = after.attentions.mean(axis=1)
    saved([picture(one, f"layer {layer}") for layer, one in enumerate(means, 1)], "layers.png")
    saved([picture(one, f"rollout, layer {layer}") for layer, one in enumerate(after.rollout, 1)], "rollout.png")
    if before is not None:
        pairs = zip(before.attentions.mean(axis=1), means, strict=True)
        maps = [
            picture(one, f"layer {layer}, {when}")
            for layer, both in enumerate(pairs, 1)
            for one, when in zip(both, ("before", "after"), strict=True)
        ]
        saved(maps, "before-after.png", columns=2)


def _save_arrays(folder: Path, after: Attended, before: Attended | None, importance: Importance | None) -> None:
    arrays: dict[str, Any] = {
        "tokens": np.array(after.tokens),
        "after": after.attentions,
        "rollout": after.rollout.astype(np.float32),
    }
    if before is not None:
        arrays["before"] = before.attentions
    if importance is not None:
        arrays["importance"] = importance.values
    np.savez_compressed(folder / ARRAYS, **arrays)


def page(
    texts: Sequence[str], after: Attended, before: Attended | None, importance: Importance | None, answer: str | None
) -> str:
    """The page as one HTML document, which needs no network and no other file."""
    shown = [("before", before), ("after", after)] if before is not None else [("attention", after)]
    layers, heads = after.attentions.shape[:2]
    data = {
        "tokens": after.tokens,
        "layers": layers,
        "heads": heads,
        "models": [_packed(name, one) for name, one in shown if one is not None],
    }
    return pages.template("tfft.pages", "attention").render(
        title=texts[0][:60],
        texts=texts,
        answer=answer,
        importance=None if importance is None else _marked(importance),
        data=data,
    )


def _packed(name: str, attended: Attended) -> dict[str, str]:
    def packed(shares: np.ndarray) -> str:
        return base64.b64encode(np.rint(shares * 255).astype(np.uint8).tobytes()).decode("ascii")

    return {"name": name, "attentions": packed(attended.attentions), "rollout": packed(attended.rollout)}


def _marked(importance: Importance) -> Mapping[str, Any]:
    """The tokens, with what each adds and how it is marked."""
    largest = max(float(np.abs(importance.values).max()), np.finfo(np.float32).tiny)
    tokens = []
    for token, value in zip(importance.tokens, importance.values, strict=True):
        grade = sum(abs(value) / largest >= mark for mark in _MARKS) + 1
        kind = f"{'for' if value > 0 else 'against'}-{grade}" if abs(value) / largest >= _MARKS[0] else ""
        tokens.append({"token": token, "share": f"{value:+.2f}", "value": f"{value:+.5f}", "kind": kind})
    return {
        "tokens": tokens,
        "logit": f"{importance.logit:.3f}",
        "baseline": f"{importance.baseline_logit:.3f}",
    }


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "attention")
