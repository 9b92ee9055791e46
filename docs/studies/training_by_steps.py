"""Training by steps, finite Transformers against their limit: spread, bias, risk at M = ∞, and the best learning rate.

    uv run python docs/studies/training_by_steps.py --part widths   # 40 seeds, M = 16 … 1,024: some minutes on one core
    uv run python docs/studies/training_by_steps.py --part rates    # six learning rates, L = 2, 4, 8: three minutes
    uv run python docs/studies/training_by_steps.py --print         # only the tables of what has been measured

Each seed draws M = 1,024 units a layer. Their four quarters are trained as Transformers of their own, and so are the
quarters of these, down to M = 16: all see the same units, so that in the difference

    R(M units) − mean of the R of their quarters = (b/M)(1 − 4) + O(1/M²) + what chance leaves of second order

chance has cancelled to first order. Risks are over all samples, after all steps. Intervals of R are simultaneous, by
Bonferroni over all models and methods. A midpoint rule of the limit converges slowly where steps depend on the signs of
gradients, as AdamW's first ones do; random nodes do not mind. Both are shown. With --small nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mfpde.parallel import mpi

mpi.start()
mpi.start_petsc()

import jax
import jax.numpy as jnp
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy import stats

from mfpde.comparison.infinite_width import deviations, extrapolate
from mfpde.comparison.slopes import Slope, slope
from mfpde.config.settings import Density, Optimiser, Time, Training
from mfpde.errors import ComputationError
from mfpde.finite.initial_units import sampled_units
from mfpde.finite.jobs import Job, Method
from mfpde.finite.record_files import Record
from mfpde.finite.training import TrainerCache
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.datasets import in_context_regression
from mfpde.problem.descent import Descent
from mfpde.problem.laws import Law, Normal, Zero
from mfpde.problem.mixtures import Mixture
from mfpde.problem.models.low_dimensional import softmax_head
from mfpde.problem.models.value_matrices import value_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer, Units

type Array = NDArray[np.float64]
KEPT = Path(__file__).with_suffix(".json")
DECAY, STEPS, PARTS, LEVEL = 0.05, 40, 4, 0.05
FIRST = [[1.0, 0.0], [0.0, 0.0]]  # compares the x of two tokens
METHODS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"method": "sgd", "learning_rate": 0.3},
    "momentum": {"method": "momentum", "learning_rate": 0.05},
    "adamw": {"method": "adamw", "learning_rate": 0.06},
}
OTHER: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sgd": ("ε + 10 %", {"learning_rate": 0.33}),
    "momentum": ("μ = 0.85", {"momentum": 0.85}),
    "adamw": ("β₂ = 0.9", {"beta2": 0.9}),
}
ORDERS = (1, 2, 3)  # seeds of other batches; all else has 0
RATES: Mapping[str, Sequence[float]] = {
    "momentum": [0.04 * 2.0**k for k in range(6)],
    "adamw": [0.08 * 2.0**k for k in range(6)],
}


def attention(layers: int, split: bool = False) -> Transformer:
    """The heads of runs/in-context.toml."""
    law = halved(Normal([0.5, 0.0], [0.5, 0.5]), split)
    head = softmax_head("head", np.array(FIRST), np.array([[0.0, 0.0], [0.0, 1.0]]), law)
    return Transformer([[head]], layers, lambda tokens: tokens[-1, 1:])


def values(layers: int, split: bool = False) -> Transformer:
    """Heads with one coordinate u and a value matrix, which starts at zero."""
    law = halved(Normal([0.5], [0.5]), split)
    return Transformer([[value_head("head", [FIRST], (law, Zero()))]], layers, lambda tokens: tokens[-1, 1:])


def halved(law: Law, split: bool) -> Law:
    """The law; split, as a mixture of itself and itself, which no midpoint rule is made for: its nodes are random."""
    return Mixture([law, law], [0.5, 0.5]) if split else law


@dataclass(frozen=True)
class Case:
    """A model at any depth, and its task.

    Attributes:
        model: of L layers, with its laws split or not.
        task: the samples.
        batch: samples of a step.
        coordinates: random ones of a unit.
    """

    model: Callable[..., Transformer]
    task: Task
    batch: int
    coordinates: int

    def optimiser(self, method: str, **others: Any) -> Optimiser:
        """Forty steps with the method's settings, but for others."""
        given = {"schedule": "cosine", "warmup": 5, "steps": STEPS, "batch": self.batch, **METHODS[method], **others}
        return Optimiser(**given)


CASES: Mapping[str, Case] = {
    "attention": Case(attention, in_context_regression(samples=64), 16, 2),
    "value matrices": Case(values, in_context_regression(samples=32, context=4), 8, 1),
}


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        seeds: sets of units.
        units: M, each four times the one before.
        orders: of midpoint rules in each coordinate; the last has the value, the distances from the others its error.
        nodes: random ones.
        depths: L of the sweeps.
        swept: seeds of the sweeps.
        rates: of a sweep, at most.
        cases: the last so many.
    """

    seeds: int = 40
    units: tuple[int, ...] = (16, 64, 256, 1024)
    orders: tuple[int, ...] = (64, 96, 128)
    nodes: int = 2**14
    depths: tuple[int, ...] = (2, 4, 8)
    swept: int = 16
    rates: int = 6
    cases: int = 2


SMALL = Size(seeds=8, units=(16, 64), orders=(24, 48), nodes=2**11, depths=(2,), swept=2, rates=3, cases=1)


@dataclass(frozen=True)
class Block(Job):
    """A finite Transformer of some of a seed's units.

    Attributes:
        first: the first of them.
        drawn: how many the seed draws.
    """

    first: int = 0
    drawn: int = 0

    def units(self, model: Transformer) -> Units:
        """See `Job.units`."""
        count, every = self.size[0], sampled_units(model, self.drawn, self.seed)
        weights = jnp.full((model.layers, count), 1.0 / count)
        return tuple((jnp.asarray(np.asarray(t)[:, self.first : self.first + count]), weights) for t, _ in every)


def trained(case: Case, optimiser: Optimiser, layers: int, units: Sequence[int], seeds: int) -> dict[int, list[Record]]:
    """Per M the records of all blocks, those of a seed one after the other."""
    model, drawn = case.model(layers), max(units)
    cache = TrainerCache.of(model, case.task, Training(DECAY, optimiser=optimiser))
    end, how = float(Descent(optimiser, DECAY, case.task.samples).taus[-1]), Method(optimiser=optimiser.method)

    def record(count: int, seed: int, first: int) -> Record:
        return cache.train(Block("sampled", (count,), layers, seed, how, first, drawn), [0.0, end], [end])

    return {m: [record(m, seed, k) for seed in range(seeds) for k in range(0, drawn, m)] for m in units}


def risks_of(records: Mapping[int, Sequence[Record]], seeds: int) -> dict[int, Array]:
    """Per M the last risks (seeds, blocks)."""
    return {m: np.array([r.columns["risk"][-1] for r in found]).reshape(seeds, -1) for m, found in records.items()}


def spread(risks: Mapping[int, Array]) -> tuple[list[float], Slope]:
    """Standard deviations at each M, and their exponent; blocks of one seed are Transformers of different units."""
    squares = [((r - r.mean()) ** 2 * r.size / (r.size - 1)).mean(axis=1) for r in risks.values()]
    return [float(np.sqrt(s.mean())) for s in squares], slope(list(risks), np.sqrt(np.stack(squares, axis=1)))


def bias(risks: Mapping[int, Array], confidence: float) -> dict[str, Any]:
    """Mean differences from quarters, the half-widths of their intervals, and the exponent where two are resolved."""
    sizes = list(risks)[1:]
    apart = np.stack([risks[m].mean(axis=1) - risks[m // PARTS].mean(axis=1) for m in sizes], axis=1)
    count, mean = len(apart), apart.mean(axis=0)
    half = _quantile(confidence, count) * apart.std(axis=0, ddof=1) / np.sqrt(count)

    kept = np.abs(mean) > half
    found = mean_exponent(np.array(sizes)[kept], apart[:, kept]) if kept.sum() > 1 else None
    return {"units": sizes, "difference": mean.tolist(), "half_width": half.tolist(), "exponent": found}


def mean_exponent(sizes: Array, differences: Array) -> dict[str, float]:
    """The exponent a of |mean| ~ M^a, with the interval of the jackknife over seeds: differences (seeds, k)."""
    x, count = np.log(sizes), len(differences)
    others = (differences.sum(axis=0) - differences) / (count - 1)
    best, *left = (np.polyfit(x, np.log(np.abs(row)), 1)[0] for row in (differences.mean(axis=0), *others))
    error = float(np.sqrt((count - 1) / count * np.sum((np.array(left) - np.mean(left)) ** 2)))
    return asdict(Slope(float(best), 0.0, 0.0, error).interval(count, 1.0 - LEVEL))


def limit(case: Case, optimiser: Optimiser, layers: int, nodes: int, split: bool = False) -> tuple[float, float]:
    """R of the limit after all steps, and the standard error of its replicas' mean, 0 for a midpoint rule."""
    model = case.model(layers, split)
    densities = {family.name: Density(nodes=nodes) for family in model.families}
    solver = Solver(MPI.COMM_SELF, Problem(model, case.task, Training(DECAY, optimiser=optimiser), densities, Time()))
    try:
        solver.stepper.advance(solver.stepper.horizon)
        found = solver.flow.potential(solver.stepper.state).outcome.risks
    finally:
        solver.close()
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else 0.0


def gauss(case: Case, optimiser: Optimiser, orders: Sequence[int]) -> dict[str, float]:
    """R of the largest midpoint rule, and how far the others are from it."""
    found = [limit(case, optimiser, 2, order**case.coordinates)[0] for order in orders]
    return {"value": found[-1], "error": float(np.ptp(found))}


def scattered(case: Case, optimiser: Optimiser, nodes: int, confidence: float) -> dict[str, float]:
    """R of random nodes; the error is their interval and the distance from half as many."""
    half, (value, error) = (limit(case, optimiser, 2, n, split=True) for n in (nodes // 2, nodes))
    return {"value": value, "error": _quantile(confidence, 8) * error + abs(value - half[0])}


def widths(size: Size) -> Iterator[dict[str, Any]]:
    """One row for each case and method."""
    confidence = 1.0 - LEVEL / (len(CASES) * len(METHODS))
    for (name, case), method in ((c, m) for c in list(CASES.items())[-size.cases :] for m in METHODS):
        optimiser = case.optimiser(method)
        records = trained(case, optimiser, 2, size.units, size.seeds)
        risks = risks_of(records, size.seeds)
        deviation, exponent = spread(risks)

        def other(**change: Any) -> float:
            return limit(case, case.optimiser(method, **change), 2, size.nodes // 4, split=True)[0]  # noqa: B023

        yield {
            "of": [name, method], "seeds": size.seeds, "units": list(size.units),
            "risk": [float(r.mean()) for r in risks.values()], "deviation": deviation, "exponent": asdict(exponent),
            "bias": bias(risks, confidence), "infinite": infinite(case, records, confidence),
            "gauss": gauss(case, optimiser, size.orders), "random": scattered(case, optimiser, size.nodes, confidence),
            "other batches": [other(seed=seed) for seed in ORDERS], OTHER[method][0]: [other(**OTHER[method][1])],
        }  # fmt: skip


def infinite(case: Case, records: Mapping[int, Sequence[Record]], confidence: float) -> dict[str, float]:
    """The risk extrapolated to M = ∞ and the half-width of its interval; every block is a value."""
    rows = [record for found in records.values() for record in found]
    units, seeds = [r.job.size[0] for r in rows], [r.job.seed for r in rows]
    controls = np.stack([deviations(r, case.model(2)) for r in rows])
    found = extrapolate(units, seeds, np.array([r.columns["risk"][-1] for r in rows]), controls, confidence)
    if found is None:
        raise SystemExit("too few seeds or sizes to extrapolate from")
    return {"value": found.value, "half_width": found.half_width}


def is_inside(found: Mapping[str, float], value: float, error: float = 0.0) -> bool:
    """Is a limit, with its own error, in the interval of the finite Transformers?"""
    return bool(abs(value - found["value"]) <= found["half_width"] + error)


def rates(size: Size, units: int = 64) -> Iterator[dict[str, Any]]:
    """One row for each case, method and depth: risks at all learning rates."""
    for name, case in list(CASES.items())[-size.cases :]:
        for method, layers in ((m, n) for m in RATES for n in size.depths):
            swept = RATES[method][: size.rates]
            each = [case.optimiser(method, learning_rate=rate) for rate in swept]
            finite = np.stack([_swept(case, one, layers, units, size.swept) for one in each], axis=1)
            yield {
                "of": [name, method], "layers": layers, "units": units, "rates": list(swept),
                "limit": [_limit_or_none(case, one, layers, size.nodes // 4) for one in each],
                "finite": [float(v) if np.isfinite(v) else None for v in finite.mean(axis=0)],
                "of seeds": np.where(np.isfinite(finite), finite, None).tolist(),
            }  # fmt: skip


def _swept(case: Case, optimiser: Optimiser, layers: int, units: int, seeds: int) -> Array:
    """R of M units after all steps, of each seed; ∞ where one breaks down."""
    try:
        return risks_of(trained(case, optimiser, layers, [units], seeds), seeds)[units][:, 0]
    except ComputationError:
        return np.full(seeds, np.inf)


def _limit_or_none(case: Case, optimiser: Optimiser, layers: int, nodes: int) -> float | None:
    try:
        return limit(case, optimiser, layers, nodes, split=True)[0]
    except ComputationError:
        return None


def _quantile(confidence: float, count: int) -> float:
    return float(stats.t.ppf(0.5 + 0.5 * confidence, count - 1))


def tables(kept: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Markdown: spreads, biases, risks at M = ∞, learning rates."""
    makers = {"widths": (_spreads, _biases, _limits), "rates": (_rates,)}
    return "\n".join(make(kept[part]) for part, them in makers.items() if kept.get(part) for make in them)


def _spreads(rows: Sequence[Mapping[str, Any]]) -> str:
    sizes = [f"M = {m}" for m in rows[0]["units"]]
    lines = [[*r["of"], r["seeds"], *(f"{d:.2e}" for d in r["deviation"]), *_slope(r["exponent"])] for r in rows]
    return table(["model", "method", "seeds", *sizes, "exponent", "95 % interval"], lines)


def _biases(rows: Sequence[Mapping[str, Any]]) -> str:
    sizes, lines = [f"M = {m}" for m in rows[0]["bias"]["units"]], []
    for r in rows:
        found = r["bias"]
        pairs = zip(found["difference"], found["half_width"], strict=True)
        said = ["not significant", ""] if found["exponent"] is None else _slope(found["exponent"])
        lines.append([*r["of"], *(f"{d:.2e} ± {h:.0e}" for d, h in pairs), *said])
    return table(["model", "method", *sizes, "exponent", "95 % interval"], lines)


def _limits(rows: Sequence[Mapping[str, Any]]) -> str:
    judged, lines = ("outside", "inside"), []
    for r in rows:
        found = r["infinite"]
        value, half = found["value"], found["half_width"]
        mine = [r["gauss"], r["random"]]
        own = [f"{v['value']:.5f} ± {v['error']:.0e}, {judged[is_inside(found, **v)]}" for v in mine]
        names = ("other batches", OTHER[r["of"][1]][0])
        said = [f"{n}: {', '.join(f'{v:.5f} {judged[is_inside(found, v)]}' for v in r[n])}" for n in names]
        lines.append([*r["of"], f"{value:.5f} ± {half:.5f}", f"{100.0 * half / value:.2f} %", *own, *said])
    head = [
        "model",
        "method",
        "finite Transformers, M = ∞",
        "of the risk",
        "limit, midpoint rule",
        "limit, random nodes",
    ]
    return table([*head, "limits with other batches", "with another setting"], lines)


def _rates(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for r in rows:
        of = [r["of"][0], f"{r['of'][1]}, ε = {r['rates'][0]:g}"]
        for kind, who in (("limit", "limit"), ("finite", f"M = {r['units']}")):
            found = np.array(_numbers(r[kind]))
            best, second = np.argsort(found)[:2]
            risks = [f"{v:.4f}" if np.isfinite(v) else "—" for v in found]
            risks[best] = f"**{risks[best]}**"
            seeds = [_numbers(row) for row in r["of seeds"]]
            apart = np.array([row[second] - row[best] for row in seeds])
            error = f" ± {apart.std(ddof=1) / np.sqrt(len(apart)):.4f}" if kind == "finite" else ""
            lines.append([*of, r["layers"], who, *risks, f"{found[second] - found[best]:.4f}{error}"])
    factors = [f"{2**k} ε" for k in range(len(rows[0]["rates"]))]
    return table(["model", "method", "L", "", *factors, "second best, more by"], lines)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [np.inf if value is None else value for value in values]


def _slope(found: Mapping[str, float]) -> list[str]:
    return [f"{found['value']:.3f}", f"{found['low']:.3f} … {found['high']:.3f}"]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """One table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["widths", "rates"], help="one of the two instead of both")
    parser.add_argument("--small", action="store_true", help="of some seconds, to see that it works; not kept")
    parser.add_argument("--print", action="store_true", help="only the tables of what has been measured")
    given = parser.parse_args(words)
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() and not given.small else {}
    parts = {"widths": widths, "rates": rates}
    for part in () if given.print else [given.part] if given.part else parts:
        kept[part] = []
        for row in parts[part](SMALL if given.small else Size()):
            kept[part].append(row)
            sys.stderr.write(f"{part}: {', '.join(row['of'])}\n")
            jax.clear_caches()  # or hundreds of compiled programs use up the memory maps that a process may have
            if not given.small:
                KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(tables(kept))


if __name__ == "__main__":
    main()
