"""Functions that share a program, and those that must not."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mfpde.problem.family import Family, integrate
from mfpde.problem.laws import Normal
from mfpde.problem.programs import trace
from mfpde.problem.transformer import Transformer, residual_stream

TOKENS = np.random.default_rng(0).normal(size=(3, 2))
MATRICES = np.random.default_rng(1).normal(size=(2, 2, 2))
type Map = Callable[[jax.Array], jax.Array]


def plain(matrix: np.ndarray) -> Map:
    return lambda x: jnp.tanh(x @ jnp.asarray(matrix))


def reverse(matrix: np.ndarray) -> Map:
    """The same with a rule for reverse mode, which closes over the matrix."""

    @jax.custom_vjp
    def apply(x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ matrix)

    apply.defvjp(
        lambda x: (jnp.tanh(x @ matrix), x), lambda x, pull: ((pull * (1.0 - jnp.tanh(x @ matrix) ** 2)) @ matrix.T,)
    )
    return apply


def forward(matrix: np.ndarray) -> Map:
    """The same with a rule for forward mode, which closes over the matrix."""

    @jax.custom_jvp
    def apply(x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ matrix)

    apply.defjvp(
        lambda given, motion: (
            jnp.tanh(given[0] @ matrix),
            (1.0 - jnp.tanh(given[0] @ matrix) ** 2) * (motion[0] @ matrix),
        )
    )
    return apply


def nested(matrix: np.ndarray) -> Map:
    """The same, where the matrix is in sight and the rule's own derivative is not."""

    @jax.custom_jvp
    def slope(x: jax.Array) -> jax.Array:
        return 1.0 - jnp.tanh(x) ** 2

    slope.defjvp(lambda given, motion: (slope(given[0]), -2.0 * matrix[0, 0] * jnp.tanh(given[0]) * motion[0]))

    @jax.custom_jvp
    def apply(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    apply.defjvp(lambda given, motion: (apply(given[0]), slope(given[0]) * motion[0]))
    return lambda x: apply(x @ jnp.asarray(matrix))


def rectified(matrix: np.ndarray) -> Map:
    return lambda x: jax.nn.relu(x @ jnp.asarray(matrix))


def looped(matrix: np.ndarray) -> Map:
    return lambda x: jax.lax.fori_loop(0, 2, lambda _, y: jnp.tanh(y @ jnp.asarray(matrix)), x)


def compiled(matrix: np.ndarray) -> Map:
    return jax.jit(lambda x: x @ jnp.asarray(matrix))


def scaled(matrix: np.ndarray) -> Map:
    factor = float(matrix[0, 0])
    return lambda x: factor * x


def called_back(matrix: np.ndarray) -> Map:
    return lambda x: jax.pure_callback(lambda y: y @ matrix, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@pytest.mark.parametrize(
    ("kind", "shares"),
    [(plain, True), (rectified, True), (looped, True), (compiled, False), (scaled, False), (reverse, False),
     (forward, False), (nested, False), (called_back, False)],
)  # fmt: skip
def test_functions_share_a_program_only_where_all_that_determines_them_is_in_sight(
    kind: Callable[[np.ndarray], Map], shares: bool
) -> None:
    """Whether or not they share one, each runs as the function that it is."""
    one, other = (kind(matrix) for matrix in MATRICES)
    first, second = trace(one, TOKENS), trace(other, TOKENS)
    assert (first.form == second.form) == shares
    run = first.run if shares else second.run
    assert np.array_equal(run(second.held, jnp.asarray(TOKENS)), other(jnp.asarray(TOKENS)))
    assert trace(one, TOKENS[:1]).form != first.form


def test_a_rule_that_says_a_number_is_compared_by_it() -> None:
    """The rule closes over no array: its programs differ in the number that they hold."""

    def clipped(least: float) -> Map:
        @jax.custom_jvp
        def apply(x: jax.Array) -> jax.Array:
            return x

        apply.defjvp(lambda given, motion: (given[0], jnp.where(given[0] > least, motion[0], 0.0)))
        return apply

    forms = [trace(clipped(least), TOKENS).form for least in (0.5, 0.5, 0.6)]
    assert forms[0] == forms[1] != forms[2]


def head(name: str, apply: Map) -> Family:
    return Family(name, 2, lambda t, p: p[1] * apply(p[0] * t), Normal([0.5, 0.0], [0.5, 0.5]), linear=(1,))


@pytest.mark.parametrize("kind", [reverse, forward, nested])
def test_families_with_rules_of_their_own_in_one_stage(kind: Callable[[np.ndarray], Map]) -> None:
    """Value and derivatives of the stream are those of the families without rules, summed one by one."""
    theta = jnp.asarray(np.random.default_rng(2).normal(size=(2, 2, 4, 2)))
    weights = jnp.full((2, 4), 0.25)

    def final(maps: list[Map], theta: jax.Array) -> jax.Array:
        model = Transformer([[head(f"h{k}", apply) for k, apply in enumerate(maps)]], 2, lambda t: t[-1])
        return residual_stream(model, tuple((t, weights) for t in theta), jnp.asarray(TOKENS))

    def size(theta: jax.Array, kind: Callable[[np.ndarray], Map]) -> jax.Array:
        return jnp.sum(jnp.sin(final([kind(matrix) for matrix in MATRICES], theta)))

    value, slope = jax.value_and_grad(size)(theta, kind)
    expected, wanted = jax.value_and_grad(size)(theta, plain)
    assert float(value) == pytest.approx(float(expected), rel=1e-14)
    assert np.abs(slope - wanted).max() < 1e-14
    assert integrate(head("h", kind(MATRICES[0])), jnp.asarray(TOKENS), theta[0, 0], weights[0]).shape == (3, 2)
