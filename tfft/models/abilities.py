"""What a checkpoint can do of the tasks that Transformers has pipelines for, told before its weights are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from tfft.errors import ModelError, nearest
from tfft.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Task:
    """A task of Transformers' pipelines.

    Attributes:
        auto_class: the TensorFlow class of Transformers that loads its models.
        example: a model of the hub that can do it.
    """

    auto_class: str
    example: str


_CLASSIFIER, _SEQ2SEQ = "TFAutoModelForSequenceClassification", "TFAutoModelForSeq2SeqLM"
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "text-classification": Task(_CLASSIFIER, "distilbert/distilbert-base-uncased-finetuned-sst-2-english"),
        "token-classification": Task(
            "TFAutoModelForTokenClassification", "dbmdz/bert-large-cased-finetuned-conll03-english"
        ),
        "question-answering": Task(
            "TFAutoModelForQuestionAnswering", "distilbert/distilbert-base-cased-distilled-squad"
        ),
        "fill-mask": Task("TFAutoModelForMaskedLM", "distilbert/distilroberta-base"),
        "text-generation": Task("TFAutoModelForCausalLM", "openai-community/gpt2"),
        "summarization": Task(_SEQ2SEQ, "google-t5/t5-small"),
        "translation": Task(_SEQ2SEQ, "google-t5/t5-base"),
        "zero-shot-classification": Task(_CLASSIFIER, "facebook/bart-large-mnli"),
    }
)
ALIASES: Mapping[str, str] = MappingProxyType(
    {"sentiment-analysis": "text-classification", "ner": "token-classification"}
)
_TRANSLATION = re.compile(r"translation_[^_]+_to_[^_]+")
# Of architectures without a head, or with heads of pretraining: GPT2Model, BertForPreTraining, "bert model".
_HEADLESS = re.compile(r"(?i:model)$|ForPreTraining$")


def task_of(name: str) -> str:
    """The key of `TASKS` that a name means: `ner`, `sentiment-analysis` and `translation_en_to_fr` are names too.

    Raises:
        ModelError: there is no such task.
    """
    if _TRANSLATION.fullmatch(name):
        return "translation"
    if (task := ALIASES.get(name, name)) in TASKS:
        return task
    known = [*TASKS, *ALIASES, "translation_XX_to_YY"]
    near = nearest(name, known)
    raise ModelError(f"task: got {name}; expected one of {', '.join(known)}{f'; did you mean {near}?' if near else ''}")


def tensorflow_classes(auto_class: str) -> Mapping[str, str]:
    """The kinds of models that a class such as `TFAutoModelForCausalLM` can make, and the class that each becomes."""
    from transformers.models.auto import modeling_tf_auto

    # Nothing public says it by name, and going through its configurations would import them all.
    names: Mapping[str, str] = getattr(modeling_tf_auto, auto_class)._model_mapping._model_mapping
    return names


def abilities(checkpoint: Checkpoint) -> tuple[str, ...] | None:
    """The tasks that a checkpoint was made for, by its architecture; None where only its weights can tell.

    That is so where `config.json` names no head: some of these checkpoints need none, as those of BART.

    Example:
        >>> from tfft.models import checkpoint
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> abilities(found)  # a BertModel
        >>> found.config.architectures = ["BertForMaskedLM"]
        >>> abilities(found)
        ('fill-mask',)
    """
    config = checkpoint.config
    if checkpoint.is_headed:
        found = ["text-classification", "zero-shot-classification"]
    else:
        wanted = f"TF{architecture(checkpoint)}"
        found = [
            task for task, one in TASKS.items() if tensorflow_classes(one.auto_class).get(config.model_type) == wanted
        ]
    if not found and _HEADLESS.search(architecture(checkpoint)):
        return None
    return tuple(task for task in found if task != "zero-shot-classification" or entails(config))


def architecture(checkpoint: Checkpoint) -> str:
    """A checkpoint's architecture, such as `BertForMaskedLM`, or its kind where `config.json` names none."""
    named = next(iter(checkpoint.config.architectures or ()), "").removeprefix("TF")
    return named or f"{checkpoint.config.model_type} model"


def entails(config: Any) -> bool:
    """Whether one of a classifier's labels says that the second text follows from the first."""
    return any(str(label).lower().startswith("entail") for label in (config.label2id or {}))


def check(task: str, checkpoint: Checkpoint) -> None:
    """Raises a ModelError that says what a checkpoint is and can do, unless it can do a task as far as its files tell.

    Args:
        task: a key of `TASKS`.
        checkpoint: see `checkpoint.find`.
    """
    found, config = abilities(checkpoint), checkpoint.config
    if config.model_type not in tensorflow_classes(TASKS[task].auto_class):
        why = f"of which Transformers has no TensorFlow model for {task}"
    elif found is None or task in found:
        return
    elif task == "zero-shot-classification" and "text-classification" in found:
        why = (
            f"and none of its labels ({', '.join(map(str, list(config.label2id)[:4]))}) is entailment, as {task} needs"
        )
    else:
        why = f"which is not made for {task}"
    raise ModelError(f"{checkpoint.name} is a {architecture(checkpoint)}, {why}; {_instead(found)}")


def refuse(task: str, checkpoint: Checkpoint, lacking: Sequence[str]) -> NoReturn:
    """Raises a ModelError that names weights which a model for the task has and the checkpoint lacks."""
    raise ModelError(
        f"{checkpoint.name} is a {architecture(checkpoint)} without the head for {task}: it lacks "
        f"{', '.join(lacking[:3])}{', …' if len(lacking) > 3 else ''}, so answers would be random; "
        f"{_instead(abilities(checkpoint))}"
    )


def _instead(found: tuple[str, ...] | None) -> str:
    if found:
        return f"it can do {' and '.join(found)}"
    return (
        "it can do none of the pipelines' tasks as it is, but an encoder can be fine-tuned: python -m tfft.fit --help"
    )
