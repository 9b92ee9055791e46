"""The solver: it owns the time loop, and observers watch the reports.

Data flows one way: model and task → groups (mesh, spaces, units) → flow (sweep, transport) → stepper → reports.
"""

from __future__ import annotations

import time as wall
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from mfpde.errors import ComputationError, InputError
from mfpde.limit.diagnostics import BlockDiagnostics, diagnose, totals
from mfpde.limit.flow import Flow, Potential
from mfpde.limit.gather import gather
from mfpde.limit.state import Group, State, build_groups, initial_state
from mfpde.limit.stepper import Stepper
from mfpde.limit.sweep import testing, training
from mfpde.output.report import BlockMoments, Report
from mfpde.output.snapshot import Snapshot
from mfpde.problem.task import Task
from mfpde.problem.transformer import Transformer
from mfpde.settings import Density, Time, Training

_LOST_MASS = 1e-6
_MOST_STEPS, _MOST_REPORTS = 1e9, 1e5
_LATER = ("gap", "risk_error")  # columns whose computation is not in this version


@dataclass(frozen=True)
class Problem:
    """What is solved and how finely: all that determines the solution.

    Attributes:
        model: the Transformer.
        task: training and test samples.
        training: λ, horizon.
        densities: the discretisation of each family, by name.
        time: the time step.

    Raises:
        InputError: for settings that are sound one by one but not together.
    """

    model: Transformer
    task: Task
    training: Training
    densities: Mapping[str, Density]
    time: Time

    def __post_init__(self) -> None:
        step, horizon = self.time.step, self.training.horizon
        if step is not None and horizon / step > _MOST_STEPS:
            raise InputError(
                f"time.step = {step!r}: more than {_MOST_STEPS:.0e} steps to training.horizon = {horizon!r}; "
                f"must be at least {horizon / _MOST_STEPS:g}"
            )


class Solver:
    """The limiting PDE on this communicator; construction, `run` and `close` are collective."""

    def __init__(self, comm: MPI.Intracomm, problem: Problem) -> None:
        self.comm = comm
        self.problem = problem
        model = problem.model
        self.groups = build_groups(comm, model, problem.densities)
        self.flow = Flow(model, self.groups, training(comm, model, problem.task), problem.training.weight_decay)
        self.test = testing(comm, model, problem.task)
        state = initial_state(self.groups, model, problem.densities)
        self.stepper = Stepper(comm, self.flow, state, problem.time, problem.training.horizon)
        self._started = wall.perf_counter()
        self._output = 0.0

    @property
    def unknowns(self) -> int:
        """Density unknowns of all layers and families."""
        return sum(g.space.global_cells * g.space.size * g.transport.blocks for g in self.groups)

    def run(self, times: Sequence[float]) -> Iterator[Report]:
        """Solve to the last of the times, yielding a report at τ = 0 and at each of them.

        Args:
            times: of `report_times`.

        Raises:
            ComputationError: after the report of the last sound state.
        """
        yield self.report(self.stepper.state)
        for target in times:
            try:
                arrived = self.stepper.advance(target)
                report = self.report(self.stepper.state)
            except ComputationError:
                with suppress(ComputationError):  # no better: then the row before is the last sound one
                    yield self.report(self.stepper.good)
                raise
            yield report
            if not arrived:
                return

    def report(self, state: State) -> Report:
        """All that the files say of a state; collective. Snapshots are complete on rank 0 only.

        Raises:
            ComputationError: on every rank alike, for a state that is not finite or has lost mass.
        """
        start = wall.perf_counter()
        potential = self.flow.potential(state)
        blocks = [
            diagnose(group, density, frame, values)
            for group, density, frame, values in zip(
                self.groups, state.density, state.frame, potential.values, strict=True
            )
        ]
        moments = tuple(self._moments(blocks))
        _check_mass(state.tau, moments)
        report = Report(
            tau=state.tau,
            history=self._history(state, potential, blocks),
            moments=moments,
            gaps=(),
            timings=self._timings(state),
            snapshots=tuple(self._snapshots(state, potential)),
        )
        self._output += wall.perf_counter() - start
        return report

    def close(self) -> None:
        """Free the PETSc objects; collective."""
        self.stepper.close()

    def _history(self, state: State, potential: Potential, blocks: list[BlockDiagnostics]) -> dict[str, float]:
        densities = totals(self.problem.model.layers, blocks)
        energy_rate = self.flow.energy_rate(state, potential, self.flow.transport(state, potential))
        test = None
        if self.test is not None:
            theta, weights, _ = self.flow.units(state)
            test = self.test.evaluate(theta, weights)
        values = {
            "tau": state.tau,
            "risk": potential.outcome.risk,
            "penalty": potential.penalty,
            "energy": potential.energy,
            **densities,
            "energy_remainder": energy_rate + densities["dissipation"],
            **dict.fromkeys(_LATER, float("nan")),
            "steps": float(self.stepper.steps),
            "step_size": self.stepper.step_size,
            "test_risk": test.risk if test else float("nan"),
        }
        if self.problem.task.classification:
            values["accuracy"] = potential.outcome.accuracy
            values["test_accuracy"] = test.accuracy if test else float("nan")
        return {name: values[name] for name in history_columns(self.problem.task.classification)}

    def _moments(self, blocks: list[BlockDiagnostics]) -> Iterator[BlockMoments]:
        model = self.problem.model
        for place, family in enumerate(model.families):
            group, first = self._place(place)
            said = blocks[self.groups.index(group)]
            for layer in range(model.layers):
                b = first + layer
                yield BlockMoments(family.name, layer, float(said.mass[b]), said.mean[b], said.covariance[b])

    def _snapshots(self, state: State, potential: Potential) -> Iterator[Snapshot]:
        model = self.problem.model
        for place, family in enumerate(model.families):
            group, first = self._place(place)
            g = self.groups.index(group)
            blocks = slice(first, first + model.layers)
            snapshot = gather(group, family, blocks, state.density[g], state.frame[g], potential.values[g])
            if snapshot is not None:
                yield snapshot

    def _place(self, place: int) -> tuple[Group, int]:
        """The group of a family, and its first block there."""
        for group in self.groups:
            if place in group.members:
                return group, group.members.index(place) * self.problem.model.layers
        raise LookupError(place)

    def _timings(self, state: State) -> dict[str, float]:
        clock = self.flow.clock
        seconds = wall.perf_counter() - self._started
        rate = clock.evaluations * self.unknowns / seconds
        return {
            "tau": state.tau,
            "wall": seconds,
            "right_hand_sides": float(clock.evaluations),
            "unknowns_per_second": rate,
            "sweep": clock.sweep,
            "transport": clock.transport,
            "output": self._output,
        }


def _check_mass(tau: float, moments: Iterable[BlockMoments]) -> None:
    """The scheme keeps every block's mass to rounding as long as it is stable."""
    for block in moments:
        if not abs(block.mass - 1.0) < _LOST_MASS:
            where = f"family {block.family!r}, layer {block.layer}"
            raise ComputationError(f"mass lost at tau = {tau:.6g}, {where}: it is {block.mass:.6g}, not 1")


def history_columns(classification: bool) -> list[str]:
    """The columns of history.csv, in the order of interface.md."""
    columns = [
        "tau", "risk", "penalty", "entropy", "energy", "dissipation", "gap", "mass_error", "min_density",
        "negative_mass", "boundary_mass", "energy_remainder", "risk_error", "steps", "step_size", "test_risk",
    ]  # fmt: skip
    return [*columns, "accuracy", "test_accuracy"] if classification else columns


def report_times(horizon: float, every: float) -> list[float]:
    """Multiples of `every` below the horizon, then the horizon; a multiple within rounding of it is dropped.

    Raises:
        InputError: when that is more reports than anyone reads.
    """
    if horizon / every > _MOST_REPORTS:
        raise InputError(
            f"output.every = {every!r}: more than {_MOST_REPORTS:.0e} reports to training.horizon = {horizon!r}; "
            f"must be at least {horizon / _MOST_REPORTS:g}"
        )
    count = int(np.floor(horizon / every * (1 + 1e-12)))
    inner = [k * every for k in range(1, count + 1)]
    return [tau for tau in inner if tau < horizon * (1 - 1e-9)] + [horizon]
