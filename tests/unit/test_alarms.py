"""Warnings: once for each indicator, at the first report that crosses its threshold, naming the worst block."""

from __future__ import annotations

import dataclasses

import pytest

from mfpde.output.alarms import THRESHOLDS, Alarms
from mfpde.output.report import BlockIndicators, Report
from snapshots import make_report

CALM = BlockIndicators("heads", 0, 0.0, 0.1, -1e-9, 1e-9, 1e-15)


def report(tau: float, *blocks: BlockIndicators) -> Report:
    return dataclasses.replace(make_report(tau), indicators=blocks)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda threshold: threshold.name)
def test_each_threshold_is_told_once_with_its_worst_block(threshold):
    lines = []
    alarms = Alarms(lines.append)
    alarms.report(report(0.0, CALM))
    assert lines == []
    bad = dataclasses.replace(CALM, layer=1, **{threshold.name: 1.1 * threshold.most})
    worse = dataclasses.replace(CALM, family="neurons", layer=2, **{threshold.name: 1.2 * threshold.most})
    for tau in (0.5, 0.75):
        alarms.report(report(tau, CALM, bad, worse))
    assert lines == alarms.told
    assert len(lines) == 1
    assert f"tau = 0.5, family 'neurons', layer 2: {threshold.remedy}" in lines[0]
    assert threshold.name in lines[0]


def test_a_report_may_cross_several():
    lines = []
    Alarms(lines.append).report(report(0.0, dataclasses.replace(CALM, resolution=0.9, negative_mass=0.3)))
    assert [line.split()[1] for line in lines] == ["resolution", "negative_mass"]
