"""The state of a run: all that changes with τ, as data.

Families whose densities are discretised together form one part. A part of finite elements has the layers of its
families side by side, each of them one *block* of the arrays. A part of Lagrangian nodes has one family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.fem.frame import Frame

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FemPart:
    """Densities on one mesh, b blocks; the same fields hold their rates.

    Attributes:
        density: coefficients of ρ̂ on the cells of this rank, (owned, i, b).
        frame: of the blocks, the same on every rank.
        moving: the arrays that time steps advance.
        axis: of the cells in the arrays of `cells`.
    """

    density: Array
    frame: Frame
    moving: ClassVar = ("density", "centre", "matrix")
    axis: ClassVar = 0

    def cells(self) -> dict[str, Array]:
        """The arrays that have the cells of this rank along `axis`."""
        return {"density": self.density}

    def common(self) -> dict[str, Array]:
        """The arrays that are the same on every rank."""
        return {"centre": self.frame.centre, "matrix": self.frame.matrix}

    def with_arrays(self, arrays: Mapping[str, Array]) -> FemPart:
        """A part with these arrays of `cells` and `common`."""
        return FemPart(arrays["density"], Frame(arrays["centre"], arrays["matrix"]))

    def outline(self) -> FemPart:
        """A part of the same shapes that keeps no density in memory."""
        return replace(self, density=np.broadcast_to(0.0, self.density.shape))


@dataclass(frozen=True)
class NodesPart:
    """The Lagrangian nodes of one family, L layers of the n nodes of this rank.

    Attributes:
        position: X_j, (L, n, d).
        log_density: log ρ(X_j), (L, n); −∞ where there is no mass.
        mass: m_j ≥ 0, (L, n); each layer's sum over all ranks is one.
        low: first point of the layer's table, (L, m) for the m nonlinear coordinates, equal on every rank.
        spacing: of the table, (L, m), likewise.
        count: points of the table along each nonlinear coordinate, (m,), in all layers and on every rank.
        patience: (1,) the distortion above which a remap is tried; infinite when it never is (`lagrangian.remap`).
        moving: the arrays that time steps advance.
        axis: of the nodes in the arrays of `cells`.
    """

    position: Array
    log_density: Array
    mass: Array
    low: Array
    spacing: Array
    count: NDArray[np.int64]
    patience: Array
    moving: ClassVar = ("position", "log_density")
    axis: ClassVar = 1

    def cells(self) -> dict[str, Array]:
        """The arrays that have the nodes of this rank along `axis`."""
        return {"position": self.position, "log_density": self.log_density, "mass": self.mass}

    def common(self) -> dict[str, NDArray[Any]]:
        """The arrays that are the same on every rank."""
        return {"low": self.low, "spacing": self.spacing, "count": self.count, "patience": self.patience}

    def with_arrays(self, arrays: Mapping[str, Any]) -> NodesPart:
        """A part with these arrays in the place of its own."""
        return replace(self, **arrays)

    def layers(self, count: int) -> NodesPart:
        """The first so many layers."""
        names = ("position", "log_density", "mass", "low", "spacing")
        return replace(self, **{name: getattr(self, name)[:count] for name in names})

    def outline(self) -> NodesPart:
        """A part of the same shapes that keeps of its nodes the masses alone in memory."""
        place, log = (np.broadcast_to(0.0, array.shape) for array in (self.position, self.log_density))
        return replace(self, position=place, log_density=log)


type Part = FemPart | NodesPart


@dataclass(frozen=True)
class State:
    """Time, and what each discretisation of the flow holds at that time."""

    tau: float
    parts: tuple[Part, ...]

    def with_parts(self, parts: tuple[Part, ...]) -> State:
        """The state with other parts; itself where all are the same objects."""
        unchanged = all(new is old for new, old in zip(parts, self.parts, strict=True))
        return self if unchanged else State(self.tau, parts)
