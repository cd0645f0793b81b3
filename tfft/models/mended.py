"""Transformers' pipelines as they work on TensorFlow: lists go through the model in batches, what is broken is mended.

Inputs, options and outputs are those of Transformers' classes, version 4.57. `pipelines.pipeline` makes them.
"""

from __future__ import annotations

# Before Transformers loads TensorFlow, which then has its say on the screen.
from tfft.backend import keras, tf  # isort: skip

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import transformers
from transformers.data import SquadExample
from transformers.pipelines.base import ChunkPipeline

from tfft.errors import DataError
from tfft.models.checkpoint import positions

BATCH_SIZE = 32
# Batches that are put together at once, of inputs in the order of their lengths.
_BATCHES_AT_ONCE = 16
# What Transformers documents for its pipelines that generate, and gives to those of PyTorch alone.
NEW_TOKENS = 256
# A configuration that says nothing of the length says this.
_UNSAID_MAX_LENGTH = 20


class InBatches(transformers.Pipeline):
    """A pipeline whose inputs go through the model in batches: those of Transformers go one by one on TensorFlow.

    Attributes:
        by_token: names of the outputs that have a place for each token, which is cut off where it is padding.
        seed: what every call begins with where it draws random numbers; None leaves the generator alone.
    """

    by_token: frozenset[str] = frozenset()
    seed: int | None = None

    def __call__(self, *inputs: Any, batch_size: int | None = None, **options: Any) -> Any:
        """As the class of Transformers says. A `batch_size` holds from then on."""
        if batch_size is not None:
            self._batch_size = batch_size
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed)
        return super().__call__(*inputs, **options)

    def run_single(self, inputs: Any, *parameters: Any) -> Any:
        """The answer to one input."""
        return next(self.iterate([inputs], *parameters))

    def run_multi(self, inputs: Sequence[Any], *parameters: Any) -> list[Any]:
        """The answers to a list of inputs."""
        return list(self.iterate(inputs, *parameters))

    def iterate(
        self,
        inputs: Iterable[Any],
        preprocess_params: Mapping[str, Any],
        forward_params: Mapping[str, Any],
        postprocess_params: Mapping[str, Any],
    ) -> Iterator[Any]:
        """The answers to any number of inputs, in their order."""
        rest = iter(inputs)
        while piece := list(itertools.islice(rest, self._rows_in_batch * _BATCHES_AT_ONCE)):
            made = [self.preprocess(one, **preprocess_params) for one in piece]
            is_chunked = isinstance(self, ChunkPipeline)
            parts = [list(one) if is_chunked else [one] for one in made]
            outputs = iter(self._outputs([row for rows in parts for row in rows], forward_params))
            for rows in parts:
                own = list(itertools.islice(outputs, len(rows)))
                yield self.postprocess(own if is_chunked else own[0], **postprocess_params)

    @property
    def _rows_in_batch(self) -> int:
        return self._batch_size or BATCH_SIZE

    def _outputs(self, rows: Sequence[Mapping[str, Any]], forward_params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the model makes of each row; the rows with batches' first axis of 1, as without batches."""
        found: list[dict[str, Any]] = [{}] * len(rows)
        for places in self._batches(rows):
            batch = [rows[place] for place in places]
            given = self._joined(batch)
            output = self.forward(given, **forward_params)
            for at, place in enumerate(places):
                found[place] = self._part(output, at, len(batch), _length(batch[at]))
        return found

    def _batches(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
        """Places of the rows that go together; of one length where the model cannot tell padding from text."""
        order = sorted(range(len(rows)), key=lambda place: _length(rows[place]))
        groups = (
            [order]
            if self._pads(rows)
            else [list(group) for _, group in itertools.groupby(order, key=lambda place: _length(rows[place]))]
        )
        for group in groups:
            # An empty prompt is begun by the model itself, which makes a single one of it.
            size = self._rows_in_batch if _length(rows[group[0]]) else 1
            yield from (group[at : at + size] for at in range(0, len(group), size))

    def _pads(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        # Classifiers of decoders look for the padding token that the configuration names, to find a text's end.
        return self.model.config.pad_token_id is not None and "attention_mask" in rows[0]

    def _joined(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One batch of rows: tensors padded on the right, everything else as lists."""
        filling = {
            "input_ids": self.tokenizer.pad_token_id or 0,
            "token_type_ids": self.tokenizer.pad_token_type_id,
            "special_tokens_mask": 1,
            "p_mask": 1,
        }
        width = max(map(_length, rows))
        joined: dict[str, Any] = {}
        for name, first in rows[0].items():
            values = [row[name] for row in rows]
            joined[name] = _padded(values, width, filling.get(name, 0)) if tf.is_tensor(first) else values
        return joined

    def _part(self, output: Mapping[str, Any], at: int, rows: int, length: int) -> dict[str, Any]:
        """One row's part of what a batch became."""
        part = {}
        for name, value in output.items():
            if tf.is_tensor(value):
                value = value[at : at + 1]
                part[name] = value[:, :length] if name in self.by_token else value
            else:
                part[name] = value[at] if isinstance(value, list) and len(value) == rows else value
        return part


def _length(row: Mapping[str, Any]) -> int:
    """Tokens of a row."""
    return int(row["input_ids"].shape[1])


def _padded(tensors: Sequence[tf.Tensor], width: int, filling: int) -> tf.Tensor:
    """Tensors (1, tokens, …) to one (rows, width, …)."""
    return tf.concat(
        [
            tf.pad(
                one,
                [[0, 0], [0, width - one.shape[1]], *([[0, 0]] * (one.shape.rank - 2))],
                constant_values=tf.cast(filling, one.dtype),
            )
            for one in tensors
        ],
        axis=0,
    )


class TextClassification(InBatches, transformers.TextClassificationPipeline):
    """Labels of texts, or of pairs of them."""


class ZeroShotClassification(InBatches, transformers.ZeroShotClassificationPipeline):
    """Labels that are said with the text, by a model that knows what follows from what."""


class TokenClassification(InBatches, transformers.TokenClassificationPipeline):
    """Tags of tokens, or entities."""

    by_token = frozenset({"logits", "input_ids", "attention_mask", "special_tokens_mask", "offset_mapping"})

    def gather_pre_entities(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """With offsets that are plain numbers, which JSON needs: Transformers makes them so for PyTorch alone."""
        found = super().gather_pre_entities(*args, **kwargs)
        for one in found:
            if one["start"] is not None:
                one["start"], one["end"] = int(one["start"]), int(one["end"])
        return found


class FillMask(InBatches, transformers.FillMaskPipeline):
    """The likeliest tokens in place of a mask."""

    by_token = frozenset({"logits", "input_ids"})

    def preprocess(self, inputs: str, *args: Any, **kwargs: Any) -> Any:
        """The token ids of a text.

        Raises:
            DataError: there is no mask in it, or none within the length that the model takes.
        """
        mask = self.tokenizer.mask_token
        if mask not in inputs:
            raise DataError(f"fill-mask: the text {inputs[:60]!r} has no {mask}; put it where a word is to be found")
        made = self.tokenizer(inputs, return_tensors="tf", **(kwargs.get("tokenizer_kwargs") or {}))
        if not tf.reduce_any(made["input_ids"] == self.tokenizer.mask_token_id):
            raise DataError(
                f"fill-mask: {mask} of the text {inputs[:60]!r} is not within the first "
                f"{self.tokenizer.model_max_length} tokens, which are what the model takes; shorten the text"
            )
        return made

    def postprocess(
        self, model_outputs: dict[str, Any], top_k: int = 5, target_ids: np.ndarray | None = None
    ) -> list[Any]:
        """The likeliest tokens; of `target_ids` for several masks too, on which Transformers fails on TensorFlow."""
        logits = model_outputs["logits"]
        if target_ids is None:
            return super().postprocess(model_outputs, min(top_k, logits.shape[-1]))
        is_target = np.isin(np.arange(logits.shape[-1]), target_ids)
        among_targets = {**model_outputs, "logits": tf.where(is_target, logits, logits.dtype.min)}
        found = super().postprocess(among_targets, min(top_k, len(target_ids)))
        masks = tf.where(model_outputs["input_ids"][0] == self.tokenizer.mask_token_id)[:, 0]
        all_targets = tf.boolean_mask(tf.nn.softmax(tf.gather(logits[0], masks)), is_target, axis=1)
        shares = tf.reduce_sum(all_targets, axis=1).numpy().tolist()
        for answers, share in zip([found] if len(shares) == 1 else found, shares, strict=True):
            for answer in answers:
                answer["score"] *= share
        return found


class QuestionAnswering(InBatches, transformers.QuestionAnsweringPipeline):
    """The part of a text that answers a question."""

    by_token = frozenset({"start", "end", "input_ids", "attention_mask", "token_type_ids", "p_mask"})

    def preprocess(
        self, example: Any, doc_stride: int | None = None, max_seq_len: int | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """The windows of a question and its context, which overlap by half of what the question leaves at most.

        With the overlap that Transformers asks for, the tokenizer panics where a question leaves less than that.

        Raises:
            DataError: the question leaves nothing for its context.
        """
        question = example.question_text if isinstance(example, SquadExample) else example["question"]
        tokens = len(self.tokenizer(question, add_special_tokens=False)["input_ids"])
        most = max_seq_len or min(self.tokenizer.model_max_length, 384)
        room = most - tokens - self.tokenizer.num_special_tokens_to_add(pair=True)
        if room < 2:
            raise DataError(
                f"question-answering: the question {question[:60]!r} has {tokens} tokens, and the model takes {most} "
                "of question and context together; shorten it"
            )
        stride = min(doc_stride or min(most // 2, 128), room // 2)
        yield from super().preprocess(example, doc_stride=stride, max_seq_len=most, **options)


class _Generates(InBatches):
    """A pipeline that generates, with a limit of length that Transformers gives to those of PyTorch alone."""

    def _pads(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        # A prompt is gone on with where it ends, so that nothing may come in between.
        return bool(self.model.config.is_encoder_decoder) and "attention_mask" in rows[0]

    def _limited(self, settings: dict[str, Any], before: int) -> dict[str, Any]:
        """The settings of one batch, with as many new tokens as they or the checkpoint's settings ask for.

        Raises:
            DataError: the model has not as many positions, or none behind the `before` tokens of a prompt.
        """
        if settings.keys() & {"max_length", "generation_config"}:
            return settings
        wanted, most = settings.get("max_new_tokens"), positions(self.model.config)
        if most is not None and before + (wanted or 1) > most:
            prompt = f"{before} tokens of a prompt and " if before else ""
            raise DataError(
                f"{self.task}: got {prompt}{wanted or 'at least 1'} to generate, and the model has positions for "
                f"{most}; {'shorten the prompt or ' if before else ''}generate fewer"
            )
        new = wanted or self._unless_told(before)
        return {**settings, "max_new_tokens": new if most is None else min(new, most - before)}

    def _unless_told(self, before: int) -> int:
        """How many new tokens the checkpoint's settings ask for, which may count those before."""
        settings = self.generation_config
        if settings.max_new_tokens is not None:
            return int(settings.max_new_tokens)
        if settings.max_length != _UNSAID_MAX_LENGTH and settings.max_length > before:
            return int(settings.max_length - before)
        return NEW_TOKENS


class TextGeneration(_Generates, transformers.TextGenerationPipeline):
    """Texts that are gone on with."""

    def _forward(self, model_inputs: dict[str, Any], **settings: Any) -> Any:
        before = _length(model_inputs)
        if not before and self.generation_config.bos_token_id is None:
            raise DataError("text-generation: the prompt is empty, and this model has no token that begins a text")
        return super()._forward(model_inputs, **self._limited(settings, before))


class _FromText(_Generates):
    def _forward(self, model_inputs: dict[str, Any], **settings: Any) -> Any:
        return super()._forward(model_inputs, **self._limited(settings, 0))


class Summarization(_FromText, transformers.SummarizationPipeline):
    """Summaries of texts."""


class Translation(_FromText, transformers.TranslationPipeline):
    """Texts in another language."""


CLASSES: Mapping[str, type[InBatches]] = MappingProxyType(
    {
        "text-classification": TextClassification,
        "token-classification": TokenClassification,
        "question-answering": QuestionAnswering,
        "fill-mask": FillMask,
        "text-generation": TextGeneration,
        "summarization": Summarization,
        "translation": Translation,
        "zero-shot-classification": ZeroShotClassification,
    }
)
