"""The transport's scheme written in UFL, for one block: what the kernels must agree with, and their peer in speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import basix
import basix.ufl
import dolfinx.fem as fem
import numpy as np
import ufl

from mfpde.limit.fem.frame import Motion
from mfpde.limit.fem.space import Space


@dataclass(frozen=True)
class Upwind:
    """The form's functions and what it integrates."""

    density: fem.Function
    potential: fem.Function
    form: ufl.Form

    @property
    def space(self) -> Any:
        """Of the density."""
        return self.density.function_space


def upwind(
    space: Space, density: np.ndarray, potential: Callable[[np.ndarray], np.ndarray], moving: Motion, b: int
) -> Upwind:
    """∫_K ρ û·∇ψ − ∫_∂K ψ F by the local Lax–Friedrichs flux, of block b.

    Args:
        space: the mesh and the degrees.
        density: coefficients (c, i).
        potential: a function of points (3, n).
        moving: metric and motion of all blocks.
        b: the block.
    """
    dg = basix.ufl.element(
        "Lagrange", space.cell.name, space.degree, lagrange_variant=basix.LagrangeVariant.legendre, discontinuous=True
    )
    v, w = fem.functionspace(space.mesh, dg), fem.functionspace(space.mesh, ("Lagrange", space.potential_degree))
    rho, phi, psi = fem.Function(v), fem.Function(w), ufl.TestFunction(v)
    rho.x.array[v.dofmap.list[: space.owned].ravel()] = density[: space.owned].ravel()
    phi.interpolate(potential)
    x, n = ufl.SpatialCoordinate(space.mesh), ufl.FacetNormal(space.mesh)
    metric, drift, stretch = (ufl.as_tensor(a[b].tolist()) for a in (moving.metric, moving.drift, moving.stretch))
    u = -metric * ufl.grad(phi) - drift - stretch * x
    through = [ufl.dot(u(side), n("+")) for side in "+-"]
    a = ufl.max_value(abs(through[0]), abs(through[1]))
    flux = 0.5 * (rho("+") * through[0] + rho("-") * through[1]) + 0.5 * a * (rho("+") - rho("-"))
    degree = {"quadrature_degree": 2 * space.degree + space.potential_degree - 1}
    form = rho * ufl.dot(u, ufl.grad(psi)) * ufl.dx(metadata=degree)
    form -= flux * (psi("+") - psi("-")) * ufl.dS(metadata=degree)
    return Upwind(rho, phi, form)
