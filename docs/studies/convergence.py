"""The convergence study: `uv run python docs/studies/convergence.py` makes docs/convergence.md and its figure again.

It takes half an hour on one core; sections may be named, and the others then stay as they are. Three are measured and
added only if named: disk, long_times, estimates. What it measures is what the tests assert in small: the modules of
tests/exact do the work here too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import conftest

conftest.start()  # MPI ahead of DOLFINx, as in the tests

from exact import test_comoving_frames as comoving_frames
from exact import test_continuous_depth as continuous_depth
from exact import test_energy_remainder as energy_remainder
from exact import test_orders as orders
from exact import test_reference_risks as reference_risks

CELLS = (8, 12, 16, 24, 32)
SPACES = {  # name in the tables: settings, unknowns per cell (or per square cut into two triangles)
    "p = 1, k = 2": ["density.degree=1", "density.potential_degree=2"],
    "p = 2, k = 2": ["density.degree=2", "density.potential_degree=2"],
    "p = 2, k = 3": ["density.degree=2", "density.potential_degree=3"],
    "p = 3, k = 4": ["density.degree=3", "density.potential_degree=4"],
}
TRIANGLES = ["density.cell_type='simplex'", "density.cells=21"]  # 5292 unknowns a layer; 24 × 24 squares have 5184
DISK = [f"density.mesh='{ROOT}/meshes/disk.msh'", "density.potential_degree=2"]  # 4542 unknowns


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def in_context() -> Iterator[str]:
    """Errors of the risk of in-context.toml against cells, for four pairs of spaces; and on triangles and the disk."""
    name = reference_risks.IN_CONTEXT
    rows, worst = [], {}
    for space, settings in SPACES.items():
        found = {
            n: [true for true, _ in reference_risks.errors(name, [*settings, f"density.cells={n}"])] for n in CELLS
        }
        worst[space] = [max(found[n]) for n in CELLS]
        rows.append([space, *(f"{e:.1e}" for e in worst[space])])
    triangles = max(true_errors(name, TRIANGLES))
    figure(worst)
    yield "## Risk on `runs/in-context.toml`\n"
    digits = ", ".join(map(str, reference_risks.REFERENCES[name]["digits"]))
    yield (
        "Largest error of the risk over τ = 1 … 5 against a uniform grid of weighted units "
        f"(`tests/exact/reference.py`, accurate to {digits} digits at these τ), co-moving frames, tolerance 1e-5. "
        f"21 squares a side, each cut into two triangles (p = 2, k = 3), have {triangles:.1e}.\n"
    )
    yield table(["space", *(f"{n} cells a side" for n in CELLS)], rows)
    yield "![Largest error of the risk over τ = 1 … 5 against cells a side](figures/convergence.png)\n"


def true_errors(name: str, settings: list[str], reports: int | None = None) -> list[float]:
    """Of the risk, at the first `reports` τ of the reference, or all."""
    return [true for true, _ in islice(reference_risks.errors(name, settings), reports)]


def figure(worst: dict[str, list[float]]) -> None:
    """Largest error over τ against cells, one line a space."""
    canvas, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for (space, errors), marker in zip(worst.items(), "osD^", strict=True):
        axes.loglog(CELLS, errors, marker=marker, label=space)
    axes.set(xlabel="cells a side", ylabel="largest error of the risk, τ = 1 … 5", xticks=CELLS, xticklabels=CELLS)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    canvas.savefig(ROOT / "docs" / "figures" / "convergence.png", dpi=160)
    plt.close(canvas)


def disk() -> Iterator[str]:
    """An unstructured mesh: as good as squares, and slower, for every node has a nonlinear coordinate of its own."""
    name = reference_risks.IN_CONTEXT
    rows = [
        [kind, *(f"{e:.1e}" for e in true_errors(name, settings, 2))]
        for kind, settings in (
            ("22 × 22 squares", ["density.cells=22", "density.potential_degree=2"]),
            ("disk, 757 triangles", DISK),
        )
    ]
    yield "## An unstructured disk\n"
    yield "Error of the risk on `runs/in-context.toml` with some 4,400 unknowns a layer, p = k = 2.\n"
    yield table(["mesh", "τ = 1", "τ = 2"], rows)


def long_times() -> Iterator[str]:
    """Moments and risk after a long time, at two tolerances."""
    rows = []
    for name, make in comoving_frames.CASES.items():
        rows.append([name, *(f"{comoving_frames.moment_error(make(), tolerance):.1e}" for tolerance in (1e-9, 1e-10))])
    yield "## Long times in co-moving frames\n"
    yield (
        "Largest relative error of means, covariances and risk against their closed equations, started from the "
        "discrete moments; λτ = 5 (bilinear: τ = 5), 8 cells per direction, p = 2. In the case called far the means "
        "move more than 20 initial standard deviations.\n"
    )
    yield table(["case", "tolerance 1e-9", "tolerance 1e-10"], rows)


def depth() -> Iterator[str]:
    """Errors against L = ∞ and their slopes."""
    coarse, fine = continuous_depth.risk(32, "continuum"), continuous_depth.risk(64, "continuum")
    limit, layers = fine + (fine - coarse) / 3.0, (4, 8, 16)
    rows = []
    for kind in ("residual", "continuum"):
        errors = [abs(continuous_depth.risk(n, kind) - limit) for n in layers]
        slope = np.polyfit(np.log(layers), np.log(errors), 1)[0]
        rows.append([kind, *(f"{e:.1e}" for e in errors), f"{slope:.2f}"])
    yield "## Depth\n"
    yield "Error of the risk against infinite depth: heads, then neurons, laws that vary with depth.\n"
    yield table(["`model.depth`", *(f"L = {n}" for n in layers), "slope"], rows)


def elements() -> Iterator[str]:
    """Errors of both kinds of elements, and their orders in the cells a side."""
    names = {"lagrangian": "Lagrangian, four nodes a cell", "comoving": "discontinuous, p = 2, k = 3"}
    columns = [field.name for field in fields(orders.Errors)]
    rows = []
    for frame, cells in orders.CELLS.items():
        found = [orders.errors(frame, n) for n in cells]
        errors = [[getattr(each, name) for each in found] for name in columns]
        lines = [[f"{e:.1e}" for e in each] for each in zip(*errors, strict=True)]
        rows += [[names[frame], str(cells[k]), *lines[k]] for k in (0, -1)]
        rows.append([names[frame], "order over all", *(f"{orders.order(cells, each):.1f}" for each in errors)])
    yield "## Lagrangian and discontinuous elements\n"
    yield (
        "Risk, moments and density against characteristics that share no code with the package "
        f"(`tests/exact/characteristics.py`): the in-context task with {orders.SAMPLES} samples, λ = {orders.DECAY:g}, "
        f"τ = {orders.TAU:g}, tolerance 1e-8. Errors of the risk are relative, those of means and covariances in "
        "standard deviations, W₁ is that of the projections of the density that is written, the largest over lines and "
        "layers, over √tr Σ.\n"
    )
    yield table(["elements", "cells a side", "risk", "moments", "W₁ of the density"], rows)


def remainder() -> Iterator[str]:
    """The energy law's remainder in moving frames."""
    cells, rows = (8, 12, 16, 24), []
    for kind, name in (("tensor", "quadrilaterals"), ("simplex", "triangles")):
        for degree in (1, 2, 3):
            errors = [energy_remainder.remainder(degree, n, kind) for n in cells]
            slope = -np.polyfit(np.log(cells), np.log(errors), 1)[0]
            rows.append([name, f"p = k = {degree}", f"{errors[0]:.1e}", f"{errors[-1]:.1e}", f"{slope:.1f}"])
    yield "## Energy law in moving frames\n"
    yield "What moving nodes leave of the energy law, over the dissipation; zero to rounding in a fixed frame.\n"
    yield table(["cells", "degrees", f"{cells[0]} a side", f"{cells[-1]} a side", "order over four sizes"], rows)


def estimates() -> Iterator[str]:
    """True and estimated errors of ten run files."""
    rows = []
    for name in reference_risks.CASES:
        taus = reference_risks.REFERENCES[name]["tau"]
        found = reference_risks.errors(name, ["density.cells=8"], estimate=True)
        for tau, (true, estimated) in zip(taus, found, strict=True):
            ratio = f"{true / estimated:.2f}"
            rows.append([f"`{Path(name).name}`", f"{tau:g}", f"{true:.1e}", f"{estimated:.1e}", ratio])
    yield "## Estimated error of the risk\n"
    yield "`--estimate-error` on ten run files of different kinds, 8 cells a side.\n"
    yield table(["run file", "τ", "true error", "estimate", "true / estimate"], rows)


SECTIONS = {each.__name__: each for each in (depth, remainder, in_context, elements, long_times, estimates, disk)}
SHOWN = ("depth", "remainder", "in_context", "elements")
PAGE = ROOT / "docs" / "convergence.md"
TOP = """# Convergence

Made by `uv run python docs/studies/convergence.py`. Errors of discretisation fall with the orders of the theory:

| prediction | agrees? |
| --- | --- |
| depth: order 1 for residual layers, 2 for the continuum | yes |
| energy law in moving frames: a remainder of order at least k, none in fixed ones | yes |
| the risk converges faster than the density, of order p + 1 | yes |
| Lagrangian and discontinuous elements tend to the same characteristics | yes |
"""


def kept() -> dict[str, str]:
    """The sections of the page by their headings, without what stands above the first."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def main() -> None:
    """Measure all sections, or those that are named, and write the page: the others stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = f"{', '.join(SECTIONS)}; the first four unless given"
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=listed)
    given = parser.parse_args()
    if unknown := [name for name in given.sections if name not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)}")

    page = kept()
    for name in given.sections or SHOWN:
        text = "\n".join(SECTIONS[name]())
        page[text.partition("\n")[0].removeprefix("## ")] = text
        PAGE.write_text("\n".join([TOP, *(part.rstrip() + "\n" for part in page.values())]), encoding="utf-8")
        sys.stdout.write(f"{name} done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
