"""`python -m tfft.export`: a run's model in the form that another program loads, tried before it is handed over."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import __version__, command, tasks
from tfft.errors import ModelError, RunError
from tfft.exports import FORMS, PRECISIONS
from tfft.run_directory import disk_errors, find_run
from tfft.whole import whole_folder

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.exports.check import Checked
    from tfft.recipe import Recipe

ROWS, TOLERANCE = 500, 0.01
# Rows on which int8 measures its ranges; TensorFlow's guide says "around 100-500".
EXAMPLES = 200


@dataclass(frozen=True)
class Exported:
    """What `export` has made.

    Attributes:
        folder: where.
        report: what is in its `export.json`.
    """

    folder: Path
    report: Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_args(argv)
    if not arguments.verbose:
        from tfft import console

        console.silence_libraries()
    export(
        arguments.run,
        arguments.to,
        arguments.output,
        precision=arguments.precision,
        rows=arguments.rows,
        tolerance=arguments.tolerance,
        overwrite=arguments.overwrite,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.export",
        description="Write the model of a run in the form that another program loads. What is written is loaded again "
        "in a process of its own, and has to answer the run's validation rows as the run's model does.",
        epilog="Example: python -m tfft.export --run runs/mrpc --to tflite --precision int8 --output exported/mrpc",
        allow_abbrev=False,
    )
    listed = "; ".join(f"{name}: for {purpose}" for name, purpose in FORMS.items())
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--to", required=True, choices=FORMS, help=listed)
    parser.add_argument("--output", required=True, metavar="DIR", type=Path, help="a new folder")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of tflite (default: float32)")
    parser.add_argument(
        "--rows", type=command.positive, default=ROWS, help=f"validation rows to try it on, at most (default: {ROWS})"
    )
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=TOLERANCE,
        metavar="SHARE",
        help=f"by how much its score may be worse than the run's, of 1 (default: {TOLERANCE})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is already there")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}; expected a number from 0 to 1")
    return value


def export(
    run: str | os.PathLike[str],
    to: str,
    output: str | os.PathLike[str],
    *,
    precision: str = "float32",
    rows: int = ROWS,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    verbose: bool = True,
) -> Exported:
    """Writes the model of a run in another form, and tries it.

    Args:
        run: the folder of a finished run that was validated.
        to: a key of `FORMS`.
        output: a folder that is not there yet, or an export to be replaced.
        precision: of tflite: `float32`, `float16`, `dynamic` or `int8`.
        rows: validation rows on which it is tried, at most.
        tolerance: by how much its score may be worse than the run's on these rows. The score is the recipe's
            `training.metric_for_best_model`, or the first of its metrics.
        overwrite: replace an export that is there.
        verbose: say what is done.

    Raises:
        RunError: there is no such run, it was not validated, the output is in the way or cannot be written; or what was
            written is worse than the tolerance allows, and is not kept.
        ModelError: the model has no such form.
    """
    output = Path(output)
    _check(to, precision, output, overwrite)
    folder, recipe = find_run(run, "validation rows to try an export on")
    from tfft import console, environment, validated

    environment.check()
    voice = console.Voice(silent=not verbose)

    from tfft import loaded
    from tfft.exports import formats, papers
    from tfft.exports.check import Checked

    formats.check(to, folder / "model")
    predictor = loaded.load(folder)
    problem_type = tasks.problem_type(recipe.task, recipe.problem_type)
    split = validated.split_of(folder, predictor, problem_type, rows)
    checked = Checked(predictor, split, recipe.metric_names)
    examples = functools.partial(checked.examples, EXAMPLES)
    source = formats.source(to, folder, predictor, checked.input_names, len(split.rows.texts), examples, precision)
    with disk_errors(f"--output: writing {output}", "nothing was kept"), whole_folder(output) as partial:
        voice.say(f"writes {to}{f' ({precision})' if to == 'tflite' else ''} of {run}")
        formats.reserve(source, partial)
        loading = formats.WRITERS[to](source, partial)
        voice.say(f"loads it in a process of its own, and asks both for {len(checked):,} validation rows")
        tried = checked.tried(*loading, takes_texts=source.no_texts is None)
        report = _report(run, to, precision, partial, checked, tried)
        if to == "savedmodel":
            report.setdefault("texts", {"none_since": source.no_texts})
        _check_score(report, _score_name(recipe, checked.scores), tolerance)
        papers.write(partial, output, predictor, report, FORMS[to])
    _tell(voice, report, output)
    return Exported(output, report)


def _check(to: str, precision: str, output: Path, overwrite: bool) -> None:
    """Looked at before anything is loaded."""
    if to not in FORMS:
        raise ModelError(f"--to: got {to}; expected one of {', '.join(FORMS)}")
    if precision not in PRECISIONS:
        raise ModelError(f"--precision: got {precision}; expected one of {', '.join(PRECISIONS)}")
    if precision != "float32" and to != "tflite":
        raise ModelError(f"--precision: got {precision}; expected float32 with --to {to}, or --to tflite")
    command.check_new_folder(output, overwrite, "export.json", "is no export of tfft")


def _report(
    run: str | os.PathLike[str], to: str, precision: str, folder: Path, checked: Checked, tried: Mapping[str, Any]
) -> dict[str, Any]:
    """What `export.json` holds."""
    files = {str(one.relative_to(folder)): one.stat().st_size for one in sorted(folder.rglob("*")) if one.is_file()}
    return {
        "tfft": __version__,
        "run": str(run),
        "to": to,
        "precision": precision,
        "rows": len(checked),
        "inputs": list(checked.input_names),
        "run_scores": checked.scores,
        **tried,
        "bytes": sum(files.values()),
        "files": files,
    }


def _score_name(recipe: Recipe, scores: Mapping[str, float]) -> str:
    wanted = tasks.score_name(recipe.training.metric_for_best_model or "loss")
    return wanted if wanted in scores else next(iter(scores))


def _check_score(report: dict[str, Any], name: str, tolerance: float) -> None:
    """Raises a RunError where the export's score is worse than the tolerance allows; notes which score that is."""
    from tfft.exports import papers

    report |= {"score": name, "tolerance": tolerance}
    answers = {"": report, " for strings": report.get("texts", {})}
    for what, given in answers.items():
        if "scores" not in given:
            continue
        ours, theirs = report["run_scores"][name], given["scores"][name]
        given["score_loss"] = loss = theirs - ours if tasks.direction(name) == "min" else ours - theirs
        # NaN is no loss that is small enough.
        if not loss <= tolerance:
            raise RunError(
                f"the export's {name}{what} is {theirs:.4f} and the run's {ours:.4f} on {report['rows']:,} validation "
                f"rows, {loss:.4f} worse, and {tolerance:g} is allowed ({papers.compared(report)}); nothing was kept: "
                "take another --precision, or a larger --tolerance"
            )


def _tell(voice: Voice, report: Mapping[str, Any], output: Path) -> None:
    from tfft.exports import papers
    from tfft.exports.reload import BATCH_SIZE

    name = report["score"]
    voice.say(
        f"{papers.compared(report)}; {name} {report['scores'][name]:.4f}, the run's {report['run_scores'][name]:.4f}"
    )
    if texts := report.get("texts"):
        none = texts.get("none_since")
        voice.say(f"plain strings: {f'not taken, since {none}' if none else papers.compared({**report, **texts})}")
    voice.say(
        f"{report['bytes'] / 1e6:.1f} MB; one row in {report['milliseconds_at_batch_1']:.1f} ms, "
        f"{report['rows_per_second']:,.0f} rows/s in batches of {BATCH_SIZE}"
    )
    voice.say(f"the export is in {output}, how to use it in {output / 'README.md'}")


if __name__ == "__main__":
    command.run(main)
else:
    command.make_callable(__name__, "export")
