"""Per family and layer: how far the units are, as measures, from the density of the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.effects import Effect
from mfpde.comparison.exponents import SlopeRow
from mfpde.comparison.slopes import slope
from mfpde.comparison.wasserstein import draws, exact, nodes, rate, sliced
from mfpde.finite.record_files import Record
from mfpde.output.reader import RunReader

Array = NDArray[np.float64]
_LARGEST = 200  # units from which an exact distance takes too long


@dataclass(frozen=True)
class Distance:
    """Of one finite Transformer's units to the limit's density.

    Attributes:
        family: name of the family.
        layer: from 0.
        tau: τ.
        units: M.
        seed: of the units.
        sliced: mean of W₁ over directions, to the density itself.
        exact: W₁ to as many draws from the density; nan where that takes too long.
        mean_error: |E θ − E_ρ θ|, over the root of the trace of the limit's covariance.
        covariance_error: largest entry of the covariances' difference, over the trace.
    """

    family: str
    layer: int
    tau: float
    units: int
    seed: int
    sliced: float
    exact: float
    mean_error: float
    covariance_error: float


def distances(run: RunReader, records: Sequence[Record], taus: Sequence[float]) -> list[Distance]:
    """Distances of drawn units to the density of a run of the same depth.

    Args:
        run: the limit.
        records: of drawn units; those without units at a τ are passed over.
        taus: of reports of the run.
    """
    found = []
    moments = run.moments
    for tau in taus:
        for family in run.families:
            snapshot = run.snapshot(tau=tau, family=family)
            for layer in range(snapshot.layers):
                theta, weights = nodes(snapshot, layer)
                mean, covariance = _moments(moments, tau, family, layer, snapshot.dim)
                size = float(np.trace(covariance))
                for record in records:
                    place = np.flatnonzero(np.isclose(record.kept, tau, rtol=1e-9, atol=1e-12))
                    if not len(place):
                        continue
                    units = record.theta[family][place[0], layer]
                    count = len(units)
                    share = np.full(count, 1.0 / count)
                    rng = np.random.default_rng([record.job.seed, layer, count])
                    far = exact(units, draws(snapshot, layer, count, rng)) if count <= _LARGEST else float("nan")
                    centred = units - units.mean(axis=0)
                    found.append(
                        Distance(
                            family=family,
                            layer=layer,
                            tau=tau,
                            units=record.job.size[0],
                            seed=record.job.seed,
                            sliced=sliced(units, share, theta, weights),
                            exact=far,
                            mean_error=float(np.linalg.norm(units.mean(axis=0) - mean) / np.sqrt(size)),
                            covariance_error=float(np.abs(centred.T @ centred / count - covariance).max() / size),
                        )
                    )
    return found


def _moments(table: Mapping[str, NDArray], tau: float, family: str, layer: int, dim: int) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of the limit, from moments.csv."""
    row = np.flatnonzero((table["family"] == family) & (table["layer"] == layer) & np.isclose(table["tau"], tau))[0]
    mean = np.array([table[f"mean_{i}"][row] for i in range(dim)])
    upper = {(i, j): table[f"cov_{i}{j}"][row] for i in range(dim) for j in range(i, dim)}
    return mean, np.array([[upper[min(i, j), max(i, j)] for j in range(dim)] for i in range(dim)])


def distance_slopes(
    found: Sequence[Distance], layers: int, dims: Mapping[str, int], effects: Mapping[str, Effect]
) -> list[SlopeRow]:
    """Exponents in M of distances, root mean squares over layers and seeds; of the exact one against its own rate.

    Args:
        found: distances of drawn units.
        layers: L.
        dims: per family d.
        effects: per parameter what a change of it does.
    """
    rows = []
    for tau in sorted({d.tau for d in found}):
        for family, dim in dims.items():
            mine = [d for d in found if (d.tau, d.family) == (tau, family)]
            for kind in ("sliced", "exact"):
                sizes, errors = _table([d for d in mine if np.isfinite(getattr(d, kind))], kind)
                if len(sizes) < 3 or len(errors) < 2:
                    continue
                scale = rate(np.array(sizes, dtype=float), dim) if kind == "exact" else None
                fitted = slope(sizes, errors, scale)
                rms = [float(e) for e in np.sqrt((errors**2).mean(axis=0))]
                name = f"{kind} W₁ of {family}" + (f" in its rate for d = {dim}" if kind == "exact" else "")
                wanted = 1.0 if kind == "exact" else -0.5
                moved = {p: effect.of_distance(family, tau) for p, effect in effects.items()}
                rows.append(SlopeRow(name, layers, tau, sizes, rms, len(errors), fitted, wanted, moved))
    return rows


def _table(found: Sequence[Distance], kind: str) -> tuple[list[int], Array]:
    """Sizes (k,) and distances (s, k), root mean squares over layers, of the seeds that have all sizes."""
    sizes = sorted({d.units for d in found})
    values: dict[tuple[int, int], list[float]] = {}
    for d in found:
        values.setdefault((d.seed, d.units), []).append(getattr(d, kind))
    seeds = [s for s in sorted({s for s, _ in values}) if all((s, m) in values for m in sizes)]
    rms = [[float(np.sqrt(np.mean(np.square(values[s, m])))) for m in sizes] for s in seeds]
    return sizes, np.array(rms).reshape(len(seeds), len(sizes))
