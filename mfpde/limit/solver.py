"""The solver: it owns the time loop, and observers watch the reports.

Data flows one way: problem → discretisations with their initial state → gradient flow → stepper → reports.
"""

from __future__ import annotations

import time as wall
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Protocol

from mpi4py import MPI

from mfpde.errors import ComputationError, DiskError
from mfpde.limit.backprop import Backprop
from mfpde.limit.diagnostics.reporter import March, Reporter
from mfpde.limit.diffusion.diffusion import Diffusion
from mfpde.limit.diffusive_flow import DiffusiveFlow
from mfpde.limit.discretisation import initial_state
from mfpde.limit.fem.finite_elements import FiniteElements, build_finite_elements
from mfpde.limit.gradient_flow import Clock, GradientFlow
from mfpde.limit.lagrangian.moving_nodes import build_moving_nodes
from mfpde.limit.restart import loaded_state, saved_state
from mfpde.limit.specification import Problem
from mfpde.limit.state import State
from mfpde.limit.timestepping.imex import ImexStepper
from mfpde.limit.timestepping.multirate import MultirateStepper
from mfpde.limit.timestepping.predictor_corrector import PredictorCorrectorStepper
from mfpde.limit.timestepping.step_control import same_time
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.records.report import Report
from mfpde.parallel.agreement import agree

STEPS = "limit of the steps"  # how a run has ended that PETSc's options keep from its horizon
_CERTIFIED = 10  # every so many reports have a gap: a pass over the samples, and the potential at many points
_SOLVED = 1e-3  # error of a linear solve, relative to the tolerance of a step
_FULLY_SOLVED = 1e-12  # and at fixed steps, so that what is left of it does not depend on the ranks


class Solver:
    """The limiting PDE on this communicator; construction, `run` and `close` are collective."""

    def __init__(self, comm: MPI.Intracomm, problem: Problem, finer: Solver | None = None) -> None:
        """Discretisations and initial state.

        Args:
            comm: communicator.
            problem: what is solved.
            finer: a solver of `problem.refined(problem)`, marched along to estimate the error of the risk.

        Raises:
            InputError: on every rank, for a problem that does not fit here.
        """
        self.comm = comm
        self.problem = problem
        self.finer = finer
        self.flow = _flow(comm, problem)
        self.reporter = Reporter(self.flow, _testing(comm, problem), problem.task.classification)

        self.cautions: list[str] = []  # of the initial laws, the same on every rank
        state, self.initial_error = initial_state(self.flow.discretisations, self.cautions.append)
        self.stepper = _stepper(comm, problem, self.flow, state)
        self._started = wall.perf_counter()
        self._output = 0.0

    @property
    def unknowns(self) -> int:
        """Density unknowns of all layers and families."""
        return sum(each.unknowns for each in self.flow.discretisations)

    def run(
        self, times: Sequence[float], reported: float | None = None, watch: Watch | None = None
    ) -> Iterator[Report]:
        """Solve to the last of the times, yielding a report at τ = 0 and at each of them.

        Args:
            times: of the reports, increasing, as `mfpde.runs.problem_setup.report_times` has them.
            reported: τ of the last report of a run that is continued; only later ones are yielded.
            watch: polled once a step, and called when the run pauses.

        Raises:
            ComputationError: after the report of the last sound state; also when the estimated error of the risk
                is above `time.risk_error`.
        """
        if watch is not None:
            self.stepper.poll = watch.poll
            if self.finer is not None:
                self.finer.stepper.poll = watch.poll

        over = self.stepper.is_stationary()
        if reported is None:
            first = self.report(self.stepper.state, certified=over)
            yield from self._observed(first)
            self._check_error(first)
            reported = first.tau
            del first  # its snapshots are several copies of the density

        if over and reported == self.stepper.state.tau:
            return
        for number, target in enumerate(times, start=1):
            if not _before(reported, target) or _before(target, self.stepper.state.tau):
                continue

            try:
                arrived = self._march(target, watch)
                over = self.stepper.is_stationary()  # also on arrival
                certified = over or target == times[-1] or number % _CERTIFIED == 0
                report = self.report(self.stepper.state, certified=certified)
            except DiskError:
                raise
            except ComputationError:
                if self.stepper.good.tau > reported:
                    with suppress(ComputationError):  # no better: then the row before is the last sound one
                        yield from self._observed(self.report(self.stepper.good, certified=False))
                raise
            yield from self._observed(report)
            self._check_error(report)
            reported = report.tau
            del report
            if over or not arrived:
                return

    def _observed(self, report: Report) -> Iterator[Report]:
        """Hand a report out. The seconds of the observers count as output, and its steps are then forgotten."""
        start = wall.perf_counter()
        yield report
        self._output += wall.perf_counter() - start
        self.stepper.forget()

    def ending(self) -> dict[str, object]:
        """How a run that is over has ended, for summary.json: at stationarity, at the horizon, or by a limit of the TS.

        `stationary` is (1/L) Σ∫|ρ||∇V|² where the run has ended by it, else None.
        """
        stationary, tau = self.stepper.stationary_value, self.stepper.state.tau
        horizon = self.problem.training.horizon
        limit = "horizon" if tau >= horizon or same_time(tau, horizon) else STEPS
        return {"ended": limit if stationary is None else "stationary", "stationary": stationary}

    def _march(self, target: float, watch: Watch | None) -> bool:
        """Bring the stepper to the target and the finer one to where it is, pausing when asked.

        Returns:
            False when the march ended before the target.
        """
        while not (arrived := self.stepper.advance(target)) and self.stepper.pause_request and watch is not None:
            watch.pause(self.stepper.pause_request)
        if self.finer is not None:
            self.finer._march(self.stepper.state.tau, watch)
        return arrived

    def state_dict(self) -> StateDict:
        """All that determines the future, for a checkpoint."""
        seconds = wall.perf_counter() - self._started
        clock = {"seconds": seconds, "output": self._output, **asdict(self.flow.clock)}
        finer = {} if self.finer is None else {"finer": self.finer.state_dict()}
        state = saved_state(self.flow.discretisations, self.stepper.state)
        return {**state, **self.stepper.state_dict(), "clock": clock, **finer}

    def load_state_dict(self, saved: StateDict) -> None:
        """Go on from what `state_dict` gave, on any number of ranks; collective.

        Raises:
            InputError: on every rank, for what does not fit here; other exceptions where `checkpoint_errors` is not.
        """
        if self.finer is not None:
            self.finer.load_state_dict(saved["finer"])
        state = loaded_state(self.comm, self.flow.discretisations, saved, self.stepper.state)
        agree(lambda: self.stepper.load_state_dict(saved, state))  # a preconditioner may fail on some ranks alone

        clock = dict(saved["clock"])
        self._started -= clock.pop("seconds")
        self._output = clock.pop("output")
        self.flow.clock = Clock(**clock)

    def report(self, state: State, certified: bool = True) -> Report:
        """The report of a state; collective. Snapshots are complete on rank 0, or in pieces.

        Args:
            state: the state.
            certified: compute the gap as well, which a run does at every tenth report and at its end.

        Raises:
            ComputationError: on every rank alike, for a state that is not finite or has lost mass.
        """
        start, counted = wall.perf_counter(), self.flow.clock.counted
        potential = self.flow.potential(state)
        error = self._risk_error(state.tau, potential.outcome.risk)
        march = March(
            count=self.stepper.steps,
            size=self.stepper.step_size,
            steps=self.stepper.history,
            risk_error=error,
            certified=certified,
        )
        report = self.reporter.report(state, potential, march)

        self._output += wall.perf_counter() - start - (self.flow.clock.counted - counted)
        return replace(report, timings=self._timings(state.tau))

    def risk_at(self, tau: float) -> float:
        """R at τ, to which the solver is marched; nan for a τ that lies behind, or that it cannot reach.

        Raises:
            ComputationError: when the numbers fail on the way.
        """
        if self.stepper.state.tau < tau:
            while not self.stepper.advance(tau):
                if not self.stepper.pause_request:  # this solver cannot be paused
                    return float("nan")
        self.stepper.forget()  # steps.csv has the coarser solver's
        state = self.stepper.state
        return self.flow.potential(state).outcome.risk if state.tau == tau else float("nan")

    def close(self) -> None:
        """Free the PETSc objects; collective."""
        self.stepper.close()
        self.flow.close()

    def _risk_error(self, tau: float, risk: float) -> float:
        return float("nan") if self.finer is None else abs(risk - self.finer.risk_at(tau))

    def _check_error(self, report: Report) -> None:
        error, most = report.history["risk_error"], self.problem.time.risk_error
        if error > most:
            raise ComputationError(
                f"the estimated risk error {error:.3g} at tau = {report.tau:.6g} is above time.risk_error = {most:g}; "
                "more density.cells, a higher density.degree or a smaller time.tolerance lower it"
            )

    def _timings(self, tau: float) -> dict[str, float]:
        clock = self.flow.clock
        seconds = wall.perf_counter() - self._started
        return {
            "tau": tau,
            "wall": seconds,
            "right_hand_sides": float(clock.evaluations),
            "passes": float(clock.passes),
            "unknowns_per_second": clock.evaluations * self.unknowns / seconds,
            "sweep": clock.sweep,
            "transport": clock.transport,
            "output": self._output,
        }


def _before(one: float, other: float) -> bool:
    """Is one τ before the other, by more than rounding?"""
    return one < other and not same_time(one, other)


class Watch(Protocol):
    """The interface of an observer that may pause a run; both methods are called on every rank."""

    def poll(self) -> float:
        """Above 0 to pause; the largest answer of all ranks counts."""

    def pause(self, request: float) -> None:
        """Between two steps: save, and raise to end the run. `request` is that answer."""


def _flow(comm: MPI.Intracomm, problem: Problem) -> GradientFlow:
    """The right-hand side on the discretisations of the problem; collective."""
    model, task, training = problem.model, problem.task, problem.training
    elements, nodes = build_finite_elements(comm, problem), build_moving_nodes(comm, problem)
    backprop = Backprop(comm, model, task.tokens, task.targets)
    if training.temperature == 0.0:
        return GradientFlow(model, (*elements, *nodes), backprop, training.weight_decay)

    operators = tuple(_diffusion(each, problem) for each in elements)
    return DiffusiveFlow(model, elements, backprop, training.weight_decay, operators=operators)


def _diffusion(elements: FiniteElements, problem: Problem) -> Diffusion:
    time, temperature = problem.time, problem.training.temperature
    tolerance = _FULLY_SOLVED if time.step is not None else max(_SOLVED * time.relative_tolerance, _FULLY_SOLVED)
    return Diffusion(elements.transport, temperature, tolerance)


def _testing(comm: MPI.Intracomm, problem: Problem) -> Backprop | None:
    """Passes over the test samples, None where the task has none."""
    model, task = problem.model, problem.task
    if task.test_tokens is None or task.test_targets is None:
        return None
    return Backprop(comm, model, task.test_tokens, task.test_targets)


def _stepper(comm: MPI.Intracomm, problem: Problem, flow: GradientFlow, state: State) -> Stepper:
    time, training = problem.time, problem.training
    rest = (state, time, training.horizon, training.stationary)
    if isinstance(flow, DiffusiveFlow):
        return ImexStepper(comm, flow, *rest)
    if time.step is None and all(each.cfl_bound for each in flow.discretisations):
        return MultirateStepper(comm, flow, *rest)
    if time.step is None and not any(each.cfl_bound for each in flow.discretisations):
        return PredictorCorrectorStepper(comm, flow, *rest)
    return Stepper(comm, flow, *rest)
