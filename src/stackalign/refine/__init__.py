"""Refinement of CBED and LARBED patterns: dynamical simulations, and their matching with measured disks."""

import importlib
from typing import TYPE_CHECKING, Any

from .abtem import AbtemSimulator
from .batch import RefinedPattern, refine_files
from .beam import Beam
from .bloch.selection import BeamList, BeamSelection
from .bloch.simulator import BeamConvergence, BlochSimulator
from .bloch.solver import PreparedBloch
from .bloch.thermal import thermal_absorption
from .coarse import CoarseRefine
from .config import Configuration, Step, load_config
from .crystal import Crystal
from .dat import DatFile, read_dat
from .data import DiffractionData
from .external import CallableSimulator, StackSimulator
from .files import FinishedStep, Refined, refine_file
from .frames import ROI, DisplayFrame
from .orientation import OrientationTrial, find_orientation
from .preprocess import high_pass, local_normalise, log1p, ridge
from .result import RefinementResult
from .scattering import ScatteringFactors, kirkland
from .simulator import Prepared, Simulator

if TYPE_CHECKING:
    from stackalign.compat.coarse import CoarseOptimize

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
    "thermal_absorption",
]


def __getattr__(name: str) -> Any:
    if name == "CoarseOptimize":  # of the original; it stands on this package
        return importlib.import_module("stackalign.compat.coarse").CoarseOptimize
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
