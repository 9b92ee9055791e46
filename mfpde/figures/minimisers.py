"""Where a layer's potential is smallest on its mesh: local minimisers found on a raster and polished by zooming in.

The certificate (`gap.csv`) searches all of R^d for the minimum; here the search is restricted to what can be drawn: the
mesh, and the piecewise polynomial that the file holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from mfpde.figures.raster import mesh_box, rasterise
from mfpde.output.fields.evaluator import Evaluator
from mfpde.output.fields.snapshot import Snapshot

Array = NDArray[np.float64]

_PIXELS = {1: 2000, 2: 140, 3: 30}
_GRID = {1: 9, 2: 9, 3: 5}  # points a direction of each finer grid
_ZOOMS = 18
_MOST = 5  # of the local minimisers, the deepest


@dataclass(frozen=True, eq=False)
class Minimisers:
    """Local minimisers of V on the mesh of one layer, the deepest first.

    Attributes:
        theta: (k, d), k ≥ 1.
        value: V there, (k,).
        inside: (k,) false where V still falls towards the outside of the mesh; only the first can be.
    """

    theta: Array
    value: Array
    inside: NDArray[np.bool_]


def minimisers(snapshot: Snapshot, layer: int) -> Minimisers:
    """The deepest local minimisers of V on the mesh of a layer.

    The least value on the mesh is always among them, on its boundary if need be.
    """
    box = mesh_box(snapshot, (layer,))
    raster = rasterise(snapshot, layer, box, _PIXELS[snapshot.dim])
    evaluate = Evaluator(snapshot, layer)
    found = [_zoom(evaluate, place, raster.pixel) for place in _candidates(raster.potential, raster.axes)]

    # Zooming in from neighbouring pixels may end at the same place.
    size = np.ptp(box, axis=1)
    kept: list[tuple[Array, float, bool]] = []
    for place, value in sorted(found, key=lambda pair: pair[1]):
        if all(np.abs((place - other) / size).max() > 0.01 for other, _, _ in kept):
            kept.append((place, value, True))

    # V may be lower still on the boundary, where no pixel has all its neighbours.
    potential = snapshot.potential[layer]
    lowest = np.unravel_index(potential.argmin(), potential.shape)
    edge = (snapshot.points[layer][lowest], float(potential[lowest]))
    scale = float(np.ptp(potential)) + 1e-300
    if not kept or edge[1] < kept[0][1] - 1e-6 * scale:
        kept.insert(0, (*edge, False))

    kept = kept[:_MOST]
    return Minimisers(
        np.array([place for place, _, _ in kept]),
        np.array([value for _, value, _ in kept]),
        np.array([inside for _, _, inside in kept]),
    )


def _candidates(values: Array, axes: tuple[Array, ...]) -> list[Array]:
    """Pixels that lie no higher than all their neighbours, none of them outside the mesh; the lowest few."""
    below = np.where(np.isfinite(values), values, -np.inf)  # what is outside rules its neighbours out
    low = np.isfinite(values) & (below == minimum_filter(below, size=3, mode="constant", cval=-np.inf))
    order = np.argsort(values[low], kind="stable")[: 4 * _MOST]
    return [np.array([axis[k] for axis, k in zip(axes, place, strict=True)]) for place in np.argwhere(low)[order]]


def _zoom(evaluate: Evaluator, start: Array, pixel: Array) -> tuple[Array, float]:
    """Search ever smaller grids around the lowest point so far."""
    dim = len(start)
    line = np.linspace(-1.0, 1.0, _GRID[dim])
    offsets = np.stack(np.meshgrid(*[line] * dim, indexing="ij"), axis=-1).reshape(-1, dim)

    place, reach, value = start, 1.5 * pixel, np.inf
    for _ in range(_ZOOMS):
        points = place + reach * offsets
        potential = evaluate(points)[1]
        lowest = int(np.where(np.isfinite(potential), potential, np.inf).argmin())
        place, value = points[lowest], float(potential[lowest])
        reach = 0.5 * reach

    return place, value
