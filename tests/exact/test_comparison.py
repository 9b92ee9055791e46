"""The comparison finds a right PDE right and wrong ones wrong, with the effects that it names."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pytest
from mpi4py import MPI

from mfpde.comparison.checks import CHANGE, Check
from mfpde.comparison.effects import effects, witness
from mfpde.comparison.evidence import Effect, Evidence
from mfpde.comparison.exponents import risk_slopes, slope_checks
from mfpde.comparison.grids import grid_checks, refinement_checks
from mfpde.comparison.infinite_width import mean_checks
from mfpde.comparison.slopes import Slope, floor
from mfpde.comparison.verdict import decide
from mfpde.config.settings import Density, Time, Training
from mfpde.finite.jobs import Method, plan
from mfpde.finite.record_files import Record
from mfpde.finite.training import TrainerCache
from mfpde.limit.backprop import Backprop
from mfpde.limit.fem.moments import MomentMap
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem, refined
from mfpde.problem.datasets import scalars
from mfpde.problem.laws import Normal
from mfpde.problem.models import low_dimensional as models
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

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
    densities = {family.name: Density(cells=8, frame="comoving") for family in model.families}
    return Problem(model, TASK, Training(decay, TAUS[-1]), densities, Time(tolerance=1e-5))


@pytest.fixture(scope="module")
def records():
    """Two grids, and drawn units of two sizes."""
    cache = TrainerCache(MODEL, TASK, DECAY)
    jobs = plan("grid", [(14,), (20,)], [2], 1, Method(None, 1e-6))
    jobs += plan("sampled", [(10,), (40,)], [2], 6, Method(0.125))
    return [cache.train(job, [0.0, *TAUS], TAUS) for job in jobs]


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
    true = MomentMap.potential

    def wrong(self, gradient, space, frame, weight_decay, out):
        true(self, -gradient, space, frame, -weight_decay, out)

    monkeypatch.setattr(MomentMap, "potential", wrong)
    return problem()


def scaled(factor: float, monkeypatch) -> Problem:
    true = Backprop.__call__

    def wrong(self, *given):
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=tuple(factor * g for g in outcome.gradient))

    monkeypatch.setattr(Backprop, "__call__", wrong)
    return problem()


def late(monkeypatch) -> Problem:
    """Heads are given the co-state at the end of their layer, after the neurons; the risk is the right one."""
    true, merged = Backprop.__call__, dataclasses.replace(MODEL, stages=[MODEL.families])

    def wrong(self, *given):
        other = copy.copy(self)
        other.model = merged
        heads = true(other, *given).gradient[0]
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=(heads, outcome.gradient[1]))

    monkeypatch.setattr(Backprop, "__call__", wrong)
    return problem()


def permuted(monkeypatch) -> Problem:
    """Layers are given each other's potentials, in reverse order; the risk is the right one."""
    true = Backprop.__call__

    def wrong(self, *given):
        outcome = true(self, *given)
        return dataclasses.replace(outcome, gradient=tuple(g[::-1] for g in outcome.gradient))

    monkeypatch.setattr(Backprop, "__call__", wrong)
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
    grid = TrainerCache(MODEL, TASK, DECAY).train(plan("grid", [(14,)], [2], 1, Method(0.125))[0], [0.0, *TAUS], TAUS)
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
    cache = TrainerCache(BILINEAR, SCALARS, 1.0, HEAT)
    jobs = [j for h in (0.05, 0.025) for j in plan("sampled", [(1000,), (10000,)], [1], 12, Method(h))]
    return [cache.train(job, [0.0, *NOISY], [NOISY[-1]]) for job in jobs]


def hot_limit(temperature: float) -> dict[str, np.ndarray]:
    """τ and risk of the PDE with temperature."""
    training = Training(1.0, NOISY[-1], temperature)
    hot = Problem(
        BILINEAR, SCALARS, training, {"bilinear": Density(cells=12, radius=7.0, frame="comoving")}, Time(tolerance=1e-4)
    )
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
