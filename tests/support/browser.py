"""A real browser without a screen, for the tests of pages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)")


def browse(address: str, folder: Path, *words: str) -> str:
    """Open a page, and what the browser prints.

    Args:
        address: of the page.
        folder: where the browser may keep its profile.
        words: further options, such as `--dump-dom` and `--screenshot=FILE`.
    """
    quiet = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    line = [str(CHROMIUM), *quiet, *words, address]
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=600).stdout
