"""Which order, which corrector and which step the next predictor–corrector step has: a policy and its counters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mfpde.inputs import real, truth, whole
from mfpde.output.checkpoint.state_dict import StateDict

_MOST = 2**31 - 1


@dataclass(frozen=True)
class Plan:
    """Of the next step.

    Attributes:
        order: points of the polynomial that predicts the potential.
        implicit: iterate the corrector to its fixed point?
        series: accepted steps since that last changed.
        patience: explicit steps before implicit ones are tried.
        advanced: τ gained in that series.
        passes: over the samples in it.
        explicit_rate: τ gained per pass by explicit steps before implicit ones were tried.
        rejected: was the last trial?
        substeps: of the nodes in a given potential.
    """

    order: int = 1
    implicit: bool = False
    series: int = 0
    patience: int = 8
    advanced: float = 0.0
    passes: int = 0
    explicit_rate: float = 0.0
    rejected: bool = False
    substeps: int = 1

    @classmethod
    def restored(cls, saved: StateDict) -> Plan:
        """From its fields, as a checkpoint has them.

        Raises:
            InputError: for values that cannot be.
        """
        return cls(
            order=whole("order", saved["order"], 1, _MOST),
            implicit=truth("implicit", saved["implicit"]),
            series=whole("series", saved["series"], 0, _MOST),
            patience=whole("patience", saved["patience"], 1, _MOST),
            advanced=real("advanced", saved["advanced"], least=0.0),
            passes=whole("passes", saved["passes"], 0, _MOST),
            explicit_rate=real("explicit_rate", saved["explicit_rate"], least=0.0),
            rejected=truth("rejected", saved["rejected"]),
            substeps=whole("substeps", saved["substeps"], 1, _MOST),
        )


@dataclass(frozen=True)
class OrderControl:
    """Orders and correctors by the step that each allows.

    An implicit corrector needs one or two passes more than an explicit one. So implicit steps are tried in series, and
    kept where they gain more τ per pass. They are left again where they do not, or where the potential hardly answers
    the nodes: where a pass changes by far less than its guess does.

    Attributes:
        most: the highest order.
        caution: of the step that would meet the tolerance exactly.
        least_factor: by which a rejected step is followed by a shorter one, at least.
        most_factor: by which an accepted step is followed by a longer one, at most.
        judged_after: implicit steps of a series before it is judged.
        lost: share of the explicit gain below which a long series is given up.
        mild: change of a pass over that of its guess below which steps are explicit again.
        shortest: series of explicit steps.
        longest: it is doubled up to this while implicit ones do not pay.
    """

    most: int = 5
    caution: float = 0.85
    least_factor: float = 0.2
    most_factor: float = 2.0
    judged_after: int = 6
    lost: float = 0.5
    mild: float = 0.05
    shortest: int = 8
    longest: int = 128

    def after(
        self, plan: Plan, sizes: Sequence[float], error: float, tolerance: float, accepted: bool
    ) -> tuple[Plan, float]:
        """The plan of the next step, and by which factor that is longer than the last.

        Args:
            plan: of the last step.
            sizes: of the errors of prediction by 1, 2, … points, up to a factor that they have in common.
            error: of the last step, of order `plan.order`.
            tolerance: of it.
            accepted: was it?
        """
        used = sizes[plan.order - 1]
        errors = [error * size / max(used, 1e-300) for size in sizes]
        most = min(len(sizes), self.most, plan.order + 1 if accepted else plan.order)
        orders = range(max(1, plan.order - 1), most + 1)
        factors = {order: self._factor(errors[order - 1], tolerance, order) for order in orders}

        best = max(factors, key=lambda order: factors[order] * (1.0 if order == plan.order else 0.95))
        limit = self.most_factor if accepted and not plan.rejected else 1.0
        factor = float(np.clip(factors[best], self.least_factor, limit))

        # At the start there is no value yet by which a higher order could be judged.
        if accepted and plan.order == len(sizes) and plan.order < self.most and best == plan.order:
            best = plan.order + 1
        return replace(plan, order=best, rejected=not accepted), factor

    def corrector(self, plan: Plan, step: float, passes: int, proposed: float, feedback: float) -> Plan:
        """The plan after an accepted step, with the corrector that pays.

        Args:
            plan: of the step.
            step: Δ.
            passes: since the last accepted step.
            proposed: the step after it.
            feedback: change of a pass over that of its guess, of an implicit step.
        """
        series, advanced, passes = plan.series + 1, plan.advanced + step, plan.passes + passes
        plan = replace(plan, series=series, advanced=advanced, passes=passes)
        if not plan.implicit:
            return self._begun(plan, implicit=True) if series >= plan.patience else plan

        if series < self.judged_after:
            return plan
        rate = proposed * series / passes
        if series == self.judged_after and rate < plan.explicit_rate:
            return replace(self._begun(plan, implicit=False), patience=min(2 * plan.patience, self.longest))
        if feedback < self.mild or rate < self.lost * plan.explicit_rate:
            return replace(self._begun(plan, implicit=False), patience=self.shortest)
        return replace(plan, patience=self.shortest)

    def _begun(self, plan: Plan, implicit: bool) -> Plan:
        rate = plan.explicit_rate if plan.implicit else plan.advanced / plan.passes
        return replace(plan, implicit=implicit, series=0, advanced=0.0, passes=0, explicit_rate=rate)

    def failed(self, plan: Plan) -> Plan:
        """The plan after a step without numbers, or whose corrector did not converge."""
        return replace(plan, order=max(1, plan.order - 1), rejected=True)

    def _factor(self, error: float, tolerance: float, order: int) -> float:
        return float(self.caution * (tolerance / max(error, 1e-300)) ** (1.0 / (order + 1)))
