"""Initial laws at the nodes of uniform grids around their means, and how much of each law its grid holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.limit.fem.law_coverage import share_of_box
from mfpde.limit.lagrangian.grid import LagrangianGrid
from mfpde.limit.state import NodesPart
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
REACH = 5.5  # half-width of the grid in standard deviations, unless the law's support is narrower
PATIENCE = 0.05  # the distortion of a grid that needs no other (`limit.lagrangian.remap`)


def initial_nodes(grid: LagrangianGrid, margin: float = 1.0) -> NodesPart:
    """The initial laws at the nodes of a grid around each layer's mean.

    Args:
        grid: of one family.
        margin: by which the grid is wider than the settings say, but for laws of bounded support.

    Raises:
        InputError: when a law has no mass there.
    """
    positions, logs, masses = [], [], []
    for layer in range(grid.layers):
        law = grid.family.law(layer)
        half = _reach(grid, law, margin) * np.asarray(law.std)
        theta = np.asarray(law.mean) + half * grid.reference

        density = law.density(theta)
        mass = density * grid.quadrature * np.prod(half)
        if not mass.sum() > 0.0:
            raise InputError(
                f"initial.{grid.family.name}: the law has no mass at the nodes; enlarge density.radius or density.cells"
            )

        positions.append(theta)
        masses.append(mass / mass.sum())
        with np.errstate(divide="ignore"):
            logs.append(np.log(density / mass.sum()))

    table = np.zeros((grid.layers, len(grid.count)))
    patience = np.array([PATIENCE if grid.remapped else np.inf])
    return grid.fit_table(NodesPart(np.stack(positions), np.stack(logs), np.stack(masses), table, table, patience))


def held(grid: LagrangianGrid, margin: float = 1.0) -> tuple[Array, Array]:
    """∫ρ₀ over each layer's grid, and the width of its widest cell in standard deviations, both (L,)."""
    laws = [grid.family.law(layer) for layer in range(grid.layers)]
    reach = np.array([_reach(grid, law, margin) for law in laws])
    std = np.array([law.std for law in laws])
    shares = [share_of_box(law, half) for law, half in zip(laws, reach * std, strict=True)]
    return np.array(shares), 2.0 * grid.per_cell * reach.max(axis=1) / (max(grid.shape) - 1)


def _reach(grid: LagrangianGrid, law: Law, margin: float) -> Array:
    """Half-widths of the initial grid in standard deviations, (d,)."""
    if grid.reach is not None:
        return margin * np.array(grid.reach)
    return np.full(law.dim, min(margin * REACH, law.support))
