"""JPEG 2000 of the Helioviewer project: pixels, coordinates, and what is refused."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sunpy.data.test
from astropy.io import fits
from PIL import Image

from solar import small
from stackalign import solar
from stackalign.errors import DataError

REAL = Path(sunpy.data.test.rootdir)
"""Files of the archive that sunpy is tested with."""


def box(kind: bytes, contents: bytes, *, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(contents) + 16) + contents
    return struct.pack(">I4s", len(contents) + 8, kind) + contents


def xml_of(header: fits.Header, *, lower: bool = False, comments: bool = False) -> bytes:
    """The cards as the archive's programs write them."""
    note = ' comment="a &lt; b"' if comments else ""
    keys = [(card.keyword.lower() if lower else card.keyword, card.value) for card in header.cards]
    cards = "".join(f"<{key}{note}>{value}</{key}>\n" for key, value in keys)
    return f"<meta>\n<fits>\n{cards}<HISTORY>two\nlines</HISTORY></fits><helioviewer/></meta>".encode()


def save(path: Path, image: np.ndarray, boxes: bytes, *, last: bool = True) -> Path:
    """An image, its first row at the bottom, with more boxes behind the codestream, or before it."""
    stream = io.BytesIO()
    Image.fromarray(image[::-1].copy()).save(stream, "JPEG2000", irreversible=False)
    whole = stream.getvalue()
    codestream = whole.index(b"jp2c") - 4
    # A codestream of length 0 goes to the end of the file: it has to say how long it is to be followed.
    data = box(b"jp2c", whole[codestream + 8 :])
    path.write_bytes(whole[:codestream] + (data + boxes if last else boxes + data))
    return path


@pytest.fixture
def files(tmp_path):
    """The files of `small` as FITS, and the values and headers of both."""
    small.reference(tmp_path / "reference.fits")
    small.raster(tmp_path / "raster.fits")
    made: dict[str, Any] = {"folder": tmp_path}
    for name in ("reference", "raster"):
        with fits.open(tmp_path / f"{name}.fits", memmap=False) as hdus:
            made[name] = fits.PrimaryHDU(hdus[0].data.copy(), hdus[0].header)
    return made


def bits(image: np.ndarray, dtype: type) -> np.ndarray:
    """An image as whole numbers over most of a type."""
    top = 250 if dtype is np.uint8 else 60000
    return np.round(top * (image - image.min()) / np.ptp(image)).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "made", "last"),
    [
        (np.uint8, lambda header: box(b"xml ", xml_of(header)), True),
        (np.uint16, lambda header: box(b"xml ", xml_of(header, comments=True)), False),
        (np.uint8, lambda header: box(b"xml ", xml_of(header, lower=True), wide=True), True),
        (np.uint8, lambda header: box(b"xml ", b"<other/>") + box(b"asoc", box(b"xml ", xml_of(header))), True),
    ],
    ids=["behind", "16 bit, before", "lower case, wide box", "second, in an association"],
)
def test_image_and_header_are_read(files, dtype, made, last) -> None:
    hdu = files["raster"]
    image = bits(hdu.data, dtype)
    hdu.header["BLANK"], hdu.header["BUNIT"] = 7, "DN"  # of the numbers in the FITS file
    path = save(files["folder"] / "a.jp2", image, made(hdu.header), last=last)
    read, expected = solar.read_map(path), solar.read_map(files["folder"] / "raster.fits")
    np.testing.assert_array_equal(read.data, image)
    assert read.data.dtype == dtype
    assert solar.valid_mask(read).all()
    assert "bunit" not in read.meta
    q = np.array([[0.0, 0.0], [30.0, 11.0]])
    np.testing.assert_allclose(read.wcs.wcs_pix2world(q, 0), expected.wcs.wcs_pix2world(q, 0), atol=1e-12)
    assert solar.observation_time(read).isot == solar.observation_time(expected).isot


def test_a_picture_is_aligned_and_written_as_fits(files) -> None:
    folder = files["folder"]
    for name in ("raster", "reference"):
        hdu = files[name]
        save(folder / f"{name}.jp2", bits(hdu.data, np.uint16), box(b"xml ", xml_of(hdu.header)))
    result = solar.coalign(folder / "raster.jp2", folder / "reference.jp2", **small.SETTINGS)
    assert result.ok, result.flags
    np.testing.assert_allclose(result.parameters, [2.0, -1.5], atol=0.05)
    assert result.uncorrected_hdus() == ()
    written = solar.read_map(result.write(folder / "corrected.fits"))
    np.testing.assert_array_equal(written.data, result.target.data)
    np.testing.assert_allclose(written.meta["crpix1"], result.corrected_map.meta["crpix1"])
    frames = solar.build_synthetic_raster(solar.read_map(folder / "raster.jp2"), [folder / "reference.jp2"],
                                          times=["2022-04-01T12:00:00"] * files["raster"].data.shape[1])  # fmt: skip
    assert frames.coverage == 1.0


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (lambda header: b"", "has no FITS header in it"),
        (lambda header: box(b"xml ", b"<meta><fits><A>1</A>"), "has no FITS header in it"),
        (lambda header: box(b"xml ", b'<!DOCTYPE a [<!ENTITY b "c">]>' + xml_of(header)), "has no FITS header in it"),
        (
            lambda header: box(b"xml ", xml_of(header).replace(b"<NAXIS1>56", b"<NAXIS1>560")),
            "the picture was rescaled",
        ),
    ],
    ids=["none", "broken", "entities", "rescaled"],
)  # fmt: skip
def test_what_has_no_coordinates_is_refused(files, boxes, words) -> None:
    hdu = files["raster"]
    path = save(files["folder"] / "a.jp2", bits(hdu.data, np.uint8), boxes(hdu.header))
    with pytest.raises(DataError, match=words):
        solar.read_map(path)


@pytest.mark.parametrize("left", [12, 40, 300])
def test_a_file_that_was_cut_short_is_refused(files, left) -> None:
    hdu = files["raster"]
    path = save(files["folder"] / "a.jp2", bits(hdu.data, np.uint8), box(b"xml ", xml_of(hdu.header)), last=False)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=r"a\.jp2 (cannot be read as JPEG 2000|has no FITS header)"):
        solar.read_map(path)


def test_colours_are_refused(files) -> None:
    hdu = files["raster"]
    image = np.repeat(bits(hdu.data, np.uint8)[..., None], 3, axis=2)
    path = save(files["folder"] / "a.jp2", image, box(b"xml ", xml_of(hdu.header)))
    with pytest.raises(DataError, match="coloured picture"):
        solar.read_map(path)


def test_files_of_the_archive(shared_data) -> None:
    """One of HMI with keys in lower case; the one of EUI from which the file of the tests was cut."""
    hmi = solar.read_map(REAL / "2023_01_31__03_39_23_200__SDO_HMI_HMI_continuum.jp2")
    assert hmi.data.shape == (512, 512)
    # The disc is in the middle, and as large as the header says.
    y, x = np.nonzero(hmi.data > 20)
    middle = np.array([np.ptp(x), np.ptp(y)]) / 2 + [x.min(), y.min()]
    np.testing.assert_allclose(middle, [hmi.meta["crpix1"] - 1, hmi.meta["crpix2"] - 1], atol=1.5)
    assert np.ptp(x) / 2 * hmi.meta["cdelt1"] == pytest.approx(hmi.rsun_obs.value, rel=0.01)
    fsi = solar.read_map(REAL / "2022_04_01__00_00_45__SOLO-EUI-FSI_EUI_FSI_174.jp2")
    crop = solar.read_map(shared_data / "solar" / "eui_fsi174_20220401_crop.fits")
    left, low = (round(fsi.meta[key] - crop.meta[key]) for key in ("crpix1", "crpix2"))
    part = fsi.data[low : low + crop.data.shape[0], left : left + crop.data.shape[1]]
    assert np.corrcoef(part.ravel(), crop.data.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    "name", ["2013_05_13__16_54_06_137__SOHO_LASCO_C3_white-light", "2013_06_24__17_31_30_84__SDO_AIA_AIA_193"]
)
def test_files_that_were_made_smaller_are_refused(name) -> None:
    with pytest.raises(DataError, match="was rescaled and its coordinates are not known"):
        solar.read_map(REAL / f"{name}.jp2")
