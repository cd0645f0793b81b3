"""The text of a card, with a mark by which it is known whether somebody has changed it since."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import jinja2
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from tfft import tasks
from tfft.cards.limits import limits
from tfft.cards.markdown import Markdown, escaped, fenced, listed
from tfft.cards.metadata import front_matter
from tfft.cards.subject import SPLITS, Subject

_MARK = "<!-- Written by tfft; a card whose text is not of this checksum any more is kept as it is: {} -->\n"
_MARKED = re.compile(re.escape(_MARK).replace(re.escape("{}"), "([0-9a-f]{64})"))
_MOST_CLASSES = 100
_EXAMPLES = ("A text to be answered.", "Another one.")
_WHAT = {
    tasks.SINGLE_LABEL: "gives each {} one of {:,} classes",
    tasks.MULTI_LABEL: "gives each {} any number of {:,} labels",
    tasks.REGRESSION: "gives each {} a number",
    tasks.TOKENS: "gives each word of a {} one of {:,} tags",
}


def write(subject: Subject) -> str:
    """The whole card: front matter, text and mark."""
    body = _template().render(
        subject=subject,
        recipe=subject.recipe,
        training=subject.metrics["train"],
        what=_what(subject),
        settings=list(_settings(subject)),
        splits={split: subject.scores(split) for split in SPLITS if subject.scores(split)},
        evaluation=subject.evaluations.get("validation"),
        classes=_classes(subject),
        train_classes=sorted(subject.train_classes.items(), key=lambda one: -one[1])[:_MOST_CLASSES],
        limits=limits(subject),
        uses=list(_uses(subject)),
        recipe_block=fenced(subject.recipe_as_yaml(), "yaml"),
        versions=_versions(subject),
    )
    text = f"---\n{front_matter(subject)}---\n\n{body.strip()}\n\n"
    return text + _MARK.format(_checksum(text))


def is_ours(card: str) -> bool:
    """Whether a card is as `write` has written it, to the last letter."""
    found = _MARKED.search(card)
    return found is not None and found.end() == len(card) and found[1] == _checksum(card[: found.start()])


def is_somebodys(card: str) -> bool:
    """Whether a card on the hub says something that `write` has not written; front matter alone is the hub's own."""
    body = REGEX_YAML_BLOCK.sub("", card, count=1)
    return bool(body.strip()) and not is_ours(card)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@functools.cache
def _template() -> jinja2.Template:
    text = resources.files(__package__ or "").joinpath("card.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        # What comes from data is escaped wherever it is put; what is Markdown says so by its type.
        finalize=escaped,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(listed=listed, score=_score, interval=_interval)
    return environment.from_string(text)


def _score(value: float | None) -> Markdown:
    return Markdown("-" if value is None else f"{value:.4f}")


def _interval(score: dict[str, float | None]) -> Markdown:
    low, high = score["low"], score["high"]
    return Markdown("-" if low is None or high is None else f"{low:.4f} to {high:.4f}")


def _what(subject: Subject) -> str:
    rows = "sentence" if subject.problem_type == tasks.TOKENS else "text"
    if len(subject.recipe.data.text_columns) == 2:
        rows = "pair of texts"
    return _WHAT[subject.problem_type].format(rows, len(subject.labels))


def _classes(subject: Subject) -> list[Any]:
    """What is told of each class; of many, those with the most rows."""
    classes = subject.evaluations.get("validation", {}).get("classes", [])
    return classes if len(classes) <= _MOST_CLASSES else sorted(classes, key=lambda one: -one["wanted"])[:_MOST_CLASSES]


def _settings(subject: Subject) -> Iterator[tuple[str, Any]]:
    """What is told of the training in a table; all of it is in the recipe."""
    training, told = subject.recipe.training, subject.metrics["train"]
    environment = subject.metrics.get("environment", {})
    yield "Checkpoint", subject.base if subject.base_id else f"{subject.base} (a folder)"
    yield "Method", training.strategy.replace("_", " ")
    yield "Rows", f"{told['rows']:,}"
    yield "Epochs", f"{told['epochs']:g}, {told['steps']:,} steps; weights of epoch {told['kept_epoch']}"
    yield "Learning rate", f"{training.learning_rate:g}, {training.lr_scheduler_type}"
    yield (
        "Batch size of a device",
        (
            f"{training.per_device_train_batch_size}, {training.gradient_accumulation_steps} batches a step"
            if training.gradient_accumulation_steps > 1
            else training.per_device_train_batch_size
        ),
    )
    yield "Optimizer", f"{training.optimizer}, weight decay {training.weight_decay:g}"
    yield "Parameters", f"{told['parameters']:,}"
    yield (
        "Precision",
        {"no": "float32"}.get(environment.get("mixed_precision"), environment.get("mixed_precision", "not told")),
    )
    yield "Seed", subject.recipe.seed


def _versions(subject: Subject) -> Markdown:
    environment = subject.metrics.get("environment", {})
    names = ("tfft", "tensorflow", "tf_keras", "transformers", "tokenizers", "datasets")
    return listed([f"{name} {environment[name]}" for name in names if environment.get(name)])


def _uses(subject: Subject) -> Iterator[tuple[str, Markdown]]:
    """What it is used with, and the code."""
    if not subject.has_own_head:
        yield "Transformers on TensorFlow", fenced(_of_transformers(subject), "python")
    yield "tfft", fenced(_of_tfft(subject), "python")


def _of_transformers(subject: Subject) -> str:
    auto_class = tasks.TASKS[subject.recipe.task].auto_class
    texts = _EXAMPLES[: len(subject.recipe.data.text_columns)]
    length = subject.recipe.data.max_length
    cut = "truncation=True" + (f", max_length={length}" if length else "")
    return (
        f"from transformers import AutoTokenizer, {auto_class}\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{subject.repository}")\n'
        f'model = {auto_class}.from_pretrained("{subject.repository}")\n'
        f'inputs = tokenizer({", ".join(map(_quoted, texts))}, {cut}, return_tensors="tf")\n'
        "print(model(**inputs).logits, model.config.id2label)\n"
    )


def _of_tfft(subject: Subject) -> str:
    data = subject.recipe.data
    texts = _EXAMPLES[: len(data.text_columns)]
    given = _quoted(texts[0]) if len(texts) == 1 else f"({', '.join(map(_quoted, texts))})"
    imports, settings = ["import tfft", "from huggingface_hub import snapshot_download"], []
    if data.max_length:
        settings.append(f"max_length={data.max_length}")
    if data.long_text != "truncate":
        imports.append("from tfft.data.windows import LongText")
        settings.append(f'long_text=LongText("{data.long_text}", {data.stride or 0})')
        settings.append(f'window_pooling="{data.window_pooling}"')
    loaded = [f'model = tfft.load(snapshot_download("{subject.repository}"))']
    if settings:
        imports.insert(0, "import dataclasses\n")
        loaded.append(f"model = dataclasses.replace(model, {', '.join(settings)})")
    return "\n".join([*imports, "", *loaded, f"print(model.predict([{given}]))"])


def _quoted(text: str) -> str:
    return f'"{text}"'
