"""Operations of the array API beside general-purpose libraries."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops, transforms

from . import peers
from .case import Case, Setting

__all__ = ["cases"]

FEW = 6
"""Candidates that a library scores, which takes them one by one."""
OPERATIONS_PER_SAMPLE = 22.0
"""Of a bilinear sample (8) and the six sums of a masked correlation (14)."""


def cases(setting: Setting) -> Iterator[Case]:
    """Give the problems one by one."""
    yield from _radial(setting)
    yield from _scores(setting)
    yield from _resampling(setting)
    yield from _correlations(setting)
    yield from _averages(setting)


def patterns(n: int, side: int) -> NDArray[np.uint16]:
    """Poisson counts of Gaussian beams whose centres wander; a few are made, and repeated."""
    rng = np.random.default_rng(side)
    y, x = np.indices((side, side))
    made = [
        rng.poisson(200 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (side / 8) ** 2)))
        for cy, cx in side / 2 + rng.uniform(-3, 3, (min(n, 16), 2))
    ]
    return np.resize(np.stack(made).astype(np.uint16), (n, side, side))


def scene(side: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two noisy views of smooth structure, a tenth of their pixels missing."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    base = sum(gaussian_filter(rng.normal(size=(side, side)), s) * s for s in (1.5, 5.0))
    reference = 500 + 100 * base + rng.normal(0, 5, base.shape)
    moving = 300 + 60 * np.roll(base, (1, -1), (0, 1)) + rng.normal(0, 4, base.shape)
    for image in (reference, moving):
        blobs = gaussian_filter(rng.normal(size=base.shape), side / 64)
        image[blobs > np.quantile(blobs, 0.9)] = np.nan
    return reference.astype(np.float32), moving.astype(np.float32)


def _radial(setting: Setting) -> Iterator[Case]:
    workers = setting.workers
    full = [(64, 8192), (128, 4096), (256, 2048), (512, 512)]
    for side, n in setting.pick([(32, 8)], [(128, 1024), (256, 512)], full):
        host = patterns(n, side)
        stack = ops.asarray(host, setting.device)
        centers = ops.to_numpy(ops.centroid(stack))
        few = host[: max(1, n // 64)]
        share = len(few) / n
        sized: dict[str, Any] = {
            "unit": "patterns", "count": n, "bytes": float(host.nbytes), "series": ("pixels", side**2),
        }  # fmt: skip
        problem = f"{n} x {side}^2 uint16"
        yield Case(
            "retention_radius", problem, run=partial(ops.retention_radius, stack, centers, 0.98, workers=workers),
            peers=tuple(setting.peer("numpy", "NumPy", peers.radii, few, centers, 0.98, share=share)),
            operations=4.0 * host.size, error=partial(_radii_apart, stack, few, centers), **sized,
        )  # fmt: skip
        yield Case(
            "centroid", problem, run=partial(ops.centroid, stack, workers=workers), operations=3.0 * host.size,
            peers=tuple(setting.peer("scipy", "SciPy", peers.centroids, few, share=share)), **sized,
        )  # fmt: skip
        yield Case(
            "stack_statistics", problem, run=partial(ops.stack_statistics, stack, workers=workers),
            peers=tuple(setting.peer("numpy", "NumPy", peers.statistics, host)), operations=6.0 * host.size, **sized,
        )  # fmt: skip


def _radii_apart(stack: Any, few: Any, centers: Any) -> str:
    ours = ops.to_numpy(ops.retention_radius(stack, centers, 0.98))[: len(few)].ravel()
    return f"{int((ours != peers.radii(few, centers, 0.98)).sum())} of {len(few)} radii differ from NumPy's"


def _scores(setting: Setting) -> Iterator[Case]:
    sides = setting.pick([32], [128, 512], [64, 128, 256, 512, 1024])
    for rotated in (False, True):
        for side in sides:
            yield _score(setting, side, 81, rotated, "pixels")
        for count in setting.pick([3], [9, 243], [1, 9, 27, 243]):
            yield _score(setting, sides[0], count, rotated, "candidates")


def _score(setting: Setting, side: int, count: int, rotated: bool, series: str) -> Case:
    """Score candidates about the truth, of shift and scale or rotated as well."""
    host = scene(side)
    pair = ops.prepare_pair(*(ops.asarray(image, setting.device) for image in host))
    rng = np.random.default_rng(1)
    parameters = np.array([1.3, -0.7, 1.01, 0.99]) + rng.integers(-2, 3, (count, 4)) * (0.25, 0.25, 5e-4, 5e-4)
    model = "shift+scale+angle" if rotated else "shift+scale"
    if rotated:
        parameters = np.column_stack([parameters, np.full(count, 0.5)])
    matrices = transforms.matrices_from_parameters(parameters, model, transforms.image_center((side, side)))
    few = matrices[: min(FEW, count)]
    share = len(few) / count
    also = [
        *setting.peer("scipy", "SciPy", peers.score_scipy, *host, few, share=share),
        *setting.peer("cv2", "OpenCV", peers.score_opencv, *host, few, share=share),
        *setting.peer("torch", "torch", peers.score_torch, *host, few, share=share),
    ]
    return Case(
        "score_affine, rotated" if rotated else "score_affine", f"{side}^2, {count} candidates, 10 % NaN",
        run=partial(ops.score_affine, pair, matrices, workers=setting.workers), unit="candidates", count=count,
        bytes=8.0 * side**2, operations=OPERATIONS_PER_SAMPLE * count * side**2, peers=tuple(also),
        series=(series, count if series == "candidates" else side**2), error=partial(_scores_apart, pair, host, few),
    )  # fmt: skip


def _scores_apart(pair: Any, host: tuple[Any, Any], few: Any) -> str:
    reference, moving = (image.astype(np.float64) for image in host)
    apart = np.abs(ops.to_numpy(ops.score_affine(pair, few)) - peers.score_scipy(reference, moving, few)).max()
    return f"{apart:.0e} to SciPy in float64"


def _resampling(setting: Setting) -> Iterator[Case]:
    matrix = np.array([[0.9962, 0.0872, -4.0], [-0.0872, 0.9962, 4.5]])
    for side in setting.pick([32], [1024], [256, 512, 1024, 2048]):
        image = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
        moved = ops.asarray(image, setting.device)
        for order in (1, 3):
            also = setting.peer("scipy", "SciPy", peers.resample_scipy, image, matrix, order)
            if order == 1:  # cubic means splines here and in SciPy, and other kernels elsewhere
                also += setting.peer("skimage", "scikit-image", peers.resample_skimage, image, matrix)
                also += setting.peer("cv2", "OpenCV", peers.resample_opencv, image, matrix)
                also += setting.peer("torch", "torch", peers.resample_torch, image, matrix)
                also += setting.peer("SimpleITK", "SimpleITK", peers.resample_itk, image, matrix)
                also += setting.peer("cupyx", "cupyx", peers.resample_cupyx, moved, matrix)
            yield Case(
                f"resample_affine, order {order}", f"{side}^2, rotated",
                run=partial(ops.resample_affine, moved, matrix, order=order, workers=setting.workers), unit="pixels",
                count=side**2, bytes=8.0 * side**2, operations=(8.0 if order == 1 else 70.0) * side**2,
                peers=tuple(also), series=("pixels", side**2),
            )  # fmt: skip


def _correlations(setting: Setting) -> Iterator[Case]:
    for side, n in setting.pick([(32, 2)], [(256, 16)], [(256, 32), (512, 32), (1024, 16)]):
        yield _shifts(setting, side, n)
    for side, small, n in setting.pick([(32, 8, 2)], [(257, 96, 8)], [(257, 96, 16), (512, 128, 16)]):
        image = scene(side)[0]
        image = np.nan_to_num(image, nan=float(np.nanmean(image)))
        several = np.stack([image[7 : 7 + small, k : k + small] for k in range(n)])
        where, what = (ops.asarray(a, setting.device) for a in (image, several))
        also = setting.peer("skimage", "scikit-image", peers.templates_skimage, image, several[:1], share=1 / n)
        also += setting.peer("cv2", "OpenCV", peers.templates_opencv, image, several)
        yield Case(
            "match_template", f"{n} templates of {small}^2 in {side}^2",
            run=partial(ops.match_template, where, what, workers=setting.workers), unit="templates", count=n,
            bytes=4.0 * image.size * (n + 1), peers=tuple(also), series=("pixels", side**2),
        )  # fmt: skip


def _shifts(setting: Setting, side: int, n: int) -> Case:
    """Masked shifts of a stack against one reference."""
    reference, moving = scene(side)
    mask = np.isfinite(reference) & np.isfinite(moving)
    rng = np.random.default_rng(2)
    filled, fixed = np.nan_to_num(moving), np.nan_to_num(reference)
    images = np.stack([filled + rng.normal(0, 1, filled.shape).astype(np.float32) for _ in range(n)])
    where, stack, valid = (ops.asarray(a, setting.device) for a in (fixed, images, mask))
    padded = (2 * side) ** 2
    return Case(
        "masked_shift", f"{n} images of {side}^2, masks",
        run=partial(
            ops.masked_shift, where, stack, reference_mask=valid, moving_mask=valid, workers=setting.workers
        ),
        unit="images", count=n, bytes=4.0 * images.size, operations=n * 5 * 2.5 * padded * np.log2(padded),
        peers=tuple(
            setting.peer("skimage", "scikit-image", peers.shifts_skimage, fixed, images[:1], mask, share=1 / n)
        ),
        series=("pixels", side**2),
    )  # fmt: skip


def _averages(setting: Setting) -> Iterator[Case]:
    for side, n in setting.pick([(32, 4)], [(512, 16)], [(256, 64), (512, 32), (1024, 16)]):
        host = patterns(n, side)
        stack = ops.asarray(host, setting.device)
        center = (0.49 * side, 0.51 * side)
        sized: dict[str, Any] = {
            "unit": "frames", "count": n, "bytes": float(host.nbytes), "series": ("pixels", side**2),
        }  # fmt: skip
        also = setting.prepared_peer("pyFAI", "pyFAI", peers.profiles_pyfai, host, center)
        also += setting.peer("skued", "scikit-ued", peers.profiles_skued, host[:1], center, share=1 / n)
        also += setting.prepared_peer("numpy", "NumPy", peers.profiles_numpy, host, center)
        yield Case(
            "azimuthal_average", f"{n} x {side}^2 uint16",
            run=partial(ops.azimuthal_average, stack, center, workers=setting.workers), operations=4.0 * host.size,
            peers=tuple(also), **sized,
        )  # fmt: skip
        yield Case(
            "bin_mean", f"{n} x {side}^2 uint16 by 4", run=partial(ops.bin_mean, stack, 4, workers=setting.workers),
            operations=float(host.size), peers=tuple(setting.peer("numpy", "NumPy", peers.bin_numpy, host, 4)), **sized,
        )  # fmt: skip
