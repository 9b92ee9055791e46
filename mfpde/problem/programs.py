"""Programs: what JAX traces a function to, and which functions share one.

Dozens of heads differ in their fixed matrices alone. Compiled one by one they take minutes; as one program, with the
matrices stacked, they take as long as one. Two functions share a program where everything that determines it is equal:
the operations, their parameters, how values flow between them, and the shapes and types of the arrays that the
functions close over, which become arguments.

A custom derivative keeps its rule in a Python function that a program only refers to, and the rule may close over
arrays of its own. Functions with rules for forward mode (`jax.custom_jvp`; `jax.nn.relu` is one) share a program where
the programs of their derivatives, in which the rules are written out, are equal as well and hold no further array.
Rules for reverse mode (`jax.custom_vjp`) and callbacks are written out nowhere: a function that has one shares its
program with no other, and is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

_ORDERS = 3  # of derivatives: two in θ for the certificate, and one that leads backwards through the layers
_RULE = "jvp_jaxpr_fun"  # the parameter of `custom_jvp_call` that is a Python function


@dataclass(frozen=True)
class Program:
    """A function of arrays, apart from the arrays that it closes over.

    Attributes:
        form: equal for two functions only if `run` is the same function for both.
        held: the arrays that the function closes over.
        run: from `held` and the function's arguments to its value.
    """

    form: Hashable
    held: tuple[Any, ...]
    run: Callable[..., jax.Array]


def trace(function: Callable[..., jax.Array], *arguments: jax.Array) -> Program:
    """Trace a function of arrays that returns one array.

    Args:
        function: of the arguments, written in jax.numpy.
        arguments: arrays, or anything with their shapes and types.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    held = tuple(traced.consts)

    def run(held: Sequence[Any], *given: jax.Array) -> jax.Array:
        (value,) = jax.core.eval_jaxpr(traced.jaxpr, held, *given)
        return jnp.asarray(value)

    try:
        forms = tuple(_forms(run, held, arguments))
    except _OpaqueError:
        return Program(object(), (), lambda _, *given: function(*given))
    return Program(forms, held, run)


class _OpaqueError(Exception):
    """A program refers to a Python function, or to something else whose content cannot be compared."""


def _forms(run: Callable[..., Any], held: tuple[Any, ...], arguments: tuple[Any, ...]) -> Iterator[Hashable]:
    """The form of a function and, where it has rules for them, of its derivatives.

    Raises:
        _OpaqueError: when a part of it cannot be compared, as a rule that closes over arrays.
    """
    for _ in range(1 + _ORDERS):
        traced, reading = jax.make_jaxpr(run)(held, *arguments), _Reading()
        if traced.consts:
            raise _OpaqueError
        yield reading.program(traced.jaxpr)
        if not reading.has_rules:
            return

        # Next its value and its derivative along all arguments; the held arrays stay as they are.
        run = lambda held, given, motion, run=run: jax.jvp(partial(run, held), given, motion)  # noqa: E731
        arguments = (arguments, jax.tree.map(jnp.zeros_like, arguments))


class _Reading:
    """Programs as values that are equal where all that determines them is equal, up to names of variables.

    Attributes:
        has_rules: whether one of them has its own rule for its derivative in forward mode.
    """

    def __init__(self) -> None:
        self.has_rules = False

    def program(self, jaxpr: Any) -> Hashable:
        """A jaxpr."""
        numbers: dict[Any, int] = {}

        def known(atom: Any) -> Hashable:
            return (self._value(atom.val), str(atom.aval)) if isinstance(atom, core.Literal) else numbers[atom]

        def new(variables: Sequence[Any]) -> tuple[str, ...]:
            for variable in variables:
                numbers[variable] = len(numbers)
            return tuple(str(variable.aval) for variable in variables)

        given = (new(jaxpr.constvars), new(jaxpr.invars))

        steps = []
        for step in jaxpr.eqns:
            self.has_rules |= _RULE in step.params
            parameters = {name: value for name, value in step.params.items() if name != _RULE}
            read = tuple(map(known, step.invars))
            steps.append((step.primitive, read, self._value(parameters), new(step.outvars)))

        return (given, tuple(steps), tuple(map(known, jaxpr.outvars)))

    def _value(self, value: Any) -> Hashable:
        """A parameter of an operation.

        Raises:
            _OpaqueError: for Python functions, and for what cannot be compared.
        """
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):  # one class in recent versions of JAX
            return (self.program(getattr(value, "jaxpr", value)), *map(self._value, getattr(value, "consts", ())))
        if isinstance(value, Mapping):
            return tuple((name, self._value(value[name])) for name in sorted(value))
        if isinstance(value, tuple | list):
            return (type(value), *map(self._value, value))
        if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
            array = np.asarray(value)
            return (array.shape, str(array.dtype), array.tobytes())
        if not isinstance(value, Hashable) or (callable(value) and not isinstance(value, type | jax.sharding.Mesh)):
            raise _OpaqueError
        return (type(value), value)
