"""Measured and simulated disks of a result, to be looked at."""

import warnings
from typing import Any

import numpy as np

from stackalign._types import FloatArray
from stackalign.errors import StackalignWarning
from stackalign.ops import to_numpy
from stackalign.refine.frames import DisplayFrame
from stackalign.refine.preprocess import apply_simulated
from stackalign.refine.result import RefinementResult
from stackalign.refine.simulator import BeamListSimulator

from .grid import TiltGrid, blurred
from .levels import more_beams
from .measured import ANTI_ALIAS, Template
from .search import Search
from .settings import Settings

__all__ = ["compared_disks"]


def compared_disks(search: Search, result: RefinementResult, step_px: float) -> tuple[FloatArray, FloatArray]:
    """See `CoarseRefine.disks`; `search` has the parameters of the result."""
    settings, frame = search.settings, result.frame
    spacing, blur = step_px * frame.step, result.values["blur"]
    template = search.measured.template(frame, spacing)
    top, left = template.origin
    h, w = template.values.shape[1:]
    pad = int(np.ceil(4 * max(blur, 0.5) / step_px)) + 1
    first = frame.tilt[0] + (left - pad) * spacing, frame.tilt[1] - (top - pad) * spacing
    grid = TiltGrid(first, spacing, (h + 2 * pad, w + 2 * pad))
    prepared = _as_refined(search, result, grid)
    images = to_numpy(grid.images(prepared, [result.values["thickness"]], settings.data.reflections))[0]
    images = apply_simulated(settings.preprocess, blurred(np, images, blur / step_px), step_px)
    # The measured disks are smoothed against aliasing, and sampled between pixels: so are the simulated ones.
    between = _between_pixels(settings, frame, spacing, template)
    images = np.stack(
        [blurred(np, image, float(np.hypot(ANTI_ALIAS, b / step_px))) for image, b in zip(images, between, strict=True)]
    )[:, pad : pad + h, pad : pad + w]
    scaled = _scaled(images, template, settings.metric == "joint")
    valid = template.weights > 0
    return np.where(valid, template.values, np.nan), np.where(valid, scaled, np.nan)


def _scaled(images: FloatArray, template: Template, joint: bool) -> FloatArray:
    """Simulated disks (D, h, w) on the scale of the measured ones, one scale for all or one per disk."""
    groups = [slice(None)] if joint else [slice(d, d + 1) for d in range(len(images))]
    scaled = np.array(images, dtype=np.float64)
    for group in groups:
        use = template.weights[group] > 0
        x, y = scaled[group][use], template.values[group][use]
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(((x - x.mean()) ** 2).sum(), 1e-300))
        scaled[group] = (scaled[group] - x.mean()) * slope + y.mean()
    return scaled


def _between_pixels(settings: Settings, frame: DisplayFrame, spacing: float, template: Template) -> FloatArray:
    """(D,) width in pixels of the blur that linear interpolation at the nodes of a template makes, on average."""
    data = settings.data.with_frame(gl=frame.gl, rotation=frame.rotation, flip=frame.flip, center=frame.center)
    nodes = np.indices(template.values.shape[1:]).reshape(2, -1)
    widths = []
    for d in range(len(template.values)):
        matrix = data.pull_matrix(d, spacing, template.origin)
        share = (matrix[:, :2] @ nodes + matrix[:, 2:]) % 1.0
        widths.append(np.sqrt((share * (1 - share)).mean()))
    return np.array(widths)


def _as_refined(search: Search, result: RefinementResult, grid: TiltGrid) -> Any:
    """The simulation of the result, with as many beams, on another grid."""
    structure = {p.name: result.values[p.name] for p in search.structure}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StackalignWarning)  # they are among the result's
        if result.beam_factor > 1 and isinstance(search.settings.simulator, BeamListSimulator):
            return more_beams(search, structure, grid, result.beam_factor, result.beam_tilts)
        search.fix_beams(result.beam_tilts or grid.corners)
        return search.prepare(structure, grid)
