"""The growing .pvd: what it costs to add an entry, and what is left of it when that goes wrong."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mfpde.errors import InputError
from mfpde.output.fields.pvd import Collection, read_first, read_pvd

ENTRIES = [(0.25 * k, f"density/density_heads_{k:04d}.vtu") for k in range(300)]


def grown(path: Path, count: int = len(ENTRIES)) -> Collection:
    collection = Collection(path)
    for entry in ENTRIES[:count]:
        collection.append(*entry)
    return collection


def names(path: Path) -> list[tuple[float, str]]:
    return [(tau, str(file.relative_to(path.parent))) for tau, file in read_pvd(path)]


def test_it_is_what_it_would_be_in_one_piece(tmp_path: Path) -> None:
    grown(tmp_path / "a.pvd")
    Collection(tmp_path / "b.pvd", ENTRIES).write()
    assert (tmp_path / "a.pvd").read_bytes() == (tmp_path / "b.pvd").read_bytes()
    assert names(tmp_path / "a.pvd") == ENTRIES


def test_one_that_is_continued_keeps_its_entries(tmp_path: Path) -> None:
    Collection(tmp_path / "a.pvd", ENTRIES[:7]).append(*ENTRIES[7])
    assert names(tmp_path / "a.pvd") == ENTRIES[:8]


def test_an_entry_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    """The bytes that the process writes for one, by Linux's count."""
    collection, costs = grown(tmp_path / "a.pvd", 1), []
    for entry in ENTRIES[1:]:
        before = written()
        collection.append(*entry)
        costs.append(written() - before)
    assert max(costs) - min(costs) <= 2  # digits of τ


def written() -> int:
    text = Path("/proc/self/io").read_text()
    return int(text.split("wchar:")[1].split()[0])


def test_an_entry_that_does_not_fit_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.pvd"
    collection = grown(path, 5)
    before, size = path.read_bytes(), path.stat().st_size
    for room in (0, 1, 40):
        with files_of_at_most(size + room), pytest.raises(OSError, match=r"File too large.*a\.pvd"):
            collection.append(*ENTRIES[5])
        assert path.read_bytes() == before
    collection.append(*ENTRIES[5])
    assert names(path) == ENTRIES[:6]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_crash_of_the_machine_costs_none_of_the_entries_before(tmp_path: Path) -> None:
    """Whatever part of an entry and of the closing tags has reached the disk."""
    path = tmp_path / "a.pvd"
    grown(path, 3)
    start, size = path.read_bytes().index(ENTRIES[2][1].encode()), path.stat().st_size
    for end in range(size - 1, start, -1):
        os.truncate(path, end)
        assert [file.name for _, file in read_first(path, 2)] == [Path(name).name for _, name in ENTRIES[:2]]
    path.write_text("<VTKFile")
    with pytest.raises(InputError, match=r"a\.pvd is not a collection"):
        read_first(path, 1)
