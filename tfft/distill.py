"""`python -m tfft.distill`: a smaller model learns from a larger one of the same labels, or from any encoder.

It is `python -m tfft.fit` on a recipe with a section `distillation`, and refuses one without.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfft import command
from tfft.errors import RecipeError
from tfft.fit import chosen_recipe, fit, parser, train_by

if TYPE_CHECKING:
    from tfft.fit import FitResult
    from tfft.recipe import Recipe


def distill(recipe: Recipe | str | os.PathLike[str] | None = None, **given: Any) -> FitResult:
    """Trains a student as a recipe's section `distillation` says, and returns it with its scores.

    Args:
        recipe: a `Recipe`, a shipped recipe's name, the path of a YAML file, or None where settings say everything.
        given: rows, switches, callbacks and settings, all as `tfft.fit` takes them:
            `distillation={"teacher": "runs/mrpc"}`.

    Raises:
        UserError: the recipe has no teacher, or anything that `tfft.fit` refuses.
    """
    of_fit = {name: value for name, value in given.items() if name in inspect.signature(fit).parameters}
    settings = {name: value for name, value in given.items() if name not in of_fit}
    chosen = chosen_recipe(recipe, settings, rows_given=of_fit.get("train") is not None)
    _check(chosen)
    return fit(chosen, **of_fit)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    wanted = parser(
        "distill",
        "Train a smaller model to say what a larger one says, as a recipe's section distillation has it.",
        "--recipe mrpc distillation.teacher=runs/mrpc model.name_or_path=runs/mrpc/model model.keep_layers=6 "
        "output_dir=runs/small",
    )
    return train_by(wanted, argv, _check)


def _check(chosen: Recipe) -> None:
    if chosen.distillation is None:
        raise RecipeError(
            "distillation: missing; expected a section with a teacher, such as distillation.teacher=runs/mrpc (a "
            "finished run); python -m tfft.fit trains without one"
        )


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "distill")
