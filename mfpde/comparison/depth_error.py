"""The error of a finite depth: residual layers against the continuum, dT/dt = η Σ_c ∫ f_c dρ^c_t.

Both are solves of the limit M → ∞, so that this is a table of convergence and no verdict on it. The continuum's cells
have an error of order L⁻², and are extrapolated. Source: docs/equations.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfpde.comparison.evidence import History, at
from mfpde.finite.record_files import has_time

ORDER, ORDER_WITHIN = -1.0, 0.15


@dataclass(frozen=True)
class DepthRow:
    """Errors of the risk at one τ.

    Attributes:
        tau: τ.
        limit: the risk at L = ∞.
        layers: L.
        errors: |R_L − R_∞|.
        slope: of the errors in L.
        of_order: is the slope −1 within 0.15?
    """

    tau: float
    limit: float
    layers: list[int]
    errors: list[float]
    slope: float
    of_order: bool


def depth_rows(residual: Mapping[int, History], continuum: Mapping[int, History], taus: list[float]) -> list[DepthRow]:
    """Slopes of |R_L − R_∞| at several τ.

    Args:
        residual: histories by number of layers, at least two.
        continuum: histories by number of cells, two of them, extrapolated to ∞ by their order 2.
        taus: at which all of them have reports.
    """
    coarse, fine = sorted(continuum)
    rows = []
    for tau in taus:
        if not all(has_time(table["tau"], tau) for table in (*residual.values(), *continuum.values())):
            continue

        near, far = at(continuum[coarse], "risk", tau), at(continuum[fine], "risk", tau)
        limit = far + (far - near) / ((fine / coarse) ** 2 - 1.0)

        layers = sorted(residual)
        errors = [abs(at(residual[n], "risk", tau) - limit) for n in layers]
        fitted = float(np.polyfit(np.log(layers), np.log(errors), 1)[0])
        rows.append(DepthRow(tau, limit, layers, errors, fitted, bool(abs(fitted - ORDER) <= ORDER_WITHIN)))
    return rows
