"""Cut density files by VTK's filters: does everything that is left still have its layer? `python cuts.py FILE.vtu…`

A program of its own, since a filter that reads out of bounds may end the process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pyvista as pv


def cuts(grid: pv.UnstructuredGrid) -> Iterator[tuple[str, pv.DataSet]]:
    """What filters that cut cells, or make cells of others, leave of a grid."""
    density, (q, v, b) = grid["density"], grid.center
    low, high = (density.min() + share * np.ptp(density) for share in (0.3, 0.7))
    width = 0.25 * (grid.bounds[1] - grid.bounds[0])
    yield "clip", grid.clip(normal=(1.0, 0.3, 0.0), origin=(q, v, b))
    yield "slice", grid.slice(normal=(1.0, 0.2, 0.0), origin=(q, v, b))
    yield "contour", grid.contour([low, high], scalars="density")
    yield "iso-volume", grid.clip_scalar("density", value=low, invert=False).clip_scalar("density", value=high)
    yield "box", grid.clip_box([q - width, q + width, v - 99.0, v + 99.0, b - 99.0, b + 99.0], invert=False)
    yield "surface", grid.extract_surface(algorithm="dataset_surface", nonlinear_subdivision=2)
    yield "threshold", grid.threshold([1, 1], scalars="layer")


def keeps_layers(left: pv.DataSet, layers: set[int]) -> bool:
    """Is something left, with one of these layers at every point and cell?"""
    named = [data["layer"] for data in (left.point_data, left.cell_data) if "layer" in data]
    return left.n_cells > 0 and bool(named) and all(set(np.unique(each)) <= layers for each in named)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        whole = pv.read(name)
        layers = set(np.unique(whole["layer"]))
        wrong = [what for what, left in cuts(whole) if not keeps_layers(left, layers)]
        sys.stdout.write(f"{name}: {', '.join(wrong) or 'all keep the layer'}\n")
        sys.stdout.flush()
