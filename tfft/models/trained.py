"""A model that was trained for labels, with the head that its folder has: what it says, and what of."""

from __future__ import annotations

from tfft import tasks
from tfft.backend import keras
from tfft.errors import ModelError
from tfft.models import headed
from tfft.models.checkpoint import Checkpoint
from tfft.models.load import load_classifier


def problem_type(source: Checkpoint) -> str:
    """What the labels of a saved model are; one output without `problem_type` is a number, as in Transformers.

    Raises:
        ModelError: it gives no labels.
    """
    config = source.config
    architecture = next(iter(config.architectures or ()), "")
    if architecture.removeprefix("TF").endswith("ForTokenClassification"):
        return tasks.TOKENS
    if not source.is_headed and not architecture.endswith("ForSequenceClassification"):
        mend = (
            f"; it fills in words (python -m tfft.predict --task fill-mask --model {source.folder}), and a classifier "
            f"is trained from it by model.name_or_path={source.folder}"
        )
        raise ModelError(
            f"{source.name} is a {architecture or config.model_type}, which gives no labels; expected a model for text "
            "classification (…ForSequenceClassification) or token classification (…ForTokenClassification)"
            + (mend if architecture.endswith("ForMaskedLM") else "")
        )
    return config.problem_type or (tasks.REGRESSION if config.num_labels == 1 else tasks.SINGLE_LABEL)


def label_names(source: Checkpoint) -> tuple[str, ...]:
    """The classes of a saved model, in the order of its outputs."""
    return tuple(source.config.id2label[at] for at in range(source.config.num_labels))


def load(source: Checkpoint) -> keras.Model:
    """The model that gives the logits of these labels.

    Raises:
        ModelError: it lacks weights, its head's among them, or cannot be loaded.
    """
    if source.is_headed:
        return headed.load_headed(source.folder)
    kind = problem_type(source)
    task = next(one for one in tasks.TASKS.values() if kind in one.problem_types)
    loaded = load_classifier(source, label_names(source), task.auto_class, kind)
    if loaded.new:
        raise ModelError(
            f"{source.name} lacks weights that its config.json asks for ({', '.join(loaded.new[:3])}), so its answers "
            "would be random; train it first, or copy the folder again"
        )
    return loaded.model
