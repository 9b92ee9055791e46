"""How much of an initial law does its mesh hold? What lies beyond is cut, and the rest given its mass and moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.inputs import show

Array = NDArray[np.float64]
WHOLE = 1e-4  # shares of mass and variance closer to 1 need no word
_LEAST, _MOST = 0.9, 1.1  # shares of a law that is taken
_WIDEST = 15.0  # standard deviations of a law that the finest quadrature still sees in one cell


@dataclass(frozen=True)
class Held:
    """What a mesh holds of the laws of one family, per layer (L,).

    Attributes:
        mass: ∫ρ₀ over the mesh.
        variance: ∫ρ₀ (θ_k − m_k)² over the mesh, in variances, the least over coordinates k.
        width: of the widest cell, in standard deviations.
    """

    mass: Array
    variance: Array
    width: Array


def judge(family: str, density: Density, held: Held, warn: Callable[[str], None]) -> None:
    """Refuse a mesh that does not hold an initial law, or warn of the layer of which it holds least.

    Args:
        family: its name.
        density: its settings, for the message.
        held: what its mesh holds.
        warn: is given one line where a part of a law is cut off that matters.

    Raises:
        InputError: when a mesh holds much less than the law, or counts parts of it twice.
    """
    worst = int(np.argmax(np.where(np.isfinite(held.mass), np.abs(held.mass - 1.0), np.inf)))
    share, law = float(held.mass[worst]), f"the initial law of family {family!r}, layer {worst}"
    place, meaning = _place(density)

    if not _LEAST <= share <= _MOST:
        if held.width[worst] > _WIDEST:
            raise InputError(
                f"{place}: cells of {held.width[worst]:.3g} standard deviations cannot resolve {law}; {meaning}"
            )
        raise InputError(f"{place}: holds {100.0 * share:.3g} % of {law}; {meaning}")

    least = int(np.argmin(held.variance))
    variance, law = float(held.variance[least]), f"the initial law of family {family!r}, layer {least}"
    if min(float(held.mass[least]), variance) < 1.0 - WHOLE:
        warn(
            f"warning: {place}: holds {100.0 * held.mass[least]:.4g} % of {law}, and {100.0 * variance:.4g} % of its "
            f"variance; the rest is cut, and mass, mean and covariance are made up for; {meaning}"
        )


def _place(density: Density) -> tuple[str, str]:
    """What to call the mesh, and what its size means."""
    if density.mesh is not None:
        return (
            f"density.mesh = {str(density.mesh)!r}",
            "its vertices are multiples of density.radius around the mean, those of a box -1 and 1",
        )
    radius = "not given" if density.radius is None else f"= {show(density.radius)}"
    unit = "theta" if density.frame == "fixed" else "initial standard deviations"
    return f"density.radius {radius}", f"the box around the mean has this half-width, in {unit}"
