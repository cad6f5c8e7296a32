"""Refinement of CBED and LARBED patterns: dynamical simulations, and their matching with measured disks."""

from .abtem import AbtemSimulator
from .batch import RefinedPattern, refine_files
from .beam import Beam
from .bloch.selection import BeamList, BeamSelection
from .bloch.simulator import BeamConvergence, BlochSimulator
from .bloch.solver import PreparedBloch
from .coarse import CoarseOptimize, CoarseRefine
from .config import Configuration, Step, load_config
from .crystal import Crystal
from .dat import DatFile, read_dat
from .data import DiffractionData
from .files import FinishedStep, Refined, refine_file
from .frames import ROI, DisplayFrame
from .orientation import OrientationTrial, find_orientation
from .preprocess import high_pass, local_normalise, log1p, ridge
from .result import RefinementResult
from .scattering import ScatteringFactors, kirkland
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
    "Configuration",
    "Crystal",
    "DatFile",
    "DiffractionData",
    "DisplayFrame",
    "FinishedStep",
    "OrientationTrial",
    "Prepared",
    "PreparedBloch",
    "Refined",
    "RefinedPattern",
    "RefinementResult",
    "ScatteringFactors",
    "Simulator",
    "StackSimulator",
    "Step",
    "find_orientation",
    "high_pass",
    "kirkland",
    "load_config",
    "local_normalise",
    "log1p",
    "read_dat",
    "refine_file",
    "refine_files",
    "ridge",
]
