"""Compile DOLFINx's forms with a C compiler and nothing else.

DOLFINx turns a form into an extension module of Python, which takes Python's header files as well as a compiler.
Debian's `python3` comes without them. The generated kernels do not use them: compiled into a plain shared library and
opened by address they are the same kernels. `needs_no_headers()` puts that in the place of DOLFINx's own way where
headers are missing, and changes nothing elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SWITCHES = ("-std=c17", "-O2", "-shared", "-fPIC", "-w")


def needs_no_headers() -> None:
    """Let `dolfinx.fem.form` work without Python.h; call it before the first form."""
    if (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return
    import dolfinx.jit

    dolfinx.jit.ffcx_jit = dolfinx.jit.mpi_jit_decorator(compile_form)


def compile_form(ufl_object: Any, form_compiler_options: Any = None, jit_options: Any = None) -> tuple[Any, ...]:
    """What `dolfinx.jit.ffcx_jit` returns for a form: the UFCx object, something with `ffi`, and the code."""
    import cffi
    import dolfinx.jit
    import ffcx.compiler
    import ffcx.naming
    import ufl
    from ffcx.codegeneration import get_include_path, jit

    if not isinstance(ufl_object, ufl.Form):
        raise NotImplementedError("an expression: install Python's header files (python3-dev)")
    options = ffcx.get_options(form_compiler_options)
    asked = dolfinx.jit.get_options(jit_options)
    switches = (*SWITCHES, *asked["cffi_extra_compile_args"])
    module = "mfpde_" + ffcx.naming.compute_signature(
        [ufl_object], str(sorted(options.items(), key=str)) + str(switches)
    )
    name = ffcx.naming.form_name(ufl_object, 0, module)
    library = Path(asked["cache_dir"]) / f"{module}.so"
    if not library.exists():
        code, _ = ffcx.compiler.compile_ufl_objects([ufl_object], namespace=module, options=options)
        _build(code[1], library, (*switches, f"-I{get_include_path()}"))
    ffi = cffi.FFI()
    ffi.cdef(
        jit.UFC_HEADER_DECL.format("float64") + jit.UFC_INTEGRAL_DECL + jit.UFC_FORM_DECL + f"extern ufcx_form {name};"
    )
    opened = ffi.dlopen(str(library))
    return getattr(opened, name), SimpleNamespace(ffi=ffi, lib=opened), (None, None)


def _build(code: str, library: Path, switches: tuple[str, ...]) -> None:
    """Compile beside the target and rename: ranks and test runs that come at once find all of it or nothing."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RuntimeError("compiling a finite-element form needs a C compiler: none is called cc, and CC is not set")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        source, built = Path(folder) / "form.c", Path(folder) / "form.so"
        source.write_text(code)
        subprocess.run([compiler, *switches, str(source), "-o", str(built)], check=True)
        built.replace(library)
