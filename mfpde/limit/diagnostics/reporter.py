"""Reports of a state: risk and energy, moments and indicators of every block, and snapshots of the densities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.limit.backprop import Backprop
from mfpde.limit.certificate.certificate import Certificate, certify
from mfpde.limit.diagnostics.block_diagnostics import BlockDiagnostics, totals
from mfpde.limit.gradient_flow import GradientFlow, Potential
from mfpde.limit.state import State
from mfpde.output.clouds.nodes import Nodes
from mfpde.output.fields.snapshot import Snapshot
from mfpde.output.records.report import BlockIndicators, BlockMoments, Report, Step

_LOST_MASS = 1e-6
# ∫max(−ρ, 0) above which a run ends. In fixed frames all runs that were right to a per cent stayed below 1.4, and all
# that passed 2 ended in nonsense; moving frames keep mean and covariance, and clusters with 8 had the energy to 1e-6.
_MOST_NEGATIVE, _MOST_NEGATIVE_MOVING = 2.0, 10.0
_REMEDY = 'take density.frame = "lagrangian", raise density.cells or density.degree, or lower time.step if it is given'


@dataclass(frozen=True)
class March:
    """How the state was reached: numbers of the stepper that a report repeats.

    Attributes:
        count: accepted steps since the start.
        size: Δ of the last one.
        steps: all trial steps since the last report.
        risk_error: the estimated error of the risk, nan where it is not estimated.
        certified: compute the gap: a pass over the samples, and the potential at many points.
        batch_risk: of training by steps R of the last batch, before its step; None for the flow.
    """

    count: int
    size: float
    steps: Sequence[Step]
    risk_error: float
    certified: bool
    batch_risk: float | None = None


@dataclass(frozen=True)
class Reporter:
    """Makes reports of states; `test` passes over the test samples, if the task has any."""

    flow: GradientFlow
    test: Backprop | None
    classification: bool

    def report(self, state: State, potential: Potential, march: March) -> Report:
        """The report without timings; collective. Snapshots are complete on rank 0, or in pieces.

        Raises:
            ComputationError: on every rank alike, for a state that has lost mass, or that is far from any density.
        """
        blocks = [each.diagnose(part, values) for each, part, values in self.flow.each(state, potential)]
        moments = tuple(self._moments(blocks))
        indicators = tuple(self._indicators(blocks))
        self._check(state.tau, moments, indicators)
        certificate = certify(self.flow, state, potential) if march.certified else None

        return Report(
            tau=state.tau,
            history=self._history(state, potential, blocks, certificate, march),
            moments=moments,
            indicators=indicators,
            gaps=tuple((b.family, b.layer, b.gap) for b in (certificate.blocks if certificate else ())),
            gap_margin=certificate.margin if certificate else float("nan"),
            steps=tuple(march.steps),
            timings={},
            snapshots=tuple(self._snapshots(state, potential)),
            clouds=tuple(self._clouds(state, potential)),
            singular_values=tuple(
                (name, layer, found.singular_values[b])
                for name, layer, found, b in self._blocks(blocks)
                if len(found.singular_values)
            ),
        )

    def _history(
        self,
        state: State,
        potential: Potential,
        blocks: list[BlockDiagnostics],
        certificate: Certificate | None,
        march: March,
    ) -> dict[str, float]:
        densities = totals(self.flow.model.layers, blocks)
        temperature = self.flow.temperature
        heat = temperature * densities["entropy"] if temperature > 0.0 else 0.0  # clouds of nodes have no entropy
        energy_rate = self.flow.energy_rate(state, potential, self.flow.total(state, potential))
        test = None
        if self.test is not None:
            points, weights, _ = self.flow.moments(state)
            test = self.test.evaluate(points, weights)

        values = {
            "tau": state.tau,
            "risk": potential.outcome.risk,
            "penalty": potential.penalty,
            "energy": potential.energy + heat,
            **densities,
            "energy_remainder": energy_rate + densities["descent"],
            "gap": certificate.gap if certificate else float("nan"),
            "risk_error": march.risk_error,
            "risk_std": _standard_error(potential.outcome.risks),
            "steps": march.count,
            "step_size": march.size,
            "test_risk": test.risk if test else float("nan"),
        }
        if self.classification:
            values["accuracy"] = potential.outcome.accuracy
            values["test_accuracy"] = test.accuracy if test else float("nan")
        if march.batch_risk is not None:
            values |= {"step": march.count, "learning_rate": march.size, "batch_risk": march.batch_risk}
        return {name: values[name] for name in history_columns(self.classification, march.batch_risk is not None)}

    def _moments(self, diagnostics: list[BlockDiagnostics]) -> Iterator[BlockMoments]:
        for name, layer, found, b in self._blocks(diagnostics):
            yield BlockMoments(name, layer, float(found.mass[b]), found.mean[b], found.covariance[b])

    def _indicators(self, diagnostics: list[BlockDiagnostics]) -> Iterator[BlockIndicators]:
        for name, layer, found, b in self._blocks(diagnostics):
            yield BlockIndicators(
                family=name,
                layer=layer,
                boundary_mass=float(found.boundary_mass[b]),
                resolution=float(found.resolution[b]),
                min_density=float(found.min_density[b]),
                negative_mass=float(found.negative_mass[b]),
                mass_error=abs(float(found.mass[b]) - 1.0),
            )

    def _blocks(self, diagnostics: list[BlockDiagnostics]) -> Iterator[tuple[str, int, BlockDiagnostics, int]]:
        """Family, layer, the diagnostics of its discretisation and its block there, in the model's order."""
        layers = self.flow.model.layers
        for number, member, name in self._families():
            for layer in range(layers):
                yield name, layer, diagnostics[number], member * layers + layer

    def _families(self) -> Iterator[tuple[int, int, str]]:
        """Of every family in the model's order, the number of its discretisation, its own there, and its name."""
        places = [each.members for each in self.flow.discretisations]
        where = {place: (n, m) for n, members in enumerate(places) for m, place in enumerate(members)}
        for place, family in enumerate(self.flow.model.families):
            yield *where[place], family.name

    def _check(self, tau: float, moments: Iterable[BlockMoments], indicators: Iterable[BlockIndicators]) -> None:
        """Each block has its mass, and is not too far from a density for its moments to mean anything."""
        resting = {name for number, _, name in self._families() if not self.flow.discretisations[number].follows}
        for block, signs in zip(moments, indicators, strict=True):
            check_mass(tau, block)
            check_sign(tau, block, signs.negative_mass, moves=block.family not in resting)

    def _snapshots(self, state: State, potential: Potential) -> Iterator[Snapshot]:
        parts = list(self.flow.each(state, potential))
        for number, member, _ in self._families():
            discretisation, part, values = parts[number]
            snapshot = discretisation.snapshot(member, part, values)
            if snapshot is not None:
                yield snapshot

    def _clouds(self, state: State, potential: Potential) -> Iterator[Nodes]:
        parts = list(self.flow.each(state, potential))
        for number, _, _ in self._families():
            discretisation, part, values = parts[number]
            nodes = discretisation.cloud(part, values, self.flow.weight_decay)
            if nodes is not None:
                yield nodes


def check_mass(tau: float, block: BlockMoments) -> None:
    """The scheme keeps every block's mass to rounding as long as it is stable.

    Raises:
        ComputationError: when it has not.
    """
    if not abs(block.mass - 1.0) < _LOST_MASS:
        raise ComputationError(f"mass lost at {_where(tau, block)}: it is {block.mass:.6g}, not 1")


def check_sign(tau: float, block: BlockMoments, negative_mass: float, *, moves: bool) -> None:
    """Is the discrete function still an approximation of a density?

    Undershoots do no harm as long as the moments that the Transformer sees are right. They are wrong where ∫ρ|θ|², a
    mean of squares, is negative, and where the negative part outweighs the density.

    Args:
        tau: τ.
        block: mass, mean and covariance of one layer's density of one family.
        negative_mass: ∫max(−ρ, 0).
        moves: does its frame?

    Raises:
        ComputationError: when it does not; naming the remedy.
    """
    square = float(np.trace(block.covariance) + block.mean @ block.mean)
    if square < 0.0:
        raise ComputationError(
            f"no longer a density at {_where(tau, block)}: the mean of |theta|^2 is {square:.3g}, and the penalty with "
            f"it means nothing; {_REMEDY}"
        )
    most = _MOST_NEGATIVE_MOVING if moves else _MOST_NEGATIVE
    if negative_mass > most:
        raise ComputationError(
            f"no longer a density at {_where(tau, block)}: its negative mass is {negative_mass:.3g}, above {most:g}, "
            f"and the risk is not to be trusted; {_REMEDY}"
        )


def _where(tau: float, block: BlockMoments) -> str:
    return f"tau = {tau:.6g}, family {block.family!r}, layer {block.layer}"


def _standard_error(risks: NDArray[np.float64]) -> float:
    """Of the mean of independent replicas; nan where there is one alone, and nothing is random."""
    return float(risks.std(ddof=1) / np.sqrt(len(risks))) if len(risks) > 1 else float("nan")


def history_columns(classification: bool, by_steps: bool = False) -> list[str]:
    """The columns of history.csv in their order; docs/reading.md explains them."""
    columns = [
        "tau", "risk", "penalty", "entropy", "energy", "dissipation", "gap", "mass_error", "min_density",
        "negative_mass", "boundary_mass", "energy_remainder", "risk_error", "risk_std", "steps", "step_size",
        "test_risk",
    ]  # fmt: skip
    if classification:
        columns += ["accuracy", "test_accuracy"]
    return [*columns, "step", "learning_rate", "batch_risk"] if by_steps else columns
