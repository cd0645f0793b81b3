"""`tfft.pipeline`: a task of Transformers' pipelines on a model, in TensorFlow alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tfft import locations
from tfft.console import Voice
from tfft.errors import DataError, ModelError
from tfft.models import abilities, checkpoint
from tfft.models.abilities import TASKS
from tfft.models.checkpoint import Checkpoint
from tfft.recipe import LARGEST_SEED

if TYPE_CHECKING:
    from tfft.models.mended import InBatches

GENERATES = ("text-generation", "summarization", "translation")


def pipeline(
    task: str,
    model: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    verbose: bool = True,
    **options: Any,
) -> InBatches:
    """What `transformers.pipeline` gives for a task, on TensorFlow and with no PyTorch installed.

    The checkpoint is loaded as `fit` loads it, from PyTorch's safetensors or TensorFlow's files. Lists of inputs go
    through the model in batches. Texts longer than what the model takes are cut off, but for prompts to go on with and
    texts with an answer in them, which are read in windows. What is generated is the likeliest, by the beams that the
    checkpoint's settings ask for, unless it is drawn by a `seed`.

    Args:
        task: `text-classification` (`sentiment-analysis`), `token-classification` (`ner`), `question-answering`,
            `fill-mask`, `text-generation`, `summarization`, `translation` (`translation_en_to_fr`),
            `zero-shot-classification`.
        model: a folder, the folder of a finished run, `package:NAME/FOLDER`, or a hub id. There is no default.
        revision: of a model on the hub.
        seed: draw what is generated, the same in each call.
        batch_size: inputs in a batch, 32 by default.
        verbose: say what of the model comes from the hub, and what was loaded.
        options: of the pipeline, as Transformers documents them: `top_k`, `aggregation_strategy`, `max_new_tokens`, …

    Returns:
        A pipeline to call with texts: a `transformers.TextClassificationPipeline` and so on, by the task.

    Raises:
        ModelError: there is no such task or model, or the model cannot do the task; the message says which it can.
        HubError: the model is on the hub, which cannot be reached or does not have it.
        RunError: the run is not finished, or its weights are not those that it has written.
        DataError: the seed is none. Pipelines raise it too, for texts that they cannot answer.

    Example:
        >>> import tfft
        >>> tfft.pipeline("fill-mask", "tests/fixtures/tiny_bert_torch")
        Traceback (most recent call last):
        tfft.errors.ModelError: tests/fixtures/tiny_bert_torch is a BertModel without the head for fill-mask: ...
    """
    kind = abilities.task_of(task)
    if seed is not None and not 0 <= seed <= LARGEST_SEED:
        raise DataError(f"seed: got {seed}; expected a whole number from 0 to {LARGEST_SEED}")
    voice = Voice(silent=not verbose, to_stderr=True)
    source, max_length = _found(kind, model, revision, voice)
    abilities.check(kind, source)
    tokenizer = checkpoint.load_tokenizer(source, pads=kind != "text-generation")
    if kind == "fill-mask" and tokenizer.mask_token_id is None:
        raise ModelError(f"{source.name}: its tokenizer has no mask, so nothing says which token is to be found")
    if task == "translation" and hasattr(tokenizer, "_build_translation_inputs") and "tgt_lang" not in options:
        raise ModelError(f"{source.name} knows several languages; give src_lang and tgt_lang, or translation_XX_to_YY")
    # So that whatever is cut off, is cut off where the model ends.
    tokenizer.model_max_length = checkpoint.choose_max_length(max_length, tokenizer, source.config)
    return _made(
        kind,
        seed,
        model=_model(kind, source, voice),
        tokenizer=tokenizer,
        task=task,
        batch_size=batch_size,
        **_defaults(kind, seed) | options,
    )


def _found(
    kind: str, model: str | os.PathLike[str] | None, revision: str | None, voice: Voice
) -> tuple[Checkpoint, int | None]:
    """The checkpoint, and of a run how many tokens its texts have at most."""
    if model is None:
        raise ModelError(
            f"model: expected one for {kind}: a folder, a finished run, package:NAME/FOLDER, or a hub id such as "
            f"{TASKS[kind].example}; none is fetched unasked"
        )
    name = os.fspath(model)
    folder = locations.resolve(name, "model")
    if (folder / "recipe.yaml").is_file():
        from tfft.run_directory import check_weights, find_model, recipe_of

        recipe = recipe_of(find_model(name))
        assert recipe is not None, "there is a recipe.yaml"
        check_weights(folder)
        return checkpoint.find(str(folder / "model"), key="model"), recipe.data.max_length
    return checkpoint.find(name, revision, key="model", say=voice.say), None


def _defaults(kind: str, seed: int | None) -> dict[str, Any]:
    """Options that differ from those of Transformers' classes."""
    if kind == "text-generation":
        return {"do_sample": seed is not None}
    if kind in GENERATES:
        return {"do_sample": seed is not None, "truncation": True}
    if kind == "text-classification":
        return {"truncation": True}
    return {"tokenizer_kwargs": {"truncation": True}} if kind == "fill-mask" else {}


def _model(kind: str, source: Checkpoint, voice: Voice) -> Any:
    """The Keras model, all of whose weights are the checkpoint's."""
    from tfft.models import headed
    from tfft.models.load import load_model

    if source.is_headed:
        return headed.load_headed(source.folder)
    loaded = load_model(source, TASKS[kind].auto_class)
    if loaded.new:
        abilities.refuse(kind, source, loaded.new)
    voice.say(loaded.sentence())
    return loaded.model


def _made(kind: str, seed: int | None, **parts: Any) -> InBatches:
    from tfft.backend import tf
    from tfft.models.mended import CLASSES

    made = CLASSES[kind](framework="tf", device=0 if tf.config.list_physical_devices("GPU") else -1, **parts)
    made.seed = seed
    return made
