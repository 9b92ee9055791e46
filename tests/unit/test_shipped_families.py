"""The shipped families against their formulas, token by token; the fast integral against the sum over units."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mfpde.problem.family import Family, integrate
from mfpde.problem.laws import Normal
from mfpde.problem.model_checks import check_family
from mfpde.problem.models.low_dimensional import bilinear_head, linear_head, neuron, softmax_head
from mfpde.problem.models.value_matrices import value_head, vector_neuron
from mfpde.problem.transformer import Transformer, residual_stream

RNG = np.random.default_rng(3)
W, U, E, G = RNG.normal(size=(2, 2)), RNG.normal(size=(2, 2)), RNG.normal(size=2), RNG.normal(size=2)
PLANE, SOLID = Normal([0.4, -0.3], [0.6, 0.5]), Normal([0.4, -0.3, 0.2], [0.6, 0.5, 0.7])
Formula = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def attention(t: np.ndarray, theta: np.ndarray, i: int) -> np.ndarray:
    """v Σ_j softmax_j(q ⟨T_i, W T_j⟩) T_j U of token i."""
    scores = [math.exp(theta[0] * (t[i] @ W @ other)) for other in t]
    return theta[1] * sum(s / sum(scores) * (other @ U) for s, other in zip(scores, t, strict=True))


def gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


A, P = RNG.normal(size=(2, 2, 2)), RNG.normal(size=(2, 3, 3))  # two forms, and scores of three places
MIXED = (Normal([0.3], [0.6]), Normal([0.0], [0.5]))


def with_values(query: str, causal: bool) -> Formula:
    """softmax_j(Σ_k u_k (T_i A_k T_j + P_k[i, j])) T_j V of token i; nothing for tokens that do not attend."""

    def added(t: np.ndarray, theta: np.ndarray, i: int) -> np.ndarray:
        u, value = theta[:2], theta[2:].reshape(2, 2)
        if query == "last" and i < len(t) - 1:
            return np.zeros(2)
        seen = range(i + 1) if causal else range(len(t))
        scores = [math.exp(sum(u[k] * (t[i] @ A[k] @ t[j] + P[k, i, j]) for k in range(2))) for j in seen]
        return sum(s / sum(scores) * (t[j] @ value) for s, j in zip(scores, seen, strict=True))

    return added


def vector(t: np.ndarray, theta: np.ndarray, i: int) -> np.ndarray:
    return math.tanh(sum(theta[k] * (t[i] @ A[0][k]) for k in range(2)) + 0.3) * theta[2:]


CASES: dict[str, tuple[Family, Formula]] = {
    "attention": (softmax_head("head", W, U, PLANE), attention),
    "tanh": (neuron("unit", E, G, PLANE), lambda t, p, i: p[0] * math.tanh(p[1] * (t[i] @ E)) * G),
    "gelu": (neuron("unit", E, G, PLANE, "gelu"), lambda t, p, i: p[0] * gelu(p[1] * (t[i] @ E)) * G),
    "softplus with bias": (
        neuron("unit", E, G, SOLID, "softplus", bias=True),
        lambda t, p, i: p[0] * math.log1p(math.exp(p[1] * (t[i] @ E) + p[2])) * G,
    ),
    "linear": (linear_head("head", 2, PLANE), lambda _t, p, _i: p),
    "value matrix": (value_head("head", A, MIXED, P), with_values("all", False)),
    "causal value matrix": (value_head("head", A, MIXED, P, causal=True), with_values("all", True)),
    "class attention": (value_head("head", A, MIXED, P, "last"), with_values("last", False)),
    "output vector": (vector_neuron("unit", A[0], MIXED, 0.3), vector),
    "bilinear": (bilinear_head("head", PLANE), lambda t, p, i: p[0] * p[1] * t[i]),
}


@pytest.mark.parametrize("name", CASES)
def test_update_integral_and_their_check(name: str) -> None:
    """`check_family` has nothing to say; f of every token to rounding; Σ_u w_u f with its derivatives."""
    family, formula = CASES[name]
    rng = np.random.default_rng(5)
    tokens, theta, weights = rng.normal(size=(3, 2)), rng.normal(size=(4, family.dim)), rng.normal(size=4)
    check_family(family, jnp.asarray(tokens))
    each = np.stack([[formula(tokens, p, i) for i in range(3)] for p in theta])  # (u, N, D)
    got = np.stack([np.asarray(family.update(jnp.asarray(tokens), jnp.asarray(p))) for p in theta])
    assert np.abs(got - each).max() < 1e-13
    given = (jnp.asarray(tokens), jnp.asarray(theta), jnp.asarray(weights))
    assert np.abs(np.asarray(integrate(family, *given)) - np.tensordot(weights, each, axes=1)).max() < 1e-13

    def size(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda *a: jnp.sum(jnp.sin(function(*a)))

    fast = jax.grad(size(lambda t, p, w: integrate(family, t, p, w)), argnums=(0, 1, 2))(*given)
    slow = jax.grad(size(lambda t, p, w: sum(w[k] * family.update(t, p[k]) for k in range(4))), argnums=(0, 1, 2))(
        *given
    )
    for a, b in zip(fast, slow, strict=True):
        assert np.abs(np.asarray(a - b)).max() < 1e-13


@pytest.mark.parametrize("depth", ["residual", "continuum"])
def test_tokens_that_families_see_are_normalised(depth: str) -> None:
    """With norm = "rms" a family that adds its tokens adds ones of mean square one; the stream and readout are not."""
    family = Family("copy", 1, lambda tokens, theta: theta[0] * tokens, Normal([1.0], [0.5]), linear=(0,))
    model = Transformer([[family]], 1, lambda tokens: tokens[-1], depth=depth, norm="rms")  # type: ignore[arg-type]
    tokens = jnp.asarray(RNG.normal(size=(3, 4)))
    units = ((jnp.full((1, 1, 1), 1e-6), jnp.ones((1, 1))),)
    added = (residual_stream(model, units, tokens) - tokens) / 1e-6
    assert np.abs(np.mean(np.square(added), axis=1) - 1.0).max() < 1e-5
    assert np.ptp(np.asarray(added / tokens), axis=1).max() < 1e-5
