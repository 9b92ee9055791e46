"""Are the numbers of a right-hand side finite? If not, the message names the family, the layer and, if it can, θ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.parallel.exact_sum import Share
from mfpde.problem.family import Family
from mfpde.problem.transformer import Transformer

if TYPE_CHECKING:
    from mfpde.limit.backprop import Backprop, Outcome

Array = NDArray[np.float64]


def check_finite(
    backprop: Backprop, tau: float, outcome: Outcome, points: Sequence[Array], weights: Sequence[Share]
) -> None:
    """Are risk and gradient finite? Collective where they are not.

    Raises:
        ComputationError: on every rank, if not; it names a θ at which an update is not, where there is one.
    """
    if np.isfinite(outcome.risk) and all(np.isfinite(g).all() for g in outcome.slopes):
        return

    for family, q, moments in zip(backprop.model.families, points, backprop.sum_over_ranks(weights), strict=True):
        theta = _places(family, q, moments)
        place = backprop.not_finite(family, theta)
        if place is not None:
            at = np.array2string(theta[place], precision=4, separator=", ")
            layer = place[0] % backprop.model.layers
            raise ComputationError(
                f"not finite at tau = {tau:.6g}: the update of family {family.name!r} in layer {layer} at "
                f"theta = {at}; the mesh holds this point, so that the update must be finite there"
            )

    _check_tables(backprop.model, tau, outcome.square)
    if not np.isfinite(outcome.risk):
        raise ComputationError(
            f"not finite at tau = {tau:.6g}: the risk is {outcome.risk}, though densities, and the updates of the "
            "first sample, are finite; is the readout finite for every sample?"
        )
    _check_tables(backprop.model, tau, outcome.slopes)


def _places(family: Family, q: Array, moments: Array) -> Array:
    """θ (L, g, d) at which the update is evaluated: of nodes their own, and v = 1 at the points of a table."""
    if family.are_nodes(q):
        return moments.reshape(*q.shape[:2], family.dim + 1)[..., :-1]
    return family.join(q, np.ones((*q.shape[:2], len(family.linear))))


def _check_tables(model: Transformer, tau: float, tables: Sequence[Array]) -> None:
    """Is a table per family, (L, …), finite in every layer?"""
    for family, table in zip(model.families, tables, strict=True):
        bad = ~np.isfinite(table.reshape(len(table), -1)).all(axis=1)
        if bad.any():
            layer = int(bad.argmax()) % model.layers
            raise ComputationError(f"not finite at tau = {tau:.6g}, family {family.name!r}, layer {layer}")
