"""What the solver reports at one τ: the content of all files of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.output.clouds.nodes import Nodes
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BlockMoments:
    """Mass, mean and covariance in θ of one layer's density of one family.

    Attributes:
        family: name of the family.
        layer: from 0.
        mass: ∫ρ.
        mean: of ρ/mass, (d,).
        covariance: of ρ/mass, (d, d).
    """

    family: str
    layer: int
    mass: float
    mean: Array
    covariance: Array


@dataclass(frozen=True)
class BlockIndicators:
    """Indicators of numerical trouble in one layer's density of one family.

    Attributes:
        family: name of the family.
        layer: from 0.
        boundary_mass: mass in the cells that touch the mesh boundary; large: the mesh is too small.
        resolution: share of the density's norm in the highest polynomials of each cell, 0 … 1; near 0.3 and above: the
            cells are too coarse for what is seen there.
        min_density: smallest ρ̂ over quadrature points and nodes.
        negative_mass: ∫max(−ρ, 0).
        mass_error: |∫ρ − 1|.
    """

    family: str
    layer: int
    boundary_mass: float
    resolution: float
    min_density: float
    negative_mass: float
    mass_error: float


@dataclass(frozen=True)
class Step:
    """One trial step.

    Attributes:
        tau: where it began.
        step: Δ.
        error: its estimated relative error, nan at fixed steps.
        accepted: or tried again with a smaller Δ.
        bound: what Δ came from: "error", "cfl", "report" (cut to meet one), or "fixed".
    """

    tau: float
    step: float
    error: float
    accepted: bool
    bound: str


@dataclass(frozen=True, eq=False)
class Report:
    """One row of each table, and one snapshot of each family; complete on rank 0, but for snapshots in pieces.

    Attributes:
        tau: τ.
        history: the columns of history.csv in their order, τ first; the same columns in every report of a run.
        moments: one entry per family and layer.
        indicators: likewise.
        gaps: (family, layer, ∫V dρ − min V), infinite where V has no lower bound.
        gap_margin: by how much the gap may be too small, by estimates; nan where it was not computed.
        steps: all trial steps since the report before.
        timings: the columns of timings.csv in their order, τ first; totals since the start of the run.
        snapshots: one per family; on other ranks those in pieces at least.
        singular_values: (family, layer, values) of families whose linear coordinates are a matrix.
        clouds: the nodes of each family that moves by a cloud of them; on other ranks none.
    """

    tau: float
    history: Mapping[str, float]
    moments: tuple[BlockMoments, ...]
    indicators: tuple[BlockIndicators, ...]
    gaps: tuple[tuple[str, int, float], ...]
    gap_margin: float
    steps: tuple[Step, ...]
    timings: Mapping[str, float]
    snapshots: tuple[Snapshot, ...]
    singular_values: tuple[tuple[str, int, Array], ...] = ()
    clouds: tuple[Nodes, ...] = ()
