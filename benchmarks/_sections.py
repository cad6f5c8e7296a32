"""The sections of benchmarks/RESULTS.md: for each a heading, what is compared, and what makes its table."""

from collections.abc import Callable
from typing import NamedTuple

import _tables as tables
import _tables_diffraction as diffraction
from _tables import Rows


class Section(NamedTuple):
    """A heading, the sentence under it, and what makes the table."""

    title: str
    compared: str
    lines: Callable[[Rows], list[str]]


FOUND_AGAIN = {
    "thickness": "thickness and tilt",
    "geometry": "step size",
    "hv": "accelerating voltage",
    "dwf": "Debye-Waller factor",
    "cell": "unit cell",
}


def _found_again(what: str) -> Section:
    compared = (
        "Simulated patterns with noise, a blur and a background, beside the errors and the times that were asked for."
    )
    return Section(f"`CoarseRefine`: known {what} found again", compared, tables.refine)


SECTIONS = {
    "radial": Section(
        "`pattern_summary` and `retention_radius`",
        "Times as multiples of reading the same data once from memory; on a CPU with one thread, and the radius beside "
        "two forms in plain NumPy: a histogram over ceil(r) and a mask for every radius.",
        tables.radial,
    ),
    "crop": Section(
        "`crop_file`",
        "From `.npy` to `.npy`, beside a floor that reads the input twice and writes the output once with plain system "
        "calls.",
        tables.crop,
    ),
    "large": Section(
        "`stackalign crop --memory-limit 512MB`",
        "Files larger than the memory allowed, through the command line, beside the same floor; runs killed at a third "
        "and at four fifths of their way are resumed and compared with the run that was left alone.",
        tables.large,
    ),
    "affine": Section(
        "`score_affine`",
        "81 candidates in one call on one thread, 10 % of the pixels NaN, beside scoring them one by one: resampling "
        "with a library and then correlating, or a plain loop in Numba; the error is that of the score, to SciPy in "
        "float64.",
        tables.affine,
    ),
    "resample": Section(
        "`resample_affine`",
        "An image of 1024^2 with 5 % NaN on one thread, beside general-purpose libraries; OpenCV lets NaN spread, "
        "torch has zeros outside, and both have no cubic spline.",
        tables.resample,
    ),
    "gauss_newton": Section(
        "Gauss-Newton, `register` and `register_stack`",
        "Four parameters from a start 3 px off, 2 % noise and 10 % NaN, on one thread, beside OpenCV's ECC (masked, "
        "affine, from the same start); `register` needs no start, searches all shifts and estimates error bars.",
        tables.gauss_newton,
    ),
    "register": Section(
        "Accuracy of `register`",
        "Distance of the image's points from where the truth has them, in pixels, the worst of three seeds, beside the "
        "Cramer-Rao bound of the pair.",
        tables.register,
    ),
    "masked_ncc": Section(
        "`masked_shift`",
        "32 images against one reference and mask in CPU time, beside scikit-image's masked `phase_cross_correlation` "
        "in float64 and in float32.",
        tables.masked_ncc,
    ),
    "diffraction_align": Section(
        "`diffraction.align`",
        "32 patterns under a beam block in CPU time, beside scikit-image's masked `phase_cross_correlation` in "
        "float64 and in float32, which does not interpolate the aligned images.",
        diffraction.align,
    ),
    "diffraction_nfold": Section(
        "`diffraction.nfold`",
        "Six-fold averages under a mask in CPU time, beside scikit-ued in a process of its own, in turns.",
        diffraction.nfold,
    ),
    "diffraction": Section(
        "`diffraction.azimuthal_average` and `mask_from_collection`",
        "Profiles of 20 frames under a mask, ours with variances, beside scikit-ued and pyFAI's fastest engine; "
        "masks by limits and standard deviation over all frames, beside scikit-ued. Peers in their own environment.",
        diffraction.profiles_and_masks,
    ),
    "diffraction_centers": Section(
        "Accuracy of `diffraction.autocenter`",
        "512^2 pixels, Poisson noise and a beam block; a jump is an error above 1.5 px, as to another centre of "
        "inversion of a lattice.",
        diffraction.centers,
    ),
    "diffraction_shifts": Section(
        "Accuracy of `diffraction.align`",
        "Random shifts of up to 12 px of noisy patterns under a beam block that stands still, beside scikit-image's "
        "masked `phase_cross_correlation`, whose shifts are whole pixels.",
        diffraction.shifts,
    ),
    "diffraction_peaks": Section(
        "Accuracy of `diffraction.bragg_peaks`",
        "The worst of the lattices, without a centre or a template; precision against all spots within 3 px, recall of "
        "those that stand out of the noise by five deviations. scikit-ued takes the centre that it finds itself.",
        diffraction.peaks,
    ),
    "diffraction_persistence": Section(
        "`diffraction.bragg_peaks_persistence`",
        "All maxima of a noisy lattice, beside scikit-ued in a process of its own, in turns.",
        diffraction.persistence,
    ),
    "match_template": Section(
        "`match_template`",
        "16 templates in a stack of images in CPU time, beside scikit-image's `match_template` for one after the "
        "other; the error is that of the coefficient, to scikit-image in float64.",
        tables.match_template,
    ),
    "bloch_abtem": Section(
        "`BlochSimulator` beside abTEM",
        "Si [110], 100 tilts and 15 thicknesses on one thread; abTEM chooses beams for each tilt, ours are those of "
        "the first tilt, or all that any tilt needs.",
        tables.bloch_abtem,
    ),
    "bloch": Section(
        "`BlochSimulator`: number of beams",
        "Milliseconds per tilt on one thread for real and complex potentials and two treatments of absorption.",
        tables.plain,
    ),
    "bloch_thicknesses": Section(
        "`BlochSimulator`: thicknesses",
        "Seconds for 100 thicknesses of 15 reflections at 10^4 tilts, from waves that are solved already.",
        tables.plain,
    ),
    "refine_matching": Section(
        "`CoarseRefine`: comparing",
        "One simulated stack of disks with one measured region in CPU time, at every pixel and on the grid of tilts, "
        "beside scikit-image's `match_template`, after SciPy's `zoom` for the grid.",
        tables.refine_matching,
    ),
    **{f"refine_{key}": _found_again(what) for key, what in FOUND_AGAIN.items()},
    "gaas": Section(
        "`CoarseRefine`: measured patterns of GaAs",
        "Six disks of GaAs [-1 1 0] at 200 kV, step after step, and again with a tenth of the pixels masked; the "
        "truth is not known.",
        tables.gaas,
    ),
    "solar_peers": Section(
        "`register` beside packages for solar images",
        "One pair of 512^2 of whole-disc texture with 2 % noise and 10 % holes, each package in a process of its own "
        "on the same cores; only SunXCorr solves for the scale too, and sunkit-image has no masks.",
        tables.solar_peers,
    ),
    "solar_accuracy": Section(
        "`solar.coalign`",
        "A synthetic raster of SPICE's geometry against a sequence of an imager, all phases from FITS files, ten "
        "seeds; the error is that of the corrected header over the image, beside the target and beside one image only.",
        tables.solar_accuracy,
    ),
    "solar_batch": Section(
        "`solar`: hundreds of rasters in a batch",
        "Rasters of a manifest against one sequence, one file of them broken on purpose.",
        tables.solar_batch,
    ),
}
