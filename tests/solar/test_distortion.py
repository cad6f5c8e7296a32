"""Tables of distortions: jitter of a raster's pointing, by the tables of pixels and by those of coordinates."""

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from solar.make import header
from stackalign import solar
from stackalign.errors import DataError
from stackalign.solar.distortion import read_distortion

SHAPE = (90, 80)
STEPS = (4.0, 2.0)
ROLL = 11.0


def jitter(seed: int = 4) -> np.ndarray:
    """(2, nx) pixels (x, y) by which each column is displaced, in waves of a few columns."""
    moves = ndimage.gaussian_filter1d(np.random.default_rng(seed).standard_normal((2, SHAPE[1])), 2.0)
    return moves / moves.std()


def record(made: fits.Header, kind: str, name: str, version: int, extra: dict[str, int]) -> None:
    """Cards that name a table along the first axis."""
    made[f"{kind}{version}"] = "LOOKUP"
    for field, value in {"EXTVER": version, "NAXES": 2, "AXIS.1": 1, "AXIS.2": 2, **extra}.items():
        made.append(fits.Card(f"{name}{version}", f"{field}: {value}"), end=True)


def table(values: np.ndarray, version: int) -> fits.ImageHDU:
    """A table with a value for each column, over the whole height."""
    made = fits.ImageHDU(np.repeat(values[None], 2, axis=0).astype(np.float32), name="WCSDVARR", ver=version)
    made.header.update({"CRPIX1": 1.0, "CRVAL1": 1.0, "CDELT1": 1.0})
    made.header.update({"CRPIX2": 1.0, "CRVAL2": 1.0, "CDELT2": SHAPE[0] - 1.0})
    return made


def jittered(path, data: np.ndarray, head: fits.Header, moves: np.ndarray, kind: str) -> None:
    """Write an image whose columns were displaced by moves, and say so in tables of a kind."""
    made = head.copy()
    values = moves
    if kind == "coordinates":
        turn = np.deg2rad(ROLL)
        ratio = STEPS[1] / STEPS[0]
        matrix = np.array([[np.cos(turn), -ratio * np.sin(turn)], [np.sin(turn) / ratio, np.cos(turn)]])
        values = np.diag(STEPS) @ matrix @ moves
    for version in (1, 2):
        name, field = ("CPDIS", "DP") if kind == "pixels" else ("CWDIS", "DW")
        record(made, name, field, version, {} if kind == "pixels" else {"ASSOCIATE": 1, "APPLY": 6})
    tables = [table(row, version) for version, row in enumerate(values, start=1)]
    fits.HDUList([fits.PrimaryHDU(data.astype(np.float32), made), *tables]).writeto(path)


@pytest.fixture(scope="module")
def observed() -> tuple[np.ndarray, np.ndarray]:
    """A scene, and what a raster sees of it whose columns jitter and whose header is 4 and -3 pixels off."""
    rng = np.random.default_rng(8)
    scene = sum(ndimage.gaussian_filter(rng.standard_normal((130, 120)), s) * s for s in (1.8, 4.0))
    scene = 100 * np.exp(scene / scene.std())
    moves = jitter()
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    at = [y + 20 + moves[1] - 3.0, x + 20 + moves[0] + 4.0]
    return scene, ndimage.map_coordinates(scene, at, order=3)


def heads() -> tuple[fits.Header, fits.Header]:
    """Headers of the raster and of the scene, whose pixel (20, 20) is the raster's first."""
    cards = {"cdelt": STEPS, "crval": (100.0, -60.0), "roll": ROLL}
    return header(SHAPE, crpix=(40.5, 45.5), **cards), header((130, 120), crpix=(60.5, 65.5), **cards)


@pytest.mark.parametrize("kind", ["pixels", "coordinates"])
def test_moves_are_those_of_the_tables(tmp_path, kind: str) -> None:
    jittered(tmp_path / "raster.fits", np.ones(SHAPE), heads()[0], jitter(), kind)
    moves = read_distortion(tmp_path / "raster.fits", 0, SHAPE).moves
    np.testing.assert_allclose(moves, np.broadcast_to(jitter().T, (*SHAPE, 2)), atol=2e-5)


@pytest.mark.parametrize("kind", ["pixels", "coordinates"])
def test_a_raster_is_aligned_by_its_jitter_when_asked(tmp_path, observed, kind: str) -> None:
    scene, seen = observed
    raster, reference = heads()
    jittered(tmp_path / "raster.fits", seen, raster, jitter(), kind)
    options = {"max_shift": 12.0, "rotation": None}
    plain = solar.coalign(tmp_path / "raster.fits", (scene, reference), **options)
    applied = solar.coalign(tmp_path / "raster.fits", (scene, reference), distortion=True, **options)
    largest = applied.to_dict()["distortion_pixels"]
    assert largest > 0.1
    assert f"tables of distortions applied, up to {largest:.2g} px" in str(applied)
    assert applied.ok
    assert 1.0 - applied.score < 0.2 * (1.0 - plain.score)
    np.testing.assert_allclose(applied.parameters, [4.0, -3.0], atol=0.05)
    assert np.linalg.norm(applied.sigma) < 0.3 * np.linalg.norm(plain.sigma)


def test_a_distortion_that_is_not_there_or_not_known_is_said(tmp_path) -> None:
    raster, reference = heads()
    fits.PrimaryHDU(np.ones(SHAPE), raster).writeto(tmp_path / "plain.fits")
    with pytest.raises(DataError, match="no tables of distortions"):
        solar.coalign(tmp_path / "plain.fits", (np.ones((130, 120)), reference), distortion=True)
    with pytest.raises(DataError, match="no FITS file"):
        solar.coalign((np.ones(SHAPE), raster), (np.ones((130, 120)), reference), distortion=True)
    raster["CWDIS1"] = "POLYNOMIAL"
    fits.PrimaryHDU(np.ones(SHAPE), raster).writeto(tmp_path / "polynomial.fits")
    with pytest.raises(DataError, match="POLYNOMIAL"):
        read_distortion(tmp_path / "polynomial.fits", 0, SHAPE)
