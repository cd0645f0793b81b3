"""A teacher: found, looked at whether it fits the rows and the student, and asked for its logits once for all rows."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfft import hardware, locations
from tfft.backend import keras
from tfft.data import LabelMap, Split
from tfft.data.batches import for_prediction
from tfft.data.encode import Encoded, encode, read_arrays, write_cached
from tfft.data.encode import cache_folder as tokens_folder
from tfft.data.rows import listed
from tfft.data.windows import LongText
from tfft.errors import ModelError, RunError, UserError
from tfft.models import checkpoint, faster, features, heads, trained
from tfft.models.checkpoint import Checkpoint
from tfft.models.load import load_model
from tfft.recipe import DistillationSection
from tfft.run_directory import check_weights, find_model
from tfft.tasks import MASKED, REGRESSION
from tfft.whole import sha256

KEY = "distillation.teacher"
# Part of every cache key: raise it when what is cached, or how it is computed, changes.
CACHE_FORMAT = 1
# In which a teacher gives its logits, whatever the student computes in.
_FLOAT32 = hardware.Precision("no", "logits are computed once")


@dataclass(frozen=True)
class Teacher:
    """A teacher that was found.

    Attributes:
        name: as the user gave it.
        source: its checkpoint, looked through.
        tokenizer: its own.
        problem_type: what its labels are, one of `tasks`.
        names: of its classes, in the order of its outputs.
    """

    name: str
    source: Checkpoint
    tokenizer: Any
    problem_type: str
    names: tuple[str, ...]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A SHA-256 over all files that its answers depend on."""
        import transformers

        digest = hashlib.sha256(f"{CACHE_FORMAT} {transformers.__version__}".encode())
        folder = self.source.folder
        heads_files = sorted(folder.glob("head*")) if self.source.is_headed else []
        for path in (folder / "config.json", *self.source.weights, *heads_files):
            digest.update(sha256(path).encode())
        return digest.hexdigest()


def find(name: str, output_dir: str | Path, is_labelled: bool = True) -> Teacher:
    """The teacher in a run's folder, a model's folder, an installed package, or on the hub.

    Args:
        name: any of these.
        output_dir: where the student's run goes, which must not take the teacher's place.
        is_labelled: whether it has to give labels; otherwise any encoder does, and only what is inside it counts.

    Raises:
        RunError: the run in the folder is not finished, or its weights are not what it has written; or the student
            would be written over it.
        ModelError: it cannot be used, or gives no labels.
        HubError: it is on the hub, and the hub cannot be reached or does not have it.
    """
    with _messages_about_the_teacher():
        folder = locations.resolve(name, KEY)
        found = name
        if folder.is_dir():
            run = find_model(folder)
            if (run / "recipe.yaml").is_file():
                check_weights(run)
                run = run / "model"
            found = str(run)
            output = Path(output_dir).resolve()
            if output in (run.resolve(), *run.resolve().parents):
                raise RunError(f"{KEY}: {name} lies in output_dir, {output_dir}; give the student's run another folder")
        source = checkpoint.find(found, key=KEY)
        tokenizer = checkpoint.load_tokenizer(source)
        if not is_labelled:
            return Teacher(name, source, tokenizer, MASKED, ())
        return Teacher(name, source, tokenizer, trained.problem_type(source), trained.label_names(source))


@contextlib.contextmanager
def _messages_about_the_teacher() -> Iterator[None]:
    """Messages of what is used for other models too name the key of the teacher."""
    try:
        yield
    except UserError as error:
        text = str(error).replace("model.name_or_path: ", "").removeprefix("run: ")
        raise type(error)(text if text.startswith(KEY) else f"{KEY}: {text}") from None


# --- Does it fit ------------------------------------------------------------------------------------------------------


def order_of_classes(teacher: Teacher, label_map: LabelMap) -> list[int]:
    """Which of the teacher's outputs is of each class of the rows.

    Names that Transformers gives where nobody has (LABEL_0, …) are taken by their number.

    Raises:
        ModelError: the teacher was trained for other labels.
    """
    own, wanted = teacher.names, label_map.names
    if teacher.problem_type != label_map.problem_type:
        raise ModelError(
            f"{KEY}: {teacher.name} was trained for {teacher.problem_type}, and the rows are for "
            f"{label_map.problem_type}; give a teacher of the same labels"
        )
    is_unnamed = own == tuple(f"LABEL_{at}" for at in range(len(own)))
    if teacher.problem_type == REGRESSION or (is_unnamed and len(own) == len(wanted)):
        return list(range(len(own)))
    if set(own) != set(wanted):
        raise ModelError(
            f"{KEY}: {teacher.name} was trained for the labels {listed(map(repr, own))}, and the rows have "
            f"{listed(map(repr, wanted))}; give a teacher that was trained for these"
        )
    return [own.index(name) for name in wanted]


def check_inside(
    section: DistillationSection, teacher: Teacher, tokenizer: Any, config: Any, name: str, max_length: int
) -> None:
    """Looks whether what is inside the student can learn from what is inside the teacher.

    Args:
        tokenizer, config, name: of the student.
        max_length: tokens that a row may have.

    Raises:
        ModelError: vocabularies, layers, heads or positions do not go together.
    """
    if not section.looks_inside:
        return
    theirs = teacher.source.config
    why = "to be compared inside, both have to read the same tokens; learn from the logits alone, or"
    if teacher.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"{KEY}: {teacher.name} and the student {name} have different vocabularies "
            f"({len(teacher.tokenizer):,} and {len(tokenizer):,} tokens); {why} give a teacher with the student's"
        )
    if set(teacher.tokenizer.model_input_names) != set(tokenizer.model_input_names):
        raise ModelError(
            f"{KEY}: the tokenizer of {teacher.name} gives {', '.join(teacher.tokenizer.model_input_names)}, that of "
            f"the student {name} {', '.join(tokenizer.model_input_names)}; {why} give a teacher of the same kind"
        )
    positions = checkpoint.positions(theirs)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"data.max_length: rows may have {max_length} tokens, and the teacher {teacher.name} has positions for "
            f"{positions}; give data.max_length={positions}, or learn from the logits alone"
        )
    _check_layers(section, teacher.name, theirs, config)
    _check_heads(section, teacher.name, theirs, config)


def _check_layers(section: DistillationSection, name: str, theirs: Any, config: Any) -> None:
    of_layers = section.hidden_weight or section.attention_weight
    if of_layers and config.num_hidden_layers > theirs.num_hidden_layers:
        raise ModelError(
            f"{KEY}: {name} has {theirs.num_hidden_layers} layers, and the student {config.num_hidden_layers}; "
            f"expected at most as many in the student (model.keep_layers={theirs.num_hidden_layers})"
        )


def _check_heads(section: DistillationSection, name: str, theirs: Any, config: Any) -> None:
    given = {"distillation.attention_weight": section.attention_weight}
    given["distillation.relations_weight"] = section.relations_weight
    for key, weight in given.items():
        for who, one in ((name, theirs), ("the student", config)):
            if weight and one.model_type not in faster.MODEL_TYPES:
                raise ModelError(
                    f"{key}: got {weight:g}; expected 0, since {who} is a {one.model_type} model, in whose attention "
                    f"tfft cannot look: {', '.join(faster.FAMILIES)} have it"
                )
    if section.attention_weight and config.num_attention_heads != theirs.num_attention_heads:
        raise ModelError(
            f"distillation.attention_weight: got {section.attention_weight:g}; expected 0, since {name} has "
            f"{theirs.num_attention_heads} attention heads and the student {config.num_attention_heads}: take "
            "distillation.relations_weight, which goes with any number"
        )
    parts = relation_heads(section, theirs)
    if section.relations_weight and (theirs.hidden_size % parts or config.hidden_size % parts):
        raise ModelError(
            f"distillation.relation_heads: got {parts}; expected a number by which both widths divide, "
            f"{theirs.hidden_size} of the teacher and {config.hidden_size} of the student"
        )


def relation_heads(section: DistillationSection, theirs: Any) -> int:
    """Into how many parts queries, keys and values are cut; `theirs` is the teacher's configuration."""
    return section.relation_heads or int(theirs.num_attention_heads)


# --- What it says -----------------------------------------------------------------------------------------------------


def load(teacher: Teacher, accelerates: bool = True) -> keras.Model:
    """The teacher's model, frozen; it computes in the precision that is set where this is called."""
    with _messages_about_the_teacher():
        is_encoder = teacher.problem_type == MASKED
        model = load_model(teacher.source, "TFAutoModel").model if is_encoder else trained.load(teacher.source)
    model.trainable = False
    if accelerates:
        faster.accelerate(model)
    return model


def logits(
    teacher: Teacher,
    split: Split,
    *,
    max_length: int,
    long_text: LongText,
    pooling: str,
    batch_size: int,
    cache: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """The teacher's logits of all rows in their own order, (rows, outputs) float32, in the order of its outputs.

    They are computed in float32 from the teacher's own tokens, so its vocabulary may be another.

    Args:
        max_length: tokens a row may have; fewer where the teacher has no positions for so many.
        long_text, pooling: what becomes of longer texts, and of the logits of their windows.
        batch_size: rows computed at once, of short ones more.
        cache: a folder for results, keyed by content: the teacher's files and the tokens. None computes every time. A
            folder that cannot be written is passed over, and a damaged file is computed anew and replaced.
        advance: called with the number of rows done, as they are done; windows count each.

    Raises:
        ModelError: the teacher cannot be loaded, or gives a row something that is no number.
    """
    most = min(max_length, checkpoint.positions(teacher.source.config) or max_length)
    encoded = encode(split.rows.texts, teacher.tokenizer, most, tokens_folder(), long_text=long_text)
    of_windows = _cached(teacher, encoded, most, batch_size, cache, advance)
    found = heads.pool_windows(of_windows, encoded.window_starts, pooling)
    if not np.isfinite(found).all():
        row = split.rows.name_row(int(np.flatnonzero(~np.isfinite(found).all(axis=-1))[0]))
        raise ModelError(f"{KEY}: {teacher.name} answers {row} with something that is no number; train it anew")
    return found


def _cached(
    teacher: Teacher,
    encoded: Encoded,
    max_length: int,
    batch_size: int,
    cache: Path | None,
    advance: Callable[[int], None],
) -> np.ndarray:
    """(windows, outputs), from the cache where they are there."""
    path = None
    if cache is not None:
        path = cache / f"{features.fingerprint(teacher.fingerprint, encoded, teacher.tokenizer)}.safetensors"
        found = read_arrays(path).get("logits")
        if found is not None and found.shape == (len(encoded), len(teacher.names)) and found.dtype == np.float32:
            advance(len(encoded))
            return found
    with hardware.computing_in(_FLOAT32):
        model = load(teacher)
    dataset, order = for_prediction(encoded, batch_size=batch_size, tokenizer=teacher.tokenizer, max_length=max_length)
    computed = heads.logits_of(model, dataset, order, advance)
    if path is not None:
        write_cached(path, {"logits": computed})
    return computed


def cache_folder() -> Path:
    """Where teachers' logits are cached unless said otherwise."""
    return locations.cache_folder() / "logits"


def with_logits(split: Split, logits: np.ndarray, order: Sequence[int], keeps_labels: bool) -> Split:
    """The rows with the teacher's logits behind their labels, as `losses.Distilled` takes them.

    Args:
        logits: (rows, outputs) of `logits`.
        order: of `order_of_classes`.
        keeps_labels: False leaves the logits alone.
    """
    parts = [logits[:, list(order)]]
    if keeps_labels:
        assert split.labels is not None, "the recipe was looked at"
        parts.insert(0, split.labels.astype(np.float32).reshape(len(split), -1))
    return replace(split, labels=np.concatenate(parts, axis=1))
