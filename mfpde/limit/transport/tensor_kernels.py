"""The compiled loops of `limit.transport.transport` on boxes: tensor-product cells, all of one size and shape.

The numbers of a pack (`codegen`) are vectors, and its work is written out in full (`simd`): nothing between
coefficients and results touches memory but what the registers cannot hold. Matrices act axis by axis
(`sum_factorisation`); traces on facets are extrapolated from the points inside.

A right-hand side takes two passes. `_look` evaluates a pack: the integrals over its cell, and for each facet the
density and the speed through it. If the cell across has had its turn, the flux is found at once, and left for both;
otherwise the numbers wait. `_finish` adds the fluxes of all facets in one order, which does not depend on who found
them. A cell is finished as soon as its neighbours have been looked at, so that what waits stays in the cache.

What waits, per pack, in rows of w numbers (d dimensions, m points, n = p + 1 modes in each direction):

    for each axis, for its facet at 0, at 1:  m^(d−1) rows: density, then the flux;  m^(d−1) rows: speed;  1: Σ ∮a
    n^d rows: the integrals over the cell, times −1
    1 row: Σ ρ̂²

Cells are X ↦ centre + J (X − ½) with the same J. Of a block's metric D and motion b + C ξ a pack has, in rows of w

    T = |det J| J⁻¹ D J⁻ᵀ (d × d),  β = |det J| J⁻¹ b (d),  Γ = |det J| J⁻¹ C (d × d),  G = Γ J (d × d),

and then −|det J| J⁻¹ û = T ∇V + β + Γ centre + G (X − ½), the gradient in the reference cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from mfpde.limit.transport.codegen import (
    Pen,
    Shape,
    along_all,
    gradient_at,
    interpolate,
    load,
    load_potential,
    shape_of,
)
from mfpde.limit.transport.simd import Memory, Number, dot
from mfpde.limit.transport.sum_factorisation import Factors, Tensor
from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Places = NDArray[np.int64]
LATER, NEVER = -1, -2  # in `Order.across`: the cell across comes later; there is none
_AHEAD = 1  # cells, for whose numbers the memory is asked in advance


class Order(NamedTuple):
    """When cells are processed and where their numbers wait; c cells of which the last ones are ghosts."""

    need: NDArray[np.int32]  # (owned,) the last owned cell that is looked at before this one is finished
    slot: NDArray[np.int32]  # (c,) where its packs wait
    across: Places  # (c, 2d) where the facet's numbers wait in the first pack of the cell across, LATER or NEVER
    centre: Array  # (c, d)
    start: Places  # (packs,) first block of each pack
    motion: Array  # (packs, rows, w) what differs between blocks, see below


@kernel()
def rate(  # type: ignore[no-untyped-def]
    shape, order, density, ghosted, potential, factor, volume, empty, waiting, out, fastest
) -> None:  # fmt: skip
    """∂_τ ρ̂ (owned, i, b) of all owned cells, and the largest speed over the volume (b,).

    Args:
        shape: see `packs.shape_of`.
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
            _finish(  # type: ignore[call-arg]
                shape, waiting, (order.slot[c] * order.start.size + o) * pack, out,
                c * out.shape[1] * out.shape[2] + order.start[o], out.shape[2], factor, least, fastest, order.start[o],
            )  # fmt: skip
    for b in range(fastest.size):
        fastest[b] /= volume


@kernel()
def _look_at(shape, order, density, potential, waiting, c):  # type: ignore[no-untyped-def]
    """First pass of cell c."""
    count, pack = density.shape[2], waiting.shape[2] * waiting.shape[3]
    for o in range(order.start.size):
        _look(  # type: ignore[call-arg]
            shape, density, c * density.shape[1] * count + order.start[o],
            potential, c * potential.shape[1] * count + order.start[o], count,
            order.motion, o * order.motion.shape[1] * order.motion.shape[2], order.centre, c * order.centre.shape[1],
            waiting, (order.slot[c] * order.start.size + o) * pack, order.across, c * order.across.shape[1], o * pack,
        )  # fmt: skip


@intrinsic
def _look(  # type: ignore[no-untyped-def]
    _typing, shape, density, density_at, potential, potential_at, stride, motion, motion_at, centre, centre_at,
    waiting, waiting_at, across, across_at, pack_at,
):  # fmt: skip
    """First pass of a pack, whose numbers are at these places of these arrays."""
    sizes = shape_of(shape)
    signature = types.void(
        shape, density, density_at, potential, potential_at, stride, motion, motion_at, centre, centre_at,
        waiting, waiting_at, across, across_at, pack_at,
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pen = Pen(context, builder, signature.args, values, sizes.width)
        rho, phi = pen.memory(1, 2), pen.memory(3, 4)
        line, here = sizes.factors, pen.memory(10, 11)
        density = load(rho, pen.values[5], (sizes.modes,) * sizes.dim)
        potential = load_potential(sizes, phi, pen.values[5])
        later = [rho.row(i + _AHEAD * density.size, pen.values[5]) for i in range(density.size)]
        later += [phi.row(i + _AHEAD * potential.size, pen.values[5]) for i in range(potential.size)]
        integrals = _evaluate(sizes, line, density, potential, pen.memory(6, 7), pen.memory(8, 9), here, later)
        for i, number in enumerate(integrals.ravel()):
            here.row(2 * sizes.dim * sizes.facet_rows + i).store(number)
        square: Number = 0.0
        for number in density.ravel():
            square = number.times_plus(number, square)
        here.row(sizes.rows - 1).store(square)
        for f, (_, _, first) in enumerate(sizes.facets()):
            place = pen.integer(12, 13, f)
            with builder.if_then(builder.icmp_signed(">=", place, ir.IntType(64)(0))):
                _meet(sizes, line, here.row(first), pen.memory(10).at(builder.add(place, pen.values[14])))
            with builder.if_then(builder.icmp_signed("==", place, ir.IntType(64)(NEVER))):
                for q in (*range(sizes.facet), 2 * sizes.facet):
                    here.row(first + q).store(0.0)
        return context.get_dummy_value()

    return signature, write


def _evaluate(
    sizes: Shape,
    line: Factors,
    density: Tensor,
    potential: Tensor,
    motion: Memory,
    centre: Memory,
    here: Memory,
    later: list[Memory],
) -> Tensor:
    """The integrals over the cell; traces are left in memory.

    All axes but the first are taken to the points at once, then lines of points one by one, so that few numbers are at
    hand at a time.
    """
    others = (sizes.points,) * (sizes.dim - 1)
    density, slopes = interpolate(sizes, line, density, potential)
    frames = [_Velocity(sizes, line, a, motion, centre) for a in range(sizes.dim)]
    value = np.empty((sizes.points, *others), dtype=object)
    velocity = [np.empty_like(value) for _ in frames]
    tested = [np.empty((sizes.modes, *others), dtype=object) for _ in frames]
    for q, place in enumerate(np.ndindex(*others)):
        for memory in later[q :: sizes.facet]:
            memory.fetch()
        at = (slice(None), *place)
        value[at] = line.value.along(0, density[at])
        gradient = gradient_at(line, slopes, at)
        for a, frame in enumerate(frames):
            velocity[a][at] = frame.line(place, gradient)
            tested[a][at] = (line.test if a else line.test_slope).along(0, value[at] * velocity[a][at])
        _leave(sizes, 0, q, line.trace.along(0, value[at]), line.outward.along(0, velocity[0][at]), here)
    for a in range(1, sizes.dim):
        traces, outward = (
            np.moveaxis(each, a, 0).reshape(2, -1)
            for each in (line.trace.along(a, value), line.outward.along(a, velocity[a]))
        )
        for q in range(sizes.facet):
            _leave(sizes, a, q, traces[:, q], outward[:, q], here)
    done = tested[0]
    for a in range(1, sizes.dim):
        done = line.test_slope.along(a, tested[a], line.test.along(a, done))
        tested = [line.test.along(a, each) for each in tested]
    return done


class _Velocity:
    """−|det J| J⁻¹ û = T ∇V + β + Γ centre + G (X − ½), its component along an axis."""

    def __init__(self, sizes: Shape, line: Factors, axis: int, motion: Memory, centre: Memory) -> None:
        d, rows = sizes.dim, sizes.dim * sizes.dim
        self._centred = line.points - 0.5
        self._tensor = [motion.row(axis * d + k).load() for k in range(d)]
        self._inside = [motion.row(2 * rows + d + axis * d + k).load() for k in range(d)]
        self._middle = motion.row(rows + axis).load()
        for k in range(d):
            self._middle = centre.at(k).spread().times_plus(motion.row(rows + d + axis * d + k).load(), self._middle)
        self._along = [self._inside[0] * float(x) for x in self._centred[: len(self._centred) // 2]]

    def line(self, place: tuple[int, ...], gradient: list[Tensor]) -> Tensor:
        """At the points of a line along the first axis, which is at this place of the others."""
        count, frame = len(self._centred), self._middle
        for inside, q in zip(self._inside[1:], place, strict=True):
            frame = dot([self._centred[q]], [inside], frame)
        out = np.empty(count, dtype=object)
        for q in range(count):
            mirrored = count - 1 - q
            number = (
                frame + self._along[q] if q < mirrored else frame - self._along[mirrored] if q > mirrored else frame
            )
            for tensor, slope in zip(self._tensor, gradient, strict=True):
                number = slope[q].times_plus(tensor, number)
            out[q] = number
        return out


def _leave(sizes: Shape, axis: int, q: int, trace: Tensor, outward: Tensor, here: Memory) -> None:
    """Density and outward speed (2,) at point q of the two facets across an axis."""
    for end in range(2):
        first = (2 * axis + end) * sizes.facet_rows
        here.row(first + q).store(trace[end])
        here.row(first + sizes.facet + q).store(outward[end])


def _meet(sizes: Shape, line: Factors, here: Memory, there: Memory) -> None:
    """2F through a facet, on both sides, and ∮a; nothing is fused, so that both sides could have found the same."""
    points = sizes.facet
    area: Number = 0.0
    weights = np.ones(1)
    for _ in range(sizes.dim - 1):
        weights = np.multiply.outer(weights, line.weights)
    for q, weight in enumerate(weights.ravel()):
        value, through = here.row(q).load(), here.row(points + q).load()
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
    _typing, shape, waiting, waiting_at, out, out_at, stride, factor, least, fastest, fastest_at
):  # fmt: skip
    """Second pass of a pack: the rate, and the largest Σ ∮a where the cell holds mass."""
    sizes = shape_of(shape)
    signature = types.void(
        shape, waiting, waiting_at, out, out_at, stride, factor, least, fastest, fastest_at
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pen = Pen(context, builder, signature.args, values, sizes.width)
        line, here, result = sizes.factors, pen.memory(1, 2), pen.memory(3, 4)
        first = 2 * sizes.dim * sizes.facet_rows
        total = np.empty((sizes.modes,) * sizes.dim, dtype=object)
        for i, place in enumerate(np.ndindex(*total.shape)):
            total[place] = here.row(first + i).load()
        speed: Number = 0.0
        flux = []
        for _, _, begin in sizes.facets():
            rows = np.empty(sizes.facet, dtype=object)
            for q in range(sizes.facet):
                rows[q] = here.row(begin + q).load()
            flux.append(rows.reshape((sizes.points,) * (sizes.dim - 1)))
            speed = here.row(begin + 2 * sizes.facet).load() + speed
        later = [result.row(i + _AHEAD * total.size, pen.values[5]) for i in range(total.size)]
        for axis in range(sizes.dim):
            for memory in later[axis :: sizes.dim]:
                memory.fetch(to_write=True)
            at_0, at_1 = flux[2 * axis : 2 * axis + 2]
            even, odd = (along_all(line.test, np.array(each, dtype=object)) for each in (at_1 + at_0, at_1 - at_0))
            slices = np.moveaxis(total, axis, 0)
            for i, end in enumerate(line.ends):
                for place in np.ndindex(*even.shape):
                    part: Number = (odd if i % 2 else even)[place]
                    slices[(i, *place)] = part.times_plus(0.5 * float(end), slices[(i, *place)])
        scale = pen.spread(6)
        for i, number in enumerate(total.ravel()):
            result.row(i, pen.values[5]).store(number * scale)
        known = pen.memory(8, 9)
        counted = here.row(sizes.rows - 1).load().where_above(pen.spread(7), speed, 0.0)
        known.store(counted.largest(known.load()))
        return context.get_dummy_value()

    return signature, write
