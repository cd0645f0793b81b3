"""`python -m tfft.push`: a finished run's model on the hub, with a card that says what is known of it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import __version__, cards, command, hub, lock
from tfft.cards import licences
from tfft.errors import HubError, RunError
from tfft.run_directory import EVALUATIONS, FINISHED, LOCK, check_weights, disk_errors, find_run
from tfft.whole import read_json, whole_file

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.recipe import Recipe
    from tfft.uploads import Repository

# What a model's folder is made of. What else lies there is somebody's, and stays.
_OF_A_MODEL = (*hub.WANTED, "*.jinja", "README.md", "LICENSE*")
_LICENCE_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt")


@dataclass(frozen=True)
class Pushed:
    """What is on the hub, or would be.

    Attributes:
        address: of the repository.
        card: the text of its README.md.
        files: that were pushed, their sizes in bytes by name.
    """

    address: str
    card: str
    files: Mapping[str, int]


# --- The two doors ----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_args(argv)
    if not arguments.verbose:
        from tfft import console

        console.silence_libraries()
    push(
        arguments.run,
        arguments.repo,
        license=arguments.license,
        private=arguments.private,
        message=arguments.message,
        overwrite_card=arguments.overwrite_card,
        dry_run=arguments.dry_run,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.push",
        description="Put a finished run's model on the Hugging Face hub, in one commit: weights, tokenizer, and a card "
        "(README.md) written from the run, with scores, intervals and limits. The token is that of `hf auth login` or "
        "HF_TOKEN.",
        epilog="Example: python -m tfft.push --run runs/mrpc --repo me/paraphrases --license apache-2.0 --dry-run",
        allow_abbrev=False,
    )
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished run's folder")
    parser.add_argument(
        "--repo", required=True, metavar="NAME", help="OWNER/NAME on the hub, or NAME for one of your own"
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help=f"as the hub calls it: {', '.join(licences.COMMON)}, …; or {licences.OTHER}, with a file LICENSE beside "
        "the model (default: that of the card that is there)",
    )
    parser.add_argument("--private", action="store_true", help="the repository is private")
    parser.add_argument("--message", metavar="TEXT", help="of the commit")
    parser.add_argument("--dry-run", action="store_true", help="show files and card, ask and write nothing")
    parser.add_argument("--overwrite-card", action="store_true", help="replace a card that was changed by hand")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


def push(
    run: str | os.PathLike[str],
    repo: str,
    *,
    license: str | None = None,
    private: bool = False,
    message: str | None = None,
    overwrite_card: bool = False,
    dry_run: bool = False,
    verbose: bool = True,
) -> Pushed:
    """Puts the model of a finished run on the hub, with a card, in one commit.

    Args:
        run: its folder. The card is kept in it, as `model/README.md`.
        repo: OWNER/NAME, or NAME for one of the token's owner. It is made where it is not there.
        license: as the hub calls it; None takes that of the card that is there.
        private: the repository is to be private.
        message: of the commit.
        overwrite_card: replace a card that was changed by hand. Else one in the run goes along as it is; and where it
            is ours, one on the hub that is not stays there.
        dry_run: show what would be pushed. Nobody is asked, nothing is written.
        verbose: say what is done.

    Raises:
        RunError: the run is not finished, not as it was written or cannot be written to; or there is no licence.
        RecipeError: its recipe cannot be read, as where a newer tfft wrote it.
        HubError: there is no such name or no token, or the hub did not take it; then nothing was published.
    """
    from tfft.console import Voice
    from tfft.uploads import Repository

    folder, recipe = find_run(run, "the recipe that its card is written from")
    voice = Voice(silent=not verbose)
    with contextlib.nullcontext() if dry_run else _held(folder):
        metrics, config = _files_of(folder)
        there = _card_that_is_there(folder / "model" / cards.NAME)
        is_kept = there is not None and not cards.is_ours(there) and not overwrite_card
        licence = _licence(folder, license, there, is_kept)
        repository = Repository(repo, private or None, key="--repo", is_asked=not dry_run)
        if there is not None and is_kept:
            voice.say(
                f"{cards.NAME} in the run's model was changed by hand, and is kept (--overwrite-card replaces it)"
            )
            card = _Card(repository, kept=there)
        else:
            licence_file = _licence_file(folder) if licence == licences.OTHER else None
            evaluations = _evaluations(folder, recipe, metrics, voice)
            about = cards.Subject(repository.name, licence, licence_file, recipe, metrics, config, evaluations)
            card = _Card(repository, about)
        if repository.has_token(card.text()):
            raise HubError(
                f"{cards.NAME} would hold your token of the hub; take it out, and get another one, since it was "
                "written down"
            )
        if dry_run:
            return _shown(folder, repository, card.text(), voice)
        message = message or f"Model and card, by tfft {__version__}"
        return _pushed(folder, repository, card, message, overwrite_card, voice)


@dataclass(frozen=True)
class _Card:
    """The card that goes along: one that somebody has changed, or one written for where it will be."""

    repository: Repository
    about: cards.Subject | None = None
    kept: str = ""

    def text(self) -> str:
        """As it is now: once the repository is made, the owner is known, whom the code in the card names."""
        if self.about is None:
            return self.kept
        return cards.write(dataclasses.replace(self.about, repository=self.repository.full_name))


def _pushed(
    folder: Path, repository: Repository, card: _Card, message: str, overwrite_card: bool, voice: Voice
) -> Pushed:
    """Makes the repository, keeps the card in the run, commits."""
    from tfft.uploads import no_bars

    no_bars()
    with _published(repository):
        on_hub = repository.read(cards.NAME)
    path, text = folder / "model" / cards.NAME, card.text()
    if card.about is not None:
        with disk_errors(f"writing {path}", "nothing was published; free the disk"), whole_file(path) as file:
            file.write(text)
    files = _files(folder / "model", voice)
    if card.about is not None and on_hub is not None and not overwrite_card and cards.is_somebodys(on_hub):
        voice.say(f"{cards.NAME} on the hub was written there, and stays (--overwrite-card replaces it)")
        files, text = [one for one in files if one.name != cards.NAME], on_hub
    with _published(repository):
        address = _sent(folder, repository, files, message, voice)
    voice.say(f"the model is at {address}")
    return Pushed(address, text, _sizes(files))


# --- What is looked at first ------------------------------------------------------------------------------------------


def _files_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`metrics.json` and the model's `config.json`, after the weights were verified."""
    metrics, config = (read_json(folder / name) for name in (FINISHED, "model/config.json"))
    if not isinstance(metrics, dict) or not isinstance(metrics.get("train"), dict):
        raise RunError(f"run: {folder / FINISHED} is not as a run writes it; copy the run again")
    if not isinstance(config, dict) or not config:
        raise RunError(f"run: {folder / 'model'} holds no config.json that can be read; copy the run again")
    check_weights(folder)
    if not any((folder / "model").glob("*.safetensors")):
        raise RunError(f"run: {folder / 'model'} holds no weights; copy the run again")
    return metrics, config


def _card_that_is_there(path: Path) -> str | None:
    try:
        # Bytes, since a card with other ends of lines is another one.
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"run: {path} cannot be read ({error}); mend it, or move it away") from None


def _licence(folder: Path, given: str | None, there: str | None, is_kept: bool) -> str:
    """That which was given, or that of the card that is there."""
    of_card = None if there is None else _licence_of(there, folder / "model" / cards.NAME)
    if is_kept:
        where = f"license in {cards.NAME}, which was changed by hand"
        if given not in (None, of_card):
            raise RunError(
                f"--license: got {given}, and the {where}, is {of_card}; say it there, or give --overwrite-card"
            )
        return licences.check(of_card, where)
    licence = licences.check(given or of_card, "--license")
    if licence == licences.OTHER and _licence_file(folder) is None:
        raise RunError(
            f"--license: of a licence that the hub does not know (other) people have to find the text; put it into "
            f"{folder / 'model' / _LICENCE_FILES[0]}"
        )
    return licence


def _licence_of(card: str, path: Path) -> str | None:
    import yaml
    from huggingface_hub import ModelCard

    try:
        found = ModelCard(card).data.to_dict().get("license")
    except (yaml.YAMLError, ValueError, TypeError) as error:
        why = " ".join(str(error).split())
        raise RunError(f"run: the front matter of {path} cannot be read ({why}); mend it, or move it away") from None
    return None if found is None else str(found)


def _licence_file(folder: Path) -> str | None:
    return next((name for name in _LICENCE_FILES if (folder / "model" / name).is_file()), None)


# --- What is known of it ----------------------------------------------------------------------------------------------


def _evaluations(folder: Path, recipe: Recipe, metrics: Mapping[str, Any], voice: Voice) -> dict[str, Any]:
    """What `tfft.evaluate` says of the run's own rows, by split: as it lies in the run, or else said now."""
    from tfft.cards import subject

    found: dict[str, Any] = {}
    for split, key in subject.SPLITS.items():
        of_run = metrics.get(key)
        if not isinstance(of_run, dict):
            continue
        before = read_json(folder / EVALUATIONS / split / "evaluation.json")
        # It may be of other rows: then its scores are others.
        if subject.agrees(before, of_run):
            found[split] = before
        elif split == "validation":
            try:
                now = _scored(folder, recipe, voice)
            except RunError as error:
                voice.say(f"the card says nothing of intervals: {error}")
                continue
            if not subject.agrees(now, of_run):
                voice.say(
                    f"the card says nothing of intervals: {folder / 'predictions.csv'} has other rows or labels than "
                    f"the scores in {FINISHED}"
                )
                continue
            found[split] = now
    return found


def _scored(folder: Path, recipe: Recipe, voice: Voice) -> dict[str, Any]:
    from tfft import environment

    environment.check()
    # Imported here, like all that loads TensorFlow.
    from tfft import rescored

    return rescored.evaluate_validated(folder, recipe, voice).to_dict()


# --- What is sent -----------------------------------------------------------------------------------------------------


def _files(model: Path, voice: Voice) -> list[Path]:
    """Those of the model's folder that belong to a model; the others are told."""
    every = sorted(path for path in model.rglob("*") if path.is_file())
    chosen = [
        one for one in every if one.parent == model and any(fnmatch.fnmatch(one.name, kind) for kind in _OF_A_MODEL)
    ]
    if left := [one.relative_to(model).as_posix() for one in every if one not in chosen]:
        voice.say(f"stays here, since it is not of a model: {', '.join(left)}")
    return chosen


def _sizes(files: Sequence[Path]) -> dict[str, int]:
    return {one.name: one.stat().st_size for one in files}


def _shown(folder: Path, repository: Repository, card: str, voice: Voice) -> Pushed:
    """What a dry run shows."""
    files = _sizes([one for one in _files(folder / "model", voice) if one.name != cards.NAME])
    files[cards.NAME] = len(card.encode("utf-8"))
    address = f"{hub.endpoint()}/{repository.name}"
    voice.table(
        f"To {address}, in one commit", ["file", "bytes"], [[name, f"{files[name]:,}"] for name in sorted(files)]
    )
    voice.say(f"\n{card}")
    if "/" not in repository.name:
        voice.say(f"in the card, the token's owner, whom only the hub knows, will stand before {repository.name}")
    voice.say("nothing was pushed or written (--dry-run)")
    return Pushed(address, card, files)


def _sent(folder: Path, repository: Repository, files: Sequence[Path], message: str, voice: Voice) -> str:
    size = sum(_sizes(files).values())
    voice.say(f"pushing {len(files)} files, {size / 1e6:,.1f} MB, to {repository.make()}")
    with voice.bar() as bar:
        task = bar.add_task("pushing", total=len(files), detail="")

        def before(path: Path) -> None:
            bar.update(task, completed=files.index(path), detail=path.name)

        return repository.push(folder / "model", message, files, before)


@contextlib.contextmanager
def _published(repository: Repository) -> Iterator[None]:
    """What fails in the body becomes one message."""
    try:
        yield
    except Exception as error:
        raise HubError(f"--repo: nothing was published: {repository.why(error)}") from None


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Nobody else writes to the run in the body."""
    mend = "nothing was published; copy the run to where you may write"
    try:
        with contextlib.ExitStack() as holding:
            with disk_errors(f"writing to {folder}", mend):
                holding.enter_context(lock.held(folder / LOCK))
            yield
    except lock.Held as held:
        raise RunError(f"run: {folder} is in use by {held}; wait for it") from None


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "push")
