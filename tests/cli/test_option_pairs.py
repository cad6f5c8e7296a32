"""Pairs of options of `crop`: where one has no effect beside the other, the command refuses them."""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

from cli.runner import run
from stackalign.crop import CroppingConfig, crop_array
from stackalign.errors import DataError

# Without --min-retention, which decides on the verdict alone, where a pattern misses it.
VALUES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # Name: value in Python, words on the command line.
    "target_retention": (0.96, ("--target-retention", 0.96)),
    "margin_pixels": (6, ("--margin-pixels", 6)),
    "center_method": ("center", ("--center-method", "center")),
    "manual_center": ((29.5, 33.5), ("--manual-center", 29.5, 33.5)),
    "center_fit": ("plane", ("--center-fit", "plane")),
    "radius_policy": (50.0, ("--radius-policy", 50)),
    "background": (1.0, ("--background", 1)),
    "negative": ("clip", ("--negative", "clip")),
    "legacy_window": (True, ("--legacy-window",)),
    "one_window": (True, ("--one-window",)),
    "output_dtype": ("float32", ("--output-dtype", "float32")),
    "layout": ("NCHW", ("--layout", "NCHW")),
}


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """Beams of two sizes that wander, with negative pixels."""
    y, x = np.indices((64, 68))
    rng = np.random.default_rng(3)
    beams = [900 * np.exp(-((y - 30 - k / 3) ** 2 + (x - 34 + k / 4) ** 2) / (10 + 25 * (k % 3))) for k in range(9)]
    frames = rng.poisson(np.stack(beams)).astype(np.float64)
    frames[:, :2] -= 0.02
    return frames.reshape(3, 3, 64, 68)


def outcome(scan: np.ndarray, options: dict[str, Any]) -> Any:
    """Everything that a crop says, or that it is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = CroppingConfig(visualization=False, verbose=False, **options)
            cropped, result = crop_array(scan, config)
        except (ValueError, DataError) as error:
            return f"refused: {error}"
    said = (str(result.validation.to_dict()), str(result.analysis.notes), str(result.messages))
    analysis = result.analysis
    return (cropped.tobytes(), cropped.dtype, cropped.shape, analysis.radii.tobytes(), analysis.centers.tobytes(), said)


def test_no_pair_of_options_hides_one_of_them(scan, tmp_path) -> None:
    alone = {name: outcome(scan, {name: value}) for name, (value, _) in VALUES.items()}
    plain = outcome(scan, {})
    idle = {(name, "") for name in VALUES if alone[name] == plain}
    for first, second in itertools.combinations(VALUES, 2):
        both = outcome(scan, {first: VALUES[first][0], second: VALUES[second][0]})
        if isinstance(both, str):
            continue
        idle |= {(second, first)} if both == alone[first] else set()
        idle |= {(first, second)} if both == alone[second] else set()
    assert ("manual_center", "") in idle  # the search finds what is known to be idle
    np.save(tmp_path / "a.npy", scan)
    passed = []
    for hidden, beside in sorted(idle):
        words = [word for name in (hidden, beside) if name for word in VALUES[name][1]]
        ran = run("crop", tmp_path / "a.npy", "-o", tmp_path / "b.npy", *words, "--quiet")
        if ran.code != 2:
            passed.append((hidden, beside))
    assert not passed, str(passed)
