"""Situations for `refine` that no threshold was chosen on: other crystals, voltages, doses and faults.

Run it to see how thresholds hold elsewhere, not to choose them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from _refine_scenes import FCC, Specimen, cubic, fitted, known_within
from _trust import Row, Trial
from stackalign.refine import Beam, Crystal

BOUNDS = (200.0, 1300.0)


def _magnesia(b_iso: float = 0.32) -> Crystal:
    return cubic(4.212, ["Mg"] * 4 + ["O"] * 4, np.concatenate([FCC, FCC + 0.5]), b_iso)


def _germanium(species: Sequence[str] = ("Ge",) * 8) -> Crystal:
    return cubic(5.658, species, np.concatenate([FCC, FCC + 0.25]), 0.57)


RANGE = (300.0, 1000.0)
SPECIMENS = {
    "MgO [001] 120 kV": (
        Specimen(
            _magnesia(),
            Beam(120, (0, 0, 1), (2, 0, 0)),
            ((0, 0, 0), (2, 0, 0), (0, 2, 0), (2, 2, 0)),
            55.0,
            RANGE,
        ),
        200.0,
    ),
    "Ge [110] 300 kV": (
        Specimen(
            _germanium(),
            Beam(300, (1, 1, 0), (0, 0, 4)),
            ((0, 0, 0), (1, -1, 1), (0, 0, 4), (2, -2, 0)),
            60.0,
            RANGE,
        ),
        100.0,
    ),
    "Cu [001] 200 kV": (
        Specimen(
            cubic(3.6149, ["Cu"] * 4, FCC, 0.55),
            Beam(200, (0, 0, 1), (2, 0, 0)),
            ((0, 0, 0), (2, 0, 0), (0, 2, 0), (2, 2, 0)),
            60.0,
            RANGE,
        ),
        300.0,
    ),
}


def _held_out(
    name: str,
    fault: str = "",
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    frame: dict[str, float] | None = None,
    wedge: float = 0.0,
    said: bool = True,
    **model: object,
) -> Row:
    """A row of one specimen: with another model, changed counts, a wrong frame, or a wedge; or as it is.

    Where nothing is `said` of held values in a nominal row, they are right.
    """
    (specimen, counts), kind = SPECIMENS[name], "misfit" if fault else "nominal"

    def make(seed: int) -> Trial:
        thickness = specimen.thickness(1000 + seed)
        truth = specimen.pattern(thickness, counts, 1000 + seed)
        data = truth.data
        if wedge:
            share = np.linspace(1 - wedge / 2, 1 + wedge / 2, 7)
            images = [specimen.pattern(thickness * s, counts, 10 * seed + k).data.images for k, s in enumerate(share)]
            some = np.random.default_rng(seed).binomial(np.sum(images, 0).astype(np.int64), 1 / 7)
            data = replace(data, images=some.astype(np.float32))
        if change is not None:
            data = replace(data, images=change(data.images.copy()))
        if frame is not None:
            data = data.with_frame(gl=data.frame.gl * frame.get("gl", 1.0), rotation=frame.get("rotation", 0.0))
        known = known_within(specimen, seed) if kind == "nominal" and said else {}
        return fitted(specimen, truth, data, bounds=BOUNDS, **known | model)

    return Row(name + (f", {fault}" if fault else "") + ("" if said else ", nothing said"), kind, make)


def _displaced(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images[:3], np.roll(images[3:], 9, axis=-1)])


def _slanted(images: np.ndarray) -> np.ndarray:
    return images * np.linspace(0.8, 1.2, images.shape[-1])


def rows() -> list[Row]:
    """Return the rows, written after all thresholds were chosen; those of one specimen are together."""
    mgo, ge, cu = SPECIMENS
    beam = SPECIMENS[mgo][0].beam
    return [
        _held_out(mgo),
        _held_out(mgo, said=False),
        _held_out(mgo, "B 0.42 for 0.32", crystal=_magnesia(0.42)),
        _held_out(mgo, "117 kV for 120", beam=replace(beam, kv=117)),
        _held_out(mgo, "pattern turned by 4 degrees", frame={"rotation": 4.0}),
        _held_out(mgo, "a disk of another place", change=_displaced),
        _held_out(ge),
        _held_out(ge, said=False),
        _held_out(ge, "GaAs for Ge", crystal=_germanium(("Ga",) * 4 + ("As",) * 4)),
        _held_out(ge, "gl 3 % too long", frame={"gl": 1.03}),
        _held_out(ge, "a gradient of 40 % over all disks", change=_slanted),
        _held_out(cu),
        _held_out(cu, said=False),
        _held_out(cu, "wedge of 15 %", wedge=0.15),
        _held_out(cu, "counts squared root", change=np.sqrt),
    ]
