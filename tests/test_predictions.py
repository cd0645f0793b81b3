"""Which rows a run had right, by its `predictions.csv`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfft import predictions, tasks

SINGLE = 'row,text,label,prediction,probability\n1,a,yes,yes,0.9\n2,"b,\nc",NA,no,0.8\n3,,no,no,0.7\n'
MULTI = "row,text,labels,predictions,probability_x,probability_y\n1,a,x;y,x;y,0.9,0.8\n2,b,,x,0.9,0.1\n3,c,,,0.1,0.1\n"
TOKENS = (
    "row,word_number,word,label,prediction,probability\n"
    "7,1,a,O,O,0.9\n7,2,b,B-x,O,0.5\n2,1,a,O,O,0.9\n9,1,c,O,B-x,\n9,2,c,O,O,0.9\n"
)


@pytest.mark.parametrize(
    ("problem_type", "text", "unit", "right"),
    [
        (tasks.SINGLE_LABEL, SINGLE, "rows", [True, False, True]),
        (tasks.MULTI_LABEL, MULTI, "rows", [True, False, True]),
        (tasks.TOKENS, TOKENS, "sentences", [False, True, False]),
    ],
)
def test_rows_that_are_right(tmp_path: Path, problem_type: str, text: str, unit: str, right: list[bool]) -> None:
    file = tmp_path / "predictions.csv"
    file.write_text(text)
    found = predictions.read(file, problem_type)
    assert found is not None
    assert (found.unit, found.right.tolist()) == (unit, right)


def test_the_fingerprint_is_that_of_the_rows_and_not_of_the_answers(tmp_path: Path) -> None:
    def fingerprint(text: str) -> str:
        (tmp_path / "predictions.csv").write_text(text)
        found = predictions.read(tmp_path / "predictions.csv", tasks.SINGLE_LABEL)
        assert found is not None
        return found.fingerprint

    assert fingerprint(SINGLE.replace("yes,yes,0.9", "yes,no,0.6")) == fingerprint(SINGLE)
    others = {SINGLE.replace("1,a", "1,z"), SINGLE.replace("1,a,yes", "1,a,no"), SINGLE.replace("3,,no", "4,,no")}
    assert len({fingerprint(one) for one in [SINGLE, *others]}) == 4


def test_numbers_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    assert predictions.read(file, tasks.SINGLE_LABEL) is None
    file.write_text("row,text,label,prediction\n1,a,0.5,0.5\n")
    assert predictions.read(file, tasks.REGRESSION) is None
