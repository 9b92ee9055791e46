"""The comparison finds a right PDE right and wrong ones wrong; slopes, extrapolation and distances as they must be."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from mfpde.compare import main as compare
from mfpde.comparison.checks import Check
from mfpde.comparison.depth_error import depth_rows
from mfpde.comparison.effects import CHANGE, Effect, effects, witness
from mfpde.comparison.evidence import Evidence
from mfpde.comparison.exponents import risk_slopes, slope_checks
from mfpde.comparison.grids import grid_checks
from mfpde.comparison.infinite_width import extrapolate
from mfpde.comparison.slopes import Slope, floor, governed, slope
from mfpde.comparison.verdict import decide, mean_checks, refinement_checks
from mfpde.comparison.wasserstein import draws, exact, nodes, sliced
from mfpde.config.settings import Density, Time, Training
from mfpde.finite.jobs import Method, plan
from mfpde.finite.record_files import Record
from mfpde.finite.training import School
from mfpde.limit.backprop import Sweep
from mfpde.limit.fem.moments import Units
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem, refined
from mfpde.output.fields.snapshot import Snapshot
from mfpde.particles import main as particles
from mfpde.problem import models
from mfpde.problem.datasets import scalars
from mfpde.problem.laws import Normal
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.solve import main as solve

TAUS, DECAY = [0.25, 0.5], 0.3
RNG = np.random.default_rng(3)
TASK = Task(RNG.normal(size=(6, 3, 3)), 1.5 * RNG.normal(size=(6, 2)))
LAWS = {"attention": Normal([0.5, 0.6], [0.4, 0.4]), "mlp": Normal([0.8, 0.7], [0.4, 0.4])}


def coupled() -> Transformer:
    """Two stages that both do something from the start, so that it matters which of them a co-state has passed."""
    model = models.attention_mlp(channels=3, layers=2)
    stages = [[dataclasses.replace(f, initial=LAWS[f.name]) for f in stage] for stage in model.stages]
    return dataclasses.replace(model, stages=stages, step=1.5)


MODEL = coupled()


def limit(problem: Problem, finer: bool = False, taus: Sequence[float] = TAUS) -> dict[str, np.ndarray]:
    """τ and risk of the PDE."""
    solver = Solver(MPI.COMM_SELF, refined(problem) if finer else problem)
    try:
        risks = [solver.flow.potential(solver.stepper.state).outcome.risk]
        for tau in taus:
            assert solver.stepper.advance(tau)
            risks.append(solver.flow.potential(solver.stepper.state).outcome.risk)
    finally:
        solver.close()
    return {"tau": np.array([0.0, *taus]), "risk": np.array(risks)}


def problem(model=MODEL, decay: float = DECAY) -> Problem:
    densities = {family.name: Density(cells=8) for family in model.families}
    return Problem(model, TASK, Training(decay, TAUS[-1]), densities, Time(tolerance=1e-5))


@pytest.fixture(scope="module")
def records():
    """Two grids, and drawn units of two sizes."""
    school = School(MODEL, TASK, DECAY)
    jobs = plan("grid", [(14,), (20,)], [2], 1, Method(None, 1e-6))
    jobs += plan("sampled", [(10,), (40,)], [2], 6, Method(0.125))
    return [school.train(job, [0.0, *TAUS], TAUS) for job in jobs]


@pytest.fixture(scope="module")
def right() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return limit(problem()), limit(problem(), finer=True)


@pytest.fixture(scope="module")
def moved(records) -> dict[str, Effect]:
    """What 5 % more λ, and 5 % more η, do to finite Transformers."""
    return effects(witness(records, MODEL), MODEL, TASK, Training(DECAY, TAUS[-1]), CHANGE)


def said(records, moved, coarse, fine) -> tuple[str, list[Check]]:
    grids = [r for r in records if r.job.initial == "grid"]
    evidence = Evidence(grids, {2: coarse}, {2: fine}, {2: MODEL}, effects={2: moved})
    checks = [*grid_checks(evidence), *refinement_checks(evidence)]
    return decide(checks, CHANGE).word, checks


def test_the_right_pde_matches(records, moved, right):
    verdict, checks = said(records, moved, *right)
    assert len(checks) == 2 * len(TAUS)
    assert verdict == "matches", checks
    for check in checks[: len(TAUS)]:
        assert check.seen == 2.0 * check.allowed
        assert check.seen_in["weight_decay"] < CHANGE, check
        assert check.seen_in["step"] < CHANGE, check


def moments_of(record, order: slice) -> dict[str, np.ndarray]:
    """A moments.csv with the means of a record, its layers in that order."""
    rows = [
        (tau, name, layer, *mean)
        for t, tau in enumerate(record.tau)
        for name, means in record.means.items()
        for layer, mean in enumerate(means[t][order])
    ]
    columns = zip(*rows, strict=True)
    return {n: np.array(c) for n, c in zip(("tau", "family", "layer", "mean_0", "mean_1"), columns, strict=True)}


@pytest.mark.parametrize(("order", "word"), [(slice(None), "matches"), (slice(None, None, -1), "differs")])
def test_layers_that_change_places_are_seen_in_their_means(order, word, records, moved, right):
    """The risk may hardly depend on which layer is which."""
    grids = [r for r in records if r.job.initial == "grid"]
    table = moments_of(grids[-1], order)
    limits = {"limits": {2: right[0]}, "finer": {2: right[1]}, "moments": {2: (table, table)}}
    checks = grid_checks(Evidence(grids, models={2: MODEL}, effects={2: moved}, **limits))
    assert decide(checks, CHANGE).word == word
    assert {c.name for c in checks} == {"grid", "grid, means of attention", "grid, means of mlp"}
    assert {c.name for c in checks if c.passed is False} <= {"grid, means of attention", "grid, means of mlp"}


@pytest.mark.parametrize(
    ("name", "changed"), [("weight_decay", {"decay": 1.05 * DECAY}), ("step", {"step": 1.05 * MODEL.step})]
)
def test_effects_on_finite_transformers_are_those_on_the_pde(name, changed, records, moved, right):
    """They are found without the PDE, and are what the PDE changes by."""
    assert witness(records, MODEL).job.size == (20,)  # the smallest with 400 units in its two layers
    model = dataclasses.replace(MODEL, step=changed.get("step", MODEL.step))
    there = limit(problem(model, changed.get("decay", DECAY)))["risk"] - right[0]["risk"]
    np.testing.assert_allclose(moved[name].risk[1:], there[1:], rtol=0.02)


def negative(monkeypatch) -> Problem:
    """The density is carried up the potential: a flux of the wrong sign."""
    true = Units.potential

    def wrong(self, gradient, space, frame, weight_decay, out):
        true(self, -gradient, space, frame, -weight_decay, out)

    monkeypatch.setattr(Units, "potential", wrong)
    return problem()


def scaled(factor: float, monkeypatch) -> Problem:
    true = Sweep.__call__

    def wrong(self, *given):
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=tuple(factor * g for g in outcome.gradient))

    monkeypatch.setattr(Sweep, "__call__", wrong)
    return problem()


def late(monkeypatch) -> Problem:
    """Heads are given the co-state at the end of their layer, after the neurons; the risk is the right one."""
    true, merged = Sweep.__call__, dataclasses.replace(MODEL, stages=[MODEL.families])

    def wrong(self, *given):
        other = copy.copy(self)
        other.model = merged
        heads = true(other, *given).gradient[0]
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=(heads, outcome.gradient[1]))

    monkeypatch.setattr(Sweep, "__call__", wrong)
    return problem()


def permuted(monkeypatch) -> Problem:
    """Layers are given each other's potentials, in reverse order; the risk is the right one."""
    true = Sweep.__call__

    def wrong(self, *given):
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=tuple(g[::-1] for g in outcome.gradient))

    monkeypatch.setattr(Sweep, "__call__", wrong)
    return problem()


FAULTS = {
    "flux of the wrong sign": negative,
    "1/L lost": lambda m: scaled(1.0 / MODEL.layers, m),
    "mean over samples lost": lambda m: scaled(float(TASK.samples), m),
    "η wrong": lambda _: problem(dataclasses.replace(MODEL, step=1.1 * MODEL.step)),
    "co-state at the wrong stage": late,
    "stages swapped": lambda _: problem(dataclasses.replace(MODEL, stages=MODEL.stages[::-1])),
    "layers permuted": permuted,
    "λ off by 5 %": lambda _: problem(decay=1.05 * DECAY),
    "λ off by 10 %": lambda _: problem(decay=1.1 * DECAY),
    "λ twice": lambda _: problem(decay=2.0 * DECAY),
    "η off by 5 %": lambda _: problem(dataclasses.replace(MODEL, step=1.05 * MODEL.step)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_pde_differs(fault, records, moved, right, monkeypatch):
    """The same wrong PDE is taken for its own refinement, moved by as much as the right one: nothing gives it away.

    And drawn units alone, which are too few to see every fault, never say that it matches.
    """
    wrong = limit(FAULTS[fault](monkeypatch))
    finer = {"tau": wrong["tau"], "risk": wrong["risk"] + right[1]["risk"] - right[0]["risk"]}
    verdict, checks = said(records, moved, wrong, finer)
    assert verdict == "differs", checks
    assert checks[len(TAUS) - 1].passed is False
    assert by_drawn_units(records, moved, wrong).word != "matches"


def by_drawn_units(records, moved, history):
    drawn = [r for r in records if r.job.initial == "sampled"]
    checks = mean_checks(Evidence(drawn, {2: history}, {}, {2: MODEL}, effects={2: moved}))
    assert len(checks) == len(TAUS)
    return decide(checks, CHANGE)


def test_a_run_that_its_own_refinement_does_not_bear_out(records, moved, right):
    """Only the run is wrong, not the refinement: what they differ by must not excuse the run."""
    for factor, verdicts in ((1.05, {"undecided", "differs"}), (2.0, {"differs"})):
        wrong = limit(problem(decay=factor * DECAY))
        assert said(records, moved, wrong, right[1])[0] in verdicts


def test_drawn_units_extrapolated_to_infinity(records, moved, right):
    """Gradient descent has an error of its own, of first order in the step: grids of the same steps take it away.

    Six seeds of 10 and 40 units see a risk that is off by a fifth; that of 5 % of λ they do not see, and say so.
    """
    grid = School(MODEL, TASK, DECAY).train(plan("grid", [(14,)], [2], 1, Method(0.125))[0], [0.0, *TAUS], TAUS)
    shift = grid.columns["risk"] - records[1].columns["risk"]
    history = {"tau": right[1]["tau"], "risk": right[1]["risk"] + shift}
    found = by_drawn_units(records, moved, history)
    assert found.word == "undecided", found
    assert found.seen["weight_decay"] > CHANGE
    assert re.search(r"only a change of λ by [\d.e+]+ % .* seeds instead of 6, or [\d.e+]+ times the units", found.why)
    assert by_drawn_units(records, moved, {**history, "risk": history["risk"] * 1.2}).word == "differs"
    named = int(re.search(r"about (\d+) seeds", found.why)[1])
    drawn = [r for r in records if r.job.initial == "sampled"]
    assert enough_seeds(drawn, moved, history, named).seen["weight_decay"] <= CHANGE, found


def enough_seeds(drawn, moved, history, count):
    """As many seeds as were said to be enough, as far as their spread goes: the ones there are, again and again."""
    more = [
        dataclasses.replace(r, job=dataclasses.replace(r.job, seed=r.job.seed + 6 * k))
        for k in range(-(-count // 6))
        for r in drawn
    ]
    return by_drawn_units(more, moved, history)


HEAT, NOISY = 0.2, [0.75, 1.5]
BILINEAR, SCALARS = models.bilinear(layers=1), scalars(samples=4, mean=1.0, std=0.5, target_mean=2.0)


@pytest.fixture(scope="module")
def noisy() -> list[Record]:
    """Euler–Maruyama at two steps, drawn units of two sizes."""
    school = School(BILINEAR, SCALARS, 1.0, HEAT)
    jobs = [j for h in (0.05, 0.025) for j in plan("sampled", [(1000,), (10000,)], [1], 12, Method(h))]
    return [school.train(job, [0.0, *NOISY], [NOISY[-1]]) for job in jobs]


def hot_limit(temperature: float) -> dict[str, np.ndarray]:
    """τ and risk of the PDE with temperature."""
    training = Training(1.0, NOISY[-1], temperature)
    hot = Problem(BILINEAR, SCALARS, training, {"bilinear": Density(cells=12, radius=7.0)}, Time(tolerance=1e-4))
    return limit(hot, taus=NOISY)


@pytest.fixture(scope="module")
def warmed(noisy) -> dict[str, Effect]:
    """What 5 % more λ and η do, with the same noise."""
    small = [r for r in noisy if r.job.method.learning_rate == 0.05]
    return effects(witness(small, BILINEAR), BILINEAR, SCALARS, Training(1.0, NOISY[-1], HEAT), CHANGE)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "matches"), (1.1, "differs"), (0.5, "differs")])
def test_noisy_units_against_the_hot_pde(noisy, warmed, factor: float, verdict: str):
    """The right temperature is inside the joint region; 10 % more, or the 2 of √(2h/β) lost, is outside."""
    fine = [r for r in noisy if r.job.method.learning_rate == 0.025]
    coarse = [r for r in noisy if r.job.method.learning_rate == 0.05]
    history = hot_limit(factor * HEAT)
    checks = mean_checks(Evidence(fine, {1: history}, {}, {1: BILINEAR}, coarse, {1: warmed}))
    assert len(checks) == len(NOISY)
    assert decide(checks, CHANGE).word == verdict, checks


def test_the_interval_of_the_extrapolation_covers_as_often_as_it_says():
    """R = 2 + 3/M + g·c + noise: 95 % of intervals hold 2, and control variates make them much narrower."""
    rng = np.random.default_rng(0)
    sizes, count, hits, widths = [20, 80, 320], 12, 0, []
    for _ in range(300):
        draws_ = rng.normal(size=(count, max(sizes)))
        units, seeds, values, controls = [], [], [], []
        for s in range(count):
            for m in sizes:
                mean = draws_[s, :m].mean()
                units.append(m)
                seeds.append(s)
                controls.append([mean])
                values.append(2.0 + 3.0 / m + 1.5 * mean + 0.2 * rng.normal() / np.sqrt(m))
        found = extrapolate(units, seeds, np.array(values), np.array(controls))
        plain = extrapolate(units, seeds, np.array(values), np.zeros((len(values), 0)))
        hits += abs(found.value - 2.0) <= found.half_width
        widths.append(found.half_width / plain.half_width)
    assert 0.91 <= hits / 300 <= 0.99
    assert np.mean(widths) < 0.4


def test_the_length_of_steps_is_carried_on_to_zero():
    """R = 2 + 3/M + 0.7 h without noise: two sizes and two learning rates give 2, one learning rate 2 + 0.7 h."""
    places = [(m, s, h) for m in (20, 80) for s in range(3) for h in (0.1, 0.05)]
    units, seeds, steps = (list(column) for column in zip(*places, strict=True))
    values = np.array([2.0 + 3.0 / m + 0.7 * h for m, _, h in places])
    none = np.zeros((len(places), 0))
    assert extrapolate(units, seeds, values, none, steps=steps).value == pytest.approx(2.0, abs=1e-12)
    one = [k for k, h in enumerate(steps) if h == 0.1]
    alone = extrapolate([units[k] for k in one], [seeds[k] for k in one], values[one], none[one], steps=[0.1] * 6)
    assert alone.value == pytest.approx(2.07, abs=1e-12)


def test_exponents_and_their_intervals():
    rng = np.random.default_rng(1)
    sizes = [10, 40, 160, 640]
    errors = rng.normal(size=(200, 4)) / np.sqrt(sizes)
    found = slope(sizes, errors)
    assert abs(found.value + 0.5) < 0.06
    assert found.low < -0.5 < found.high
    assert found.within(-0.5, 0.1)
    assert slope(sizes, errors + 0.5).within(-0.5, 0.1) is False  # an error that does not fall
    assert slope(sizes, errors[:4]).within(-0.5, 0.1) is None  # four seeds
    both = {(m, n): rng.normal(size=100) / np.sqrt(m * n) for m in (10, 100) for n in (2, 16)}
    width = {(m, n): rng.normal(size=100) / np.sqrt(m) for m in (10, 100) for n in (2, 16)}
    assert governed(both).by == "L·M"
    assert governed(width).by == "M"


def test_slopes_name_the_parameters_that_they_would_have_seen(records, moved, right):
    """A change c whose effect is Δ leaves an error Δ that does not fall: it is seen from b/Δ times c on."""
    drawn = [r for r in records if r.job.initial == "sampled"]
    more = [dataclasses.replace(r, job=dataclasses.replace(r.job, size=(4 * r.job.size[0],))) for r in drawn]
    evidence = Evidence([*drawn, *more], {2: right[0]}, {}, {2: MODEL}, effects={2: moved})
    row = risk_slopes(evidence)[-1]
    assert row.effects == {name: abs(effect.risk[-1]) for name, effect in moved.items()}
    row = dataclasses.replace(row, slope=Slope(-0.5, -0.55, -0.45, 0.02), seeds=8)
    check = slope_checks([row], CHANGE)[0]
    left = floor(row.sizes, row.errors, check.seen)
    assert check.seen_in == {name: pytest.approx(CHANGE * left / moved[name].of_risk(TAUS[-1])) for name in moved}


def test_without_weight_decay_only_the_step_is_changed(records):
    found = effects(witness(records, MODEL), MODEL, TASK, Training(0.0, TAUS[-1]), CHANGE)
    assert list(found) == ["step"]


def test_depth_is_a_table_with_its_slope():
    def table(risk):
        return {"tau": np.array([1.0]), "risk": np.array([risk])}

    continuum = {n: table(0.3 + 0.02 / n**2) for n in (16, 32)}
    first = depth_rows({n: table(0.3 + 0.1 / n) for n in (4, 8, 16)}, continuum, [1.0])
    assert first[0].limit == pytest.approx(0.3, abs=1e-12)
    assert first[0].slope == pytest.approx(-1.0, abs=1e-9)
    assert first[0].of_order
    second = depth_rows({n: table(0.3 + 0.1 / n**2) for n in (4, 8, 16)}, continuum, [1.0])
    assert not second[0].of_order


def uniform(cell: str) -> Snapshot:
    """ρ = 4ab on the unit square, stretched to [0, 2] × [1, 2]: as one cell, or as two triangles."""
    halves = [[[0, 0], [1, 0], [0, 1]], [[1, 1], [1, 0], [0, 1]]]
    corners = {"quadrilateral": [[[0, 0], [1, 0], [0, 1], [1, 1]]], "triangle": halves}
    place = np.array(corners[cell], dtype=float)
    if cell == "triangle":  # degree 2, so that 4ab is in the space: corners, then middles of the edges
        a, b, c = place[:, 0], place[:, 1], place[:, 2]
        place = np.stack([a, b, c, (b + c) / 2, (a + c) / 2, (a + b) / 2], axis=1)
    density = 4.0 * place[..., 0] * place[..., 1] / 2.0
    points = place * [2.0, 1.0] + [0.0, 1.0]
    degree = 1 if cell == "quadrilateral" else 2
    return Snapshot("f", ("a", "b"), cell, degree, points[None], density[None], density[None], points[None])


@pytest.mark.parametrize("cell", ["quadrilateral", "triangle"])
def test_nodes_and_draws_have_the_moments_of_the_density(cell):
    snapshot = uniform(cell)
    theta, weights = nodes(snapshot, 0)
    assert weights.sum() == pytest.approx(1.0)
    expected, square = np.array([4.0 / 3.0, 5.0 / 3.0]), np.array([2.0, 17.0 / 6.0])
    np.testing.assert_allclose(weights @ theta, expected, rtol=1e-5)
    np.testing.assert_allclose(weights @ theta**2, square, rtol=1e-5)
    drawn = draws(snapshot, 0, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=5 * 0.47 / np.sqrt(20_000))
    np.testing.assert_allclose((drawn**2).mean(axis=0), square, atol=5 * 1.1 / np.sqrt(20_000))


def test_distances_of_a_shift():
    """Carrying a measure by s costs |s|; its shadows on directions move by the mean of |cos|, 2|s|/π in the plane."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(60, 2))
    moved = points + np.array([0.6, 0.8])
    even = np.full(60, 1.0 / 60)
    assert exact(points, moved) == pytest.approx(1.0, rel=1e-9)
    assert exact(points[:, :1], points[:, :1] + 0.3) == pytest.approx(0.3, rel=1e-9)
    assert sliced(points[:, :1], even, points[:, :1] + 0.3, even) == pytest.approx(0.3, rel=1e-9)
    found = np.mean([sliced(points, even, moved, even, seed=k) for k in range(20)])
    assert found == pytest.approx(2.0 / np.pi, rel=0.03)


TEXT = """
name = "case"
[task]
name = "scalars"
samples = 4
[model]
name = "linear"
layers = 2
[training]
weight_decay = 0.3
horizon = 1.0
[density]
cells = 8
[output]
every = 0.5
"""


@pytest.mark.slow
def test_the_command_from_run_file_to_report(tmp_path: Path, capsys):
    """Linear heads: solve, train, compare; then what may not be compared."""
    case = tmp_path / "case.toml"
    case.write_text(TEXT)
    directory = tmp_path / "case"

    def refused(why: str) -> None:
        """One line, exit code 2, nothing written."""
        there = sorted(directory.rglob("*"))
        assert compare([str(directory)]) == 2
        line = capsys.readouterr().err
        assert why in line
        assert line.count("\n") == 1
        assert sorted(directory.rglob("*")) == there

    refused("does not exist")
    assert particles([str(case), "--units", "4,8,16", "--seeds", "8", "--layers", "2,3"]) == 0
    refused("holds no run of mfpde")
    assert solve([str(case)]) == 0
    assert particles([str(case), "--units", "12,16", "--initial", "grid"]) == 0
    assert compare([str(directory)]) == 0
    assert "undecided whether the PDE matches" in capsys.readouterr().out
    assert "at L = 3" in json.loads((directory / "compare" / "summary.json").read_text())["why"]
    assert particles([str(case), "--units", "12,16", "--initial", "grid", "--layers", "3"]) == 0
    assert compare([str(directory)]) == 0
    assert "\nthe PDE matches" in capsys.readouterr().out
    summary = json.loads((directory / "compare" / "summary.json").read_text())
    assert summary["verdict"] == "matches"
    names = [(c["name"], c["layers"]) for c in summary["checks"]]
    assert {("mean", 2), ("mean", 3), ("grid", 2), ("slope of risk", 2)} <= set(names)
    assert summary["width_or_depth"]
    assert {d["family"] for d in summary["distances"]} == {"linear"}
    assert (directory / "compare" / "layers-3" / "history.csv").is_file()
    report = (directory / "compare" / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 3
    assert 'src="http' not in report
    (directory / "particles").rename(tmp_path / "aside")
    refused("holds no particles")
    (tmp_path / "aside").rename(directory / "particles")
    manifest = directory / "particles" / "manifest.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**said, "problem_hash": "other"}))
    refused("its particles are those of another run file")
    manifest.write_text(json.dumps(said))
    done = directory / "summary.json"
    done.write_text(json.dumps({**json.loads(done.read_text()), "outcome": "ComputationError: not finite"}))
    refused("holds no finished solve (outcome: ComputationError: not finite)")
    done.unlink()
    refused("holds no finished solve (outcome: still running)")


@pytest.mark.parametrize("words", ["--depth 4", "--depth 4,x", "--depth 0,4"])
def test_depths_that_are_none(words, tmp_path, capsys):
    assert compare([str(tmp_path), *words.split()]) == 2
    assert "at least two whole numbers" in capsys.readouterr().err
