"""The sections of a recipe, frozen and validated key by key, and their JSON schema."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from tfft import __version__, tasks
from tfft.recipe.yaml_text import Dumper

FILE_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
LARGEST_SEED = 2**32 - 1
# The share of all steps by which pruning is done, unless it is said.
PRUNING_END = 0.5
# Of files that hold text and nothing else.
TEXT_ENDINGS = (".txt", ".text")
# Of files whose lines are words with their tags.
CONLL_ENDINGS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".txt")


def _no_for_false(value: Any) -> Any:
    return "no" if value is False else value  # what YAML 1.1 makes of a bare `no`


def _tuple_for_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]
_CLASS_WEIGHT_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"const": "balanced", "type": "string"},
            {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            {"type": "null"},
        ]
    }
)
_Texts = BeforeValidator(_tuple_for_list)


def _reports(value: Any) -> Any:
    return () if value == "none" else _tuple_for_list(value)  # as TrainingArguments says it


def _class_weight(value: Any) -> Any:
    is_table = isinstance(value, dict) and all(_is_weight(one) for one in value.values())
    if is_table and value:
        return {str(name): float(one) for name, one in value.items()}
    if value is None or value == "balanced":
        return value
    raise ValueError("neither `balanced` nor a table of weights")


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _unfreeze(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    if value in ("head", "all") or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("neither `head`, `all`, a number of layers nor a list of parts")


def _keep_layers(value: Any) -> Any:
    # Which numbers there may be the checkpoint tells, with how many layers it has.
    layers = value if isinstance(value, list | tuple) else [value]
    if value is None or all(isinstance(one, int) and not isinstance(one, bool) for one in layers):
        return _tuple_for_list(value)
    raise ValueError("neither a number of layers nor a list of them")


def _list_for_tuple(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_UNFREEZE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"enum": ["head", "all"], "type": "string"},
            {"type": "integer", "minimum": 1},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]
    }
)


_KEEP_LAYERS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}
)


class Section(BaseModel):
    # Strict: a recipe says numbers where numbers are meant; "3" or true in place of 3 is a mistake worth a message.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """The pretrained checkpoint to begin with."""

    name_or_path: _Text = Field(
        description="Hub id, folder, or package:NAME/INNER (a folder inside an installed package) of the checkpoint."
    )
    revision: _Text | None = Field(default=None, description="Branch, tag or commit of the checkpoint on the hub.")
    keep_layers: Annotated[
        int | tuple[int, ...] | None,
        PlainValidator(_keep_layers),
        PlainSerializer(_list_for_tuple),
        _KEEP_LAYERS_SCHEMA,
    ] = Field(
        default=None,
        description="How many of the encoder's layers are loaded, or which, counted from 0; null loads all.",
    )
    drop_layers: Literal["top", "bottom", "symmetric", "odd", "even"] | None = Field(
        default=None,
        description="Which layers go where keep_layers is a number: the last, the first, those in the middle, or every "
        "other one from the top down, counted from 1; null is top.",
    )
    head: Literal["default", "cls", "mean"] = Field(
        default="default",
        description="The architecture's own head; or a dense layer on the first token's state, or on all tokens' mean.",
    )
    head_hidden_size: _Count | None = Field(default=None, description="Width of that dense layer; null is 256.")
    head_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of its outputs that are dropped while training; null is 0.3."
    )


class DataSection(Section):
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
    shards: _Text | None = Field(
        default=None,
        description="Folder of shards that python -m tfft.data shards has written, on any file system that TensorFlow "
        "knows (gs://…); training reads them as it goes.",
    )
    validation_split: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Share of the training rows to validate on, seeded and stratified by label."
    )
    text_columns: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=2), _Texts] = Field(
        description="The column of the text, or the two of a pair; of lists of words where words have labels."
    )
    label_column: _Text = Field(
        default="label",
        description="The column of the label: whole numbers, text or booleans, lists of those, or numbers.",
    )
    label_columns: Annotated[tuple[_Text, ...], Field(min_length=1), _Texts] | None = Field(
        default=None, description="Columns of 0 and 1, one a label, in place of label_column (several labels a row)."
    )
    label_separator: _Text | None = Field(
        default=None, description="What stands between the labels of a field; null where they are lists."
    )
    label_all_tokens: bool = Field(
        default=False, description="Train on all pieces of a word, not on the first alone (token classification)."
    )
    strict: bool = Field(default=False, description="Refuse tags that break BIO (token classification).")
    sample_weight_column: _Text | None = Field(
        default=None, description="The column that says what each training row counts in the loss."
    )
    encoding: _Text = Field(
        default="utf-8",
        description="Character encoding of the files; NAME:replace puts U+FFFD for what cannot be read.",
    )
    max_length: Annotated[int, Field(ge=8)] | None = Field(
        default=None, description="Tokens kept of a row; null takes as many as the model has positions."
    )
    long_text: Literal["truncate", "head_tail", "sliding_window"] = Field(
        default="truncate",
        description="Of a text longer than max_length: its beginning; beginning and end; or all of it, in windows that "
        "are trained together and scored as one.",
    )
    stride: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Tokens by which a sliding window overlaps the one before; null is 0."
    )
    window_pooling: Literal["mean", "max"] = Field(
        default="mean", description="How the logits of a text's windows become one."
    )
    padding: Literal["longest", "max_length"] = Field(
        default="longest", description="Pad a batch to its longest row, or every batch to max_length."
    )
    batching: Literal["padded", "bucketed"] = Field(
        default="bucketed",
        description="Rows in random batches, or rows of similar length together in few static shapes.",
    )
    documents: Literal["lines", "paragraphs"] = Field(
        default="lines",
        description="What a document of a .txt file is: each line, or what blank lines part (fill-mask).",
    )
    cross_documents: bool = Field(
        default=False, description="Let a block of tokens hold parts of several documents (fill-mask)."
    )
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15, description="Share of a block's tokens that are to be predicted (fill-mask)."
    )
    mask_replace_prob: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.8, description="Share of those that become the mask token (fill-mask)."
    )
    random_replace_prob: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1, description="Share of those that become a random token; what is left stays (fill-mask)."
    )
    whole_word_mask: bool = Field(default=False, description="Hide all pieces of a word, or none (fill-mask).")
    add_tokens: _Count | None = Field(
        default=None,
        description="Make tokens of so many of the words that cost the most pieces in the training text (fill-mask).",
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


SCHEDULES = Literal["polynomial", "linear", "cosine", "constant", "inverse_sqrt"]


class StageSection(Section):
    """One stage of gradual unfreezing. What it leaves out is as the section `training` has it."""

    unfreeze: Annotated[
        int | str | tuple[str, ...], PlainValidator(_unfreeze), PlainSerializer(_list_for_tuple), _UNFREEZE_SCHEMA
    ] = Field(
        description="What is trained: head, all, a number of layers from the top (with pooler and head), or parts."
    )
    num_train_epochs: _Count = Field(default=1, description="Passes over the training rows in this stage.")
    learning_rate: float | None = Field(default=None, gt=0, description="The learning rate after the stage's warmup.")
    end_learning_rate: float | None = Field(default=None, ge=0, description="The learning rate at the stage's end.")
    lr_scheduler_type: SCHEDULES | None = Field(default=None, description="How the learning rate goes on after warmup.")
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1, description="Share of the stage's steps for warmup.")
    warmup_steps: int | None = Field(default=None, ge=0, description="The stage's steps for warmup.")


class FurtherPretrainingSection(Section):
    """Masked-LM training before the fine-tuning. What it leaves out is as the recipe has it."""

    epochs: float = Field(gt=0, le=1_000_000, description="Passes over the text; may be a fraction.")
    train_file: _Text | None = Field(
        default=None,
        description="File of text to learn from, as data.train_file of task fill-mask; null takes the training texts.",
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="The learning rate after warmup.")
    warmup_ratio: float = Field(default=0.06, ge=0, lt=1, description="Share of its steps for warmup.")
    weight_decay: float = Field(default=0.01, ge=0, lt=1, description="Decoupled weight decay.")
    per_device_train_batch_size: _Count | None = Field(default=None, description="Blocks in one step on one device.")
    max_length: Annotated[int, Field(ge=8)] | None = Field(default=None, description="Tokens of a block.")
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15, description="Share of a block's tokens that are to be predicted."
    )
    whole_word_mask: bool = Field(default=False, description="Hide all pieces of a word, or none.")
    add_tokens: _Count | None = Field(default=None, description="Make tokens of so many of the text's costly words.")


class TrainingSection(Section):
    """How the model is trained, scored and chosen."""

    strategy: Literal["full", "feature_extraction", "gradual_unfreezing", "bitfit", "lora"] = Field(
        default="full",
        description="Train all weights; or the head alone, on the encoder's outputs computed once; or in stages from "
        "the head down; or biases and the head (BitFit); or low-rank adapters and the head (LoRA).",
    )
    stages: Annotated[tuple[StageSection, ...], Field(min_length=1), _Texts] | None = Field(
        default=None, description="The stages of gradual unfreezing, in their order."
    )
    further_pretraining: FurtherPretrainingSection | None = Field(
        default=None,
        description="Train the model on the task's own texts first, to predict hidden words, and fine-tune it then.",
    )
    lora_r: _Count | None = Field(default=None, description="Rank of LoRA's adapters; null is 8.")
    lora_alpha: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="LoRA's adapters count alpha / r; null is 16."
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of their inputs that LoRA's adapters do not see while training; null is 0."
    )
    lora_target_modules: Annotated[tuple[_Text, ...], Field(min_length=1), _Texts] | None = Field(
        default=None, description="Dense layers that get an adapter, by name; null is query and value."
    )
    pruning_sparsity: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of each matrix of the encoder's layers that becomes zero as training goes, the smallest "
        "weights first; null prunes nothing.",
    )
    pruning_initial_sparsity: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share that is pruned at once; null is 0."
    )
    pruning_begin: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Share of all steps before which nothing is pruned; null is 0."
    )
    pruning_end: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of all steps by which pruning_sparsity is reached; null is 0.5."
    )
    pruning_frequency: _Count | None = Field(
        default=None,
        description="Optimizer steps from one choice of what is pruned to the next; null makes twenty choices.",
    )
    num_train_epochs: float = Field(
        default=3.0, gt=0, le=1_000_000, description="Passes over the training rows; may be a fraction."
    )
    max_steps: _Count | None = Field(default=None, description="Optimizer steps in all; outranks num_train_epochs.")
    max_hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="End training after so many hours, of all processes that went on with it."
    )
    stop_after_epochs: _Count | None = Field(
        default=None,
        description="End after so many epochs, at the rates of all num_train_epochs; the state stays, to go on from.",
    )
    learning_rate: float = Field(
        default=5e-5, gt=0, description="The learning rate after warmup, from which it decays."
    )
    end_learning_rate: float | None = Field(
        default=None, ge=0, description="The learning rate at the end (polynomial and linear only); null is 0."
    )
    lr_power: float | None = Field(
        default=None, gt=0, description="Exponent of the decay (polynomial only); null is 1, a straight line."
    )
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Each layer's rate is this times that of the layer above (0.95, ELECTRA 0.8); null: one for all.",
    )
    learning_rate_multipliers: dict[str, Annotated[float, Field(ge=0)]] | None = Field(
        default=None,
        description="Parts of the model (embeddings, layer.0, layer.*, pooler, head) to what multiplies their rate.",
    )
    lr_scheduler_type: SCHEDULES = Field(
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
    gradient_checkpointing: bool = Field(
        default=False, description="Keep less for the backward pass and compute the layers twice: memory for time."
    )
    max_grad_norm: float | None = Field(
        default=1.0,
        gt=0,
        description="Gradients are scaled down to this norm over all variables; null never scales them.",
    )
    per_device_train_batch_size: _Count = Field(default=8, description="Training rows in one step on one device.")
    gradient_accumulation_steps: _Count = Field(
        default=1, description="Batches whose mean gradient makes one optimizer step."
    )
    per_device_eval_batch_size: _Count = Field(
        default=32, description="Rows in one batch of validation or test on one device; of short rows it takes more."
    )
    save_steps: _Count | None = Field(
        default=None,
        description="Save what --resume goes on from after so many optimizer steps too, not only after each epoch.",
    )
    on_nan: Literal["stop", "rollback"] = Field(
        default="stop",
        description="Where the loss is no number any more: stop, or go on from the last state at half the rate.",
    )
    loss_explosion_factor: float | None = Field(
        default=None,
        gt=1,
        description="A loss of ten batches so many times the lowest before is treated as one that is no number, and "
        "rollbacks go to before the lowest.",
    )
    label_smoothing_factor: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label that is spread over all classes while training."
    )
    focal_gamma: float = Field(
        default=0.0, ge=0, description="Focal loss: rows count by (1 - p) to this power; 0 is cross-entropy."
    )
    r_drop_alpha: float = Field(
        default=0.0, ge=0, description="R-Drop: what the divergence of two passes under dropout counts; 0 is one pass."
    )
    fgm_epsilon: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Adversarial training (FGM): how far each row's embeddings are moved, as an L2 norm."
    )
    ema_momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Score and keep the weights' moving average over the steps, of this momentum (0.999)."
    )
    class_weight: Annotated[dict[str, float] | str | None, PlainValidator(_class_weight), _CLASS_WEIGHT_SCHEMA] = Field(
        default=None, description="What the rows of each class count: balanced, or a table of label names."
    )
    eval_strategy: Annotated[Literal["epoch", "steps", "no"], BeforeValidator(_no_for_false)] = Field(
        default="epoch",
        description="Validate after every epoch; or every eval_steps steps as well; or not at all while training.",
    )
    eval_steps: _Count | None = Field(
        default=None,
        description="Optimizer steps between two evaluations (steps only); each may be the best, and counts for early "
        "stopping.",
    )
    attention_texts: Annotated[tuple[_Text, ...], Field(min_length=1), _Texts] | None = Field(
        default=None, description="Texts whose attentions are saved after every epoch, as pictures and arrays."
    )
    include_tokens_per_second: bool = Field(
        default=False,
        description="Add samples and real tokens a second and the peak of memory to every epoch's history.",
    )
    metrics: Annotated[tuple[_Text, ...] | None, _Texts] = Field(
        default=None,
        description="Metrics by name (accuracy, f1, f1_macro, glue/mrpc, …) or hub id; null takes the task's own.",
    )
    metric_for_best_model: _Text | None = Field(
        default=None,
        description="The score that decides which evaluation is best and when to stop early; null is the loss.",
    )
    greater_is_better: bool | None = Field(
        default=None, description="Whether a larger score is better; needed only where tfft does not know the score."
    )
    load_best_model_at_end: bool = Field(
        default=False, description="Keep the weights of the best evaluation, not the last ones."
    )
    early_stopping_patience: _Count | None = Field(
        default=None, description="Stop after this many evaluations without a better score; null never stops early."
    )
    report_to: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], BeforeValidator(_reports)] = Field(
        default=("tensorboard",), description="What is told of settings and scores; none, or an empty list, tells none."
    )
    report: bool = Field(
        default=True, description="Write report.html at the end: scores, errors, doubtful labels, data, on one page."
    )
    push_to_hub: bool = Field(
        default=False, description="Push the model to the hub while it is trained and at the end."
    )
    hub_model_id: _Text | None = Field(
        default=None, description="OWNER/NAME on the hub, or NAME for your own; null takes the name of output_dir."
    )
    hub_private_repo: bool | None = Field(
        default=None, description="Whether the repository is private where it has to be made; null: as the hub does."
    )
    hub_strategy: Literal["every_save", "end"] = Field(
        default="every_save",
        description="Push after every epoch and every save_steps, the end included, or at the end alone.",
    )


class RuntimeSection(Section):
    """How the machine is used. Nothing here should change what is learned, but for rounding."""

    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_no_for_false)] = Field(
        default="auto", description="Precision of the matrix products; auto takes what the device is fast at."
    )
    strategy: Literal["auto", "cpu", "one_device", "mirrored", "multi_worker", "tpu"] = Field(
        default="auto",
        description="What to compute on: auto takes all GPUs and workers there are, or a TPU; one_device wants one "
        "GPU, mirrored several, multi_worker several processes, tpu a TPU.",
    )
    tpu_name: _Text | None = Field(
        default=None,
        description="The TPU: local, a name in Google's cloud, or grpc://HOST:PORT; null takes what the environment "
        "names (TPU_NAME), or this machine's.",
    )
    workers: Annotated[tuple[_Text, ...], Field(min_length=1), _Texts] | None = Field(
        default=None,
        description="HOST:PORT of every worker, the one that writes first; null: TF_CONFIG or Slurm says it.",
    )
    workers_timeout_seconds: _Count = Field(default=300, description="How long a worker waits for the others to start.")
    xla: bool = Field(default=False, description="Compile the training step with XLA.")
    steps_per_execution: _Count | None = Field(
        default=None,
        description="Batches in one call of the compiled step, for devices that wait for Python; null is 1, and up to "
        "32 on a TPU.",
    )
    accelerate: bool = Field(
        default=True,
        description="Compute the encoder's layers with fewer, cheaper operations, where the family is known.",
    )
    deterministic: bool = Field(default=False, description="Repeat to the last digit on the same machine, more slowly.")


class StudentSection(Section):
    """A student with new weights. What it leaves out is as the checkpoint of the section `model` has it."""

    num_hidden_layers: _Count | None = Field(default=None, description="Layers of the encoder.")
    hidden_size: _Count | None = Field(default=None, description="Width of the hidden states.")
    num_attention_heads: _Count | None = Field(default=None, description="Heads of the attention.")
    intermediate_size: _Count | None = Field(default=None, description="Width inside the feed-forward layers.")


_Weight = Annotated[float, Field(ge=0)]


class DistillationSection(Section):
    """From whom the model learns besides the labels, and what that counts."""

    teacher: _Text = Field(description="A finished run's folder, or folder, package:NAME/INNER or hub id of a model.")
    student: StudentSection | None = Field(
        default=None,
        description="Sizes of a student with new weights, of the family and tokenizer of model.name_or_path; null "
        "takes that checkpoint's weights, of model.keep_layers layers.",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="Softens the logits of teacher and student before they are compared."
    )
    labels_weight: _Weight = Field(
        default=0.5, description="What the loss of the labels counts; with 0 training rows need none."
    )
    logits_weight: _Weight = Field(default=0.5, description="What the distance of the logits counts.")
    hidden_weight: _Weight = Field(
        default=0.0, description="What the distance of hidden states counts, embeddings included (TinyBERT)."
    )
    sentence_weight: _Weight = Field(
        default=0.0,
        description="What the distance of the student's first token from the mean of the teacher's tokens counts, both "
        "of the last layer: for teachers that are sentence encoders.",
    )
    attention_weight: _Weight = Field(
        default=0.0, description="What the distance of attention scores counts (TinyBERT); as many heads in both."
    )
    relations_weight: _Weight = Field(
        default=0.0,
        description="What the divergence of the last layers' relations of queries, keys and values counts (MiniLMv2).",
    )
    relation_heads: _Count | None = Field(
        default=None, description="Parts that those are cut into; null: as many as the teacher has attention heads."
    )

    @property
    def looks_inside(self) -> bool:
        """Whether the teacher has to be asked for more than its logits."""
        return any((self.hidden_weight, self.sentence_weight, self.attention_weight, self.relations_weight))


def _by_dotted_key(value: Any, prefix: str = "") -> Any:
    """Parameters by their dotted keys, also where they were given section by section."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, one in value.items():
        if isinstance(one, list | tuple):
            one = {"values": one}
        is_section = f"{prefix}{key}" in SECTIONS and isinstance(one, dict)
        found |= _by_dotted_key(one, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": one}
    return found


def _said_alone(value: Any) -> dict[str, Any]:
    return {key: one.model_dump(mode="json", exclude_none=True) for key, one in value.items()}


_Plain = bool | int | float | str | None


class ParameterSection(Section):
    """What a sweep may set one key to: values, or a range."""

    values: Annotated[tuple[_Plain, ...], Field(min_length=1), _Texts] | None = Field(
        default=None, description="The values to choose from."
    )
    min: int | float | None = Field(default=None, description="The least value of a range.")
    max: int | float | None = Field(default=None, description="The greatest value of a range.")
    step: Annotated[int | float, Field(gt=0)] | None = Field(
        default=None, description="From one value of a range to the next; on a log scale, the factor between them."
    )
    scale: Literal["linear", "log"] | None = Field(
        default=None, description="How a range is searched; log for rates. Null is linear."
    )
    when: dict[str, Annotated[tuple[_Plain, ...], _Texts]] | None = Field(
        default=None, description="Other parameters, and the values of theirs for which this one is searched."
    )


class SweepSection(Section):
    """What python -m tfft.sweep searches. A training by the recipe pays it no attention."""

    parameters: Annotated[
        dict[str, ParameterSection],
        Field(min_length=1),
        BeforeValidator(_by_dotted_key),
        PlainSerializer(_said_alone),
    ] = Field(description="Keys of the recipe, and what each may be: {values: [8, 16]} or {min: 1e-6, max: 1e-3}.")
    objective: _Text = Field(description="The score on the validation rows that decides, such as f1 or loss.")
    direction: Literal["max", "min"] | None = Field(
        default=None, description="Which objective is better; needed only where tfft does not know the score."
    )
    algorithm: Literal["random", "grid", "bayesian", "hyperband"] = Field(
        default="random", description="How the next trial's values are chosen."
    )
    max_trials: _Count | None = Field(
        default=None, description="Trials in all; null is 10, all points of a grid, or as many as Hyperband wants."
    )
    executions_per_trial: _Count = Field(
        default=1, description="Trainings of each trial, from the recipe's seed on; their mean counts."
    )
    max_hours: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Begin no trial after so many hours; those that run are finished."
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="Seed of the choice of values; null is the recipe's own."
    )
    isolation: Literal["process", "warm"] = Field(
        default="process", description="Each trial in a process of its own, or all in one: faster where they are short."
    )
    prune: bool = Field(
        default=False,
        description="Stop a trial whose best score is worse than the median of the finished ones' at that epoch.",
    )
    factor: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Hyperband keeps one trial in so many for a rung of so many times the epochs; null: 3.",
    )
    iterations: _Count | None = Field(default=None, description="How often all brackets of Hyperband run; null is 1.")
    keep_models: Literal["best", "all"] = Field(
        default="best", description="Whose weights stay on the disk: those of the best trial, or of every one."
    )


class Recipe(Section):
    """All that a run is made of. Read one with `load` or `from_mapping`, which also find contradictions."""

    task: Literal["text-classification", "token-classification", "fill-mask"] = Field(
        description="What is trained: labels of texts, or of their words; or the hidden words of texts without labels."
    )
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = Field(
        default=None, description="What a label is: one class, any number of classes, or a number; null: one class."
    )
    seed: int = Field(default=42, ge=0, le=LARGEST_SEED, description="Seed of new weights, dropout, order and samples.")
    output_dir: _Text = Field(description="Folder for the run's files; where it is not given, runs/RECIPE.")
    model: ModelSection = Field(description="The pretrained checkpoint to begin with.")
    data: DataSection = Field(description="Where the rows come from, and how they become batches.")
    training: TrainingSection = Field(
        default=TrainingSection(), description="How the model is trained, scored and chosen."
    )
    runtime: RuntimeSection = Field(default=RuntimeSection(), description="How the machine is used.")
    distillation: DistillationSection | None = Field(
        default=None, description="From whom the model learns besides the labels."
    )
    sweep: SweepSection | None = Field(default=None, description="What python -m tfft.sweep searches.")

    @property
    def name(self) -> str:
        """The run's name: the last part of its output folder."""
        return PurePath(self.output_dir).name or "run"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What it is scored by: the metrics that it names, or its task's own."""
        return self.training.metrics or tasks.DEFAULT_METRICS[tasks.problem_type(self.task, self.problem_type)]

    @property
    def needs_train_labels(self) -> bool:
        """Whether training rows have to have labels: a teacher may do without."""
        return self.distillation is None or self.distillation.labels_weight > 0

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, as YAML from which `load` makes an equal one."""
        plain = self.model_dump(mode="json", exclude={one for one in OPTIONAL_SECTIONS if getattr(self, one) is None})
        values = yaml.dump(plain, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
        return f"# Written by tfft {__version__}: every setting of the run, to be given to --recipe again.\n{values}"


SECTIONS: dict[str, type[Section]] = {
    "model": ModelSection,
    "data": DataSection,
    "training": TrainingSection,
    "runtime": RuntimeSection,
    "distillation": DistillationSection,
    "sweep": SweepSection,
}
# Those that most recipes do without.
OPTIONAL_SECTIONS = frozenset({"distillation", "sweep"})
KEYS: tuple[str, ...] = (
    *(name for name in Recipe.model_fields if name not in SECTIONS),
    *(f"{section}.{name}" for section, one in SECTIONS.items() for name in one.model_fields),
)

# The keys of either kind of source, inside the section `data`.
HUB_KEYS = ("dataset_name", "dataset_config_name", "train_split_name", "validation_split_name", "test_split_name")
FILE_KEYS = ("train_file", "validation_file", "test_file")
# What is said of text without labels.
MASKING_KEYS = (
    "documents",
    "cross_documents",
    "mlm_probability",
    "mask_replace_prob",
    "random_replace_prob",
    "whole_word_mask",
    "add_tokens",
)
# What is settled when shards are written.
SHARD_KEYS = ("shards",)
SETTLED_IN_SHARDS = ("validation_split", "max_train_samples", "max_eval_samples")


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
            if name in SECTIONS:
                entry.pop("default", None)
            if name in OPTIONAL_SECTIONS:
                entry["$ref"] = entry.pop("anyOf")[0]["$ref"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "tfft recipe"}
