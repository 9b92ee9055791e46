"""The device of the passes over samples: a GPU where JAX has one, else the CPU; `MFPDE_DEVICE` chooses.

Nodes, densities and steps stay on the CPU, and so does whatever is not put elsewhere: only what a pass needs moves, the
weights of the units to the device and the gradient back.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import jax

from mfpde.errors import InputError
from mfpde.inputs import one_of

VARIABLE = "MFPDE_DEVICE"
_CHOICES = ("auto", "cpu", "gpu")


def configure() -> None:
    """Tell JAX which platforms to start, before it starts any: the CPU alone, unless it has a plugin for another.

    Platforms that the environment names may not exist here, and JAX would end with that.
    """
    platforms = "cpu"
    if os.environ.get(VARIABLE) != "cpu" and find_spec("jax_plugins") is not None:
        platforms = ""  # all that work
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # ranks may share a GPU
    jax.config.update("jax_platforms", platforms)
    jax.config.update("jax_platform_name", "")
    jax.config.update("jax_default_device", "cpu")


def device_of(rank: int) -> jax.Device:
    """The device of a rank's passes; ranks take the GPUs of their machine in turns.

    Raises:
        InputError: when `MFPDE_DEVICE` asks for a GPU and JAX has none here, or for something else.
    """
    wanted = os.environ.get(VARIABLE) or "auto"
    one_of(VARIABLE, wanted, _CHOICES)
    gpus = [] if wanted == "cpu" else _gpus()
    if gpus:
        return gpus[rank % len(gpus)]
    if wanted == "gpu":
        raise InputError(
            f"{VARIABLE} = 'gpu': JAX has no GPU here; install its plugin, as with pip install 'jax[cuda13]', or leave "
            f"{VARIABLE} out"
        )
    return _cpu()


def is_cpu(device: jax.Device) -> bool:
    """Is it the CPU, which takes few samples at a time and has a thread for each core?"""
    return device == _cpu()


def _cpu() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]


def _gpus() -> list[jax.Device]:
    try:
        return jax.local_devices(backend="gpu")
    except RuntimeError:
        return []
