"""The interior penalty operator: the assembled form's numbers, symmetric, coercive for any D, blind to constants."""

from __future__ import annotations

from pathlib import Path

import basix
import basix.ufl
import dolfinx.fem as fem
import numpy as np
import pytest
import ufl
from mpi4py import MPI

from mfpde.limit.diffusion.diffusion import Diffusion
from mfpde.limit.diffusion.interior_penalty import InteriorPenalty
from mfpde.limit.fem import mesh as meshes
from mfpde.limit.fem.elements import tabulate
from mfpde.limit.fem.space import Space, build_space
from mfpde.limit.transport.transport import Transport
from unit.test_transport import CASES, motion

MESHES = Path(__file__).parents[2] / "meshes"
BLOCKS, TEMPERATURE = 3, 0.3
FEW = {  # small enough for all eigenvalues
    **{name: CASES[name] for name in ("interval", "quadrilateral", "triangle", "tetrahedron")},
    "hexahedron": lambda: meshes.box(MPI.COMM_SELF, 3, 2),
}


def kites() -> object:
    """A square of 3 × 3 quadrilaterals with moved vertices, so that Jacobians vary."""
    mesh = meshes.box(MPI.COMM_SELF, 2, 3)
    x = mesh.geometry.x
    x[:, :2] += 0.13 * np.sin(np.array([[3.1, 1.7], [2.3, 4.9]]) @ x[:, :2].T).T
    return mesh


FEW["kites"] = kites


def metrics(dim: int) -> np.ndarray:
    """Full symmetric positive definite D (b, d, d); the last a thousand times flatter in one direction."""
    metric = motion(dim, np.random.default_rng(2), BLOCKS).metric
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(dim, dim)))[0]
    metric[-1] = turn @ np.diag(np.geomspace(1e-3, 1.0, dim)) @ turn.T
    return metric


def assembled(space: Space, density: np.ndarray, metric: np.ndarray, sigma: float) -> np.ndarray:
    """a(ρ, ψ_i) (cells, i) of one block, by DOLFINx."""
    dg = basix.ufl.element(
        "Lagrange", space.cell.name, space.degree, lagrange_variant=basix.LagrangeVariant.legendre, discontinuous=True
    )
    v = fem.functionspace(space.mesh, dg)
    rho, psi = fem.Function(v), ufl.TestFunction(v)
    for c in range(space.owned):
        rho.x.array[v.dofmap.cell_dofs(c)] = density[c]
    n, d = ufl.FacetNormal(space.mesh), ufl.as_tensor(metric.tolist())
    degree = {"quadrature_degree": 2 * space.degree + space.potential_degree - 1}
    mean = {u: ufl.dot(d * ufl.avg(ufl.grad(u)), n("+")) for u in (rho, psi)}
    step = {u: u("+") - u("-") for u in (rho, psi)}
    form = ufl.dot(d * ufl.grad(rho), ufl.grad(psi)) * ufl.dx(metadata=degree)
    form += (
        -mean[rho] * step[psi] - mean[psi] * step[rho]
        + sigma * ufl.dot(n("+"), d * n("+")) * step[rho] * step[psi]
    ) * ufl.dS(metadata=degree)  # fmt: skip
    vector = fem.assemble_vector(fem.form(form)).array
    return np.stack([vector[v.dofmap.cell_dofs(c)] for c in range(space.owned)])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("degree", [1, 2])
def test_operator_equals_assembled_form(name: str, degree: int) -> None:
    """Same numbers to 1e-12 on every cell type, with a full D of its own in every block."""
    space, sigma = build_space(MPI.COMM_SELF, CASES[name](), degree, degree), 7.0
    operator, metric = InteriorPenalty(Transport(space, BLOCKS), sigma), metrics(space.dim)
    density = np.random.default_rng(degree).normal(size=(space.owned, space.size, BLOCKS))
    found = operator.apply(operator.coefficients(metric), density)
    expected = assembled(space, density[..., -1], metric[-1], sigma)
    assert np.abs(found[..., -1] - expected).max() <= 1e-12 * np.abs(expected).max()


def matrices(space: Space, operator: InteriorPenalty, metric: np.ndarray) -> np.ndarray:
    """K of every block (b, n, n)."""
    size, coefficients = space.owned * space.size, operator.coefficients(metric)
    columns = []
    for j in range(size):
        unit = np.zeros((size, BLOCKS))
        unit[j] = 1.0
        columns.append(operator.apply(coefficients, unit.reshape(space.owned, space.size, BLOCKS)).reshape(size, -1).T)
    return np.stack(columns, axis=2)


@pytest.mark.parametrize(
    ("name", "degree"),
    [(name, degree) for name in FEW for degree in (1, 2, 3) if degree == 1 or name[:5] not in ("hexah", "tetra")],
)
def test_symmetric_and_coercive(name: str, degree: int) -> None:
    """K = Kᵀ; a(ρ, ρ) ≥ ¼ Σ∫D∇ρ·∇ρ, as the docstring of the penalty has it; only constants have a(ρ, ρ) = 0."""
    space = build_space(MPI.COMM_SELF, FEW[name](), degree, degree)
    metric = metrics(space.dim)
    broken = brokens(space, metric)
    for k, inside in zip(matrices(space, InteriorPenalty(Transport(space, BLOCKS)), metric), broken, strict=True):
        size = np.abs(k).max()
        assert np.abs(k - k.T).max() <= 1e-13 * size
        assert np.linalg.eigvalsh(k - 0.25 * inside)[0] > -1e-12 * size
        eigenvalues = np.linalg.eigvalsh(k)
        assert abs(eigenvalues[0]) < 1e-13 * size < 1e-8 * size < eigenvalues[1]


def brokens(space: Space, metric: np.ndarray) -> list[np.ndarray]:
    """Σ_K ∫_K D∇ψ_i·∇ψ_j (n, n) of every block, by numpy."""
    inverse = space.inverse_jacobian_at(space.tables.points)
    gradient = np.einsum("cqak,qia->cqik", inverse, space.tables.density_gradient)
    measure = space.tables.weights * space.scale_at(space.tables.points)
    out = []
    for d in metric:
        cells = np.einsum("cq,cqik,kl,cqjl->cij", measure, gradient, d, gradient, optimize=True)
        whole = np.zeros((space.owned, space.size, space.owned, space.size))
        for c, block in enumerate(cells):
            whole[c, :, c] = block
        out.append(whole.reshape(space.owned * space.size, -1))
    return out


@pytest.mark.parametrize("name", ["quadrilateral", "kites", "tetrahedron"])
def test_the_implicit_step_solves_its_system(name: str) -> None:
    """(M + t β⁻¹ K) u = M r to the tolerance; the rate is −β⁻¹ M⁻¹ K ρ; mass is kept by both."""
    space, time = build_space(MPI.COMM_SELF, FEW[name](), 2, 2), 0.4
    transport, metric, rng = Transport(space, BLOCKS), metrics(space.dim), np.random.default_rng(5)
    right = rng.normal(size=(space.owned, space.size, BLOCKS))
    diffusion = Diffusion(transport, TEMPERATURE, 1e-12)
    try:
        for scale in (1.0, 1.1, 3.0):  # the preconditioner of the first serves the second
            solved = diffusion.solve(right, scale * metric, time, np.zeros_like(right))
            residual = solved - time * diffusion.rate(solved, scale * metric) - right
            assert np.abs(residual).max() < 1e-9 * np.abs(right).max()
            assert np.abs(mass(space, solved - right)).max() < 1e-11 * np.abs(mass(space, np.abs(right))).max()
            lost = mass(space, diffusion.rate(right, metric))
            assert np.abs(lost).max() < 1e-13 * np.abs(diffusion.rate(right, metric)).max()
        assert 0 < diffusion.iterations < 1500
    finally:
        diffusion.close()


def mass(space: Space, density: np.ndarray) -> np.ndarray:
    """∫ρ̂ (b,)."""
    fine = tabulate(space.cell, space.degree, 1, 2 * space.degree + 2)
    return np.einsum("q,cq,qi,cib->b", fine.weights, space.scale_at(fine.points), fine.density, density)
