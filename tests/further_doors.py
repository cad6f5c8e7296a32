"""Calls of public functions beyond the array API: each row is a function of one array, and a value for it.

Together with the doors of test_masked_inputs.py they are all public functions that take arrays.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import stackalign as sa
from doors import IMAGE, STACK
from stackalign import diffraction, drift, io, objectives, optimize, plot, refine, registration, transforms
from stackalign.compat import coaligner, cropper, skued
from stackalign.crop import CroppingConfig, crop_array, crop_file

__all__ = ["FURTHER", "Door"]

MASK = np.ones(IMAGE.shape, np.bool_)
MASK[4:7] = False
CENTER = np.array([15.5, 19.5])
MATRIX = np.array([[1.0, 0.01, 0.3], [0.02, 0.97, 0.2]])
POINTS = np.array([[3.0, 5.0], [7.5, 1.0], [20.0, 14.0], [9.0, 30.0], [25.0, 33.0]])
HKL = np.array([[2, 2, 0], [1, 1, 1]])
AXES = np.array([0.0, 0.1, 0.2])
GRID = np.arange(12.0).reshape(1, 1, 3, 4)
SILICON = refine.Crystal([5.43] * 3 + [90.0] * 3, ("Si", "Si"), [[0.0, 0, 0], [0.25, 0.25, 0.25]])
BEAM = refine.Beam(200.0, (0, 0, 1), (1, 0, 0))
FRAME = refine.DisplayFrame(20.0, 40.0, (15.0, 19.0))
QUIET = CroppingConfig(visualization=False, verbose=False)


@dataclass(frozen=True)
class Door:
    """A call as a function of one argument, a value for it, and whether that is images."""

    call: Callable[[Any], Any]
    value: np.ndarray
    images: bool = False


@cache
def registered() -> Any:
    return sa.register(IMAGE, np.roll(IMAGE, 1, 0))


@cache
def aligned() -> Any:
    return diffraction.align(STACK[1], IMAGE)


@cache
def centered() -> Any:
    return diffraction.autocenter(IMAGE)


@cache
def series() -> Any:
    return drift.create_test_series(5, (32, 32), seed=1)


@cache
def drifted() -> Any:
    return drift.estimate_drift(series().images)


def written(call: Callable[[Path], Any]) -> Any:
    """What a call writes into a folder, as it is read again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        call(path)
        return np.load(path)


def cropped_with(mask: Any) -> Any:
    def crop(path: Path) -> None:
        np.save(path.with_name("in.npy"), STACK)
        crop_file(path.with_name("in.npy"), path, QUIET, mask=mask)

    return written(crop)


def read_back(array: Any) -> Any:
    with io.open_array(array) as reader:
        out = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, len(out), out)
        return out


def drawn(call: Callable[[], Any]) -> Any:
    """The numbers of a picture."""
    from matplotlib.figure import Figure
    from matplotlib.pyplot import close

    made = call()
    figure = made if isinstance(made, Figure) else (made[0] if isinstance(made, list) else made).get_figure()
    numbers = [np.ma.getdata(image.get_array()) for axes in figure.axes for image in axes.get_images()]
    numbers += [np.asarray(line.get_xydata()) for axes in figure.axes for line in axes.get_lines()]
    close(figure)
    return numbers


def quadratic(values: Any) -> Any:
    return -((values - 0.3) ** 2).sum(-1)


def linear(values: Any) -> Any:
    r = np.asarray(values) - 0.3
    return -(r**2).sum(-1), -2 * r, np.broadcast_to(2 * np.eye(r.shape[-1]), (*r.shape, r.shape[-1]))


FURTHER: dict[str, Door] = {
    "resample_affine matrices": Door(lambda x: sa.resample_affine(IMAGE, x), MATRIX[None]),
    "score_affine matrices": Door(lambda x: sa.score_affine(sa.prepare_pair(IMAGE, IMAGE[::-1]), x), MATRIX[None]),
    "register reference_mask": Door(lambda x: sa.register(IMAGE, IMAGE, reference_mask=x), MASK),
    "centroid mask": Door(lambda x: sa.centroid(IMAGE, mask=x), MASK),
    "stack_statistics mask": Door(lambda x: sa.stack_statistics(IMAGE[None], mask=x), MASK),
    "azimuthal_average mask": Door(lambda x: sa.azimuthal_average(IMAGE, CENTER, mask=x), MASK),
    "azimuthal_average center": Door(lambda x: sa.azimuthal_average(IMAGE, x), CENTER),
    "crop_windows corners": Door(lambda x: sa.crop_windows(IMAGE[None], x, (4, 4)), np.array([[3, 5]])),
    "diffraction.nfold mask": Door(lambda x: diffraction.nfold(IMAGE, 2, center=CENTER, mask=x), MASK),
    "diffraction.nfold center": Door(lambda x: diffraction.nfold(IMAGE, 2, center=x), CENTER),
    "diffraction.find_beam_stop mask": Door(lambda x: diffraction.find_beam_stop(IMAGE, mask=x), MASK),
    "diffraction.bragg_peaks mask": Door(lambda x: diffraction.bragg_peaks(IMAGE, mask=x), MASK),
    "crop_array mask": Door(lambda x: crop_array(IMAGE[None], QUIET, mask=x), MASK),
    "skued.nfold center": Door(lambda x: skued.nfold(IMAGE, 2, center=x), CENTER),
    "coaligner.correlation_for_params": Door(
        lambda x: coaligner.correlation_for_params(x, IMAGE[::-1], 1.0, 0.5, 1.0, 1.01), IMAGE, images=True
    ),
    "coaligner.correlation_for_params target": Door(
        lambda x: coaligner.correlation_for_params(IMAGE[::-1], x, 1.0, 0.5, 1.0, 1.01), IMAGE, images=True
    ),
    "coaligner.optimize_alignment_local_grad_disc_persworkers": Door(
        lambda x: coaligner.optimize_alignment_local_grad_disc_persworkers(
            x, IMAGE[::-1], max_iter=1, n_neighbors=8, verbose=False
        ),
        IMAGE,
        images=True,
    ),
    "azimuthal_geometry center": Door(lambda x: sa.azimuthal_geometry(IMAGE.shape, x).radius, CENTER),
    "azimuthal_geometry mask": Door(lambda x: sa.azimuthal_geometry(IMAGE.shape, CENTER, mask=x).radius, MASK),
    "encircled_window centers": Door(lambda x: sa.encircled_window(x, 4.0, IMAGE.shape), POINTS),
    "linearize_affine matrices": Door(
        lambda x: sa.linearize_affine(sa.prepare_pair(IMAGE, IMAGE[::-1]), x, "affine"), MATRIX[None]
    ),
    "synchronize": Door(sa.synchronize, IMAGE, images=True),
    "register moving_mask": Door(lambda x: sa.register(IMAGE, IMAGE, moving_mask=x), MASK),
    "register_stack reference_mask": Door(lambda x: sa.register_stack(IMAGE, STACK, reference_mask=x), MASK),
    "registration.point_error matrix": Door(
        lambda x: registration.point_error(x, registration.create_test_pair((32, 40), seed=1)), MATRIX
    ),
    "RegistrationResult.apply moving": Door(lambda x: registered().apply(x), IMAGE, images=True),
    "RegistrationResult.sigma_at points": Door(lambda x: registered().sigma_at(x), POINTS),
    "RegistrationStack.apply moving": Door(lambda x: sa.RegistrationStack((registered(),)).apply(x), STACK[:1], True),
    "objectives.AffineNCC call": Door(
        lambda x: objectives.AffineNCC(sa.prepare_pair(IMAGE, IMAGE[::-1]), "shift")(x), np.array([[[0.5, 0.2]]])
    ),
    "objectives.AffineNCC center": Door(
        lambda x: objectives.AffineNCC(sa.prepare_pair(IMAGE, IMAGE[::-1]), "rigid", center=x)(
            np.array([[[0.5, 0.2, 3.0]]])
        ),
        CENTER,
    ),
    "optimize.gauss_newton start": Door(
        lambda x: optimize.gauss_newton(linear, x, tolerance=1e-3), np.array([[0.5, 0.2]])
    ),
    "optimize.grid_search axes": Door(lambda x: optimize.grid_search(quadratic, [x, x]), AXES),
    "optimize.pyramid_search axes": Door(lambda x: optimize.pyramid_search(quadratic, [x, x], levels=2), AXES),
    "optimize.neighbor_search start": Door(
        lambda x: optimize.neighbor_search(quadratic, x, steps=[0.1, 0.1], min_steps=[0.05, 0.05]),
        np.array([0.5, 0.2]),
    ),
    "optimize.neighbor_search steps": Door(
        lambda x: optimize.neighbor_search(quadratic, [0.5, 0.2], steps=x, min_steps=[0.05, 0.05]),
        np.array([0.1, 0.2]),
    ),
    "optimize.nelder_mead start": Door(
        lambda x: optimize.nelder_mead(quadratic, x, steps=[0.1], tolerance=0.01), np.array([[0.5]])
    ),
    "optimize.maximize_scalar bounds": Door(lambda x: optimize.maximize_scalar(quadratic, x), np.array([[0.0, 1.0]])),
    "optimize.lattice free": Door(lambda x: optimize.lattice(x, 8), np.array([True, False, True])),
    "transforms.apply matrices": Door(lambda x: transforms.apply(x, POINTS), MATRIX),
    "transforms.apply points": Door(lambda x: transforms.apply(MATRIX, x), POINTS),
    "transforms.compose outer": Door(lambda x: transforms.compose(x, MATRIX), MATRIX),
    "transforms.compose inner": Door(lambda x: transforms.compose(MATRIX, x), MATRIX),
    "transforms.invert": Door(transforms.invert, MATRIX),
    "transforms.matrices_from_parameters": Door(
        lambda x: transforms.matrices_from_parameters(x, "shift", (0, 0)), CENTER
    ),
    "transforms.matrices_from_parameters center": Door(
        lambda x: transforms.matrices_from_parameters([1.0, 2.0, 3.0], "rigid", x), CENTER
    ),
    "transforms.matrix_jacobian": Door(lambda x: transforms.matrix_jacobian(x, "shift", (0, 0)), CENTER),
    "transforms.matrix_jacobian center": Door(
        lambda x: transforms.matrix_jacobian([1.0, 2.0, 3.0], "rigid", x), CENTER
    ),
    "transforms.parameters_from_matrices": Door(lambda x: transforms.parameters_from_matrices(x, (0, 0)), MATRIX),
    "transforms.parameters_from_matrices center": Door(
        lambda x: transforms.parameters_from_matrices(MATRIX, x), CENTER
    ),
    "transforms.image_center": Door(transforms.image_center, np.array([32, 40])),
    "diffraction.autocenter mask": Door(lambda x: diffraction.autocenter(IMAGE, mask=x), MASK),
    "diffraction.align mask": Door(lambda x: diffraction.align(STACK, IMAGE, mask=x), MASK),
    "diffraction.align reference_mask": Door(lambda x: diffraction.align(STACK, IMAGE, reference_mask=x), MASK),
    "diffraction.reflection center": Door(lambda x: diffraction.reflection(IMAGE, 0.0, center=x), CENTER),
    "diffraction.baseline_dwt": Door(lambda x: diffraction.baseline_dwt(x, max_iter=3), IMAGE, images=True),
    "diffraction.baseline_dwt mask": Door(lambda x: diffraction.baseline_dwt(IMAGE, max_iter=3, mask=x), MASK),
    "diffraction.combine_masks": Door(lambda x: diffraction.combine_masks(x, MASK[::-1]), MASK),
    "diffraction.brillouin_zones peaks": Door(
        lambda x: diffraction.brillouin_zones(x, IMAGE.shape, center=CENTER), POINTS
    ),
    "diffraction.brillouin_zones center": Door(
        lambda x: diffraction.brillouin_zones(POINTS, IMAGE.shape, center=x), CENTER
    ),
    "diffraction.remove_hot_spots mask": Door(lambda x: diffraction.remove_hot_spots(IMAGE, mask=x), MASK),
    "diffraction.track_peak reference": Door(
        lambda x: list(diffraction.track_peak([IMAGE], slice(4, 20), slice(4, 20), reference=x)), IMAGE, images=True
    ),
    "diffraction.bragg_peaks_persistence mask": Door(
        lambda x: diffraction.bragg_peaks_persistence(IMAGE, mask=x), MASK
    ),
    "crop_file mask": Door(cropped_with, MASK),
    "io.open_array": Door(read_back, STACK, images=True),
    "io.write_images": Door(lambda x: written(lambda path: io.write_images(path, x)), STACK, images=True),
    "drift.estimate_drift": Door(drift.estimate_drift, series().images, images=True),
    "drift.estimate_drift mask": Door(
        lambda x: drift.estimate_drift(series().images, mask=x), np.ones((32, 32), np.bool_)
    ),
    "DriftResult.apply": Door(lambda x: drifted().apply(x), series().images, images=True),
    "DriftResult.average": Door(lambda x: drifted().average(x), series().images, images=True),
    "refine.log1p": Door(lambda x: refine.log1p()(x), IMAGE, images=True),
    "refine.ridge": Door(lambda x: refine.ridge()(x), IMAGE, images=True),
    "refine.local_normalise": Door(lambda x: refine.local_normalise(3.0)(x), IMAGE, images=True),
    "refine.kirkland g_squared": Door(lambda x: refine.kirkland("Si", x), AXES),
    "refine.Crystal cell": Door(
        lambda x: refine.Crystal(x, ("Si",), [[0.0, 0, 0]]).cell, np.array([5.43, 5.43, 5.43, 90, 90, 90])
    ),
    "refine.Crystal positions": Door(
        lambda x: refine.Crystal(SILICON.cell, ("Si", "Si"), x).structure_factors(HKL), SILICON.positions
    ),
    "refine.Crystal b_iso": Door(
        lambda x: refine.Crystal(SILICON.cell, ("Si", "Si"), SILICON.positions, b_iso=x).structure_factors(HKL),
        np.array([0.3, 0.5]),
    ),
    "refine.Crystal structure_factors": Door(SILICON.structure_factors, HKL),
    "refine.Crystal g_vectors": Door(SILICON.g_vectors, HKL),
    "refine.Crystal shifted": Door(lambda x: SILICON.shifted(x).positions, np.array([0.1, 0.2, 0.0])),
    "refine.DisplayFrame to_tilt": Door(FRAME.to_tilt, POINTS),
    "refine.DisplayFrame to_display": Door(FRAME.to_display, POINTS),
    "refine.DiffractionData images": Door(
        lambda x: refine.DiffractionData(x, ((0, 0, 0), (1, 0, 0)), FRAME, np.ones(STACK.shape, bool)), STACK, True
    ),
    "refine.DiffractionData mask": Door(
        lambda x: refine.DiffractionData(STACK, ((0, 0, 0), (1, 0, 0)), FRAME, x), np.stack([MASK, MASK])
    ),
    "refine.DiffractionData variance": Door(
        lambda x: refine.DiffractionData(STACK, ((0, 0, 0), (1, 0, 0)), FRAME, np.ones(STACK.shape, bool), x), STACK
    ),
    "refine.DiffractionData.from_cbed": Door(
        lambda x: refine.DiffractionData.from_cbed(x, ((0, 0, 0),), FRAME, SILICON, BEAM, radius=4).images, IMAGE, True
    ),
    "refine.StackSimulator images": Door(
        lambda x: (
            refine.StackSimulator(x, [100.0], np.arange(4) / 10, np.arange(3) / 10, [(0, 0, 0)])
            .prepare({}, np.array([[0.15, 0.1]]))
            .intensities([100.0])
        ),
        GRID,
        images=True,
    ),
    "refine.StackSimulator x": Door(
        lambda x: (
            refine.StackSimulator(GRID, [100.0], x, AXES, [(0, 0, 0)])
            .prepare({}, np.array([[0.15, 0.1]]))
            .intensities([100.0])
        ),
        np.arange(4) / 10,
    ),
    "skued.auto_masking": Door(skued.auto_masking, IMAGE, images=True),
    "skued.triml": Door(lambda x: skued.triml(x, 10), IMAGE, images=True),
    "skued.trimr": Door(lambda x: skued.trimr(x, 90), IMAGE, images=True),
    "skued.combine_masks": Door(lambda x: skued.combine_masks(x, MASK), MASK),
    "skued.baseline_dwt": Door(lambda x: skued.baseline_dwt(x, 3), IMAGE, images=True),
    "skued.brillouin_zones peaks": Door(lambda x: skued.brillouin_zones(IMAGE, MASK, x, center=CENTER).zones, POINTS),
    "cropper.DiffractionCropper.process_dataset": Door(
        lambda x: cropper.DiffractionCropper(QUIET).process_dataset(x)[0], STACK, True
    ),
    "plot.plot_pattern": Door(lambda x: drawn(lambda: plot.plot_pattern(x)), IMAGE, images=True),
    "plot.plot_pattern mask": Door(lambda x: drawn(lambda: plot.plot_pattern(IMAGE, mask=x)), MASK),
    "plot.plot_mask": Door(lambda x: drawn(lambda: plot.plot_mask(x)), MASK),
    "plot.plot_difference": Door(lambda x: drawn(lambda: plot.plot_difference(x, IMAGE[::-1])), IMAGE, images=True),
    "plot.plot_residual": Door(lambda x: drawn(lambda: plot.plot_residual(x, IMAGE[::-1])), IMAGE, images=True),
    "plot.plot_peaks image": Door(lambda x: drawn(lambda: plot.plot_peaks(x, POINTS)), IMAGE, images=True),
    "plot.plot_peaks peaks": Door(lambda x: drawn(lambda: plot.plot_peaks(IMAGE, x)), POINTS),
    "plot.plot_center image": Door(lambda x: drawn(lambda: plot.plot_center(x, centered())), IMAGE, images=True),
    "plot.plot_alignment reference": Door(
        lambda x: drawn(lambda: plot.plot_alignment(x, STACK[1], aligned())),
        IMAGE,
        images=True,
    ),
    "plot.plot_hot_spots": Door(
        lambda x: drawn(lambda: plot.plot_hot_spots(x, diffraction.remove_hot_spots(IMAGE))), IMAGE, images=True
    ),
    "plot.plot_baseline": Door(
        lambda x: drawn(lambda: plot.plot_baseline(x, diffraction.baseline_dwt(IMAGE[0], max_iter=2))), IMAGE[0]
    ),
    "plot.registration_figure": Door(
        lambda x: drawn(lambda: plot.registration_figure(registered(), IMAGE, x)), IMAGE[::-1].copy(), images=True
    ),
    "plot.plot_score_surface": Door(
        lambda x: drawn(lambda: plot.plot_score_surface(registered(), IMAGE, x)), IMAGE[::-1].copy(), images=True
    ),
    "plot.plot_displacements": Door(
        lambda x: drawn(lambda: plot.plot_displacements(x, IMAGE)), np.array([[5.0, 6, 0.5, 0.2, 0.1, 0.1]])
    ),
    "plot.disks_figure measured": Door(
        lambda x: drawn(lambda: plot.disks_figure(x, STACK, ["000", "111"])), STACK, images=True
    ),
}


def solar_doors() -> dict[str, Door]:
    """Those that need sunpy; as_map is the door of all functions that take maps."""
    if importlib.util.find_spec("sunpy") is None:
        return {}
    from stackalign import solar

    header = {
        "CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CDELT1": 4.0,
        "CDELT2": 4.0,
        "CRPIX1": 20.5, "CRPIX2": 16.5, "CRVAL1": 0.0, "CRVAL2": 0.0, "DATE-OBS": "2024-03-01T00:00:00",
        "HGLN_OBS": 0.0, "HGLT_OBS": 0.0, "DSUN_OBS": 1.496e11,
    }  # fmt: skip
    spectral = header | {"CTYPE3": "WAVE", "CUNIT3": "nm", "CRPIX3": 1.0, "CRVAL3": 70.4, "CDELT3": 0.01}
    spectral |= {"PC3_1": 0.0, "PC3_3": 1.0}

    def pixels(solar_map: Any) -> np.ndarray:
        return np.where(solar.valid_mask(solar_map), solar_map.data, np.nan)

    turn = solar.PixelTransform(np.eye(2) * 1.01, np.array([2.0, -1.0]))
    return {
        "solar.as_map": Door(lambda x: pixels(solar.as_map((x, header))), IMAGE, images=True),
        "solar.valid_mask": Door(lambda x: solar.valid_mask(solar.as_map((x, header))), IMAGE, images=True),
        "solar.collapse_window": Door(
            lambda x: np.asarray(solar.collapse_window(x, spectral, rows=None).map.data),
            np.stack([IMAGE, IMAGE[::-1], 2 * IMAGE])[None],
            images=True,
        ),
        "solar.PixelTransform matrix": Door(lambda x: solar.PixelTransform(x, np.zeros(2))(POINTS), np.eye(2) * 1.01),
        "solar.PixelTransform call": Door(turn, POINTS),
    }


FURTHER |= solar_doors()
