"""The simulation at the pixels of the experiment, and how far it is from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stackalign._types import FloatArray
from stackalign.ops import to_numpy
from stackalign.refine.frames import DisplayFrame
from stackalign.refine.preprocess import Hook, apply_simulated
from stackalign.refine.simulator import Reflection

from .grid import TiltGrid, blurred
from .measured import Pixels

__all__ = ["FREE", "Model", "Point", "correlate"]

FREE = ("tilt_x", "tilt_y", "thickness", "gl", "rotation", "blur")
"""Parameters that take no decompositions."""


@dataclass(frozen=True)
class Point:
    """A set of values: geometry, thickness, blur, and changes to the simulator's parameters by name."""

    frame: DisplayFrame
    thickness: float
    blur: float
    simulator: Mapping[str, float] = field(default_factory=dict)

    def get(self, name: str) -> float:
        """Return a value by name."""
        if name in ("tilt_x", "tilt_y"):
            return self.frame.tilt[name == "tilt_y"]
        if name in ("gl", "rotation"):
            return float(getattr(self.frame, name))
        return float(getattr(self, name)) if name in FREE else float(self.simulator[name])

    def moved(self, changes: Mapping[str, float]) -> "Point":
        """Return the point with other values."""
        frame, simulator, own = self.frame, dict(self.simulator), {}
        tilt = (changes.get("tilt_x", frame.tilt[0]), changes.get("tilt_y", frame.tilt[1]))
        geometry = {name: changes[name] for name in ("gl", "rotation") if name in changes}
        frame = frame.with_(tilt=tilt, **geometry)
        for name, value in changes.items():
            if name in ("thickness", "blur"):
                own[name] = value
            elif name not in FREE:
                simulator[name] = value
        return replace(self, frame=frame, simulator=simulator, **own)


@dataclass(eq=False)
class Model:
    """Simulated values at the experiment's pixels, on a grid that is decomposed once per set of simulator parameters.

    Parameters
    ----------
    pixels : Pixels
        Of the experiment.
    grid : TiltGrid
        That covers them, with a margin for the tilt to move and for the blur.
    prepare : callable
        ``prepare(simulator parameters, grid)`` returns a prepared simulation; it remembers what it made.
    reflections : sequence of (h, k, l)
        The disks.
    hook : callable or None
        See `stackalign.refine.preprocess`.
    step : float
        Size of the display's pixel in 1/angstrom, for lengths of the hook and the blur.
    added : numpy.ndarray or None
        (n,) what is added to the values at the pixels: the difference that yet more beams make.
    """

    pixels: Pixels
    grid: TiltGrid
    prepare: Callable[[Mapping[str, float], TiltGrid], Any]
    reflections: Sequence[Reflection]
    hook: Hook | None
    step: float
    added: FloatArray | None = None
    _images: tuple[Any, FloatArray] | None = None

    def images(self, point: Point) -> FloatArray:
        """(D, rows, columns) simulated disks as the experiment is filtered and blurred."""
        prepared = self.prepare(point.simulator, self.grid)
        key = (tuple(sorted(point.simulator.items())), point.thickness)
        if self._images is None or self._images[0] != key:
            images = to_numpy(self.grid.images(prepared, [point.thickness], self.reflections))[0]
            self._images = (key, images)
        images = self._images[1]
        per_px = self.step / self.grid.spacing
        box = (self.pixels.binning**2 - 1) / 12
        if self.hook is None:
            return np.asarray(blurred(np, images, np.sqrt(point.blur**2 + box) * per_px))
        filtered = apply_simulated(self.hook, blurred(np, images, point.blur * per_px), 1 / per_px)
        return np.asarray(blurred(np, filtered, np.sqrt(box) * per_px))

    def filtered(self, point: Point) -> list[FloatArray]:
        """Spline coefficients of the disks, ready for `at`."""
        return [ndimage.spline_filter(image, order=3, mode="mirror") for image in self.images(point)]

    def at(self, splines: Sequence[FloatArray], frame: DisplayFrame) -> FloatArray | None:
        """Values at all pixels, None where a pixel leaves the grid."""
        nodes = self.grid.nodes(self.pixels.tilts(frame))
        if (nodes < 0).any() or (nodes > np.array(self.grid.shape) - 1).any():
            return None
        result = np.empty(len(nodes))
        ends = np.searchsorted(self.pixels.disk, np.arange(len(splines) + 1))
        for d, spline in enumerate(splines):
            part = slice(ends[d], ends[d + 1])
            result[part] = ndimage.map_coordinates(spline, nodes[part].T, order=3, mode="mirror", prefilter=False)
        return result if self.added is None else result + self.added


@dataclass(frozen=True, eq=False)
class Correlation:
    """Experiment and simulation with mean 0 and norm 1 per group of pixels, and their products."""

    measured: FloatArray
    simulated: FloatArray
    norms: FloatArray
    groups: NDArray[np.int64]
    root: FloatArray
    scores: FloatArray

    def project(self, derivative: FloatArray) -> FloatArray:
        """Return the change of the normalised simulation for a change of the simulated values."""
        scaled = derivative * self.root
        n = len(self.scores)
        weight = np.bincount(self.groups, self.root**2, n)
        mean = np.bincount(self.groups, scaled * self.root, n) / weight
        scaled = (scaled - mean[self.groups] * self.root) / self.norms[self.groups]
        along = np.bincount(self.groups, scaled * self.simulated, n)
        return np.asarray(scaled - along[self.groups] * self.simulated)


def correlate(pixels: Pixels, values: FloatArray, joint: bool) -> Correlation:
    """Zero-normalised correlation over all pixels, or per disk."""
    groups = np.zeros_like(pixels.disk) if joint else pixels.disk
    n = int(groups[-1]) + 1
    root = np.sqrt(pixels.weights)
    weight = np.bincount(groups, pixels.weights, n)

    def normalised(x: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean = np.bincount(groups, x * pixels.weights, n) / weight
        centred = (x - mean[groups]) * root
        norm = np.sqrt(np.bincount(groups, centred**2, n))
        norm = np.where(norm > 1e-12 * np.sqrt(weight), norm, np.inf)
        return centred / norm[groups], norm

    measured, _ = normalised(pixels.values)
    simulated, norms = normalised(values)
    scores = np.bincount(groups, measured * simulated, n)
    return Correlation(measured, simulated, norms, groups, root, np.asarray(scores, dtype=np.float64))
