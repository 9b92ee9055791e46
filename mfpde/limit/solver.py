"""The solver: it owns the time loop, and observers watch the reports.

Data flows one way: problem → discretisations with their initial state → gradient flow → stepper → reports.
"""

from __future__ import annotations

import time as wall
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mpi4py import MPI

from mfpde.config.settings import Certified
from mfpde.errors import ComputationError, DiskError
from mfpde.limit.backprop import Backprop
from mfpde.limit.descent.descent_stepper import DescentStepper
from mfpde.limit.diagnostics.reporter import March, Reporter
from mfpde.limit.discretisation import initial_state
from mfpde.limit.gradient_flow import Clock, GradientFlow
from mfpde.limit.lagrangian.moving_nodes import build_moving_nodes
from mfpde.limit.march import AnyStepper, Watch, march
from mfpde.limit.restart import loaded_state, saved_state
from mfpde.limit.sampled.sampled_nodes import build_sampled_nodes
from mfpde.limit.specification import Problem
from mfpde.limit.state import State
from mfpde.limit.timestepping.multirate import MultirateStepper
from mfpde.limit.timestepping.predictor_corrector import PredictorCorrectorStepper
from mfpde.limit.timestepping.step_control import same_time
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.records.report import Report
from mfpde.parallel.agreement import agree

if TYPE_CHECKING:
    from mfpde.limit.companion import Companion

STEPS = "limit of the steps"  # how a run has ended that PETSc's options keep from its horizon
_UNRESOLVED = 5e-3  # growth of the error of moments by every other node, beyond which errors do not fall as fast
_CERTIFIED = 10  # every so many reports of a flow have a gap: a pass, and the potential at many points
_FEW_PASSES = 20.0  # over the samples, in training by steps; a gap is the work of more than these


class Solver:
    """The limiting PDE on this communicator; construction, `run` and `close` are collective."""

    def __init__(self, comm: MPI.Intracomm, problem: Problem, companion: Companion | None = None) -> None:
        """Discretisations and initial state.

        Args:
            comm: communicator.
            problem: what is solved.
            companion: a coarser or finer solve, marched along to estimate the error of the risk.

        Raises:
            InputError: on every rank, for a problem that does not fit here.
        """
        self.comm = comm
        self.problem = problem
        self.companion = companion
        self.flow = _flow(comm, problem)
        self.reporter = Reporter(self.flow, _testing(comm, problem), problem.task.classification)

        self.cautions: list[str] = []  # lines for the user, the same on every rank
        state, self.initial_error = initial_state(self.flow.discretisations, self.cautions.append)
        self._first_half_errors = self._half_errors(state) if companion is not None else []
        self.stepper = _stepper(comm, problem, self.flow, state)
        self._started = wall.perf_counter()
        self._output = self._estimate = 0.0

    @property
    def unknowns(self) -> int:
        """Density unknowns of all layers and families."""
        return sum(each.unknowns for each in self.flow.discretisations)

    def run(
        self,
        times: Sequence[float],
        reported: float | None = None,
        watch: Watch | None = None,
        gap: Certified = "auto",
    ) -> Iterator[Report]:
        """Solve to the last of the times, yielding a report at τ = 0 and at each of them.

        Args:
            times: of the reports, increasing, as `mfpde.runs.problem_setup.report_times` has them.
            reported: τ of the last report of a run that is continued; only later ones are yielded.
            watch: polled once a step, and called when the run pauses.
            gap: the reports that have it, as in `output.gap`.

        Raises:
            ComputationError: after the report of the last sound state; also when the estimated error of the risk
                is above `time.risk_error`.
        """
        self.stepper.resolve()
        over = self.stepper.is_stationary()
        if reported is None:
            first = self.report(self.stepper.state, certified=self._is_certified(gap, 0, last=over))
            yield from self._observed(first)
            self._check_error(first)
            reported = first.tau
            del first  # its snapshots are several copies of the density

        if over and same_time(reported, self.stepper.tau):
            return
        for number, target in enumerate(times, start=1):
            if not _before(reported, target) or not self._can_reach(target):
                continue

            try:
                state = self._march(target, watch)
                over = self.stepper.is_stationary() and (state is None or same_time(state.tau, self.stepper.tau))
                certified = self._is_certified(gap, number, last=over or target == times[-1])
                report = self.report(self.stepper.state if state is None else state, certified=certified)
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
            if over or state is None:
                return

    @property
    def few_passes(self) -> bool:
        """Has training by steps passed over the samples so seldom that the gap would be most of the work?"""
        descent = self.problem.descent
        if descent is None:
            return False
        return self.stepper.steps * descent.batches.taken < _FEW_PASSES * descent.batches.samples

    def _is_certified(self, gap: Certified, number: int, *, last: bool) -> bool:
        """Has a report the gap?"""
        if gap != "auto":
            return gap == "always"
        if self.problem.descent is not None:
            return last and not self.few_passes
        return last or (number > 0 and number % _CERTIFIED == 0)

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
        horizon = self.problem.horizon
        limit = "horizon" if tau >= horizon or same_time(tau, horizon) else STEPS
        if self.problem.descent is not None:
            limit = "steps"
        return {"ended": limit if stationary is None else "stationary", "stationary": stationary}

    def _can_reach(self, target: float) -> bool:
        return self.stepper.knows(target) or _before(self.stepper.tau, target)

    def _march(self, target: float, watch: Watch | None) -> State | None:
        """The state at the target, pausing on the way when asked, and the companion at its τ.

        Returns:
            None when the march ended before the target.
        """
        state = march(self.stepper, target, watch)
        if self.companion is not None:
            start = wall.perf_counter()
            self.companion.march(self.stepper.tau if state is None else state.tau, watch)
            self._estimate += wall.perf_counter() - start
        return state

    def state_dict(self) -> StateDict:
        """All that determines the future, for a checkpoint."""
        seconds = wall.perf_counter() - self._started
        clock = {"seconds": seconds, "output": self._output, "estimate": self._estimate, **asdict(self.flow.clock)}
        companion = {} if self.companion is None else {"companion": self.companion.state_dict()}
        state = saved_state(self.flow.discretisations, self.stepper.state)
        return {**state, **self.stepper.state_dict(), "clock": clock, **companion}

    def load_state_dict(self, saved: StateDict) -> None:
        """Go on from what `state_dict` gave, on any number of ranks; collective.

        Raises:
            InputError: on every rank, for what does not fit here; other exceptions where `checkpoint_errors` is not.
        """
        if self.companion is not None:
            self.companion.load_state_dict(saved["companion"])
        state = loaded_state(self.comm, self.flow.discretisations, saved, self.stepper.state)
        agree(lambda: self.stepper.load_state_dict(saved, state))  # a preconditioner may fail on some ranks alone

        clock = dict(saved["clock"])
        self._started -= clock.pop("seconds")
        self._output = clock.pop("output")
        self._estimate = clock.pop("estimate")
        self.flow.clock = Clock(**clock)

    def report(self, state: State, certified: bool = True) -> Report:
        """The report of a state; collective. Snapshots are complete on rank 0, or in pieces.

        Args:
            state: the state.
            certified: compute the gap as well, which a run does at every tenth report and at its end.

        Raises:
            ComputationError: on every rank alike, for a state that is not finite or has lost mass.
        """
        start, elsewhere = wall.perf_counter(), self.flow.clock.counted + self._estimate
        potential = self.flow.potential(state)
        error = self._risk_error(state, potential.outcome.risk)
        march = March(
            count=self.stepper.steps,
            size=self.stepper.step_size,
            steps=self.stepper.history,
            risk_error=error,
            certified=certified,
            batch_risk=self.stepper.batch_risk if isinstance(self.stepper, DescentStepper) else None,
        )
        report = self.reporter.report(state, potential, march)

        self._output += wall.perf_counter() - start - (self.flow.clock.counted + self._estimate - elsewhere)
        return replace(report, timings=self._timings(state.tau))

    def close(self) -> None:
        """Free the PETSc objects; collective."""
        self.stepper.close()
        self.flow.close()

    def _risk_error(self, state: State, risk: float) -> float:
        if self.companion is None:
            return float("nan")
        start = wall.perf_counter()
        growth = max(now - first for now, first in zip(self._half_errors(state), self._first_half_errors, strict=True))
        error = self.companion.error(state.tau, risk, resolved=not growth > _UNRESOLVED)
        self.cautions += self.companion.news(state.tau)
        error += self._rounding_error(state, risk)
        self._estimate += wall.perf_counter() - start
        return error

    def _rounding_error(self, state: State, risk: float) -> float:
        """How far a risk in single precision is from that of the same state in double precision."""
        if not self.flow.backprop.single:
            return 0.0
        theta, weights, _ = self.flow.moments(state)
        return abs(risk - self.flow.backprop.evaluate(theta, weights).risk)

    def _half_errors(self, state: State) -> list[float]:
        """Per discretisation, see `Discretisation.half_error`."""
        return [each.half_error(part) for each, part in zip(self.flow.discretisations, state.parts, strict=True)]

    def _check_error(self, report: Report) -> None:
        error, most = report.history["risk_error"], self.problem.time.risk_error
        if self.companion is not None and self.companion.needed and error > most:
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
            "right_hand_sides": clock.evaluations,
            "passes": clock.passes,
            "unknowns_per_second": clock.evaluations * self.unknowns / (seconds - self._estimate),
            "sweep": clock.sweep,
            "transport": clock.transport,
            "output": self._output,
            "estimate": self._estimate,
        }


def _before(one: float, other: float) -> bool:
    """Is one τ before the other, by more than rounding?"""
    return one < other and not same_time(one, other)


def _flow(comm: MPI.Intracomm, problem: Problem) -> GradientFlow:
    """The right-hand side on the discretisations of the problem; collective."""
    model, task, training = problem.model, problem.task, problem.training
    nodes = (*build_moving_nodes(comm, problem), *build_sampled_nodes(comm, problem))
    backprop = Backprop(comm, model, task.tokens, task.targets, single=training.precision == "single")
    if len(nodes) == len(model.families):
        return GradientFlow(model, nodes, backprop, training.weight_decay, replicas=problem.replicas)

    # DOLFINx takes a fifth of the start, and only meshes need it.
    from mfpde.limit.diffusive_flow import build_diffusive_flow  # noqa: PLC0415
    from mfpde.limit.fem.finite_elements import build_finite_elements  # noqa: PLC0415

    elements = build_finite_elements(comm, problem)
    if training.temperature == 0.0:
        return GradientFlow(model, (*elements, *nodes), backprop, training.weight_decay)
    return build_diffusive_flow(problem, elements, backprop)


def _testing(comm: MPI.Intracomm, problem: Problem) -> Backprop | None:
    """Passes over the test samples, None where the task has none."""
    model, task = problem.model, problem.task
    if task.test_tokens is None or task.test_targets is None:
        return None
    return Backprop(comm, model, task.test_tokens, task.test_targets)


def _stepper(comm: MPI.Intracomm, problem: Problem, flow: GradientFlow, state: State) -> AnyStepper:
    time, training = problem.time, problem.training
    if problem.descent is not None:
        return DescentStepper(comm, flow, state, problem.descent, problem.task)
    rest = (state, time, problem.horizon, training.stationary)
    if training.temperature > 0.0:
        from mfpde.limit.timestepping.imex import ImexStepper  # noqa: PLC0415  (needs DOLFINx)

        return ImexStepper(comm, flow, *rest)
    if time.step is None and all(each.cfl_bound for each in flow.discretisations):
        return MultirateStepper(comm, flow, *rest)
    if time.step is None and not any(each.cfl_bound for each in flow.discretisations):
        stepper = PredictorCorrectorStepper(comm, flow, *rest)
        stepper.first_motion *= problem.first
        return stepper
    return Stepper(comm, flow, *rest)
