"""`stackalign coalign`: FITS files in, corrected files, records and a table out."""

import csv
import json
import signal
from concurrent.futures import ProcessPoolExecutor

import astropy.units as u
import numpy as np
import pytest
import sunpy.map
from astropy.io import fits
from astropy.table import Table

from cli.runner import run
from solar import small
from solar.make import l2_header
from solar.problem import error_arcsec, raster_of
from stackalign import solar
from stackalign.solar import files, remote, tasks

SHAPE = (220, 64)


def save(path, solar_map, *, overwrite=False) -> None:
    fits.PrimaryHDU(solar_map.data.astype(np.float32), fits.Header(solar_map.fits_header)).writeto(
        path, overwrite=overwrite
    )


@pytest.fixture(scope="module")
def observed_files(tmp_path_factory, shared_data):
    """Three rasters with known errors, one of noise, one broken, and the imager's disc."""
    folder = tmp_path_factory.mktemp("rasters")
    scene = solar.read_map(shared_data / "solar" / "eui_fsi174_20220401_crop.fits")
    save(folder / "fsi.fits", scene)
    rng = np.random.default_rng(5)
    for k in range(3):
        raster, true = raster_of(scene, rng, shape=SHAPE, error=(15.0 * k - 20, 12.0), scale=(1.01, 1.0))
        save(folder / f"raster{k}.fits", raster)
    save(folder / "noise.fits", sunpy.map.Map(rng.standard_normal(SHAPE), raster.meta))
    (folder / "broken.fits").write_bytes((folder / "raster0.fits").read_bytes()[:9000])
    return folder, true


def test_one_file(observed_files, tmp_path, monkeypatch) -> None:
    folder, true = observed_files
    ran = run("coalign", folder / "raster2.fits", folder / "fsi.fits", "-o", tmp_path / "out", "--scale", "--report",
              "--max-shift", "100arcsec", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"raster2_coaligned.fits", "raster2_coaligned.json", "raster2_coaligned.html"}
    corrected = solar.read_map(tmp_path / "out" / "raster2_coaligned.fits")
    assert error_arcsec(corrected, true).max() < 0.2
    (row,) = json.loads(ran.out)
    assert row["model"] == "shift+scale"
    assert row["parameters"]["sx"] == pytest.approx(1 / 1.01, abs=1e-3)
    assert row["status"] == "done"
    assert [phase["name"] for phase in row["phases"]] == ["binned", "full"]
    record = json.loads((tmp_path / "out" / "raster2_coaligned.json").read_text())
    assert record["provenance"]["command"].startswith("stackalign ")
    page = (tmp_path / "out" / "raster2_coaligned.html").read_text()
    assert page.count("data:image/png;base64") >= 4
    assert "raster2.fits" in page
    again = run("coalign", folder / "raster2.fits", folder / "fsi.fits", "-o", tmp_path / "out")
    assert again.code == 1
    assert "exists; choose another name or allow it to be replaced (--overwrite)" in again.err
    # A second correction is refused before anything is computed.
    monkeypatch.setattr(files, "run_jobs", lambda jobs, **_: [pytest.fail("computed") for _ in jobs])
    second = run("coalign", tmp_path / "out" / "raster2_coaligned.fits", folder / "fsi.fits", "-o", tmp_path / "two")
    assert second.code == 1
    assert "carries a correction already" in second.err
    assert "--again" in second.err
    second = run("coalign", tmp_path / "out" / "raster2_coaligned.fits", folder / "fsi.fits", "-o", tmp_path / "two")
    assert second.code == 1
    assert "carries a correction already" in second.err


def test_a_flagged_result_is_not_written(observed_files, tmp_path) -> None:
    folder, _ = observed_files
    ran = run("coalign", folder / "noise.fits", folder / "fsi.fits", "-o", tmp_path, "-q")
    assert ran.code == 3
    assert {path.name for path in tmp_path.iterdir()} == {"noise_coaligned.json"}
    asked = run("coalign", folder / "noise.fits", folder / "fsi.fits", "-o", tmp_path, "--write-flagged", "--overwrite")
    assert asked.code == 3
    assert (tmp_path / "noise_coaligned.fits").exists()


def test_a_batch(observed_files, tmp_path) -> None:
    folder, _ = observed_files
    rows = [("raster0.fits", ""), ("broken.fits", ""), ("raster1.fits", "shift+scale+angle"), ("noise.fits", ""),
            ("nowhere.fits", ""), ("raster2.fits", "")]  # fmt: skip
    manifest = folder / "jobs.csv"
    with manifest.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["target", "reference", "model"])
        table.writerows([name, "fsi.fits", model] for name, model in rows)
    ran = run("coalign", "--batch", manifest, "-o", tmp_path, "--model", "shift+scale")
    assert ran.code == 1
    assert len(ran.errors) == 2
    assert "broken.fits" in ran.err
    found = Table.read(tmp_path / "coalign.ecsv")
    assert list(found["status"]) == ["done", "failed", "done", "flagged", "failed", "done"]
    assert found["tx"].unit == u.arcsec
    np.testing.assert_allclose(found["tx"][[0, 5]], [20, -10], atol=0.3)
    assert np.isnan(found["angle"][[0, 5]]).all()
    assert (found["sigma_ty"][[0, 2, 5]] < 0.1).all()
    before = (tmp_path / "raster0_coaligned.fits").stat().st_mtime_ns
    (tmp_path / "raster1_coaligned.fits").unlink()
    (tmp_path / "raster1_coaligned.json").unlink()
    resumed = run("coalign", "--batch", manifest, "-o", tmp_path, "--model", "shift+scale", "--resume")
    assert resumed.code == 1
    assert (tmp_path / "raster1_coaligned.fits").exists()
    assert (tmp_path / "raster0_coaligned.fits").stat().st_mtime_ns == before
    again = Table.read(tmp_path / "coalign.ecsv")
    np.testing.assert_array_equal(again["dx"], found["dx"])
    assert list(again["status"]) == list(found["status"])


@pytest.mark.slow
def test_a_batch_on_two_processes_is_the_same(tmp_path, monkeypatch) -> None:
    small.reference(tmp_path / "ref.fits")
    for k in range(4):
        small.raster(tmp_path / f"{k}.fits", 0.5 * k, -1.0)
    rows = "".join(f"{tmp_path / str(k)}.fits,{tmp_path / 'ref.fits'}\n" for k in range(4))
    (tmp_path / "jobs.csv").write_text("target,reference\n" + rows)
    arguments = ("coalign", "--batch", tmp_path / "jobs.csv", "--workers", "2", *small.ARGUMENTS)
    assert run(*arguments, "-o", tmp_path / "one").code == 0
    monkeypatch.setattr(remote, "PER_PROCESS", 2)
    pools = []
    monkeypatch.setattr(
        remote, "ProcessPoolExecutor", lambda *a, **k: pools.append(ProcessPoolExecutor(*a, **k)) or pools[-1]
    )
    ran = run(*arguments, "-o", tmp_path / "two")
    assert ran.code == 0, ran.err
    assert len(pools) == 1
    for k in range(4):
        name = f"{k}_coaligned.fits"
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert len(first) == len(second)
        records = [json.loads((tmp_path / f / f"{k}_coaligned.json").read_text()) for f in ("one", "two")]
        assert records[0]["parameters"] == records[1]["parameters"]
        assert records[0]["covariance"] == records[1]["covariance"]


def test_windows_of_spice(observed_files, tmp_path, rng, scene) -> None:
    """One window is compared, both that share its pixels are corrected; tables and data stay as they are."""
    folder, _ = observed_files
    raster, true = raster_of(scene, rng, shape=(300, 64), error=(20.0, -12.0))
    profile = np.exp(-((np.arange(16) - 7.5) ** 2) / 8)[:, None, None]
    cube = (raster.data * profile + 5)[None].astype(np.float32)
    head = l2_header(cube.shape, "N IV 765")
    head.update({key.upper(): raster.meta[key] for key in (
        "crpix1", "crpix2", "crval1", "crval2", "cdelt1", "cdelt2", "pc1_1", "pc1_2", "pc2_1", "pc2_2", "date-avg",
        "dsun_obs", "rsun_ref", "hgln_obs", "hglt_obs")})  # fmt: skip
    other = head.copy()
    other["EXTNAME"] = "Ne VIII 770"
    table = fits.BinTableHDU(np.rec.array([(np.arange(3.0),)], formats=["3f8"], names=["TEXPOSUR"]), name="KEYWORDS")
    fits.HDUList([fits.PrimaryHDU(cube, head), fits.ImageHDU(2 * cube, other), table]).writeto(tmp_path / "l2.fits")
    ran = run("coalign", tmp_path / "l2.fits", folder / "fsi.fits", "--window", "Ne VIII 770", "-o", tmp_path / "out",
              "--max-shift", "60arcsec")  # fmt: skip
    assert ran.code == 0, ran.err
    with fits.open(tmp_path / "out" / "l2_coaligned.fits", checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["N IV 765", "Ne VIII 770", "KEYWORDS"]
        np.testing.assert_array_equal(hdus[1].data, 2 * cube)
        assert hdus[0].data.dtype == np.dtype(">f4")
        for hdu in hdus[:2]:
            assert hdu.header["XC_N"] == 1
            found = solar.as_map((true.data, solar.collapse_window(hdu.data, hdu.header, rows=None).map.meta))
            assert error_arcsec(found, true).max() < 0.1
    missing = run("coalign", tmp_path / "l2.fits", folder / "fsi.fits", "--window", "9", "-o", tmp_path / "none")
    assert missing.code == 1


def manifest_of(path, rows, names=("target", "reference")):
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(names)
        table.writerows(rows)
    return path


def test_rows_that_make_no_sense_do_not_stop_the_rest(observed_files, tmp_path, monkeypatch) -> None:
    folder, _ = observed_files
    manifest = manifest_of(
        folder / "odd.csv",
        [("", "fsi.fits"), ("raster0.fits", "fsi.fits"), ("raster0.fits", "fsi.fits"), ("raster1.fits", ""),
         ("raster1.fits", "fsi.fits", "too", "many"), ("raster2.fits", "fsi.fits", "raster2.fits"),
         ("fsi.fits", "fsi.fits")],
        ("target", "reference", "output"),
    )  # fmt: skip
    real = tasks.coalign_job

    def strange(target, *arguments, **settings):
        if target.source.name == "fsi.fits":
            msg = "lambda"
            raise KeyError(msg)
        return real(target, *arguments, **settings)

    monkeypatch.setattr(tasks, "coalign_job", strange)
    command = ("coalign", "--batch", manifest, "-o", tmp_path, "--max-shift", "60arcsec", "--scale")
    ran = run(*command)
    assert ran.code == 1
    found = Table.read(tmp_path / "coalign.ecsv")
    assert list(found["status"]) == ["failed", "done"] + ["failed"] * 5
    for row, words in enumerate((
        "row 2 of", None, "would be written twice", "has no reference: give one image",
        "more cells than there are columns",
        "the corrected file must be another one", "unexpected KeyError: 'lambda'",
    )):  # fmt: skip
        assert words is None or words in found["message"][row]
    assert found["sigma_dx"].info.description == "standard deviation of: how far the middle of the image moves along x"
    assert "2/7: raster0.fits: done" in ran.err
    rows = json.loads(run(*command, "--resume", "--json").out)
    assert len(rows) == 7
    assert rows[1]["sigma_arcsec"][0] < 0.5
    assert "phases" not in rows[1], "thousands of them are kept short"


def test_resume_by_other_names(observed_files, tmp_path, monkeypatch) -> None:
    folder, _ = observed_files
    arguments = ("coalign", folder / "raster0.fits", folder / "fsi.fits", "-o", tmp_path)
    assert run(*arguments, "--scale").code == 0
    monkeypatch.chdir(folder)
    elsewhere = run("coalign", "raster0.fits", "fsi.fits", "-o", tmp_path, "--resume", "--model", "shift+scale")
    assert elsewhere.code == 0
    assert "finished by an earlier run" in elsewhere.err, "the same files and settings in other words"


def test_an_interrupted_batch_goes_on(observed_files, tmp_path, monkeypatch) -> None:
    folder, _ = observed_files
    rows = [(f"raster{k}.fits", "fsi.fits", f"{tmp_path}/{k}.fits") for k in (0, 1, 2)]
    manifest = manifest_of(folder / "three.csv", rows, ("target", "reference", "output"))
    from stackalign.cli._coalign_jobs import Saying
    from stackalign.solar import files

    inner = files.run_tasks.__wrapped__
    monkeypatch.setattr(inner, "__kwdefaults__", {**inner.__kwdefaults__, "together": 1})
    real = Saying.__call__

    def after_the_first(self, outcome):
        real(self, outcome)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Saying, "__call__", after_the_first)
    command = ("coalign", "--batch", manifest, "-o", tmp_path, "--max-shift", "60arcsec", "--scale")
    ran = run(*command)
    assert ran.code == 1
    assert "interrupted with 2 of 3 left; the same command with --resume goes on from here" in ran.err
    assert len(Table.read(tmp_path / "coalign.ecsv")) == 1
    monkeypatch.setattr(Saying, "__call__", real)
    again = run(*command, "--resume")
    assert again.code == 0, again.err
    assert "finished by an earlier run" in again.err
    assert list(Table.read(tmp_path / "coalign.ecsv")["status"]) == ["done"] * 3


def test_a_page_that_cannot_be_drawn_loses_nothing(observed_files, tmp_path, monkeypatch) -> None:
    folder, _ = observed_files
    from stackalign.plot import solar_report

    def broken(*_):
        msg = "no font"
        raise RuntimeError(msg)

    monkeypatch.setattr(solar_report, "write_coalignment_report", broken)
    ran = run("coalign", folder / "raster0.fits", folder / "fsi.fits", "-o", tmp_path, "--scale", "--report")
    assert ran.code == 1
    assert "its page was not written: RuntimeError: no font" in ran.err
    assert (tmp_path / "raster0_coaligned.fits").exists()


def test_a_sequence_from_an_archive(observed, tmp_path) -> None:
    _, raster, frames, image = observed
    (tmp_path / "fsi").mkdir()
    for frame in frames:
        stamp = frame.date.strftime("%Y%m%dT%H%M%S") + "000"
        save(tmp_path / "fsi" / f"solo_L2_eui-fsi174-image_{stamp}_V01.fits", frame)
    meta = raster.meta.copy()
    meta["crval1"] += 25.0
    save(tmp_path / "raster.fits", sunpy.map.Map(image, meta))
    common = ("coalign", tmp_path / "raster.fits", "--fsi-dir", tmp_path / "fsi", "--time-window", "20min")
    dry = run(*common, "--dry-run")
    assert dry.code == 0
    assert "columns 0-" in dry.out
    assert "s away" in dry.out
    assert not (tmp_path / "raster_coaligned.fits").exists()
    manifest = manifest_of(tmp_path / "jobs.csv", [("nowhere.fits",), ("raster.fits",)], ("target",))
    several = run("coalign", "--batch", manifest, *common[2:], "--dry-run")
    assert several.code == 1
    assert "nowhere.fits" in several.errors[0]
    assert "columns 0-" in several.out
    ran = run(*common, "-o", tmp_path / "out", "--threshold-time", "400", "--report")
    assert ran.code == 0, ran.err
    assert error_arcsec(solar.read_map(tmp_path / "out" / "raster_coaligned.fits"), raster).max() < 0.3
    assert "synthetic" in (tmp_path / "out" / "raster_coaligned.html").read_text()
    none = run(*common[:-2], "--channel", "hri", "-o", tmp_path / "out2")
    assert none.code == 1
    assert "has no file of hri within" in none.err


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ((), "give one TARGET", 2),
        (("x.fits",), "give a folder with --output", 2),
        (("x.fits", "-o", "out"), "x.fits", 1),
        (("x.fits", "-o", "out", "--model", "rigid", "--scale"), "give --model, or --scale", 2),
        (("x.fits", "-o", "out", "--table", "x.txt"), "must end with .csv or .ecsv", 2),
        (("--batch", "x.csv", "-o", "out"), "x.csv cannot be read", 1),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, arguments, words, code) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("coalign", *arguments)
    assert ran.code == code
    assert words in ran.err


def test_manifests_that_do_not_fit(tmp_path) -> None:
    (tmp_path / "jobs.csv").write_text("raster,reference\na,b\n")
    ran = run("coalign", "--batch", tmp_path / "jobs.csv", "-o", tmp_path / "out")
    assert ran.code == 1
    assert "must have the column target" in ran.err
