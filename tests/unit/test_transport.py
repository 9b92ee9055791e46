"""The transport kernel against the same scheme written in UFL and assembled by DOLFINx."""

from __future__ import annotations

from pathlib import Path

import basix
import basix.ufl
import dolfinx.fem as fem
import numpy as np
import pytest
import ufl
from mpi4py import MPI

from mfpde.limit import mesh as meshes
from mfpde.limit.frame import Motion
from mfpde.limit.space import Space, build_space
from mfpde.limit.transport import Transport

MESHES = Path(__file__).parents[2] / "meshes"
BLOCKS = 3
CASES = {
    "interval": lambda: meshes.box(MPI.COMM_SELF, 1, 5),
    "quadrilateral": lambda: meshes.box(MPI.COMM_SELF, 2, 4),
    "triangle": lambda: meshes.box(MPI.COMM_SELF, 2, 3, simplex=True),
    "hexahedron": lambda: meshes.box(MPI.COMM_SELF, 3, 2),
    "tetrahedron": lambda: meshes.box(MPI.COMM_SELF, 3, 2, simplex=True),
    "disk": lambda: meshes.read(MPI.COMM_SELF, MESHES / "disk.msh", 2),
    "disk of quadrilaterals": lambda: meshes.read(MPI.COMM_SELF, MESHES / "disk_quads.msh", 2),
}


def some_potential(x: np.ndarray, b: int) -> np.ndarray:
    """A smooth function without symmetry, different in every block; x (3, n)."""
    return np.sin(1.3 * x[0] + 0.4 * b) + (0.7 + 0.2 * b) * x[0] * x[1] - 0.5 * np.cos(x[1] + 0.3 * x[2]) + x[2] ** 2


def motion(dim: int, rng: np.random.Generator) -> Motion:
    """Full metrics, drifts and stretches, so that a transposed index shows."""
    root = rng.normal(size=(BLOCKS, dim, dim)) + 2 * np.eye(dim)
    return Motion(root @ np.swapaxes(root, 1, 2), rng.normal(size=(BLOCKS, dim)), rng.normal(size=(BLOCKS, dim, dim)))


def assembled(space: Space, density: np.ndarray, moving: Motion, b: int) -> np.ndarray:
    """The residual (cells, i) of block b before the mass matrix, by DOLFINx."""
    cell = space.cell.name
    dg = basix.ufl.element(
        "Lagrange", cell, space.degree, lagrange_variant=basix.LagrangeVariant.legendre, discontinuous=True
    )
    v = fem.functionspace(space.mesh, dg)
    w = fem.functionspace(space.mesh, ("Lagrange", space.potential_degree))
    rho, potential, psi = fem.Function(v), fem.Function(w), ufl.TestFunction(v)
    for c in range(space.owned):
        rho.x.array[v.dofmap.cell_dofs(c)] = density[c, :, b]
    potential.interpolate(lambda x: some_potential(x, b))
    x, n = ufl.SpatialCoordinate(space.mesh), ufl.FacetNormal(space.mesh)
    metric, drift, stretch = (ufl.as_tensor(a[b].tolist()) for a in (moving.metric, moving.drift, moving.stretch))
    u = -metric * ufl.grad(potential) - drift - stretch * x
    through = [ufl.dot(u(side), n("+")) for side in "+-"]
    a = ufl.max_value(abs(through[0]), abs(through[1]))
    flux = 0.5 * (rho("+") * through[0] + rho("-") * through[1]) + 0.5 * a * (rho("+") - rho("-"))
    degree = {"quadrature_degree": 2 * space.degree + space.potential_degree - 1}
    form = rho * ufl.dot(u, ufl.grad(psi)) * ufl.dx(metadata=degree)
    form -= flux * (psi("+") - psi("-")) * ufl.dS(metadata=degree)
    vector = fem.assemble_vector(fem.form(form)).array
    return np.stack([vector[v.dofmap.cell_dofs(c)] for c in range(space.owned)])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("degree", "extra"), [(1, 0), (2, 0), (2, 1), (3, 0)])
def test_kernel_equals_assembled_form(name: str, degree: int, extra: int) -> None:
    """Same numbers to 1e-12 on every cell type and degree, with metric, drift and stretch."""
    space = build_space(CASES[name](), degree, degree + extra)
    rng = np.random.default_rng(degree)
    density = rng.normal(size=(space.owned, space.size, BLOCKS))
    moving = motion(space.dim, rng)
    nodes = np.zeros((*space.nodes.shape[:2], 3))
    nodes[..., : space.dim] = space.nodes
    potential = np.stack([some_potential(np.moveaxis(nodes, 2, 0), b) for b in range(BLOCKS)], axis=2)
    rate, _ = Transport(space, BLOCKS).rate(density, potential, moving)
    for b in range(BLOCKS):
        expected = space.invert_mass(assembled(space, density, moving, b)[:, :, None])[:, :, 0]
        assert np.abs(rate[:, :, b] - expected).max() <= 1e-12 * np.abs(expected).max()
