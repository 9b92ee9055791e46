"""Warm starts: the densities of an earlier run as initial laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import file_name, inside, real
from mfpde.problem.laws import Law

Array = NDArray[np.float64]
_BLOCK = 4096  # points of which draws are taken at once
_ABOVE = 1.5  # a polynomial of a cell may be so much larger than at the points that the file holds
_MOST_BLOCKS = 10_000


@dataclass(frozen=True)
class FromRun:
    """The density of an earlier run at one of its reports, as the initial law of the family of the same name.

    Layer ℓ of L starts from layer ⌊(ℓ + ½) L′/L⌋ of the L′ that the run had.

    Attributes:
        directory: of the run.
        tau: τ of a report of it.
        family: whose law it is; a `Transformer` fills it in.
        layers: L, likewise.
        reader: opens a run directory; the package sets it.

    Raises:
        InputError: for values that cannot be; when a law is asked for, also for a run or a report that is not there.
    """

    directory: str | Path
    tau: float
    family: str = ""
    layers: int = 0
    reader: ClassVar[Callable[[str | Path], Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", file_name("directory", self.directory, "the name of a run directory"))
        object.__setattr__(self, "tau", real("tau", self.tau, least=0.0))

    def of(self, family: str, layers: int) -> FromRun:
        """The same for a family of a Transformer of L layers."""
        return replace(self, family=family, layers=layers)

    def __call__(self, layer: int) -> Law:
        """The law of a layer."""
        if not self.layers:
            raise InputError("FromRun is known by the name of its family only inside a Transformer")
        written = Path(self.directory) / "moments.csv"
        changed = written.stat().st_mtime_ns if written.is_file() else 0
        return _law(self, layer, changed)


@dataclass(frozen=True)
class RunLaw(Law):
    """A density that is known by its values.

    Attributes:
        cov: the covariance.
        low, high: corners of a box outside which the density is zero.
        most: no value of the density is larger.
        values: from points (n, d) to ρ (n,).
    """

    cov: Sequence[Sequence[float]]
    low: Sequence[float]
    high: Sequence[float]
    most: float
    values: Callable[[Array], Array] = field(compare=False, repr=False)

    @property
    def covariance(self) -> Array:
        """Σ."""
        return np.array(self.cov)

    @property
    def correlated(self) -> bool:
        """Boxes around it lie along the axes of its covariance."""
        return len(self.cov) > 1

    @property
    def smooth(self) -> bool:
        """Only within the cells of what was written."""
        return False

    def box(self, reach: float | Array, within_support: bool = False) -> tuple[Array, Array]:
        """See `Law.box`."""
        low, high = super().box(reach)
        return (np.maximum(low, self.low), np.minimum(high, self.high)) if within_support else (low, high)

    def density(self, theta: Array) -> Array:  # noqa: D102  (as in the base class)
        points = np.asarray(theta, dtype=np.float64)
        return np.maximum(self.values(points.reshape(-1, self.dim)), 0.0).reshape(points.shape[:-1])

    def quantiles(self, uniform: Array) -> Array:  # noqa: ARG002, D102
        raise InputError(
            "a density of an earlier run has no quantiles, which nodes of density.nodes and training.method need; "
            "only the flow on grids and meshes starts from one"
        )

    def even_in(self, axes: Sequence[int]) -> bool:  # noqa: ARG002
        """Nothing is known of that."""
        return False

    def sample(self, rng: np.random.Generator, count: int) -> Array:
        """Independent draws (count, d), by rejection from the box, in blocks of one size."""
        drawn = list[Array]()
        for _ in range(_MOST_BLOCKS):
            points = rng.uniform(self.low, self.high, size=(_BLOCK, self.dim))
            drawn.append(points[rng.uniform(0.0, self.most, size=_BLOCK) < self.density(points)])
            if sum(map(len, drawn)) >= count:
                return np.concatenate(drawn)[:count]
        raise InputError("a density of an earlier run is too narrow to be drawn from")


@lru_cache(maxsize=256)
def _law(start: FromRun, layer: int, _changed: int) -> RunLaw:
    run = FromRun.reader(start.directory)
    with inside(str(start.directory)):
        if start.family in ((run.summary or {}).get("nodes") or {}):
            raise InputError(
                f"the files of family {start.family!r} hold a picture of its nodes, smoothed by a kernel, and not its "
                "density; only runs of the flow on grids and meshes can be started from"
            )
        snapshot = run.snapshot(tau=start.tau, family=start.family)
        place = int((layer + 0.5) * snapshot.layers / start.layers)
        table = run.moments
        here = (table["family"] == start.family) & (table["layer"] == place)
        row = int(np.flatnonzero(here & np.isclose(table["tau"], start.tau, rtol=1e-9, atol=1e-12))[0])

    dim = snapshot.dim
    mean = [float(table[f"mean_{k}"][row]) for k in range(dim)]
    cov = [[float(table[f"cov_{min(i, j)}{max(i, j)}"][row]) for j in range(dim)] for i in range(dim)]
    std = np.sqrt(np.maximum(np.diag(cov), 0.0)).tolist()
    points = snapshot.points[place].reshape(-1, dim)

    def values(theta: Array) -> Array:
        return np.asarray(run.density(tau=start.tau, family=start.family, layer=place, theta=theta))

    return RunLaw(
        mean, std, tuple(map(tuple, cov)), tuple(points.min(axis=0).tolist()), tuple(points.max(axis=0).tolist()),
        _ABOVE * float(snapshot.density[place].max()), values,
    )  # fmt: skip
