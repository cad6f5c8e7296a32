"""Detectors of one spectrograph that point apart: a correction for each, relative positions kept within each."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import shift

from cli.runner import run
from solar import small
from stackalign import solar
from stackalign.errors import DataError

OFF = {"SW": (1.5, -2.0), "LW": (-0.8, 1.1)}
"""Pixels (dy, dx) by which the content of each detector's windows is displaced."""


def window(
    name: str, detector: str, key: str, *, binned: int = 1, noise: bool = False
) -> tuple[np.ndarray, fits.Header]:
    rng = np.random.default_rng(len(name))
    image = shift(small._texture(), OFF[detector], order=3)[16:-16, 20:-20]
    image = image.reshape(image.shape[0] // binned, binned, -1).mean(1)
    image = rng.standard_normal(image.shape) if noise else image + 0.3 * rng.standard_normal(image.shape)
    head = small._header(image.shape, "made.fits", "2022-04-01T12:00:00")
    head["CDELT2"] *= binned
    head.update({"CTYPE3": "WAVE", "CUNIT3": "nm", "CRPIX3": 1.0, "CRVAL3": 77.0, "CDELT3": 0.01, "EXTNAME": name})
    head.update({"CTYPE4": "TIME", "CUNIT4": "s", key: detector})
    return np.stack([image, image])[None].astype("f4"), head


def file_of(path: Path, *windows: tuple[np.ndarray, fits.Header]) -> Path:
    first, *others = windows
    hdus = [fits.PrimaryHDU(*first), *(fits.ImageHDU(*one) for one in others)]
    fits.HDUList(hdus).writeto(path)
    return path


def moved(before: Path, after: Path, hdu: int) -> np.ndarray:
    """Pixels (x, y) of the first window's size by which the middle of a window moved on the sky."""
    old, new = (WCS(fits.getheader(path, hdu)).celestial for path in (before, after))
    middle = np.array([[15.0, 15.0]])
    return (new.wcs_pix2world(middle, 0) - old.wcs_pix2world(middle, 0) + 180)[0] % 360 - 180


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize("key", ["DETECTOR", "CCD"])
def test_each_detector_has_its_own_correction(tmp_path, key) -> None:
    path = file_of(
        tmp_path / "l2.fits",
        window("ONE", "SW", key), window("BINNED", "SW", key, binned=2), window("FAR", "LW", key),
        window("FAR BINNED", "LW", key, binned=4),
    )  # fmt: skip
    reference = small.reference(tmp_path / "reference.fits")
    options = {"max_shift": "40 arcsec", "phases": ("full",), "rotation": None}
    result = solar.coalign(path, reference, window="ONE", detectors="apart", **options)
    assert result.ok
    offset, sigma = result.detector_offsets()["LW"]
    truth = np.array([OFF["SW"][1] - OFF["LW"][1], OFF["SW"][0] - OFF["LW"][0]]) * small.STEP
    assert np.abs(offset.value - truth).max() < max(4 * sigma.value.max(), 0.05)
    assert f"detector LW is off by ({offset.value[0]:.3f}" in str(result)
    done = result.write_file(tmp_path / "out.fits")
    assert done.corrected == ("ONE", "BINNED", "FAR", "FAR BINNED")
    assert done.transferred == ("BINNED", "FAR BINNED")
    moves = [moved(path, done.path, k) * 3600 for k in range(4)]
    np.testing.assert_allclose(moves[1], moves[0], atol=0.01 * small.STEP)
    np.testing.assert_allclose(moves[3], moves[2], atol=0.01 * small.STEP)
    np.testing.assert_allclose(moves[2] - moves[0], offset.value, atol=0.01 * small.STEP)
    together = solar.coalign(path, reference, window="ONE", **options).write_file(tmp_path / "together.fits")
    np.testing.assert_allclose(moved(path, together.path, 2) * 3600, moves[0], atol=0.01 * small.STEP)


def test_a_detector_without_a_result_is_left_and_named_everywhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file_of(Path("l2.fits"), window("ONE", "SW", "DETECTOR"), window("FAR", "LW", "DETECTOR", noise=True))
    small.reference(Path("reference.fits"))
    words = ("--detectors", "apart", "--solar-rotation", "none", *small.ARGUMENTS)
    ran = run("coalign", "l2.fits", "reference.fits", "-o", "out", "--window", "ONE", "--report", "page.html", *words)
    assert ran.code == 0, ran.err
    record = json.loads(Path("out/l2_coaligned.json").read_text())
    assert record["detectors"]["LW"]["flags"]
    assert record["uncorrected_hdus"][0].startswith("FAR (the correction of its detector LW is not to be trusted")
    assert "detector LW is off by" in ran.err
    assert "the correction of its detector LW" in Path("page.html").read_text()


def test_apart_is_refused_without_detectors(tmp_path) -> None:
    path = file_of(tmp_path / "l2.fits", window("ONE", "SW", "DETECTOR"), window("TWO", "SW", "DETECTOR", binned=2))
    reference = small.reference(tmp_path / "reference.fits")
    with pytest.raises(DataError, match="no spectral windows of another detector"):
        solar.coalign(path, reference, max_shift="40 arcsec", phases=("full",), detectors="apart", rotation=None)
    with pytest.raises(ValueError, match="detectors must be one of together, apart"):
        solar.coalign(path, reference, detectors="each")
