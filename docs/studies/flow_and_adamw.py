"""Ten digits by the flow and by AdamW: how well do their limits read, and where do they put their heads?

    uv run python docs/studies/flow_and_adamw.py          # solves both, some minutes; keeps flow_and_adamw.json
    uv run python docs/studies/flow_and_adamw.py --draw   # the table and docs/figures/flow-and-adamw.png from that

Both start from the same law, with the nodes of the same midpoint rule, and see the same images: `runs/digits.toml` and
`runs/digits-adamw.toml`. What either has reached is put into the energy that the flow lowers, R + λ/2 ∫|θ|² dρ with the
λ of the flow, beside its gap: AdamW's decay is decoupled, so that it need not lower that energy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.config import run_file
from mfpde.limit.solver import Solver
from mfpde.limit.state import NodesPart, State
from mfpde.output.clouds.midpoint_lattice import between
from mfpde.runs.problem_setup import problem_of, report_times

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).with_suffix(".json")
PICTURE = ROOT / "docs" / "figures" / "flow-and-adamw.png"
METHODS = {"flow": "digits", "AdamW": "digits-adamw"}
COLOURS = {"start": "#999999", "flow": "#0072b2", "AdamW": "#d55e00"}
KINDS = {"head": "heads", "neuron": "neurons"}
COMMON = ("density.nodes=24",)
EVERY = {"flow": "output.every=0.5", "AdamW": "output.every=15"}
BINS = np.linspace(-4.0, 5.0, 91)
type Array = NDArray[np.float64]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Ten digits by the flow and by AdamW.")
    parser.add_argument("--draw", action="store_true", help="from what has been kept")
    parser.add_argument("--small", action="store_true", help="few images and steps; nothing is kept")
    given = parser.parse_args()

    if given.draw:
        found = json.loads(KEPT.read_text(encoding="utf-8"))
    else:
        found = measure(given.small)
        if not given.small:
            KEPT.write_text(json.dumps(found) + "\n", encoding="utf-8")
    if not given.small:
        draw(found)
    sys.stdout.write(table(found))
    return 0


def measure(small: bool) -> dict[str, Any]:
    """Both trainings, and the law that they start from."""
    fewer = ("task.samples=40", "task.test_samples=40", "model.heads=2", "model.neurons=2") if small else ()
    shorter = {"flow": ("training.horizon=0.5",), "AdamW": ("training.batch=20", "training.steps=20")} if small else {}
    problems = {}
    for method, name in METHODS.items():
        words = [*COMMON, *fewer, EVERY[method], *shorter.get(method, ())]
        file = run_file.load(ROOT / "runs" / f"{name}.toml", words)
        problems[method] = (
            problem_of(file),
            report_times(file.training, file.output.every, file.content["task"]["samples"]),
        )

    judge = Solver(MPI.COMM_SELF, problems["flow"][0])  # knows the energy of the flow
    found: dict[str, Any] = {"start": ending(judge, judge.stepper.state)}
    for method, (problem, times) in problems.items():
        solver = Solver(MPI.COMM_SELF, problem)
        curves = []
        for report in solver.run(times, gap="never"):
            steps = solver.stepper.steps
            batch = problem.descent.batches.taken if problem.descent else 0
            passes = steps * batch / problem.task.samples if batch else report.timings["passes"]
            curves.append({"passes": passes, **{k: report.history[k] for k in CURVES}})
        found[method] = {"curves": curves, **ending(judge, solver.stepper.state)}
        solver.close()
    judge.close()
    return found


CURVES = ("risk", "test_risk", "accuracy", "test_accuracy")
ENDS = (*CURVES, "penalty", "energy", "dissipation", "gap")


def ending(judge: Solver, state: State) -> dict[str, Any]:
    """A state in the energy of the flow, and where its heads and neurons are."""
    report = judge.report(State(0.0, state.parts))
    rows = [(name, layer, list(map(float, values))) for name, layer, values in report.singular_values]
    layers = judge.flow.model.layers
    spectra = [np.mean([v for _, layer, v in rows if layer == k], axis=0).tolist() for k in range(layers)]
    return {
        "ends": {key: float(report.history[key]) for key in ENDS},
        "spectra": spectra,
        "places": {kind: list(places(judge, state, kind)) for kind in KINDS},
    }


def places(judge: Solver, state: State, kind: str) -> Iterator[dict[str, Any]]:
    """Of all families of a kind together, layer by layer: the density of u, ∫|u|² and ∫|v|², |v| against u of one."""
    members = [
        (each.grid, part)
        for each, part in zip(judge.flow.discretisations, state.parts, strict=True)
        if isinstance(part, NodesPart) and each.grid.family.name.startswith(kind)
    ]
    for layer in range(judge.flow.model.layers):
        density, squares = np.zeros(len(BINS) - 1), np.zeros(2)
        for grid, part in members:
            points, mass = between(part.position[layer, :, :1], 1, grid.order)
            density += np.histogram(points[:, 0], BINS, weights=mass)[0] / np.diff(BINS) / len(members)
            theta, own = part.position[layer], part.mass[layer]
            squares += [own @ (each**2).sum(axis=1) / len(members) for each in (theta[:, :1], theta[:, 1:])]
        grid, part = members[0]
        theta = part.position[layer]
        kept = part.mass[layer] > 1e-6
        yield {
            "density": density.tolist(),
            "square_u": float(squares[0]),
            "square_v": float(squares[1]),
            "u": theta[kept, 0].tolist(),
            "size": np.sqrt((theta[kept, 1:] ** 2).sum(axis=1)).tolist(),
        }


def table(found: Mapping[str, Any]) -> str:
    """Markdown."""
    names = ["start", *METHODS]
    rows = [["", *names], ["---"] * (len(names) + 1)]
    ends = {name: found[name]["ends"] for name in names}
    for key, label in (("risk", "risk"), ("test_risk", "test risk")):
        rows.append([label, *(f"{ends[name][key]:.4f}" for name in names)])
    for key, label in (("accuracy", "training accuracy"), ("test_accuracy", "test accuracy")):
        rows.append([label, *(f"{100 * ends[name][key]:.1f} %" for name in names)])
    for key, label in (("energy", "energy of the flow"), ("gap", "its gap"), ("dissipation", "its dissipation")):
        rows.append([label, *(f"{ends[name][key]:.4g}" for name in names)])
    for kind, label in KINDS.items():
        for key, of in (("square_u", "u²"), ("square_v", "the squared length of v")):
            values = [np.mean([layer[key] for layer in found[name]["places"][kind]]) for name in names]
            rows.append([f"{label}: mean of {of}", *(f"{value:.3g}" for value in values)])
    half = [sum(np.sum(s[:2]) / max(np.sum(s), 1e-300) for s in found[n]["spectra"]) for n in names]
    layers = len(found["start"]["spectra"])
    rows.append(["two largest of the singular values, share", "", *(f"{100 * h / layers:.0f} %" for h in half[1:])])
    passes = [found[name]["curves"][-1]["passes"] for name in METHODS]
    rows.append(["passes over the images", "0", *(f"{value:.0f}" for value in passes)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def draw(found: Mapping[str, Any]) -> None:
    """Risk against work; densities of u and lengths of v by layer; singular values."""
    layers = len(found["start"]["spectra"])
    figure, axes = plt.subplots(layers, 4, figsize=(13.0, 2.9 * layers), layout="constrained", squeeze=False)
    middle = 0.5 * (BINS[1:] + BINS[:-1])
    for layer in range(layers):
        for column, (kind, label) in enumerate(KINDS.items()):
            panel = axes[layer, column]
            for name in ("start", *METHODS):
                density = found[name]["places"][kind][layer]["density"]
                panel.plot(middle, density, color=COLOURS[name], label=name, linewidth=1.4)
            panel.set(
                title=f"{label}, layer {layer + 1}", ylabel="density of u, all families", ylim=(0, None), xlim=(-3, 4)
            )

        panel = axes[layer, 2]
        for name in METHODS:
            nodes = found[name]["places"]["head"][layer]
            panel.plot(nodes["u"], nodes["size"], ".-", color=COLOURS[name], label=name, linewidth=0.8)
        panel.set(title=f"value matrices of one family, layer {layer + 1}", ylabel="length")
        for panel in axes[layer, :3]:
            panel.set(xlabel="u" if layer == layers - 1 else "")
        spectrum(found, axes[layer, 3]) if layer else curves(found, axes[layer, 3])
    axes[0, 0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=120)
    plt.close(figure)


def curves(found: Mapping[str, Any], panel: plt.Axes) -> None:
    """Risks against passes over the images."""
    for name in METHODS:
        rows = found[name]["curves"][1:]
        work = [row["passes"] for row in rows]
        panel.plot(work, [row["risk"] for row in rows], color=COLOURS[name], label=f"{name}, training")
        panel.plot(work, [row["test_risk"] for row in rows], "--", color=COLOURS[name], label=f"{name}, test")
    panel.set(xscale="log", yscale="log", title="cross-entropy", xlabel="passes over the images")
    for scale in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
        scale(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    panel.legend(frameon=False, fontsize=8)


def spectrum(found: Mapping[str, Any], panel: plt.Axes) -> None:
    """Singular values of value matrices, as parts of the largest."""
    styles = ("-", "--", ":", "-.")
    for name in METHODS:
        for layer, values in enumerate(found[name]["spectra"]):
            label = f"{name}, layer {layer + 1}"
            numbers = np.arange(1, len(values) + 1)
            panel.plot(
                numbers, np.array(values) / values[0], styles[layer % 4], color=COLOURS[name], marker=".", label=label
            )
    panel.set(
        yscale="log", ylim=(1e-3, 1.3), title="their singular values", xlabel="number",
        ylabel="part of the largest",
    )  # fmt: skip
    panel.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
