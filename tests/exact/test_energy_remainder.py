"""Moving frames: what the energy law lacks, (1/L) Σ ∫ρ (I_h[∇V·θ̇] − ∇V_h·θ̇), vanishes like h^k or faster.

The remainder has a sign and passes zero on some meshes, so that its order is fitted over several.
"""

from __future__ import annotations

import numpy as np
import pytest

from exact.test_identities import LAYERS, some_model, some_solver, some_task
from mfpde.config.settings import Density
from mfpde.limit.diagnostics.mesh_diagnostics import dissipation


def remainder(degree: int, cells: int, cell_type: str) -> float:
    """|dQ_h/dτ + dissipation| over the dissipation at τ = 0, with frames in motion."""
    density = Density(degree=degree, cells=cells, cell_type=cell_type, radius=4.0, frame="comoving")  # type: ignore[arg-type]
    solver = some_solver(some_model(3), some_task(3), density)
    try:
        state = solver.stepper.state
        potential = solver.flow.potential(state)
        rate = solver.flow.transport(state, potential)
        assert max(np.abs(part.frame.matrix).max() for part in rate.parts) > 0.01
        lost = 0.0
        for elements, part, values in solver.flow.each(state, potential):
            lost += dissipation(elements.space, part.density, part.frame, values).sum() / LAYERS
        return abs(solver.flow.energy_rate(state, potential, rate) + lost) / lost
    finally:
        solver.close()


@pytest.mark.parametrize("cell_type", ["tensor", "simplex"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_order_of_the_remainder(degree: int, cell_type: str) -> None:
    """Order at least k = p, fitted over four meshes."""
    cells = (8, 12, 16, 24)
    errors = [remainder(degree, n, cell_type) for n in cells]
    assert -np.polyfit(np.log(cells), np.log(errors), 1)[0] > degree
