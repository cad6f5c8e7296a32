"""The specification in code: NumPy, float64 or exact integers, slow and readable. Never chosen by itself."""

from stackalign.backends._operations import NumpyArrays, Operations

__all__ = ["BACKEND", "ReferenceBackend"]


class ReferenceBackend(NumpyArrays, Operations):
    """Satisfies `Backend` on NumPy arrays."""

    NAME = "reference"
    FOLDER = __name__


BACKEND = ReferenceBackend()
