"""Mean and covariance of each family and layer through τ, and the window of θ in which a density is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.figures.raster import union, within_mesh
from mfpde.figures.style import symbol
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]

_REACH = 3.2  # standard deviations to each side of the mean


@dataclass(frozen=True, eq=False)
class Block:
    """The moments of one family in one layer.

    Attributes:
        tau: of the reports, (t,).
        mean: (t, d).
        covariance: (t, d, d).
    """

    tau: Array
    mean: Array
    covariance: Array

    def until(self, tau: float) -> Block:
        """The reports up to and including τ."""
        kept = self.tau <= tau * (1 + 1e-9) + 1e-12
        return Block(self.tau[kept], self.mean[kept], self.covariance[kept])

    def box(self) -> Array:
        """The last mean and a few standard deviations around it, with the whole path of the mean; (d, 2)."""
        reach = _REACH * np.sqrt(np.maximum(np.diagonal(self.covariance[-1]), 0.0))
        low = np.minimum(self.mean[-1] - reach, self.mean.min(axis=0))
        high = np.maximum(self.mean[-1] + reach, self.mean.max(axis=0))
        return np.stack([low, high], axis=-1)

    def ellipse(self, deviations: float, plane: tuple[int, int], points: int = 90) -> Array:
        """The curve {m + s·√C u: |u| = 1} (points, 2) of the last report, in two coordinates."""
        i, j = plane
        covariance = self.covariance[-1][np.ix_([i, j], [i, j])]
        values, axes = np.linalg.eigh(covariance)
        angle = np.linspace(0.0, 2.0 * np.pi, points)
        circle = np.stack([np.cos(angle), np.sin(angle)])
        root = axes * np.sqrt(np.maximum(values, 0.0))
        return np.asarray((self.mean[-1, [i, j], None] + deviations * root @ circle).T)


def blocks_of(run: RunReader, snapshot: Snapshot) -> list[Block]:
    """The moments of each layer of a family.

    The rows of moments.csv may belong to families of other dimensions, whose columns are more or fewer.
    """
    table, dim = run.moments, snapshot.dim
    found = []
    for layer in range(snapshot.layers):
        rows = np.flatnonzero((table["family"] == snapshot.family) & (table["layer"] == layer))
        mean = np.stack([table[f"mean_{i}"][rows] for i in range(dim)], axis=-1).astype(np.float64)
        covariance = np.empty((len(rows), dim, dim))
        for i in range(dim):
            for j in range(i, dim):
                covariance[:, i, j] = covariance[:, j, i] = table[f"cov_{i}{j}"][rows]
        found.append(Block(np.asarray(table["tau"][rows], dtype=np.float64), mean, covariance))

    return found


def window(snapshot: Snapshot, blocks: Sequence[Block]) -> Array:
    """The box (d, 2) in which all these layers are drawn: where their mass is, no larger than the meshes."""
    return within_mesh(union([block.box() for block in blocks]), snapshot)


def chosen(run: RunReader, family: str | None, tau: float | None) -> tuple[str, float]:
    """The first family and the last report unless given.

    Raises:
        InputError: for a family that the run does not have, or before its first report.
    """
    taus, families = run.taus, run.families
    if not len(taus) or not families:
        raise no_report(run)
    name = families[0] if family is None else family
    if name not in families:
        raise InputError(f"family {name!r}: unknown; allowed: {', '.join(families)}")
    return name, float(taus[-1]) if tau is None else float(tau)


def no_report(run: RunReader) -> InputError:
    """The error of a picture of a run before its first report."""
    return InputError(f"run directory {run.directory}: holds no report yet; there is nothing to draw")


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """The places of at most so many reports, evenly thinned, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def theta_name(snapshot: Snapshot) -> str:
    """The coordinates of θ, as in a title: (q, v)."""
    each = [symbol(name) for name in snapshot.coordinates]
    return each[0] if len(each) == 1 else f"({', '.join(each)})"
