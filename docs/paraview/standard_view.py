"""The standard view of a run in ParaView, and a still of it; for pvpython and pvbatch, 5.11 and 5.13.

    pvpython docs/paraview/standard_view.py runs/in-context                  writes runs/in-context/figures/paraview.png
    pvbatch docs/paraview/standard_view.py DIR --family head_0 --tau 2 --still a.png

On a machine without a screen (`-noreset`, or the X server may start again between the program's first two connections):

    xvfb-run -a -s "-screen 0 1280x1024x24 -noreset" pvbatch docs/paraview/standard_view.py DIR

The same view in ParaView's window: Tools → Python Shell → Run Script, or open `density_FAMILY.pvd` and colour by
`density`: for one and two coordinates no filter is needed. Depth is the last axis, from 0 to 1; it is stretched here to
the size of the others. For three coordinates, `--layer` chooses the layer, by a threshold on the array `layer`.
What cannot be shown ends with one line and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, unquote

from paraview import simple


def arguments() -> argparse.Namespace:
    """What to show, and where to."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory", type=Path, help="a run directory")
    p.add_argument("--family", help="default: the first by name")
    p.add_argument("--tau", type=float, help="the report nearest to it; default: the last")
    p.add_argument("--array", default="density", choices=("density", "potential", "velocity"))
    p.add_argument("--layer", type=int, help="this layer alone; for three coordinates layer 0 unless given")
    p.add_argument("--still", type=Path, help="default: DIR/figures/paraview.png")
    p.add_argument("--size", type=int, nargs=2, default=(1400, 1000), metavar=("WIDTH", "HEIGHT"))
    return p.parse_args()


def refuse(line: str) -> NoReturn:
    """End with one line."""
    sys.stderr.write(f"standard_view.py: {line}\n")
    sys.exit(2)


def series(directory: Path, family: str | None) -> Path:
    """The collection of a family."""
    found = sorted(directory.glob("density_*.pvd"))
    if not found:
        refuse(f"{directory}: holds no density_FAMILY.pvd")
    if family is None:
        return found[0]
    path = directory / f"density_{quote(family, safe='')}.pvd"
    if path not in found:
        names = ", ".join(unquote(each.stem.removeprefix("density_")) for each in found)
        refuse(f"--family {family}: there is no such family; allowed: {names}")
    return path


def main() -> None:
    """Open, colour, look, save."""
    given = arguments()
    path = series(given.directory, given.family)
    source = simple.PVDReader(FileName=str(path.resolve()))
    simple.RenameSource(path.stem, source)
    source.UpdatePipeline()
    times = list(source.TimestepValues) if hasattr(source.TimestepValues, "__len__") else [source.TimestepValues]
    tau = times[-1] if given.tau is None else min(times, key=lambda time: abs(time - given.tau))
    view = simple.CreateView("RenderView")
    view.ViewSize = list(given.size)
    view.ViewTime = tau
    source.UpdatePipeline(tau)
    names = coordinates(source)
    where, layers = layers_of(source)
    if given.layer is not None and given.layer not in range(layers):
        refuse(f"--layer {given.layer}: there is no such layer; allowed: 0 to {layers - 1}")
    shown = source
    if given.layer is not None or len(names) == 3:
        shown = only(source, where, given.layer or 0)
        if len(names) == 3:  # a volume needs a grid; rendering cells of higher degree as one takes minutes
            shown = simple.ResampleToImage(Input=shown)
            shown.SamplingDimensions = [48, 48, 48]
        shown.UpdatePipeline(tau)
    display = simple.Show(shown, view)
    draw(display, view, shown, names, given.array)
    said = simple.Show(simple.Text(Text=f"{path.stem.removeprefix('density_')}, tau = {tau:g}"), view)
    said.WindowLocation, said.FontSize, said.Color = "Upper Left Corner", given.size[1] // 40, [0.0, 0.0, 0.0]
    simple.Render(view)
    still = given.still or given.directory / "figures" / "paraview.png"
    still.parent.mkdir(parents=True, exist_ok=True)
    simple.SaveScreenshot(str(still), view, ImageResolution=list(given.size), OverrideColorPalette="WhiteBackground")
    sys.stdout.write(f"{still}: {path.stem}, tau = {tau:g}, coordinates {', '.join(names)}\n")


def coordinates(source: object) -> list[str]:
    """Names of θ's coordinates, which the files carry as field data."""
    data = source.GetClientSideObject().GetOutputDataObject(0)
    blocks = [data]
    if data.IsA("vtkCompositeDataSet"):
        walk = data.NewIterator()
        walk.InitTraversal()
        blocks = [walk.GetCurrentDataObject()]
    array = blocks[0].GetFieldData().GetAbstractArray("coordinates")
    values = [array.GetValue(k) for k in range(array.GetNumberOfValues())]
    return values if array.IsA("vtkStringArray") else bytes(values).decode().split("\0")[:-1]


def layers_of(source: object) -> tuple[str, int]:
    """Where the array `layer` is, and the number of layers; files of early versions have it at the cells alone."""
    array, where = source.PointData.GetArray("layer"), "POINTS"
    if array is None:
        array, where = source.CellData.GetArray("layer"), "CELLS"
    return where, int(array.GetRange()[1]) + 1


def only(source: object, where: str, layer: int) -> object:
    """The cells of one layer; the filter's bounds are spelt differently before ParaView 5.10."""
    picked = simple.Threshold(Input=source)
    picked.Scalars = [where, "layer"]
    picked.LowerThreshold, picked.UpperThreshold = layer, layer
    return picked


def draw(display: object, view: object, shown: object, names: list[str], array: str) -> None:
    """Colours, stretched depth, named axes and the camera."""
    dim = len(names)
    if dim == 3:
        display.SetRepresentationType("Volume")
    if array == "velocity":
        simple.ColorBy(display, ("POINTS", array, "Magnitude"))
    else:
        simple.ColorBy(display, ("POINTS", array))
    display.RescaleTransferFunctionToDataRange(False, True)
    table = simple.GetColorTransferFunction(array)
    table.ApplyPreset("Viridis (matplotlib)" if array != "potential" else "Cool to Warm", True)
    display.SetScalarBarVisibility(view, True)
    bar = simple.GetScalarBar(table, view)
    bar.TitleFontSize = bar.LabelFontSize = view.ViewSize[1] // 45
    if dim == 3 and array == "density":  # nothing is seen where there is next to nothing
        points = table.RGBPoints
        low, high = points[0], points[-4]
        simple.GetOpacityTransferFunction(array).Points = [low, 0, 0.5, 0, 0.02 * high, 0, 0.5, 0, high, 1, 0.5, 0]
    if dim == 2:  # cells of higher degree are drawn as such; 5.11 ends on curves that are subdivided more than once
        display.NonlinearSubdivisionLevel = 3
    bounds = shown.GetDataInformation().GetBounds()
    sizes = [max(bounds[2 * k + 1] - bounds[2 * k], 1e-12) for k in range(3)]
    scale = [1.0, 1.0, 1.0]
    if dim < 3:
        scale[dim] = 0.8 * max(sizes[:dim]) / max(sizes[dim], 0.2)
    display.Scale = scale
    axes = view.AxesGrid
    axes.Visibility, axes.DataScale = 1, scale  # its numbers are those of the data, however stretched
    axes.XTitle, axes.YTitle, axes.ZTitle = [*names, "depth", ""][:3]
    for axis in "XYZ":
        setattr(axes, f"{axis}TitleFontSize", view.ViewSize[1] // 40)
        setattr(axes, f"{axis}LabelFontSize", view.ViewSize[1] // 50)
    if dim == 2:
        display.Opacity = 0.85
    if dim == 1:
        view.InteractionMode = "2D"
        display.LineWidth = 8
        simple.ResetCamera(view)
        return
    view.CameraPosition, view.CameraViewUp = [1.6, -2.4, 1.4], [0, 0, 1]
    view.CameraFocalPoint = [0, 0, 0]
    simple.ResetCamera(view)


main()
