"""A few numbers that the processor handles as one, as a compiled loop is being written.

Loops over cells spend their time on products of small matrices, whose rows must stay in registers. Compilers rarely
find that out by themselves, so the kernels of `tensor_kernels` and `tensor_moments` are written out: their
Python functions run once, at compile time, on `Lanes` in the place of floats, and each operation adds one instruction
on vectors to the code. What a Python loop runs over is unrolled, what Python knows is a constant, and nothing is left
to guess: every lane of every vector goes through the same operations in the same order, and products are fused into
sums where `times_plus` says so and nowhere else. So a number does not depend on the lane it was in.

numba keeps compiled functions on disk and looks at the file of the function alone: after a change here, in
`limit.transport.sum_factorisation` or in `limit.transport.codegen`, touch those two files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

_DOUBLE, _INT, _SHORT, _BYTE = ir.DoubleType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
_ONE = 1e-14  # a coefficient this close to 1 is 1, one this small is 0
Number = Any  # `Lanes`, or a float that is known when the kernel is written


class Lanes:
    """A vector of w doubles under the builder's pen."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Number) -> Lanes:
        if _is_nothing(other):
            return self
        return Lanes(self.builder, self.builder.fadd(self.value, self._same(other)))

    def __sub__(self, other: Number) -> Lanes:
        if _is_nothing(other):
            return self
        return Lanes(self.builder, self.builder.fsub(self.value, self._same(other)))

    def __mul__(self, other: Number) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(self.value, self._same(other)))

    def __radd__(self, other: float) -> Lanes:
        return self + other

    def __rsub__(self, other: float) -> Lanes:
        return -self + other

    def __neg__(self) -> Lanes:
        return Lanes(self.builder, self.builder.fneg(self.value))

    def __abs__(self) -> Lanes:
        return self._call("llvm.fabs", [self])

    def times_plus(self, factor: Number, term: Number) -> Lanes:
        """self × factor + term, rounded once where the processor can."""
        return self._call("llvm.fmuladd", [self, factor, term])

    def largest(self, other: Lanes) -> Lanes:
        """The larger of two, lane by lane."""
        return self.where_above(other, self, other)

    def where_above(self, bound: Number, yes: Number, no: Number) -> Lanes:
        """`yes` in lanes where self > bound, else `no`."""
        above = self.builder.fcmp_ordered(">", self.value, self._same(bound))
        return Lanes(self.builder, self.builder.select(above, self._same(yes), self._same(no)))

    def _same(self, other: Number) -> Any:
        """The vector of `other`: a float goes to all lanes."""
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [ir.Constant(_DOUBLE, float(other))] * self.value.type.count)

    def _call(self, name: str, arguments: list[Number]) -> Lanes:
        kind = self.value.type
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind] * len(arguments)), f"{name}.v{kind.count}f64"
        )
        return Lanes(self.builder, self.builder.call(function, [self._same(each) for each in arguments]))


class Memory:
    """Rows of w doubles from some place of an array of doubles on; places and steps count doubles."""

    def __init__(self, builder: Any, width: int, pointer: Any, place: Any) -> None:
        self.builder = builder
        self.width = width
        self.pointer = builder.gep(pointer, [place])

    def at(self, place: Any) -> Memory:
        """From a place on, told by an int or by an integer of the kernel."""
        return Memory(self.builder, self.width, self.pointer, _INT(place) if isinstance(place, int) else place)

    def row(self, number: int, stride: Any = None) -> Memory:
        """The row of that number, rows following each other or `stride` apart."""
        if stride is None:
            return self.at(number * self.width)
        return self.at(self.builder.mul(stride, _INT(number)))

    def load(self) -> Lanes:
        """The row here."""
        return Lanes(self.builder, self.builder.load(self._vector(), align=8))

    def store(self, lanes: Number) -> None:
        """Write the row here."""
        zero = ir.Constant(ir.VectorType(_DOUBLE, self.width), None)
        self.builder.store(lanes.value if isinstance(lanes, Lanes) else zero, self._vector(), align=8)

    def spread(self) -> Lanes:
        """The one number here, in all lanes."""
        kind = ir.VectorType(_DOUBLE, self.width)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), self.builder.load(self.pointer), _SHORT(0))
        zeros = ir.Constant(ir.VectorType(_SHORT, self.width), None)
        return Lanes(self.builder, self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros))

    def fetch(self, to_write: bool = False) -> None:
        """Ask for the cache line here, for later; an address that does not exist does no harm."""
        arguments = [_BYTE.as_pointer(), _SHORT, _SHORT, _SHORT]
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), arguments), "llvm.prefetch.p0"
        )
        line = self.builder.bitcast(self.pointer, _BYTE.as_pointer())
        self.builder.call(function, [line, _SHORT(int(to_write)), _SHORT(3), _SHORT(1)])

    def _vector(self) -> Any:
        return self.builder.bitcast(self.pointer, ir.VectorType(_DOUBLE, self.width).as_pointer())


def _is_nothing(number: Number) -> bool:
    return not isinstance(number, Lanes) and number == 0.0


def dot(coefficients: Iterable[float], terms: Iterable[Number], start: Number = 0.0) -> Number:
    """start + Σ coefficient × term in their order, but terms to be added as they are come first; zeros cost nothing."""
    total, rest = start, []
    for coefficient, term in zip(coefficients, terms, strict=True):
        if abs(coefficient) < _ONE or not isinstance(term, Lanes):
            continue
        if abs(coefficient - 1.0) < _ONE:
            total = term + total if isinstance(total, Lanes) else term
        else:
            rest.append((float(coefficient), term))
    for coefficient, term in rest:
        total = term.times_plus(coefficient, total) if isinstance(total, Lanes) else term * coefficient
    return total
