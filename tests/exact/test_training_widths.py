"""AdamW with batches: finite Transformers have the limit's risk as M → ∞, and no limit's of other settings.

The study docs/studies/training_by_steps.py with fewer units and seeds.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mfpde.finite.initial_units import sampled_units

ROOT = Path(__file__).resolve().parents[2]
UNITS, SEEDS, METHOD = (16, 64, 256), 32, "adamw"


@cache
def study() -> ModuleType:
    """docs/studies/training_by_steps.py as a module."""
    name = "training_by_steps"
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "studies" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@cache
def records() -> dict[int, list[Any]]:
    case = study().CASES["value matrices"]
    return study().trained(case, case.optimiser(METHOD), 2, UNITS, SEEDS)


def limit(**others: Any) -> float:
    case = study().CASES["value matrices"]
    return study().limit(case, case.optimiser(METHOD, **others), 2, 2**10, split=True)[0]


def test_the_risk_at_infinite_width_is_the_limits_and_of_no_other_settings():
    found = study().infinite(study().CASES["value matrices"], records(), 0.95)
    assert found["half_width"] <= 0.02 * found["value"]
    assert study().is_inside(found, limit())
    for wrong in ({"beta2": 0.9}, {"seed": 1}):
        assert not study().is_inside(found, limit(**wrong)), wrong


def test_the_spread_over_seeds_falls_with_the_root_of_the_width():
    deviations, exponent = study().spread(study().risks_of(records(), SEEDS))
    assert exponent.value == pytest.approx(-0.5, abs=0.1)
    assert exponent.low < -0.5 < exponent.high
    assert deviations[0] > 0.02 * limit()


def test_blocks_are_the_units_of_a_seed():
    case = study().CASES["value matrices"]
    model = case.model(2)
    (whole,) = sampled_units(model, 64, 3)
    blocks = [r.job.units(model)[0] for r in records()[16] if r.job.seed == 3]
    np.testing.assert_array_equal(np.concatenate([theta for theta, _ in blocks], axis=1)[:, :64], whole[0])
    np.testing.assert_array_equal(blocks[1][1], np.full((2, 16), 1.0 / 16.0))


def test_biases_are_found_where_there_are_some():
    """R = 1 + 2/M + ψ: ψ is the mean over a block of what belongs to its units, and cancels in the differences."""
    rng, risks = np.random.default_rng(0), {}
    units = rng.normal(size=(SEEDS, 1024))
    for m in (16, 64, 256, 1024):
        means = units.reshape(SEEDS, -1, m).mean(axis=2)
        risks[m] = 1.0 + 2.0 / m * (1.0 + 0.5 * rng.normal(size=means.shape)) + means
    found = study().bias(risks, 0.99)
    np.testing.assert_allclose(found["difference"], [-6.0 / m for m in (64, 256, 1024)], rtol=0.2)
    assert found["exponent"]["value"] == pytest.approx(-1.0, abs=0.1)

    none = {m: 1.0 + rng.normal(size=r.shape) / np.sqrt(m) for m, r in risks.items()}
    assert study().bias(none, 0.99)["exponent"] is None
