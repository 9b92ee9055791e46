"""The least potential that is found, against brute force: narrow units, periodic ones, and convex problems at random.

The widths and frequencies of units stand in the tokens, so that one compiled program serves every case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI
from scipy.optimize import minimize

from mfpde.limit.backprop import Backprop
from mfpde.limit.certificate.certificate import BlockGap, certify, gap_kind
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.transformer import Transformer

DECAY = 0.05
type Gain = Callable[[np.ndarray], np.ndarray]


def bump(tokens, theta):  # type: ignore[no-untyped-def]
    """a exp(−(x − w)²/2h²) of tokens (x, h)."""
    added = theta[0] * jnp.exp(-((tokens[:, 0] - theta[1]) ** 2) / (2.0 * tokens[:, 1] ** 2))
    return jnp.stack([added, 0.0 * added], axis=1)


def wave(tokens, theta):  # type: ignore[no-untyped-def]
    """a sin(ω w x) of tokens (x, ω)."""
    added = theta[0] * jnp.sin(tokens[:, 1] * theta[1] * tokens[:, 0])
    return jnp.stack([added, 0.0 * added], axis=1)


def tilted(tokens, theta):  # type: ignore[no-untyped-def]
    """a tanh(w x + b)(1 + cos(b y)/2) of tokens (x, y)."""
    added = theta[0] * jnp.tanh(theta[1] * tokens[:, 0] + theta[2]) * (1.0 + 0.5 * jnp.cos(theta[2] * tokens[:, 1]))
    return jnp.stack([added, 0.0 * added], axis=1)


def one_layer(update: Callable, dim: int) -> Transformer:  # type: ignore[type-arg]
    law = Normal([0.0] * dim, [0.5] + [1.0] * (dim - 1))
    return Transformer([[Family("unit", dim, update, law, linear=(0,))]], 1, lambda t: t[-1, :1])


MODELS = {"bump": one_layer(bump, 2), "wave": one_layer(wave, 2), "tilted": one_layer(tilted, 3)}


@dataclass(frozen=True)
class Case:
    """A convex problem: samples of one token each, and units that start on a grid with the weights of their law."""

    name: str
    tokens: np.ndarray
    targets: np.ndarray

    def certified(self) -> tuple[BlockGap, float, Gain]:
        """What the certificate says, the energy at the start, and the gain as a function of q (n, m)."""
        model = MODELS[self.name]
        law = model.families[0].law(0)
        axes = np.meshgrid(*[np.linspace(-4.0, 4.0, 9) * s + m for m, s in zip(law.mean, law.std, strict=True)],
                           indexing="ij")  # fmt: skip
        theta = np.stack([axis.ravel() for axis in axes], axis=1)
        mass = law.density(theta)
        mass /= mass.sum()
        q, place = np.unique(theta[:, 1:], axis=0, return_inverse=True)
        weights = np.bincount(place.ravel(), mass * theta[:, 0], minlength=len(q))

        sweep = Backprop(MPI.COMM_SELF, model, self.tokens, self.targets)
        units, square = [q[None]], [(mass @ (theta**2).sum(axis=1))[None]]
        outcome = sweep(units, [weights[None]], square)
        flow = SimpleNamespace(
            model=model,
            weight_decay=DECAY,
            temperature=0.0,
            backprop=sweep,
            moments=lambda _: (units, [weights[None]], []),
        )
        block = certify(flow, None, SimpleNamespace(outcome=outcome)).blocks[0]  # type: ignore[arg-type]
        assert gap_kind(model, self.tokens) == "best found"

        def gain(points: np.ndarray) -> np.ndarray:
            updates = np.stack([self._unit(x[-1], points) for x in self.tokens])  # (n, u)
            started = np.stack([self._unit(x[-1], q) for x in self.tokens]) @ weights
            costate = (self.tokens[:, -1, 0] + started - self.targets[:, 0]) / len(self.tokens)
            return (costate @ updates) ** 2 / (2.0 * DECAY)

        return block, outcome.risk + 0.5 * DECAY * float(square[0][0]), gain

    def _unit(self, token: np.ndarray, q: np.ndarray) -> np.ndarray:
        x, other = token
        if self.name == "bump":
            return np.exp(-((x - q[:, 0]) ** 2) / (2.0 * other**2))
        if self.name == "wave":
            return np.sin(other * q[:, 0] * x)
        return np.tanh(q[:, 0] * x + q[:, 1]) * (1.0 + 0.5 * np.cos(q[:, 1] * other))


def least(gain: Gain, points: np.ndarray) -> float:
    """The least W near the lowest of some points (n, m)."""

    def w(q: np.ndarray) -> float:
        return float(0.5 * DECAY * (q**2).sum() - gain(q[None])[0])

    values = 0.5 * DECAY * (points**2).sum(axis=1) - gain(points)
    lowest = points[np.argsort(values)[:5]]
    return min(float(minimize(w, q, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).fun) for q in lowest)


def narrow() -> Iterator[tuple[Case, np.ndarray]]:
    for width in (0.02, 0.05, 0.1, 0.3, 1.0):
        for x in (5.55, *np.linspace(-6.1, 6.3, 13)):
            near = x + width * np.linspace(-6.0, 6.0, 4001)
            yield Case("bump", np.array([[[x, width]]]), np.array([[x + 1.5]])), near[:, None]


def periodic() -> Iterator[tuple[Case, np.ndarray]]:
    for frequency in (0.5, 2.0, 7.0, 20.0):
        for x in (0.7, 1.3, 3.1):
            case = Case("wave", np.array([[[x, frequency]]]), np.array([[x + 1.1]]))
            yield case, np.linspace(-12.0, 12.0, 400_001)[:, None]


def drawn(seed: int = 11) -> Iterator[tuple[Case, np.ndarray]]:
    rng = np.random.default_rng(seed)
    line = np.linspace(-25.0, 25.0, 200_001)[:, None]
    plane = np.stack(np.meshgrid(*[np.linspace(-20.0, 20.0, 501)] * 2), axis=-1).reshape(-1, 2)
    for k in range(50):
        n = 6
        x, noise = rng.uniform(-3.0, 3.0, size=n), rng.normal(size=n)
        name = ("bump", "wave", "tilted")[k % 3]
        other = {"bump": rng.uniform(0.05, 1.0, n), "wave": rng.uniform(0.5, 6.0, n), "tilted": rng.normal(size=n)}
        tokens = np.stack([x, other[name]], axis=1)[:, None]
        yield Case(name, tokens, (x + noise)[:, None]), plane if name == "tilted" else line


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        (narrow, 1.0),
        (periodic, 1.0),
        (drawn, 0.95),
        *(
            pytest.param(partial(drawn, seed), 0.95, marks=pytest.mark.study, id=f"seed {seed}")
            for seed in (21, 22, 23, 24)
        ),
    ],
)
def test_the_gap_is_within_one_per_cent_and_above_what_is_missing(
    kind: Callable[[], Iterator[tuple[Case, np.ndarray]]], share: float
) -> None:
    """Against the minimum by brute force, and against the energy of the best measure on one place."""
    close = []
    for case, points in kind():
        block, energy, gain = case.certified()
        true = block.mean - least(gain, points)
        assert block.gap <= true * (1.0 + 1e-6) + 1e-12, case
        near = block.gap >= 0.99 * true
        close.append(near)
        if near:
            assert block.margin <= 0.01 * true, case
            assert block.gap >= energy - _by_one_unit(case, points) - 1e-12, case
    assert np.mean(close) >= share


def _by_one_unit(case: Case, points: np.ndarray) -> float:
    """The energy of the best measure on one place: an upper estimate of the least energy Q*."""
    some = points[:: max(1, len(points) // 4000)]
    rest = case.targets[:, 0] - case.tokens[:, -1, 0]
    units = np.stack([case._unit(x[-1], some) for x in case.tokens])
    a = (rest @ units) / ((units**2).sum(axis=0) + len(rest) * DECAY)
    risk = 0.5 * ((a * units - rest[:, None]) ** 2).mean(axis=0)
    return float((risk + 0.5 * DECAY * (a**2 + (some**2).sum(axis=1))).min())
