"""Density and potential of a snapshot at any θ: the polynomial in each cell of the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.lattice import tabulate
from mfpde.output.fields.locate import Locator
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]


class Evaluator:
    """ρ and V of one layer at any θ."""

    def __init__(self, snapshot: Snapshot, layer: int) -> None:
        """Sort the layer's cells."""
        self._snapshot, self._layer = snapshot, layer
        self._locator = Locator(snapshot.cell, snapshot.degree, snapshot.points[layer])

    def __call__(self, theta: Array) -> tuple[Array, Array]:
        """ρ (m,), zero outside the mesh, and V (m,), nan there, at θ (m, d)."""
        cells, reference = self._locator.locate(theta)
        basis = tabulate(self._snapshot.cell, self._snapshot.degree, reference)
        density = np.einsum("mn,mn->m", basis, self._snapshot.density[self._layer][cells])
        potential = np.einsum("mn,mn->m", basis, self._snapshot.potential[self._layer][cells])
        return np.where(cells >= 0, density, 0.0), np.where(cells >= 0, potential, np.nan)
