"""Refinement of CBED and LARBED patterns: dynamical simulations, and their matching with measured disks."""

from ._waves import PreparedBloch
from .abtem import AbtemSimulator
from .beam import Beam
from .bloch import BeamConvergence, BlochSimulator
from .coarse import CoarseOptimize, CoarseRefine
from .crystal import Crystal
from .dat import DatFile, read_dat
from .data import DiffractionData
from .frames import ROI, DisplayFrame
from .orientation import OrientationTrial, find_orientation
from .preprocess import high_pass, local_normalise, log1p, ridge
from .result import RefinementResult
from .scattering import ScatteringFactors, kirkland
from .selection import BeamList, BeamSelection
from .simulator import CallableSimulator, Prepared, Simulator, StackSimulator

__all__ = [
    "ROI",
    "AbtemSimulator",
    "Beam",
    "BeamConvergence",
    "BeamList",
    "BeamSelection",
    "BlochSimulator",
    "CallableSimulator",
    "CoarseOptimize",
    "CoarseRefine",
    "Crystal",
    "DatFile",
    "DiffractionData",
    "DisplayFrame",
    "OrientationTrial",
    "Prepared",
    "PreparedBloch",
    "RefinementResult",
    "ScatteringFactors",
    "Simulator",
    "StackSimulator",
    "find_orientation",
    "high_pass",
    "kirkland",
    "local_normalise",
    "log1p",
    "read_dat",
    "ridge",
]
