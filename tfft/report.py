"""`python -m tfft.report`: a finished run on one page to be read offline; a fit writes the same at its end."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfft import command
from tfft.errors import RunError, UserError

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.data import Rows, Split
    from tfft.predictor import Predictor
    from tfft.recipe import Recipe
    from tfft.reports import Scored
    from tfft.rescored import RunModel


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_args(argv)
    if not arguments.verbose:
        from tfft import console

        console.silence_libraries()
    report(arguments.run, arguments.output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.report",
        description="Write a finished run as one HTML page to be read offline: learning curves, scores with intervals, "
        "the worst errors, labels that are likely wrong, rows that occur twice, lengths, settings. A fit writes it at "
        "its end unless training.report=false.",
        epilog="Example: python -m tfft.report runs/mrpc",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a finished run's folder")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


def report(run: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, *, verbose: bool = True) -> Path:
    """Writes a finished run as one HTML page, which needs no network and no other file.

    The validation rows are those that the run has kept; training and test rows are read again where they still are.

    Args:
        run: its folder.
        output: the page; None is `report.html` in the run. One that is there is replaced.
        verbose: say where it is.

    Returns:
        The page.

    Raises:
        UserError: the run cannot be used, or the page cannot be written.
    """
    from tfft.run_directory import REPORT, disk_errors, find_run

    folder, recipe = find_run(run, "what its training was")
    page = folder / REPORT if output is None else Path(output)
    command.check_can_be_written(page)
    from tfft import environment
    from tfft.console import Voice

    environment.check()
    from tfft import reports, rescored, tasks, whole

    voice = Voice(silent=not verbose)
    scored, splits, notes = None, [], []
    if recipe.task == tasks.FILL_MASK:
        notes = ["This page says nothing of the documents: the blocks of tokens that were made of them are not kept."]
    else:
        model = rescored.load(folder, recipe)
        scored = _scored(folder, recipe, model, voice)
        others, notes = _other_splits(recipe, model.predictor, voice)
        splits = [others.get("train"), None if scored is None else scored.split, others.get("test")]
    material = reports.Material(
        os.fspath(run),
        recipe,
        whole.read_json(folder / "metrics.json"),
        _history(folder),
        scored,
        [split for split in splits if split is not None],
        notes,
    )
    text = reports.page(material)
    mend = "free the disk, or give another place by --output"
    with disk_errors(f"writing {page}", mend), whole.whole_file(page) as file:
        file.write(text)
    voice.say(f"the report is {page}")
    return page


def _scored(folder: Path, recipe: Recipe, model: RunModel, voice: Voice) -> Scored | None:
    """The validation rows with the model's logits; None where the run has none."""
    from tfft import reports, rescored, validated

    if not (folder / validated.FILE).is_file():
        return None
    return reports.Scored(model.predictor.problem, *rescored.of_validated(folder, recipe, model, voice))


def _history(folder: Path) -> list[dict[str, float]]:
    """The numbers of every epoch."""
    path = folder / "history.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"run: {path} is not as the run has written it ({error}); copy the run again") from None


# --- Rows that the run has not kept -----------------------------------------------------------------------------------


def _other_splits(recipe: Recipe, predictor: Predictor, voice: Voice) -> tuple[dict[str, Split], list[str]]:
    """Training and test rows as token ids, where they still are; and what is to be said of the data."""
    from tfft import data, tasks

    section = recipe.data
    if section.train_file is None and section.dataset_name is None:
        what = "lie in shards" if section.shards is not None else "came from Python"
        return {}, [f"The training rows {what}, so this page says nothing of them."]
    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    try:
        splits = data.read(section, recipe.seed, problem_type=problem_type, needs_labels=recipe.needs_train_labels)
        found = {
            name: _encoded(name, rows, recipe, predictor, problem_type)
            for name, rows in (("train", splits.train), ("test", splits.test))
            if rows is not None
        }
    except UserError as error:
        reason = str(error).splitlines()[0]
        voice.say(f"without the training rows: {reason}")
        return {}, [f"The training rows could not be read again, so this page says nothing of them: {reason}"]
    return found, list(splits.notes)


def _encoded(name: str, rows: Rows, recipe: Recipe, predictor: Predictor, problem_type: str) -> Split:
    from tfft import data
    from tfft.data import labels
    from tfft.data.encode import cache_folder

    class_ids = None
    if rows.labels is not None:
        class_ids = labels.encode_labels(rows, labels.known_labels(predictor.label_names, rows, problem_type))
    return data.encode_split(
        name,
        rows,
        class_ids,
        predictor.tokenizer,
        predictor.max_length,
        cache_folder(),
        label_all_tokens=recipe.data.label_all_tokens,
        long_text=predictor.long_text,
    )


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "report")
