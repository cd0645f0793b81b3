"""Checkpoints in, Keras models out; and what is done to a model before it is trained or saved.

- `checkpoint`: a folder, an installed package or a hub id to a checkpoint that was looked through, and its tokenizer
- `load`: a checkpoint to a model with the head that a task needs; `headed`: with the tutorials' head
- `layers`: a checkpoint with fewer of its encoder's layers; `sizes`: its family with other sizes and new weights
- `trained`: a model as its folder has it, head and labels
- `abilities`: which tasks of Transformers' pipelines a checkpoint can do; `mended`: these pipelines on TensorFlow
- `masked`: masked-LM models that predict hidden tokens alone, and whose vocabulary grows
- `heads`: losses on logits, and logits to probabilities
- `freeze`: which weights are trained; `lora`: adapters in their place; `parts`: which part a weight belongs to
- `features`: an encoder's outputs, computed once; `adversarial`: every batch counts again where it is worse
- `forward`: the logits of many batches
- `accelerate`, of `faster`: the same encoder with less work
- `dropout`: masks that follow from a seed and a counter, which can be saved
- `averages`: averages of weights in place of the last step's
- `attentions`: what tokens attend to, and what an answer depends on
- `save`: a model to a folder that `from_pretrained` takes

Example:
    A classifier of which biases and the head are trained: 354 parameters of 7,442.

    >>> from tfft.models import checkpoint, freeze, load
    >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
    >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
    >>> freeze.bitfit(model)
    >>> load.parameter_counts(model)  # trained, not trained
    (354, 7088)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfft.models.faster import accelerate as accelerate

__all__ = ["accelerate"]


def __getattr__(name: str) -> Any:
    # Not before it is asked for, since it loads TensorFlow.
    if name == "accelerate":
        from tfft.models.faster import accelerate

        return accelerate
    raise AttributeError(f"module 'tfft.models' has no attribute {name!r}")
