"""SIMD vectors of a kernel that is being generated, and the memory they come from.

Loops over cells spend their time on products of small matrices, whose rows must stay in registers. Compilers rarely
achieve that by themselves, so the kernels of `tensor_kernels` and `tensor_moments` are generated: their Python
functions run once, at compile time, on a `Vector` in place of each float, and every operation emits one instruction on
vectors. Python loops are thereby unrolled, Python numbers become constants, and nothing is left to heuristics: every
entry of every vector goes through the same operations in the same order, and a product is fused into a sum where
`times_plus` requests it and nowhere else. So a number does not depend on its place in the vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

_DOUBLE, _INT, _SHORT, _BYTE = ir.DoubleType(), ir.IntType(64), ir.IntType(32), ir.IntType(8)
_ONE = 1e-14  # a coefficient this close to 1 is 1, one this small is 0
Number = Any  # `Vector`, or a float that is known when the kernel is generated


class Vector:
    """A vector of w doubles; its operations emit instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Number) -> Vector:
        if _is_zero(other):
            return self
        return Vector(self.builder, self.builder.fadd(self.value, self._broadcast(other)))

    def __sub__(self, other: Number) -> Vector:
        if _is_zero(other):
            return self
        return Vector(self.builder, self.builder.fsub(self.value, self._broadcast(other)))

    def __mul__(self, other: Number) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, self._broadcast(other)))

    def __radd__(self, other: float) -> Vector:
        return self + other

    def __rsub__(self, other: float) -> Vector:
        return -self + other

    def __neg__(self) -> Vector:
        return Vector(self.builder, self.builder.fneg(self.value))

    def __abs__(self) -> Vector:
        return self._call("llvm.fabs", [self])

    def times_plus(self, factor: Number, term: Number) -> Vector:
        """self × factor + term, rounded once where the processor can."""
        return self._call("llvm.fmuladd", [self, factor, term])

    def largest(self, other: Vector) -> Vector:
        """The larger of two, entry by entry."""
        return self.where_above(other, self, other)

    def where_above(self, bound: Number, yes: Number, no: Number) -> Vector:
        """`yes` where self > bound, else `no`, entry by entry."""
        above = self.builder.fcmp_ordered(">", self.value, self._broadcast(bound))
        return Vector(self.builder, self.builder.select(above, self._broadcast(yes), self._broadcast(no)))

    def _broadcast(self, other: Number) -> Any:
        """The vector of `other`: a float becomes all entries."""
        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.value.type, [ir.Constant(_DOUBLE, float(other))] * self.value.type.count)

    def _call(self, name: str, arguments: list[Number]) -> Vector:
        kind = self.value.type
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind] * len(arguments)), f"{name}.v{kind.count}f64"
        )
        return Vector(self.builder, self.builder.call(function, [self._broadcast(each) for each in arguments]))


class Memory:
    """An array from some place on, of doubles in rows of w; places and strides count numbers."""

    def __init__(self, builder: Any, width: int, pointer: Any) -> None:
        self.builder = builder
        self.width = width
        self.pointer = pointer

    def at(self, place: Any) -> Memory:
        """The same array from a place on, which is an int or an integer of the kernel."""
        index = _INT(place) if isinstance(place, int) else place
        return Memory(self.builder, self.width, self.builder.gep(self.pointer, [index]))

    def row(self, number: int, stride: Any = None) -> Memory:
        """The row of that number, rows following each other or `stride` apart."""
        if stride is None:
            return self.at(number * self.width)
        return self.at(self.builder.mul(stride, _INT(number)))

    def load(self) -> Vector:
        """The row here."""
        return Vector(self.builder, self.builder.load(self._vector(), align=8))

    def store(self, vector: Number) -> None:
        """Write the row here."""
        zero = ir.Constant(ir.VectorType(_DOUBLE, self.width), None)
        self.builder.store(vector.value if isinstance(vector, Vector) else zero, self._vector(), align=8)

    def spread(self) -> Vector:
        """The number here as all entries of a vector."""
        kind = ir.VectorType(_DOUBLE, self.width)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), self.builder.load(self.pointer), _SHORT(0))
        zeros = ir.Constant(ir.VectorType(_SHORT, self.width), None)
        return Vector(self.builder, self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros))

    def integer(self) -> Any:
        """The integer here, in an array of integers."""
        return self.builder.load(self.pointer)

    def prefetch(self, to_write: bool = False) -> None:
        """Fetch the cache line here for later use; an address that does not exist does no harm."""
        arguments = [_BYTE.as_pointer(), _SHORT, _SHORT, _SHORT]
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), arguments), "llvm.prefetch.p0"
        )
        address = self.builder.bitcast(self.pointer, _BYTE.as_pointer())
        self.builder.call(function, [address, _SHORT(int(to_write)), _SHORT(3), _SHORT(1)])

    def _vector(self) -> Any:
        return self.builder.bitcast(self.pointer, ir.VectorType(_DOUBLE, self.width).as_pointer())


def _is_zero(number: Number) -> bool:
    return not isinstance(number, Vector) and number == 0.0


def dot(coefficients: Iterable[float], terms: Iterable[Number], start: Number = 0.0) -> Number:
    """start + Σ coefficient × term in their order, but terms with coefficient 1 first; those with 0 cost nothing."""
    total, rest = start, []
    for coefficient, term in zip(coefficients, terms, strict=True):
        if abs(coefficient) < _ONE or not isinstance(term, Vector):
            continue
        if abs(coefficient - 1.0) < _ONE:
            total = term + total if isinstance(total, Vector) else term
        else:
            rest.append((float(coefficient), term))

    for coefficient, term in rest:
        total = term.times_plus(coefficient, total) if isinstance(total, Vector) else term * coefficient
    return total
