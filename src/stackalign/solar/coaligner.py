"""`Coaligner`: the three phases of `coalign` under the names, settings and results of the first implementation."""

import sys
from collections.abc import Sequence
from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from sunpy.map import GenericMap

from stackalign.errors import DataError
from stackalign.registration import register

from .archive import get_EUI_paths
from .binning import bin_factors
from .coalign_result import CoalignmentResult, PhaseResult
from .columns import column_times, time_axis
from .correct import correct_map
from .frames import arcsec_per_pixel, observation_time
from .headers import as_map
from .phases import Phase, Settings, Target, reference_sampler, run_phase
from .pixels import PixelTransform
from .plan import duration_seconds
from .provenance import solar_provenance
from .skymodel import SkyModel
from .wcs import read_linear

__all__ = ["Coaligner"]

_BINNED = ("shift_range", "max_corr", "plateau_iters", "n_neighbors", "corr_atol", "corr_rtol")
_ONE_MAP = _BINNED
_SYNTHETIC = (
    *_BINNED, "scale_range", "scale_step_x", "scale_step_y", "reference_local_dir", "reference_channel_keyword",
    "reference_exclude_tokens", "threshold_time", "order",
)  # fmt: skip


class Coaligner:
    """Coalign a raster with an imager in three phases.

    Each phase starts from what the one before found. Set the dictionaries before running:

    - ``xcorr_binned_kwargs``: ``shift_range`` (x, y) in blocks.
    - ``xcorr_one_map_kwargs``: ``shift_range`` (x, y) in pixels, twice the block where it is None.
    - ``synthetic_kwargs``: ``shift_range``, ``scale_range``, ``scale_step_x`` and ``scale_step_y`` (0 for both leaves
      the scale as it is), ``reference_local_dir``, ``reference_channel_keyword``, ``reference_exclude_tokens`` for the
      search of frames, ``threshold_time`` and ``order`` for the synthetic raster.
    - ``bin_kernel_arcsec``; ``target_FOV_expension_arcsec``, beyond which phase 1 does not look;
      ``synthetic_reference_time_window``.

    ``max_corr``, ``plateau_iters``, ``n_neighbors``, ``corr_atol`` and ``corr_rtol`` steered a walk from neighbour to
    neighbour. They are accepted and change nothing: every shift is looked at, and the optimum found by Gauss-Newton.

    Parameters
    ----------
    map_to_coalign, reference_map : GenericMap
        Or what else `coalign` takes.
    list_of_reference_maps : sequence, optional
        Maps or paths of the imager's sequence; else they are looked for in ``reference_local_dir``.
    verbose : int
        Above 0: say each phase's outcome on standard error.
    n_jobs : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.
    n_neighbors : int, optional
        Without effect, see above.
    device : str
        See `stackalign.register`.

    Attributes
    ----------
    best_params : dict
        ``dx``, ``dy`` (pixels), ``squeeze_x``, ``squeeze_y``, ``corr``, ``center`` (cy, cx), standard errors
        ``sigma_dx`` and so on, ``flags``; and CRPIX, CRVAL, CDELT and PC of the corrected header.
    results : dict
        Of "binned", "one_map" and "synthetic_raster": the same, with ``corrected_target_map``, ``history``, ``phase``.
    """

    def __init__(
        self,
        map_to_coalign: Any,
        reference_map: Any,
        list_of_reference_maps: Sequence[Any] | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        n_neighbors: int | None = None,
        *,
        device: str = "auto",
    ) -> None:
        self.map_to_coalign = as_map(map_to_coalign)
        self.reference_map = as_map(reference_map)
        self.list_of_reference_maps = list_of_reference_maps
        self.verbose, self.n_jobs, self.n_neighbors, self.device = verbose, n_jobs, n_neighbors, device
        self.target_FOV_expension_arcsec: Quantity = 700 * u.arcsec
        self.bin_kernel_arcsec: Quantity = 50 * u.arcsec
        self.xcorr_binned_kwargs: dict[str, Any] = {"shift_range": (20, 20), "max_corr": 0.7, "plateau_iters": 3}
        self.xcorr_one_map_kwargs: dict[str, Any] = {"shift_range": None, "max_corr": -1, "plateau_iters": 3}
        self.synthetic_kwargs: dict[str, Any] = {
            "shift_range": (40, 40), "scale_range": (0.7, 1.3), "scale_step_x": 1e-3, "scale_step_y": 1e-3,
            "max_corr": -1, "plateau_iters": 3, "reference_local_dir": None, "reference_channel_keyword": "fsi174",
            "reference_exclude_tokens": ("short",),
        }  # fmt: skip
        self.synthetic_reference_time_window: Any = np.timedelta64(1, "D")
        self.best_params: dict[str, Any] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self._phases: list[PhaseResult] = []

    @property
    def corrected_map(self) -> GenericMap:
        """The target as corrected by the last phase that ran."""
        return correct_map(self.map_to_coalign, self._correction)

    @property
    def result(self) -> CoalignmentResult:
        """The phases that ran as a `CoalignmentResult`, with error bars, flags and a way to files."""
        if not self._phases:
            msg = "no phase has run yet"
            raise ValueError(msg)
        lasting = [f for p in self._phases[:-1] for f in p.flags if f in ("ambiguous", "on_bound", "insignificant")]
        return CoalignmentResult(
            self.map_to_coalign,
            self.reference_map,
            tuple(self._phases),
            tuple(dict.fromkeys([*self._phases[-1].flags, *lasting])),
            solar_provenance(self.map_to_coalign, self.reference_map, self._phases, {}, None),
            self._sampler,
        )

    def run(self) -> dict[str, Any]:
        """Run all three phases; gives `best_params`."""
        self.run_binned_xcorr()
        self.run_one_map_xcorr()
        return self.run_synthetic_raster_xcorr()

    def run_binned_xcorr(self) -> dict[str, Any]:
        """Phase 1: every shift of the image in blocks of ``bin_kernel_arcsec``; gives `best_params`."""
        given = self._checked(self.xcorr_binned_kwargs, _BINNED, "xcorr_binned_kwargs")
        factors = bin_factors(self.map_to_coalign, self.bin_kernel_arcsec)
        # A side of at least a dozen blocks: with fewer there is nothing to compare.
        limits = [max(1, n // 12) for n in self.map_to_coalign.data.shape]
        binning = (min(factors[0], limits[0]), min(factors[1], limits[1]))
        x, y = self._pair(given.get("shift_range") or (20, 20))
        self._phases = []
        reach = (float(y * factors[0]), float(x * factors[1]))
        return self._run(
            "binned", Phase("binned", self._model("shift"), binning, reach, True), PixelTransform.identity()
        )

    def run_one_map_xcorr(self, seed_shift: Sequence[float] | None = None) -> dict[str, Any]:
        """Phase 2: the pixels as they are, against one image; gives `best_params`.

        Parameters
        ----------
        seed_shift : (float, float), optional
            (dx, dy) in pixels to start from, instead of phase 1.
        """
        given = self._checked(self.xcorr_one_map_kwargs, _ONE_MAP, "xcorr_one_map_kwargs")
        start = self._correction
        if seed_shift is not None:
            start = PixelTransform(np.eye(2), np.array(self._pair(seed_shift, "seed_shift", signed=True)))
        factors = bin_factors(self.map_to_coalign, self.bin_kernel_arcsec)
        x, y = self._pair(given.get("shift_range") or (2 * factors[1], 2 * factors[0]))
        return self._run("one_map", Phase("full", self._model("shift"), (1, 1), (float(y), float(x)), True), start)

    def run_synthetic_raster_xcorr(self) -> dict[str, Any]:
        """Phase 3: shift and scale against a synthetic raster, rebuilt until it moves no more; gives `best_params`."""
        given = self._checked(self.synthetic_kwargs, _SYNTHETIC, "synthetic_kwargs")
        scaled = bool(given.get("scale_step_x", 1e-3)) or bool(given.get("scale_step_y", 1e-3))
        x, y = self._pair(given.get("shift_range") or (40, 40))
        phase = Phase(
            "synthetic",
            self._model("shift+scale" if scaled else "shift"),
            (1, 1),
            (float(y), float(x)),
            False,
            tuple(self._frames(given)),
        )
        raster = {} if given.get("threshold_time") is None else {"threshold_time": given["threshold_time"]}
        scale_range = given.get("scale_range")
        return self._run("synthetic_raster", phase, self._correction, scale_range=scale_range, raster=raster)

    # --- how ---

    @property
    def _correction(self) -> PixelTransform:
        return self._phases[-1].correction if self._phases else PixelTransform.identity()

    def _model(self, name: str) -> SkyModel:
        solar_map = self.map_to_coalign
        return SkyModel(name, arcsec_per_pixel(solar_map.wcs), solar_map.data.shape)

    def _run(
        self,
        name: str,
        phase: Phase,
        start: PixelTransform,
        *,
        scale_range: tuple[float, float] | None = None,
        raster: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        order = 1 if self.synthetic_kwargs.get("order", 3) in (0, 1) else 3
        settings = Settings("howard", 1.0, order, "auto", 0.3, 0.01, 8, scale_range, raster or {})
        target = Target.of(self.map_to_coalign, self.reference_map, settings)
        self._sampler = reference_sampler(phase, target, settings)
        work = run_phase(phase, target, settings, start)
        answer: Any = None
        while True:
            try:
                wanted = work.send(answer)
            except StopIteration as stop:
                done: PhaseResult = stop.value
                break
            answer = register(
                wanted.reference, wanted.moving, device=self.device, workers=self.n_jobs, **wanted.settings
            )
        self._phases = [p for p in self._phases if p.name != done.name] + [done]
        self.best_params = self._parameters(done)
        self.results[name] = {
            **self.best_params,
            "best_params": self.best_params,
            "corrected_target_map": self.corrected_map,
            "history": done.history,
            "phase": done,
        }
        if self.verbose:
            values = ", ".join(f"{key} {self.best_params[key]:.4f}" for key in ("dx", "dy", "squeeze_x", "squeeze_y"))
            sys.stderr.write(f"{name}: {values}, corr {done.score:.4f}, flags: {', '.join(done.flags) or 'none'}\n")
        return self.best_params

    def _parameters(self, done: PhaseResult) -> dict[str, Any]:
        value = dict(zip(done.names, done.parameters.tolist(), strict=True))
        sigma = dict(zip(done.names, done.sigma.tolist(), strict=True))
        corrected = self.corrected_map.meta
        linear = read_linear(corrected)
        cards = {key: float(corrected[key]) for key in ("crpix1", "crpix2", "crval1", "crval2", "cdelt1", "cdelt2")}
        cards |= {f"pc{i + 1}_{j + 1}": float(linear.cd[i, j] / linear.cdelt[i]) for i, j in np.ndindex(2, 2)}
        return {
            "dx": value["dx"],
            "dy": value["dy"],
            "squeeze_x": value.get("sx", 1.0),
            "squeeze_y": value.get("sy", 1.0),
            "corr": done.score,
            "center": tuple(((np.array(self.map_to_coalign.data.shape) - 1) / 2).tolist()),
            **{f"sigma_{key}": number for key, number in sigma.items()},
            "flags": done.flags,
            **{key.upper(): number for key, number in cards.items()},
        }

    @staticmethod
    def _checked(given: dict[str, Any], known: Sequence[str], what: str) -> dict[str, Any]:
        unknown = [key for key in given if key not in known]
        if unknown:
            msg = f"{what} has no setting {', '.join(map(str, unknown))}; there are {', '.join(known)}"
            raise ValueError(msg)
        return given

    @staticmethod
    def _pair(given: Any, what: str = "shift_range", *, signed: bool = False) -> tuple[float, float]:
        values = np.asarray(given, np.float64).ravel()
        if values.size != 2 or not np.isfinite(values).all() or (not signed and (values <= 0).any()):
            msg = f"{what} must be two {'' if signed else 'positive '}numbers (x, y), got {given!r}"
            raise ValueError(msg)
        return float(values[0]), float(values[1])

    def _frames(self, given: dict[str, Any]) -> Sequence[Any]:
        if self.list_of_reference_maps is not None:
            if not len(self.list_of_reference_maps):
                msg = "list_of_reference_maps is empty"
                raise DataError(msg)
            return self.list_of_reference_maps
        folder = given.get("reference_local_dir")
        if folder is None:
            msg = "give list_of_reference_maps, or the folder of the frames in synthetic_kwargs['reference_local_dir']"
            raise DataError(msg)
        solar_map = self.map_to_coalign
        date = observation_time(solar_map)
        times = date[None]
        if time_axis(solar_map.meta) is not None:
            times = column_times(solar_map.meta, solar_map.data.shape)
        window = self.synthetic_reference_time_window
        margin = duration_seconds(window) * u.s
        channel = given.get("reference_channel_keyword")
        found = get_EUI_paths(
            times.min() - margin,
            times.max() + margin,
            folder,
            channel=channel,
            exclude=given.get("reference_exclude_tokens") or (),
        )
        if not found:
            msg = f"{folder} has no file of {channel or 'any channel'} within {window} of the raster"
            raise DataError(msg)
        return found
