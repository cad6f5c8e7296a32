"""Patterns with known parameters: more beams than the fit has, blur, background and counting noise."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from stackalign.errors import StackalignWarning
from stackalign.refine import Beam, BeamSelection, BlochSimulator, Crystal, DiffractionData, DisplayFrame, PreparedBloch

EXACT = {"kv": 0.0, "b_iso": 0.0, "absorptive_ratio": 0.0}
"""`held_sigma` where what is held is what the pattern was made with."""


@dataclass(frozen=True)
class Truth:
    """What the pattern was made with, `simulator` with all its beams. The frame of `data` is where a user starts."""

    data: DiffractionData
    frame: DisplayFrame
    thickness: float
    simulator: BlochSimulator


def larbed(
    crystal: Crystal,
    beam: Beam,
    reflections: Sequence[tuple[int, int, int]],
    *,
    thickness: float,
    gl: float,
    side: tuple[int, int] = (96, 96),
    tilt_px: tuple[float, float] = (3.3, -2.6),
    start_gl: float | None = None,
    blur: float = 1.0,
    background: float = 0.02,
    counts: float | None = 300.0,
    selection: BeamSelection | None = None,
    more_beams: float = 2.0,
    oversample: int = 1,
    seed: int = 0,
    flip: bool = False,
    rotation: float = 0.0,
    **simulation: object,
) -> Truth:
    """LARBED images of a simulation on a grid finer than the pixels, averaged over them.

    `counts` is the mean number of electrons per pixel and disk, None for no noise; the tilt is in pixels off the zone.
    `simulation` are options of `BlochSimulator`, such as absorption.
    """
    h, w = side
    center = ((h - 1) / 2 + 0.3, (w - 1) / 2 - 0.4)
    frame = DisplayFrame.for_beam(crystal, beam, gl, center, flip=flip, rotation=rotation)
    tilt = (tilt_px[0] * frame.step, tilt_px[1] * frame.step)
    frame = frame.with_(tilt=tilt)
    pad = int(np.ceil(4 * blur)) + 1
    rules = BlochSimulator(crystal, beam, selection=selection or BeamSelection()).tighter(more_beams).selection
    options = tuple(sorted(simulation.items()))
    simulator, prepared = _scene(crystal, beam, tuple(reflections), frame, side, pad, oversample, rules, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StackalignWarning)
        images = prepared.intensities([thickness])[0]
    images = images.reshape(len(images), (h + 2 * pad) * oversample, -1)
    images = ndimage.gaussian_filter(images, (0, blur * oversample, blur * oversample), mode="nearest")
    images = images.reshape(len(images), h + 2 * pad, oversample, w + 2 * pad, oversample).mean((2, 4))
    images = images[:, pad : pad + h, pad : pad + w]
    images = images + background * images.mean()
    if counts is not None:
        rng = np.random.default_rng(seed)
        images = rng.poisson(images * (counts / images.mean())).astype(np.float32)
    start = frame.with_(tilt=(0.0, 0.0), gl=gl if start_gl is None else start_gl)
    return Truth(DiffractionData.from_larbed(images, reflections, start), frame, thickness, simulator)


@functools.lru_cache(maxsize=2)
def _scene(
    crystal: Crystal,
    beam: Beam,
    reflections: tuple[tuple[int, int, int], ...],
    frame: DisplayFrame,
    side: tuple[int, int],
    pad: int,
    oversample: int,
    rules: BeamSelection,
    options: tuple[tuple[str, Any], ...] = (),
) -> tuple[BlochSimulator, PreparedBloch]:
    """Bloch waves at all pixels: they serve every thickness and every noise."""
    rows, columns = ((np.arange((n + 2 * pad) * oversample) + 0.5) / oversample - 0.5 - pad for n in side)
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    tilts = frame.to_tilt(frame.to_display(points)).reshape(-1, 2)
    simulator = BlochSimulator(crystal, beam, reflections=reflections, selection=rules, **dict(options))
    simulator = simulator.with_beams(tilts)
    return simulator, simulator.prepare({}, tilts)
