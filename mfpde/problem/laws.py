"""Initial laws: densities on R^d with a known mean and covariance, most of them products of one-dimensional ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
        mean: mean of each coordinate, d numbers; a single one may stand alone.
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
    def diagonal(self) -> bool:
        """Is the covariance known to be diagonal, by squares of std? Of a value matrix it has millions of entries."""
        return self.product

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

    @property
    def smooth(self) -> bool:
        """Is the density smooth on the whole line or plane?"""
        return len(self.parts) == 1 and not self.kinks and bool(np.isinf(self.support))

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

    @property
    def uniforms(self) -> int:
        """Of how many independent uniform numbers `quantiles` makes a draw."""
        return self.dim

    def quantiles(self, uniform: Array) -> Array:
        """Draws (n, d) from uniform numbers (n, `uniforms`) in (0, 1), by inverted distribution functions."""
        return np.asarray(np.asarray(self.mean) + np.asarray(self.std) * self.quantile(uniform))

    def even_in(self, axes: Sequence[int]) -> bool:
        """Is it the same law with the signs of these coordinates changed together?"""
        return all(self.mean[axis] == 0.0 for axis in axes)

    def quantile(self, p: Array) -> Array:
        """The inverse of the standard density's distribution function."""
        raise NotImplementedError

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

    def quantiles(self, uniform: Array) -> Array:  # noqa: D102
        if not self.correlated:
            return super().quantiles(uniform)
        return np.asarray(np.asarray(self.mean) + self.quantile(uniform) @ np.linalg.cholesky(self.covariance).T)

    def even_in(self, axes: Sequence[int]) -> bool:  # noqa: D102
        others = [axis for axis in range(self.dim) if axis not in axes]
        return super().even_in(axes) and not np.count_nonzero(self.covariance[np.ix_(axes, others)])

    def quantile(self, p: Array) -> Array:  # noqa: D102
        from scipy.special import ndtri  # noqa: PLC0415  (only random nodes need it)

        return np.asarray(ndtri(p))

    def standard(self, s: Array) -> Array:  # noqa: D102
        return np.asarray(np.exp(-0.5 * s**2) / np.sqrt(2 * np.pi))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.normal(size=shape)


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

    @property
    def uniforms(self) -> int:
        """None."""
        return 0

    def quantiles(self, uniform: Array) -> Array:  # noqa: D102
        return np.zeros((len(uniform), self.dim))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: ARG002, D102
        return np.zeros(shape)


@dataclass(frozen=True)
class Independent(Law):
    """Groups of coordinates that are independent of each other, each with a law of its own.

    Attributes:
        laws: of the groups, in the order of the coordinates.
    """

    mean: Sequence[float] = field(init=False)
    std: Sequence[float] = field(init=False)
    laws: Sequence[Law]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(value for law in self.laws for value in getattr(law, name)))

    @property
    def covariance(self) -> Array:
        """The covariances of the groups along the diagonal."""
        matrix = np.zeros((self.dim, self.dim))
        for law, group in self._groups():
            matrix[group, group] = law.covariance
        return matrix

    @property
    def diagonal(self) -> bool:
        """Is that of every group?"""
        return all(law.diagonal for law in self.laws)

    @property
    def smooth(self) -> bool:
        """Are all of them?"""
        return all(law.smooth for law in self.laws)

    def box(self, reach: float | Array, within_support: bool = False) -> tuple[Array, Array]:
        """See `Law.box`."""
        reach = np.broadcast_to(np.asarray(reach, dtype=np.float64), (self.dim,))
        boxes = [
            law.box(reach[group] * max(p.tails for _, p in law.parts), within_support) for law, group in self._groups()
        ]
        return np.concatenate([low for low, _ in boxes]), np.concatenate([high for _, high in boxes])

    def density(self, theta: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.asarray(np.prod([law.density(theta[..., group]) for law, group in self._groups()], axis=0))

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Independent draws (count, d); every group has a generator of its own, as in `Mixture.sample`."""
        streams = rng.spawn(len(self.laws))
        return np.concatenate(
            [law.sample(stream, count) for law, stream in zip(self.laws, streams, strict=True)], axis=1
        )

    @property
    def uniforms(self) -> int:
        """Those of all groups."""
        return sum(law.uniforms for law in self.laws)

    def quantiles(self, uniform: Array) -> Array:
        """See `Law.quantiles`."""
        ends = np.cumsum([law.uniforms for law in self.laws])[:-1]
        columns = np.split(uniform, ends, axis=1)
        return np.concatenate([law.quantiles(own) for law, own in zip(self.laws, columns, strict=True)], axis=1)

    def even_in(self, axes: Sequence[int]) -> bool:
        """Is every group in its own among these coordinates?"""
        return all(
            law.even_in([axis - group.start for axis in axes if group.start <= axis < group.stop])
            for law, group in self._groups()
        )

    def _groups(self) -> Iterator[tuple[Law, slice]]:
        start = 0
        for law in self.laws:
            yield law, slice(start, start + law.dim)
            start += law.dim


def independent(laws: Sequence[Law]) -> Law:
    """The law of independent groups of coordinates: one normal law where all of them are normal."""
    if len(laws) == 1:
        return laws[0]
    if all(isinstance(law, Normal) and law.product for law in laws):
        return Normal(*(tuple(v for law in laws for v in getattr(law, name)) for name in ("mean", "std")))
    return Independent(laws)


def repeated(law: Law, count: int) -> Law:
    """The law of so many independent coordinates, each of which has the law of one coordinate; itself for one.

    Raises:
        InputError: for a law that is no product.
    """
    if law.dim == count:
        return law
    if isinstance(law, Zero):
        return Zero(count)
    if not law.product:
        raise InputError("a law that is to hold for every entry must be a product law, with mean and std")
    given = {"cov": ()} if isinstance(law, Normal) else {}
    return replace(law, mean=law.mean * count, std=law.std * count, **given)  # type: ignore[arg-type, operator]


def _numbers(name: str, values: object) -> tuple[float, ...]:
    given = plain(values)
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = [given]
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
