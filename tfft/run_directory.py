"""The folder that a run leaves: never overwritten unasked, its files whole or not there, finished only at the very end.

A run's folder holds `metrics.json` if and only if the run came to its end: it is written last.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tfft import locations, lock, recipe, states, whole
from tfft.errors import RecipeError, RunError, nearest
from tfft.recipe import Recipe

FINISHED = "metrics.json"
LOCK = "run.lock"
# What a training goes on from.
STATES = "checkpoint"
# What tokens attend to.
ATTENTION = "attention"
# What is said of a loss that became no number.
NAN_REPORT = "nan_report.json"
# Which run of a tracker this one is.
MLFLOW_RUN, WANDB_RUN = "mlflow_run_id", "wandb_run_id"
# What is written into a finished run: scores with all that belongs to them, and the model's temperature.
EVALUATIONS, CALIBRATION = "evaluation", "calibration.json"
# All of it on a page.
REPORT = "report.html"
# Models on their way to the hub.
PUSHES = "pushes"
# All that a run writes. A folder with anything else in it is somebody's, and is never emptied.
ENTRIES = (
    "recipe.yaml",
    FINISHED,
    "history.csv",
    "predictions.csv",
    "model",
    "adapters",
    "logs",
    REPORT,
    ATTENTION,
    STATES,
    NAN_REPORT,
    MLFLOW_RUN,
    WANDB_RUN,
    PUSHES,
    EVALUATIONS,
    CALIBRATION,
    LOCK,
)
# Of a disk that is full, or that may not be written to.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)
# Disks that machines share show what one has written to the others after a while.
SEEN_WITHIN_SECONDS = 60.0
# What is left of them where a process was killed while it wrote.
_PARTIALS = tuple(f"{name}{ending}" for name in ENTRIES for ending in (".partial", ".old.partial"))


@contextlib.contextmanager
def disk_errors(what: str, mend: str) -> Iterator[None]:
    """A disk that refuses, while `what` is done, becomes a RunError that says how to `mend` it."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise RunError(f"{what} failed: {error.strerror}; {mend}") from None


def csv_writer(file: TextIO, delimiter: str = ",") -> Callable[[Sequence[Any]], object]:
    """What writes a row to a CSV file (RFC 4180)."""
    plain = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    # By itself the writer leaves a lone carriage return unquoted, and readers take it for the end of the row.
    quoting = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Sequence[Any]) -> None:
        (quoting if any("\r" in str(cell) for cell in row) else plain).writerow(row)

    return write


class RunDirectory:
    """A run's folder. Nothing is written until `open`.

    Args:
        path: the recipe's `output_dir`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._to_replace: frozenset[str] = frozenset()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def is_finished(self) -> bool:
        """Whether a run came to its end here."""
        return (self / FINISHED).is_file()

    def check(self, overwrite: bool, resume: bool = False) -> None:
        """Raises a RunError unless a run may be written here: nothing is there, or what may be overwritten or resumed.

        Args:
            overwrite: a run that is there may go.
            resume: an unfinished one may be gone on with.
        """
        path = self.path
        # By os.path, since pathlib raises for a name too long, and where a folder above may not be looked into.
        there = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
        if not os.path.isdir(there):
            above = "" if there == path else f", so {path} cannot be made"
            raise RunError(f"output_dir: {there} is a file{above}; give a folder")
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            raise RunError(f"output_dir: {path} cannot be written (no permission for {there}); give another folder")
        present = sorted(os.listdir(path)) if there == path else []
        if holder := lock.holder(self / LOCK):
            raise self._in_use(holder)
        if foreign := [name for name in present if name not in (*ENTRIES, *_PARTIALS)]:
            raise RunError(
                f"output_dir: {path} holds files that are not a run's ({', '.join(foreign[:3])}); give a new folder"
            )
        if present and not overwrite and not (resume and not self.is_finished):
            what, ways = "a finished run", "give another output_dir=…, or --overwrite to replace it"
            if not self.is_finished:
                what = "an unfinished run"
                if states.folders(self / STATES):
                    ways = f"--resume to go on with it, {ways.replace('give ', '')}"
            raise RunError(f"output_dir: {path} holds {what}; {ways}")
        self._to_replace = frozenset(present)

    @contextlib.contextmanager
    def open(self, resume: bool = False) -> Iterator[RunDirectory]:
        """Makes the folder ready for a run and holds it; an old run in it, which `check` let pass, goes now.

        Args:
            resume: what is whole in the folder stays.

        Errors of the disk become a RunError: full, read-only, no permission.
        """
        with contextlib.ExitStack() as holding:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                holding.enter_context(lock.held(self / LOCK))
            except lock.Held as held:
                raise self._in_use(str(held)) from None
            except OSError as error:
                raise self._disk_error(error) from None
            try:
                # Minutes may lie between `check` and this.
                if {*ENTRIES} & {*os.listdir(self.path)} - {LOCK} - self._to_replace:
                    raise RunError(f"output_dir: {self.path} was written to by another run; give another output_dir=…")
                self._empty(_PARTIALS if resume else (FINISHED, *ENTRIES, *_PARTIALS))
                yield self
            except OSError as error:
                if error.errno in DISK_ERRORS:
                    raise self._disk_error(error) from None
                raise

    def _in_use(self, holder: str) -> RunError:
        return RunError(f"output_dir: {self.path} is in use by {holder}; wait for it, or give another output_dir=…")

    def _empty(self, names: Iterable[str]) -> None:
        # The mark of a finished run goes first: what is left if this is interrupted does not look finished.
        for name in names:
            if name == LOCK:
                continue
            path = self / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _disk_error(self, error: OSError) -> RunError:
        reason = error.strerror or str(error)
        return RunError(
            f"output_dir: writing to {self.path} failed: {reason}; the run is not finished. Free the disk or give "
            "another output_dir=…, then run it again with --resume or --overwrite"
        )

    @contextlib.contextmanager
    def whole_file(self, name: str) -> Iterator[TextIO]:
        """A text file that appears under its name only when the body has ended well."""
        with whole.whole_file(self / name) as file:
            yield file

    @contextlib.contextmanager
    def whole_folder(self, name: str) -> Iterator[Path]:
        """A folder that appears under its name, in place of an older one, only when the body has ended well."""
        with whole.whole_folder(self / name) as folder:
            yield folder

    def remove(self, name: str) -> None:
        """A folder of the run's goes."""
        shutil.rmtree(self / name)

    def write_text(self, name: str, text: str) -> None:
        """A text file, whole or not at all."""
        with self.whole_file(name) as file:
            file.write(text)

    def write_json(self, name: str, value: Any) -> None:
        """A JSON file, whole or not at all. NaN is refused: it is not JSON."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # Half a surrogate pair, as a label may have, stays the escape that JSON has for it.
        self.write_text(name, text.encode("utf-8", "backslashreplace").decode("utf-8"))

    def write_csv(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A CSV file (RFC 4180, UTF-8), whole or not at all."""
        with self.whole_file(name) as file:
            write = csv_writer(file)
            write(columns)
            for row in rows:
                write(row)

    def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A CSV file of rows that may lack columns, the columns in order of first appearance."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        self.write_csv(name, columns, ([row.get(column, "") for column in columns] for row in rows))


class FollowedDirectory(RunDirectory):
    """The folder as those workers have it that do not write: what the chief writes there can be read.

    It has to be on a disk that all workers share.
    """

    def check(self, overwrite: bool, resume: bool = False) -> None:
        """The chief does it."""

    @contextlib.contextmanager
    def open(self, resume: bool = False) -> Iterator[RunDirectory]:
        """The chief has opened it; it has to be seen from here.

        Raises:
            RunError: it is not.
        """
        end = time.monotonic() + SEEN_WITHIN_SECONDS
        while not (self / LOCK).is_file():
            if time.monotonic() > end:
                raise RunError(
                    f"output_dir: worker 0 writes to {self.path}, and it is not seen from here; give a folder on a "
                    "disk that all workers share"
                )
            time.sleep(0.1)
        yield self

    @contextlib.contextmanager
    def whole_file(self, name: str) -> Iterator[TextIO]:
        """What is written to it goes nowhere."""
        with open(os.devnull, "w", encoding="utf-8") as file:
            yield file

    @contextlib.contextmanager
    def whole_folder(self, name: str) -> Iterator[Path]:
        """One that goes when the body has ended."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def remove(self, name: str) -> None:
        """The chief does it."""


def find_model(run: str | os.PathLike[str]) -> Path:
    """The folder of a finished run, or of a model.

    Raises:
        RunError: there is none.
    """
    folder = locations.resolve(os.fspath(run), "run")
    if not folder.is_dir():
        parent = folder.absolute().parent
        near = nearest(folder.name, [one.name for one in parent.iterdir()]) if parent.is_dir() else None
        raise RunError(
            f"run: there is no folder {run}{f'; did you mean {folder.parent / near}?' if near else ''}; give the "
            "output_dir of a finished run, or a folder with a model"
        )
    if (folder / "recipe.yaml").is_file() and not RunDirectory(folder).is_finished:
        raise RunError(
            f"run: {folder} holds an unfinished run; finish it with "
            f"python -m tfft.fit --recipe {folder / 'recipe.yaml'} --resume"
        )
    if not any((folder / name).is_file() for name in ("recipe.yaml", "config.json")):
        raise RunError(
            f"run: {folder} holds neither a run (recipe.yaml) nor a model (config.json); give the output_dir of a "
            "finished run, or a folder with a model"
        )
    return folder


def find_run(run: str | os.PathLike[str], lacking: str, overrides: Sequence[str] = ()) -> tuple[Path, Recipe]:
    """The folder of a finished run, and its recipe with these overrides.

    Args:
        lacking: what a model's folder does not have for it, as messages say it.

    Raises:
        RunError: there is no such run, or a model alone.
        RecipeError: see `recipe_of`.
    """
    folder = find_model(run)
    recipe = recipe_of(folder, overrides)
    if recipe is None:
        raise RunError(f"run: {folder} holds a model alone, without {lacking}; give the output_dir of a finished run")
    return folder, recipe


def checksums(model: Path) -> dict[str, str]:
    """The SHA-256 of each file of weights in a model's folder."""
    return {one.name: whole.sha256(one) for one in sorted(model.glob("*.safetensors"))}


def check_weights(run: Path) -> None:
    """Raises a RunError where a run's weights are not those that it has written, as far as it says which."""
    model = run / "model"
    written = whole.read_json(run / FINISHED).get("weights")
    if isinstance(written, dict) and (found := checksums(model)) != written:
        wrong = next(name for name in sorted({*written, *found}) if written.get(name) != found.get(name))
        raise RunError(
            f"run: {model / wrong} is not what the run has written (its checksum is not that in {FINISHED}); copy the "
            f"run again, or where the weights were changed on purpose give {model}"
        )


def recipe_of(folder: Path, overrides: Sequence[str] = ()) -> Recipe | None:
    """The recipe of a run with these overrides; it need not name rows. None where the folder is a model's alone.

    Raises:
        RecipeError: it cannot be read, as where a newer tfft wrote it, or the overrides are wrong.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        return None
    try:
        return recipe.load(path.absolute(), overrides, rows_given=True)
    except RecipeError as error:
        if overrides:
            raise
        raise RecipeError(f"{error}\n(the run was perhaps made by another version of tfft; use that)") from None
