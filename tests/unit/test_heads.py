"""What a user's head may be: refused before anything is written, or solved as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mfpde
from mfpde.errors import ComputationError, InputError
from mfpde.problem.trial import try_out

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


def test_double_precision_that_is_switched_off_is_named() -> None:
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(InputError, match="double precision is switched off"):
            try_out(model(lambda t, p: p[1] * p[0] * t), TASK)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_a_readout_with_a_rule_for_reverse_mode_is_taken() -> None:
    @jax.custom_vjp
    def squash(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    squash.defvjp(lambda x: (jnp.tanh(x), x), lambda x, pull: (pull * (1.0 - jnp.tanh(x) ** 2),))
    density = mfpde.Density(degree=2, cells=8)
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
