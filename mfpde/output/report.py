"""What the solver says of one τ, and what all the files of a run directory are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.output.snapshot import Snapshot

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


@dataclass(frozen=True, eq=False)
class Report:
    """One row of each table, and one snapshot of each family; complete on rank 0.

    Attributes:
        tau: τ.
        history: the columns of history.csv in their order, τ first; the same columns in every report of a run.
        moments: one entry per family and layer.
        gaps: (family, layer, gap), none when the gap was not computed.
        timings: the columns of timings.csv in their order, τ first; totals since the start of the run.
        snapshots: one per family.
    """

    tau: float
    history: Mapping[str, float]
    moments: tuple[BlockMoments, ...]
    gaps: tuple[tuple[str, int, float], ...]
    timings: Mapping[str, float]
    snapshots: tuple[Snapshot, ...]
