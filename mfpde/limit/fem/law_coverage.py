"""How much of an initial law does its mesh hold? What lies beyond is cut, and the rest scaled up to mass one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mfpde.config.settings import Density
from mfpde.errors import InputError
from mfpde.inputs import show
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
WHOLE = 1e-3  # a share closer to 1 needs no word
_LEAST, _MOST = 0.9, 1.1  # shares of a law that is taken
_WIDEST = 15.0  # standard deviations of a law that the finest quadrature still sees in one cell
_POINTS = 128  # per direction of a box


def judge(family: str, density: Density, shares: Array, width: Array, warn: Callable[[str], None]) -> None:
    """Refuse a mesh that does not hold an initial law, or warn of the layer of which it holds least.

    Args:
        family: its name.
        density: its settings, for the message.
        shares: ∫ρ₀ over the mesh, per layer (L,).
        width: of the widest cell, in standard deviations of each layer's law (L,).
        warn: is given one line where a part of a law is cut off.

    Raises:
        InputError: when a mesh holds much less than the law, or counts parts of it twice.
    """
    worst = int(np.argmax(np.where(np.isfinite(shares), np.abs(shares - 1.0), np.inf)))
    share, law = float(shares[worst]), f"the initial law of family {family!r}, layer {worst}"
    place, meaning = _place(density)

    if not _LEAST <= share <= _MOST:
        if width[worst] > _WIDEST:
            raise InputError(
                f"{place}: cells of {width[worst]:.3g} standard deviations cannot resolve {law}; {meaning}"
            )
        raise InputError(f"{place}: holds {100.0 * share:.3g} % of {law}; {meaning}")
    if share < 1.0 - WHOLE:
        warn(f"warning: {place}: holds {100.0 * share:.4g} % of {law}, and the rest of it is cut; {meaning}")


def share_of_box(law: Law, half: Array) -> float:
    """∫ρ₀ over the box of half-widths (d,) around the law's mean, by the midpoint rule."""
    line = (np.arange(_POINTS) + 0.5) * (2.0 / _POINTS) - 1.0
    axes = np.meshgrid(*[mean + h * line for mean, h in zip(law.mean, half, strict=True)], indexing="ij")
    return float(law.density(np.stack(axes, axis=-1)).sum() * np.prod(2.0 * half / _POINTS))


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
