"""`python -m tfft.evaluate`: how well a run's model does, how sure that is, where it is worse, what it claims."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfft import command
from tfft.errors import DataError, RecipeError, RunError

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.data import Rows, Split
    from tfft.evaluation import Evaluation
    from tfft.predictor import Predictor
    from tfft.problems import Problem
    from tfft.recipe import Recipe
    from tfft.temperatures import FittedTemperature

# As in `evaluation`, which loads TensorFlow.
RESAMPLES, MIN_ROWS = 1000, 10
FILE = "evaluation.json"

# What of a run's recipe may be said anew: which rows, and how they are scored. All else belongs to the model.
_CHANGEABLE = (
    *("data.train_file", "data.validation_file", "data.test_file", "data.encoding", "data.drop_invalid"),
    *("data.text_columns", "data.label_column", "data.label_columns", "data.label_separator", "data.shards"),
    *("data.max_eval_samples", "data.validation_split_name", "data.test_split_name"),
    *("training.metrics", "training.per_device_eval_batch_size"),
)

_MEND = "nothing of it was kept. Free the disk, or give a folder on another one by --output"


@dataclass(frozen=True)
class _Asked:
    """What is to be evaluated, and how; see `evaluate`."""

    rows: Any = None
    split: Literal["validation", "test"] = "validation"
    slices: tuple[str, ...] = ()
    calibrate: bool = False
    resamples: int = RESAMPLES
    seed: int = 0
    min_rows: int = MIN_ROWS
    output: Path | None = None
    overwrite: bool = False

    @property
    def name(self) -> str:
        """Of the rows, as their folder is called."""
        return self.split if self.rows is None else self.rows.name if isinstance(self.rows, Path) else "rows"


# --- The two doors ----------------------------------------------------------------------------------------------------


def evaluate(
    run: str | os.PathLike[str],
    rows: Any = None,
    *,
    split: Literal["validation", "test"] = "validation",
    slices: Sequence[str] = (),
    calibrate: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    min_rows: int = MIN_ROWS,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> Evaluation:
    """Scores a finished run's model, with intervals, and writes what is found beside it.

    Args:
        run: its folder.
        rows: a file like the recipe's validation file, or rows as `tfft.fit` takes them; None takes the run's own.
        split: which of the run's own.
        slices: columns by whose values rows are scored apart.
        calibrate: fit a temperature on these rows, and keep it in the run for `tfft.load(run, calibrated=True)`.
        resamples, seed: of the bootstrap, by which intervals are made.
        min_rows: values of a column with fewer rows are put together.
        output: the folder for figures and pictures; None is `evaluation/NAME` in the run.
        overwrite: replace an evaluation of other rows that is there.
        verbose: say what is found.
        settings: what differs from the run's recipe as to rows and metrics, as `tfft.fit` takes it.

    Raises:
        UserError: the run or the rows cannot be used; the message says how to mend it.
    """
    from tfft.console import Voice
    from tfft.fit import chosen_recipe

    folder, recipe = _run_and_recipe(run)
    asked = _Asked(
        Path(rows) if isinstance(rows, str | os.PathLike) else rows,
        split,
        tuple(slices),
        calibrate,
        resamples,
        seed,
        min_rows,
        None if output is None else Path(output),
        overwrite,
    )
    chosen = chosen_recipe(recipe, settings, rows_given=True)
    return _run(folder, recipe, chosen, asked, Voice(silent=not verbose))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_intermixed_args(argv)
    from tfft import console

    folder, recipe = _run_and_recipe(arguments.run)
    _, chosen = _run_and_recipe(arguments.run, arguments.overrides)
    if not arguments.verbose:
        console.silence_libraries()
    asked = _Asked(
        arguments.data,
        arguments.split or "validation",
        tuple(arguments.slice),
        arguments.calibrate,
        arguments.resamples,
        arguments.seed,
        arguments.min_rows,
        arguments.output,
        arguments.overwrite,
    )
    if arguments.data is not None and arguments.split is not None:
        raise DataError("--split is of the run's own rows; expected it or --data, not both")
    _run(folder, recipe, chosen, asked, console.Voice())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.evaluate",
        description="Score a finished run's model on its validation rows, its test rows or a file: metrics with "
        "intervals, each class, calibration, slices; as tables, as JSON and as pictures.",
        epilog="Example: python -m tfft.evaluate --run runs/mrpc --data other.csv --slice source. "
        "With other columns: data.text_columns=[question,answer] data.label_column=is_right.",
        allow_abbrev=False,
    )
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished run's folder")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="set a key of the recipe that says which rows, or which metrics",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="rows with labels, in a file as the run was trained on"
    )
    parser.add_argument("--split", choices=["validation", "test"], help="of the run's own rows (default: validation)")
    parser.add_argument(
        "--slice", action="append", default=[], metavar="COLUMN", help="score by this column's values; may be repeated"
    )
    parser.add_argument(
        "--min-rows",
        type=command.positive,
        default=MIN_ROWS,
        help=f"values with fewer rows are put together (default: {MIN_ROWS})",
    )
    parser.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on these rows, and keep it for predict --calibrated"
    )
    parser.add_argument(
        "--resamples", type=command.positive, default=RESAMPLES, help=f"of the bootstrap (default: {RESAMPLES:,})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for figures and pictures (default: RUN/evaluation/NAME)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an evaluation of other rows that is there")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


def _run_and_recipe(run: str | os.PathLike[str], overrides: Sequence[str] = ()) -> tuple[Path, Recipe]:
    from tfft.run_directory import find_run

    return find_run(run, "the recipe that says how rows are read", overrides)


# --- The story --------------------------------------------------------------------------------------------------------


def _run(folder: Path, trained: Recipe, recipe: Recipe, asked: _Asked, voice: Voice) -> Evaluation:
    """Everything, from the recipe to what is written; nothing is before all was computed.

    Args:
        trained: as the run was.
        recipe: with what is to be otherwise.
    """
    from tfft import environment
    from tfft.run_directory import CALIBRATION, EVALUATIONS, disk_errors

    began = time.perf_counter()
    _check(trained, recipe, asked)
    target = asked.output or folder / EVALUATIONS / asked.name
    _check_folder(target)
    if asked.calibrate:
        _check_can_be_written(folder)
    environment.check()

    from tfft import evaluation, evaluation_tables, rescored, temperatures

    model = rescored.load(folder, trained)
    problem = model.predictor.problem
    if asked.calibrate:
        _check_has_probabilities(problem)
    split, columns = _split_and_columns(recipe, asked, model.predictor, voice)
    _check_same_rows(target, split, asked.overwrite)
    logits = rescored.logits(model, recipe, split, voice)
    temperature = rescored.temperature(folder, model)
    if asked.calibrate:
        temperature = evaluation.fit_temperature(problem, logits, split)
    found = evaluation.make(
        problem,
        logits,
        split,
        recipe.metric_names,
        resamples=asked.resamples,
        seed=asked.seed,
        min_rows=asked.min_rows,
        columns=columns,
        temperature=temperature,
    )
    evaluation_tables.show(voice, found, f"Scores of {folder.name}")
    about = {"run": str(folder), "data": asked.name, "precision": model.precision.name}
    fitted = _fitted(found, model.weights) if asked.calibrate else None
    seconds = time.perf_counter() - began
    with disk_errors(f"writing {target}", _MEND):
        _write(target, found, {**about, "seconds": seconds}, _numbers(problem, logits, split))
    voice.say(f"all figures are in {target / FILE}, the pictures beside them ({seconds:,.1f} s)")
    if fitted is not None:
        with disk_errors(f"writing {folder / CALIBRATION}", _MEND):
            temperatures.write(folder, fitted)
        voice.say(
            f"temperature {fitted.temperature:.4f}, fitted on {fitted.fitted_on}, is in the run: "
            f"python -m tfft.predict --run {folder} --calibrated. Figures at it are of the rows that it was fitted on; "
            "other rows say what it is worth (--data, --split test)"
        )
    return found


# --- What is looked at first ------------------------------------------------------------------------------------------


def _check(trained: Recipe, recipe: Recipe, asked: _Asked) -> None:
    """Raises a UserError where what is asked for cannot be."""
    from tfft.recipe import KEYS

    def at(one: Recipe, key: str) -> Any:
        section, _, name = key.rpartition(".")
        return getattr(getattr(one, section) if section else one, name, None)

    if changed := [key for key in KEYS if at(trained, key) != at(recipe, key) and key not in _CHANGEABLE]:
        raise RecipeError(
            f"{changed[0]}: the model was trained with {at(trained, changed[0])!r}, which stays; expected keys that "
            f"say which rows, or how they are scored: {', '.join(_CHANGEABLE)}"
        )
    if asked.calibrate and asked.rows is None and asked.split == "test":
        raise RunError(
            "--calibrate: a temperature is fitted on validation rows, since test rows that it was fitted on test "
            "nothing any more; leave out --split test"
        )
    for option, given, least in (
        ("--resamples", asked.resamples, 1),
        ("--seed", asked.seed, 0),
        ("--min-rows", asked.min_rows, 1),
    ):
        if given < least:
            raise RunError(f"{option}: got {given}; expected {least} or more")
    data = recipe.data
    if asked.rows is None and data.train_file is None and data.dataset_name is None and data.shards is None:
        raise DataError("the run was trained on rows from Python, which it does not keep; give rows by --data FILE")


def _check_folder(target: Path) -> None:
    """Raises a RunError where the folder cannot be written, or is somebody's."""
    there = next(one for one in (target, *target.absolute().parents) if os.path.lexists(one))
    if not os.path.isdir(there):
        raise RunError(f"--output: {there} is a file; give a folder")
    _check_can_be_written(there)
    if target.is_dir() and any(target.iterdir()) and not (target / FILE).is_file():
        raise RunError(f"--output: {target} holds files that are not an evaluation's; give a new folder")


def _check_can_be_written(there: Path) -> None:
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError(
            f"{there} cannot be written (no permission); copy the run to where you may write, or give --output and no "
            "--calibrate"
        )


def _check_same_rows(target: Path, split: Split, overwrite: bool) -> None:
    """Raises a RunError where there is an evaluation of other rows that is not to be replaced."""
    from tfft.whole import read_json

    if not target.is_dir() or overwrite:
        return
    before = read_json(target / FILE)
    if before and before.get("fingerprint") != split.fingerprint():
        raise RunError(
            f"{target} holds an evaluation of other rows ({before.get('rows')} of {before.get('source')}); give "
            "another folder by --output, or --overwrite to replace it"
        )


def _check_has_probabilities(problem: Problem) -> None:
    from tfft.problems import Regression

    if isinstance(problem, Regression):
        raise RunError(
            "--calibrate: the run's model predicts numbers, which have no probabilities to calibrate; leave it out"
        )


# --- Rows -------------------------------------------------------------------------------------------------------------


def _split_and_columns(
    recipe: Recipe, asked: _Asked, predictor: Predictor, voice: Voice
) -> tuple[Split, dict[str, list[Any]]]:
    """The rows with their labels as the model's class ids, and the columns to slice by."""
    from tfft import data, tasks
    from tfft.data import labels
    from tfft.data.encode import cache_folder

    if asked.rows is None and recipe.data.shards is not None:
        return _split_of_shards(recipe, asked, predictor), {}
    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    rows, notes = _rows(recipe, asked, problem_type)
    for note in notes:
        voice.say(note)
    columns = _columns(recipe, asked, rows) if asked.slices else {}
    label_map = labels.known_labels(predictor.label_names, rows, problem_type)
    with voice.bar() as bar:
        task = bar.add_task("encoding", total=len(rows), detail="")
        split = data.encode_split(
            asked.split,
            rows,
            labels.encode_labels(rows, label_map),
            predictor.tokenizer,
            predictor.max_length,
            cache_folder(),
            lambda done: bar.advance(task, done),
            recipe.data.label_all_tokens,
            predictor.long_text,
        )
    return split, columns


def _rows(recipe: Recipe, asked: _Asked, problem_type: str) -> tuple[Rows, Sequence[str]]:
    from tfft import data

    if asked.rows is not None:
        return data.read_more(recipe.data, asked.rows, problem_type, "--data")
    own = _own_file(recipe, asked.split)
    if own is not None and not own.exists():
        raise DataError(
            f"the run's {asked.split} rows are not there any more: there is no file {own}. Say where they are "
            f"(data.{asked.split}_file=FILE), or give rows by --data FILE"
        )
    rows, notes = data.read_split(recipe.data, recipe.seed, asked.split, problem_type, recipe.needs_train_labels)
    if rows is None:
        raise DataError(f"the run has no {asked.split} rows; give rows by --data FILE")
    if rows.labels is None:
        raise DataError(f"{rows.source}: there are no labels to score against; give rows with labels by --data FILE")
    return rows, notes


def _own_file(recipe: Recipe, split: str) -> Path | None:
    """The file that the run's rows are in, where they are in one."""
    from tfft import locations

    section = recipe.data
    path = getattr(section, f"{split}_file")
    if path is None and split == "validation" and section.validation_split is not None:
        path = section.train_file
    return None if path is None else locations.resolve(path, f"data.{split}_file")


def _columns(recipe: Recipe, asked: _Asked, rows: Rows) -> dict[str, list[Any]]:
    from tfft.data import hub_sets, other_columns

    section = recipe.data
    file = asked.rows if isinstance(asked.rows, Path) else None
    if asked.rows is None:
        file = _own_file(recipe, asked.split)
    if file is not None:
        return other_columns.of_file(file, section.encoding, asked.slices, rows)
    if asked.rows is not None:
        return other_columns.of_python(asked.rows, asked.slices, rows)
    assert section.dataset_name is not None, "rows are in files, in shards, given, or of the hub"
    dataset = hub_sets.load_split(section.dataset_name, section.dataset_config_name, rows)
    return other_columns.of_python(dataset, asked.slices, rows)


def _split_of_shards(recipe: Recipe, asked: _Asked, predictor: Predictor) -> Split:
    from tfft import assembly
    from tfft.console import Voice
    from tfft.models import checkpoint

    if asked.slices:
        raise DataError("--slice: rows in shards have no columns but texts and labels; give the file by --data")
    source = checkpoint.find(recipe.model.name_or_path, recipe.model.revision)
    prepared = assembly.prepare(recipe, None, source, predictor.tokenizer, predictor.max_length, Voice(silent=True))
    split = getattr(prepared, asked.split)
    if split is None or split.labels is None:
        raise DataError(f"the run's shards have no {asked.split} rows with labels; give rows by --data FILE")
    found: Split = split
    return found


# --- What is left -----------------------------------------------------------------------------------------------------


def _numbers(problem: Problem, logits: Any, split: Split) -> tuple[Any, Any] | None:
    """Predicted and true numbers, where those are learned."""
    from tfft.problems import Regression

    return problem.compared(logits, split) if isinstance(problem, Regression) else None


def _fitted(found: Evaluation, weights: str) -> FittedTemperature:
    from tfft.temperatures import FittedTemperature

    before, after = found.calibration, found.calibrated
    assert before is not None and after is not None
    return FittedTemperature(
        after.temperature,
        weights,
        f"{found.source} ({found.rows:,} {found.unit})",
        found.rows,
        {"ece": before.ece, "nll": before.nll},
        {"ece": after.ece, "nll": after.nll},
    )


def _write(target: Path, found: Evaluation, about: dict[str, Any], numbers: tuple[Any, Any] | None) -> None:
    """The folder, whole or not at all."""
    from tfft import __version__, evaluation_pictures, lock, whole

    figures = {"tfft": __version__, **about, **found.to_dict()}
    # Half a surrogate pair, as a column may have, stays the escape that JSON has for it.
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock.held(target.with_name(f"{target.name}.lock")), whole.whole_folder(target) as partial:
            (partial / FILE).write_bytes(text + b"\n")
            evaluation_pictures.draw(found, partial, numbers)
    except lock.Held as held:
        raise RunError(f"{target} is being written by {held}; wait for it, or give another --output") from None


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "evaluate")
