"""Sums that do not depend on the order: the same bits for any grouping, and as good as an exact sum."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfpde.parallel.exact_sum import LEVELS, Share, add_exactly, collapse, share_of, split, split_traced

TERMS = st.lists(
    st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: x * 10.0 ** -(abs(hash(x)) % 12)), min_size=2, max_size=60
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(terms=TERMS, seed=st.integers(0, 1000), cut=st.integers(0, 60))
def test_any_order_and_grouping_gives_the_same_bits(terms: list[float], seed: int, cut: int) -> None:
    """Two ranks with shuffled terms against one rank; ordinary sums differ for some of these lists."""
    values = np.array(terms)
    shuffled = np.random.default_rng(seed).permutation(values)
    alone = share_of(values, axes=(0,)).value
    together = (share_of(shuffled[:cut], axes=(0,)) + share_of(shuffled[cut:], axes=(0,))).value
    assert alone == together
    assert abs(alone - math.fsum(terms)) <= 1e-16 * abs(math.fsum(terms)) * 2 + len(terms) * 2.0**-81


def test_ordinary_sums_do_depend_on_the_order() -> None:
    """Else the test above could not fail."""
    values = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.random.default_rng(1).uniform(-8, 4, 1000)
    orders = [np.random.default_rng(seed).permutation(values) for seed in range(20)]
    assert len({float(np.add.accumulate(order)[-1]) for order in orders}) > 1
    assert len({float(share_of(order, axes=(0,)).value) for order in orders}) == 1


def test_compiled_and_traced_forms_cut_alike() -> None:
    """The three implementations agree to the bit; a level is a whole multiple of its quantum."""
    terms = np.random.default_rng(2).normal(size=64) * 10.0 ** np.random.default_rng(3).uniform(-9, 3, 64)
    levels = split(terms)
    assert (np.asarray(jax.jit(split_traced)(terms)) == levels).all()
    compiled = np.zeros((LEVELS, 64))
    add_exactly(terms, *compiled)
    assert (compiled == levels).all()
    for level, power in zip(levels, (20, 50, 80), strict=True):
        assert (np.ldexp(level, power) == np.rint(np.ldexp(level, power))).all()
    assert np.abs(collapse(levels) - terms).max() <= 2.0**-53 * np.abs(terms).max()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_term_that_is_not_finite_is_not_lost(bad: float) -> None:
    """The check for finite numbers comes after the sum."""
    assert not np.isfinite(share_of(np.array([1.0, bad]), axes=(0,)).value)


def test_a_difference_of_shares_is_exact() -> None:
    """a − a is zero, also for shares that were added up in different orders."""
    terms = np.random.default_rng(4).normal(size=200)
    one, other = share_of(terms, axes=(0,)), share_of(terms[::-1], axes=(0,))
    assert isinstance(one - other, Share)
    assert (one - other).value == 0.0
