"""The temperature of a run's model: kept in the run, with the weights that it was fitted for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from tfft import __version__, whole
from tfft.errors import RunError
from tfft.run_directory import CALIBRATION


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature, and what is known of it.

    Attributes:
        temperature: what logits are divided by.
        weights: a fingerprint of the model's.
        fitted_on: where the rows come from.
        rows: how many there were.
        before, after: `ece` and `nll` of those rows, without it and with it.
    """

    temperature: float
    weights: str
    fitted_on: str
    rows: int
    before: dict[str, float]
    after: dict[str, float]


def write(run: Path, fitted: FittedTemperature) -> None:
    """Puts it into the run, in place of an older one.

    Raises:
        OSError: the disk is full, or whatever else it says.
    """
    with whole.whole_file(run / CALIBRATION) as file:
        json.dump({**dataclasses.asdict(fitted), "tfft": __version__}, file, indent=2, allow_nan=False)
        file.write("\n")


def find(run: Path, weights: str) -> FittedTemperature | None:
    """The run's temperature; None where there is none, or one for other weights."""
    found = _read(run)
    return found if found is not None and found.weights == weights else None


def read(run: Path, weights: str) -> FittedTemperature:
    """The same, where there has to be one.

    Raises:
        RunError: there is none for these weights.
    """
    mend = f"python -m tfft.evaluate --run {run} --calibrate"
    found = _read(run)
    if found is None:
        raise RunError(f"run: {run} has no temperature ({CALIBRATION}) to calibrate by; fit one with {mend}")
    if found.weights != weights:
        raise RunError(
            f"run: the temperature in {run / CALIBRATION} is of other weights than the model's; fit it anew: {mend}"
        )
    return found


def _read(run: Path) -> FittedTemperature | None:
    given: Any = whole.read_json(run / CALIBRATION)
    names = [one.name for one in dataclasses.fields(FittedTemperature)]
    if not isinstance(given, dict) or not set(names) <= set(given) or not isinstance(given["temperature"], float):
        return None
    return FittedTemperature(**{name: given[name] for name in names}) if given["temperature"] > 0 else None


def scaled(threshold: float, temperature: float) -> float:
    """The threshold of probabilities at a temperature that decides as `threshold` does without one.

    Example:
        >>> round(scaled(0.9, 2.0), 12)  # odds of 9 to 1 are 3 to 1
        0.75
    """
    with np.errstate(divide="ignore"):
        return float(special.expit(special.logit(threshold) / temperature))
