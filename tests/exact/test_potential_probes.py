"""The potential at any point: at the nodes it is the potential that the flow uses, whatever the families are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpi4py import MPI

from exact.test_certificate import certificate, last_token, solving
from exact.test_shipped_runs import NAMES, QUICK, RUNS
from mfpde import open_run
from mfpde.config import run_file
from mfpde.config.settings import Density, Time, Training
from mfpde.limit.certificate.minimisation import derivatives
from mfpde.limit.certificate.potential_probes import PotentialProbes
from mfpde.limit.solver import Solver
from mfpde.limit.specification import Problem
from mfpde.problem.family import Family
from mfpde.problem.laws import Normal
from mfpde.problem.models.low_dimensional import neuron, softmax_head
from mfpde.problem.tasks import Task
from mfpde.problem.transformer import Transformer
from mfpde.runs.limit_run import execute
from mfpde.runs.problem_setup import problem_of

SMALL = ["density.cells=4", "time.tolerance=1e-3"]
FEW = {
    "bilinear": [],
    "langevin": [],
    "teacher": [],
    "in-context": ["task.samples=12"],
    "quickstart": ["task.samples=20", "task.test_samples=5"],
}
CLASS_ATTENTION = Path(__file__).parents[1] / "support" / "class-attention.toml"


def node_values(solver: Solver, decay: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Data part of V at the units of every family with nonlinear coordinates: from the pass, and from the probes."""
    state = solver.stepper.state
    data = solver.flow.potential(state).outcome.gradient
    theta, weights, _ = solver.flow.moments(state)
    families = solver.flow.model.families
    places = tuple(k for k, family in enumerate(families) if family.nonlinear_axes)
    points = [theta[k] for k in places]
    jets = PotentialProbes(solver.flow.backprop, places, decay, theta, weights)(points, derivatives=True)
    expected = []
    for k in places:
        table = data[k].reshape(len(data[k]), -1, families[k].directions)
        expected.append((table**2).sum(axis=2) / (2.0 * decay) if families[k].linear else -table[..., 0])
    return expected, [jet.gain for jet in jets]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES if n in FEW]
)
def test_probes_are_the_nodes_of_every_shipped_run(name: str) -> None:
    check_probes(RUNS / f"{name}.toml", FEW[name])


def test_probes_are_the_nodes_of_class_attention() -> None:
    check_probes(CLASS_ATTENTION, [])


def check_probes(path: Path, settings: list[str]) -> None:
    problem = problem_of(run_file.load(path, [*SMALL, *settings]), trial=False)
    decay = problem.training.weight_decay
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        for expected, found in zip(*node_values(solver, decay), strict=True):
            assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
    finally:
        solver.close()


def two_heads() -> list[Family]:
    rng = np.random.default_rng(7)
    laws = [Normal([0.4, 0.1], [0.4, 0.5]), Normal([0.5, -0.2], [0.3, 0.4])]
    return [softmax_head(f"h{k}", *rng.normal(size=(2, 2, 2)), law) for k, law in enumerate(laws)]


def two_neurons() -> list[Family]:
    rng = np.random.default_rng(8)
    law = Normal([0.2, 0.6], [0.5, 0.5])
    return [neuron(f"n{k}", *rng.normal(size=(2, 2)), law) for k in range(3)]


def by_hand() -> list[Family]:
    """Units whose rules for reverse mode close over their arrays."""

    def unit(k: int) -> Family:
        matrix = np.random.default_rng(k).normal(size=(2, 2))

        @jax.custom_vjp
        def apply(x: jax.Array) -> jax.Array:
            return jnp.sin(x @ matrix)

        apply.defvjp(lambda x: (jnp.sin(x @ matrix), x), lambda x, pull: ((pull * jnp.cos(x @ matrix)) @ matrix.T,))
        return Family(f"u{k}", 2, lambda t, p: p[1] * apply(p[0] * t), Normal([0.5, 0.1], [0.4, 0.5]), linear=(1,))

    return [unit(0), unit(1)]


def gaps(families: Sequence[Family]) -> dict[str, list[float]]:
    rng = np.random.default_rng(9)
    task = Task(rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 2)))
    with solving(
        Transformer([families], 2, last_token), task, 0.05, Density(degree=1, cells=4, frame="comoving")
    ) as solver:
        blocks = certificate(solver).blocks
    return {family.name: [b.gap for b in blocks if b.family == family.name] for family in families}


@pytest.mark.parametrize("families", [two_heads, two_neurons, by_hand])
def test_gaps_do_not_depend_on_the_order_of_families_or_their_names(families: Callable[[], list[Family]]) -> None:
    given = families()
    before = gaps(given)
    assert np.ptp([gap[0] for gap in before.values()]) > 0.01  # families mistaken for each other would be seen
    swapped = gaps(given[::-1])
    renamed = gaps([replace(family, name=f"z{len(given) - k}") for k, family in enumerate(given)])
    for family, other in zip(given, renamed, strict=True):
        assert swapped[family.name] == pytest.approx(before[family.name], rel=1e-10)
        assert renamed[other] == pytest.approx(before[family.name], rel=1e-10)


HEADS = """
import jax, jax.numpy as jnp, numpy as np, mfpde

MATRICES = np.random.default_rng(1).normal(size=(2, 2, 2))

def plain(matrix):
    return lambda x: jnp.tanh(x @ matrix)

def reverse(matrix):
    @jax.custom_vjp
    def apply(x):
        return jnp.tanh(x @ matrix)
    apply.defvjp(lambda x: (jnp.tanh(x @ matrix), x),
                 lambda x, pull: ((pull * (1.0 - jnp.tanh(x @ matrix) ** 2)) @ matrix.T,))
    return apply

def forward(matrix):
    @jax.custom_jvp
    def apply(x):
        return jnp.tanh(x @ matrix)
    apply.defjvp(lambda given, motion: (jnp.tanh(given[0] @ matrix),
                                        (1.0 - jnp.tanh(given[0] @ matrix) ** 2) * (motion[0] @ matrix)))
    return apply

def model(rule):
    def head(k, apply):
        law = mfpde.Normal([0.5, 0.1], [0.5, 0.5])
        return mfpde.Family(f"h{k}", 2, lambda t, p: p[1] * apply(p[0] * t), law, linear=(1,))
    return mfpde.Transformer([[head(k, globals()[rule](matrix)) for k, matrix in enumerate(MATRICES)]], 2,
                             lambda t: t[-1, 1:])
"""
RUN = """
name = "user"
[task]
name = "in-context-regression"
samples = 6
context = 3
[model]
python = "heads.py:model"
rule = "plain"
[training]
weight_decay = 0.05
horizon = 0.4
[density]
frame = "comoving"
degree = 1
cells = 6
[time]
step = 0.1
[output]
every = 0.2
"""


def test_a_users_head_with_a_rule_of_its_own_is_the_head_without(tmp_path: Path) -> None:
    """Risk, energy, dissipation, remainder and gap of the whole run."""
    (tmp_path / "heads.py").write_text(HEADS)
    (tmp_path / "user.toml").write_text(RUN)
    histories = []
    for rule in ("plain", "reverse", "forward"):
        execute(run_file.load(tmp_path / "user.toml", [f"model.rule='{rule}'"], str(tmp_path / rule)))
        histories.append(open_run(tmp_path / rule).history)
    for history in histories[1:]:
        for column in ("risk", "energy", "dissipation", "gap", "energy_remainder"):
            assert history[column] == pytest.approx(histories[0][column], rel=1e-9, abs=1e-13, nan_ok=True)


@pytest.mark.parametrize("linear", [True, False])
def test_derivatives_of_the_reduced_potential_against_differences(linear: bool) -> None:
    """∂W and ∂²W in two coordinates q, with three linear coordinates eliminated and with none; both ways to get ∂W."""
    rng = np.random.default_rng(6)
    laws = Normal([0.3], [0.6]), Normal([0.2], [0.5])
    update = lambda t, u, v: jnp.tanh(t[:, :2] @ u)[:, None] * v  # noqa: E731
    plain = lambda t, u: jnp.tanh(t[:, :2] @ u)[:, None] * jnp.ones(3)  # noqa: E731
    family = Family("f", nonlinear=2, linear_shape=(3,), update=update, initial=laws)
    if not linear:
        family = Family("f", nonlinear=2, update=plain, initial=laws[0])
    task = Task(rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 3)))
    model = Transformer([[family]], 2, lambda tokens: tokens[-1])
    problem = Problem(model, task, Training(0.3, 1.0), {"f": Density(nodes=64)}, Time(step=0.1))
    solver = Solver(MPI.COMM_SELF, problem)
    try:
        points, weights, _ = solver.flow.moments(solver.stepper.state)
        probes = PotentialProbes(solver.flow.backprop, (0,), 0.3, points, weights)
        q, h = rng.normal(size=(2, 4, 2)), 1e-4
        (jet,) = probes([q], derivatives=True)
        (value,), (slope,) = probes.slopes([q])
        moved = [[probes([q + sign * h * np.eye(2)[k]], derivatives=True)[0] for sign in (1, -1)] for k in range(2)]
    finally:
        solver.close()
    found = derivatives(jet)
    first = np.stack([(up.value - down.value) / (2 * h) for up, down in moved], axis=-1)
    slopes = [[derivatives(each).slope for each in pair] for pair in moved]
    second = np.stack([(up - down) / (2 * h) for up, down in slopes], axis=-1)
    assert np.abs(found.slope - first).max() < 1e-6 * np.abs(first).max()
    assert np.abs(found.curvature - second).max() < 1e-6 * np.abs(second).max()
    np.testing.assert_allclose(value, jet.value, rtol=1e-12)
    np.testing.assert_allclose(slope, found.slope, rtol=1e-9, atol=1e-12)
