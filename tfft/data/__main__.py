"""`python -m tfft.data shards`: a recipe's rows, encoded, as files of records that a training streams."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfft import command
from tfft.errors import RecipeError

if TYPE_CHECKING:
    from tfft.console import Voice
    from tfft.data.manifest import Manifest
    from tfft.recipe import Recipe


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Raises a UserError for what the user can mend."""
    arguments = _parser().parse_intermixed_args(argv)
    from tfft import console
    from tfft import recipe as recipes

    chosen = recipes.load(arguments.recipe, arguments.overrides)
    if not arguments.verbose:
        console.silence_libraries()
    write_shards(
        chosen,
        arguments.output,
        shards=arguments.shards,
        rows_per_shard=arguments.rows_per_shard,
        overwrite=arguments.overwrite,
        voice=console.Voice(),
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.data",
        description="shards: encode a recipe's rows and write them as TFRecord shards; data.shards=FOLDER trains from "
        "them.",
        epilog="Example: python -m tfft.data shards --recipe sst2 --output gs://bucket/sst2 --shards 16. "
        "Then: python -m tfft.fit --recipe sst2 data.shards=gs://bucket/sst2.",
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=["shards"], help="what to do with the rows")
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a shipped recipe's name or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set a key of the recipe; ~KEY removes one")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="where to: a folder, or any place that TensorFlow can write"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shards", type=command.positive, help="into how many files the training rows go")
    size.add_argument("--rows-per-shard", type=command.positive, help="rows in a file at most (default: 50,000)")
    parser.add_argument("--overwrite", action="store_true", help="replace shards that are already there")
    parser.add_argument("--verbose", action="store_true", help="show all that the libraries print")
    return parser


def write_shards(
    recipe: Recipe,
    output: str,
    *,
    shards: int | None = None,
    rows_per_shard: int | None = None,
    overwrite: bool = False,
    voice: Voice,
) -> Manifest:
    """Reads, encodes and writes the rows of all splits that a recipe names.

    Args:
        output: a folder, on any file system that `tf.io.gfile` knows.
        shards: files of the training rows; those of the others have as many rows.
        rows_per_shard: rows of a file, in place of `shards`.
        overwrite: replace shards that are there.

    Raises:
        UserError: the rows cannot be used, or the folder cannot.
    """
    _check(recipe)
    from tfft import environment
    from tfft.models import checkpoint

    environment.check()
    source = checkpoint.find(recipe.model.name_or_path, recipe.model.revision)
    tokenizer = checkpoint.load_tokenizer(source)

    from tfft import assembly
    from tfft.data import shards as folders
    from tfft.data.rows import counted

    folder = output.rstrip("/") or output
    folders.check_output(folder, overwrite)
    max_length = checkpoint.choose_max_length(recipe.data.max_length, tokenizer, source.config)
    prepared = assembly.prepare(recipe, None, source, tokenizer, max_length, voice)
    rows = len(prepared.train)
    if shards is not None and shards > rows:
        raise RecipeError(f"--shards: got {shards}; expected at most {rows}, as many as there are training rows")
    in_each = rows_per_shard or (math.ceil(rows / shards) if shards else folders.ROWS_PER_SHARD)
    about = folders.encoding(recipe.data, recipe.task, prepared, tokenizer, source.name)
    with voice.bar() as bar:
        task = bar.add_task("writing", total=sum(map(len, prepared.splits)), detail="")
        written = folders.write(
            prepared,
            folder,
            about,
            rows_per_shard=in_each,
            train_shards=shards,
            seed=recipe.seed,
            advance=lambda done: bar.advance(task, done),
        )
    for split in written.splits:
        size = sum(shard.bytes for shard in split.shards)
        voice.say(
            f"{split.name}: {split.rows:,} rows, {split.tokens:,} tokens, {size / 2**20:,.1f} MB in "
            f"{counted(len(split.shards), 'shard')}"
        )
    voice.say(f"written to {folder}; train from there with data.shards={folder}")
    return written


def _check(recipe: Recipe) -> None:
    """What rows in shards cannot be."""
    if recipe.data.shards is not None:
        raise RecipeError("data.shards: expected null, since these rows are to be written; name their source instead")
    if recipe.task == "token-classification":
        raise RecipeError("task: got token-classification; expected text-classification: shards are of whole texts")
    if recipe.data.long_text == "sliding_window":
        raise RecipeError("data.long_text: got sliding_window; expected truncate or head_tail: shards have no windows")


if __name__ == "__main__":
    command.run(main)
