"""Diffusion β⁻¹ Δ_θ ρ of one group's densities, and the linear systems of its implicit steps.

In reference coordinates ∂_τ ρ̂ = β⁻¹ ∇_ξ·(D ∇_ξ ρ̂), D = A⁻¹A⁻ᵀ, and with the mass matrix M and the interior penalty
form K (`limit.diffusion.interior_penalty`)

    M ∂_τ ρ̂ = −β⁻¹ K ρ̂,        (M + t β⁻¹ K) u = M r.

All blocks are one symmetric positive definite system, never assembled: a PETSc Mat of type python, solved by conjugate
gradients and preconditioned with the inverse of each cell's own block. Those inverses are kept until t D has changed by
a fifth: in between the preconditioner is slightly out of date, and the solution the same within the tolerance. The
system's PETSc options begin with `-diffusion_`, as in `-diffusion_ksp_monitor`.

DG_p contains the constants, on which K vanishes: mass is conserved to rounding, also by an inexact solution. Nothing
keeps ρ̂ ≥ 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from mfpde.errors import ComputationError, InputError
from mfpde.limit.diffusion.interior_penalty import Coefficients, InteriorPenalty
from mfpde.limit.transport.transport import Transport
from mfpde.output.checkpoint.state_dict import StateDict
from mfpde.parallel.petsc_callbacks import unwrapped

Array = NDArray[np.float64]
_MOST_ITERATIONS = 2000
_STALE = 0.2  # relative change of t D from which the preconditioner is updated


class Diffusion:
    """The operator on one group; owns the PETSc Mat, KSP and Vecs."""

    def __init__(self, transport: Transport, temperature: float, tolerance: float) -> None:
        """Nothing is computed; collective.

        Args:
            transport: of the group.
            temperature: β⁻¹ > 0.
            tolerance: of linear solves, on the preconditioned residual relative to that of the right-hand side.
        """
        self.temperature = temperature
        self.iterations = 0
        self._penalty = InteriorPenalty(transport)

        space = transport.space
        self._mass = np.linalg.inv(space.inverse_mass[: space.owned])  # (owned, 1, 1) or (owned, i, i)
        self._shape = (space.owned, space.size, transport.blocks)

        self._metric: Array | None = None
        self._coefficients: Coefficients | None = None
        self._time = 0.0
        self._built_for: tuple[float, Array] | None = None  # t and D of the preconditioner
        self._inverse: Array | None = None  # (owned, b, i, i)
        self._create(transport, tolerance)

    def rate(self, density: Array, metric: Array) -> Array:
        """β⁻¹ ∇·(D ∇ρ̂) of coefficients (owned, i, b), as coefficients; one neighbour exchange.

        Args:
            density: of the owned cells.
            metric: D (b, d, d).
        """
        applied = self._penalty.apply(self._at(metric), density)
        return -self.temperature * self._penalty.space.invert_mass(applied)

    def solve(self, right: Array, metric: Array, time: float, guess: Array) -> Array:
        """u with (M + t β⁻¹ K) u = M r; collective.

        Args:
            right: r, coefficients (owned, i, b).
            metric: D (b, d, d).
            time: t > 0.
            guess: of u.

        Raises:
            ComputationError: on every rank alike, when the iteration does not converge.
        """
        self._at(metric)
        self._time = time
        self._prepare(metric)

        self._right.array[:] = (self._mass * right if self._mass.shape[1] == 1 else self._mass @ right).ravel()
        self._solution.array[:] = guess.ravel()
        with unwrapped():
            self._ksp.solve(self._right, self._solution)

        self.iterations += self._ksp.getIterationNumber()
        if self._ksp.getConvergedReason() <= 0:
            raise ComputationError(
                f"the diffusion's linear system did not converge in {self._ksp.getIterationNumber()} iterations"
            )
        return self._solution.array_r.reshape(self._shape).copy()

    def close(self) -> None:
        """Free the PETSc objects; collective."""
        for thing in (self._ksp, self._matrix, self._right, self._solution):
            thing.destroy()

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = (M + t β⁻¹ K) x, called by PETSc."""
        values = x.array_r.reshape(self._shape)
        assert self._coefficients is not None  # noqa: S101  (set by `solve`)
        applied = self._penalty.apply(self._coefficients, values)
        weighted = self._mass * values if self._mass.shape[1] == 1 else self._mass @ values
        y.array[:] = (weighted + self._time * self.temperature * applied).ravel()

    def apply(self, _pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = the cells' own blocks inverted, times x; called by PETSc."""
        assert self._inverse is not None  # noqa: S101  (built by `solve`)
        values = np.swapaxes(x.array_r.reshape(self._shape), 1, 2)[..., None]
        y.array[:] = np.swapaxes((self._inverse @ values)[..., 0], 1, 2).ravel()

    def _at(self, metric: Array) -> Coefficients:
        if self._coefficients is None or self._metric is None or not np.array_equal(metric, self._metric):
            self._metric, self._coefficients = metric.copy(), self._penalty.coefficients(metric)
        return self._coefficients

    def state_dict(self) -> StateDict | None:
        """t and D for which the preconditioner was built; None before there is one."""
        return None if self._built_for is None else {"time": self._built_for[0], "metric": self._built_for[1]}

    def load_state_dict(self, saved: StateDict | None) -> None:
        """Rebuild the preconditioner of the checkpoint, so that resuming is bitwise identical.

        Raises:
            InputError: on this rank, when a cell's block has no inverse.
        """
        if saved is None:
            return
        try:
            self._build(float(saved["time"]), np.array(saved["metric"]))
        except np.linalg.LinAlgError as error:
            raise InputError("its preconditioner has no inverse") from error

    def _prepare(self, metric: Array) -> None:
        """The preconditioner for the present t and D."""
        if self._built_for is not None:
            built = self._built_for[0] * self._built_for[1]
            change = np.abs(self._time * metric - built).max(axis=(1, 2))
            if (change <= _STALE * np.abs(built).max(axis=(1, 2))).all():
                return
        self._build(self._time, metric)

    def _build(self, time: float, metric: Array) -> None:
        own = time * self.temperature * self._penalty.diagonal(self._at(metric))
        own += self._mass[:, None] * np.eye(self._shape[1]) if self._mass.shape[1] == 1 else self._mass[:, None]
        self._built_for, self._inverse = (time, metric.copy()), np.linalg.inv(own)

    def _create(self, transport: Transport, tolerance: float) -> None:
        comm, local = transport.space.comm, int(np.prod(self._shape))
        size = (local, PETSc.DETERMINE)
        self._right, self._solution = (PETSc.Vec().createMPI(size, comm=comm) for _ in range(2))
        self._matrix = PETSc.Mat().createPython((size, size), context=self, comm=comm)
        self._matrix.setUp()
        self._matrix.setOption(PETSc.Mat.Option.SPD, True)

        self._ksp = PETSc.KSP().create(comm=comm)
        self._ksp.setOptionsPrefix("diffusion_")
        self._ksp.setOperators(self._matrix)
        self._ksp.setType(PETSc.KSP.Type.CG)
        self._ksp.setTolerances(rtol=tolerance, atol=1e-300, max_it=_MOST_ITERATIONS)
        self._ksp.setInitialGuessNonzero(True)

        preconditioner = self._ksp.getPC()
        preconditioner.setType(PETSc.PC.Type.PYTHON)
        preconditioner.setPythonContext(self)
        self._ksp.setFromOptions()
