"""`mfpde view`: what is served is what the runs hold, to this machine alone, and nothing else of it."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mfpde import InputError
from mfpde.figures.pages.run_server import HOST, RunServer
from support.browser import browse, needs_browser
from support.drawn import make_run
from support.launch import run as launch


@contextmanager
def served(folder: Path) -> Iterator[RunServer]:
    with RunServer(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(server: RunServer, path: str, host: str = "") -> tuple[int, str]:
    """The status and the text; the path goes out as it is."""
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=60)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"{HOST}:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_runs_of_a_folder_and_their_reports(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "deep" / "one")
    make_run(tmp_path / "runs" / "two", ended=False)
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    with served(tmp_path / "runs") as server:
        assert get(server, "/")[0] == 200
        rows = json.loads(get(server, "/runs.json")[1])
        assert [row["name"] for row in rows] == ["deep/one", "two"]
        assert [row["outcome"] for row in rows] == ["done", "running"]
        assert rows[0]["columns"]["risk"] == run.history["risk"].tolist()
        assert rows[0]["tau"] == run.taus.tolist()
        status, page = get(server, "/run?name=deep%2Fone")
        assert (status, "explorer-data" in page) == (200, True)
        assert json.loads(get(server, "/state.json?name=two")[1]) == {"reports": 3, "ended": False}
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before


def test_nothing_outside_the_folder_is_served(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "one")
    make_run(tmp_path / "outside")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "runs" / "halfway").mkdir()
    (tmp_path / "runs" / "halfway" / "manifest.json").symlink_to(tmp_path / "outside" / "manifest.json")
    with served(tmp_path / "runs") as server:
        assert [row["name"] for row in json.loads(get(server, "/runs.json")[1])] == ["one"]
        for name in (
            "../outside",
            "..%2Foutside",
            "%2e%2e%2foutside",
            "link",
            "halfway",
            "one/../../outside",
            "%00",
            "",
        ):
            status, text = get(server, f"/run?name={name}")
            assert (status, "explorer" in text) == (404, False), name
        for path in ("/../outside/history.csv", "/one/history.csv", "/..%2foutside", "//etc/passwd", "/run/one"):
            assert get(server, path) == (404, "There is no such page.")
        assert get(server, "/runs.json", host=f"evil.example:{server.server_port}") == (403, "not from here")
        assert server.server_address[0] == "127.0.0.1"


def test_a_run_that_is_deleted_or_damaged_under_it(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two")
    with served(tmp_path) as server:
        shutil.rmtree(tmp_path / "one")
        assert get(server, "/run?name=one")[0] == 404
        (tmp_path / "two" / "history.csv").write_text("tau,risk\n0,1\nx")
        status, text = get(server, "/run?name=two")
        assert status == 404
        assert "cannot be shown" in text
        (row,) = json.loads(get(server, "/runs.json")[1])
        assert row["columns"] == {"risk": [1.0]}  # the complete rows
        make_run(tmp_path / "three")
        assert get(server, "/run?name=three")[0] == 200


@needs_browser
def test_the_list_in_a_browser(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name)
    with served(tmp_path / "runs") as server:
        text = browse(server.address, tmp_path, "--virtual-time-budget=2000", "--dump-dom")
    assert 'data-ready="yes"' in text
    assert text.count('href="/run?name=') == 2
    assert text.count('class="curve"') == 2


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        RunServer(tmp_path / "none", 0)
    with RunServer(tmp_path, 0) as server, pytest.raises(InputError, match=r"--port \d+: .* another may be free"):
        RunServer(tmp_path, server.server_port)
    ended = launch("-m", "mfpde.view", tmp_path, "--port", "x")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--port" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
