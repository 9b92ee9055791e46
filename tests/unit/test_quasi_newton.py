"""Fixed points by quasi-Newton: linear problems of low rank, pairs of other steps, stale and empty pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pytest

from mfpde.errors import InputError
from mfpde.limit.timestepping.quasi_newton import KEPT, Differences, Tables, difference, norm

SHAPES = [(2, 15), (2, 4)]  # two families
SIZE = sum(int(np.prod(shape)) for shape in SHAPES)


def tables(flat: np.ndarray) -> Tables:
    """Per family, from one vector."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES])[:-1]
    return tuple(part.reshape(shape) for part, shape in zip(np.split(flat, ends), SHAPES, strict=True))


def flat(parts: Tables) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])


ROOT_MASS = list(tables(np.random.default_rng(0).uniform(0.1, 1.0, size=SIZE)))


@dataclass(frozen=True)
class Linear:
    """P(x) = b + Δ U C Vᵀ x, of low rank, which plain iteration would blow up."""

    matrix: np.ndarray
    shift: np.ndarray

    @classmethod
    def drawn(cls, rank: int, seed: int = 1, size: float = 30.0) -> Linear:
        """The same range for every seed."""
        left = np.random.default_rng(17).normal(size=(SIZE, rank)) / np.sqrt(SIZE)
        draw = np.random.default_rng(seed)
        matrix = -size * left @ draw.normal(size=(rank, SIZE)) / np.sqrt(SIZE)
        return cls(matrix, np.random.default_rng(19).normal(size=SIZE))

    def at(self, guess: Tables, step: float = 1.0) -> Tables:
        return tables(self.shift + step * self.matrix @ flat(guess))

    def fixed(self, step: float = 1.0) -> np.ndarray:
        return np.linalg.solve(np.eye(SIZE) - step * self.matrix, self.shift)


def pairs(problem: Linear, rank: int, step: float = 1.0, seed: int = 5) -> Differences:
    """As many independent ones as the rank, of guesses in the range of the answers."""
    found = Differences()
    for weights in np.random.default_rng(seed).normal(size=(rank, SIZE)):
        guess = tables(problem.matrix @ weights)
        answer = tables(step * problem.matrix @ flat(guess))
        found = found.extended(guess, answer, step)
    return found


def begun(problem: Linear, step: float = 1.0) -> tuple[Tables, Tables]:
    """A pass whose guess was one itself, and its residual."""
    guess = problem.at(tables(np.ones(SIZE)), step)
    passed = problem.at(guess, step)
    return passed, difference(passed, guess)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_linear_problem_of_low_rank_is_solved_in_one_iteration_more_than_its_rank(rank: int) -> None:
    """An iteration would multiply errors by five and more. Not before, and to rounding then."""
    problem = Linear.drawn(rank)
    assert np.abs(np.linalg.eigvals(problem.matrix)).max() > 5.0
    guess, differences, errors = tables(np.zeros(SIZE)), Differences(), []
    passed = problem.at(guess)
    for _ in range(rank + 1):
        trial = differences.solved(passed, difference(passed, guess), 1.0, ROOT_MASS)
        again = problem.at(trial)
        differences = differences.extended(difference(trial, guess), difference(again, passed), 1.0)
        guess, passed = trial, again
        found = differences.solved(passed, difference(passed, guess), 1.0, ROOT_MASS)
        errors.append(np.abs(flat(found) - problem.fixed()).max() / np.abs(problem.fixed()).max())
    assert min(errors[:-1]) > 1e-3
    assert errors[-1] < 1e-10


@pytest.mark.parametrize("step", [0.02, 0.5, 4.0])
def test_pairs_of_another_step_are_scaled_by_the_time_that_the_nodes_move(step: float) -> None:
    """The answer is proportional to the step, so that pairs of one step solve the next one at once."""
    problem = Linear.drawn(3)
    passed, residual = begun(problem, step)
    found = pairs(problem, 3, step=0.1).solved(passed, residual, step, ROOT_MASS)
    assert np.abs(flat(found) - problem.fixed(step)).max() < 1e-9 * np.abs(problem.fixed(step)).max()


def test_the_newest_pairs_win_over_stale_ones() -> None:
    """Older pairs of another problem with the same range change nothing; newer ones of it would."""
    problem, other = Linear.drawn(3), Linear.drawn(3, seed=2)
    passed, residual = begun(problem)
    right, stale = pairs(problem, 3), pairs(other, 3, seed=6)

    def joined(new: Differences, old: Differences) -> Differences:
        return Differences(new.guesses + old.guesses, new.passes + old.passes, new.steps + old.steps)

    scale = np.abs(problem.fixed()).max()
    found = joined(right, stale).solved(passed, residual, 1.0, ROOT_MASS)
    assert np.abs(flat(found) - problem.fixed()).max() < 1e-9 * scale
    found = joined(stale, right).solved(passed, residual, 1.0, ROOT_MASS)
    assert np.abs(flat(found) - problem.fixed()).max() > 1e-2 * scale


def test_without_pairs_it_is_the_pass_itself() -> None:
    passed, residual = begun(Linear.drawn(2))
    assert Differences().solved(passed, residual, 1.0, ROOT_MASS) is passed


def test_pairs_twice_or_of_nothing_or_of_rounding_are_harmless() -> None:
    """Each as the oldest and as the newest beside pairs that solve the problem."""
    problem = Linear.drawn(2)
    passed, residual = begun(problem)
    right = pairs(problem, 2)
    nothing, tiny = tables(np.zeros(SIZE)), tables(np.full(SIZE, 1e-300))
    useless = {
        "twice": (right.guesses[0], right.passes[0]), "nothing": (nothing, nothing), "tiny": (tiny, tiny),
        "no answer": (right.guesses[1], nothing),
    }  # fmt: skip
    exact = problem.fixed()
    for name, (guess, answer) in useless.items():
        alone = Differences().extended(guess, answer, 1.0).solved(passed, residual, 1.0, ROOT_MASS)
        assert np.isfinite(flat(alone)).all(), name
        oldest = Differences((*right.guesses, guess), (*right.passes, answer), (*right.steps, 1.0))
        found = oldest.solved(passed, residual, 1.0, ROOT_MASS)
        assert np.abs(flat(found) - exact).max() < 1e-9 * np.abs(exact).max(), name
        if name != "no answer":
            found = right.extended(guess, answer, 1.0).solved(passed, residual, 1.0, ROOT_MASS)
            assert np.abs(flat(found) - exact).max() < 1e-9 * np.abs(exact).max(), name


def test_points_without_mass_have_no_say() -> None:
    """What a pass gives there changes only the values there."""
    problem = Linear.drawn(2)
    passed, residual = begun(problem)
    root_mass = [mass.copy() for mass in ROOT_MASS]
    root_mass[0][:, ::3] = 0.0
    away = (np.where(root_mass[0] > 0.0, 0.0, 1e3), np.zeros(SHAPES[1]))
    one = pairs(problem, 1)
    plain = one.solved(passed, residual, 1.0, root_mass)
    other = one.solved(passed, tuple(a + b for a, b in zip(residual, away, strict=True)), 1.0, root_mass)
    assert np.abs(flat(plain) - flat(other)).max() < 1e-12 * np.abs(flat(plain)).max()
    assert norm(away, root_mass) == 0.0
    assert norm(residual, ROOT_MASS) == pytest.approx(
        np.linalg.norm(flat(residual) * flat(tuple(ROOT_MASS))), rel=1e-14
    )


def test_the_oldest_pair_is_forgotten_and_every_table_is_mapped() -> None:
    found = Differences()
    for number in range(KEPT + 3):
        found = found.extended(
            tables(np.full(SIZE, float(number))), tables(np.full(SIZE, -float(number))), 1.0 + number
        )
    assert found.steps == tuple(1.0 + number for number in range(KEPT + 2, 2, -1))
    assert [guess[0][0, 0] for guess in found.guesses] == [step - 1.0 for step in found.steps]
    assert [answer[1][0, 0] for answer in found.passes] == [1.0 - step for step in found.steps]

    half = found.mapped(lambda parts: tuple(0.5 * part for part in parts))
    assert half.steps == found.steps
    for name in ("guesses", "passes"):
        for old, new in zip(getattr(found, name), getattr(half, name), strict=True):
            assert (0.5 * flat(old) == flat(new)).all()


def test_what_is_restored_is_what_was_saved_and_fits() -> None:
    saved = asdict(pairs(Linear.drawn(2), 2))
    found = Differences.restored(saved, SHAPES)
    assert all((flat(a) == flat(tuple(b))).all() for a, b in zip(found.guesses, saved["guesses"], strict=True))
    assert found.steps == saved["steps"]
    empty = Differences.restored(asdict(Differences()), SHAPES)
    assert empty == Differences()

    wrong = {
        "a pass is missing": saved | {"passes": saved["passes"][:1]},
        "a step is missing": saved | {"steps": saved["steps"][:1]},
        "a step of nothing": saved | {"steps": (0.0, 1.0)},
        "a step that is no number": saved | {"steps": (float("nan"), 1.0)},
        "too many": {name: values * KEPT for name, values in saved.items()},
        "a family is missing": saved | {"guesses": tuple(each[:1] for each in saved["guesses"])},
        "another table": saved | {"passes": tuple((each[0][:, :3], each[1]) for each in saved["passes"])},
    }
    for name, values in wrong.items():
        with pytest.raises(InputError, match="differences"):
            pytest.fail(name + str(Differences.restored(values, SHAPES)))
