"""How a narrow student begins: with as much of its teacher's embeddings as its width can hold.

A vocabulary is most of a small model, and text to learn from is never enough to see all of it: what a teacher knows of
rare words comes along that way.
"""

from __future__ import annotations

import numpy as np

from tfft.backend import keras, tf
from tfft.models.parts import path_of


def principal_directions(embeddings: np.ndarray, count: int) -> np.ndarray:
    """The directions along which embeddings reach farthest, (count, width) float32, orthonormal.

    Eigenvectors of XᵀX with the largest eigenvalues: no other `count` directions keep more of the embeddings
    X (tokens, width) in the mean square (Eckart and Young 1936).

    Example:
        Points on the line along (3, 4) need one direction:

        >>> found = principal_directions(np.array([[3.0, 4.0], [-6.0, -8.0]]), 1)
        >>> [round(abs(float(one)), 4) for one in found[0]]
        [0.6, 0.8]
    """
    wide = np.asarray(embeddings, np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)  # smallest first
    return np.ascontiguousarray(vectors[:, ::-1][:, :count].T, np.float32)


def start_embeddings(student: keras.Model, teacher: keras.Model) -> np.ndarray | None:
    """Lets the student's embeddings of tokens, of places and of segments begin as its teacher's, made as narrow.

    All are put on the same directions, those of the tokens, so that their sums are the teacher's sums.

    Args:
        student: built; it is changed.
        teacher: built; it has the same vocabulary.

    Returns:
        The directions, (student's width, teacher's width), which take a student's embeddings to the teacher's; None
        where nothing began: the student is wider, or its family's embeddings are not as wide as its states.
    """
    ours, theirs = _embeddings(student), _embeddings(teacher)
    width = student.config.hidden_size
    tokens = _within(teacher.get_input_embeddings().weight)
    fits = {
        name: weight
        for name, weight in ours.items()
        if name in theirs and weight.shape.rank == 2 and weight.shape == (theirs[name].shape[0], width)
    }
    if tokens not in fits or width > teacher.config.hidden_size:
        return None
    directions = principal_directions(theirs[tokens].numpy(), width)
    for name, weight in fits.items():
        weight.assign(theirs[name].numpy() @ directions.T)
    return directions


def _embeddings(model: keras.Model) -> dict[str, tf.Variable]:
    """The weights of the layer `embeddings`, by their paths within it."""
    return {name: weight for weight in model.weights if (name := _within(weight))}


def _within(weight: tf.Variable) -> str:
    return path_of(weight.name).partition("embeddings/")[2]
