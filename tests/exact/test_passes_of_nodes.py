"""Nodes with one pass a step: exact solutions under a tolerance, stiff feedback, tables that nodes leave, resuming."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import solve_ivp

from exact.closed_forms import Case, bilinear, decay, linear
from mfpde.config import run_file
from mfpde.config.settings import Density, Time, Training
from mfpde.errors import ComputationError
from mfpde.limit.backprop import Outcome
from mfpde.limit.lagrangian.node_sums import moments
from mfpde.limit.march import march
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart, State
from mfpde.output.checkpoint.checkpoint import read_facts, read_state, write
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import bilinear_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.runs.problem_setup import problem_of

LAGRANGIAN = {"frame": "lagrangian", "positivity": "scheme"}
RUN = Path(__file__).resolve().parents[2] / "runs" / "in-context.toml"
X = np.array([0.8, -0.5, 1.3, 0.4])
DECAY = 0.05


def solved(case: Case, cells: int, tolerance: float) -> tuple[float, float, int]:
    """Largest errors of means and covariances, and of the risk, relative; passes."""
    training = Training(weight_decay=case.clock.decay, horizon=case.clock.horizon)
    density = {case.family.name: Density(cells=cells, **LAGRANGIAN)}  # type: ignore[arg-type]
    solver = Solver(MPI.COMM_SELF, Problem(case.model(), case.task, training, density, Time(tolerance=tolerance)))
    try:
        _, mean, covariance = moments(solver.stepper.state.parts[0])
        assert solver.stepper.advance(case.clock.horizon)
        passes, end = solver.flow.clock.passes, solver.stepper.state
        risk = solver.flow.outcome(end).risk
    finally:
        solver.close()

    answer, (_, found, spread) = case.answer(mean, covariance), moments(end.parts[0])
    off = (np.abs(found - answer.mean).max() / np.abs(answer.mean).max(),
           np.abs(spread - answer.covariance).max() / np.abs(answer.covariance).max())  # fmt: skip
    return float(max(off)), abs(risk / answer.risk - 1.0), passes


def test_decay_needs_a_pass_a_step_and_no_more() -> None:
    """The potential does not change: steps grow as fast as they may, and motion alone is what can be wrong."""
    moved, _, passes = solved(decay(2), 4, 1e-6)
    assert moved < 1e-8
    assert passes <= 9


@pytest.mark.parametrize(("case", "cells"), [(linear(1, far=10.0), 5), (bilinear(), 6)], ids=["linear", "bilinear"])
def test_errors_follow_the_tolerance_and_passes_grow_slowly(case: Case, cells: int) -> None:
    """Corrected nodes are better than what the tolerance is of; a thousandth of it takes less than three times."""
    tolerances = np.geomspace(1e-4, 1e-7, 4)
    found = [solved(case, cells, float(tolerance)) for tolerance in tolerances]
    errors, risks, passes = map(list, zip(*found, strict=True))
    assert all(error < 0.1 * tolerance for error, tolerance in zip(errors, tolerances, strict=True)), errors
    assert all(risk < tolerance for risk, tolerance in zip(risks, tolerances, strict=True)), risks
    order = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
    assert 0.6 < order < 1.3, errors
    assert passes[-1] < 3 * passes[0], passes


def one_layer(far: float, tolerance: float, horizon: float) -> Solver:
    """Bilinear heads of one layer, whose targets are `far` times their tokens: the potential answers at once."""
    law = Normal([0.5, 0.3], [0.3, 0.3])
    model = Transformer([[bilinear_head("bilinear", law)]], 1, lambda tokens: tokens[-1])
    density = {"bilinear": Density(cells=6, **LAGRANGIAN)}  # type: ignore[arg-type]
    task = Task(X[:, None, None], far * X[:, None])
    return Solver(MPI.COMM_SELF, Problem(model, task, Training(DECAY, horizon), density, Time(tolerance=tolerance)))


def answer(start: NodesPart, far: float, horizon: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, covariance and risk: μ' = B μ, Σ' = B Σ + Σ Bᵀ, B = −(c J + λ I), c = mean_n (1 + E[ab] − far) T²."""
    swap, (_, mean, covariance) = np.array([[0.0, 1.0], [1.0, 0.0]]), moments(start)

    def output(y: np.ndarray) -> np.ndarray:
        return (1.0 + y[3] + y[0] * y[1] - far) * X

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        b = -((output(y) * X).mean() * swap + DECAY * np.eye(2))
        moved = b @ y[2:].reshape(2, 2)
        return np.concatenate([b @ y[:2], (moved + moved.T).ravel()])

    begin = np.concatenate([mean[0], covariance[0].ravel()])
    end = solve_ivp(slope, (0.0, horizon), begin, method="Radau", rtol=1e-11, atol=1e-13).y[:, -1]
    return end[:2], end[2:].reshape(2, 2), float(0.5 * (output(end) ** 2).mean())


def check(solver: Solver, start: NodesPart, far: float, horizon: float, most: float) -> None:
    """Mean, covariance and risk at the horizon, to so much relative."""
    mean, covariance, risk = answer(start, far, horizon)
    _, found, spread = moments(solver.stepper.state.parts[0])
    assert np.abs(found[0] - mean).max() < most * np.abs(mean).max()
    assert np.abs(spread[0] - covariance).max() < most * np.abs(covariance).max()
    assert abs(solver.flow.outcome(solver.stepper.state).risk / risk - 1.0) < most


def test_stiff_feedback_takes_hundreds_of_steps_where_explicit_ones_took_thousands() -> None:
    """The potential drives E[ab] to its target at a rate of a hundred and more, while the nodes hardly move."""
    solver = one_layer(200.0, 1e-5, 1.0)
    start = solver.stepper.state.parts[0]
    try:
        solver.stepper._ts.setMaxSteps(200)
        assert solver.stepper.advance(1.0)
        assert solver.flow.clock.passes < 360
        check(solver, start, 200.0, 1.0, 1e-6)
    finally:
        solver.close()


def test_tables_are_enlarged_before_nodes_leave_them() -> None:
    """Nodes run off to eight times their first range in twenty steps; at the end of each, all mass is in the table."""
    solver = one_layer(200.0, 1e-4, 0.02)
    grid, start = solver.flow.discretisations[0].grid, solver.stepper.state.parts[0]
    covering, limited, enlarged, outside = solver.flow.covering, solver.flow.limited, [], []

    def seen(state: State, ahead: State) -> State:
        fitted = covering(state, ahead)
        enlarged.extend([state.tau] * (fitted is not state))
        return fitted

    def ended(state: State) -> State:
        part = state.parts[0]
        q, some = part.position[0][:, grid.family.nonlinear_axes], part.mass[0] > 1e-15  # the others need no table
        top = part.low + part.spacing * (part.count - 1.0)
        beyond = np.maximum(part.low - q[some].min(axis=0), q[some].max(axis=0) - top) / part.spacing
        outside.append(float(beyond.max()))
        return limited(state)

    solver.flow.covering, solver.flow.limited = seen, ended  # type: ignore[method-assign]
    try:
        assert solver.stepper.advance(0.02)
        check(solver, start, 200.0, 0.02, 1e-5)
        end = solver.stepper.state.parts[0]
        assert np.ptp(end.position[..., 0]) > 8.0 * np.ptp(start.position[..., 0])
    finally:
        solver.close()
    assert max(outside) < 0.1  # of a table's spacing
    assert len(enlarged) >= 4


def test_a_pass_that_fails_in_an_enlarged_table_leaves_the_old_one() -> None:
    """A model may have no numbers far off: shorter steps, whose tables are smaller, then go on, and end right."""
    solver, far, horizon = one_layer(20.0, 1e-4, 0.5), 20.0, 0.5
    start, outcome = solver.stepper.state.parts[0], solver.flow.outcome

    def limited(state: State) -> Outcome:
        part = state.parts[0]
        q = part.position[..., solver.flow.discretisations[0].grid.family.nonlinear_axes]
        if (part.spacing * (part.count - 1) > 1.35 * np.ptp(q, axis=1)).any():
            raise ComputationError("no numbers so far off")
        return outcome(state)

    solver.flow.outcome = limited  # type: ignore[method-assign]
    try:
        assert solver.stepper.advance(horizon)
        assert sum(np.isinf(step.error) for step in solver.stepper.history) > 2
        solver.flow.outcome = outcome  # type: ignore[method-assign]
        check(solver, start, far, horizon, 1e-4)
    finally:
        solver.close()


def test_potentials_of_the_past_go_to_another_table_with_what_a_pass_adds() -> None:
    """The last is the new pass; earlier ones differ from it as they did in the old table, and so beyond its ends."""
    solver = one_layer(20.0, 1e-4, 0.5)
    stepper = solver.stepper
    try:
        assert stepper.advance(0.02)
        old, before, pairs = stepper.state, stepper._past, stepper._differences
        part = old.parts[0]
        wide = replace(part, low=part.low - 0.2 * part.spacing * (part.count - 1), spacing=1.5 * part.spacing)
        new = State(old.tau, (wide,))
        stepper._transfer(old, new)
        after = stepper._past
        assert after.times == before.times
        assert len(after.times) > 2
        assert (after.gradients[-1][0] == solver.flow.outcome(new).gradient[0]).all()
        assert stepper._risk == pytest.approx(solver.flow.outcome(old).risk, rel=1e-6)
        last = before.gradients[-1][0]
        for one, other in zip(before.gradients[:-1], after.gradients[:-1], strict=True):
            (expected,) = solver.flow.transferred(old, new, (one[0] - last,))
            assert np.abs(expected).max() > 1e-3
            assert np.abs(other[0] - after.gradients[-1][0] - expected).max() < 1e-9 * np.abs(last).max()
        for one, other in zip(pairs.guesses, stepper._differences.guesses, strict=True):
            assert (solver.flow.transferred(old, new, one)[0] == other[0]).all()

        # The potential at the nodes is the same in both tables, at other times too, but for the corrector's residual.
        (one, other), tau = (p.at(old.tau + 0.001) for p in (before, after)), old.tau
        fields = [
            solver.flow.driven(State(tau, (p,)), Outcome(1.0, 0.0, (), g)) for p, g in ((part, one), (wide, other))
        ]
        slopes = [field.parts[0].position for field in fields]
        assert np.abs(slopes[0] - slopes[1]).max() < 3e-4 * np.abs(slopes[0]).max()
    finally:
        solver.close()


def test_errors_of_nodes_are_in_standard_deviations() -> None:
    """All nodes shifted by one and two per cent of those of their coordinates."""
    solver = one_layer(20.0, 1e-4, 0.5)
    try:
        state, nodes = solver.stepper.state, solver.flow.discretisations[0]
        _, _, covariance = moments(state.parts[0])
        std = np.sqrt(np.diagonal(covariance[0]))
        still = np.zeros_like(state.parts[0].log_density)
        shift = np.broadcast_to(std * [0.01, 0.02], state.parts[0].position.shape)

        def size(part: NodesPart) -> float:
            (found,) = nodes.error_shares(state.parts[0], part)
            sums = (found.weights.value, found.changes.value, found.square.value)
            return float(nodes.error(state.parts[0], part, [sums]))

        part = replace(state.parts[0], position=shift, log_density=still)
        assert size(part) == pytest.approx(0.01 * np.sqrt(5.0), rel=1e-12)
        part = replace(part, position=np.zeros_like(shift), log_density=still + 0.07)
        assert size(part) == pytest.approx(0.07, rel=1e-12)
    finally:
        solver.close()


def in_context(decay: float, horizon: float, tolerance: float) -> tuple[np.ndarray, int]:
    """Risks at five times, and passes, of the run runs/in-context.toml on coarse grids that move."""
    settings = [
        "density.frame=lagrangian", "density.cells=8", "density.remap=false", f"time.tolerance={tolerance}",
        f"training.weight_decay={decay}", f"training.horizon={horizon}",
    ]  # fmt: skip
    solver = Solver(MPI.COMM_SELF, problem_of(run_file.load(RUN, settings), trial=False))
    risks, reported = [], 0
    try:
        for tau in np.linspace(0.0, horizon, 6)[1:]:
            state = march(solver.stepper, float(tau))
            assert state is not None
            risks.append(solver.flow.outcome(state).risk)
            reported += 1
        return np.array(risks), solver.flow.clock.passes - reported
    finally:
        solver.close()


def test_in_context_learning_takes_forty_passes() -> None:
    """To τ = 5, at an error of steps and tables far below that of 8 cells."""
    risks, passes = in_context(0.05, 5.0, 1e-4)
    fine, _ = in_context(0.05, 5.0, 1e-6)
    assert passes <= 40
    assert np.abs(risks - fine).max() < 4e-6


@pytest.mark.slow
def test_in_context_learning_takes_a_hundred_and_fifty_passes_where_feedback_is_stiff() -> None:
    """λ = 0.02 to τ = 40, where explicit steps of order 4 took 469."""
    risks, passes = in_context(0.02, 40.0, 1e-4)
    fine, _ = in_context(0.02, 40.0, 1e-6)
    assert passes <= 150
    assert np.abs(risks - fine).max() < 4e-6


CUTS, AHEAD, END = range(1, 55), 10, 0.7


def marched(solver: Solver, count: int) -> Iterator[State]:
    """The state at the begin of each of so many steps, the present one first; the solver stays at the last."""
    asked = solver.stepper.steps + np.arange(count)
    for number in asked:
        solver.stepper.poll = lambda wanted=number: float(solver.stepper.steps >= wanted)
        assert not solver.stepper.advance(END)
        yield solver.stepper.state


def test_a_march_goes_on_bit_for_bit_from_any_step(tmp_path: Path) -> None:
    """Explicit, implicit and just on another table: the next ten steps, positions, tables and potentials."""
    solver = one_layer(20.0, 1e-4, END)
    states, saved, kinds = [], [], {}
    try:
        for number, state in enumerate(marched(solver, len(CUTS) + AHEAD)):
            states.append(state)
            saved.append(copy.deepcopy(solver.state_dict()))
            implicit = solver.stepper._plan.implicit
            table = number > 0 and (states[-2].parts[0].spacing != state.parts[0].spacing).any()
            if 0 < number < len(CUTS):
                kinds.setdefault((implicit, table), []).append(number)
    finally:
        solver.close()

    assert kinds.keys() == {(a, b) for a in (False, True) for b in (False, True)}
    cuts = sorted({number for found in kinds.values() for number in (found[0], found[-1])})
    for cut in cuts:
        solver = one_layer(20.0, 1e-4, END)
        try:
            write(MPI.COMM_SELF, tmp_path / "cut", saved[cut], {})
            solver.load_state_dict(read_state(tmp_path / "cut", read_facts(tmp_path / "cut")))
            for number, state in enumerate(marched(solver, AHEAD), start=cut):
                for name, expected in vars(states[number].parts[0]).items():
                    assert (getattr(state.parts[0], name) == expected).all(), (cut, number, name)
                assert state.tau == states[number].tau
            last, expected = solver.state_dict(), saved[cut + AHEAD - 1]
            assert last["history"] == expected["history"]
            assert last["plan"] == expected["plan"]
            assert last["clock"]["passes"] == expected["clock"]["passes"]
            for one, other in zip(last["past"]["gradients"], expected["past"]["gradients"], strict=True):
                assert (one[0] == other[0]).all()
        finally:
            solver.close()
