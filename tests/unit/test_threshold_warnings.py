"""Warnings: at the first report that crosses an indicator's threshold, and a tenfold of it, naming the worst block."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mfpde.output.records.report import BlockIndicators, Report
from mfpde.output.records.threshold_warnings import THRESHOLDS, ThresholdWarnings
from support.snapshots import make_report

CALM = BlockIndicators("heads", 0, 0.0, 0.1, -1e-9, 1e-9, 1e-15)


def report(tau: float, *blocks: BlockIndicators) -> Report:
    return dataclasses.replace(make_report(tau), indicators=blocks)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda threshold: threshold.name)
def test_each_threshold_is_warned_of_once_with_its_worst_block(threshold):
    lines = []
    warnings = ThresholdWarnings(lines.append)
    warnings.report(report(0.0, CALM))
    assert lines == []
    bad = dataclasses.replace(CALM, layer=1, **{threshold.name: 1.1 * threshold.most})
    worse = dataclasses.replace(CALM, family="neurons", layer=2, **{threshold.name: 1.2 * threshold.most})
    for tau in (0.5, 0.75):
        warnings.report(report(tau, CALM, bad, worse))
    assert lines == warnings.issued
    assert len(lines) == 1
    assert f"tau = 0.5, family 'neurons', layer 2: {threshold.remedy}" in lines[0]
    assert threshold.name in lines[0]


def test_a_report_may_cross_several():
    lines = []
    ThresholdWarnings(lines.append).report(report(0.0, dataclasses.replace(CALM, resolution=0.9, negative_mass=0.3)))
    assert [line.split()[1] for line in lines] == ["resolution", "negative_mass"]


def test_what_grows_by_orders_of_magnitude_is_warned_of_again():
    """A negative mass of 1e4 after one of 0.06; a checkpoint keeps how far it had come."""
    lines = []
    warnings = ThresholdWarnings(lines.append)
    for tau, value in enumerate((0.06, 0.2, 0.6, 0.7, 0.06, 9080.0, np.inf)):
        warnings.report(report(float(tau), CALM, dataclasses.replace(CALM, layer=1, negative_mass=value)))
    assert [line.partition(" at ")[0].split()[3] for line in lines] == ["0.06", "0.6", "9.08e+03", "inf"]
    assert "the risk may still be right" in lines[0]
    assert not any("may still be right" in line for line in lines[1:])
    again = ThresholdWarnings(lines.append, json.loads(json.dumps(warnings.state_dict())))
    again.report(report(9.0, dataclasses.replace(CALM, negative_mass=1e5, boundary_mass=0.01)))
    assert [line.split()[1] for line in lines[4:]] == ["boundary_mass"]
    assert again.issued == lines


def test_a_risk_with_a_large_error_is_warned_of():
    """Above one per cent of the risk, and at tenfolds of it; a tiny risk counts as 1e-4 of the first."""
    lines = []
    warnings = ThresholdWarnings(lines.append)
    course = [(1.0, 0.009), (0.1, 0.002), (0.1, 0.003), (0.01, 0.002), (1e-9, 9e-7), (1e-9, float("nan"))]
    for tau, (risk, error) in enumerate(course):
        warnings.report(make_report(float(tau), risk=risk, risk_error=error))
    assert [line.partition(":")[2].partition(":")[0] for line in lines] == [
        " risk_error = 0.002, 2 % of the risk, at tau = 1",
        " risk_error = 0.002, 20 % of the risk, at tau = 3",
    ]
    again = ThresholdWarnings(lines.append, json.loads(json.dumps(warnings.state_dict())))
    again.report(make_report(9.0, risk=1e-9, risk_error=9e-7))
    assert len(lines) == 2


def test_the_cure_of_a_large_error_is_that_of_the_run():
    """Neither cells nor a tolerance do anything for training by steps."""
    for step, cure in (({}, "lower time.tolerance and raise density.cells"), ({"step": 1.0}, "raise density.nodes")):
        lines = []
        history = {**make_report(0.0).history, "risk": 1.0, "risk_error": 0.1, **step}
        ThresholdWarnings(lines.append).report(
            dataclasses.replace(make_report(0.0), indicators=(CALM,), history=history)
        )
        assert len(lines) == 1
        assert f"at tau = 0: {cure}" in lines[0]


def test_an_energy_that_grows_is_warned_of():
    """Along the flow it falls; by steps it may rise a little, and a rate that is too large is named."""
    lines = []
    warnings = ThresholdWarnings(lines.append)
    for tau, energy in enumerate((2.0, 2.9, 3.1, 3.2, 80.0)):
        history = {**make_report(0.0).history, "energy": energy, "risk_error": 0.0, "step": float(tau)}
        warnings.report(dataclasses.replace(make_report(float(tau)), indicators=(CALM,), history=history))
        warnings = ThresholdWarnings(lines.append, json.loads(json.dumps(warnings.state_dict())))
    assert [line.split()[4] for line in lines] == ["3.1", "80"]
    assert all("lower training.learning_rate" in line for line in lines)
