"""Packs: one cell and w neighbouring blocks, a block in each lane; and how a kernel that is being written reaches them.

w is 4 where there are as many blocks; the last pack of a cell ends with the last block, if need be over blocks that the
pack before it has too. Coefficients are read where they are, in arrays (c, i, b).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from basix import CellType
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from mfpde.limit.fem.space import potential_element
from mfpde.limit.transport.simd import Lanes, Memory
from mfpde.limit.transport.sum_factorisation import Factors, Line, Tensor, factors

TENSOR_CELLS = (CellType.interval, CellType.quadrilateral, CellType.hexahedron)


class Shape(NamedTuple):
    """The lengths of the tuples in `shape`, and what follows from them."""

    dim: int
    modes: int
    nodes: int
    points: int
    width: int

    @property
    def facet(self) -> int:
        """Points of a facet."""
        return self.points ** (self.dim - 1)

    @property
    def facet_rows(self) -> int:
        """Rows of a facet in what waits."""
        return 2 * self.facet + 1

    @property
    def rows(self) -> int:
        """Rows of a pack in what waits."""
        return 2 * self.dim * self.facet_rows + self.modes**self.dim + 1

    @property
    def factors(self) -> Factors:
        """The 1-D matrices."""
        return factors(self.modes - 1, self.nodes - 1, self.points)

    def facets(self) -> list[tuple[int, int, int]]:
        """Axis, end and first row of each facet."""
        return [(a, e, (2 * a + e) * self.facet_rows) for a in range(self.dim) for e in range(2)]


def shape_of(kind: Any) -> Shape:
    """From the type of a kernel's first argument, five tuples of zeros: the compiler knows their lengths."""
    return Shape(*(len(each) for each in kind.types))


class Pen:
    """Where the arguments of an intrinsic are, by their numbers."""

    def __init__(self, context: Any, builder: Any, kinds: Any, values: Any, width: int) -> None:
        self.builder, self.values, self.width = builder, values, width
        self._pointer = {
            n: context.make_array(kind)(context, builder, value).data
            for n, (kind, value) in enumerate(zip(kinds, values, strict=True))
            if isinstance(kind, types.Array)
        }

    def memory(self, array: int, place: int | None = None) -> Memory:
        """The array that is argument number `array`, from the place on that is argument number `place`."""
        begin = ir.IntType(64)(0) if place is None else self.values[place]
        return Memory(self.builder, self.width, self._pointer[array], begin)

    def spread(self, number: int) -> Lanes:
        """The float that is argument number `number`, in all lanes."""
        slot = cgutils.alloca_once_value(self.builder, self.values[number])
        return Memory(self.builder, self.width, slot, ir.IntType(64)(0)).spread()

    def integer(self, array: int, place: int, shift: int) -> Any:
        """A number of an array of integers."""
        index = self.builder.add(self.values[place], ir.IntType(64)(shift))
        return self.builder.load(self.builder.gep(self._pointer[array], [index]))


def load(memory: Memory, stride: Any, shape: tuple[int, ...], order: NDArray[np.intp] | None = None) -> Tensor:
    """Coefficients as a tensor, in an order of theirs."""
    out = np.empty(shape, dtype=object)
    for i, place in enumerate(np.ndindex(*shape)):
        out[place] = memory.row(i if order is None else int(order[i]), stride).load()
    return out


def load_potential(sizes: Shape, memory: Memory, stride: Any) -> Tensor:
    """Nodal values as a tensor."""
    points = potential_element(TENSOR_CELLS[sizes.dim - 1], sizes.nodes - 1).points
    return load(memory, stride, (sizes.nodes,) * sizes.dim, np.lexsort(np.round(points, 9).T[::-1]))


def along_all(line: Line, tensor: Tensor) -> Tensor:
    """The same matrix along every axis."""
    for axis in reversed(range(tensor.ndim)):
        tensor = line.along(axis, tensor)
    return tensor


def interpolate(sizes: Shape, line: Factors, density: Tensor, potential: Tensor) -> tuple[Tensor, list[Tensor]]:
    """ρ̂, and what ∂_a V is made of, at the points of all axes but the first."""
    slopes = dict[int, Tensor]()
    for axis in reversed(range(1, sizes.dim)):
        density = line.value.along(axis, density)
        slopes = {a: line.potential.along(axis, each) for a, each in slopes.items()}
        slopes[axis] = line.slope.along(axis, potential)
        potential = line.potential.along(axis, potential)
    return density, [potential, *(slopes[axis] for axis in range(1, sizes.dim))]


def gradient_at(line: Factors, slopes: list[Tensor], at: tuple[Any, ...]) -> list[Tensor]:
    """∇V at the points of a line along the first axis."""
    return [(line.potential if a else line.slope).along(0, each[at]) for a, each in enumerate(slopes)]
