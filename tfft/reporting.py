"""Who is told of a run beside its own folder: trackers, and the hub that gets the model."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft.errors import RecipeError
from tfft.recipe import SECTIONS, Recipe
from tfft.run_directory import MLFLOW_RUN, PUSHES, WANDB_RUN, RunDirectory
from tfft.uploads import Repository

if TYPE_CHECKING:
    from tfft.callbacks import PushToHub
    from tfft.callbacks.tracker import Tracker

# What is to be told of a run, to the extra that installs it.
LIBRARIES = ("mlflow", "wandb")
# They change nothing of what is trained, so a run may go on with others.
KEYS = frozenset({"report", "report_to", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy"})


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All that decides what is learned: a recipe's settings but for where its run is and who is told of it."""
    left_out: Any = {"output_dir": True, "sweep": True, "training": KEYS}
    return recipe.model_dump(mode="json", exclude=left_out)


def check(recipe: Recipe) -> None:
    """Looks whether what the recipe wants can be told to whom it wants, without asking anybody.

    Raises:
        RecipeError: a tracker's library is not installed.
        HubError: see `Repository`.
    """
    for name in LIBRARIES:
        if name in recipe.training.report_to and not is_installed(name):
            raise RecipeError(
                f"training.report_to: {name} is not installed; pip install 'tfft[{name}]', or leave it out of the list"
            )
    if recipe.training.push_to_hub:
        Repository(hub_model_id(recipe), key="training.hub_model_id")


def is_installed(name: str) -> bool:
    """Whether there is a library of that name. A folder `wandb`, as wandb leaves it where it ran, is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


def hub_model_id(recipe: Recipe) -> str:
    """The name of the repository on the hub."""
    return recipe.training.hub_model_id or recipe.name


class Reports:
    """The callbacks that tell of a run, and how it ends for them.

    Attributes:
        callbacks: for `fit`, all stages alike.
    """

    def __init__(self, trackers: list[Tracker], pusher: PushToHub | None) -> None:
        self.trackers, self.pusher = trackers, pusher
        self.callbacks = [*trackers, *([pusher] if pusher else [])]

    def end(self, scores: Mapping[str, Mapping[str, float]], model: Path) -> None:
        """Tells the trackers of the final scores, as `eval/f1`; pushes the finished model's folder and waits for it."""
        flat = {f"{split}/{name}": value for split, of_split in scores.items() for name, value in of_split.items()}
        for tracker in self.trackers:
            tracker.finish(flat)
        if self.pusher is not None:
            self.pusher.finish(model)


@contextlib.contextmanager
def opened(
    recipe: Recipe,
    folder: RunDirectory,
    save: Callable[[Path], None],
    say: Callable[[str], None],
    is_chief: bool = True,
) -> Iterator[Reports]:
    """The reports that a recipe asks for, with the trackers' runs open. Runs that do not end well are closed as such.

    Args:
        folder: of the run, open; it keeps the ids of the trackers' runs for those who go on with it.
        save: writes the model as it stands into a folder.
        is_chief: whether this process is the one of several that tells.

    Raises:
        RunError: a tracker cannot be reached.
    """
    if not is_chief:
        yield Reports([], None)
        return
    shutil.rmtree(folder / PUSHES, ignore_errors=True)  # of a process that was killed
    reports = Reports(_trackers(recipe, folder, say), _pusher(recipe, folder, save, say))
    for tracker in reports.trackers:
        tracker.begin()
    try:
        yield reports
    except BaseException as error:
        for tracker in reports.trackers:
            tracker.finish(status="interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    finally:
        shutil.rmtree(folder / PUSHES, ignore_errors=True)


def _trackers(recipe: Recipe, folder: RunDirectory, say: Callable[[str], None]) -> list[Tracker]:
    wanted = recipe.training.report_to
    if not {*LIBRARIES} & {*wanted}:
        return []
    # Not above: most runs want neither, and they take their time.
    from tfft.callbacks import MLflowLog, WandbLog

    kinds: dict[str, tuple[Any, str]] = {"mlflow": (MLflowLog, MLFLOW_RUN), "wandb": (WandbLog, WANDB_RUN)}
    return [
        kind(settings(recipe), run_name=recipe.name, run_id_file=folder / file, say=say, at_end=False)
        for name, (kind, file) in kinds.items()
        if name in wanted
    ]


def _pusher(
    recipe: Recipe, folder: RunDirectory, save: Callable[[Path], None], say: Callable[[str], None]
) -> PushToHub | None:
    from tfft.callbacks import PushToHub

    training = recipe.training
    if not training.push_to_hub:
        return None
    return PushToHub(
        hub_model_id(recipe),
        hub_strategy=training.hub_strategy,
        save_steps=training.save_steps,
        hub_private_repo=training.hub_private_repo,
        save=save,
        say=say,
        at_end=False,
        snapshots=folder / PUSHES,
    )


def settings(recipe: Recipe) -> dict[str, Any]:
    """Every key of the recipe that has a value, keys of sections with a dot."""
    values: dict[str, Any] = {}
    for name, value in recipe.model_dump(mode="json", exclude={"sweep"}, exclude_none=True).items():
        values |= {f"{name}.{key}": one for key, one in value.items()} if name in SECTIONS else {name: value}
    return values
