"""Checkpoints of every kind in, the numbers of PyTorch out; one clear message for each that cannot be used."""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import sklearn.metrics
import sklearn.utils.class_weight

from tests.conftest import FIXTURES
from tfft.backend import keras, tf
from tfft.errors import ModelError, RecipeError
from tfft.models import checkpoint, heads, load, save
from tfft.models.checkpoint import Checkpoint
from tfft.models.load import Loaded

CLASSIFIER = "TFAutoModelForSequenceClassification"
HEAD = ("classifier.bias", "classifier.weight")


def load_from(folder: Path, classes: int = 3, seed: int = 0) -> Loaded:
    keras.utils.set_random_seed(seed)
    return load.load_classifier(checkpoint.find(str(folder)), [f"class {i}" for i in range(classes)], CLASSIFIER)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    """PyTorch with the tiny checkpoint: `hidden_states` (layers + 1, rows, tokens, hidden), and inputs."""
    return safetensors.numpy.load_file(FIXTURES / "tiny_bert_torch_states.safetensors")


@pytest.fixture(scope="module")
def inputs(reference: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(reference[name]) for name in ("input_ids", "attention_mask", "token_type_ids")}


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path) -> Loaded:
    """The tiny checkpoint with a head for 3 classes. Nobody changes its weights."""
    return load_from(tiny_checkpoint)


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A copy of the tiny checkpoint to be spoilt."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))


def logits(model: keras.Model, inputs: Mapping[str, tf.Tensor]) -> np.ndarray:
    return np.asarray(model(inputs).logits)


def assert_equal_weights(one: keras.Model, other: keras.Model) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    """A safetensors file with other tensors, and the mark of PyTorch."""
    safetensors.numpy.save_file(change(safetensors.numpy.load_file(path)), path, metadata={"format": "pt"})


def set_keys(path: Path, **changes: Any) -> None:
    """A JSON file with other values; None takes the key away."""
    changed = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_hidden_states_are_those_of_pytorch(
    tiny: Loaded, reference: dict[str, np.ndarray], inputs: dict[str, tf.Tensor]
) -> None:
    found = tiny.model(inputs, output_hidden_states=True).hidden_states
    expected = reference["hidden_states"]
    assert len(found) == len(expected) == 3
    real = reference["attention_mask"].astype(bool)
    for layer, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(ours.numpy()[real], theirs[real], atol=1e-4, rtol=0, err_msg=f"layer {layer}")


def test_shards_are_one_checkpoint(tiny: Loaded) -> None:
    sharded = FIXTURES / "tiny_bert_torch_sharded"
    assert len(checkpoint.find(str(sharded)).weights) == 2
    assert_equal_weights(load_from(sharded).model, tiny.model)


def test_new_weights_come_from_the_seed(tiny: Loaded, tiny_checkpoint: Path) -> None:
    assert_equal_weights(load_from(tiny_checkpoint).model, tiny.model)
    other = load_from(tiny_checkpoint, seed=1).model
    assert not np.array_equal(other.classifier.kernel, tiny.model.classifier.kernel)
    np.testing.assert_array_equal(other.bert.pooler.dense.kernel, tiny.model.bert.pooler.dense.kernel)


def test_bfloat16_weights_are_read(folder: Path, tiny: Loaded) -> None:
    # safetensors.numpy knows no bfloat16: the file is written by hand, each float32 cut to its upper half.
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        raw = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    packed = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(packed).to_bytes(8, "little") + packed + body)
    model = load_from(folder).model
    for ours, full in zip(model.bert.get_weights(), tiny.model.bert.get_weights(), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, full, rtol=2**-7)


# --- written and read back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"safe_serialization": True}, {"safe_serialization": False}], ids=["safe", "h5"])
@pytest.mark.parametrize("max_shard_size", ["10GB", "8KB"])
def test_what_transformers_writes_loads(
    tiny: Loaded, inputs: dict[str, tf.Tensor], tmp_path: Path, options: dict[str, Any], max_shard_size: str
) -> None:
    tiny.model.save_pretrained(tmp_path / "it", max_shard_size=max_shard_size, **options)
    found = checkpoint.find(str(tmp_path / "it"))
    assert found.is_keras_h5 == (not options["safe_serialization"])
    assert (len(found.weights) > 1) == (max_shard_size == "8KB")
    again = load_from(tmp_path / "it", seed=5)
    assert (again.new, again.unused) == ((), ())
    assert again.sentence() == "weights loaded; no weight is new; nothing of the checkpoint was left out"
    np.testing.assert_array_equal(logits(again.model, inputs), logits(tiny.model, inputs))


@pytest.mark.parametrize("is_safe", [True, False], ids=["safe", "h5"])
@pytest.mark.parametrize("architecture", ["Bert", "XLMRoberta", "MPNet"])
def test_an_encoder_alone_gets_a_head(tmp_path: Path, architecture: str, is_safe: bool) -> None:
    """Names of models whose class is all capitals in front (`tfxlm_roberta_model_1/…`) are names of models too."""
    import transformers

    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=60,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=40,
    )
    encoder = getattr(transformers, f"TF{architecture}Model")(config)
    encoder.build_in_name_scope()
    encoder.save_pretrained(tmp_path / "it", safe_serialization=is_safe)
    loaded = load_from(tmp_path / "it")
    assert {name.split(".")[0] for name in loaded.new} == {"classifier"}
    base = getattr(loaded.model, loaded.model.base_model_prefix)
    written = {weight.name.partition("/")[2]: weight.numpy() for weight in encoder.weights}
    for weight in base.weights:
        np.testing.assert_array_equal(weight, written[weight.name.partition("/")[2]], err_msg=weight.name)
    # Once more with its head: the name of the model differs from that in the file by a number at least.
    loaded.model.save_pretrained(tmp_path / "whole", safe_serialization=is_safe)
    assert load_from(tmp_path / "whole").new == ()


def test_saved_weights_go_back_into_the_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    found = checkpoint.find(str(tiny_checkpoint))
    tokenizer = checkpoint.load_tokenizer(found)
    model = load_from(tiny_checkpoint).model
    before = model.get_weights()
    save.save(model, tokenizer, tmp_path / "kept")
    for weight in model.weights:
        weight.assign(weight + 1)
    save.restore(model, tmp_path / "kept")
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert config["id2label"] == {"0": "class 0", "1": "class 1", "2": "class 2"}
    again = checkpoint.load_tokenizer(checkpoint.find(str(tmp_path / "kept")))
    assert again("a good day")["input_ids"] == tokenizer("a good day")["input_ids"]


@pytest.mark.parametrize("largest", [save.LARGEST_FILE, 0])
def test_a_model_is_written_as_transformers_writes_it(
    tiny: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    """By our writer, and by theirs where it may have to be parted."""
    monkeypatch.setattr(save, "LARGEST_FILE", largest)
    save.save(tiny.model, None, tmp_path / "ours", {"beside:0": np.array([1.5], np.float32)})
    tiny.model.save_pretrained(tmp_path / "theirs", safe_serialization=True)
    ours, theirs = (safetensors.numpy.load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    if largest:
        assert ours.pop("beside:0") == 1.5
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
    with safetensors.safe_open(tmp_path / "ours" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "tf"}
    names = [{one.name for one in (tmp_path / folder).iterdir()} for folder in ("ours", "theirs")]
    assert names[0] == names[1]
    configs = [(tmp_path / folder / "config.json").read_text() for folder in ("ours", "theirs")]
    assert configs[0] == configs[1]


def test_weights_of_another_model_do_not_go_back(tiny: Loaded, tiny_checkpoint: Path, tmp_path: Path) -> None:
    tiny.model.save_pretrained(tmp_path / "three")
    with pytest.raises(ValueError, match=r"three was not written by this model.*classifier"):
        save.restore(load_from(tiny_checkpoint, classes=2).model, tmp_path / "three")


def test_a_full_disk_while_saving_is_the_systems_error(
    tiny: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(type(tiny.model), "save_pretrained", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        save.save(tiny.model, None, tmp_path / "full")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "full"))


# --- what is new, and what is not used --------------------------------------------------------------------------------


def test_a_new_head_is_said_in_one_sentence(tiny: Loaded) -> None:
    assert sorted(tiny.new) == sorted(HEAD)
    assert tiny.unused == ()
    assert tiny.sentence() == (
        "weights loaded; new and untrained: classifier (2 tensors); nothing of the checkpoint was left out"
    )


def test_the_label_names_are_in_the_configuration(tiny: Loaded) -> None:
    assert tiny.model.config.id2label == {0: "class 0", 1: "class 1", 2: "class 2"}
    assert tiny.model.config.label2id == {"class 0": 0, "class 1": 1, "class 2": 2}
    assert tiny.model.config.num_labels == 3


def with_head(folder: Path, classes: int) -> None:
    """As PyTorch saves a classifier: the encoder's names begin with `bert.`."""
    rewrite(
        folder / "model.safetensors",
        lambda tensors: {
            **{f"bert.{name}": tensor for name, tensor in tensors.items()},
            "classifier.weight": np.arange(classes * 16, dtype=np.float32).reshape(classes, 16),
            "classifier.bias": np.arange(classes, dtype=np.float32),
        },
    )


def test_a_classifier_of_as_many_classes_keeps_its_head(folder: Path) -> None:
    with_head(folder, 3)
    loaded = load_from(folder)
    assert (loaded.new, loaded.unused) == ((), ())
    np.testing.assert_array_equal(loaded.model.classifier.kernel, np.arange(48.0).reshape(3, 16).T)
    np.testing.assert_array_equal(loaded.model.classifier.bias, [0, 1, 2])


def test_a_classifier_of_other_classes_gets_a_new_head(folder: Path) -> None:
    with_head(folder, 3)
    loaded = load_from(folder, classes=2)
    assert sorted(loaded.new) == sorted(HEAD)
    assert "new and untrained: classifier (2 tensors)" in loaded.sentence()
    assert loaded.model.classifier.kernel.shape == (16, 2)
    assert np.abs(loaded.model.classifier.kernel.numpy()).max() < 0.1  # drawn with a scale of 0.02


@pytest.mark.parametrize("is_safe", [True, False], ids=["safe", "h5"])
def test_a_classifier_of_other_classes_written_by_tensorflow_gets_a_new_head(
    tiny: Loaded, tmp_path: Path, is_safe: bool
) -> None:
    tiny.model.save_pretrained(tmp_path / "three", safe_serialization=is_safe)
    loaded = load_from(tmp_path / "three", classes=2)
    assert sorted(loaded.new) == ["classifier.bias", "classifier.kernel"]
    assert loaded.unused == ()
    np.testing.assert_array_equal(loaded.model.bert.pooler.dense.kernel, tiny.model.bert.pooler.dense.kernel)


def test_heads_of_pretraining_are_not_used(folder: Path) -> None:
    rewrite(
        folder / "model.safetensors",
        lambda tensors: {
            **{f"bert.{name}": tensor for name, tensor in tensors.items() if not name.startswith("pooler")},
            "bert.embeddings.position_ids": np.arange(64)[None],
            "cls.predictions.bias": np.zeros(100, np.float32),
            "cls.predictions.transform.dense.bias": np.zeros(16, np.float32),
            "cls.predictions.transform.dense.weight": np.zeros((16, 16), np.float32),
        },
    )
    loaded = load_from(folder)
    assert loaded.sentence() == (
        "weights loaded; new and untrained: bert.pooler.dense (2 tensors), classifier (2 tensors); "
        "not used: cls.predictions (1 tensor), cls.predictions.transform.dense (2 tensors)"
    )


def test_many_layers_are_counted_and_not_listed() -> None:
    model = keras.Sequential([keras.layers.Dense(3)])
    model.build((None, 4))
    loaded = Loaded(model, tuple(f"layer{number}.bias" for number in range(9)), ())
    assert loaded.sentence().count("layer") == 6 + 1
    assert "layer5 (1 tensor) and 3 layers more" in loaded.sentence()


def test_parameters_are_counted() -> None:
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.build((None, 4))
    # 4 * 3 + 3; a scale and a shift of 3 each are trained, a mean and a variance of 3 each are not.
    assert load.parameter_counts(model) == (15 + 6, 6)
    model.layers[0].trainable = False
    assert load.parameter_counts(model) == (6, 15 + 6)


# --- what cannot be used ----------------------------------------------------------------------------------------------


def find(folder: Path) -> Checkpoint:
    return checkpoint.find(str(folder))


def find_and_read_tokenizer(folder: Path) -> Any:
    return checkpoint.load_tokenizer(find(folder))


def find_and_load(folder: Path) -> Loaded:
    return load_from(folder, classes=2)


def choose_too_long(folder: Path) -> int:
    found = find(folder)
    return checkpoint.choose_max_length(65, checkpoint.load_tokenizer(found), found.config)


def cut(size: int) -> Callable[[Path], None]:
    """Keeps the first bytes of the weights; a negative size leaves that many out."""

    def do(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return do


def append(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def weights_as(name: str, content: bytes | None = None) -> Callable[[Path], None]:
    """The weights under another name, with another content."""

    def do(folder: Path) -> None:
        weights = (folder / "model.safetensors").rename(folder / name)
        if content is not None:
            weights.write_bytes(content)

    return do


def shards(index: Any, *present: str) -> Callable[[Path], None]:
    """An index in place of the weights, and the shards that are there."""

    def do(folder: Path) -> None:
        weights = folder / "model.safetensors"
        for name in present:
            shutil.copy(weights, folder / name)
        weights.unlink()
        (folder / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))

    return do


def write(name: str, text: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).write_text(text)

    return do


def with_keys(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: set_keys(folder / name, **changes)


def remove(*names: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return do


def without_tensor(start: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(
        folder / "model.safetensors",
        lambda tensors: {name: value for name, value in tensors.items() if not name.startswith(start)},
    )


def more_tokens(folder: Path) -> None:
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["vocab"]["extra"] = 100
    (folder / "tokenizer.json").write_text(json.dumps(state))


def without_padding_token(folder: Path) -> None:
    # BertTokenizer has one by default.
    set_keys(folder / "tokenizer_config.json", pad_token=None, tokenizer_class="PreTrainedTokenizerFast")
    set_keys(folder / "special_tokens_map.json", pad_token=None)


MAP = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
FETCH = r"(copy|fetch).*again"

# What is wrong with the folder, what notices, and what the message says: the place, what was found, the mend.
REFUSED: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any], str]] = {
    "no weights": (
        remove("model.safetensors"),
        find,
        r"model\.name_or_path: .*tiny holds no weights: expected model\.safetensors .*tf_model\.h5, found config\.json",
    ),
    "empty folder": (
        lambda folder: [path.unlink() for path in folder.iterdir()],
        find,
        r"model\.name_or_path: .*tiny holds no weights: .*found nothing",
    ),
    "pickle only": (
        weights_as("pytorch_model.bin"),
        find,
        r"model\.name_or_path: .*tiny .*pickle \(pytorch_model\.bin\).*save_pretrained\(….*safe_serialization=True\)",
    ),
    "pickled shards": (weights_as("pytorch_model-00001-of-00002.bin"), find, r"pickle.*safe_serialization=True"),
    "no bytes": (cut(0), find, rf"tiny/model\.safetensors is not a whole safetensors file \(0 bytes\).*{FETCH}"),
    "half a length": (cut(4), find, rf"tiny/model\.safetensors is not a whole.*4 bytes.*{FETCH}"),
    "cut in the header": (cut(100), find, rf"tiny/model\.safetensors is not a whole.*100 bytes.*{FETCH}"),
    "cut in the tensors": (cut(-1), find, rf"tiny/model\.safetensors has [\d,]+ bytes where its header.*{FETCH}"),
    "bytes too many": (append, find, rf"tiny/model\.safetensors has [\d,]+ bytes where its header.*{FETCH}"),
    "no safetensors at all": (weights_as("model.safetensors", b"version https://git-lfs" * 9), find, FETCH),
    "header of a list": (
        weights_as("model.safetensors", (2).to_bytes(8, "little") + b"[]"),
        find,
        rf"not a whole safetensors file.*{FETCH}",
    ),
    "missing shard": (
        shards(MAP, "model-1-of-2.safetensors"),
        find,
        r"index\.json names 2 shards, and model-2-of-2\.safetensors is missing",
    ),
    "truncated shard": (
        lambda folder: (
            shards(MAP, "model-1-of-2.safetensors", "model-2-of-2.safetensors")(folder),
            (folder / "model-2-of-2.safetensors").write_bytes(b"1"),
        ),
        find,
        rf"model-2-of-2\.safetensors is not a whole.*{FETCH}",
    ),
    "index that is no JSON": (shards("{"), find, r"index\.json is not an index of shards; fetch.*again"),
    "index without a map": (shards({}), find, r"index\.json is not an index of shards; fetch.*again"),
    "index of a list": (shards([]), find, r"index\.json is not an index of shards; fetch.*again"),
    "shard elsewhere": (
        shards({"weight_map": {"a": "../other.safetensors"}}),
        find,
        r"names the shard \.\./other\.safetensors, outside its own folder",
    ),
    "no config.json": (remove("config.json"), find, r"model\.name_or_path: .*tiny holds no config\.json"),
    "config.json that is no JSON": (
        write("config.json", "{'a': 1}"),
        find,
        r"model\.name_or_path: the config\.json of .*tiny cannot be used: .*JSON",
    ),
    "config.json of a list": (
        write("config.json", "[]"),
        find,
        r"model\.name_or_path: the config\.json of .*tiny cannot be used",
    ),
    "config.json without a kind": (
        with_keys("config.json", model_type=None),
        find,
        r"model\.name_or_path: the config\.json of .*tiny cannot be used: .*model_type",
    ),
    "kind that nobody knows": (
        with_keys("config.json", model_type="no-such-model"),
        find,
        r"model\.name_or_path: the config\.json of .*tiny cannot be used: .*no-such-model",
    ),
    "kind without such a model": (
        with_keys("config.json", model_type="t5"),
        find_and_load,
        r"model\.name_or_path: .*tiny is a t5 model, which has no TFAutoModelForSequenceClassification; "
        r"those that do: .*\bbert\b.*distilbert",
    ),
    "kind of other weights": (
        with_keys("config.json", model_type="distilbert"),
        find_and_load,
        r"tiny: the checkpoint lacks \d+ weights of the encoder .*not a checkpoint of the architecture.*config\.json",
    ),
    "other width": (
        with_keys("config.json", intermediate_size=24),
        find_and_load,
        r"tiny: the weight encoder\.\S+ has shape .*32.*, and config\.json asks for .*24",
    ),
    "more layers": (
        with_keys("config.json", num_hidden_layers=3),
        find_and_load,
        r"tiny: the checkpoint lacks 16 weights of the encoder \(.*layer\.2\.",
    ),
    "one weight lacking": (
        without_tensor("encoder.layer.1.output.dense.weight"),
        find_and_load,
        r"tiny: the checkpoint lacks 1 weights of the encoder \(.*layer\.1\.output\.dense\.weight",
    ),
    "h5 that is none": (
        weights_as("tf_model.h5", b"no HDF5"),
        find_and_load,
        rf"tiny/tf_model\.h5 cannot be read as HDF5.*{FETCH}",
    ),
    "no tokenizer": (
        remove("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"),
        find_and_read_tokenizer,
        r"model\.name_or_path: .*tiny has no tokenizer that can be loaded",
    ),
    "tokenizer that is no JSON": (
        lambda folder: (write("tokenizer.json", "{")(folder), (folder / "vocab.txt").unlink()),
        find_and_read_tokenizer,
        r"model\.name_or_path: .*tiny has no tokenizer that can be loaded",
    ),
    "tokenizer larger than the embedding": (
        more_tokens,
        find_and_read_tokenizer,
        r"tiny: the tokenizer has 101 tokens and the model's embedding 100 rows.*use the tokenizer files that came",
    ),
    "other padding token": (
        with_keys("config.json", pad_token_id=3),
        find_and_read_tokenizer,
        r"tiny: the tokenizer's pad token is number 0 and the model's 3.*use the tokenizer files that came",
    ),
    "no padding token": (
        without_padding_token,
        find_and_read_tokenizer,
        r"tiny: its tokenizer has no padding token",
    ),
    "longer than the positions": (
        lambda folder: None,
        choose_too_long,
        r"data\.max_length: 65 tokens, but the model has positions for 64; give at most 64",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(folder: Path, case: str) -> None:
    spoil, notice, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        notice(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("{tmp}/tinny", ModelError, r"model\.name_or_path: there is no folder .*tinny.*did you mean .*/tiny\?"),
        ("{tmp}/nowhere/at/all", ModelError, r"model\.name_or_path: there is no folder .*not the form of a hub id$"),
        ("{tmp}/tiny/config.json", ModelError, r"config\.json is a file; give the folder that holds config\.json"),
        ("package:tfft/nowhere", ModelError, r"package:tfft/nowhere: the package is installed, but has no folder"),
        ("package:no_such_one/model", RecipeError, r"model\.name_or_path: .*no_such_one.*not installed;.*pip install"),
    ],
)
def test_folders_that_are_not_there(folder: Path, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checkpoint.find(name.format(tmp=folder.parent))


def test_safetensors_go_before_h5(folder: Path) -> None:
    (folder / "tf_model.h5").write_bytes(b"no HDF5")
    assert [path.name for path in checkpoint.find(str(folder)).weights] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("wanted", "own", "most", "kind", "expected"),
    [
        (None, 64, 64, "bert", 64),
        (None, 32, 64, "bert", 32),
        (48, 32, 64, "bert", 48),
        (64, 64, 64, "bert", 64),
        (None, int(1e30), 64, "bert", 64),
        (None, int(1e30), 66, "roberta", 64),
        (64, 64, 66, "roberta", 64),
        (None, int(1e30), None, "xlnet", 512),
        (None, int(1e30), -1, "deberta", 512),
        (700, int(1e30), None, "xlnet", 700),
    ],
)
def test_max_length_is_what_tokenizer_and_model_take(
    wanted: int | None, own: int, most: int | None, kind: str, expected: int
) -> None:
    class Given:
        model_max_length, max_position_embeddings, pad_token_id, model_type = own, most, 1, kind

    assert checkpoint.choose_max_length(wanted, Given, Given) == expected


def test_roberta_counts_positions_from_its_padding_on() -> None:
    class Given:
        model_max_length, max_position_embeddings, pad_token_id, model_type = 512, 514, 1, "roberta"

    with pytest.raises(ModelError, match=r"513 tokens, but the model has positions for 512"):
        checkpoint.choose_max_length(513, Given, Given)


# --- the loss ---------------------------------------------------------------------------------------------------------

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.25, 0.0], [-3.0, 4.0, 100.0], [0.0, 0.0, 0.0]], np.float32)
LABELS = np.array([0, 2, 2, 1])


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log(sum(exp(logits))) - logit of the label, row by row in float64."""
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def test_the_loss_is_the_cross_entropy() -> None:
    loss = heads.CrossEntropyFromLogits()
    expected = cross_entropies(LOGITS, LABELS)
    assert expected[3] == pytest.approx(math.log(3))
    assert float(loss(LABELS, LOGITS)) == pytest.approx(expected.mean(), rel=1e-6)
    weights = np.array([1.0, 2.0, 0.0, 1.0], np.float32)
    # The mean over the batch, as Keras takes it: padding rows of weight 0 count among the rows.
    assert float(loss(LABELS, LOGITS, weights)) == pytest.approx((expected * weights).sum() / 4, rel=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_loss_is_float32_whatever_the_model_computes_in(dtype: str) -> None:
    given = tf.cast(tf.random.stateless_normal([64, 3], [0, 1]), dtype)
    labels = np.arange(64) % 3
    found = heads.CrossEntropyFromLogits()(labels, given)
    assert found.dtype == tf.float32
    expected = cross_entropies(tf.cast(given, tf.float64).numpy(), labels).mean()
    # In bfloat16 itself the mean would be off by up to 2 ** -8.
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_no_switch_makes_the_loss_read_probabilities() -> None:
    with pytest.raises(TypeError, match="from_logits"):
        heads.CrossEntropyFromLogits(from_logits=False)  # type: ignore[call-arg]
    loss = heads.CrossEntropyFromLogits()
    assert "from_logits" not in loss.get_config()


def test_the_loss_comes_back_from_its_configuration() -> None:
    loss = heads.CrossEntropyFromLogits(label_smoothing=0.1, class_weights=[1.0, 2.0, 3.0])
    again = heads.CrossEntropyFromLogits.from_config(loss.get_config())
    assert float(again(LABELS, LOGITS)) == float(loss(LABELS, LOGITS))


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_is_that_of_soft_labels(smoothing: float) -> None:
    soft = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    expected = -(soft * np.log(heads.probabilities(LOGITS))).sum(axis=1).mean()
    assert float(heads.CrossEntropyFromLogits(smoothing)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    assert float(theirs(np.eye(3)[LABELS], LOGITS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_by_its_equation(gamma: float) -> None:
    p = heads.probabilities(LOGITS)[np.arange(4), LABELS]
    expected = (-((1 - p) ** gamma) * np.log(p)).mean()
    assert float(heads.CrossEntropyFromLogits(focal_gamma=gamma)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_focal_loss_has_a_slope_where_a_row_is_sure() -> None:
    """Row 2 is sure to the last digit, where (1 - p) ** 0.5 alone has none."""
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = heads.CrossEntropyFromLogits(focal_gamma=0.5)(LABELS, logits)
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


def test_r_drop_by_its_equation() -> None:
    other = np.roll(LOGITS, 1, axis=1)
    p, q = heads.probabilities(LOGITS), heads.probabilities(other)
    divergence = 0.5 * ((p * np.log(p / q)).sum(axis=1) + (q * np.log(q / p)).sum(axis=1))
    plain = (cross_entropies(LOGITS, LABELS).mean() + cross_entropies(other, LABELS).mean()) / 2
    labels, logits = np.concatenate([LABELS, LABELS]), np.concatenate([LOGITS, other])
    found = float(heads.CrossEntropyFromLogits(r_drop_alpha=0.5)(labels, logits))
    assert found == pytest.approx(plain + 0.5 * divergence.mean(), rel=1e-5)
    same = float(heads.CrossEntropyFromLogits(r_drop_alpha=0.5)(labels, np.concatenate([LOGITS, LOGITS])))
    assert same == pytest.approx(cross_entropies(LOGITS, LABELS).mean(), rel=1e-6)


def test_a_class_of_weight_2_counts_as_if_its_rows_were_there_twice() -> None:
    weighted = heads.CrossEntropyFromLogits(class_weights=[1.0, 1.0, 2.0])(LABELS, LOGITS)
    again = np.concatenate([np.arange(4), np.flatnonzero(LABELS == 2)])
    twice = heads.CrossEntropyFromLogits()(LABELS[again], LOGITS[again])
    assert float(weighted) * 4 == pytest.approx(float(twice) * len(again), rel=1e-6)


def test_balanced_weights_are_sklearns() -> None:
    labels = np.random.default_rng(0).choice(3, p=[0.7, 0.2, 0.1], size=500)
    expected = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert heads.balanced_weights(labels, 3) == pytest.approx(expected)
    assert heads.balanced_weights(np.array([0, 0, 2]), 3) == pytest.approx([0.75, 1.0, 1.5])


def test_probabilities_are_a_softmax() -> None:
    found = heads.probabilities(LOGITS)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, np.exp(LOGITS.astype(float)) / np.exp(LOGITS.astype(float)).sum(1)[:, None])
    np.testing.assert_allclose(found[3], [1 / 3] * 3)
    np.testing.assert_allclose(heads.probabilities(LOGITS + np.float32(1e4)), found, rtol=0.02)
    np.testing.assert_allclose(heads.probabilities(np.float32([[1000, 0]])), [[1, 0]])


def test_mean_cross_entropy_is_sklearns_log_loss() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(scale=3, size=(200, 4)).astype(np.float32), random.integers(0, 4, 200)
    expected = sklearn.metrics.log_loss(labels, heads.probabilities(logits), labels=range(4))
    assert heads.mean_cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-12)
    assert heads.mean_cross_entropy(logits, labels) == pytest.approx(
        float(heads.CrossEntropyFromLogits()(labels, logits)), rel=1e-6
    )


def test_a_loss_that_is_all_wrong_is_large_and_finite() -> None:
    assert heads.mean_cross_entropy(np.float32([[0, 2000]]), np.array([0])) == pytest.approx(708.4, abs=0.1)


def test_logits_come_back_in_the_rows_order(tiny: Loaded, inputs: dict[str, tf.Tensor]) -> None:
    order = np.array([3, 0, 4, 1, 2])
    dataset = tf.data.Dataset.from_tensor_slices({name: tf.gather(value, order) for name, value in inputs.items()})
    found = heads.logits_of(tiny.model, dataset.batch(2), order)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits(tiny.model, inputs), atol=1e-5)
