"""What readers of .vtu and .vtp files have in common: VTK's reader without its complaints, and names in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkStringOutputWindow
from vtkmodules.vtkCommonDataModel import vtkDataSet
from vtkmodules.vtkIOXML import vtkXMLReader

from mfpde.errors import InputError


def read_whole(reader: vtkXMLReader, path: Path, what: str) -> None:
    """Read a file; the reader then has the output.

    Args:
        reader: of VTK's, for such a file.
        path: of the file.
        what: the file is, in a message.

    Raises:
        InputError: when it is missing, or VTK complains about it.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")

    with _complaints() as complaints:
        reader.SetFileName(str(path))
        reader.Update()
    if complaints.GetOutput():
        raise InputError(f"{path} is not {what}")


@contextmanager
def _complaints() -> Iterator[vtkStringOutputWindow]:
    """Collect what VTK would print to stderr by itself, through its window and through its log."""
    before, window = vtkOutputWindow.GetInstance(), vtkStringOutputWindow()
    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkOutputWindow.SetInstance(window)
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield window
    finally:
        vtkLogger.SetStderrVerbosity(verbosity)
        vtkOutputWindow.SetInstance(before)


def names_in(data: vtkDataSet, title: str) -> tuple[str, ...]:
    """Text in bytes with a 0 after each name, or in files of an earlier version VTK's strings."""
    array = data.GetFieldData().GetAbstractArray(title)
    if array.IsA("vtkStringArray"):
        return tuple(array.GetValue(i) for i in range(array.GetNumberOfValues()))
    return tuple(bytes(vtk_to_numpy(array)).decode().split("\0")[:-1])
