"""Bloch waves of a perfect crystal: which beams take part, their structure matrices, and the eigenvalue problems.

`selection` chooses beams for a region of tilts, `geometry` has wave vectors and potentials, `bethe` folds weak beams
into the matrix, `eigen` and `tridiagonal` diagonalise, `solver` loops over tilts, and `simulator` is what users see.
"""

from .selection import BeamList, BeamSelection
from .simulator import BeamConvergence, BlochSimulator
from .solver import PreparedBloch

__all__ = ["BeamConvergence", "BeamList", "BeamSelection", "BlochSimulator", "PreparedBloch"]
