"""What cannot be coaligned is said in one sentence that names what to do, on the command line as in Python."""

import os

import numpy as np
import pytest
from astropy.io import fits

from cli.runner import run
from solar.make import header, l2_file
from solar.problem import raster_of
from stackalign import solar
from stackalign.errors import DataError


def write(path, image, head):
    head["FILENAME"] = path.name
    fits.PrimaryHDU(np.asarray(image, np.float32), head).writeto(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small images of one place and time: a raster, the same with other faults, and frames."""
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(4)
    image = rng.random((60, 40))
    time = {"WCSAXES": 3, "CTYPE3": "UTC", "CUNIT3": "s", "CRPIX3": 1.0, "CDELT3": 1.0, "CRVAL3": 2400.0,
            "PC3_1": -120.0, "DATEREF": "2024-10-17T00:00:50.215"}  # fmt: skip
    write(folder / "raster.fits", image, header((60, 40), **time))
    write(folder / "untimed.fits", image, header((60, 40)))
    write(folder / "far.fits", image, header((60, 40), crval=(9000.0, 0.0)))
    write(folder / "units.fits", image, header((60, 40), CUNIT1="kg", CUNIT2="kg"))
    write(folder / "blank.fits", np.full((60, 40), np.nan), header((60, 40)))
    (folder / "fsi").mkdir()
    for k in range(4):
        stamp = f"2024-10-17T0{k}:00:00.000"
        head = header((60, 40), **{"DATE-OBS": stamp, "DATE-AVG": stamp, "DATE-BEG": stamp})
        name = f"solo_L2_eui-fsi174-image_20241017T0{k}0000000_V01.fits"
        write(folder / "fsi" / name, image, head)
    write(folder / "reference.fits", image, header((60, 40)))
    nowhere = header((60, 40), TELESCOP="SOLO/EUI/FSI")
    for key in ("DSUN_OBS", "HGLN_OBS", "HGLT_OBS"):
        del nowhere[key]
    write(folder / "nobody.fits", image, nowhere)
    old = {"DATE-OBS": "2024-10-14T00:00:00", "DATE-AVG": "2024-10-14T00:00:00", "DATE-BEG": "2024-10-14T00:00:00"}
    write(folder / "old.fits", image, header((60, 40), **old))
    (folder / "torn.fits").write_bytes((folder / "reference.fits").read_bytes()[:6000])
    l2_file(folder / "l2.fits", rng, ny=130, nx=12)
    with fits.open(folder / "l2.fits") as hdus:
        hdus[0].data[:] = np.nan
        hdus.writeto(folder / "dark.fits")
    return folder


CASES = {
    "no overlap": (("far.fits", "reference.fits"), "do not overlap; check their pointing, observers and dates"),
    "no time axis": (("untimed.fits", "--fsi-dir", "fsi", "--time-window", "2h"), "has no time axis"),
    "no observer": (
        ("raster.fits", "nobody.fits"), "nobody.fits has no observer: set HGLN_OBS, HGLT_OBS and DSUN_OBS in its",
    ),
    "no observer in a sequence": (
        ("raster.fits", "fsi/solo_L2_eui-fsi174-image_20241017T000000000_V01.fits", "nobody.fits"),
        "nobody.fits has no observer: set HGLN_OBS, HGLT_OBS and DSUN_OBS in its header",
    ),
    "units of the header": (("units.fits", "reference.fits"), "has units ['kg', 'kg']"),
    "units of an option": (
        ("raster.fits", "reference.fits", "--max-shift", "20 s"), "max_shift must be a positive angle",
    ),
    "units of a duration": (
        ("raster.fits", "--fsi-dir", "fsi", "--time-window", "2 arcsec"), "the time window must be a duration such as",
    ),
    "no pixel": (("blank.fits", "reference.fits"), "error: blank.fits has no valid pixel"),
    "no pixel in the window": (("dark.fits", "reference.fits", "--window", "0"), "no valid"),
    "no such window": (("dark.fits", "reference.fits", "--window", "Fe XX"), "Fe XX"),
    "torn reference": (("raster.fits", "torn.fits"), "torn.fits cannot be read: it is truncated, 6000 bytes of"),
    "torn frame in the middle": (
        ("raster.fits", "fsi/solo_L2_eui-fsi174-image_20241017T000000000_V01.fits", "torn.fits",
         "fsi/solo_L2_eui-fsi174-image_20241017T020000000_V01.fits"),
        "torn.fits",
    ),
    "old reference": (
        ("raster.fits", "old.fits", "--time-window", "2h"), "old.fits was taken 72.1 h from raster.fits, outside 2h",
    ),
    "empty archive": (("raster.fits", "--fsi-dir", "fsi", "--channel", "hri"), "has no file of hri within 1 h of"),
    "no archive": (("raster.fits", "--fsi-dir", "nowhere"), "the folder nowhere of reference images does not exist"),
    "frames too far apart": (
        ("raster.fits", "--fsi-dir", "fsi", "--threshold-time", "60"), "have no frame within 60 s",
    ),
    "no reference": (("raster.fits",), "has no reference: give one image, several frames, or the folder of an archive"),
    "no target": (("nothing.fits", "reference.fits"), "error: nothing.fits cannot be read (No such file or directory)"),
    "no model": (("raster.fits", "reference.fits", "--model", "bend"), "model must be one of"),
    "no phase": (("raster.fits", "reference.fits", "--phases", "wide"), "phases must be some of"),
    "no such device": (("raster.fits", "reference.fits", "--device", "abacus"), "abacus"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_sentence(files, tmp_path, monkeypatch, case) -> None:
    arguments, words = CASES[case]
    monkeypatch.chdir(files)
    ran = run("coalign", *arguments, "-o", tmp_path)
    assert ran.code == 1
    (line,) = ran.errors
    assert words in line
    assert "unexpected" not in line
    assert ran.err.strip() == line, "nothing else is said"
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(files, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    ran = run("coalign", files / "raster.fits", files / "reference.fits", "-o", tmp_path / "file" / "out")
    assert ran.code == 1
    assert "out cannot be written" in ran.err
    # root may write anywhere, so that a read-only folder is only said to be one
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and real(path, mode, **more))
    ran = run("coalign", files / "raster.fits", files / "reference.fits", "-o", tmp_path)
    assert ran.code == 1
    assert "cannot be written: the folder is read-only" in ran.err


def test_a_disk_that_is_full(scene, tmp_path, monkeypatch, rng) -> None:
    raster, _ = raster_of(scene, rng, shape=(120, 40), error=(10.0, 5.0))
    result = solar.coalign(raster, scene, max_shift="60 arcsec")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.HDUList, "writeto", full)
    with pytest.raises(DataError, match="No space left on device"):
        result.write(tmp_path / "out.fits")
    assert not list(tmp_path.iterdir())
