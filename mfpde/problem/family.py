"""A family of units: one function of the residual stream, and a low-dimensional parameter that a density fills."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mfpde.errors import InputError
from mfpde.inputs import is_whole, plain, show
from mfpde.problem.laws import Law
from mfpde.problem.programs import trace

type Update = Callable[[jax.Array, jax.Array], jax.Array]
type Integral = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
type Tried = dict[Hashable, Callable[..., tuple[jax.Array, ...]]]
_LINEAR_TOLERANCE = 1e-9
_LONGEST_NAME = 60  # files are named after it


@dataclass(frozen=True)
class Family:
    """Units f(T, θ) that add to the residual stream (docs/equations.md).

    Attributes:
        name: the family's name in run files and outputs.
        dim: d, the number of parameters; the limit is solved for d ≤ 3, particles take any.
        update: f, from tokens (N, D) and θ (d,) to (N, D), written in jax.numpy.
        initial: the law of θ at τ = 0, or a function from the layer to its law.
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
        if not is_whole(self.dim) or self.dim < 1:
            raise InputError(f"family {self.name!r}: dim = {self.dim!r}: must be a whole number, at least 1")
        object.__setattr__(self, "dim", int(self.dim))
        if not callable(self.update):
            raise InputError(f"family {self.name!r}: update must be a function (tokens, theta) -> tokens")
        object.__setattr__(self, "linear", plain(self.linear))
        if not isinstance(self.linear, Sequence) or not isinstance(self.coordinates, Sequence):
            raise InputError(f"family {self.name!r}: linear and coordinates must be lists, one entry per coordinate")
        linear = tuple(self.linear)
        if not all(is_whole(a) and 0 <= a < self.dim for a in linear) or len(set(linear)) != len(linear):
            raise InputError(f"family {self.name!r}: linear = {linear}: must be distinct indices below {self.dim}")
        object.__setattr__(self, "linear", tuple(sorted(int(axis) for axis in linear)))
        names = tuple(self.coordinates) or tuple(f"theta_{k}" for k in range(self.dim))
        if len(names) != self.dim or not all(isinstance(name, str) for name in names):
            raise InputError(f"family {self.name!r}: coordinates = {names}: needs {self.dim} names")
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
            except Exception as error:  # the user's own code
                raise InputError(f"family {self.name!r}: initial failed for layer {layer}: {_brief(error)}") from error
        if not isinstance(law, Law):
            raise InputError(f"family {self.name!r}: initial of layer {layer} is {law!r}, not a law such as Normal")
        if law.dim != self.dim:
            raise InputError(
                f"initial.{self.name}: mean and std have {law.dim} numbers in layer {layer}; needs dim = {self.dim}"
            )
        return law


def integrate(family: Family, tokens: jax.Array, theta: jax.Array, weights: jax.Array) -> jax.Array:
    """Σ_u w_u f(T, θ_u), which stands for ∫ f dρ: tokens (N, D), θ (u, d), w (u,) -> (N, D)."""
    if family.integral is not None:
        return family.integral(tokens, theta, weights)
    each = jax.vmap(family.update, in_axes=(None, 0))(tokens, theta)
    return jnp.tensordot(weights, each, axes=1)


def check_law(family: Family, layer: int) -> None:
    """Try a layer's initial law, which must be the same at every call.

    Raises:
        InputError: one line that names the family and the layer.
    """
    first, second = family.law(layer), family.law(layer)
    if type(first) is not type(second) or (first.mean, first.std) != (second.mean, second.std):
        where = f"family {family.name!r}: initial"
        raise InputError(f"{where} gives two laws for layer {layer}; numbers are to be drawn outside it, once")


def check_family(family: Family, tokens: jax.Array, tried: Tried | None = None) -> None:
    """Try a family on one sample's tokens (N, D): shape, finite values, derivatives, declared linearity.

    Args:
        family: to be tried.
        tokens: (N, D).
        tried: what other families of the model were tried for already.

    Raises:
        InputError: one line that names the family and what is wrong.
    """
    tried = {} if tried is None else tried
    rng = np.random.default_rng(0)
    theta = jnp.asarray(_try_law(family, rng)[0])
    where = f"family {family.name!r}: update"
    value = steady_value(where, family.update, tokens, theta)
    if value.shape != tokens.shape:
        raise InputError(f"{where} returns shape {value.shape}; needs the tokens' shape {tokens.shape}")
    if not bool(jnp.isfinite(value).all()):
        raise InputError(f"{where} is not finite at theta = {np.asarray(theta).tolist()}")
    many = jax.vmap(family.update, in_axes=(None, 0))
    slopes = check_traced(where, lambda t, p: many(t, p[None]), tokens, theta, tried=tried)
    if not all(bool(jnp.isfinite(s).all()) for s in slopes):
        raise InputError(f"{where} has a derivative that is not finite at theta = {np.asarray(theta).tolist()}")
    if family.linear:
        _check_linear(family, tokens, rng)
    if family.integral is not None:
        _check_integral(family, family.integral, tokens, rng, tried)


def steady_value(where: str, function: Callable[..., object], tokens: jax.Array, *theta: jax.Array) -> jax.Array:
    """What a user's function makes of the tokens of a sample, which must be one array and the same at every call.

    Args:
        where: what the line of an error begins with.
        function: of the tokens, and of θ where it is given.
        tokens: (N, D).
        theta: (d,), or nothing.

    Raises:
        InputError: one line that begins with `where`.
    """
    try:
        first, second = (_one_array(where, function(tokens, *theta)) for _ in range(2))
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code
        raise InputError(f"{where} failed on tokens {tokens.shape}: {_brief(error)}") from error
    if not jax.config.jax_enable_x64:
        raise InputError(f"{where} switches off JAX's double precision (jax_enable_x64); mfpde needs it")
    if not np.array_equal(first, second, equal_nan=True):
        given = "tokens and theta" if theta else "tokens"
        raise InputError(f"{where} gives two values for the same {given}; numbers are to be drawn outside it, once")
    return first


def _one_array(where: str, value: object) -> jax.Array:
    if not isinstance(value, jax.Array | np.ndarray):
        raise InputError(f"{where} returns a {type(value).__name__}; must be one array, for example by jnp.stack")
    return jnp.asarray(value)


def _try_law(family: Family, rng: np.random.Generator) -> np.ndarray:
    """Points (3, d) drawn from the first layer's law, which the user may have written."""
    law, where = family.law(0), f"family {family.name!r}: initial"
    try:
        theta = np.asarray(law.sample(rng, 3), dtype=np.float64)
        density = np.asarray(law.density(theta), dtype=np.float64)
    except Exception as error:  # the user's own code
        raise InputError(f"{where} is a law that failed: {_brief(error)}") from error
    if theta.shape != (3, family.dim) or density.shape != (3,):
        raise InputError(
            f"{where} is a law of samples {theta.shape} and densities {density.shape}, not (3, d) and (3,)"
        )
    if not np.isfinite(theta).all() or not np.isfinite(density).all() or (density < 0.0).any():
        raise InputError(f"{where} is a law with samples or densities that are not finite, or negative densities")
    return theta


def check_traced(
    where: str, function: Callable[..., jax.Array], *arguments: jax.Array, tried: Tried | None = None
) -> tuple[jax.Array, ...]:
    """Can JAX differentiate a function without seeing the numbers?

    Args:
        where: what the line of an error begins with.
        function: of the arguments.
        arguments: arrays.
        tried: derivatives by form; functions that JAX traces to the same program, up to the arrays that they hold, are
            differentiated and compiled once, not once a family.

    Returns:
        The derivatives of Σ function² in every argument.

    Raises:
        InputError: one line that begins with `where`.
    """
    tried = {} if tried is None else tried
    try:
        program = trace(function, *arguments)
        if program.form not in tried:

            def size(given: tuple[jax.Array, ...], held: Sequence[Any]) -> jax.Array:
                return jnp.sum(program.run(held, *given) ** 2)

            def steepness(given: tuple[jax.Array, ...], held: Sequence[Any]) -> jax.Array:
                return sum((jnp.sum(slope**2) for slope in jax.grad(size)(given, held)), jnp.zeros(()))

            jax.eval_shape(jax.grad(steepness), arguments, program.held)  # the certificate takes second derivatives
            tried[program.form] = jax.jit(jax.grad(size))
        return tried[program.form](arguments, program.held)
    except Exception as error:  # the user's own code
        raise InputError(f"{where} is not differentiable by JAX: {_brief(error)}") from error


def _check_linear(family: Family, tokens: jax.Array, rng: np.random.Generator) -> None:
    """f(q, αx + βy) = α f(q, x) + β f(q, y) at random points."""
    axes = np.asarray(family.linear)
    for q in family.law(0).sample(rng, 3):
        x, y = q.copy(), q.copy()
        x[axes], y[axes] = rng.normal(size=(2, len(axes)))
        alpha, beta = rng.normal(size=2)
        both = q.copy()
        both[axes] = alpha * x[axes] + beta * y[axes]
        left = np.asarray(family.update(tokens, jnp.asarray(both)))
        right = alpha * np.asarray(family.update(tokens, jnp.asarray(x))) + beta * np.asarray(
            family.update(tokens, jnp.asarray(y))
        )
        if not np.abs(left - right).max() <= _LINEAR_TOLERANCE * (np.abs(left).max() + np.abs(right).max() + 1e-300):
            raise InputError(
                f"family {family.name!r}: linear = {family.linear}, but update is not jointly linear and homogeneous "
                "in these coordinates"
            )


def _check_integral(
    family: Family, integral: Integral, tokens: jax.Array, rng: np.random.Generator, tried: Tried
) -> None:
    theta, weights = jnp.asarray(family.law(0).sample(rng, 3)), jnp.asarray(rng.normal(size=3))
    expected = sum(w * family.update(tokens, t) for w, t in zip(weights, theta, strict=True))
    try:
        got = jnp.asarray(integral(tokens, theta, weights))
    except Exception as error:  # the user's own code
        raise InputError(f"family {family.name!r}: integral failed: {_brief(error)}") from error
    if got.shape != tokens.shape or not np.allclose(got, expected, rtol=1e-9, atol=1e-12):
        raise InputError(f"family {family.name!r}: integral is not the weighted sum of update over units")
    check_traced(f"family {family.name!r}: integral", integral, tokens, theta, weights, tried=tried)


def _brief(error: BaseException) -> str:
    """The first line of an exception, shortened."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
