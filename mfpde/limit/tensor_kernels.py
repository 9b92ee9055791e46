"""The compiled loops of `limit.transport` on boxes: tensor-product cells, all of one size and shape.

Memory: a *pack* is one cell and w neighbouring blocks, w = 8 where there are as many; the last pack of a cell ends with
the last block, if need be over blocks that the pack before it has too. All numbers of a pack are vectors of w lanes, one
block in each, and its work is written out in full (`limit.lanes`): coefficients are read where they are, (c, i, b), and
nothing between them and the results touches memory but what the registers cannot hold. Matrices act axis by axis
(`limit.lines`); traces on facets are extrapolated from the points inside.

A right-hand side takes two passes. `_look` evaluates a pack: the integrals over its cell, and for each facet the density
and the speed through it. If the cell across has had its turn, the flux is found at once and left for both cells;
otherwise the numbers wait. `_finish` adds the fluxes of all facets in one order, which does not depend on who found
them. A cell is finished as soon as its neighbours have been looked at, so that what waits stays in the cache.

What waits, per pack, in rows of w numbers (d dimensions, m points, n = p + 1 modes in each direction):

    for each axis, for its facet at 0, at 1:  m^(d−1) rows: density, then the flux;  m^(d−1) rows: speed;  1: Σ ∮a
    n^d rows: the integrals over the cell, times −1
    1 row: Σ ρ̂²

Cells are X ↦ centre + J (X − ½) with the same J. Of a block's metric D and motion b + C ξ a pack has, in rows of w numbers

    T = |det J| J⁻¹ D J⁻ᵀ (d × d),  β = |det J| J⁻¹ b (d),  Γ = |det J| J⁻¹ C (d × d),  G = Γ J (d × d),

and then −|det J| J⁻¹ û = T ∇V + β + Γ centre + G (X − ½), the gradient in the reference cell.

`shape`, the first argument of all, is five tuples of zeros as long as d, n, the nodes and the points in each direction,
and w: the compiler knows their lengths.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from basix import CellType
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from mfpde.limit.lanes import Lanes, Memory
from mfpde.limit.lines import Factors, Line, Tensor, factors
from mfpde.limit.space import potential_element

Array = NDArray[np.float64]
Places = NDArray[np.int64]
LATER, NEVER = -1, -2  # in `Order.across`: the cell across comes later; there is none
_AHEAD = 2  # cells, for which memory is asked in advance


class Order(NamedTuple):
    """When cells are processed and where their numbers wait; c cells of which the last ones are ghosts."""

    need: NDArray[np.int32]  # (owned,) the last owned cell that is looked at before this one is finished
    slot: NDArray[np.int32]  # (c,) where its packs wait
    across: Places  # (c, 2d) where the facet's numbers wait in the first pack of the cell across, LATER or NEVER
    centre: Array  # (c, d)
    start: Places  # (packs,) first block of each pack
    motion: Array  # (packs, rows, w) what differs between blocks, see below


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


def node_order(cell: Any, degree: int) -> NDArray[np.intp]:
    """Which node of the potential is where in the tensor, the last direction fastest."""
    return np.lexsort(np.round(potential_element(cell, degree).points, 9).T[::-1])


@njit(cache=True)
def rate(  # type: ignore[no-untyped-def]
    shape, order, density, ghosted, potential, factor, volume, empty, waiting, out, fastest
) -> None:  # fmt: skip
    """∂_τ ρ̂ (owned, i, b) of all owned cells, and the largest speed over the volume (b,).

    Args:
        shape: see above.
        order: of the cells, and the motion.
        density: owned cells, (owned, i, b).
        ghosted: all cells, of which the ghosts are read, (c, i, b).
        potential: all cells, (c, j, b).
        factor: −1/|det J|.
        volume: |K|.
        empty: mass below which a cell does not count for `fastest`.
        waiting: (s, packs, rows, w) for what waits.
        out: the rate.
        fastest: the speed; zero before.
    """
    owned, least = density.shape[0], (empty / volume) ** 2
    for c in range(owned, ghosted.shape[0]):
        _look_at(shape, order, ghosted, potential, waiting, c)
    done = -1
    for c in range(owned):
        while done < order.need[c]:
            done += 1
            _look_at(shape, order, density, potential, waiting, done)
        pack = waiting.shape[2] * waiting.shape[3]
        for o in range(order.start.size):
            _finish(
                shape, waiting, (order.slot[c] * order.start.size + o) * pack, out,
                c * out.shape[1] * out.shape[2] + order.start[o], out.shape[2], factor, least, fastest, order.start[o],
            )  # fmt: skip
    for b in range(fastest.size):
        fastest[b] /= volume


@njit(cache=True)
def _look_at(shape, order, density, potential, waiting, c):  # type: ignore[no-untyped-def]
    """First pass of cell c."""
    count, pack = density.shape[2], waiting.shape[2] * waiting.shape[3]
    for o in range(order.start.size):
        _look(
            shape, density, c * density.shape[1] * count + order.start[o],
            potential, c * potential.shape[1] * count + order.start[o], count,
            order.motion, o * order.motion.shape[1] * order.motion.shape[2], order.centre, c * order.centre.shape[1],
            waiting, (order.slot[c] * order.start.size + o) * pack, order.across, c * order.across.shape[1], o * pack,
        )  # fmt: skip


@intrinsic
def _look(  # type: ignore[no-untyped-def]
    typing, shape, density, density_at, potential, potential_at, stride, motion, motion_at, centre, centre_at,
    waiting, waiting_at, across, across_at, pack_at,
):  # fmt: skip
    """First pass of a pack, whose numbers are at these places of these arrays."""
    sizes = _shape(shape)
    signature = types.void(
        shape, density, density_at, potential, potential_at, stride, motion, motion_at, centre, centre_at,
        waiting, waiting_at, across, across_at, pack_at,
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pen = _Pen(context, builder, signature.args, values, sizes.width)
        rho, phi = pen.memory(1, 2), pen.memory(3, 4)
        line, here = sizes.factors, pen.memory(10, 11)
        coefficients = _load(rho, pen.values[5], (sizes.modes,) * sizes.dim)
        value = _all(line.value, coefficients)
        gradient = _gradient(sizes, line, _potential(sizes, phi, pen.values[5]))
        velocity = _velocity(sizes, line, gradient, pen.memory(6, 7), pen.memory(8, 9))
        for f, (axis, end, first) in enumerate(sizes.facets()):
            trace, through = (each.along(axis, of) for each, of in ((line.trace, value), (line.outward, velocity[axis])))
            own = [each.take([end], axis=axis).ravel() for each in (trace, through)]
            place = pen.integer(12, 13, f)
            with builder.if_else(builder.icmp_signed(">=", place, ir.IntType(64)(0))) as (known, unknown):
                with known:
                    there = pen.memory(10).at(builder.add(place, pen.values[14]))
                    _meet(sizes, line, own, here.row(first), there)
                with unknown:
                    with builder.if_else(builder.icmp_signed("==", place, ir.IntType(64)(LATER))) as (later, never):
                        with later:
                            for q, number in enumerate(np.concatenate(own)):
                                here.row(first + q).store(number)
                        with never:
                            for q in (*range(sizes.facet), 2 * sizes.facet):
                                here.row(first + q).store(0.0)
        inside = 2 * sizes.dim * sizes.facet_rows
        integrals = _test(sizes, line, [value * each for each in velocity])
        for i, number in enumerate(integrals.ravel()):
            here.row(inside + i).store(number)
        square = 0.0
        for number in coefficients.ravel():
            square = number.times_plus(number, square)
        here.row(sizes.rows - 1).store(square)
        return context.get_dummy_value()

    return signature, write


def _shape(kind: Any) -> Shape:
    return Shape(*(len(each) for each in kind.types))


class _Pen:
    """Where the arguments of an intrinsic are."""

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


def _load(memory: Memory, stride: Any, shape: tuple[int, ...], order: NDArray[np.intp] | None = None) -> Tensor:
    """Coefficients as a tensor, in an order of theirs; those of a later cell are asked for."""
    out = np.empty(shape, dtype=object)
    size = int(np.prod(shape))
    for i, place in enumerate(np.ndindex(*shape)):
        row = i if order is None else int(order[i])
        out[place] = memory.row(row, stride).load()
        memory.row(row + _AHEAD * size, stride).fetch()
    return out


def _potential(sizes: Shape, memory: Memory, stride: Any) -> Tensor:
    """Nodal values as a tensor."""
    cell = [CellType.interval, CellType.quadrilateral, CellType.hexahedron][sizes.dim - 1]
    return _load(memory, stride, (sizes.nodes,) * sizes.dim, node_order(cell, sizes.nodes - 1))


def _all(line: Line, tensor: Tensor) -> Tensor:
    """The same matrix along every axis."""
    for axis in reversed(range(tensor.ndim)):
        tensor = line.along(axis, tensor)
    return tensor


def _gradient(sizes: Shape, line: Factors, potential: Tensor) -> list[Tensor]:
    """∇V at the points: what different components have in common is found once."""
    plain, slopes = potential, dict[int, Tensor]()
    for axis in reversed(range(sizes.dim)):
        slopes = {a: line.potential.along(axis, each) for a, each in slopes.items()}
        slopes[axis] = line.slope.along(axis, plain)
        if axis:
            plain = line.potential.along(axis, plain)
    return [slopes[axis] for axis in range(sizes.dim)]


def _velocity(sizes: Shape, line: Factors, gradient: list[Tensor], motion: Memory, centre: Memory) -> list[Tensor]:
    """−|det J| J⁻¹ û = T ∇V + β + Γ centre + G (X − ½) at the points."""
    d = sizes.dim
    numbers = [motion.row(r).load() for r in range(d + 3 * d * d)]
    tensor, drift, stretch, inside = np.split(np.array(numbers, dtype=object), [d * d, d * d + d, 2 * d * d + d])
    middle = [centre.at(k).spread() for k in range(d)]
    out = []
    for a in range(d):
        row = slice(a * d, (a + 1) * d)
        frame = np.array(drift[a], dtype=object)
        for k in range(d):
            frame[()] = middle[k].times_plus(stretch[row][k], frame[()])
        for k in range(d):
            shifted = np.empty((*frame.shape, sizes.points), dtype=object)
            for place in product(np.ndindex(*frame.shape), range(sizes.points)):
                x = float(line.points[place[1]] - 0.5)
                shifted[(*place[0], place[1])] = inside[row][k].times_plus(x, frame[place[0]]) if abs(x) > 1e-14 else frame[place[0]]
            frame = shifted
        for k in range(d):
            for place in np.ndindex(*frame.shape):
                frame[place] = gradient[k][place].times_plus(tensor[row][k], frame[place])
        out.append(frame)
    return out


def _test(sizes: Shape, line: Factors, flux: list[Tensor]) -> Tensor:
    """∫ flux·∇ψ for all ψ, whose axes are summed one by one."""
    waiting = dict(enumerate(flux))
    done = None
    for axis in range(sizes.dim):
        done = None if done is None else line.test.along(axis, done)
        done = line.test_slope.along(axis, waiting.pop(axis), done)
        waiting = {a: line.test.along(axis, each) for a, each in waiting.items()}
    assert done is not None  # noqa: S101  (there is a first axis)
    return done


def _meet(sizes: Shape, line: Factors, own: list[Tensor], here: Memory, there: Memory) -> None:
    """2F through a facet, on both sides, and ∮a; nothing is fused, so that both sides could have found the same."""
    points, area = sizes.facet, 0.0
    weights = np.ones(1)
    for _ in range(sizes.dim - 1):
        weights = np.multiply.outer(weights, line.weights)
    for q, (value, through, weight) in enumerate(zip(*own, weights.ravel(), strict=True)):
        other, back = there.row(q).load(), there.row(points + q).load()
        a = abs(through).largest(abs(back))
        flux = (value * through - other * back) + a * (value - other)
        here.row(q).store(flux)
        there.row(q).store(-flux)
        area = a.times_plus(float(weight), area)
    here.row(2 * points).store(area)
    there.row(2 * points).store(area)


@intrinsic
def _finish(  # type: ignore[no-untyped-def]
    typing, shape, waiting, waiting_at, out, out_at, stride, factor, least, fastest, fastest_at
):  # fmt: skip
    """Second pass of a pack: the rate, and the largest Σ ∮a where the cell holds mass."""
    sizes = _shape(shape)
    signature = types.void(
        shape, waiting, waiting_at, out, out_at, stride, factor, least, fastest, fastest_at
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pen = _Pen(context, builder, signature.args, values, sizes.width)
        line, here, result = sizes.factors, pen.memory(1, 2), pen.memory(3, 4)
        first = 2 * sizes.dim * sizes.facet_rows
        total = np.empty((sizes.modes,) * sizes.dim, dtype=object)
        for i, place in enumerate(np.ndindex(*total.shape)):
            total[place] = here.row(first + i).load()
        speed = 0.0
        flux = []
        for _, _, begin in sizes.facets():
            rows = np.empty(sizes.facet, dtype=object)
            for q in range(sizes.facet):
                rows[q] = here.row(begin + q).load()
            flux.append(rows.reshape((sizes.points,) * (sizes.dim - 1)))
            speed = here.row(begin + 2 * sizes.facet).load() + speed
        for axis in range(sizes.dim):
            at_0, at_1 = flux[2 * axis : 2 * axis + 2]
            even, odd = (_all(line.test, np.array(each, dtype=object)) for each in (at_1 + at_0, at_1 - at_0))
            slices = np.moveaxis(total, axis, 0)
            for i, end in enumerate(line.ends):
                for place in np.ndindex(*even.shape):
                    part = (odd if i % 2 else even)[place]
                    slices[(i, *place)] = part.times_plus(0.5 * float(end), slices[(i, *place)])
        scale = pen.spread(6)
        for i, number in enumerate(total.ravel()):
            result.row(i, pen.values[5]).store(number * scale)
            result.row(i + _AHEAD * total.size, pen.values[5]).fetch(to_write=True)
        known = pen.memory(8, 9)
        counted = here.row(sizes.rows - 1).load().where_above(pen.spread(7), speed, 0.0)
        known.store(counted.largest(known.load()))
        return context.get_dummy_value()

    return signature, write
