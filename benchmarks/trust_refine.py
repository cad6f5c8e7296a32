"""Rows of the trust table: refinement of thickness and tilt, with models that are right and models that are not.

Patterns are of silicon and of GaAs, with four times lower thresholds of beams than the fits begin with, blur,
background and counting noise.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from _trust import Row, Trial
from stackalign.errors import StackalignWarning
from stackalign.refine import ROI, Beam, BlochSimulator, CoarseRefine, Crystal, DiffractionData

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from refine.crystals import FCC, gallium_arsenide, silicon
from refine.patterns import Truth, larbed

Kind = Literal["nominal", "misfit"]
HKL = ((0, 0, 0), (1, -1, 1), (-1, 1, -1), (0, 0, 2))
BEAM = Beam(200, (1, 1, 0), (1, -1, 1))
TOLERANCE = 0.01
"""Share of the thickness; tilts may be off by half a pixel."""
BOUNDS = (300.0, 1500.0)
SIDE, REGION = (44, 44), ROI.rectangle(30, 30)


SEEDS = {"nominal": 3, "misfit": 2}
"""Runs of a row: a run takes some 3 s of a core, and the first one of a crystal a quarter of a minute."""


@functools.lru_cache(maxsize=8)
def _scene(crystal: str, thickness: float, counts: float, seed: int) -> Truth:
    made = silicon() if crystal == "Si" else gallium_arsenide()
    return larbed(made, BEAM, HKL, thickness=thickness, gl=40.0, side=SIDE, counts=counts, seed=seed, more_beams=4.0)


def _thickness(seed: int) -> float:
    return float(np.random.default_rng(seed).uniform(400, 1200))


def _trial(truth: Truth, data: DiffractionData, crystal: Crystal, beam: Beam, **options: object) -> Trial:
    frame = type(data.frame).for_beam(crystal, beam, data.frame.gl, data.frame.center)
    bounds = options.pop("bounds", BOUNDS)
    simulator = BlochSimulator(crystal, beam, HKL, workers=1, **options)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StackalignWarning)
        result = CoarseRefine(simulator, replace(data, frame=frame), REGION).optimize_orientation_thickness(bounds)
    off = np.subtract(result.tilt, truth.frame.tilt)
    errors = [result["thickness"] - truth.thickness, *off]
    sigmas = [result.sigma[name] for name in ("thickness", "tilt_x", "tilt_y")]
    tolerances = [TOLERANCE * truth.thickness, 0.5 * frame.step, 0.5 * frame.step]
    return Trial(errors, sigmas, tolerances, result.flags, ("thickness", "tilt_x", "tilt_y"))


def _plain(name: str, counts: float, made_of: str = "Si", kind: Kind = "nominal", **model: object) -> Row:
    made = silicon() if made_of == "Si" else gallium_arsenide()

    def make(seed: int) -> Trial:
        truth = _scene(made_of, _thickness(seed), counts, seed)
        options = dict(model)
        fitted, beam = options.pop("crystal", made), options.pop("beam", BEAM)
        return _trial(truth, truth.data, fitted, beam, **options)  # type: ignore[arg-type]

    return Row(name, kind, make, SEEDS[kind])


def _changed(name: str, change: Callable[[np.ndarray, int], np.ndarray]) -> Row:
    """Counts that are changed after the fact."""

    def make(seed: int) -> Trial:
        truth = _scene("Si", _thickness(seed), 300.0, seed)
        data = replace(truth.data, images=change(truth.data.images.copy(), seed))
        return _trial(truth, data, silicon(), BEAM)

    return Row(name, "misfit", make, SEEDS["misfit"])


def _mixed(seed: int) -> Trial:
    """A wedge: thicknesses of 10 % to either side, averaged."""
    middle = _thickness(seed)
    images = [_scene("Si", t, 3000.0, seed).data.images for t in np.linspace(0.9 * middle, 1.1 * middle, 7)]
    truth = _scene("Si", middle, 300.0, seed)
    return _trial(truth, replace(truth.data, images=np.mean(images, 0) / 10), silicon(), BEAM)


def _excluded(seed: int) -> Trial:
    truth = _scene("Si", _thickness(seed), 300.0, seed)
    return _trial(truth, truth.data, silicon(), BEAM, bounds=(1300.0, 2200.0))


def _made(species: Sequence[str], b_iso: float = 0.4668) -> Crystal:
    return Crystal((5.431,) * 3 + (90,) * 3, tuple(species), np.concatenate([FCC, FCC + 0.25]), b_iso=b_iso)


def rows() -> list[Row]:
    """Return the rows of refinement."""
    nominal = [_plain(f"Si, {counts:g} counts", counts) for counts in (3000.0, 300.0, 30.0, 5.0)]
    nominal.append(_plain("GaAs, 300 counts", 300.0, "GaAs"))
    voltages = [
        _plain(f"{kv} kV for 200", 300.0, kind="misfit", beam=replace(BEAM, kv=kv)) for kv in (120, 185, 195, 300)
    ]
    factors = [_plain(f"B {b} for 0.47", 300.0, kind="misfit", crystal=silicon(b)) for b in (0.0, 0.39, 0.53, 0.7, 1.2)]
    others = [
        _plain("Ge for Si", 300.0, kind="misfit", crystal=_made(["Ge"] * 8)),
        _plain("AlP for Si", 300.0, kind="misfit", crystal=_made(["Al"] * 4 + ["P"] * 4)),
        _plain("Si for GaAs", 300.0, "GaAs", kind="misfit", crystal=silicon()),
        _plain("absorption that is not there", 300.0, kind="misfit", absorption="perturbative", absorptive_ratio=0.06),
        Row("bounds that exclude the truth", "misfit", _excluded, SEEDS["misfit"]),
        Row("wedge of 20 %", "misfit", _mixed, SEEDS["misfit"]),
    ]
    changed = [
        _changed("000 saturated", lambda images, _: _saturated(images)),
        _changed("one disk upside down", lambda images, _: np.concatenate([images[:3], images[3:, ::-1]])),
        _changed("two disks exchanged", lambda images, _: images[[0, 1, 3, 2]]),
        _changed("a disk of another contrast", lambda images, _: images * np.array([1, 1, 1, 1.5])[:, None, None]),
        _changed("a stripe of dead pixels", lambda images, seed: _striped(images, seed)),
    ]
    return [*nominal, *voltages, *factors, *others, *changed]


def _saturated(images: np.ndarray) -> np.ndarray:
    images[0] = np.minimum(images[0], np.percentile(images[0], 60))
    return images


def _striped(images: np.ndarray, seed: int) -> np.ndarray:
    images[:, int(np.random.default_rng(seed).integers(10, 30)) :][:, :3] = 0
    return images
