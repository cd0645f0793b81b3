"""Whether an export answers as the run's model does: it is loaded in another process, and both answer the same rows."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfft import metrics
from tfft.data import Split
from tfft.data.encode import Encoded
from tfft.errors import RunError
from tfft.exports import reload
from tfft.models import heads
from tfft.predictor import Predictor
from tfft.problems import Regression


class Checked:
    """Validation rows, and what the run's model answers on them.

    Args:
        predictor: the run's.
        split: see `validated.split_of`.
        names: of the run's metrics.

    Attributes:
        scores: of the run's model on these rows.
    """

    def __init__(self, predictor: Predictor, split: Split, names: Sequence[str]) -> None:
        self._predictor, self._split, self._names = predictor, split, tuple(names)
        self._arrays = _arrays(split.encoded, predictor.tokenizer)
        self._logits = predictor.logits(split.encoded)
        self.scores = self._scores(self._logits)

    def __len__(self) -> int:
        return len(self._split)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Those that the model is given."""
        return tuple(key.removeprefix("of_") for key in self._arrays if key.startswith("of_"))

    def examples(self, most: int) -> Iterator[dict[str, np.ndarray]]:
        """The first rows, each as inputs (1, tokens) int32."""
        offsets = self._arrays["offsets"]
        for start, end in itertools.islice(itertools.pairwise(offsets), most):
            yield {name: self._arrays[f"of_{name}"][None, start:end] for name in self.input_names}

    def tried(self, kind: str, argument: str, takes_texts: bool) -> dict[str, Any]:
        """What an export answers, beside the run's model, and how fast.

        Args:
            kind, argument: see `formats.WRITERS`.
            takes_texts: whether it takes strings as well.

        Returns:
            `max_logit_difference`, `changed_predictions` (None of numbers), `scores`, and what `reload` has measured;
            under `texts` the first three for strings.

        Raises:
            RunError: it cannot be loaded, or fails on a row.
        """
        with tempfile.TemporaryDirectory() as folder:
            rows, answers = Path(folder, "rows.npz"), Path(folder, "answers.npz")
            np.savez(rows, **self._arrays)
            texts = []
            if takes_texts:
                columns = dict(zip(("text", "text_pair"), self._split.rows.texts, strict=False))
                texts = [Path(folder, "texts.json")]
                texts[0].write_text(json.dumps({name: list(column) for name, column in columns.items()}), "utf-8")
            seconds = _reloaded(kind, argument, rows, answers, *texts)
            found = dict(np.load(answers))
        logits = found["logits"]
        if self._split.words is None:
            logits = heads.pool_windows(logits, self._split.encoded.window_starts, self._predictor.window_pooling)
        of_texts = {"texts": self._compared(found["of_texts"])} if takes_texts else {}
        return {**self._compared(logits), **of_texts, **seconds}

    def _compared(self, logits: np.ndarray) -> dict[str, Any]:
        difference = np.abs(logits - self._logits)
        return {
            "max_logit_difference": float(difference.max()) if np.isfinite(difference).all() else None,
            "changed_predictions": self._changed(logits),
            "scores": self._scores(logits),
        }

    def _scores(self, logits: np.ndarray) -> dict[str, float]:
        return metrics.compute(self._names, *self._predictor.problem.compared(logits, self._split))

    def _changed(self, logits: np.ndarray) -> int | None:
        """Rows (or sentences) that are answered otherwise."""
        problem = self._predictor.problem
        if isinstance(problem, Regression):
            return None
        theirs, ours = (problem.compared(one, self._split)[0] for one in (logits, self._logits))
        return sum(bool(np.any(np.asarray(a) != np.asarray(b))) for a, b in zip(theirs, ours, strict=True))


def _arrays(encoded: Encoded, tokenizer: Any) -> dict[str, Any]:
    """The rows as `reload` takes them."""
    given = {
        "input_ids": (np.asarray(encoded.input_ids, np.int32), tokenizer.pad_token_id),
        "attention_mask": (np.ones(encoded.total_tokens, np.int32), 0),
    }
    if encoded.token_type_ids is not None:
        given["token_type_ids"] = (np.asarray(encoded.token_type_ids, np.int32), tokenizer.pad_token_type_id)
    arrays: dict[str, Any] = {"offsets": encoded.offsets}
    for name, (values, padding) in given.items():
        arrays |= {f"of_{name}": values, f"pad_of_{name}": padding}
    return arrays


def _reloaded(kind: str, argument: str, *files: Path) -> Mapping[str, Any]:
    arguments = [sys.executable, reload.__file__, kind, argument, *map(str, files)]
    ended = subprocess.run(arguments, capture_output=True, text=True)
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RunError(f"the export could not be loaded and asked in a process of its own: {last}; nothing was kept")
    found: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return found
