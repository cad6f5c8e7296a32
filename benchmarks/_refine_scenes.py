"""Specimens of the trust rows of refinement: their patterns, and one fit of such a pattern.

Disks are small, 26 pixels of which 16 are compared, and beams are those of the zero-order Laue zone: a fit then takes
about a second of one core. Patterns are of a structure matrix with thresholds of beams twenty times lower than those
that fits begin with, more beams than any fit comes to, with blur, background and counting noise.
"""

import functools
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from _trust import Trial
from stackalign.errors import StackalignWarning
from stackalign.refine import ROI, Beam, BeamSelection, BlochSimulator, CoarseRefine, Crystal, DiffractionData

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from refine.crystals import FCC, gallium_arsenide, silicon
from refine.patterns import Truth, larbed

__all__ = ["BOUNDS", "FCC", "SPECIMENS", "Specimen", "cubic", "fitted", "known_within", "silicon"]

SIDE, REGION, GRID = (26, 26), ROI.rectangle(16, 16), 2.0
BOUNDS = (300.0, 1500.0)
TOLERANCE = 0.01
"""Share of the thickness; tilts may be off by half a pixel."""
ZERO_ORDER = BeamSelection(laue_zones=0)
MORE_BEAMS = 20.0
B_KNOWN, KV_KNOWN = 0.02, 0.001


@dataclass(frozen=True)
class Specimen:
    """A crystal in a beam, with the disks that are measured, and the range of its thickness."""

    crystal: Crystal
    beam: Beam
    reflections: tuple[tuple[int, int, int], ...]
    gl: float = 40.0
    thicknesses: tuple[float, float] = (400.0, 1200.0)
    more_beams: float = MORE_BEAMS
    selection: BeamSelection = field(default=ZERO_ORDER)
    absorption: float = 0.0

    def thickness(self, seed: int) -> float:
        """Thickness of a seed."""
        return float(np.random.default_rng(seed).uniform(*self.thicknesses))

    def pattern(self, thickness: float, counts: float, seed: int) -> Truth:
        """Disks with counting noise; Bloch waves are remembered for the next thickness or seed."""
        return _pattern(self, thickness, counts, seed)


@functools.lru_cache(maxsize=8)
def _pattern(specimen: Specimen, thickness: float, counts: float, seed: int) -> Truth:
    ratio = specimen.absorption
    absorbing = {"absorption": "perturbative", "absorptive_ratio": ratio} if ratio else {}
    return larbed(
        specimen.crystal,
        specimen.beam,
        specimen.reflections,
        thickness=thickness,
        gl=specimen.gl,
        side=SIDE,
        counts=counts,
        seed=seed,
        selection=specimen.selection,
        more_beams=specimen.more_beams,
        **absorbing,
    )


def fitted(
    specimen: Specimen,
    truth: Truth,
    data: DiffractionData,
    *,
    crystal: Crystal | None = None,
    beam: Beam | None = None,
    bounds: tuple[float, float] = BOUNDS,
    held_sigma: dict[str, float] | None = None,
    **options: object,
) -> Trial:
    """Refine thickness and tilt with the specimen's crystal and beam, or with others."""
    crystal, beam = crystal or specimen.crystal, beam or specimen.beam
    start = data.frame
    frame = type(start).for_beam(crystal, beam, start.gl, start.center, rotation=start.rotation)
    rules = replace(ZERO_ORDER)
    simulator = BlochSimulator(crystal, beam, specimen.reflections, rules, workers=1, **options)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StackalignWarning)
        refiner = CoarseRefine(simulator, replace(data, frame=frame), REGION, grid=GRID, held_sigma=held_sigma)
        result = refiner.optimize_orientation_thickness(bounds)
    off = np.subtract(result.tilt, truth.frame.tilt)
    errors = [result["thickness"] - truth.thickness, *off]
    sigmas = [result.sigma[name] for name in ("thickness", "tilt_x", "tilt_y")]
    tolerances = [TOLERANCE * truth.thickness, 0.5 * frame.step, 0.5 * frame.step]
    return Trial(errors, sigmas, tolerances, result.flags, ("thickness", "tilt_x", "tilt_y"))


def known_within(specimen: Specimen, seed: int) -> dict[str, object]:
    """Model whose held values are off by what is said of them: B by 2 %, the voltage by 0.1 %, no absorption."""
    off = np.random.default_rng((seed, 1)).normal(size=2)
    crystal, kv = specimen.crystal, specimen.beam.kv
    thermal = np.asarray(crystal.b_iso)
    nearly = Crystal(crystal.cell, crystal.species, crystal.positions, b_iso=thermal * (1 + B_KNOWN * off[0]))
    said = {"b_iso": B_KNOWN * float(thermal.mean()), "kv": KV_KNOWN * kv, "absorptive_ratio": 0.0}
    return {"crystal": nearly, "beam": replace(specimen.beam, kv=kv * (1 + KV_KNOWN * off[1])), "held_sigma": said}


def cubic(a: float, species: Sequence[str], positions: np.ndarray, b_iso: float) -> Crystal:
    """Return a crystal with a cubic cell."""
    return Crystal((a,) * 3 + (90,) * 3, tuple(species), positions, b_iso=b_iso)


def _titanate() -> Crystal:
    positions = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return cubic(3.905, ["Sr", "Ti", "O", "O", "O"], positions, 0.5)


_ZINC_BLENDE = ((0, 0, 0), (1, -1, 1), (-1, 1, -1), (0, 0, 2))
SPECIMENS = {
    "Si [110] 200 kV": Specimen(silicon(), Beam(200, (1, 1, 0), (1, -1, 1)), _ZINC_BLENDE),
    "GaAs [110] 200 kV": Specimen(gallium_arsenide(), Beam(200, (1, 1, 0), (1, -1, 1)), _ZINC_BLENDE),
    "SrTiO3 [001] 300 kV": Specimen(
        _titanate(), Beam(300, (0, 0, 1), (1, 0, 0)), ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)), 14.0
    ),
    "Au [110] 300 kV": Specimen(
        cubic(4.078, ["Au"] * 4, FCC, 0.6),
        Beam(300, (1, 1, 0), (0, 0, 2)),
        ((0, 0, 0), (1, -1, 1), (0, 0, 2), (2, -2, 0)),
        26.0,
        (150.0, 500.0),
    ),
}
