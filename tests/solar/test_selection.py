"""Which pixels of a target are compared, and headers that are repaired on the way in."""

import json

import astropy.units as u
import numpy as np
import pytest
import tifffile
from astropy.io import fits
from PIL import Image

from cli.runner import run
from solar import small
from stackalign import solar
from stackalign.solar.observation import Selection

BOX = ((-50.0, 14.0), (-38.0, 30.0))
"""Arcsec around the patch that `spoiled` replaces."""


@pytest.fixture
def files(tmp_path):
    """A raster of which a part shows something else, bright, and its reference."""
    small.reference(tmp_path / "reference.fits")
    small.raster(tmp_path / "raster.fits")
    with fits.open(tmp_path / "raster.fits") as hdus:
        data, header = hdus[0].data.copy(), hdus[0].header
        y, x = np.mgrid[: data.shape[0], : data.shape[1]]
        # The same part of the reference, four pixels away and ten times as bright.
        with fits.open(tmp_path / "reference.fits") as other:
            patch = other[0].data[16:-16, 20:-20]
        bright = 10 * np.roll(patch, (4, 4), (0, 1)) + 3000
        inside = (np.abs(y - 30) < 7) & (np.abs(x - 23) < 7)
        fits.PrimaryHDU(np.where(inside, bright, data).astype("f4"), header).writeto(tmp_path / "spoiled.fits")
    return tmp_path


def off(result):
    return np.abs(result.parameters - [2.0, -1.5]).max()


@pytest.mark.parametrize(
    "chosen",
    [
        {"exclude": [BOX]},
        {"exclude": [[limits * u.arcsec for limits in np.array(BOX)]]},
        {"values": (None, 1000.0)},
        {"field": ((14.0, 200.0), (-500.0, 500.0))},
        {"mask": "own"},
    ],
    ids=["box", "quantity", "values", "field", "mask"],
)
def test_what_is_left_out_does_not_count(files, chosen) -> None:
    data = solar.read_map(files / "spoiled.fits").data
    if chosen.get("mask") == "own":
        chosen = {"mask": data < 1000}
    result = solar.coalign(files / "spoiled.fits", files / "reference.fits", **small.SETTINGS, **chosen)
    assert result.ok, result.flags
    assert off(result) < 0.1
    np.testing.assert_array_equal(result.corrected_map.data, data)


def test_without_it_the_answer_is_wrong_or_flagged(files) -> None:
    result = solar.coalign(files / "spoiled.fits", files / "reference.fits", **small.SETTINGS)
    assert not result.ok or off(result) < 0.3


def test_boxes_are_where_the_header_says() -> None:
    header = small._header((40, 60), "x.fits", "2022-04-01T12:00:00")
    header["CRVAL1"] = 100.0
    solar_map = solar.as_map((np.arange(2400.0).reshape(40, 60), header))
    inside = Selection(field=((98.0, 106.1), (-2.1, 2.1))).of(solar_map)
    y, x = np.nonzero(inside)
    # 4 arcsec a pixel, and the middle between the pixels 29 and 30, 19 and 20.
    assert sorted(set(x.tolist())) == [29, 30, 31]
    assert sorted(set(y.tolist())) == [19, 20]
    assert np.array_equal(~Selection(exclude=[((98.0, 106.1), (-2.1, 2.1))]).of(solar_map), inside)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"values": (3.0, 1.0)}, "values must be limits with the lower one first"),
        ({"values": 3.0}, r"values must be limits \(lower, upper\)"),
        ({"field": (1.0, 2.0, 3.0)}, "field must be"),
        ({"exclude": [((1.0, 2.0), (3.0 * u.s, 4.0 * u.s))]}, "exclude must be limits"),
        ({"mask": np.ones((3, 3), bool)}, r"mask must have the shape \(\d+, \d+\) of the target, got \(3, 3\)"),
        ({"mask": np.ones((64, 56))}, "mask must be boolean, True = valid"),
        ({"screen": "sheet"}, "screen must be one of nearest, sphere, plane, got 'sheet'"),
        ({"background": -3}, "background must be a positive angle or number of pixels"),
        ({"background": "3 kg"}, "background must be a positive angle or number of pixels"),
        ({"interval": "70 nm"}, "interval is|wavelengths must|leave the interval out"),
    ],
)  # fmt: skip
def test_wrong_choices_are_refused(files, chosen, words) -> None:
    with pytest.raises((ValueError, solar_error()), match=words):
        solar.coalign(files / "raster.fits", files / "reference.fits", **small.SETTINGS, **chosen)


def solar_error():
    from stackalign.errors import DataError

    return DataError


def test_nothing_is_left(files) -> None:
    with pytest.raises(solar_error(), match="has no valid pixel"):
        solar.coalign(files / "raster.fits", files / "reference.fits", values=(1e9, None), **small.SETTINGS)


def test_the_command_has_the_same_choices(files) -> None:
    box = "-50,14,-38,30"
    ran = run("coalign", files / "spoiled.fits", files / "reference.fits", "-o", files / "out", "--exclude", box,
              "--background", "none", "--json", *small.ARGUMENTS)  # fmt: skip
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)
    assert row["background_pixels"] is None
    assert row["parameters"]["dx"] == pytest.approx(2, abs=0.1)
    ran = run("coalign", files / "spoiled.fits", files / "reference.fits", "-o", files / "out", "--values", ",1000",
              "--background", "40 arcsec", "--json", "--overwrite", *small.ARGUMENTS)  # fmt: skip
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)
    assert row["background_pixels"] == pytest.approx([10.0, 10.0])
    assert row["parameters"]["dy"] == pytest.approx(-1.5, abs=0.1)
    ran = run("coalign", files / "raster.fits", files / "reference.fits", "-o", files / "out", "--field", "1,2,3")
    assert ran.code == 2
    assert "--field must be 4 numbers separated by commas" in ran.err


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
def test_a_mask_from_a_file(files, suffix, monkeypatch) -> None:
    """The same as an array, at another place, as often as it is asked; another mask is another run."""
    monkeypatch.chdir(files)
    data = solar.read_map(files / "spoiled.fits").data
    write = {".npy": np.save, ".tif": tifffile.imwrite, ".png": lambda path, mask: Image.fromarray(mask).save(path)}
    write[suffix](files / f"mask{suffix}", np.where(data < 1000, 255, 0).astype(np.uint8))
    expected = solar.coalign("spoiled.fits", "reference.fits", mask=data < 1000, **small.SETTINGS)
    arguments = ("coalign", "spoiled.fits", "reference.fits", "-o", "out", "--mask", f"mask{suffix}", "--json")
    ran = run(*arguments, *small.ARGUMENTS)
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out)
    assert list(row["parameters"].values()) == pytest.approx(expected.parameters.tolist(), abs=1e-9)
    assert run(*arguments, "--resume", *small.ARGUMENTS).code == 0
    write[suffix](files / f"mask{suffix}", np.full(data.shape, 255, np.uint8))
    ran = run(*arguments, "--resume", *small.ARGUMENTS)
    assert ran.code == 1
    assert "mask" in ran.err + ran.out


def test_a_mask_that_does_not_fit_is_refused(files) -> None:
    np.save(files / "mask.npy", np.ones((3, 3), bool))
    arguments = ("coalign", files / "raster.fits", files / "reference.fits", "-o", files / "out", "--mask")
    ran = run(*arguments, files / "mask.npy", *small.ARGUMENTS)
    assert ran.code == 1
    assert "mask must have the shape" in ran.err
    ran = run(*arguments, files / "none.npy", *small.ARGUMENTS)
    assert ran.code == 1
    assert "none.npy" in ran.err


def test_a_background_of_its_own_is_taken_off(files) -> None:
    """A gradient ten times the texture, in one image."""
    with fits.open(files / "raster.fits", mode="update") as hdus:
        hdus[0].data += np.linspace(0, 1500, hdus[0].data.shape[1]).astype("f4")
    kept = solar.coalign(files / "raster.fits", files / "reference.fits", background=None, **small.SETTINGS)
    assert not kept.ok
    for background in ("auto", True, 20 * u.arcsec, 6):
        result = solar.coalign(files / "raster.fits", files / "reference.fits", background=background, **small.SETTINGS)
        assert result.ok, (background, result.flags)
        assert off(result) < 0.15
        assert result.background is not None


def test_headers_are_repaired_on_request(files) -> None:
    """EIT: CDELT of a binned image is that of the detector, the disc would not fit into it."""
    cards = {"INSTRUME": "EIT", "TELESCOP": "SOHO", "OBJECT": "full FOV", "SOLAR_R": 372.0, "WAVELNTH": 195}
    for name in ("raster.fits", "reference.fits"):
        with fits.open(files / name, mode="update") as hdus:
            hdus[0].header.update(cards)
    factor = 1024 / 56
    ran = run("coalign", files / "raster.fits", files / "reference.fits", "-o", files / "out", "--repair", "--json",
              *small.ARGUMENTS)  # fmt: skip
    assert "repair" not in ran.err
    record = json.loads(ran.out)[0]
    assert record["status"] in ("done", "flagged", "failed")
    assert solar.as_map(files / "raster.fits", repair=True).meta["cdelt1"] == pytest.approx(4.0 * factor)
    ran = run("coalign", files / "raster.fits", files / "reference.fits", "-o", files / "out", "--overwrite",
              *small.ARGUMENTS)  # fmt: skip
    assert "repair=True" in ran.err
