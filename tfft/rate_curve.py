"""The loss over a rising learning rate (Smith 2017, section 3.3, the range test): smoothed, read, drawn, written.

Example:
    A loss that falls fastest around 1e-3 and is lowest at 1e-2.

    >>> rates = np.geomspace(1e-5, 1e-1, 41)
    >>> losses = 1 - 0.3 * np.tanh(np.log10(rates) + 3) + 0.3 * np.maximum(np.log10(rates) + 2, 0) ** 2
    >>> found = suggest(rates, losses, smoothing=0)
    >>> f"{found.steepest:.0e}", f"{found.minimum_tenth:.0e}"
    ('1e-03', '2e-03')
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfft import whole
from tfft.errors import UserError

MIN_STEPS = 20
# Of all steps, those whose smoothed loss is a mean of too few to go by.
_NOISY_SHARE = 10


@dataclass(frozen=True)
class Sweep:
    """Which rates are tried, and when the trying ends.

    Attributes:
        min_learning_rate, max_learning_rate: the first and the last rate; each is the same factor above the one before.
        steps: how many rates, one an optimizer step.
        smoothing: what of the smoothed loss each step keeps, from 0 to below 1.
        divergence_factor: it ends where the smoothed loss is so many times its lowest.

    Raises:
        UserError: one of them cannot be.
    """

    min_learning_rate: float = 1e-6
    max_learning_rate: float = 1.0
    steps: int = 200
    smoothing: float = 0.9
    divergence_factor: float = 4.0

    def __post_init__(self) -> None:
        low, high = self.min_learning_rate, self.max_learning_rate
        if not 0 < low < high < math.inf:
            raise UserError(
                f"min_learning_rate is {low:g} and max_learning_rate {high:g}; expected the first above 0 and below "
                "the second, such as 1e-6 and 1"
            )
        if self.steps < MIN_STEPS:
            raise UserError(f"steps is {self.steps}; expected at least {MIN_STEPS}, such as 200, to see a curve")
        if not 0 <= self.smoothing < 1:
            raise UserError(f"smoothing is {self.smoothing:g}; expected from 0 (none) to below 1, such as 0.9")
        if not self.divergence_factor > 1:
            raise UserError(f"divergence_factor is {self.divergence_factor:g}; expected above 1, such as 4")

    def learning_rates(self) -> list[float]:
        """All rates: min * (max / min) ** (i / (steps - 1))."""
        rates: list[float] = np.geomspace(self.min_learning_rate, self.max_learning_rate, self.steps).tolist()
        return rates

    def diverged(self, smoothed: Sequence[float]) -> bool:
        """Whether the newest of these losses is far above the lowest; the first few are too noisy to say."""
        lowest = min(smoothed)
        # By what is above the lowest: a loss may be below 0.
        is_far = smoothed[-1] - lowest > (self.divergence_factor - 1) * abs(lowest)
        return is_far and len(smoothed) > self.steps // _NOISY_SHARE


@dataclass(frozen=True)
class Suggestions:
    """Learning rates to train with, or why there are none.

    Attributes:
        steepest: where the smoothed loss falls fastest with the rate's logarithm, before its minimum.
        minimum_tenth: a tenth of the rate at the smoothed loss's minimum.
        why_none: a sentence where there are none, else empty.
    """

    steepest: float | None
    minimum_tenth: float | None
    why_none: str = ""


@dataclass(frozen=True)
class RateCurve:
    """What trying the rates has shown.

    Attributes:
        sweep: what was to be tried.
        learning_rates: that were tried, rising.
        losses: at each, of its batch alone, before the weights were changed at that rate.
        smoothed: see `smooth`.
        suggestions: what follows from them.
        stopped: why it ended, in words.
    """

    sweep: Sweep
    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestions: Suggestions
    stopped: str

    def write_json(self, path: Path | str, **more: Any) -> None:
        """All of it as JSON, with `more` beside it; whole or not at all."""
        with whole.whole_file(Path(path)) as file:
            json.dump({**asdict(self), **more}, file, indent=2, allow_nan=False)
            file.write("\n")

    def plot(self, path: Path | str, title: str = "") -> None:
        """A picture of it as PNG: the losses over the rates, smoothed and as they were, and the suggestions."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(self.learning_rates, self.losses, color="0.75", linewidth=0.8, label="loss of each step")
        axes.plot(self.learning_rates, self.smoothed, color="tab:blue", linewidth=2, label="smoothed")
        for name, rate, colour in (
            ("steepest descent", self.suggestions.steepest, "tab:red"),
            ("a tenth of the minimum's rate", self.suggestions.minimum_tenth, "tab:green"),
        ):
            if rate is not None:
                axes.axvline(rate, color=colour, linestyle="--", label=f"{name}: {rate:.1e}")
        axes.set_xscale("log")
        if self.losses:
            axes.set_ylim(*_shown(self.losses, self.smoothed))
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        axes.set_title(title, parse_math=False)
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
        figure.savefig(path, format="png")


def _shown(losses: Sequence[float], smoothed: Sequence[float]) -> tuple[float, float]:
    """From the lowest loss to above where the smoothed one began: where it diverges would dwarf the fall."""
    bottom, lowest, highest = min(*losses, *smoothed), min(smoothed), max(smoothed)
    top = min(highest, lowest + 3 * (smoothed[0] - lowest)) if smoothed[0] > lowest else highest
    margin = 0.05 * (top - bottom) or 1.0
    return bottom - margin, top + margin


def smooth(losses: Sequence[float], smoothing: float) -> list[float]:
    """The exponential mean of the losses so far, corrected for beginning at 0 (Kingma & Ba 2015, section 3).

    Example:
        >>> smooth([4.0, 1.0], 0.5)  # (0.25 * 4 + 0.5 * 1) / (1 - 0.5 ** 2)
        [4.0, 2.0]
    """
    smoothed, mean = [], 0.0
    for count, loss in enumerate(losses, 1):
        mean = smoothing * mean + (1 - smoothing) * loss
        smoothed.append(mean / (1 - smoothing**count))
    return smoothed


def suggest(learning_rates: Sequence[float], losses: Sequence[float], smoothing: float) -> Suggestions:
    """Rates to train with, read from the smoothed curve between its first, noisy steps and its minimum.

    Args:
        learning_rates, losses: as many, in the order in which they were tried.
        smoothing: see `smooth`.

    Returns:
        None of them where the smoothed loss falls by less than chance may make it fall.
    """
    smoothed = np.asarray(smooth(losses, smoothing))
    first = len(smoothed) // _NOISY_SHARE
    if len(smoothed) < first + 3:
        return Suggestions(None, None, f"the loss was seen at {len(smoothed)} rates alone")
    lowest = first + int(np.argmin(smoothed[first:]))
    fall = smoothed[first] - smoothed[lowest]
    rounding = 1e-9 * abs(smoothed[first])
    if lowest < first + 2 or fall <= _by_chance(losses, smoothing) + rounding:
        return Suggestions(
            None,
            None,
            f"the smoothed loss never falls by more than it scatters from the {smoothed[first]:.4g} that it has at "
            f"{learning_rates[first]:.1e}",
        )
    part = slice(first, lowest + 1)
    return Suggestions(_steepest(np.asarray(learning_rates)[part], smoothed[part]), float(learning_rates[lowest]) / 10)


def _steepest(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """The rate around which the loss falls fastest with the rate's logarithm.

    Over a fifth of the curve: between neighbours it falls fastest where it comes down from one bad batch.
    """
    arm = max(1, (len(rates) - 1) // 10)
    slopes = (smoothed[2 * arm :] - smoothed[: -2 * arm]) / np.log(rates[2 * arm :] / rates[: -2 * arm])
    return float(rates[arm + int(np.argmin(slopes))])


def _by_chance(losses: Sequence[float], smoothing: float) -> float:
    """How far the smoothed loss of a model that learns nothing may fall: four standard errors of such a mean."""
    # From neighbours, which the curve's own slope hardly parts (von Neumann 1941), and by their median, since losses
    # that diverge are far apart: that of the difference of two normal numbers is 0.954 times their deviation.
    deviation = float(np.median(np.abs(np.diff(losses)))) / 0.954
    return 4 * deviation * math.sqrt((1 - smoothing) / (1 + smoothing))
