"""Per family and layer: how far the units are, as measures, from the density of the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.evidence import Effect, Errors, by_size, covariances_of, means_of, value_at
from mfpde.comparison.exponents import SlopeRow, slope_row
from mfpde.comparison.wasserstein import draws, exact, nodes, rate, sliced
from mfpde.finite.record_files import Record, has_time
from mfpde.output.fields.snapshot import Snapshot
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


def distances(
    run: RunReader, records: Sequence[Record], taus: Sequence[float], families: Sequence[str]
) -> list[Distance]:
    """Distances of drawn units to the density of a run of the same depth.

    Args:
        run: the limit.
        records: of drawn units; those without units at a τ are passed over, and families of whose coordinates the
            run's files have only the first.
        taus: of reports of the run.
        families: those whose files hold the density itself.
    """
    found: list[Distance] = []
    moments = run.moments
    for tau in taus:
        kept = [record for record in records if has_time(record.kept, tau)]
        for family in (name for name in run.families if name in families):
            snapshot = run.snapshot(tau=tau, family=family)
            if any(record.theta[family].shape[-1] != snapshot.dim for record in kept):
                continue
            mean = value_at(means_of(moments, family, snapshot.dim), tau)
            covariance = value_at(covariances_of(moments, family, snapshot.dim), tau)

            for layer in range(snapshot.layers):
                density = _Density(snapshot, layer, *nodes(snapshot, layer), mean[layer], covariance[layer])
                found += [density.distance(record, family, tau) for record in kept]
    return found


@dataclass(frozen=True)
class _Density:
    """The limit's density of one family and layer at one τ: weighted points, mean and covariance."""

    snapshot: Snapshot
    layer: int
    theta: Array
    weights: Array
    mean: Array
    covariance: Array

    def distance(self, record: Record, family: str, tau: float) -> Distance:
        """How far a record's units are from it."""
        units = record.theta[family][int(np.abs(record.kept - tau).argmin()), self.layer]
        count = len(units)
        centred = units - units.mean(axis=0)
        size = float(np.trace(self.covariance))

        far = float("nan")
        if count <= _LARGEST:
            rng = np.random.default_rng([record.job.seed, self.layer, count])
            far = exact(units, draws(self.snapshot, self.layer, count, rng))

        return Distance(
            family=family,
            layer=self.layer,
            tau=tau,
            units=record.job.size[0],
            seed=record.job.seed,
            sliced=sliced(units, np.full(count, 1.0 / count), self.theta, self.weights),
            exact=far,
            mean_error=float(np.linalg.norm(units.mean(axis=0) - self.mean) / np.sqrt(size)),
            covariance_error=float(np.abs(centred.T @ centred / count - self.covariance).max() / size),
        )


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
    for tau, (family, dim) in product(sorted({d.tau for d in found}), dims.items()):
        mine = [d for d in found if (d.tau, d.family) == (tau, family)]
        moved = {p: effect.of_distance(family, tau) for p, effect in effects.items()}

        near = _over_layers([(d, d.sliced) for d in mine])
        rows.append(slope_row(f"sliced W₁ of {family}", layers, tau, near, moved))

        far = _over_layers([(d, d.exact) for d in mine if np.isfinite(d.exact)])
        name, scale = f"exact W₁ of {family} in its rate for d = {dim}", rate(np.array(far[0], dtype=float), dim)
        rows.append(slope_row(name, layers, tau, far, moved, scale))
    return [row for row in rows if row is not None]


def _over_layers(found: Sequence[tuple[Distance, float]]) -> Errors:
    """Root mean squares over layers."""
    layers: dict[tuple[int, int], list[float]] = {}
    for distance, value in found:
        layers.setdefault((distance.units, distance.seed), []).append(value)
    return by_size({key: float(np.sqrt(np.mean(np.square(values)))) for key, values in layers.items()})
