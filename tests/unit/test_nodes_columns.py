"""What is read off nodes: principal directions, densities of any coordinates, moments, and G."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mfpde import InputError
from mfpde.output.clouds.smoothing import smooth
from support.clouds import make_nodes


def second_moments(nodes, layer):
    """∫ v vᵀ dρ (m, m) of a layer."""
    v = nodes.v[layer].reshape(len(nodes.mass[layer]), -1)
    return v.T @ (nodes.mass[layer][:, None] * v)


@pytest.mark.parametrize("shape", [(2, 3), (7, 5), (1,)])  # fewer entries than the 16 nodes, more, one
def test_principal_directions_are_first_eigenvectors(shape):
    nodes = make_nodes(1, shape, layers=3)
    for layer in range(3):
        direction = nodes.principal(layer)
        assert direction.shape == shape
        assert np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-14)
        assert direction.flat[np.abs(direction).argmax()] > 0.0
        matrix, flat = second_moments(nodes, layer), direction.ravel()
        largest = np.linalg.eigvalsh(matrix)[-1]
        assert np.abs(matrix @ flat - largest * flat).max() < 1e-13 * largest
        assert np.array_equal(nodes.column(layer, "principal"), nodes.v[layer].reshape(16, -1) @ flat)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e150])
def test_of_a_law_of_rank_one_it_is_the_direction(size):
    """v = a_j D: whatever the signs and sizes of the a_j, the direction is ±D, its largest component positive."""
    rng = np.random.default_rng(4)
    direction = rng.normal(size=(3, 4))
    direction *= -np.sign(direction.flat[np.abs(direction).argmax()]) / np.linalg.norm(direction)
    amount = size * rng.normal(size=(2, 16))
    nodes = make_nodes(1, (3, 4), v=amount[..., None, None] * direction)
    for layer in range(2):
        assert np.abs(nodes.principal(layer) + direction).max() < 1e-14
        assert np.allclose(nodes.column(layer, "principal"), -amount[layer], rtol=0, atol=1e-14 * size)


def test_of_no_v_it_is_zero():
    nodes = make_nodes(1, (2, 2), v=np.zeros((2, 16, 2, 2)))
    assert not nodes.principal(1).any()
    assert not nodes.column(1, "principal").any()
    assert make_nodes(2, (0,)).principal(0).shape == (0,)


def test_the_gradient_is_what_the_potential_has_beside_weight_decay():
    nodes = make_nodes(1, (2, 3), decay=0.3)
    assert np.array_equal(nodes.gradient, -nodes.velocity_v - 0.3 * nodes.v)
    assert nodes.gradient.shape == (2, 16, 2, 3)
    assert np.allclose(nodes.gradient_norm**2, (nodes.gradient**2).sum(axis=(2, 3)), rtol=1e-14)


def test_columns_by_name_and_by_direction():
    nodes = make_nodes(2, (2, 2))
    assert np.array_equal(nodes.column(1, "u_1"), nodes.u[1, :, 1])
    assert np.array_equal(nodes.column(1, "v_2"), nodes.v[1, :, 1, 0])
    unit = np.array([[0.0, 0.0], [5.0, 0.0]])
    assert np.array_equal(nodes.column(1, unit), nodes.v[1, :, 1, 0])
    assert np.allclose(nodes.column(0, nodes.principal(0)), nodes.column(0, "principal"), rtol=0, atol=1e-15)


def line(nodes, layer, column, count=4001):
    """Places across the density of a column, far beyond its ends."""
    values = nodes.column(layer, column)
    return np.linspace(values.mean() - 8.0, values.mean() + 8.0, count)


@pytest.mark.parametrize("rule", [(0, 0), (1, 8)])
@pytest.mark.parametrize("column", ["u_0", "v_3", "principal", np.arange(6.0).reshape(2, 3)], ids=str)
def test_densities_integrate_to_one(column, rule):
    nodes = dataclasses.replace(make_nodes(1, (2, 3), replicas=1), rule=rule)
    at = line(nodes, 1, column)
    assert np.trapezoid(nodes.density(1, column, at), at) == pytest.approx(1.0, abs=1e-5)


def test_densities_of_two_coordinates_have_those_of_one_for_marginals():
    """The kernel in a plane is wider, as its width falls slower with the number of nodes; masses and means agree."""
    nodes = make_nodes(2, (2, 3), replicas=4, count=64)
    at = np.linspace(-6.0, 6.0, 241)
    plane = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1)
    density = nodes.density(0, ["u_1", "principal"], plane.reshape(-1, 2)).reshape(241, 241)
    first, second = (np.trapezoid(density, at, axis=axis) for axis in (1, 0))
    assert np.trapezoid(first, at) == pytest.approx(1.0, abs=1e-4)
    for marginal, column in ((first, "u_1"), (second, "principal")):
        mean = nodes.mass[0] @ nodes.column(0, column)
        assert np.trapezoid(at * marginal, at) == pytest.approx(mean, abs=1e-4)


def test_the_kernel_has_the_width_of_silverman():
    """The variance of what is drawn is that of the nodes and of the kernel."""
    nodes = make_nodes(1, (1,), replicas=4, count=64)
    at, mass, u = line(nodes, 0, "u_0"), nodes.mass[0], nodes.u[0, :, 0]
    density = nodes.density(0, "u_0", at)
    mean = np.trapezoid(at * density, at)
    spread = mass @ u**2 - (mass @ u) ** 2
    width = (4.0 / (3.0 / (mass**2).sum())) ** 0.4  # of variance one
    assert np.trapezoid((at - mean) ** 2 * density, at) == pytest.approx(spread * (1.0 + width), rel=2e-3)


def test_means_far_from_all_points_are_those_of_all_points():
    rng = np.random.default_rng(2)
    points, values, mass = rng.normal(size=(40, 2)), rng.normal(size=(40, 3)), rng.uniform(0.5, 1.5, size=40)
    found = smooth(points, values, mass / mass.sum())
    assert found.mass[0, 0] == 0.0
    assert np.abs(found.means[0, 0] - mass @ values / mass.sum()).max() < 1e-14


def test_moments_of_a_paired_law_are_zero():
    rng = np.random.default_rng(1)
    half, u = rng.normal(size=(2, 8, 2, 3)), rng.normal(size=(2, 8, 1))
    nodes = make_nodes(1, (2, 3), v=np.concatenate([half, -half], axis=1))
    nodes = dataclasses.replace(nodes, u=np.tile(u, (1, 2, 1)), mass=np.full((2, 16), 1 / 16))
    at = np.linspace(-3.0, 3.0, 50)
    assert nodes.moment(1, at).shape == (50, 2, 3)
    assert np.abs(nodes.moment(1, at)).max() < 1e-16
    assert nodes.moment_norm(1, at).max() < 1e-16


@pytest.mark.parametrize("s", [1, 2])
def test_moments_integrate_to_the_mean_of_v(s):
    nodes = make_nodes(s, (2, 3), replicas=4, count=32)
    at = np.linspace(-7.0, 7.0, 301)
    places = np.stack(np.meshgrid(*[at] * s, indexing="ij"), axis=-1).reshape(-1, s)
    field = nodes.moment(1, places)
    mean = np.einsum("n,nij->ij", nodes.mass[1], nodes.v[1])
    assert np.abs(field.sum(axis=0) * (at[1] - at[0]) ** s - mean).max() < 1e-4
    assert np.allclose(nodes.moment_norm(1, places), np.sqrt((field**2).sum(axis=(1, 2))), rtol=1e-13)


ALLOWED = "'u_0', 'v_0', 'v_1', 'v_2', …, 'v_5', 'principal', an array of shape (2, 3) that is not zero"


@pytest.mark.parametrize(("ask", "line"), [
    (lambda n: n.density(0, "u_1", [0.0]), f"columns: 'u_1': unknown; allowed: {ALLOWED}"),
    (lambda n: n.density(0, np.zeros((2, 3)), [0.0]), f"allowed: {ALLOWED}"),
    (lambda n: n.density(0, np.ones(6), [0.0]), f"allowed: {ALLOWED}"),
    (lambda n: n.density(0, object(), [0.0]), f"allowed: {ALLOWED}"),
    (lambda n: n.density(0, [], [0.0]), f"columns = []: must be one or two of {ALLOWED}"),
    (lambda n: n.density(0, ["u_0", "v_0", "v_1"], [0.0]), "must be one or two of"),
    (lambda n: n.density(2, "u_0", [0.0]), "layer = 2: unknown; allowed: 0 to 1"),
    (lambda n: n.principal(-1), "layer = -1: unknown; allowed: 0 to 1"),
    (lambda n: n.density(0, "u_0", np.zeros((3, 2))), "at: must be finite numbers of shape (k,) or (k, 1), got shape"),
    (lambda n: n.density(0, ["u_0", "v_0"], np.zeros(3)), "at: must be finite numbers of shape (k, 2), got shape (3,)"),
    (lambda n: n.density(0, "u_0", [np.nan]), "at: must be finite numbers"),
    (lambda n: n.density(0, "u_0", "far"), "at = 'far': must be finite numbers"),
])  # fmt: skip
def test_mistakes_are_named_with_what_is_allowed(ask, line):
    with pytest.raises(InputError) as caught:
        ask(make_nodes(1, (2, 3)))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("s", "shape"), [(3, (2,)), (0, (2,)), (1, (0,))])
def test_moments_are_of_one_or_two_coordinates(s, shape):
    with pytest.raises(InputError, match=r"moment: family 'heads' has . coordinates in u and . in v; needs one or two"):
        make_nodes(s, shape).moment(0, np.zeros((1, 1)))


def test_without_linear_coordinates_nothing_is_principal():
    with pytest.raises(InputError, match=r"columns: 'principal': unknown; allowed: 'u_0', 'u_1'$"):
        make_nodes(2, (0,)).density(0, "principal", [0.0])
