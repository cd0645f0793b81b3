"""`python -m tfft.predict`: what a model says of texts, or the model of a run of all rows of a file."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfft import command, pipeline_lines, typed
from tfft.errors import DataError, RunError

if TYPE_CHECKING:
    from tfft.answered import Column, RowsFile
    from tfft.console import Voice
    from tfft.predictor import Predictor

# Rows that are in memory at once, and that are lost at most where a job is broken off.
ROWS_AT_ONCE = 1024
# Options of one of the command's two doors.
_OF_RUNS = ("input", "output", "columns", "prefix", "encoding", "rows_at_once", "overwrite", "mixed_precision")
_OF_TASKS = ("model", "context", "candidate_labels", "max_new_tokens", "seed", "aggregation_strategy")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    _check_doors(arguments, parser)
    if arguments.run is None:
        return _answer_by_pipeline(arguments)
    from tfft import console, environment
    from tfft.run_directory import find_model

    find_model(arguments.run)
    source, output = _checked_files(arguments)
    if not arguments.verbose:
        console.silence_libraries()
    environment.check()

    from tfft import loaded

    predictor = loaded.load(arguments.run, calibrated=arguments.calibrated, mixed_precision=arguments.mixed_precision)
    predictor = dataclasses.replace(predictor, batch_size=arguments.batch_size)
    predictor.check_top_k(arguments.top_k)
    added = columns_of(predictor, arguments.top_k, arguments.prefix)
    if source is None or output is None:
        given = arguments.texts or typed.lines_of_standard_input()
        is_pair = arguments.pairs or len(predictor.text_columns or ()) == 2
        texts = typed.pairs(given, by_tab=not arguments.texts) if is_pair else iter(given)
        _print_answers(predictor, texts, added, arguments)
        return 0
    from tfft import answered

    rows = answered.opened(source, _columns(arguments, predictor), arguments.encoding, _takes_words(predictor))
    predict_file(
        predictor,
        rows,
        output,
        added,
        top_k=arguments.top_k,
        rows_at_once=arguments.rows_at_once,
        overwrite=arguments.overwrite,
        voice=console.Voice(),
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.predict",
        description="Answer texts: those given, else the lines of standard input, as JSON lines; or, by a run, the "
        "rows of a file, as the same file with columns added. With --task, answer as Transformers' pipelines do.",
        epilog='Examples: python -m tfft.predict --run runs/imdb "What a film." '
        "python -m tfft.predict --run runs/mrpc --input pairs.csv --output labelled.csv "
        "python -m tfft.predict --task ner --model dbmdz/bert-large-cased-finetuned-conll03-english 'I am in Paris.'",
        allow_abbrev=False,
    )
    parser.add_argument("--run", metavar="RUN", help="a finished run's folder, or a model's")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="of pairs both texts, one after the other")
    parser.add_argument("--input", type=Path, metavar="FILE", help="CSV, TSV, JSON lines or Parquet")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where its rows go with their answers; same ending")
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="the file's column of texts, or both of pairs (default: the run's)"
    )
    parser.add_argument("--pairs", action="store_true", help="texts are pairs; a run says so itself")
    parser.add_argument("--top-k", type=command.positive, metavar="K", help="give the K likeliest labels of each text")
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="give probabilities at the temperature that python -m tfft.evaluate --calibrate has fitted",
    )
    parser.add_argument("--prefix", default="", help="what the names of added columns begin with")
    parser.add_argument("--encoding", default="utf-8", help="of the file (default: utf-8)")
    parser.add_argument(
        "--batch-size", type=command.positive, default=32, help="texts in a batch, of short ones more (default: 32)"
    )
    parser.add_argument(
        "--mixed-precision",
        choices=("auto", "no", "bf16", "fp16"),
        default="no",
        help="what the model computes in; auto takes what this device is fast at (default: no, float32)",
    )
    parser.add_argument(
        "--rows-at-once",
        type=command.positive,
        default=ROWS_AT_ONCE,
        help=f"rows held in memory, and saved together (default: {ROWS_AT_ONCE:,})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output, also where it is unfinished")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    pipeline_lines.add_options(parser, command.positive)
    return parser


def _check_doors(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raises a DataError unless there is a run or a task, and no option of the other."""
    if (arguments.run is None) == (arguments.task is None):
        got = "got neither" if arguments.run is None else "got both"
        raise DataError(f"{got} --run and --task; expected --run RUN, or --task TASK --model MODEL")
    kind, other, options = ("--task", "--run", _OF_RUNS) if arguments.run is None else ("--run", "--task", _OF_TASKS)
    for name in options:
        if getattr(arguments, name) != parser.get_default(name):
            raise DataError(f"{pipeline_lines.flag(name)}: goes with {other}, and not with {kind}; leave it out")


def _answer_by_pipeline(arguments: argparse.Namespace) -> int:
    from tfft import console, environment

    pipeline_lines.check_options(arguments)
    if not arguments.verbose:
        console.silence_libraries()
    environment.check()
    pipeline_lines.print_answers(arguments)
    return 0


def _checked_files(arguments: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Looked at before anything is loaded."""
    source, output = arguments.input, arguments.output
    typed.check_texts(arguments.texts)
    if (source is None) != (output is None):
        given, lacking = ("--output", "--input") if source is None else ("--input", "--output")
        raise DataError(f"{given}: expected {lacking} as well: the rows of one file go into the other")
    if source is None:
        return None, None
    from tfft import answered

    if arguments.texts:
        raise DataError(f"got {len(arguments.texts)} texts and --input; expected one of them (put --columns last)")
    answered.check_is_known(source)
    if output.suffix.lower() != source.suffix.lower():
        raise DataError(f"--output: got {output}; expected a file that ends in {source.suffix}, as the input does")
    command.check_can_be_written(output)
    if output.exists() and output.samefile(source):
        raise RunError(f"--output: {output} is the input; give another file")
    if output.exists() and not arguments.overwrite:
        raise RunError(f"--output: {output} is there already; give another file, or --overwrite to replace it")
    return source, output


def _columns(arguments: argparse.Namespace, predictor: Predictor) -> tuple[str, ...]:
    wanted = predictor.text_columns
    columns = tuple(arguments.columns or wanted or ())
    if not columns:
        raise DataError("--columns: expected the column of texts (or both of pairs), since a model alone says none")
    if len(columns) > 2 or (wanted is not None and len(columns) != len(wanted)):
        expected = "1 or 2" if wanted is None else f"{len(wanted)}, as the run was trained on {' and '.join(wanted)}"
        raise DataError(f"--columns: got {len(columns)} ({', '.join(columns)}); expected {expected}")
    return columns


def _takes_words(predictor: Predictor) -> bool:
    from tfft.problems import Tokens

    return isinstance(predictor.problem, Tokens)


# --- Answers as columns -----------------------------------------------------------------------------------------------


def columns_of(predictor: Predictor, top_k: int | None, prefix: str = "") -> list[Column]:
    """The columns that are added for a model's answers."""
    from tfft.answered import Column
    from tfft.problems import MultiLabel, Regression

    found: list[Column]
    if _takes_words(predictor):
        found = [Column("entities", "entities")]
    elif isinstance(predictor.problem, Regression):
        found = [Column("prediction", "number")]
    elif top_k is not None:
        found = [
            column
            for place in range(1, top_k + 1)
            for column in (Column(f"label_{place}", "text"), Column(f"probability_{place}", "number"))
        ]
    elif isinstance(predictor.problem, MultiLabel):
        found = [Column("labels", "texts")]
        found += [Column(f"probability_{name}", "number") for name in predictor.label_names]
    else:
        found = [Column("label", "text"), Column("probability", "number")]
    return [Column(prefix + name, kind) for name, kind in found]


def answers_of(predictor: Predictor, texts: Sequence[Any], top_k: int | None) -> list[list[Any]]:
    """The values of those columns for each text, as plain values."""
    from tfft.problems import Labels

    if _takes_words(predictor):
        return [[[_plain(one) for one in entities]] for entities in predictor.entities(texts)]
    answers = predictor.predict(texts, top_k)
    if top_k is not None:
        return [
            [value for label, share in answer for value in (label, round(share, command.DECIMALS))]
            for answer in answers
        ]
    if answers and isinstance(answers[0], Labels):
        return [
            [list(answer.labels), *(round(share, command.DECIMALS) for share in answer.probabilities.values())]
            for answer in answers
        ]
    if answers and isinstance(answers[0], float):
        return [[float(f"{answer:.7g}")] for answer in answers]
    return [[answer.label, round(answer.probability, command.DECIMALS)] for answer in answers]


def _plain(entity: Any) -> dict[str, Any]:
    return {**entity._asdict(), "probability": round(entity.probability, command.DECIMALS)}


# --- Texts that are typed or piped ------------------------------------------------------------------------------------


def _print_answers(
    predictor: Predictor, texts: Iterator[Any], added: Sequence[Column], arguments: argparse.Namespace
) -> None:
    """A line of JSON for each text."""
    from tfft.answered import json_line

    while piece := list(itertools.islice(texts, arguments.rows_at_once)):
        for text, answer in zip(piece, answers_of(predictor, piece, arguments.top_k), strict=True):
            given = {"text": text} if isinstance(text, str) else dict(zip(("text", "text_pair"), text, strict=True))
            print(json_line({**given, **{column.name: one for column, one in zip(added, answer, strict=True)}}))
        sys.stdout.flush()


# --- Files ------------------------------------------------------------------------------------------------------------


def predict_file(
    predictor: Predictor,
    rows: RowsFile,
    output: Path,
    added: Sequence[Column],
    *,
    top_k: int | None,
    rows_at_once: int,
    overwrite: bool,
    voice: Voice,
) -> None:
    """Answers all rows of a file, and writes them again with their answers; goes on where it was broken off.

    The whole file is looked through before its first row is answered. Answers are kept beside `output`, and become it
    when there are all.

    Raises:
        UserError: a row cannot be read, or the output cannot be written; answers that there are stay.
    """
    from tfft import lock
    from tfft.run_directory import DISK_ERRORS
    from tfft.unfinished import Unfinished

    total = rows.look_through()
    rows.check_added(added)
    about = _about(predictor, rows, added)
    unfinished, done = Unfinished(output, about), 0
    try:
        with lock.held(output.with_name(f"{output.name}.lock")), voice.bar() as bar:
            done = unfinished.begin(overwrite)
            if about["computes_in"] != ["float32"]:
                voice.say(f"computing in {' and '.join(about['computes_in'])}")
            if done:
                voice.say(f"{done:,} of {total:,} rows were answered before; it goes on there")
            task = bar.add_task("predicting", total=total, completed=done, detail="")
            for piece in rows.pieces(rows_at_once, done):
                unfinished.append(answers_of(predictor, piece, top_k))
                done += len(piece)
                bar.advance(task, len(piece))
            if _facts_of(rows) != about["input"]:
                raise RunError(f"--input: {rows.content.path} has changed meanwhile; give --overwrite to begin anew")
            rows.write(output, added, iter(unfinished))
            unfinished.remove()
    except lock.Held as held:
        raise RunError(f"--output: {output} is being written by {held}; wait for it, or give another file") from None
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise RunError(
            f"--output: writing {output} failed: {error.strerror}; free the disk and give the same command, which goes "
            "on with the answers that there are"
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted after {done:,} of {total:,} rows; the same command goes on") from None
    voice.say(f"{total:,} rows with {', '.join(column.name for column in added)} are in {output}")


def _about(predictor: Predictor, rows: RowsFile, added: Sequence[Column]) -> dict[str, Any]:
    """All that answers depend on; the file by its size and time, since it may be larger than memory."""
    return {
        "input": _facts_of(rows),
        "columns": list(rows.wanted.text_columns),
        "added": [column.name for column in added],
        "model": _fingerprint(predictor),
        "max_length": predictor.max_length,
        "long_text": dataclasses.asdict(predictor.long_text),
        "window_pooling": predictor.window_pooling,
        "computes_in": sorted({one.compute_dtype for one in predictor.model.submodules if hasattr(one, "kernel")}),
    }


def _facts_of(rows: RowsFile) -> dict[str, Any]:
    found = rows.content.path.stat()
    return {"size": found.st_size, "changed": found.st_mtime_ns, "encoding": rows.content.encoding}


def _fingerprint(predictor: Predictor) -> str:
    """Of the weights and labels, and of what makes probabilities of logits."""
    from tfft.models import save

    settled = (predictor.label_names, getattr(predictor.problem, "threshold", None), predictor.temperature)
    return hashlib.sha256(f"{settled!r} {save.fingerprint(predictor.model)}".encode()).hexdigest()[:16]


if __name__ == "__main__":
    command.run(main)
