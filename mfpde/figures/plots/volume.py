"""Densities of three coordinates in space, drawn off screen by PyVista."""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.errors import InputError
from mfpde.figures.blocks import blocks_of, chosen, window
from mfpde.figures.raster import Raster, mass_levels, rasterise
from mfpde.output.reader import RunReader

if TYPE_CHECKING:
    from pyvista import Plotter

_VOXELS = 56
_SURFACES = {0.95: 0.12, 0.8: 0.2, 0.5: 0.35, 0.2: 1.0}  # share of the mass inside, and opacity, from the outside in
_BAR = {"title": "density", "vertical": True, "position_x": 0.9, "position_y": 0.25}
_SIZE = (1100, 900)


def obstacle() -> str:
    """Why no picture in space can be drawn here, in one line; empty when it can."""
    try:
        import pyvista  # noqa: F401, PLC0415  (slow, and an extra)
    except ImportError:
        return "PyVista is not installed (pip install pyvista): pictures in space are left out"
    if not _has_screen() and ctypes.util.find_library("EGL") is None:
        return "there is no EGL library (Debian: apt install libegl1): pictures in space are left out"
    return ""


def _has_screen() -> bool:
    """Is there something to draw on without EGL?"""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def volume_plotter(run: RunReader, family: str | None = None, tau: float | None = None, layer: int = 0) -> Plotter:
    """Nested surfaces of constant density that hold 95, 80, 50 and 20 % of a layer's mass.

    Args:
        run: the run.
        family: of three coordinates; the first unless given.
        tau: of a report; the last unless given.
        layer: from 0.

    Returns:
        A PyVista plotter, off screen: `.screenshot(file)` or `.show()`.

    Raises:
        InputError: for a family that does not have three coordinates, an unknown layer, a τ between reports, a run
            without reports, or where PyVista cannot draw.
    """
    name, tau = chosen(run, family, tau)
    snapshot = run.snapshot(tau=tau, family=name)
    if snapshot.dim != 3:
        raise InputError(f"family {name!r}: has {snapshot.dim} coordinates; pictures in space are of three")
    if layer not in range(snapshot.layers):
        raise InputError(f"layer = {layer!r}: unknown; allowed: 0 to {snapshot.layers - 1}")
    if reason := obstacle():
        raise InputError(reason)
    if not _has_screen():  # else VTK looks for an X server first, and complains
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    import pyvista  # noqa: PLC0415  (slow, and an extra)

    box = window(snapshot, [blocks_of(run, snapshot)[layer].until(tau)])
    plotter: Any = pyvista.Plotter(off_screen=True, window_size=list(_SIZE))
    _add_surfaces(plotter, rasterise(snapshot, layer, box, _VOXELS))
    x, y, z = snapshot.coordinates
    plotter.show_bounds(
        bounds=box.ravel(), xtitle=x, ytitle=y, ztitle=z, grid="back", location="outer", font_size=13, n_xlabels=4,
        n_ylabels=4, n_zlabels=4,
    )  # fmt: skip
    plotter.add_text(f"{name}, layer {layer}, tau = {tau:.4g}", font_size=13)
    plotter.view_isometric()
    plotter.camera.zoom(0.85)
    return plotter  # Any: the hints of its decorated methods refuse correct calls


def _add_surfaces(plotter: Any, raster: Raster) -> None:
    """Nested surfaces of constant density."""
    import pyvista  # noqa: PLC0415

    density = np.maximum(raster.density, 0.0)
    grid = pyvista.ImageData(dimensions=density.shape, spacing=raster.pixel, origin=[axis[0] for axis in raster.axes])
    grid["density"] = density.ravel(order="F")

    for height, opacity in zip(mass_levels(density, list(_SURFACES)), _SURFACES.values(), strict=False):
        surface = grid.contour([height], scalars="density")
        if surface.n_points:
            plotter.add_mesh(
                surface,
                scalars="density",
                cmap="magma_r",
                clim=(0.0, float(density.max())),
                opacity=opacity,
                smooth_shading=True,
                show_scalar_bar=opacity == 1.0,
                scalar_bar_args=_BAR,
            )


def volume_pictures(run: RunReader, folder: Path, family: str, tau: float | None) -> list[Path]:
    """A PNG for each layer of a family of three coordinates."""
    _, tau = chosen(run, family, tau)
    written = []
    for layer in range(run.snapshot(tau=tau, family=family).layers):
        plotter = volume_plotter(run, family, tau, layer)
        path = folder / f"volume_{family}_{layer}.png"
        plotter.screenshot(str(path))
        plotter.close()
        written.append(path)
    return written
