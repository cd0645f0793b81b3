"""`python -m tfft.pretrain`: goes on with a model's pretraining, on text without labels. Its flow is that of `fit`.

Masked language modelling on text of the domain or of the task, before a model is fine-tuned: Gururangan et al. 2020,
"Don't Stop Pretraining". What comes out is a checkpoint for `model.name_or_path`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfft import command, tasks
from tfft.errors import RecipeError
from tfft.fit import chosen_recipe, fit, parser, train_by

if TYPE_CHECKING:
    from tfft.fit import FitResult
    from tfft.recipe import Recipe


def pretrain(recipe: Recipe | str | os.PathLike[str] | None = None, **given: Any) -> FitResult:
    """Trains a masked-LM model as a recipe with `task: fill-mask` says, and returns it with its perplexity.

    Args:
        recipe: as in `tfft.fit`.
        given: rows (with a column of texts), switches, callbacks and settings, all as `tfft.fit` takes them.

    Returns:
        What `tfft.fit` returns. `scores` has `before`, the validation text's `loss` (nats a hidden token), `perplexity`
        and `accuracy` before training, and `eval`, the same afterwards. The checkpoint is in `output_dir / "model"`.

    Raises:
        UserError: as `tfft.fit`; or the recipe's task is another.
    """
    of_fit = {name: value for name, value in given.items() if name in inspect.signature(fit).parameters}
    settings = {name: value for name, value in given.items() if name not in of_fit}
    if recipe is None:
        settings = {"task": tasks.FILL_MASK, **settings}
    chosen = chosen_recipe(recipe, settings, rows_given=of_fit.get("train") is not None)
    _check(chosen)
    return fit(chosen, **of_fit)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    wanted = parser(
        "pretrain",
        "Go on with the pretraining of a Hugging Face model in TensorFlow, on text without labels.",
        "--recipe legal data.train_file=contracts.txt",
    )
    return train_by(wanted, argv, _check)


def _check(recipe: Recipe) -> None:
    if recipe.task != tasks.FILL_MASK:
        raise RecipeError(
            f"task: got {recipe.task}; expected {tasks.FILL_MASK}, which learns from text without labels; "
            "python -m tfft.fit trains the others"
        )


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "pretrain")
