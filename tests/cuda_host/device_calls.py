"""One small call of each public operation, optimiser and pipeline, on a device of one's choice."""

from collections.abc import Callable
from typing import Any

import numpy as np

import stackalign as sa
from stackalign import diffraction, registration, transforms
from stackalign.objectives import AffineNCC
from stackalign.optimize import gauss_newton, neighbor_search

__all__ = ["CALLS", "OPTIMISERS", "PIPELINES", "Call"]

Call = Callable[[str], Any]
SIDE = 48
CENTER = (23.4, 24.2)
rng = np.random.default_rng(7)


def _patterns() -> np.ndarray:
    """Frames with a beam, a ring and spots of twofold symmetry."""
    y, x = np.indices((SIDE, SIDE))
    r = np.hypot(y - CENTER[0], x - CENTER[1])
    shape = 300 * np.exp(-(r**2) / 12) + 90 * np.exp(-(((r - 14) / 1.5) ** 2)) + 4
    for dy, dx in ((9, 3), (-9, -3), (4, -12), (-4, 12)):
        shape = shape + 120 * np.exp(-((y - CENTER[0] - dy) ** 2 + (x - CENTER[1] - dx) ** 2) / 4)
    return np.random.default_rng(5).poisson(shape, (4, SIDE, SIDE)).astype(np.float32)


PATTERNS = _patterns()
MASK = np.ones((SIDE, SIDE), bool)
MASK[:3] = False
SHIFTED = registration.create_test_pair((72, 80), "shift", (3.3, -2.6), noise=0.05, holes=0.1, seed=1)
PARAMETERS = np.column_stack([rng.normal(0, 1, (9, 2)), 1 + rng.normal(0, 0.003, (9, 2))])
MIDDLE = transforms.image_center((SIDE, SIDE))
DIAGONAL = transforms.matrices_from_parameters(PARAMETERS, "shift+scale", MIDDLE)
TURNED = transforms.matrices_from_parameters(
    np.column_stack([PARAMETERS, np.full(9, 0.5)]), "shift+scale+angle", MIDDLE
)


def frames(device: str) -> Any:
    return sa.asarray(PATTERNS, device)


def mask(device: str) -> Any:
    return sa.asarray(MASK, device)


def pair(device: str) -> Any:
    images = frames(device)
    return sa.prepare_pair(images[0], images[1])


def _on(what: Callable[[Any, Any], Any]) -> Call:
    return lambda device: what(frames(device), mask(device))


CALLS: dict[str, Call] = {
    "azimuthal_average": _on(lambda f, m: sa.azimuthal_average(f, CENTER, mask=m)),
    "bin_mean": _on(lambda f, m: sa.bin_mean(f, 2, mask=m)),
    "centroid": _on(lambda f, m: sa.centroid(f, mask=m)),
    "crop_windows": _on(lambda f, m: sa.crop_windows(f, np.full((4, 2), 5), (20, 20), mask=m)),
    "linearize_affine": lambda device: sa.linearize_affine(pair(device), DIAGONAL[0], "shift+scale"),
    "masked_ncc": _on(lambda f, m: sa.masked_ncc(f[0], f[1:], reference_mask=m, max_shift=6)),
    "masked_shift": _on(lambda f, m: sa.masked_shift(f[0], f[1:], reference_mask=m, max_shift=6)),
    "match_template": _on(lambda f, m: sa.match_template(f[0], f[1, 10:30, 10:30], image_mask=m)),
    "mirror_average": _on(lambda f, m: sa.mirror_average(f, CENTER, 30.0, mask=m)),
    "pattern_summary": _on(lambda f, m: sa.pattern_summary(f, (0.5, 0.9), mask=m)),
    "persistence_pairs": lambda device: sa.persistence_pairs(frames(device)[0]),
    "prepare_pair": _on(lambda f, m: sa.prepare_pair(f[0], f[1], reference_mask=m, smooth=1.0)),
    "radial_cumulative": _on(lambda f, m: sa.radial_cumulative(f, CENTER, mask=m)),
    "resample_affine": _on(lambda f, m: sa.resample_affine(f, TURNED[:4], mask=m)),
    "resample_affine, cubic": _on(lambda f, m: sa.resample_affine(f, TURNED[:4], order=3, mask=m)),
    "retention_radius": _on(lambda f, m: sa.retention_radius(f, CENTER, (0.5, 0.9), mask=m)),
    "rotational_average": _on(lambda f, m: sa.rotational_average(f, CENTER, 2, mask=m)),
    "score_affine": lambda device: sa.score_affine(pair(device), DIAGONAL),
    "score_affine, turned": lambda device: sa.score_affine(pair(device), TURNED),
    "second_moments": _on(lambda f, m: sa.second_moments(f, CENTER, mask=m)),
    "shift_table": lambda device: sa.shift_table(pair(device), 4).argmax(),
    "stack_statistics": _on(lambda f, m: sa.stack_statistics(f, mask=m)),
}
"""Every public operation; `azimuthal_geometry`, `encircled_window` and transfers work on the host."""


def _neighbors(device: str) -> Any:
    score = AffineNCC(pair(device), "shift+scale").score
    return neighbor_search(score, (0.3, 0.2, 1, 1), steps=(0.5, 0.5, 2e-3, 2e-3), min_steps=1e-3)


def _newton(device: str) -> Any:
    return gauss_newton(AffineNCC(pair(device), "shift+scale").linearize, (0.3, 0.2, 1, 1), tolerance=1e-3)


OPTIMISERS: dict[str, Call] = {"neighbor_search": _neighbors, "gauss_newton": _newton}

PIPELINES: dict[str, Call] = {
    "register": lambda device: sa.register(SHIFTED.reference, SHIFTED.moving, model="shift", device=device),
    "register_stack": lambda device: list(
        sa.register_stack(
            np.stack([SHIFTED.reference] * 3), np.stack([SHIFTED.moving] * 3), model="shift", device=device
        )
    ),
    "align": lambda device: diffraction.align(PATTERNS[1:], PATTERNS[0], device=device),
    "autocenter": lambda device: diffraction.autocenter(PATTERNS[0], device=device),
    "nfold": lambda device: diffraction.nfold(PATTERNS, 2, center=CENTER, device=device),
}
