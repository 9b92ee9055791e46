"""The tasks that come with mfpde, and tasks from files of text or of arrays.

Every generated task draws its training samples first and then its test samples, from one seed.
"""

from mfpde.problem.datasets.archives import from_npz
from mfpde.problem.datasets.characters import text
from mfpde.problem.datasets.generated import in_context_regression, scalars, teacher
from mfpde.problem.datasets.images import FREE_CHANNELS, digits, embedded_digits
from mfpde.problem.datasets.signal_classes import mnist1d

__all__ = [
    "FREE_CHANNELS",
    "digits",
    "embedded_digits",
    "from_npz",
    "in_context_regression",
    "mnist1d",
    "scalars",
    "teacher",
    "text",
]
