"""Which reports have a gap: of a flow every tenth and the last, of training by steps the last where that is cheap."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mfpde import open_run
from mfpde.solve import main

TASK = """
[task]
name = "in-context-regression"
samples = 16
seed = 1
[model]
name = "attention"
layers = 1
[density]
{density}
[output]
gap = "{gap}"
{every}
[training]
weight_decay = 0.2
{training}
"""
FLOW = "horizon = 0.11"
STEPS = 'method = "sgd"\nlearning_rate = 0.01\nbatch = 4\nsteps = {}'


def gaps(tmp_path: Path, gap: str, training: str) -> list[bool]:
    """Of every report: has it a gap?"""
    flow = training == FLOW
    path = tmp_path / "run.toml"
    path.write_text(
        TASK.format(
            gap=gap, training=training, density="cells = 4" if flow else "nodes = 16",
            every="every = 0.01" if flow else "every = 40",
        )
    )  # fmt: skip
    assert main([str(path), "--directory", str(tmp_path / "run")]) == 0
    return [math.isfinite(float(value)) for value in open_run(tmp_path / "run").history["gap"]]


def numbers(found: list[bool]) -> list[int]:
    return [k for k, has in enumerate(found) if has]


def test_of_a_flow_every_tenth_report_and_the_last(tmp_path: Path) -> None:
    found = gaps(tmp_path, "auto", FLOW)
    assert len(found) == 12
    assert numbers(found) == [10, 11]


@pytest.mark.parametrize(("gap", "all_of_them"), [("always", True), ("never", False)])
@pytest.mark.parametrize("training", [FLOW, STEPS.format(40)])
def test_all_or_none(tmp_path: Path, gap: str, all_of_them: bool, training: str) -> None:
    assert set(gaps(tmp_path, gap, training)) == {all_of_them}


@pytest.mark.parametrize(("steps", "last"), [(79, False), (80, True)])
def test_of_training_by_steps_the_last_after_twenty_passes(
    tmp_path: Path, steps: int, last: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    found = gaps(tmp_path, "auto", STEPS.format(steps))
    assert numbers(found) == ([len(found) - 1] if last else [])
    assert ('output.gap = "always"' in capfd.readouterr().out) is not last
