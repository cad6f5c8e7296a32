"""Results of crops that never took place, for the tests of pictures and pages."""

import numpy as np

from stackalign.crop.config import CroppingConfig
from stackalign.crop.result import CenterFit, CropAnalysis, CropResult, CropValidation, RadialProfile

__all__ = ["airy", "make_result"]


def airy(shape, center, width):
    """A disk with rings and an outer tail, (H, W)."""
    y, x = np.indices(shape)
    u = np.hypot(y - center[0], x - center[1]) / width
    return np.sinc(u) ** 2 + 1e-4 / (1 + u**2)


def make_result(
    scan=(12, 15),
    frame=(64, 64),
    *,
    radius=14,
    drift=0.2,
    flagged=(),
    outliers=(),
    mean=None,
    retentions=None,
    fit=False,
    config=None,
    seed=0,
    centers=None,
    **more,
):
    """Build a result; ``flagged`` maps index to flags, ``outliers`` index to radius."""
    rng = np.random.default_rng(seed)
    config = config or CroppingConfig(center_fit="plane" if fit else "none")
    n = int(np.prod(scan))
    middle = (np.array(frame) - 1) / 2
    if centers is None:
        centers = middle + _drift(scan, drift, rng)
    radii, flags = _measured(n, radius, dict(outliers), dict(flagged), rng)
    analysis = _analysis(scan, frame, radii, flags, centers, config, mean, fit, rng)
    if retentions is None:
        retentions = 1 - rng.gamma(4, 0.003, n)
    side = analysis.window
    top, left = ((np.array(frame) - side) // 2).tolist()
    validation = CropValidation(
        np.where(flags & 1, np.nan, retentions),
        analysis.excluded,
        config.target_retention,
        config.min_retention,
        mean_window=analysis.mean_pattern[top : top + side[0], left : left + side[1]],
    )
    size = n * frame[0] * frame[1] * 4
    facts = {
        "analysis": analysis,
        "validation": validation,
        "config": config,
        "processing_time": 1.5,
        "input_bytes": size,
        "output_bytes": n * side[0] * side[1] * 4,
        "device": "cpu",
        "status": "done",
        "input_name": "scan.h5",
        "output_name": "cropped.h5",
    }
    return CropResult(**{**facts, **more})


def _measured(n, radius, outliers, flagged, rng):
    """Radii and flags of n patterns; those of flag 1 are empty."""
    radii = np.clip(rng.normal(radius - 4, 1.3, n).round().astype(np.int64), 0, radius - 2)
    flags = np.zeros(n, np.uint8)
    for k, r in outliers.items():
        radii[k] = r
    for k, f in flagged.items():
        flags[k] = f
    radii[flags & 1 == 1] = 0
    return radii, flags


def _analysis(scan, frame, radii, flags, centers, config, mean, fit, rng):
    n, excluded = len(radii), flags != 0
    used = radii[~excluded]
    global_radius = (int(used.max()) if used.size else 1) + config.margin_pixels
    side = [min(2 * global_radius + 1, length) for length in frame]
    pattern = 1e3 * airy(frame, (np.array(frame) - 1) / 2, global_radius / 3) if mean is None else mean
    return CropAnalysis(
        radii=radii,
        centers=centers,
        measured_centers=centers,
        total=np.where(flags & 1, 0.0, rng.normal(1e5, 2e3, n)),
        minimum=np.zeros(n),
        maximum=np.full(n, 1e3),
        flags=flags,
        excluded=excluded,
        global_radius=global_radius,
        window=(side[0], side[1]),
        window_before=(min(global_radius, side[0] // 2), min(global_radius, side[1] // 2)),
        original_shape=frame,
        scan_shape=scan,
        profiles=_profiles(radii, centers, flags, frame),
        mean_pattern=pattern,
        n_mean=min(n, 512),
        fit=CenterFit(np.zeros((3, 2)), np.zeros((n, 2)), (0.123, 0.0456)) if fit else None,
        notes=("a note on <the> data",),
    )


def _drift(scan, drift, rng):
    """Centres (N, 2) about their mean: a plane over the scan, and scatter where there is drift at all."""
    position = np.stack([g.ravel() for g in np.indices(scan)], axis=1).astype(float)
    position -= position.mean(axis=0)
    slopes = drift * np.array([[1.0, 0.3], [-0.4, 0.8], [0.1, 0.1]])[: len(scan)]
    return position @ slopes + rng.normal(0, 0.3 * bool(drift), (len(position), 2))


def _profiles(radii, centers, flags, frame):
    """Encircled intensity of ten patterns; none of it in empty ones."""
    n = len(radii)
    grid = np.arange(int(np.hypot(*frame)))
    profiles = []
    for k in sorted({round(i * (n - 1) / 9) for i in range(10)}):
        encircled = np.zeros(grid.size) if flags[k] & 1 else 1 - np.exp(-grid / max(radii[k], 1) * 3.9)
        row, col = centers[k].tolist()
        profiles.append(RadialProfile(k, encircled, (row, col), int(radii[k])))
    return tuple(profiles)
