"""`Coaligner`: the three phases of `coalign` under the names, settings and results of the first implementation."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import astropy.units as u
import numpy as np
from astropy.units import Quantity
from sunpy.map import GenericMap

from stackalign.errors import DataError, StackalignWarning
from stackalign.registration import register
from stackalign.solar.archive import get_EUI_paths
from stackalign.solar.binning import bin_factors
from stackalign.solar.coalign_result import CoalignmentResult
from stackalign.solar.columns import column_moments, column_times, time_axis
from stackalign.solar.correct import correct_map
from stackalign.solar.directions import arcsec_per_pixel, step_arcsec
from stackalign.solar.frames import ColumnMoments, observation_time
from stackalign.solar.grid import reference_sampler
from stackalign.solar.observation import Observation
from stackalign.solar.phase import Phase, Settings
from stackalign.solar.phase_result import PhaseResult
from stackalign.solar.phases import run_phase
from stackalign.solar.pixels import PixelTransform
from stackalign.solar.plan import duration_seconds
from stackalign.solar.provenance import solar_provenance
from stackalign.solar.reading import as_map
from stackalign.solar.skymodel import SkyModel
from stackalign.solar.target import Target
from stackalign.solar.wcs import read_linear

from .coaligner_search import correlation_for_params, optimize_alignment_local_grad_disc_persworkers

__all__ = ["Coaligner", "correlation_for_params", "get_EUI_paths", "optimize_alignment_local_grad_disc_persworkers"]

_STEERING = ("max_corr", "plateau_iters", "corr_atol", "corr_rtol", "n_neighbors")
_BINNED = ("shift_range", *_STEERING)
_ONE_MAP = _BINNED
_SYNTHETIC = (
    *_BINNED, "scale_range", "scale_step_x", "scale_step_y", "reference_local_dir", "reference_channel_keyword",
    "reference_exclude_tokens", "threshold_time", "order",
)  # fmt: skip
_MODELS = {(True, True): "shift+scale", (True, False): "shift+scale_x", (False, True): "shift+scale_y"}


class Coaligner:
    """Coalign a raster with an imager in three phases.

    Each phase starts from what the one before found. Set the dictionaries before running:

    - ``xcorr_binned_kwargs``: ``shift_range`` (x, y) in blocks.
    - ``xcorr_one_map_kwargs``: ``shift_range`` (x, y) in pixels, twice the block where it is None.
    - ``synthetic_kwargs``: ``shift_range`` in pixels; ``scale_range``; ``scale_step_x`` and ``scale_step_y``, of which
      0 leaves the scale along that axis as it is, and any other number does not limit how finely it is found;
      ``reference_local_dir``, ``reference_channel_keyword`` and ``reference_exclude_tokens`` for the search of frames;
      ``threshold_time`` and ``order`` (0 and 1: linear; above: cubic) for the synthetic raster.
    - ``bin_kernel_arcsec``, smaller where a side of the map would have fewer than 24 blocks;
      ``target_FOV_expension_arcsec``, beyond which phase 1 does not look; ``synthetic_reference_time_window``, how far
      from the raster frames are looked for.

    A phase consists of rounds: the reference is sampled where the corrected header points, and registered. It ends
    with the round that moves the map by less than 0.01 pixel. In each dictionary, ``max_corr`` (if not negative) ends
    it with the first round that reaches this correlation, and ``plateau_iters`` when the correlations of so many rounds
    agree within ``corr_atol + corr_rtol * |mean|`` (1e-4 and 1e-3). ``n_neighbors`` steered a walk from neighbour to
    neighbour; it changes nothing, since every shift is looked at and the optimum found by Gauss-Newton.

    Parameters
    ----------
    map_to_coalign, reference_map : GenericMap
        Or what else `coalign` takes.
    list_of_reference_maps : sequence, optional
        Maps or paths of the imager's sequence; else they are looked for in ``reference_local_dir``, and without that in
        the current folder.
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

    Warns
    -----
    StackalignWarning
        ``n_neighbors`` was set.
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
        self._warned = False

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
            solar_provenance(self.map_to_coalign, self.reference_map, self._phases, self._described(), None),
            self._sampler,
        )

    def run(self) -> dict[str, Any]:
        """Run all three phases; gives `best_params`."""
        self.run_binned_xcorr()
        self.run_one_map_xcorr()
        return self.run_synthetic_raster_xcorr()

    def run_binned_xcorr(self) -> dict[str, Any]:
        """Phase 1: every shift of the image in blocks of ``bin_kernel_arcsec``; gives `best_params`."""
        options = self._checked(self.xcorr_binned_kwargs, _BINNED, "xcorr_binned_kwargs")
        factors = bin_factors(self.map_to_coalign, self.bin_kernel_arcsec)
        # Sides of at least 24 blocks: fewer leave the shift undetermined where there is noise.
        limits = [max(1, n // 24) for n in self.map_to_coalign.data.shape]
        binning = (min(factors[0], limits[0]), min(factors[1], limits[1]))
        x, y = self._pair(options.get("shift_range") or (20, 20))
        far = Quantity(self.target_FOV_expension_arcsec).to_value(u.arcsec) / step_arcsec(self.map_to_coalign.wcs)
        if not (far > 0).all():
            msg = f"target_FOV_expension_arcsec must be a positive angle, got {self.target_FOV_expension_arcsec}"
            raise ValueError(msg)
        self._phases = []
        reach = (min(float(y * factors[0]), float(far[1])), min(float(x * factors[1]), float(far[0])))
        phase = Phase("binned", self._model("shift"), binning, reach, True)
        return self._run("binned", phase, PixelTransform.identity(), options)

    def run_one_map_xcorr(self, seed_shift: Sequence[float] | None = None) -> dict[str, Any]:
        """Phase 2: the pixels as they are, against one image.

        Parameters
        ----------
        seed_shift : (float, float), optional
            (dx, dy) in pixels to start from, instead of phase 1.

        Returns
        -------
        dict
            `best_params`.
        """
        options = self._checked(self.xcorr_one_map_kwargs, _ONE_MAP, "xcorr_one_map_kwargs")
        start = self._correction
        if seed_shift is not None:
            start = PixelTransform(np.eye(2), np.array(self._pair(seed_shift, "seed_shift", signed=True)))
        factors = bin_factors(self.map_to_coalign, self.bin_kernel_arcsec)
        x, y = self._pair(options.get("shift_range") or (2 * factors[1], 2 * factors[0]))
        phase = Phase("full", self._model("shift"), (1, 1), (float(y), float(x)), True)
        return self._run("one_map", phase, start, options)

    def run_synthetic_raster_xcorr(self) -> dict[str, Any]:
        """Phase 3: shift and scale against a synthetic raster, rebuilt until it moves no more; gives `best_params`."""
        options = self._checked(self.synthetic_kwargs, _SYNTHETIC, "synthetic_kwargs")
        scaled = (bool(options.get("scale_step_x", 1e-3)), bool(options.get("scale_step_y", 1e-3)))
        x, y = self._pair(options.get("shift_range") or (40, 40))
        phase = Phase(
            "synthetic",
            self._model(_MODELS.get(scaled, "shift")),
            (1, 1),
            (float(y), float(x)),
            False,
            tuple(self._frames(options)),
        )
        raster = {} if options.get("threshold_time") is None else {"threshold_time": options["threshold_time"]}
        scale_range = None if options.get("scale_range") is None else self._pair(options["scale_range"], "scale_range")
        order = 1 if options.get("order", 3) in (0, 1) else 3
        return self._run(
            "synthetic_raster", phase, self._correction, options, scale_range=scale_range, raster=raster, order=order
        )

    # --- how ---

    @property
    def _correction(self) -> PixelTransform:
        return self._phases[-1].correction if self._phases else PixelTransform.identity()

    def _moments(self) -> ColumnMoments | None:
        """When the columns were exposed; that nothing says how the spacecraft moved is said by the last phase."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StackalignWarning)
            return column_moments(self.map_to_coalign, rotation="howard")

    def _model(self, name: str) -> SkyModel:
        solar_map = self.map_to_coalign
        return SkyModel(name, arcsec_per_pixel(solar_map.wcs), solar_map.data.shape)

    def _run(
        self,
        name: str,
        phase: Phase,
        start: PixelTransform,
        options: Mapping[str, Any],
        *,
        scale_range: tuple[float, float] | None = None,
        raster: dict[str, Any] | None = None,
        order: int = 3,
    ) -> dict[str, Any]:
        if (self.n_neighbors is not None or options.get("n_neighbors") is not None) and not self._warned:
            self._warned = True
            msg = "n_neighbors has no effect: every shift is looked at, and the optimum found by Gauss-Newton"
            warnings.warn(msg, StackalignWarning, stacklevel=3)
        settings = Settings(
            "howard", 1.0, order, "auto", 0.3, 0.01, 8, scale_range, raster or {}, partial(_enough, options)
        )
        target = Target.of(Observation(self.map_to_coalign), Observation(self.reference_map), settings, self._moments())
        self._sampler = reference_sampler(phase, target, settings)
        work = run_phase(phase, target, settings, start)
        answer: Any = None
        while True:
            try:
                request = work.send(answer)
            except StopIteration as stop:
                done: PhaseResult = stop.value
                break
            answer = register(
                request.reference, request.moving, device=self.device, workers=self.n_jobs, **request.settings
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

    def _described(self) -> dict[str, Any]:
        """Settings as the provenance says them."""
        names = (
            "bin_kernel_arcsec", "target_FOV_expension_arcsec", "synthetic_reference_time_window",
            "xcorr_binned_kwargs", "xcorr_one_map_kwargs", "synthetic_kwargs",
        )  # fmt: skip
        return {name: str(getattr(self, name)) for name in names}

    @staticmethod
    def _checked(options: dict[str, Any], known: Sequence[str], what: str) -> dict[str, Any]:
        unknown = [key for key in options if key not in known]
        if unknown:
            msg = f"{what} has no setting {', '.join(map(str, unknown))}; there are {', '.join(known)}"
            raise ValueError(msg)
        return options

    @staticmethod
    def _pair(pair: Any, what: str = "shift_range", *, signed: bool = False) -> tuple[float, float]:
        values = np.asarray(pair, np.float64).ravel()
        if values.size != 2 or not np.isfinite(values).all() or (not signed and (values <= 0).any()):
            msg = f"{what} must be two {'' if signed else 'positive '}numbers (x, y), got {pair!r}"
            raise ValueError(msg)
        return float(values[0]), float(values[1])

    def _frames(self, options: dict[str, Any]) -> Sequence[Any]:
        if self.list_of_reference_maps is not None:
            if not len(self.list_of_reference_maps):
                msg = "list_of_reference_maps is empty"
                raise DataError(msg)
            return self.list_of_reference_maps
        folder = options.get("reference_local_dir") or "."
        solar_map = self.map_to_coalign
        date = observation_time(solar_map)
        times = date[None]
        if time_axis(solar_map.meta) is not None:
            times = column_times(solar_map.meta, solar_map.data.shape)
        window = self.synthetic_reference_time_window
        margin = duration_seconds(window) * u.s
        channel = options.get("reference_channel_keyword")
        frames = get_EUI_paths(
            times.min() - margin,
            times.max() + margin,
            folder,
            channel=channel,
            exclude=options.get("reference_exclude_tokens") or (),
        )
        if not frames:
            place = f"the folder {folder}" if folder != "." else "the current folder"
            msg = (
                f"{place} has no file of {channel or 'any channel'} within {window} of the raster; give "
                "list_of_reference_maps, or the frames' folder as synthetic_kwargs['reference_local_dir']"
            )
            raise DataError(msg)
        return frames


def _enough(options: Mapping[str, Any], scores: Sequence[float]) -> bool:
    """Whether the correlations of a phase's rounds end it, by its dictionary."""
    highest = float(options.get("max_corr", -1))
    if 0 <= highest <= scores[-1]:
        return True
    last = scores[-max(2, int(options.get("plateau_iters", 3))) :]
    spread = float(options.get("corr_atol", 1e-4)) + float(options.get("corr_rtol", 1e-3)) * abs(float(np.mean(last)))
    return len(last) >= max(2, int(options.get("plateau_iters", 3))) and max(last) - min(last) <= spread
