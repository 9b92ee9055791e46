"""Settings of a run, validated where they are made: the run file and the Python API meet here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mfpde.errors import InputError
from mfpde.inputs import duration, file_name, one_of, plain, real, show, whole

LATEST = 1e4  # τ by which a run ends that should end at stationarity and has no horizon
_FINEST = 1e-14  # a smaller error of a step is below rounding


@dataclass(frozen=True)
class Training:
    """What is trained: λ, β⁻¹ and when it ends.

    Attributes:
        weight_decay: λ ≥ 0.
        temperature: β⁻¹ ≥ 0, the noise of the gradient descent.
        horizon: final τ, at the latest; may be left out where `stationary` is given, and is 10⁴ then.
        stationary: the run ends as soon as the dissipation (1/L) Σ_{ℓ,c} ∫|ρ||∇(V + β⁻¹ log ρ)|² ≤ this. Where a
            density undershoots, negative parts count as positive ones do and pretend nothing.
    """

    weight_decay: float
    horizon: float = None  # type: ignore[assignment]  # a float from __post_init__ on
    temperature: float = 0.0
    stationary: float | None = None

    def __post_init__(self) -> None:
        _keep(self, "weight_decay", real("training.weight_decay", self.weight_decay, least=0.0))
        if self.stationary is not None:
            _keep(self, "stationary", real("training.stationary", self.stationary, above=0.0))
        if self.horizon is None:
            if self.stationary is None:
                raise InputError("training.horizon is missing; only training.stationary makes it dispensable")
            _keep(self, "horizon", LATEST)
        _keep(self, "horizon", real("training.horizon", self.horizon, above=0.0))
        _keep(self, "temperature", real("training.temperature", self.temperature, least=0.0))


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
        positivity: "off" writes the evolved density, which undershoots where it is steep. "output" writes copies that
            are nonnegative at every point of every cell, at those written and at all that `Run.density` can be asked
            for, with the mass of each layer's density to rounding; what is solved is not changed, and history.csv,
            indicators.csv and moments.csv tell of it (`limit.positivity.bernstein.nonnegative`). "scheme" keeps the
            evolved density itself nonnegative after every step, under no bound on the step, with the mass to rounding:
            at the points of a quadrature that is exact for the moments, on boxes with k ≤ p + 1 the (p + 1)^d Gauss
            points of each cell; so what the Transformer sees is a positive measure (`limit.positivity.limiter`).
            Between these points it can be negative, which `min_density` and `negative_mass` tell; copies are made as
            for "output". In co-moving frames the risk is as accurate as without only while ridges are not far thinner
            than a cell, on in-context.toml to τ = 4 or 5; later, and in fixed frames, it is several times less so
            (docs/positivity.md).
        remap: with frame "lagrangian", carry the density over to a fresh grid while that resolves it
            (`limit.lagrangian.remap`).
        frame: "comoving" follows the density's mean and covariance, "fixed" stays. "lagrangian" lets the flow carry
            the nodes of a uniform grid (`limit.lagrangian.nodes`): nonnegative and with constant mass under every
            setting of positivity, and the nodes' spacing does not bound the step (the flow's own rates do). The nodes
            are potential_degree (4 unless given) per cell and direction, their radius is in initial standard
            deviations, 5.5 unless given; degree says nothing.
    """

    degree: int = 2
    potential_degree: int | None = None
    cells: int = 24
    cell_type: Literal["tensor", "simplex"] = "tensor"
    mesh: Path | None = None
    radius: float | tuple[float, ...] | None = None
    positivity: Literal["off", "output", "scheme"] = "output"
    frame: Literal["fixed", "comoving", "lagrangian"] = "comoving"
    remap: bool = True

    def __post_init__(self) -> None:
        _keep(self, "degree", whole("density.degree", self.degree, 0, 3))
        if self.potential_degree is not None:
            _keep(self, "potential_degree", whole("density.potential_degree", self.potential_degree, 1, 4))
        _keep(self, "cells", whole("density.cells", self.cells, 1, 4096))
        one_of("density.cell_type", self.cell_type, ("tensor", "simplex"))
        one_of("density.positivity", self.positivity, ("off", "output", "scheme"))
        one_of("density.frame", self.frame, ("fixed", "comoving", "lagrangian"))
        if not isinstance(self.remap, bool):
            raise InputError(f"density.remap = {show(self.remap)}: must be true or false")
        if self.mesh is not None:
            _keep(self, "mesh", file_name("density.mesh", self.mesh, "the name of a .msh file"))
        radius = plain(self.radius)
        if isinstance(radius, Sequence) and not isinstance(radius, str):
            _keep(self, "radius", tuple(real("density.radius", value, above=0.0) for value in radius))
        elif radius is not None:
            _keep(self, "radius", real("density.radius", radius, above=0.0))


@dataclass(frozen=True)
class Time:
    """The time step: from an error estimate, with smaller ones inside as the CFL bound asks, or fixed.

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
            raise InputError(
                f"time.step = {self.step!r} and time.tolerance = {self.tolerance!r} exclude each other; give one"
            )
        if self.step is not None:
            _keep(self, "step", real("time.step", self.step, above=0.0))
        if self.tolerance is not None:
            _keep(self, "tolerance", real("time.tolerance", self.tolerance, least=_FINEST))
        _keep(self, "risk_error", real("time.risk_error", self.risk_error, above=0.0))

    @property
    def relative_tolerance(self) -> float:
        """The tolerance in force."""
        return 1e-5 if self.tolerance is None else self.tolerance


@dataclass(frozen=True)
class Output:
    """Where and how often results are written.

    Attributes:
        directory: the run directory; None keeps results in a temporary folder.
        every: τ between reports and snapshots; a twentieth of the horizon unless given, and at most 1 where
            `stationary` is.
        checkpoint_every: wall-clock time between checkpoints.
    """

    directory: Path | None = None
    every: float | None = None
    checkpoint_every: str = "60s"

    def __post_init__(self) -> None:
        if self.every is not None:
            _keep(self, "every", real("output.every", self.every, above=0.0))
        duration("output.checkpoint_every", self.checkpoint_every)
        if self.directory is not None:
            _keep(self, "directory", file_name("output.directory", self.directory, "the name of a folder"))


def as_table(settings: Training | Density | Time | Output) -> dict[str, Any]:
    """The settings as a table of a run file, without those that were not given."""
    fields = dataclasses.asdict(settings)
    return {k: str(v) if isinstance(v, Path) else v for k, v in fields.items() if v is not None}


def _keep(settings: Training | Density | Time | Output, name: str, value: object) -> None:
    """Store a value that has been checked, in the type that its field says."""
    object.__setattr__(settings, name, value)
