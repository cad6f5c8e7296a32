"""Simulations with more beams that stand beside one: for the error of its intensities, and for thin crystals."""

import functools
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import StackalignWarning
from stackalign.ops import to_numpy
from stackalign.refine.simulator import Reflection

from .selection import BeamList, BeamSelection
from .solver import PreparedBloch

if TYPE_CHECKING:
    from .simulator import BlochSimulator

__all__ = ["BeamError", "ThinCrystal", "thin_crystal"]

CHECKED, CHECK_FACTOR, CONTINUED = 9, 2.0, 2.0
"""Tilts that are compared with thresholds of beams divided by a factor, and by how much the error is larger than the
difference: it falls to about half each time (0.4 to 0.6 in Si, GaAs, ZnS and SrTiO3)."""
THIN_STRONG, THIN_WEAK, THIN_FLOOR = 1.5e-3, 1e-5, 0.4
"""Thresholds of a `BeamSelection` for crystals up to 200 angstrom. Resonances are wide there: the floor keeps as many
HOLZ reflections as a selection has by default. With 0.0025 for `strong`, Al is 2.6 % off at 2 angstrom instead of
0.7 %; with 3e-5 for `weak`, GaAs is 4 % off at 100 angstrom instead of 3 %."""
MORE_BEAMS = 10
"""By how much the limit of beams is higher."""


@dataclass(frozen=True, eq=False)
class BeamError:
    """Error of intensities by beams left out, from a comparison with more of them; made when it is first asked for."""

    simulator: "BlochSimulator"
    beams: BeamList
    kept: tuple[Reflection, ...]
    tilts: FloatArray

    @functools.cached_property
    def both(self) -> tuple[PreparedBloch, PreparedBloch]:
        """Bloch waves at some of the tilts, with these beams and with more."""
        some = self.tilts[np.unique(np.linspace(0, len(self.tilts) - 1, CHECKED).round().astype(int))]
        quiet = self.simulator.alike(check_beams=False, reflections=self.kept)
        more = quiet.tighter(CHECK_FACTOR).with_beams(self.tilts)
        here, there = (each.prepare({}, some) for each in (quiet.alike(beams=self.beams), more))
        return here, there

    def __call__(self, thicknesses: FloatArray) -> FloatArray:
        """Return the error (n,) at thicknesses (n,)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StackalignWarning)
            here, there = (each.intensities(thicknesses) for each in self.both)
        difference: FloatArray = to_numpy(here - there)
        return np.asarray(CONTINUED * np.abs(difference).max((1, 2)))


@dataclass(frozen=True, eq=False)
class ThinCrystal:
    """The simulation of thin crystals, made when it is first asked for."""

    simulator: "BlochSimulator"
    tilts: Any

    @functools.cached_property
    def prepared(self) -> PreparedBloch:
        """Bloch waves of the same tilts."""
        return self.simulator.prepare({}, self.tilts)


def thin_crystal(simulator: "BlochSimulator", kept: tuple[Reflection, ...], tilts: Any) -> ThinCrystal | None:
    """Return the simulation of thin crystals beside one; None where its selection is one of its own."""
    rules = simulator.selection
    if rules.sg_max is not None or not np.isfinite(rules.weak) or rules.strong <= THIN_STRONG:
        return None
    selection = thin_rules(rules)
    return ThinCrystal(simulator.alike(selection=selection, reflections=kept), tilts)


def thin_rules(rules: BeamSelection) -> BeamSelection:
    """Return thresholds for thin crystals, within the same zones and lengths."""
    return replace(
        rules,
        strong=THIN_STRONG,
        weak=min(rules.weak, THIN_WEAK),
        floor=max(rules.floor, THIN_FLOOR),
        max_beams=MORE_BEAMS * rules.max_beams,
    )
