"""Initial laws: products of one-dimensional densities, each given by its mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import plain, real, show

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """A product law on R^d; subclasses give the one-dimensional density of mean 0 and variance 1.

    Attributes:
        mean: mean of each coordinate, d numbers.
        std: standard deviation of each coordinate, d positive numbers.
        support: half-width in standard deviations beyond which the density is zero; infinite where it never is.

    Raises:
        InputError: for numbers that are not finite, std that is not positive, or lengths that differ.
    """

    mean: Sequence[float]
    std: Sequence[float]
    support: ClassVar[float] = float(np.inf)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.mean) != len(self.std):
            raise InputError(f"mean has {len(self.mean)} numbers and std {len(self.std)}; give one per coordinate")
        for value in self.std:
            real("std", value, above=0.0)

    @property
    def dim(self) -> int:
        """d."""
        return len(self.mean)

    def density(self, theta: Array) -> Array:
        """ρ₀(θ) for points (..., d) -> (...)."""
        s = (np.asarray(theta) - np.asarray(self.mean)) / np.asarray(self.std)
        return np.asarray(np.prod(self.standard(s) / np.asarray(self.std), axis=-1))

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Independent draws, shape (count, d)."""
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
    """Independent normal coordinates."""

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.asarray(np.exp(-0.5 * s**2) / np.sqrt(2 * np.pi))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.normal(size=shape)


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform on a box of half-width √3 std."""

    support: ClassVar[float] = float(np.sqrt(3.0))

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


def _numbers(name: str, values: object) -> tuple[float, ...]:
    given = plain(values)
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"{name} = {show(values)}: must be a list of finite numbers, one per coordinate")
    return tuple(real(name, value) for value in given)
