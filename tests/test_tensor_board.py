"""What TensorBoard is given, read back from its files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft import drawing
from tfft.backend import keras, tf
from tfft.callbacks import ExactCheckpoint, LearningRateLog, TensorBoard, ValidationScores
from tfft.callbacks.tensor_board import markdown_table

NAMES, COUNTS = ("bad", "good"), np.array([[8, 1], [0, 9]])


def events(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Tag to the steps and tensors of it, in all files."""
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for path in sorted(folder.rglob("events.out.*"), key=lambda path: path.stat().st_mtime_ns):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for one in event.summary.value:
                found[one.tag].append((event.step, tf.make_ndarray(one.tensor)))
    return found


def fit(folder: Path, epochs: int = 2) -> dict[str, list[tuple[int, Any]]]:
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    board = TensorBoard(
        folder / "logs",
        samples=lambda: (["text", "prediction"], [("a <b>", "good")]),
        confusion=lambda: (NAMES, COUNTS),
    )
    scores = ValidationScores(lambda: {"f1": 0.5}, eval_steps=2, told=[board.evaluated])
    keeper = ExactCheckpoint(folder / "states", callbacks=[scores])
    rows = tf.data.Dataset.from_tensors((tf.ones([1, 2]), tf.ones([1, 1]))).repeat()
    given = [LearningRateLog(), scores, board, keeper]
    model.fit(rows, steps_per_epoch=3, epochs=epochs, verbose=0, callbacks=given)
    return events(folder / "logs")


def test_everything_is_written_and_a_training_that_goes_on_adds_to_it(tmp_path: Path) -> None:
    seen = fit(tmp_path)
    assert [(step, float(value)) for step, value in seen["epoch_learning_rate"]] == [(0, 0.25), (1, 0.25)]
    assert [(step, float(value)) for step, value in seen["epoch_f1"]] == [(0, 0.5), (1, 0.5)]
    assert [step for step, _ in seen["epoch_loss"]] == [0, 1]
    # After the second step and the fourth; the sixth is an epoch's end.
    assert [(step, float(value)) for step, value in seen["evaluation_f1_vs_iterations"]] == [(2, 0.5), (4, 0.5)]
    assert [step for step, _ in seen["samples"]] == [0, 1]
    (text,) = np.ravel(seen["samples"][0][1])
    assert text.decode() == "| text | prediction |\n| --- | --- |\n| a &#60;b&#62; | good |"
    _, (width, height, png) = seen["confusion"][1]
    picture = tf.io.decode_png(png).numpy()
    assert picture.shape == (int(height), int(width), 3)
    np.testing.assert_array_equal(
        picture, np.asarray(drawing.heat_map(COUNTS, NAMES, NAMES, "true class to prediction", numbers=True))
    )
    again = fit(tmp_path, epochs=3)
    for tag in ("epoch_loss", "epoch_f1", "samples"):
        assert [step for step, _ in again[tag]] == [0, 1, 2]
    assert [step for step, _ in again["evaluation_f1_vs_iterations"]] == [2, 4, 8]


TEXTS = [
    "plain words",
    "a *film* | _b_ `c` #1 [x](http://y)",
    "<script>alert(1)</script> &amp;",
    "1. \\| \nnew\tline",
    "日本 é",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_shown_as_they_are(text: str) -> None:
    import html
    import re
    import warnings

    with warnings.catch_warnings():
        # One of its own parts calls another deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard import plugin_util

    shown = plugin_util.markdown_to_safe_html(markdown_table(["text", "label"], [(text, "x"), ("second", "y")]))
    cells = [html.unescape(one) for one in re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)]
    assert cells == [" ".join(text.split()), "x", "second", "y"]


def test_a_board_of_numbers_alone_is_that_of_keras(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    model.compile("sgd", "mse")
    many = [str(number) for number in range(101)]
    for found in (None, (many, np.eye(101))):
        board = TensorBoard(tmp_path, confusion=lambda found=found: found)
        model.fit(tf.ones([2, 1]), tf.ones([2, 1]), verbose=0, callbacks=[board])
    assert set(events(tmp_path)) == {"epoch_loss"}


# --- the pictures -----------------------------------------------------------------------------------------------------


def test_a_heat_map_is_the_darker_the_greater_and_has_room_for_its_names() -> None:
    picture = drawing.heat_map(np.array([[0.0, 1.0], [0.5, 0.25]]), ["a", "b"], ["c", "d"])
    cells = np.asarray(picture, int)[-44:, -44:]
    assert [cells[y, x].tolist() for y in (2, 24) for x in (2, 24)] == [
        [255, 255, 255], [8, 48, 107], [132, 152, 181], [193, 203, 218]
    ]  # fmt: skip
    long = drawing.heat_map(np.zeros([1, 1]), ["a name of more than eighteen letters\nand lines"], ["b"], "a title" * 9)
    assert long.width > picture.width


def test_nothing_is_darkest_where_all_is_nothing() -> None:
    picture = drawing.heat_map(np.zeros([2, 2]), "ab", "ab", numbers=True)
    assert np.asarray(picture)[-2, -2].tolist() == [255, 255, 255]
