"""What a search is told: data, simulator, and how they are compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stackalign.refine.data import DiffractionData
from stackalign.refine.frames import ROI
from stackalign.refine.preprocess import Hook
from stackalign.refine.simulator import Simulator

__all__ = ["Settings"]


@dataclass(frozen=True, eq=False)
class Settings:
    """Checked settings of one refinement, see `CoarseRefine`."""

    simulator: Simulator
    data: DiffractionData
    roi: ROI
    thickness: float | None
    fine_grid: float
    preprocess: Hook | None
    metric: Literal["joint", "per_disk"]
    weights: NDArray[np.float64]
    blur: float | Literal["fit"]
    beam_check: float
    check_held: bool
    device: str
    held_sigma: Mapping[str, float]
