"""Sums over nodes that the ranks share, with the same bits for any number of ranks.

Consecutive nodes form blocks, which do not depend on the ranks, and a rank has whole blocks. The terms of a block are
added in the order of its nodes, as ordinary numbers; the sums of blocks are added exactly (`parallel.exact_sum`).
What is done to each node alone is written out coordinate by coordinate: products of matrices may round differently
with the number of their rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.limit.state import NodesPart
from mfpde.parallel.compilation import kernel
from mfpde.parallel.exact_sum import LEVELS, Share, add_exactly, pack, unpack
from mfpde.parallel.reductions import sum_over_ranks

Array = NDArray[np.float64]
type Moments = tuple[Array, Array, Array]
BLOCK = 64  # nodes; what a rank has begins at a multiple of it


def weighted(mass: Array, values: Array) -> Share:
    """This rank's share of Σ_j m_j φ(X_j), (L, c), from masses (L, n) and values (L, n, c)."""
    levels = np.zeros((LEVELS, len(values), values.shape[2]))
    _add_blocks(np.ascontiguousarray(mass), np.ascontiguousarray(values), levels)
    return Share(levels)


def beside(shares: list[Share]) -> Share:
    """Shares (L, c) side by side, (L, Σ c)."""
    return Share(np.concatenate([share.levels for share in shares], axis=2))


def summed(comm: MPI.Intracomm, shares: list[Share]) -> list[Array]:
    """The sums over ranks; one reduction."""
    return unpack(sum_over_ranks(comm, pack(shares)), shares)


def applied(matrix: Array, points: Array) -> Array:
    """A x (…, n, d) of matrices (…, d, d) and points (…, n, d)."""
    out = np.empty_like(points)
    for i in range(points.shape[-1]):
        columns = [matrix[..., i, j, None] * points[..., j] for j in range(points.shape[-1])]
        out[..., i] = sum(columns[1:], columns[0])
    return out


def products(values: Array) -> Array:
    """All x_i x_j (…, d d) of values (…, d)."""
    return np.concatenate([values * values[..., i : i + 1] for i in range(values.shape[-1])], axis=-1)


def moments(part: NodesPart, comm: MPI.Intracomm = MPI.COMM_SELF) -> Moments:
    """Mass (L,), mean (L, d) and covariance (L, d, d) of the nodes of all ranks; two reductions."""
    return moments_with(part, [part.mass], comm)[0]


def moments_with(part: NodesPart, masses: Sequence[Array], comm: MPI.Intracomm) -> list[Moments]:
    """The same for nodes of several masses (L, n) each; two reductions."""
    layers, _, dim = part.position.shape
    values = np.concatenate([np.ones_like(part.position[..., :1]), part.position], axis=2)
    sums = summed(comm, [weighted(mass, values) for mass in masses])
    total, means = [each[:, 0] for each in sums], [each[:, 1:] / each[:, :1] for each in sums]

    pairs = zip(masses, means, strict=True)
    second = summed(comm, [weighted(mass, products(part.position - mean[:, None])) for mass, mean in pairs])
    covariances = [
        each.reshape(layers, dim, dim) / mass[:, None, None] for each, mass in zip(second, total, strict=True)
    ]
    return list(zip(total, means, covariances, strict=True))


def distance(one: Moments, other: Moments) -> float:
    """Between means and covariances, in the standard deviations of the first."""
    std = np.sqrt(np.diagonal(one[2], axis1=1, axis2=2))
    mean = np.abs(one[1] - other[1]) / std
    covariance = np.abs(one[2] - other[2]) / (std[:, :, None] * std[:, None, :])
    return max(float(mean.max()), float(covariance.max()))


@kernel()
def _add_blocks(mass: Array, values: Array, out: Array) -> None:
    """Add mass times values to the levels (3, L, c), block by block."""
    layers, nodes, columns = values.shape
    sums = np.empty(columns)
    for b in range(layers):
        for first in range(0, nodes, BLOCK):
            sums[:] = 0.0
            for j in range(first, min(first + BLOCK, nodes)):
                for c in range(columns):
                    sums[c] += mass[b, j] * values[b, j, c]
            add_exactly(sums, out[0, b], out[1, b], out[2, b])
