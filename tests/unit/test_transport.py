"""The transport kernel against the same scheme written in UFL and assembled by DOLFINx."""

from __future__ import annotations

from pathlib import Path

import dolfinx.fem as fem
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.frame import Motion
from mfpde.limit.fem.space import Space, build_space
from mfpde.limit.transport.general import GeneralTransport
from mfpde.limit.transport.tensor import TensorTransport, common_jacobian
from mfpde.limit.transport.transport import Transport, velocity_moments
from support.upwind import upwind

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


def motion(dim: int, rng: np.random.Generator, blocks: int = BLOCKS) -> Motion:
    """Full metrics, drifts and stretches, so that a transposed index shows."""
    root = rng.normal(size=(blocks, dim, dim)) + 2 * np.eye(dim)
    return Motion(root @ np.swapaxes(root, 1, 2), rng.normal(size=(blocks, dim)), rng.normal(size=(blocks, dim, dim)))


def nodal(space: Space, blocks: int) -> np.ndarray:
    """`some_potential` at the nodes, (c, j, b)."""
    nodes = np.zeros((*space.nodes.shape[:2], 3))
    nodes[..., : space.dim] = space.nodes
    return np.stack([some_potential(np.moveaxis(nodes, 2, 0), b) for b in range(blocks)], axis=2)


def assembled(space: Space, density: np.ndarray, moving: Motion, b: int) -> np.ndarray:
    """The residual (cells, i) of block b before the mass matrix, by DOLFINx."""
    peer = upwind(space, density[:, :, b], lambda x: some_potential(x, b), moving, b)
    v = peer.space
    vector = fem.assemble_vector(fem.form(peer.form)).array
    return np.stack([vector[v.dofmap.cell_dofs(c)] for c in range(space.owned)])


def check(space: Space, blocks: int, seed: int, tested: range) -> None:
    """The kernel's numbers are the assembled form's to 1e-12, in the blocks to be tested."""
    rng = np.random.default_rng(seed)
    density = rng.normal(size=(space.owned, space.size, blocks))
    moving = motion(space.dim, rng, blocks)
    rate, _ = Transport(space, blocks).rate(density, nodal(space, blocks), moving)
    for b in tested:
        expected = space.invert_mass(assembled(space, density, moving, b)[:, :, None])[:, :, 0]
        assert np.abs(rate[:, :, b] - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("degree", "extra"), [(1, 0), (2, 0), (2, 1), (3, 0)])
def test_kernel_equals_assembled_form(name: str, degree: int, extra: int) -> None:
    """Same numbers to 1e-12 on every cell type and degree, with metric, drift and stretch."""
    check(build_space(MPI.COMM_SELF, CASES[name](), degree, degree + extra), BLOCKS, degree, range(BLOCKS))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("blocks", [1, 17])
def test_any_number_of_blocks(name: str, blocks: int) -> None:
    """One block, and more than a vector register holds; the last too."""
    check(build_space(MPI.COMM_SELF, CASES[name](), 2, 2), blocks, blocks, range(0, blocks, max(1, blocks - 1)))


@pytest.mark.parametrize("name", ["disk", "disk of quadrilaterals"])
def test_chunks_wait_for_their_neighbours(name: str) -> None:
    """More blocks than columns, so that every cell is a chunk: the same numbers as with a few blocks."""
    space, blocks = build_space(MPI.COMM_SELF, CASES[name](), 1, 1), 200
    rng = np.random.default_rng(3)
    density, potential = rng.normal(size=(space.owned, space.size, 2)), nodal(space, 2)
    moving = motion(space.dim, rng, 2)
    fields = (moving.metric, moving.drift, moving.stretch)
    many = Motion(*(np.concatenate([x] * (blocks // 2)) for x in fields))
    few = Transport(space, 2)
    rate, fastest = few.rate(density, potential, moving)
    moments = velocity_moments(few.gradient_moments(density, potential).value, moving.metric)
    transport = Transport(space, blocks)
    density, potential = np.tile(density, blocks // 2), np.tile(potential, blocks // 2)
    for _ in range(2):
        again, speed = transport.rate(density, potential, many)
        assert np.abs(again - np.tile(rate, blocks // 2)).max() <= 1e-13 * np.abs(rate).max()
        assert speed == pytest.approx(np.tile(fastest, blocks // 2), rel=1e-13)
    summed = velocity_moments(transport.gradient_moments(density, potential).value, many.metric)
    assert np.abs(summed.shear[:2] - moments.shear).max() <= 1e-12 * np.abs(moments.shear).max()


@pytest.mark.parametrize("slope", [0.0, 0.3], ids=["box", "parallelograms"])
def test_boxes_two_ways(slope: float) -> None:
    """Cells that are all alike have loops of their own; they give what the loops for any cells give."""
    mesh, blocks = meshes.box(MPI.COMM_SELF, 2, 9), 5
    mesh.geometry.x[:, 1] += slope * mesh.geometry.x[:, 0]
    space, rng = build_space(MPI.COMM_SELF, mesh, 2, 2), np.random.default_rng(11)
    jacobian = common_jacobian(space)
    assert jacobian is not None
    density, potential = rng.normal(size=(space.owned, space.size, blocks)), nodal(space, blocks)
    moving = motion(2, rng, blocks)
    ways = TensorTransport(space, blocks, jacobian), GeneralTransport(space, blocks)
    for _ in range(2):
        (rate, speed), (other, other_speed) = (way.rate(density, density, potential, moving, 1e-9) for way in ways)
        assert np.abs(rate - other).max() <= 1e-12 * np.abs(other).max()
        assert speed == pytest.approx(other_speed, rel=1e-12)
    sums, others = (way.moments(density, potential).sum(axis=0) for way in ways)
    assert np.abs(sums - others).max() <= 1e-12 * np.abs(others).max()


def test_boxes_are_told_from_other_meshes() -> None:
    """Simplices and cells that differ share no Jacobian; nor do potentials work that the points do not resolve."""
    found = {name: common_jacobian(build_space(MPI.COMM_SELF, make(), 2, 2)) for name, make in CASES.items()}
    assert {name for name, jacobian in found.items() if jacobian is None} == {
        "triangle", "tetrahedron", "disk", "disk of quadrilaterals",
    }  # fmt: skip
    assert common_jacobian(build_space(MPI.COMM_SELF, CASES["quadrilateral"](), 1, 2)) is None


@pytest.mark.parametrize("name", CASES)
def test_velocity_moments(name: str) -> None:
    """∫ρ̂ {1, ξ, ξξᵀ, û₀, û₀ξᵀ} by numpy, in the same quadrature."""
    space, rng = build_space(MPI.COMM_SELF, CASES[name](), 2, 2), np.random.default_rng(5)
    tables = space.tables
    density, potential = rng.normal(size=(space.owned, space.size, BLOCKS)), nodal(space, BLOCKS)
    metric = motion(space.dim, rng).metric
    found = velocity_moments(Transport(space, BLOCKS).gradient_moments(density, potential).value, metric)
    mass = np.einsum("q,cq,qi,cib->cqb", tables.weights, space.scale_at(tables.points), tables.density, density)
    inverse = space.inverse_jacobian_at(tables.points)
    velocity = -np.einsum("bkl,cqal,qja,cjb->cqkb", metric, inverse, tables.potential_gradient, potential)
    points = space.points(tables.vertex)
    for got, expected in (
        (found.mass, np.einsum("cqb->b", mass)),
        (found.mean, np.einsum("cqb,cqk->bk", mass, points)),
        (found.second, np.einsum("cqb,cqk,cql->bkl", mass, points, points)),
        (found.velocity, np.einsum("cqb,cqkb->bk", mass, velocity)),
        (found.shear, np.einsum("cqb,cqkb,cql->bkl", mass, velocity, points)),
    ):
        assert np.abs(got - expected).max() <= 1e-12 * (1.0 + np.abs(expected).max())
