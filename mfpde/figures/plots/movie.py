"""The small multiples through τ, as a GIF and, where ffmpeg is, as an MP4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mfpde.errors import ComputationError
from mfpde.figures.blocks import evenly
from mfpde.figures.plots.overview import SmallMultiples
from mfpde.figures.style import print_style
from mfpde.output.files import failing_clearly
from mfpde.output.reader import RunReader

Frame = NDArray[np.uint8]

_MOST = 60  # frames
_FAMILIES = 6  # that are shown; more make panels too small to follow
_DPI = 110
_SECONDS = 8.0  # the longest film
_HOLD = 1.5  # seconds that the last frame is held


@print_style
def animate(run: RunReader, folder: Path) -> list[Path]:
    """Write animation.gif, and animation.mp4 where there is an ffmpeg, into the folder.

    Args:
        run: the run, of two reports or more.
        folder: an existing folder.

    Returns:
        What was written; nothing for a run of fewer reports.

    Raises:
        ComputationError: when the disk refuses, or ffmpeg fails.
    """
    taus = run.taus
    if len(taus) < 2:
        return []

    frames = list(_drawn(run, taus[evenly(len(taus), _MOST)].tolist()))
    pause = min(0.5, _SECONDS / len(frames))
    with failing_clearly(folder):
        written = [_gif(folder / "animation.gif", frames, pause)]
        if program := ffmpeg():
            written.append(_mp4(program, folder / "animation.mp4", frames, pause))

    return written


def ffmpeg() -> str | None:
    """The ffmpeg program of the system, or of the package imageio-ffmpeg; None where there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe  # noqa: PLC0415  (an extra)
    except ImportError:
        return None
    return str(get_ffmpeg_exe())


def _drawn(run: RunReader, taus: Sequence[float]) -> Iterator[Frame]:
    """RGB pictures (height, width, 3) of even sizes, as video codecs want them."""
    small = SmallMultiples(run, taus, run.families[:_FAMILIES])
    figure = small.figure(taus[0])
    figure.set_dpi(_DPI)
    for tau in taus:
        small.move(tau)
        picture = figure.pixels()
        yield picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def _gif(path: Path, frames: Sequence[Frame], pause: float) -> Path:
    """One palette for all frames, so that colours do not flicker."""
    every = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 6)])).quantize(128)
    pictures = [Image.fromarray(frame).quantize(palette=every, dither=Image.Dither.NONE) for frame in frames]
    times = [round(1000 * pause)] * (len(frames) - 1) + [round(1000 * (pause + _HOLD))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=False)
    return path


def _mp4(program: str, path: Path, frames: Sequence[Frame], pause: float) -> Path:
    """H.264 in the pixel format that every player and browser shows; another codec where ffmpeg was built without."""
    height, width, _ = frames[0].shape
    data = b"".join(frame.tobytes() for frame in [*frames, *[frames[-1]] * round(_HOLD / pause)])
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{1 / pause:.4f}", "-i", "-"]
    common = ["-pix_fmt", "yuv420p", "-r", "30", "-movflags", "+faststart", str(path)]

    reason = b""
    for codec in (["-c:v", "libx264", "-crf", "20"], ["-c:v", "mpeg4", "-q:v", "4"]):
        command = [program, "-y", "-loglevel", "error", *source, *codec, *common]
        ended = subprocess.run(command, input=data, capture_output=True, check=False)
        if ended.returncode == 0:
            return path
        reason = ended.stderr

    lines = reason.decode(errors="replace").strip().splitlines()
    raise ComputationError(f"{path}: ffmpeg failed: {lines[-1] if lines else 'no reason given'}")
