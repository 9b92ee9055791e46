"""The gradient flow at a temperature: β⁻¹ Δ_θ ρ beside the transport, and the entropy in the energy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.backprop import Backprop
from mfpde.limit.diffusion.diffusion import Diffusion
from mfpde.limit.diffusion.entropy import entropy_rate
from mfpde.limit.fem.finite_elements import FiniteElements
from mfpde.limit.gradient_flow import GradientFlow, Potential, Rate
from mfpde.limit.specification import Problem
from mfpde.limit.state import FemPart, State
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.parallel.exact_sum import share_of

Array = NDArray[np.float64]
_SOLVED = 1e-3  # error of a linear solve, relative to the tolerance of a step
_FULLY_SOLVED = 1e-12  # and at fixed steps, so that what is left of it does not depend on the ranks


@dataclass
class DiffusiveFlow(GradientFlow):
    """The Wasserstein gradient flow of Q = R + penalty + β⁻¹ entropy, with all densities on meshes.

    Attributes:
        operators: the diffusion on each mesh.
    """

    discretisations: tuple[FiniteElements, ...]
    operators: tuple[Diffusion, ...] = ()

    @property
    def temperature(self) -> float:
        """β⁻¹."""
        return self.operators[0].temperature

    def diffuse(self, state: State) -> tuple[Array, ...]:
        """β⁻¹ Δ_θ ρ on every mesh in its frame, (owned, i, b); one neighbour exchange per mesh."""
        start = time.perf_counter()
        parts = zip(self.operators, _on_meshes(state), strict=True)
        rates = tuple(operator.rate(part.density, part.frame.metric) for operator, part in parts)
        self.clock.transport += time.perf_counter() - start
        return rates

    def total(self, state: State, potential: Potential) -> Rate:
        """∂_τ of a state whose potential is known, with diffusion."""
        rate = self.transport(state, potential)
        pairs = zip(_on_meshes(rate), self.diffuse(state), strict=True)
        return replace(rate, parts=tuple(replace(part, density=part.density + added) for part, added in pairs))

    def implicit(self, right: State, step: float, guess: State) -> State:
        """The state with densities u, u − t β⁻¹ Δ_θ u = ρ of the state `right`, in its frames; collective.

        Args:
            right: the right side, and the frames.
            step: t.
            guess: of u.

        Raises:
            ComputationError: on every rank alike, when a linear system is not solved.
        """
        start = time.perf_counter()
        parts = zip(self.operators, _on_meshes(right), _on_meshes(guess), strict=True)
        solved = tuple(
            FemPart(operator.solve(part.density, part.frame.metric, step, near.density), part.frame)
            for operator, part, near in parts
        )

        self.clock.transport += time.perf_counter() - start
        return State(right.tau, solved)

    def energy_rate(self, state: State, potential: Potential, rate: Rate) -> float:
        """See `GradientFlow.energy_rate`; with β⁻¹/L Σ dS/dτ, for one more reduction."""
        parts = zip(self.discretisations, _on_meshes(state), _on_meshes(rate), strict=True)
        shares = [
            share_of(entropy_rate(each.space, part.density, part.frame, change.density, change.frame), axes=(0,))
            for each, part, change in parts
        ]
        rest = super().energy_rate(state, potential, rate)
        entropy = sum(float(s.sum()) for s in self.backprop.sum_over_ranks(shares))
        return rest + self.temperature / self.model.layers * entropy

    def state_dict(self) -> list[StateDict | None]:
        """What the next solution of `implicit` depends on besides its arguments, per mesh."""
        return [operator.state_dict() for operator in self.operators]

    def load_state_dict(self, saved: Sequence[StateDict | None]) -> None:
        """Rebuild the preconditioners, so that resuming is bitwise identical."""
        for operator, known in zip(self.operators, saved, strict=True):
            operator.load_state_dict(known)

    def close(self) -> None:
        """Free the PETSc objects; collective."""
        for operator in self.operators:
            operator.close()


def _on_meshes(of: State | Rate) -> tuple[FemPart, ...]:
    """Its parts: there are no others at a temperature."""
    return cast("tuple[FemPart, ...]", of.parts)


def build_diffusive_flow(problem: Problem, elements: tuple[FiniteElements, ...], backprop: Backprop) -> DiffusiveFlow:
    """The flow of a problem with a temperature, on the meshes of all of its families; collective."""
    time, training = problem.time, problem.training
    tolerance = _FULLY_SOLVED if time.step is not None else max(_SOLVED * time.relative_tolerance, _FULLY_SOLVED)
    operators = tuple(Diffusion(each.transport, training.temperature, tolerance) for each in elements)
    return DiffusiveFlow(problem.model, elements, backprop, training.weight_decay, operators=operators)
