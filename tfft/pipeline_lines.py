"""`python -m tfft.predict --task … --model …`: what a pipeline says of texts, a line of JSON for each."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfft import command, typed
from tfft.errors import DataError
from tfft.models.abilities import task_of

if TYPE_CHECKING:
    from tfft.models.mended import InBatches

_QUESTIONS_AT_ONCE = 512
_GENERATION = ("max_new_tokens", "seed")
# The options that a task takes; without those of the second table it cannot answer.
TAKES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text-classification": ("top_k", "pairs"),
        "token-classification": ("aggregation_strategy",),
        "question-answering": ("context", "top_k"),
        "fill-mask": ("top_k",),
        "text-generation": _GENERATION,
        "summarization": _GENERATION,
        "translation": _GENERATION,
        "zero-shot-classification": ("candidate_labels",),
    }
)
NEEDS: Mapping[str, str] = MappingProxyType(
    {"question-answering": "context", "zero-shot-classification": "candidate_labels"}
)
# All of them, none twice.
OPTIONS = tuple(dict.fromkeys(itertools.chain(*TAKES.values())))


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, positive: Any) -> None:
    """The options that only pipelines take. `positive` is the type of numbers of at least 1."""
    group = parser.add_argument_group("a task of Transformers' pipelines")
    group.add_argument(
        "--task", metavar="TASK", help=f"{', '.join(TAKES)}; or sentiment-analysis, ner, translation_en_to_fr"
    )
    group.add_argument("--model", metavar="MODEL", help="a folder, a run, package:NAME/FOLDER, or a hub id")
    group.add_argument("--context", metavar="TEXT", help="what has the answer to questions: a text, or a file with one")
    group.add_argument(
        "--candidate-labels", nargs="+", metavar="LABEL", help="of zero-shot classification (put them behind the texts)"
    )
    group.add_argument("--max-new-tokens", type=positive, metavar="N", help="generate so many tokens at most")
    group.add_argument("--seed", type=int, help="draw what is generated, instead of the likeliest")
    group.add_argument(
        "--aggregation-strategy",
        choices=("none", "simple", "first", "average", "max"),
        help="how tagged tokens become entities (default: none)",
    )


def check_options(arguments: argparse.Namespace) -> str:
    """The task, after a look at the options that came with it.

    Raises:
        UserError: there is no such task, or it takes no such option, or it needs one that is not there.
    """
    task = task_of(arguments.task)
    for name in OPTIONS:
        given = getattr(arguments, name)
        if given is not None and given is not False and name not in TAKES[task]:
            raise DataError(f"{flag(name)}: {task} takes none; it takes {' and '.join(map(flag, TAKES[task]))}")
    if (needed := NEEDS.get(task)) and not getattr(arguments, needed):
        raise DataError(f"{flag(needed)}: expected one, since {task} cannot answer without")
    typed.check_texts([*arguments.texts, *(arguments.candidate_labels or ()), arguments.context or ""])
    return task


def print_answers(arguments: argparse.Namespace) -> None:
    """A line of JSON for each text, in the form that Transformers' pipelines give.

    Raises:
        UserError: an option or a text cannot be used, or the model cannot do the task.
    """
    from tfft.answered import json_line
    from tfft.pipelines import pipeline

    task = check_options(arguments)
    context = None if arguments.context is None else _context(arguments.context)
    made = pipeline(
        arguments.task,
        arguments.model,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        **{
            name: value
            for name in TAKES[task]
            if name not in ("context", "pairs", "seed") and (value := getattr(arguments, name)) is not None
        },
    )
    for answer in _answers(made, task, _texts(arguments, task), context):
        print(json_line(_plain(answer)))
    sys.stdout.flush()


def _context(given: str) -> str:
    """The text, or that of the file of this name."""
    try:
        path = Path(given)
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else given
    except UnicodeDecodeError as error:
        raise DataError(f"--context: {given} is not UTF-8 ({error.reason}); convert it") from None
    except OSError:  # too long for the name of a file
        text = given
    if not text.strip():
        raise DataError("--context: it is empty; give the text that has the answer")
    return text


def _texts(arguments: argparse.Namespace, task: str) -> Iterator[Any]:
    """What the pipeline is given for each answer."""
    given = arguments.texts or typed.lines_of_standard_input()
    if arguments.pairs:
        for text, second in typed.pairs(given, by_tab=not arguments.texts):
            yield {"text": text, "text_pair": second}
        return
    for number, text in enumerate(given, 1):
        if task in NEEDS and not text.strip():
            raise DataError(f"text {number} is empty, of which {task} can say nothing; leave it out")
        yield text


def _answers(made: InBatches, task: str, texts: Iterator[Any], context: str | None) -> Iterable[Any]:
    if task != "question-answering":
        # Some pipelines look at their first text before they begin.
        first = list(itertools.islice(texts, 1))
        return made(text for text in itertools.chain(first, texts)) if first else ()
    return itertools.chain.from_iterable(
        # Of a single question, Transformers gives the answer in no list.
        made(question=piece, context=context) if len(piece) > 1 else [made(question=piece[0], context=context)]
        for piece in iter(lambda: list(itertools.islice(texts, _QUESTIONS_AT_ONCE)), [])
    )


def _plain(value: Any) -> Any:
    """An answer without NumPy's numbers, which JSON does not take, and scores to as many places as they are worth."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    plain = value.item() if hasattr(value, "item") else value
    return round(plain, command.DECIMALS) if isinstance(plain, float) else plain
