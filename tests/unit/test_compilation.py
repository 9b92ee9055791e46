"""Kernels are compiled anew when, and only when, something that they are made of has changed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numba
import pytest

from mfpde.limit.transport import tensor_kernels
from mfpde.parallel import caches, compilation

FILES = {
    "__init__": "",
    "constants": "FACTOR = 2.0\n",
    "callee": (
        "from mfpde.parallel.compilation import kernel\n\nfrom pack.constants import (\n    FACTOR,\n)\n\n\n"
        "@kernel()\ndef scaled(x):\n    return FACTOR * x\n"
    ),
    "caller": (
        "from mfpde.parallel.compilation import kernel\n\nfrom pack import callee\n\nscaled = callee.scaled\n\n\n"
        "@kernel()\ndef shifted(x):\n    return scaled(x) + 1.0\n"
    ),
    "other": "UNUSED = 1\n",
}


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A function that imports a package of kernels as a new process would, and calls one of them."""
    folder = tmp_path / "pack"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(compilation, "_PACKAGE", folder)

    def call():
        for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        compilation._content.cache_clear()
        shifted = importlib.import_module("pack.caller").shifted
        value = shifted(3.0)
        return value, sum(shifted.stats.cache_hits.values()), shifted.stats.cache_path

    return call


def change(folder: Path, name: str, old: str, new: str) -> None:
    """Edit a module, without a change of its size, and as if within the clock's resolution."""
    path = folder / "pack" / f"{name}.py"
    before = path.stat()
    path.write_text(path.read_text().replace(old, new))
    for compiled in path.parent.glob(f"__pycache__/{name}.*.pyc"):
        compiled.unlink()
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize(
    ("name", "old", "new", "value"),
    [("callee", "FACTOR * x", "FACTOR / x", 2.0 / 3.0 + 1.0), ("constants", "2.0", "5.0", 16.0),
     ("caller", "+ 1.0", "- 1.0", 5.0)],
)  # fmt: skip
def test_a_change_of_what_a_kernel_is_made_of(name, old, new, value, fresh, tmp_path):
    assert fresh()[:2] == (7.0, 0)
    assert fresh()[:2] == (7.0, 1)
    change(tmp_path, name, old, new)
    assert fresh()[:2] == (value, 0)
    assert fresh()[:2] == (value, 1)


def test_a_change_of_anything_else(fresh, tmp_path):
    fresh()
    change(tmp_path, "other", "1", "2")
    assert fresh()[:2] == (7.0, 1)


def test_kernels_are_kept_where_files_can_be_written(fresh, tmp_path, monkeypatch):
    beside = str(tmp_path / "pack" / "__pycache__")
    assert fresh()[2] == beside
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "named"))
    assert Path(fresh()[2]).parent == tmp_path / "named"
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caches, "is_usable", lambda folder: str(folder) != beside)
    monkeypatch.setenv("MFPDE_CACHE", str(tmp_path / "own"))
    compilation._folder.cache_clear()
    assert Path(fresh()[2]).parent == tmp_path / "own" / "numba"
    compilation._folder.cache_clear()


def test_the_modules_that_generate_code_are_among_the_sources():
    files, packages = compilation.sources(Path(tensor_kernels.__file__))
    assert {"tensor_kernels", "codegen", "simd", "sum_factorisation", "elements"} <= {path.stem for path in files}
    assert {"basix", "numpy", "llvmlite"} <= packages


def test_without_numbas_compiler_a_kernel_is_the_function_itself(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)

    def double(x):
        return 2 * x

    assert compilation.kernel()(double) is double
