"""Time to a risk error, against particles: `uv run python tests/benchmarks/bench_error.py --json FILE`.

`runs/in-context.toml`, one core: as it is to τ = 5, with weight decay 0.02 to τ = 20, and with temperature 0.01 to τ =
5. Seconds of the processor from the initial law to the last τ, with everything compiled, and the largest relative error
of the risk at the times in PROBLEMS. Ways to the same numbers, all with the same functions of the units:

- the limit: meshes and tolerances, co-moving;
- weighted particles whose potential is interpolated: the nodes of `frame = "lagrangian"`, which the flow carries;
- weighted particles: grids (uniform, Gauss points), their flow by an adaptive Runge–Kutta method, nothing drawn;
- drawn particles, and noisy ones where there is a temperature: the root mean square error over seeds, with the 95 %
  range that so few seeds leave it, and the seconds. Steps of Euler and Maruyama's method are as long as they are: their
  own error, of first order, is in the row.

Truth is tests/exact/references.json at λ = 0.05 (weighted particles, a quarter of an hour), and a finer limit
elsewhere: the settings of the limits in CASES were chosen with it known, as were the sizes of the grids. `--part` runs
one part, of a few minutes; rows of other parts that FILE has stay. At the end the cheapest rows are named, and for
drawn particles of at least LARGE units what their error, falling like M^(−½), would cost at WANTED.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

from mpi4py import MPI  # noqa: E402

from mfpde.config import run_file  # noqa: E402
from mfpde.finite.flow import make_flow  # noqa: E402
from mfpde.finite.initial_units import sampled_units, tensor_units  # noqa: E402
from mfpde.finite.methods import Trainer, gradient_descent, runge_kutta  # noqa: E402
from mfpde.limit.solver import Solver  # noqa: E402
from mfpde.problem.transformer import Units  # noqa: E402
from mfpde.runs.problem_setup import problem_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "runs" / "in-context.toml"
WANTED = (1e-4, 1e-6)
LARGE = 1600  # units from which drawn particles are extrapolated at all
WIDTH = 5.5  # of grids of particles, in standard deviations

type Run = Callable[[Sequence[float]], list[float]]
"""From times to the risks there."""


@dataclass(frozen=True)
class Case:
    """A problem, and the sizes at which each way is tried.

    Attributes:
        settings: of the run file.
        times: at which risks are compared.
        truth: degree, potential degree, cells and tolerance of the limit that is taken for true; None: the stored one.
        limits: the same of those that are measured.
        carried: cells and tolerance of carried nodes.
        grids: points in q and in v of weighted particles on uniform grids.
        gauss: the same at Gauss points.
        drawn: M of drawn particles → seeds.
        step: of noisy ones.
    """

    settings: tuple[str, ...]
    times: tuple[float, ...]
    truth: tuple[int, int, int, float] | None
    limits: tuple[tuple[int, int, int, float], ...]
    carried: tuple[tuple[int, float], ...] = ()
    grids: tuple[tuple[int, int], ...] = ()
    gauss: tuple[tuple[int, int], ...] = ()
    drawn: Mapping[int, int] = field(default_factory=dict)
    step: float = 0.0


CASES = {
    "as it is": Case(
        (), (1.0, 2.0, 3.0, 4.0, 5.0), None,
        ((2, 3, 20, 3e-5), (3, 4, 14, 2e-5), (3, 4, 16, 1e-5), (3, 4, 24, 1e-6)),
        ((32, 1e-5),), ((24, 12), (48, 24), (96, 48), (128, 68)), ((24, 12), (48, 24)), {25: 8, 1600: 12},
    ),
    "decay 0.02, to 20": Case(
        ("training.weight_decay=0.02",), (5.0, 10.0, 20.0), (3, 4, 36, 1e-6),
        ((3, 4, 20, 1e-5), (3, 4, 24, 1e-5), (3, 4, 28, 1e-5)),
        ((24, 1e-4),), ((24, 12), (48, 24)), ((24, 12),),
    ),
    "temperature 0.01": Case(
        ("training.temperature=0.01",), (1.0, 2.0, 3.0, 4.0, 5.0), (3, 4, 20, 1e-6),
        ((2, 3, 16, 3e-5), (3, 4, 14, 3e-5)),
        drawn={25: 8}, step=0.01,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One way to the risks: problem, kind, name, seconds, and largest relative error.

    Attributes:
        units: M of drawn particles; 0 for all that is not drawn.
        low, high: of drawn particles, the 95 % range of the error.
    """

    case: str
    kind: str
    name: str
    seconds: float
    error: float
    units: int = 0
    low: float = 0.0
    high: float = 0.0


def limit(settings: Sequence[str]) -> Run:
    """The risks of the PDE."""
    problem = problem_of(run_file.load(RUN, settings))

    def run(times: Sequence[float]) -> list[float]:
        solver = Solver(MPI.COMM_SELF, problem)
        risks = [solver.risk_at(tau) for tau in times]
        solver.close()
        return risks

    return run


def mesh(degree: int, k: int, cells: int, tolerance: float) -> tuple[str, list[str]]:
    """Name and settings of a limit."""
    settings = [f"density.degree={degree}", f"density.potential_degree={k}", f"density.cells={cells}",
                f"time.tolerance={tolerance}"]  # fmt: skip
    return f"p = {degree}, k = {k}, {cells} cells, tolerance {tolerance:.0e}", settings


def particles(units: Units, settings: Sequence[str], method: Callable[..., Trainer], seed: int = 0) -> Run:
    """The risks of units under their flow."""
    run = run_file.load(RUN, settings)
    model, task = run.build()
    trainer = method(make_flow(model, task, run.training.weight_decay, units))
    return lambda times: [snapshot.risk for snapshot in trainer.snapshots(units, times, seed)]


def timed(run: Run, times: Sequence[float]) -> tuple[float, np.ndarray]:
    """Seconds of the processor, and the risks, after a short run that compiles."""
    run([1e-3 * times[0]])
    start = time.process_time()
    risks = run(times)
    return time.process_time() - start, np.asarray(risks)


class Bench:
    """Runs the ways through one problem, and shows each row as it comes."""

    def __init__(self, name: str, show: Callable[[Row], None]) -> None:
        self.name, self.case, self.show = name, CASES[name], show
        if self.case.truth is None:
            stored = json.loads((ROOT / "tests" / "exact" / "references.json").read_text())["runs/in-context.toml"]
            self.truth = np.asarray(stored["risk"])
        else:
            self.truth = np.asarray(limit([*self.case.settings, *mesh(*self.case.truth)[1]])(self.case.times))

    def tell(self, kind: str, name: str, run: Run) -> None:
        """Measure and show."""
        seconds, risks = timed(run, self.case.times)
        self.show(Row(self.name, kind, name, seconds, float(np.abs(risks / self.truth - 1.0).max())))

    def limits(self) -> None:
        """The PDE, on meshes and carried by its nodes."""
        for sizes in self.case.limits:
            name, settings = mesh(*sizes)
            self.tell("limit", name, limit([*self.case.settings, *settings]))
        for cells, tolerance in self.case.carried:
            settings = ['density.frame="lagrangian"', "density.potential_degree=4", f"density.cells={cells}",
                        f"time.tolerance={tolerance}"]  # fmt: skip
            name = f"{cells} cells, tolerance {tolerance:.0e}"
            self.tell("particles, interpolated potential", name, limit([*self.case.settings, *settings]))

    def grids(self) -> None:
        """Weighted particles."""
        model, _ = run_file.load(RUN, self.case.settings).build()
        kinds = (("uniform grid", "grid", self.case.grids), ("Gauss points", "gauss", self.case.gauss))
        for kind, rule, sizes in kinds:
            for points in sizes:
                units = tensor_units(rule, model, {family.name: points for family in model.families}, WIDTH)
                name = f"{points[0]} × {points[1]}"
                self.tell(kind, name, particles(units, self.case.settings, lambda flow: runge_kutta(flow, 1e-4)))

    def drawn(self) -> None:
        """Drawn particles: the root mean square over seeds, and the range in which so few seeds leave it."""
        model, _ = run_file.load(RUN, self.case.settings).build()
        heat = run_file.load(RUN, self.case.settings).training.temperature

        def method(flow):
            return gradient_descent(flow, self.case.step, heat) if self.case.step else runge_kutta(flow, 1e-3)

        kind = "noisy particles" if self.case.step else "drawn particles"
        for count, seeds in self.case.drawn.items():
            found, times = [], []
            for seed in range(seeds):
                run = particles(sampled_units(model, count, seed), self.case.settings, method, seed)
                seconds, risks = timed(run, self.case.times)
                found.append(risks / self.truth - 1.0)
                times.append(seconds)
            error = float(np.sqrt(np.mean(np.square(found), axis=0)).max())
            low, high = (error * float(np.sqrt(seeds / stats.chi2.ppf(q, seeds))) for q in (0.975, 0.025))
            name = f"M = {count}, {seeds} seeds"
            self.show(Row(self.name, kind, name, float(np.median(times)), error, count, low, high))


def best(rows: Sequence[Row]) -> str:
    """Of every problem and kind the cheapest row that reaches what is wanted, against the limit's."""
    lines = []
    for case in CASES:
        for wanted in WANTED:
            reached: dict[str, Row] = {}
            for row in sorted(rows, key=lambda row: row.seconds):
                if row.case == case and row.error <= 1.0001 * wanted:
                    reached.setdefault(row.kind, row)
            for kind, row in reached.items():
                ratio = f", {row.seconds / reached['limit'].seconds:.3g} × the limit" if "limit" in reached else ""
                lines.append(f"{case}, {wanted:.0e}: {kind}, {row.name}: {row.seconds:.3g} s{ratio}")
            if "limit" in reached:
                lines += [drawn_for(row, wanted, reached["limit"]) for row in rows if row.case == case and row.units]
    return "\n".join(lines)


def drawn_for(row: Row, wanted: float, limit: Row) -> str:
    """What drawn particles would take for an error: M ~ error^(−2), and seconds in proportion to M."""
    said = f"{row.case}, {wanted:.0e}: {row.kind}, {row.name}: {row.error:.2g} ({row.low:.2g} … {row.high:.2g})"
    if row.units < LARGE:
        return f"{said} in {row.seconds:.3g} s; too few units to say what {wanted:.0e} would take"
    units, least, most = (row.units * (error / wanted) ** 2 for error in (row.error, row.low, row.high))
    each = row.seconds / row.units / limit.seconds
    factor = f"{units * each:.2g} ({least * each:.2g} … {most * each:.2g}) × the limit"
    return f"{said} in {row.seconds:.3g} s; by M^(−½) M = {units:.1e}, {factor}"


def main() -> None:
    """Measure and print, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--case", choices=list(CASES), help="one of them only")
    parser.add_argument("--part", choices=["limits", "grids", "drawn"], help="one of them only")
    given = parser.parse_args()
    rows: list[Row] = []
    if given.json is not None and given.json.exists():
        rows = [Row(**row) for row in json.loads(given.json.read_text())]

    def show(row: Row) -> None:
        rows[:] = [old for old in rows if (old.case, old.kind, old.name) != (row.case, row.kind, row.name)] + [row]
        sys.stdout.write(f"| {row.case} | {row.kind} | {row.name} | {row.seconds:.3g} | {row.error:.1e} |\n")
        sys.stdout.flush()
        if given.json is not None:
            given.json.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")

    sys.stdout.write("| problem | way | size | seconds | error |\n|---|---|---|---|---|\n")
    for case in [given.case] if given.case else CASES:
        bench = Bench(case, show)
        for part in [given.part] if given.part else ("limits", "grids", "drawn"):
            getattr(bench, part)()
    sys.stdout.write(f"\n{best(rows)}\n")


if __name__ == "__main__":
    main()
