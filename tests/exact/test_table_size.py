"""Tables as fine as their error asks for: the estimate and its order, refinement, coarsening, energy, and resuming."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from mfpde.config.settings import Density, Time, Training
from mfpde.errors import InputError
from mfpde.limit.backprop import Backprop
from mfpde.limit.discretisation import TableError
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.limit.state import NodesPart, State
from mfpde.limit.tables import table_size
from mfpde.limit.tables.table_size import LADDER, chosen, coarse_error, expected
from mfpde.output.checkpoint.checkpoint import read_facts, read_state, write
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer

X = np.linspace(-1.3, 1.3, 14)
Y = X + 0.6 * np.sin(5.0 * X + 0.3)
TOLERANCE, HORIZON, DECAY, STEP, RATE = 1e-4, 1.5, 1.5, 2.0, 10.0


def halved(values: np.ndarray, mass: np.ndarray, count: tuple[int, ...]) -> np.ndarray:
    """E (m,) of one layer of one family."""
    error = coarse_error(values.reshape(1, -1), mass.reshape(1, -1), count)
    return np.sqrt(np.array(error.missed) / error.varied)


def test_the_error_of_half_the_points_falls_with_order_eight() -> None:
    """It is what the spline through every other point misses where the mass is, relative to G's standard deviation."""
    counts, errors = [97, 129, 193, 257], []
    for count in counts:
        q = np.linspace(-1.0, 1.0, count)
        errors.append(halved(np.sin(12.0 * q + 1.0) + 5.0, np.exp(-40.0 * q**2), (count,))[0])
    order = -np.polyfit(np.log(np.array(counts) - 1.0), np.log(errors), 1)[0]
    assert abs(order - 8.0) < 0.3, errors


@pytest.mark.parametrize("count", [9, 13, 17, 33])
def test_polynomials_of_low_degree_have_no_error(count: int) -> None:
    """Three points and more between which the shortest table's degree is 4."""
    q = np.linspace(-1.0, 1.0, count)
    assert halved(1.0 + q - 2.0 * q**2 + q**4, np.ones(count), (count,))[0] < 1e-12


def test_every_coordinate_has_the_points_that_it_needs() -> None:
    """G is a parabola in one and a wave in the other."""
    count = (17, 33)
    q, p = np.meshgrid(*[np.linspace(-1.0, 1.0, each) for each in count], indexing="ij")
    error = coarse_error((q**2 + np.sin(9.0 * p)).reshape(1, -1), np.ones((1, q.size)), count)
    assert error.missed[0] < 1e-20
    assert error.missed[1] > 1e-7
    points = chosen([error], count, 1e-5)
    assert points[0] == 9
    assert points[1] > 33


def test_a_weak_family_may_have_a_larger_error() -> None:
    """What it misses counts beside the variation of all potentials, and the potential's constant does not count."""
    strong, weak = TableError((33,), (1e-12,), 1.0), TableError((33,), (1e-8,), 1e-4)
    assert chosen([weak], (33,), 1e-4)[0] > 33
    assert chosen([strong, weak], (33,), 1e-4) == (33,)


@pytest.mark.parametrize(("count", "missed", "most"), [(33, 3e-2, 1e-4), (65, 1e-7, 1e-4), (49, 1e-3, 1e-4)])
def test_what_is_chosen_stays_chosen(count: int, missed: float, most: float) -> None:
    """Errors that fall as expected: the table goes to a size of the ladder and remains there."""

    def error(number: int) -> TableError:
        there = expected(missed, np.log2((number - 1) / (count - 1)))
        return TableError((number,), (there**2,), 1.0)

    sizes = [count]
    for _ in range(6):
        sizes.append(chosen([error(sizes[-1])], (sizes[-1],), most)[0])
    assert set(sizes) <= set(LADDER)
    assert len(set(sizes[3:])) == 1, sizes
    found = float(np.sqrt(error(sizes[-1]).missed[0]))
    assert expected(found, 1.0) <= most


def waves(fixed: int | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> Solver:
    """f = v sin(10 q T): many waves in the first table, and fewer as decay draws the nodes together."""
    if fixed is not None and monkeypatch is not None:
        for name in ("_LEAST", "_MOST"):
            monkeypatch.setitem(getattr(table_size, name), 1, (fixed, 0.0))
    law = Normal([0.2, 0.3], [0.5, 0.5])
    head = Family("wave", 2, lambda tokens, theta: theta[1] * jnp.sin(RATE * theta[0] * tokens), law, (1,))
    model = Transformer([[head]], 2, lambda tokens: tokens[-1], step=STEP)
    density, task = {"wave": Density(cells=12, frame="lagrangian")}, Task(X[:, None, None], Y[:, None])
    return Solver(MPI.COMM_SELF, Problem(model, task, Training(DECAY, HORIZON), density, Time(tolerance=TOLERANCE)))


def nodes(solver: Solver) -> NodesPart:
    part = solver.stepper.state.parts[0]
    assert isinstance(part, NodesPart)
    return part


def risks(solver: Solver) -> tuple[np.ndarray, list[int]]:
    """At seven times, and the points of the table there."""
    found, points = [], []
    solver.stepper.resolve()
    try:
        for tau in np.linspace(0.0, HORIZON, 7):
            assert solver.stepper.advance(float(tau))
            found.append(solver.flow.outcome(solver.stepper.state).risk)
            points.append(int(nodes(solver).count[0]))
    finally:
        solver.close()
    return np.array(found), points


def test_tables_are_as_fine_as_a_head_that_oscillates_needs_and_no_finer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The risk is that of a fixed fine table to a tenth of the tolerance; a coarse one misses it by far more."""
    found, points = risks(waves())
    with monkeypatch.context() as patch:
        fine, fixed = risks(waves(193, patch))
    with monkeypatch.context() as patch:
        coarse, _ = risks(waves(33, patch))
    assert set(fixed) == {193}
    assert points[0] > 33
    assert points[-1] == 33
    assert (np.diff(points) <= 0).all()
    assert np.abs(found / fine - 1.0).max() < 0.1 * TOLERANCE
    assert np.abs(coarse / fine - 1.0).max() > 10.0 * TOLERANCE


def test_a_run_begins_with_a_table_that_suits_it() -> None:
    """The first report has it, and a second look changes nothing."""
    solver = waves()
    try:
        assert nodes(solver).count[0] == 33
        first = next(iter(solver.run([HORIZON])))
        count, passes = nodes(solver).count[0], solver.flow.clock.passes
        assert count > 33
        model, task = solver.problem.model, solver.problem.task
        each = replace(model, stages=[[replace(family, linear=()) for family in stage] for stage in model.stages])
        by_nodes = Backprop(MPI.COMM_SELF, each, task.tokens, task.targets)
        exact = by_nodes.evaluate([nodes(solver).position], [nodes(solver).mass]).risk
        assert abs(first.history["risk"] / exact - 1.0) < 1e-6
        solver.stepper.resolve()
        assert nodes(solver).count[0] == count
        assert solver.flow.clock.passes == passes
    finally:
        solver.close()


def read_back(path: Path, saved: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint of it says."""
    write(MPI.COMM_SELF, path, copy.deepcopy(saved), {})
    return read_state(path, read_facts(path))


def steps(solver: Solver) -> list[tuple[State, dict[str, Any], float]]:
    """State, what a checkpoint has, and energy, at the begin of each step."""
    found = []
    solver.stepper.resolve()
    while True:
        wanted = solver.stepper.steps + (len(found) > 0)
        solver.stepper.poll = lambda wanted=wanted: float(solver.stepper.steps >= wanted)
        if solver.stepper.advance(HORIZON):
            return found
        state = solver.stepper.state
        found.append((state, copy.deepcopy(solver.state_dict()), solver.flow.potential(state).energy))


def test_the_energy_falls_and_a_march_goes_on_bit_for_bit_across_a_change_of_table(tmp_path: Path) -> None:
    """The table's error may lift the energy when the table changes, by less than a tenth of the tolerance."""
    solver = waves()
    try:
        whole = steps(solver)
    finally:
        solver.close()
    energies = np.array([energy for _, _, energy in whole])
    assert (np.diff(energies) < 0.1 * TOLERANCE * energies[:-1]).all()
    points = [int(state.parts[0].count[0]) for state, _, _ in whole]
    changes = [number for number in range(1, len(points)) if points[number] != points[number - 1]]
    assert changes

    for cut in sorted({0, *(change - 1 for change in changes), *changes}):
        solver = waves()
        try:
            solver.load_state_dict(read_back(tmp_path / f"{cut}.npz", whole[cut][1]))
            rest = steps(solver)
        finally:
            solver.close()
        assert len(rest) == len(whole) - cut
        for (one, saved, _), (other, expected_there, _) in zip(rest, whole[cut:], strict=True):
            assert one.tau == other.tau
            for name, values in vars(other.parts[0]).items():
                assert (getattr(one.parts[0], name) == values).all(), (cut, name)
            assert saved["past"]["times"] == expected_there["past"]["times"]
            for a, b in zip(saved["past"]["gradients"], expected_there["past"]["gradients"], strict=True):
                assert (a[0] == b[0]).all()


@pytest.mark.parametrize("points", [8, 34, 100_001, -33])
def test_a_checkpoint_with_a_table_that_cannot_be_is_refused(points: int, tmp_path: Path) -> None:
    solver = waves()
    try:
        saved = solver.state_dict()
        saved["parts"][0]["count"] = np.array([points])
        saved = read_back(tmp_path / "saved.npz", saved)
        with pytest.raises(InputError, match="points; must be on the ladder"):
            solver.load_state_dict(saved)
    finally:
        solver.close()


def test_a_table_keeps_its_ends_when_its_points_change() -> None:
    solver = waves()
    try:
        part, lagrangian = nodes(solver), solver.flow.discretisations[0].grid
        fine = lagrangian.with_points(part, (65,))
        assert fine.count[0] == 65
        assert (fine.low == part.low).all()
        assert np.abs(fine.spacing * 64 - part.spacing * 32).max() < 1e-14
        assert lagrangian.with_points(part, (9,)) is part  # fewer than the least
        assert lagrangian.with_points(part, (513,)).count[0] == lagrangian.most[0]
        assert lagrangian.with_points(replace(part, count=fine.count, spacing=fine.spacing), (65,)).count is fine.count
    finally:
        solver.close()


def test_a_trial_that_is_rejected_goes_back_to_the_nodes_that_replaced_others() -> None:
    """What a remap has made is what PETSc has from then on."""
    solver = waves()
    try:
        old = solver.stepper.state
        part = nodes(solver)
        new = replace(part, position=0.9 * part.position, log_density=part.log_density - 2.0 * np.log(0.9))
        solver.stepper._replace(old, State(old.tau, (new,)))
        for name, values in vars(new).items():
            assert (getattr(nodes(solver), name) == values).all(), name
    finally:
        solver.close()
