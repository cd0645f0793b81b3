"""Recipes: YAML and overrides become frozen, validated sections, before anything large is loaded.

A recipe is read in layers: the recipe that it `extends` (and so on), then its own file, then the command line. The
layers are merged key by key, every key remembers the file and line it came from, and all that is wrong is reported at
once. Where a later layer names another source of rows (`data.train_file` over an inherited `data.dataset_name`, or the
other way round), the keys of the earlier source go with it; both in one layer contradict each other.

YAML is read as YAML 1.2 reads it: `3e-5` is a number, `no` and `on` are text. Tags, anchors and aliases are refused.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tfft import __version__, locations, tasks
from tfft.errors import RecipeError, nearest

COMMAND_LINE = "command line"
STANDARD_INPUT = "-"
FILE_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
LARGEST_FILE = 1_000_000  # bytes; a data file given in place of a recipe is refused before it fills the memory

# --- The sections -----------------------------------------------------------------------------------------------------


def _no_for_false(value: Any) -> Any:
    return "no" if value is False else value  # what YAML 1.1 makes of a bare `no`


def _tuple_for_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]
_Texts = BeforeValidator(_tuple_for_list)


class _Section(BaseModel):
    # Strict: a recipe says numbers where numbers are meant; "3" or true in place of 3 is a mistake worth a message.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSection(_Section):
    """The pretrained checkpoint to begin with."""

    name_or_path: _Text = Field(
        description="Hub id, folder, or package:NAME/INNER (a folder inside an installed package) of the checkpoint."
    )
    revision: _Text | None = Field(default=None, description="Branch, tag or commit of the checkpoint on the hub.")


class DataSection(_Section):
    """Where the rows come from, and how they become batches."""

    dataset_name: _Text | None = Field(default=None, description="Hub id of a data set. Either this or train_file.")
    dataset_config_name: _Text | None = Field(default=None, description="Configuration of the hub's data set.")
    train_split_name: _Text = Field(default="train", description="The hub data set's split to train on.")
    validation_split_name: _Text | None = Field(
        default=None, description="The hub data set's split to validate on; null takes `validation` where there is one."
    )
    test_split_name: _Text | None = Field(
        default=None, description="The hub data set's split to test on; null takes `test` where it is not validated on."
    )
    train_file: _Text | None = Field(
        default=None, description="File of training rows (csv, tsv, json, jsonl, parquet), also package:NAME/INNER."
    )
    validation_file: _Text | None = Field(default=None, description="File of validation rows, as train_file.")
    test_file: _Text | None = Field(
        default=None, description="File of test rows, as train_file. Labels are not needed there."
    )
    validation_split: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of the training rows to validate on, seeded and stratified by label."
    )
    text_columns: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=2), _Texts] = Field(
        description="The column of the text, or the two columns of a pair of texts."
    )
    label_column: _Text = Field(
        default="label", description="The column of the label: whole numbers, text or booleans."
    )
    encoding: _Text = Field(
        default="utf-8",
        description="Character encoding of the files; NAME:replace puts U+FFFD for what cannot be read.",
    )
    max_length: Annotated[int, Field(ge=8)] | None = Field(
        default=None, description="Tokens kept of a row; null takes as many as the model has positions."
    )
    padding: Literal["longest", "max_length"] = Field(
        default="longest", description="Pad a batch to its longest row, or every batch to max_length."
    )
    batching: Literal["padded", "bucketed"] = Field(
        default="bucketed",
        description="Rows in random batches, or rows of similar length together in few static shapes.",
    )
    max_train_samples: _Count | None = Field(
        default=None, description="Train on this many rows, chosen at random by the seed."
    )
    max_eval_samples: _Count | None = Field(
        default=None, description="Validate and test on this many rows each, chosen at random by the seed."
    )
    drop_invalid: bool = Field(
        default=False, description="Leave out rows with a null in a needed column instead of stopping."
    )


class TrainingSection(_Section):
    """How the model is trained, scored and chosen."""

    num_train_epochs: float = Field(
        default=3.0, gt=0, le=1_000_000, description="Passes over the training rows; may be a fraction."
    )
    max_steps: _Count | None = Field(default=None, description="Optimizer steps in all; outranks num_train_epochs.")
    learning_rate: float = Field(
        default=5e-5, gt=0, description="The learning rate after warmup, from which it decays."
    )
    end_learning_rate: float | None = Field(
        default=None, ge=0, description="The learning rate at the end (polynomial and linear only); null is 0."
    )
    lr_power: float | None = Field(
        default=None, gt=0, description="Exponent of the decay (polynomial only); null is 1, a straight line."
    )
    lr_scheduler_type: Literal["polynomial", "linear", "cosine", "constant", "inverse_sqrt"] = Field(
        default="polynomial", description="How the learning rate goes on after warmup."
    )
    warmup_ratio: float | None = Field(
        default=None, ge=0, lt=1, description="Share of all steps in which the learning rate rises from 0."
    )
    warmup_steps: int | None = Field(default=None, ge=0, description="Steps in which the learning rate rises from 0.")
    optimizer: Literal["adamw", "adam"] = Field(
        default="adamw", description="Adam with decoupled weight decay, or plain Adam."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, lt=1, description="Decoupled weight decay of adamw, never on biases and LayerNorm."
    )
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of Adam's mean of the gradients.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="Decay of Adam's mean of the squared gradients.")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="Added to Adam's divisor.")
    max_grad_norm: float | None = Field(
        default=1.0,
        gt=0,
        description="Gradients are scaled down to this norm over all variables; null never scales them.",
    )
    per_device_train_batch_size: _Count = Field(default=8, description="Training rows in one step on one device.")
    per_device_eval_batch_size: _Count = Field(
        default=32, description="Rows in one batch of validation or test on one device."
    )
    eval_strategy: Annotated[Literal["epoch", "no"], BeforeValidator(_no_for_false)] = Field(
        default="epoch", description="Validate after every epoch, or not at all while training."
    )
    metrics: Annotated[tuple[_Text, ...] | None, _Texts] = Field(
        default=None,
        description="Metrics by name (accuracy, f1, f1_macro, glue/mrpc, …) or hub id; null takes the task's own.",
    )
    metric_for_best_model: _Text | None = Field(
        default=None, description="The score that decides which epoch is best and when to stop early; null is the loss."
    )
    greater_is_better: bool | None = Field(
        default=None, description="Whether a larger score is better; needed only where tfft does not know the score."
    )
    load_best_model_at_end: bool = Field(
        default=False, description="Keep the weights of the best epoch, not of the last."
    )
    early_stopping_patience: _Count | None = Field(
        default=None, description="Stop after this many epochs without a better score; null never stops early."
    )


class RuntimeSection(_Section):
    """How the machine is used. Nothing here should change what is learned, but for rounding."""

    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_no_for_false)] = Field(
        default="auto", description="Precision of the matrix products; auto takes what the device is fast at."
    )
    xla: bool = Field(default=False, description="Compile the training step with XLA.")
    deterministic: bool = Field(default=False, description="Repeat to the last digit on the same machine, more slowly.")


class Recipe(_Section):
    """All that a run is made of. Read one with `load` or `from_mapping`, which also find contradictions."""

    task: Literal["text-classification"] = Field(description="What is trained.")
    seed: int = Field(default=42, ge=0, le=2**32 - 1, description="Seed of new weights, dropout, order and samples.")
    output_dir: _Text = Field(description="Folder for the run's files; where it is not given, runs/RECIPE.")
    model: ModelSection = Field(description="The pretrained checkpoint to begin with.")
    data: DataSection = Field(description="Where the rows come from, and how they become batches.")
    training: TrainingSection = Field(
        default=TrainingSection(), description="How the model is trained, scored and chosen."
    )
    runtime: RuntimeSection = Field(default=RuntimeSection(), description="How the machine is used.")

    @property
    def name(self) -> str:
        """The run's name: the last part of its output folder."""
        return PurePath(self.output_dir).name or "run"

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, as YAML from which `load` makes an equal one."""
        values = yaml.dump(self.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        return f"# Written by tfft {__version__}: every setting of the run, to be given to --recipe again.\n{values}"


SECTIONS: dict[str, type[_Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "training": TrainingSection,
    "runtime": RuntimeSection,
}
KEYS: tuple[str, ...] = (
    *(name for name in Recipe.model_fields if name not in SECTIONS),
    *(f"{section}.{name}" for section, one in SECTIONS.items() for name in one.model_fields),
)

# What people write who know another program, and what it is called here.
ALIASES: dict[str, str] = {
    "random_seed": "seed",
    "out_dir": "output_dir",
    "save_dir": "output_dir",
    "model_name_or_path": "model.name_or_path",
    "pretrained_model_name_or_path": "model.name_or_path",
    "model_name": "model.name_or_path",
    "checkpoint": "model.name_or_path",
    "model_revision": "model.revision",
    "dataset": "data.dataset_name",
    "dataset_config": "data.dataset_config_name",
    "task_name": "data.dataset_config_name",
    "train_split": "data.train_split_name",
    "test_split": "data.test_split_name",
    "eval_file": "data.validation_file",
    "dev_file": "data.validation_file",
    "val_split": "data.validation_split",
    "validation_split_percentage": "data.validation_split",
    "text_column": "data.text_columns",
    "text_column_name": "data.text_columns",
    "text_column_names": "data.text_columns",
    "label_column_name": "data.label_column",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "pad_to_max_length": "data.padding: max_length",
    "group_by_length": "data.batching: bucketed",
    "max_val_samples": "data.max_eval_samples",
    "max_validation_samples": "data.max_eval_samples",
    "lr": "training.learning_rate",
    "epochs": "training.num_train_epochs",
    "num_epochs": "training.num_train_epochs",
    "steps": "training.max_steps",
    "num_train_steps": "training.max_steps",
    "scheduler": "training.lr_scheduler_type",
    "lr_scheduler": "training.lr_scheduler_type",
    "schedule": "training.lr_scheduler_type",
    "num_warmup_steps": "training.warmup_steps",
    "warmup": "training.warmup_ratio",
    "optim": "training.optimizer",
    "weight_decay_rate": "training.weight_decay",
    "beta_1": "training.adam_beta1",
    "beta_2": "training.adam_beta2",
    "epsilon": "training.adam_epsilon",
    "clipnorm": "training.max_grad_norm",
    "global_clipnorm": "training.max_grad_norm",
    "batch_size": "training.per_device_train_batch_size",
    "train_batch_size": "training.per_device_train_batch_size",
    "eval_batch_size": "training.per_device_eval_batch_size",
    "evaluation_strategy": "training.eval_strategy",
    "metric": "training.metrics",
    "monitor": "training.metric_for_best_model",
    "patience": "training.early_stopping_patience",
    "early_stopping": "training.early_stopping_patience",
    "restore_best_weights": "training.load_best_model_at_end",
    "bf16": "runtime.mixed_precision: bf16",
    "fp16": "runtime.mixed_precision: fp16",
    "precision": "runtime.mixed_precision",
    "jit_compile": "runtime.xla",
    "full_determinism": "runtime.deterministic",
}


# --- Reading and writing ----------------------------------------------------------------------------------------------


def load(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = (), *, rows_given: bool = False) -> Recipe:
    """The recipe of that name or file, with what it extends and with the overrides.

    Args:
        name_or_path: a shipped recipe's name, a path (ending in .yaml or .yml, with a slash in it, or of a file that is
            there), or `-` for standard input.
        overrides: `KEY=VALUE` and `~KEY`, as on the command line.
        rows_given: the rows come as Python objects, so the recipe need not name any.

    Raises:
        RecipeError: the recipe cannot be read, or something in it or in the overrides is wrong: one line for each.
    """
    text = os.fspath(name_or_path)
    path = None if text == STANDARD_INPUT else locate(text)
    source = "standard input" if path is None else str(path)
    problems: list[_Problem] = []
    tree = _parse(_read(path, source), source, problems)
    folder = Path() if path is None else path.parent
    layers = _with_extended(tree, folder, [] if path is None else [path], problems)
    return _resolve(layers, overrides, "stdin" if path is None else path.stem, rows_given, problems)


def from_mapping(
    mapping: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "python", *, rows_given: bool = False
) -> Recipe:
    """The recipe that a Python mapping says, with what it extends (relative to the working directory).

    Args:
        mapping: as YAML would give it: sections are mappings.
        overrides: as in `load`.
        source: what messages call the mapping; also the run's name unless `output_dir` is given.
        rows_given: as in `load`.

    Raises:
        RecipeError: as in `load`.
    """
    problems: list[_Problem] = []
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{source}: got {type(mapping).__name__}; expected a mapping with the keys of a recipe")
    try:
        tree = _from_python(mapping, _Place(source), (), problems)
    except RecursionError:
        raise RecipeError(f"{source}: is nested without end; expected sections of keys and values") from None
    return _resolve(_with_extended(tree, Path(), [], problems), overrides, source, rows_given, problems)


def names() -> tuple[str, ...]:
    """The shipped recipes, in alphabetical order."""
    return tuple(sorted(path.stem for path in locations.shipped_recipes().glob("*.yaml")))


def header(name_or_path: str | os.PathLike[str]) -> str:
    """The comment at the top of a recipe's file, without its number signs.

    Raises:
        RecipeError: there is no such recipe, or it cannot be read.
    """
    path = locate(os.fspath(name_or_path))
    lines = []
    for line in _read(path, str(path)).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" ").rstrip())
    return "\n".join(lines)


def locate(text: str, folder: Path = Path()) -> Path:
    """The file of a shipped recipe's name or of a path relative to `folder`. Paths are not checked to be there.

    Raises:
        RecipeError: neither a shipped recipe nor, by its form or by what is there, a path.
    """
    if text in names():
        return locations.shipped_recipes() / f"{text}.yaml"
    path = folder / os.path.expanduser(text)
    if text.endswith((".yaml", ".yml")) or "/" in text or os.sep in text or (text and path.exists()):
        return path
    raise RecipeError(
        f"no recipe is called {_shown(text)}; expected one of {', '.join(names())}, or the path of a .yaml file"
        + _question(nearest(text.lower(), names()))
    )


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe's file, for editors: nothing is required, since a recipe may extend another."""
    schema = Recipe.model_json_schema()
    schema["properties"] = {
        "extends": {
            "type": "string",
            "description": "Name of a shipped recipe, or path (from this file) of the recipe to build on.",
        },
        **schema["properties"],
    }
    folder = schema["properties"]["output_dir"]
    folder["anyOf"] = [{"type": folder.pop("type"), "minLength": folder.pop("minLength")}, {"type": "null"}]
    for one in (schema, *schema["$defs"].values()):
        one.pop("required", None)
        for name, entry in one["properties"].items():
            entry.pop("title", None)
            if name in SECTIONS and "$ref" in entry:
                entry.pop("default", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "tfft recipe"}


def _read(path: Path | None, source: str) -> str:
    try:
        if path is None:
            content = b"" if sys.stdin is None else sys.stdin.buffer.read(LARGEST_FILE + 1)  # None: it is closed
        else:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        assert path is not None
        beside = [one.name for one in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(
            f"{source}: no such file; expected a recipe in YAML, or one of {', '.join(names())}"
            + _question(nearest(path.name, [*beside, *names()]))
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{source}: is a folder; expected a recipe's file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise RecipeError(f"{source}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > LARGEST_FILE:
        raise RecipeError(f"{source}: is larger than {LARGEST_FILE:,} bytes; expected a recipe, which is a short text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"{source}:{line}: is not UTF-8: byte 0x{content[error.start]:02x} at position {error.start}; "
            "save the recipe as UTF-8 text"
        ) from None


# --- YAML with places -------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a key was given: which layer (0 is the deepest recipe extended), its source, and the line there."""

    source: str
    line: int | None = None
    layer: int = 0

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class _Given:
    """A value and where it was given. The value of a section is a dict of these; any other is plain."""

    value: Any
    place: _Place


class _Problem(NamedTuple):
    place: _Place
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(filter(None, [str(self.place), self.key, self.text]))


_WHOLE = re.compile(r"[-+]?\d+(_\d+)*|0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FRACTION = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def _scalar(text: str) -> Any:
    """What unquoted text means: null, a boolean, a number, or itself. YAML 1.1 would read 3e-5 as text, no as false."""
    if text in _WORDS:
        return _WORDS[text]
    try:
        if _WHOLE.fullmatch(text):
            digits = text.lstrip("+-")
            base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
            return int(text, base)
        if _FRACTION.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:  # more digits than Python converts
        pass
    return text


class _Loader(yaml.SafeLoader):
    """Composes nodes only; `_node_value` makes values of them."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases (& and *) are not read here; put text that begins so in quotes, "
                "and use `extends` to share settings",
                problem_mark=event.start_mark,
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="tags (!) are not read here; put text that begins so in quotes", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that either YAML 1.1 or `_scalar` would read as something else."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"^(?:{_WHOLE.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"^(?:{_FRACTION.pattern})$"), list("-+.0123456789")
)


def _compose(text: str, source: str) -> yaml.Node | None:
    loader = None
    try:
        loader = _Loader(text)  # reads the first characters already
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _Place(source, mark.line + 1 if mark and source != COMMAND_LINE else None)
        said = error.problem or error.context or "cannot be read"
        # The second of two documents is the problem; that one was expected is only the context.
        said = "a second document begins here; expected one" if "another document" in said else said
        raise RecipeError(f"{place}: is not YAML that can be read: {said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        place = _Place(source, line)
        raise RecipeError(f"{place}: holds the control character U+{error.character:04X}; expected text") from None
    except RecursionError:
        raise RecipeError(f"{source}: is nested too deeply; expected sections of keys and values") from None
    finally:
        if loader is not None:
            loader.dispose()


def _parse(text: str, source: str, problems: list[_Problem]) -> _Given:
    """A file's keys and values with their lines. Keys given twice go to `problems`."""
    root = _compose(text, source)
    expected = f"expected a recipe with the keys {', '.join(Recipe.model_fields)}"
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value and not root.style):
        raise RecipeError(f"{source}: is empty; {expected}")
    if not isinstance(root, yaml.MappingNode):
        got = "a list" if isinstance(root, yaml.SequenceNode) else _shown(root.value)
        raise RecipeError(f"{_Place(source, root.start_mark.line + 1)}: got {got}; {expected}")
    return _node_tree(root, source, (), problems)


def _node_tree(node: yaml.Node, source: str, path: tuple[str, ...], problems: list[_Problem]) -> _Given:
    if not isinstance(node, yaml.MappingNode):
        return _Given(_node_value(node), _node_place(node, source))
    found: dict[str, _Given] = {}
    for key_node, value_node in node.value:
        place = _node_place(key_node, source)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(_Problem(place, _dotted(path), "got a list or mapping as a key; expected a word"))
            continue
        key = key_node.value
        if key in found:
            first = found[key].place.line
            where = "" if first is None else f", first in line {first}"
            text = f"given twice{where}; expected once: keep one of the two"
            problems.append(_Problem(place, _dotted((*path, key)), text))
            continue
        # A key's place is its own line, also where its value begins below.
        found[key] = _Given(_node_tree(value_node, source, (*path, key), problems).value, place)
    return _Given(found, _node_place(node, source))


def _node_place(node: yaml.Node, source: str) -> _Place:
    return _Place(source, None if source == COMMAND_LINE else node.start_mark.line + 1)


def _node_value(node: yaml.Node) -> Any:
    """The plain value of a node inside a list, or of one that is no mapping."""
    if isinstance(node, yaml.SequenceNode):
        return [_node_value(one) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(_node_value(key)): _node_value(value) for key, value in node.value}
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node.value) if node.style is None else node.value


def _from_python(value: Any, place: _Place, path: tuple[str, ...], problems: list[_Problem]) -> _Given:
    """A Python value as a file would have given it: paths as text, NumPy's numbers as plain ones."""
    if isinstance(value, Mapping):
        found = {}
        for key, one in value.items():
            if isinstance(key, str):
                found[key] = _from_python(one, place, (*path, key), problems)
            else:
                problems.append(_Problem(place, _dotted(path), f"got the key {key!r}; expected text as a key"))
        return _Given(found, place)
    return _Given(_plain_python(value), place)


def _plain_python(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy's numbers, booleans and arrays
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain_python(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


# --- Layers -----------------------------------------------------------------------------------------------------------


def _with_extended(tree: _Given, folder: Path, above: list[Path], problems: list[_Problem]) -> list[_Given]:
    """The layers of a recipe: those of the recipe that it extends, deepest first, then itself without that key.

    Args:
        folder: what a path in `extends` is relative to.
        above: the files on the way here, this one last.
    """
    own = dict(tree.value)
    extends = own.pop("extends", None)
    this = _Given(own, tree.place)
    if extends is None or extends.value is None:
        return [this]
    text = extends.value
    if not isinstance(text, str) or not text:
        problems.append(
            _Problem(extends.place, "extends", f"got {_shown(text)}; expected the name or path of a recipe")
        )
        return [this]
    try:
        path = locate(text, folder)
        chain = [*above, path]
        if any(os.path.realpath(path) == os.path.realpath(one) for one in above):
            raise RecipeError(f"goes in a circle: {' -> '.join(map(str, chain))}; end it somewhere")
        tree = _parse(_read(path, str(path)), str(path), problems)
    except RecipeError as error:
        problems.append(_Problem(extends.place, "extends", f"got {_shown(text)}; {error}"))
        return [this]
    return [*_with_extended(tree, path.parent, chain, problems), this]


def _at_layer(given: _Given, layer: int) -> _Given:
    value = given.value
    if _is_tree(given):
        value = {key: _at_layer(one, layer) for key, one in value.items()}
    return _Given(value, given.place._replace(layer=layer))


def _merged(base: dict[str, _Given], over: dict[str, _Given]) -> dict[str, _Given]:
    """`over` on top of `base`, mapping by mapping. A section that says nothing (`training:` alone) changes nothing."""
    result = dict(base)
    for key, given in over.items():
        before = base.get(key)
        if before is not None and _is_tree(before) and _is_tree(given):
            result[key] = _Given(_merged(before.value, given.value), given.place)
        elif not (before is not None and _is_tree(before) and given.value is None):
            result[key] = given
    return result


def _is_tree(given: _Given) -> bool:
    return isinstance(given.value, dict)


def _overridden(
    root: dict[str, _Given], overrides: Sequence[str], layer: int, problems: list[_Problem]
) -> dict[str, _Given]:
    """The merged recipe with the overrides, in their order."""
    place = _Place(COMMAND_LINE, layer=layer)
    for text in overrides:
        if text.startswith("~"):
            root = _removed(root, text[1:], place, problems)
            continue
        key, equals, raw = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            expected = "expected KEY=VALUE, or ~KEY to remove one (training.learning_rate=3e-5)"
            problems.append(_Problem(place, "", f"got {_shown(text)}; {expected}"))
            continue
        given = _override_value(raw, place, tuple(parts), problems)
        if key == "extends" or given is None:
            if given is not None:
                problems.append(_Problem(place, key, "expected in a recipe's file; give --recipe the other recipe"))
            continue
        if given.value is None and key in SECTIONS:
            problems.append(_Problem(place, key, f"got null; expected a section; ~{key} removes all of it"))
            continue
        for part in reversed(parts):
            given = _Given({part: given}, place)
        root = _merged(root, given.value)
    return root


def _override_value(raw: str, place: _Place, path: tuple[str, ...], problems: list[_Problem]) -> _Given | None:
    """The value behind `KEY=`. YAML's own signs mean nothing in plain text, nor in a plain list of it: a column may be
    called `#1 x`. What has quotes or is nested is YAML."""
    text = raw.strip()
    if re.fullmatch(r"\[[^][{}'\"]*\]", text):
        parts = [part.strip() for part in text[1:-1].split(",")]
        return _Given([_scalar(part) for part in (parts if parts[-1] else parts[:-1])], place)
    if not text.startswith(("[", "{", '"', "'")):
        return _Given(_scalar(text), place)
    try:
        node = _compose(text, COMMAND_LINE)
    except RecipeError as error:
        said = str(error).removeprefix(f"{COMMAND_LINE}: ")
        problems.append(
            _Problem(place, _dotted(path), f"got {_shown(raw)}; {said} (text with , # : [ ] goes in quotes)")
        )
        return None
    assert node is not None
    return _at_layer(_node_tree(node, COMMAND_LINE, path, problems), place.layer)


def _removed(root: dict[str, _Given], key: str, place: _Place, problems: list[_Problem]) -> dict[str, _Given]:
    present = [dotted for dotted, _ in _leaves(root)]
    sections = [name for name, given in root.items() if _is_tree(given)]
    if key not in (*present, *sections):
        text = "no such key in this recipe, so it cannot be removed; expected one that is there"
        meant = suggestion(key)
        problems.append(_Problem(place, f"~{key}", text + _question(meant if meant in (*present, *sections) else None)))
        return root
    section, _, rest = key.partition(".")
    if not rest:
        return {name: given for name, given in root.items() if name != section}
    return {**root, section: _Given(_removed(root[section].value, rest, place, problems), root[section].place)}


def _leaves(root: Mapping[str, _Given], path: tuple[str, ...] = ()) -> Iterator[tuple[str, _Given]]:
    for key, given in root.items():
        if _is_tree(given):
            yield from _leaves(given.value, (*path, key))
        else:
            yield _dotted((*path, key)), given


_HUB_KEYS = ("dataset_name", "dataset_config_name", "train_split_name", "validation_split_name", "test_split_name")
_FILE_KEYS = ("train_file", "validation_file", "test_file")


def _without_older_source(root: dict[str, _Given]) -> dict[str, _Given]:
    """Where a later layer names the rows' source anew, the earlier layers' keys of the other kind of source go."""
    data = root.get("data")
    if data is None or not _is_tree(data):
        return root

    def layer(key: str) -> int:
        given = data.value.get(key)
        return -1 if given is None or given.value is None else given.place.layer

    from_files, from_hub = layer("train_file"), layer("dataset_name")
    old = _HUB_KEYS if from_files > from_hub else _FILE_KEYS if from_hub > from_files else ()
    newest = max(from_files, from_hub)
    kept = {key: one for key, one in data.value.items() if not (key in old and one.place.layer < newest)}
    return {**root, "data": _Given(kept, data.place)}


# --- Validation -------------------------------------------------------------------------------------------------------


def _resolve(
    layers: Sequence[_Given], overrides: Sequence[str], name: str, rows_given: bool, problems: list[_Problem]
) -> Recipe:
    """One recipe of all layers, or one error of all problems."""
    root: dict[str, _Given] = {}
    for index, layer in enumerate(layers):
        root = _without_older_source(_merged(root, _at_layer(layer, index).value))
    root = _without_older_source(_overridden(root, overrides, len(layers), problems))
    top = layers[-1].place._replace(line=None, layer=len(layers) - 1)

    plain = {key: _plain(given) for key, given in root.items()}
    for section in SECTIONS:
        if plain.get(section) is None:
            plain[section] = {}
    if plain.get("output_dir") is None:
        plain["output_dir"] = f"runs/{name}"

    def note(key: str, text: str) -> None:
        problems.append(_Problem(_place_of(key, root, top), key, text))

    # Where a recipe that is extended cannot be read, nothing is known of what is missing or contradicts it.
    is_whole = all(one.key != "extends" for one in problems)
    recipe, wrong = _validated(plain, note, is_whole)
    values = _values(recipe) if recipe is not None else _values_that_hold(plain, wrong)
    checks = _CHECKS if rows_given else (*_CHECKS, _check_source)
    for check in checks if is_whole else ():
        try:
            for key, text in check(values):
                note(key, text)
        except KeyError:  # a check that needs a value which is itself wrong has nothing to say yet
            continue
    if problems or recipe is None:
        depths = {layer.place.source: depth for depth, layer in enumerate(layers)}
        order = sorted(problems, key=lambda one: (depths.get(one.place.source, len(layers)), one.place.line or 0))
        raise RecipeError("\n".join(dict.fromkeys(map(str, order))))
    return recipe


def _plain(given: _Given) -> Any:
    return {key: _plain(one) for key, one in given.value.items()} if _is_tree(given) else given.value


def _place_of(key: str, root: Mapping[str, _Given], top: _Place) -> _Place:
    """Where a dotted key was given; else where its section was; else the recipe as a whole."""
    if key in root:  # also one that has a dot in it
        return root[key].place
    place, tree = top, root
    for part in key.split("[")[0].split("."):
        given = tree.get(part)
        if given is None:
            break
        place = given.place
        if not _is_tree(given):
            break
        tree = given.value
    return place


def _validated(
    plain: Mapping[str, Any], note: Callable[[str, str], None], is_whole: bool
) -> tuple[Recipe | None, set[str]]:
    """The recipe, or None and the keys that are wrong; each is noted, what is missing only in a whole recipe."""
    try:
        return Recipe.model_validate(plain), set()
    except ValidationError as error:
        wrong = set()
        for one in error.errors(include_url=False, include_context=False):
            path = one["loc"]
            name = ".".join(map(str, path[:2])) if path[0] in SECTIONS else str(path[0])
            indices = path[len(name.split(".")) :]
            # Of a list, one of whose items is wrong, pydantic also says that it is too short without that item.
            is_echo = one["type"] == "too_short" and name in wrong
            wrong.add(name)
            if not is_echo and (is_whole or one["type"] != "missing"):
                note(name + "".join(f"[{index}]" for index in indices), _said(one, name))
        return None, wrong


def _said(error: Any, name: str) -> str:
    """What one of pydantic's errors is, in the words of recipes."""
    value, kind = error["input"], error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(name, value)
    schema = _schema_of(name)
    # The alternative to null, if it is one; of a list the items, if one of them is meant.
    inner = schema.get("anyOf", [schema])[0]
    if len(error["loc"]) > len(name.split(".")):
        schema = inner = inner["items"]
    expected = _expectation(schema)
    if kind == "missing":
        return f"missing; expected {expected}: {schema['description']}"
    if kind == "finite_number":
        expected = f"finite, {expected}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        expected += f""", so put it in quotes: '{_shown(value)}', or "'{_shown(value)}'" in a shell"""
    close = nearest(value, inner.get("enum", [])) if isinstance(value, str) else None
    if isinstance(value, str) and inner.get("type") == "array":
        close = _shown([value])
    return f"got {_shown(value)}; expected {expected}" + _question(close)


def _unknown_key(name: str, value: Any) -> str:
    section, _, key = name.rpartition(".")
    got = f"no such key, got {_shown(value)}"
    if name in KEYS:  # one key with a dot in it
        section, _, key = name.partition(".")
        return f"{got}; expected {key} inside the section {section}"
    close = suggestion(name)
    if close is not None:
        return f"{got}; did you mean {close}?"
    known = SECTIONS[section].model_fields if section in SECTIONS else Recipe.model_fields
    return f"{got}; expected one of {', '.join(known)}"


def suggestion(name: str) -> str | None:
    """The known key that an unknown one may mean: `training.learning_rate` for `training.lr` or `learning_rate`."""
    section, _, key = name.lower().replace("-", "_").rpartition(".")
    if key in ALIASES:
        return ALIASES[key]
    own_names = {one.rpartition(".")[2]: one for one in KEYS}
    if key in own_names:
        return own_names[key]
    if not section and (close := nearest(key, Recipe.model_fields)):
        return close
    beside = nearest(key, SECTIONS[section].model_fields) if section in SECTIONS else None
    if beside is not None:
        return f"{section}.{beside}"
    close = nearest(key, [*own_names, *ALIASES])
    return None if close is None else own_names.get(close) or ALIASES[close]


@functools.cache
def _schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of one key."""
    section, _, key = name.rpartition(".")
    if name in SECTIONS:
        return {"type": "object", "description": Recipe.model_fields[name].description}
    model = SECTIONS[section] if section else Recipe
    return model.model_json_schema()["properties"][key]


_RANGE_WORDS = {
    "exclusiveMinimum": "above",
    "minimum": "of at least",
    "exclusiveMaximum": "below",
    "maximum": "of at most",
}


def _expectation(schema: Mapping[str, Any]) -> str:
    """What a key may be, in words: `a number above 0`, `one of auto, no`."""
    if "anyOf" in schema:
        return " or ".join(_expectation(one) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])
    kind = schema["type"]
    if kind in ("number", "integer"):
        ranges = [f"{word} {_shown(schema[key])}" for key, word in _RANGE_WORDS.items() if key in schema]
        return f"a {'whole ' if kind == 'integer' else ''}number {' and '.join(ranges)}".rstrip()
    if kind == "array":
        limits = f"{schema['minItems']} or {schema['maxItems']} " if "maxItems" in schema else ""
        return f"a list of {limits}texts"
    return {"string": "text", "boolean": "true or false", "null": "null", "object": "a section: keys and values"}[kind]


def _values(recipe: Recipe) -> dict[str, Any]:
    """Every key with its value; keys of sections with a dot."""
    found: dict[str, Any] = {}
    for name in Recipe.model_fields:
        value = getattr(recipe, name)
        found.update({f"{name}.{key}": one for key, one in value} if name in SECTIONS else {name: value})
    return found


def _values_that_hold(plain: Mapping[str, Any], wrong: set[str]) -> dict[str, Any]:
    """As `_values`, of a recipe in which some keys are wrong: without those."""
    kept: dict[str, Any] = {
        "task": next(iter(tasks.TASKS)),
        "model": {"name_or_path": "-"},
        "data": {"text_columns": ("-",)},
    }
    for name, value in plain.items():
        if name in wrong:
            continue
        if name in SECTIONS:
            value = {**kept.get(name, {}), **{key: one for key, one in value.items() if f"{name}.{key}" not in wrong}}
        kept[name] = value
    values = _values(Recipe.model_validate({"output_dir": "-", **kept}))
    return {key: value for key, value in values.items() if key not in wrong and key.partition(".")[0] not in wrong}


# --- Contradictions: each check gets all values and yields keys with what is wrong about them -------------------------

_Values = Mapping[str, Any]
_Found = Iterator[tuple[str, str]]


def _got(values: _Values, key: str, expected: str) -> tuple[str, str]:
    return key, f"got {_shown(values[key])}; expected {expected}"


def _check_warmup(values: _Values) -> _Found:
    ratio, steps = values["training.warmup_ratio"], values["training.warmup_steps"]
    if ratio is not None and steps is not None:
        yield _got(
            values, "training.warmup_steps", f"null, since training.warmup_ratio is {_shown(ratio)}: give one of them"
        )
    longest = values["training.max_steps"]
    if steps is not None and longest is not None and steps > longest:
        yield _got(values, "training.warmup_steps", f"at most training.max_steps, which is {longest}")


def _check_schedule(values: _Values) -> _Found:
    kind = values["training.lr_scheduler_type"]
    for name, kinds in (("end_learning_rate", ("polynomial", "linear")), ("lr_power", ("polynomial",))):
        if values[f"training.{name}"] is not None and kind not in kinds:
            expected = f"null, since training.lr_scheduler_type is {kind}: it is for {' and '.join(kinds)} only"
            yield _got(values, f"training.{name}", expected)


def _check_weight_decay(values: _Values) -> _Found:
    if values["training.weight_decay"] > 0 and values["training.optimizer"] == "adam":
        expected = "0, since training.optimizer is adam, which has no decoupled decay: use adamw"
        yield _got(values, "training.weight_decay", expected)


def _check_evaluation(values: _Values) -> _Found:
    if values["training.eval_strategy"] != "no":
        return
    for name, empty in (
        ("metric_for_best_model", None),
        ("greater_is_better", None),
        ("load_best_model_at_end", False),
        ("early_stopping_patience", None),
    ):
        if values[f"training.{name}"] != empty:
            expected = f"{_shown(empty)}, since training.eval_strategy is no: it needs a score after every epoch"
            yield _got(values, f"training.{name}", expected)


def _check_direction(values: _Values) -> _Found:
    metric, greater = values["training.metric_for_best_model"], values["training.greater_is_better"]
    known = tasks.direction(metric or "loss")
    if known is None and greater is None:
        close = nearest(tasks.score_name(metric), tasks.METRIC_DIRECTIONS)
        expected = f"true or false, since tfft does not know which direction of {_shown(metric)} is better"
        yield (
            "training.greater_is_better",
            f"missing; expected {expected}" + (f" (or did you mean {close}?)" if close else ""),
        )
    if known is not None and greater is not None and greater != (known == "max"):
        better = "larger" if known == "max" else "smaller"
        expected = f"{_shown(not greater)} or null: a {better} {metric or 'loss'} is better"
        yield _got(values, "training.greater_is_better", expected)


def _metrics(values: _Values) -> tuple[str, ...]:
    named: tuple[str, ...] | None = values["training.metrics"]
    return tasks.TASKS[values["task"]].metrics if named is None else named


def _check_metrics(values: _Values) -> _Found:
    for index, name in enumerate(_metrics(values)):
        key = f"training.metrics[{index}]"
        if name in tasks.NUMBER_METRICS:
            yield key, f"got {_shown(name)}; expected a metric of classes, since task is {values['task']}"
        elif name.startswith("glue/") and name not in tasks.METRIC_SCORES:
            known = [one for one in tasks.METRIC_SCORES if one.startswith("glue/") and one not in tasks.NUMBER_METRICS]
            yield key, f"got {_shown(name)}; expected one of {', '.join(known)}" + _question(nearest(name, known))


def _check_best_metric(values: _Values) -> _Found:
    metric, scores = values["training.metric_for_best_model"], tasks.scores_of(_metrics(values))
    if metric is None or scores is None or tasks.score_name(metric) in scores:
        return
    expected = f"one of {', '.join(scores)}, which training.metrics yields"
    givers = [name for name, given in tasks.METRIC_SCORES.items() if tasks.score_name(metric) in given]
    usable = [name for name in givers if name not in tasks.NUMBER_METRICS]
    close = nearest(tasks.score_name(metric), scores)
    mend = f"; add {usable[0]} to training.metrics" if usable else _question(close)
    key, text = _got(values, "training.metric_for_best_model", expected)
    yield key, text + mend


def _check_two_sources(values: _Values) -> _Found:
    hub_id = values["data.dataset_name"]
    for name in _FILE_KEYS if hub_id is not None else ():
        if values[f"data.{name}"] is not None:
            expected = f"null, since data.dataset_name is {_shown(hub_id)}: rows come from the hub or from files"
            yield _got(values, f"data.{name}", expected)


def _check_hub_keys(values: _Values) -> _Found:
    for name in _HUB_KEYS[1:]:
        usual = DataSection.model_fields[name].default
        if values["data.dataset_name"] is None and values[f"data.{name}"] != usual:
            yield _got(
                values, f"data.{name}", f"{_shown(usual)}, since there is no data.dataset_name that it could be of"
            )


def _check_validation_split(values: _Values) -> _Found:
    for name in ("validation_file", "validation_split_name"):
        other = values[f"data.{name}"]
        if values["data.validation_split"] is not None and other is not None:
            expected = f"null, since data.{name} is {_shown(other)}: give one of them"
            yield _got(values, "data.validation_split", expected)


def _check_columns(values: _Values) -> _Found:
    columns = values["data.text_columns"]
    if len(set(columns)) < len(columns):
        yield _got(values, "data.text_columns", "two different columns")
    if "data.label_column" in values and values["data.label_column"] in columns:
        yield _got(values, "data.label_column", "a column that is not among data.text_columns")


def _check_padding(values: _Values) -> _Found:
    if values["data.padding"] == "max_length" and values["data.max_length"] is None:
        yield "data.max_length", "missing; expected a whole number of at least 8, since data.padding is max_length"


def _check_file_endings(values: _Values) -> _Found:
    for name in _FILE_KEYS:
        path = values.get(f"data.{name}")
        if path is not None and PurePath(path).suffix.lower() not in FILE_ENDINGS:
            yield _got(values, f"data.{name}", f"a file that ends in {', '.join(FILE_ENDINGS)}")


def _check_encoding(values: _Values) -> _Found:
    try:
        "a".encode(values["data.encoding"].removesuffix(":replace"))  # Python does not look up what encodes nothing
    except (LookupError, ValueError):
        usual = ("utf-8", "utf-16", "utf-32", "cp1252", "latin-1", "ascii")
        close = _question(nearest(values["data.encoding"], usual))
        key, text = _got(values, "data.encoding", "an encoding that Python knows, for example utf-8 or cp1252")
        yield key, text + close


def _check_source(values: _Values) -> _Found:
    """What is missing where the rows do not come as Python objects."""
    hub_id, file = values["data.dataset_name"], values["data.train_file"]
    if hub_id is None and file is None:
        yield "data.train_file", "missing; expected data.train_file (a file of rows) or data.dataset_name (a hub id)"
    no_rows = values["data.validation_file"] is None and values["data.validation_split"] is None
    if file is not None and no_rows and values["training.eval_strategy"] == "epoch" and hub_id is None:
        yield (
            "data.validation_file",
            "missing; expected rows to validate on: data.validation_file, or data.validation_split=0.1 (a share of the "
            "training rows), or training.eval_strategy=no",
        )


_CHECKS: tuple[Callable[[_Values], _Found], ...] = (
    _check_warmup,
    _check_schedule,
    _check_weight_decay,
    _check_evaluation,
    _check_direction,
    _check_metrics,
    _check_best_metric,
    _check_two_sources,
    _check_hub_keys,
    _check_validation_split,
    _check_columns,
    _check_padding,
    _check_file_endings,
    _check_encoding,
)


# --- Words ------------------------------------------------------------------------------------------------------------


def _dotted(path: Iterable[str]) -> str:
    return ".".join(path)


def _question(close: str | None) -> str:
    return "" if close is None else f"; did you mean {close}?"


def _shown(value: Any, limit: int = 60) -> str:
    """A value on one line, as a recipe would write it, cut where it is long."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        text = repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(_shown(one) for one in value) + "]"
    else:
        try:
            text = repr(value)
        except ValueError:  # a whole number with more digits than Python prints
            text = "a number with very many digits"
    return text if len(text) <= limit else text[: limit - 1] + "…"
