"""The files of nodes of one family: nodes_FAMILY.pvd, and a .vtp per report in a folder beside it."""

from __future__ import annotations

from pathlib import Path

from mfpde.output.clouds.nodes import Nodes
from mfpde.output.clouds.vtp_writer import write_vtp
from mfpde.output.fields.file_series import FileSeries
from mfpde.output.fields.pvd import NODES, series_folder


class NodesSeries(FileSeries):
    """The files of nodes of one family; on rank 0."""

    kind, what = NODES, "a file of nodes"

    def write(self, tau: float, nodes: Nodes) -> Path:
        """Add the nodes of a report; returns the new file's path.

        Raises:
            OSError: when the disk refuses.
        """
        target = series_folder(self.path) / f"{self.path.stem}_{self.count:04d}.vtp"
        target.parent.mkdir(exist_ok=True)
        write_vtp(target, nodes)
        self._append(tau, target)
        return target
