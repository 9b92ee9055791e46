"""Are the numbers of a right-hand side finite? If not, the message names the family, the layer and, if it can, θ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import ComputationError
from mfpde.limit.backprop import Backprop, Outcome
from mfpde.problem.transformer import Transformer

Array = NDArray[np.float64]


def check_finite(backprop: Backprop, tau: float, outcome: Outcome, theta: Sequence[Array]) -> None:
    """Are risk and gradient finite?

    Raises:
        ComputationError: on every rank, if not; it names a θ at which an update is not, where there is one.
    """
    if np.isfinite(outcome.risk) and all(np.isfinite(g).all() for g in outcome.slopes):
        return

    for family, points in zip(backprop.model.families, theta, strict=True):
        place = backprop.not_finite(family, points)
        if place is not None:
            at = np.array2string(points[place], precision=4, separator=", ")
            raise ComputationError(
                f"not finite at tau = {tau:.6g}: the update of family {family.name!r} in layer {place[0]} at "
                f"theta = {at}; the mesh holds this point, so that the update must be finite there"
            )

    _check_tables(backprop.model, tau, outcome.square)
    if not np.isfinite(outcome.risk):
        raise ComputationError(
            f"not finite at tau = {tau:.6g}: the risk is {outcome.risk}, though densities, and the updates of the "
            "first sample, are finite; is the readout finite for every sample?"
        )
    _check_tables(backprop.model, tau, outcome.slopes)


def _check_tables(model: Transformer, tau: float, tables: Sequence[Array]) -> None:
    """Is a table per family, (L, …), finite in every layer?"""
    for family, table in zip(model.families, tables, strict=True):
        bad = ~np.isfinite(table.reshape(model.layers, -1)).all(axis=1)
        if bad.any():
            raise ComputationError(f"not finite at tau = {tau:.6g}, family {family.name!r}, layer {int(bad.argmax())}")
