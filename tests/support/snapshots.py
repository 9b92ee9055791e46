"""Made-up snapshots and reports for the tests of `mfpde.output`: `from snapshots import make_snapshot`."""

from __future__ import annotations

import itertools

import numpy as np

from mfpde.output.fields.lattice import KINDS, element, tabulate
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.records.report import BlockIndicators, BlockMoments, Report, Step

CELLS = tuple(KINDS)
DEGREES = (1, 2, 3)


def box(cell, count):
    """Vertices (cells, v, d) of a mesh of [−1, 1]^d, in basix's order; simplices by cutting every cube (Kuhn)."""
    dim = KINDS[cell].dim
    corners = np.array(list(itertools.product((0, 1), repeat=dim)), dtype=float)[:, ::-1]
    if KINDS[cell].tensor:
        parts = [corners]
    else:
        steps = np.eye(dim)
        parts = [
            np.vstack([np.zeros(dim), np.cumsum(steps[list(order)], axis=0)])
            for order in itertools.permutations(range(dim))
        ]
    places = np.array(list(itertools.product(range(count), repeat=dim)), dtype=float)
    return np.concatenate([2.0 * (place + part)[None] / count - 1.0 for place in places for part in parts])


def distort(vertices, amount, seed=0):
    """Move the vertices inside the box, each the same way in all cells that share it."""
    rng = np.random.default_rng(seed)
    flat = vertices.reshape(-1, vertices.shape[-1])
    places, which = np.unique(flat.round(9), axis=0, return_inverse=True)
    inside = (np.abs(places) < 1.0 - 1e-6).all(axis=1)
    moved = places + amount * inside[:, None] * rng.uniform(-1.0, 1.0, places.shape)
    return moved[which.ravel()].reshape(vertices.shape)


def frames(dim, layers, seed=0):
    """Affine maps of the layers: lower triangular, unlike each other, one of them mirrored."""
    rng = np.random.default_rng(seed)
    matrix = np.tril(rng.uniform(0.3, 1.5, (layers, dim, dim)))
    matrix[-1, 0] *= -1.0
    return rng.normal(size=(layers, dim)), matrix


def place(cell, degree, vertices, centre, matrix):
    """θ (L, cells, n, d) of the Lagrange points."""
    straight = tabulate(cell, 1, element(cell, degree).points) @ vertices
    return np.einsum("lij,cnj->lcni", matrix, straight) + centre[:, None, None]


def exponents(dim, degree):
    """Exponents (m, d) of all monomials of at most this total degree."""
    return np.array([e for e in itertools.product(range(degree + 1), repeat=dim) if sum(e) <= degree])


def polynomial(dim, degree, seed=0):
    """A random polynomial (…, d) -> (…) with all monomials of at most this total degree."""
    powers = exponents(dim, degree)
    factors = np.random.default_rng(seed).uniform(0.5, 1.5, len(powers))
    return lambda x: (np.prod(x[..., None, :] ** powers, axis=-1) * factors).sum(axis=-1)


def make_snapshot(cell, degree, *, layers=3, count=3, family="heads", distortion=0.0, density=None, seed=0):
    """A snapshot with layer-dependent frames; `density` is a function of θ, random in every cell without one."""
    dim = KINDS[cell].dim
    centre, matrix = frames(dim, layers, seed)
    points = place(cell, degree, distort(box(cell, count), distortion), centre, matrix)
    rng = np.random.default_rng(seed + 1)
    return Snapshot(
        family=family,
        coordinates=("q", "v", "b")[:dim],
        cell=cell,
        degree=degree,
        points=points,
        density=rng.normal(size=points.shape[:3]) if density is None else density(points),
        potential=rng.normal(size=points.shape[:3]),
        velocity=rng.normal(size=points.shape),
    )


def make_report(tau, snapshots=(), **history):
    """A report with plausible numbers and moments for every layer of every snapshot."""
    rng = np.random.default_rng(int(1000 * tau))
    moments = []
    for snapshot in snapshots:
        for layer in range(snapshot.layers):
            root = rng.normal(size=(snapshot.dim, snapshot.dim))
            mean = rng.normal(size=snapshot.dim)
            moments.append(BlockMoments(snapshot.family, layer, 1.0 + 1e-16 * layer, mean, root @ root.T))
    return Report(
        tau=tau,
        history={
            "tau": tau,
            "risk": 1.0 / (3.0 + tau),
            "energy": 0.4,
            "gap": float("nan"),
            "risk_error": float("nan"),
            "steps": 7.0,
        }
        | history,
        moments=tuple(moments),
        indicators=tuple(BlockIndicators(b.family, b.layer, 1e-9, 0.1, -1e-3, 1e-6, 1e-15) for b in moments),
        steps=(Step(tau, 0.1, 1e-6, True, "error"),),
        gaps=tuple((b.family, b.layer, 0.1 * b.layer) for b in moments),
        gap_margin=0.0,
        timings={"tau": tau, "wall": 2.5, "right_hand_sides": 12.0},
        snapshots=tuple(snapshots),
    )
