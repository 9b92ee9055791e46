"""Before a run: does the model take the task's samples, and can JAX differentiate what the user wrote?

`try_out` checks the families with their laws, the readout, and the targets, in this order. By `fingerprint` the ranks
find out whether all of them have built the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.problem.family import Family, Integral, brief
from mfpde.problem.programs import trace
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, sample_loss

type Derivatives = dict[Hashable, Callable[..., tuple[jax.Array, ...]]]
"""Compiled derivatives by the form of a program: functions of one form are differentiated once, not once a family."""

_ROUNDING = 1e-6  # by which probabilities may miss 1
_LINEAR_TOLERANCE = 1e-9
_NOISE = 1e-12  # sums below are rounding


def try_out(model: Transformer, task: Task) -> None:
    """Try the model on the first sample, and the task's targets on the loss.

    Raises:
        InputError: one line saying which function or which array does not fit.
    """
    if not isinstance(model, Transformer) or not isinstance(task, Task):
        given = f"{type(model).__name__} and {type(task).__name__}"
        raise InputError(f"model and task must be a mfpde.Transformer and a mfpde.Task; they are {given}")
    if not jax.config.jax_enable_x64:
        raise InputError("model or task: JAX's double precision is switched off (jax_enable_x64); mfpde needs it")
    tokens, targets = jnp.asarray(task.tokens[0]), jnp.asarray(task.targets[0])

    derivatives: Derivatives = {}
    for family in model.families:
        for layer in range(model.layers):
            _check_same_law(family, layer)
        check_family(family, tokens, derivatives)

    output = _steady_value("model: readout", model.readout, tokens)
    if output.shape != targets.shape:
        raise InputError(f"model: readout returns shape {output.shape}; the targets have shape {targets.shape}")
    _differentiate("model: readout", lambda stream: sample_loss(model, model.readout(stream), targets), {}, tokens)

    if model.loss != "squared":
        for name in ("targets", "test_targets"):
            _check_probabilities(name, getattr(task, name), model.loss)


def check_family(family: Family, tokens: jax.Array, derivatives: Derivatives | None = None) -> None:
    """Try a family on one sample's tokens (N, D): shape, finite values, derivatives, declared linearity.

    Args:
        family: to be tried.
        tokens: (N, D).
        derivatives: those of the model's other families, to which this one's are added.

    Raises:
        InputError: one line that names the family and what is wrong.
    """
    derivatives = {} if derivatives is None else derivatives
    rng = np.random.default_rng(0)
    theta = jnp.asarray(_draw(family, rng)[0])
    where = f"family {family.name!r}: update"

    value = _steady_value(where, family.update, tokens, theta)
    if value.shape != tokens.shape:
        raise InputError(f"{where} returns shape {value.shape}; needs the tokens' shape {tokens.shape}")
    if not bool(jnp.isfinite(value).all()):
        raise InputError(f"{where} is not finite at theta = {np.asarray(theta).tolist()}")

    # As the solver calls it: for several units at once.
    many = jax.vmap(family.update, in_axes=(None, 0))
    slopes = _differentiate(where, lambda t, p: many(t, p[None]), derivatives, tokens, theta, twice=True)
    if not all(bool(jnp.isfinite(slope).all()) for slope in slopes):
        raise InputError(f"{where} has a derivative that is not finite at theta = {np.asarray(theta).tolist()}")

    if family.linear:
        _check_linear(family, tokens, rng)
    if family.integral is not None:
        _check_integral(family, family.integral, tokens, rng, derivatives)


def _check_same_law(family: Family, layer: int) -> None:
    """Every part of the solver asks for a layer's initial law, and all of them must be given the same one."""
    first, second = family.law(layer), family.law(layer)
    same = type(first) is type(second) and (first.mean, first.std) == (second.mean, second.std)
    if not same or not (first.diagonal or np.array_equal(first.covariance, second.covariance)):
        where = f"family {family.name!r}: initial"
        raise InputError(f"{where} gives two laws for layer {layer}; numbers are to be drawn outside it, once")


def _draw(family: Family, rng: np.random.Generator) -> np.ndarray:
    """Points (3, d) drawn from the first layer's law, which the user may have written."""
    law, where = family.law(0), f"family {family.name!r}: initial"
    try:
        theta = np.asarray(law.sample(rng, 3), dtype=np.float64)
        density = np.asarray(law.density(theta), dtype=np.float64)
    except Exception as error:  # the user's own code
        raise InputError(f"{where} is a law that failed: {brief(error)}") from error

    if theta.shape != (3, family.dim) or density.shape != (3,):
        raise InputError(
            f"{where} is a law of samples {theta.shape} and densities {density.shape}, not (3, d) and (3,)"
        )
    if not np.isfinite(theta).all() or not np.isfinite(density).all() or (density < 0.0).any():
        raise InputError(f"{where} is a law with samples or densities that are not finite, or negative densities")
    return theta


def _steady_value(where: str, function: Callable[..., object], tokens: jax.Array, *theta: jax.Array) -> jax.Array:
    """What a user's function makes of a sample's tokens (N, D); it must be one array, and the same at every call."""
    values: list[jax.Array] = []
    for _ in range(2):
        try:
            value = function(tokens, *theta)
        except (Exception, SystemExit) as error:  # the user's own code
            raise InputError(f"{where} failed on tokens {tokens.shape}: {brief(error)}") from error
        if not isinstance(value, jax.Array | np.ndarray):
            raise InputError(f"{where} returns a {type(value).__name__}; must be one array, for example by jnp.stack")
        values.append(jnp.asarray(value))

    if not jax.config.jax_enable_x64:
        raise InputError(f"{where} switches off JAX's double precision (jax_enable_x64); mfpde needs it")
    if not np.array_equal(values[0], values[1], equal_nan=True):
        given = "tokens and theta" if theta else "tokens"
        raise InputError(f"{where} gives two values for the same {given}; numbers are to be drawn outside it, once")
    return values[0]


def _differentiate(
    where: str,
    function: Callable[..., jax.Array],
    derivatives: Derivatives,
    *arguments: jax.Array,
    twice: bool = False,
) -> tuple[jax.Array, ...]:
    """The derivatives of Σ function² in every argument; `twice` where the certificate takes second derivatives, too.

    Raises:
        InputError: when JAX cannot differentiate the function, as the solver does, without seeing the numbers.
    """
    try:
        program = trace(function, *arguments)
        if program.form not in derivatives:

            def size(given: tuple[jax.Array, ...], held: Sequence[Any]) -> jax.Array:
                return jnp.sum(program.run(held, *given) ** 2)

            def steepness(given: tuple[jax.Array, ...], held: Sequence[Any]) -> jax.Array:
                return sum((jnp.sum(slope**2) for slope in jax.grad(size)(given, held)), jnp.zeros(()))

            if twice:
                jax.eval_shape(jax.grad(steepness), arguments, program.held)
            derivatives[program.form] = jax.jit(jax.grad(size))
        return derivatives[program.form](arguments, program.held)
    except Exception as error:  # the user's own code
        raise InputError(f"{where} is not differentiable by JAX: {brief(error)}") from error


def _check_linear(family: Family, tokens: jax.Array, rng: np.random.Generator) -> None:
    """f(q, αx + βy) = α f(q, x) + β f(q, y) at random points."""
    axes = np.asarray(family.linear)

    def update(theta: np.ndarray) -> np.ndarray:
        return np.asarray(family.update(tokens, jnp.asarray(theta)))

    for q in family.law(0).sample(rng, 3):
        x, y, both = q.copy(), q.copy(), q.copy()
        x[axes], y[axes] = rng.normal(size=(2, len(axes)))
        alpha, beta = rng.normal(size=2)
        both[axes] = alpha * x[axes] + beta * y[axes]

        left, right = update(both), alpha * update(x) + beta * update(y)
        if not np.abs(left - right).max() <= _LINEAR_TOLERANCE * (np.abs(left).max() + np.abs(right).max() + 1e-300):
            raise InputError(
                f"family {family.name!r}: linear = {family.linear}, but update is not jointly linear and homogeneous "
                "in these coordinates"
            )


def _check_integral(
    family: Family, integral: Integral, tokens: jax.Array, rng: np.random.Generator, derivatives: Derivatives
) -> None:
    """The fast integral is Σ_u w_u f(T, θ_u), and can be differentiated."""
    where = f"family {family.name!r}: integral"
    theta, weights = jnp.asarray(family.law(0).sample(rng, 3)), jnp.asarray(rng.normal(size=3))
    expected = sum(w * family.update(tokens, t) for w, t in zip(weights, theta, strict=True))

    try:
        found = jnp.asarray(integral(tokens, theta, weights))
    except Exception as error:  # the user's own code
        raise InputError(f"{where} failed: {brief(error)}") from error
    if found.shape != tokens.shape or not np.allclose(found, expected, rtol=1e-9, atol=1e-12):
        raise InputError(f"{where} is not the weighted sum of update over units")
    _differentiate(where, integral, derivatives, tokens, theta, weights)


def _check_probabilities(name: str, targets: NDArray[np.float64] | None, loss: str) -> None:
    """Rows that cross-entropy can be taken of; labels have become such rows."""
    if targets is None:
        return
    sums = targets.sum(axis=1)
    bad = (targets < 0.0).any(axis=1) | (np.abs(sums - 1.0) > _ROUNDING)
    if bad.any():
        n = int(bad.argmax())
        raise InputError(
            f"task: {name} of sample {n} are no probabilities (they sum to {sums[n]:g}); "
            f"model.loss = {loss!r} needs labels, or rows that are nonnegative and sum to 1"
        )


def digest(model: Transformer, task: Task) -> str:
    """A text by which a model and a task are known again, whatever the machine rounds: sums to six digits, hashed."""
    words = [repr((model.step, model.norm, model.loss))]
    words += [repr([(family.name, family.dim, tuple(family.linear)) for family in stage]) for stage in model.stages]
    for size, total, absolute, squares in fingerprint(model, task).reshape(-1, 4):
        share = round(total / absolute, 6) + 0.0 if absolute > _NOISE else 0.0
        words.append(f"{size:.0f} {share:.6f} {_six_digits(absolute)} {_six_digits(squares)}")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _six_digits(value: float) -> str:
    return f"{value if value > _NOISE else 0.0:.5e}"


def fingerprint(model: Transformer, task: Task) -> NDArray[np.float64]:
    """A few numbers in which models and tasks differ: ranks that drew their own random numbers have others."""
    given = (task.tokens, task.targets, task.test_tokens, task.test_targets)
    arrays = [np.asarray(array) for array in given if array is not None]
    tokens = jnp.asarray(task.tokens[0])

    for family in model.families:
        laws = [family.law(layer) for layer in range(model.layers)]
        arrays += [np.array([law.mean for law in laws]), np.array([law.std for law in laws])]
        arrays += [law.covariance for law in laws if not law.diagonal]
        arrays += [np.asarray(family.update(tokens, jnp.asarray(laws[0].mean) + jnp.asarray(laws[0].std)))]
    arrays += [np.asarray(model.readout(tokens))]

    return np.array([value for a in arrays for value in (a.size, a.sum(), np.abs(a).sum(), np.square(a).sum())])
