"""Tiny random models for the pipelines' tasks, as PyTorch would save them, although no PyTorch is here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers.modeling_tf_pytorch_utils import (
    apply_transpose,
    convert_tf_weight_name_to_pt_weight_name,
)

from tests.conftest import FIXTURES
from tfft.backend import keras, tf

_TEXT = "the a cat dog sat ran on mat to in and was very good bad it so he she they saw house big red is"
WORDS = tuple(_TEXT.split())


def as_torch(model: Any) -> dict[str, np.ndarray]:
    """A model's weights with the names and shapes that PyTorch has for them."""
    rename = getattr(model, "tf_to_pt_weight_rename", lambda name: (name,))
    tensors = {}
    for weight in model.weights:
        name, transpose = convert_tf_weight_name_to_pt_weight_name(weight.name, tf_weight_shape=weight.shape)
        name = rename(name)[0]
        tensor = apply_transpose(transpose, weight.numpy(), pt_to_tf=False)
        # TensorFlow's GPT-2 has biases of one row.
        tensors[name] = np.ascontiguousarray(tensor[0] if name.endswith(".bias") and tensor.ndim == 2 else tensor)
    return tensors


def save_as_torch(model: Any, tokenizer: Any, folder: Path) -> Path:
    """What PyTorch's `save_pretrained` writes for a model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(as_torch(model), folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__.removeprefix("TF")]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_model(config: Any, class_name: str, seed: int = 2, scale: float = 0.5) -> Any:
    """A model whose matrices are random, and so large that its answers depend on what it is asked."""
    keras.utils.set_random_seed(seed)
    model = getattr(transformers, class_name)(config)
    model.build_in_name_scope()
    draw = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            weight.assign(draw.normal(0, scale, weight.shape))
    return model


def bert_config(**settings: Any) -> Any:
    """A BERT for the tokenizer of `tiny_bert_torch`: 2 layers, 16 wide, 100 tokens, 64 positions."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return transformers.BertConfig(vocab_size=100, max_position_embeddings=64, **{**sizes, **settings})


def gpt2_config(**settings: Any) -> Any:
    """A GPT-2 of 2 layers, 16 wide, 32 positions, for `word_tokenizer`."""
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2Config(
        vocab_size=len(WORDS) + 4, n_positions=32, n_embd=16, n_layer=2, n_head=2, **{**ends, **settings}
    )


def t5_config(**settings: Any) -> Any:
    """A T5 of one layer on each side, 16 wide, for `word_tokenizer`."""
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    ids = {"pad_token_id": 1, "eos_token_id": 0, "decoder_start_token_id": 1}
    return transformers.T5Config(vocab_size=len(WORDS) + 4, **{**sizes, **ids, **settings})


def bart_config(**settings: Any) -> Any:
    """A BART of one layer on each side, 16 wide, 48 positions, for `word_tokenizer`."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    ids = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 0, "decoder_start_token_id": 2}
    return transformers.BartConfig(
        vocab_size=len(WORDS) + 4,
        d_model=16,
        max_position_embeddings=48,
        **{**sides, **ids, "forced_eos_token_id": None, **settings},
    )


def word_tokenizer(pads: bool = True, ends: bool = False, most: int = 32) -> Any:
    """Of words between blanks: 0 ends a text, 1 is padding, 2 begins one, 3 is unknown; the rest are `WORDS`."""
    vocabulary = {word: at for at, word in enumerate(["</s>", "<pad>", "<s>", "<unk>", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece(prefix="##")  # words with blanks between them
    if ends:
        made.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 0)]
        )
    padding = {"pad_token": "<pad>"} if pads else {}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="</s>",
        bos_token="<s>" if pads else "</s>",
        unk_token="<unk>",
        model_max_length=most,
        model_input_names=["input_ids", "attention_mask"],
        **padding,
    )


# --- all of them ------------------------------------------------------------------------------------------------------

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
RELATIONS = ("contradiction", "neutral", "entailment")


@dataclass(frozen=True)
class Tiny:
    """A checkpoint, the model that it was made of, and its tokenizer."""

    folder: Path
    model: Any
    tokenizer: Any

    def ask(self, *texts: str) -> dict[str, np.ndarray]:
        """What the model says of one text, or of a pair, without its first axis."""
        given = self.tokenizer(*texts, return_tensors="tf")
        return {name: value[0].numpy() for name, value in self.model(**given).items() if tf.is_tensor(value)}


def labels(names: Sequence[str]) -> dict[str, Any]:
    """What a configuration says of classes."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: at for at, name in enumerate(names)}}


_KINDS: dict[str, tuple[Any, str]] = {
    "fill": (bert_config(), "TFBertForMaskedLM"),
    "span": (bert_config(), "TFBertForQuestionAnswering"),
    "tags": (bert_config(**labels(TAGS)), "TFBertForTokenClassification"),
    "nli": (bert_config(**labels(RELATIONS)), "TFBertForSequenceClassification"),
    "gpt2": (gpt2_config(), "TFGPT2LMHeadModel"),
    "t5": (t5_config(), "TFT5ForConditionalGeneration"),
    "bart": (bart_config(), "TFBartForConditionalGeneration"),
}


def make_tiny(folder: Path, names: Iterable[str] = _KINDS) -> dict[str, Tiny]:
    """A checkpoint of each kind, in a folder of its own."""
    made = {}
    for name in names:
        config, class_name = _KINDS[name]
        if config.model_type == "bert":
            tokenizer = transformers.AutoTokenizer.from_pretrained(FIXTURES / "tiny_bert_torch")
        else:
            tokenizer = word_tokenizer(pads=name != "gpt2", ends=name != "gpt2")
        model = random_model(config, class_name)
        made[name] = Tiny(save_as_torch(model, tokenizer, folder / name), model, tokenizer)
    return made
