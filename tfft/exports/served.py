"""What a deployment calls: token ids in, logits and probabilities out, as one function of TensorFlow."""

from __future__ import annotations

from typing import Any

from tfft.backend import keras, tf
from tfft.exports.wordpiece import WordPiece
from tfft.problems import MultiLabel, Problem, Regression

SIGNATURE, TEXTS_SIGNATURE = "serving_default", "texts"


class Served(tf.Module):
    """A model without its training.

    Keras saves a model with all that its training needs, which models of Transformers do not survive; a plain module
    holds the weights and the function.

    Args:
        model: takes the tokenizer's inputs and gives `logits`.
        problem: what the logits become.
        input_names: those of the tokenizer's inputs that the model takes.
        wordpiece: of strings, where they are to be taken as well.
        columns: of texts, one or two.
    """

    def __init__(
        self,
        model: keras.Model,
        problem: Problem,
        input_names: tuple[str, ...],
        wordpiece: WordPiece | None = None,
        columns: int = 1,
    ) -> None:
        super().__init__()
        self.weights = list(model.variables)
        self.input_names = input_names
        # (batch, tokens), any number of both.
        wanted = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in input_names}

        @tf.function(input_signature=[wanted])
        def answer(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            logits = tf.cast(model(inputs, training=False).logits, tf.float32)
            return {"logits": logits, **_probabilities(logits, problem)}

        self.answer = answer
        # Whatever function is an attribute is saved.
        if wordpiece is not None:
            self.wordpiece = wordpiece
            self.answer_texts = _of_texts(answer, wordpiece, input_names, columns)

    @property
    def signatures(self) -> dict[str, Any]:
        """The functions by name: of token ids, and of strings where they are taken."""
        functions = {SIGNATURE: self.answer}
        if hasattr(self, "answer_texts"):
            functions[TEXTS_SIGNATURE] = self.answer_texts
        return {name: function.get_concrete_function() for name, function in functions.items()}


def _of_texts(answer: Any, wordpiece: WordPiece, input_names: tuple[str, ...], columns: int) -> Any:
    """`answer` for strings (batch,), of one column or two."""
    names = ("text", "text_pair")[:columns]

    @tf.function(input_signature=[{name: tf.TensorSpec([None], tf.string, name=name) for name in names}])
    def answer_texts(texts: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs = wordpiece.inputs(*(texts[name] for name in names))
        return dict(answer({name: inputs[name] for name in input_names}))

    return answer_texts


def _probabilities(logits: tf.Tensor, problem: Problem) -> dict[str, tf.Tensor]:
    if isinstance(problem, Regression):
        return {}
    return {"probabilities": tf.sigmoid(logits) if isinstance(problem, MultiLabel) else tf.nn.softmax(logits)}
