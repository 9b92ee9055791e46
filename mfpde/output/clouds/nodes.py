"""The nodes of one family at one τ: parameters, masses, potential and velocity, and what is read off them.

Of a family of more than three coordinates they are the density itself, of which every picture is a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfpde.errors import InputError
from mfpde.inputs import is_whole, show
from mfpde.output.clouds.midpoint_lattice import between
from mfpde.output.clouds.smoothing import CELLS, Smoothed, smooth

Array = NDArray[np.float64]
type Column = str | ArrayLike
PRINCIPAL = "principal"
_NAMED = 4  # coordinates that a message names


@dataclass(frozen=True, eq=False)
class Nodes:
    r"""The nodes of a family: ρ = Σ_j m_j δ(θ − θ_j) in every layer, θ = (u, v), with the update linear in v.

    With λ the weight decay the potential is V = ⟨v, G(u)⟩ + λ/2 (‖u‖² + ‖v‖²), where G(u) is an array like v. Arrays
    are of L layers and n nodes, those of all replicas of the flow; s coordinates are in u, and v has any shape, (0,) of
    a family in which nothing is linear.

    Attributes:
        family: name of the family.
        coordinates: names of θ's d coordinates.
        linear: which of them are the entries of v, in their order; u has the others.
        mass: m, (L, n), with sum 1 in each layer.
        u: (L, n, s).
        v: (L, n, \*shape).
        potential: V, (L, n).
        velocity_u: −∂V/∂u, (L, n, s).
        velocity_v: −∂V/∂v, (L, n, \*shape).
        replica: of the flow to which each node belongs, from 0, (n,).
        weight_decay: λ.
        rule: random coordinates of the initial law and the order in each of the midpoint rule whose points the nodes
            are; (0, 0) of random nodes.
    """

    family: str
    coordinates: tuple[str, ...]
    linear: tuple[int, ...]
    mass: Array
    u: Array
    v: Array
    potential: Array
    velocity_u: Array
    velocity_v: Array
    replica: NDArray[np.int64]
    weight_decay: float
    rule: tuple[int, int] = (0, 0)

    def __repr__(self) -> str:
        count = self.mass.shape[1]
        return (
            f"Nodes({self.family!r}: {self.layers} layers of {count} nodes, {self.u.shape[2]} in u, v of {self.shape})"
        )

    @property
    def layers(self) -> int:
        """L."""
        return int(self.mass.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of v."""
        return self.v.shape[2:]

    @property
    def nonlinear(self) -> tuple[int, ...]:
        """Which of θ's coordinates are in u."""
        linear = set(self.linear)
        return tuple(axis for axis in range(len(self.coordinates)) if axis not in linear)

    @property
    def gradient(self) -> Array:
        r"""G = ∂V/∂v − λ v at the nodes, (L, n, \*shape): a function of u alone."""
        return np.asarray(-self.velocity_v - self.weight_decay * self.v)

    @property
    def gradient_norm(self) -> Array:
        """‖G(u)‖ at the nodes, (L, n): the root of the sum of squares of its entries."""
        return np.asarray(np.linalg.norm(_flat(self.gradient), axis=2))

    def principal(self, layer: int) -> Array:
        """The direction in which v is largest: the first eigenvector of ∫ v vᵀ dρ in a layer.

        Of length one, with its largest component positive; zero where all v are zero.

        Args:
            layer: from 0.

        Returns:
            An array like v.

        Raises:
            InputError: for an unknown layer.
        """
        return self._directions[self._checked(layer)]

    def column(self, layer: int, name: Column) -> Array:
        """One coordinate of the nodes of a layer, (n,).

        Args:
            layer: from 0.
            name: one of `coordinates`; or "principal", the coordinate ⟨v, e⟩ of v along `principal(layer)`; or an
                array like v, a direction e that need not have length one.

        Raises:
            InputError: for an unknown layer or coordinate, or an array that is no direction in v.
        """
        layer = self._checked(layer)
        if isinstance(name, str) and name in self.coordinates:
            axis = self.coordinates.index(name)
            if axis in self.linear:
                return np.asarray(_flat(self.v)[layer, :, self.linear.index(axis)])
            return np.asarray(self.u[layer, :, self.nonlinear.index(axis)])
        if isinstance(name, str):
            direction = self._directions[layer] if name == PRINCIPAL and self.linear else None
        else:
            direction = self._direction(name)
        if direction is None:
            raise InputError(f"columns: {_shown(name)}: unknown; allowed: {self._allowed()}")
        return np.asarray(_flat(self.v)[layer] @ direction.ravel())

    def density(self, layer: int, columns: Column | Sequence[Column], at: ArrayLike) -> Array:
        """The density (k,) of one or two coordinates in a layer, smoothed as in the pictures and .vtu files.

        ρ's marginal, convolved with a Gaussian kernel whose width falls with the number of nodes; between the points of
        a lattice all is linear, and beyond it zero.

        Args:
            layer: from 0.
            columns: a coordinate, see `column`; or a list of one or two of them.
            at: values of these coordinates, (k,) or (k, 1) of one, (k, 2) of two.

        Raises:
            InputError: for an unknown layer or coordinate, or places of another shape.
        """
        chosen = self._columns(columns)
        places = _places(at, len(chosen))
        values = np.stack([self.column(layer, name) for name in chosen], axis=1)
        found = self.smoothed(layer, values, np.empty((len(values), 0)))
        return found.between(found.density, places)

    def moment(self, layer: int, at: ArrayLike) -> Array:
        r"""B(u) = ∫ v ρ(u, dv), (k, \*shape), smoothed as the density of u is; all that the Transformer sees of ρ.

        Args:
            layer: from 0.
            at: u, (k,) or (k, 1) of one coordinate, (k, 2) of two.

        Raises:
            InputError: for an unknown layer, places of another shape, or a family that has no such moment, or more than
                two coordinates in u.
        """
        layer, s = self._checked(layer), self.u.shape[2]
        if not self.linear or s not in CELLS:
            raise InputError(
                f"moment: family {self.family!r} has {s} coordinates in u and {len(self.linear)} in v; needs one or "
                "two in u, and one or more in v"
            )
        places = _places(at, s)
        found = self.smoothed(layer, self.u[layer], _flat(self.v)[layer])
        return found.between(found.fields, places).reshape(-1, *self.shape)

    def moment_norm(self, layer: int, at: ArrayLike) -> Array:
        """‖B(u)‖, (k,): the root of the sum of squares of the entries of `moment`.

        Raises:
            InputError: as `moment`.
        """
        found = self.moment(layer, at)
        return np.asarray(np.linalg.norm(found.reshape(len(found), -1), axis=1))

    def smoothed(self, layer: int, points: Array, values: Array) -> Smoothed:
        """What is known at the nodes of a layer, smoothed; of a midpoint rule also between them.

        Args:
            layer: from 0.
            points: one or two coordinates of the nodes, (n, d).
            values: at the nodes, (n, k).
        """
        known, share = np.concatenate([points, values], axis=1), self.mass[layer]
        if self.rule[1]:  # the replicas are alike
            known, share = between(known[self.replica == 0], *self.rule)
        dim = points.shape[1]
        return smooth(known[:, :dim], known[:, dim:], share)

    @cached_property
    def _directions(self) -> Array:
        r"""Of all layers, (L, \*shape)."""
        one = self.replica == 0 if self.rule[1] else slice(None)
        found = [_leading(_flat(self.v)[layer][one], self.mass[layer][one]) for layer in range(self.layers)]
        return np.stack(found).reshape(self.layers, *self.shape)

    def _checked(self, layer: int) -> int:
        if not is_whole(layer) or layer not in range(self.layers):
            raise InputError(f"layer = {show(layer)}: unknown; allowed: 0 to {self.layers - 1}")
        return int(layer)

    def _columns(self, columns: Column | Sequence[Column]) -> list[Column]:
        """One or two coordinates: a list is one of coordinates, an array is a direction."""
        chosen: list[Any] = list(columns) if isinstance(columns, list | tuple) else [columns]
        if len(chosen) not in CELLS:
            raise InputError(f"columns = {_shown(columns)}: must be one or two of {self._allowed()}")
        return chosen

    def _direction(self, value: object) -> Array | None:
        """A direction of length one from an array that a user gives, None for what is none."""
        try:
            given = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            return None
        size = float(np.linalg.norm(given))
        if not self.linear or given.shape != self.shape or not np.isfinite(size) or size == 0.0:
            return None
        return np.asarray(given / size)

    def _allowed(self) -> str:
        """The coordinates, as in a message."""
        names = []
        for axes in (self.nonlinear, self.linear):
            named = [repr(self.coordinates[axis]) for axis in axes]
            names += named if len(named) <= _NAMED else [*named[: _NAMED - 1], "…", named[-1]]
        if self.linear:
            names += [repr(PRINCIPAL), f"an array of shape {self.shape} that is not zero"]
        return ", ".join(names)


def _shown(value: object) -> str:
    """A value as in a message, on one line; arrays have several."""
    return " ".join(show(value).split())


def _flat(values: Array) -> Array:
    """(L, n, …) -> (L, n, m)."""
    return values.reshape(*values.shape[:2], -1)


def _places(at: ArrayLike, dim: int) -> Array:
    """Points (k, d) that a user gives, of one coordinate also as (k,)."""
    try:
        given = np.asarray(at, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"at = {_shown(at)}: must be finite numbers") from error
    places = given[:, None] if given.ndim == 1 and dim == 1 else given
    if places.ndim != 2 or places.shape[1] != dim or not np.isfinite(places).all():
        allowed = "(k,) or (k, 1)" if dim == 1 else f"(k, {dim})"
        raise InputError(f"at: must be finite numbers of shape {allowed}, got shape {given.shape}")
    return places


def _leading(values: Array, mass: Array) -> Array:
    """The first eigenvector (m,) of Σ_j m_j v_j v_jᵀ, from v (n, m), by the smaller of two matrices of products."""
    largest = np.abs(values).max(initial=0.0)
    if largest == 0.0:
        return np.zeros(values.shape[1])

    from scipy.linalg import eigh  # noqa: PLC0415  (slow to import)

    rows = np.sqrt(mass)[:, None] * (values / largest)
    few = rows.shape[0] < rows.shape[1]
    matrix = rows @ rows.T if few else rows.T @ rows
    last = len(matrix) - 1
    vector = eigh(matrix, subset_by_index=(last, last))[1][:, 0]
    direction = rows.T @ vector if few else vector
    direction = direction / np.linalg.norm(direction)
    return np.asarray(direction * np.sign(direction[np.abs(direction).argmax()]))
