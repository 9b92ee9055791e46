"""The state of a run: all that changes with τ, as data.

Families whose densities are discretised together form one part. A part of finite elements has the layers of its
families side by side, each of them one *block* of the arrays. A part of Lagrangian nodes has one family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

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
    """

    density: Array
    frame: Frame
    moving: ClassVar = ("centre", "matrix")

    def cells(self) -> dict[str, Array]:
        """The arrays whose rows are cells of this rank."""
        return {"density": self.density}

    def common(self) -> dict[str, Array]:
        """The arrays that are the same on every rank; those in `moving` are advanced by time steps."""
        return {"centre": self.frame.centre, "matrix": self.frame.matrix}

    def with_arrays(self, arrays: Mapping[str, Array]) -> FemPart:
        """A part with these arrays of `cells` and `common`."""
        return FemPart(arrays["density"], Frame(arrays["centre"], arrays["matrix"]))

    def outline(self) -> FemPart:
        """A part of the same shapes that keeps no density in memory."""
        return replace(self, density=np.broadcast_to(0.0, self.density.shape))


@dataclass(frozen=True)
class NodesPart:
    """The Lagrangian nodes of one family, L layers of n nodes, equal on every rank.

    Attributes:
        position: X_j, (L, n, d).
        log_density: log ρ(X_j), (L, n); −∞ where there is no mass.
        mass: m_j ≥ 0, (L, n); each layer's sum is one.
        low: first point of the layer's table, (L, m) for the m nonlinear coordinates.
        spacing: of the table, (L, m).
        patience: (1,) the distortion above which a remap is tried; infinite when it never is (`lagrangian.remap`).
    """

    position: Array
    log_density: Array
    mass: Array
    low: Array
    spacing: Array
    patience: Array
    moving: ClassVar = ("position", "log_density")

    def cells(self) -> dict[str, Array]:
        """No array is distributed over the ranks."""
        return {}

    def common(self) -> dict[str, Array]:
        """The arrays that are the same on every rank; those in `moving` are advanced by time steps."""
        return dict(vars(self))

    def with_arrays(self, arrays: Mapping[str, Array]) -> NodesPart:
        """A part with these arrays in the place of its own."""
        return replace(self, **arrays)

    def chosen(self, nodes: slice) -> NodesPart:
        """A part with some of the nodes."""
        some = {name: getattr(self, name)[:, nodes] for name in ("position", "log_density", "mass")}
        return replace(self, **some)

    def outline(self) -> NodesPart:
        """A part of the same shapes: itself, as it is small."""
        return self


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
