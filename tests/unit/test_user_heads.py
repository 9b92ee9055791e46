"""What a user's head may be: refused before anything is written, or solved as what it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mfpde
from mfpde.errors import ComputationError, InputError
from mfpde.problem.model_checks import try_out

TASK = mfpde.Task(np.random.default_rng(0).normal(size=(4, 3, 2)), np.ones((4, 1)))
type Update = Callable[[jax.Array, jax.Array], jax.Array]


def model(update: Update, readout: Callable[[jax.Array], jax.Array] | None = None) -> mfpde.Transformer:
    head = mfpde.Family("head", 2, update, mfpde.Normal([0.5, 0.0], [0.5, 0.5]), linear=(1,))
    return mfpde.Transformer([[head]], 2, readout or (lambda t: t[-1, 1:]))


def by_rows(tokens: jax.Array, theta: jax.Array) -> object:
    return [row * theta[1] for row in tokens]


def by_tuple(tokens: jax.Array, theta: jax.Array) -> object:
    return tuple(row * theta[1] for row in tokens)


def drawn(tokens: jax.Array, theta: jax.Array) -> jax.Array:
    return theta[1] * tokens * np.random.rand()  # noqa: NPY002  (as a user may write)


def counted() -> Callable[[jax.Array], jax.Array]:
    calls = itertools.count(1)
    return lambda tokens: tokens[-1, 1:] * next(calls)


def rule_without_second_derivative(tokens: jax.Array, theta: jax.Array) -> jax.Array:
    @jax.custom_vjp
    def apply(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    def back(x: jax.Array, pull: jax.Array) -> tuple[jax.Array]:
        slope = jax.pure_callback(lambda y: 1.0 - np.tanh(y) ** 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        return (pull * slope,)

    apply.defvjp(lambda x: (jnp.tanh(x), x), back)
    return theta[1] * apply(theta[0] * tokens)


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (by_rows, "family 'head': update returns a list; must be one array, for example by jnp.stack"),
        (by_tuple, "family 'head': update returns a tuple; must be one array, for example by jnp.stack"),
        (drawn, "family 'head': update gives two values for the same tokens and theta"),
        (rule_without_second_derivative, "family 'head': update is not differentiable by JAX"),
    ],
)
def test_heads_that_are_refused(update: Update, line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line) as caught:
        mfpde.solve_limit(model(update), TASK, weight_decay=0.1, horizon=0.1, directory=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("readout", "line"),
    [
        (lambda t: [t[-1, 1]], "model: readout returns a list; must be one array, for example by jnp.stack"),
        (counted(), "model: readout gives two values for the same tokens; numbers are to be drawn outside it, once"),
    ],
)
def test_readouts_that_are_refused(readout: Callable[[jax.Array], jax.Array], line: str) -> None:
    with pytest.raises(InputError, match=line):
        try_out(model(lambda t, p: p[1] * p[0] * t, readout), TASK)


def test_an_initial_law_that_is_drawn_anew_is_refused() -> None:
    """It is asked for by every part of the solver."""
    calls = itertools.count()
    head = mfpde.Family("head", 1, lambda t, p: p * t, lambda _: mfpde.Normal([0.1 * next(calls)], [0.5]))
    with pytest.raises(InputError, match="family 'head': initial gives two laws for layer 0"):
        try_out(mfpde.Transformer([[head]], 2, lambda t: t[-1, 1:]), TASK)


@pytest.mark.parametrize("where", ["model or task", "family 'head': update", "model: readout"])
def test_double_precision_that_is_switched_off_is_named(where: str) -> None:
    def switching(here: str, value: jax.Array) -> jax.Array:
        if here == where:
            jax.config.update("jax_enable_x64", False)
        return value

    tried = model(
        lambda t, p: switching("family 'head': update", p[1] * p[0] * t),
        lambda t: switching("model: readout", t[-1, 1:]),
    )
    switching("model or task", TASK.tokens)
    try:
        with pytest.raises(InputError, match=rf"{where}.* double precision.* mfpde needs it"):
            try_out(tried, TASK)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_a_readout_with_a_rule_for_reverse_mode_is_taken() -> None:
    @jax.custom_vjp
    def squash(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    squash.defvjp(lambda x: (jnp.tanh(x), x), lambda x, pull: (pull * (1.0 - jnp.tanh(x) ** 2),))
    density = mfpde.Density(degree=2, cells=8, frame="comoving")
    risks = [
        mfpde.solve_limit(
            model(lambda t, p: p[1] * jnp.tanh(p[0] * t), lambda t, last=last: last(t[-1, 1:])),
            TASK, weight_decay=0.1, horizon=0.1, density=density,
        ).history["risk"]
        for last in (squash, jnp.tanh)
    ]  # fmt: skip
    assert risks[0] == pytest.approx(risks[1], rel=1e-12)


def test_a_head_that_is_not_finite_inside_the_mesh_is_named_with_its_parameters(tmp_path: Path) -> None:
    head = model(lambda t, p: p[1] * jnp.where(p[0] > 1.7, jnp.nan, 1.0) * t)
    with pytest.raises(ComputationError, match=r"update of family .head. in layer 0 at theta"):
        mfpde.solve_limit(head, TASK, weight_decay=0.1, horizon=0.1, directory=tmp_path / "run")


def test_a_readout_that_is_not_finite_for_some_sample_is_not_laid_on_a_family() -> None:
    task = mfpde.Task(np.stack([np.ones((3, 2)), -np.ones((3, 2))]), np.ones((2, 1)))
    readout = model(lambda t, p: p[1] * p[0] * t, lambda t: jnp.sqrt(t[-1, 1:]))
    with pytest.raises(ComputationError, match=r"the risk is nan, .* is the readout finite for every sample"):
        mfpde.solve_limit(
            readout, task, weight_decay=0.1, horizon=0.1, density=mfpde.Density(degree=1, cells=6, frame="comoving")
        )
