"""A family of units: one function of the residual stream, with a parameter θ that is distributed by a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mfpde.errors import InputError
from mfpde.inputs import is_whole, plain, show, whole
from mfpde.problem.laws import Law, Zero

type Update = Callable[[jax.Array, jax.Array], jax.Array]
type Integral = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
_LONGEST_NAME = 60  # files are named after it
_MOST_PARAMETERS = 10**9


@dataclass(frozen=True)
class Family:
    """Units f(T, θ) that add to the residual stream (docs/equations.md).

    Attributes:
        name: the family's name in run files and outputs.
        dim: d, the number of parameters; the limit is solved for d ≤ 3, particles take any.
        update: f, from tokens (N, D) and θ (d,) to (N, D), written in jax.numpy.
        initial: the law of θ at τ = 0, or a function from the layer to its law, which `FromRun` is, too.
        linear: indices of θ in which f is *jointly* linear and homogeneous; they make the solver fast.
        coordinates: names of the d coordinates, for axes; θ_0, … unless given.
        integral: Σ_u w_u f(T, θ_u) from tokens (N, D), θ (u, d) and w (u,) where there is a faster way than one unit
            at a time; checked against `update`.

    Raises:
        InputError: for names, dimensions or indices that do not fit.
    """

    name: str
    dim: int
    update: Update
    initial: Law | Callable[[int], Law]
    linear: tuple[int, ...] = ()
    coordinates: tuple[str, ...] = ()
    integral: Integral | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or len(self.name) > _LONGEST_NAME:
            allowed = f"letters, digits and underscores, at most {_LONGEST_NAME}"
            raise InputError(f"family name {show(self.name)}: must be {allowed}")
        where = f"family {self.name!r}"
        if not callable(self.update):
            raise InputError(f"{where}: update must be a function (tokens, theta) -> tokens")
        dim = whole(f"{where}: dim", self.dim, 1, _MOST_PARAMETERS)

        linear, names = plain(self.linear), self.coordinates
        if not isinstance(linear, Sequence) or not isinstance(names, Sequence):
            raise InputError(f"{where}: linear and coordinates must be lists, one entry per coordinate")
        if not all(is_whole(axis) and 0 <= axis < dim for axis in linear) or len(set(linear)) != len(linear):
            raise InputError(f"{where}: linear = {tuple(linear)}: must be distinct indices below {dim}")
        names = tuple(names) or tuple(f"theta_{k}" for k in range(dim))
        if len(names) != dim or not all(isinstance(name, str) for name in names):
            raise InputError(f"{where}: coordinates = {names}: needs {dim} names")

        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "linear", tuple(sorted(int(axis) for axis in linear)))
        object.__setattr__(self, "coordinates", names)
        if not callable(self.initial):
            self.law(0)

    @property
    def nonlinear(self) -> tuple[int, ...]:
        """The indices of θ that are not in `linear`."""
        return tuple(axis for axis in range(self.dim) if axis not in self.linear)

    @property
    def directions(self) -> int:
        """a: units (q, e_a) that stand for all θ of one nonlinear part q: one per linear coordinate, or one."""
        return max(1, len(self.linear))

    def parameters(self, q: np.ndarray) -> np.ndarray:
        """θ (L, u·a, d) of the units at nonlinear parts q (L, u, m): (q, e_a) with a running fastest; or q alone."""
        theta = np.zeros((*q.shape[:2], self.directions, self.dim))
        theta[..., self.nonlinear] = q[:, :, None]
        if self.linear:
            theta[..., self.linear] = np.eye(self.directions)
        return theta.reshape(len(q), -1, self.dim)

    def law(self, layer: int) -> Law:
        """The initial law of a layer.

        Raises:
            InputError: when it is not a law of d coordinates.
        """
        law: object = self.initial
        if callable(self.initial):
            try:
                law = self.initial(layer)
            except InputError as error:
                raise InputError(f"initial.{self.name}: {error}") from error
            except Exception as error:  # the user's own code
                raise InputError(f"family {self.name!r}: initial failed for layer {layer}: {brief(error)}") from error

        if not isinstance(law, Law):
            raise InputError(f"family {self.name!r}: initial of layer {layer} is {law!r}, not a law such as Normal")
        if isinstance(law, Zero):
            law = Zero(self.dim)
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
