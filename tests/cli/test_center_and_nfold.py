"""`stackalign center` and `stackalign nfold`: files in, centres, averages and pages out."""

import csv

import numpy as np
import pytest
import tifffile

from cli.runner import run, strict_json
from stackalign import diffraction
from stackalign.chunks import StopRequest
from stackalign.diffraction.symmetry_file import nfold_file
from stackalign.errors import Interrupted
from stackalign.io import open_stack

CENTERS = [(47.3, 52.6), (49.0, 50.5), (45.8, 55.1)]


@pytest.fixture(scope="module")
def images():
    y, x = np.indices((96, 100))
    rings = [sum(np.exp(-((np.hypot(y - r, x - c) - a) ** 2) / 6) for a in (12, 22, 33)) for r, c in CENTERS]
    return np.random.default_rng(0).poisson(5 + 200 * np.array(rings)).astype(np.uint16)


@pytest.fixture
def files(tmp_path, images):
    np.save(tmp_path / "stack.npy", images[:2])
    tifffile.imwrite(tmp_path / "one.tif", images[2])
    mask = np.ones(images[0].shape, bool)
    mask[:50, 46:54] = False
    np.save(tmp_path / "mask.npy", mask)
    return tmp_path


def test_centers_of_stacks_and_images(files, images) -> None:
    out = files / "out.csv"
    mask = files / "mask.npy"
    small = f"{8 * images[0].nbytes}B"
    ran = run(
        "center", files / "stack.npy", files / "one.t*", "-o", out, "--mask", mask, "--memory-limit", small, "--json"
    )
    assert ran.code == 0, ran.err
    rows = strict_json(ran.out)
    assert [row["frame"] for row in rows] == [0, 1, 0]
    assert np.abs(np.array([(r["row"], r["col"]) for r in rows]) - CENTERS).max() < 0.2
    with out.open() as stream:
        assert [float(r["row"]) for r in csv.DictReader(stream)] == [r["row"] for r in rows]
    assert run("center", files / "stack.npy", "-o", out).errors[0].endswith("(--overwrite)")
    assert run("center", files / "stack.npy", "-o", out, "--overwrite").code == 0
    printed = run("center", files / "one.tif")
    assert "rings, confidence" in printed.out


def test_center_says_what_is_wrong(files) -> None:
    np.save(files / "flat.npy", np.ones((20, 20)))
    ran = run("center", files / "flat.npy", "--json")
    assert ran.code == 3
    assert strict_json(ran.out)[0]["flags"] == "constant"
    (files / "broken.npy").write_bytes(b"\x93NUMPY")
    ran = run("center", files / "broken.npy", files / "one.tif", "--json")
    assert ran.code == 1
    assert "broken.npy" in ran.errors[0]
    assert len(strict_json(ran.out)) == 1
    assert run("center", files / "one.tif", "-o", files / "out.txt").code == 2
    np.save(files / "small.npy", np.ones((5, 5), bool))
    ran = run("center", files / "one.tif", "--mask", files / "small.npy")
    assert ran.code == 1
    assert "mask must have the shape (96, 100)" in ran.errors[0]


@pytest.mark.parametrize("extension", [".npy", ".h5", ".tif"])
def test_nfold_of_a_stack(files, images, extension) -> None:
    out = files / f"out{extension}"
    ran = run("nfold", files / "stack.npy", "-o", out, "-n", 7, "--center", "47.3,52.6", "--mask", files / "mask.npy",
              "--fill", "-1", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert strict_json(ran.out)[0]["images"] == 2
    mask = np.load(files / "mask.npy")
    wanted = diffraction.nfold(images[:2], 7, center=(47.3, 52.6), mask=mask, fill_value=-1.0)
    with open_stack(out) as reader:
        found = np.empty(reader.info.shape, reader.info.dtype)
        reader.read(0, 2, found)
    np.testing.assert_array_equal(found, wanted)
    assert not out.with_name(out.name + ".partial").exists()


def test_nfold_of_several_finds_centers(files, images) -> None:
    out = files / "out"
    out.mkdir()
    mask = files / "mask.npy"
    ran = run("nfold", files / "stack.npy", files / "one.tif", "-o", out, "--fold", "6", "--mask", mask)
    assert ran.code == 0, ran.err
    valid = np.load(mask)
    middle = diffraction.autocenter(images[2], mask=valid).center
    wanted = diffraction.nfold(images[2], 6, center=middle, mask=valid)
    np.testing.assert_array_equal(tifffile.imread(out / "nfold_one.tif"), wanted)
    words = ("nfold", files / "stack.npy", files / "one.tif", "-o", out, "--fold", "6", "--mask", mask)
    again = run(*words, "--resume", "--json")
    assert [row["message"] for row in strict_json(again.out)] == ["finished by an earlier run"] * 2


def test_nfold_goes_on_where_it_stopped(files, images) -> None:
    source, out = files / "stack.npy", files / "out.npy"
    options = {"center": (47.3, 52.6), "memory_limit": 2 * images[0].size * 24}
    stop = StopRequest()
    stop.request() if hasattr(stop, "request") else setattr(stop, "_requested", True)
    with pytest.raises(Interrupted):
        nfold_file(source, out, 3, stop=stop, **options)
    assert not out.exists()
    assert nfold_file(source, out, 3, resume=True, **options).images == 2
    np.testing.assert_array_equal(np.load(out), diffraction.nfold(images[:2], 3, center=(47.3, 52.6)))


def test_nfold_says_what_is_wrong(files) -> None:
    out = files / "out.npy"
    for fold in ("1.7", "0", "-3", ""):
        ran = run("nfold", files / "one.tif", "-o", out, f"--fold={fold}")
        assert ran.code == 2
        assert "whole number of parts of a turn" in ran.errors[0]
    assert run("nfold", files / "one.tif", "--fold", "3").code == 2
    assert run("nfold", files / "one.tif", "-o", out, "--fold", "3", "--center", "1").code == 2
    ran = run("nfold", files / "one.tif", "-o", files / "out.xyz", "--fold", "3")
    assert ran.code == 2
    assert "extension" in ran.errors[0]
    assert not list(files.glob("*.partial"))


def test_pages(files) -> None:
    pytest.importorskip("matplotlib", reason="pages need matplotlib")
    assert run("center", files / "one.tif", "--report", files / "center.html", "-q").code == 0
    assert "Centres" in (files / "center.html").read_text()
    page = files / "nfold.html"
    assert run("nfold", files / "one.tif", "-o", files / "o.npy", "-n", 4, "--report", page, "-q").code == 0
    assert page.read_text().count("<svg") + page.read_text().count("<img") >= 1


@pytest.mark.parametrize("command", ["nfold", "profile"])
def test_centers_that_are_not_certain_or_not_there_are_said(files, images, command) -> None:
    np.save(files / "noise.npy", np.random.default_rng(1).poisson(50, (2, 64, 64)))
    out = files / ("out.npy" if command == "nfold" else "out.npz")
    more = ("--fold", 2) if command == "nfold" else ()
    ran = run(command, files / "noise.npy", "-o", out, *more)
    assert ran.code == 3
    assert "centres of 2 of 2 images are not certain" in ran.err
    if command == "profile":
        with np.load(out) as held:
            assert held["confidence"].shape == (2,)
            assert (held["confidence"] < 0.1).all()
    ran = run(command, files / "noise.npy", "-o", out, "--overwrite", "--center", "31,32", *more)
    assert ran.code == 3
    assert "no diffraction pattern is seen" in ran.err
    assert "not certain" not in ran.err
    ran = run(command, files / "one.tif", "-o", out, "--overwrite", "--center", "1000,2000", *more)
    assert ran.code == 1
    assert "far outside of the images" in ran.err
    assert "96 rows by 100 columns" in ran.err
