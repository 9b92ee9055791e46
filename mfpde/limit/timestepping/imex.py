"""Time steps with diffusion: the implicit–explicit pair ARK3(2)4L[2]SA of Kennedy and Carpenter.

    ∂_τ u = f(u) + g(u),    u_i = u + Δ Σ_{j<i} (aᴱ_ij f_j + aᴵ_ij g_j) + Δ γ g(u_i),    u⁺ = u + Δ Σ_j b_j (f_j + g_j)

with transport and frames in f, diffusion in g; order 3, and an embedded method of order 2 whose difference estimates
the error. Frames are moved by f alone: those of a stage are known before its linear system, in whose operator they are.
The implicit part is L-stable, so that diffusion does not bound the step; the CFL bound is that of f, whose stability
polynomial is 1 + z + z²/2 + z³/6 + z⁴/35. g_j is the operator applied to the stage, not the difference that the
linear system implies: so mass is kept to rounding, however well the system was solved.

The method is not strong-stability preserving and the interior penalty no M-matrix: no positivity survives.
Source: Kennedy & Carpenter, *Appl. Numer. Math.* 44 (2003), 139–181, coefficients in appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.limit.diffusive_flow import DiffusiveFlow
from mfpde.limit.gradient_flow import Rate
from mfpde.limit.state import State
from mfpde.limit.timestepping.state_vector import common_values, packed
from mfpde.limit.timestepping.stepper import Stepper
from mfpde.output.checkpoint.state_dict import StateDict

Array = NDArray[np.float64]
GAMMA = 1767732205903 / 4055673282236
NODES = (0.0, 2.0 * GAMMA, 3.0 / 5.0, 1.0)
EXPLICIT = (
    (),
    (2.0 * GAMMA,),
    (5535828885825 / 10492691773637, 788022342437 / 10882634858940),
    (6485989280629 / 16251701735622, -4246266847089 / 9704473918619, 10755448449292 / 10357097424841),
)
IMPLICIT = (  # without the diagonal, which is γ but for the first stage
    (),
    (GAMMA,),
    (2746238789719 / 10658868560708, -640167445237 / 6845629431997),
    (1471266399579 / 7840856788654, -4482444167858 / 7529755066697, 11266239266428 / 11593286722821),
)
WEIGHTS = (*IMPLICIT[3], GAMMA)
EMBEDDED = (
    2756255671327 / 12835298489170,
    -10771552573575 / 22201958757719,
    9247589265047 / 10645013368117,
    2193209047091 / 5459859503100,
)


class ImexStepper(Stepper):
    """Advances a state whose density diffuses."""

    name = "ARK3(2)4L[2]SA"
    flow: DiffusiveFlow
    limits = (1.832, 0.596, 0.308, 0.191)  # ν_p of the explicit stages, as in `limit.timestepping.stepper`

    def _stages(self, begin: State, start: Array, step: float, rate: Rate) -> tuple[State, State]:
        f, g = [packed(rate.parts)], [self._diffused(begin)]
        stage = begin
        for node, explicit, implicit in zip(NODES[1:], EXPLICIT[1:], IMPLICIT[1:], strict=True):
            right = self._vector.state(begin.tau + node * step, start + step * (_sum(explicit, f) + _sum(implicit, g)))
            stage = self.flow.implicit(right, GAMMA * step, stage)
            f.append(self._slope(stage))
            g.append(self._diffused(stage))

        both = [a + b for a, b in zip(f, g, strict=True)]
        end = self._vector.state(begin.tau + step, start + step * _sum(WEIGHTS, both))
        lower = [b - e for b, e in zip(WEIGHTS, EMBEDDED, strict=True)]
        return end, self._vector.state(begin.tau, step * _sum(lower, both))

    def state_dict(self) -> StateDict:
        """See `Stepper.state_dict`; with it, for what the preconditioners were made."""
        return {**super().state_dict(), "diffusion": self.flow.state_dict()}

    def load_state_dict(self, saved: StateDict, state: State) -> None:
        """See `Stepper.load_state_dict`."""
        super().load_state_dict(saved, state)
        self.flow.load_state_dict(saved["diffusion"])

    def _diffused(self, state: State) -> Array:
        """g, which does not move the frames."""
        still = np.zeros_like(common_values(state.parts))
        return np.concatenate([*(d.ravel() for d in self.flow.diffuse(state)), still])


def _sum(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    total = np.zeros_like(terms[0])
    for weight, term in zip(weights, terms, strict=True):
        total += weight * term
    return total
