"""The serial reader of a run directory, finished or running, however many ranks wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfpde.config import toml
from mfpde.errors import InputError
from mfpde.inputs import inside, nearest
from mfpde.output.clouds.nodes import Nodes
from mfpde.output.directory import MANIFEST, RUN_FILE, SUMMARY
from mfpde.output.fields.evaluator import Evaluator
from mfpde.output.fields.pvd import DENSITY, NODES, read_pvd, series_family, series_name
from mfpde.output.fields.series import read_density
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.files import read_json
from mfpde.output.records.manifest import read_manifest
from mfpde.output.records.tables import Column, read_table

Array = NDArray[np.float64]


class RunReader:
    """Tables and densities of a run; every access reads what the files hold by then."""

    def __init__(self, directory: str | Path) -> None:
        """Open a run directory for reading.

        Raises:
            InputError: when the directory does not exist or holds no run, or its manifest, run file or summary is
                damaged.
        """
        path = Path(directory)
        if not path.is_dir():
            found = "is a file" if path.exists() else f"does not exist{_near_name(path)}"
            raise InputError(f"run directory {path}: {found}")
        if not (path / MANIFEST).is_file():
            raise InputError(f"run directory {path}: holds no run of mfpde ({MANIFEST} is missing)")

        self.directory = path
        self._snapshots: dict[str, tuple[Path, Snapshot]] = {}  # the last of each family
        self._evaluators: dict[tuple[str, int], Evaluator] = {}  # of those

        # A damaged file is reported here, and not when half of the figures have been drawn.
        for part in ("manifest", "run_file", "summary"):
            getattr(self, part)

    @property
    def history(self) -> dict[str, Column]:
        """The columns of history.csv as arrays."""
        return read_table(self.directory / "history.csv")

    @property
    def singular_values(self) -> dict[str, Column]:
        """The columns of singular_values.csv, empty where no family has matrices: means over the density."""
        return read_table(self.directory / "singular_values.csv")

    @property
    def moments(self) -> dict[str, Column]:
        """The columns of moments.csv as arrays; `family` holds strings."""
        return read_table(self.directory / "moments.csv")

    @property
    def gap(self) -> dict[str, Column]:
        """The columns of gap.csv as arrays; `family` holds strings."""
        return read_table(self.directory / "gap.csv")

    @property
    def indicators(self) -> dict[str, Column]:
        """The columns of indicators.csv as arrays; `family` holds strings."""
        return read_table(self.directory / "indicators.csv")

    @property
    def steps(self) -> dict[str, Column]:
        """The columns of steps.csv as arrays; `bound` holds strings."""
        return read_table(self.directory / "steps.csv")

    @property
    def timings(self) -> dict[str, Column]:
        """The columns of timings.csv as arrays."""
        return read_table(self.directory / "timings.csv")

    @property
    def manifest(self) -> dict[str, object]:
        """What is in manifest.json, such as versions, ranks, seed, options, revision and host."""
        return read_manifest(self.directory / MANIFEST)

    @property
    def summary(self) -> dict[str, object] | None:
        """What is in summary.json; None while the run goes on."""
        path = self.directory / SUMMARY
        return read_json(path, {"outcome": str, "warnings": list}) if path.is_file() else None

    @property
    def run_file(self) -> tuple[str, dict[str, Any]]:
        """The text of run.toml, and what is in it; empty where there is none."""
        path = self.directory / RUN_FILE
        if not path.is_file():
            return "", {}
        with inside(str(path)):
            text = toml.read_text(path)
            return text, toml.loads(text)

    @property
    def taus(self) -> Array:
        """τ of the reports so far."""
        return np.asarray(self.history.get("tau", np.zeros(0)), dtype=np.float64)

    @property
    def families(self) -> tuple[str, ...]:
        """Families that have density files, in the model's order."""
        return self._written(DENSITY)

    @property
    def clouds(self) -> tuple[str, ...]:
        """Families that have files of nodes (`nodes`), in the model's order: those that move by a cloud of nodes."""
        return self._written(NODES)

    def _written(self, kind: str) -> tuple[str, ...]:
        written = {series_family(path) for path in self.directory.glob(f"{kind}_*.pvd")}
        named = dict.fromkeys(str(name) for name in self.moments.get("family", ()))
        return tuple(name for name in named if name in written)

    def snapshot(self, *, tau: float, family: str) -> Snapshot:
        """All layers of a family at a report.

        Raises:
            InputError: when the family is unknown or τ is not that of a report.
        """
        if family not in self.families:
            raise InputError(f"family {family!r}: unknown; allowed: {', '.join(self.families) or 'none yet'}")

        path = self._file(series_name(family), tau)
        if self._snapshots.get(family, (None,))[0] != path:
            self._snapshots[family] = (path, read_density(path))
            self._evaluators = {key: value for key, value in self._evaluators.items() if key[0] != family}

        return self._snapshots[family][1]

    def nodes(self, *, tau: float, family: str) -> Nodes:
        """The nodes of a family that moves by a cloud of them (`clouds`) at a report, in all layers and replicas.

        Args:
            tau: of a report.
            family: name of the family.

        Raises:
            InputError: when the family is unknown or has no such nodes, or τ is not that of a report.
        """
        self._check_cloud(family)

        from mfpde.output.clouds.vtp_reader import read_vtp  # noqa: PLC0415  (VTK, which a solve does without)

        return read_vtp(self._file(series_name(family, NODES), tau))

    def nodes_taus(self, family: str) -> Array:
        """τ of the reports with nodes of a family: all, or the later ones of a run that an earlier version began.

        Raises:
            InputError: when the family is unknown or has no nodes.
        """
        self._check_cloud(family)
        return np.array([tau for tau, _ in read_pvd(self.directory / series_name(family, NODES))])

    def _check_cloud(self, family: str) -> None:
        if family not in self.clouds:
            found = "moves by no cloud of nodes" if family in self.families else "unknown"
            raise InputError(f"family {family!r}: {found}; allowed: {', '.join(self.clouds) or 'none'}")

    def _file(self, name: str, tau: float) -> Path:
        """The file of a collection at τ.

        Raises:
            InputError: when τ is not that of a report.
        """
        entries = read_pvd(self.directory / name)
        if not entries:
            raise InputError(f"{self.directory / name}: names no file")
        times = np.array([time for time, _ in entries])
        nearest = int(np.abs(times - tau).argmin()) if np.isfinite(tau) else 0
        if not np.isclose(times[nearest], tau, rtol=1e-9, atol=1e-12):
            raise InputError(f"tau = {tau!r}: no report there; the nearest is {float(times[nearest])!r}")
        return entries[nearest][1]

    def density(self, *, tau: float, family: str, layer: int, theta: ArrayLike) -> Array:
        """ρ (…) in θ coordinates at θ (…, d): the polynomial in each cell of the file, zero outside the mesh.

        On a boundary between cells the value of one of them is given. It is the solution's own polynomial, or the
        nonnegative copy of it that `density.positivity` = "output" writes.

        Args:
            tau: of a report.
            family: name of the family.
            layer: from 0.
            theta: points (n, d), a lattice (…, d), or one point (d,).

        Raises:
            InputError: when τ lies between reports, the family or layer is unknown, or θ is not (…, d) and finite.
        """
        snapshot = self.snapshot(tau=tau, family=family)
        if layer not in range(snapshot.layers):
            raise InputError(f"layer = {layer!r}: unknown; allowed: 0 to {snapshot.layers - 1}")
        points = np.asarray(theta, dtype=np.float64)
        if points.shape[-1:] != (snapshot.dim,) or not np.isfinite(points).all():
            raise InputError(f"theta: must be finite numbers of shape (…, {snapshot.dim}), got shape {points.shape}")

        key = (family, int(layer))
        if key not in self._evaluators:
            self._evaluators[key] = Evaluator(snapshot, key[1])
        return self._evaluators[key](points.reshape(-1, snapshot.dim))[0].reshape(points.shape[:-1])


def _near_name(path: Path) -> str:
    """A run beside it whose name is nearly the same, as the end of a message."""
    runs = [file.parent.name for file in path.parent.glob(f"*/{MANIFEST}")]
    near = nearest(path.name, runs)
    return f"; did you mean {path.with_name(near)}?" if near else ""
