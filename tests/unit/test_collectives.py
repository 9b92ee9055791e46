"""What a right-hand side costs to communicate: two reductions, a third for moving frames, one exchange a mesh."""

from __future__ import annotations

import numpy as np
import pytest
from dolfinx import la

from exact.test_identities import some_model, some_solver, some_task
from mfpde.config.settings import Density
from mfpde.limit.backprop import tile_size
from mfpde.parallel import reductions


@pytest.mark.parametrize(("frame", "count"), [("fixed", 2), ("comoving", 3)])
def test_reductions_and_exchanges_of_a_right_hand_side(frame, count, monkeypatch):
    counted = {"reductions": 0, "exchanges": 0}
    reduce, scatter = reductions.sum_over_ranks, la.Vector.scatter_forward

    def counting_reduce(comm, share):
        counted["reductions"] += 1
        return reduce(comm, share)

    def counting_scatter(vector):
        counted["exchanges"] += 1
        scatter(vector)

    solver = some_solver(some_model(0), some_task(0), Density(cells=4, frame=frame))
    monkeypatch.setattr(reductions, "sum_over_ranks", counting_reduce)
    monkeypatch.setattr(la.Vector, "scatter_forward", counting_scatter)
    try:
        rate = solver.flow.rate(solver.stepper.state)
    finally:
        solver.close()
    assert np.isfinite(rate.speed)
    assert counted == {"reductions": count, "exchanges": 1}


@pytest.mark.parametrize(("samples", "tiles"), [(3, 1), (128, 32), (255, 64), (256, 32), (4096, 512)])
def test_as_many_tiles_as_32_ranks_need(samples, tiles):
    assert -(-samples // tile_size(samples)) == tiles
