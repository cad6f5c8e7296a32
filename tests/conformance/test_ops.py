"""Every case on every backend against the reference, and on the reference against the definitions."""

import zlib

import numpy as np
import pytest

from conformance import tolerances
from conformance.cases import CASES, Case
from conformance.definitions import DEFINITIONS
from stackalign.backends import load

WORKERS = 2
ARRAYS = {
    "radial_cumulative": "cumulative",
    "standardise": "planes",
    "masked_ncc": "maps",
    "resample_affine": "samples",
    "affine_average": "samples",
    "shift_sums": "lag_sums",
    "linearize_affine": "linear_sums",
}
"""Operations that return one array, and its name."""


def call(backend, case: Case, inputs: dict) -> dict[str, np.ndarray]:
    """Run a case with inputs at the backend's home and bring the results to the host."""
    host = {"centers", "corners", "fractions", "n_radii", "shape", "out", "matrices", "smooth", "lags", "overlap_ratio"}
    host |= {"order", "factors", "reach", "tile", "diagonal", "table"}
    arguments = [
        value if name in host or value is None else backend.asarray(value, None, 0) for name, value in inputs.items()
    ]
    result = getattr(backend, case.operation)(*arguments, WORKERS)
    if case.operation in ARRAYS:
        return {ARRAYS[case.operation]: backend.to_numpy(result)}
    return {name: backend.to_numpy(array) for name, array in result._asdict().items()}


@pytest.fixture(scope="module")
def expected():
    """The reference's answers, computed once for all backends."""
    answers: dict[str, dict[str, np.ndarray]] = {}

    def get(case: Case, inputs: dict) -> dict[str, np.ndarray]:
        if str(case) not in answers:
            answers[str(case)] = call(load("reference"), case, inputs)
        return answers[str(case)]

    return get


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_the_reference(backend, case: Case, expected) -> None:
    inputs = case.make(np.random.default_rng(zlib.crc32(str(case).encode())))
    before = {name: value.copy() for name, value in inputs.items() if isinstance(value, np.ndarray)}
    for value in inputs.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False  # an operation never writes into its input
    wanted = expected(case, inputs)
    found = call(backend, case, inputs)
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype, name
        assert array.shape == wanted[name].shape, name
        tolerance = tolerances.FIELDS[name]
        if isinstance(tolerance, dict):  # by type
            pixels = inputs["images"]
            largest = np.abs(pixels[np.isfinite(pixels)].astype(np.float64)).max(initial=0.0)
            limit = tolerance[array.dtype.name] * largest
            np.testing.assert_allclose(array, wanted[name], rtol=0.0, atol=limit, err_msg=name)
        elif tolerance == tolerances.EXACT or array.dtype.kind in "iu":
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
        elif name in ("planes", "maps", "peaks", "neighbours", "rings"):
            if inputs.get("overlap_ratio") == 0.0:
                tolerance = tolerances.MAP_OF_FEW
            np.testing.assert_allclose(array, wanted[name], rtol=0.0, atol=tolerance, err_msg=name)
        elif name == "lag_sums":  # transforms have an error relative to the whole, squares of squares included
            square = [float(np.nansum(np.square(inputs[side], dtype=np.float64))) for side in ("reference", "moving")]
            magnitude = (1.0 + square[0]) * (1.0 + square[1])
            np.testing.assert_allclose(array, wanted[name], rtol=0.0, atol=tolerance * magnitude, err_msg=name)
        elif name in ("bin_mean", "bin_m2"):  # relative to the largest pixel, or to its square in each bin
            largest = np.abs(inputs["images"][np.isfinite(inputs["images"])].astype(np.float64)).max(initial=0.0)
            magnitude = largest if name == "bin_mean" else largest**2 * max(1.0, wanted["bin_weight"].max(initial=0.0))
            np.testing.assert_allclose(array, wanted[name], rtol=0.0, atol=tolerance * magnitude, err_msg=name)
        elif name == "linear_sums":
            np.testing.assert_array_equal(array[..., 0], wanted[name][..., 0], err_msg="n")
            limit = tolerance * tolerances.linear_scale(wanted[name], inputs["reference"].shape[1:])
            wrong = np.abs(array - wanted[name]) > limit
            assert not wrong.any(), np.argwhere(wrong)
        elif name == "scores":
            limit = np.where(wanted["overlap"] < tolerances.FEW, tolerances.SCORE_OF_FEW, tolerance)
            assert np.all(np.abs(array - wanted[name]) <= limit), np.abs(array - wanted[name])
        else:
            pixels = inputs.get("patterns", inputs.get("stack"))
            magnitude = float(np.abs(pixels[np.isfinite(pixels)].astype(np.float64)).sum())
            if name == "m2":
                magnitude = float(np.nanmax(wanted[name], initial=0.0))
            np.testing.assert_allclose(array, wanted[name], rtol=tolerance, atol=tolerance * magnitude, err_msg=name)
    if backend.NAME == "reference" and case.operation in DEFINITIONS:
        DEFINITIONS[case.operation](found, inputs)
    for name, value in before.items():
        np.testing.assert_array_equal(inputs[name], value, err_msg=f"input {name} was changed")
