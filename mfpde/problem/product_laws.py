"""Initial laws of independent coordinates other than normal ones: uniform, bump, Student's t and Laplace's."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, pi
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mfpde.inputs import real
from mfpde.problem.laws import Law

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform on a box of half-width √3 std."""

    support: ClassVar[float] = float(np.sqrt(3.0))
    kinks: ClassVar[tuple[float, ...]] = (-support, support)

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.where(np.abs(s) <= np.sqrt(3.0), 0.5 / np.sqrt(3.0), 0.0)

    def quantile(self, p: Array) -> Array:  # noqa: D102
        return np.sqrt(3.0) * (2.0 * p - 1.0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), size=shape)


@dataclass(frozen=True)
class Bump(Law):
    """Proportional to (1 − (s/√11)²)⁴ where that is positive: compact support, three continuous derivatives."""

    support: ClassVar[float] = float(np.sqrt(11.0))

    def standard(self, s: Array) -> Array:  # noqa: D102  (as in the base class)
        inside = np.maximum(1.0 - s**2 / 11.0, 0.0)
        return np.asarray(315.0 / 256.0 / np.sqrt(11.0) * inside**4)

    def quantile(self, p: Array) -> Array:  # noqa: D102
        from scipy.special import betaincinv  # noqa: PLC0415

        return np.asarray(np.sqrt(11.0) * (2.0 * betaincinv(5.0, 5.0, p) - 1.0))

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

    def quantile(self, p: Array) -> Array:  # noqa: D102
        from scipy.special import stdtrit  # noqa: PLC0415

        return np.asarray(self.scale * stdtrit(self.df, p))

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

    def quantile(self, p: Array) -> Array:  # noqa: D102
        return np.asarray(-np.sqrt(0.5) * np.sign(p - 0.5) * np.log1p(-2.0 * np.abs(p - 0.5)))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Array:  # noqa: D102
        return rng.laplace(scale=np.sqrt(0.5), size=shape)
