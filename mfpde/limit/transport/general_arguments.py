"""The arguments of the compiled loops of `limit.transport.general`: tables, geometry, chunks, scratch memory, frames.

Axes: c cells, i density, j potential, v vertices, a and k directions, l columns of a chunk; q points inside a cell,
then f·q on its facets, together p.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int32]
type Axes = tuple[int, ...]  # zeros, as many as dimensions: the compiler knows its length


class Operators(NamedTuple):
    """Tables of the reference cell, with weights and signs folded in."""

    value: Array  # (q, i): ρ̂ inside
    trace: Array  # (f·q, i): ρ̂ on the facets
    slope: Array  # (q·a, j): ∇V inside
    gradient: Array  # (p·a, j): ∇V inside and on the facets
    vertex: Array  # (p, v)
    test: Array  # (i, q·a): w ∂_a ψ_i
    lift: Array  # (i, f·q): −w ψ_i
    weights: Array  # (q,) inside
    facet_weights: Array  # (q,) on a facet
    normal: Array  # (f, a): outward, scaled with the surface element


class Cells(NamedTuple):
    """Geometry of all cells, and where the values of their neighbours are."""

    vertices: Array  # (c, v, k)
    inverse: Array  # (c, g, a, k): J⁻¹; g = 1 on affine cells, else p
    scale: Array  # (c, g): |det J|
    inverse_mass: Array  # (c, 1, 1) or (c, i, i)
    volume: Array  # (owned,)
    across: Index  # (c, f·q): place in `Scratch.traces` of ρ̂ on the other side, for block 0; -1 if there is none


class Chunks(NamedTuple):
    """Which cells are processed together (n chunks), in which order, and where their results are between the passes."""

    first: Index  # (n,) their first cell; chunks of owned cells, then chunks of ghosts
    cells: Index  # (n,) number of cells
    need: Index  # (owned chunks,) the last owned chunk whose first pass precedes the second pass of this one
    slot: Index  # (n,) place of the results of the first pass
    blocks: int


class Scratch(NamedTuple):
    """The numbers of one chunk, and those of s chunks between the passes."""

    density: Array  # (i, l)
    potential: Array  # (j, l)
    inverse: Array  # (a, k, l): J⁻¹
    scaled: Array  # (a, k, l): |det J| J⁻¹
    scale: Array  # (l,): |det J|
    half: Array  # (a, k, l): |det J| J⁻¹ D
    tensor: Array  # (a, k, l): |det J| J⁻¹ D J⁻ᵀ
    value: Array  # (q, l): ρ̂ inside
    mass: Array  # (l,)
    gradient: Array  # (p·a, l): ∇V in the reference cell
    inside: Array  # (q·a, l): ρ̂ |det J| J⁻¹ û
    corner: Array  # (v, a, l): the frame's velocity at the vertices
    frame: Array  # (p, a, l): the same at all points
    across: Array  # (2, f·q, l): traces of the cells across
    interior: Array  # (f, l): 1 on facets that two cells share, else 0
    flux: Array  # (f·q, l)
    lifted: Array  # (i, l)
    speed: Array  # (l,)
    traces: Array  # (s, 2, f·q, l): ρ̂ and |det J| J⁻¹ û·n
    residual: Array  # (s, i, l)
    square: Array  # (s, l): Σ_i ρ̂_i²


class Frames(NamedTuple):
    """The frames of the blocks, for every column: metric D (a, k, l), drift b (a, l), stretch C (a, k, l)."""

    metric: Array
    drift: Array
    stretch: Array
    moving: bool
