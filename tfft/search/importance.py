"""Which parameters mattered: permutation importance on a random forest that predicts the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfft.search.axes import Axis

METHOD = "Permutation importance on a random forest, out of bag"
# A forest sees two thirds of the trials in every tree; of fewer than eight nothing can be said.
FEWEST_TRIALS = 8
TREES = 100


@dataclass(frozen=True)
class Importance:
    """What the forest says.

    Attributes:
        losses: parameter to how much worse the trees predict when its values are shuffled among the trials, as a share
            of the scores' variance; the most important first. Empty where nothing can be ranked.
        r2: the forest's out-of-bag R²; None where no forest was made.
        trials: how many it was made of.
        refusal: why nothing is ranked; "" where something is.
    """

    losses: Mapping[str, float]
    r2: float | None
    trials: int
    refusal: str = ""


def measure(
    by_key: Mapping[str, Axis], values: Sequence[Mapping[str, Any]], scores: Sequence[float], seed: int
) -> Importance:
    """How much each parameter has to do with the score, as far as these trials show.

    A parameter is its place on its axis: a range by its logarithm where its scale is that, choices by their order.
    Where it is not active it gets values drawn from those that it has elsewhere, so that what made it inactive is not
    taken for an effect of its own. A forest of trees is fitted to the trials. Of every tree, the trials that it was not
    fitted to say by how much its squared error rises when one parameter is shuffled among them (Breiman 2001, Random
    Forests, section 10; scikit-learn's `permutation_importance` for each tree). Parameters that have the same value in
    all trials are left out.

    Args:
        by_key: parameter to its axis.
        values: of the completed trials, parameter to value; where it is not active it is absent.
        scores: as many.
        seed: of forest and shuffling.
    """
    chance = np.random.default_rng(seed)
    table = {key: _column(key, axis, values, chance) for key, axis in by_key.items()}
    table = {key: column for key, column in table.items() if np.unique(column).size > 1}
    outcome = np.asarray(scores, np.float64)
    if len(outcome) < FEWEST_TRIALS:
        said = f"of completed trials there are too few, {len(outcome)}; {FEWEST_TRIALS} are the least"
        return Importance({}, None, len(outcome), said)
    if not table:
        return Importance({}, None, len(outcome), "no parameter has more than one value")
    if np.ptp(outcome) == 0:
        return Importance({}, None, len(outcome), "all scores are equal")
    r2, losses = _forest(np.stack(list(table.values()), axis=1), outcome, seed)
    if r2 <= 0:
        return Importance({}, r2, len(outcome), "the forest explains nothing of trials that it was not fitted to")
    ranked = sorted(zip(table, losses, strict=True), key=lambda one: -one[1])
    return Importance({key: float(loss) for key, loss in ranked}, r2, len(outcome))


def _column(key: str, axis: Axis, values: Sequence[Mapping[str, Any]], chance: np.random.Generator) -> np.ndarray:
    """The places of a parameter's values on its axis: (trials,); zeros where it is never active."""
    places = np.array([axis.share(one[key]) if key in one else None for one in values], np.float64)  # None: NaN
    active = places[~np.isnan(places)]
    drawn = chance.choice(active, len(places)) if active.size else np.zeros(len(places))
    return np.where(np.isnan(places), drawn, places)


def _forest(table: np.ndarray, outcome: np.ndarray, seed: int) -> tuple[float, np.ndarray]:
    """Out-of-bag R², and the mean loss over the trees: (parameters,). `table` is (trials, parameters)."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    forest = RandomForestRegressor(TREES, oob_score=True, random_state=seed).fit(table, outcome)
    losses = []
    for tree, fitted in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        others = np.setdiff1d(np.arange(len(outcome)), fitted)
        if len(others) < 2:
            continue
        rise = permutation_importance(
            tree, table[others], outcome[others], scoring="neg_mean_squared_error", n_repeats=2, random_state=seed
        )
        losses.append(rise.importances_mean)
    return float(forest.oob_score_), np.mean(losses, axis=0) / outcome.var()
