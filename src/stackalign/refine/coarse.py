"""Coarse refinement: parameters from the correlation of simulated with measured disks, found globally."""

import functools
import importlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign._types import FloatArray
from stackalign.backends._threads import governed
from stackalign.errors import StackalignWarning

from ._arguments import check_matching, check_widths, disk_weights, either, require_reflections
from ._named_methods import Bounds, NamedMethods
from .dat import read_dat
from .data import DiffractionData
from .frames import ROI
from .matching import outcome
from .matching.converge import find
from .matching.disks import compared_disks
from .matching.grid import scanned_area
from .matching.held import held_uncertainties
from .matching.parameters import FreeParameter, canonical, free_parameter, scan_count
from .matching.search import Search
from .matching.settings import Settings
from .preprocess import Hook
from .result import RefinementResult
from .simulator import AdjustableSimulator, Simulator

__all__ = ["CoarseRefine"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False, init=False)
class CoarseRefine(NamedMethods):
    """Find parameters by matching simulated with measured disks. Nothing is computed before a method is called.

    Parameters
    ----------
    simulator : Simulator
        Source of intensities; see `datpath` for the other way.
    data : DiffractionData
        Measured disks. Their frame says from where the search starts.
    roi : ROI
        What is compared, in pixels of the display.
    thickness : float, optional
        In angstrom; needed by the methods that do not refine it.
    search_radius : float, optional
        Half of the side of the simulated area in units of gx, about the middle of the region: the region has to fit.
        By default the region and a quarter of its longer side around it, 8 pixels at least.
    grid : float, optional
        Spacing of the wide grid of the global scan in pixels. By default a sixteenth of the region's shorter side, from
        1 to 4 pixels, and that of the fine grid where no thickness is scanned.
    fine_grid : float
        Spacing of the fine grid in pixels.
    preprocess : callable, optional
        ``preprocess(image, sim=False) -> image`` filters one disk, measured or simulated (`sim=True`), before they are
        compared: a function of the caller, or one of `stackalign.refine.preprocess`. The measured disks are filtered
        once, at full resolution; simulated ones at about the same size of pixels.
    metric : {"joint", "per_disk"}
        One correlation coefficient over all disks, with one mean and one variance, or the mean of those of the disks.
    weights : array_like, optional
        (D,) of the disks, for "per_disk".
    blur : "fit" or float
        Standard deviation in pixels of the Gaussian by which the experiment is blurred against the simulation.
    beam_check : float
        At the end all thresholds of the simulator's beams are divided by this, and the parameters follow: half of their
        shift is the systematic part of the error bars. 1: not done. Nor is it where the simulator's beams are fixed.
    check_held : bool
        Whether the result says what parameters that were held would do, see `RefinementResult.held`; this simulates the
        region up to three times more, on a wider grid. What they may be off by is then in the error bars.
    held_sigma : mapping, optional
        Standard uncertainties of "kv", "b_iso" (square angstrom) and "absorptive_ratio" where these are held, by name.
        0: exactly known. What is stated is in the error bars, narrowed by what the residual says. Where nothing is
        stated, values are believed to 0.5 % of the voltage, 25 % of the Debye-Waller factor and half of the absorptive
        ratio, or 0.03 where the simulation has no absorption: within these the residual may ask for other values, and
        what they would move beyond noise is in the error bars.
    device : str
        Where simulations and their matching are done, as for `stackalign.asarray`; the fine grid is on the host.
    datpath : path-like, optional
        A crystal and beam file of the original, in place of `simulator`. The search starts at its tilt where the frame
        of `data` has none.
    dinfo : DiffractionData, optional
        The original's name for `data`.
    filter : callable, optional
        The original's name for `preprocess`.
    progress : callable, optional
        ``progress(stage, done, total)`` is called as the work goes on.

    Notes
    -----
    A global scan simulates a grid of tilts around the start once per set of structure parameters, and scores all
    thicknesses at all positions. The best few maxima are polished, by Brent's method or Nelder and Mead's simplex, and
    a fine grid on the region, where the blur is fitted as well, decides between them: there all parameters climb
    together by Gauss-Newton steps, whose normal matrix gives error bars and correlations.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign.refine import ROI, CallableSimulator, CoarseRefine, DiffractionData, DisplayFrame
    >>> def fringes(parameters, tilts, thicknesses, reflections):
    ...     x, y = 12 * tilts[:, 0], 12 * tilts[:, 1]
    ...     depth = thicknesses[:, None] / 90
    ...     return (3 + np.sin(depth) * np.sin(x + 0.3 * y) + np.cos(depth) * np.cos(2 * y))[:, None, :]
    >>> frame = DisplayFrame(gx=0.3, gl=40.0, center=(23.5, 23.5))
    >>> tilts = frame.to_tilt(frame.to_display(np.indices((48, 48)).reshape(2, -1).T)).reshape(-1, 2)
    >>> image = 1000 * fringes({}, tilts, np.array([430.0]), ())[0].reshape(1, 48, 48)
    >>> counts = np.random.default_rng(0).poisson(image).astype(float)
    >>> data = DiffractionData.from_larbed(counts, [(0, 0, 0)], frame)
    >>> refiner = CoarseRefine(CallableSimulator(fringes, [(0, 0, 0)]), data, ROI.rectangle(30, 30))
    >>> result = refiner.optimize_orientation_thickness((380, 480))
    >>> round(result["thickness"])
    430
    """

    simulator: Simulator
    data: DiffractionData
    roi: ROI
    thickness: float | None = None
    search_radius: float | None = None
    grid: float | None = None
    fine_grid: float = 2.0
    preprocess: Hook | None = None
    metric: Literal["joint", "per_disk"] = "joint"
    weights: NDArray[np.float64] | None = None
    blur: float | Literal["fit"] = "fit"
    beam_check: float = 2.0
    check_held: bool = True
    held_sigma: Mapping[str, float] | None = None
    device: str = "cpu"
    progress: Progress | None = field(default=None, repr=False)

    def __init__(
        self,
        simulator: Simulator | None = None,
        data: DiffractionData | None = None,
        roi: ROI | None = None,
        *,
        thickness: float | None = None,
        search_radius: float | None = None,
        grid: float | None = None,
        fine_grid: float = 2.0,
        preprocess: Hook | None = None,
        metric: Literal["joint", "per_disk"] = "joint",
        weights: ArrayLike | None = None,
        blur: float | Literal["fit"] = "fit",
        beam_check: float = 2.0,
        check_held: bool = True,
        held_sigma: Mapping[str, float] | None = None,
        device: str = "cpu",
        datpath: str | Path | None = None,
        dinfo: DiffractionData | None = None,
        filter: Hook | None = None,
        progress: Progress | None = None,
    ) -> None:
        data = either(data, dinfo, "data", "dinfo")
        hook = either(preprocess, filter, "preprocess", "filter", needed=False)
        if not isinstance(data, DiffractionData):
            msg = f"data must be a DiffractionData, see its from_cbed and from_larbed, got {type(data).__name__}"
            raise TypeError(msg)
        if datpath is not None:
            if simulator is not None:
                msg = "give either a simulator or datpath"
                raise ValueError(msg)
            read = read_dat(datpath)
            simulator = read.simulator(data.reflections)
            if data.frame.tilt == (0.0, 0.0):
                data = data.with_frame(tilt=tuple(read.tilt.tolist()))
        if not isinstance(simulator, Simulator):
            msg = f"a simulator is needed, such as BlochSimulator(crystal, beam), or datpath; got {simulator!r}"
            raise TypeError(msg)
        if not isinstance(roi, ROI):
            msg = f"roi must be a ROI, such as ROI.rectangle(height, width), got {type(roi).__name__}"
            raise TypeError(msg)
        check_matching(metric, fine_grid, blur, beam_check)
        check_widths(thickness=thickness, search_radius=search_radius, grid=grid)
        require_reflections(simulator, data.reflections)
        disks = disk_weights(weights, len(data.images), metric)
        values = {"simulator": simulator, "data": data, "roi": roi, "thickness": thickness, "metric": metric}
        values |= {"search_radius": search_radius, "grid": grid, "fine_grid": float(fine_grid), "preprocess": hook}
        values |= {"weights": disks, "blur": blur, "beam_check": float(beam_check), "check_held": bool(check_held)}
        values |= {"held_sigma": held_uncertainties(held_sigma), "device": device, "progress": progress}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @governed
    def optimize(
        self,
        parameters: Mapping[str, Bounds] | Sequence[str],
        *,
        n_scan: Mapping[str, int] | None = None,
        method: Literal["gauss-newton", "nelder-mead"] = "gauss-newton",
    ) -> RefinementResult:
        """Find any parameters together, and always the tilt.

        Parameters
        ----------
        parameters : mapping
            Name to bounds (lower, upper), or to None for those of the methods above: "thickness", "gl", "rotation",
            "kv" (or "hv"), "b_iso" (or "dwf"), "b_iso.Ga", "a" ... "gamma", and whatever else the simulator varies.
        n_scan : mapping, optional
            Number of values that the global scan tries, by name.
        method : "gauss-newton" or "nelder-mead"
            Whether parameters that take decompositions are climbed to by a simplex first.

        Returns
        -------
        RefinementResult
            Values with error bars, and flags.
        """
        chosen, counts = self._chosen(parameters, n_scan, method)
        return self._run(Search(self.settings, chosen, self.progress), counts, method)

    @governed
    def check(
        self,
        parameters: Mapping[str, Bounds] | Sequence[str],
        *,
        n_scan: Mapping[str, int] | None = None,
        method: str = "gauss-newton",
    ) -> None:
        """Refuse what `optimize` would refuse, before anything is simulated.

        Parameters
        ----------
        parameters, n_scan, method
            See `optimize`.

        Raises
        ------
        ValueError
            A name, bounds or a setting cannot be used.
        """
        self._chosen(parameters, n_scan, method)

    def _chosen(
        self, parameters: Mapping[str, Bounds] | Sequence[str], n_scan: Mapping[str, int] | None, method: str
    ) -> tuple[list[FreeParameter], dict[str, int]]:
        if not isinstance(parameters, Mapping):
            parameters = dict.fromkeys(parameters)
        if not parameters:
            msg = 'name at least one parameter, such as {"thickness": (200, 3000)}'
            raise ValueError(msg)
        if method not in ("gauss-newton", "nelder-mead"):
            msg = f'method must be "gauss-newton" or "nelder-mead", got {method!r}'
            raise ValueError(msg)
        bounded = {canonical(name): bounds for name, bounds in parameters.items()}
        chosen = [self._free_parameter(name, bounds, bounded) for name, bounds in bounded.items()]
        counts = {p.name: scan_count(p, self.roi, self.data.frame) for p in chosen}
        for name, count in (n_scan or {}).items():
            if canonical(name) not in counts or int(count) < 1:
                msg = f"n_scan must give 1 or more for parameters that are refined, got {name!r}: {count!r}"
                raise ValueError(msg)
            counts[canonical(name)] = int(count)
        return chosen, counts

    # --- derived ------------------------------------------------------------------------------------------------------

    @property
    def disk_weights(self) -> FloatArray:
        """(D,) weights of the disks."""
        return np.ones(len(self.data.images)) if self.weights is None else self.weights

    @property
    def settings(self) -> Settings:
        """What a search is told."""
        return Settings(
            self.simulator,
            self.data,
            self.roi,
            self.thickness,
            self.fine_grid,
            self.preprocess,
            self.metric,
            self.disk_weights,
            self.blur,
            self.beam_check,
            self.check_held,
            self.device,
            self.held_sigma or {},
        )

    def __getattr__(self, name: str) -> Any:
        # Scripts call the original's names of methods on this class as well as on `CoarseOptimize`.
        if name.startswith("optimize"):
            original = vars(importlib.import_module("stackalign.compat.coarse").CoarseOptimize)
            if name in original:
                return functools.partial(original[name], self)
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def with_(self, **changes: Any) -> "CoarseRefine":
        """Return a refiner in which some settings differ.

        Parameters
        ----------
        **changes
            Parameters of `CoarseRefine` by name.

        Returns
        -------
        CoarseRefine
            The other one.
        """
        names = ["simulator", "data", "roi", "thickness", "search_radius", "grid", "fine_grid", "preprocess"]
        names += ["metric", "weights", "blur", "beam_check", "check_held", "held_sigma", "device"]
        names += ["progress"]
        settings = {name: getattr(self, name) for name in names}
        return type(self)(**settings | changes)

    def with_result(self, result: RefinementResult) -> "CoarseRefine":
        """Return a refiner that starts from a result: tilt, gl, rotation, thickness and structure.

        Parameters
        ----------
        result : RefinementResult
            Of this refiner, or of one with the same data.

        Returns
        -------
        CoarseRefine
            The other one.
        """
        fitted = {canonical(n): None for n in result.names}
        changes: dict[str, float] = {}
        for name in result.names:
            if name in ("tilt_x", "tilt_y", "thickness", "gl", "rotation", "blur"):
                continue
            drives = self._free_parameter(name, None, fitted).drives
            changes |= dict.fromkeys(drives, result.values[name])
        simulator = self.simulator
        if changes:
            if not isinstance(simulator, AdjustableSimulator):
                msg = (
                    f"{type(simulator).__name__} has no with_parameters, by which a refinement goes on from "
                    f"{', '.join(changes)}: give it one, or make a simulator of these values"
                )
                raise ValueError(msg)
            simulator = simulator.with_parameters(changes)
        data = replace(self.data, frame=result.frame)
        return self.with_(simulator=simulator, data=data, thickness=result.values["thickness"])

    @governed
    def disks(self, result: RefinementResult, step_px: float = 1.0) -> tuple[FloatArray, FloatArray]:
        """Sample measured and simulated disks on one grid, to be looked at.

        Parameters
        ----------
        result : RefinementResult
            Of this refiner.
        step_px : float
            Size of their pixels, in pixels of the display. Invalid pixels are NaN; the simulation is scaled to the
            measured intensities, per disk or for all as the metric is.

        Returns
        -------
        measured, simulated : numpy.ndarray
            (D, h, w) each.
        """
        names = [name for name in result.names if name not in ("tilt_x", "tilt_y", "blur")]
        parameters = [self._free_parameter(name, None, dict.fromkeys(names)) for name in names]
        return compared_disks(Search(self.settings, parameters, None), result, step_px)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _free_parameter(self, name: str, bounds: Bounds, together: Mapping[str, Any]) -> FreeParameter:
        return free_parameter(name, bounds, self.simulator, self.data.frame, self.thickness, list(together))

    def _run(self, search: Search, counts: Mapping[str, int], method: str) -> RefinementResult:
        began = time.perf_counter()
        default = None if search.structure or search.scanned_thickness else self.fine_grid
        spacing, radius = scanned_area(
            self.roi.bounds, self.data.frame.gl, self.grid or default, self.search_radius, wide=not search.structure
        )
        search.measured.require_room()
        search.measured.pixels(self.data.frame, 1)  # says what is wrong with the region before the long part
        net = search.net(spacing, radius)
        with warnings.catch_warnings():
            # The scan goes through thicknesses for which the beams are few; what counts is where it ends.
            warnings.simplefilter("ignore", StackalignWarning)
            candidate, converged = find(search, net, counts, method)
        return replace(outcome.result(search, candidate, converged, time.perf_counter() - began), _refiner=self)
