"""`python -m tfft.recipes`: list, show, copy and validate recipes, and print their JSON schema for editors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tfft import command, recipe
from tfft.errors import RecipeError, nearest


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command on these arguments, those of the process by default, and returns its exit status.

    Raises:
        UserError: there is no such recipe, it is not valid, or a copy cannot be written.
    """
    arguments = _parser().parse_args(argv)
    if arguments.action == "list":
        list_recipes()
    elif arguments.action == "show":
        print(show(arguments.recipe, arguments.overrides), end="")
    elif arguments.action == "copy":
        copy(arguments.name, Path(arguments.file))
        print(f"{arguments.file}: written; python -m tfft.fit --recipe {arguments.file}")
    elif arguments.action == "validate":
        recipe.load(arguments.recipe, arguments.overrides)
        print(f"{arguments.recipe}: valid")
    else:
        print(json.dumps(recipe.json_schema(), indent=2, ensure_ascii=False))
    return 0


def list_recipes() -> None:
    """Prints the shipped recipes with model, data and summary: a table on a terminal, plain lines elsewhere."""
    columns = ("recipe", "model", "data", "what it is")
    rows = [(name, *_summary(name)) for name in recipe.names()]
    if not sys.stdout.isatty():
        widths = [max(len(row[index]) for row in rows) for index in range(3)]
        for row in rows:
            print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
        return

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == "recipe")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def show(name_or_path: str, overrides: Sequence[str] = ()) -> str:
    """The header of a recipe, then all its settings, defaults and inherited ones included; itself a recipe.

    Raises:
        RecipeError: there is no such recipe, or it is not valid.
    """
    resolved = recipe.load(name_or_path, overrides).to_yaml()
    if name_or_path == recipe.STANDARD_INPUT:
        return resolved
    comment = "".join(f"# {line}".rstrip() + "\n" for line in recipe.header(name_or_path).splitlines())
    return comment + resolved


def copy(name: str, file: Path) -> None:
    """Writes a shipped recipe's text, comments and all, to a file that is not there yet.

    Raises:
        RecipeError: there is no such recipe, or the file is there already or cannot be written.
    """
    if name not in recipe.names():
        close = nearest(name, recipe.names())
        question = f"; did you mean {close}?" if close else ""
        raise RecipeError(f"no shipped recipe is called {name}; expected one of {', '.join(recipe.names())}{question}")
    if file.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"{file}: expected a name that ends in .yaml, by which --recipe knows it for a file")
    text = recipe.locate(name).read_text(encoding="utf-8")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise RecipeError(f"{file}: is there already and stays as it is; give another name, or remove it") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be written ({error.strerror}); give another name or folder") from None


def _summary(name: str) -> tuple[str, str, str]:
    one = recipe.load(name)
    data = " ".join(filter(None, [one.data.dataset_name, one.data.dataset_config_name])) or one.data.train_file or ""
    return one.model.name_or_path, data, recipe.header(name).partition("\n")[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfft.recipes", description="The recipes that come with tfft, and yours."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the shipped recipes, a line each")
    wanted = "a shipped recipe's name, a YAML file, or - for standard input"
    overrides = "KEY=VALUE sets a key, ~KEY removes one"
    for name, summary in (
        ("show", "a recipe with all its settings, defaults included"),
        ("validate", "check a recipe and report everything that is wrong with it"),
    ):
        action = actions.add_parser(name, help=summary)
        action.add_argument("recipe", metavar="RECIPE", help=wanted)
        action.add_argument("overrides", metavar="OVERRIDE", nargs="*", help=overrides)
    action = actions.add_parser("copy", help="write a shipped recipe to a new file of yours")
    action.add_argument("name", metavar="NAME", help="a shipped recipe's name")
    action.add_argument("file", metavar="FILE", help="the file to write, ending in .yaml; never overwritten")
    actions.add_parser("schema", help="the JSON schema of recipes, for editors")
    return parser


if __name__ == "__main__":
    command.run(main)
