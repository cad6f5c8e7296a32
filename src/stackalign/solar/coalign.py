"""`coalign`: the way from a map with a wrong pointing to one with a corrected header and an error bar."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.units import Quantity

from stackalign.backends._threads import governed
from stackalign.registration import register, register_stack

from .coalign_result import CoalignmentResult
from .image_hdus import quiet
from .job import Job, generate
from .phase import Request
from .pixels import PixelTransform

__all__ = ["DEFAULTS", "coalign", "coalign_job", "run_jobs"]


@governed
def coalign(
    target: Any,
    reference: Any = None,
    *,
    model: str = "shift",
    max_shift: Quantity | str | float | None = None,
    phases: Sequence[str] | None = None,
    frames: Sequence[Any] | None = None,
    window: int | str | None = None,
    interval: Quantity | str | None = None,
    continuum: Any = None,
    bin_kernel: Quantity | None = None,
    scale_range: tuple[float, float] | None = None,
    rotation: str | None = "howard",
    height: float = 1.0,
    screen: str = "nearest",
    order: int = 3,
    smooth: float | str = "auto",
    background: Quantity | str | float | bool | None = "auto",
    mask: Any = None,
    values: tuple[float | None, float | None] | None = None,
    field: Any = None,
    exclude: Sequence[Any] = (),
    repair: bool = False,
    distortion: bool = False,
    detectors: str = "together",
    min_overlap: float = 0.3,
    tolerance: float = 0.01,
    max_rounds: int = 8,
    start: PixelTransform | None = None,
    device: str = "auto",
    workers: int | None = None,
    **raster: Any,
) -> CoalignmentResult:
    """Correct the coordinates of a map by comparing it with another one, or with an imager's sequence.

    The reference is sampled where the target's header says that its pixels are, and `stackalign.register` finds how
    the one image lies on the other; the header is corrected by that and the reference sampled anew, until nothing
    moves any more. The target is never resampled but for whole blocks of pixels.

    Parameters
    ----------
    target : GenericMap, path-like, (array, header), (array, WCS) or NDCube
        A file of SPICE with spectral windows is collapsed, see `read_window`.
    reference : the same, optional
        By default the one of `frames` that was taken next to the middle of the target. A raster whose header says when
        its columns were exposed is compared column by column, each turned to the time of this image.
    model : str
        What may be wrong in the header: "shift"; "shift+scale" (and the lengths of the pixels along each axis);
        "rigid" (and the roll); "similarity"; "shift+scale+angle"; "affine". The last phase fits it, those before it
        the shift alone.
    max_shift : Quantity, str or float, optional
        How far off the pointing may be: an angle such as "120 arcsec", or pixels of the target; 300 arcsec by default.
    phases : sequence of str, optional
        Some of "binned" (every shift, on blocks of pixels), "full" (the pixels as they are) and "synthetic" (a raster
        that is built from the frames column by column, see `build_synthetic_raster`). By default all that there are
        images for; "binned" is left out where its blocks would be single pixels.
    frames : sequence of GenericMap or path-like, optional
        The imager's sequence during the raster.
    window : int or str, optional
        Spectral window of a file, by number or name.
    interval : Quantity or str, optional
        (2,) wavelengths of the window between which channels count, or "70.3 70.5 nm".
    continuum : "ends", Quantity, str or sequence of Quantity, optional
        What is taken off the window's channels, see `read_window`.
    bin_kernel : Quantity, optional
        Side of the blocks on the sky; by default so that the wide search takes less than a second.
    scale_range : (float, float), optional
        Bounds of the scales.
    rotation : str, optional
        Model by which the solar surface turns between two images; None leaves it where it is.
    height : float
        Radius of the surface in solar radii; 1.004 for 17.4 nm.
    screen : {"nearest", "sphere", "plane"}
        Where what is seen beyond the limb is taken to be, see `pixel_mapping`.
    order : {1, 3}
        Of the interpolation of the reference.
    smooth : float or "auto"
        Sigma in pixels of a Gaussian over both images, see `stackalign.register`.
    background : Quantity, str, float, bool or None
        Sigma of a Gaussian mean that is taken off both images, an angle or pixels of the target; True for a twelfth of
        the shorter side, None to keep it. "auto" takes it off where the answer is in doubt with it and is not without:
        vignetting and drifts of the gain outweigh what two images have in common.
    mask : array_like or path-like, optional
        Boolean, of the target's shape, True = valid; or a file of such a mask, see `stackalign.io.read_mask`.
    values : (float, float), optional
        Smallest and largest value of the target's pixels that are compared; None on a side for no limit.
    field : ((Tx, Tx), (Ty, Ty)), optional
        Limits, in arcsec or as Quantity, of the part of the target that is compared, by its uncorrected header.
    exclude : sequence of ((Tx, Tx), (Ty, Ty)), optional
        Boxes of the target that are left out.
    repair : bool
        Correct faults of headers that are known, see `repair_header`.
    distortion : bool
        Apply the tables of distortions of the target's file (HDUs WCSDVARR), such as the pointing jitter of a raster.
        They are carried into corrected files as they are, with or without.
    detectors : {"together", "apart"}
        One correction for all windows of a file, or one for the windows of each detector (cards DETECTOR, CCD or
        CAMERA), such as SPICE's SW and LW: the first window of each other one is aligned as well, and the result has
        their offsets. Windows of a detector whose own result is flagged stay uncorrected.
    min_overlap : float
        Share of the target's valid pixels that both images must show; below it a result is flagged.
    tolerance : float
        In pixels: the header is right when a round moves no corner by more.
    max_rounds : int
        Largest number of rounds of each phase.
    start : PixelTransform, optional
        Correction to begin with.
    device : str
        "cpu", "cuda", "cuda:n" or "auto": a GPU that can be used, else the CPU.
    workers : int, optional
        Number of CPU threads; one per core by default. Results do not depend on it.
    **raster
        For `build_synthetic_raster`: threshold_time, method, times, observer, psf_fwhm, exposure_samples, oversample,
        on_bad_frame.

    Returns
    -------
    CoalignmentResult
        ``result.corrected_map``; ``result.ok`` is False where a flag says why it should not be trusted.

    Raises
    ------
    DataError
        An image cannot be used, the two do not overlap, or frames do not cover the raster in time or on the sky.
    ValueError
        A setting does not fit.

    See Also
    --------
    build_synthetic_raster : what the phase "synthetic" compares with.

    Examples
    --------
    A map of a texture whose header is 12 arcsec wrong along x, against the same texture with a right one:

    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from stackalign import solar
    >>> image = gaussian_filter(np.random.default_rng(0).standard_normal((120, 120)), 2.0)
    >>> header = {
    ...     "CTYPE1": "HPLN-TAN",
    ...     "CTYPE2": "HPLT-TAN",
    ...     "CUNIT1": "arcsec",
    ...     "CUNIT2": "arcsec",
    ...     "CRPIX1": 60.5,
    ...     "CRPIX2": 60.5,
    ...     "CRVAL1": 0.0,
    ...     "CRVAL2": 0.0,
    ...     "CDELT1": 3.0,
    ...     "CDELT2": 3.0,
    ...     "TELESCOP": "SDO",
    ...     "DATE-OBS": "2022-04-01T12:00:00",
    ...     "RSUN_REF": 695700000.0,
    ... }
    >>> wrong = header | {"CRVAL1": 12.0}
    >>> result = solar.coalign((image[:, 20:100], wrong | {"CRPIX1": 40.5}), (image, header), max_shift="40 arcsec")
    >>> result.ok
    True
    >>> [round(float(shift), 1) + 0.0 for shift in result.shift_arcsec.value]
    [-12.0, 0.0]
    """
    job = generate(
        target,
        reference,
        model=model,
        max_shift=max_shift,
        phases=phases,
        frames=frames,
        window=window,
        interval=interval,
        continuum=continuum,
        bin_kernel=bin_kernel,
        scale_range=scale_range,
        rotation=rotation,
        height=height,
        screen=screen,
        order=order,
        smooth=smooth,
        background=background,
        mask=mask,
        values=values,
        field=field,
        exclude=exclude,
        repair=repair,
        distortion=distortion,
        detectors=detectors,
        min_overlap=min_overlap,
        tolerance=tolerance,
        max_rounds=max_rounds,
        start=start,
        **raster,
    )
    answer: Any = None
    while True:
        try:
            with quiet():
                request = job.send(answer)
        except StopIteration as stop:
            result: CoalignmentResult = stop.value
            return result
        answer = register(request.reference, request.moving, device=device, workers=workers, **request.settings)


DEFAULTS = {
    name: option.default
    for name, option in inspect.signature(coalign).parameters.items()
    if option.kind is option.KEYWORD_ONLY and name not in ("device", "workers")
}
"""Options of `coalign` that say what is computed, and their defaults."""


def coalign_job(target: Any, reference: Any = None, **options: Any) -> Job:
    """Return the work of `coalign` as a job for `run_jobs`; the options are the same, without device and workers."""
    return generate(target, reference, **DEFAULTS | options)


@governed
def run_jobs(jobs: Sequence[Job], *, device: str = "auto", workers: int | None = None) -> list[Any]:
    """Drive jobs together: what wants to be registered alike is, in one stack.

    Returns
    -------
    list
        Of each job its `CoalignmentResult`, or the exception that ended it.
    """
    outcomes: list[Any] = [None] * len(jobs)
    waiting: dict[int, Request] = {}

    def advance(number: int, answer: Any) -> None:
        waiting.pop(number, None)
        try:
            with quiet():
                waiting[number] = jobs[number].send(answer)
        except StopIteration as stop:
            outcomes[number] = stop.value
        except Exception as error:  # whatever is wrong with one job is no reason to lose the others
            outcomes[number] = error

    for number in range(len(jobs)):
        advance(number, None)
    while waiting:
        alike: dict[Any, list[int]] = {}
        for number, request in waiting.items():
            alike.setdefault(request.key, []).append(number)
        for numbers in alike.values():
            pairs = [waiting[number] for number in numbers]
            try:
                results = register_stack(
                    np.stack([w.reference for w in pairs]),
                    np.stack([w.moving for w in pairs]),
                    device=device,
                    workers=workers,
                    **pairs[0].settings,
                )
            except Exception as error:
                for number in numbers:
                    waiting.pop(number)
                    outcomes[number] = error
                continue
            for number, result in zip(numbers, results, strict=True):
                advance(number, result)
    return outcomes
