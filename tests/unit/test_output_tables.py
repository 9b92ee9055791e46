"""The csv files: bit-for-bit round trips, their columns, and reading while they grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfpde.errors import InputError
from mfpde.output.records.tables import Table, Tables, moment_columns, read_table
from support.snapshots import make_report, make_snapshot

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1)


def same(a, b):
    """Equal bit for bit, all nan alike."""
    return np.array_equal(np.isnan(a), np.isnan(b)) and (a[~np.isnan(a)].tobytes() == b[~np.isnan(b)].tobytes())


@given(rows=st.lists(st.tuples(st.floats(), NAMES, st.integers(0, 2**40)), max_size=8))
def test_what_is_read_is_what_was_written(tmp_path_factory, rows):
    table = Table(tmp_path_factory.mktemp("table") / "t.csv", ["value", "family", "layer"])
    for value, family, layer in rows:
        table.append([{"value": np.float64(value), "family": family, "layer": layer}])
    read = read_table(table.path)
    assert same(read["value"], np.array([row[0] for row in rows], dtype=np.float64))
    assert read["family"].tolist() == [row[1].rstrip("\0") for row in rows]
    assert read["layer"].tolist() == [row[2] for row in rows]
    assert (read["value"].dtype, read["layer"].dtype, read["family"].dtype.kind) == (np.float64, np.int64, "U")


def test_the_text_is_plain(tmp_path):
    table = Table(tmp_path / "history.csv", ["tau", "risk", "gap", "steps"])
    table.append([{"tau": 0.1, "risk": np.float64(1) / 3, "steps": 12.0}])
    assert table.path.read_text() == "tau,risk,gap,steps\n0.1,0.3333333333333333,nan,12\n"


def test_counts_are_whole_numbers(tmp_path):
    """Written and read; a length of time that is whole keeps its decimal point, and old files are read as they are."""
    table = Table(tmp_path / "history.csv", ["risk", "steps", "step", "passes"])
    table.append([{"risk": 1.0, "steps": 12, "step": 12, "passes": 30}])
    assert table.path.read_text() == "risk,steps,step,passes\n1.0,12,12,30\n"
    read = read_table(table.path)
    assert [(column.dtype.kind, column.tolist()) for column in read.values()] == [
        ("f", [1.0]), ("i", [12]), ("i", [12]), ("i", [30]),
    ]  # fmt: skip

    lengths = Table(tmp_path / "steps.csv", ["step", "accepted"])
    lengths.append([{"step": 1.0, "accepted": True}, {"step": 2.0, "accepted": False}])
    assert lengths.path.read_text() == "step,accepted\n1.0,1\n2.0,0\n"
    assert read_table(lengths.path)["step"].dtype == np.float64

    (tmp_path / "old.csv").write_text("steps,passes\n0,0.0\n12,30\n")
    old = read_table(tmp_path / "old.csv")
    assert (old["steps"].dtype, old["passes"].dtype) == (np.int64, np.float64)
    assert old["passes"].tolist() == [0.0, 30.0]


def test_a_column_that_the_table_lacks_is_refused(tmp_path):
    table = Table(tmp_path / "t.csv", ["tau"])
    with pytest.raises(ValueError, match="rsik"):
        table.append([{"tau": 0.0, "rsik": 1.0}])


def test_a_row_that_is_being_written_is_left_out(tmp_path):
    table = Table(tmp_path / "t.csv", ["tau", "risk"])
    table.append([{"tau": 0.0, "risk": 1.0}])
    with table.path.open("a") as file:
        file.write("0.25,0.123")
    assert read_table(table.path)["tau"].tolist() == [0.0]
    assert read_table(table.path)["risk"].tolist() == [1.0]


def test_missing_and_empty_tables(tmp_path):
    assert read_table(tmp_path / "none.csv") == {}
    Table(tmp_path / "t.csv", ["tau", "family"])
    assert {name: len(column) for name, column in read_table(tmp_path / "t.csv").items()} == {"tau": 0, "family": 0}


@pytest.mark.parametrize("text", ["tau,risk\n1.0\n", "tau\nfast\n", "tau,layer\n0.0,half\n"])
def test_what_is_no_table_is_named(tmp_path, text):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=r"bad\.csv"):
        read_table(tmp_path / "bad.csv")


def test_moments_of_families_of_different_dimension(tmp_path):
    assert moment_columns(2)[4:] == ["mean_0", "mean_1", "cov_00", "cov_01", "cov_11"]
    flat = make_snapshot("interval", 1, layers=2, family="bias")
    wide = make_snapshot("hexahedron", 1, layers=2, count=1, family="neuron, big")
    report = make_report(0.3, [flat, wide])
    Tables(tmp_path).append(report)
    read = read_table(tmp_path / "moments.csv")
    assert list(read) == moment_columns(3)
    assert read["family"].tolist() == ["bias"] * 2 + ["neuron, big"] * 2
    assert read["layer"].tolist() == [0, 1, 0, 1]
    for row, block in enumerate(report.moments):
        dim = len(block.mean)
        assert read["mass"][row] == block.mass
        for i in range(3):
            wanted = block.mean[i] if i < dim else np.nan
            assert same(read[f"mean_{i}"][row : row + 1], np.array([wanted]))
            for j in range(i, 3):
                wanted = block.covariance[i, j] if j < dim else np.nan
                assert same(read[f"cov_{i}{j}"][row : row + 1], np.array([wanted]))


def test_all_four_tables_grow_with_the_reports(tmp_path):
    tables, snapshot = Tables(tmp_path), make_snapshot("interval", 1)
    for tau in (0.0, 0.1):
        tables.append(make_report(tau, [snapshot]))
    assert read_table(tmp_path / "history.csv")["tau"].tolist() == [0.0, 0.1]
    assert read_table(tmp_path / "timings.csv")["right_hand_sides"].tolist() == [12.0, 12.0]
    assert read_table(tmp_path / "moments.csv")["layer"].tolist() == [0, 1, 2, 0, 1, 2]
    assert read_table(tmp_path / "gap.csv")["gap"].tolist() == [0.0, 0.1, 0.2] * 2
