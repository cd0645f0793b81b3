"""Which trials are not worth their end: the median stopping rule.

Golovin et al. 2017, Google Vizier: A Service for Black-Box Optimization, section 3.2.2.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# Fewer finished trials than these say too little.
FINISHED_TRIALS = 3


def is_hopeless(own: Sequence[float], finished: Sequence[Sequence[float]], direction: str) -> bool:
    """Whether the best score so far is worse than the median of the running means of finished trials up to here.

    Args:
        own: a trial's scores, one an epoch so far.
        finished: those of trials that came to their end; ones with fewer epochs count by all that they have.
        direction: whether `max` or `min` is better.

    Example:
        >>> is_hopeless([0.5], [[0.6, 0.9], [0.7, 0.9], [0.4, 0.9]], "max")
        True
        >>> is_hopeless([0.6], [[0.6, 0.9], [0.7, 0.9], [0.4, 0.9]], "max")
        False
    """
    finished = [one for one in finished if one]
    if not own or len(finished) < FINISHED_TRIALS:
        return False
    median = statistics.median(statistics.fmean(one[: len(own)]) for one in finished)
    return max(own) < median if direction == "max" else min(own) > median
