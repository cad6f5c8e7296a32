"""Situations for `refine` that no threshold was chosen on: other crystals, voltages, doses and faults.

The patterns of strontium titanate are of the full matrix, in which no beam is folded. Run it to see how thresholds hold
elsewhere, not to choose them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from _trust import Row, Trial
from stackalign.errors import StackalignWarning
from stackalign.refine import Beam, BeamSelection, BlochSimulator, CoarseRefine, Crystal, DiffractionData
from trust_refine import FCC, REGION, SIDE, TOLERANCE, Truth, larbed

SEEDS = {"nominal": 4, "misfit": 3}


DEFAULT = BeamSelection()


@dataclass(frozen=True)
class Specimen:
    """A crystal in a beam, with the disks that are measured, and its pattern's beams."""

    crystal: Crystal
    beam: Beam
    reflections: tuple[tuple[int, int, int], ...]
    gl: float
    counts: float
    selection: BeamSelection = DEFAULT
    more_beams: float = 4.0

    def truth(self, thickness: float, seed: int, counts: float | None = None) -> Truth:
        """Pattern of a thickness."""
        return larbed(
            self.crystal,
            self.beam,
            self.reflections,
            thickness=thickness,
            gl=self.gl,
            side=SIDE,
            counts=self.counts if counts is None else counts,
            seed=1000 + seed,
            selection=self.selection,
            more_beams=self.more_beams,
            tilt_px=(-2.2, 1.7),
        )


def _cubic(a: float, species: Sequence[str], positions: np.ndarray, b_iso: float) -> Crystal:
    return Crystal((a,) * 3 + (90,) * 3, tuple(species), positions, b_iso=b_iso)


def _magnesia(b_iso: float = 0.32) -> Crystal:
    return _cubic(4.212, ["Mg"] * 4 + ["O"] * 4, np.concatenate([FCC, FCC + 0.5]), b_iso)


def _germanium(species: Sequence[str] = ("Ge",) * 8) -> Crystal:
    return _cubic(5.658, species, np.concatenate([FCC, FCC + 0.25]), 0.57)


def _titanate() -> Crystal:
    positions = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return _cubic(3.905, ["Sr", "Ti", "O", "O", "O"], positions, 0.5)


SPECIMENS = {
    "MgO [001] 120 kV": Specimen(
        _magnesia(), Beam(120, (0, 0, 1), (2, 0, 0)), ((0, 0, 0), (2, 0, 0), (0, 2, 0), (2, 2, 0)), 55.0, 200.0
    ),
    "Ge [110] 300 kV": Specimen(
        _germanium(), Beam(300, (1, 1, 0), (0, 0, 4)), ((0, 0, 0), (1, -1, 1), (0, 0, 4), (2, -2, 0)), 60.0, 100.0
    ),
    "SrTiO3 [001] 300 kV": Specimen(
        _titanate(),
        Beam(300, (0, 0, 1), (1, 0, 0)),
        ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
        30.0,
        300.0,
        BeamSelection(strong=0.006, weak=np.inf),
        1.0,
    ),
}


def _held_out(
    name: str,
    fault: str = "",
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    frame: dict[str, float] | None = None,
    wedge: float = 0.0,
    **model: object,
) -> Row:
    """A row of one specimen: with another model, changed counts, a wrong frame, or a wedge; or as it is."""
    specimen, kind = SPECIMENS[name], "misfit" if fault else "nominal"

    def make(seed: int) -> Trial:
        thickness = float(np.random.default_rng(1000 + seed).uniform(300, 1000))
        truth = specimen.truth(thickness, seed)
        data = truth.data
        if wedge:
            share = np.linspace(1 - wedge / 2, 1 + wedge / 2, 7)
            images = [specimen.truth(thickness * s, 10 * seed + k).data.images for k, s in enumerate(share)]
            data = replace(data, images=np.mean(images, 0))
        if change is not None:
            data = replace(data, images=change(data.images.copy()))
        if frame is not None:
            data = data.with_frame(gl=data.frame.gl * frame.get("gl", 1.0), rotation=frame.get("rotation", 0.0))
        crystal, beam = model.get("crystal", specimen.crystal), model.get("beam", specimen.beam)
        return _refined(specimen, truth, data, crystal, beam)

    return Row(name + (f", {fault}" if fault else ""), kind, make, SEEDS[kind])


def _refined(specimen: Specimen, truth: Truth, data: DiffractionData, crystal: Crystal, beam: Beam) -> Trial:
    start = data.frame
    frame = type(start).for_beam(crystal, beam, start.gl, start.center, rotation=start.rotation)
    simulator = BlochSimulator(crystal, beam, specimen.reflections, workers=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StackalignWarning)
        refiner = CoarseRefine(simulator, replace(data, frame=frame), REGION)
        result = refiner.optimize_orientation_thickness((200.0, 1300.0))
    off = np.subtract(result.tilt, truth.frame.tilt)
    errors = [result["thickness"] - truth.thickness, *off]
    sigmas = [result.sigma[name] for name in ("thickness", "tilt_x", "tilt_y")]
    tolerances = [TOLERANCE * truth.thickness, 0.5 * frame.step, 0.5 * frame.step]
    return Trial(errors, sigmas, tolerances, result.flags, ("thickness", "tilt_x", "tilt_y"))


def _displaced(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images[:3], np.roll(images[3:], 9, axis=-1)])


def _slanted(images: np.ndarray) -> np.ndarray:
    return images * np.linspace(0.8, 1.2, images.shape[-1])


def rows() -> list[Row]:
    """Return the rows, written after all thresholds were chosen."""
    mgo, ge, sto = SPECIMENS
    beam = SPECIMENS[mgo].beam
    return [
        *(_held_out(name) for name in SPECIMENS),
        _held_out(mgo, "B 0.42 for 0.32", crystal=_magnesia(0.42)),
        _held_out(mgo, "117 kV for 120", beam=replace(beam, kv=117)),
        _held_out(mgo, "pattern turned by 4 degrees", frame={"rotation": 4.0}),
        _held_out(mgo, "a disk of another place", change=_displaced),
        _held_out(ge, "GaAs for Ge", crystal=_germanium(("Ga",) * 4 + ("As",) * 4)),
        _held_out(ge, "gl 3 % too long", frame={"gl": 1.03}),
        _held_out(ge, "a gradient of 40 % over all disks", change=_slanted),
        _held_out(sto, "wedge of 15 %", wedge=0.15),
        _held_out(sto, "counts squared root", change=np.sqrt),
    ]
