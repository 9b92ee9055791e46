"""Fixed points of a pass over the samples, by quasi-Newton with differences that are reused.

A guess x of the potential moves the nodes, and a pass over the samples at their new places gives the potential P(x).
From pairs of differences of guesses and of passes, δx_i and δP_i, the pass at which the residual r = P(x) − x vanishes
is found to first order in the space that they span:

    x⁺ = P(x) − Σ_i c_i δP_i,    c = argmin ‖r − Σ_i c_i (δP_i − δx_i)‖,

the norm weighted by the density's mass at the points of the tables. Differences of earlier steps are kept: the
potential's answer to the nodes' motion changes slowly, and is proportional to the time that they move. Pairs whose
direction newer ones have are left out.
Source: Degroote, Bathe & Vierendeels, *Computers & Structures* 87 (2009), 793–801 (interface quasi-Newton).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfpde.errors import InputError
from mfpde.inputs import real
from mfpde.output.checkpoint.state_dict import StateDict

Array = NDArray[np.float64]
type Tables = tuple[Array, ...]
KEPT = 12  # pairs
_INDEPENDENT = 1e-2  # share of a pair's norm that must be in a direction which newer pairs do not have


def difference(one: Sequence[Array], other: Sequence[Array]) -> Tables:
    """Of two potentials, per family."""
    return tuple(a - b for a, b in zip(one, other, strict=True))


def norm(tables: Sequence[Array], root_mass: Sequence[Array]) -> float:
    """The root of the sum of squares, weighted by mass."""
    return float(np.sqrt(sum(float(((a * m) ** 2).sum()) for a, m in zip(tables, root_mass, strict=True))))


@dataclass(frozen=True)
class Differences:
    """Pairs of differences, the newest first; each of tables (L, u) per family.

    Attributes:
        guesses: δx.
        passes: δP.
        steps: Δ of the steps in which they were found.
    """

    guesses: tuple[Tables, ...] = ()
    passes: tuple[Tables, ...] = ()
    steps: tuple[float, ...] = ()

    @classmethod
    def restored(cls, saved: StateDict, shapes: Sequence[tuple[int, ...]]) -> Differences:
        """From its fields, as a checkpoint has them, with tables of these shapes.

        Raises:
            InputError: for values that cannot be.
        """
        guesses, passes = (tuple(tuple(tables) for tables in saved[name]) for name in ("guesses", "passes"))
        steps = tuple(real("differences", step, above=0.0) for step in saved["steps"])
        if not len(guesses) == len(passes) == len(steps) <= KEPT:
            raise InputError(f"differences: {len(guesses)} of guesses, {len(passes)} of passes")
        for tables in (*guesses, *passes):
            if (found := [values.shape for values in tables]) != list(shapes):
                raise InputError(f"differences: arrays of the shapes {found}, not {list(shapes)}")
        return cls(guesses, passes, steps)

    def extended(self, guess: Tables, passed: Tables, step: float) -> Differences:
        """With one more pair, and without the oldest."""
        guesses, passes, steps = (guess, *self.guesses), (passed, *self.passes), (step, *self.steps)
        return Differences(guesses[:KEPT], passes[:KEPT], steps[:KEPT])

    def mapped(self, change: Callable[[Tables], Tables]) -> Differences:
        """With every table changed."""
        return replace(self, guesses=tuple(map(change, self.guesses)), passes=tuple(map(change, self.passes)))

    def solved(self, passed: Tables, residual: Tables, step: float, root_mass: Sequence[Array]) -> Tables:
        """The pass at which the residual vanishes, to first order; `passed` itself where there are no pairs."""
        if not self.guesses:
            return passed

        answers = np.stack([step / own * _flat(t, root_mass) for t, own in zip(self.passes, self.steps, strict=True)])
        residuals = answers - np.stack([_flat(tables, root_mass) for tables in self.guesses])
        weights = _coefficients(residuals, _flat(residual, root_mass)) * step / np.array(self.steps)

        by_family = zip(passed, zip(*self.passes, strict=True), strict=True)
        return tuple(
            values - sum(weight * change for weight, change in zip(weights, changes, strict=True))
            for values, changes in by_family
        )


def _coefficients(rows: Array, target: Array) -> Array:
    """Least squares for a target by rows, of which those that earlier ones span nearly have coefficient zero."""
    basis = np.empty((0, len(target)))
    kept = []
    for number, row in enumerate(rows):
        rest = row - basis.T @ (basis @ row)
        rest -= basis.T @ (basis @ rest)  # once more, against rounding
        size = float(np.linalg.norm(rest))
        if size > _INDEPENDENT * float(np.linalg.norm(row)):
            kept.append(number)
            basis = np.vstack([basis, rest / size])

    found = np.zeros(len(rows))
    if kept:
        found[kept] = np.linalg.solve(basis @ rows[kept].T, basis @ target)
    return found


def _flat(tables: Sequence[Array], root_mass: Sequence[Array]) -> Array:
    return np.concatenate([(values * mass).ravel() for values, mass in zip(tables, root_mass, strict=True)])
