"""Settings of a run, validated where they are made: the run file and the Python API meet here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mfpde.errors import InputError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Training:
    """What is trained: λ, β⁻¹ and the final τ.

    Attributes:
        weight_decay: λ ≥ 0.
        temperature: β⁻¹; only 0 in this version.
        horizon: final τ.
    """

    weight_decay: float
    horizon: float
    temperature: float = 0.0

    def __post_init__(self) -> None:
        real("training.weight_decay", self.weight_decay, least=0.0)
        real("training.horizon", self.horizon, above=0.0)
        real("training.temperature", self.temperature, least=0.0)
        if self.temperature > 0.0:
            raise InputError(f"training.temperature = {self.temperature}: only 0 is available in this version")


@dataclass(frozen=True)
class Density:
    """How a family's density is discretised.

    Attributes:
        degree: p of the density, 0 … 3.
        potential_degree: k of the potential, 1 … 4; max(p, 1) unless given.
        cells: per direction of the reference box.
        cell_type: "tensor" (intervals, quadrilaterals, hexahedra) or "simplex" (triangles, tetrahedra).
        mesh: a .msh file instead of the box [−1, 1]^d; its coordinates are multiples of the radius.
        radius: half-width of the box around the initial mean, a number or one per coordinate: in initial standard
            deviations for a co-moving frame (5 unless given, 10 in linear coordinates, where tails are heavy), in θ
            units for a fixed one (unless given, that many standard deviations and the distance to the origin).
        positivity: only "off" in this version.
        frame: "comoving" follows the density's mean and covariance, "fixed" stays.
    """

    degree: int = 2
    potential_degree: int | None = None
    cells: int = 24
    cell_type: Literal["tensor", "simplex"] = "tensor"
    mesh: Path | None = None
    radius: float | tuple[float, ...] | None = None
    positivity: Literal["off", "output", "scheme"] = "off"
    frame: Literal["fixed", "comoving", "lagrangian"] = "comoving"

    def __post_init__(self) -> None:
        whole("density.degree", self.degree, 0, 3)
        if self.potential_degree is not None:
            whole("density.potential_degree", self.potential_degree, 1, 4)
        whole("density.cells", self.cells, 1, 4096)
        one_of("density.cell_type", self.cell_type, ("tensor", "simplex"))
        one_of("density.positivity", self.positivity, ("off", "output", "scheme"), available=("off",))
        one_of("density.frame", self.frame, ("fixed", "comoving", "lagrangian"), available=("fixed", "comoving"))
        if self.mesh is not None:
            if not isinstance(self.mesh, str | Path) or not str(self.mesh):
                raise InputError(f"density.mesh = {self.mesh!r}: must be the name of a .msh file")
            object.__setattr__(self, "mesh", Path(self.mesh))
        if self.radius is not None:
            radius = self.radius if isinstance(self.radius, Sequence) else (self.radius,)
            for value in radius:
                real("density.radius", value, above=0.0)
            if isinstance(self.radius, Sequence):
                object.__setattr__(self, "radius", tuple(float(v) for v in radius))


@dataclass(frozen=True)
class Time:
    """The time step: from an error estimate and the CFL bound together, or fixed.

    Attributes:
        step: a fixed Δτ; shortened so that reports are met exactly.
        tolerance: of a step, relative, on density moments, frames and risk; 1e-5 unless given.
        risk_error: largest estimated risk error of a run that counts as done.
    """

    step: float | None = None
    tolerance: float | None = None
    risk_error: float = 1e-2

    def __post_init__(self) -> None:
        if self.step is not None and self.tolerance is not None:
            raise InputError("time.step and time.tolerance exclude each other; give one")
        if self.step is not None:
            real("time.step", self.step, above=0.0)
        if self.tolerance is not None:
            real("time.tolerance", self.tolerance, above=0.0)
        real("time.risk_error", self.risk_error, above=0.0)

    @property
    def relative_tolerance(self) -> float:
        """The tolerance in force."""
        return 1e-5 if self.tolerance is None else self.tolerance


@dataclass(frozen=True)
class Output:
    """Where and how often results are written.

    Attributes:
        directory: the run directory; None keeps results in a temporary folder.
        every: τ between reports and snapshots; a twentieth of the horizon unless given.
        checkpoint_every: wall-clock time between checkpoints.
    """

    directory: Path | None = None
    every: float | None = None
    checkpoint_every: str = "60s"

    def __post_init__(self) -> None:
        if self.every is not None:
            real("output.every", self.every, above=0.0)
        duration("output.checkpoint_every", self.checkpoint_every)
        if self.directory is not None:
            if not isinstance(self.directory, str | Path) or not str(self.directory):
                raise InputError(f"output.directory = {self.directory!r}: must be the name of a folder")
            object.__setattr__(self, "directory", Path(self.directory))


def real(key: str, value: object, least: float = -math.inf, above: float = -math.inf) -> float:
    """A finite number ≥ least and > above.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    allowed = "a finite number"
    if above > -math.inf:
        allowed = f"a finite number above {above:g}"
    elif least > -math.inf:
        allowed = f"a finite number, at least {least:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{key} = {_show(value)}: must be {allowed}")
    if value < least or value <= above:
        raise InputError(f"{key} = {value!r}: must be {allowed}")
    return float(value)


def whole(key: str, value: object, least: int, most: int) -> int:
    """A whole number between least and most.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{key} = {_show(value)}: must be a whole number, {least} … {most}")
    return value


def one_of(key: str, value: object, allowed: Sequence[str], available: Sequence[str] | None = None) -> None:
    """One of the allowed words, and one that this version has.

    Raises:
        InputError: naming key, value and what is allowed.
    """
    if value not in allowed:
        raise InputError(f"{key} = {_show(value)}: must be one of {', '.join(map(repr, allowed))}")
    if available is not None and value not in available:
        raise InputError(f"{key} = {value!r}: not available in this version; must be {', '.join(map(repr, available))}")


def duration(key: str, value: object) -> float:
    """Seconds of a text such as "90s", "10m", "2h".

    Raises:
        InputError: naming key, value and what is allowed.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0.0:
        raise InputError(f'{key} = {_show(value)}: must be a time such as "90s", "10m" or "2h"')
    return float(match[1]) * _SECONDS[match[2]]


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
