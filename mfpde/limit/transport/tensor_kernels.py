"""The compiled loops of `limit.transport.transport` on boxes: tensor-product cells, all of one size and shape.

The code for one cell and the blocks of a SIMD vector is generated (`codegen`, `simd`): between coefficients and results
only what exceeds the registers touches memory. Matrices act axis by axis (`sum_factorisation`); traces on facets are
extrapolated from the points inside.

A right-hand side takes two passes. The first evaluates a cell: the integrals over it, and for each facet the density
and the speed through it. If the cell across has been evaluated before, the flux is computed at once, for both sides.
The second pass adds the fluxes of all facets in one order, which does not depend on the side that computed them. It
follows as soon as all neighbours of a cell have been evaluated, so that results between the passes stay in the cache.

These results are, per cell and vector, in rows of w numbers (d dimensions, m points, n = p + 1 modes per direction):

    for each axis, for its facet at 0, at 1:  m^(d−1) rows: density, then the flux;  m^(d−1) rows: speed;  1: Σ ∮a
    n^d rows: the integrals over the cell, times −1
    1 row: Σ ρ̂²

Cells are X ↦ centre + J (X − ½) with the same J. A block's metric D and motion b + C ξ become, in rows of w,

    T = |det J| J⁻¹ D J⁻ᵀ (d × d),  β = |det J| J⁻¹ b (d),  Γ = |det J| J⁻¹ C (d × d),  G = Γ J (d × d),

and then −|det J| J⁻¹ û = T ∇V + β + Γ centre + G (X − ½), the gradient in the reference cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from mfpde.limit.transport.codegen import (
    Shape,
    Zeros,
    along_all,
    generated,
    gradient_at,
    interpolate,
    load,
    load_potential,
)
from mfpde.limit.transport.simd import Memory, Number, dot
from mfpde.limit.transport.sum_factorisation import AxisOperators, Tensor
from mfpde.parallel.compilation import kernel

Array = NDArray[np.float64]
Places = NDArray[np.int64]
LATER, BOUNDARY = -1, -2  # in `Order.across`: the cell across is evaluated later; there is none
_AHEAD = 1  # cells, for which coefficients are prefetched


class Order(NamedTuple):
    """When cells are processed and where their results are; c cells of which the last ones are ghosts."""

    need: NDArray[np.int32]  # (owned,) the last owned cell whose first pass precedes the second pass of this one
    slot: NDArray[np.int32]  # (c,) place of its results
    across: Places  # (c, 2d) place of the facet's results in the cell across, for the first vector; LATER or BOUNDARY
    centre: Array  # (c, d)
    start: Places  # (vectors,) first block of each vector
    motion: Array  # (vectors, rows, w): T, β, Γ, G


@kernel()
def rate(
    zeros: Zeros, order: Order, density: Array, ghosted: Array, potential: Array, factor: float, volume: float,
    empty: float, results: Array, out: Array, fastest: Array,
) -> None:  # fmt: skip
    """∂_τ ρ̂ (owned, i, b) of all owned cells, and the largest speed over the volume (b,).

    Args:
        zeros: `codegen.Shape.zeros`.
        order: of the cells, and the motion.
        density: owned cells, (owned, i, b).
        ghosted: all cells, of which the ghosts are read, (c, i, b).
        potential: all cells, (c, j, b).
        factor: −1/|det J|.
        volume: |K|.
        empty: mass below which a cell does not count for `fastest`.
        results: memory for those of the first pass, (slots, vectors, rows, w).
        out: the rate.
        fastest: the speed; zero before.
    """
    owned, least = density.shape[0], (empty / volume) ** 2
    for c in range(owned, ghosted.shape[0]):
        _evaluate(zeros, order, ghosted, potential, results, c)

    done = -1
    for c in range(owned):
        while done < order.need[c]:
            done += 1
            _evaluate(zeros, order, density, potential, results, done)
        size = results.shape[2] * results.shape[3]
        for v in range(order.start.size):
            _second_pass(
                zeros, results, (order.slot[c] * order.start.size + v) * size, out,
                c * out.shape[1] * out.shape[2] + order.start[v], out.shape[2], factor, least, fastest, order.start[v],
            )  # fmt: skip

    for b in range(fastest.size):
        fastest[b] /= volume


@kernel()
def _evaluate(zeros: Zeros, order: Order, density: Array, potential: Array, results: Array, c: int) -> None:
    """First pass of cell c."""
    count, size = density.shape[2], results.shape[2] * results.shape[3]
    for v in range(order.start.size):
        _first_pass(
            zeros, density, c * density.shape[1] * count + order.start[v],
            potential, c * potential.shape[1] * count + order.start[v], count,
            order.motion, v * order.motion.shape[1] * order.motion.shape[2], order.centre, c * order.centre.shape[1],
            results, (order.slot[c] * order.start.size + v) * size, order.across, c * order.across.shape[1], v * size,
        )  # fmt: skip


@generated
def _first_pass(
    shape: Shape, density: Memory, density_at: Any, potential: Memory, potential_at: Any, stride: Any,
    motion: Memory, motion_at: Any, centre: Memory, centre_at: Any, results: Memory, results_at: Any,
    across: Memory, across_at: Any, vector_at: Any,
) -> None:  # fmt: skip
    """First pass of a cell and a vector of blocks, whose numbers are at these places of these arrays."""
    rho, phi, here = density.at(density_at), potential.at(potential_at), results.at(results_at)
    coefficients = load(rho, stride, (shape.modes,) * shape.dim)
    nodal = load_potential(shape, phi, stride)
    later = [rho.row(i + _AHEAD * coefficients.size, stride) for i in range(coefficients.size)]
    later += [phi.row(i + _AHEAD * nodal.size, stride) for i in range(nodal.size)]

    integrals = _integrate(shape, coefficients, nodal, motion.at(motion_at), centre.at(centre_at), here, later)
    for i, number in enumerate(integrals.ravel()):
        here.row(2 * shape.dim * shape.facet_rows + i).store(number)
    square: Number = 0.0
    for number in coefficients.ravel():
        square = number.times_plus(number, square)
    here.row(shape.rows - 1).store(square)

    builder = results.builder
    for f, (_, _, first) in enumerate(shape.facets()):
        place = across.at(across_at).at(f).integer()
        with builder.if_then(builder.icmp_signed(">=", place, ir.IntType(64)(0))):
            _exchange_flux(shape, here.row(first), results.at(builder.add(place, vector_at)))
        with builder.if_then(builder.icmp_signed("==", place, ir.IntType(64)(BOUNDARY))):
            for q in (*range(shape.facet), 2 * shape.facet):
                here.row(first + q).store(0.0)


def _integrate(
    shape: Shape, density: Tensor, potential: Tensor, motion: Memory, centre: Memory, here: Memory, later: list[Memory]
) -> Tensor:
    """The integrals over the cell; traces are stored.

    All axes but the first are interpolated to the points together, then the points along the first axis for one place
    of the others after the other, so that few numbers are needed at a time.
    """
    others, operators = (shape.points,) * (shape.dim - 1), shape.operators
    density, slopes = interpolate(shape, operators, density, potential)
    frames = [_Velocity(shape, a, motion, centre) for a in range(shape.dim)]
    value = np.empty((shape.points, *others), dtype=object)
    velocity = [np.empty_like(value) for _ in frames]
    tested = [np.empty((shape.modes, *others), dtype=object) for _ in frames]

    for q, place in enumerate(np.ndindex(*others)):
        for memory in later[q :: shape.facet]:
            memory.prefetch()
        at = (slice(None), *place)
        value[at] = operators.value.along(0, density[at])
        gradient = gradient_at(operators, slopes, at)
        for a, frame in enumerate(frames):
            velocity[a][at] = frame.along_first(place, gradient)
            tested[a][at] = (operators.test if a else operators.test_slope).along(0, value[at] * velocity[a][at])
        _store_trace(
            shape, 0, q, operators.trace.along(0, value[at]), operators.outward.along(0, velocity[0][at]), here
        )

    for a in range(1, shape.dim):
        traces, outward = (
            np.moveaxis(each, a, 0).reshape(2, -1)
            for each in (operators.trace.along(a, value), operators.outward.along(a, velocity[a]))
        )
        for q in range(shape.facet):
            _store_trace(shape, a, q, traces[:, q], outward[:, q], here)

    done = tested[0]
    for a in range(1, shape.dim):
        done = operators.test_slope.along(a, tested[a], operators.test.along(a, done))
        tested = [operators.test.along(a, each) for each in tested]
    return done


class _Velocity:
    """−|det J| J⁻¹ û = T ∇V + β + Γ centre + G (X − ½), its component along an axis."""

    def __init__(self, shape: Shape, axis: int, motion: Memory, centre: Memory) -> None:
        d, rows = shape.dim, shape.dim * shape.dim
        self._centred = shape.operators.points - 0.5
        self._tensor = [motion.row(axis * d + k).load() for k in range(d)]
        self._inside = [motion.row(2 * rows + d + axis * d + k).load() for k in range(d)]
        self._middle = motion.row(rows + axis).load()
        for k in range(d):
            self._middle = centre.at(k).spread().times_plus(motion.row(rows + d + axis * d + k).load(), self._middle)
        self._along = [self._inside[0] * float(x) for x in self._centred[: len(self._centred) // 2]]

    def along_first(self, place: tuple[int, ...], gradient: list[Tensor]) -> Tensor:
        """At all points along the first axis, at this place of the others."""
        count, frame = len(self._centred), self._middle
        for inside, q in zip(self._inside[1:], place, strict=True):
            frame = dot([self._centred[q]], [inside], frame)

        out = np.empty(count, dtype=object)
        for q in range(count):
            mirrored = count - 1 - q
            number = frame
            if q < mirrored:
                number = frame + self._along[q]
            elif q > mirrored:
                number = frame - self._along[mirrored]
            for tensor, slope in zip(self._tensor, gradient, strict=True):
                number = slope[q].times_plus(tensor, number)
            out[q] = number
        return out


def _store_trace(shape: Shape, axis: int, q: int, trace: Tensor, outward: Tensor, here: Memory) -> None:
    """Density and outward speed (2,) at point q of the two facets across an axis."""
    for end in range(2):
        first = (2 * axis + end) * shape.facet_rows
        here.row(first + q).store(trace[end])
        here.row(first + shape.facet + q).store(outward[end])


def _exchange_flux(shape: Shape, here: Memory, there: Memory) -> None:
    """2F through a facet and ∮a, for both sides; nothing is fused, so that either side computes the same."""
    points = shape.facet
    area: Number = 0.0
    weights = np.ones(1)
    for _ in range(shape.dim - 1):
        weights = np.multiply.outer(weights, shape.operators.weights)

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


@generated
def _second_pass(
    shape: Shape, results: Memory, results_at: Any, out: Memory, out_at: Any, stride: Any,
    factor: Memory, least: Memory, fastest: Memory, fastest_at: Any,
) -> None:  # fmt: skip
    """Second pass of a cell and a vector of blocks: the rate, and the largest Σ ∮a where the cell holds mass."""
    here, rates = results.at(results_at), out.at(out_at)
    total = np.empty((shape.modes,) * shape.dim, dtype=object)
    for i, place in enumerate(np.ndindex(*total.shape)):
        total[place] = here.row(2 * shape.dim * shape.facet_rows + i).load()

    speed: Number = 0.0
    flux = []
    for _, _, first in shape.facets():
        rows = np.empty(shape.facet, dtype=object)
        for q in range(shape.facet):
            rows[q] = here.row(first + q).load()
        flux.append(rows.reshape((shape.points,) * (shape.dim - 1)))
        speed = here.row(first + 2 * shape.facet).load() + speed

    later = [rates.row(i + _AHEAD * total.size, stride) for i in range(total.size)]
    for axis in range(shape.dim):
        for memory in later[axis :: shape.dim]:
            memory.prefetch(to_write=True)
        _add_fluxes(shape.operators, axis, flux[2 * axis], flux[2 * axis + 1], total)

    scale = factor.spread()
    for i, number in enumerate(total.ravel()):
        rates.row(i, stride).store(number * scale)
    known = fastest.at(fastest_at)
    counted = here.row(shape.rows - 1).load().where_above(least.spread(), speed, 0.0)
    known.store(counted.largest(known.load()))


def _add_fluxes(operators: AxisOperators, axis: int, at_0: Tensor, at_1: Tensor, total: Tensor) -> None:
    """Add what the fluxes through the two facets across an axis contribute to the integrals."""
    even, odd = (along_all(operators.test, np.array(each, dtype=object)) for each in (at_1 + at_0, at_1 - at_0))
    slices = np.moveaxis(total, axis, 0)
    for i, end in enumerate(operators.ends):
        for place in np.ndindex(*even.shape):
            part: Number = (odd if i % 2 else even)[place]
            slices[(i, *place)] = part.times_plus(0.5 * float(end), slices[(i, *place)])
