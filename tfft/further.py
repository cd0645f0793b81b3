"""Pretraining that goes on before a fine-tuning: the recipe of it, and its text, made of those of the fine-tuning.

Task-adaptive pretraining, on the task's own texts; with a file of other text, domain-adaptive (Gururangan et al. 2020,
"Don't Stop Pretraining", sections 3 and 4).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tfft import data, locations, tasks
from tfft.data import Given, Rows
from tfft.recipe import DataSection, Recipe, TrainingSection


def folder_of(recipe: Recipe) -> str:
    """Where that run goes: beside the recipe's own."""
    return f"{recipe.output_dir.rstrip('/')}-further_pretraining"


def recipe_of(recipe: Recipe) -> Recipe:
    """The recipe of that run; its rows are those of `texts`."""
    section, training = recipe.training.further_pretraining, recipe.training
    assert section is not None
    return Recipe(
        task="fill-mask",
        seed=recipe.seed,
        output_dir=folder_of(recipe),
        model=recipe.model.model_copy(
            # Layers go, and heads come, afterwards.
            update={
                "keep_layers": None,
                "drop_layers": None,
                "head": "default",
                "head_hidden_size": None,
                "head_dropout": None,
            }
        ),
        data=DataSection(
            text_columns=("text",),
            train_file=section.train_file,
            max_length=section.max_length or recipe.data.max_length,
            mlm_probability=section.mlm_probability,
            whole_word_mask=section.whole_word_mask,
            add_tokens=section.add_tokens,
        ),
        training=TrainingSection(
            num_train_epochs=section.epochs,
            learning_rate=section.learning_rate,
            warmup_ratio=section.warmup_ratio,
            weight_decay=section.weight_decay,
            per_device_train_batch_size=section.per_device_train_batch_size or training.per_device_train_batch_size,
            per_device_eval_batch_size=training.per_device_eval_batch_size,
            eval_strategy="epoch" if _has_validation(recipe) else "no",
            save_steps=training.save_steps,
            report=training.report,
            report_to=(),
        ),
        runtime=recipe.runtime,
    )


def _has_validation(recipe: Recipe) -> bool:
    return recipe.training.eval_strategy != "no"


def texts(recipe: Recipe, given: Given | None) -> Given:
    """The training texts, or those of the file that is given for it, and the validation texts; each is a document.

    Of pairs, both texts are documents of their own. Labels are not looked at.

    Raises:
        DataError, HubError: as `data.read`.
    """
    section = recipe.training.further_pretraining
    assert section is not None
    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    splits = data.read(recipe.data, recipe.seed, given, problem_type)
    train = _documents(splits.train)
    if section.train_file is not None:
        path = locations.resolve(section.train_file, "training.further_pretraining.train_file")
        columns = recipe.data.model_copy(update={"text_columns": recipe.data.text_columns[:1]})
        train, _ = data.read_more(columns, path, tasks.MASKED, "training.further_pretraining.train_file")
    validation = None if splits.validation is None or not _has_validation(recipe) else _documents(splits.validation)
    return Given(train, validation)


def _documents(rows: Rows) -> Rows:
    columns = rows.texts
    found: Sequence[str] = columns[0] if len(columns) == 1 else list(itertools.chain(*columns))
    return Rows((found,), None, range(1, len(found) + 1), rows.source)
