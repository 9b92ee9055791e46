"""A family of units: one function of the residual stream, with a parameter θ that is distributed by a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from mfpde.errors import InputError
from mfpde.inputs import is_whole, plain, show, whole
from mfpde.problem.laws import Law, Zero, independent, repeated

type Update = Callable[..., jax.Array]
type Integral = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
type Start = Law | tuple[Law, Law]
_LONGEST_NAME = 60  # files are named after it
_MOST_PARAMETERS = 10**9
_SHOWN = 3  # coordinates of a family that has more of them


@dataclass(frozen=True)
class SplitUpdate:
    """An update of (tokens, u, v) as a function of (tokens, θ), with u the first s numbers of θ and v the others.

    Attributes:
        function: f, from tokens (N, D), u (s,) and v of the given shape to (N, D); from tokens and u alone where the
            shape is None.
        nonlinear: s.
        shape: of v.
    """

    function: Update
    nonlinear: int
    shape: tuple[int, ...] | None

    def __call__(self, tokens: jax.Array, theta: jax.Array) -> jax.Array:
        """f(T, θ)."""
        if self.shape is None:
            return self.function(tokens, theta)
        return self.function(tokens, theta[: self.nonlinear], theta[self.nonlinear :].reshape(self.shape))


@dataclass(frozen=True)
class Family:
    """Units f(T, θ) that add to the residual stream (docs/equations.md).

    A family is given in one of two ways: with `dim` and the indices `linear` of θ; or split into θ = (u, v) with the
    number `nonlinear` of u and the `linear_shape` of v, an array in which the update is linear, as a value matrix. Cost
    and memory of the limit grow with the points of a table in u, and hardly with the size of v.

    Attributes:
        name: the family's name in run files and outputs.
        dim: d, the number of parameters.
        update: f, from tokens (N, D) and θ (d,) to (N, D), written in jax.numpy; of a split family from tokens, u (s,)
            and v, or from tokens and u where there is no v.
        initial: the law of θ at τ = 0, of a split family also a pair of laws of u and of v; or a function from the
            layer to those, which `FromRun` is, too. A law of one coordinate holds for every entry of u or v.
        linear: indices of θ in which f is *jointly* linear and homogeneous; they make the solver fast.
        coordinates: names of the d coordinates, for axes; θ_0, … unless given, and u_0, …, v_0, … of a split family.
        integral: Σ_u w_u f(T, θ_u) from tokens (N, D), θ (u, d) and w (u,) where there is a faster way than one unit
            at a time; checked against `update`.
        nonlinear: s, the number of coordinates in u.
        linear_shape: of v; None where nothing is linear.

    Raises:
        InputError: for names, dimensions or indices that do not fit.
    """

    name: str
    dim: int = 0
    update: Update = None  # type: ignore[assignment]
    initial: Start | Callable[[int], Start] = None  # type: ignore[assignment]
    linear: tuple[int, ...] = ()
    coordinates: tuple[str, ...] = ()
    integral: Integral | None = None
    nonlinear: int | None = None
    linear_shape: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        linear = f", {len(self.linear)} of them linear" if self.linear else ""
        return f"Family({self.name!r}: d = {self.dim}{linear})"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or len(self.name) > _LONGEST_NAME:
            allowed = f"letters, digits and underscores, at most {_LONGEST_NAME}"
            raise InputError(f"family name {show(self.name)}: must be {allowed}")
        where = f"family {self.name!r}"
        if not callable(self.update):
            arguments = "(tokens, theta)" if self.nonlinear is None else "(tokens, u, v)"
            raise InputError(f"{where}: update must be a function {arguments} -> tokens")
        if self.initial is None:
            raise InputError(f"{where}: initial is missing; give the law of its parameters at tau = 0")
        if self.nonlinear is not None or self.linear_shape is not None:
            self._split(where)
        dim = whole(f"{where}: dim", self.dim, 1, _MOST_PARAMETERS)

        linear, names = plain(self.linear), self.coordinates
        if not isinstance(linear, Sequence) or not isinstance(names, Sequence):
            raise InputError(f"{where}: linear and coordinates must be lists, one entry per coordinate")
        if not all(is_whole(axis) and 0 <= axis < dim for axis in linear) or len(set(linear)) != len(linear):
            raise InputError(f"{where}: linear = {tuple(linear)}: must be distinct indices below {dim}")
        names = tuple(names) or self._names(dim)
        if len(names) != dim or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}: coordinates = {names}: needs {dim} names")

        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "linear", tuple(sorted(int(axis) for axis in linear)))
        object.__setattr__(self, "coordinates", names)
        if not callable(self.initial):
            self.law(0)

    def _split(self, where: str) -> None:
        """Set dim, linear and update of a family that is given by u and v."""
        if self.nonlinear is None:
            raise InputError(f"{where}: linear_shape needs nonlinear, the number of the other coordinates")
        s = whole(f"{where}: nonlinear", self.nonlinear, 0, _MOST_PARAMETERS)
        shape = _shape(where, self.linear_shape)
        entries = 0 if shape is None else prod(shape)
        dim, linear = s + entries, tuple(range(s, s + entries))
        if self.dim not in (0, dim) or tuple(self.linear) not in ((), linear):
            raise InputError(
                f"{where}: nonlinear and linear_shape stand in the place of dim and linear; give two of them"
            )
        update = self.update
        if not isinstance(update, SplitUpdate):
            object.__setattr__(self, "update", SplitUpdate(update, s, shape))
        object.__setattr__(self, "linear_shape", shape)
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "linear", linear)

    def _names(self, dim: int) -> tuple[str, ...]:
        if self.nonlinear is None:
            return tuple(f"theta_{k}" for k in range(dim))
        s = self.nonlinear
        return (*(f"u_{k}" for k in range(s)), *(f"v_{k}" for k in range(dim - s)))

    @cached_property
    def nonlinear_axes(self) -> tuple[int, ...]:
        """The indices of θ that are not in `linear`."""
        linear = set(self.linear)
        return tuple(axis for axis in range(self.dim) if axis not in linear)

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """The coordinates whose means and covariances are reported: all, or of more than three only the first ones.

        Nonlinear ones where there are some, else linear ones.
        """
        if self.dim <= _SHOWN:
            return tuple(range(self.dim))
        return (self.nonlinear_axes or self.linear)[:_SHOWN]

    @property
    def directions(self) -> int:
        """a: numbers that a density has at one nonlinear part q, its first moments in v; or one, its mass."""
        return max(1, len(self.linear))

    def are_nodes(self, q: jax.Array | np.ndarray) -> bool:
        """Are points (…, u, s) without coordinates nodes, units of their own whose parameters are the moments?"""
        return q.shape[-1] < len(self.nonlinear_axes)

    def join(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """θ (…, d) from its nonlinear coordinates (…, s) and its linear ones (…, m)."""
        theta = np.empty((*q.shape[:-1], self.dim))
        theta[..., self.nonlinear_axes], theta[..., self.linear] = q, v
        return theta

    def units(self, q: jax.Array, moments: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Units that stand for a density: one at each nonlinear part q, whatever the number of linear coordinates.

        As f is linear in v, ∫f(T, (q, v)) ρ(dv) = f(T, (q, B)) with B = ∫v ρ(dv): the unit (q, B) of weight one.
        Without linear coordinates it is q with the mass for its weight. Points without coordinates are nodes, and their
        moments are the parameters themselves, and the mass.

        Args:
            q: (…, u, s), or (…, u, 0).
            moments: (…, u·a), a running fastest; or (…, u·(d + 1)).

        Returns:
            θ (…, u, d) and weights (…, u).
        """
        if self.are_nodes(q):
            known = moments.reshape(*q.shape[:-1], self.dim + 1)
            return known[..., :-1], known[..., -1]
        if not self.linear:
            return q, moments
        order = np.argsort([*self.nonlinear_axes, *self.linear])
        first = moments.reshape(*q.shape[:-1], self.directions)
        return jnp.concatenate([q, first], axis=-1)[..., order], jnp.ones(q.shape[:-1])

    def law(self, layer: int) -> Law:
        """The initial law of a layer.

        Raises:
            InputError: when it is not a law of d coordinates.
        """
        if not callable(self.initial):
            return self._common_law
        try:
            law = self.initial(layer)
        except InputError as error:
            raise InputError(f"initial.{self.name}: {error}") from error
        except Exception as error:  # the user's own code
            raise InputError(f"family {self.name!r}: initial failed for layer {layer}: {brief(error)}") from error
        return self._whole_law(law, layer)

    @cached_property
    def _common_law(self) -> Law:
        """The law of all layers; of a value matrix it has thousands of numbers, and is asked for very often."""
        return self._whole_law(self.initial, 0)

    def _whole_law(self, law: object, layer: int) -> Law:
        """The law of all d coordinates from what a user gives.

        Raises:
            InputError: when it is none.
        """
        if isinstance(law, tuple | list) and self.nonlinear is not None and len(law) == 2:
            sizes = (self.nonlinear, self.dim - self.nonlinear)
            law = independent([self._part(part, size, layer) for part, size in zip(law, sizes, strict=True) if size])
        if not isinstance(law, Law):
            pair = "" if self.nonlinear is None else ", or a pair of them for u and v"
            raise InputError(
                f"family {self.name!r}: initial of layer {layer} is {law!r}, not a law such as Normal{pair}"
            )
        if isinstance(law, Zero) or (self.nonlinear is not None and law.dim == 1):
            law = repeated(law, self.dim)
        if law.dim != self.dim:
            raise InputError(
                f"initial.{self.name}: mean and std have {law.dim} numbers in layer {layer}; needs dim = {self.dim}"
            )
        if set(law.degenerate) - set(self.linear):
            axis = min(set(law.degenerate) - set(self.linear))
            raise InputError(
                f"initial.{self.name}: std = 0.0 in coordinate {self.coordinates[axis]!r} in layer {layer}: must be a "
                "finite number above 0, but in coordinates in which the update is linear"
            )
        return law

    def _part(self, law: object, size: int, layer: int) -> Law:
        """The law of u or of v, which holds for every entry where it has one coordinate."""
        if not isinstance(law, Law):
            raise InputError(f"family {self.name!r}: initial of layer {layer} holds {law!r}, not a law such as Normal")
        if law.dim == 1:
            law = repeated(law, size)
        if law.dim != size:
            raise InputError(
                f"initial.{self.name}: a law of {law.dim} numbers in layer {layer}; needs {size}, or one for all"
            )
        return law


def _shape(where: str, value: object) -> tuple[int, ...] | None:
    """The shape of an array, of which one number is a vector's."""
    given = plain(value)
    if given is None:
        return None
    if is_whole(given):
        given = [given]
    if not isinstance(given, Sequence) or not all(is_whole(n) and n > 0 for n in given):
        raise InputError(f"{where}: linear_shape = {show(given)}: must be a list of whole numbers above 0")
    return tuple(int(n) for n in given)


def integrate(family: Family, tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
    """Σ_u w_u f(T, θ_u), which stands for ∫ f dρ: tokens (N, D), θ (u, d), w (u,) -> (N, D)."""
    if family.integral is not None:
        return family.integral(tokens, theta, weights)
    each = jax.vmap(family.update, in_axes=(None, 0))(tokens, theta)
    return jnp.tensordot(weights, each, axes=1)


def brief(error: BaseException) -> str:
    """The first line of an exception that the user's code raised, shortened."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
