"""Tags of words, and the entities that they mark.

A tag is `O` (outside of every entity) or a prefix, a hyphen and the entity's type: `B-person`, `I-creative-work`. The
prefixes say where in the entity a word stands: `B` begins it, `I` is inside it, `E` ends it, `S` is all of it. The
schemes read here are IOB2 (`B I`, every entity begins with `B`), IOB1 (`I` alone, `B` only between neighbours of one
type) and IOBES (`B I E S`). Others, such as BILOU's `L` and `U`, are not: rename their prefixes to `E` and `S`.
"""

from __future__ import annotations

from collections.abc import Sequence

OUTSIDE = "O"
PREFIXES = ("B", "I", "E", "S")
_FIRST, _INSIDE = frozenset("BS"), frozenset("IE")  # begins an entity, goes on with one
_LAST, _UNFINISHED = frozenset("ES"), frozenset("BI")  # ends an entity, leaves it open
_FINISHED, _NOT_INSIDE = _LAST | {OUTSIDE}, _FIRST | {OUTSIDE}


def broken_tags(tags: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """(sentence, word) of every tag that is none, or that goes on with an entity which has not begun.

    A tag goes on with one (`I-X`, `E-X`) where the word before it, in the same sentence, has `B-X` or `I-X` of the same
    type. Anything else is a slip in IOB2 and IOBES; in IOB1 it is how an entity begins, so each of those is listed.
    An entity of IOBES that is left open (`B-X` before `O`) is not: IOB2 ends them so.

    Example:
        >>> broken_tags([["B-PER", "I-PER", "O", "I-PER"], ["I-LOC", "person", "S-LOC"]])
        [(0, 3), (1, 0), (1, 1)]
    """
    found = []
    for sentence, row in enumerate(tags):
        before, type_before = OUTSIDE, ""
        for word, tag in enumerate(row):
            prefix, _, type_ = tag.partition("-")
            goes_on = before in _UNFINISHED and type_ == type_before
            if not is_tag(tag) or (prefix in _INSIDE and not goes_on):
                found.append((sentence, word))
            before, type_before = prefix, type_
    return found


def is_tag(tag: str) -> bool:
    """Whether this is `O`, or a prefix, a hyphen and a type."""
    prefix, hyphen, type_ = tag.partition("-")
    return tag == OUTSIDE or (prefix in PREFIXES and bool(hyphen) and bool(type_))


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of every entity in one sentence's tags, in their order.

    By the rules of the CoNLL-2000 shared task's conlleval script, which every broken sequence has a reading in: an
    entity begins at `B` and `S`, at `I` and `E` after `O`, `E` or `S`, and wherever the type changes; it ends after `E`
    and `S`, before `B`, `S` and `O`, and wherever the type changes. The same entities as seqeval's `get_entities` finds
    (its default mode, not its strict one). What is no tag (`is_tag`) is read as seqeval reads it: its first letter is
    the prefix, the rest the type.

    Source: Tjong Kim Sang and Buchholz, Introduction to the CoNLL-2000 Shared Task: Chunking (2000).

    Example:
        >>> spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "S-PER", "E-PER"])
        [('PER', 0, 1), ('LOC', 3, 3), ('LOC', 4, 4), ('PER', 5, 5), ('PER', 6, 6)]
    """
    found = []
    first = 0
    before, type_before = OUTSIDE, ""
    for word, tag in enumerate([*tags, OUTSIDE]):
        prefix, type_ = _split(tag)
        is_other = type_ != type_before
        if before != OUTSIDE and (is_other or before in _LAST or (before in _UNFINISHED and prefix in _NOT_INSIDE)):
            found.append((type_before, first, word - 1))
        if prefix != OUTSIDE and (is_other or prefix in _FIRST or (before in _FINISHED and prefix in _INSIDE)):
            first = word
        before, type_before = prefix, type_
    return found


def _split(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag: (`B`, `creative-work`); the type of `B` alone is `_`, as in seqeval."""
    return tag[:1] or OUTSIDE, tag[1:].split("-", maxsplit=1)[-1] or "_"
