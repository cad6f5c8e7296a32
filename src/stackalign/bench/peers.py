"""What a user would write with other packages, which are imported when they are asked for.

None is required, and nothing is taken from their sources.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stackalign.registration.exports import theta_of

Image = NDArray[Any]


def limit_peers(threads: int) -> None:
    """Hold libraries with threads of their own to as many as we have."""
    from contextlib import suppress

    with suppress(ImportError):
        import torch

        torch.set_num_threads(threads)
    with suppress(ImportError):
        import cv2

        cv2.setNumThreads(threads)
    with suppress(ImportError):
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def radii(patterns: Image, centers: Image, fraction: float) -> NDArray[np.int64]:
    """Radius that holds a fraction of each pattern: one histogram over whole distances each."""
    y, x = np.indices(patterns.shape[1:])
    radii = np.empty(len(patterns), np.int64)
    for k, pattern in enumerate(patterns):
        ring = np.ceil(np.sqrt((y - centers[k, 0]) ** 2 + (x - centers[k, 1]) ** 2)).astype(np.int64)
        cumulative = np.cumsum(np.bincount(ring.ravel(), pattern.ravel()))
        radii[k] = np.searchsorted(cumulative, fraction * cumulative[-1])
    return radii


def centroids(patterns: Image) -> list[Any]:
    """`scipy.ndimage.center_of_mass` of each."""
    return [ndimage.center_of_mass(pattern) for pattern in patterns]


def statistics(stack: Image) -> tuple[Any, ...]:
    """Mean, variance and extrema of each pixel."""
    return (stack.mean(axis=0), stack.var(axis=0), stack.min(axis=0), stack.max(axis=0))


def pearson(reference: Image, moved: Image) -> float:
    """Correlation over the pixels that both have."""
    both = np.isfinite(reference) & np.isfinite(moved)
    r, v = reference[both], moved[both]
    r, v = r - r.mean(), v - v.mean()
    return float((r * v).sum() / np.sqrt((r * r).sum() * (v * v).sum()))


def score_scipy(reference: Image, moving: Image, matrices: Image) -> NDArray[np.float64]:
    """Each candidate resampled with `scipy.ndimage.affine_transform`, then correlated."""
    moved = (resample_scipy(moving, m, 1) for m in matrices)
    return np.array([pearson(reference, image) for image in moved])


def score_opencv(reference: Image, moving: Image, matrices: Image) -> NDArray[np.float64]:
    """Image and mask resampled with `cv2.warpAffine`, then correlated."""
    valid = np.isfinite(moving).astype(np.float32)
    image = np.where(valid > 0, moving, 0).astype(np.float32)
    scores = []
    for m in matrices:
        weight = resample_opencv(valid, m, border=0.0)
        scores.append(pearson(reference, np.where(weight > 0.999, resample_opencv(image, m, border=0.0), np.nan)))
    return np.array(scores)


def score_torch(reference: Image, moving: Image, matrices: Image) -> Any:
    """Image and mask resampled with `grid_sample`, a few candidates at once, then correlated."""
    import torch
    from torch.nn import functional

    planes = torch.stack([torch.from_numpy(np.nan_to_num(moving)), torch.from_numpy(np.isfinite(moving)).float()])
    r, there = torch.from_numpy(np.nan_to_num(reference)), torch.from_numpy(np.isfinite(reference))
    theta = theta_of(matrices, moving.shape, reference.shape, align_corners=True)
    grid = functional.affine_grid(
        torch.from_numpy(theta).float(), [len(theta), 1, *reference.shape], align_corners=True
    )
    sampled = functional.grid_sample(planes.expand(len(theta), -1, -1, -1), grid, align_corners=True)
    both = (there & (sampled[:, 1] > 0.999)).float()
    n, v = both.sum((1, 2)), sampled[:, 0]
    dr = (r - ((r * both).sum((1, 2)) / n)[:, None, None]) * both
    dv = (v - ((v * both).sum((1, 2)) / n)[:, None, None]) * both
    return (dr * dv).sum((1, 2)) / torch.sqrt((dr * dr).sum((1, 2)) * (dv * dv).sum((1, 2)))


def resample_scipy(image: Image, m: Image, order: int) -> Image:
    """`scipy.ndimage.affine_transform`, in its fastest form where the matrix is diagonal."""
    linear = m[:, :2]
    diagonal = linear[0, 1] == 0 and linear[1, 0] == 0
    moved: Image = ndimage.affine_transform(
        image, np.diag(linear).copy() if diagonal else linear, m[:, 2], order=order, cval=np.nan
    )
    return moved


def resample_skimage(image: Image, m: Image) -> Any:
    """`skimage.transform.warp`."""
    from skimage.transform import AffineTransform, warp

    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = m[::-1, 1::-1], m[::-1, 2]
    return warp(image, AffineTransform(matrix=matrix), order=1, cval=np.nan, preserve_range=True)


def resample_opencv(image: Image, m: Image, border: float = float("nan")) -> Any:
    """`cv2.warpAffine`."""
    import cv2

    pull = np.array([[m[1, 1], m[1, 0], m[1, 2]], [m[0, 1], m[0, 0], m[0, 2]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, pull, image.shape[::-1], flags=flags, borderValue=border)


def resample_torch(image: Image, m: Image) -> Any:
    """`torch.nn.functional.grid_sample`; zeros outside."""
    import torch
    from torch.nn import functional

    theta = theta_of(m, image.shape, image.shape, align_corners=True)
    grid = functional.affine_grid(torch.from_numpy(theta)[None].float(), [1, 1, *image.shape], align_corners=True)
    return functional.grid_sample(torch.from_numpy(image)[None, None], grid, align_corners=True)


def resample_itk(image: Image, m: Image) -> Any:
    """`SimpleITK.Resample` by an affine transform."""
    import SimpleITK

    source = SimpleITK.GetImageFromArray(image)
    transform = SimpleITK.AffineTransform(2)
    transform.SetMatrix(m[::-1, 1::-1].ravel().tolist())
    transform.SetTranslation(m[::-1, 2].tolist())
    return SimpleITK.Resample(source, source, transform, SimpleITK.sitkLinear, float("nan"))


def resample_cupyx(image: Any, m: Image) -> Any:
    """`cupyx.scipy.ndimage.affine_transform`, for arrays that are on the device."""
    from cupyx.scipy import ndimage as on_device

    return on_device.affine_transform(image, type(image)(m[:, :2]), m[:, 2], order=1, cval=np.nan)


def shifts_skimage(reference: Image, images: Image, mask: Image) -> list[Any]:
    """`skimage.registration.phase_cross_correlation` with masks."""
    from skimage.registration import phase_cross_correlation

    options = {"reference_mask": mask, "moving_mask": mask}
    return [phase_cross_correlation(reference, image, **options)[0] for image in images]


def templates_skimage(image: Image, several: Image) -> list[Any]:
    """`skimage.feature.match_template`."""
    from skimage.feature import match_template

    return [match_template(image, template) for template in several]


def templates_opencv(image: Image, several: Image) -> list[Any]:
    """`cv2.matchTemplate`."""
    import cv2

    return [cv2.matchTemplate(image, template, cv2.TM_CCOEFF_NORMED) for template in several]


def profiles_pyfai(images: Image, center: tuple[float, float]) -> Callable[[], Any]:
    """Its integrator with the geometry kept, without splitting of pixels."""
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    pixel = 1e-4
    poni = {"poni1": (center[0] + 0.5) * pixel, "poni2": (center[1] + 0.5) * pixel}
    integrator = AzimuthalIntegrator(dist=1.0, pixel1=pixel, pixel2=pixel, **poni)
    points = int(np.hypot(*images.shape[1:]) / 2)
    method = ("no", "csr", "cython")
    return lambda: [integrator.integrate1d(image, points, unit="r_mm", method=method) for image in images]


def profiles_skued(images: Image, center: tuple[float, float]) -> list[Any]:
    """`skued.azimuthal_average`."""
    import skued

    return [skued.azimuthal_average(image, center[::-1]) for image in images]


def profiles_numpy(images: Image, center: tuple[float, float]) -> Callable[[], Any]:
    """Two histograms over whole distances; the rings are kept."""
    y, x = np.indices(images.shape[1:])
    ring = np.rint(np.hypot(y - center[0], x - center[1])).astype(np.int64).ravel()
    number = np.bincount(ring)
    return lambda: [np.bincount(ring, image.ravel()) / number for image in images]


def bin_numpy(stack: Image, factor: int) -> Any:
    """Means of blocks by reshaping."""
    n, height, width = stack.shape
    return stack.reshape(n, height // factor, factor, width // factor, factor).mean(axis=(2, 4))


def ecc(reference: Image, moving: Image) -> Any:
    """OpenCV's enhanced correlation, affine, from where the images are, 50 iterations to 1e-6."""
    import cv2

    fixed, moved = (np.nan_to_num(i, nan=float(np.nanmean(i))).astype(np.float32) for i in (reference, moving))
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-6)
    mask = np.isfinite(moving).astype(np.uint8) * 255
    return cv2.findTransformECC(fixed, moved, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop, mask, 1)


def phase_correlation(reference: Image, moving: Image) -> Any:
    """`skimage.registration.phase_cross_correlation` with the masks of the images, whole pixels."""
    from skimage.registration import phase_cross_correlation

    masks = {"reference_mask": np.isfinite(reference), "moving_mask": np.isfinite(moving)}
    return phase_cross_correlation(np.nan_to_num(reference), np.nan_to_num(moving), **masks)


def registration_itk(reference: Image, moving: Image) -> Any:
    """SimpleITK's registration of shifts by correlation, masks and a pyramid of three levels."""
    import SimpleITK

    fixed, moved = (SimpleITK.GetImageFromArray(np.nan_to_num(i).astype(np.float32)) for i in (reference, moving))
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(SimpleITK.GetImageFromArray(np.isfinite(reference).astype(np.uint8)))
    method.SetMetricMovingMask(SimpleITK.GetImageFromArray(np.isfinite(moving).astype(np.uint8)))
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(SimpleITK.TranslationTransform(2))
    method.SetInterpolator(SimpleITK.sitkLinear)
    return method.Execute(fixed, moved)


def skued_call(name: str, *arguments: Any) -> Any:
    """Call a function of scikit-ued."""
    import skued

    return getattr(skued, name)(*arguments)


def sunxcorr(reference: Image, moving: Image) -> Callable[[], Any]:
    """SunXCorr's search of shifts, with two processes."""
    from sunxcorr.optimization import optimize_shift_and_scale
    from sunxcorr.worker_setup import setup_persistent_workers

    tasks, results, payloads, _ = setup_persistent_workers(2)

    class Pool:
        _processes = 2

    options = {"task_queue": tasks, "result_queue": results, "shared_payloads": payloads, "verbose": 0}
    return lambda: optimize_shift_and_scale(moving, reference, 20, workers=Pool(), n_neighbors=120, **options)


def sunkit(reference: Image, moving: Image) -> Callable[[], Any]:
    """Template matching of sunkit-image; holes are filled with the mean, since it has no masks."""
    from sunkit_image.coalignment import _find_best_match_location, match_template_to_layer

    fixed, moved = (np.nan_to_num(i, nan=float(np.nanmean(i))) for i in (reference, moving))
    margin = len(fixed) // 16
    template = moved[margin:-margin, margin:-margin]
    return lambda: _find_best_match_location(match_template_to_layer(fixed, template))
