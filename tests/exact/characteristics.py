"""The in-context task by characteristics: particles of the initial law, in a Transformer written anew, and no mesh.

One attention head a layer, W = diag(1, 0), U = diag(0, 1), as in runs/in-context.toml: scores q x_i x_j, values v y_j.
The x never change, and with S_ij(q) = softmax_j(q x_i x_j) all that a layer does to the y of a sample is

    y ← y + A y / L,    A = Σ_p m_p v_p S(q_p),    G(q) = mean_n ⟨P, S(q) y⟩,    q' = −v G' − λ q,    v' = −G − λ v

with the co-state P of the layer's end. The masses m_p are those of the trapezoidal rule on a product grid of the normal
laws, and time is integrated by Dormand and Prince's pair of order 8. S is evaluated at every particle, or, for large
grids, at the Chebyshev points of many short intervals of q; how far G is off at particles is then measured on the way.

Nothing of mfpde is used: the tests give the arrays of the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.integrate import DOP853

Array = NDArray[np.float64]
_CHUNK = 64  # particles at a time
_HALVINGS = 10  # of an exponent, before its exponential is a polynomial
_LARGEST = 300.0  # exponents for which that is exact to 1e-12
_ORDER = 16  # Chebyshev points in each interval


@njit(fastmath=True, cache=True)
def _exponentials(q: Array, score: float, out: Array) -> None:
    """exp(q · score) by a polynomial and squarings, which the compiler vectorises."""
    for p in range(q.size):
        z = q[p] * score / 1024.0
        e = 1.0 + z / 8.0
        for k in (7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0):
            e = 1.0 + z / k * e
        for _ in range(_HALVINGS):
            e *= e
        out[p] = e


@njit(fastmath=True, cache=True)
def _grown(q: Array, x: Array, grown: Array, total: Array) -> None:
    """exp(q x_i x_j) (N, N, p), symmetric in i and j, and one over its sums over j, (N, p)."""
    size, count = x.size, q.size
    for i in range(size):
        for j in range(i, size):
            _exponentials(q, x[i] * x[j], grown[i, j, :count])
            for p in range(count):
                grown[j, i, p] = grown[i, j, p]
    for i in range(size):
        for p in range(count):
            total[i, p] = 0.0
        for j in range(size):
            for p in range(count):
                total[i, p] += grown[i, j, p]
        for p in range(count):
            total[i, p] = 1.0 / total[i, p]


@njit(fastmath=True, cache=True)
def averages(q: Array, weight: Array, x: Array) -> Array:
    """Σ_p w_p softmax_j(q_p x_i x_j), (n, N, N), from q and w (p,) and x (n, N)."""
    samples, size = x.shape
    made = np.zeros((samples, size, size))
    grown, total = np.empty((size, size, _CHUNK)), np.empty((size, _CHUNK))
    for n in range(samples):
        for begin in range(0, q.size, _CHUNK):
            some, count = q[begin : begin + _CHUNK], min(_CHUNK, q.size - begin)
            _grown(some, x[n], grown, total)
            for i in range(size):
                for p in range(count):
                    total[i, p] *= weight[begin + p]
                for j in range(size):
                    found = 0.0
                    for p in range(count):
                        found += grown[i, j, p] * total[i, p]
                    made[n, i, j] += found
    return made


@njit(fastmath=True, cache=True)
def potentials(q: Array, costate: Array, value: Array, x: Array) -> tuple[Array, Array]:
    """G(q) and G'(q) (p,) from P and y (n, N): mean_n Σ_ij P_i S_ij y_j."""
    samples, size = x.shape
    found, slope = np.zeros(q.size), np.zeros(q.size)
    grown, total = np.empty((size, size, _CHUNK)), np.empty((size, _CHUNK))
    mean, moment, both = np.empty(_CHUNK), np.empty(_CHUNK), np.empty(_CHUNK)
    for n in range(samples):
        for begin in range(0, q.size, _CHUNK):
            some, count = q[begin : begin + _CHUNK], min(_CHUNK, q.size - begin)
            _grown(some, x[n], grown, total)
            for i in range(size):
                mean[:], moment[:], both[:] = 0.0, 0.0, 0.0
                for j in range(size):
                    for p in range(count):
                        share = grown[i, j, p] * total[i, p]
                        mean[p] += share * value[n, j]
                        moment[p] += share * x[n, j]
                        both[p] += share * value[n, j] * x[n, j]
                factor = costate[n, i] / samples
                for p in range(count):
                    found[begin + p] += factor * mean[p]
                    slope[begin + p] += factor * x[n, i] * (both[p] - mean[p] * moment[p])
    return found, slope


@njit(cache=True)
def _polynomials(q: Array, low: float, width: float, panels: int, place: NDArray[np.int64], at: Array) -> None:
    """Of each q its interval (p,) and the values (p, 16) of the interval's Lagrange polynomials."""
    angle = (np.arange(_ORDER) + 0.5) * np.pi / _ORDER
    points, sign = -np.cos(angle), (-1.0) ** np.arange(_ORDER) * np.sin(angle)
    for p in range(q.size):
        s = (q[p] - low) / width
        place[p] = min(max(int(s), 0), panels - 1)
        t, total, exact = 2.0 * (s - place[p]) - 1.0, 0.0, -1
        for g in range(_ORDER):
            if t == points[g]:
                exact = g
                break
            at[p, g] = sign[g] / (t - points[g])
            total += at[p, g]
        if exact >= 0:
            at[p] = 0.0
            at[p, exact] = 1.0
        else:
            at[p] /= total


@njit(cache=True)
def _gathered(place: NDArray[np.int64], at: Array, table: Array) -> Array:
    """The polynomials of a table (intervals, 16) at the particles."""
    found = np.empty(place.size)
    for p in range(place.size):
        found[p] = (at[p] * table[place[p]]).sum()
    return found


@njit(cache=True)
def _scattered(place: NDArray[np.int64], at: Array, weight: Array, panels: int) -> Array:
    """Its transpose."""
    made = np.zeros((panels, _ORDER))
    for p in range(place.size):
        made[place[p]] += weight[p] * at[p]
    return made


@dataclass
class Flow:
    """Particles (L, p) of equal masses in every layer, in the Transformer that they make up.

    Attributes:
        x: first channel of the tokens (n, N).
        y: second channel.
        target: (n,), of the last token's second channel.
        decay: λ.
        mass: (p,).
        layers: L.
        panels: intervals of q at whose Chebyshev points S is evaluated; 0 for all particles.
        passes: how often the samples went through the Transformer.
        worst: the largest error of G at particles that was seen, 0 without intervals.
    """

    x: Array
    y: Array
    target: Array
    decay: float
    mass: Array
    layers: int = 4
    panels: int = 0
    passes: int = field(default=0)
    worst: float = field(default=0.0)

    def risk(self, q: Array, v: Array) -> float:
        """R from positions (L, p)."""
        stream, _ = self._forward(q, v)
        return float(0.5 * np.mean((stream[-1][:, -1] - self.target) ** 2))

    def energy(self, q: Array, v: Array) -> float:
        """R + λ/2 the mean of |θ|² over layers."""
        return self.risk(q, v) + 0.5 * self.decay * float(np.mean((q**2 + v**2) @ self.mass))

    def velocity(self, q: Array, v: Array) -> tuple[Array, Array]:
        """(q', v') of all particles, (L, p) each."""
        stream, mixing = self._forward(q, v)
        costate = np.zeros_like(self.y)
        costate[:, -1] = stream[-1][:, -1] - self.target
        moved, pushed = np.empty_like(q), np.empty_like(v)
        for layer in reversed(range(self.layers)):
            value, slope = self._potential(q[layer], costate, stream[layer])
            moved[layer] = -v[layer] * slope - self.decay * q[layer]
            pushed[layer] = -value - self.decay * v[layer]
            costate = costate + np.einsum("nij,ni->nj", mixing[layer], costate) / self.layers
        self.passes += 1
        return moved, pushed

    def _forward(self, q: Array, v: Array) -> tuple[list[Array], list[Array]]:
        """y before each layer and at the end, and A of each layer."""
        stream, mixing = [self.y], []
        for layer in range(self.layers):
            mixing.append(self._mixing(q[layer], self.mass * v[layer]))
            stream.append(stream[-1] + np.einsum("nij,nj->ni", mixing[-1], stream[-1]) / self.layers)
        return stream, mixing

    def _mixing(self, q: Array, weight: Array) -> Array:
        if not self.panels:
            return np.asarray(averages(q, weight, self.x))
        points, place, at = self._intervals(q)
        return np.asarray(averages(points, _scattered(place, at, weight, self.panels).ravel(), self.x))

    def _potential(self, q: Array, costate: Array, value: Array) -> tuple[Array, Array]:
        if not self.panels:
            return potentials(q, costate, value, self.x)  # type: ignore[no-any-return]
        points, place, at = self._intervals(q)
        tables = [table.reshape(self.panels, _ORDER) for table in potentials(points, costate, value, self.x)]
        found, slope = (_gathered(place, at, table) for table in tables)
        if self.passes % 50 == 0:
            some = np.linspace(0, q.size - 1, 40).astype(np.int64)
            exact = np.stack(potentials(q[some], costate, value, self.x))
            self.worst = max(self.worst, float(np.abs(exact - np.stack([found[some], slope[some]])).max()))
        return found, slope

    def _intervals(self, q: Array) -> tuple[Array, NDArray[np.int64], Array]:
        """The points (16 times intervals,), and where the particles are among them."""
        low, width = q.min(), np.ptp(q) / self.panels
        place, at = np.empty(q.size, np.int64), np.empty((q.size, _ORDER))
        _polynomials(q, low, width, self.panels, place, at)
        angle = (np.arange(_ORDER) + 0.5) * np.pi / _ORDER
        return (low + width * (np.arange(self.panels)[:, None] + 0.5 - 0.5 * np.cos(angle))).ravel(), place, at


@dataclass(frozen=True)
class Seen:
    """The particles at τ: positions (L, p, 2), masses (p,), risk and energy."""

    tau: float
    position: Array
    mass: Array
    risk: float
    energy: float


def product_grid(
    points: Sequence[int], mean: Sequence[float], std: Sequence[float], reach: float
) -> tuple[Array, Array]:
    """Positions (p, 2) and masses (p,) of two independent normal laws, trapezoidal to `reach` standard deviations."""
    lines = [np.linspace(-reach, reach, count) for count in points]
    weights = [np.exp(-0.5 * line**2) for line in lines]
    mass = np.multiply.outer(*weights).ravel()
    place = [m + s * line for m, s, line in zip(mean, std, lines, strict=True)]
    return np.stack(np.meshgrid(*place, indexing="ij"), axis=-1).reshape(-1, 2), mass / mass.sum()


def march(flow: Flow, start: Array, taus: Sequence[float], tolerance: float) -> Iterator[Seen]:
    """The particles, all layers from the same positions (p, 2), at increasing τ.

    Raises:
        ArithmeticError: for scores so large that the exponentials lose digits.
    """
    shape = (2, flow.layers, len(start))

    def rate(_: float, flat: Array) -> Array:
        q, v = flat.reshape(shape)
        if np.abs(q).max() * (flow.x**2).max() > _LARGEST:
            raise ArithmeticError(f"scores of {np.abs(q).max() * (flow.x**2).max():.3g}")
        return np.stack(flow.velocity(q, v)).ravel()

    now = np.broadcast_to(start.T[:, None], shape).ravel()
    tau, step = 0.0, 0.01
    for target in taus:
        if target > tau:
            method = DOP853(rate, tau, now, target, first_step=min(step, target - tau), rtol=tolerance, atol=tolerance)
            while method.status == "running":
                step = method.h_abs
                if message := method.step():
                    raise ArithmeticError(message)
            tau, now = target, method.y
        q, v = now.reshape(shape)
        yield Seen(tau, np.stack([q, v], axis=-1), flow.mass, flow.risk(q, v), flow.energy(q, v))
