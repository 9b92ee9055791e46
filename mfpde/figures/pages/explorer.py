"""What the interactive part of a report shows: densities on lattices through τ, and curves, in compact form.

A density is stored as the square roots of its values over the largest of its image, in 4,095 steps: right to 5e-4
there, and to two per cent where it is 1e-4 of that. All are one compressed text, which a browser unpacks by itself.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.figures.blocks import blocks_of, evenly
from mfpde.figures.raster import Raster, rasterise, union
from mfpde.figures.style import BLACK, CURVES, density_map
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.reader import RunReader
from mfpde.output.records.tables import Column

Array = NDArray[np.float64]
_PIXELS = {1: 240, 2: 72, 3: 28}  # per direction
_LEVELS = 4095
_MOST_IMAGES = 1200  # of all families, layers and reports together; more reports are thinned evenly
_MOST_REPORTS = 60
_COLUMNS = ("risk", "test_risk", "batch_risk", "energy", "penalty", "accuracy", "test_accuracy", "dissipation", "gap")
_LOGARITHMIC = ("dissipation", "gap")


def explorer_data(run: RunReader) -> str:
    """The data of the page's script, in base64: compressed JSON, its end marked by a zero, and the images' numbers.

    Numbers are differences of neighbours, first all low bytes and then all high ones, which compress better.

    Args:
        run: finished or running, with one report at least.
    """
    families, history = run.families, run.history
    kept = _kept_reports(run)
    made = [_family(run, name, run.taus[kept]) for name in families]
    data = {
        "taus": run.taus[kept].tolist(),
        "steps": np.asarray(history["step"])[kept].tolist() if "step" in history else None,
        "families": [about for about, _ in made],
        "curves": _curves(history),
        "singular": _singular_values(run.singular_values),
        "colours": _colours(),
    }
    numbers = np.concatenate([images for _, images in made])
    steps = np.diff(numbers, prepend=np.uint16(0)).astype("<u2").view(np.uint8)
    planes = steps[0::2].tobytes() + steps[1::2].tobytes()
    return base64.b64encode(zlib.compress(json.dumps(data).encode() + b"\0" + planes, 9)).decode("ascii")


def _kept_reports(run: RunReader) -> NDArray[np.int64]:
    """The reports that have images, evenly thinned, the first and the last among them."""
    layers = sum(run.snapshot(tau=float(run.taus[-1]), family=name).layers for name in run.families)
    most = max(2, min(_MOST_REPORTS, _MOST_IMAGES // max(layers, 1)))
    return evenly(len(run.taus), most)


def _family(run: RunReader, name: str, taus: Array) -> tuple[dict[str, Any], NDArray[np.uint16]]:
    """One family, and its images of all reports and layers in one window of θ."""
    last = run.snapshot(tau=float(taus[-1]), family=name)
    blocks = blocks_of(run, last)
    box = union([block.until(tau).box() for block in blocks for tau in (taus[0], taus[len(taus) // 2], taus[-1])])

    images, scales = [], []
    for tau in taus:
        snapshot = run.snapshot(tau=float(tau), family=name)
        for layer in range(snapshot.layers):
            image, scale = _image(snapshot, layer, box)
            images.append(image)
            scales.append(scale)
    about = {
        "name": name,
        "coordinates": list(last.coordinates),
        "layers": last.layers,
        "box": box.tolist(),
        "pixels": _PIXELS[last.dim],
        "scales": scales,
        "means": [[block.until(float(tau)).mean[-1].tolist() for block in blocks] for tau in taus],
    }
    return about, np.concatenate(images)


def _image(snapshot: Snapshot, layer: int, box: Array) -> tuple[NDArray[np.uint16], float]:
    """The density's numbers and their scale; of three coordinates those of the three marginals on planes."""
    raster = rasterise(snapshot, layer, box, _PIXELS[snapshot.dim])
    values = np.concatenate([plane.ravel() for plane in _planes(raster)])
    values = np.maximum(values, 0.0)

    scale = float(values.max()) or 1.0
    return np.rint(np.sqrt(values / scale) * _LEVELS).astype(np.uint16), scale / _LEVELS**2


def _planes(raster: Raster) -> Iterator[Array]:
    """The density itself, or its marginals on the planes (0, 1), (0, 2), (1, 2)."""
    if len(raster.axes) < 3:
        yield raster.density
        return
    for kept in ((0, 1), (0, 2), (1, 2)):
        yield raster.marginal(*kept)


def _curves(history: Mapping[str, Column]) -> list[dict[str, Any]]:
    """The columns of history.csv that have a number."""
    found = []
    for name in _COLUMNS:
        values = np.asarray(history.get(name, ()), dtype=np.float64)
        if np.isfinite(values).any():
            curve = CURVES["slope" if name == "dissipation" and "step" in history else name]
            label = curve.label.replace(r"$|\nabla V|^2$", "|∇V|²").replace(r"$-\partial_\tau$", "−∂τ")
            found.append(
                {
                    "name": name,
                    "label": label,
                    "colour": "currentColor" if curve.colour == BLACK else curve.colour,
                    "log": name in _LOGARITHMIC,
                    "tau": np.asarray(history["tau"], dtype=np.float64).tolist(),
                    "values": _numbers(values),
                }
            )
    return found


def _singular_values(table: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Per family and layer the singular values of its matrices against τ."""
    found = []
    names = [name for name in table if name.startswith("sigma_")]
    for family, layer in dict.fromkeys(zip(table.get("family", ()), table.get("layer", ()), strict=True)):
        rows = (table["family"] == family) & (table["layer"] == layer)
        values = [_numbers(np.asarray(table[name][rows], dtype=np.float64)) for name in names]
        taus = np.asarray(table["tau"][rows], dtype=np.float64).tolist()
        found.append({"family": str(family), "layer": int(layer), "tau": taus, "values": values})
    return found


def _numbers(values: Array) -> list[float | None]:
    """As JSON has them; null for what is no number."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _colours() -> list[list[int]]:
    """The 256 colours of densities."""
    shades = density_map()(np.linspace(0.0, 1.0, 256))
    return [[round(255.0 * float(part)) for part in shade[:3]] for shade in shades]
