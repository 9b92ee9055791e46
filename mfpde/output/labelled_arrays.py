"""A run as one xarray.Dataset: its history, and of every family the moments and the density on a lattice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfpde.errors import InputError
from mfpde.inputs import reject_unknown, show, whole
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import Column

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
type _Variable = tuple[tuple[str, ...], Any, dict[str, str]]
"""Dimensions, values and attributes, as xarray takes them."""

_POINTS = {1: 240, 2: 72, 3: 28}  # along each coordinate, unless given
_MOST_POINTS = 10_000
_REACH = 4.0  # standard deviations on each side of the means
_NAMES = {
    "risk": "risk",
    "test_risk": "risk on the test samples",
    "batch_risk": "risk of the last batch before its step",
    "accuracy": "share of samples classified correctly",
    "test_accuracy": "share of test samples classified correctly",
    "penalty": "weight decay's part of the energy",
    "entropy": "mean over layers of the integral of rho log rho",
    "energy": "risk + penalty + entropy / beta",
    "dissipation": "mean over layers of the integral of rho |grad V|^2",
    "gap": "mean over layers of the integral of V rho - min V",
    "risk_error": "estimated error of the risk",
    "risk_std": "standard error of the risk over random nodes",
    "steps": "time steps so far",
    "step": "steps of training so far",
}
"""Columns of history.csv in words; the others are their own names."""


def labelled(run: RunReader, points: int | None, box: Mapping[str, ArrayLike] | None) -> Dataset:
    """See `Run.to_xarray`.

    Args:
        run: with a report at least.
        points: of the lattice along each coordinate; 0 without densities, None for the default of the dimension.
        box: family → (d, 2).

    Raises:
        InputError: without xarray, before the first report, for points and boxes that cannot be.
    """
    try:
        import xarray  # noqa: PLC0415  (optional, and slow)
    except ImportError as error:
        raise InputError(
            "Run.to_xarray: needs the package xarray, which is not installed: pip install 'mfpde[xarray]'"
        ) from error

    history = run.history  # once: a run that goes on has more reports by the next look
    taus = np.asarray(history.get("tau", ()), dtype=np.float64)
    if not len(taus):
        raise InputError(f"run directory {run.directory}: holds no report yet")
    if points is not None:
        points = whole("points", points, 0, _MOST_POINTS)
    reject_unknown("box", box or {}, run.families)

    variables: dict[str, _Variable] = {
        name: (("tau",), column, _about(_NAMES.get(name, name.replace("_", " "))))
        for name, column in history.items()
        if name != "tau"
    }
    coordinates: dict[str, _Variable] = {"tau": (("tau",), taus, _about("training time"))}
    for family in run.families:
        _add_family(run, family, taus, points, (box or {}).get(family), variables, coordinates)

    name = run.run_file[1].get("name", run.directory.name)
    versions = run.manifest.get("versions")
    version = versions.get("mfpde", "") if isinstance(versions, Mapping) else ""
    return xarray.Dataset(variables, coordinates, {"title": str(name), "source": f"mfpde {version}".strip()})


def _add_family(
    run: RunReader,
    family: str,
    taus: Array,
    points: int | None,
    box: ArrayLike | None,
    variables: dict[str, _Variable],
    coordinates: dict[str, _Variable],
) -> None:
    """Add the moments of a family, its gap, and its density on a lattice."""
    names = run.snapshot(tau=float(taus[0]), family=family).coordinates
    moments = _by_layer(run.moments, family, taus)
    layers = next(iter(moments.values())).shape[1]
    coordinates["layer"] = ("layer",), np.arange(layers), {"long_name": "layer, from 0"}

    place = ("tau", "layer")
    variables[f"{family}_mass"] = place, moments["mass"], _about(f"mass of {family}")
    for i, one in enumerate(names):
        variables[f"{family}_mean_{one}"] = place, moments[f"mean_{i}"], _about(f"mean of {one} of {family}")
        for j, other in list(enumerate(names))[i:]:
            words = f"covariance of {one} and {other} of {family}" if i < j else f"variance of {one} of {family}"
            variables[f"{family}_cov_{one}_{other}"] = place, moments[f"cov_{i}{j}"], _about(words)
    if (gap := run.gap).get("family", np.empty(0)).size:
        words = f"gap of {family}: the integral of V rho - min V"
        variables[f"{family}_gap"] = place, _by_layer(gap, family, taus)["gap"], _about(words)

    if points != 0:
        axes = _axes(family, moments, len(names), points, box)
        dims = tuple(f"{family}_{name}" for name in names)
        for dim, name, axis in zip(dims, names, axes, strict=True):
            coordinates[dim] = (dim,), axis, _about(f"{name} of {family}")
        values = _densities(run, family, taus, layers, axes)
        variables[f"{family}_density"] = (*place, *dims), values, _about(f"density of {family} in theta")


def _by_layer(table: Mapping[str, Column], family: str, taus: Array) -> dict[str, Array]:
    """Columns (t, L) of one family at the reports; nan at those that the table leaves out."""
    mine = table["family"] == family
    tau, layer = np.asarray(table["tau"][mine], dtype=np.float64), np.asarray(table["layer"][mine], dtype=np.int64)
    row = np.searchsorted(taus, tau)  # a report that is still being written may be there besides
    whole_ones = (row < len(taus)) & (taus[np.minimum(row, len(taus) - 1)] == tau)

    found = {}
    for name in [name for name in table if name not in ("tau", "family", "layer")]:
        found[name] = np.full((len(taus), int(layer.max(initial=0)) + 1), np.nan)
        found[name][row[whole_ones], layer[whole_ones]] = np.asarray(table[name][mine], dtype=np.float64)[whole_ones]
    return found


def _axes(
    family: str, moments: Mapping[str, Array], dim: int, points: int | None, box: ArrayLike | None
) -> Sequence[Array]:
    """The lattice's coordinates: of a given box, or of one that holds means and deviations of all layers and reports.

    Raises:
        InputError: naming the family, for a box that is none.
    """
    if box is None:
        mean = [moments[f"mean_{i}"] for i in range(dim)]
        reach = [_REACH * np.sqrt(np.maximum(moments[f"cov_{i}{i}"], 0.0)) for i in range(dim)]
        ends = np.array([[np.nanmin(m - r), np.nanmax(m + r)] for m, r in zip(mean, reach, strict=True)])
        ends += np.where(ends[:, :1] < ends[:, 1:], 0.0, [-0.5, 0.5])  # a law that never has a width
    else:
        try:
            ends = np.array(box, dtype=np.float64)
        except (TypeError, ValueError):
            ends = np.empty(0)
        if ends.shape != (dim, 2) or not np.isfinite(ends).all() or not (ends[:, 0] < ends[:, 1]).all():
            raise InputError(f"box.{family} = {show(box)}: must be {dim} intervals, as in [(-1, 2)]")

    count = _POINTS[dim] if points is None else points
    return [np.linspace(low, high, count) for low, high in ends]


def _densities(run: RunReader, family: str, taus: Array, layers: int, axes: Sequence[Array]) -> Array:
    """ρ (t, L, n_1, …, n_d)."""
    theta = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    found = np.empty((len(taus), layers, *theta.shape[:-1]))
    for k, tau in enumerate(taus):
        for layer in range(layers):
            found[k, layer] = run.density(tau=float(tau), family=family, layer=layer, theta=theta)
    return found


def _about(words: str) -> dict[str, str]:
    """The attributes of a number without a dimension."""
    return {"long_name": words, "units": "1"}
