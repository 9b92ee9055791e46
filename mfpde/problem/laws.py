"""Initial laws: densities on R^d with a known mean and covariance, most of them products of one-dimensional ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import lgamma, pi
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import plain, real, show, whole

Array = NDArray[np.float64]
_MOST = 10**9  # coordinates
_SYMMETRIC = 1e-12  # by which a covariance may miss its transpose, relative to its largest entry


@dataclass(frozen=True)
class Law:
    """A law on R^d; subclasses give the one-dimensional density of mean 0 and variance 1 of a product law.

    A law that is no product overrides `density`, `sample` and `covariance`, and has True for `correlated` or `parts`
    of its own.

    Attributes:
        mean: mean of each coordinate, d numbers.
        std: standard deviation of each coordinate, d numbers; zero where all mass is at the mean.
        support: half-width in standard deviations beyond which the density is zero; infinite where it never is.
        kinks: where the standard density or its first derivative jumps, in standard deviations.
        tails: by how much further than a normal law's its tails reach, for the sizes of boxes that no setting gives.

    Raises:
        InputError: for numbers that are not finite, std that is negative, or lengths that differ.
    """

    mean: Sequence[float]
    std: Sequence[float]
    support: ClassVar[float] = float(np.inf)
    kinks: ClassVar[tuple[float, ...]] = ()
    tails: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.mean) != len(self.std):
            raise InputError(f"mean has {len(self.mean)} numbers and std {len(self.std)}; give one per coordinate")
        for value in self.std:
            if value != 0.0:
                real("std", value, above=0.0)

    @property
    def dim(self) -> int:
        """d."""
        return len(self.mean)

    @property
    def degenerate(self) -> tuple[int, ...]:
        """The coordinates in which all mass is at the mean; `density` is one on the others alone."""
        return tuple(axis for axis, value in enumerate(self.std) if value == 0.0)

    @property
    def covariance(self) -> Array:
        """The covariance, (d, d)."""
        return np.diag(np.square(self.std))

    @property
    def product(self) -> bool:
        """Are its coordinates independent, each with the density `standard`?"""
        return type(self).density is Law.density

    @property
    def correlated(self) -> bool:
        """Is it the image of independent coordinates under a linear map that is not diagonal?"""
        return False

    @property
    def scale(self) -> float:
        """The length on which the density varies, in standard deviations."""
        return 1.0

    @property
    def parts(self) -> tuple[tuple[float, Law], ...]:
        """Weights and laws of which this one is the mixture: itself, unless it is a `Mixture`."""
        return ((1.0, self),)

    def box(self, reach: float | Array, within_support: bool = False) -> tuple[Array, Array]:
        """The corners (d,) of the least box that holds every part to `reach` of the part's standard deviations.

        Args:
            reach: a number, or one per coordinate.
            within_support: but no further than the part's support.
        """
        low, high = [], []
        for _, part in self.parts:
            mean, std = np.asarray(part.mean), np.asarray(part.std)
            half = np.where(std > 0.0, np.minimum(reach, part.support if within_support else np.inf), 0.0) * std
            low.append(mean - half)
            high.append(mean + half)
        return np.min(low, axis=0), np.max(high, axis=0)

    def density(self, theta: Array) -> Array:
        """ρ₀(θ) for points (..., d) -> (...)."""
        apart, std = np.asarray(theta) - np.asarray(self.mean), np.asarray(self.std)
        if self.degenerate:
            apart, std = apart[..., std > 0.0], std[std > 0.0]
        return np.asarray(np.prod(self.standard(apart / std) / std, axis=-1))

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Independent draws, shape (count, d); fewer draws of one generator are the first of more."""
        drawn = self.draw(rng, (count, self.dim))
        return np.asarray(np.asarray(self.mean) + np.asarray(self.std) * drawn)

    def standard(self, s: Array) -> Array:
        """The one-dimensional density of mean 0 and variance 1."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
        """Draws from the standard density."""
        raise NotImplementedError


@dataclass(frozen=True)
class Normal(Law):
    """Normal, with independent coordinates of the given std, or with a covariance.

    Attributes:
        cov: Σ (d, d), symmetric and positive definite, in the place of std: ρ₀ ∝ exp(−(θ − m)ᵀ Σ⁻¹ (θ − m)/2).

    Raises:
        InputError: for both or neither of std and cov, and for a matrix that is no covariance.
    """

    std: Sequence[float] = ()
    cov: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        given = plain(self.std)
        if self.cov is not None and plain(self.cov) not in ((), []):
            cov = _covariance(self.cov)
            roots = tuple(np.sqrt(np.diag(cov)).tolist())
            if given not in ((), [], None, roots, list(roots)):
                raise InputError(f"std = {show(given)} and cov = {show(plain(self.cov))} exclude each other; give one")
            object.__setattr__(self, "cov", tuple(map(tuple, cov.tolist())))
            object.__setattr__(self, "std", roots)
        elif given in ((), None):
            raise InputError("std is missing; give std or cov")
        super().__post_init__()

    @property
    def covariance(self) -> Array:
        """Σ."""
        return np.array(self.cov) if self.cov else super().covariance

    @property
    def product(self) -> bool:
        """Is Σ diagonal?"""
        return not self.correlated

    @property
    def correlated(self) -> bool:
        """Has Σ entries beside its diagonal?"""
        return bool(self.cov) and bool(np.count_nonzero(self.covariance - np.diag(np.diag(self.covariance))))

    def density(self, theta: Array) -> Array:  # noqa: D102  (as in the base class)
        if not self.correlated:
            return super().density(theta)
        root = np.linalg.cholesky(self.covariance)
        s = (np.asarray(theta) - np.asarray(self.mean)) @ np.linalg.inv(root).T
        return np.asarray(np.prod(self.standard(s), axis=-1) / np.prod(np.diag(root)))

    def sample(self, rng: np.random.Generator, count: int) -> Array:  # noqa: D102
        if not self.correlated:
            return super().sample(rng, count)
        drawn = self.draw(rng, (count, self.dim))
        return np.asarray(np.asarray(self.mean) + drawn @ np.linalg.cholesky(self.covariance).T)

    def standard(self, s: Array) -> Array:  # noqa: D102
        return np.asarray(np.exp(-0.5 * s**2) / np.sqrt(2 * np.pi))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.normal(size=shape)


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform on a box of half-width √3 std."""

    support: ClassVar[float] = float(np.sqrt(3.0))
    kinks: ClassVar[tuple[float, ...]] = (-support, support)

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.where(np.abs(s) <= np.sqrt(3.0), 0.5 / np.sqrt(3.0), 0.0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), size=shape)


@dataclass(frozen=True)
class Bump(Law):
    """Proportional to (1 − (s/√11)²)⁴ where that is positive: compact support, three continuous derivatives."""

    support: ClassVar[float] = float(np.sqrt(11.0))

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        inside = np.maximum(1.0 - s**2 / 11.0, 0.0)
        return np.asarray(315.0 / 256.0 / np.sqrt(11.0) * inside**4)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        # (1 − x²)⁴ on [−1, 1] is the symmetric beta law of parameter 5, stretched
        return np.sqrt(11.0) * (2.0 * rng.beta(5.0, 5.0, size=shape) - 1.0)


@dataclass(frozen=True)
class StudentT(Law):
    """Independent coordinates of Student's t law, ∝ (1 + s²/(df − 2))^{−(df + 1)/2}: heavy tails, variance std².

    Attributes:
        df: degrees of freedom, above 2; moments of order df and above are infinite.
    """

    df: float
    tails: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "df", real("df", self.df, above=2.0))

    @property
    def scale(self) -> float:
        """That of the normal law which is the limit for large df; the heavier the tails the narrower."""
        return float(np.sqrt((self.df - 2.0) / self.df))

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        df = self.df
        constant = np.exp(lgamma(0.5 * (df + 1.0)) - lgamma(0.5 * df)) / np.sqrt(pi * (df - 2.0))
        return np.asarray(constant * np.exp(-0.5 * (df + 1.0) * np.log1p(s**2 / (df - 2.0))))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return self.scale * rng.standard_t(self.df, size=shape)


@dataclass(frozen=True)
class Laplace(Law):
    """Independent coordinates of density exp(−√2 abs(s)) / √2: a kink at the mean, exponential tails."""

    kinks: ClassVar[tuple[float, ...]] = (0.0,)
    tails: ClassVar[float] = 2.0

    @property
    def scale(self) -> float:
        """1/√2."""
        return float(np.sqrt(0.5))

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.asarray(np.exp(-np.sqrt(2.0) * np.abs(s)) / np.sqrt(2.0))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.laplace(scale=np.sqrt(0.5), size=shape)


@dataclass(frozen=True)
class Zero(Law):
    """All mass at the origin, where v = 0 at the start; only for coordinates in which the update is linear.

    Attributes:
        count: of coordinates; a family takes it for as many as it has.
    """

    mean: Sequence[float] = field(init=False)
    std: Sequence[float] = field(init=False)
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", (0.0,) * whole("count", self.count, 1, _MOST))
        object.__setattr__(self, "std", (0.0,) * self.count)

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.ones_like(s)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: ARG002, D102
        return np.zeros(shape)


def _numbers(name: str, values: object) -> tuple[float, ...]:
    given = plain(values)
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"{name} = {show(values)}: must be a list of finite numbers, one per coordinate")
    return tuple(real(name, value) for value in given)


def _covariance(values: object) -> Array:
    """A matrix that is symmetric and positive definite."""
    given = plain(values)
    allowed = "must be a list of d lists of d finite numbers, symmetric and positive definite"
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"cov = {show(values)}: {allowed}")

    rows = [_numbers("cov", row) for row in given]
    if any(len(row) != len(rows) for row in rows):
        raise InputError(f"cov = {show(values)}: {allowed}")
    matrix = np.array(rows)
    for value in np.diag(matrix):
        real("cov", float(value), above=0.0)

    lopsided = np.abs(matrix - matrix.T).max() > _SYMMETRIC * np.abs(matrix).max()
    unit = np.sqrt(np.diag(matrix))
    if lopsided or np.linalg.eigvalsh(matrix / np.outer(unit, unit)).min() < _SYMMETRIC:
        raise InputError(f"cov = {show(values)}: {allowed}")
    return 0.5 * (matrix + matrix.T)
