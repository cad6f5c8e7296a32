"""One refinement: a global scan on a wide grid, its best few polished, and the climb on a fine grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from scipy import ndimage

from stackalign._types import FloatArray
from stackalign.ops import asarray, to_numpy
from stackalign.optimize import maximize_scalar, nelder_mead
from stackalign.refine.preprocess import apply_simulated
from stackalign.refine.simulator import BeamListSimulator, OscillatingPrepared, Simulator

from .climb import FineResult, climb
from .grid import TiltGrid, blurred, rectangle
from .measured import ANTI_ALIAS, Measured, Template
from .model import Model, Point
from .parameters import FreeParameter
from .settings import Settings
from .template import Peaks, TemplateMatcher

__all__ = ["Candidate", "Search"]

START_BLUR = 0.8
"""Width in pixels of the blur that the global scan assumes where it is fitted later."""
SCAN_BYTES = 2**27
SEEDS = 5
"""Maxima of the scan that are polished."""
CLIMBS = 3
"""Of these, maxima that the fine grid decides between."""
HISTORY = 20_000
"""Rows of the scan that the history keeps."""
MARGIN_PX = 5.0
"""By how much the tilt may move on a fine grid."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A maximum of the scan."""

    score: float
    values: Mapping[str, float]
    tilt: tuple[float, float]
    on_border: bool
    position_map: FloatArray
    map_tilts: FloatArray


class Search:
    """State of one call: caches of decompositions and the history. Inputs are only read."""

    def __init__(
        self, settings: Settings, parameters: Sequence[FreeParameter], progress: Callable[[str, int, int], None] | None
    ) -> None:
        self.settings, self.parameters = settings, tuple(parameters)
        self.progress = progress or (lambda stage, done, total: None)
        self.measured = Measured(settings.data, settings.roi, settings.preprocess)
        self.joint = settings.metric == "joint"
        self.weights = settings.weights
        self.reflections = settings.data.reflections
        self.history: list[dict[str, Any]] = []
        self.n_decompositions = self.n_tilts = 0
        self._prepared: dict[Any, Any] = {}
        self._matcher: tuple[Any, tuple[TemplateMatcher, Template]] | None = None
        self.simulator: Simulator = settings.simulator
        self.beam_tilts: tuple[tuple[float, float], tuple[float, float]] | None = None
        self.beam_factor = 1.0
        self.structure = [p for p in self.parameters if p.structural]
        self.scanned_thickness = any(p.name == "thickness" for p in self.parameters)

    # --- simulations --------------------------------------------------------------------------------------------------

    def prepare(self, changes: Mapping[str, float], grid: TiltGrid) -> Any:
        """Simulate, or remember; `changes` go by the names of `FreeParameter`."""
        key = (tuple(sorted(changes.items())), grid)
        if key not in self._prepared:
            full = self.driven(changes)
            while len(self._prepared) >= 4 + 2 * len(self.structure):
                self._prepared.pop(next(iter(self._prepared)))
            tilts = asarray(grid.tilts, device=self.settings.device)
            self._prepared[key] = self.simulator.prepare(full, tilts)
            self.count(grid)
        return self._prepared[key]

    def driven(self, changes: Mapping[str, float]) -> dict[str, float]:
        """Return changes by the names of the simulator."""
        drives = {p.name: p.drives for p in self.parameters}
        return {target: value for name, value in changes.items() for target in drives[name]}

    def count(self, grid: TiltGrid) -> None:
        """Note that a grid was decomposed."""
        self.n_decompositions += 1
        self.n_tilts += grid.shape[0] * grid.shape[1]

    def fix_beams(self, corners: tuple[tuple[float, float], tuple[float, float]]) -> None:
        """One list of beams for the run, for a rectangle of tilts, so that intensities do not jump."""
        simulator = self.simulator
        if isinstance(simulator, BeamListSimulator) and simulator.beams is None:
            # Not for the start of a Debye-Waller factor: four times as many are strong at one near 0.
            middle = {p.name: (p.low + p.high) / 2 for p in self.structure if p.name.startswith("b_iso")}
            simulator = simulator.with_parameters(self.driven(middle)) if middle else simulator
            simulator = simulator.tighter(self.beam_factor) if self.beam_factor > 1 else simulator
            self.simulator = simulator.with_beams(rectangle(corners))
            self.beam_tilts = corners

    def start_over(self, factor: float) -> None:
        """Forget the beams, and choose more of them the next time: their thresholds are divided by the factor."""
        self.simulator, self.beam_factor = self.settings.simulator, factor
        self._prepared.clear()

    # --- the global scan ----------------------------------------------------------------------------------------------

    def net(self, spacing_px: float, radius_px: float) -> TiltGrid:
        """Grid of tilts for all positions of the region within `radius_px` of the start."""
        frame = self.settings.data.frame
        spacing = spacing_px * frame.step
        top, left, bottom, right = self.settings.roi.bounds
        # The same pixels span more tilts where gl is smaller.
        low = [p.low for p in self.parameters if p.name == "gl"]
        grow = frame.gl / low[0] if low else 1.0
        first = [int(np.floor((v * grow - radius_px) / spacing_px)) for v in (top, left)]
        last = [int(np.ceil((v * grow + radius_px) / spacing_px)) for v in (bottom, right)]
        start = (frame.tilt[0] + first[1] * spacing, frame.tilt[1] - first[0] * spacing)
        return TiltGrid(start, spacing, (last[0] - first[0] + 1, last[1] - first[1] + 1))

    def images(self, prepared: Any, grid: TiltGrid, thicknesses: Any, xp: Any = np) -> Any:
        """Simulated disks (thicknesses, D, rows, columns), blurred and filtered as the template is."""
        step = self.settings.data.frame.step
        per_px = step / grid.spacing
        images = grid.images(prepared, thicknesses, self.reflections)
        blur = START_BLUR if self.settings.blur == "fit" else float(self.settings.blur)
        hook = self.settings.preprocess
        if hook is None:
            return blurred(xp, images, float(np.hypot(blur * per_px, ANTI_ALIAS)))
        filtered = apply_simulated(hook, to_numpy(blurred(xp, images, blur * per_px)), 1 / per_px)
        return xp.asarray(blurred(np, filtered, ANTI_ALIAS))

    def matcher(self, grid: TiltGrid, geometry: Mapping[str, float], xp: Any) -> tuple[TemplateMatcher, Template]:
        """The experiment at a gl and rotation, ready to be looked for in simulations; the last one is remembered."""
        key = (grid, tuple(sorted(geometry.items())), xp)
        if self._matcher is None or self._matcher[0] != key:
            frame = self.settings.data.frame.with_(**geometry)
            template = self.measured.template(frame, grid.spacing)
            weights = None if (template.weights == 1).all() else template.weights
            combine = "joint" if self.joint else "each"
            matcher = TemplateMatcher(template.values, grid.shape, weights=weights, combine=combine, xp=xp)
            self._matcher = (key, (matcher, template))
        return self._matcher[1]

    def match(
        self, matcher: TemplateMatcher, prepared: Any, grid: TiltGrid, thicknesses: FloatArray, xp: Any
    ) -> tuple[Peaks, FloatArray]:
        """Score thicknesses; with the map of the best."""
        size = max(1, SCAN_BYTES // (24 * len(self.reflections) * grid.shape[0] * grid.shape[1]))
        parts, best, kept = [], -np.inf, np.zeros((1, 1))
        for i in range(0, len(thicknesses), size):
            images = self.images(prepared, grid, thicknesses[i : i + size], xp)
            peaks, maps = matcher.peaks(images, self.weights)
            parts.append(peaks)
            if peaks.score.max() > best:
                best, kept = float(peaks.score.max()), maps[int(peaks.score.argmax())]
        columns = (np.concatenate([getattr(p, name) for p in parts]) for name in ("score", "position", "on_border"))
        return Peaks(*columns), kept

    def thicknesses(self, prepared: Any) -> FloatArray:
        """What the scan tries: steps of a quarter of the shortest oscillation."""
        scanned = [p for p in self.parameters if p.name == "thickness"]
        if not scanned:
            if self.settings.thickness is None:
                msg = (
                    "the thickness is not known: give CoarseRefine its `thickness`, refine it along, or run "
                    "optimize_orientation_thickness first and go on with its result's `apply()`"
                )
                raise ValueError(msg)
            return np.array([self.settings.thickness])
        low, high = scanned[0].low, scanned[0].high
        step = prepared.step_angstrom if isinstance(prepared, OscillatingPrepared) else 10.0
        step = min(step if np.isfinite(step) else 10.0, (high - low) / 4)
        return np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)

    def combinations(self, parameters: Sequence[FreeParameter], n_scan: Mapping[str, int]) -> list[FloatArray]:
        """Values of each parameter that the scan tries."""
        return [np.linspace(p.low, p.high, n_scan[p.name]) for p in parameters]

    def scan(self, grid: TiltGrid, n_scan: Mapping[str, int], *, simplex: bool = False) -> list[Candidate]:
        """Score a grid of all parameters and polish its best few; with `simplex` the best one, over all parameters."""
        cheap = [p for p in self.parameters if not p.structural and p.name != "thickness"]
        structure_axes, cheap_axes = self.combinations(self.structure, n_scan), self.combinations(cheap, n_scan)
        start = {p.name: p.start for p in self.structure if p.start is not None}
        prepared = self.prepare(start, grid)
        thicknesses = self.thicknesses(prepared)
        xp = array_namespace(grid.images(prepared, thicknesses[:1], self.reflections))
        shape = tuple(len(a) for a in (*structure_axes, *cheap_axes, thicknesses))
        scores, positions = np.empty(shape), np.empty((*shape, 2))
        total, done = int(np.prod(shape[:-1])), 0
        matchers: dict[tuple[float, ...], TemplateMatcher] = {}
        for i in np.ndindex(*shape[: len(structure_axes)]):
            prepared = self.prepare(
                {p.name: float(a[k]) for p, a, k in zip(self.structure, structure_axes, i, strict=True)}, grid
            )
            for j in np.ndindex(*shape[len(structure_axes) : -1]):
                geometry = {p.name: float(a[k]) for p, a, k in zip(cheap, cheap_axes, j, strict=True)}
                key = tuple(geometry.values())
                if key not in matchers:
                    matchers[key] = self.matcher(grid, geometry, xp)[0]
                peaks, _ = self.match(matchers[key], prepared, grid, thicknesses, xp)
                scores[i + j], positions[i + j] = peaks.score, peaks.position
                done += 1
                self.progress("scan", done, total)
        axes = [*structure_axes, *cheap_axes, thicknesses]
        names = [*(p.name for p in (*self.structure, *cheap)), "thickness"]
        self._note_scan(scores, dict(zip(names, axes, strict=True)))
        seeds = _maxima(scores, SEEDS)
        if simplex:
            seeds = seeds[:1]
        polished = []
        for index in seeds:
            values = {name: float(axis[k]) for name, axis, k in zip(names, axes, index, strict=True)}
            spans = [float(axis[1] - axis[0]) if len(axis) > 1 else 0.0 for axis in axes]
            polished.append(self.polish(grid, values, dict(zip(names, spans, strict=True)), xp, simplex=simplex))
            self.progress("polish", len(polished), len(seeds))
        return sorted(polished, key=lambda c: -c.score)

    def _note_scan(self, scores: FloatArray, axes: Mapping[str, FloatArray]) -> None:
        """Keep all that was tried; of a large grid, the best thickness of each combination."""
        shape = scores.shape
        rows = (
            np.ndindex(*shape)
            if scores.size <= HISTORY
            else ((*k, int(scores[k].argmax())) for k in np.ndindex(*shape[:-1]))
        )
        for index in rows:
            values = {name: float(axis[k]) for (name, axis), k in zip(axes.items(), index, strict=True)}
            self.history.append({"stage": "scan", "score": float(scores[index]), **values})

    def polish(
        self, grid: TiltGrid, values: dict[str, float], spans: Mapping[str, float], xp: Any, *, simplex: bool = False
    ) -> Candidate:
        """Climb from a maximum of the scan: Brent's method for one parameter, Nelder and Mead's simplex for more.

        Parameters that take decompositions are held unless `simplex`.
        """
        bounds = {p.name: (p.low, p.high) for p in self.parameters}
        structure = [p.name for p in self.structure]
        free = [n for n in values if n in bounds and spans[n] > 0 and (simplex or n not in structure)]

        def measure(changes: Mapping[str, float]) -> tuple[Peaks, FloatArray, Template]:
            now = {**values, **changes}
            geometry: dict[str, float] = {str(name): now[name] for name in ("gl", "rotation") if name in now}
            prepared = self.prepare({name: now[name] for name in structure}, grid)
            matcher, template = self.matcher(grid, geometry, xp)
            peaks, best = self.match(matcher, prepared, grid, np.array([now["thickness"]]), xp)
            self.history.append({"stage": "simplex" if simplex else "polish", "score": float(peaks.score[0]), **now})
            return peaks, best, template

        def score(parameters: FloatArray) -> FloatArray:
            rows = [
                [measure(dict(zip(free, p.tolist(), strict=True)))[0].score[0] for p in problem]
                for problem in parameters
            ]
            return np.array(rows, dtype=np.float64)

        limits = np.array(
            [(max(bounds[n][0], values[n] - spans[n]), min(bounds[n][1], values[n] + spans[n])) for n in free]
        )
        if len(free) == 1:
            result = maximize_scalar(score, limits[0], tolerance=0.02 * spans[free[0]], max_iter=20)
        elif free:
            widths, start = np.array([spans[n] for n in free]), [values[n] for n in free]
            options: dict[str, Any] = {"tolerance": 0.05 * widths, "score_tolerance": 1e-5, "bounds": limits}
            result = nelder_mead(score, start, steps=0.4 * widths, max_iter=60 if simplex else 30, **options)
        if free:
            values = {**values, **dict(zip(free, result.parameters[0].tolist(), strict=True))}
        peaks, best, template = measure({})
        corner = np.array(grid.first) + np.array([-template.origin[1], template.origin[0]]) * grid.spacing
        ends = corner + np.array([[0, 0], [best.shape[1] - 1, -(best.shape[0] - 1)]]) * grid.spacing
        tilt = corner + peaks.position[0, ::-1] * (grid.spacing, -grid.spacing)
        place = (float(tilt[0]), float(tilt[1]))
        return Candidate(float(peaks.score[0]), values, place, bool(peaks.on_border[0]), best, ends)

    # --- the fine grid ------------------------------------------------------------------------------------------------

    def start_point(self, candidate: Candidate) -> Point:
        """The candidate as the climb takes it."""
        geometry = {n: candidate.values[n] for n in ("gl", "rotation") if n in candidate.values}
        frame = self.settings.data.frame.with_(tilt=candidate.tilt, **geometry)
        blur = START_BLUR if self.settings.blur == "fit" else float(self.settings.blur)
        structure = {p.name: candidate.values[p.name] for p in self.structure}
        return Point(frame, candidate.values["thickness"], blur, structure)

    def fine_grid(self, point: Point, spacing_px: float) -> TiltGrid:
        """Grid of the region about a tilt."""
        frame = self.settings.data.frame
        spacing = spacing_px * frame.step
        tilts = self.measured.pixels(frame, 4).tilts(point.frame)
        margin = (MARGIN_PX + 4) * frame.step
        low, high = tilts.min(0) - margin, tilts.max(0) + margin
        columns, rows = (int(np.ceil(v)) + 1 for v in (high - low) / spacing)
        return TiltGrid((float(low[0]), float(high[1])), spacing, (rows, columns))

    def climb(
        self,
        point: Point,
        grid: TiltGrid,
        spacing_px: float,
        max_iter: int,
        stage: str,
        prepare: Any = None,
        added: FloatArray | None = None,
    ) -> FineResult | None:
        """Fit all at once from a point, on grids that follow the tilt; for `added` see `Model`."""
        frame = self.settings.data.frame
        binning = max(1, int(spacing_px))
        pixels = self.measured.pixels(frame, binning, noise=True)
        while len(pixels.values) > 150_000:
            binning += 1
            pixels = self.measured.pixels(frame, binning, noise=True)
        names = ["tilt_x", "tilt_y", *(p.name for p in self.parameters)]
        steps = {"tilt_x": 0.25 * frame.step, "tilt_y": 0.25 * frame.step, "blur": 0.1}
        steps |= {p.name: p.step for p in self.parameters}
        bounds = {p.name: (p.low, p.high) for p in self.parameters} | {"blur": (0.0, 8.0)}
        if self.settings.blur == "fit":
            names.append("blur")
        result = None
        for _ in range(3):
            hook = self.settings.preprocess
            model = Model(pixels, grid, prepare or self.prepare, self.reflections, hook, frame.step, added)
            result = climb(
                model,
                point,
                names,
                joint=self.joint,
                weights=self.weights,
                steps=steps,
                bounds=bounds,
                max_iter=max_iter,
                on_step=lambda i: self.progress(stage, i, max_iter),
            )
            if result is not None:
                for score, values in result.history:
                    self.history.append({"stage": stage, "score": score, **values})
                point = result.point
                if not result.left:
                    break
            grid = self.fine_grid(point, spacing_px)
        return result

    def refine(self, candidates: Sequence[Candidate], net: TiltGrid) -> list[tuple[Candidate, FineResult]]:
        """Let the fine grid decide between the best candidates; return them in order, the best at its end."""
        frame, fine_px = self.settings.data.frame, self.fine_px()
        reuse = net.spacing <= 1.01 * fine_px * frame.step
        worth = [c for c in candidates if c.score > candidates[0].score - 0.1][:CLIMBS]
        tried: list[tuple[Candidate, FineResult, TiltGrid]] = []
        grids: list[TiltGrid] = []
        for candidate in worth:
            point = self.start_point(candidate)
            near = [g for g in grids if self._covers(g, point)]
            grid = net if reuse else near[0] if near else self.fine_grid(point, fine_px)
            grids.append(grid)
            result = self.climb(point, grid, fine_px, 25 if len(worth) == 1 else 6, "fine")
            if result is not None:
                tried.append((candidate, result, grid))
        if not tried:
            msg = "the simulated tilts do not cover the region at any candidate: widen search_radius"
            raise ValueError(msg)
        tried.sort(key=lambda item: -item[1].score)
        candidate, result, grid = tried[0]
        if len(worth) > 1 and not result.converged:
            again = self.climb(result.point, grid, fine_px, 25, "fine")
            result = again or result
        return [(candidate, result), *((other, end) for other, end, _ in tried[1:])]

    def fine_px(self) -> float:
        """Spacing of the fine grid in pixels."""
        return self.settings.fine_grid

    def _covers(self, grid: TiltGrid, point: Point) -> bool:
        tilts = self.measured.pixels(self.settings.data.frame, 4).tilts(point.frame)
        nodes = grid.nodes(tilts)
        room = 3 * self.settings.data.frame.step / grid.spacing
        return bool((nodes > room).all() and (nodes < np.array(grid.shape) - 1 - room).all())


def _maxima(scores: FloatArray, count: int) -> list[tuple[int, ...]]:
    """Indices of the highest local maxima, highest first."""
    size = tuple(3 if n > 1 else 1 for n in scores.shape)
    top = np.argwhere(scores >= ndimage.maximum_filter(scores, size=size, mode="nearest"))
    order = np.argsort(-scores[tuple(top.T)], kind="stable")[:count]
    return [tuple(int(i) for i in top[k]) for k in order]
