"""Pipelines from what a user has to what a user wants: registration, cropping, coalignment, diffraction, refinement."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import peers
from .case import Case, Setting, installed_peer
from .cases_ops import patterns

__all__ = ["coalign", "crop", "diffraction", "refine", "register"]

BLOCK = 16 * 2**20


def register(setting: Setting) -> Iterator[Case]:
    """Give pairs and stacks of images, from anywhere, with error bars and flags."""
    from stackalign.registration import create_test_pair
    from stackalign.registration import register as find
    from stackalign.registration import register_stack as find_all

    where: dict[str, Any] = {"device": setting.device, "workers": setting.workers}
    truths: dict[str, tuple[float, ...]] = {"shift": (2.3, -1.9), "shift+scale": (2.3, -1.9, 1.004, 0.997)}
    for side in setting.pick([48], [128, 256], [64, 128, 256, 512, 1024]):
        for model, truth in truths.items():
            pair = create_test_pair((side, side), model, truth, noise=0.02, holes=0.1, seed=1)
            images = pair.reference, pair.moving
            also = setting.peer("cv2", "OpenCV's ECC, from here", peers.ecc, *images)
            if model == "shift":
                also += setting.peer("skimage", "scikit-image, whole pixels", peers.phase_correlation, *images)
                also += setting.peer("SimpleITK", "SimpleITK", peers.registration_itk, *images)
                also += setting.prepared_peer("sunkit_image", "sunkit-image", peers.sunkit, *images)
                also += setting.prepared_peer("sunxcorr", "SunXCorr", peers.sunxcorr, *images)
            run = partial(find, *images, model=model, **where)
            yield Case(
                f"register, {model}", f"{side}^2, 10 % NaN", run=run, unit="pairs", bytes=8.0 * side**2,
                peers=tuple(also), series=("pixels", side**2), error=partial(_apart, run, pair),
            )  # fmt: skip
    side = setting.pick(48, 128, 256)
    pair = create_test_pair((side, side), "shift", (2.3, -1.9), noise=0.02, holes=0.1, seed=1)
    for count in setting.pick([3], [4, 16], [4, 16, 64]):
        moving = np.stack([pair.moving] * count)
        yield Case(
            "register_stack, shift", f"{count} x {side}^2, 10 % NaN",
            run=partial(find_all, pair.reference, moving, **where), unit="pairs", count=count,
            bytes=4.0 * (count + 1) * side**2, series=("pairs", count),
        )  # fmt: skip


def _apart(run: Callable[[], Any], pair: Any) -> str:
    from stackalign.registration import point_error

    return f"{point_error(run().matrix, pair)[1]:.1e} px from the truth at most"


def crop(setting: Setting) -> Iterator[Case]:
    """Give files of patterns to be cropped, beside reading them twice and writing the output once."""
    from stackalign.crop import CroppingConfig, crop_file

    folder = Path(setting.scratch)
    for side, n in setting.pick([(32, 16)], [(256, 1024)], [(256, 2048), (256, 8192), (512, 2048)]):
        source, target = folder / f"in-{side}-{n}.npy", folder / f"out-{side}-{n}.npy"
        np.save(source, patterns(n, side))
        config = CroppingConfig(visualization=False, verbose=False, device=setting.device, workers=setting.workers)
        crop_file(source, target, config, overwrite=True)
        yield Case(
            "crop_file", f"{n} x {side}^2 uint16, .npy", run=partial(crop_file, source, target, config, overwrite=True),
            unit="patterns", count=n, bytes=2.0 * source.stat().st_size + target.stat().st_size,
            peers=tuple(
                setting.peer("numpy", "reads and writes alone", _copy, source, target.stat().st_size, folder / "floor")
            ),
            series=("patterns", n),
        )  # fmt: skip
        source.unlink()
        target.unlink()


def _copy(source: Path, left: int, place: Path) -> None:
    """Read a file twice, write as many bytes as its output has, and wait until they are stored."""
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    for _ in range(2):
        with source.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    with place.open("wb", buffering=0) as file:
        while left:
            left -= file.write(view[: min(left, BLOCK)])
        os.fsync(file.fileno())
    place.unlink()


def coalign(setting: Setting) -> Iterator[Case]:
    """Give synthetic rasters against an imager's sequence, all phases; none where sunpy is missing."""
    if not installed_peer("sunpy.map"):
        return
    from stackalign import solar

    for shape in setting.pick([(60, 30)], [(120, 48)], [(120, 48), (200, 80), (400, 160)]):
        made = solar.create_test_observation(shape, error=(35.0, -20.0))
        run = partial(
            solar.coalign, made.raster, frames=made.frames, model="shift", device=setting.device,
            workers=setting.workers,
        )  # fmt: skip
        yield Case(
            "solar.coalign", f"raster of {shape[0]} x {shape[1]}, {len(made.frames)} frames", run=run, unit="rasters",
            series=("pixels", shape[0] * shape[1]),
        )  # fmt: skip


def diffraction(setting: Setting) -> Iterator[Case]:
    """Give patterns of crystals and powders."""
    from stackalign import diffraction as functions

    where: dict[str, Any] = {"device": setting.device, "workers": setting.workers}
    for n in setting.pick([96], [256], [256, 512]):
        center = (0.51 * n, 0.49 * n)
        sized: dict[str, Any] = {"unit": "patterns", "series": ("pixels", n**2)}
        made = {kind: functions.create_test_pattern(kind, n, center=center) for kind in ("powder", "lattice")}
        for kind, pattern in made.items():
            yield Case(
                f"diffraction.autocenter, {kind}", f"{n}^2, beam block",
                run=partial(functions.autocenter, pattern.image, mask=pattern.mask, **where),
                peers=tuple(
                    setting.peer("skued", "scikit-ued", peers.skued_call, "autocenter", pattern.image, pattern.mask)
                ),
                **sized,
            )  # fmt: skip
        image, mask = made["lattice"].image, made["lattice"].mask
        yield Case(
            "diffraction.bragg_peaks", f"lattice, {n}^2", run=partial(functions.bragg_peaks, image, mask=mask),
            peers=tuple(setting.peer("skued", "scikit-ued", peers.skued_call, "bragg_peaks", image, mask)), **sized,
        )  # fmt: skip
        yield Case(
            "diffraction.nfold", f"6-fold, {n}^2",
            run=partial(functions.nfold, image, 6, center=center, mask=mask, **where), bytes=12.0 * n**2,
            peers=tuple(setting.peer("skued", "scikit-ued", peers.skued_call, "nfold", image, 6, center[::-1], mask)),
            **sized,
        )  # fmt: skip
        moved = np.roll(image, (3, -2), (0, 1))
        yield Case(
            "diffraction.align", f"lattice, {n}^2", run=partial(functions.align, moved, image, mask=mask, **where),
            peers=tuple(
                setting.peer("skimage", "scikit-image, not aligned", peers.shifts_skimage, image, moved[None], mask)
            ),
            **sized,
        )  # fmt: skip


def refine(setting: Setting) -> Iterator[Case]:
    """Give simulations of silicon by Bloch waves, for growing numbers of beams."""
    from stackalign.refine import Beam, BeamList, BlochSimulator, Crystal

    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    silicon = Crystal((5.431,) * 3 + (90,) * 3, ("Si",) * 8, np.concatenate([corners, corners + 0.25]), b_iso=0.4668)
    beam = Beam(300, (1, 1, 0), (0, 0, 2))
    h, m = (a.ravel() for a in np.meshgrid(np.arange(-30, 31), np.arange(-30, 31)))
    hkl = np.stack([h, -h, m], 1)[(h + m) % 2 == 0]
    hkl = hkl[np.argsort(np.square(hkl).sum(1), kind="stable")]
    none = np.zeros((0, 3), np.int64)
    thicknesses = np.linspace(200, 1600, 15)
    for n, tilts in setting.pick([(15, 4)], [(45, 200), (101, 100)], [(31, 400), (67, 200), (101, 200), (151, 100)]):
        angles = beam.tilts_from_mrad(np.random.default_rng(0).uniform(-5, 5, (tilts, 2)))
        kept = tuple(map(tuple, hkl[:15].tolist()))
        simulator = BlochSimulator(
            silicon, beam, kept, beams=BeamList(hkl[:n], none, none), workers=setting.workers, check_beams=False
        )
        few = angles[:10]
        also = setting.prepared_peer(
            "abtem", "abTEM", _abtem, silicon, beam, kept, few, thicknesses, share=len(few) / tilts
        )
        yield Case(
            "BlochSimulator", f"Si [110], {n} beams, {tilts} tilts, 15 thicknesses",
            run=partial(_simulated, simulator, angles, thicknesses), unit="tilts", count=tilts,
            operations=tilts * 9.0 * n**3, peers=tuple(also), series=("beams", n),
        )  # fmt: skip


def _simulated(simulator: Any, angles: Any, thicknesses: Any) -> Any:
    return simulator.prepare({}, angles).intensities(thicknesses)


def _abtem(crystal: Any, beam: Any, kept: Any, tilts: Any, thicknesses: Any) -> Callable[[], Any]:
    from stackalign.refine import AbtemSimulator

    prepared = AbtemSimulator(crystal, beam, kept).prepare({}, tilts)
    return partial(prepared.intensities, thicknesses)
