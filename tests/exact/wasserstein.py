"""Distances between densities: W₁ of their projections onto lines, sliced W₁.

On a line W₁ is ∫|F − G| ds, of measures with atoms, and of those with negative ones, where it is the Kantorovich norm
of their difference. The largest over directions is at most W₁ in the plane; a map of one measure's points to the
other's gives a bound from above (`coupled`).
"""

from __future__ import annotations

import basix
import numpy as np
from numpy.typing import NDArray

from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]
DIRECTIONS = 24
ATOMS = 65_536  # about so many for a density


def on_a_line(one: Array, mass: Array, other: Array, weight: Array) -> float:
    """∫|F − G| ds of atoms at `one` and `other`, whose masses are scaled to one."""
    place = np.concatenate([one, other])
    order = np.argsort(place)
    jump = np.concatenate([mass / mass.sum(), -weight / weight.sum()])[order]
    return float(np.abs(np.cumsum(jump))[:-1] @ np.diff(place[order]))


def sliced(one: Array, mass: Array, other: Array, weight: Array) -> Array:
    """W₁ of the projections of plane measures, points (n, 2) and masses (n,); no direction is that of an axis."""
    angle = np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    lines = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.array([on_a_line(one @ line, mass, other @ line, weight) for line in lines])


def coupled(one: Array, other: Array, mass: Array) -> float:
    """Σ m_j |X_j − Y_j|, at least W₁ of the two measures with the same masses."""
    return float(mass @ np.linalg.norm(one - other, axis=-1))


def spread(points: Array, mass: Array) -> float:
    """√tr Σ: the standard deviation of a measure in the plane."""
    mean = mass @ points / mass.sum()
    return float(np.sqrt(mass @ ((points - mean) ** 2).sum(axis=1) / mass.sum()))


def atoms(snapshot: Snapshot, layer: int, count: int = ATOMS) -> tuple[Array, Array]:
    """Points (n, d) and masses (n,), which may be negative, of a density in a file: a midpoint rule in every cell.

    Few cells have many points each, so that the distance of the atoms from what they stand for does not show.
    """
    cell = getattr(basix.CellType, snapshot.cell)
    element = basix.create_element(basix.ElementFamily.P, cell, snapshot.degree, basix.LagrangeVariant.equispaced)
    per_cell = (count / snapshot.points.shape[1]) ** (1.0 / snapshot.points.shape[-1])
    points, weights = basix.make_quadrature(cell, 2 * max(int(per_cell), 3) - 1)
    table = element.tabulate(1, points)[..., 0]

    theta = np.einsum("qn,cni->cqi", table[0], snapshot.points[layer])
    jacobian = np.einsum("aqn,cni->cqia", table[1:], snapshot.points[layer])
    density = np.einsum("qn,cn->cq", table[0], snapshot.density[layer])
    mass = np.abs(np.linalg.det(jacobian)) * weights * density
    return theta.reshape(-1, theta.shape[-1]), mass.ravel()
