"""The units that stand for the densities of a solver's state."""

from __future__ import annotations

import numpy as np

from mfpde.limit.solver import Solver
from mfpde.limit.state import State


def units_of(solver: Solver, state: State) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per family θ (L, u, d) and weights (L, u)."""
    points, shares, _ = solver.flow.moments(state)
    moments = solver.flow.backprop.sum_over_ranks(shares)
    made = [f.units(q, w) for f, q, w in zip(solver.flow.model.families, points, moments, strict=True)]  # type: ignore[arg-type]
    return [(np.asarray(theta), np.asarray(weights)) for theta, weights in made]
