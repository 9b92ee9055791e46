"""The risk at M = ∞ from Transformers of M units and of their own quarters, for the studies beside this file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

type Array = NDArray[np.float64]


def extrapolated(whole: Array, quarters: Array) -> tuple[float, float]:
    """R at M = ∞ by R(M) = R + b/M, and the half-width of its 95 % interval (Student's t).

    In the difference of a Transformer and the mean of its four quarters chance cancels to first order.

    Args:
        whole: R of Transformers of M units, (seeds,).
        quarters: the mean R of the four quarters of each, (seeds,).
    """
    each = whole - (quarters - whole) / 3.0
    reach = stats.t.ppf(0.975, len(each) - 1)
    return float(each.mean()), float(reach * each.std(ddof=1) / np.sqrt(len(each)))
