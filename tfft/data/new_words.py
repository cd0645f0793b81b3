"""Words that a text has often and a vocabulary has not: those worth a token of their own.

Yao et al. 2021, "Adapt-and-Distill", section 3.3, extend a vocabulary for a domain until its text takes fewer pieces;
here, words are taken by how many pieces each of them saves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfft.data.encode import ROWS_AT_ONCE, flat
from tfft.data.masking import continuations

# A word that occurs less often is no word of the domain.
FEWEST = 5


def frequent_words(documents: Sequence[str], tokenizer: Any, count: int) -> dict[str, tuple[int, ...]]:
    """At most `count` words that take the most pieces of these documents, beyond one for each time they occur.

    Args:
        documents: texts.
        tokenizer: one whose vocabulary tells where words begin.

    Returns:
        Each word with the ids of its pieces, the most costly first. Words of letters alone, that occur at least
        `FEWEST` times.

    Raises:
        ModelError: the vocabulary does not tell.

    Example:
        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained("tests/fixtures/tiny_bert_torch")
        >>> found = frequent_words(["goodness and goods"] * 5 + ["goodness"], tokenizer, count=2)
        >>> [(word, tokenizer.convert_ids_to_tokens(pieces)) for word, pieces in found.items()][0][0]
        'goodness'
    """
    goes_on = continuations(tokenizer, "data.add_tokens")
    is_special = np.zeros(len(tokenizer), bool)
    is_special[tokenizer.all_special_ids] = True
    found: Counter[tuple[int, ...]] = Counter()
    for start in range(0, len(documents), ROWS_AT_ONCE):
        part = list(documents[start : start + ROWS_AT_ONCE])
        encoded = tokenizer(part, add_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]
        found.update(_pieced_words(flat(encoded), goes_on, is_special))
    costs = {pieces: times * (len(pieces) - 1) for pieces, times in found.items() if times >= FEWEST}
    words: dict[str, tuple[int, ...]] = {}
    # The pieces decide between equal ones, so that the choice never hangs on the order of the documents.
    for pieces in sorted(costs, key=lambda one: (-costs[one], one)):
        word = tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(pieces)).strip()
        if word.isalpha() and word not in words:
            words[word] = pieces
        if len(words) == count:
            break
    return words


def _pieced_words(tokens: np.ndarray, goes_on: np.ndarray, is_special: np.ndarray) -> list[tuple[int, ...]]:
    """The pieces of every word that has more than one."""
    inside = goes_on[tokens] & ~is_special[tokens]
    inside[1:] &= ~is_special[tokens[:-1]]
    inside[:1] = False
    starts = np.flatnonzero(~inside)
    ends = np.append(starts[1:], len(tokens))
    several = ends - starts > 1
    pairs = zip(starts[several].tolist(), ends[several].tolist(), strict=True)
    return [tuple(tokens[start:end].tolist()) for start, end in pairs]


def add(tokenizer: Any, words: Mapping[str, Sequence[int]]) -> None:
    """Makes a token of each word, where it stands as a word of its own; they get the next ids in their order."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=True) for word in words])
