"""Generating the code of kernels on boxes, and what a kernel reads.

A kernel handles one cell and w neighbouring blocks at a time: the numbers of w blocks are one SIMD vector. w is 4 where
there are as many blocks; the last vector ends with the last block, if need be with blocks that the one before holds
too. Coefficients are read where they are, in arrays (c, i, b).
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple

import numpy as np
from basix import CellType
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from mfpde.limit.fem.elements import potential_element
from mfpde.limit.transport.simd import Memory
from mfpde.limit.transport.sum_factorisation import AxisOperator, AxisOperators, Tensor, axis_operators

TENSOR_CELLS = (CellType.interval, CellType.quadrilateral, CellType.hexahedron)
type Zeros = tuple[tuple[int, ...], ...]  # five tuples as long as the numbers of `Shape`: the compiler knows lengths


class Shape(NamedTuple):
    """The numbers for which a kernel is generated, and what follows from them."""

    dim: int
    modes: int  # in each direction
    nodes: int
    points: int
    width: int  # w

    @property
    def zeros(self) -> Zeros:
        """The first argument of a kernel of this shape."""
        return tuple((0,) * length for length in self)

    @property
    def facet(self) -> int:
        """Points of a facet."""
        return self.points ** (self.dim - 1)

    @property
    def facet_rows(self) -> int:
        """Rows of a facet among the results of the first pass."""
        return 2 * self.facet + 1

    @property
    def rows(self) -> int:
        """Rows of a cell among the results of the first pass."""
        return 2 * self.dim * self.facet_rows + self.modes**self.dim + 1

    @property
    def operators(self) -> AxisOperators:
        """The 1-D matrices."""
        return axis_operators(self.modes - 1, self.nodes - 1, self.points)

    def facets(self) -> list[tuple[int, int, int]]:
        """Axis, end and first row of each facet."""
        return [(a, e, (2 * a + e) * self.facet_rows) for a in range(self.dim) for e in range(2)]


def generated(write: Callable[..., None]) -> Any:
    """A function for use in kernels whose instructions `write` generates, once, when the kernel is compiled.

    Args:
        write: takes a `Shape` and the function's other arguments by name: arrays and floats as `Memory` that begins
            with them, integers as they are in the code. The function itself takes `Shape.zeros` first.
    """
    names = ("_typing", *signature(write).parameters)

    def definition(_typing: Any, zeros: Any, *kinds: Any) -> Any:
        shape = Shape(*(len(each) for each in zeros.types))

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            def argument(kind: Any, value: Any) -> Any:
                if isinstance(kind, types.Array):
                    return Memory(builder, shape.width, context.make_array(kind)(context, builder, value).data)
                if isinstance(kind, types.Float):
                    return Memory(builder, shape.width, cgutils.alloca_once_value(builder, value))
                return value

            write(shape, *map(argument, signature.args[1:], values[1:]))
            return context.get_dummy_value()

        return types.void(zeros, *kinds), emit

    definition.__name__, definition.__doc__ = write.__name__, write.__doc__
    definition.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in names])  # type: ignore[attr-defined]
    return intrinsic(definition)


def load(memory: Memory, stride: Any, shape: tuple[int, ...], order: NDArray[np.intp] | None = None) -> Tensor:
    """Coefficients as a tensor; `order` has the place of each in memory."""
    out = np.empty(shape, dtype=object)
    for i, place in enumerate(np.ndindex(*shape)):
        out[place] = memory.row(i if order is None else int(order[i]), stride).load()
    return out


def load_potential(shape: Shape, memory: Memory, stride: Any) -> Tensor:
    """Nodal values as a tensor."""
    points = potential_element(TENSOR_CELLS[shape.dim - 1], shape.nodes - 1).points
    return load(memory, stride, (shape.nodes,) * shape.dim, np.lexsort(np.round(points, 9).T[::-1]))


def along_all(operator: AxisOperator, tensor: Tensor) -> Tensor:
    """The same matrix along every axis."""
    for axis in reversed(range(tensor.ndim)):
        tensor = operator.along(axis, tensor)
    return tensor


def interpolate(
    shape: Shape, operators: AxisOperators, density: Tensor, potential: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """ρ̂, and the tensors from which `gradient_at` obtains ∂_a V, at the points of all axes but the first."""
    slopes = dict[int, Tensor]()
    for axis in reversed(range(1, shape.dim)):
        density = operators.value.along(axis, density)
        slopes = {a: operators.potential.along(axis, each) for a, each in slopes.items()}
        slopes[axis] = operators.slope.along(axis, potential)
        potential = operators.potential.along(axis, potential)
    return density, [potential, *(slopes[axis] for axis in range(1, shape.dim))]


def gradient_at(operators: AxisOperators, slopes: list[Tensor], at: tuple[Any, ...]) -> list[Tensor]:
    """∇V at points that differ along the first axis alone."""
    return [(operators.potential if a else operators.slope).along(0, each[at]) for a, each in enumerate(slopes)]
