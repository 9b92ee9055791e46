"""Settings of a run, validated where they are made: the run file and the Python API meet here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from mfpde.errors import InputError
from mfpde.inputs import duration, file_name, one_of, plain, real, reject_unknown, show, truth, whole

LATEST = 1e4  # τ by which a run ends that should end at stationarity and has no horizon
FINEST = 1e-14  # a smaller error of a step is below rounding
METHODS = ("sgd", "momentum", "adamw")  # of training by steps
type Certified = Literal["auto", "always", "never"]


def _checked(check: Callable[[str, object], object], default: object = MISSING) -> Any:
    """A field with what checks its value, given the key for the message, and returns it in the type of the field."""
    return dataclasses.field(default=default, metadata={"check": check})


@dataclass(frozen=True)
class Settings:
    """A table of the run file. Values are checked, but for those that were not given and need not be.

    Attributes:
        table: its name.
    """

    table: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                self._set(field.name, field.metadata["check"](f"{self.table}.{field.name}", value))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The settings of a table.

        Raises:
            InputError: naming the first key that is unknown, missing or wrong.
        """
        known = {field.name: field.default is MISSING for field in dataclasses.fields(cls)}
        reject_unknown(cls.table, values, list(known))
        for name, required in known.items():
            if required and name not in values:
                raise InputError(f"{cls.table}.{name} is missing")
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """The table: all values but those that were not given."""
        values = dataclasses.asdict(self)
        return {key: str(v) if isinstance(v, Path) else v for key, v in values.items() if v is not None}


def _radius(key: str, value: object) -> float | tuple[float, ...]:
    radius = plain(value)
    if isinstance(radius, Sequence) and not isinstance(radius, str):
        return tuple(real(key, part, above=0.0) for part in radius)
    return real(key, radius, above=0.0)


def _duration(key: str, value: object) -> str:
    duration(key, value)
    return str(value)


def _fraction(key: str, value: object) -> float:
    number = real(key, value, least=0.0)
    if number >= 1.0:
        raise InputError(f"{key} = {show(value)}: must be at least 0 and below 1")
    return number


def _optimiser(key: str, value: object) -> Optimiser:
    if not isinstance(value, Optimiser):
        raise InputError(f"{key} = {show(value)}: must be a mfpde.Optimiser")
    return value


_POSITIVE = partial(real, above=0.0)
_NONNEGATIVE = partial(real, least=0.0)


@dataclass(frozen=True)
class Optimiser(Settings):
    """Training by steps, in the place of the flow: θ ← θ − ε_k (D_k + λ θ), with D_k the method's direction.

    Gradients are those of the potential, so that no setting depends on width or depth (docs/training.md).

    Attributes:
        method: "sgd" takes the gradient of a batch, "momentum" the heavy ball or Nesterov's, "adamw" Adam's with
            decoupled weight decay.
        learning_rate: ε, the largest of the schedule.
        steps: how many.
        epochs: passes over all samples, in the place of `steps`.
        schedule: "constant", or from ε to zero "linear" or like a "cosine".
        warmup: steps in which the rate rises from ε/warmup to ε.
        batch: samples of a step; 0 takes all of them.
        sampling: "shuffled" takes batches one after the other from all samples in an order that is drawn anew in each
            epoch, without the rest that fills no batch; "independent" draws each batch from all samples.
        seed: of these draws.
        clip: largest norm of the gradient in the measure, the root of (1/L) Σ_{ℓ,c} ∫(∇V)² dρ; longer ones are scaled
            down.
        momentum: μ of the method "momentum", 0.9 unless given.
        nesterov: Nesterov's momentum.
        beta1: β₁ of "adamw", 0.9 unless given.
        beta2: β₂, 0.999 unless given.
        epsilon: ε₀ in the units of ∇V, 1e-8 unless given.
    """

    table = "training"
    method: Literal["sgd", "momentum", "adamw"] = _checked(partial(one_of, allowed=METHODS))
    learning_rate: float = _checked(_POSITIVE)
    steps: int | None = _checked(partial(whole, least=1, most=10**9), None)
    epochs: int | None = _checked(partial(whole, least=1, most=10**9), None)
    schedule: Literal["constant", "linear", "cosine"] = _checked(
        partial(one_of, allowed=("constant", "linear", "cosine")), "constant"
    )
    warmup: int = _checked(partial(whole, least=0, most=10**9), 0)
    batch: int = _checked(partial(whole, least=0, most=2**40), 0)
    sampling: Literal["shuffled", "independent"] = _checked(
        partial(one_of, allowed=("shuffled", "independent")), "shuffled"
    )
    seed: int = _checked(partial(whole, least=0, most=2**63 - 1), 0)
    clip: float | None = _checked(_POSITIVE, None)
    momentum: float | None = _checked(_fraction, None)
    nesterov: bool | None = _checked(truth, None)
    beta1: float | None = _checked(_fraction, None)
    beta2: float | None = _checked(_fraction, None)
    epsilon: float | None = _checked(_POSITIVE, None)
    own: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "sgd": {},
        "momentum": {"momentum": 0.9, "nesterov": False},
        "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.steps is None) == (self.epochs is None):
            which = "are missing" if self.steps is None else "exclude each other"
            raise InputError(f"training.steps and training.epochs {which}; give one")
        for method, defaults in self.own.items():
            for key, default in defaults.items():
                if method != self.method and getattr(self, key) is not None:
                    raise InputError(f"training.{key}: is of the method {method!r}, not of {self.method!r}")
                if method == self.method and getattr(self, key) is None:
                    self._set(key, default)


@dataclass(frozen=True)
class Training(Settings):
    """What is trained: λ, β⁻¹, how, and when it ends.

    Attributes:
        weight_decay: λ ≥ 0.
        temperature: β⁻¹ ≥ 0, the noise of the gradient descent.
        horizon: final τ, at the latest; may be left out where `stationary` is given, and is 10⁴ then. With an optimiser
            it is the sum of the learning rates, which `problem.descent` knows.
        stationary: the run ends as soon as the dissipation (1/L) Σ_{ℓ,c} ∫|ρ||∇(V + β⁻¹ log ρ)|² ≤ this. Where a
            density undershoots, negative parts count as positive ones do and pretend nothing.
        precision: of the numbers in a pass over the samples. "single" is float32; what the samples add up to, nodes,
            densities and steps stay in float64.
        optimiser: training by steps; None for the gradient flow.
    """

    table = "training"
    weight_decay: float = _checked(_NONNEGATIVE)
    horizon: float = _checked(_POSITIVE, None)  # a float from __post_init__ on
    temperature: float = _checked(_NONNEGATIVE, 0.0)
    stationary: float | None = _checked(_POSITIVE, None)
    precision: Literal["double", "single"] = _checked(partial(one_of, allowed=("double", "single")), "double")
    optimiser: Optimiser | None = _checked(_optimiser, None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimiser is not None:
            self._check_steps()
        elif self.horizon is None:
            if self.stationary is None:
                raise InputError("training.horizon is missing; only training.stationary makes it dispensable")
            self._set("horizon", LATEST)

    def _check_steps(self) -> None:
        """What belongs to a flow alone."""
        method = f"training.method = {self.optimiser.method!r}" if self.optimiser is not None else ""
        if self.horizon is not None:
            raise InputError(f"{method}: takes training.steps or training.epochs; training.horizon is of the flow")
        if self.stationary is not None:
            raise InputError(f"{method}: ends after its steps; training.stationary is of the flow")
        if self.temperature > 0.0:
            raise InputError(f"{method}: has no noise but its batches'; training.temperature is of the flow")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Training:
        """See `Settings.of`; the keys of an optimiser stand in the same table, and need `method`."""
        steps = [field.name for field in dataclasses.fields(Optimiser)]
        rest = [field.name for field in dataclasses.fields(cls) if field.name != "optimiser"]
        reject_unknown(cls.table, values, [*rest, *steps])
        own = {key: value for key, value in values.items() if key not in steps}
        given = {key: value for key, value in values.items() if key in steps}
        if one_of("training.method", given.get("method", "flow"), ("flow", *METHODS)) != "flow":
            return super().of({**own, "optimiser": Optimiser.of(given)})

        if further := [key for key in given if key != "method"]:
            names = ", ".join(map(repr, METHODS))
            raise InputError(f"training.{further[0]}: is of training by steps, training.method one of {names}")
        return super().of(own)

    def given(self) -> dict[str, Any]:
        """See `Settings.given`."""
        values = {key: value for key, value in super().given().items() if key != "optimiser"}
        return {**values, **self.optimiser.given()} if self.optimiser is not None else values


@dataclass(frozen=True)
class Density(Settings):
    """How a family's density is discretised.

    Attributes:
        degree: p of the density, 0 … 3.
        potential_degree: k of the potential, 1 … 4; max(p, 1) unless given.
        cells: per direction of the reference box.
        cell_type: "tensor" (intervals, quadrilaterals, hexahedra) or "simplex" (triangles, tetrahedra).
        mesh: a .msh file instead of the box [−1, 1]^d; its coordinates are multiples of the radius.
        radius: half-width of the box around the initial mean, a number or one per coordinate: in initial standard
            deviations for a co-moving frame (5 unless given, 10 in linear coordinates, where tails are heavy, and for
            laws with heavy tails; of every part of a mixture), in θ units for a fixed one (unless given, that many
            standard deviations and the distance to the origin).
        positivity: "off" writes the evolved density, which undershoots where it is steep. "output" writes copies that
            are nonnegative at every point of every cell, at those written and at all that `Run.density` can be asked
            for, with the mass of each layer's density to rounding; what is solved is not changed, and history.csv,
            indicators.csv and moments.csv describe it (`limit.positivity.bernstein.nonnegative`). "scheme" keeps the
            evolved density itself nonnegative after every step, under no bound on the step, with the mass to rounding:
            at the points of a quadrature that is exact for the moments, on boxes with k ≤ p + 1 the (p + 1)^d Gauss
            points of each cell; so what the Transformer sees is a positive measure (`limit.positivity.limiter`).
            Between these points it can be negative, which `min_density` and `negative_mass` show; copies are made as
            for "output". In co-moving frames the risk is as accurate as without only while ridges are not far thinner
            than a cell, on in-context.toml to τ = 4 or 5; later, and in fixed frames, it is several times less so
            (docs/positivity.md).
        nodes: so many nodes a layer, drawn from the initial law by randomised quasi-Monte Carlo, in the place of a
            grid: a power of two, shared by 8 independent flows, whose mean is reported with its standard error
            `risk_std`. For families of more than three coordinates, which no grid holds, 1024 unless given.
        remap: with frame "lagrangian", interpolate the density to a fresh grid while that resolves it
            (`limit.lagrangian.remap`).
        frame: "lagrangian" moves the nodes of a uniform grid with the flow (`limit.lagrangian.grid`): nonnegative and
            with constant mass under every setting of positivity, and neither the nodes' spacing nor the speed of the
            flow bounds the step. The nodes are potential_degree per cell and direction (4 unless given, 2 in three
            dimensions), their radius is in initial standard deviations, 5.5 unless given; degree has no effect. It
            alone can hold a std of zero. "comoving" are discontinuous elements on a mesh that follows the density's
            mean and covariance, "fixed" those on a mesh that stays. "auto" is "lagrangian", but "comoving" at a
            temperature, with a mesh file, and on simplices.
    """

    table = "density"
    degree: int = _checked(partial(whole, least=0, most=3), 2)
    potential_degree: int | None = _checked(partial(whole, least=1, most=4), None)
    cells: int = _checked(partial(whole, least=1, most=4096), 24)
    cell_type: Literal["tensor", "simplex"] = _checked(partial(one_of, allowed=("tensor", "simplex")), "tensor")
    mesh: Path | None = _checked(partial(file_name, what="the name of a .msh file"), None)
    radius: float | tuple[float, ...] | None = _checked(_radius, None)
    positivity: Literal["off", "output", "scheme"] = _checked(
        partial(one_of, allowed=("off", "output", "scheme")), "output"
    )
    frame: Literal["auto", "fixed", "comoving", "lagrangian"] = _checked(
        partial(one_of, allowed=("auto", "fixed", "comoving", "lagrangian")), "auto"
    )
    remap: bool = _checked(truth, True)
    nodes: int | None = _checked(partial(whole, least=1, most=2**24), None)


@dataclass(frozen=True)
class Time(Settings):
    """The time step: from an error estimate, with smaller ones inside as the CFL bound asks, or fixed.

    Attributes:
        step: a fixed Δτ; shortened so that reports are met exactly.
        tolerance: of a step, relative, on density moments, frames and risk; 1e-5 unless given.
        risk_error: largest risk error of a run that counts as done, where a finer solve estimates it.
    """

    table = "time"
    step: float | None = _checked(_POSITIVE, None)
    tolerance: float | None = _checked(partial(real, least=FINEST), None)
    risk_error: float = _checked(_POSITIVE, 1e-2)

    def __post_init__(self) -> None:
        if self.step is not None and self.tolerance is not None:
            raise InputError(
                f"time.step = {self.step!r} and time.tolerance = {self.tolerance!r} exclude each other; give one"
            )
        super().__post_init__()

    @property
    def relative_tolerance(self) -> float:
        """The tolerance in force."""
        return 1e-5 if self.tolerance is None else self.tolerance


@dataclass(frozen=True)
class Output(Settings):
    """Where and how often results are written.

    Attributes:
        directory: the run directory; None keeps results in a temporary folder.
        every: τ between reports and snapshots; a twentieth of the horizon unless given, and at most 1 where
            `stationary` is.
        checkpoint_every: wall-clock time between checkpoints.
        gap: reports with the gap. "auto": every tenth of a flow, and the last, that of training by steps where it has
            passed over the samples so often that the gap is not most of the work; "always"; "never".
    """

    table = "output"
    directory: Path | None = _checked(partial(file_name, what="the name of a folder"), None)
    every: float | None = _checked(_POSITIVE, None)
    checkpoint_every: str = _checked(_duration, "60s")
    gap: Certified = _checked(partial(one_of, allowed=("auto", "always", "never")), "auto")
