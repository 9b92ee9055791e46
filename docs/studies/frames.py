"""The study of frames: measures the tables of docs/frames.md again, and draws its figure.

    uv run python docs/studies/frames.py                   # all of it: an hour on one core
    uv run python docs/studies/frames.py a --only lagrangian-24-k3
    uv run python docs/studies/frames.py b figure --until 10

`a` is `runs/in-context.toml` against its reference at τ = 1 … 5, `b` the same run with λ = 0.02 at τ = 2 … 40, where
the ridge becomes ever thinner, `figure` one layer of two runs of `b`. What was measured stands in frames.json beside
this file, row by row as it comes; the tables are printed from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import AsinhNorm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from mpi4py import MPI

import conftest

conftest.start()  # MPI ahead of DOLFINx, as in the tests

from exact.test_reference_risks import IN_CONTEXT, REFERENCES, problem
from mfpde.figures.raster import rasterise
from mfpde.limit.solver import Solver
from mfpde.output.fields.snapshot import Snapshot

KEPT = Path(__file__).with_suffix(".json")
TAUS = (2.0, 5.0, 10.0, 20.0, 40.0)
WEAK = ["training.weight_decay=0.02", "training.horizon=40.0"]
SEEN = 10.0  # τ of the figure
BOX = np.array([[-2.5, 2.5], [-5.0, 3.5]])
LAYER, PIXELS = 0, 600


def meshes(cells: int, degree: int, k: int) -> list[str]:
    """The default: discontinuous polynomials in co-moving frames, as they are solved for."""
    kind = ["density.frame='comoving'", "density.positivity='off'"]
    return [*kind, f"density.cells={cells}", f"density.degree={degree}", f"density.potential_degree={k}"]


def nodes(cells: int, k: int, remap: bool = True) -> list[str]:
    """Nodes carried by the flow, k a cell and direction."""
    kind = ["density.frame='lagrangian'", f"density.remap={str(remap).lower()}"]
    return [*kind, f"density.cells={cells}", f"density.potential_degree={k}"]


ROWS = {
    "a": {
        "comoving-24-p2": meshes(24, 2, 3),
        "comoving-32-p2": meshes(32, 2, 3),
        "lagrangian-24-k3": nodes(24, 3),
        "lagrangian-24-k4": nodes(24, 4),
        "lagrangian-24-k4-no-remap": nodes(24, 4, remap=False),
    },
    "b": {
        "comoving-24-p2": meshes(24, 2, 3),
        "lagrangian-24-k4": nodes(24, 4),
        "lagrangian-48-k4": nodes(48, 4),
        "comoving-40-p3": meshes(40, 3, 4),
    },
}
DRAWN = {"comoving-24-p2": "comoving, p = 2, 24 cells", "lagrangian-24-k4": "lagrangian, 24 cells, k = 4"}


def march(settings: Sequence[str], taus: Sequence[float]) -> Iterator[tuple[dict[str, float], Snapshot]]:
    """What a run says at each τ, and its density there."""
    solver = Solver(MPI.COMM_SELF, problem(IN_CONTEXT, list(settings)))
    start = time.perf_counter()
    try:
        for tau in taus:
            solver.stepper.advance(tau)
            report = solver.report(solver.stepper.state, certified=False)
            said = {name: report.history[name] for name in ("risk", "energy", "min_density", "negative_mass")}
            seconds = {"evaluations": solver.flow.clock.evaluations, "seconds": round(time.perf_counter() - start, 1)}
            yield {"tau": tau, **said, **seconds}, report.snapshots[0]
    finally:
        solver.close()


def measure(part: str, name: str, until: float) -> dict[float, Snapshot]:
    """One row of a table, kept as far as it comes; its densities by τ."""
    taus = REFERENCES[IN_CONTEXT]["tau"] if part == "a" else TAUS
    settings = ROWS[part][name] + (WEAK if part == "b" else [])
    row, seen = [], {}
    for said, snapshot in march(settings, [tau for tau in taus if tau <= until]):
        row.append(said)
        seen[said["tau"]] = snapshot
        kept = load()
        kept[part][name] = row
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        sys.stdout.write(f"{part} {name} {json.dumps(said)}\n")
        sys.stdout.flush()
    return seen


def load() -> dict[str, dict[str, list[dict[str, float]]]]:
    """What has been measured: part, row, then one entry per τ."""
    found = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return {part: found.get(part, {}) for part in ROWS}


def tables() -> str:
    """Markdown: errors against the reference (a), risks (b), and the signs at the last τ."""
    lines = []
    for part, rows in load().items():
        taus = REFERENCES[IN_CONTEXT]["tau"] if part == "a" else TAUS
        truth = dict(zip(taus, REFERENCES[IN_CONTEXT]["risk"], strict=True)) if part == "a" else {}
        head = [part, *(f"τ = {tau:g}" for tau in taus), "min ρ", "negative mass", "evaluations"]
        lines += ["", *(f"| {' | '.join(words)} |" for words in (head, ["---"] * len(head)))]
        for name in [name for name in ROWS[part] if name in rows]:
            said = {each["tau"]: each["risk"] for each in rows[name]}
            cells = [
                "" if tau not in said else f"{said[tau] - truth[tau]:+.1e}" if truth else f"{said[tau]:.7f}"
                for tau in taus
            ]
            last = rows[name][-1]
            signs = [f"{last['min_density']:.1e}", f"{last['negative_mass']:.1e}", f"{last['evaluations']:.0f}"]
            lines.append(f"| {' | '.join([name, *cells, *signs])} |")
    return "\n".join(lines) + "\n"


def draw(seen: dict[str, Snapshot]) -> None:
    """One layer of each run on the same scale; what is negative is blue."""
    canvas, panels = plt.subplots(
        1, len(seen), figsize=(4.2 * len(seen), 4.6), layout="constrained", sharey=True, squeeze=False
    )
    rasters = {name: rasterise(snapshot, LAYER, BOX, PIXELS).density for name, snapshot in seen.items()}
    top = float(rasters["lagrangian-24-k4"].max())
    for axes, (name, density) in zip(panels[0], rasters.items(), strict=True):
        image = axes.imshow(
            density.T, origin="lower", extent=BOX.ravel(), aspect="auto", cmap="RdBu_r", interpolation="antialiased",
            norm=AsinhNorm(linear_width=0.02 * top, vmin=-top, vmax=top),
        )  # fmt: skip
        axes.set(title=f"{DRAWN[name]}\nmin ρ = {density.min():.2g}, max ρ = {density.max():.2g}", xlabel="q")
    panels[0][0].set_ylabel("v")
    canvas.colorbar(image, ax=panels[0], label="ρ", shrink=0.85, extend="both", ticks=[-1.0, -0.1, 0.0, 0.1, 1.0])
    canvas.suptitle(f"λ = 0.02, τ = {SEEN:g}, layer {LAYER + 1}", fontsize="medium")
    canvas.savefig(ROOT / "docs" / "figures" / "frames.png", dpi=150)
    plt.close(canvas)


def main() -> None:
    """Measure what is asked for, print the tables, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="a, b, figure; all unless given")
    parser.add_argument("--only", nargs="*", metavar="ROW", help="rows of a and b; all unless given")
    parser.add_argument("--until", type=float, default=TAUS[-1], help="latest τ")
    given = parser.parse_args()
    parts = given.parts or ["a", "b", "figure"]
    if unknown := [part for part in parts if part not in ("a", "b", "figure")]:
        parser.error(f"no such part: {', '.join(unknown)}")
    drawn: dict[str, Snapshot] = {}
    for part in ("a", "b"):
        for name in ROWS[part]:
            asked = part in parts and (given.only is None or name in given.only)
            if asked or (part == "b" and "figure" in parts and name in DRAWN):
                seen = measure(part, name, given.until if asked else min(SEEN, given.until))
                if part == "b" and name in DRAWN and SEEN in seen:
                    drawn[name] = seen[SEEN]
    if "figure" in parts and len(drawn) == len(DRAWN):
        draw(drawn)
    sys.stdout.write(tables())


if __name__ == "__main__":
    main()
