"""Mixtures of initial laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import plain, real, show
from mfpde.problem.laws import Law

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture(Law):
    """ρ₀ = Σ_j w_j ρ_j: a unit comes from law j with probability w_j.

    Mean and covariance are Σ_j w_j m_j and Σ_j w_j (Σ_j + (m_j − m)(m_j − m)ᵀ).

    Attributes:
        laws: the laws of the parts, all of one dimension; mixtures among them count by their own parts.
        weights: positive numbers, of which only the proportions matter: they are divided by their sum.

    Raises:
        InputError: for parts that are no laws or differ in dimension, and for weights that are not positive.
    """

    mean: Sequence[float] = field(init=False)
    std: Sequence[float] = field(init=False)
    laws: Sequence[Law]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not isinstance(self.laws, Sequence) or not self.laws or not all(isinstance(law, Law) for law in self.laws):
            raise InputError(f"laws = {show(self.laws)}: must be a list of laws")
        if len({law.dim for law in self.laws}) > 1:
            dims = ", ".join(str(law.dim) for law in self.laws)
            raise InputError(f"laws of {dims} coordinates: all must have the same number")
        if any(law.degenerate for law in self.laws):
            raise InputError("laws: std = 0.0 in a part of a mixture: must be a finite number above 0")

        given = plain(self.weights)
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(self.laws):
            raise InputError(f"weights = {show(self.weights)}: must be a list of {len(self.laws)} positive numbers")
        weights = np.array([real("weights", weight, above=0.0) for weight in given])

        object.__setattr__(self, "laws", tuple(self.laws))
        object.__setattr__(self, "weights", tuple((weights / weights.sum()).tolist()))
        mean = np.asarray(self.weights) @ np.array([law.mean for law in self.laws])
        object.__setattr__(self, "mean", tuple(mean.tolist()))
        object.__setattr__(self, "std", tuple(np.sqrt(np.diag(self.covariance)).tolist()))

    @property
    def covariance(self) -> Array:
        """Σ_j w_j (Σ_j + (m_j − m)(m_j − m)ᵀ)."""
        apart = np.array([law.mean for law in self.laws]) - np.asarray(self.mean)
        inside = np.stack([law.covariance for law in self.laws])
        return np.asarray(np.einsum("j,jkl->kl", self.weights, inside + apart[:, :, None] * apart[:, None, :]))

    @property
    def parts(self) -> tuple[tuple[float, Law], ...]:
        """Weights and laws that are no mixtures themselves."""
        pairs = zip(self.weights, self.laws, strict=True)
        return tuple((weight * inner, part) for weight, law in pairs for inner, part in law.parts)

    def density(self, theta: Array) -> Array:  # noqa: D102  (as in the base class)
        return np.asarray(sum(weight * part.density(theta) for weight, part in self.parts))

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Independent draws, shape (count, d).

        Every part has a generator of its own, so that fewer draws are the first of more.
        """
        chooser, *streams = rng.spawn(1 + len(self.laws))
        chosen = np.searchsorted(np.cumsum(self.weights)[:-1], chooser.random(count), side="right")
        drawn = np.stack([law.sample(stream, count) for law, stream in zip(self.laws, streams, strict=True)])
        return np.asarray(drawn[chosen, np.arange(count)])

    @property
    def uniforms(self) -> int:
        """One that chooses the part, and those of its law."""
        return 1 + max(law.uniforms for law in self.laws)

    def quantiles(self, uniform: Array) -> Array:
        """See `Law.quantiles`."""
        chosen = np.searchsorted(np.cumsum(self.weights)[:-1], uniform[:, 0], side="right")
        made = np.stack([law.quantiles(uniform[:, 1 : 1 + law.uniforms]) for law in self.laws])
        return np.asarray(made[chosen, np.arange(len(uniform))])

    def even_in(self, axes: Sequence[int]) -> bool:
        """Are all of its parts?"""
        return all(law.even_in(axes) for law in self.laws)
