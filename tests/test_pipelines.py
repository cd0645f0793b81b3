"""Pipelines of the eight tasks on tiny random checkpoints, against what their models say when they are asked directly.

The checkpoints have PyTorch's layout; the models that made them are asked, not those that were loaded from them.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

import tfft
from tests import torch_layout
from tests.torch_layout import RELATIONS, TAGS, Tiny, labels, word_tokenizer
from tfft.backend import tf
from tfft.errors import DataError, ModelError, RunError
from tfft.models import abilities, mended
from tfft.models.heads import probabilities

TEXTS = ["the movie was good", "it was not", "i was not very good so the movie was bad", "good"]
PROMPTS = ["the cat sat on", "a dog", "he ran"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tiny]:
    return torch_layout.make_tiny(tmp_path_factory.mktemp("models"))


def pipeline(task: str, one: Tiny | Path, **options: Any) -> Any:
    folder = one if isinstance(one, Path) else one.folder
    return tfft.pipeline(task, folder, verbose=False, **options)


def copy(one: Tiny, folder: Path) -> Path:
    """To be spoilt."""
    return Path(shutil.copytree(one.folder, folder / "copy"))


def set_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


# --- the eight tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["text-classification", "sentiment-analysis"])
def test_labels_are_the_softmax_of_the_logits(tiny: dict[str, Tiny], task: str) -> None:
    one = tiny["nli"]
    made = pipeline(task, one)
    assert isinstance(made, transformers.TextClassificationPipeline)
    expected = [probabilities(one.ask(text)["logits"]) for text in TEXTS]
    for answer, shares in zip(made(TEXTS), expected, strict=True):
        assert answer["label"] == RELATIONS[shares.argmax()]
        assert answer["score"] == pytest.approx(shares.max(), abs=1e-5)
    assert len({one.ask(text)["logits"].argmax() for text in TEXTS}) > 1, "or the test sees nothing"
    for answers, shares in zip(made(TEXTS, top_k=None), expected, strict=True):
        assert {a["label"]: pytest.approx(a["score"], abs=1e-5) for a in answers} == dict(
            zip(RELATIONS, shares, strict=True)
        )
        assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    assert made(TEXTS[0])[0]["label"] == RELATIONS[expected[0].argmax()], (
        "one text: a list of one, as Transformers has it"
    )


def test_pairs_and_long_texts(tiny: dict[str, Tiny]) -> None:
    one = tiny["nli"]
    made = pipeline("text-classification", one, top_k=None)
    (answers,) = made([{"text": TEXTS[0], "text_pair": TEXTS[2]}])
    shares = probabilities(one.ask(TEXTS[0], TEXTS[2])["logits"])
    assert {a["label"]: pytest.approx(a["score"], abs=1e-5) for a in answers} == dict(
        zip(RELATIONS, shares, strict=True)
    )
    assert made(["good " * 500]) == made(["good " * 62]), "64 positions, two of them for special tokens"


def test_zero_shot_scores_are_those_of_entailment(tiny: dict[str, Tiny]) -> None:
    one, candidates = tiny["nli"], ["good", "bad", "sad"]
    made = pipeline("zero-shot-classification", one, candidate_labels=candidates)
    for text, answer in zip(TEXTS, made(TEXTS), strict=True):
        logits = np.stack([one.ask(text, f"This example is {label}.")["logits"] for label in candidates])
        shares = probabilities(logits[:, 2])
        assert answer["sequence"] == text
        assert answer["labels"] == [candidates[at] for at in np.argsort(-shares)]
        np.testing.assert_allclose(answer["scores"], np.sort(shares)[::-1], atol=1e-5)
        several = made(text, multi_label=True)
        for label, share in zip(several["labels"], several["scores"], strict=True):
            expected = probabilities(logits[candidates.index(label), [0, 2]])[1]
            assert share == pytest.approx(expected, abs=1e-5)


def test_tags_and_entities(tiny: dict[str, Tiny]) -> None:
    one = tiny["tags"]
    tagged, grouped = pipeline("ner", one)(TEXTS), pipeline("ner", one, aggregation_strategy="simple")(TEXTS)
    seen = set()
    for text, answers, entities in zip(TEXTS, tagged, grouped, strict=True):
        shares = probabilities(one.ask(text)["logits"])[1:-1]  # of [CLS] and [SEP] none is asked
        pieces = one.tokenizer(text, return_offsets_mapping=True)["offset_mapping"][1:-1]
        expected = [
            (TAGS[row.argmax()], pytest.approx(row.max(), abs=1e-5), *place)
            for row, place in zip(shares, pieces, strict=True)
            if row.argmax()
        ]
        assert [(a["entity"], a["score"], a["start"], a["end"]) for a in answers] == expected
        assert all(type(a[name]) is int for a in answers for name in ("start", "end"))
        for entity in entities:
            inside = [a for a in answers if entity["start"] <= a["start"] and a["end"] <= entity["end"]]
            assert {a["entity"][2:] for a in inside} == {entity["entity_group"]}
            assert [a["entity"][0] for a in inside[1:]] == ["I"] * len(inside[1:])
            assert entity["score"] == pytest.approx(np.mean([a["score"] for a in inside]), abs=1e-5)
        assert sum(len(range(e["start"], e["end"])) > 0 for e in entities) == len(entities)
        seen |= {tag for tag, *_ in expected}
    assert len(seen) > 1, "or the test sees nothing"


def test_the_answer_is_the_best_span_of_the_context(tiny: dict[str, Tiny]) -> None:
    one, question = tiny["span"], "is it you"
    context = "the movie was good and this end is not bad"
    answer = pipeline("question-answering", one)(question=question, context=context)
    found = one.ask(question, context)
    encoded = one.tokenizer(question, context, return_offsets_mapping=True)
    inside = [at for at, kind in enumerate(encoded.sequence_ids()) if kind == 1]
    # [CLS] takes part in the softmax, and is no answer.
    start, end = (probabilities(found[f"{side}_logits"][[0, *inside]])[1:] for side in ("start", "end"))
    spans = {(a, b): start[a] * end[b] for a in range(len(inside)) for b in range(a, min(a + 15, len(inside)))}
    first, last = max(spans, key=lambda span: spans[span])
    places = [encoded["offset_mapping"][at] for at in inside]
    assert len(set(places)) == len(places) and len(context.split()) == len(places), "words are tokens here"
    assert (answer["start"], answer["end"]) == (places[first][0], places[last][1])
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    assert answer["score"] == pytest.approx(spans[first, last], abs=1e-5)


def test_long_contexts_are_read_in_windows(tiny: dict[str, Tiny]) -> None:
    made = pipeline("question-answering", tiny["span"])
    short = "he saw the bad film and they were not very good to us"
    long = " ".join([short] * 20)
    answer = made(question="who was it", context=long)
    assert long[answer["start"] : answer["end"]] == answer["answer"] != ""
    several = made(question=["who was it", "so", "good or bad"], context=[long, short, long])
    assert several[0] == {**answer, "score": pytest.approx(answer["score"], abs=1e-5)}
    assert several[1]["answer"] in short
    with pytest.raises(DataError, match=r"the question .* has 70 tokens, and the model takes 64"):
        made(question="good " * 70, context=short)
    assert made(question="good " * 50, context=long)["answer"], "the question leaves eleven tokens"


def test_the_masks_token_is_the_argmax(tiny: dict[str, Tiny]) -> None:
    one = tiny["fill"]
    made = pipeline("fill-mask", one)
    texts = ["the [MASK] was good", "[MASK]", "he saw the [MASK] and it was so very bad"]
    for text, answers in zip(texts, made(texts), strict=True):
        ids = one.tokenizer(text)["input_ids"]
        shares = probabilities(one.ask(text)["logits"][ids.index(one.tokenizer.mask_token_id)])
        best = np.argsort(-shares)[:5]
        assert [a["token"] for a in answers] == best.tolist()
        np.testing.assert_allclose([a["score"] for a in answers], shares[best], atol=1e-5)
        assert answers[0]["token_str"] == one.tokenizer.decode([best[0]])


def test_targets_for_one_mask_and_for_two(tiny: dict[str, Tiny]) -> None:
    one = tiny["fill"]
    made = pipeline("fill-mask", one)
    for text in ("the [MASK] was good", "the [MASK] was [MASK]"):
        ids = np.array(one.tokenizer(text)["input_ids"])
        shares = probabilities(one.ask(text)["logits"][ids == one.tokenizer.mask_token_id])
        found = made(text, targets=["good", "bad"])
        for answers, row in zip([found] if len(shares) == 1 else found, shares, strict=True):
            expected = {word: row[one.tokenizer.convert_tokens_to_ids(word)] for word in ("good", "bad")}
            assert {a["token_str"]: pytest.approx(a["score"], rel=1e-4) for a in answers} == expected


def greedily(step: Any, ids: list[int], new_tokens: int, end: int | None) -> list[int]:
    """The likeliest token after all before it, again and again; `step` gives the logits of the last place."""
    for _ in range(new_tokens):
        ids = [*ids, int(np.argmax(step(ids)))]
        if ids[-1] == end:
            break
    return ids


def test_a_prompt_goes_on_with_the_likeliest_token(tiny: dict[str, Tiny]) -> None:
    one = tiny["gpt2"]
    made = pipeline("text-generation", one, max_new_tokens=4)
    answers = made(PROMPTS)
    for prompt, (answer,) in zip(PROMPTS, answers, strict=True):
        ids = one.tokenizer(prompt)["input_ids"]
        grown = greedily(lambda ids: one.model(tf.constant([ids])).logits[0, -1], ids, 4, end=0)
        new = [at for at in grown[len(ids) :] if at != 0]
        assert answer["generated_text"] == " ".join([prompt, *one.tokenizer.convert_ids_to_tokens(new)])
        assert made(prompt) == [answer]
    assert len({answer["generated_text"].split()[-1] for (answer,) in answers}) > 1, "or the test sees nothing"


def test_prompts_end_where_the_positions_do(tiny: dict[str, Tiny]) -> None:
    one = tiny["gpt2"]
    (answer,) = pipeline("text-generation", one, return_tensors=True, eos_token_id=-1)("the cat")
    assert len(answer["generated_token_ids"]) == 32
    made = pipeline("text-generation", one)
    with pytest.raises(
        DataError, match="got 32 tokens of a prompt and at least 1 to generate, and the model has positions for 32"
    ):
        made("cat " * 32)
    with pytest.raises(DataError, match="got 2 tokens of a prompt and 31 to generate"):
        made("the cat", max_new_tokens=31)
    (empty,) = pipeline("text-generation", one, max_new_tokens=3, return_tensors=True)("")
    first = one.tokenizer.bos_token_id
    expected = greedily(lambda ids: one.model(tf.constant([ids])).logits[0, -1], [first], 3, end=0)
    assert empty["generated_token_ids"][: len(expected)] == expected


def test_what_is_drawn_follows_from_the_seed(tiny: dict[str, Tiny]) -> None:
    one = tiny["gpt2"]
    made = {seed: pipeline("text-generation", one, seed=seed, max_new_tokens=5) for seed in (1, 2, None)}
    first, second, likeliest = (one(PROMPTS[1:]) for one in made.values())
    assert first == made[1](PROMPTS[1:]) != second
    assert likeliest not in (first, second)
    with pytest.raises(DataError, match="seed: got -1; expected"):
        pipeline("text-generation", one, seed=-1)


def test_settings_of_generation_are_those_of_the_folder(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    folder = copy(tiny["gpt2"], tmp_path)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "max_new_tokens": 2, "do_sample": True}))
    made = pipeline("text-generation", folder, return_full_text=False)
    assert (
        made("the cat")
        == made("the cat")
        == pipeline("text-generation", tiny["gpt2"], max_new_tokens=2, return_full_text=False)("the cat")
    )
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"generation_config\.json cannot be used"):
        pipeline("text-generation", folder)


def seq2seq(one: Tiny, text: str, new_tokens: int) -> str:
    """What the model makes of a text, greedily, without a cache."""
    given = one.tokenizer(text, return_tensors="tf", max_length=32, truncation=True)
    grown = greedily(
        lambda ids: one.model(**given, decoder_input_ids=tf.constant([ids]), use_cache=False).logits[0, -1],
        [one.model.config.decoder_start_token_id],
        new_tokens,
        end=0,
    )
    return str(one.tokenizer.decode(grown, skip_special_tokens=True))


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_summaries_are_greedy(tiny: dict[str, Tiny], name: str) -> None:
    one, texts = tiny[name], [*PROMPTS, "cat " * 100]
    answers = [answer["summary_text"] for answer in pipeline("summarization", one, max_new_tokens=5)(texts)]
    assert answers == [seq2seq(one, text, 5) for text in texts]
    assert len(set(answers)) > 1, "or the test sees nothing"


def test_translations_begin_as_the_languages_ask(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    one = tiny["t5"]
    prefix = {"translation_en_to_fr": {"prefix": "so they saw ", "max_length": 4}}
    folder = set_config(copy(one, tmp_path), task_specific_params=prefix)
    made = pipeline("translation_en_to_fr", folder)
    assert isinstance(made, transformers.TranslationPipeline)
    found = [answer["translation_text"] for answer in made(PROMPTS)]
    assert found == [seq2seq(one, f"so they saw {text}", 4) for text in PROMPTS]
    plain = [answer["translation_text"] for answer in pipeline("translation", one, max_new_tokens=4)(PROMPTS)]
    assert plain == [seq2seq(one, text, 4) for text in PROMPTS] != found


# --- batches ----------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "text-classification": ("nli", {"top_k": None}),
    "zero-shot-classification": ("nli", {"candidate_labels": ["good", "bad"]}),
    "token-classification": ("tags", {}),
    "fill-mask": ("fill", {}),
    "text-generation": ("gpt2", {"max_new_tokens": 3}),
    "summarization": ("bart", {"max_new_tokens": 3}),
    "translation": ("t5", {"max_new_tokens": 3}),
}


def close(value: Any) -> Any:
    """Equal to the same value but for the last digits of its numbers."""
    if isinstance(value, dict):
        return {name: close(one) for name, one in value.items()}
    if isinstance(value, list):
        return [close(one) for one in value]
    return pytest.approx(float(value), abs=1e-5) if isinstance(value, float | np.floating) else value


@pytest.mark.parametrize("task", OPTIONS)
def test_batches_answer_as_single_texts_do(tiny: dict[str, Tiny], task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options = OPTIONS[task]
    made = pipeline(task, tiny[name], batch_size=2, **options)
    texts = [*TEXTS, TEXTS[0]]  # of which prompts go together as far as they are of one length
    if task == "fill-mask":
        texts = [f"[MASK] {text}" for text in texts]
    sizes: list[int] = []
    forward = type(made)._forward

    def counted(self: Any, model_inputs: Any, **settings: Any) -> Any:
        sizes.append(model_inputs["input_ids"].shape[0])
        return forward(self, model_inputs, **settings)

    monkeypatch.setattr(type(made), "_forward", counted)
    together = made(texts)
    assert max(sizes) == 2
    assert (sizes.count(1) == 3) == (task == "text-generation")
    streamed = list(made(text for text in texts))
    alone = [next(made(one for one in [text])) for text in texts]
    if task in ("summarization", "translation"):
        assert [[one] for one in together] == streamed == alone
    else:
        assert together == close(streamed) == close(alone)


def test_a_generator_is_not_read_to_its_end(tiny: dict[str, Tiny]) -> None:
    taken = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(1)
            yield "good"

    answers = pipeline("text-classification", tiny["nli"], batch_size=1)(endless())
    assert next(answers)["label"] in RELATIONS
    assert len(taken) == mended._BATCHES_AT_ONCE


# --- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        (
            "fill",
            "question-answering",
            "is a BertForMaskedLM, which is not made for question-answering; it can do fill-mask$",
        ),
        (
            "nli",
            "ner",
            "which is not made for token-classification; it can do text-classification and zero-shot-classif",
        ),
        ("span", "text-classification", "it can do question-answering$"),
        ("tags", "zero-shot-classification", "it can do token-classification$"),
        (
            "gpt2",
            "summarization",
            "of which Transformers has no TensorFlow model for summarization; it can do text-gen",
        ),
        ("t5", "text-generation", "T5ForConditionalGeneration, .*; it can do summarization and translation$"),
        ("fill", "fillmask", "task: got fillmask; expected one of .*did you mean fill-mask"),
        ("fill", "translation_en", "task: got translation_en; .*translation_XX_to_YY"),
    ],
)
def test_a_task_that_the_model_cannot_do(tiny: dict[str, Tiny], name: str, task: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        pipeline(task, tiny[name])


def test_an_encoder_without_the_head_is_refused(tiny_checkpoint: Path) -> None:
    for task, lacking in (("fill-mask", "cls.predictions.bias"), ("ner", "classifier.weight")):
        with pytest.raises(ModelError, match=f"is a BertModel without the head for .*{lacking}.*would be random"):
            pipeline(task, tiny_checkpoint)


def test_labels_without_an_entailment(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    folder = set_config(copy(tiny["nli"], tmp_path), **labels(("bad", "fair", "good")))
    with pytest.raises(
        ModelError, match=r"none of its labels \(bad, fair, good\) is entailment.*can do text-classific"
    ):
        pipeline("zero-shot-classification", folder, candidate_labels=["x"])
    assert pipeline("text-classification", folder)(TEXTS)


def test_weights_tell_where_the_configuration_names_no_head(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    """As of BART, whose published base is a `BartModel` that needs no head to generate."""
    folder = set_config(copy(tiny["bart"], tmp_path), architectures=["BartModel"])
    assert pipeline("summarization", folder, max_new_tokens=5)(PROMPTS) == pipeline(
        "summarization", tiny["bart"], max_new_tokens=5
    )(PROMPTS)


def test_no_model_is_chosen_for_anybody() -> None:
    for task, one in abilities.TASKS.items():
        with pytest.raises(ModelError, match=f"model: expected one for {task}.*{one.example}.*none is fetched"):
            tfft.pipeline(task)


def test_folders_that_are_no_models(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no folder .*nowhere"):
        pipeline("fill-mask", tmp_path / "nowhere")
    (tmp_path / "recipe.yaml").write_text("task: text-classification\n")
    with pytest.raises(RunError, match="unfinished run"):
        pipeline("text-classification", tmp_path)
    folder = copy(tiny["gpt2"], tmp_path)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensors[name] for name in list(tensors)[1:]}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights of the encoder"):
        pipeline("text-generation", folder)


def test_texts_without_a_mask(tiny: dict[str, Tiny]) -> None:
    made = pipeline("fill-mask", tiny["fill"])
    with pytest.raises(DataError, match=r"'no mask' has no \[MASK\]; put it"):
        made(["a [MASK]", "no mask"])
    with pytest.raises(DataError, match="not within the first 64 tokens"):
        made("good " * 100 + "[MASK]")
    with pytest.raises(ModelError, match="no mask"):
        pipeline("fill-mask", _without_mask(tiny["fill"]))


def _without_mask(one: Tiny) -> Path:
    folder = one.folder.parent / "unmasked"
    if not folder.exists():
        torch_layout.save_as_torch(one.model, word_tokenizer(), folder)
        set_config(folder, pad_token_id=1)
    return folder


# --- weights ----------------------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_pytorch(tiny: dict[str, Tiny]) -> None:
    """Names and shapes as PyTorch's own files have them, from memory of those files."""
    for name, tensor, shape in (
        ("gpt2", "transformer.h.0.attn.c_attn.weight", (16, 48)),
        ("gpt2", "transformer.h.1.mlp.c_proj.bias", (16,)),
        ("fill", "cls.predictions.transform.dense.weight", (16, 16)),
        ("fill", "bert.encoder.layer.1.intermediate.dense.weight", (32, 16)),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, 2)),
        ("t5", "decoder.block.0.layer.1.EncDecAttention.k.weight", (16, 16)),
        ("bart", "model.decoder.layers.0.encoder_attn.out_proj.weight", (16, 16)),
        ("bart", "final_logits_bias", (1, len(torch_layout.WORDS) + 4)),
        ("bart", "model.shared.weight", (len(torch_layout.WORDS) + 4, 16)),
    ):
        assert load_file(tiny[name].folder / "model.safetensors")[tensor].shape == shape


@pytest.mark.parametrize("is_safe", [True, False], ids=["safe", "h5"])
@pytest.mark.parametrize("name", ["fill", "gpt2", "t5", "bart"])
def test_what_tensorflow_wrote_says_the_same(tiny: dict[str, Tiny], name: str, is_safe: bool, tmp_path: Path) -> None:
    one = tiny[name]
    one.model.save_pretrained(tmp_path, safe_serialization=is_safe)
    one.tokenizer.save_pretrained(tmp_path)
    task, text = {"fill": ("fill-mask", "the [MASK]"), "gpt2": ("text-generation", "the")}.get(
        name, ("translation", "the cat")
    )
    options = {} if name == "fill" else {"max_new_tokens": 3}
    assert pipeline(task, tmp_path, **options)(text) == close(pipeline(task, one, **options)(text))


def test_embeddings_of_outputs_are_those_of_inputs(
    tiny: dict[str, Tiny], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch may save both, and its GPT-2 has masks among its weights; TensorFlow's knows one of the two."""
    folder = copy(tiny["gpt2"], tmp_path)
    tensors = load_file(folder / "model.safetensors")
    shared = tensors["transformer.wte.weight"]
    more = {"lm_head.weight": shared, "transformer.h.0.attn.bias": np.tril(np.ones((1, 1, 32, 32), np.float32))}
    save_file({**tensors, **more}, folder / "model.safetensors", {"format": "pt"})
    tfft.pipeline("text-generation", folder)
    said = capsys.readouterr()
    assert said.out == "", "which is for answers"
    assert said.err == "weights loaded; no weight is new; nothing of the checkpoint was left out\n"
    save_file({**tensors, "lm_head.weight": shared + 1}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lm_head\.weight differs from the embeddings of its inputs"):
        pipeline("text-generation", folder)


def test_embeddings_of_outputs_that_tensorflow_knows(tmp_path: Path) -> None:
    """As of T5 1.1, which has both, and differs by it."""
    model = torch_layout.random_model(torch_layout.t5_config(tie_word_embeddings=False), "TFT5ForConditionalGeneration")
    one = Tiny(tmp_path, model, word_tokenizer(ends=True))
    torch_layout.save_as_torch(model, one.tokenizer, tmp_path)
    assert load_file(tmp_path / "model.safetensors")["lm_head.weight"].shape == (len(torch_layout.WORDS) + 4, 16)
    (answer,) = pipeline("translation", tmp_path, max_new_tokens=3)(PROMPTS[0])
    assert answer["translation_text"] == seq2seq(one, PROMPTS[0], 3)


def test_weights_that_no_task_needs_are_said(
    tiny: dict[str, Tiny], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(tiny["fill"], tmp_path)
    tensors = load_file(folder / "model.safetensors")
    more = {
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
        "cls.seq_relationship.weight": np.zeros((2, 16), np.float32),
    }
    save_file({**tensors, **more}, folder / "model.safetensors", {"format": "pt"})
    tfft.pipeline("fill-mask", folder)
    assert capsys.readouterr().err == "weights loaded; no weight is new; not used: cls.seq_relationship (1 tensor)\n"


def test_nothing_of_pytorch_is_loaded(tiny: dict[str, Tiny]) -> None:
    pipeline("fill-mask", tiny["fill"])("[MASK]")
    assert "torch" not in sys.modules
