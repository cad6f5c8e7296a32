"""Refinement of CBED and LARBED patterns: dynamical simulations, and their matching with measured disks."""

from ._waves import PreparedBloch
from .abtem import AbtemSimulator
from .beam import Beam
from .bloch import BeamConvergence, BlochSimulator
from .crystal import Crystal
from .dat import DatFile, read_dat
from .scattering import ScatteringFactors, kirkland
from .selection import BeamList, BeamSelection
from .simulator import CallableSimulator, Prepared, Simulator, StackSimulator

__all__ = [
    "AbtemSimulator",
    "Beam",
    "BeamConvergence",
    "BeamList",
    "BeamSelection",
    "BlochSimulator",
    "CallableSimulator",
    "Crystal",
    "DatFile",
    "Prepared",
    "PreparedBloch",
    "ScatteringFactors",
    "Simulator",
    "StackSimulator",
    "kirkland",
    "read_dat",
]
