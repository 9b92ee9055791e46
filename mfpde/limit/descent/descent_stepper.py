"""Training by steps in the limit: each node carries the state of the method, and moves as a unit would.

A step passes over its batch with the nodes' masses, and takes the gradient of the batch's potential at every node,

    g_j = ∇V_B(X_j) without weight decay,    s_j ← Ψ(s_j, g_j),    X_j ← X_j − ε (D(s_j) + λ X_j).

That is what finite Transformers do whose units start at the nodes, with the masses for their weights: the law of (θ, s)
is pushed forward, exact in mass. Nothing is in error but the nodes, and the table where the Transformer is evaluated on
one. Source: docs/training.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.inputs import whole
from mfpde.limit.backprop import Backprop, Outcome
from mfpde.limit.descent.optimiser_state import by_family, flat, loaded_optimiser, saved_optimiser
from mfpde.limit.gradient_flow import GradientFlow
from mfpde.limit.lagrangian.node_sums import summed, weighted
from mfpde.limit.state import NodesPart, State
from mfpde.limit.timestepping.step_control import same_time
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.output.records.report import Step
from mfpde.problem.descent import Descent
from mfpde.problem.tasks import Task

Array = NDArray[np.float64]
_REFINED = 6  # times that tables are changed at one state
_DIVERGED, _LEAST_RISK = 1e4, 1e-4  # growth of a batch's risk that no training comes back from; what counts as no risk
_REMEDY = "a smaller training.learning_rate, a longer training.warmup or training.clip may help"


class DescentStepper:
    """Advances a state by the steps of a method; its methods are those of `timestepping.stepper.Stepper`.

    Attributes:
        flow: whose discretisations are nodes.
        descent: the method.
        good: the last state from which a finite gradient was computed.
        steps: since the start.
        step_size: ε of the last of them.
        batch_risk: R of its batch, before the step.
        watch: called with the new τ after every step, on the ranks where it is set.
        horizon: τ of the end.
        stationary_value: None, as a method ends after its steps.
        poll: called once a step, on every rank; a pause is requested where the largest of the values is above 0.
        pause_request: that value when `advance` has paused for it, else 0.
    """

    name = "training by steps"
    dense = False
    stationary_value: float | None = None

    def __init__(self, comm: MPI.Intracomm, flow: GradientFlow, state: State, descent: Descent, task: Task) -> None:
        self.flow = flow
        self.descent = descent
        self.good = state
        self.steps = 0
        self.step_size = self.batch_risk = self._first_risk = float("nan")
        self.watch: Callable[[float], None] | None = None
        self.horizon = float(descent.taus[-1])
        self.poll: Callable[[], float] = float
        self.pause_request = 0.0

        self._comm = comm
        self._task = task
        self._state = state
        self._history: list[Step] = []
        self._whole = descent.batches.taken == task.samples
        self._backprop = flow.backprop if self._whole else self._batched()
        self._shapes = [part.position.shape for part in _nodes(state)]
        self._optimiser = descent.transformation.init(self._parameters(state))

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def tau(self) -> float:
        """τ of it, the sum of the learning rates so far."""
        return self._state.tau

    @property
    def history(self) -> tuple[Step, ...]:
        """All steps since `forget` was last called."""
        return tuple(self._history)

    def forget(self) -> None:
        """The history has been written down."""
        self._history = []

    def knows(self, tau: float) -> bool:
        """Is it the present τ?"""
        return same_time(self.tau, tau)

    def at(self, tau: float) -> State:  # noqa: ARG002
        """The state at a τ for which `knows` is true."""
        return self.state

    def is_at_or_beyond(self, tau: float) -> bool:
        """Has it come to τ, but for rounding?"""
        return same_time(self.tau, tau) or self.tau > tau

    def is_stationary(self) -> bool:
        """A method ends after its steps."""
        return False

    def resolve(self) -> None:
        """Give an initial state tables as fine as its potential asks for, before it is reported on; collective.

        Raises:
            ComputationError: when the numbers there are not finite.
        """
        if self.flow.tabulated and self.steps == 0:
            self._state, _ = self._gradient_of_batch()

    def advance(self, target: float) -> bool:
        """Step to τ = target.

        Returns:
            False when `poll` paused it; another call goes on as if there had been no pause.

        Raises:
            ComputationError: not finite; `good` is then the last state that was sound.
        """
        self.pause_request = 0.0
        while not self.is_at_or_beyond(target):
            self.pause_request = self._comm.allreduce(self.poll(), op=MPI.MAX)
            if self.pause_request:
                return False
            self._step()
        return True

    def _step(self) -> None:
        """One step of the method; collective."""
        begin, outcome = self._gradient_of_batch()
        self._check_growth(outcome.risk)
        self.good, self.batch_risk = begin, outcome.risk

        parameters = self._parameters(begin)
        gradient = flat(self._clipped(begin, self._gradients(begin, outcome)))

        # Operation by operation: compiled as one, what is rounded when would depend on how many nodes a rank has.
        with jax.disable_jit():
            change, self._optimiser = self.descent.transformation.update(gradient, self._optimiser, parameters)
        moved = by_family(parameters + np.asarray(change), self._shapes)

        self.step_size = float(self.descent.rates[self.steps])
        self._history.append(Step(begin.tau, self.step_size, float("nan"), accepted=True, bound="rate"))
        self.steps += 1
        parts = [replace(part, position=position) for part, position in zip(_nodes(begin), moved, strict=True)]
        self._state = State(float(self.descent.taus[self.steps]), tuple(parts))
        if self.watch is not None:
            self.watch(self.tau)

    def _gradient_of_batch(self) -> tuple[State, Outcome]:
        """The present state with tables as its potential asks for, and the pass over the batch of the step there.

        Tables that have become finer stay so: batches differ, and each size of table is compiled for.
        """
        if not self._whole:
            chosen = self.descent.batches.at(self.steps)
            self._backprop.deal(self._task.tokens[chosen], self._task.targets[chosen])

        state = self.flow.regrid(self._state)
        for _ in range(_REFINED):
            outcome = self._passed(state)
            fine = self.flow.resolved(state, outcome.slopes)
            if not _is_finer(fine, state):
                break
            state = fine
        return state, outcome

    def _passed(self, state: State) -> Outcome:
        try:
            return self.flow.outcome(state, self._backprop)
        except ComputationError as error:
            raise ComputationError(f"{error}; {_REMEDY}") from error

    def _check_growth(self, found: float) -> None:
        """Steps that are too long amplify themselves, long before their numbers are no longer finite."""
        if self.steps == 0:
            self._first_risk = found
        if found > _DIVERGED * max(self._first_risk, _LEAST_RISK):
            raise ComputationError(
                f"training diverges: the risk of the batch is {found:.3g} before step {self.steps + 1}, and was "
                f"{self._first_risk:.3g} at the start; {_REMEDY}"
            )

    def _gradients(self, state: State, outcome: Outcome) -> tuple[Array, ...]:
        """g of this rank's nodes, per family (L, n, d)."""
        pairs = zip(self.flow.discretisations, state.parts, strict=True)
        return tuple(each.potential(part, outcome.slopes, 0.0).slope for each, part in pairs)

    def _clipped(self, state: State, gradients: tuple[Array, ...]) -> tuple[Array, ...]:
        """The gradients, of each replica scaled down to the largest norm; collective where there is one."""
        if self.descent.settings.clip is None:
            return gradients
        shares = [
            weighted(part.mass, (gradient**2).sum(axis=2, keepdims=True))
            for part, gradient in zip(_nodes(state), gradients, strict=True)
        ]
        squares = np.sum([each[:, 0] for each in summed(self._comm, shares)], axis=0)

        depth = self.flow.model.layers
        norms = np.sqrt(squares.reshape(-1, depth).mean(axis=1))
        factors = np.repeat([self.descent.clip_factor(float(norm)) for norm in norms], depth)
        return tuple(factors[:, None, None] * gradient for gradient in gradients)

    def _batched(self) -> Backprop:
        """Passes over one batch at a time."""
        first = self.descent.batches.at(0)
        whole_set = self.flow.backprop
        return Backprop(
            self._comm, self.flow.model, self._task.tokens[first], self._task.targets[first], single=whole_set.single
        )

    def _parameters(self, state: State) -> Array:
        """Of all nodes of this rank, (P,)."""
        return flat([part.position for part in _nodes(state)])

    def state_dict(self) -> StateDict:
        """What determines the steps to come besides the state, and the counters."""
        return {
            "steps": self.steps,
            "step_size": self.step_size,
            "batch_risk": self.batch_risk,
            "first_risk": self._first_risk,
            "optimiser": saved_optimiser(self.flow.discretisations, self._optimiser, self._shapes),
            "history": [asdict(step) for step in self._history],
        }

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """Go on from what `state_dict` gave at a state; collective.

        Raises:
            InputError: for values that cannot be.
        """
        self.good = self._state = state
        self.steps = whole("steps", saved["steps"], 0, self.descent.steps)
        self.step_size, self.batch_risk = float(saved["step_size"]), float(saved["batch_risk"])
        self._first_risk = float(saved["first_risk"])
        self._optimiser = loaded_optimiser(
            self._comm, self.flow.discretisations, saved["optimiser"], self._optimiser, self._shapes
        )
        self._history = [Step(**step) for step in saved["history"]]

    def close(self) -> None:
        """Nothing of it belongs to PETSc."""


def _nodes(state: State) -> list[NodesPart]:
    return [part for part in state.parts if isinstance(part, NodesPart)]


def _is_finer(new: State, old: State) -> bool:
    """Has a table more points, and none fewer?"""
    pairs: list[tuple[Any, Any]] = [(a.count, b.count) for a, b in zip(_nodes(new), _nodes(old), strict=True)]
    return any((a > b).any() for a, b in pairs) and all((a >= b).all() for a, b in pairs)
