"""Initial laws: densities, draws and moments that belong together, and one line for each that cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import mfpde
from mfpde.config import run_file
from mfpde.errors import InputError
from mfpde.finite.initial_units import tensor_units
from mfpde.problem.datasets import scalars
from mfpde.problem.model_checks import fingerprint
from mfpde.problem.models import low_dimensional as models

MEAN, STD = [0.3, -0.2], [0.5, 2.0]
COV = [[0.25, 0.6], [0.6, 4.0]]
PARTS = [mfpde.Normal(MEAN, cov=COV), mfpde.Laplace([2.0, 1.0], [0.1, 0.2])]
LAWS = {
    "normal": mfpde.Normal(MEAN, STD),
    "correlated": mfpde.Normal(MEAN, cov=COV),
    "uniform": mfpde.Uniform(MEAN, STD),
    "bump": mfpde.Bump(MEAN, STD),
    "student": mfpde.StudentT(MEAN, STD, 9),
    "laplace": mfpde.Laplace(MEAN, STD),
    "mixture": mfpde.Mixture(PARTS, [1.0, 3.0]),
    "nested": mfpde.Mixture([mfpde.Mixture(PARTS, [0.5, 0.5]), mfpde.Uniform(MEAN, STD)], [0.8, 0.2]),
}


@pytest.mark.parametrize("name", LAWS)
def test_draws_have_the_mean_and_covariance(name: str) -> None:
    """Within five standard errors, and fewer draws are the first of more."""
    law, count = LAWS[name], 40_000
    drawn = law.sample(np.random.default_rng(3), count)
    assert drawn.shape == (count, 2)
    np.testing.assert_array_equal(law.sample(np.random.default_rng(3), 7), drawn[:7])

    centred = drawn - law.mean
    assert (np.abs(centred.mean(axis=0)) < 5.0 * np.asarray(law.std) / np.sqrt(count)).all()
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(axis=0) / np.sqrt(count)
    assert (np.abs(products.mean(axis=0) - law.covariance) < 5.0 * error).all()
    np.testing.assert_allclose(np.sqrt(np.diag(law.covariance)), law.std, rtol=1e-14)


@pytest.mark.parametrize("name", LAWS)
def test_the_density_has_the_mean_and_covariance(name: str) -> None:
    """Against Gauss–Legendre quadrature in strips that end where densities have kinks."""
    law, total = LAWS[name], np.zeros((3, 3))
    for weight, part in law.parts:
        reach = np.minimum(part.support, 12.0 if isinstance(part, mfpde.Normal) else 80.0)
        breaks = np.concatenate([-np.geomspace(reach, 0.5, 8), [0.0], np.geomspace(0.5, reach, 8)])
        place, rule = np.polynomial.legendre.leggauss(24)
        middle, half = 0.5 * (breaks[1:] + breaks[:-1])[:, None], 0.5 * np.diff(breaks)[:, None]
        s, w = (middle + half * place).ravel(), (half * rule).ravel()
        theta = np.stack(np.meshgrid(*[m + d * s for m, d in zip(part.mean, part.std, strict=True)], indexing="ij"), -1)
        mass = weight * np.outer(w, w) * part.density(theta) * np.prod(part.std)
        powers = np.concatenate([np.ones_like(theta[..., :1]), theta - law.mean], axis=-1)
        total += np.einsum("ab,abk,abl->kl", mass, powers, powers)

    assert total[0, 0] == pytest.approx(1.0, abs=1e-9)
    assert np.abs(total[0, 1:]).max() < 1e-9
    np.testing.assert_allclose(total[1:, 1:], law.covariance, rtol=1e-8, atol=1e-8)
    at = law.sample(np.random.default_rng(0), 5)
    assert law.density(at) == pytest.approx(sum(w * part.density(at) for w, part in law.parts))


def test_densities_of_the_field() -> None:
    s = np.linspace(-4.0, 4.0, 9)
    scale = np.sqrt(3.0 / 5.0)
    student, laplace = mfpde.StudentT([0.0], [1.0], 5.0), mfpde.Laplace([0.0], [1.0])
    np.testing.assert_allclose(student.density(s[:, None]), stats.t(5.0, scale=scale).pdf(s), rtol=1e-12)
    np.testing.assert_allclose(laplace.density(s[:, None]), stats.laplace(scale=np.sqrt(0.5)).pdf(s), rtol=1e-12)
    points = np.random.default_rng(1).normal(size=(5, 2))
    exact = stats.multivariate_normal(MEAN, COV).pdf(points)
    np.testing.assert_allclose(mfpde.Normal(MEAN, cov=COV).density(points), exact, rtol=1e-12)
    heavy = mfpde.StudentT([0.0], [1.0], 2.01)
    assert quad(lambda t: float(heavy.standard(np.array(t))), -np.inf, np.inf)[0] == pytest.approx(1.0, abs=1e-6)


def test_a_diagonal_covariance_is_the_product_law() -> None:
    one, other = mfpde.Normal(MEAN, STD), mfpde.Normal(MEAN, cov=np.diag(np.square(STD)))
    assert (one.mean, one.std) == (other.mean, other.std)
    assert other.product
    points = np.random.default_rng(1).normal(size=(5, 2))
    np.testing.assert_array_equal(one.density(points), other.density(points))
    assert replace(mfpde.Normal(MEAN, cov=COV), mean=[0.0, 0.0]).cov == mfpde.Normal(MEAN, cov=COV).cov


def test_no_width_and_all_of_it_at_the_origin() -> None:
    law = mfpde.Normal([0.3, 1.0], [0.5, 0.0])
    assert law.degenerate == (1,)
    points = np.array([[0.1, 1.0], [0.7, 1.0]])
    np.testing.assert_array_equal(law.density(points), mfpde.Normal([0.3], [0.5]).density(points[:, :1]))
    assert (law.sample(np.random.default_rng(0), 5)[:, 1] == 1.0).all()

    family = mfpde.Family("head", 3, lambda tokens, theta: theta * tokens, mfpde.Zero(), linear=(0, 1, 2))
    zero = family.law(0)
    assert (zero.mean, zero.std, zero.dim) == ((0.0,) * 3, (0.0,) * 3, 3)
    assert (zero.sample(np.random.default_rng(0), 4) == 0.0).all()
    np.testing.assert_array_equal(zero.density(np.zeros((4, 3))), 1.0)


def test_weights_count_in_proportion() -> None:
    one, other = (mfpde.Mixture(PARTS, weights) for weights in ([1, 3], [0.25, 0.75]))
    assert one == other
    nested = LAWS["nested"]
    assert [weight for weight, _ in nested.parts] == pytest.approx([0.4, 0.4, 0.2])


@pytest.mark.parametrize("rule", ["grid", "gauss", "best"])
def test_units_on_a_grid_of_laws_that_are_no_products(rule) -> None:
    for law in (LAWS["correlated"], mfpde.Mixture([mfpde.Normal(MEAN, STD), mfpde.Normal([1.0, 0.0], STD)], [1, 1])):
        model = models.bilinear(layers=1)
        stages = [[replace(model.families[0], initial=law)]]
        theta, weights = (np.asarray(a)[0] for a in tensor_units(rule, replace(model, stages=stages), 61, 8.0)[0])
        assert weights.sum() == pytest.approx(1.0, abs=1e-14)
        assert (weights >= 0.0).all()
        np.testing.assert_allclose(weights @ theta, law.mean, atol=1e-9)
        centred = theta - law.mean
        np.testing.assert_allclose(np.einsum("u,ui,uj->ij", weights, centred, centred), law.covariance, atol=1e-8)


def test_a_covariance_is_part_of_a_models_fingerprint() -> None:
    model, task = models.bilinear(layers=1), scalars(samples=2)
    found = []
    for law in (mfpde.Normal(MEAN, cov=COV), mfpde.Normal(MEAN, cov=[[0.25, -0.6], [-0.6, 4.0]])):
        stages = [[replace(model.families[0], initial=law)]]
        found.append(fingerprint(replace(model, stages=stages), task))
    assert not np.array_equal(*found)


MISTAKES = {
    "neither": (lambda: mfpde.Normal([0.0]), "std is missing; give std or cov"),
    "both": (lambda: mfpde.Normal([0.0], [1.0], [[2.0]]), "exclude each other"),
    "indefinite": (lambda: mfpde.Normal([0.0, 0.0], cov=[[1.0, 1.0], [1.0, 1.0]]), "positive definite"),
    "nan": (lambda: mfpde.Normal([0.0], cov=[[float("nan")]]), "finite number"),
    "df": (lambda: mfpde.StudentT([0.0], [1.0], 2.0), "df = 2.0: must be a finite number above 2"),
    "no law": (lambda: mfpde.Mixture([1.0], [1.0]), "must be a list of laws"),
    "no laws": (lambda: mfpde.Mixture([], []), "must be a list of laws"),
    "dimensions": (
        lambda: mfpde.Mixture([mfpde.Normal([0.0], [1.0]), LAWS["normal"]], [1, 1]), "laws of 1, 2 coordinates"
    ),
    "weights": (lambda: mfpde.Mixture(PARTS, [1.0, -1.0]), "weights = -1.0: must be a finite number above 0"),
    "no width in a part": (lambda: mfpde.Mixture([mfpde.Zero(2), LAWS["normal"]], [1, 1]), "laws: std = 0.0 in a part"),
    "no width": (
        lambda: mfpde.Family("head", 2, lambda _, theta: theta, mfpde.Normal([0, 0], [0, 1]), linear=(1,)),
        "initial.head: std = 0.0 in coordinate 'theta_0' in layer 0: must be a finite number above 0",
    ),
    "too few weights": (lambda: mfpde.Mixture(PARTS, [1.0]), "must be a list of 2 positive numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_laws_that_cannot_be(name: str) -> None:
    make, line = MISTAKES[name]
    with pytest.raises(InputError) as caught:
        make()
    assert line in str(caught.value)


FILE = """
[task]
name = "scalars"
[model]
name = "bilinear"
layers = 1
[training]
weight_decay = 0.1
horizon = 1.0
[initial.bilinear]
{law}
"""
SPELLINGS = {
    'law = "normal"\nmean = [0.3, -0.2]\ncov = [[0.25, 0.6], [0.6, 4.0]]': LAWS["correlated"],
    'law = "student"\nmean = [0.3, -0.2]\nstd = [0.5, 2.0]\ndf = 9': LAWS["student"],
    'law = "laplace"\nmean = [0.3, -0.2]\nstd = [0.5, 2.0]': LAWS["laplace"],
    'law = "mixture"\nweights = [1, 3]\nparts = [{mean = [0.3, -0.2], cov = [[0.25, 0.6], [0.6, 4.0]]}, '
    '{law = "laplace", mean = [2, 1], std = [0.1, 0.2]}]': LAWS["mixture"],
}


@pytest.mark.parametrize("text", SPELLINGS, ids=["cov", "student", "laplace", "mixture"])
def test_spellings_of_run_files(text: str, tmp_path) -> None:
    """And the resolved run file says the same again."""
    path = tmp_path / "case.toml"
    path.write_text(FILE.format(law=text))
    run = run_file.load(path)
    law = run.build()[0].families[0].law(0)
    assert law == SPELLINGS[text]

    path.write_text(run.text(tmp_path))
    assert run_file.load(path).build()[0].families[0].law(0) == law
