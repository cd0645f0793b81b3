"""`tfft COMMAND …`, the same as `python -m tfft.COMMAND …`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from tfft import __version__, command
from tfft.errors import UserError, nearest

# Command -> the module that holds its main function, and what it does.
COMMANDS = {
    "fit": ("tfft.fit", "fine-tune a model as a recipe says"),
    "pretrain": ("tfft.pretrain", "go on with a model's pretraining, on text without labels"),
    "distill": ("tfft.distill", "train a smaller model to say what a larger one says"),
    "launch": ("tfft.launch", "fine-tune by several processes of this machine, to try what several machines do"),
    "sweep": ("tfft.sweep", "search the settings of a recipe that score best"),
    "data": ("tfft.data.__main__", "write rows as shards that a training streams"),
    "seeds": ("tfft.seeds", "train with several seeds, and say what of the scores is noise"),
    "lr_find": ("tfft.lr_find", "find a learning rate for a recipe"),
    "bench": ("tfft.bench", "measure how fast a recipe trains here, and what would be faster"),
    "evaluate": ("tfft.evaluate", "score a run's model: intervals, classes, calibration, slices"),
    "predict": ("tfft.predict", "answer texts by the model of a run or another, or label the rows of a file"),
    "report": ("tfft.report", "write a run as one page: curves, scores, errors, doubtful labels, data"),
    "export": ("tfft.export", "write a run's model in the form that another program loads"),
    "push": ("tfft.push", "put a run's model on the hub, with a card that says what is known of it"),
    "attention": ("tfft.attention", "show what a run's model looks at in a text"),
    "recipes": ("tfft.recipes", "list, show, copy and validate recipes"),
    "doctor": ("tfft.doctor", "look whether this machine is fit for training"),
    "quickstart": ("tfft.quickstart.__main__", "fine-tune on the data that comes with tfft, then predict"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names on the others."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: tfft COMMAND …    (tfft COMMAND --help says more)\n")
        print("\n".join(f"  {one:<12}{summary}" for one, (_, summary) in COMMANDS.items()))
        return 0
    if name == "--version":
        print(f"tfft {__version__}")
        return 0
    if name not in COMMANDS:
        close = nearest(name, COMMANDS)
        question = f"; did you mean {close}?" if close else ""
        raise UserError(f"tfft has no command {name}; expected one of {', '.join(COMMANDS)}{question}")
    status: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    return status


def main_or_exit() -> NoReturn:
    """The console script."""
    command.run(main)


if __name__ == "__main__":
    main_or_exit()
